//! Files of the result.

use web_sys::{Blob, HtmlAnchorElement, HtmlElement, Url};

use super::dom::{button, el, heading, set_attr, set_flag, set_text};
use crate::page::session::state::State;
use crate::protocol::ExportKind;

/// What can be saved: name of the button, what is in the file, in the order of the page.
const FILES: [(ExportKind, &str, &str); 6] = [
    (ExportKind::Csv, "CSV", "All genes of this level as a table"),
    (ExportKind::H5ad, "h5ad", "All genes of this level as AnnData"),
    (ExportKind::Png, "PNG", "The active gene over the image, with legend and scale bar"),
    (ExportKind::Overlay, "Overlay PNG", "The active gene alone, transparent, in the image's frame"),
    (ExportKind::Geojson, "GeoJSON", "Tiles with the shown genes as measurements, for QuPath"),
    (ExportKind::Provenance, "Provenance", "Where every number comes from, as JSON"),
];

/// The part of the page with the buttons.
#[derive(Debug)]
pub struct ExportBar {
    /// All of it.
    pub root: HtmlElement,
    /// The buttons, with their files.
    pub buttons: Vec<(ExportKind, HtmlElement)>,
    hint: HtmlElement,
}

impl ExportBar {
    /// Builds the part.
    pub fn new() -> Self {
        let mut row =
            el("div").class("export").attr("role", "group").attr("aria-labelledby", "export-heading");
        let mut buttons = Vec::new();
        for (kind, name, what) in FILES {
            let control: HtmlElement = button(name, "button").attr("title", what).done();
            row = row.with(&control);
            buttons.push((kind, control));
        }
        let hint: HtmlElement = el("p").class("hint").attr("role", "status").done();
        let root: HtmlElement =
            el("div").class("part").with(heading("Export", "export-heading")).with(row).with(&hint).done();
        Self { root, buttons, hint }
    }

    /// Shows the state.
    pub fn refresh(&self, state: &State) {
        let ready = state.has_map() && state.exporting.is_none();
        for (kind, control) in &self.buttons {
            set_flag(control, "disabled", !ready);
            set_attr(control, "aria-busy", (state.exporting == Some(*kind)).then_some("true"));
        }
        let hint = match (state.exporting, state.result) {
            (Some(_), _) => "Making the file…",
            (None, Some(result)) if !result.complete => {
                "Files of a partial map say so; what is missing is left empty."
            }
            _ => "",
        };
        set_text(&self.hint, hint);
    }
}

/// Saves a file as the browser's downloads do; nothing leaves the machine.
pub fn save(blob: &Blob, name: &str) {
    let Ok(url) = Url::create_object_url_with_blob(blob) else { return };
    let link: HtmlAnchorElement = el("a").attr("href", &url).attr("download", name).done();
    link.click();
    // The browser reads the blob after the click; a minute is enough for any start of a download.
    gloo::timers::callback::Timeout::new(60_000, move || {
        let _ = Url::revoke_object_url(&url);
    })
    .forget();
}
