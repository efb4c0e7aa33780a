//! Arguments of `predict`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use magnet_core::Level;

use super::{DeviceArgs, name};

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Model bundle
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Slide image: PNG, JPEG or TIFF
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Size of an image pixel, µm; needed unless the image says it
    #[arg(long, value_name = "UM_PER_PX", allow_negative_numbers = true)]
    pub mpp: Option<f64>,
    /// Places to predict: a CSV with the columns x,y in full-resolution pixels, or Space Ranger's tissue_positions.csv
    #[arg(long, value_name = "CSV")]
    pub positions: Option<PathBuf>,
    /// Folder that receives maps and values
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Genes to draw; the best predicted ones of the panel when left out. Values are written for all
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub genes: Vec<String>,
    /// Level to draw and to write
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Bin)]
    pub level: LevelArg,
    /// Average the predictions over the eight turns and flips of every patch
    #[arg(long)]
    pub augment: bool,
    /// Replace the output folder if it is there
    #[arg(long)]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A level, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// The model's bins
    Bin,
    /// The spot tiles
    Spot,
    /// The region tiles
    Region,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Bin => Level::Bin,
            LevelArg::Spot => Level::Spot,
            LevelArg::Region => Level::Region,
        }
    }
}
