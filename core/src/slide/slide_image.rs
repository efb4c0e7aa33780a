//! A slide image held in memory.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::error::SlideError;
use super::patch::{PatchReader, PxWindow};
use crate::coordinates::SlidePx;

/// The colour of what lies beyond the slide's border, and behind transparent pixels: glass under a white balance.
pub const BACKGROUND: u8 = 255;

/// Largest side of a window that is read at once, in slide pixels (200 MB of RGB).
const MAX_WINDOW_PX: f64 = 8192.0;

/// Largest side of a window with the margin that the filter reaches into (450 MB of RGB).
const MAX_COPY_PX: i64 = 12_288;

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
        window.check(MAX_WINDOW_PX)?;
        let (Ok(out_width), Ok(out_height)) = (u32::try_from(out_width_px), u32::try_from(out_height_px))
        else {
            return Err(output_error(out_width_px, out_height_px, out.len()));
        };
        let expected = (out_width_px as u128) * (out_height_px as u128) * 3;
        if expected == 0 || expected != out.len() as u128 {
            return Err(output_error(out_width_px, out_height_px, out.len()));
        }
        // The filter reaches one output pixel beyond the window, so the copy holds that margin too.
        let margin_x = (window.width / out_width_px as f64).max(1.0).ceil() + 1.0;
        let margin_y = (window.height / out_height_px as f64).max(1.0).ceil() + 1.0;
        let (left, right) = whole_span(window.left - margin_x, window.left + window.width + margin_x);
        let (top, bottom) = whole_span(window.top - margin_y, window.top + window.height + margin_y);
        if (right - left).max(bottom - top) > MAX_COPY_PX {
            return Err(SlideError::Window {
                expected: format!("a window of at most {MAX_COPY_PX} px with the margin of its filter"),
                found: format!(
                    "{} x {} px shrunk to {out_width_px} x {out_height_px}",
                    window.width, window.height
                ),
            });
        }
        let copy = self.copy_with_background(left, top, right, bottom);
        let options = triangle_filter().crop(
            window.left - left as f64,
            window.top - top as f64,
            window.width,
            window.height,
        );
        let copied = ((right - left) as u32, (bottom - top) as u32);
        resize_rgb(&copy, copied, out, (out_width, out_height), &options)
    }

    /// The pixels of columns `left..right` and rows `top..bottom`; those outside the image are background.
    fn copy_with_background(&self, left: i64, top: i64, right: i64, bottom: i64) -> Vec<u8> {
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
        let side_px = side_um / self.um_per_px;
        let window = PxWindow {
            left: center.x - side_px / 2.0,
            top: center.y - side_px / 2.0,
            width: side_px,
            height: side_px,
        };
        self.resample(window, out_px, out_px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        let longest = self.width_px.max(self.height_px);
        if longest <= max_side_px {
            return Ok(self.clone());
        }
        // One scale for both axes, so that the thumbnail has one pixel size; what is cut off at the right and bottom
        // edge is less than one of its pixels.
        let scale = f64::from(longest) / f64::from(max_side_px.max(1));
        let width = ((f64::from(self.width_px) / scale).floor() as u32).max(1);
        let height = ((f64::from(self.height_px) / scale).floor() as u32).max(1);
        let mut rgb = vec![0; width as usize * height as usize * 3];
        let options = triangle_filter().crop(
            0.0,
            0.0,
            (f64::from(width) * scale).min(f64::from(self.width_px)),
            (f64::from(height) * scale).min(f64::from(self.height_px)),
        );
        resize_rgb(&self.rgb, (self.width_px, self.height_px), &mut rgb, (width, height), &options)?;
        SlideImage::new(width, height, rgb, self.um_per_px * scale)
    }
}

fn triangle_filter() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false)
}

/// Resizes RGB of `(width, height)` into RGB of another. The pixel type is fixed here: the resizer that chooses it at run
/// time is compiled for every pixel type there is, which was more code than the rest of this crate.
fn resize_rgb(
    source: &[u8],
    source_px: (u32, u32),
    target: &mut [u8],
    target_px: (u32, u32),
    options: &ResizeOptions,
) -> Result<(), SlideError> {
    let source = TypedImageRef::<U8x3>::from_buffer(source_px.0, source_px.1, source)
        .map_err(|error| resize_error(&error))?;
    let mut target = TypedImage::<U8x3>::from_buffer(target_px.0, target_px.1, target)
        .map_err(|error| resize_error(&error))?;
    Resizer::new().resize_typed(&source, &mut target, options).map_err(|error| resize_error(&error))
}

/// The smallest span of whole pixels that holds `from..to`. The window's check keeps both in range.
fn whole_span(from: f64, to: f64) -> (i64, i64) {
    (from.floor() as i64, to.ceil() as i64)
}

fn output_error(width_px: usize, height_px: usize, found: usize) -> SlideError {
    SlideError::Window {
        expected: format!("{width_px} x {height_px} x 3 bytes of output, at least one pixel"),
        found: format!("{found} bytes"),
    }
}

fn resize_error(error: &dyn std::fmt::Display) -> SlideError {
    SlideError::Window { expected: "a window that can be resampled".into(), found: error.to_string() }
}
