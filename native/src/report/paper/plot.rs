//! A plot with two axes, drawn into a figure.

use magnet_core::heatmap::figure::{INK, PAPER, RULE, SOFT_INK};
use magnet_core::heatmap::{Canvas, Tick, ValueRange, ticks};

use super::super::drawing::{Anchor, Drawing, Font, PX_PER_UNIT, Rgb};
use super::parts::SMALL;

/// What a side of a plot stands for.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// The values at its ends; their decimal logarithms where `logarithmic`.
    range: ValueRange,
    logarithmic: bool,
    name: &'static str,
}

impl Axis {
    /// An axis that holds all of `values`, with a little room above them and, where they do not begin at 0, below.
    pub(super) fn of(values: impl Iterator<Item = f64>, name: &'static str) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let room = (high - low) * 0.04;
        let low = if low >= 0.0 { 0.0 } else { low - room };
        let range = ValueRange::new(low, high + room).or_else(|| ValueRange::new(0.0, 1.0));
        Self { range: range.unwrap_or_else(|| ValueRange::of([], 0.0, 1.0)), logarithmic: false, name }
    }

    /// An axis of ranks from 1 to `last`, as wide for the first ten as for the next ninety.
    pub(super) fn of_ranks(last: usize, name: &'static str) -> Self {
        let high = (last.max(2) as f64).log10();
        let range = ValueRange::new(0.0, high).unwrap_or_else(|| ValueRange::of([], 0.0, 1.0));
        Self { range, logarithmic: true, name }
    }

    /// A logarithmic axis from one power of ten to another that holds all positive ones of `values`.
    pub(super) fn of_powers(values: impl Iterator<Item = f64>, name: &'static str) -> Self {
        let powers = values.filter(|value| value.is_finite() && *value > 0.0).map(f64::log10);
        let (low, high) = powers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), power| {
            (low.min(power.floor()), high.max(power.ceil()))
        });
        let range = ValueRange::new(low, high.max(low + 1.0)).or_else(|| ValueRange::new(0.0, 1.0));
        Self { range: range.unwrap_or_else(|| ValueRange::of([], 0.0, 1.0)), logarithmic: true, name }
    }

    /// An axis of shares, with a little room at both ends.
    pub(super) fn of_shares(name: &'static str) -> Self {
        let range = ValueRange::new(-0.02, 1.02).unwrap_or_else(|| ValueRange::of([], 0.0, 1.0));
        Self { range, logarithmic: false, name }
    }

    fn fraction(&self, value: f64) -> f64 {
        self.range.fraction(if self.logarithmic { value.log10() } else { value })
    }

    fn ticks(&self) -> Vec<Tick> {
        if !self.logarithmic {
            return ticks(self.range, 4);
        }
        let power_of = |end: f64| end.clamp(-12.0, 12.0) as i32;
        let powers = power_of(self.range.low().ceil())..=power_of(self.range.high().floor());
        powers
            .map(|power| {
                let value = 10.0_f64.powi(power);
                let label = match power {
                    0.. => with_thousands(value as u64),
                    _ => format!("{value:.*}", power.unsigned_abs() as usize),
                };
                Tick { value, label }
            })
            .collect()
    }
}

/// A number with a comma at each thousand.
pub(super) fn with_thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where a plot lies and what its sides stand for.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

/// Points of one kind, drawn over those before.
pub(super) struct Layer {
    pub(super) points: Vec<(f64, f64)>,
    pub(super) color: Rgb,
    /// In units.
    pub(super) radius: f64,
}

impl Plot {
    /// Axes, ticks and names: that of the upright axis above the plot.
    pub(super) fn draw_axes(&self, drawing: &mut Drawing) {
        let bottom = self.top + self.height;
        for tick in self.y.ticks() {
            let y = self.y_at(tick.value);
            drawing.rect(self.left, y - 0.3, self.width, 0.6, RULE);
            drawing.text(self.left - 6.0, y + 4.0, Anchor::End, SMALL, tick.label);
        }
        for tick in self.x.ticks() {
            let x = self.x_at(tick.value);
            drawing.rect(x - 0.5, bottom, 1.0, 4.0, SOFT_INK);
            drawing.text(x, bottom + 16.0, Anchor::Middle, SMALL, tick.label);
        }
        drawing.rect(self.left, bottom - 0.5, self.width, 1.0, SOFT_INK);
        let name = Font::plain(SMALL.size, INK);
        drawing.text(self.left + self.width / 2.0, bottom + 32.0, Anchor::Middle, name, self.x.name);
        drawing.text(self.left - 30.0, self.top - 8.0, Anchor::Start, name, self.y.name);
    }

    /// A line through `points`.
    pub(super) fn draw_line(&self, drawing: &mut Drawing, points: &[(f64, f64)], width: f64, color: Rgb) {
        let mut places: Vec<(f64, f64)> = Vec::new();
        for &(x, y) in points {
            let place = (self.x_at(x), self.y_at(y));
            // What lies on the same third of a unit would not be seen apart.
            let apart = |last: &(f64, f64)| (last.0 - place.0).hypot(last.1 - place.1) > 0.33;
            if places.last().is_none_or(apart) {
                places.push(place);
            }
        }
        drawing.line(places, width, color);
    }

    /// Points as a picture, because there may be tens of thousands; `alt` says what they show.
    pub(super) fn draw_points(&self, drawing: &mut Drawing, layers: &[Layer], alt: String) {
        let scale = f64::from(PX_PER_UNIT);
        let side = |units: f64| (units * scale).round().clamp(1.0, 16_000.0) as u32;
        let mut canvas = Canvas::new(side(self.width), side(self.height), PAPER);
        for tick in self.y.ticks() {
            let y = (self.y_at(tick.value) - self.top) * scale;
            canvas.fill(0, (y - 1.0) as i64, i64::from(canvas.width()), (y + 1.0) as i64, RULE);
        }
        for layer in layers {
            for &(x, y) in &layer.points {
                let (x, y) = ((self.x_at(x) - self.left) * scale, (self.y_at(y) - self.top) * scale);
                canvas.fill_disc(x, y, layer.radius * scale, layer.color, 0.75);
            }
        }
        drawing.picture(self.left, self.top, canvas, alt);
    }

    pub(super) fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.fraction(value) * self.width
    }

    pub(super) fn y_at(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.y.fraction(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_they_are_made_of() {
        let axis = Axis::of([0.5, f64::NAN, 3.0].into_iter(), "v");
        assert!(axis.fraction(0.5) > 0.0 && axis.fraction(3.0) < 1.0 && axis.fraction(0.0) == 0.0);
        assert!(Axis::of([-2.0, 1.0].into_iter(), "v").fraction(-2.0) > 0.0);
        assert_eq!(Axis::of([].into_iter(), "v").fraction(0.5), 0.5);
        let ranks = Axis::of_ranks(10_000, "rank");
        assert_eq!((ranks.fraction(1.0), ranks.fraction(100.0), ranks.fraction(10_000.0)), (0.0, 0.5, 1.0));
        let labels: Vec<String> = ranks.ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["1", "10", "100", "1,000", "10,000"]);
        assert_eq!(Axis::of_ranks(1, "rank").ticks().len(), 1);
    }

    #[test]
    fn powers_of_ten_enclose_what_they_are_made_of() {
        let axis = Axis::of_powers([0.02, f64::NAN, 0.0, 700.0].into_iter(), "s");
        let labels: Vec<String> = axis.ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["0.01", "0.1", "1", "10", "100", "1,000"]);
        assert_eq!((axis.fraction(0.01), axis.fraction(1000.0)), (0.0, 1.0));
        assert_eq!(Axis::of_powers([10.0].into_iter(), "s").ticks().len(), 2);
        assert_eq!(Axis::of_powers([].into_iter(), "s").ticks().len(), 2);
    }
}
