//! Measured beside predicted maps of several models (the paper's Figure 3).

use anyhow::{Context, Result};
use magnet_core::coordinates::{SlideUm, um_from_px};
use magnet_core::heatmap::figure::{INK, RULE};
use magnet_core::heatmap::{Backdrop, ColorMap, Mark, PREDICTED_NOTE, Panel, PanelConfig, ValueRange, View};
use magnet_core::map::value_range;
use magnet_core::metrics::pearson;
use magnet_core::{Level, slide::SlideImage};
use serde_json::json;

use super::super::drawing::{Anchor, Drawing, Font, PX_PER_UNIT, Ruler, sides};
use super::super::maps::in_words;
use super::super::tables::fixed;
use super::evaluation::{Evaluated, slide};
use super::parts::{Legend, NAME, SMALL, SMALL_LINE, TITLE, lines, scale_bar};
use super::{Form, check_size, write};
use crate::cli::ReportMapsArgs;
use crate::console::Console;
use crate::error::InputError;
use crate::files::Overwrite;
use crate::report::best_median_worst;

/// Longer side of a map, in units.
const PANEL: u32 = 250;
const MARGIN: f64 = 24.0;
/// Between columns.
const GAP: f64 = 14.0;
/// Between the last column and the colour scale.
const TO_LEGEND: f64 = 20.0;
/// Above the maps of a row, with the gene's name and the scores.
const ROW_HEAD: f64 = 24.0;
/// Below the maps of a row.
const ROW_GAP: f64 = 18.0;
/// How far two folders may differ in what was measured, in label units: less than the eighth digit of a label.
const SAME_LABEL: f32 = 1e-4;

/// Measured values and each model's predictions of one gene.
struct GeneRow {
    symbol: String,
    /// Why the gene is shown; empty where the user named it.
    label: &'static str,
    measured: Vec<f32>,
    /// In the order of the models.
    predicted: Vec<Vec<f32>>,
}

impl GeneRow {
    /// Pearson of a model over the places of the slide; NaN where it is not defined.
    fn pearson(&self, predicted: &[f32]) -> f64 {
        pearson(predicted.iter().copied().zip(self.measured.iter().copied())).unwrap_or(f64::NAN)
    }

    fn values(&self) -> impl Iterator<Item = f32> {
        self.measured.iter().chain(self.predicted.iter().flatten()).copied()
    }

    /// Whether values lie below and above a range.
    fn beyond(&self, range: ValueRange) -> (bool, bool) {
        let fractions = self.values().filter(|value| value.is_finite()).map(|v| range.fraction(f64::from(v)));
        fractions.fold((false, false), |beyond, fraction| {
            (beyond.0 || fraction < -1e-6, beyond.1 || fraction > 1.0 + 1e-6)
        })
    }
}

/// Everything that the figure shows.
struct Comparison {
    slide: String,
    level: Level,
    units: String,
    centers: Vec<SlideUm>,
    mark: Mark,
    image: SlideImage,
    models: Vec<String>,
    genes: Vec<GeneRow>,
}

/// Draws the folders of `--scores` beside each other.
///
/// # Errors
/// When a folder lacks what is asked for, the folders do not fit each other, or the figure cannot be written.
pub(super) fn run(args: &ReportMapsArgs, console: &Console) -> Result<()> {
    let form = Form::of("--out", &args.out)?;
    let comparison = compare(args)?;
    let drawing = draw(&comparison)?;
    check_size(&drawing, "--genes, --scores")?;
    write(&drawing, &title(&comparison), form, &args.out, Overwrite::from(args.overwrite))?;
    let genes: Vec<_> = comparison
        .genes
        .iter()
        .map(|gene| {
            let scores: serde_json::Map<_, _> = comparison
                .models
                .iter()
                .zip(&gene.predicted)
                .map(|(model, predicted)| (model.clone(), json!(gene.pearson(predicted))))
                .collect();
            json!({ "gene": gene.symbol, "shown_as": gene.label, "pearson": scores })
        })
        .collect();
    let value = json!({
        "out": args.out,
        "slide": comparison.slide,
        "level": comparison.level,
        "units": comparison.units,
        "genes": genes,
    });
    console.result(&format!("→ {}", args.out.display()), &value)?;
    Ok(())
}

fn compare(args: &ReportMapsArgs) -> Result<Comparison> {
    let level = Level::from(args.level);
    let mut names = std::collections::HashSet::new();
    if let Some(twice) = args.scores.iter().find(|folder| !names.insert(folder.name.as_str())) {
        return Err(InputError::in_flag("--scores", "name", "each name once", &twice.name).into());
    }
    let Some((first, others)) = args.scores.split_first() else {
        return Err(InputError::in_flag("--scores", "folders", "at least one", "none").into());
    };
    let slide = slide(&first.path, level, args.slide.as_deref())?;
    let first = Evaluated::read(first, &slide, level)?;
    let shown = shown(&first, &args.genes)?;
    let mut genes = Vec::with_capacity(shown.len());
    for (gene, label) in shown {
        genes.push(GeneRow {
            symbol: first.symbols.get(gene).cloned().unwrap_or_default(),
            label,
            measured: first.measured.column(gene),
            predicted: vec![first.predicted.column(gene)],
        });
    }
    for folder in others {
        // One folder at a time: only the genes that are shown stay in memory.
        let other = Evaluated::read(folder, &slide, level)?;
        other.check_beside(&first)?;
        for row in &mut genes {
            let gene = other.gene(&row.symbol)?;
            let measured = other.measured.column(gene);
            let differs = |(a, b): (&f32, &f32)| (a - b).abs() > SAME_LABEL;
            if let Some(place) = measured.iter().zip(&row.measured).position(differs) {
                let said = |values: &[f32]| values.get(place).copied().unwrap_or(f32::NAN);
                let expected = format!(
                    "{} for {} in row {place}, as in {}",
                    said(&row.measured),
                    row.symbol,
                    first.path.display()
                );
                let found = said(&measured);
                return Err(InputError::in_file(&other.path, "layers/measured", expected, found).into());
            }
            row.predicted.push(other.predicted.column(gene));
        }
    }
    let centers = first.centers_px.iter().map(|center| um_from_px(*center, first.um_per_px)).collect();
    let mark = match level {
        Level::Bin => Mark::of_bin(first.tile_um),
        Level::Spot | Level::Region => Mark::Square { side_um: first.tile_um },
    };
    let models = args.scores.iter().map(|folder| folder.name.clone()).collect();
    Ok(Comparison { slide, level, units: first.units, centers, mark, image: first.image, models, genes })
}

/// Columns of the genes that are shown: those that the user named, or the first model's best, median and worst.
fn shown(first: &Evaluated, named: &[String]) -> Result<Vec<(usize, &'static str)>> {
    if !named.is_empty() {
        let mut shown = Vec::with_capacity(named.len());
        for symbol in named {
            shown.push((first.gene(symbol)?, ""));
        }
        return Ok(shown);
    }
    let scores: Vec<f64> = (0..first.symbols.len())
        .map(|gene| {
            let pairs = first.predicted.column(gene).into_iter().zip(first.measured.column(gene));
            pearson(pairs).unwrap_or(f64::NAN)
        })
        .collect();
    let shown = best_median_worst(&scores, 1);
    if shown.is_empty() {
        let expected = "a gene whose measured values vary";
        return Err(InputError::in_file(&first.path, "layers/measured", expected, "none").into());
    }
    Ok(shown)
}

fn title(comparison: &Comparison) -> String {
    format!("Slide {}: measured and predicted expression", comparison.slide)
}

/// What a reader must know to read the figure.
fn notes(comparison: &Comparison) -> Vec<String> {
    let mut notes = vec![
        format!("Level {}, {} places. {}", comparison.level, comparison.centers.len(), in_words(comparison.mark)),
        "Colours: one scale for each gene, shared by measured and predicted maps of all models. It ends at the 1st and \
         the 99th percentile of these values."
            .to_owned(),
        "r: Pearson correlation of predicted with measured values over the places of this slide.".to_owned(),
    ];
    if comparison.genes.iter().any(|gene| !gene.label.is_empty())
        && let Some(first) = comparison.models.first()
    {
        notes.push(format!("Genes: best, median and worst by the r of {first}."));
    }
    notes.push(PREDICTED_NOTE.to_owned());
    notes
}

fn draw(comparison: &Comparison) -> Result<Drawing> {
    let ruler = Ruler::new()?;
    let view = View::of_marks(&comparison.centers, comparison.mark)
        .ok_or_else(|| InputError::in_flag("--scores", "places", "at least one", "none"))?;
    let side_px = PANEL * PX_PER_UNIT;
    let he = Panel::of_slide(Backdrop::plain(&comparison.image), view, side_px)
        .with_context(|| format!("H&E image of slide {}", comparison.slide))?;
    let (width, height) = sides(&he.canvas);
    let ranges: Vec<ValueRange> = comparison.genes.iter().map(|gene| value_range(gene.values())).collect();
    let legends: Vec<Legend<'_>> = comparison
        .genes
        .iter()
        .zip(&ranges)
        .map(|(gene, &range)| Legend {
            color_map: ColorMap::default(),
            range,
            units: &comparison.units,
            beyond: gene.beyond(range),
        })
        .collect();
    let column = |index: usize| MARGIN + index as f64 * (width + GAP);
    let legend_x = column(comparison.models.len() + 1) + width + TO_LEGEND;
    let legend_width = legends.iter().map(|legend| legend.width(&ruler)).fold(0.0, f64::max);
    // Beside further rows there is room below the H&E image; else the notes run below the whole row.
    let single = comparison.genes.len() == 1;
    let notes_width = if single { legend_x + legend_width - MARGIN } else { width };
    let mut notes_lines = Vec::new();
    for note in notes(comparison) {
        notes_lines.extend(ruler.wrap(&note, SMALL, notes_width));
        if !single {
            notes_lines.push(String::new());
        }
    }
    let title = title(comparison);
    let total_width = (legend_x + legend_width).max(MARGIN + ruler.width(&title, TITLE)) + MARGIN;
    let head = MARGIN + TITLE.size + 34.0;
    let row_top = |row: usize| head + 6.0 + row as f64 * (ROW_HEAD + height + ROW_GAP);
    let notes_top = row_top(0) + ROW_HEAD + height + 46.0;
    let notes_bottom = notes_top + notes_lines.len() as f64 * SMALL_LINE - SMALL_LINE;
    let total_height = (row_top(comparison.genes.len()) - ROW_GAP).max(notes_bottom) + MARGIN;

    let mut drawing = Drawing::new(total_width, total_height, label(comparison));
    drawing.text(MARGIN, MARGIN + TITLE.size * 0.8, Anchor::Start, TITLE, title);
    let heads = ["H&E", "Measured"].into_iter().chain(comparison.models.iter().map(String::as_str));
    for (index, name) in heads.enumerate() {
        let name = ruler.fit(name, NAME, width);
        drawing.text(column(index), head - 4.0, Anchor::Start, NAME, name);
    }
    drawing.rect(MARGIN, head + 3.0, legend_x + legend_width - MARGIN, 0.7, RULE);

    let top = row_top(0) + ROW_HEAD;
    let um_per_unit = he.um_per_px * f64::from(PX_PER_UNIT);
    drawing.frame(column(0), top, width, height, 0.7, RULE);
    drawing.picture(column(0), top, he.canvas, format!("H&E image of slide {}", comparison.slide));
    scale_bar(&mut drawing, column(0), top + height + 10.0, um_per_unit, width * 0.5);
    lines(&mut drawing, column(0), notes_top, SMALL, &notes_lines);

    for (row, (gene, legend)) in comparison.genes.iter().zip(&legends).enumerate() {
        let (baseline, top) = (row_top(row) + ROW_HEAD - 6.0, row_top(row) + ROW_HEAD);
        let name = ruler.fit(&gene.symbol, NAME, width * 0.7);
        let label_x = column(1) + ruler.width(&name, NAME) + 6.0;
        drawing.text(column(1), baseline, Anchor::Start, NAME, name);
        drawing.text(label_x, baseline, Anchor::Start, SMALL, gene.label);
        let panels = std::iter::once(&gene.measured).chain(&gene.predicted);
        for (index, values) in panels.enumerate() {
            let who = match index.checked_sub(1).and_then(|model| comparison.models.get(model)) {
                None => "measured".to_owned(),
                Some(model) => {
                    let r = format!("r = {}", fixed(gene.pearson(values)));
                    let font = Font::plain(12.0, INK);
                    drawing.text(column(index + 1), baseline, Anchor::Start, font, r);
                    format!("predicted by {model}")
                }
            };
            let alt = format!("{} {who} on slide {}", gene.symbol, comparison.slide);
            let panel = Panel::draw(&PanelConfig {
                centers: &comparison.centers,
                values,
                mark: comparison.mark,
                range: legend.range,
                color_map: legend.color_map,
                opacity: 1.0,
                view,
                backdrop: None,
                max_side_px: side_px,
            })
            .with_context(|| alt.clone())?;
            drawing.frame(column(index + 1), top, width, height, 0.7, RULE);
            drawing.picture(column(index + 1), top, panel.canvas, alt);
        }
        legend.draw(
            &mut drawing,
            legend_x,
            top + 10.0,
            (height * 0.7).max(80.0).min(height - 18.0).max(20.0),
        );
    }
    Ok(drawing)
}

/// The figure in words.
fn label(comparison: &Comparison) -> String {
    let genes: Vec<String> = comparison
        .genes
        .iter()
        .map(|gene| {
            let scores: Vec<String> = comparison
                .models
                .iter()
                .zip(&gene.predicted)
                .map(|(model, predicted)| format!("{model} r = {}", fixed(gene.pearson(predicted))))
                .collect();
            format!("{}: {}", gene.symbol, scores.join(", "))
        })
        .collect();
    format!("{}. {}.", title(comparison), genes.join("; "))
}

#[cfg(test)]
mod tests;
