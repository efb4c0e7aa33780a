//! What was measured at several sizes, and whether it grows in proportion.

use std::fmt;

use magnet_core::weights::Precision;
use serde::Serialize;

use super::super::report::{precision_name, rounded};
use super::super::timing::median;
use super::Part;
use crate::cli::BenchKind;
use crate::report::paper::{ScaleFigure, ScaleSeries};

/// Part by which the times for a bin may differ between sizes.
const LINEAR_WITHIN: f64 = 0.2;
/// Bytes of a MB.
const MB: f64 = 1e6;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct ScaleReport {
    version: &'static str,
    device: String,
    precision: &'static str,
    threads: usize,
    preset: String,
    linear_within: f64,
    measurements: Vec<Judged>,
}

/// One thing at several sizes.
#[derive(Debug)]
pub(super) struct Series {
    kind: BenchKind,
    /// Ascending.
    pub(super) sizes: Vec<Size>,
}

/// One size.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    bins: usize,
    seconds: Vec<f64>,
    seconds_median: f64,
    seconds_per_bin: f64,
    peak_bytes: Option<u64>,
}

/// One thing at several sizes, with a verdict.
#[derive(Debug, Serialize)]
struct Judged {
    name: &'static str,
    sizes: Vec<Size>,
    /// The longest time for a bin, divided by the shortest.
    spread: f64,
    /// Whether the spread is within the limit.
    linear: bool,
}

impl Series {
    pub(super) fn new(kind: BenchKind) -> Self {
        Self { kind, sizes: Vec::new() }
    }

    pub(super) fn kind(&self) -> BenchKind {
        self.kind
    }

    fn judged(self) -> Judged {
        let per_bin = || self.sizes.iter().map(|size| size.seconds_per_bin);
        let (least, most) = (per_bin().fold(f64::INFINITY, f64::min), per_bin().fold(0.0, f64::max));
        let spread = if least > 0.0 && least.is_finite() { most / least } else { 1.0 };
        let linear = spread <= 1.0 + LINEAR_WITHIN;
        Judged { name: self.kind.name(), sizes: self.sizes, spread, linear }
    }
}

impl From<Part> for Size {
    fn from(part: Part) -> Self {
        let seconds_median = median(&part.seconds);
        Self {
            bins: part.bins,
            seconds_median,
            seconds_per_bin: seconds_median / part.bins.max(1) as f64,
            seconds: part.seconds,
            peak_bytes: part.peak_bytes,
        }
    }
}

impl ScaleReport {
    pub(super) fn new(device: String, preset: &str, series: Vec<Series>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device,
            precision: precision_name(Precision::Single),
            threads: rayon::current_num_threads(),
            preset: preset.to_owned(),
            linear_within: LINEAR_WITHIN,
            measurements: series.into_iter().map(Series::judged).collect(),
        }
    }

    pub(super) fn figure(&self) -> ScaleFigure {
        let series = |judged: &Judged| ScaleSeries {
            name: judged.name.to_owned(),
            seconds: judged.sizes.iter().map(|size| (size.bins as f64, size.seconds_median)).collect(),
            peak_mb: judged
                .sizes
                .iter()
                .filter_map(|size| Some((size.bins as f64, size.peak_bytes? as f64 / MB)))
                .collect(),
        };
        let Self { device, precision, threads, preset, version, .. } = self;
        ScaleFigure {
            series: self.measurements.iter().map(series).collect(),
            note: format!(
                "magnet-native {version}, preset {preset}, {device}, {precision}, {threads} threads (graph: one)."
            ),
        }
    }
}

impl fmt::Display for ScaleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "magnet-native {} on {}", self.version, self.device)?;
        writeln!(f, "preset {}, {}, {} threads (graph: one)\n", self.preset, self.precision, self.threads)?;
        writeln!(
            f,
            "{:<8} {:>10} {:>14} {:>6} {:>14} {:>16}",
            "what", "bins", "median", "runs", "µs per bin", "peak memory"
        )?;
        for judged in &self.measurements {
            for size in &judged.sizes {
                let peak = size.peak_bytes.map(|bytes| format!("{:.0} MB", bytes as f64 / MB));
                writeln!(
                    f,
                    "{:<8} {:>10} {:>12} s {:>6} {:>14} {:>16}",
                    judged.name,
                    size.bins,
                    rounded(size.seconds_median),
                    size.seconds.len(),
                    rounded(size.seconds_per_bin * 1e6),
                    peak.as_deref().unwrap_or("not stated")
                )?;
            }
        }
        writeln!(f)?;
        for judged in self.measurements.iter().filter(|judged| judged.sizes.len() > 1) {
            let verdict = if judged.linear { "linear" } else { "not linear" };
            writeln!(
                f,
                "{}: {verdict} within {:.0} % (times for a bin differ by {:.0} %)",
                judged.name,
                LINEAR_WITHIN * 100.0,
                (judged.spread - 1.0) * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: BenchKind, seconds: [f64; 3]) -> Series {
        let part = |(bins, seconds)| Part { bins, seconds: vec![seconds], peak_bytes: Some(bins as u64) };
        let sizes = [10_000, 100_000, 660_000].into_iter().zip(seconds).map(part);
        Series { kind, sizes: sizes.map(Size::from).collect() }
    }

    #[test]
    fn growth_is_linear_when_a_bin_takes_the_same_time_within_a_fifth() {
        assert!(series(BenchKind::Graph, [0.01, 0.115, 0.66]).judged().linear);
        assert!(!series(BenchKind::Graph, [0.01, 0.1, 0.9]).judged().linear);
        assert!(Series::new(BenchKind::Slide).judged().linear);
    }

    #[test]
    fn text_json_and_figure_say_the_same() {
        let all =
            vec![series(BenchKind::Graph, [0.01, 0.1, 0.66]), series(BenchKind::Slide, [1.0, 10.0, 99.0])];
        let report = ScaleReport::new("CPU".into(), "demo", all);
        let text = report.to_string();
        assert!(text.contains("graph: linear") && text.contains("slide: not linear"), "{text}");
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["measurements"][0]["sizes"][2]["bins"], 660_000);
        assert_eq!(value["measurements"][1]["linear"], false);
        let figure = report.figure();
        assert_eq!(figure.series[1].seconds[2], (660_000.0, 99.0));
        assert_eq!(figure.series[0].peak_mb.len(), 3);
    }
}
