//! Arguments of `train`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, model_names, name, preset_names};

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
    /// Named configuration to start from; `paper` where none is named
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    pub preset: Option<String>,
    /// Model to train with the preset's data, labels and schedule
    #[arg(long, value_name = "NAME", value_parser = model_names())]
    pub model: Option<String>,
    /// Configuration file; its keys override the preset's
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long, value_name = "key=value")]
    pub set: Vec<String>,
    /// Gene panel: a number (chosen on the training slides) or a file of symbols, one per line
    #[arg(long, value_name = "N|FILE")]
    pub genes: Option<String>,
    /// Weights of a frozen encoder for the wide levels (.safetensors, .pth)
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Folder of feature matrices for the wide levels (SLIDE.LEVEL.h5 or .npy)
    #[arg(long, value_name = "DIR", conflicts_with = "encoder")]
    pub features: Option<PathBuf>,
    /// Folder that keeps the frozen encoder's features; `features` in the dataset when left out
    #[arg(long, value_name = "DIR", requires = "encoder")]
    pub cache: Option<PathBuf>,
    /// Seed of initialisation, shuffling, augmentation and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
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
