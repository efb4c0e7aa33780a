//! The part of a slide that is to be predicted, and at which resolution it is read.

use magnet_core::Level;

use crate::protocol::{ModelSummary, RegionFrame};
use crate::slide::messages::{MOST_REGION_PIXELS, RegionWindow, SlideSummary};

/// A rectangle on a slide, in full-resolution pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Left edge.
    pub left: u32,
    /// Top edge.
    pub top: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

impl Region {
    /// The rectangle between two places, whole pixels, within a slide of this size. At least one pixel is left.
    pub fn between(from: (f64, f64), to: (f64, f64), slide_px: (u32, u32)) -> Self {
        let span = |a: f64, b: f64, side: u32| {
            let side = side.max(1);
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            let low = low.round().clamp(0.0, f64::from(side - 1)) as u32;
            let high = (high.round().clamp(0.0, f64::from(side)) as u32).max(low + 1);
            (low, high - low)
        };
        let (left, width) = span(from.0, to.0, slide_px.0);
        let (top, height) = span(from.1, to.1, slide_px.1);
        Self { left, top, width, height }
    }

    /// Moved by a distance, as far as the slide reaches.
    pub fn moved(self, by: (f64, f64), slide_px: (u32, u32)) -> Self {
        let place = |at: u32, by: f64, length: u32, side: u32| {
            (f64::from(at) + by).round().clamp(0.0, f64::from(side.saturating_sub(length))) as u32
        };
        let left = place(self.left, by.0, self.width, slide_px.0);
        let top = place(self.top, by.1, self.height, slide_px.1);
        Self { left, top, ..self }
    }

    /// Reads `x,y,w,h` in full-resolution pixels, within a slide of this size.
    pub fn from_text(text: &str, slide_px: (u32, u32)) -> Option<Self> {
        let numbers: Vec<f64> = text
            .split([',', ' '])
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0))
            .collect::<Option<_>>()?;
        let [x, y, width, height] = numbers[..] else { return None };
        let inside = x < f64::from(slide_px.0) && y < f64::from(slide_px.1) && width >= 1.0 && height >= 1.0;
        inside.then(|| Self::between((x, y), (x + width, y + height), slide_px))
    }

    /// The part of this region around its middle that can be read at a scale; the region itself where all of it can.
    pub fn largest_at(self, scale: f64) -> Self {
        let pixels = f64::from(self.width) * f64::from(self.height) / (scale * scale);
        if pixels <= MOST_REGION_PIXELS {
            return self;
        }
        // A little less, because both sides are rounded.
        let part = (MOST_REGION_PIXELS / pixels).sqrt() * 0.9999;
        let side = |length: u32| ((f64::from(length) * part) as u32).max(1);
        let (width, height) = (side(self.width), side(self.height));
        Self {
            left: self.left + (self.width - width) / 2,
            top: self.top + (self.height - height) / 2,
            width,
            height,
        }
    }

    /// What the slide worker is to read, at a scale.
    pub fn window(self, scale: f64) -> RegionWindow {
        let side = |length: u32| (f64::from(length) / scale).round().max(1.0) as u32;
        RegionWindow {
            left_px: self.left,
            top_px: self.top,
            scale,
            out_width_px: side(self.width),
            out_height_px: side(self.height),
        }
    }
}

/// Where what a window holds lies on its slide.
pub fn frame(window: &RegionWindow, slide: &SlideSummary) -> RegionFrame {
    RegionFrame {
        left_px: window.left_px,
        top_px: window.top_px,
        scale: window.scale,
        slide_width_px: slide.width_px,
        slide_height_px: slide.height_px,
        slide_bytes: slide.bytes,
    }
}

/// Full-resolution pixels for each pixel that a model needs: pixels of the smallest size among its patches', and never
/// finer ones than the slide has.
pub fn scale_for(model: Option<&ModelSummary>, um_per_px: f64) -> f64 {
    let finest = model.and_then(|model| {
        let sizes = Level::ALL.into_iter().map(|level| model.levels.get(level));
        let sizes = sizes.map(|level| level.patch_um / level.patch_px.max(1) as f64);
        sizes.filter(|size| size.is_finite() && *size > 0.0).reduce(f64::min)
    });
    let scale = finest.map_or(1.0, |finest| finest / um_per_px);
    // A slide that is a per cent finer than needed is read as it is: resampling would only blur it.
    if scale.is_finite() && scale > 1.01 { scale } else { 1.0 }
}

/// Whether a window is more than the engine takes.
pub fn is_too_large(window: &RegionWindow) -> bool {
    f64::from(window.out_width_px) * f64::from(window.out_height_px) > MOST_REGION_PIXELS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLIDE: (u32, u32) = (100_000, 80_000);

    #[test]
    fn two_places_make_a_rectangle_within_the_slide() {
        let region = Region::between((500.4, 900.0), (100.0, 1000.0), SLIDE);
        assert_eq!(region, Region { left: 100, top: 900, width: 400, height: 100 });
        let region = Region::between((-50.0, 79_999.9), (1e9, 90_000.0), SLIDE);
        assert_eq!(region, Region { left: 0, top: 79_999, width: 100_000, height: 1 });
        let dot = Region::between((f64::NAN, 5.0), (f64::NAN, 5.0), SLIDE);
        assert!(dot.width >= 1 && dot.height == 1);
    }

    #[test]
    fn a_moved_region_keeps_its_size() {
        let region = Region { left: 10, top: 10, width: 300, height: 200 };
        assert_eq!(
            region.moved((-50.0, 1e9), SLIDE),
            Region { left: 0, top: 79_800, width: 300, height: 200 }
        );
        assert_eq!(region.moved((4.6, -2.0), SLIDE), Region { left: 15, top: 8, width: 300, height: 200 });
    }

    #[test]
    fn an_attribute_is_four_numbers_on_the_slide() {
        let region = Region { left: 1000, top: 2000, width: 300, height: 400 };
        assert_eq!(Region::from_text("1000,2000, 300 400", SLIDE), Some(region));
        let cut = Region::from_text("99000,0,5000,10", SLIDE).unwrap();
        assert_eq!(cut.width, 1000);
        for wrong in ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "1,2,0,4", "100000,0,5,5", "1,2,NaN,4"]
        {
            assert_eq!(Region::from_text(wrong, SLIDE), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_too_large_is_cut_around_its_middle() {
        let region = Region { left: 1000, top: 2000, width: 60_000, height: 30_000 };
        for scale in [1.0, 1.37, 2.0] {
            let cut = region.largest_at(scale);
            assert!(!is_too_large(&cut.window(scale)), "{cut:?}");
            let pixels = f64::from(cut.width) * f64::from(cut.height) / (scale * scale);
            assert!(pixels > 0.99 * MOST_REGION_PIXELS);
            let middle = cut.left + cut.width / 2;
            assert!(middle.abs_diff(region.left + region.width / 2) <= 1);
        }
        assert_eq!(region.largest_at(4.0), region);
        assert!(is_too_large(&region.window(1.0)) && !is_too_large(&region.window(4.0)));
    }
}
