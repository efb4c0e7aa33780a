//! Slides on disk: TIFF and BigTIFF pyramids, Aperio SVS, OME-TIFF, read by range.
//!
//! A slide of 100,000 × 80,000 px is 24 GB of RGB, so it is never held. Opening one reads its directories; a patch
//! reads the tiles under it, out of a cache of bounded size. What is read:
//!
//! - classic TIFF and BigTIFF in both byte orders, tiled or in strips;
//! - no compression, LZW, Deflate and PackBits (with horizontal prediction), JPEG (with shared tables), JPEG 2000;
//! - grey, RGB, RGBA, palettes, YCbCr inside JPEG and JPEG 2000, CMYK; 8 and 16 bits; planes side by side or apart;
//! - levels in the file's chain of images or in SubIFDs; a tile that the file leaves out is white.
//!
//! Which images are levels is said in `structure.rs`, what a file says of its pixel size in `pixel_size.rs`.

mod block;
mod cache;
mod codec;
mod color;
mod cut_off;
#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod hostile_tests;
mod jpeg;
mod jpeg2000;
mod ome;
mod pixel_size;
mod structure;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thumbnail;
mod tiff_image;

use std::sync::Arc;

pub use cut_off::CutOff;
pub use pixel_size::{EmbeddedPixelSize, PixelSizeOrigin};
pub(super) use structure::refuse_first_of_colors;

use self::cache::{Cache, Key};
use self::structure::{Fit, Structure};
use self::tiff_image::TiffImage;
use super::error::SlideError;
use super::patch::{PatchReader, PxWindow};
use super::range::RangeRead;
use super::resample::{PxSpan, resample};
use super::slide_image::{BACKGROUND, SlideImage};
use crate::coordinates::SlidePx;

/// A level this much coarser than the output is still taken for as fine: scales are rounded where levels are made.
const SCALE_TOLERANCE: f64 = 1.01;

/// How much memory a pyramid may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PyramidOptions {
    /// Most bytes of decoded tiles that are kept. One tile is kept however large it is.
    pub cache_bytes: usize,
    /// Most bytes that a decoded tile or strip may take. A file with larger ones is refused when it is opened.
    pub max_tile_bytes: u64,
    /// Most bytes of a region that is read at once.
    pub max_region_bytes: u64,
}

impl Default for PyramidOptions {
    /// 256 MiB of tiles, of which one may take 256 MiB; regions up to 1.2 GB.
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, max_tile_bytes: 256 << 20, max_region_bytes: 1_200_000_000 }
    }
}

/// One resolution of a slide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PyramidLevel {
    /// Width, in pixels of this level.
    pub width_px: u32,
    /// Height, in pixels of this level.
    pub height_px: u32,
    /// Full-resolution pixels per pixel of this level; 1 for the first.
    pub downsample: f64,
    /// Width of what is read and decoded at once, in pixels of this level.
    pub tile_width_px: u32,
    /// Height of what is read and decoded at once, in pixels of this level.
    pub tile_height_px: u32,
}

/// A slide that stays where it is and is read tile by tile. Several threads may read it at once.
#[derive(Debug)]
pub struct SlidePyramid<R> {
    source: R,
    options: PyramidOptions,
    cache: Cache,
    images: Vec<(TiffImage, Fit)>,
    levels: Vec<PyramidLevel>,
    embedded_pixel_size: Option<EmbeddedPixelSize>,
    um_per_px: Option<f64>,
}

impl<R: RangeRead> SlidePyramid<R> {
    /// Opens a slide: reads its directories, none of its pixels. Its pixel size is the one that the file claims, if it
    /// claims any, until [`SlidePyramid::set_um_per_px`] says otherwise.
    ///
    /// # Errors
    /// [`SlideError::Tiff`] when this is no TIFF file, when it is damaged, or when its largest image is of a kind that
    /// is not read; the message names the tag. Other images that cannot be read are left out.
    pub fn open(source: R, options: PyramidOptions) -> Result<Self, SlideError> {
        let Structure { levels: images, pixel_size } = Structure::read(&source, options.max_tile_bytes)?;
        let level = |(image, fit): &(TiffImage, Fit)| PyramidLevel {
            width_px: fit.width,
            height_px: fit.height,
            downsample: (fit.scale_x + fit.scale_y) / 2.0,
            tile_width_px: image.block_width,
            tile_height_px: image.block_height,
        };
        Ok(Self {
            source,
            options,
            cache: Cache::new(options.cache_bytes),
            levels: images.iter().map(level).collect(),
            images,
            embedded_pixel_size: pixel_size,
            um_per_px: pixel_size.map(|size| size.um_per_px),
        })
    }

    /// The resolutions, from full to coarse.
    pub fn levels(&self) -> &[PyramidLevel] {
        &self.levels
    }

    /// The pixel size that the file claims, where it names one that a microscope image can have (0.05 to 20 µm).
    pub fn embedded_pixel_size(&self) -> Option<EmbeddedPixelSize> {
        self.embedded_pixel_size
    }

    /// Settles the size of a full-resolution pixel, in µm.
    ///
    /// # Errors
    /// [`SlideError::PixelSize`] when it is not a positive number.
    pub fn set_um_per_px(&mut self, um_per_px: f64) -> Result<(), SlideError> {
        if !(um_per_px.is_finite() && um_per_px > 0.0) {
            return Err(SlideError::PixelSize { found: um_per_px });
        }
        self.um_per_px = Some(um_per_px);
        Ok(())
    }

    /// What the slide is read from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The pixels of a rectangle of a level, interleaved RGB, rows from the top: `width · height · 3` bytes. Place and
    /// size are in pixels of that level; what lies beyond the level is white.
    ///
    /// # Errors
    /// [`SlideError::Setting`] when there is no such level, [`SlideError::Window`] when the region takes more memory
    /// than the options allow, [`SlideError::Tiff`] when a tile cannot be read or decoded.
    pub fn read_region(
        &self,
        level: usize,
        left: i64,
        top: i64,
        width: u32,
        height: u32,
    ) -> Result<Vec<u8>, SlideError> {
        let Some((image, fit)) = self.images.get(level) else {
            return Err(SlideError::Setting {
                field: "level",
                expected: format!("0 to {}", self.images.len().saturating_sub(1)),
                found: level.to_string(),
            });
        };
        let bytes = u64::from(width).saturating_mul(u64::from(height)).saturating_mul(3);
        if bytes > self.options.max_region_bytes {
            return Err(SlideError::Window {
                expected: format!("a region of at most {} bytes", self.options.max_region_bytes),
                found: format!("{width} x {height} pixels"),
            });
        }
        let mut region = vec![BACKGROUND; bytes as usize];
        // What of the level is inside, per axis.
        let within = |start: i64, length: u32, side: u32| {
            let end = start.saturating_add(i64::from(length)).clamp(0, i64::from(side));
            (start.clamp(0, i64::from(side)) as u64, end as u64)
        };
        let (from_x, to_x) = within(left, width, fit.width);
        let (from_y, to_y) = within(top, height, fit.height);
        if from_x >= to_x || from_y >= to_y {
            return Ok(region);
        }
        let (block_width, block_height) = (u64::from(image.block_width), u64::from(image.block_height));
        for row in from_y / block_height..=(to_y - 1) / block_height {
            for column in from_x / block_width..=(to_x - 1) / block_width {
                let block = self.block(level, image, column, row)?;
                let (block_x, block_y) = (column * block_width, row * block_height);
                let (x0, x1) = (from_x.max(block_x), to_x.min(block_x + block_width));
                let (y0, y1) = (from_y.max(block_y), to_y.min(block_y + block_height));
                for y in y0..y1 {
                    let source = (((y - block_y) * block_width + x0 - block_x) * 3) as usize;
                    let target_y = (y as i64 - top) as usize;
                    let target = (target_y * width as usize + (x0 as i64 - left) as usize) * 3;
                    let length = ((x1 - x0) * 3) as usize;
                    if let (Some(to), Some(from)) =
                        (region.get_mut(target..target + length), block.get(source..source + length))
                    {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        Ok(region)
    }

    /// A decoded block of a level, from the cache or from the file.
    fn block(&self, level: usize, image: &TiffImage, column: u64, row: u64) -> Result<Arc<[u8]>, SlideError> {
        let key = Key::Block(level, row * image.across + column);
        if let Some(block) = self.cache.get(key) {
            return Ok(block);
        }
        let block: Arc<[u8]> = image.block(&self.source, &self.cache, column, row)?.into();
        self.cache.insert(key, block.clone());
        Ok(block)
    }

    /// The coarsest level that still has a pixel for every `scale` full-resolution pixels.
    fn level_for(&self, scale: f64) -> usize {
        self.levels.iter().rposition(|level| level.downsample <= scale * SCALE_TOLERANCE).unwrap_or(0)
    }

    /// Resamples a window of the slide, in full-resolution pixels, out of the level that fits the output.
    ///
    /// # Errors
    /// As [`SlideImage::resample`], and whatever reading the slide gives.
    pub fn resample(
        &self,
        window: PxWindow,
        out_width_px: usize,
        out_height_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        let scale = (window.width / out_width_px as f64).min(window.height / out_height_px as f64);
        let level = self.level_for(scale);
        let (scale_x, scale_y) =
            self.images.get(level).map_or((1.0, 1.0), |(_, fit)| (fit.scale_x, fit.scale_y));
        let window = PxWindow {
            left: window.left / scale_x,
            top: window.top / scale_y,
            width: window.width / scale_x,
            height: window.height / scale_y,
        };
        resample(window, out_width_px, out_height_px, out, |span| self.read_span(level, span))
    }

    fn read_span(&self, level: usize, span: PxSpan) -> Result<Vec<u8>, SlideError> {
        let (width, height) = span.size();
        self.read_region(level, span.left, span.top, width, height)
    }
}

impl<R: RangeRead + Sync> PatchReader for SlidePyramid<R> {
    fn width_px(&self) -> u32 {
        self.levels.first().map_or(0, |level| level.width_px)
    }

    fn height_px(&self) -> u32 {
        self.levels.first().map_or(0, |level| level.height_px)
    }

    /// Not a number until the file or [`SlidePyramid::set_um_per_px`] has said it; patches and thumbnails are errors
    /// then.
    fn um_per_px(&self) -> f64 {
        self.um_per_px.unwrap_or(f64::NAN)
    }

    fn read_patch(
        &self,
        center: SlidePx,
        side_um: f64,
        out_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        let Some(um_per_px) = self.um_per_px else { return Err(SlideError::PixelSize { found: f64::NAN }) };
        self.resample(PxWindow::around(center, side_um / um_per_px), out_px, out_px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        let Some(um_per_px) = self.um_per_px else { return Err(SlideError::PixelSize { found: f64::NAN }) };
        thumbnail::thumbnail(self, max_side_px, um_per_px)
    }
}
