//! The whole slide as one small picture, without ever holding the whole slide.

use super::SlidePyramid;
use crate::slide::resample::{PxSpan, ThumbnailSize, resize_rgb};
use crate::slide::{PatchReader, PxWindow, RangeRead, SlideError, SlideImage};

/// A level of at most this many bytes is read whole.
const WHOLE_BYTES: u64 = 64 << 20;

/// Longest side of the parts in which a larger level is read, in its pixels.
const PART_PX: f64 = 4096.0;

/// As [`PatchReader::thumbnail`].
pub(super) fn thumbnail<R: RangeRead>(
    slide: &SlidePyramid<R>,
    max_side_px: u32,
    um_per_px: f64,
) -> Result<SlideImage, SlideError> {
    let Some(full) = slide.levels().first() else { return Err(SlideError::PixelSize { found: um_per_px }) };
    let whole = |level: usize, width: u32, height: u32| {
        let rgb = slide.read_region(level, 0, 0, width, height)?;
        SlideImage::new(width, height, rgb, um_per_px)
    };
    if full.width_px.max(full.height_px) <= max_side_px {
        return whole(0, full.width_px, full.height_px);
    }
    let size = ThumbnailSize::of(full.width_px, full.height_px, max_side_px);
    let level = slide.level_for(size.scale);
    if level == 0 && u64::from(full.width_px) * u64::from(full.height_px) * 3 <= WHOLE_BYTES {
        return whole(0, full.width_px, full.height_px)?.thumbnail(max_side_px);
    }
    let mut rgb = vec![0; size.width as usize * size.height as usize * 3];
    let (Some((_, fit)), Some(bounds)) = (slide.images.get(level), slide.levels().get(level)) else {
        return Err(SlideError::PixelSize { found: um_per_px });
    };
    let (step_x, step_y) = (size.scale / fit.scale_x, size.scale / fit.scale_y);
    // Parts of whole thumbnail pixels; each is resampled out of its own pixels and a margin for the filter.
    let part_width = ((PART_PX / step_x) as u32).max(1);
    let part_height = ((PART_PX / step_y) as u32).max(1);
    for top in (0..size.height).step_by(part_height as usize) {
        let height = part_height.min(size.height - top);
        let (rows, window_top, window_height) = axis(top, height, step_y, bounds.height_px);
        for left in (0..size.width).step_by(part_width as usize) {
            let width = part_width.min(size.width - left);
            let (columns, window_left, window_width) = axis(left, width, step_x, bounds.width_px);
            let span = PxSpan { left: columns.0, right: columns.1, top: rows.0, bottom: rows.1 };
            let pixels = slide.read_span(level, span)?;
            let window =
                PxWindow { left: window_left, top: window_top, width: window_width, height: window_height };
            let mut part = vec![0; width as usize * height as usize * 3];
            resize_rgb(&pixels, span.size(), &mut part, (width, height), window)?;
            let row_bytes = width as usize * 3;
            for (row, line) in (top as usize..).zip(part.chunks_exact(row_bytes)) {
                let start = (row * size.width as usize + left as usize) * 3;
                rgb[start..start + row_bytes].copy_from_slice(line);
            }
        }
    }
    SlideImage::new(size.width, size.height, rgb, um_per_px * size.scale)
}

/// Along one axis of the level: the span to be read for `length` thumbnail pixels from `start` on, and the window
/// within that span. At the slide's border the filter ends, as it does in an image in memory.
fn axis(start: u32, length: u32, step: f64, side: u32) -> ((i64, i64), f64, f64) {
    let side = f64::from(side);
    // A level may be a pixel smaller than its scale says; the last thumbnail pixel is never without a source.
    let from = (f64::from(start) * step).min(side - 0.5);
    let to = (f64::from(start + length) * step).min(side);
    let margin = step.max(1.0).ceil() + 1.0;
    let (first, last) = ((from - margin).floor().max(0.0), (to + margin).ceil().min(side));
    ((first as i64, last as i64), from - first, to - from)
}
