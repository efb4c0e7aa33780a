//! A slide image held in memory.

use super::error::SlideError;
use super::patch::{PatchReader, PxWindow};
use super::resample::{PxSpan, ThumbnailSize, resample, resize_rgb};
use crate::coordinates::SlidePx;

/// The colour of what lies beyond the slide's border, and behind transparent pixels: glass under a white balance.
pub const BACKGROUND: u8 = 255;

/// What a colour looks like in front of the background.
pub(super) fn over_background(value: u8, opacity: u8) -> u8 {
    let opacity = u16::from(opacity);
    let blended = u16::from(value) * opacity + u16::from(BACKGROUND) * (255 - opacity);
    ((blended + 127) / 255) as u8
}

/// An RGB image with 8 bits per channel in memory, and the physical size of its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct SlideImage {
    width_px: u32,
    height_px: u32,
    rgb: Vec<u8>,
    um_per_px: f64,
}

impl SlideImage {
    /// An image of `width_px` × `height_px` interleaved RGB pixels, rows from the top.
    ///
    /// # Errors
    /// [`SlideError::PixelBuffer`] when a side is 0 or `rgb` has another length than the sides need,
    /// [`SlideError::PixelSize`] when `um_per_px` is not a positive number.
    pub fn new(width_px: u32, height_px: u32, rgb: Vec<u8>, um_per_px: f64) -> Result<Self, SlideError> {
        let expected = u64::from(width_px).saturating_mul(u64::from(height_px)).saturating_mul(3);
        if expected == 0 || expected != rgb.len() as u64 {
            return Err(SlideError::PixelBuffer { width_px, height_px, expected, found: rgb.len() as u64 });
        }
        if !(um_per_px.is_finite() && um_per_px > 0.0) {
            return Err(SlideError::PixelSize { found: um_per_px });
        }
        Ok(Self { width_px, height_px, rgb, um_per_px })
    }

    /// The interleaved RGB bytes, rows from the top.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixel of a column and row, or `None` outside the image.
    pub fn pixel(&self, column: u32, row: u32) -> Option<[u8; 3]> {
        if column >= self.width_px || row >= self.height_px {
            return None;
        }
        let start = (row as usize * self.width_px as usize + column as usize) * 3;
        self.rgb.get(start..start + 3).and_then(|bytes| bytes.try_into().ok())
    }

    /// Resamples `window` to `out_width_px` × `out_height_px` RGB pixels in `out`.
    ///
    /// The filter is a triangle whose width follows the scale: plain bilinear interpolation when the window is
    /// enlarged, a weighted mean over every pixel of the window when it is shrunk (what torchvision and Pillow call
    /// antialiased bilinear). A window of the output's own size at whole pixels is copied as it is.
    ///
    /// # Errors
    /// [`SlideError::Window`] when the window is empty, not finite or wider than 8192 px, or when `out` has another
    /// length than the output needs.
    pub fn resample(
        &self,
        window: PxWindow,
        out_width_px: usize,
        out_height_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        resample(window, out_width_px, out_height_px, out, |span| Ok(self.copy_with_background(span)))
    }

    /// The pixels of a span; those outside the image are background.
    fn copy_with_background(&self, span: PxSpan) -> Vec<u8> {
        let PxSpan { left, top, right, bottom } = span;
        let stride = self.width_px as usize * 3;
        let copy_stride = (right - left) as usize * 3;
        let mut copy = vec![BACKGROUND; copy_stride * (bottom - top) as usize];
        let from = left.clamp(0, i64::from(self.width_px));
        let to = right.clamp(from, i64::from(self.width_px));
        let (source_from, source_to) = (from as usize * 3, to as usize * 3);
        let copy_from = (from - left) as usize * 3;
        for (row, line) in (top..bottom).zip(copy.chunks_exact_mut(copy_stride)) {
            if row < 0 || row >= i64::from(self.height_px) || source_from == source_to {
                continue;
            }
            let start = row as usize * stride;
            line[copy_from..copy_from + source_to - source_from]
                .copy_from_slice(&self.rgb[start + source_from..start + source_to]);
        }
        copy
    }
}

impl PatchReader for SlideImage {
    fn width_px(&self) -> u32 {
        self.width_px
    }

    fn height_px(&self) -> u32 {
        self.height_px
    }

    fn um_per_px(&self) -> f64 {
        self.um_per_px
    }

    fn read_patch(
        &self,
        center: SlidePx,
        side_um: f64,
        out_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        self.resample(PxWindow::around(center, side_um / self.um_per_px), out_px, out_px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        let longest = self.width_px.max(self.height_px);
        if longest <= max_side_px {
            return Ok(self.clone());
        }
        let ThumbnailSize { scale, width, height } =
            ThumbnailSize::of(self.width_px, self.height_px, max_side_px);
        let mut rgb = vec![0; width as usize * height as usize * 3];
        let window = PxWindow {
            left: 0.0,
            top: 0.0,
            width: (f64::from(width) * scale).min(f64::from(self.width_px)),
            height: (f64::from(height) * scale).min(f64::from(self.height_px)),
        };
        resize_rgb(&self.rgb, (self.width_px, self.height_px), &mut rgb, (width, height), window)?;
        SlideImage::new(width, height, rgb, self.um_per_px * scale)
    }
}
