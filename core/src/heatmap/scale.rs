//! Ranges, ticks of a legend, the length of a scale bar.

/// The values that the two ends of a colour map stand for; `low < high`, both finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    low: f64,
    high: f64,
}

impl ValueRange {
    /// The range from `low` to `high`, or `None` unless both are finite and `low < high`.
    pub fn new(low: f64, high: f64) -> Option<Self> {
        // The width must be finite too, or fractions would be lost.
        (low < high && (high - low).is_finite()).then_some(Self { low, high })
    }

    /// The range between two quantiles (0..=1) of the finite values. A gene that is the same everywhere gets a range
    /// of width 1 above its value; no finite value at all gives 0 to 1.
    pub fn of(values: impl IntoIterator<Item = f32>, low_quantile: f64, high_quantile: f64) -> Self {
        let mut finite: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
        finite.sort_by(f32::total_cmp);
        let quantile = |q: f64| {
            let place = q.clamp(0.0, 1.0) * (finite.len().saturating_sub(1)) as f64;
            let below = finite.get(place.floor() as usize).copied().map_or(0.0, f64::from);
            let above = finite.get(place.ceil() as usize).copied().map_or(below, f64::from);
            below + (above - below) * place.fract()
        };
        let (low, high) = (quantile(low_quantile), quantile(high_quantile));
        Self::new(low, high).unwrap_or(Self { low, high: low + 1.0 })
    }

    /// The value of the map's first colour.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The value of the map's last colour.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Where a value lies: 0 at the low end, 1 at the high end, beyond them outside.
    pub fn fraction(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A labelled place of a legend or an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// The value as text, with as many decimals as its neighbours need.
    pub label: String,
}

/// Round values (steps of 1, 2 or 5 times a power of ten) within the range, about `count` of them.
pub fn ticks(range: ValueRange, count: usize) -> Vec<Tick> {
    let step = nice_at_least((range.high - range.low) / count.max(1) as f64);
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    // A little slack, so that an end which is a tick but for rounding keeps its label.
    let first = (range.low / step - 1e-9).ceil();
    let last = (range.high / step + 1e-9).floor();
    let large = range.low.abs().max(range.high.abs()) >= 1e6 || step < 1e-6;
    (0..=(last - first).clamp(-1.0, 1000.0) as i64)
        .take_while(|&index| first + index as f64 <= last)
        .map(|index| {
            let value = (first + index as f64) * step;
            let value = if value == 0.0 { 0.0 } else { value }; // no "-0"
            let label = if large { format!("{value:.2e}") } else { format!("{value:.decimals$}") };
            Tick { value, label }
        })
        .collect()
}

/// A bar that shows a round length.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleBar {
    /// The length that it stands for, in µm.
    pub length_um: f64,
    /// Its length on the picture, in pixels.
    pub length_px: f64,
    /// The length in words: µm below 1 mm, mm from there.
    pub label: String,
}

impl ScaleBar {
    /// The longest bar of 1, 2 or 5 times a power of ten µm that is at most `max_px` long.
    pub fn fit(um_per_px: f64, max_px: f64) -> Self {
        let longest_um = (um_per_px * max_px).clamp(1e-6, 1e12);
        let length_um = nice_at_most(longest_um);
        let label = if length_um >= 1000.0 {
            format!("{} mm", length_um / 1000.0)
        } else {
            // Below 1 µm the division by powers of ten leaves digits that mean nothing.
            format!("{} µm", (length_um * 1e9).round() / 1e9)
        };
        Self { length_um, length_px: length_um / um_per_px, label }
    }
}

/// The smallest 1, 2 or 5 times a power of ten that is at least `value`.
fn nice_at_least(value: f64) -> f64 {
    let power = power_of_ten(value);
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&step| step >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// The largest 1, 2 or 5 times a power of ten that is at most `value`.
fn nice_at_most(value: f64) -> f64 {
    let power = power_of_ten(value);
    [5.0, 2.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&step| step <= value * (1.0 + 1e-9))
        .unwrap_or(power)
}

/// The largest power of ten that is at most `value`, exact for whole powers.
fn power_of_ten(value: f64) -> f64 {
    let exponent = (value.log10() + 1e-12).floor().clamp(-300.0, 300.0) as i32;
    if exponent < 0 { 1.0 / 10f64.powi(-exponent) } else { 10f64.powi(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, count: usize) -> Vec<String> {
        ticks(ValueRange::new(low, high).unwrap(), count).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(labels(0.0, 5.0, 5), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(labels(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.13, 0.42, 5), ["0.0", "0.2", "0.4"]);
        assert_eq!(labels(2.1, 7.9, 4), ["4", "6"]);
        assert_eq!(labels(0.0, 300.0, 5), ["0", "100", "200", "300"]);
        assert_eq!(labels(0.0101, 0.0199, 4), ["0.015"]);
        assert_eq!(labels(-1.0, 1.0, 4), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    }

    #[test]
    fn ticks_of_extreme_ranges_are_few_and_finite() {
        for (low, high) in [(1e-30, 2e-30), (1e20, 3e20), (-1e300, 1e300), (1e9, 1e9 + 1e-6)] {
            let found = ticks(ValueRange::new(low, high).unwrap(), 5);
            assert!(found.len() <= 12, "{low}..{high}: {}", found.len());
            assert!(found.iter().all(|tick| tick.value.is_finite()));
        }
    }

    #[test]
    fn ranges_hold_what_they_say() {
        assert_eq!(ValueRange::new(1.0, 1.0), None);
        assert_eq!(ValueRange::new(0.0, f64::NAN), None);
        assert_eq!(ValueRange::new(-f64::MAX, f64::MAX), None);
        let values = (0..=100).map(|value| value as f32).chain([f32::NAN, f32::INFINITY]);
        let range = ValueRange::of(values, 0.01, 0.99);
        assert!((range.low() - 1.0).abs() < 1e-9 && (range.high() - 99.0).abs() < 1e-9);
        assert!((range.fraction(50.0) - 0.5).abs() < 1e-9);
        assert_eq!(ValueRange::of([], 0.0, 1.0), ValueRange { low: 0.0, high: 1.0 });
        assert_eq!(ValueRange::of([3.0, 3.0], 0.0, 1.0), ValueRange { low: 3.0, high: 4.0 });
    }

    #[test]
    fn scale_bars_are_round_and_fit() {
        let bar = |um_per_px, max_px| ScaleBar::fit(um_per_px, max_px);
        assert_eq!(bar(0.25, 200.0).label, "50 µm");
        assert_eq!(bar(1.0, 199.0).label, "100 µm");
        assert_eq!(bar(8.0, 150.0).label, "1 mm");
        assert_eq!(bar(20.0, 120.0).label, "2 mm");
        assert_eq!(bar(0.25, 200.0).length_px, 200.0);
        for exponent in -20..20 {
            let found = bar(1.37f64.powi(exponent), 100.0);
            assert!(found.length_px <= 100.0 + 1e-6 && found.length_px >= 40.0 - 1e-6, "{found:?}");
        }
    }
}
