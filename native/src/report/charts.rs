//! Charts as inline SVG, drawn with the page's own colours.

use magnet_core::heatmap::{ColorMap, ValueRange, ticks};

use super::TrainingRow;
use super::element::{Element, el};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

/// Most points of a line: more would lie on the same pixels.
const MAX_POINTS: usize = 1000;

/// A line of a chart: its class in the style sheet, its name, its points.
type Line<'a> = (&'static str, &'a str, Vec<(f64, f64)>);

/// The plotting area of a chart and what its sides stand for.
struct Frame {
    x: ValueRange,
    y: ValueRange,
}

impl Frame {
    fn x_px(&self, value: f64) -> f64 {
        LEFT + self.x.fraction(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_px(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.fraction(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// An SVG with axes, ticks and names; `label` is its text alternative.
    fn svg(&self, label: String, x_name: &str, y_name: &str) -> Element {
        let bottom = HEIGHT - BOTTOM;
        let mut svg = chart(WIDTH, HEIGHT, label);
        for tick in ticks(self.y, 4) {
            let y = self.y_px(tick.value);
            svg = svg.child(line("grid", LEFT, y, WIDTH - RIGHT, y)).child(text(
                LEFT - 8.0,
                y + 4.0,
                "end",
                tick.label,
            ));
        }
        for tick in ticks(self.x, 8) {
            svg = svg.child(text(self.x_px(tick.value), bottom + 18.0, "middle", tick.label));
        }
        svg.child(line("axis", LEFT, bottom, WIDTH - RIGHT, bottom))
            .child(text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0, "middle", x_name))
            .child(text(LEFT - 40.0, 12.0, "start", y_name).class("strong"))
    }
}

/// How many genes reach which Pearson, with the mean predictor at 0 and the genes' median. `None` without a gene that
/// has one.
pub(super) fn pearson_histogram(pearsons: &[f64]) -> Option<Element> {
    let mut values: Vec<f64> = pearsons.iter().copied().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (&lowest, &highest) = (values.first()?, values.last()?);
    let median = (values.get((values.len() - 1) / 2)? + values.get(values.len() / 2)?) / 2.0;
    // Bars of 0.05, or 0.02 where all genes lie close together; 0 is always an edge and in sight.
    let width = if highest - lowest < 0.4 { 0.02 } else { 0.05 };
    let first = (lowest.min(0.0) / width + 1e-9).floor() as i64;
    let last = ((highest.max(0.0) / width - 1e-9).floor() as i64).max(first);
    let bars = (last - first + 1).clamp(1, 400) as usize;
    let mut counts = vec![0usize; bars];
    for value in &values {
        let bar = ((value / width + 1e-9).floor() as i64 - first).clamp(0, bars as i64 - 1);
        if let Some(count) = counts.get_mut(bar as usize) {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    let frame = Frame {
        x: ValueRange::new((first - 1) as f64 * width, (last + 2) as f64 * width)?,
        y: ValueRange::new(0.0, most * 1.12)?,
    };
    let above = values.iter().filter(|&&value| value > 0.0).count();
    let label = format!(
        "Histogram of Pearson per gene over {} genes: median {median:.3}, lowest {lowest:.3}, highest {highest:.3}; \
         {above} genes lie above the mean predictor, which has 0.",
        values.len()
    );
    let mut svg = frame.svg(label, "Pearson per gene", "genes");
    for (bar, &count) in counts.iter().enumerate() {
        let low = (first + bar as i64) as f64 * width;
        let (x0, x1) = (frame.x_px(low), frame.x_px(low + width));
        let y = frame.y_px(count as f64);
        let class = if low < -1e-9 { "bar low" } else { "bar" };
        let rect = el("rect").class(class).at("x", x0 + 0.75).at("y", y);
        let rect = rect.at("width", (x1 - x0 - 1.5).max(0.5)).at("height", HEIGHT - BOTTOM - y);
        svg =
            svg.child(rect.child(el("title").text(format!("{low:.2} to {:.2}: {count} genes", low + width))));
    }
    let (zero, middle) = (frame.x_px(0.0), frame.x_px(median));
    // The two labels keep apart: the one further left ends at its line, the other starts there. Where that would leave
    // the chart, the label of 0 goes to its other side, one line lower.
    let (zero_anchor, median_anchor) = if median >= 0.0 { ("end", "start") } else { ("start", "end") };
    let room = zero - frame.x_px(first as f64 * width);
    let (zero_anchor, zero_y) =
        if zero_anchor == "end" && room < 60.0 { ("start", TOP + 10.0) } else { (zero_anchor, TOP - 4.0) };
    let aside = |anchor: &str| if anchor == "end" { -5.0 } else { 5.0 };
    Some(
        svg.child(line("ref", zero, TOP - 12.0, zero, HEIGHT - BOTTOM))
            .child(text(zero + aside(zero_anchor), zero_y, zero_anchor, "mean predictor").class("ref"))
            .child(line("ref dashed", middle, TOP - 12.0, middle, HEIGHT - BOTTOM))
            .child(
                text(middle + aside(median_anchor), TOP - 4.0, median_anchor, format!("median {median:.3}"))
                    .class("strong"),
            ),
    )
}

/// Training and validation loss over the epochs; `None` when neither was recorded twice.
pub(super) fn loss_chart(rows: &[TrainingRow]) -> Option<Element> {
    let train = series(rows, |row| row.train_loss);
    let valid = series(rows, |row| row.valid_loss);
    line_chart("Loss", "loss", &[("train", "training", train), ("valid", "validation", valid)])
}

/// Pearson per gene on the validation slides over the epochs; `None` when it was not recorded twice.
pub(super) fn validation_chart(rows: &[TrainingRow]) -> Option<Element> {
    let valid = series(rows, |row| row.valid_pcc_gene);
    line_chart("Validation Pearson per gene", "Pearson per gene", &[("valid", "validation", valid)])
}

fn series(rows: &[TrainingRow], value: impl Fn(&TrainingRow) -> Option<f64>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| value(row).map(|value| (row.epoch, value)))
        .filter(|(epoch, value)| epoch.is_finite() && value.is_finite())
        .collect();
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last)
        .map(|(_, p)| p)
        .collect()
}

fn line_chart(title: &str, y_name: &str, lines: &[Line<'_>]) -> Option<Element> {
    let lines: Vec<_> = lines.iter().filter(|(_, _, points)| points.len() >= 2).collect();
    let all = || lines.iter().flat_map(|(_, _, points)| points.iter().copied());
    let bounds = |pick: fn((f64, f64)) -> f64| {
        all().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x_low, x_high) = bounds(|point| point.0);
    let (y_low, y_high) = bounds(|point| point.1);
    let pad = ((y_high - y_low) * 0.06).max(1e-6 * y_high.abs().max(1e-6));
    let frame = Frame { x: ValueRange::new(x_low, x_high)?, y: ValueRange::new(y_low - pad, y_high + pad)? };
    let ends: Vec<String> = lines
        .iter()
        .filter_map(|(_, name, points)| {
            Some(format!("{name} from {:.4} to {:.4}", points.first()?.1, points.last()?.1))
        })
        .collect();
    let label = format!("{title} over the epochs {x_low} to {x_high}: {}.", ends.join(", "));
    let mut svg = frame.svg(label, "epoch", y_name);
    let mut key_x = LEFT + 90.0;
    for (class, name, points) in lines {
        let places: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", frame.x_px(x), frame.y_px(y))).collect();
        svg = svg
            .child(el("polyline").attr("class", format!("line {class}")).attr("points", places.join(" ")))
            .child(line("line", key_x, 8.0, key_x + 24.0, 8.0).attr("class", format!("line {class}")))
            .child(text(key_x + 30.0, 12.0, "start", *name));
        key_x += 130.0;
    }
    Some(svg)
}

/// A colour bar with its numbers, as wide as a map.
pub(super) fn legend(color_map: ColorMap, range: ValueRange, units: &str) -> Element {
    const STEPS: usize = 64;
    let (width, bar) = (260.0, 10.0);
    let label = format!("Colour scale from {:.3} to {:.3} {units}", range.low(), range.high());
    let mut svg = chart(width, 46.0, label).attr("class", "legend");
    let step = width / STEPS as f64;
    for index in 0..STEPS {
        let [r, g, b] = color_map.color((index as f64 + 0.5) / STEPS as f64);
        // Each cell reaches under the next, or gaps would show at some zoom levels.
        let overlap = if index + 1 < STEPS { 1.0 } else { 0.0 };
        svg = svg.child(
            el("rect")
                .at("x", index as f64 * step)
                .at("y", 0.0)
                .at("width", step + overlap)
                .at("height", bar)
                .attr("fill", format!("rgb({r},{g},{b})")),
        );
    }
    for tick in ticks(range, 4) {
        let x = range.fraction(tick.value) * width;
        let anchor = match x {
            x if x < 8.0 => "start",
            x if x > width - 8.0 => "end",
            _ => "middle",
        };
        svg = svg.child(line("axis", x, bar, x, bar + 4.0)).child(text(x, bar + 17.0, anchor, tick.label));
    }
    svg.child(text(0.0, 44.0, "start", units))
}

/// A bar from 0, as long as the value is large; for a table's cell.
pub(super) fn inline_bar(value: f64) -> Element {
    let (width, height, zero) = (160.0, 10.0, 40.0);
    let length = value.clamp(-0.33, 1.0) * (width - zero);
    let (x, class) = if value < 0.0 { (zero + length, "bar low") } else { (zero, "bar") };
    el("svg")
        .attr("viewBox", format!("0 0 {width} {height}"))
        .attr("aria-hidden", "true")
        .child(line("axis", zero, 0.0, zero, height))
        .child(
            el("rect")
                .class(class)
                .at("x", x)
                .at("y", 1.0)
                .at("width", length.abs())
                .at("height", height - 2.0),
        )
}

fn chart(width: f64, height: f64, label: String) -> Element {
    el("svg").attr("viewBox", format!("0 0 {width} {height}")).attr("role", "img").attr("aria-label", label)
}

fn line(class: &'static str, x1: f64, y1: f64, x2: f64, y2: f64) -> Element {
    let line = el("line").at("x1", x1).at("y1", y1).at("x2", x2).at("y2", y2);
    // A key's line gets its class from the caller.
    if class == "line" { line } else { line.class(class) }
}

fn text(x: f64, y: f64, anchor: &str, content: impl Into<String>) -> Element {
    el("text").at("x", x).at("y", y).attr("text-anchor", anchor).text(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(element: &Element) -> String {
        let mut out = String::new();
        element.write(&mut out);
        out
    }

    #[test]
    fn every_gene_is_in_one_bar() {
        let pearsons: Vec<f64> = (-10..60).map(|value| f64::from(value) / 100.0).chain([f64::NAN]).collect();
        let svg = written(&pearson_histogram(&pearsons).unwrap());
        let total: usize = svg
            .split(" genes</title>")
            .filter_map(|part| part.rsplit(": ").next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(total, 70);
        assert!(svg.contains("mean predictor") && svg.contains("median 0.245"));
        assert!(pearson_histogram(&[f64::NAN]).is_none());
        assert!(pearson_histogram(&[]).is_none());
        assert!(pearson_histogram(&[0.0]).is_some());
        assert!(pearson_histogram(&[-1.0, 1.0]).is_some());
    }

    #[test]
    fn lines_need_two_points() {
        let row =
            |epoch, train_loss| TrainingRow { epoch, train_loss, valid_loss: None, valid_pcc_gene: None };
        assert!(loss_chart(&[]).is_none());
        assert!(loss_chart(&[row(1.0, Some(0.5))]).is_none());
        assert!(loss_chart(&[row(1.0, Some(0.5)), row(2.0, Some(f64::NAN))]).is_none());
        let svg = written(&loss_chart(&[row(1.0, Some(0.5)), row(2.0, Some(0.5))]).unwrap());
        assert!(svg.contains("training from 0.5000 to 0.5000"));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn long_runs_are_thinned_and_keep_their_end() {
        let rows: Vec<TrainingRow> = (0..12_345)
            .map(|epoch| TrainingRow {
                epoch: f64::from(epoch),
                train_loss: Some(f64::from(epoch)),
                valid_loss: None,
                valid_pcc_gene: None,
            })
            .collect();
        let points = series(&rows, |row| row.train_loss);
        assert!(points.len() <= MAX_POINTS + 1);
        assert_eq!(points.last(), Some(&(12_344.0, 12_344.0)));
    }
}
