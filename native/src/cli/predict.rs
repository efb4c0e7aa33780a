//! Arguments of `predict`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use magnet_core::Level;
use magnet_core::coordinates::SlidePx;

use super::{DeviceArgs, name};

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Model bundle
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Slide image: a whole slide (TIFF, BigTIFF, SVS, OME-TIFF) or a PNG, JPEG or TIFF picture
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Size of an image pixel, µm; needed unless the image says it
    #[arg(long, value_name = "UM_PER_PX", allow_negative_numbers = true)]
    pub mpp: Option<f64>,
    /// Places to predict: a CSV with the columns x,y in full-resolution pixels, or Space Ranger's tissue_positions, CSV
    /// or Parquet
    #[arg(long, value_name = "FILE")]
    pub positions: Option<PathBuf>,
    /// Part of the slide to predict, in full-resolution pixels: left, top, width, height. Bins at its edge have fewer
    /// neighbours than they would have on the whole slide
    #[arg(long, value_name = "X,Y,W,H", value_parser = PxRegion::from_str)]
    pub region: Option<PxRegion>,
    /// Folder that receives maps and values
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Genes to draw; the best predicted ones of the panel when left out. Values are written for all
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub genes: Vec<String>,
    /// What to write: png maps of the genes, and all values as h5ad (scanpy, squidpy), csv, parquet; geojson holds the
    /// genes as measurements of tiles for QuPath; ome-tiff is a pyramid with a channel per gene (all, or those of
    /// --genes), aligned with the slide
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_enum, default_values_t = [PredictFormat::Png, PredictFormat::H5ad, PredictFormat::Csv])]
    pub formats: Vec<PredictFormat>,
    /// Level to draw and to write
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Bin)]
    pub level: LevelArg,
    /// Average the predictions over the eight turns and flips of every patch
    #[arg(long)]
    pub augment: bool,
    /// Folder of feature matrices, for a model that was trained on some
    #[arg(long, value_name = "DIR", conflicts_with = "cache")]
    pub features: Option<PathBuf>,
    /// Folder that keeps a frozen encoder's features (`train --cache` has the same), so that another model on the same
    /// encoder need not compute them again
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Continue a run that was ended: what it finished lies in `<out>.partial`
    #[arg(long)]
    pub resume: bool,
    /// Replace the output folder and an unfinished run if they are there
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Let a ResNet patch encoder calculate with 16-bit maps and weights and 32-bit sums, on a graphics adapter that has
    /// 16-bit floats; what grows past 65,504 in it is lost
    #[arg(long)]
    pub half: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A rectangle of a slide in full-resolution pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PxRegion {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl PxRegion {
    /// Whether a point lies in it; the right and bottom edges do not belong to it.
    pub fn contains(&self, point: SlidePx) -> bool {
        (self.left..self.right).contains(&point.x) && (self.top..self.bottom).contains(&point.y)
    }
}

impl PxRegion {
    /// What of it lies on a slide of this size; the same where it lies within.
    pub fn on_slide(&self, width_px: u32, height_px: u32) -> Self {
        Self {
            left: self.left.max(0.0),
            top: self.top.max(0.0),
            right: self.right.min(f64::from(width_px)),
            bottom: self.bottom.min(f64::from(height_px)),
        }
    }
}

impl FromStr for PxRegion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[left, top, width, height])
                if [left, top, width, height].iter().all(|number| number.is_finite())
                    && width > 0.0
                    && height > 0.0 =>
            {
                Ok(Self { left, top, right: left + width, bottom: top + height })
            }
            _ => Err("expected four numbers, left,top,width,height, the last two above 0".into()),
        }
    }
}

impl std::fmt::Display for PxRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { left, top, right, bottom } = self;
        write!(f, "{left},{top},{},{}", right - left, bottom - top)
    }
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

/// A form in which predictions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PredictFormat {
    /// One picture per gene
    Png,
    /// AnnData
    H5ad,
    /// A table of text
    Csv,
    /// A table for data frames
    Parquet,
    /// Tiles for QuPath
    Geojson,
    /// A raster pyramid
    OmeTiff,
}

impl PredictFormat {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 6] =
        [Self::Png, Self::H5ad, Self::Csv, Self::Parquet, Self::Geojson, Self::OmeTiff];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_cut_at_the_edges_of_the_slide() {
        let on = |text: &str| PxRegion::from_str(text).unwrap().on_slide(100, 50).to_string();
        assert_eq!(on("10,10,20,20"), "10,10,20,20");
        assert_eq!(on("-10,40,200,20"), "0,40,100,10");
    }
}
