//! Run configuration: presets, TOML files and `--set key=value`.
//!
//! A preset gives every key a value; a file, then each `--set`, overrides some of them. A key that the preset does not
//! have is refused with the nearest one that it has.

mod merge;
mod models;
mod presets;

use std::fmt::Display;
use std::path::Path;

use magnet_core::MagNetConfig;
use magnet_core::digest::sha256_hex;
use magnet_core::expression::Normalization;
use serde::{Deserialize, Serialize};

use crate::error::InputError;

pub use models::{MODELS, model_name};
pub use presets::{PRESETS, presets_for_bins};

/// Everything that decides a run besides the data and the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The preset that the run started from.
    pub preset: String,
    /// Genes and labels.
    pub data: DataConfig,
    /// The training loop.
    pub train: TrainConfig,
    /// The model. `model.genes` follows `data.genes`, `model.wide_features` follows `--encoder` and `--features`;
    /// neither is a key of a configuration file.
    pub model: MagNetConfig,
}

/// Which genes are predicted and what a label is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Number of genes to select. Ignored for `gene_selection = "file"`.
    pub genes: usize,
    /// How they are selected, on the training slides alone.
    pub gene_selection: GeneSelection,
    /// File of gene symbols or ids, one per line, for `gene_selection = "file"`; else empty.
    pub gene_file: String,
    /// How raw counts become labels. For slides of normalised values it is `as_given`, whatever was asked for.
    pub normalization: Normalization,
    /// Training bins whose counts over all genes add up to less than this are left out of training: their labels are
    /// mostly sampling noise. The gene panel is chosen with them, and no bin is left out of a score.
    pub min_counts: u64,
}

/// How the gene panel is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneSelection {
    /// The genes of highest mean log1p CP10K, or of highest mean of normalised values.
    HighestMean,
    /// The genes of highest variance of the same.
    MostVariable,
    /// The genes of a file.
    File,
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of every random stream.
    pub seed: u64,
    /// File of the weights that the run starts from: a model file, or a ResNet in torchvision's names for the patch
    /// encoder; empty for weights that are drawn.
    #[serde(default)]
    pub init: String,
    /// Passes over the training slides.
    pub epochs: usize,
    /// Core bins of a spatial block, at most; one block is one step.
    pub batch_bins: usize,
    /// Steps whose gradients make one update: their mean, weighted by their bins. The last update of an epoch takes what
    /// is left. It stands for a block that does not fit into the device's memory.
    #[serde(default = "one")]
    pub accumulate_steps: usize,
    /// Base learning rate.
    pub learning_rate: f64,
    /// Factor on the learning rate of the patch encoder.
    pub patch_encoder_rate: f64,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the run.
    pub schedule: ScheduleConfig,
    /// Largest norm of the whole gradient; longer ones are scaled down to it. 0: no clipping.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights that is validated and kept, per step. 0: no average.
    pub ema_decay: f64,
    /// Random changes of the training patches.
    pub augmentation: AugmentationConfig,
    /// When to stop before the last epoch, and which epoch to keep.
    pub early_stopping: EarlyStoppingConfig,
    /// Epochs between two validations; the last epoch is always validated.
    pub validate_every: usize,
    /// Epochs between two checkpoints; the last epoch always has one.
    pub checkpoint_every: usize,
    /// Minutes after which there is a checkpoint within an epoch, too; 0: only at the ends of epochs.
    pub checkpoint_minutes: f64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Memory for patches that are read once and kept, in MiB; what does not fit is read again when needed.
    pub patch_cache_mib: usize,
}

fn one() -> usize {
    1
}

/// The update rule. Weight decay acts on matrices and kernels, not on biases and normalisation parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum, as published.
    Sgd {
        /// Momentum factor.
        momentum: f64,
        /// Nesterov's form of the momentum.
        nesterov: bool,
        /// L2 penalty added to the gradient.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    Adamw {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Shrinkage per step, times the learning rate.
        weight_decay: f64,
    },
}

/// The learning rate over the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// `base · (1 − step / steps)^power`, as published with power 0.9.
    Polynomial {
        /// The exponent.
        power: f64,
        /// Epochs over which the rate rises linearly from 0 to the base.
        warmup_epochs: f64,
    },
    /// Half a cosine from the base to `floor · base`.
    Cosine {
        /// Epochs over which the rate rises linearly from 0 to the base.
        warmup_epochs: f64,
        /// Last rate as a fraction of the base.
        floor: f64,
    },
    /// The base throughout.
    Constant {
        /// Epochs over which the rate rises linearly from 0 to the base.
        warmup_epochs: f64,
    },
}

/// Random changes of the training patches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentationConfig {
    /// Each patch is flipped and turned by a multiple of 90°, at random.
    pub flips_and_turns: bool,
    /// Strength of the random change of the stain, one draw per block; 0: none, 1: as between laboratories.
    pub stain_jitter: f64,
}

/// When to stop, and which epoch to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Validations without improvement after which training stops; 0: never.
    pub patience: usize,
    /// What counts as improvement on the validation slides.
    pub metric: MonitoredMetric,
    /// Which epoch's weights become the model. Without validation slides it is the last.
    pub keep: KeptEpoch,
}

/// What early stopping watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitoredMetric {
    /// Pearson per gene over the bins, mean over the genes; higher is better.
    PccGeneMean,
    /// The hybrid loss; lower is better.
    Loss,
}

/// Which epoch's weights become the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptEpoch {
    /// The best by the monitored metric.
    Best,
    /// The last.
    Last,
}

/// A key that the command line gives a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As it stands there; errors name it.
    written: String,
    /// `key=value`, the value in TOML.
    assignment: String,
}

impl Setting {
    /// A key by `--set key=value`.
    pub fn set(assignment: &str) -> Self {
        Self { written: format!("--set {assignment}"), assignment: assignment.to_owned() }
    }

    /// A key by a flag of its own.
    pub fn flag(flag: &str, written: impl Display, assignment: String) -> Self {
        Self { written: format!("{flag} {written}"), assignment }
    }
}

impl RunConfig {
    /// The preset of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn preset(name: &str) -> Result<Self, InputError> {
        presets::by_name(name)
    }

    /// The preset (named on the command line, else by the file's key `preset`, else `paper`), made one for `model` where
    /// that is named ([`RunConfig::with_model`]), then the file's keys, then each setting in turn.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, preset or model, a value of a wrong type or out of range; each names the file
    /// or flag, the key, what was expected and what was found.
    pub fn load(
        preset: Option<&str>,
        model: Option<&str>,
        file: Option<&Path>,
        settings: &[Setting],
    ) -> anyhow::Result<Self> {
        merge::load(preset, model, file, settings)
    }

    /// The configuration as a file that [`RunConfig::load`] reads.
    ///
    /// # Errors
    /// If a value cannot be written as TOML.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let mut table = merge::table_of(self)?;
        merge::remove_derived(&mut table);
        Ok(toml::to_string_pretty(&table)?)
    }

    /// Whether the preset's wide levels are made for a frozen encoder or for features of a file.
    pub fn needs_encoder(&self) -> bool {
        self.preset == presets::FROZEN
    }

    /// SHA-256 of [`RunConfig::to_toml`], lower-case hexadecimal.
    ///
    /// # Errors
    /// If a value cannot be written as TOML.
    pub fn digest(&self) -> anyhow::Result<String> {
        Ok(sha256_hex(self.to_toml()?.as_bytes()))
    }

    /// Checks ranges that types do not express. `source` names where the values come from.
    ///
    /// # Errors
    /// For the first value out of range, with its key.
    pub fn validate(&self, source: &str) -> Result<(), InputError> {
        let fail = |key: &str, expected: &str, found: String| {
            Err(InputError { file: source.into(), field: key.into(), expected: expected.into(), found })
        };
        let train = &self.train;
        for (key, value) in [
            ("train.epochs", train.epochs),
            ("train.batch_bins", train.batch_bins),
            ("train.accumulate_steps", train.accumulate_steps),
            ("train.validate_every", train.validate_every),
            ("train.checkpoint_every", train.checkpoint_every),
            ("train.keep_checkpoints", train.keep_checkpoints),
        ] {
            if value == 0 {
                return fail(key, "at least 1", "0".into());
            }
        }
        if self.data.gene_selection != GeneSelection::File && self.data.genes == 0 {
            return fail("data.genes", "at least 1", "0".into());
        }
        if (self.data.gene_selection == GeneSelection::File) == self.data.gene_file.is_empty() {
            let expected = "a file exactly when data.gene_selection is \"file\"";
            return fail("data.gene_file", expected, format!("{:?}", self.data.gene_file));
        }
        let warmup = match train.schedule {
            ScheduleConfig::Polynomial { warmup_epochs, .. }
            | ScheduleConfig::Cosine { warmup_epochs, .. }
            | ScheduleConfig::Constant { warmup_epochs } => warmup_epochs,
        };
        let mut at_least_zero = vec![
            ("train.patch_encoder_rate", train.patch_encoder_rate),
            ("train.clip_norm", train.clip_norm),
            ("train.checkpoint_minutes", train.checkpoint_minutes),
            ("train.augmentation.stain_jitter", train.augmentation.stain_jitter),
            ("train.schedule.warmup_epochs", warmup),
        ];
        let mut below_one = vec![("train.ema_decay", train.ema_decay)];
        match train.optimizer {
            OptimizerConfig::Sgd { momentum, weight_decay, .. } => {
                below_one.push(("train.optimizer.momentum", momentum));
                at_least_zero.push(("train.optimizer.weight_decay", weight_decay));
            }
            OptimizerConfig::Adamw { beta_1, beta_2, epsilon, weight_decay } => {
                below_one.extend([("train.optimizer.beta_1", beta_1), ("train.optimizer.beta_2", beta_2)]);
                at_least_zero.extend([
                    ("train.optimizer.epsilon", epsilon),
                    ("train.optimizer.weight_decay", weight_decay),
                ]);
            }
        }
        match train.schedule {
            ScheduleConfig::Polynomial { power, .. } => at_least_zero.push(("train.schedule.power", power)),
            ScheduleConfig::Cosine { floor, .. } => at_least_zero.push(("train.schedule.floor", floor)),
            ScheduleConfig::Constant { .. } => {}
        }
        if !(train.learning_rate.is_finite() && train.learning_rate > 0.0) {
            return fail("train.learning_rate", "a number above 0", train.learning_rate.to_string());
        }
        for (key, value) in at_least_zero {
            if !(value.is_finite() && value >= 0.0) {
                return fail(key, "a number of at least 0", value.to_string());
            }
        }
        for (key, value) in below_one {
            if !(0.0..1.0).contains(&value) {
                return fail(key, "a number from 0 to below 1", value.to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
