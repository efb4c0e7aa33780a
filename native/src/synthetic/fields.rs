//! Smooth region fields: where the tissue ends, where tumour, fat and glands lie, how fibres run.

use magnet_core::coordinates::SlideUm;
use magnet_core::random::derived_seed;

use super::noise::Noise;

/// Distance between the nodes of a field, µm.
const PITCH_UM: f64 = 4.0;

/// A scalar on a square grid of nodes from the slide's top left corner, bilinear in between.
#[derive(Debug, Clone)]
pub(super) struct Field {
    cols: usize,
    values: Vec<f32>,
}

impl Field {
    fn from_fn(side_um: f64, mut value: impl FnMut(f32, f32) -> f32) -> Self {
        let cols = (side_um / PITCH_UM).ceil() as usize + 2;
        let mut values = Vec::with_capacity(cols * cols);
        for row in 0..cols {
            for col in 0..cols {
                values.push(value((col as f64 * PITCH_UM) as f32, (row as f64 * PITCH_UM) as f32));
            }
        }
        Self { cols, values }
    }

    fn map2(&self, other: &Self, mut combine: impl FnMut(f32, f32) -> f32) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| combine(a, b)).collect();
        Self { cols: self.cols, values }
    }

    /// The value at a point; points off the grid take the nearest edge.
    #[inline]
    pub(super) fn at(&self, point: SlideUm) -> f32 {
        let last = (self.cols - 2) as f32;
        let x = ((point.x / PITCH_UM) as f32).clamp(0.0, last);
        let y = ((point.y / PITCH_UM) as f32).clamp(0.0, last);
        let (col, row) = (x as usize, y as usize);
        let (dx, dy) = (x - col as f32, y - row as f32);
        let corner = row * self.cols + col;
        let top = self.values[corner] * (1.0 - dx) + self.values[corner + 1] * dx;
        let below = corner + self.cols;
        let bottom = self.values[below] * (1.0 - dx) + self.values[below + 1] * dx;
        top * (1.0 - dy) + bottom * dy
    }

    /// The gradient at a point, per µm.
    fn gradient(&self, point: SlideUm) -> (f32, f32) {
        let step = PITCH_UM;
        let difference = |dx: f64, dy: f64| {
            let ahead = self.at(SlideUm { x: point.x + dx, y: point.y + dy });
            let behind = self.at(SlideUm { x: point.x - dx, y: point.y - dy });
            (ahead - behind) / (2.0 * step as f32)
        };
        (difference(step, 0.0), difference(0.0, step))
    }

    /// The value below which the share `quantile` of the nodes with `inside > 0` lies.
    fn quantile(&self, quantile: f64, inside: &Self) -> f32 {
        let mut kept: Vec<f32> =
            self.values.iter().zip(&inside.values).filter(|&(_, &i)| i > 0.0).map(|(&v, _)| v).collect();
        kept.sort_by(f32::total_cmp);
        let rank = (quantile * kept.len().saturating_sub(1) as f64).round() as usize;
        kept.get(rank).copied().unwrap_or_default()
    }
}

/// The fields of one slide. Signed ones are roughly distances in µm, positive inside.
#[derive(Debug, Clone)]
pub(super) struct RegionFields {
    /// Tissue against bare glass.
    pub tissue_um: Field,
    /// Tumour nests; stroma septa between nests are outside.
    pub tumor_um: Field,
    /// Fat.
    pub fat_um: Field,
    /// Where glands may lie.
    pub gland_um: Field,
    /// The wide gradient, 0..1: stroma and nests are sparse in nuclei at 0 and crowded at 1.
    pub crowding: Field,
    /// Diffuse infiltration by immune cells, 0..1.
    pub infiltration: Field,
    /// Across the fibres, µm of texture; fibres run along its level lines.
    pub fiber_across_um: Field,
    /// Along the fibres, µm of texture.
    pub fiber_along_um: Field,
}

impl RegionFields {
    /// Fields of a slide of side `side_um` from its own seed; `tumor_share` of the tissue lies in tumour areas.
    pub(super) fn new(side_um: f64, slide_seed: u64, tumor_share: f64) -> Self {
        let side = side_um as f32;
        let noise = |name: &str| Noise::new(derived_seed(slide_seed, name, &[]));
        let tissue_um = outline(side_um, noise("outline"));

        let (area, septa, rim) = (noise("tumor"), noise("septa"), noise("tumor rim"));
        let tumor_area = Field::from_fn(side_um, |x, y| area.fractal(x / 330.0, y / 330.0, 3));
        let edge = tumor_area.quantile(1.0 - tumor_share, &tissue_um);
        let septa = Field::from_fn(side_um, |x, y| {
            let bend = 14.0 * rim.at(x / 45.0, y / 45.0);
            (septa.at((x + bend) / 85.0, (y - bend) / 85.0).abs() - 0.09) * 60.0
                + 5.0 * rim.at(x / 14.0, y / 14.0)
        });
        let tumor_um = tumor_area
            .map2(&septa, |area, septa| ((area - edge) * 150.0).min(septa))
            .map2(&tissue_um, |tumor, tissue| tumor.min(tissue - 6.0));

        let fat = noise("fat");
        let fat_area = Field::from_fn(side_um, |x, y| fat.fractal(x / 300.0, y / 300.0, 2));
        let fat_edge = fat_area.quantile(0.86, &tissue_um);
        let away_from_tumor =
            tumor_area.map2(&tissue_um, |area, tissue| ((edge - area) * 150.0 - 15.0).min(tissue - 8.0));
        let fat_um = fat_area.map2(&away_from_tumor, |fat, away| ((fat - fat_edge) * 150.0).min(away));

        let gland = noise("gland");
        let gland_area = Field::from_fn(side_um, |x, y| gland.fractal(x / 280.0, y / 280.0, 2));
        let gland_edge = gland_area.quantile(0.25, &tissue_um);
        let gland_um = gland_area
            .map2(&away_from_tumor, |gland, away| ((gland - gland_edge) * 150.0).min(away))
            .map2(&fat_um, |gland, fat| gland.min(-fat));

        let crowd = noise("crowding");
        let wave = (0.35 * side).clamp(200.0, 400.0);
        let crowding = Field::from_fn(side_um, |x, y| crowd.fractal(x / wave, y / wave, 2));
        let (low, high) = (crowding.quantile(0.1, &tissue_um), crowding.quantile(0.9, &tissue_um));
        let crowding = Field {
            values: crowding
                .values
                .iter()
                .map(|v| ((v - low) / (high - low).max(1e-6)).clamp(0.0, 1.0))
                .collect(),
            ..crowding
        };

        let immune = noise("infiltration");
        let infiltration = Field::from_fn(side_um, |x, y| {
            (0.5 + 0.8 * immune.fractal(x / 260.0, y / 260.0, 2)).clamp(0.0, 1.0).powi(2)
        });

        let (bend_a, bend_b) = (noise("fiber a"), noise("fiber b"));
        let angle = std::f32::consts::TAU * (derived_seed(slide_seed, "fiber angle", &[]) >> 40) as f32
            / (1u64 << 24) as f32;
        let (sin, cos) = angle.sin_cos();
        let warp = |noise: Noise, x: f32, y: f32| {
            70.0 * noise.at(x / 160.0, y / 160.0) + 16.0 * noise.at(x / 47.0 + 9.0, y / 47.0)
        };
        let fiber_across_um = Field::from_fn(side_um, |x, y| x * cos + y * sin + warp(bend_a, x, y));
        let fiber_along_um = Field::from_fn(side_um, |x, y| -x * sin + y * cos + warp(bend_b, x, y));

        Self {
            tissue_um,
            tumor_um,
            fat_um,
            gland_um,
            crowding,
            infiltration,
            fiber_across_um,
            fiber_along_um,
        }
    }

    /// Direction of the fibres at a point, radians from the x axis.
    pub(super) fn fiber_angle(&self, point: SlideUm) -> f32 {
        let (dx, dy) = self.fiber_across_um.gradient(point);
        dx.atan2(-dy)
    }
}

/// A rounded square with an irregular edge that leaves glass around it.
fn outline(side_um: f64, noise: Noise) -> Field {
    let half = side_um as f32 / 2.0;
    Field::from_fn(side_um, |x, y| {
        let (dx, dy) = ((x - half).abs() / half, (y - half).abs() / half);
        let radius = (dx.powi(3) + dy.powi(3)).cbrt();
        let wide = 0.10 * noise.fractal(x / (0.55 * half), y / (0.55 * half), 2);
        (0.93 - radius + wide) * half + 5.0 * noise.at(x / 33.0 + 50.0, y / 33.0)
    })
}
