//! Arguments of `prepare`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::name;

/// Sources of spatial counts.
#[derive(Debug, Subcommand)]
pub enum PrepareCommand {
    /// Spatial Transcriptomics arrays: ID.tsv[.gz], ID_selection.tsv, ID.jpg
    #[command(after_help = "Example:\n  magnet-native prepare st --input her2st --out dataset --samples \
                      C2,C3,C4,C5")]
    St(PrepareStArgs),
    /// Space Ranger's Visium HD folder (binned_outputs) and its full-resolution image
    #[command(
        after_help = "Example:\n  magnet-native prepare visium-hd --input outs --image slide.tif --bin-um 8 \
                      --out dataset"
    )]
    VisiumHd(PrepareVisiumHdArgs),
}

/// Arguments of `prepare st`.
#[derive(Debug, Args)]
pub struct PrepareStArgs {
    /// Folder of the source files
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Folder of the prepared dataset; slides are added to one that exists
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Samples to take; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub samples: Vec<String>,
    /// Size of an image pixel, µm; derived from the array's 200 µm pitch when left out
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `prepare visium-hd`.
#[derive(Debug, Args)]
pub struct PrepareVisiumHdArgs {
    /// Space Ranger's `outs` folder, or the folder that `synthesize` wrote
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Full-resolution image; the only image of the input folder when left out
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Bin size to take, µm
    #[arg(long, value_name = "UM", default_value_t = 8)]
    pub bin_um: u32,
    /// Folder of the prepared dataset; slides are added to one that exists
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Name of the slide; the input folder's name when left out
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}
