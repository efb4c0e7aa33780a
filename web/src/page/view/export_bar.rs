//! Files of the result.

use js_sys::Promise;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, HtmlAnchorElement, HtmlCanvasElement, HtmlElement, ImageBitmap, Url};

use super::dom::{button, el, heading, set_attr, set_flag, set_text};
use super::layers::context;
use crate::page::session::state::{ExportedFile, Problem, ProblemKind, State};
use crate::protocol::ExportKind;

/// What can be saved: name of the button, what is in the file, in the order of the page.
const FILES: [(ExportKind, &str, &str); 6] = [
    (ExportKind::Csv, "CSV", "All genes of this level as a table"),
    (ExportKind::H5ad, "h5ad", "All genes of this level as AnnData"),
    (ExportKind::Png, "PNG", "The shown genes over the image, each with legend and scale bar"),
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
        let root: HtmlElement = el("div")
            .class("part export-part")
            .with(heading("Export", "export-heading"))
            .with(row)
            .with(&hint)
            .done();
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

// Not among the bindings that the workspace takes from web-sys.
#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_name = createImageBitmap)]
    fn create_image_bitmap(blob: &Blob) -> Result<Promise, JsValue>;
}

/// Puts pictures of equal size beside each other, at most two in a row, as the panels stand. The file is named after
/// the first.
///
/// # Errors
/// If there is no memory for the picture.
pub async fn side_by_side(pictures: &[ExportedFile]) -> Result<(Blob, String), Problem> {
    let no_memory = || Problem::new(ProblemKind::Memory, "There is no memory for the picture.");
    let mut bitmaps: Vec<ImageBitmap> = Vec::new();
    for picture in pictures {
        let decoded = create_image_bitmap(&picture.blob).map_err(|_| no_memory())?;
        let decoded = JsFuture::from(decoded).await.map_err(|_| no_memory())?;
        bitmaps.push(decoded.dyn_into().map_err(|_| no_memory())?);
    }
    let width = bitmaps.iter().map(ImageBitmap::width).max().unwrap_or(1);
    let height = bitmaps.iter().map(ImageBitmap::height).max().unwrap_or(1);
    let columns = (bitmaps.len() as u32).clamp(1, 2);
    let canvas: HtmlCanvasElement = el("canvas").done();
    canvas.set_width(width * columns);
    canvas.set_height(height * (bitmaps.len() as u32).div_ceil(columns));
    let context = context(&canvas).ok_or_else(no_memory)?;
    context.set_fill_style_str("white");
    context.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
    for (place, bitmap) in (0_u32..).zip(&bitmaps) {
        let (left, top) = (place % columns * width, place / columns * height);
        let _ = context.draw_image_with_image_bitmap(bitmap, f64::from(left), f64::from(top));
        bitmap.close();
    }
    let made = Promise::new(&mut |resolve, _| {
        let _ = canvas.to_blob(&resolve);
    });
    let blob = JsFuture::from(made).await.ok().and_then(|blob| blob.dyn_into().ok()).ok_or_else(no_memory)?;
    let name = pictures.first().map_or("map.png", |picture| &picture.name);
    let name = name.strip_suffix(".png").unwrap_or(name);
    let others = pictures.len().saturating_sub(1);
    Ok((blob, format!("{name}_and_{others}_more.png")))
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
