//! The tissue on a continuous plane: glands, fat cells and nuclei, from a seed and in µm.

use std::f64::consts::TAU;

use magnet_core::coordinates::SlideUm;
use magnet_core::random::stream;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::fields::RegionFields;

/// What a nucleus belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// Epithelium of glands: oval nuclei in a ring around the lumen.
    Epithelial,
    /// Fibroblasts and fat cells: thin nuclei along the fibres.
    Stromal,
    /// Tumour: large, irregular nuclei in dense nests.
    Tumor,
    /// Lymphocytes: small, round, dark nuclei.
    Immune,
}

impl CellKind {
    /// All kinds, in the order of every per-kind array.
    pub const ALL: [CellKind; 4] =
        [CellKind::Epithelial, CellKind::Stromal, CellKind::Tumor, CellKind::Immune];

    /// Transcripts of one cell relative to an epithelial cell.
    pub(super) fn content(self) -> f32 {
        match self {
            CellKind::Epithelial => 1.0,
            CellKind::Stromal => 0.7,
            CellKind::Tumor => 1.5,
            CellKind::Immune => 0.6,
        }
    }
}

/// One nucleus: an ellipse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nucleus {
    /// Centre.
    pub center: SlideUm,
    /// What it belongs to.
    pub kind: CellKind,
    /// Half of the long axis, µm.
    pub semi_major_um: f32,
    /// Half of the short axis, µm.
    pub semi_minor_um: f32,
    /// Direction of the long axis, radians from the x axis.
    pub angle: f32,
    /// Individual variation of outline, stain and chromatin.
    pub variant: u32,
}

impl Nucleus {
    /// Eccentricity of the ellipse: 0 for a circle, towards 1 for a line.
    pub fn eccentricity(&self) -> f32 {
        (1.0 - (self.semi_minor_um / self.semi_major_um).powi(2)).max(0.0).sqrt()
    }
}

/// A gland: epithelium between a wavy outer edge and the lumen.
#[derive(Debug, Clone)]
pub struct Gland {
    /// Centre.
    pub center: SlideUm,
    /// Mean outer radius, µm.
    pub radius_um: f64,
    /// Thickness of the epithelium, µm.
    pub epithelium_um: f64,
    /// Strength and phase of the outline's waves (2, 3 and 5 per turn).
    waves: [(f64, f64); 3],
}

impl Gland {
    /// Outer radius in direction `theta`, µm.
    pub(super) fn outer_um(&self, theta: f64) -> f64 {
        let [a, b, c] = self.waves;
        let wave = a.0 * (2.0 * theta + a.1).cos()
            + b.0 * (3.0 * theta + b.1).cos()
            + c.0 * (5.0 * theta + c.1).cos();
        self.radius_um * (1.0 + wave)
    }

    /// Radius of the lumen in direction `theta`, µm.
    pub(super) fn lumen_um(&self, theta: f64) -> f64 {
        (self.outer_um(theta) - self.epithelium_um).max(3.0)
    }

    /// Distance from the centre and direction of a point.
    pub(super) fn polar(&self, point: SlideUm) -> (f64, f64) {
        let (dx, dy) = (point.x - self.center.x, point.y - self.center.y);
        (dx.hypot(dy), dy.atan2(dx))
    }

    /// A radius that no part of the gland exceeds, µm.
    pub(super) fn reach_um(&self) -> f64 {
        self.radius_um * (1.0 + self.waves.iter().map(|wave| wave.0).sum::<f64>())
    }
}

/// A fat cell: an empty disc with a thin wall.
#[derive(Debug, Clone, Copy)]
pub struct FatCell {
    /// Centre.
    pub center: SlideUm,
    /// Radius, µm.
    pub radius_um: f64,
}

/// The layout of one slide.
#[derive(Debug, Clone)]
pub struct Tissue {
    /// Side of the square slide, µm.
    pub side_um: f64,
    /// Glands, none overlapping.
    pub glands: Vec<Gland>,
    /// Fat cells.
    pub fat_cells: Vec<FatCell>,
    /// All nuclei.
    pub nuclei: Vec<Nucleus>,
    pub(super) fields: RegionFields,
}

impl Tissue {
    /// Grows the tissue of one slide.
    pub fn grow(side_um: f64, slide_seed: u64) -> Self {
        let mut rng = stream(slide_seed, "tissue", &[]);
        let tumor_share = rng.random_range(0.30..0.45);
        let fields = RegionFields::new(side_um, slide_seed, tumor_share);
        let glands = place_glands(side_um, &fields, &mut rng);
        let fat_cells = place_fat_cells(side_um, &fields, &glands, &mut rng);
        let mut tissue = Self { side_um, glands, fat_cells, nuclei: Vec::new(), fields };
        let mut nuclei = Spaced::new(side_um);
        tissue.add_gland_nuclei(&mut nuclei, &mut rng);
        tissue.add_fat_nuclei(&mut nuclei, &mut rng);
        let free = tissue.free_space();
        tissue.add_immune_aggregates(&mut nuclei, &free, &mut rng);
        tissue.add_tumor_nuclei(&mut nuclei, &mut rng);
        tissue.add_stroma_nuclei(&mut nuclei, &free, &mut rng);
        tissue.nuclei = nuclei.nuclei;
        tissue
    }

    /// Whether the point lies on tissue (holes of the tissue count as tissue).
    pub fn is_tissue(&self, point: SlideUm) -> bool {
        self.fields.tissue_um.at(point) > 0.0
    }

    /// Whether the point lies in a lumen or in a fat cell, where the slide is empty.
    pub fn is_hole(&self, point: SlideUm) -> bool {
        self.fat_cells.iter().any(|cell| distance_um(cell.center, point) < cell.radius_um)
            || self.glands.iter().any(|gland| {
                let (distance, theta) = gland.polar(point);
                distance < gland.lumen_um(theta)
            })
    }

    /// Points that no gland and no fat cell covers.
    fn free_space(&self) -> FreeSpace {
        let mut free = FreeSpace::new(self.side_um);
        for gland in &self.glands {
            free.cover(gland.center, gland.reach_um(), |point| {
                let (distance, theta) = gland.polar(point);
                distance < gland.outer_um(theta) + 2.0
            });
        }
        for cell in &self.fat_cells {
            free.cover(cell.center, cell.radius_um, |point| distance_um(point, cell.center) < cell.radius_um);
        }
        free
    }

    fn add_gland_nuclei(&self, nuclei: &mut Spaced, rng: &mut impl Rng) {
        for gland in &self.glands {
            let mut theta = rng.random_range(0.0..TAU);
            let end = theta + TAU;
            while theta < end {
                let (outer, lumen) = (gland.outer_um(theta), gland.lumen_um(theta));
                let depth = rng.random_range(0.50..0.72);
                let radius = lumen + (outer - lumen) * depth;
                let center = SlideUm {
                    x: gland.center.x + radius * theta.cos(),
                    y: gland.center.y + radius * theta.sin(),
                };
                let nucleus = Nucleus {
                    center,
                    kind: CellKind::Epithelial,
                    semi_major_um: rng.random_range(3.9..5.2),
                    semi_minor_um: rng.random_range(2.5..3.3),
                    angle: theta as f32 + rng.random_range(-0.25..0.25),
                    variant: rng.random(),
                };
                nuclei.push_if_apart(nucleus, 4.6);
                theta += rng.random_range(5.6..7.6) / radius;
            }
        }
    }

    fn add_fat_nuclei(&self, nuclei: &mut Spaced, rng: &mut impl Rng) {
        for cell in &self.fat_cells {
            if !rng.random_bool(0.45) {
                continue;
            }
            let theta = rng.random_range(0.0..TAU);
            let center = SlideUm {
                x: cell.center.x + cell.radius_um * theta.cos(),
                y: cell.center.y + cell.radius_um * theta.sin(),
            };
            let nucleus = Nucleus {
                center,
                kind: CellKind::Stromal,
                semi_major_um: rng.random_range(3.5..5.0),
                semi_minor_um: rng.random_range(1.1..1.6),
                angle: (theta + TAU / 4.0) as f32,
                variant: rng.random(),
            };
            nuclei.push_if_apart(nucleus, 6.0);
        }
    }

    /// Dense round crowds of lymphocytes in the stroma, mostly close to tumour.
    fn add_immune_aggregates(&self, nuclei: &mut Spaced, free: &FreeSpace, rng: &mut impl Rng) {
        let wanted = (self.side_um * self.side_um / 1e6 * 9.0).round().max(1.0) as usize;
        let mut placed = 0;
        for _ in 0..wanted * 40 {
            if placed == wanted {
                break;
            }
            let center = random_point(self.side_um, rng);
            let tumor = self.fields.tumor_um.at(center);
            let near_tumor = (-60.0..-8.0).contains(&tumor);
            let stroma = self.fields.tissue_um.at(center) > 25.0 && tumor < -8.0 && free.is_free(center);
            if !stroma || !(near_tumor || rng.random_bool(0.25)) {
                continue;
            }
            placed += 1;
            let radius = rng.random_range(22.0..58.0);
            for point in jittered_points(center, radius, 6.7, rng) {
                let edge = distance_um(point, center) / radius;
                let keep = 0.97 - 0.75 * edge * edge;
                if rng.random_bool(keep.clamp(0.0, 1.0)) && self.is_stroma(point, free) {
                    let nucleus = lymphocyte(point, rng);
                    nuclei.push_if_apart(nucleus, 5.8);
                }
            }
        }
    }

    fn add_tumor_nuclei(&self, nuclei: &mut Spaced, rng: &mut impl Rng) {
        let middle = SlideUm { x: self.side_um / 2.0, y: self.side_um / 2.0 };
        for point in jittered_points(middle, self.side_um, 10.4, rng) {
            let crowding = f64::from(self.fields.crowding.at(point));
            if self.fields.tumor_um.at(point) < 3.0 || !rng.random_bool(0.55 + 0.43 * crowding) {
                continue;
            }
            let size = rng.random_range(4.0f32..6.1);
            let stretch = rng.random_range(1.0f32..1.5).sqrt();
            let nucleus = Nucleus {
                center: point,
                kind: CellKind::Tumor,
                semi_major_um: size * stretch,
                semi_minor_um: size / stretch,
                angle: rng.random_range(0.0..std::f32::consts::TAU),
                variant: rng.random(),
            };
            nuclei.push_if_apart(nucleus, 7.6);
        }
    }

    /// Fibroblasts, whose number follows the crowding, and scattered lymphocytes.
    fn add_stroma_nuclei(&self, nuclei: &mut Spaced, free: &FreeSpace, rng: &mut impl Rng) {
        let middle = SlideUm { x: self.side_um / 2.0, y: self.side_um / 2.0 };
        const PITCH_UM: f64 = 13.0;
        for point in jittered_points(middle, self.side_um, PITCH_UM, rng) {
            if !self.is_stroma(point, free) {
                continue;
            }
            let crowding = f64::from(self.fields.crowding.at(point));
            let infiltration = f64::from(self.fields.infiltration.at(point));
            let draw = rng.random_range(0.0..1.0);
            let fibroblasts = 0.06 + 0.70 * crowding;
            if draw < fibroblasts {
                let nucleus = Nucleus {
                    center: point,
                    kind: CellKind::Stromal,
                    semi_major_um: rng.random_range(4.5..8.0),
                    semi_minor_um: rng.random_range(1.2..2.1),
                    angle: self.fields.fiber_angle(point) + rng.random_range(-0.3..0.3),
                    variant: rng.random(),
                };
                nuclei.push_if_apart(nucleus, 7.0);
            } else if draw < fibroblasts + 0.02 + 0.16 * infiltration {
                let nucleus = lymphocyte(point, rng);
                nuclei.push_if_apart(nucleus, 6.0);
            }
        }
    }

    fn is_stroma(&self, point: SlideUm, free: &FreeSpace) -> bool {
        self.fields.tissue_um.at(point) > 3.0 && self.fields.tumor_um.at(point) < -1.0 && free.is_free(point)
    }
}

fn lymphocyte(center: SlideUm, rng: &mut impl Rng) -> Nucleus {
    let size = rng.random_range(2.8f32..3.6);
    Nucleus {
        center,
        kind: CellKind::Immune,
        semi_major_um: size * rng.random_range(1.0..1.15),
        semi_minor_um: size,
        angle: rng.random_range(0.0..std::f32::consts::TAU),
        variant: rng.random(),
    }
}

fn place_glands(side_um: f64, fields: &RegionFields, rng: &mut impl Rng) -> Vec<Gland> {
    let attempts = (side_um * side_um / 1e6 * 2500.0) as usize;
    let mut glands: Vec<Gland> = Vec::new();
    for attempt in 0..attempts {
        let center = random_point(side_um, rng);
        let shrink = 1.0 - 0.4 * attempt as f64 / attempts as f64;
        let radius_um = rng.random_range(32.0..52.0) * shrink;
        let waves =
            [0.13, 0.07, 0.03].map(|most| (rng.random_range(0.2..1.0) * most, rng.random_range(0.0..TAU)));
        let gland = Gland { center, radius_um, epithelium_um: rng.random_range(13.0..18.0), waves };
        let reach = gland.reach_um();
        let fits = f64::from(fields.gland_um.at(center)) > 0.35 * reach
            && f64::from(fields.tissue_um.at(center)) > reach + 8.0
            && glands.iter().all(|other| distance_um(other.center, center) > other.reach_um() + reach + 5.0);
        if fits {
            glands.push(gland);
        }
    }
    glands
}

fn place_fat_cells(
    side_um: f64,
    fields: &RegionFields,
    glands: &[Gland],
    rng: &mut impl Rng,
) -> Vec<FatCell> {
    let attempts = (side_um * side_um / 1e6 * 6000.0) as usize;
    let mut cells: Vec<FatCell> = Vec::new();
    for attempt in 0..attempts {
        let center = random_point(side_um, rng);
        // Large cells first, then small ones into the gaps.
        let shrink = 1.0 - 0.45 * attempt as f64 / attempts as f64;
        let radius_um = rng.random_range(26.0..36.0) * shrink;
        let fits = f64::from(fields.fat_um.at(center)) > 0.4 * radius_um
            && glands
                .iter()
                .all(|gland| distance_um(gland.center, center) > gland.reach_um() + radius_um + 3.0)
            && f64::from(fields.tissue_um.at(center)) > radius_um + 4.0
            && cells
                .iter()
                .all(|other| distance_um(other.center, center) > other.radius_um + radius_um - 1.5);
        if fits {
            cells.push(FatCell { center, radius_um });
        }
    }
    cells
}

pub(super) fn distance_um(a: SlideUm, b: SlideUm) -> f64 {
    (a.x - b.x).hypot(a.y - b.y)
}

fn random_point(side_um: f64, rng: &mut impl Rng) -> SlideUm {
    SlideUm { x: rng.random_range(0.0..side_um), y: rng.random_range(0.0..side_um) }
}

/// Points of a hexagonal lattice of pitch `pitch_um`, each moved at random, within `radius_um` in x and y of `center`.
fn jittered_points(center: SlideUm, radius_um: f64, pitch_um: f64, rng: &mut impl Rng) -> Vec<SlideUm> {
    let row_um = pitch_um * 0.75f64.sqrt();
    let rows = (radius_um / row_um).ceil() as i64;
    let cols = (radius_um / pitch_um).ceil() as i64;
    let mut points = Vec::with_capacity(((2 * rows + 1) * (2 * cols + 1)).max(0) as usize);
    for row in -rows..=rows {
        let shift = if row.rem_euclid(2) == 1 { 0.5 } else { 0.0 };
        for col in -cols..=cols {
            let jitter_x = rng.random_range(-0.33..0.33);
            let jitter_y = rng.random_range(-0.33..0.33);
            points.push(SlideUm {
                x: center.x + (col as f64 + shift + jitter_x) * pitch_um,
                y: center.y + row as f64 * row_um + jitter_y * pitch_um,
            });
        }
    }
    points
}

/// Nuclei with a bucket grid, so that none lies too close to another or off the slide.
struct Spaced {
    side_um: f64,
    cols: usize,
    buckets: Vec<Vec<u32>>,
    nuclei: Vec<Nucleus>,
}

/// Side of a bucket, µm; no wanted distance exceeds it.
const BUCKET_UM: f64 = 10.0;

impl Spaced {
    fn new(side_um: f64) -> Self {
        let cols = (side_um / BUCKET_UM).ceil() as usize + 1;
        Self { side_um, cols, buckets: vec![Vec::new(); cols * cols], nuclei: Vec::new() }
    }

    fn push_if_apart(&mut self, nucleus: Nucleus, apart_um: f64) {
        let point = nucleus.center;
        let on_slide = (0.0..self.side_um).contains(&point.x) && (0.0..self.side_um).contains(&point.y);
        if !on_slide {
            return;
        }
        let (col, row) = ((point.x / BUCKET_UM) as usize, (point.y / BUCKET_UM) as usize);
        let near = |at: usize| at.saturating_sub(1)..(at + 2).min(self.cols);
        let crowded = near(row).any(|row| {
            near(col).any(|col| {
                self.buckets[row * self.cols + col]
                    .iter()
                    .any(|&other| distance_um(self.nuclei[other as usize].center, point) < apart_um)
            })
        });
        if !crowded {
            self.buckets[row * self.cols + col].push(self.nuclei.len() as u32);
            self.nuclei.push(nucleus);
        }
    }
}

/// A raster of what glands and fat cells leave free.
struct FreeSpace {
    cols: usize,
    covered: Vec<bool>,
}

/// Side of a cell of the raster, µm.
const FREE_UM: f64 = 2.0;

impl FreeSpace {
    fn new(side_um: f64) -> Self {
        let cols = (side_um / FREE_UM).ceil() as usize + 1;
        Self { cols, covered: vec![false; cols * cols] }
    }

    fn cover(&mut self, center: SlideUm, reach_um: f64, inside: impl Fn(SlideUm) -> bool) {
        let last = self.cols as f64 - 1.0;
        let span = |at: f64| {
            let low = ((at - reach_um - 4.0) / FREE_UM).floor().clamp(0.0, last) as usize;
            let high = ((at + reach_um + 4.0) / FREE_UM).ceil().clamp(0.0, last) as usize;
            low..=high
        };
        for row in span(center.y) {
            for col in span(center.x) {
                let point = SlideUm { x: (col as f64 + 0.5) * FREE_UM, y: (row as f64 + 0.5) * FREE_UM };
                self.covered[row * self.cols + col] |= inside(point);
            }
        }
    }

    fn is_free(&self, point: SlideUm) -> bool {
        let index = |at: f64| (at / FREE_UM).floor().clamp(0.0, self.cols as f64 - 1.0) as usize;
        !self.covered[index(point.y) * self.cols + index(point.x)]
    }
}
