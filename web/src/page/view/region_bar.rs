//! The row for choosing a region of a slide: by drawing, by numbers, and what it would cost.

use web_sys::{HtmlButtonElement, HtmlElement, HtmlInputElement};

use super::dom::{button, el, label, set_attr, set_text, show};
use super::words;
use crate::page::session::region::{Region, is_too_large, scale_for};
use crate::page::session::state::{Phase, State};

/// Fields with their names: the element's id, the label.
const FIELDS: [(&str, &str); 4] =
    [("region-x", "X"), ("region-y", "Y"), ("region-width", "Width"), ("region-height", "Height")];

/// The row.
#[derive(Debug)]
pub struct RegionBar {
    /// All of it.
    pub root: HtmlElement,
    /// Begins and ends choosing.
    pub choose: HtmlButtonElement,
    /// Takes the part in sight.
    pub visible: HtmlButtonElement,
    /// Cuts a region that is too large.
    pub largest: HtmlButtonElement,
    /// X, Y, width, height.
    pub fields: [HtmlInputElement; 4],
    numbers: HtmlElement,
    unit: HtmlElement,
    facts: HtmlElement,
}

impl RegionBar {
    /// Builds the row, hidden.
    pub fn new() -> Self {
        let choose: HtmlButtonElement =
            button("Choose region", "button").attr("aria-pressed", "false").done();
        let visible: HtmlButtonElement = button("Take the view", "button quiet")
            .attr("title", "Takes the part of the slide that is on screen")
            .done();
        let largest: HtmlButtonElement =
            button("Largest that fits", "button quiet").attr("hidden", "").done();
        let fields = FIELDS.map(|(id, _)| {
            el("input")
                .attr("type", "text")
                .attr("inputmode", "decimal")
                .attr("id", id)
                .attr("autocomplete", "off")
                .attr("aria-describedby", "region-unit")
                .done::<HtmlInputElement>()
        });
        let unit: HtmlElement = el("span").class("hint").attr("id", "region-unit").done();
        let mut numbers =
            el("span").class("region-numbers").attr("role", "group").attr("aria-label", "Region");
        for ((id, name), field) in FIELDS.into_iter().zip(&fields) {
            numbers = numbers.with(el("span").class("region-field").with(label(name, id)).with(field));
        }
        let numbers: HtmlElement = numbers.with(&unit).done();
        let facts: HtmlElement =
            el("p").class("region-facts").attr("role", "status").attr("aria-label", "Region").done();
        let root: HtmlElement = el("div")
            .class("region-bar")
            .attr("hidden", "")
            .with(&choose)
            .with(&visible)
            .with(&numbers)
            .with(&largest)
            .with(&facts)
            .done();
        Self { root, choose, visible, largest, fields, numbers, unit, facts }
    }

    /// Shows the state. `tissue` is the part of the region that seems to be tissue, `seconds_per_bin` what runs took.
    pub fn refresh(
        &self,
        state: &State,
        choosing: bool,
        tissue: Option<f64>,
        seconds_per_bin: Option<f64>,
        focused: Option<&web_sys::Element>,
    ) {
        show(&self.root, state.slide.is_some());
        let reading =
            matches!(state.phase, Phase::ReadingRegion { .. } | Phase::Predicting(_) | Phase::Cancelling(_));
        self.choose.set_disabled(reading);
        self.visible.set_disabled(reading);
        set_attr(&self.choose, "aria-pressed", Some(if choosing { "true" } else { "false" }));
        set_text(&self.choose, if choosing { "Done choosing" } else { "Choose region" });
        show(&self.numbers, state.region.is_some());
        let um_per_px = state.image.as_ref().and_then(|image| image.um_per_px);
        set_text(&self.unit, if um_per_px.is_some() { "µm" } else { "px" });
        let Some(region) = state.region else {
            show(&self.largest, false);
            set_text(
                &self.facts,
                if choosing {
                    "Draw a rectangle on the slide."
                } else {
                    "Choose the part of the slide to predict."
                },
            );
            return;
        };
        let sides = [region.left, region.top, region.width, region.height];
        for (field, side) in self.fields.iter().zip(sides) {
            field.set_disabled(reading);
            // What is being typed is the user's.
            if focused.is_none_or(|focused| focused != &***field) {
                let text = match um_per_px {
                    Some(um_per_px) => format!("{:.0}", f64::from(side) * um_per_px),
                    None => side.to_string(),
                };
                if field.value() != text {
                    field.set_value(&text);
                }
            }
        }
        let window = um_per_px.map(|um_per_px| region.window(scale_for(state.model.as_deref(), um_per_px)));
        show(&self.largest, window.as_ref().is_some_and(is_too_large) && !reading);
        set_text(&self.facts, &facts(state, region, um_per_px, tissue, seconds_per_bin));
    }

    /// The region in the fields; `None` where one is no number.
    pub fn region(&self, um_per_px: Option<f64>, slide_px: (u32, u32)) -> Option<Region> {
        let mut sides = [0.0; 4];
        for (side, field) in sides.iter_mut().zip(&self.fields) {
            let number: f64 = field.value().trim().replace(',', ".").parse().ok()?;
            *side = number / um_per_px.unwrap_or(1.0);
        }
        let [x, y, width, height] = sides;
        let is_one =
            sides.iter().all(|side| side.is_finite() && *side >= 0.0) && width >= 1.0 && height >= 1.0;
        is_one.then(|| Region::between((x, y), (x + width, y + height), slide_px))
    }

    /// Marks a field that holds no number.
    pub fn mark_wrong(&self, wrong: bool) {
        for field in &self.fields {
            let is_wrong = wrong && field.value().trim().replace(',', ".").parse::<f64>().is_err();
            set_attr(field, "aria-invalid", is_wrong.then_some("true"));
        }
    }
}

/// What the region would cost, in a sentence.
fn facts(
    state: &State,
    region: Region,
    um_per_px: Option<f64>,
    tissue: Option<f64>,
    seconds_per_bin: Option<f64>,
) -> String {
    let Some(um_per_px) = um_per_px else {
        let (width, height) = (words::count(region.width as usize), words::count(region.height as usize));
        return format!("{width} × {height} px. Its size needs the slide's pixel size.");
    };
    let mm = |px: u32| f64::from(px) * um_per_px / 1000.0;
    let mut parts = vec![format!("{:.2} × {:.2} mm", mm(region.width), mm(region.height))];
    let model = state.model.as_deref();
    let window = region.window(scale_for(model, um_per_px));
    let megapixels = f64::from(window.out_width_px) * f64::from(window.out_height_px) / 1e6;
    if is_too_large(&window) {
        parts.push(format!(
            "{megapixels:.0} megapixels at {} µm/px; a browser tab holds 150",
            words::pixel_size(um_per_px * window.scale)
        ));
        return parts.join(" · ");
    }
    if let Some(model) = model {
        let tile_um = model.levels.bin.tile_um;
        let across = |px: u32| (f64::from(px) * um_per_px / tile_um).ceil().max(1.0);
        let bins = across(region.width) * across(region.height) * tissue.unwrap_or(1.0);
        let noun = words::bin_noun(tile_um, bins.round() as usize);
        parts.push(match tissue {
            Some(tissue) if tissue < 0.005 => "hardly any tissue".to_owned(),
            Some(_) => format!("about {} {noun} on tissue", words::rounded(bins)),
            None => format!("up to {} {noun}", words::rounded(bins)),
        });
        if let Some(seconds) = seconds_per_bin {
            parts.push(format!("about {}", words::duration(seconds * bins)));
        }
    }
    if window.scale > 1.0 {
        let read = words::pixel_size(um_per_px * window.scale);
        parts.push(format!("read at {read} µm/px, which is all that the model needs"));
    }
    parts.join(" · ")
}
