//! Training: from slides of a prepared dataset to a run folder with checkpoints, metrics and a model bundle.
//!
//! `data` lays slides out and makes labels, `initial` reads the weights that a run starts from, `batches` cuts and
//! augments, `trainer` is the loop, `output` writes the run folder. [`run`] puts them together; [`plan`] does everything but train.

pub mod batches;
mod command;
pub mod data;
pub mod ema;
mod initial;
pub mod loss_terms;
pub mod optimizer;
mod output;
mod plan;
mod rehearsal;
pub mod schedule;
mod setup;
mod trainer;
mod training_set;
pub mod validate;

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;
use magnet_core::level::PerLevel;
use magnet_core::metrics::LevelScores;
use serde::Serialize;

use crate::config::RunConfig;
use crate::console::Console;

pub use command::{command, config_from, options_from};
pub use output::{CONFIG_FILE, EpochRow, MODEL_FILE, finished_model, read_metrics};
pub use plan::{Plan, plan};
pub use rehearsal::Rehearsal;
pub use setup::{Setup, check_known, fit_to_values};
pub use trainer::drawn_model;

/// Everything that a training run is told.
#[derive(Clone)]
pub struct TrainOptions<'a> {
    /// Prepared dataset.
    pub data: PathBuf,
    /// Slides to fit to.
    pub train: Vec<String>,
    /// Slides to validate on; may be empty.
    pub valid: Vec<String>,
    /// The run folder.
    pub out: PathBuf,
    /// Every setting.
    pub config: RunConfig,
    /// Where the features of the wide levels come from.
    pub wide: WideSource,
    /// Folder of cached features; `features` in the dataset if absent.
    pub cache: Option<PathBuf>,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
    /// Replace an existing run.
    pub overwrite: bool,
    /// Store the model's matrices as 16-bit floats.
    pub half: bool,
    /// Where to compute, without autodiff.
    pub device: Device,
    /// The device in words, for the provenance.
    pub device_name: String,
    /// The command line, for the provenance.
    pub command_line: Vec<String>,
    /// Where to talk.
    pub console: Console,
    /// Asked after every step with the steps done so far: whether to save and stop.
    pub stop: &'a dyn Fn(usize) -> bool,
}

/// Where the features of the wide levels come from.
#[derive(Debug, Clone, Default)]
pub enum WideSource {
    /// The model's own patch encoder.
    #[default]
    Shared,
    /// A frozen encoder, from this weight file.
    Encoder(PathBuf),
    /// Feature matrices in this folder.
    Features(PathBuf),
}

/// What a finished run says about itself; it stands in the run folder as `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct TrainSummary {
    /// The model bundle.
    pub model: PathBuf,
    /// SHA-256 of the model's weights before any rounding.
    pub weights_sha256: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Epochs run.
    pub epochs: usize,
    /// Epoch whose weights were kept, counted from 1.
    pub kept_epoch: usize,
    /// Whether it ended before its last epoch for lack of improvement.
    pub stopped_early: bool,
    /// Steps run.
    pub steps: usize,
    /// Seconds of training and validation.
    pub seconds: f64,
    /// Scores of the kept weights on the validation slides.
    pub valid: Option<PerLevel<Option<LevelScores>>>,
}

/// Trains. The random numbers of a CPU device are the process's, so only one run at a time draws them.
///
/// # Errors
/// Wrong input, before anything is written; [`crate::error::Interrupted`] when `stop` says so, after saving; a loss that
/// is no number; whatever the disk and the device say.
pub fn run(options: &TrainOptions<'_>) -> Result<TrainSummary> {
    let _one_at_a_time = exclusive();
    let options = &setup::for_values(options)?;
    let setup = setup::Setup::open(options)?;
    let folder = output::RunFolder::open(options, &setup)?;
    let result = trainer::Trainer::start(options, &setup, &folder)?.train()?;
    folder.finish(options, &setup, result)
}

/// Held by whoever draws a run's random numbers.
pub(crate) fn exclusive() -> std::sync::MutexGuard<'static, ()> {
    static TRAINING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TRAINING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
