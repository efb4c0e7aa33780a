//! Arguments of `prepare`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::name;

/// Sources of spatial counts.
#[derive(Debug, Subcommand)]
pub enum PrepareCommand {
    /// Spatial Transcriptomics arrays: ID.tsv[.gz], ID_selection.tsv, ID.jpg
    #[command(after_help = "Example:\n  magnet-native prepare st --input her2st --out dataset --samples \
                      C2,C3,C4,C5")]
    St(PrepareStArgs),
    /// Space Ranger's Visium folder (outs of 1.x to 4.x) and its full-resolution image
    #[command(
        after_help = "Example:\n  magnet-native prepare visium --input S1/outs --image S1_full.tif --out dataset\n\nThe \
                      image is the file that Space Ranger was given, not tissue_hires_image.png. The pixel size comes \
                      from the array's 100 µm pitch."
    )]
    Visium(PrepareVisiumArgs),
    /// Space Ranger's Visium HD folder (binned_outputs) and its full-resolution image
    #[command(
        after_help = "Example:\n  magnet-native prepare visium-hd --input outs --image slide.tif --bin-um 8 \
                      --out dataset"
    )]
    VisiumHd(PrepareVisiumHdArgs),
    /// A HEST-1k folder, used where it is: checks every slide and copies nothing
    #[command(
        after_help = "Example:\n  magnet-native prepare hest --input hest_data\n\nEvery command that takes --data reads \
                      the folder itself."
    )]
    Hest(PrepareHestArgs),
    /// Whatever the path holds, if there is one source in it; says what was found and why
    #[command(
        after_help = "Example:\n  magnet-native prepare auto --input S1/outs --image S1.tif --out dataset"
    )]
    Auto(PrepareAutoArgs),
    /// An AnnData file with spatial coordinates, and its full-resolution image
    #[command(
        after_help = "Examples:\n  magnet-native prepare h5ad --input s1.h5ad --image s1.tif --mpp 0.5 --bin-um 55 --out \
                      dataset\n  magnet-native prepare h5ad --input all.h5ad --library S1 --layer counts --image \
                      s1.tif --out dataset"
    )]
    H5ad(PrepareH5adArgs),
}

/// Where prepared slides go.
#[derive(Debug, Args)]
pub struct DatasetArgs {
    /// Folder of the prepared dataset; slides are added to one that exists
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `prepare st`.
#[derive(Debug, Args)]
pub struct PrepareStArgs {
    /// Folder of the source files
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Samples to take; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub samples: Vec<String>,
    /// Size of an image pixel, µm; derived from the array's 200 µm pitch when left out
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Where the slide goes
    #[command(flatten)]
    pub dataset: DatasetArgs,
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
    /// Bin size to take, µm: one of the run's, or any coarser one (24, 48, 55), whose raw counts are summed
    #[arg(long, value_name = "UM", default_value_t = 8.0)]
    pub bin_um: f64,
    /// Keep bins off tissue, from the raw matrix where it is there
    #[arg(long)]
    pub keep_off_tissue: bool,
    /// Name of the slide; the input folder's name when left out
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Where the slide goes
    #[command(flatten)]
    pub dataset: DatasetArgs,
}

/// Arguments of `prepare visium`.
#[derive(Debug, Args)]
pub struct PrepareVisiumArgs {
    /// Space Ranger's `outs` folder, or the folder that holds it
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Full-resolution image; the only image of the `outs` folder when left out
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Size of an image pixel, µm; derived from the array's 100 µm pitch, and checked against it when given
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Keep spots off tissue, from the raw matrix where it is there
    #[arg(long)]
    pub keep_off_tissue: bool,
    /// Name of the slide; the input folder's name when left out
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Where the slide goes
    #[command(flatten)]
    pub dataset: DatasetArgs,
}

/// Which image's pixels coordinates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FrameArg {
    /// The full-resolution image
    Full,
    /// tissue_hires_image.png
    Hires,
    /// tissue_lowres_image.png
    Lowres,
}

/// Arguments of `prepare h5ad`.
#[derive(Debug, Args)]
pub struct PrepareH5adArgs {
    /// AnnData file with counts and coordinates
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Full-resolution image
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Size of an image pixel, µm; from Visium's array coordinates or the file's scale factors when left out
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Side or diameter of a measured bin, µm; from the file when left out (55 for Visium, 100 for ST arrays)
    #[arg(long, value_name = "UM")]
    pub bin_um: Option<f64>,
    /// Matrix that holds the counts: X, raw, or the name of a layer
    #[arg(long, value_name = "NAME", default_value = "X")]
    pub layer: String,
    /// Key of the coordinates in obsm; `spatial` when left out
    #[arg(long, value_name = "KEY")]
    pub spatial_key: Option<String>,
    /// Image whose pixels the coordinates count
    #[arg(long, value_enum, default_value = "full")]
    pub spatial_frame: FrameArg,
    /// Sample to take from a file of several
    #[arg(long, value_name = "ID")]
    pub library: Option<String>,
    /// Column of obs that names the samples; library_id, sample_id or sample when left out
    #[arg(long, value_name = "COLUMN")]
    pub library_key: Option<String>,
    /// Take normalised values as they are; such slides train and score models of their own, never beside counts
    #[arg(long)]
    pub allow_normalized: bool,
    /// Keep observations whose in_tissue is 0
    #[arg(long)]
    pub keep_off_tissue: bool,
    /// Name of the slide; the sample's or the file's when left out
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Where the slide goes
    #[command(flatten)]
    pub dataset: DatasetArgs,
}

/// Arguments of `prepare hest`.
#[derive(Debug, Args)]
pub struct PrepareHestArgs {
    /// Folder with st, wsis and metadata
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Slides to check; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub samples: Vec<String>,
}

/// Arguments of `prepare auto`: what every source has in common.
#[derive(Debug, Args)]
pub struct PrepareAutoArgs {
    /// File or folder of the source
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Full-resolution image, where it does not lie beside the counts
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Size of an image pixel, µm, where the source does not say
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Bin size, µm: which to take of Visium HD, and what a bin of an AnnData file measures
    #[arg(long, value_name = "UM")]
    pub bin_um: Option<f64>,
    /// Sample of an AnnData file that holds several
    #[arg(long, value_name = "NAME")]
    pub library: Option<String>,
    /// Matrix of an AnnData file: X, raw/X, or the name of a layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Folder of the prepared dataset; a HEST-1k folder needs none
    #[arg(long, value_name = "DATASET")]
    pub out: Option<PathBuf>,
    /// Name of the slide
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}
