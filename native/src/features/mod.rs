//! Features of the wide levels that the model does not compute itself: of a frozen encoder, cached on disk, or of files
//! made elsewhere.

mod cache;
mod files;

pub use cache::{FeatureCache, FrozenFile};
pub use files::FeatureFiles;

use std::path::Path;

use anyhow::Result;
use magnet_core::MagNetConfig;
use magnet_core::coordinates::{SlidePx, px_from_um};
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::level::Level;

use crate::dataset::SlideData;

/// A slide, as features know it.
#[derive(Debug, Clone, Copy)]
pub struct SlideName<'a> {
    /// Its name: the start of the names of its feature files.
    pub id: &'a str,
    /// SHA-256 of its image.
    pub image_sha256: &'a str,
    /// Size of a full-resolution pixel, in µm.
    pub um_per_px: f64,
}

impl<'a> From<&'a SlideData> for SlideName<'a> {
    fn from(slide: &'a SlideData) -> Self {
        Self { id: &slide.id, image_sha256: &slide.image_sha256, um_per_px: slide.um_per_px }
    }
}

/// Features of a slide's spots and regions from the matrices in `folder`, for a model that reads features of this kind.
///
/// # Errors
/// If the files are missing, malformed, of another width than `width`, or leave a tile without a patch near it.
pub fn read_matrices(
    folder: &Path,
    slide: SlideName<'_>,
    layout: &SlideLayout,
    model: &MagNetConfig,
    width: usize,
) -> Result<(Matrix, Matrix)> {
    let files = FeatureFiles::open(folder)?;
    let of_level = |level| files.features(slide, level, layout, model, width);
    Ok((of_level(Level::Spot)?, of_level(Level::Region)?))
}

/// Centres of a level's tiles in full-resolution pixels.
fn tile_centers_px(layout: &SlideLayout, level: Level, um_per_px: f64) -> Vec<SlidePx> {
    layout.centers.get(level).iter().map(|&center| px_from_um(center, um_per_px)).collect()
}
