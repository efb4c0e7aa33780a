//! The question how large a pixel is.

use web_sys::{HtmlElement, HtmlInputElement};

use super::dom::{button, el, label, set_attr, set_text, show};
use super::words;
use crate::page::session::state::State;

/// Pixel sizes of common objectives, µm per pixel.
const COMMON: [(&str, &str); 3] = [("0.25", "40× scan"), ("0.5", "20× scan"), ("1", "10× scan")];

/// The question, as a dialog over the map.
#[derive(Debug)]
pub struct PixelSizeDialog {
    /// All of it.
    pub root: HtmlElement,
    /// The form; it is sent by the button or by Enter.
    pub form: HtmlElement,
    /// The number.
    pub input: HtmlInputElement,
    /// Common sizes, each with the number in `data-size`.
    pub common: HtmlElement,
    /// Closes the dialog, where the image has a size already.
    pub keep: HtmlElement,
    why: HtmlElement,
    extent: HtmlElement,
}

impl PixelSizeDialog {
    /// Builds the dialog, hidden.
    pub fn new() -> Self {
        let why: HtmlElement = el("p").attr("id", "pixel-size-why").done();
        let input: HtmlInputElement = el("input")
            .attr("id", "pixel-size")
            .attr("type", "number")
            .attr("inputmode", "decimal")
            .attr("min", "0.05")
            .attr("max", "20")
            .attr("step", "any")
            .attr("required", "")
            .attr("aria-describedby", "pixel-size-extent")
            .done();
        let mut common =
            el("div").class("common-sizes").attr("role", "group").attr("aria-label", "Common sizes");
        for (size, scan) in COMMON {
            let name = format!("{size} µm ({scan})");
            common = common.with(button(&name, "button quiet").attr("data-size", size));
        }
        let common: HtmlElement = common.done();
        let extent: HtmlElement = el("p").class("hint").attr("id", "pixel-size-extent").done();
        let keep: HtmlElement = button("Keep the current size", "button quiet").done();
        let form: HtmlElement = el("form")
            .attr("novalidate", "")
            .with(label("Micrometres per pixel", "pixel-size"))
            .with(&input)
            .with(&common)
            .with(&extent)
            .with(
                el("div")
                    .class("row")
                    .with(el("button").attr("type", "submit").class("button primary").text("Use this size"))
                    .with(&keep),
            )
            .done();
        let root: HtmlElement = el("div")
            .class("dialog")
            .attr("role", "dialog")
            .attr("aria-label", "Pixel size")
            .attr("aria-describedby", "pixel-size-why")
            .attr("hidden", "")
            .with(&why)
            .with(&form)
            .done();
        Self { root, form, input, common, keep, why, extent }
    }

    /// Opens or closes the dialog; takes the focus when it opens.
    pub fn set_open(&self, open: bool, state: &State) {
        let was_open = !self.root.has_attribute("hidden");
        show(&self.root, open);
        if !open {
            return;
        }
        let known = state.image.as_ref().and_then(|image| image.um_per_px);
        show(&self.keep, known.is_some());
        set_text(
            &self.why,
            match known {
                Some(_) => "The prediction runs again with the new size.",
                None => {
                    "The file does not say how large a pixel is, and a map needs it. It stands in the scanner's settings or in the slide's metadata."
                }
            },
        );
        if !was_open {
            self.input.set_value(&known.map(words::pixel_size).unwrap_or_default());
            self.describe_extent(state);
            let _ = self.input.focus();
        }
    }

    /// The size in the field, where it is one.
    pub fn value(&self) -> Option<f64> {
        words::positive(&self.input.value())
    }

    /// Says how large the whole image would be, which shows a wrong size at once.
    pub fn describe_extent(&self, state: &State) {
        let text = match (self.value(), &state.image) {
            (Some(um_per_px), Some(image)) => {
                let mm = |px: u32| f64::from(px) * um_per_px / 1000.0;
                format!("The whole image would be {:.2} × {:.2} mm.", mm(image.width_px), mm(image.height_px))
            }
            (None, _) if !self.input.value().is_empty() => {
                "Expected a number between 0.05 and 20.".to_owned()
            }
            _ => String::new(),
        };
        set_attr(&self.input, "aria-invalid", text.starts_with("Expected").then_some("true"));
        set_text(&self.extent, &text);
    }
}
