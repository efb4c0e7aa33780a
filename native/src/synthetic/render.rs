//! Draws a tissue as an H&E image: amounts of haematoxylin and eosin first, colour at the very end.

use image::RgbImage;
use magnet_core::coordinates::SlideUm;
use magnet_core::random::derived_seed;
use rayon::prelude::*;

use super::noise::{Noise, hash2, lerp, smoothstep};
use super::stain::Stain;
use super::tissue::{CellKind, FatCell, Gland, Nucleus, Tissue};

/// Rows drawn at a time: bounds the memory of the drawing and is the unit of parallel work.
const BAND_ROWS: usize = 128;
/// Rows drawn above and below a band for the blur.
const PAD_ROWS: usize = 3;
/// Standard deviation of the optical blur, µm.
const BLUR_UM: f32 = 0.42;
/// Standard deviation of the sensor noise, in levels of 0..255.
const SENSOR_NOISE: f32 = 2.6;
/// Reach of a cell around its nucleus, µm.
const CELL_REACH_UM: f32 = 10.0;

/// Draws the slide at `um_per_px`; the result depends on the tissue, the stain and `slide_seed` alone.
pub fn render(tissue: &Tissue, stain: &Stain, slide_seed: u64, um_per_px: f64) -> RgbImage {
    let side_px = side_px(tissue.side_um, um_per_px);
    let painter = Painter::new(tissue, stain, slide_seed, um_per_px, side_px);
    let mut pixels = vec![0u8; side_px * side_px * 3];
    pixels
        .par_chunks_mut(BAND_ROWS * side_px * 3)
        .enumerate()
        .for_each(|(band, rgb)| painter.paint_band(band * BAND_ROWS, rgb));
    // The buffer has exactly this size, so the constructor cannot refuse it.
    RgbImage::from_raw(side_px as u32, side_px as u32, pixels).unwrap_or_default()
}

/// Side of the image of a slide, in pixels.
pub(super) fn side_px(side_um: f64, um_per_px: f64) -> usize {
    (side_um / um_per_px).round() as usize
}

/// What stays the same over the bands of one slide.
struct Painter<'a> {
    tissue: &'a Tissue,
    stain: &'a Stain,
    um_per_px: f32,
    side_px: usize,
    /// Nuclei whose cell reaches into each band.
    nuclei: Vec<Vec<&'a Nucleus>>,
    glands: Vec<Vec<&'a Gland>>,
    fat_cells: Vec<Vec<&'a FatCell>>,
    edge: Noise,
    fiber: Noise,
    grain: Noise,
    chromatin: Noise,
    sensor_seed: u32,
}

/// The stains of the rows of one band.
struct Band {
    first_row: i64,
    rows: usize,
    cols: usize,
    hematoxylin: Vec<f32>,
    eosin: Vec<f32>,
    /// Distance to the nearest and to the second nearest epithelial or tumour nucleus, µm, up to the cells' reach.
    nearest_um: Vec<f32>,
    second_um: Vec<f32>,
}

impl Band {
    /// The pixels of the box around `(x, y)` that lie on the band: index, and offset from the point in µm.
    fn each_px(
        &mut self,
        center: SlideUm,
        reach_um: f32,
        um_per_px: f32,
        mut visit: impl FnMut(&mut Self, usize, f32, f32),
    ) {
        let (x, y) = (center.x as f32 / um_per_px, center.y as f32 / um_per_px);
        let reach = reach_um / um_per_px;
        let first_col = (x - reach).floor().clamp(0.0, self.cols as f32) as usize;
        let last_col = (x + reach).ceil().clamp(0.0, self.cols as f32) as usize;
        let row_of = |at: f32| (at.floor() as i64 - self.first_row).clamp(0, self.rows as i64) as usize;
        let (first_row, last_row) = (row_of(y - reach), row_of(y + reach + 1.0));
        for row in first_row..last_row {
            let dy = ((row as i64 + self.first_row) as f32 + 0.5 - y) * um_per_px;
            for col in first_col..last_col {
                let dx = (col as f32 + 0.5 - x) * um_per_px;
                visit(self, row * self.cols + col, dx, dy);
            }
        }
    }
}

impl<'a> Painter<'a> {
    fn new(tissue: &'a Tissue, stain: &'a Stain, slide_seed: u64, um_per_px: f64, side_px: usize) -> Self {
        let noise = |name: &str| Noise::new(derived_seed(slide_seed, name, &[]));
        let bands = side_px.div_ceil(BAND_ROWS);
        Self {
            tissue,
            stain,
            um_per_px: um_per_px as f32,
            side_px,
            nuclei: by_band(&tissue.nuclei, bands, um_per_px, |n| (n.center.y, f64::from(CELL_REACH_UM))),
            glands: by_band(&tissue.glands, bands, um_per_px, |g| (g.center.y, g.reach_um() + 3.0)),
            fat_cells: by_band(&tissue.fat_cells, bands, um_per_px, |c| (c.center.y, c.radius_um + 3.0)),
            edge: noise("edge"),
            fiber: noise("fiber"),
            grain: noise("grain"),
            chromatin: noise("chromatin"),
            sensor_seed: derived_seed(slide_seed, "sensor", &[]) as u32,
        }
    }

    fn paint_band(&self, first_row: usize, rgb: &mut [u8]) {
        let (cols, rows) = (self.side_px, rgb.len() / (3 * self.side_px) + 2 * PAD_ROWS);
        let band_index = first_row / BAND_ROWS;
        let mut band = Band {
            first_row: first_row as i64 - PAD_ROWS as i64,
            rows,
            cols,
            hematoxylin: vec![0.0; rows * cols],
            eosin: vec![0.0; rows * cols],
            nearest_um: vec![CELL_REACH_UM; rows * cols],
            second_um: vec![CELL_REACH_UM; rows * cols],
        };
        for nucleus in &self.nuclei[band_index] {
            self.mark_cell(&mut band, nucleus);
        }
        self.paint_ground(&mut band);
        for cell in &self.fat_cells[band_index] {
            self.paint_fat_cell(&mut band, cell);
        }
        for gland in &self.glands[band_index] {
            self.paint_gland(&mut band, gland);
        }
        for nucleus in &self.nuclei[band_index] {
            self.paint_nucleus(&mut band, nucleus);
        }
        let blur = Blur::new(BLUR_UM / self.um_per_px);
        blur.apply(&mut band.hematoxylin, cols);
        blur.apply(&mut band.eosin, cols);
        self.develop(&band, first_row, rgb);
    }

    /// Records how close each pixel is to the nuclei whose cells have visible borders.
    fn mark_cell(&self, band: &mut Band, nucleus: &Nucleus) {
        if !matches!(nucleus.kind, CellKind::Epithelial | CellKind::Tumor) {
            return;
        }
        band.each_px(nucleus.center, CELL_REACH_UM, self.um_per_px, |band, at, dx, dy| {
            let distance = (dx * dx + dy * dy).sqrt();
            if distance < band.nearest_um[at] {
                band.second_um[at] = band.nearest_um[at];
                band.nearest_um[at] = distance;
            } else if distance < band.second_um[at] {
                band.second_um[at] = distance;
            }
        });
    }

    /// Stroma, tumour cytoplasm and bare glass.
    fn paint_ground(&self, band: &mut Band) {
        let fields = &self.tissue.fields;
        for row in 0..band.rows {
            for col in 0..band.cols {
                let at = row * band.cols + col;
                let x = (col as f32 + 0.5) * self.um_per_px;
                let y = ((row as i64 + band.first_row) as f32 + 0.5) * self.um_per_px;
                let point = SlideUm { x: f64::from(x), y: f64::from(y) };
                let tissue_um = fields.tissue_um.at(point);
                if tissue_um < -5.0 {
                    continue;
                }
                let fray = 2.6 * self.edge.at(x / 11.0, y / 11.0);
                let on_tissue = smoothstep(-0.7, 0.9, tissue_um + fray);
                let tumor = smoothstep(-1.2, 1.2, fields.tumor_um.at(point) + 0.8 * fray);
                let grain = self.grain.at(x / 1.7, y / 1.7);
                let (mut hematoxylin, mut eosin) = (0.0, 0.0);
                if tumor < 1.0 {
                    (hematoxylin, eosin) = self.stroma(point, grain);
                }
                if tumor > 0.0 {
                    let border = self.cell_border(band, at);
                    let foam = self.grain.at(x / 3.9 + 60.0, y / 3.9);
                    let cytoplasm_e = 0.45 + 0.08 * grain + 0.07 * foam - 0.19 * border;
                    let cytoplasm_h = 0.19 + 0.05 * grain + 0.05 * foam - 0.09 * border;
                    hematoxylin = lerp(hematoxylin, cytoplasm_h, tumor);
                    eosin = lerp(eosin, cytoplasm_e, tumor);
                }
                band.hematoxylin[at] = hematoxylin * on_tissue;
                band.eosin[at] = eosin * on_tissue;
            }
        }
    }

    /// Wavy collagen with clefts between the bundles.
    fn stroma(&self, point: SlideUm, grain: f32) -> (f32, f32) {
        let (x, y) = (point.x as f32, point.y as f32);
        let across = self.tissue.fields.fiber_across_um.at(point);
        let along = self.tissue.fields.fiber_along_um.at(point);
        let loose = self.edge.at(x / 120.0 + 5.0, y / 120.0);
        let bundle = self.fiber.at(across / 8.5, along / 75.0);
        let fiber = self.fiber.at(across / 2.4 + 31.0, along / 30.0 + 7.0);
        let gap = self.fiber.at(across / 5.0 - 19.0, along / 42.0 + 3.0) + 0.22 * loose + 0.12 * grain;
        let cleft = smoothstep(0.30, 0.58, gap);
        let body = 0.42 + 0.16 * bundle + 0.17 * fiber + 0.11 * grain - 0.11 * loose;
        let eosin = body * (1.0 - 0.9 * cleft);
        let hematoxylin = (0.06 + 0.02 * fiber + 0.03 * grain) * (1.0 - 0.8 * cleft);
        (hematoxylin.max(0.0), eosin.max(0.0))
    }

    /// 1 on the border between two cells, 0 within one.
    fn cell_border(&self, band: &Band, at: usize) -> f32 {
        let between = band.second_um[at] - band.nearest_um[at];
        let reached = smoothstep(0.0, 1.5, CELL_REACH_UM - band.second_um[at]);
        reached * (1.0 - smoothstep(0.25, 1.5, between))
    }

    fn paint_fat_cell(&self, band: &mut Band, cell: &FatCell) {
        let radius = cell.radius_um as f32;
        band.each_px(cell.center, radius + 1.5, self.um_per_px, |band, at, dx, dy| {
            let (x, y) = (cell.center.x as f32 + dx, cell.center.y as f32 + dy);
            let wobble = 1.0 + 0.05 * self.edge.at(x / 21.0, y / 21.0);
            let inside_um = radius - wobble * (dx * dx + dy * dy).sqrt();
            let hole = smoothstep(0.2, 1.1, inside_um);
            let wall = (1.0 - (inside_um - 0.2).abs() / 0.9).max(0.0);
            band.hematoxylin[at] = lerp(band.hematoxylin[at], 0.03 * wall, hole);
            band.eosin[at] = lerp(band.eosin[at], 0.01, hole) + 0.10 * wall;
        });
    }

    /// Epithelium with a basement membrane, a pale apical side and an almost empty lumen.
    fn paint_gland(&self, band: &mut Band, gland: &Gland) {
        band.each_px(gland.center, gland.reach_um() as f32 + 2.0, self.um_per_px, |band, at, dx, dy| {
            let distance = (dx * dx + dy * dy).sqrt();
            let theta = f64::from(dy).atan2(f64::from(dx));
            let outside_um = distance - gland.outer_um(theta) as f32;
            if outside_um > 2.0 {
                return;
            }
            let (x, y) = (gland.center.x as f32 + dx, gland.center.y as f32 + dy);
            let from_lumen_um =
                distance - gland.lumen_um(theta) as f32 + 0.9 * self.edge.at(x / 5.0, y / 5.0);
            let grain = self.grain.at(x / 1.6, y / 1.6);
            let border = self.cell_border(band, at);
            let apical = 1.0 - smoothstep(0.0, 7.0, from_lumen_um);
            let brush = (1.0 - (from_lumen_um - 0.8).abs() / 1.1).max(0.0);
            let mut hematoxylin = 0.15 + 0.04 * grain - 0.06 * border - 0.06 * apical;
            let mut eosin = 0.43 + 0.07 * grain - 0.16 * border - 0.10 * apical + 0.18 * brush;
            let epithelium = smoothstep(-0.4, 0.8, from_lumen_um);
            let secretion = 0.05 * smoothstep(0.1, 0.7, self.edge.at(x / 16.0 + 40.0, y / 16.0));
            hematoxylin *= epithelium;
            eosin = lerp(secretion, eosin, epithelium);
            let cover = 1.0 - smoothstep(-0.8, 0.6, outside_um);
            let membrane = (1.0 - (outside_um - 0.3).abs() / 1.2).max(0.0);
            band.hematoxylin[at] = lerp(band.hematoxylin[at], hematoxylin, cover);
            band.eosin[at] = lerp(band.eosin[at], eosin, cover) + 0.16 * membrane;
        });
    }

    fn paint_nucleus(&self, band: &mut Band, nucleus: &Nucleus) {
        let look = NucleusLook::of(nucleus);
        let (sin, cos) = nucleus.angle.sin_cos();
        let (major, minor) = (nucleus.semi_major_um, nucleus.semi_minor_um);
        let offset = (nucleus.variant & 0xFFFF) as f32 * 0.37;
        // The nucleolus sits off the centre, differently in each nucleus.
        let spot = ((nucleus.variant >> 8) as f32 * 0.11).sin_cos();
        let spot = (spot.0 * 0.35 * minor, spot.1 * 0.35 * minor);
        band.each_px(nucleus.center, major * 1.3 + 1.0, self.um_per_px, |band, at, dx, dy| {
            let (u, v) = ((dx * cos + dy * sin) / major, (dy * cos - dx * sin) / minor);
            let radius = (u * u + v * v).sqrt();
            if radius > 1.45 {
                return;
            }
            let wave = self.chromatin.at(dx / (0.9 * minor) + offset, dy / (0.9 * minor) - offset);
            let inside_um = (1.0 + look.irregularity * wave - radius) * minor;
            let cover = smoothstep(-0.5, 0.6, inside_um);
            if cover <= 0.0 {
                return;
            }
            let chromatin = self.chromatin.at(dx / 1.9 + offset, dy / 1.9 + 3.0 * offset)
                + 0.8 * self.chromatin.at(dx / 0.85 - offset, dy / 0.85 + offset);
            let rim = (1.0 - (inside_um - 0.4).abs() / 0.9).max(0.0);
            let to_spot = (dx - spot.0).hypot(dy - spot.1);
            let nucleolus = 1.0 - smoothstep(0.5, 1.1, to_spot);
            let dark = look.darkness
                * (1.0 + look.texture * chromatin + look.rim * rim + look.nucleolus * nucleolus);
            band.hematoxylin[at] = lerp(band.hematoxylin[at], dark.max(0.2), cover);
            band.eosin[at] = lerp(band.eosin[at], 0.22 + 0.25 * look.nucleolus * nucleolus, 0.8 * cover);
        });
    }

    /// Stains to colour, with the sensor's noise.
    fn develop(&self, band: &Band, first_row: usize, rgb: &mut [u8]) {
        let scale = 1.0 / self.side_px as f32;
        for (row, line) in rgb.chunks_exact_mut(3 * band.cols).enumerate() {
            let y = (first_row + row) as f32 * scale;
            for (col, pixel) in line.chunks_exact_mut(3).enumerate() {
                let at = (row + PAD_ROWS) * band.cols + col;
                let color = self.stain.rgb(band.hematoxylin[at], band.eosin[at], col as f32 * scale, y);
                let hash = hash2(col as i32, (first_row + row) as i32, self.sensor_seed);
                for (channel, (value, out)) in color.iter().zip(pixel).enumerate() {
                    let bits = hash.rotate_left(11 * channel as u32);
                    // The sum of two bytes is a triangle of standard deviation 104.5.
                    let triangle = ((bits & 0xFF) + ((bits >> 8) & 0xFF)) as f32 - 255.0;
                    *out = (value + triangle * (SENSOR_NOISE / 104.5)).round().clamp(0.0, 255.0) as u8;
                }
            }
        }
    }
}

/// The stain of one nucleus.
struct NucleusLook {
    /// Haematoxylin of its body.
    darkness: f32,
    /// Relative depth of the chromatin's texture.
    texture: f32,
    /// Relative darkening of its edge.
    rim: f32,
    /// Relative darkening of its nucleolus.
    nucleolus: f32,
    /// How far its outline leaves the ellipse.
    irregularity: f32,
}

impl NucleusLook {
    fn of(nucleus: &Nucleus) -> Self {
        let vary = (nucleus.variant >> 16) as f32 / 65535.0 - 0.5;
        match nucleus.kind {
            CellKind::Epithelial => Self {
                darkness: 0.74 + 0.20 * vary,
                texture: 0.36,
                rim: 0.18,
                nucleolus: 0.25,
                irregularity: 0.05,
            },
            CellKind::Stromal => Self {
                darkness: 0.80 + 0.40 * vary,
                texture: 0.28,
                rim: 0.05,
                nucleolus: 0.0,
                irregularity: 0.12,
            },
            CellKind::Tumor => Self {
                darkness: 0.82 + 0.50 * vary,
                texture: 0.48,
                rim: 0.16,
                nucleolus: 0.50,
                irregularity: 0.16,
            },
            CellKind::Immune => Self {
                darkness: 1.22 + 0.30 * vary,
                texture: 0.24,
                rim: 0.0,
                nucleolus: 0.0,
                irregularity: 0.06,
            },
        }
    }
}

/// Sorts things into the bands that they touch; `extent` gives the centre's y and the reach, in µm.
fn by_band<T>(things: &[T], bands: usize, um_per_px: f64, extent: impl Fn(&T) -> (f64, f64)) -> Vec<Vec<&T>> {
    let mut sorted = vec![Vec::new(); bands];
    let band_of = |y_um: f64, pad: f64| (y_um / um_per_px + pad) / BAND_ROWS as f64;
    for thing in things {
        let (y, reach) = extent(thing);
        let pad = PAD_ROWS as f64 + 1.0;
        let first = band_of(y - reach, -pad).floor().max(0.0) as usize;
        let last = band_of(y + reach, pad).floor().max(0.0) as usize;
        for band in sorted.iter_mut().take(last + 1).skip(first) {
            band.push(thing);
        }
    }
    sorted
}

/// A Gaussian blur over a few pixels.
struct Blur {
    /// Weights of the centre and of the distances 1, 2 and 3.
    weights: [f32; PAD_ROWS + 1],
}

impl Blur {
    fn new(sigma_px: f32) -> Self {
        let raw: [f32; PAD_ROWS + 1] =
            std::array::from_fn(|distance| (-0.5 * (distance as f32 / sigma_px.max(0.05)).powi(2)).exp());
        let total = raw[0] + 2.0 * raw[1..].iter().sum::<f32>();
        Self { weights: raw.map(|weight| weight / total) }
    }

    /// Blurs rows of `cols` values; the outermost rows and columns repeat.
    fn apply(&self, values: &mut [f32], cols: usize) {
        let rows = values.len() / cols;
        let mut line = vec![0.0f32; cols + 2 * PAD_ROWS];
        for row in values.chunks_exact_mut(cols) {
            line[PAD_ROWS..PAD_ROWS + cols].copy_from_slice(row);
            line[..PAD_ROWS].fill(row[0]);
            line[PAD_ROWS + cols..].fill(row[cols - 1]);
            for (col, out) in row.iter_mut().enumerate() {
                let window = &line[col..col + 2 * PAD_ROWS + 1];
                *out = self.weights[0] * window[PAD_ROWS]
                    + (1..=PAD_ROWS)
                        .map(|d| self.weights[d] * (window[PAD_ROWS - d] + window[PAD_ROWS + d]))
                        .sum::<f32>();
            }
        }
        let source = values.to_vec();
        let row_of = |row: i64| {
            let row = row.clamp(0, rows as i64 - 1) as usize;
            &source[row * cols..(row + 1) * cols]
        };
        for (row, out) in values.chunks_exact_mut(cols).enumerate() {
            let row = row as i64;
            for (out, &center) in out.iter_mut().zip(row_of(row)) {
                *out = self.weights[0] * center;
            }
            for distance in 1..=PAD_ROWS as i64 {
                let weight = self.weights[distance as usize];
                let (above, below) = (row_of(row - distance), row_of(row + distance));
                for ((out, &a), &b) in out.iter_mut().zip(above).zip(below) {
                    *out += weight * (a + b);
                }
            }
        }
    }
}
