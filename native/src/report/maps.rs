//! Measured beside predicted maps, as PNG data within the page.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use magnet_core::heatmap::{Backdrop, Canvas, Mark, Panel, PanelConfig, ScaleBar, View};
use magnet_core::map::value_range;

use super::charts::legend;
use super::element::{Element, el};
use super::tables::fixed;
use super::{GeneMap, ReportInput, SlideMaps};

/// Longer side of a map, in pixels: twice what the page shows, for sharp screens and paper.
const MAP_SIDE_PX: u32 = 560;

/// The maps of one slide: the H&E image once, then a column for each gene.
pub(super) fn slide(maps: &SlideMaps, input: &ReportInput) -> Result<Element> {
    let heading = el("h3").text(format!("Slide {}", maps.name));
    let Some(view) = View::of_marks(&maps.centers, maps.mark) else {
        return Ok(el("div").child(heading).child(el("p").class("soft").text("No observation has a place.")));
    };
    let mut columns = el("div").class("maps");
    if let Some(image) = &maps.slide {
        let context = || format!("report: H&E image of slide {}", maps.name);
        let panel = Panel::of_slide(Backdrop::plain(image), view, MAP_SIDE_PX).with_context(context)?;
        let bar = scale_bar(&panel);
        let alt = format!("H&E image of slide {}", maps.name);
        let figure = el("div")
            .class("gene")
            .child(el("h4").text("H&E").child(el("i").text(format!("{} observations", maps.centers.len()))));
        let marks = el("p").class("soft").text(in_words(maps.mark));
        columns =
            columns.child(figure.child(picture_figure("Image", &panel.canvas, alt)?).child(bar).child(marks));
    }
    for gene in &maps.genes {
        columns = columns.child(column(maps, gene, view, input)?);
    }
    Ok(el("div").child(heading).child(columns))
}

/// What a mark stands for.
pub(super) fn in_words(mark: Mark) -> String {
    match mark {
        Mark::Square { side_um } => format!("One square is one observation of {side_um} × {side_um} µm."),
        Mark::Disc { diameter_um } => format!("One disc is one observation of {diameter_um} µm diameter."),
    }
}

/// A picture as the address of an image that holds it.
pub(super) fn data_address(canvas: &Canvas) -> Result<String> {
    let png = canvas.to_png().context("report: PNG of a map")?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

fn column(maps: &SlideMaps, gene: &GeneMap, view: View, input: &ReportInput) -> Result<Element> {
    let values = gene.measured.iter().flatten().chain(&gene.predicted).copied();
    let range = value_range(values);
    let draw = |values: &[f32], kind: &str| -> Result<Element> {
        let panel = Panel::draw(&PanelConfig {
            centers: &maps.centers,
            values,
            mark: maps.mark,
            range,
            color_map: input.color_map,
            opacity: 1.0,
            view,
            backdrop: None,
            max_side_px: MAP_SIDE_PX,
        })
        .with_context(|| format!("report: {kind} map of gene {} on slide {}", gene.symbol, maps.name))?;
        let alt = format!("{kind} expression of {} on slide {}", gene.symbol, maps.name);
        picture_figure(if kind == "measured" { "Measured" } else { "Predicted" }, &panel.canvas, alt)
    };
    let name =
        if gene.label.is_empty() { gene.symbol.clone() } else { format!("{} ({})", gene.symbol, gene.label) };
    let mut block = el("div")
        .class("gene")
        .child(el("h4").text(name).child(el("i").text(format!("r = {}", fixed(gene.pearson)))));
    if let Some(measured) = &gene.measured {
        block = block.child(draw(measured, "measured")?);
    }
    Ok(block.child(draw(&gene.predicted, "predicted")?).child(legend(input.color_map, range, &input.units)))
}

fn picture_figure(caption: &'static str, canvas: &Canvas, alt: String) -> Result<Element> {
    let image = el("img")
        .attr("alt", alt)
        .attr("width", canvas.width())
        .attr("height", canvas.height())
        .attr("style", "height:auto")
        .attr("src", data_address(canvas)?);
    Ok(el("figure").child(el("figcaption").text(caption)).child(image))
}

/// A scale bar that is right at whatever width the page shows the map.
fn scale_bar(panel: &Panel) -> Element {
    let width = f64::from(panel.canvas.width());
    let bar = ScaleBar::fit(panel.um_per_px, width * 0.4);
    let label = format!("Scale bar: {}", bar.label);
    let unit = width / 260.0; // drawn in map pixels, shown at about 260 px
    let line = el("line")
        .at("x1", 0.0)
        .at("x2", bar.length_px)
        .at("y1", 4.0 * unit)
        .at("y2", 4.0 * unit)
        .attr("stroke", "currentColor")
        .at("stroke-width", 3.0 * unit);
    let text = el("text")
        .at("x", bar.length_px + 8.0 * unit)
        .at("y", 8.5 * unit)
        .attr("style", format!("font-size:{}px", (12.0 * unit).round()))
        .text(bar.label);
    el("svg")
        .class("legend")
        .attr("viewBox", format!("0 0 {width} {}", (12.0 * unit).round()))
        .attr("role", "img")
        .attr("aria-label", label)
        .child(line)
        .child(text)
}
