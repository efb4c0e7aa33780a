//! What figures of the paper have in common: colour scales, scale bars, notes.

use magnet_core::heatmap::figure::{INK, SOFT_INK};
use magnet_core::heatmap::{ColorMap, ScaleBar, ValueRange, ticks};

use super::super::drawing::{Anchor, Drawing, Font, Rgb, Ruler};

/// The heading of a figure.
pub(super) const TITLE: Font = Font::bold(18.0, INK);
/// Names of columns and rows.
pub(super) const NAME: Font = Font::bold(13.0, INK);
/// Numbers and explanations.
pub(super) const SMALL: Font = Font::plain(11.0, SOFT_INK);
/// What a figure is about.
pub(super) const ACCENT: Rgb = [42, 111, 151];
/// What it is compared with.
pub(super) const SECOND: Rgb = [181, 101, 29];
/// From one line of [`SMALL`] text to the next.
pub(super) const SMALL_LINE: f64 = 15.0;
/// Width of a colour scale's bar.
const BAR: f64 = 12.0;
/// From a colour scale's left edge to its numbers.
const TO_NUMBERS: f64 = BAR + 7.0;

/// A vertical colour scale.
pub(super) struct Legend<'a> {
    pub(super) color_map: ColorMap,
    pub(super) range: ValueRange,
    pub(super) units: &'a str,
    /// Whether values lie below and above the range.
    pub(super) beyond: (bool, bool),
}

impl Legend<'_> {
    /// Draws the scale with its bar from `y` to `y + height`; its unit stands above.
    pub(super) fn draw(&self, drawing: &mut Drawing, x: f64, y: f64, height: f64) {
        let steps = (height / 2.0).round().max(8.0);
        for step in 0..steps as u32 {
            let fraction = (f64::from(step) + 0.5) / steps;
            let top = y + height * (1.0 - (f64::from(step) + 1.0) / steps);
            // Each cell reaches under the one above it, or gaps would show at some zoom levels.
            let overlap = if step == 0 { 0.0 } else { 0.7 };
            drawing.rect(x, top, BAR, height / steps + overlap, self.color_map.color(fraction));
        }
        // Pointed ends say that values lie beyond the range.
        let mut point = |tip: f64, base: f64, color: Rgb| {
            let rows = 8;
            for row in 0..rows {
                let part = f64::from(row) / f64::from(rows);
                let half = BAR / 2.0 * (1.0 - part);
                let (a, b) = (base + (tip - base) * part, base + (tip - base) * (part + 0.125));
                drawing.rect(x + BAR / 2.0 - half, a.min(b), 2.0 * half, (a - b).abs(), color);
            }
        };
        if self.beyond.0 {
            point(y + height + BAR / 2.0, y + height, self.color_map.color(0.0));
        }
        if self.beyond.1 {
            point(y - BAR / 2.0, y, self.color_map.color(1.0));
        }
        drawing.text(x, y - 14.0, Anchor::Start, SMALL, self.units);
        for tick in ticks(self.range, 4) {
            let at = y + height * (1.0 - self.range.fraction(tick.value));
            drawing.rect(x + BAR, at - 0.5, 4.0, 1.0, SOFT_INK);
            drawing.text(x + TO_NUMBERS, at + 4.0, Anchor::Start, SMALL, tick.label);
        }
    }

    /// The room that the scale takes.
    pub(super) fn width(&self, ruler: &Ruler) -> f64 {
        let numbers = ticks(self.range, 4)
            .iter()
            .map(|tick| TO_NUMBERS + ruler.width(&tick.label, SMALL))
            .fold(0.0, f64::max);
        numbers.max(ruler.width(self.units, SMALL))
    }
}

/// A scale bar of at most `max_width` with its length beside it.
pub(super) fn scale_bar(drawing: &mut Drawing, x: f64, y: f64, um_per_unit: f64, max_width: f64) {
    let bar = ScaleBar::fit(um_per_unit, max_width);
    drawing.rect(x, y, bar.length_px, 3.0, INK);
    let font = Font::plain(SMALL.size, INK);
    drawing.text(x + bar.length_px + 8.0, y + 5.5, Anchor::Start, font, bar.label);
}

/// Lines of text below each other from the baseline `y`.
pub(super) fn lines(drawing: &mut Drawing, x: f64, y: f64, font: Font, lines: &[String]) {
    let mut baseline = y;
    for line in lines {
        drawing.text(x, baseline, Anchor::Start, font, line.clone());
        baseline += SMALL_LINE;
    }
}
