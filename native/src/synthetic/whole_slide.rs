//! One image as large as a scanner's: a pyramid whose tissue repeats, for measuring what whole slides cost.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use magnet_core::tiff::write::{PyramidImage, PyramidWriter, TileCompression, TileRegion};

use super::{SyntheticConfig, SyntheticSlide};
use crate::console::Console;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic_with};

/// Side of a tile, as scanners write them.
const TILE_PX: u32 = 512;
/// Quality of the tiles' JPEG, as scanners choose it.
const QUALITY: u8 = 80;
/// Side of the tissue that repeats, in µm.
const PATTERN_UM: f64 = 800.0;
/// Part of the pattern's side, in its middle, that is taken: its rim is glass.
const MIDDLE: f64 = 0.6;
/// Longest side of an image.
const MAX_SIDE_PX: u32 = 1 << 20;

/// A disc of tissue in the middle of glass.
struct Section {
    pattern: RgbImage,
    glass: RgbImage,
    center_px: (f64, f64),
    radius_px: f64,
}

impl Section {
    /// Draws pixels of row `y` from column `left` on.
    fn draw(&self, y: u32, left: u32, pixels: &mut [[u8; 3]]) {
        let dy = f64::from(y) + 0.5 - self.center_px.1;
        let half = (self.radius_px.powi(2) - dy.powi(2)).max(0.0).sqrt();
        let tissue = self.center_px.0 - half..self.center_px.0 + half;
        let row = |image: &RgbImage| {
            let (pixels, _) = image.as_raw().as_chunks::<3>();
            let start = mirrored(y, image.height()) as usize * image.width() as usize;
            pixels.get(start..start + image.width() as usize).unwrap_or_default().to_vec()
        };
        let (pattern, glass) = (row(&self.pattern), row(&self.glass));
        for (x, pixel) in (left..).zip(pixels) {
            let from = if tissue.contains(&(f64::from(x) + 0.5)) { &pattern } else { &glass };
            let at = mirrored(x, from.len() as u32) as usize;
            *pixel = from.get(at).copied().unwrap_or_default();
        }
    }
}

/// A place in a pattern that is repeated with every second copy mirrored, so that copies meet without a seam.
fn mirrored(at: u32, side: u32) -> u32 {
    let at = at % (2 * side);
    if at < side { at } else { 2 * side - 1 - at }
}

/// Name of the file.
pub const FILE: &str = "whole_slide.tif";

/// Writes `<folder>/whole_slide.tif` and returns the file's name: `size_px` (width, height) of glass around a disc of tissue of the area
/// `config.side_um`², as a tiled pyramid with its pixel size.
///
/// # Errors
/// When a size is out of range or the file cannot be written.
pub fn write_whole_slide(
    config: &SyntheticConfig,
    size_px: (u32, u32),
    folder: &Path,
    console: &Console,
) -> Result<&'static str> {
    let (width_px, height_px) = size_px;
    if ![width_px, height_px].iter().all(|side| (TILE_PX..=MAX_SIDE_PX).contains(side)) {
        let expected = format!("sides of {TILE_PX} to {MAX_SIDE_PX} px");
        return Err(InputError::in_flag(
            "--whole-slide",
            "size",
            expected,
            format!("{width_px}x{height_px}"),
        )
        .into());
    }
    SyntheticConfig { side_um: PATTERN_UM, ..config.clone() }.validate()?;
    let radius_px = config.side_um / config.um_per_px / std::f64::consts::PI.sqrt();
    if !(radius_px > 0.0 && 2.0 * radius_px <= f64::from(width_px.min(height_px))) {
        let expected = format!("a disc of tissue of that area on {width_px} × {height_px} px");
        return Err(InputError::in_flag("--size-um", "tissue", expected, config.side_um).into());
    }
    let grown = SyntheticSlide::grow(&SyntheticConfig { side_um: PATTERN_UM, ..config.clone() }, 0).image();
    let side = (f64::from(grown.width()) * MIDDLE) as u32;
    let start = (grown.width() - side) / 2;
    let section = Section {
        pattern: image::imageops::crop_imm(&grown, start, start, side, side).to_image(),
        glass: image::imageops::crop_imm(&grown, 0, 0, grown.width() / 40, grown.width() / 40).to_image(),
        center_px: (f64::from(width_px) / 2.0, f64::from(height_px) / 2.0),
        radius_px,
    };
    let path = folder.join(FILE);
    let tiles = u64::from(width_px.div_ceil(TILE_PX)) * u64::from(height_px.div_ceil(TILE_PX));
    let bar = console.bar(tiles, "drawing", "tiles");
    write_atomic_with(&path, Overwrite::No, |out: &mut BufWriter<&mut File>| {
        let image = PyramidImage {
            width_px,
            height_px,
            tile_px: TILE_PX,
            compression: TileCompression::Jpeg(QUALITY),
            um_per_px: Some(config.um_per_px),
            description: "",
        };
        let fill = |region: TileRegion, tile: &mut [[u8; 3]]| {
            let rows = tile.chunks_mut(region.stride_px as usize).zip(region.top_px..);
            for (row, y) in rows.take(region.height_px as usize) {
                let inside = region.width_px as usize;
                section.draw(y, region.left_px, row.get_mut(..inside).unwrap_or_default());
            }
            bar.inc(1);
            Ok(())
        };
        PyramidWriter::new(out)
            .and_then(|mut writer| writer.write_image::<[u8; 3]>(&image, fill))
            .with_context(|| format!("cannot write {}", path.display()))
    })?;
    bar.finish_and_clear();
    Ok(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_pattern_meet_without_a_seam() {
        let places: Vec<u32> = (0..12).map(|at| mirrored(at, 4)).collect();
        assert_eq!(places, [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3]);
    }
}
