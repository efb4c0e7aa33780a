//! Arguments of `evaluate` and `baseline`.

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

/// Arguments of `baseline`.
#[derive(Debug, Clone, Args)]
pub struct BaselineArgs {
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to fit on
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub train: Vec<String>,
    /// Slides to score
    #[arg(long, value_name = "C", value_delimiter = ',', value_parser = name, required = true)]
    pub test: Vec<String>,
    /// Number of genes of highest mean over the training slides
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub genes: usize,
    /// Ridge penalty on standardised features
    #[arg(long, value_name = "X", default_value_t = 300.0)]
    pub penalty: f64,
    /// Sides of the patches whose statistics are taken, in pixels of the slide image
    #[arg(long, value_name = "PX", value_delimiter = ',', default_values_t = [112, 224, 512])]
    pub patches_px: Vec<usize>,
}
