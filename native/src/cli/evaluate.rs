//! Arguments of `evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, name};

/// Arguments of `evaluate`.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Model bundle
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to score
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub slides: Vec<String>,
    /// Folder that receives scores, per-gene tables and measured beside predicted values
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write report.html into the output folder
    #[arg(long, requires = "out")]
    pub report: bool,
    /// Score slides that the model was trained on, too (the result is no held-out score)
    #[arg(long)]
    pub allow_training_slides: bool,
    /// Average the predictions over the eight turns and flips of every patch
    #[arg(long)]
    pub augment: bool,
    /// Folder of feature matrices, for a model that was trained on some
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,
    /// Replace the output folder if it is there
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}
