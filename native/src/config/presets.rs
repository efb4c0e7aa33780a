//! Named configurations.

use magnet_core::MagNetConfig;
use magnet_core::expression::Normalization;
use magnet_core::level::{LevelGeometry, PerLevel};
use magnet_core::model::{
    Architecture, ConsistencyTarget, CrossLevelConfig, DepthConfig, GraphConfig, LossConfig, LossUnits,
    PatchEncoderConfig, Pooling, ResNetDepth,
};

use super::{
    AugmentationConfig, DataConfig, EarlyStoppingConfig, GeneSelection, KeptEpoch, MonitoredMetric,
    OptimizerConfig, RunConfig, ScheduleConfig, TrainConfig,
};
use crate::error::InputError;

/// Names of the presets with what each is for.
pub const PRESETS: [(&str, &str); 7] = [
    ("paper", "the paper's model and training, 8 µm bins at 0.25 µm/px; needs a GPU"),
    ("published", "the authors' released code as it runs, quirks included, to compare with; needs a GPU"),
    ("demo", "a small model for the synthetic tissue, 16 µm bins; minutes on a CPU"),
    (
        "st-small",
        "few slides of 100 µm spots on a 200 µm grid (Spatial Transcriptomics), from scratch; a CPU will do",
    ),
    (FROZEN, "the same with a frozen encoder at the wide levels (--encoder)"),
    ("visium-small", "few slides of Visium, 55 µm spots 100 µm apart, from scratch; a CPU will do"),
    ("visium-hd-small", "slides of Visium HD in 16 µm bins, from scratch; a GPU for whole sections"),
];

/// The preset that reads frozen features at the wide levels.
pub(super) const FROZEN: &str = "st-frozen";

/// The preset that is used where none is named.
pub(super) const DEFAULT: &str = "paper";

/// Names of the presets whose bins have this size, to within a hundredth.
pub fn presets_for_bins(bin_um: f64) -> Vec<&'static str> {
    let fits = |name: &&str| {
        by_name(name).is_ok_and(|config| (config.model.levels.bin.tile_um / bin_um - 1.0).abs() < 0.01)
    };
    PRESETS.iter().map(|(name, _)| *name).filter(fits).collect()
}

pub(super) fn by_name(name: &str) -> Result<RunConfig, InputError> {
    match name {
        "paper" => Ok(paper()),
        "published" => Ok(published()),
        "demo" => Ok(demo()),
        "st-small" => Ok(st_small()),
        FROZEN => Ok(st_frozen()),
        "visium-small" => Ok(visium_small()),
        "visium-hd-small" => Ok(visium_hd_small()),
        _ => {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            Err(InputError::in_flag("--preset", "preset", format!("one of {}", names.join(", ")), name))
        }
    }
}

/// The published training (51 epochs of SGD with the polynomial schedule) of the paper's model.
fn paper() -> RunConfig {
    RunConfig {
        preset: "paper".into(),
        data: DataConfig {
            genes: 250,
            gene_selection: GeneSelection::HighestMean,
            gene_file: String::new(),
            normalization: Normalization::LogProportion,
            min_counts: 0,
        },
        train: TrainConfig {
            seed: 0,
            init: String::new(),
            epochs: 51,
            batch_bins: 256,
            accumulate_steps: 1,
            learning_rate: 5e-3,
            patch_encoder_rate: 1.0,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
            schedule: ScheduleConfig::Polynomial { power: 0.9, warmup_epochs: 0.0 },
            clip_norm: 0.0,
            ema_decay: 0.0,
            augmentation: AugmentationConfig { flips_and_turns: true, stain_jitter: 0.0 },
            early_stopping: EarlyStoppingConfig {
                patience: 0,
                metric: MonitoredMetric::PccGeneMean,
                keep: KeptEpoch::Best,
            },
            validate_every: 1,
            checkpoint_every: 1,
            checkpoint_minutes: 10.0,
            keep_checkpoints: 2,
            patch_cache_mib: 4096,
        },
        model: MagNetConfig::default(),
    }
}

/// The released code's model and loss.
fn published() -> RunConfig {
    let base = paper();
    RunConfig {
        preset: "published".into(),
        model: MagNetConfig {
            architecture: Architecture::Published,
            loss: LossConfig { consistency_with: ConsistencyTarget::BinLabels, ..LossConfig::default() },
            ..base.model
        },
        ..base
    }
}

/// AdamW with warm-up and a cosine, standardised loss units: what small runs share.
fn small(preset: &str) -> RunConfig {
    let base = paper();
    RunConfig {
        preset: preset.into(),
        data: DataConfig { normalization: Normalization::Log1pCp10k, ..base.data },
        train: TrainConfig {
            learning_rate: 1e-3,
            optimizer: OptimizerConfig::Adamw {
                beta_1: 0.9,
                beta_2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.05,
            },
            schedule: ScheduleConfig::Cosine { warmup_epochs: 1.0, floor: 0.01 },
            clip_norm: 1.0,
            ..base.train
        },
        model: MagNetConfig {
            patch_encoder: PatchEncoderConfig {
                depth: ResNetDepth::ResNet18,
                width_multiplier: 0.25,
                stages: 3,
                pooling: Pooling::MeanStd,
                dropout: 0.1,
            },
            loss: LossConfig { mse_wide: 0.25, units: LossUnits::Standardized, ..LossConfig::default() },
            ..base.model
        },
    }
}

fn demo() -> RunConfig {
    let base = small("demo");
    RunConfig {
        data: DataConfig { genes: 50, ..base.data },
        train: TrainConfig {
            epochs: 8,
            batch_bins: 256,
            learning_rate: 2e-3,
            ema_decay: 0.97,
            augmentation: AugmentationConfig { flips_and_turns: true, stain_jitter: 0.3 },
            ..base.train
        },
        model: MagNetConfig {
            levels: PerLevel {
                bin: LevelGeometry { tile_um: 16.0, patch_um: 32.0, patch_px: 32 },
                spot: LevelGeometry { tile_um: 64.0, patch_um: 64.0, patch_px: 32 },
                region: LevelGeometry { tile_um: 128.0, patch_um: 128.0, patch_px: 32 },
            },
            genes: 50,
            width: 64,
            patch_encoder: PatchEncoderConfig { stages: 2, dropout: 0.0, ..base.model.patch_encoder },
            cross_level: CrossLevelConfig { heads: 4, ..CrossLevelConfig::default() },
            graph: GraphConfig { layers: 2, heads: 4, ..GraphConfig::default() },
            depth: DepthConfig { layers: 1, heads: 4, feed_forward: 2, ..DepthConfig::default() },
            ..base.model
        },
        ..base
    }
}

/// A few hundred spots cannot feed the published model, so the encoder is a narrow ResNet that keeps texture by mean and
/// standard deviation, whole slides are one step, and the wide tiles lie so densely that each spot has one of its own
/// size around it. What each part gave is in docs/results.md.
fn st_small() -> RunConfig {
    let base = small("st-small");
    RunConfig {
        train: TrainConfig {
            epochs: 60,
            batch_bins: 256,
            ema_decay: 0.98,
            augmentation: AugmentationConfig { flips_and_turns: true, stain_jitter: 0.5 },
            ..base.train
        },
        model: MagNetConfig {
            levels: PerLevel {
                bin: LevelGeometry { tile_um: 100.0, patch_um: 150.0, patch_px: 64 },
                spot: LevelGeometry { tile_um: 200.0, patch_um: 360.0, patch_px: 64 },
                region: LevelGeometry { tile_um: 400.0, patch_um: 800.0, patch_px: 64 },
            },
            width: 128,
            cross_level: CrossLevelConfig { heads: 4, ..CrossLevelConfig::default() },
            graph: GraphConfig { layers: 2, heads: 4, dropout: 0.1, ..GraphConfig::default() },
            depth: DepthConfig { layers: 1, heads: 4, feed_forward: 2, ..DepthConfig::default() },
            head_dropout: 0.2,
            ..base.model
        },
        ..base
    }
}

/// The frozen encoder reads patches of its own training size around every 200 µm: one at the slides' resolution, one
/// wider.
fn st_frozen() -> RunConfig {
    let base = st_small();
    RunConfig {
        preset: FROZEN.into(),
        data: DataConfig { min_counts: 1000, ..base.data },
        train: TrainConfig { epochs: 40, ema_decay: 0.9, ..base.train },
        model: MagNetConfig {
            levels: PerLevel {
                bin: base.model.levels.bin,
                spot: LevelGeometry { tile_um: 200.0, patch_um: 155.0, patch_px: 224 },
                region: LevelGeometry { tile_um: 200.0, patch_um: 400.0, patch_px: 224 },
            },
            ..base.model
        },
    }
}

/// `st_small` at half its scale, because the array has half the pitch: tiles of 100 µm hold about one spot each and those of
/// 200 µm a few. Sections have ten times the spots, so half the epochs are many more steps.
fn visium_small() -> RunConfig {
    let base = st_small();
    RunConfig {
        preset: "visium-small".into(),
        train: TrainConfig { epochs: 30, ..base.train },
        model: MagNetConfig {
            levels: PerLevel {
                bin: LevelGeometry { tile_um: 55.0, patch_um: 75.0, patch_px: 64 },
                spot: LevelGeometry { tile_um: 100.0, patch_um: 180.0, patch_px: 64 },
                region: LevelGeometry { tile_um: 200.0, patch_um: 400.0, patch_px: 64 },
            },
            ..base.model
        },
        ..base
    }
}

/// The demo's model, wider and with the genes of a real panel: bins of 16 µm side by side need narrow patches, and there
/// are enough of them to go without dropout.
fn visium_hd_small() -> RunConfig {
    let base = demo();
    RunConfig {
        preset: "visium-hd-small".into(),
        data: DataConfig { genes: 250, ..base.data },
        train: TrainConfig {
            epochs: 20,
            augmentation: AugmentationConfig { flips_and_turns: true, stain_jitter: 0.5 },
            ..base.train
        },
        model: MagNetConfig { genes: 250, width: 128, ..base.model },
    }
}
