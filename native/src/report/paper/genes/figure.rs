//! The figure: a row of plots for each dataset and resolution, and what their choices share.

use anyhow::Result;
use magnet_core::expression::{GeneMoments, Normalization, ValueKind};
use magnet_core::heatmap::figure::{INK, PAPER, RULE};
use magnet_core::heatmap::{ColorMap, ValueRange};

use super::super::super::drawing::{Anchor, Drawing, Font, Rgb, Ruler};
use super::super::parts::{ACCENT, Legend, NAME, SECOND, SMALL, SMALL_LINE, TITLE as TITLE_FONT, lines};
use super::super::plot::{Axis, Layer, Plot, with_thousands};
use super::overlap::Overlap;
use super::selection::{RULES, Selection};

/// The heading of the figure.
pub(super) const TITLE: &str = "Choice of genes";
/// Genes that no rule chooses.
const OTHERS: Rgb = [186, 191, 198];
const MARGIN: f64 = 24.0;
const PLOT_WIDTH: f64 = 250.0;
const PLOT_HEIGHT: f64 = 190.0;
/// From the left edge of one plot to that of the next.
const PLOT_STEP: f64 = PLOT_WIDTH + 66.0;
/// Room for the numbers of an upright axis.
const AXIS_ROOM: f64 = 40.0;
const WIDTH: f64 = 2.0 * MARGIN + AXIS_ROOM + 2.0 * PLOT_STEP + PLOT_WIDTH;
/// Above the plots of a row: the dataset, and the name of the upright axis.
const ROW_HEAD: f64 = 62.0;
/// Below them: the numbers and the name of the level axis, and room.
const ROW_FOOT: f64 = 62.0;
const ROW: f64 = ROW_HEAD + PLOT_HEIGHT + ROW_FOOT;
/// Names of the first genes of each choice are written out.
const NAMED: usize = 8;
/// Sides of a cell of the overlap.
const CELL: (f64, f64) = (46.0, 24.0);
/// Room for a number before each choice's name.
const NUMBER: f64 = 24.0;
/// Most room for the name of a choice.
const CHOICE: f64 = 320.0;
/// What stands in the overlap's rows and cells.
const CHOICE_FONT: Font = Font::plain(12.0, INK);

/// Draws the figure.
pub(super) fn draw(selections: &[Selection], overlap: &Overlap) -> Result<Drawing> {
    let ruler = Ruler::new()?;
    let notes = notes(selections);
    let mut note_lines = Vec::new();
    for note in &notes {
        note_lines.extend(ruler.wrap(note, SMALL, WIDTH - 2.0 * MARGIN));
    }
    let rows_top = MARGIN + 58.0;
    let overlap_top = rows_top + selections.len() as f64 * ROW;
    let overlap_height = 74.0 + overlap.names.len() as f64 * CELL.1 + 26.0;
    let notes_top = overlap_top + overlap_height;
    let height = notes_top + note_lines.len() as f64 * SMALL_LINE + MARGIN;
    let overlap_width = cells_left(&ruler, overlap) + overlap.names.len() as f64 * CELL.0 + 160.0;
    let mut drawing = Drawing::new(WIDTH.max(overlap_width), height, label(selections));
    drawing.text(MARGIN, MARGIN + TITLE_FONT.size * 0.8, Anchor::Start, TITLE_FONT, TITLE);
    draw_key(&mut drawing, &ruler, MARGIN + 40.0);
    for (row, selection) in selections.iter().enumerate() {
        draw_row(&mut drawing, &ruler, selection, rows_top + row as f64 * ROW);
    }
    draw_overlap(&mut drawing, &ruler, overlap, overlap_top);
    lines(&mut drawing, MARGIN, notes_top, SMALL, &note_lines);
    Ok(drawing)
}

/// What the colours of points mean.
fn draw_key(drawing: &mut Drawing, ruler: &Ruler, baseline: f64) {
    let mut x = MARGIN;
    let font = Font::plain(12.0, INK);
    for (color, words) in [
        (ACCENT, "chosen by highest mean"),
        (SECOND, "chosen by highest variance alone"),
        (OTHERS, "not chosen"),
    ] {
        drawing.rect(x, baseline - 9.0, 10.0, 10.0, color);
        drawing.text(x + 16.0, baseline, Anchor::Start, font, words);
        x += 16.0 + ruler.width(words, font) + 22.0;
    }
}

fn units(values: ValueKind) -> &'static str {
    match values {
        ValueKind::Counts => Normalization::Log1pCp10k.unit(),
        ValueKind::Normalized => Normalization::AsGiven.unit(),
    }
}

/// One dataset at one resolution.
fn draw_row(drawing: &mut Drawing, ruler: &Ruler, selection: &Selection, top: f64) {
    let room = WIDTH - 2.0 * MARGIN;
    drawing.rect(MARGIN, top, room, 0.7, RULE);
    let title = selection.title();
    drawing.text(MARGIN, top + 19.0, Anchor::Start, NAME, title.clone());
    let facts = format!(
        "{} slides, {} bins, {} genes common to all slides; {} chosen by each rule",
        selection.slides,
        with_thousands(selection.bins as u64),
        with_thousands(selection.genes.len() as u64),
        selection.chosen
    );
    let facts_x = MARGIN + ruler.width(&title, NAME) + 10.0;
    drawing.text(facts_x, top + 19.0, Anchor::Start, SMALL, facts);
    let first = |rule: usize| {
        let names: Vec<&str> = selection
            .panel(rule)
            .iter()
            .take(NAMED)
            .filter_map(|&gene| selection.genes.symbols.get(gene).map(String::as_str))
            .collect();
        names.join(", ")
    };
    let named = RULES.iter().enumerate().map(|(rule, (_, words, _))| format!("{words}: {}", first(rule)));
    let named = named.collect::<Vec<_>>().join(" · ");
    drawing.text(MARGIN, top + 35.0, Anchor::Start, SMALL, ruler.fit(&named, SMALL, room));

    let plot = |column: usize, x: Axis, y: Axis| Plot {
        left: MARGIN + AXIS_ROOM + column as f64 * PLOT_STEP,
        top: top + ROW_HEAD,
        width: PLOT_WIDTH,
        height: PLOT_HEIGHT,
        x,
        y,
    };
    let moments = &selection.moments;
    let (mean_name, variance_name) = match selection.values {
        ValueKind::Counts => ("mean (log1p CP10K)", "variance (log1p CP10K squared)"),
        ValueKind::Normalized => ("mean (values as given)", "variance (values as given, squared)"),
    };
    let means = || moments.iter().map(|gene| gene.mean);
    let variances = moments.iter().map(|gene| gene.variance);
    draw_ranks(
        drawing,
        ruler,
        selection,
        &plot(0, Axis::of_ranks(moments.len(), "rank by mean"), Axis::of(means(), mean_name)),
    );

    let detection =
        plot(1, Axis::of(means(), mean_name), Axis::of_shares("share of bins in which the gene is seen"));
    draw_genes(drawing, selection, &detection, "detection against mean", |gene| gene.detected);
    let spread = plot(2, Axis::of(means(), mean_name), Axis::of(variances, variance_name));
    draw_genes(drawing, selection, &spread, "variance against mean", |gene| gene.variance);
}

/// The means by falling rank, with the cut.
fn draw_ranks(drawing: &mut Drawing, ruler: &Ruler, selection: &Selection, plot: &Plot) {
    plot.draw_axes(drawing);
    let mean = |gene: &usize| selection.moments.get(*gene).map_or(f64::NAN, |gene| gene.mean);
    let ranked = selection.ranked.first().map(Vec::as_slice).unwrap_or_default();
    let points: Vec<(f64, f64)> =
        ranked.iter().enumerate().map(|(rank, gene)| ((rank + 1) as f64, mean(gene))).collect();
    let cut = selection.chosen.min(points.len());
    let (chosen, others) = points.split_at(cut);
    plot.draw_line(drawing, others, 2.0, OTHERS);
    plot.draw_line(drawing, chosen, 2.5, ACCENT);
    let Some(&(rank, at)) = chosen.last() else { return };
    let x = plot.x_at(rank);
    drawing.dashes((x, plot.top), (x, plot.top + plot.height), 1.0, INK);
    let words = [format!("cut at {}", with_thousands(cut as u64)), format!("mean ≥ {at:.2}")];
    let font = Font::plain(SMALL.size, INK);
    let room = words.iter().map(|words| ruler.width(words, font)).fold(0.0, f64::max) + 8.0;
    // On the side that has room, and on paper, so that no line runs through the words.
    let right = x + room < plot.left + plot.width;
    let (anchor, text_x, paper_x) =
        if right { (Anchor::Start, x + 5.0, x + 3.0) } else { (Anchor::End, x - 5.0, x - room) };
    drawing.rect(paper_x, plot.top + 2.0, room - 4.0, 2.0 * SMALL_LINE, PAPER);
    for (line, words) in words.into_iter().enumerate() {
        drawing.text(text_x, plot.top + 13.0 + line as f64 * SMALL_LINE, anchor, font, words);
    }
}

/// A point for each gene, those that are chosen above the others.
fn draw_genes(
    drawing: &mut Drawing,
    selection: &Selection,
    plot: &Plot,
    what: &str,
    value: impl Fn(&GeneMoments) -> f64,
) {
    let points = |genes: &mut dyn Iterator<Item = usize>| -> Vec<(f64, f64)> {
        genes.filter_map(|gene| selection.moments.get(gene)).map(|gene| (gene.mean, value(gene))).collect()
    };
    let chosen: Vec<Vec<bool>> = (0..RULES.len())
        .map(|rule| selection.ranks(rule).into_iter().map(|rank| rank <= selection.chosen).collect())
        .collect();
    let by = |rule: usize, gene: usize| chosen.get(rule).and_then(|rule| rule.get(gene)) == Some(&true);
    let all = 0..selection.moments.len();
    let layers = [
        Layer {
            points: points(&mut all.clone().filter(|&g| !by(0, g) && !by(1, g))),
            color: OTHERS,
            radius: 1.2,
        },
        Layer {
            points: points(&mut all.clone().filter(|&g| !by(0, g) && by(1, g))),
            color: SECOND,
            radius: 1.7,
        },
        Layer { points: points(&mut all.clone().filter(|&g| by(0, g))), color: ACCENT, radius: 1.7 },
    ];
    plot.draw_axes(drawing);
    plot.draw_points(drawing, &layers, format!("{what} of every gene, {}", selection.title()));
}

/// Where the overlap's cells begin.
fn cells_left(ruler: &Ruler, overlap: &Overlap) -> f64 {
    let names = overlap.names.iter().map(|name| ruler.width(name, CHOICE_FONT));
    MARGIN + NUMBER + names.fold(0.0, f64::max).min(CHOICE) + 12.0
}

/// How many genes each two choices share.
fn draw_overlap(drawing: &mut Drawing, ruler: &Ruler, overlap: &Overlap, top: f64) {
    drawing.rect(MARGIN, top, WIDTH - 2.0 * MARGIN, 0.7, RULE);
    drawing.text(MARGIN, top + 19.0, Anchor::Start, NAME, "Genes that two choices share");
    let map = ColorMap::default();
    let Some(range) = ValueRange::new(0.0, 1.0) else { return };
    let (cells_left, cells_top) = (cells_left(ruler, overlap), top + 62.0);
    for (row, (name, shared)) in overlap.names.iter().zip(&overlap.shared).enumerate() {
        let y = cells_top + row as f64 * CELL.1;
        let number = (row + 1).to_string();
        let x = cells_left + (row as f64 + 0.5) * CELL.0;
        drawing.text(x, cells_top - 7.0, Anchor::Middle, SMALL, number.clone());
        drawing.text(MARGIN + NUMBER - 8.0, y + CELL.1 * 0.66, Anchor::End, SMALL, number);
        let name = ruler.fit(name, CHOICE_FONT, CHOICE);
        drawing.text(MARGIN + NUMBER, y + CELL.1 * 0.66, Anchor::Start, CHOICE_FONT, name);
        for (column, count) in shared.iter().enumerate() {
            let fraction = overlap.jaccard(row, column);
            let x = cells_left + column as f64 * CELL.0;
            drawing.rect(x, y, CELL.0 - 1.0, CELL.1 - 1.0, map.color(fraction));
            // Dark on light, light on dark.
            let color = if fraction > 0.6 { INK } else { PAPER };
            let font = Font { color, ..CHOICE_FONT };
            drawing.text(
                x + CELL.0 / 2.0,
                y + CELL.1 * 0.66,
                Anchor::Middle,
                font,
                with_thousands(*count as u64),
            );
        }
    }
    let legend = Legend { color_map: map, range, units: "shared part (Jaccard)", beyond: (false, false) };
    let height = (overlap.names.len() as f64 * CELL.1 - 1.0).max(48.0);
    legend.draw(drawing, cells_left + overlap.names.len() as f64 * CELL.0 + 24.0, cells_top, height);
}

/// What a reader must know to read the figure.
fn notes(selections: &[Selection]) -> Vec<String> {
    let mut kinds: Vec<&str> = Vec::new();
    for selection in selections {
        let unit = units(selection.values);
        if !kinds.contains(&unit) {
            kinds.push(unit);
        }
    }
    vec![
        format!(
            "Mean and variance are over all bins of all slides together, of {}; bins coarser than the dataset's own hold the \
             sums of its counts. Only genes that all slides of a dataset measured can be chosen. A gene is seen in a bin \
             where its value is not 0.",
            kinds.join(" and ")
        ),
        "The rule in use is the highest mean. Choices of two datasets are matched by stable gene id where both have ids, \
         else by symbol. The shared part is the number of genes in both as a part of those in either."
            .to_owned(),
    ]
}

/// The figure in words.
fn label(selections: &[Selection]) -> String {
    let rows: Vec<String> = selections
        .iter()
        .map(|selection| {
            format!("{}: {} of {} genes", selection.title(), selection.chosen, selection.genes.len())
        })
        .collect();
    format!("{TITLE}. {}.", rows.join("; "))
}
