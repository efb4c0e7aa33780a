//! The three levels of MagNet (Figure 2 of the paper): what a patch shows and what a tile covers, in µm.

use serde::{Deserialize, Serialize};

/// One of the three scales at which the tissue is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The label resolution: a Visium HD bin, or a spot of classic Visium or Spatial Transcriptomics.
    Bin,
    /// The middle tile, several bins wide.
    Spot,
    /// The widest tile, several spots wide.
    Region,
}

impl Level {
    /// All levels, narrow to wide.
    pub const ALL: [Level; 3] = [Level::Bin, Level::Spot, Level::Region];
    /// The levels wider than a bin.
    pub const WIDE: [Level; 2] = [Level::Spot, Level::Region];

    /// The level's name as it stands in configurations, tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Level::Bin => "bin",
            Level::Spot => "spot",
            Level::Region => "region",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerLevel<T> {
    /// The value of [`Level::Bin`].
    pub bin: T,
    /// The value of [`Level::Spot`].
    pub spot: T,
    /// The value of [`Level::Region`].
    pub region: T,
}

impl<T> PerLevel<T> {
    /// Builds the three values, narrow to wide.
    pub fn from_fn(mut build: impl FnMut(Level) -> T) -> Self {
        Self { bin: build(Level::Bin), spot: build(Level::Spot), region: build(Level::Region) }
    }

    /// Builds the three values, narrow to wide; the first error ends it.
    ///
    /// # Errors
    /// Whatever `build` returns.
    pub fn try_from_fn<E>(mut build: impl FnMut(Level) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { bin: build(Level::Bin)?, spot: build(Level::Spot)?, region: build(Level::Region)? })
    }

    /// The value of `level`.
    pub fn get(&self, level: Level) -> &T {
        match level {
            Level::Bin => &self.bin,
            Level::Spot => &self.spot,
            Level::Region => &self.region,
        }
    }

    /// The value of `level`, to change.
    pub fn get_mut(&mut self, level: Level) -> &mut T {
        match level {
            Level::Bin => &mut self.bin,
            Level::Spot => &mut self.spot,
            Level::Region => &mut self.region,
        }
    }

    /// Applies `f` to each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerLevel<U> {
        PerLevel { bin: f(self.bin), spot: f(self.spot), region: f(self.region) }
    }

    /// The values with their levels, narrow to wide.
    pub fn iter(&self) -> impl Iterator<Item = (Level, &T)> {
        Level::ALL.into_iter().map(|level| (level, self.get(level)))
    }
}

/// What one level sees and what it predicts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LevelGeometry {
    /// Side of the square that one prediction covers, in µm. At [`Level::Bin`] this is the size of a measured bin;
    /// spot and region tiles lie on a grid of this pitch.
    pub tile_um: f64,
    /// Side of the square field of view, in µm, centred on the bin or tile.
    pub patch_um: f64,
    /// Side of the patch after resampling, in pixels (`P`).
    pub patch_px: usize,
}

impl Default for LevelGeometry {
    /// The paper's bin at 0.25 µm/px.
    fn default() -> Self {
        Self { tile_um: 8.0, patch_um: 28.0, patch_px: 112 }
    }
}
