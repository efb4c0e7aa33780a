//! Values to colours, fast: a colour map sampled once for the values between two ends.

use magnet_core::heatmap::{ColorMap, ValueRange};

/// Colours of a map; more than the 256 steps that a channel has would not show.
const STEPS: usize = 256;

/// A colour map laid over a range of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    colors: Vec<[u8; 3]>,
    low: f32,
    per_unit: f32,
}

impl Palette {
    /// Samples a colour map.
    pub fn new(color_map: ColorMap, range: ValueRange) -> Self {
        let colors = (0..STEPS).map(|step| color_map.color(step as f64 / (STEPS - 1) as f64)).collect();
        let per_unit = (STEPS - 1) as f64 / (range.high() - range.low());
        Self { colors, low: range.low() as f32, per_unit: per_unit as f32 }
    }

    /// The colour of a value; the end colours outside the range, `None` where there is no value.
    pub fn color(&self, value: f32) -> Option<[u8; 3]> {
        if !value.is_finite() {
            return None;
        }
        let step = ((value - self.low) * self.per_unit + 0.5).clamp(0.0, (STEPS - 1) as f32);
        self.colors.get(step as usize).copied()
    }

    /// All colours, from the low end to the high one.
    pub fn colors(&self) -> &[[u8; 3]] {
        &self.colors
    }
}

/// A colour map under a name, or the first one where the name is not known.
pub fn color_map(name: &str) -> ColorMap {
    ColorMap::from_name(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_colours_are_the_maps_own() {
        for map in ColorMap::ALL {
            let range = ValueRange::new(-1.5, 2.5).unwrap();
            let palette = Palette::new(map, range);
            for step in 0..=80 {
                let value = -2.0 + step as f32 / 16.0;
                let exact = map.color(range.fraction(f64::from(value)));
                let found = palette.color(value).unwrap();
                assert!(
                    exact.iter().zip(found).all(|(a, b)| a.abs_diff(b) <= 3),
                    "{} at {value}",
                    map.name()
                );
            }
            assert_eq!(palette.color(f32::NAN), None);
            assert_eq!(palette.color(f32::INFINITY), None);
            assert_eq!(palette.color(f32::MIN), Some(map.color(0.0)));
        }
        assert_eq!(color_map("magma"), ColorMap::Magma);
        assert_eq!(color_map("jet"), ColorMap::Viridis);
    }
}
