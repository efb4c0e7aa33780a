//! Arguments of `cross-validate` and `ablate`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, SettingsArgs, model_names, name};
use crate::protocol::Variant;
use crate::protocol::results::Group;

/// What both protocols are told.
#[derive(Debug, Clone, Args)]
pub struct ProtocolArgs {
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to take; all of the dataset when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub slides: Vec<String>,
    /// Number of folds; each is held out once
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub folds: usize,
    /// What is never divided between folds
    #[arg(long, value_enum, default_value_t)]
    pub group: Group,
    /// Sides of the bins to compare at, in µm: counts of finer bins are summed; the dataset's own when left out
    #[arg(long, value_name = "UM,UM", value_delimiter = ',')]
    pub bin_um: Vec<f64>,
    /// Folder that receives plan.json, results.json, table.md and one folder per run
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How to train
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Go on where an interrupted run of the same command ended
    #[arg(long)]
    pub resume: bool,
    /// Print the folds and what would be trained, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the output folder if it is there
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `cross-validate`.
#[derive(Debug, Clone, Args)]
pub struct CrossValidateArgs {
    /// Models to compare; the training mean stands beside them always
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = model_names(), default_values = ["magnet", "ridge"])]
    pub models: Vec<String>,
    /// What both protocols are told
    #[command(flatten)]
    pub common: ProtocolArgs,
}

/// Arguments of `ablate`.
#[derive(Debug, Clone, Args)]
pub struct AblateArgs {
    /// Variants to compare; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_enum)]
    pub variants: Vec<Variant>,
    /// What both protocols are told
    #[command(flatten)]
    pub common: ProtocolArgs,
}
