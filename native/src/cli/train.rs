//! Arguments of `train`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, SettingsArgs, model_names, name};

/// Arguments of `train`.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to train on
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub train: Vec<String>,
    /// Slides to validate on; none are also trained on
    #[arg(long, value_name = "C", value_delimiter = ',', value_parser = name)]
    pub valid: Vec<String>,
    /// Folder of the run: checkpoints, metrics.jsonl, model.safetensors
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// How to train
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Model to train with the preset's data, labels and schedule
    #[arg(long, value_name = "NAME", value_parser = model_names())]
    pub model: Option<String>,
    /// Weights to start from: a model file (of an earlier run, or of `import`), or a torchvision ResNet's for the patch
    /// encoder (.safetensors, .pth); sets train.init
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Go on from the last checkpoint of the run
    #[arg(long)]
    pub resume: bool,
    /// Check the data, take one step, print the whole configuration and what a run would cost, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Store the model's weights in half precision
    #[arg(long)]
    pub half: bool,
    /// Replace the run folder if it is there
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}
