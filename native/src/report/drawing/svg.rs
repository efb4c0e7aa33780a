//! A figure as SVG: no style sheet, no font file, no address of another file, so that it looks the same wherever it is
//! put.

use anyhow::Result;

use super::super::element::{Element, el};
use super::super::maps::data_address;
use super::{Anchor, Drawing, Rgb, Shape, sides};
use magnet_core::heatmap::figure::PAPER;

/// The typeface of the painted figure where it is installed, else what the reader has.
const FAMILY: &str = "Ubuntu, Helvetica, Arial, sans-serif";

impl Drawing {
    /// The figure as an element, for a file or a page.
    ///
    /// # Errors
    /// When a picture in it cannot be encoded.
    pub(in super::super) fn svg(&self) -> Result<Element> {
        let mut svg = el("svg")
            .attr("xmlns", "http://www.w3.org/2000/svg")
            .attr("width", self.width)
            .attr("height", self.height)
            .attr("viewBox", format!("0 0 {} {}", self.width, self.height))
            .attr("role", "img")
            .attr("font-family", FAMILY)
            .child(el("title").text(self.label.clone()))
            .child(el("rect").attr("width", self.width).attr("height", self.height).attr("fill", hex(PAPER)));
        for shape in &self.shapes {
            svg = svg.child(element(shape)?);
        }
        Ok(svg)
    }
}

fn element(shape: &Shape) -> Result<Element> {
    Ok(match shape {
        Shape::Rect { x, y, width, height, color } => el("rect")
            .at("x", *x)
            .at("y", *y)
            .at("width", *width)
            .at("height", *height)
            .attr("fill", hex(*color)),
        Shape::Line { points, width, color } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
            el("polyline")
                .attr("points", points.join(" "))
                .attr("fill", "none")
                .attr("stroke", hex(*color))
                .at("stroke-width", *width)
                .attr("stroke-linejoin", "round")
        }
        Shape::Text { x, y, anchor, font, text } => {
            let element = el("text").at("x", *x).at("y", *y).at("font-size", font.size);
            let element = match anchor {
                Anchor::Start => element,
                Anchor::Middle => element.attr("text-anchor", "middle"),
                Anchor::End => element.attr("text-anchor", "end"),
            };
            let element = if font.bold { element.attr("font-weight", 600) } else { element };
            element.attr("fill", hex(font.color)).text(text.clone())
        }
        Shape::Picture { x, y, canvas, alt } => {
            let (width, height) = sides(canvas);
            el("image")
                .at("x", *x)
                .at("y", *y)
                .at("width", width)
                .at("height", height)
                .attr("href", data_address(canvas)?)
                .child(el("title").text(alt.clone()))
        }
    })
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
