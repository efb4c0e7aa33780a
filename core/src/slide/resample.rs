//! The one filter through which every patch and thumbnail goes, whatever holds the slide's pixels.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::error::SlideError;
use super::patch::PxWindow;

/// Largest side of a window that is read at once, in pixels of the image or level (200 MB of RGB).
const MAX_WINDOW_PX: f64 = 8192.0;

/// Largest side of a window with the margin that the filter reaches into (450 MB of RGB).
const MAX_COPY_PX: i64 = 12_288;

/// Whole pixels: columns `left..right`, rows `top..bottom`. It may reach beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PxSpan {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) right: i64,
    pub(super) bottom: i64,
}

impl PxSpan {
    pub(super) fn size(&self) -> (u32, u32) {
        ((self.right - self.left) as u32, (self.bottom - self.top) as u32)
    }
}

/// Resamples `window` to `out_width_px` × `out_height_px` RGB pixels in `out`; `read` gives the pixels of a span. What
/// the filter is, [`SlideImage::resample`](super::SlideImage::resample) says.
///
/// # Errors
/// [`SlideError::Window`] when the window is empty, not finite or wider than 8192 px, or when `out` has another
/// length than the output needs; whatever `read` gives.
pub(super) fn resample(
    window: PxWindow,
    out_width_px: usize,
    out_height_px: usize,
    out: &mut [u8],
    read: impl FnOnce(PxSpan) -> Result<Vec<u8>, SlideError>,
) -> Result<(), SlideError> {
    window.check(MAX_WINDOW_PX)?;
    let (Ok(out_width), Ok(out_height)) = (u32::try_from(out_width_px), u32::try_from(out_height_px)) else {
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
    let span = PxSpan { left, top, right, bottom };
    let copy = read(span)?;
    let within = PxWindow { left: window.left - left as f64, top: window.top - top as f64, ..window };
    resize_rgb(&copy, span.size(), out, (out_width, out_height), within)
}

/// How large a thumbnail is, and how many pixels of the slide each of its pixels covers.
pub(super) struct ThumbnailSize {
    pub(super) scale: f64,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl ThumbnailSize {
    /// The thumbnail of a slide whose longer side becomes `max_side_px`: one scale for both axes, so that it has one
    /// pixel size; what is cut off at the right and bottom edge is less than one of its pixels.
    pub(super) fn of(width_px: u32, height_px: u32, max_side_px: u32) -> Self {
        let scale = f64::from(width_px.max(height_px)) / f64::from(max_side_px.max(1));
        let side = |full: u32| ((f64::from(full) / scale).floor() as u32).max(1);
        Self { scale, width: side(width_px), height: side(height_px) }
    }
}

/// Resizes a window of RGB of `(width, height)` into RGB of another. The pixel type is fixed here: the resizer that chooses it at run
/// time is compiled for every pixel type there is, which was more code than the rest of this crate.
pub(super) fn resize_rgb(
    source: &[u8],
    source_px: (u32, u32),
    target: &mut [u8],
    target_px: (u32, u32),
    window: PxWindow,
) -> Result<(), SlideError> {
    let source = TypedImageRef::<U8x3>::from_buffer(source_px.0, source_px.1, source)
        .map_err(|error| resize_error(&error))?;
    let mut target = TypedImage::<U8x3>::from_buffer(target_px.0, target_px.1, target)
        .map_err(|error| resize_error(&error))?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false)
        .crop(window.left, window.top, window.width, window.height);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| resize_error(&error))
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
