//! A prepared slide at a coarser resolution: the counts of its bins summed into square tiles before anything else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, ExpressionError, ValueKind};

use super::bins::BinPlace;
use super::metadata::{Metadata, lies_on_grid};
use super::prepare::{Dropped, NewSlide, SlideSummary};
use super::{Dataset, SlideData, image_size_px};
use crate::error::InputError;
use crate::files::Overwrite;

/// How far the side of a tile may be from what was asked for, as a fraction of it: 55 µm of 8 µm bins are tiles of 7 × 7
/// bins, 56 µm wide. Tiles of 6 bins here and 7 there would differ in their counts by a third.
const SIDE_TOLERANCE: f64 = 0.02;

/// The side in µm of the tiles that stand for `asked_um`, made of a slide's bins. Bins of a grid make tiles of a whole
/// number of bins; spots of an array, between which nothing was measured, make tiles of any coarser size. A slide that has
/// the resolution already keeps its own.
///
/// # Errors
/// When the slide's bins are coarser, or no whole number of them comes near enough.
pub fn tile_side_um(slide: &Metadata, asked_um: f64) -> Result<f64, InputError> {
    let bins = asked_um / slide.bin_um;
    let field = format!("slide {} at {asked_um} µm", slide.id);
    let found = || format!("bins of {} µm", slide.bin_um);
    let refuse = |expected: &str| Err(InputError::in_flag("--bin-um", &field, expected, found()));
    if !(bins.is_finite() && bins > 0.0) {
        return Err(InputError::in_flag("--bin-um", "value", "a positive number of µm", asked_um));
    }
    if (bins - 1.0).abs() <= SIDE_TOLERANCE {
        return Ok(slide.bin_um);
    }
    if bins < 1.0 {
        return refuse("finer bins: counts can be summed, not divided");
    }
    if !lies_on_grid(slide) {
        return Ok(asked_um);
    }
    let side_um = bins.round() * slide.bin_um;
    if (side_um / asked_um - 1.0).abs() > SIDE_TOLERANCE {
        let (below, above) = (bins.floor() * slide.bin_um, bins.ceil() * slide.bin_um);
        return refuse(&format!("a multiple of the bin size, such as {below} or {above} µm"));
    }
    Ok(side_um)
}

/// Writes the slide `id` of `dataset` with tiles of `tile_um` as its bins into the dataset at `out`; what
/// is there of the slide is replaced. Tiles that hold fewer
/// than half as many bins as the median tile lie on the edge of the tissue and are left out.
///
/// # Errors
/// When the slide cannot be read, or the output cannot be written.
pub fn rebin(dataset: &Dataset, id: &str, tile_um: f64, out: &Path) -> Result<SlideSummary> {
    let metadata = dataset.metadata(id)?;
    let slide = dataset.undigested_slide(id)?;
    let tiles = Tiles::of(&slide, tile_um, image_size_px(&slide.image_path)?)?;
    let name = |place: &BinPlace| format!("s_{tile_um:03}um_{:05}_{:05}-1", place.row, place.col);
    let left_out: Vec<String> = tiles.left_out.iter().map(name).collect();
    let how = match slide.values {
        ValueKind::Counts => "summed",
        ValueKind::Normalized => "averaged",
    };
    let counts = tiles.values_of(&slide)?;
    let new = NewSlide {
        id: id.to_owned(),
        technology: metadata.technology.unwrap_or_else(|| "not named".to_owned()),
        patient: slide.patient,
        genes: slide.genes,
        counts,
        barcodes: tiles.places.iter().map(name).collect(),
        columns: Vec::new(),
        centers_px: tiles.centers_px,
        um_per_px: slide.um_per_px,
        um_per_px_origin: metadata.pixel_size_origin,
        bin_um: tile_um,
        image: slide.image_path,
        sources: vec![dataset.counts_path(id)],
        dropped: Dropped::of("tiles at the edge of the tissue", &left_out).into_iter().collect(),
        notes: vec![format!("bins of {} µm {how}", slide.bin_um)],
        frames: Vec::new(),
        values: slide.values,
        off_tissue: metadata.off_tissue,
    };
    new.write(out, Overwrite::Yes)
}

/// What the tiles of [`rebin`] hold: one row for each, of all genes.
///
/// # Errors
/// When the size of the slide's image cannot be read.
pub fn tile_values(slide: &SlideData, tile_um: f64) -> Result<CountMatrix> {
    Ok(Tiles::of(slide, tile_um, image_size_px(&slide.image_path)?)?.values_of(slide)?)
}

/// Which bins make which tile.
#[derive(Debug)]
struct Tiles {
    /// Of each bin, its tile; kept or not.
    parents: Vec<u32>,
    /// Number of tiles, kept or not.
    groups: usize,
    /// The tiles that are kept, ascending.
    kept: Vec<usize>,
    /// Where these lie on their grid.
    places: Vec<BinPlace>,
    /// Their centres.
    centers_px: Vec<SlidePx>,
    /// Where the others lie.
    left_out: Vec<BinPlace>,
}

/// Where a bin lies: the place of its tile, and what leads from the bin's centre to the tile's.
struct Step {
    tile: BinPlace,
    to_center: SlidePx,
}

impl Tiles {
    fn of(slide: &SlideData, tile_um: f64, (width, height): (u32, u32)) -> Result<Self> {
        let places: Option<Vec<BinPlace>> =
            slide.barcodes.iter().map(|name| BinPlace::from_name(name)).collect();
        let steps = match places {
            Some(places) => steps_on_grid(slide, &places, tile_um / slide.bin_um),
            None => steps_in_plane(slide, tile_um),
        };
        let mut sums: BTreeMap<BinPlace, (f64, f64, u32)> = BTreeMap::new();
        for (center, step) in slide.centers_px.iter().zip(&steps) {
            let (x, y, bins) = sums.entry(step.tile).or_default();
            *x += center.x + step.to_center.x;
            *y += center.y + step.to_center.y;
            *bins += 1;
        }
        let mut bins: Vec<u32> = sums.values().map(|sum| sum.2).collect();
        bins.sort_unstable();
        let median = bins.get(bins.len() / 2).copied().unwrap_or_default();
        let mut tiles = Self {
            parents: Vec::with_capacity(steps.len()),
            groups: sums.len(),
            kept: Vec::new(),
            places: Vec::new(),
            centers_px: Vec::new(),
            left_out: Vec::new(),
        };
        for (index, (&place, &(x, y, bins))) in sums.iter().enumerate() {
            let center = SlidePx { x: x / f64::from(bins), y: y / f64::from(bins) };
            let inside =
                (0.0..f64::from(width)).contains(&center.x) && (0.0..f64::from(height)).contains(&center.y);
            if inside && u64::from(bins) * 2 >= u64::from(median) {
                tiles.kept.push(index);
                tiles.places.push(place);
                tiles.centers_px.push(center);
            } else {
                tiles.left_out.push(place);
            }
        }
        let rank: BTreeMap<BinPlace, u32> = sums.into_keys().zip(0..).collect();
        tiles.parents = steps.iter().filter_map(|step| rank.get(&step.tile).copied()).collect();
        Ok(tiles)
    }

    /// The values of the kept tiles: counts are summed, normalised values averaged.
    fn values_of(&self, slide: &SlideData) -> Result<CountMatrix, ExpressionError> {
        let tiles = match slide.values {
            ValueKind::Counts => slide.counts.aggregate(&self.parents, self.groups)?,
            ValueKind::Normalized => slide.counts.aggregate_means(&self.parents, self.groups)?,
        };
        Ok(tiles.select_rows(&self.kept))
    }
}

/// Bins whose names say where they lie on the array: tiles follow the array, however it lies on the image.
fn steps_on_grid(slide: &SlideData, places: &[BinPlace], bins_per_tile: f64) -> Vec<Step> {
    let (per_row, per_col) = grid_pitch_px(places, &slide.centers_px);
    let step = |place: &BinPlace| {
        let tile = place.tile(bins_per_tile);
        // Bin 0 has its centre at half a bin, tile 0 at half a tile.
        let bins_to_center =
            |tile: u32, bin: u32| (f64::from(tile) + 0.5) * bins_per_tile - (f64::from(bin) + 0.5);
        let (rows, cols) = (bins_to_center(tile.row, place.row), bins_to_center(tile.col, place.col));
        let to_center =
            SlidePx { x: rows * per_row.x + cols * per_col.x, y: rows * per_row.y + cols * per_col.y };
        Step { tile, to_center }
    };
    places.iter().map(step).collect()
}

/// What one row and one column of the array are in pixels, by least squares. Bins of one row or one column say nothing
/// about the other direction: then both are 0, and a tile's centre is the mean of its bins'.
fn grid_pitch_px(places: &[BinPlace], centers: &[SlidePx]) -> (SlidePx, SlidePx) {
    let count = places.len() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count;
    let row = mean(&mut places.iter().map(|place| f64::from(place.row)));
    let col = mean(&mut places.iter().map(|place| f64::from(place.col)));
    let x = mean(&mut centers.iter().map(|center| center.x));
    let y = mean(&mut centers.iter().map(|center| center.y));
    let (mut rr, mut rc, mut cc) = (0.0, 0.0, 0.0);
    let (mut rx, mut ry, mut cx, mut cy) = (0.0, 0.0, 0.0, 0.0);
    for (place, center) in places.iter().zip(centers) {
        let (r, c) = (f64::from(place.row) - row, f64::from(place.col) - col);
        let (dx, dy) = (center.x - x, center.y - y);
        (rr, rc, cc) = (rr + r * r, rc + r * c, cc + c * c);
        (rx, ry, cx, cy) = (rx + r * dx, ry + r * dy, cx + c * dx, cy + c * dy);
    }
    let determinant = rr * cc - rc * rc;
    if determinant <= 1e-9 * rr * cc {
        return (SlidePx { x: 0.0, y: 0.0 }, SlidePx { x: 0.0, y: 0.0 });
    }
    let per_row = SlidePx { x: (rx * cc - cx * rc) / determinant, y: (ry * cc - cy * rc) / determinant };
    let per_col = SlidePx { x: (cx * rr - rx * rc) / determinant, y: (cy * rr - ry * rc) / determinant };
    (per_row, per_col)
}

/// Bins without such names: tiles along the image's edges, from the edge of the first bin on.
fn steps_in_plane(slide: &SlideData, tile_um: f64) -> Vec<Step> {
    let tile_px = tile_um / slide.um_per_px;
    let half_bin_px = slide.bin_um / slide.um_per_px / 2.0;
    let first = |axis: fn(&SlidePx) -> f64| {
        slide.centers_px.iter().map(axis).fold(f64::INFINITY, f64::min) - half_bin_px
    };
    let (left, top) = (first(|center| center.x), first(|center| center.y));
    let step = |center: &SlidePx| {
        let tile =
            BinPlace { row: ((center.y - top) / tile_px) as u32, col: ((center.x - left) / tile_px) as u32 };
        let to_center = SlidePx {
            x: left + (f64::from(tile.col) + 0.5) * tile_px - center.x,
            y: top + (f64::from(tile.row) + 0.5) * tile_px - center.y,
        };
        Step { tile, to_center }
    };
    slide.centers_px.iter().map(step).collect()
}

#[cfg(test)]
#[path = "rebin_tests.rs"]
mod tests;
