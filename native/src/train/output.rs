//! The run folder: `config.toml`, `metrics.jsonl`, `checkpoints/`, `model.safetensors`, `summary.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::bundle::{Bundle, BundleMetadata, HeldOut, HeldOutLevel, Provenance, SlideDigests};
use magnet_core::level::PerLevel;
use magnet_core::metrics::{Evaluation, LevelScores};
use magnet_core::weights::Precision;
use serde::{Deserialize, Serialize};

use super::data::TrainingSlide;
use super::initial::InitialWeights;
use super::loss_terms::LossTerms;
use super::setup::Setup;
use super::trainer::Trained;
use super::validate::Validation;
use super::{TrainOptions, TrainSummary};
use crate::config::KeptEpoch;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic};

/// The bundle's name in a run folder.
pub const MODEL_FILE: &str = "model.safetensors";
/// The configuration's name in a run folder.
pub const CONFIG_FILE: &str = "config.toml";
const METRICS_FILE: &str = "metrics.jsonl";
const SUMMARY_FILE: &str = "summary.json";

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done since the start of the run.
    pub step: usize,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Loss on the training slides during the epoch, mean over the bins.
    pub train: LossTerms,
    /// Loss on the validation slides after the epoch, mean over the bins.
    pub valid: Option<LossTerms>,
    /// Scores on the validation slides after the epoch.
    pub valid_scores: Option<PerLevel<Option<LevelScores>>>,
    /// Seconds of the epoch, validation included.
    pub seconds: f64,
    /// Training bins per second of the epoch.
    pub bins_per_second: f64,
}

impl EpochRow {
    /// The row of an epoch, without times.
    pub fn new(
        epoch: usize,
        step: usize,
        learning_rate: f64,
        train: LossTerms,
        validation: Option<&Validation>,
    ) -> Self {
        Self {
            epoch,
            step,
            learning_rate,
            train,
            valid: validation.map(|validation| validation.loss),
            valid_scores: validation.map(scores_of),
            seconds: 0.0,
            bins_per_second: 0.0,
        }
    }

    /// The row as a line for people.
    pub fn line(&self, epochs: usize) -> String {
        let mut line = format!("epoch {}/{epochs}  loss {:.4}", self.epoch, self.train.total);
        if let Some(valid) = &self.valid {
            line += &format!("  valid loss {:.4}", valid.total);
        }
        if let Some(PerLevel { bin: Some(scores), .. }) = &self.valid_scores {
            line += &format!("  per gene {:.3}  per spot {:.3}", scores.pcc_gene_mean, scores.pcc_spot);
        }
        line + &format!(
            "  rate {:.2e}  {:.1} s  {:.0} bins/s",
            self.learning_rate, self.seconds, self.bins_per_second
        )
    }
}

fn scores_of(validation: &Validation) -> PerLevel<Option<LevelScores>> {
    PerLevel::from_fn(|level| {
        validation.scores.get(level).as_ref().map(|evaluation| evaluation.scores.clone())
    })
}

/// The rows of a run's `metrics.jsonl`; none if it has no such file.
///
/// # Errors
/// If the file cannot be read or a line is no row.
pub fn read_metrics(run: &Path) -> Result<Vec<EpochRow>> {
    let path = run.join(METRICS_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(line, row)| {
            serde_json::from_str(row).map_err(|error| {
                InputError::in_file(&path, format!("line {}", line + 1), "one epoch as JSON", error).into()
            })
        })
        .collect()
}

/// The model of a run that is over; its summary is the last file that a run writes.
pub fn finished_model(run: &Path) -> Option<PathBuf> {
    let model = run.join(MODEL_FILE);
    (run.join(SUMMARY_FILE).is_file() && model.is_file()).then_some(model)
}

/// The folder of a run.
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run, or checks that the old one is of the same configuration.
    ///
    /// # Errors
    /// If there is a run and neither `resume` nor `overwrite` is set, or the configuration has changed.
    pub fn open(options: &TrainOptions<'_>, setup: &Setup) -> Result<Self> {
        let path = options.out.clone();
        let config = path.join(CONFIG_FILE);
        let text = options.config.to_toml()?;
        let occupied = path.exists()
            && (!path.is_dir() || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()));
        if occupied && options.resume {
            let before = fs::read_to_string(&config)
                .with_context(|| format!("{}: cannot resume: no configuration of a run", config.display()))?;
            if let Some((old, new)) = first_difference(&before, &text) {
                let expected = format!("`{old}`, as the run began with");
                return Err(
                    InputError::in_file(&config, "configuration", expected, format!("`{new}`")).into()
                );
            }
            return Ok(Self { path });
        }
        if occupied && options.overwrite {
            // Only a run is replaced, never some other folder that was named by mistake.
            if !config.is_file() {
                let expected = format!("the folder of a run (with {CONFIG_FILE})");
                return Err(InputError::in_file(&path, "--out", expected, "another folder").into());
            }
            fs::remove_dir_all(&path).with_context(|| format!("{}: cannot replace", path.display()))?;
        } else if occupied {
            let expected = "no run yet, or --resume or --overwrite";
            return Err(InputError::in_file(&path, "--out", expected, "a folder with files in it").into());
        }
        fs::create_dir_all(&path).with_context(|| format!("{}: cannot make the folder", path.display()))?;
        write_atomic(&config, text.as_bytes(), Overwrite::Yes)?;
        options.console.detail(format_args!("{}: run {}", path.display(), setup.run_digest));
        Ok(Self { path })
    }

    /// Writes all rows so far.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        let mut text = String::new();
        for row in rows {
            text += &serde_json::to_string(row)?;
            text.push('\n');
        }
        write_atomic(&self.path.join(METRICS_FILE), text.as_bytes(), Overwrite::Yes)
    }

    /// Writes the bundle and the summary.
    ///
    /// # Errors
    /// If the weights are not finite or the disk refuses.
    pub fn finish(
        &self,
        options: &TrainOptions<'_>,
        setup: &Setup,
        trained: Trained,
    ) -> Result<TrainSummary> {
        self.write_metrics(&trained.rows)?;
        let path = self.path.join(MODEL_FILE);
        let selected = options.config.train.early_stopping.keep == KeptEpoch::Best;
        let held_out = trained.validation.as_ref().map(|validation| HeldOut {
            slides: setup.validation.iter().map(|slide| slide.id.clone()).collect(),
            selected_on_validation: selected || options.config.train.early_stopping.patience > 0,
            levels: PerLevel::from_fn(|level| validation.scores.get(level).as_ref().map(held_out_level)),
        });
        let digests = |slides: &[TrainingSlide], earlier: fn(&InitialWeights) -> &Vec<SlideDigests>| {
            let mut digests: Vec<SlideDigests> = slides.iter().map(|slide| slide.digests.clone()).collect();
            for slide in setup.initial.iter().flat_map(earlier) {
                if !digests.contains(slide) {
                    digests.push(slide.clone());
                }
            }
            digests
        };
        let bundle = Bundle {
            metadata: BundleMetadata {
                code_version: env!("CARGO_PKG_VERSION").into(),
                config: setup.model.clone(),
                panel: setup.panel.clone(),
                normalization: options.config.data.normalization,
                gene_statistics: setup.statistics.clone(),
                held_out,
                wide_encoder: setup.wide_encoder.clone(),
                provenance: Provenance {
                    seed: options.config.train.seed,
                    run_config: options.config.to_toml()?,
                    command_line: options.command_line.clone(),
                    device: options.device_name.clone(),
                    epochs: trained.position.epoch,
                    kept_epoch: trained.kept_epoch,
                    training_slides: digests(&setup.training, |initial| &initial.training_slides),
                    validation_slides: digests(&setup.validation, |initial| &initial.validation_slides),
                },
            },
            weights: trained.weights,
            frozen: setup.frozen.clone(),
        };
        let precision = if options.half { Precision::Half } else { Precision::Single };
        write_atomic(&path, &bundle.to_bytes(precision)?, Overwrite::Yes)?;
        let summary = TrainSummary {
            model: path,
            weights_sha256: bundle.weights_sha256(),
            parameters: trained.parameters,
            epochs: trained.position.epoch,
            kept_epoch: trained.kept_epoch,
            stopped_early: trained.stopped_early,
            steps: trained.position.steps,
            seconds: trained.position.seconds,
            valid: trained.validation.as_ref().map(scores_of),
        };
        let json = serde_json::to_vec_pretty(&summary)?;
        write_atomic(&self.path.join(SUMMARY_FILE), &json, Overwrite::Yes)?;
        Ok(summary)
    }
}

fn held_out_level(evaluation: &Evaluation) -> HeldOutLevel {
    let gene_pearson = evaluation.genes.iter().map(|gene| gene.pcc.is_finite().then_some(gene.pcc as f32));
    HeldOutLevel { scores: evaluation.scores.clone(), gene_pearson: gene_pearson.collect() }
}

/// The first line in which two configurations differ, old and new.
fn first_difference(old: &str, new: &str) -> Option<(String, String)> {
    if old == new {
        return None;
    }
    let (mut old, mut new) = (old.lines(), new.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((a.unwrap_or("nothing").into(), b.unwrap_or("nothing").into())),
        }
    }
}
