//! Every input becomes the prepared dataset; every command reads that.

pub mod positions;
pub mod scalefactors;
pub mod table;
pub mod tenx_matrix;

use std::path::PathBuf;

use magnet_core::GenePanel;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;

/// One slide of a prepared dataset, its counts in memory, its image still on disk.
#[derive(Debug, Clone)]
pub struct SlideData {
    /// Name of the slide: the stem of its files.
    pub id: String,
    /// Patient or block that the slide comes from, where known.
    pub patient: Option<String>,
    /// All measured genes, in column order of `counts`.
    pub genes: GenePanel,
    /// Raw counts, one row per bin.
    pub counts: CountMatrix,
    /// Barcode or spot name of each bin.
    pub barcodes: Vec<String>,
    /// Bin centres in full-resolution pixels.
    pub centers_px: Vec<SlidePx>,
    /// Size of a full-resolution pixel, in µm.
    pub um_per_px: f64,
    /// Side (or diameter) of a measured bin, in µm.
    pub bin_um: f64,
    /// The slide's image.
    pub image_path: PathBuf,
    /// SHA-256 of the image file, lower-case hexadecimal.
    pub image_sha256: String,
    /// SHA-256 of the counts file, lower-case hexadecimal.
    pub counts_sha256: String,
}
