//! What is read of a slide: pieces of the view, the slide in little, and regions for the engine.

use magnet_core::slide::{PxWindow, PyramidOptions, SlideError, SlidePyramid};

use super::messages::{LevelSize, RegionWindow, SlideSummary, TILE_PX, TileKey};
use super::source::SlideSource;
use super::view_levels::{ViewLevel, shrunk, view_levels};

/// Bytes of decoded pieces of the file that are kept.
const CACHE_BYTES: usize = 192 << 20;
/// Longer side of the overview, in pixels, at most.
const OVERVIEW_SIDE: u32 = 2048;
/// A level whose longer side is below this shows too little to be the overview.
const LEAST_OVERVIEW_SIDE: u32 = 640;
/// Pixels of the file that one step of a long task reads, about: a tenth of a second or two.
const STEP_PIXELS: f64 = 4e6;
/// Longest side of the part of a level that is resampled at once, in its pixels.
const RESAMPLED_SIDE: f64 = 4096.0;
/// Levels whose scale differs by less than this part are the same: sizes of levels are rounded.
const SAME_SCALE: f64 = 0.005;

/// RGB values with their size.
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

/// How the overview is read: which level, shrunk by which factor.
#[derive(Debug, Clone, Copy)]
pub struct OverviewPlan {
    native: usize,
    factor: u32,
    pub width: u32,
    pub height: u32,
    /// Rows of the overview that a step reads.
    pub step_rows: u32,
}

/// A slide that is open.
pub struct OpenSlide {
    pyramid: SlidePyramid<SlideSource>,
    native: Vec<LevelSize>,
    view: Vec<ViewLevel>,
}

impl OpenSlide {
    /// Reads the directories of a slide.
    ///
    /// # Errors
    /// [`SlideError`] for what is no slide that is read here.
    pub fn open(source: SlideSource) -> Result<Self, SlideError> {
        let options = PyramidOptions { cache_bytes: CACHE_BYTES, ..PyramidOptions::default() };
        let pyramid = SlidePyramid::open(source, options)?;
        let native: Vec<LevelSize> = pyramid
            .levels()
            .iter()
            .map(|level| LevelSize {
                downsample: level.downsample,
                width_px: level.width_px,
                height_px: level.height_px,
            })
            .collect();
        let view = view_levels(&native);
        Ok(Self { pyramid, native, view })
    }

    /// What the slide is.
    pub fn summary(&self, name: String, bytes: f64) -> SlideSummary {
        let embedded = self.pyramid.embedded_pixel_size();
        let full = self.native.first();
        SlideSummary {
            name,
            bytes,
            width_px: full.map_or(0, |level| level.width_px),
            height_px: full.map_or(0, |level| level.height_px),
            embedded_um_per_px: embedded.as_ref().map(|size| size.um_per_px),
            pixel_size_from: embedded.as_ref().map(|size| size.origin.to_string()),
            file_levels: self.native.len() as u32,
            levels: self.view.iter().map(|level| level.size).collect(),
        }
    }

    /// A piece of the view.
    ///
    /// # Errors
    /// [`SlideError`] where it cannot be read, or there is no such piece.
    pub fn tile(&self, key: TileKey) -> Result<Picture, SlideError> {
        let wrong = || SlideError::Setting {
            field: "tile",
            expected: "a piece of the view".into(),
            found: format!("{key:?}"),
        };
        let level = self.view.get(key.level as usize).ok_or_else(wrong)?;
        let left = u64::from(key.column) * u64::from(TILE_PX);
        let top = u64::from(key.row) * u64::from(TILE_PX);
        let size = level.size;
        if left >= u64::from(size.width_px) || top >= u64::from(size.height_px) {
            return Err(wrong());
        }
        let width = TILE_PX.min(size.width_px - left as u32);
        let height = TILE_PX.min(size.height_px - top as u32);
        let shrink = u64::from(level.shrink);
        self.shrunk_part(level.native, level.shrink, (left * shrink, top * shrink), (width, height))
    }

    /// `size` pixels of a level of the file, from `corner` of it on, shrunk by a factor.
    fn shrunk_part(
        &self,
        native: usize,
        factor: u32,
        corner: (u64, u64),
        size: (u32, u32),
    ) -> Result<Picture, SlideError> {
        let level = self.native.get(native).copied().ok_or_else(|| SlideError::Setting {
            field: "level",
            expected: format!("below {}", self.native.len()),
            found: native.to_string(),
        })?;
        // The last square may be cut by the border; white beyond it must not enter the mean.
        let cut = |corner: u64, size: u32, level: u32| {
            (u64::from(size) * u64::from(factor)).min(u64::from(level).saturating_sub(corner)) as u32
        };
        let width = cut(corner.0, size.0, level.width_px);
        let height = cut(corner.1, size.1, level.height_px);
        let rgb = self.pyramid.read_region(native, corner.0 as i64, corner.1 as i64, width, height)?;
        if factor == 1 {
            return Ok(Picture { width, height, rgb });
        }
        let rgb = shrunk(&rgb, width as usize, height as usize, factor as usize);
        Ok(Picture { width: width.div_ceil(factor), height: height.div_ceil(factor), rgb })
    }

    /// How the slide in little is read.
    pub fn overview_plan(&self) -> OverviewPlan {
        let long = |level: &LevelSize| level.width_px.max(level.height_px);
        let native = self.native.iter().rposition(|level| long(level) >= LEAST_OVERVIEW_SIDE).unwrap_or(0);
        let level = self.native.get(native).copied().unwrap_or(LevelSize {
            downsample: 1.0,
            width_px: 1,
            height_px: 1,
        });
        let factor = long(&level).div_ceil(OVERVIEW_SIDE).max(1);
        let (width, height) = (level.width_px.div_ceil(factor), level.height_px.div_ceil(factor));
        let row_pixels = f64::from(level.width_px) * f64::from(factor);
        // Whole rows of 256 px of the file where that is possible, so that none is decoded twice.
        let step_rows = ((STEP_PIXELS / row_pixels) as u32).max(256_u32.div_ceil(factor)).min(height);
        OverviewPlan { native, factor, width, height, step_rows }
    }

    /// Some rows of the slide in little.
    ///
    /// # Errors
    /// [`SlideError`] where they cannot be read.
    pub fn overview_rows(&self, plan: &OverviewPlan, first: u32, rows: u32) -> Result<Picture, SlideError> {
        let corner = (0, u64::from(first) * u64::from(plan.factor));
        self.shrunk_part(plan.native, plan.factor, corner, (plan.width, rows))
    }

    /// Rows of a region's output that a step reads.
    pub fn region_step_rows(&self, window: &RegionWindow) -> u32 {
        let (native, shrink) = self.level_for(window.scale);
        let row_pixels = f64::from(window.out_width_px) * shrink * shrink;
        let rows = (STEP_PIXELS / row_pixels.max(1.0)).max(1.0);
        // In whole rows of the file's pieces, near enough.
        let piece =
            self.pyramid.levels().get(native).map_or(256, |level| level.tile_height_px.clamp(16, 1024));
        let least = (f64::from(piece) / shrink).max(1.0);
        (rows.max(least) as u32).clamp(1, window.out_height_px.max(1))
    }

    /// The coarsest level of the file that is at least as fine as the scale, and how much it is still shrunk.
    fn level_for(&self, scale: f64) -> (usize, f64) {
        let fine = |level: &LevelSize| level.downsample <= scale * (1.0 + SAME_SCALE);
        let native = self.native.iter().rposition(fine).unwrap_or(0);
        (native, scale / self.native.get(native).map_or(1.0, |level| level.downsample))
    }

    /// RGB values of `rows` rows of a region from its row `first` on. At full resolution they are the slide's own; else
    /// they are resampled as patches are, every pixel having its say.
    ///
    /// # Errors
    /// [`SlideError`] where they cannot be read.
    pub fn region_rows(&self, window: &RegionWindow, first: u32, rows: u32) -> Result<Vec<u8>, SlideError> {
        let (_, shrink) = self.level_for(window.scale);
        if window.scale == 1.0 {
            let top = i64::from(window.top_px) + i64::from(first);
            return self.pyramid.read_region(0, i64::from(window.left_px), top, window.out_width_px, rows);
        }
        let side = ((RESAMPLED_SIDE / shrink) as u32).clamp(1, TILE_PX);
        let width = window.out_width_px;
        let mut out = vec![0; width as usize * rows as usize * 3];
        for top in (0..rows).step_by(side as usize) {
            for left in (0..width).step_by(side as usize) {
                let part = (side.min(width - left), side.min(rows - top));
                let window = PxWindow {
                    left: f64::from(window.left_px) + f64::from(left) * window.scale,
                    top: f64::from(window.top_px) + (f64::from(first) + f64::from(top)) * window.scale,
                    width: f64::from(part.0) * window.scale,
                    height: f64::from(part.1) * window.scale,
                };
                let mut rgb = vec![0; part.0 as usize * part.1 as usize * 3];
                self.pyramid.resample(window, part.0 as usize, part.1 as usize, &mut rgb)?;
                for (row, line) in rgb.chunks_exact(part.0 as usize * 3).enumerate() {
                    let start = ((top as usize + row) * width as usize + left as usize) * 3;
                    out[start..start + line.len()].copy_from_slice(line);
                }
            }
        }
        Ok(out)
    }

    /// Whether the engine can as well take the whole file: one resolution, and few enough pixels.
    pub fn is_plain(&self, most_pixels: f64) -> bool {
        let pixels = |level: &LevelSize| f64::from(level.width_px) * f64::from(level.height_px);
        self.native.len() == 1 && self.native.iter().all(|level| pixels(level) <= most_pixels)
    }
}
