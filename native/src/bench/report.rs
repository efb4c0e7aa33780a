//! What was measured, for people and for programs.

use std::fmt;

use magnet_core::weights::Precision;
use serde::Serialize;
use serde_json::Value;

use super::floor::{Bound, Floor};
use super::timing::median;
use super::work::Work;
use crate::cli::BenchKind;
use crate::device::ChosenDevice;

/// The number format of what is computed on a device.
pub(super) fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "f32",
        Precision::Half => "f32, patch encoder in predictions f16 with f32 sums",
    }
}

/// All measurements of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    device: String,
    precision: &'static str,
    threads: usize,
    #[serde(flatten)]
    floor: Floor,
    pub(super) measurements: Vec<Compared>,
}

/// What some work took.
#[derive(Debug, Serialize)]
pub(super) struct Measurement {
    name: &'static str,
    /// What it was done with, by name.
    shape: Value,
    repeats: usize,
    seconds: Vec<f64>,
    seconds_median: f64,
    /// Of `unit`, at the median.
    rate: f64,
    unit: &'static str,
    /// Two for each multiply-add.
    operations: u64,
    bytes: u64,
}

/// A measurement beside the floor.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    #[serde(flatten)]
    measurement: Measurement,
    /// The least time for this work.
    floor_seconds: f64,
    /// What sets it.
    floor_bound: Bound,
    /// The least time as a part of the time taken: 1 would be as fast as the device can be.
    share_of_floor: f64,
}

impl Measurement {
    /// A measurement of work on so many things, by their unit.
    pub(super) fn new(
        kind: BenchKind,
        shape: Value,
        seconds: Vec<f64>,
        (count, unit): (usize, &'static str),
        work: Work,
    ) -> Self {
        let seconds_median = median(&seconds);
        Self {
            name: kind.name(),
            shape,
            repeats: seconds.len(),
            seconds,
            seconds_median,
            rate: count as f64 / seconds_median.max(1e-9),
            unit,
            operations: work.operations,
            bytes: work.bytes,
        }
    }

    pub(super) fn beside(self, floor: &Floor) -> Compared {
        let work = Work { operations: self.operations, bytes: self.bytes };
        let (floor_seconds, floor_bound) = floor.seconds(work);
        let share_of_floor = floor_seconds / self.seconds_median.max(1e-9);
        Compared { measurement: self, floor_seconds, floor_bound, share_of_floor }
    }
}

impl Report {
    pub(super) fn new(chosen: &ChosenDevice, precision: Precision, floor: Floor) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device: device_name(chosen),
            precision: precision_name(precision),
            threads: rayon::current_num_threads(),
            floor,
            measurements: Vec::new(),
        }
    }
}

/// The hardware by its name.
pub(super) fn device_name(chosen: &ChosenDevice) -> String {
    if let Some(adapter) = chosen.adapter {
        return adapter.to_string();
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    match name {
        Some((_, name)) => format!("CPU ({})", name.trim()),
        None => "CPU".into(),
    }
}

/// The numbers of a shape in one line: `patches 64, patch_px 112`.
fn shape_in_words(shape: &Value) -> String {
    let fields = shape.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object());
    let words = fields.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Three significant digits.
pub(super) fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v => (2 - v.log10().floor() as i32).clamp(0, 9) as usize,
    };
    format!("{value:.digits$}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "magnet-native {} on {}", self.version, self.device)?;
        writeln!(
            f,
            "{}, {} threads; matrices {} GFLOP/s, memory {} GB/s\n",
            self.precision,
            self.threads,
            rounded(self.floor.matrix_gflops),
            rounded(self.floor.bandwidth_gbytes)
        )?;
        writeln!(
            f,
            "{:<11} {:>12} {:>10} {:>20} {:>12} {:>15}",
            "what", "median", "runs", "rate", "floor", "share of floor"
        )?;
        for Compared { measurement, floor_seconds, floor_bound, share_of_floor } in &self.measurements {
            let bound = match floor_bound {
                Bound::Matrix => "matrix",
                Bound::Memory => "memory",
            };
            writeln!(
                f,
                "{:<11} {:>10} s {:>10} {:>20} {:>10} s {:>6.1} % {bound}",
                measurement.name,
                rounded(measurement.seconds_median),
                measurement.repeats,
                format!("{} {}", rounded(measurement.rate), measurement.unit),
                rounded(*floor_seconds),
                share_of_floor * 100.0,
            )?;
            writeln!(f, "            {}", shape_in_words(&measurement.shape))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in
            [(1234.5, "1234"), (12.345, "12.3"), (1.0, "1.00"), (0.0123456, "0.0123"), (0.0, "0")]
        {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn a_measurement_says_what_part_of_its_time_was_needed() {
        let work = Work { operations: 1_000_000_000, bytes: 8 };
        let measurement =
            Measurement::new(BenchKind::Encode, json!({}), vec![4.0, 1.0, 2.0], (10, "patches/s"), work);
        let compared = measurement.beside(&Floor { matrix_gflops: 2.0, bandwidth_gbytes: 1.0 });
        let value = serde_json::to_value(&compared).unwrap();
        assert_eq!((&value["seconds_median"], &value["rate"]), (&json!(2.0), &json!(5.0)));
        assert_eq!((&value["floor_seconds"], &value["floor_bound"]), (&json!(0.5), &json!("matrix")));
        assert_eq!(value["share_of_floor"], json!(0.25));
    }
}
