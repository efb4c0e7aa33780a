//! How the map is drawn: colour map, opacity, range.

use magnet_core::heatmap::{ColorMap, ValueRange};
use web_sys::{
    HtmlButtonElement, HtmlCanvasElement, HtmlElement, HtmlInputElement, HtmlOptionElement, HtmlSelectElement,
};

use super::dom::{button, el, heading, label, set_attr, set_text};
use super::layers::draw_gradient;
use super::look::Look;
use super::palette::Palette;
use super::words;

/// Steps of a range slider from one end to the other.
const STEPS: f64 = 500.0;

/// Fewest steps between the two ends: a narrower range would show two colours and a legend without figures.
const LEAST_STEPS: f64 = 10.0;

/// The active gene's values, as far as the sliders need them.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveGene {
    /// Its symbol.
    pub symbol: String,
    /// Unit of its values.
    pub unit: String,
    /// Least and largest value that the sliders reach.
    pub extent: (f64, f64),
    /// The range in use.
    pub range: ValueRange,
}

/// The part of the page that sets how maps are drawn.
#[derive(Debug)]
pub struct Drawing {
    /// All of it.
    pub root: HtmlElement,
    /// The colour map.
    pub color_map: HtmlSelectElement,
    /// Opacity in per cent.
    pub opacity: HtmlInputElement,
    /// Value of the lowest colour, in steps of the extent.
    pub low: HtmlInputElement,
    /// Value of the highest colour, in steps of the extent.
    pub high: HtmlInputElement,
    /// Back to the default range.
    pub reset: HtmlButtonElement,
    opacity_value: HtmlElement,
    low_value: HtmlElement,
    high_value: HtmlElement,
    range_of: HtmlElement,
    gradient: HtmlCanvasElement,
}

impl Drawing {
    /// Builds the part.
    pub fn new() -> Self {
        let color_map: HtmlSelectElement = el("select").attr("id", "color-map").done();
        for map in ColorMap::ALL {
            let mut name = map.name().to_owned();
            name[..1].make_ascii_uppercase();
            let option: HtmlOptionElement = el("option").attr("value", map.name()).text(&name).done();
            let _ = color_map.append_child(&option);
        }
        let gradient: HtmlCanvasElement = el("canvas").class("gradient").attr("aria-hidden", "true").done();
        let (opacity, opacity_value) = (slider("opacity", 100.0), value_of());
        let (low, low_value) = (slider("low", STEPS), value_of());
        let (high, high_value) = (slider("high", STEPS), value_of());
        let range_of: HtmlElement = el("p").class("hint").done();
        let reset: HtmlButtonElement = button("Reset range", "button quiet").done();
        let line = |text: &str, input: &HtmlInputElement, value: &HtmlElement| {
            el("div").class("slider").with(label(text, &input.id())).with(value).with(input)
        };
        let root: HtmlElement = el("div")
            .attr("role", "group")
            .class("part")
            .attr("aria-labelledby", "drawing-heading")
            .with(heading("Drawing", "drawing-heading"))
            .with(el("div").class("inline").with(label("Colour map", "color-map")).with(&color_map))
            .with(&gradient)
            .with(el("div").class("pair").with(line("Lowest colour", &low, &low_value)).with(line(
                "Highest colour",
                &high,
                &high_value,
            )))
            .with(
                el("div")
                    .class("pair")
                    .with(line("Opacity", &opacity, &opacity_value))
                    .with(el("div").class("range-of").with(&range_of).with(&reset)),
            )
            .done();
        Self {
            root,
            color_map,
            opacity,
            low,
            high,
            reset,
            opacity_value,
            low_value,
            high_value,
            range_of,
            gradient,
        }
    }

    /// Shows the look, and the active gene's range where it is known.
    pub fn refresh(&self, look: &Look, gene: Option<&ActiveGene>) {
        if self.color_map.value() != look.color_map.name() {
            self.color_map.set_value(look.color_map.name());
        }
        if self.gradient.get_attribute("data-map").as_deref() != Some(look.color_map.name()) {
            set_attr(&self.gradient, "data-map", Some(look.color_map.name()));
            draw_gradient(&self.gradient, &Palette::new(look.color_map, super::look::range_from(0.0, 1.0)));
        }
        let percent = (look.opacity * 100.0).round();
        set_number(&self.opacity, f64::from(percent));
        set_attr(&self.opacity, "aria-valuetext", Some(&format!("{percent} per cent")));
        set_text(&self.opacity_value, &format!("{percent} %"));
        for control in [&self.low, &self.high] {
            control.set_disabled(gene.is_none());
        }
        self.reset.set_disabled(gene.is_none());
        let Some(gene) = gene else {
            set_text(&self.low_value, words::NONE);
            set_text(&self.high_value, words::NONE);
            set_text(&self.range_of, "");
            return;
        };
        let ends = [
            (&self.low, &self.low_value, gene.range.low()),
            (&self.high, &self.high_value, gene.range.high()),
        ];
        for (control, text, value) in ends {
            set_number(control, step_of(value, gene.extent));
            let words = words::value(value as f32);
            set_attr(control, "aria-valuetext", Some(&format!("{words} {}", gene.unit)));
            set_text(text, &words);
        }
        set_text(&self.range_of, &format!("{}, {}", gene.symbol, gene.unit));
    }

    /// The range that the sliders say. One end pushes the other, so that they never cross.
    pub fn range(&self, extent: (f64, f64), low_moved: bool) -> (f64, f64) {
        let (mut low, mut high) = (self.low.value_as_number(), self.high.value_as_number());
        if high < low + LEAST_STEPS {
            if low_moved {
                low = low.min(STEPS - LEAST_STEPS);
                high = low + LEAST_STEPS;
            } else {
                high = high.max(LEAST_STEPS);
                low = high - LEAST_STEPS;
            }
        }
        let value = |step: f64| extent.0 + (extent.1 - extent.0) * step / STEPS;
        (value(low), value(high))
    }
}

fn step_of(value: f64, extent: (f64, f64)) -> f64 {
    ((value - extent.0) / (extent.1 - extent.0) * STEPS).round().clamp(0.0, STEPS)
}

fn slider(id: &str, max: f64) -> HtmlInputElement {
    el("input")
        .attr("type", "range")
        .attr("id", id)
        .attr("min", "0")
        .attr("max", &max.to_string())
        .attr("step", "1")
        .done()
}

fn value_of() -> HtmlElement {
    el("span").class("slider-value").attr("aria-hidden", "true").done()
}

fn set_number(input: &HtmlInputElement, number: f64) {
    if input.value_as_number() != number {
        input.set_value_as_number(number);
    }
}
