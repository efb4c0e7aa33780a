//! Stain and light of one slide: from amounts of haematoxylin and eosin to RGB (Beer-Lambert).

use magnet_core::random::stream;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How one slide was stained and lit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stain {
    /// Optical density of one unit of haematoxylin in red, green and blue.
    pub hematoxylin_od: [f32; 3],
    /// Optical density of one unit of eosin in red, green and blue.
    pub eosin_od: [f32; 3],
    /// Light through bare glass, 0..1 of full scale.
    pub glass: [f32; 3],
    /// Change of the light from one side to the other, as a share, along x and y.
    pub light_slope: [f32; 2],
}

/// Directions and strengths of a usual slide, in the order of [`Stain`]'s fields.
const HEMATOXYLIN_OD: [f32; 3] = [1.02, 1.17, 0.53];
const EOSIN_OD: [f32; 3] = [0.10, 0.80, 0.36];
const GLASS: [f32; 3] = [0.955, 0.945, 0.955];

impl Stain {
    /// The stain of one slide; `variation` 0 gives every slide the same, 1 the spread between usual laboratories.
    pub fn of_slide(slide_seed: u64, variation: f64) -> Self {
        let mut rng = stream(slide_seed, "stain", &[]);
        let mut draw = |most: f64| (most * variation * rng.random_range(-1.0..1.0)) as f32;
        let vary = |od: [f32; 3], draw: &mut dyn FnMut(f64) -> f32| {
            let strength = draw(0.22).exp();
            od.map(|channel| (channel * strength * draw(0.10).exp()).max(0.02))
        };
        Self {
            hematoxylin_od: vary(HEMATOXYLIN_OD, &mut draw),
            eosin_od: vary(EOSIN_OD, &mut draw),
            glass: GLASS.map(|channel| (channel + draw(0.02)).clamp(0.8, 1.0)),
            light_slope: [draw(0.03), draw(0.03)],
        }
    }

    /// The colour of a pixel before sensor noise, 0..255; `x` and `y` are its place on the slide, 0..1.
    #[inline]
    pub(super) fn rgb(&self, hematoxylin: f32, eosin: f32, x: f32, y: f32) -> [f32; 3] {
        let light = 255.0 * (1.0 + self.light_slope[0] * (x - 0.5) + self.light_slope[1] * (y - 0.5));
        std::array::from_fn(|channel| {
            let density = hematoxylin * self.hematoxylin_od[channel] + eosin * self.eosin_od[channel];
            light * self.glass[channel] * (-density).exp()
        })
    }
}

/// A seed that only this slide has.
pub(super) fn slide_seed(run_seed: u64, slide: usize) -> u64 {
    stream(run_seed, "synthetic slide", &[slide as u64]).next_u64()
}
