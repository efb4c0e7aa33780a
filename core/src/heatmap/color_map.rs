//! Colour maps that are even to the eye and readable without full colour vision. There is no rainbow here.

use serde::{Deserialize, Serialize};

/// The colour of a value that is not known.
pub const MISSING: [u8; 3] = [200, 200, 200];

/// A sequential colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorMap {
    /// Dark violet over green to yellow.
    #[default]
    Viridis,
    /// Dark blue over grey to yellow; made for colour-vision deficiency.
    Cividis,
    /// Black over magenta to light yellow.
    Magma,
}

impl ColorMap {
    /// Every map.
    pub const ALL: [ColorMap; 3] = [ColorMap::Viridis, ColorMap::Cividis, ColorMap::Magma];

    /// The map's name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            ColorMap::Viridis => "viridis",
            ColorMap::Cividis => "cividis",
            ColorMap::Magma => "magma",
        }
    }

    /// The map of a name, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.name() == name)
    }

    /// The RGB colour at `fraction` of the range; below 0 and above 1 the end colours, [`MISSING`] for NaN.
    pub fn color(self, fraction: f64) -> [u8; 3] {
        if fraction.is_nan() {
            return MISSING;
        }
        let gradient = match self {
            ColorMap::Viridis => colorous::VIRIDIS,
            ColorMap::Cividis => colorous::CIVIDIS,
            ColorMap::Magma => colorous::MAGMA,
        };
        gradient.eval_continuous(fraction.clamp(0.0, 1.0)).into_array()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: [u8; 3], expected: [u8; 3]) -> bool {
        found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2)
    }

    #[test]
    fn the_ends_are_the_published_colours() {
        assert!(near(ColorMap::Viridis.color(0.0), [68, 1, 84]));
        assert!(near(ColorMap::Viridis.color(1.0), [253, 231, 37]));
        assert!(near(ColorMap::Magma.color(0.0), [0, 0, 4]));
        assert!(near(ColorMap::Magma.color(1.0), [252, 253, 191]));
        assert!(ColorMap::Cividis.color(0.0)[2] > 60 && ColorMap::Cividis.color(1.0)[0] > 240);
    }

    #[test]
    fn lightness_rises_along_every_map() {
        for map in ColorMap::ALL {
            let luminance = |step: u32| {
                let [r, g, b] = map.color(f64::from(step) / 32.0).map(f64::from);
                0.2126 * r + 0.7152 * g + 0.0722 * b
            };
            for step in 1..=32 {
                assert!(luminance(step) > luminance(step - 1), "{} at {step}", map.name());
            }
        }
    }

    #[test]
    fn values_outside_the_range_take_the_end_colours() {
        for map in ColorMap::ALL {
            assert_eq!(map.color(-3.0), map.color(0.0));
            assert_eq!(map.color(f64::INFINITY), map.color(1.0));
            assert_eq!(map.color(f64::NAN), MISSING);
            assert_eq!(ColorMap::from_name(map.name()), Some(map));
        }
        assert_eq!(ColorMap::from_name("jet"), None);
    }
}
