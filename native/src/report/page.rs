//! The page: its head and its sections, top to bottom.

use anyhow::Result;
use magnet_core::Level;
use magnet_core::heatmap::PREDICTED_NOTE;

use super::element::{Element, el};
use super::style::STYLE;
use super::tables::fixed;
use super::{ReportInput, Role, ScoreRow, charts, maps, tables};

/// A gene above this is told apart from noise by eye.
const CLEAR_PEARSON: f64 = 0.3;

pub(super) fn render(input: &ReportInput) -> Result<String> {
    let mut main = el("main").child(header(input)).child(scores(input)).child(gene_maps(input)?);
    main = main.child(distribution(input)).child(training(input)).child(genes(input)).child(settings(input));
    main = main.child(notes(input)).child(el("footer").text(PREDICTED_NOTE));
    Ok(document(&input.title, STYLE, main))
}

/// A whole HTML file: its head, and what its body holds.
pub(super) fn document(title: &str, style: &'static str, body: Element) -> String {
    let head = el("head")
        .child(el("meta").attr("charset", "utf-8"))
        .child(el("meta").attr("name", "viewport").attr("content", "width=device-width, initial-scale=1"))
        // The browser itself holds the file to its word: nothing is loaded, nothing runs.
        .child(
            el("meta")
                .attr("http-equiv", "Content-Security-Policy")
                .attr("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'"),
        )
        .child(el("meta").attr("name", "color-scheme").attr("content", "light dark"))
        .child(el("title").text(title))
        .child(el("style").style(style));
    let html = el("html").attr("lang", "en").child(head).child(el("body").child(body));
    let mut out = String::from("<!DOCTYPE html>\n");
    html.write(&mut out);
    out.push('\n');
    out
}

fn header(input: &ReportInput) -> Element {
    let block = el("header")
        .child(el("h1").text(input.title.clone()))
        .child(el("p").class("lead").text(input.summary.clone()))
        .child(el("span").class("flag").text("Predicted from H&E, not measured · research use only"));
    let find = |role| input.scores.iter().find(|row| row.level == Level::Bin && row.role == role);
    let Some(model) = find(Role::Model) else { return block };
    let mean = find(Role::MeanPredictor);
    let others = |pick: fn(&ScoreRow) -> f64| {
        let mut parts = Vec::new();
        for row in input.scores.iter().filter(|row| row.level == Level::Bin && row.role != Role::Model) {
            // The mean predictor is constant: its Pearson per gene counts as 0.
            let value = pick(row);
            let value = if row.role == Role::MeanPredictor && value.is_nan() { 0.0 } else { value };
            parts.push(format!("{} {}", row.predictor, fixed(value)));
        }
        parts.join(" · ")
    };
    let mut tiles = el("div")
        .class("tiles")
        .child(tile(
            fixed(model.pcc_gene_mean),
            "Pearson per gene, bin level",
            others(|row| row.pcc_gene_mean),
        ))
        .child(tile(fixed(model.mse), "mean squared error, bin level", others(|row| row.mse)));
    if let Some(mean) = mean.filter(|mean| mean.mse > 0.0 && model.mse.is_finite()) {
        let share = 100.0 * (1.0 - model.mse / mean.mse);
        let words = if share >= 0.0 {
            "less squared error than the mean predictor"
        } else {
            "more squared error than the mean predictor"
        };
        tiles = tiles.child(tile(format!("{:.0} %", share.abs()), words, String::new()));
    }
    let defined = input.genes.iter().filter(|gene| gene.pearson.is_finite()).count();
    if defined > 0 {
        let clear = input.genes.iter().filter(|gene| gene.pearson >= CLEAR_PEARSON).count();
        tiles = tiles.child(tile(
            format!("{clear} of {defined}"),
            "genes with a Pearson of 0.3 or more",
            String::new(),
        ));
    }
    block.child(tiles)
}

fn tile(value: String, name: &'static str, beside: String) -> Element {
    let tile = el("div").class("tile").child(el("b").text(value)).child(el("span").text(name));
    if beside.is_empty() { tile } else { tile.child(el("span").text(beside)) }
}

fn scores(input: &ReportInput) -> Element {
    let block = section("scores", "Scores on held-out slides");
    if input.scores.is_empty() {
        return block.child(missing("No score was given."));
    }
    block
        .child(el("p").class("soft").text(
            "Pearson per spot runs over the genes of one observation. It is mostly the difference between the genes' \
             means, which a predictor that never looks at the image has too: read it beside the mean predictor. \
             Pearson per gene runs over the observations of one gene, where that predictor has nothing to win.",
        ))
        .child(tables::scores(&input.scores))
}

fn gene_maps(input: &ReportInput) -> Result<Element> {
    let mut block = section("maps", "Measured beside predicted");
    if input.slides.is_empty() {
        return Ok(block.child(missing("No map was given.")));
    }
    block = block.child(el("p").class("soft").text(format!(
        "Both maps of a gene share one colour scale ({}), which ends at the 1st and 99th percentile of their values. \
         r is the Pearson correlation on the slide shown.",
        input.units
    )));
    for slide in &input.slides {
        block = block.child(maps::slide(slide, input)?);
    }
    Ok(block)
}

fn distribution(input: &ReportInput) -> Element {
    let block = section("distribution", "How well each gene is predicted");
    let pearsons: Vec<f64> = input.genes.iter().map(|gene| gene.pearson).collect();
    let Some(chart) = charts::pearson_histogram(&pearsons) else {
        return block.child(missing("No gene has a Pearson correlation."));
    };
    let undefined = pearsons.iter().filter(|pearson| !pearson.is_finite()).count();
    let mut text = String::from("Pearson per gene at the bin level over the held-out slides.");
    if undefined > 0 {
        text += &format!(" {undefined} genes whose measurement does not vary are left out.");
    }
    let figure = el("figure").attr("style", "max-width:620px").child(chart);
    block.child(el("p").class("soft").text(text)).child(figure)
}

fn training(input: &ReportInput) -> Element {
    let block = section("training", "Training");
    let charts: Vec<Element> =
        [charts::loss_chart(&input.training), charts::validation_chart(&input.training)]
            .into_iter()
            .flatten()
            .map(|chart| el("figure").child(chart))
            .collect();
    if charts.is_empty() {
        return block.child(missing("No training record was given."));
    }
    block.child(el("div").class("charts").children(charts))
}

fn genes(input: &ReportInput) -> Element {
    let block = section("genes", "Genes");
    if input.genes.is_empty() {
        return block.child(missing("No gene was scored."));
    }
    block.child(tables::genes(&input.genes, &input.units))
}

fn settings(input: &ReportInput) -> Element {
    let block = section("settings", "Settings and digests");
    if input.details.is_empty() {
        return block.child(missing("No setting was given."));
    }
    block.child(tables::details(&input.details))
}

fn notes(input: &ReportInput) -> Element {
    let block = section("notes", "Notes").child(el("p").text(
        "The maps and numbers under \"predicted\" come from a model that read the H&E image. They are not a measurement \
         and not for diagnosis.",
    ));
    block.children(input.notes.iter().map(|note| el("p").text(note.clone())))
}

fn section(id: &'static str, title: &'static str) -> Element {
    el("section").attr("id", id).child(el("h2").text(title))
}

fn missing(text: &'static str) -> Element {
    el("p").class("soft").text(text)
}
