//! Where to predict when nobody says where.

use crate::coordinates::{SlidePx, px_from_um, tile_from_um};
use crate::layout::SlideLayout;
use crate::level::Level;
use crate::model::MagNetConfig;
use crate::slide::{PatchReader, SlideError, TissueMask, TissueMaskConfig, tissue_grid};

/// Part of a tile that must be tissue for the tile to be predicted.
const TISSUE_FRACTION: f64 = 0.5;

/// Places on a slide with their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Places {
    /// Name of each place, such as its barcode.
    pub names: Vec<String>,
    /// Centres in full-resolution pixels.
    pub centers_px: Vec<SlidePx>,
}

/// Why there is nowhere to predict.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TissueError {
    /// The image.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// An image of glass.
    #[error(
        "tissue: expected stained tissue on tiles of {tile_um} µm, found none on {width_um:.0} × {height_um:.0} µm; \
         is the pixel size right?"
    )]
    NoTissue {
        /// Side of the model's bins, in µm.
        tile_um: f64,
        /// Width of the slide, in µm.
        width_um: f64,
        /// Height of the slide, in µm.
        height_um: f64,
    },
}

/// The tiles of the model's bin size that lie on tissue, by row, then column, named `r<row>c<column>`.
///
/// # Errors
/// [`TissueError`] when the slide cannot be read or has no tissue.
pub fn tissue_places(slide: &dyn PatchReader, config: &MagNetConfig) -> Result<Places, TissueError> {
    let tile_um = config.levels.bin.tile_um;
    let mask = TissueMask::find(slide, &TissueMaskConfig::default())?;
    let grid = tissue_grid(&mask, tile_um, TISSUE_FRACTION)?;
    if grid.is_empty() {
        let (width_um, height_um) = mask.slide_um();
        return Err(TissueError::NoTissue { tile_um, width_um, height_um });
    }
    let names = grid
        .iter()
        .map(|&center| {
            let tile = tile_from_um(center, tile_um);
            format!("r{}c{}", tile.row, tile.col)
        })
        .collect();
    let centers_px = grid.iter().map(|&center| px_from_um(center, slide.um_per_px())).collect();
    Ok(Places { names, centers_px })
}

impl Places {
    /// The names of a level's nodes in `layout`, which was laid out from these places: their own for the bins,
    /// `<level>-<number>` for tiles.
    pub fn level_names(&self, layout: &SlideLayout, level: Level) -> Vec<String> {
        match level {
            Level::Bin => self.names.clone(),
            _ => (0..layout.centers.get(level).len()).map(|tile| format!("{level}-{tile}")).collect(),
        }
    }
}
