//! Tissue to measure on: a disc of bins on the lattice of the model's bin size, and a slide of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::coordinates::{SlidePx, SlideUm, px_from_um};
use magnet_core::expression::{CountMatrix, ValueKind};
use magnet_core::layout::SlideLayout;
use magnet_core::predict::layout_of_bins;
use magnet_core::{GenePanel, Level, MagNetConfig};

use crate::console::Console;
use crate::dataset::SlideData;
use crate::slide_file::{OpenedSlide, open_slide};
use crate::synthetic::SyntheticConfig;
use crate::synthetic::whole_slide::write_whole_slide;

/// Least side of a slide, in pixels.
const LEAST_SIDE_PX: f64 = 512.0;
/// Pixel sizes in which tissue is drawn, in µm.
const DRAWN_UM_PER_PX: (f64, f64) = (0.1, 4.0);

/// A disc of bins in the middle of a slide.
pub(super) struct Tissue {
    /// Centres of the bins, by row, then column.
    pub(super) centers_px: Vec<SlidePx>,
    /// Side of a pixel, in µm: at which the model's bins read their patches.
    pub(super) um_per_px: f64,
    bin_um: f64,
    side_px: u32,
}

impl Tissue {
    /// The disc of `bins` bins of the model's size.
    pub(super) fn new(bins: usize, config: &MagNetConfig) -> Self {
        let geometry = config.levels.bin;
        let (least, most) = DRAWN_UM_PER_PX;
        let um_per_px = (geometry.patch_um / geometry.patch_px as f64).clamp(least, most);
        let bin_um = geometry.tile_um;
        let widest_um = Level::ALL.iter().map(|&level| config.levels.get(level).patch_um).fold(0.0, f64::max);
        let radius_um = radius(bins) * bin_um;
        let side_px = (2.0 * (radius_um + widest_um) / um_per_px).max(LEAST_SIDE_PX).ceil();
        let middle_um = side_px * um_per_px / 2.0;
        let place = |(column, row): (i64, i64)| {
            let at = |step: i64| middle_um + step as f64 * bin_um;
            px_from_um(SlideUm { x: at(column), y: at(row) }, um_per_px)
        };
        let centers_px = disc(bins).into_iter().map(place).collect();
        Self { centers_px, um_per_px, bin_um, side_px: side_px as u32 }
    }

    /// The bins laid out.
    ///
    /// # Errors
    /// If the model's levels make no layout.
    pub(super) fn layout(&self, config: &MagNetConfig) -> Result<SlideLayout> {
        Ok(layout_of_bins(&self.centers_px, self.um_per_px, config)?)
    }

    /// Draws the slide into a folder, as scanners write slides: a pyramid of JPEG tiles.
    ///
    /// # Errors
    /// If the slide is too large, or the file cannot be written.
    pub(super) fn draw(&self, seed: u64, folder: &Path) -> Result<PathBuf> {
        let side_um = (self.centers_px.len() as f64).sqrt() * self.bin_um;
        let config =
            SyntheticConfig { seed, um_per_px: self.um_per_px, side_um, ..SyntheticConfig::default() };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let size_px = (self.side_px, self.side_px);
        Ok(folder.join(write_whole_slide(&config, size_px, folder, &Console::quiet())?))
    }

    /// Opens the slide that [`Tissue::draw`] left.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn open(&self, path: &Path) -> Result<OpenedSlide> {
        open_slide(path, Some(self.um_per_px), &Console::quiet())
    }

    /// The tissue as a measured slide of `genes` genes, whose image lies at `image_path`.
    ///
    /// # Errors
    /// If there are no genes.
    pub(super) fn measured(&self, genes: usize, image_path: PathBuf) -> Result<SlideData> {
        let names = |prefix: &str| (0..genes).map(|gene| format!("{prefix}{gene}")).collect::<Vec<_>>();
        // Counts that vary over the bins and whose mean falls from gene to gene.
        let count = |bin: usize, gene: usize| (1 + (bin * 31 + gene * 17) % 7 + (genes - gene) / 8) as f32;
        let row = |bin: usize| {
            (0_u32..).zip(0..genes).map(|(column, gene)| (column, count(bin, gene))).collect::<Vec<_>>()
        };
        let bins = self.centers_px.len();
        Ok(SlideData {
            id: "tissue".into(),
            patient: None,
            genes: GenePanel::new(names("ID"), names("GENE"))?,
            counts: CountMatrix::from_rows(genes, (0..bins).map(row))?,
            values: ValueKind::Counts,
            barcodes: (0..bins).map(|bin| format!("bin-{bin}")).collect(),
            centers_px: self.centers_px.clone(),
            um_per_px: self.um_per_px,
            bin_um: self.bin_um,
            image_path,
            image_sha256: String::new(),
            counts_sha256: String::new(),
        })
    }
}

/// Radius of a disc of `bins` places, in steps of their lattice.
fn radius(bins: usize) -> f64 {
    (bins as f64 / std::f64::consts::PI).sqrt() + 1.0
}

/// The `bins` places of a lattice that are nearest to its origin, as column and row, by row, then column.
fn disc(bins: usize) -> Vec<(i64, i64)> {
    let reach = radius(bins).ceil() as i64;
    let side = -reach..=reach;
    let mut places: Vec<(i64, i64)> =
        side.clone().flat_map(|row| side.clone().map(move |column| (column, row))).collect();
    places.sort_unstable_by_key(|&(column, row)| (column * column + row * row, row, column));
    places.truncate(bins);
    places.sort_unstable_by_key(|&(column, row)| (row, column));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_has_as_many_places_as_asked_for_and_lies_in_its_circle() {
        for bins in [1, 5, 9, 100, 4096] {
            let places = disc(bins);
            assert_eq!(places.len(), bins);
            assert!(places.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)));
            let far = places.iter().map(|&(x, y)| ((x * x + y * y) as f64).sqrt()).fold(0.0, f64::max);
            assert!(far <= radius(bins), "{bins}: {far}");
        }
    }

    #[test]
    fn all_patches_of_all_levels_lie_on_the_slide() {
        let config = MagNetConfig::default();
        for bins in [1, 2000] {
            let tissue = Tissue::new(bins, &config);
            let widest_px = config.levels.region.patch_um / tissue.um_per_px / 2.0;
            let inside = |at: f64| at - widest_px >= 0.0 && at + widest_px <= f64::from(tissue.side_px);
            assert!(tissue.centers_px.iter().all(|center| inside(center.x) && inside(center.y)));
            assert_eq!(tissue.layout(&config).unwrap().nodes().bin, bins);
        }
    }
}
