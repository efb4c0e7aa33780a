//! Tissue against glass, from a small picture of the slide.
//!
//! Stain absorbs light, glass does not: what is measured is the absorption of a pixel's darkest channel, which sees
//! haematoxylin and eosin alike. Otsu's method finds the two classes; it cuts pale stroma off, because tissue varies
//! far more than glass, so the threshold is half-way from the level of the glass to Otsu's. Otsu always splits its
//! input in two, so where the classes hardly differ there is only one, and the threshold is kept within the range in
//! which stain and glass can meet: a section that fills the image is tissue all over, an empty slide has none. Specks
//! are dropped and pinholes filled.

use super::error::SlideError;
use super::patch::PatchReader;
use super::slide_image::SlideImage;
use crate::coordinates::{SlidePx, SlideUm, Tile, um_from_tile};

/// Largest side of the picture that the mask is made from, in pixels.
const MAX_SIDE_PX: f64 = 4096.0;

/// Most tiles that a grid may hold.
const MAX_TILES: f64 = 50e6;

/// A pixel whose brightest channel is below this is ink or a scanner's border, not stain.
const DARK: u8 = 40;

/// Classes whose mean absorption differs by less than this are noise within one class.
const MIN_CONTRAST: f64 = 0.08 * 255.0;

/// How tissue is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TissueMaskConfig {
    /// Resolution of the mask, in µm per cell. A slide coarser than this, or so large that the mask would be wider
    /// than 4096 cells, has the nearest that is possible.
    pub um_per_cell: f64,
    /// Pieces of tissue smaller than this are dropped as specks, in µm².
    pub min_piece_um2: f64,
    /// Holes in tissue smaller than this are filled, in µm².
    pub min_hole_um2: f64,
    /// Least absorption (0..1) of tissue, whatever the picture suggests.
    pub min_absorption: f64,
    /// Absorption (0..1) from which a pixel is tissue, whatever the picture suggests.
    pub max_absorption: f64,
}

impl Default for TissueMaskConfig {
    /// 8 µm cells; pieces and holes of at least 100 × 100 µm; a threshold between 0.10 and 0.28.
    fn default() -> Self {
        Self {
            um_per_cell: 8.0,
            min_piece_um2: 10_000.0,
            min_hole_um2: 10_000.0,
            min_absorption: 0.10,
            max_absorption: 0.28,
        }
    }
}

/// Which part of a slide is tissue.
#[derive(Debug, Clone)]
pub struct TissueMask {
    width: usize,
    height: usize,
    um_per_cell: f64,
    slide_um_per_px: f64,
    slide_um: (f64, f64),
    cells: Vec<bool>,
    /// `(width + 1) × (height + 1)` sums of the cells above and to the left.
    sums: Vec<u32>,
    threshold: f64,
}

impl TissueMask {
    /// Finds the tissue of a slide.
    ///
    /// # Errors
    /// [`SlideError::Setting`] when the resolution is not positive; whatever reading the slide gives.
    pub fn find(slide: &dyn PatchReader, config: &TissueMaskConfig) -> Result<Self, SlideError> {
        if !(config.um_per_cell.is_finite() && config.um_per_cell > 0.0) {
            return Err(SlideError::Setting {
                field: "um_per_cell",
                expected: "a number of µm above 0".into(),
                found: config.um_per_cell.to_string(),
            });
        }
        let longest = f64::from(slide.width_px().max(slide.height_px()));
        let side = (longest * slide.um_per_px() / config.um_per_cell).ceil().clamp(1.0, MAX_SIDE_PX);
        let picture = slide.thumbnail(side as u32)?;
        let slide_um = (
            f64::from(slide.width_px()) * slide.um_per_px(),
            f64::from(slide.height_px()) * slide.um_per_px(),
        );
        Ok(Self::from_picture(&picture, slide.um_per_px(), slide_um, config))
    }

    fn from_picture(
        picture: &SlideImage,
        slide_um_per_px: f64,
        slide_um: (f64, f64),
        config: &TissueMaskConfig,
    ) -> Self {
        let (width, height) = (picture.width_px() as usize, picture.height_px() as usize);
        let absorptions: Vec<u8> = picture.rgb().chunks_exact(3).map(absorption).collect();
        let low = (config.min_absorption * 255.0).clamp(0.0, 255.0);
        let high = (config.max_absorption * 255.0).clamp(low, 255.0);
        let threshold = tissue_threshold(&absorptions).map_or(high, |threshold| threshold.clamp(low, high));
        let mut cells: Vec<bool> = absorptions.iter().map(|&value| f64::from(value) > threshold).collect();

        let um_per_cell = picture.um_per_px();
        let cells_of = |um2: f64| (um2 / (um_per_cell * um_per_cell)).max(0.0) as usize;
        flip_small_pieces(&mut cells, width, true, cells_of(config.min_piece_um2));
        flip_small_pieces(&mut cells, width, false, cells_of(config.min_hole_um2));

        let sums = summed_area(&cells, width, height);
        let threshold = threshold / 255.0;
        Self { width, height, um_per_cell, slide_um_per_px, slide_um, cells, sums, threshold }
    }

    /// Whether the point lies on tissue. Outside the slide nothing does.
    pub fn contains(&self, point: SlidePx) -> bool {
        let (x, y) = (self.cell_from_px(point.x).floor(), self.cell_from_px(point.y).floor());
        if !(x >= 0.0 && y >= 0.0 && x < self.width as f64 && y < self.height as f64) {
            return false;
        }
        self.cells.get(y as usize * self.width + x as usize).copied().unwrap_or(false)
    }

    /// How much of the square of side `side_um` around `center` is tissue, 0..=1. What lies outside the slide is not.
    pub fn fraction(&self, center: SlidePx, side_um: f64) -> f64 {
        let side = side_um / self.um_per_cell;
        if !(side.is_finite() && side > 0.0) {
            return 0.0;
        }
        let (x, y) = (self.cell_from_px(center.x), self.cell_from_px(center.y));
        let half = side / 2.0;
        let area = self.sum_at(x + half, y + half)
            - self.sum_at(x - half, y + half)
            - self.sum_at(x + half, y - half)
            + self.sum_at(x - half, y - half);
        (area / (side * side)).clamp(0.0, 1.0)
    }

    /// How much of the whole slide is tissue, 0..=1.
    pub fn tissue_fraction(&self) -> f64 {
        let total = self.sums.last().copied().unwrap_or(0);
        f64::from(total) / (self.cells.len().max(1) as f64)
    }

    /// The absorption (0..1) above which a cell was taken for tissue.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Width and height of the slide, in µm.
    pub fn slide_um(&self) -> (f64, f64) {
        self.slide_um
    }

    fn cell_from_px(&self, px: f64) -> f64 {
        px * self.slide_um_per_px / self.um_per_cell
    }

    /// Tissue area above and to the left of a point, in cells. Linear within a cell, so areas are exact.
    fn sum_at(&self, x: f64, y: f64) -> f64 {
        let (x, y) = (x.clamp(0.0, self.width as f64), y.clamp(0.0, self.height as f64));
        let (column, row) = ((x as usize).min(self.width - 1), (y as usize).min(self.height - 1));
        let (fx, fy) = (x - column as f64, y - row as f64);
        let at = |column: usize, row: usize| {
            self.sums.get(row * (self.width + 1) + column).copied().map_or(0.0, f64::from)
        };
        let top = at(column, row) * (1.0 - fx) + at(column + 1, row) * fx;
        let bottom = at(column, row + 1) * (1.0 - fx) + at(column + 1, row + 1) * fx;
        top * (1.0 - fy) + bottom * fy
    }
}

/// The centres of the tiles of pitch `tile_um` (the grid of [`Tile`]) of which at least `min_fraction` is tissue, by
/// row, then column.
///
/// # Errors
/// [`SlideError::Setting`] when the pitch is not positive, or so small that the slide has more than 50 million tiles.
pub fn tissue_grid(mask: &TissueMask, tile_um: f64, min_fraction: f64) -> Result<Vec<SlideUm>, SlideError> {
    let (width_um, height_um) = mask.slide_um;
    let (columns, rows) = ((width_um / tile_um).ceil(), (height_um / tile_um).ceil());
    if !(tile_um.is_finite() && tile_um > 0.0 && columns * rows <= MAX_TILES) {
        return Err(SlideError::Setting {
            field: "tile_um",
            expected: format!("µm above 0 and at most {MAX_TILES} tiles on {width_um} x {height_um} µm"),
            found: tile_um.to_string(),
        });
    }
    let mut centers = Vec::new();
    for row in 0..rows as i64 {
        for col in 0..columns as i64 {
            let center = um_from_tile(Tile { row, col }, tile_um);
            let center_px =
                SlidePx { x: center.x / mask.slide_um_per_px, y: center.y / mask.slide_um_per_px };
            let fraction = mask.fraction(center_px, tile_um);
            // Areas come from sums of large numbers, so a full tile may miss 1 by a rounding error.
            if fraction > 0.0 && fraction + 1e-6 >= min_fraction {
                centers.push(center);
            }
        }
    }
    Ok(centers)
}

/// What the darkest channel lacks to white, 0..=255; 0 for ink.
fn absorption(pixel: &[u8]) -> u8 {
    let brightest = pixel.iter().copied().max().unwrap_or(0);
    let darkest = pixel.iter().copied().min().unwrap_or(0);
    if brightest < DARK { 0 } else { 255 - darkest }
}

/// The absorption half-way from the glass's median to Otsu's threshold; `None` where there is only one class.
fn tissue_threshold(absorptions: &[u8]) -> Option<f64> {
    let mut histogram = [0u64; 256];
    for &value in absorptions {
        histogram[usize::from(value)] += 1;
    }
    let otsu = otsu_threshold(&histogram)?;
    let (glass, tissue): (Vec<_>, Vec<_>) = histogram
        .iter()
        .enumerate()
        .map(|(value, &n)| (value as f64, n as f64))
        .partition(|&(value, _)| value <= otsu);
    let total = |class: &[(f64, f64)]| class.iter().map(|(_, n)| n).sum::<f64>();
    let mean = |class: &[(f64, f64)]| class.iter().map(|(value, n)| value * n).sum::<f64>() / total(class);
    if mean(&tissue) - mean(&glass) < MIN_CONTRAST {
        return None;
    }
    let half = total(&glass) / 2.0;
    let mut below = 0.0;
    let median = glass.iter().find(|(_, n)| {
        below += n;
        below >= half
    })?;
    Some((median.0 + otsu) / 2.0)
}

/// The value that splits the histogram with the largest variance between the classes (Otsu 1979), the middle of the
/// plateau where several do; `None` for a histogram of one value.
fn otsu_threshold(histogram: &[u64; 256]) -> Option<f64> {
    let total: f64 = histogram.iter().map(|&n| n as f64).sum();
    let total_sum: f64 = histogram.iter().enumerate().map(|(value, &n)| value as f64 * n as f64).sum();
    let (mut below, mut below_sum) = (0.0, 0.0);
    let (mut best, mut plateau) = (0.0, None::<(f64, f64)>);
    for (value, &n) in histogram.iter().enumerate() {
        let value = value as f64;
        below += n as f64;
        below_sum += value * n as f64;
        let above = total - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let gap = below_sum / below - (total_sum - below_sum) / above;
        let between = below * above * gap * gap;
        // Equal to the best but for rounding: the plateau goes on.
        if between > best * (1.0 + 1e-12) {
            best = between;
            plateau = Some((value, value));
        } else if between >= best * (1.0 - 1e-12)
            && let Some((_, last)) = &mut plateau
        {
            *last = value;
        }
    }
    plateau.map(|(first, last)| (first + last) / 2.0)
}

/// Flips every 4-connected piece of `value` that has fewer than `min_cells` cells.
fn flip_small_pieces(cells: &mut [bool], width: usize, value: bool, min_cells: usize) {
    let mut seen = vec![false; cells.len()];
    let mut piece = Vec::new();
    for start in 0..cells.len() {
        if seen[start] || cells[start] != value {
            continue;
        }
        piece.clear();
        piece.push(start);
        seen[start] = true;
        let mut next = 0;
        while let Some(&cell) = piece.get(next) {
            next += 1;
            let column = cell % width;
            let neighbors = [
                (column > 0).then(|| cell - 1),
                (column + 1 < width).then_some(cell + 1),
                cell.checked_sub(width),
                (cell + width < cells.len()).then_some(cell + width),
            ];
            for neighbor in neighbors.into_iter().flatten() {
                if !seen[neighbor] && cells[neighbor] == value {
                    seen[neighbor] = true;
                    piece.push(neighbor);
                }
            }
        }
        if piece.len() < min_cells {
            for &cell in &piece {
                cells[cell] = !value;
            }
        }
    }
}

fn summed_area(cells: &[bool], width: usize, height: usize) -> Vec<u32> {
    let mut sums = vec![0u32; (width + 1) * (height + 1)];
    for row in 0..height {
        let mut line = 0;
        for column in 0..width {
            line += u32::from(cells[row * width + column]);
            sums[(row + 1) * (width + 1) + column + 1] = sums[row * (width + 1) + column + 1] + line;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLASS: [u8; 3] = [244, 242, 243];
    const EOSIN: [u8; 3] = [222, 160, 190];
    const NUCLEUS: [u8; 3] = [90, 60, 140];

    fn picture(width: u32, height: u32, um_per_px: f64, pixel: impl Fn(u32, u32) -> [u8; 3]) -> SlideImage {
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                rgb.extend(pixel(x, y));
            }
        }
        SlideImage::new(width, height, rgb, um_per_px).unwrap()
    }

    /// A disc of tissue of 40 px around (100, 100), a speck, and a pinhole in the disc, at 4 µm per px.
    fn disc() -> SlideImage {
        picture(200, 200, 4.0, |x, y| {
            let far = f64::from((x as i32 - 100).pow(2) + (y as i32 - 100).pow(2)).sqrt();
            let pinhole = (98..102).contains(&x) && (98..102).contains(&y);
            let speck = (10..14).contains(&x) && (10..14).contains(&y);
            match () {
                () if pinhole => GLASS,
                () if far < 40.0 && (x + y) % 3 == 0 => NUCLEUS,
                () if far < 40.0 || speck => EOSIN,
                () => GLASS,
            }
        })
    }

    fn at(x: f64, y: f64) -> SlidePx {
        SlidePx { x, y }
    }

    #[test]
    fn tissue_is_told_from_glass() {
        let mask = TissueMask::find(&disc(), &TissueMaskConfig::default()).unwrap();
        assert!(mask.contains(at(80.0, 100.0)));
        assert!(mask.contains(at(100.0, 137.0)));
        assert!(!mask.contains(at(100.0, 145.0)));
        assert!(!mask.contains(at(190.0, 20.0)));
        assert!(!mask.contains(at(-5.0, 100.0)) && !mask.contains(at(100.0, 1e9)));
        assert!(!mask.contains(at(f64::NAN, 100.0)));
        let disc_area = std::f64::consts::PI * 40.0 * 40.0 / (200.0 * 200.0);
        assert!((mask.tissue_fraction() - disc_area).abs() < 0.01, "{}", mask.tissue_fraction());
    }

    #[test]
    fn specks_go_and_pinholes_are_filled() {
        let mask = TissueMask::find(&disc(), &TissueMaskConfig::default()).unwrap();
        assert!(!mask.contains(at(12.0, 12.0)), "a speck of 16 x 16 µm");
        assert!(mask.contains(at(100.0, 100.0)), "a pinhole of 16 x 16 µm");
        let keep = TissueMaskConfig { min_piece_um2: 0.0, min_hole_um2: 0.0, ..TissueMaskConfig::default() };
        let mask = TissueMask::find(&disc(), &keep).unwrap();
        assert!(mask.contains(at(12.0, 12.0)));
        assert!(!mask.contains(at(100.0, 100.0)));
    }

    #[test]
    fn fractions_are_areas() {
        let half = picture(100, 100, 8.0, |x, _| if x < 50 { EOSIN } else { GLASS });
        let mask = TissueMask::find(&half, &TissueMaskConfig::default()).unwrap();
        assert_eq!(mask.fraction(at(20.0, 50.0), 80.0), 1.0);
        assert_eq!(mask.fraction(at(80.0, 50.0), 80.0), 0.0);
        assert!((mask.fraction(at(50.0, 50.0), 80.0) - 0.5).abs() < 1e-9);
        // A quarter of a cell of tissue in a square of one cell.
        assert!((mask.fraction(at(50.25, 50.5), 8.0) - 0.25).abs() < 1e-9);
        // Half of the square lies off the slide.
        assert!((mask.fraction(at(0.0, 50.0), 80.0) - 0.5).abs() < 1e-9);
        assert_eq!(mask.fraction(at(20.0, 50.0), f64::NAN), 0.0);
    }

    #[test]
    fn an_empty_slide_has_no_tissue_and_a_full_one_is_all_tissue() {
        let noise = |x: u32, y: u32| (x.wrapping_mul(31) ^ y.wrapping_mul(17)) as u8 % 5;
        let empty = picture(80, 80, 8.0, |x, y| [240 + noise(x, y), 241, 240 + noise(y, x)]);
        let mask = TissueMask::find(&empty, &TissueMaskConfig::default()).unwrap();
        assert_eq!(mask.tissue_fraction(), 0.0);
        let full = picture(80, 80, 8.0, |x, y| if (x / 8 + y / 8) % 2 == 0 { EOSIN } else { NUCLEUS });
        let mask = TissueMask::find(&full, &TissueMaskConfig::default()).unwrap();
        assert_eq!(mask.tissue_fraction(), 1.0);
        let black = picture(80, 80, 8.0, |_, _| [3, 0, 9]);
        let mask = TissueMask::find(&black, &TissueMaskConfig::default()).unwrap();
        assert_eq!(mask.tissue_fraction(), 0.0);
    }

    #[test]
    fn the_grid_covers_the_tissue_in_row_order() {
        let half = picture(100, 60, 8.0, |x, y| if x < 50 && y >= 20 { EOSIN } else { GLASS });
        let mask = TissueMask::find(&half, &TissueMaskConfig::default()).unwrap();
        let grid = tissue_grid(&mask, 80.0, 0.5).unwrap();
        let expected: Vec<SlideUm> =
            (2..6).flat_map(|row| (0..5).map(move |col| um_from_tile(Tile { row, col }, 80.0))).collect();
        assert_eq!(grid, expected);
        // Tiles of 160 µm: columns 0..2.5, so the third is half covered.
        let columns = |min| {
            let grid = tissue_grid(&mask, 160.0, min).unwrap();
            grid.iter().map(|center| (center.x / 160.0) as usize).max().unwrap() + 1
        };
        assert_eq!((columns(0.4), columns(0.6)), (3, 2));
        for tile_um in [0.0, -1.0, f64::NAN, 1e-9] {
            assert!(tissue_grid(&mask, tile_um, 0.5).is_err());
        }
    }

    #[test]
    fn otsu_splits_two_classes_in_the_middle() {
        let mut histogram = [0; 256];
        histogram[10] = 50;
        assert_eq!(otsu_threshold(&histogram), None);
        histogram[110] = 30;
        assert_eq!(otsu_threshold(&histogram), Some(59.5));
    }

    #[test]
    fn pale_stroma_on_tinted_glass_is_tissue() {
        // Pink haze on the right, pale stroma around dark nuclei in a square: measured on real sections.
        let slide = picture(120, 120, 8.0, |x, y| match () {
            () if (40..80).contains(&x) && (40..80).contains(&y) && (x + y) % 3 == 0 => NUCLEUS,
            () if (40..80).contains(&x) && (40..80).contains(&y) => [206, 176, 205],
            () if x > 90 => [236, 208, 226],
            () => [236, 226, 232],
        });
        let mask = TissueMask::find(&slide, &TissueMaskConfig::default()).unwrap();
        assert!((mask.tissue_fraction() - 1.0 / 9.0).abs() < 1e-9, "{}", mask.tissue_fraction());
    }
}
