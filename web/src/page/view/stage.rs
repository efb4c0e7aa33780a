//! The middle of the page: the maps, what lies under the crosshair, and the question for an image.

use web_sys::{HtmlButtonElement, HtmlElement};

use super::dom::{button, el, icon_button, set_attr, set_flag, set_text, show};
use super::look::MAX_PANELS;
use super::panel::MapPanel;
use super::pixel_size::PixelSizeDialog;
use super::region_bar::RegionBar;
use super::words;
use crate::page::session::state::{Phase, State};

const PLUS: &str = "M8 3v10M3 8h10";
const MINUS: &str = "M3 8h10";
const FIT: &str = "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10";

/// The maps and what belongs to them.
#[derive(Debug)]
pub struct Stage {
    /// All of it.
    pub root: HtmlElement,
    /// The panels' box.
    pub panels_box: HtmlElement,
    /// The panels; those that are not needed are hidden.
    pub panels: Vec<MapPanel>,
    /// Stands where the maps will be, while there is no image.
    pub empty: HtmlElement,
    /// Magnifies.
    pub zoom_in: HtmlButtonElement,
    /// Reduces.
    pub zoom_out: HtmlButtonElement,
    /// Shows the whole image.
    pub fit: HtmlButtonElement,
    /// Asks for the pixel size again.
    pub change_size: HtmlButtonElement,
    /// The row for choosing a region of a slide.
    pub region_bar: RegionBar,
    /// The question for the pixel size.
    pub pixel_size: PixelSizeDialog,
    image_line: HtmlElement,
    image_name: HtmlElement,
    image_facts: HtmlElement,
    tools: HtmlElement,
    waiting: HtmlElement,
    readout: HtmlElement,
}

impl Stage {
    /// Builds the stage.
    pub fn new() -> Self {
        let image_name: HtmlElement = el("span").class("image-name").done();
        let image_facts: HtmlElement = el("span").class("image-facts").done();
        let change_size: HtmlButtonElement = button("Change pixel size", "link").done();
        let zoom_in: HtmlButtonElement = icon_button("Zoom in", PLUS, "icon-button").done();
        let zoom_out: HtmlButtonElement = icon_button("Zoom out", MINUS, "icon-button").done();
        let fit: HtmlButtonElement = icon_button("Show the whole image", FIT, "icon-button").done();
        let tools: HtmlElement = el("div")
            .class("tools")
            .attr("role", "group")
            .attr("aria-label", "Zoom")
            .with(&zoom_out)
            .with(&zoom_in)
            .with(&fit)
            .done();
        let image_line: HtmlElement = el("div")
            .class("image-line")
            .attr("hidden", "")
            .with(el("p").with(&image_name).with(&image_facts).with(&change_size))
            .with(&tools)
            .done();
        let panels: Vec<MapPanel> = (0..MAX_PANELS).map(MapPanel::new).collect();
        let panels_box: HtmlElement =
            panels.iter().fold(el("div").class("panels"), |all, panel| all.with(&panel.root)).done();
        let empty: HtmlElement = el("div")
            .class("empty")
            .with(el("p").class("empty-title").text("Drop an H&E image here"))
            .with(el("p").class("empty-text").text("or paste it, or choose a file: PNG, JPEG, TIFF, or a whole slide of any size (SVS, OME-TIFF, BigTIFF)."))
            .done();
        let waiting: HtmlElement = el("p").class("waiting").attr("hidden", "").done();
        let pixel_size = PixelSizeDialog::new();
        let readout: HtmlElement = el("p")
            .class("readout")
            .attr("role", "status")
            .attr("aria-label", "Value at the pointer")
            .attr("aria-live", "off")
            .done();
        let region_bar = RegionBar::new();
        let keys = "Arrow keys move the crosshair and the map with it, with Shift by one tile. Plus and minus zoom, 0 shows the whole image. While a region is chosen, arrow keys move it, with Shift they change its size, and Enter predicts it.";
        let note = el("p").class("note").text("Predicted, not measured; research use only.");
        let root: HtmlElement = el("div")
            .attr("role", "group")
            .class("stage")
            .attr("aria-label", "Map")
            .with(&image_line)
            .with(&region_bar.root)
            .with(
                el("div")
                    .class("field-of-view")
                    .with(&panels_box)
                    .with(&empty)
                    .with(&waiting)
                    .with(&pixel_size.root),
            )
            .with(el("p").class("unseen").attr("id", "map-keys").text(keys))
            .with(el("div").class("stage-foot").with(&readout).with(note))
            .done();
        Self {
            root,
            panels_box,
            panels,
            empty,
            zoom_in,
            zoom_out,
            fit,
            change_size,
            region_bar,
            pixel_size,
            image_line,
            image_name,
            image_facts,
            tools,
            waiting,
            readout,
        }
    }

    /// Shows the state, with `panels` maps; `asking` opens the question for the pixel size.
    pub fn refresh(&self, state: &State, panels: usize, asking: bool) {
        let opening = matches!(state.phase, Phase::OpeningImage);
        let has_image = state.image.is_some();
        show(&self.empty, !has_image && !opening);
        show(&self.waiting, !has_image && opening);
        set_text(&self.waiting, "Reading the image…");
        show(&self.panels_box, has_image);
        show(&self.image_line, has_image);
        show(&self.tools, has_image);
        let count = panels.max(1);
        set_attr(&self.panels_box, "data-count", Some(&count.to_string()));
        for (place, panel) in self.panels.iter().enumerate() {
            show(&panel.root, place < count);
        }
        if let Some(image) = &state.image {
            set_text(&self.image_name, &image.name);
            let mut facts = format!(
                "{} × {} px",
                words::count(image.width_px as usize),
                words::count(image.height_px as usize)
            );
            match image.um_per_px {
                Some(um_per_px) => facts += &format!(" · {} µm/px", words::pixel_size(um_per_px)),
                None => facts += " · pixel size not known",
            }
            if let (Some(used), Some(embedded)) = (image.um_per_px, image.embedded_um_per_px)
                && (used / embedded - 1.0).abs() > 1e-3
            {
                facts += &format!(" (the file says {})", words::pixel_size(embedded));
            }
            if let Some(slide) = &state.slide {
                if let (true, Some(from)) =
                    (image.um_per_px == slide.embedded_um_per_px, &slide.pixel_size_from)
                {
                    facts += &format!(" (from {from})");
                }
                let levels = words::plural(slide.file_levels as usize, "level", "levels");
                facts += &format!(" · {} · {levels}", words::bytes(slide.bytes));
            }
            set_text(&self.image_facts, &facts);
        }
        self.pixel_size.set_open(has_image && asking, state);
    }

    /// Shows what lies under the crosshair. `spoken` where the keyboard moved it: a moving pointer must not make a
    /// screen reader talk.
    pub fn set_readout(&self, text: &str, spoken: bool) {
        set_attr(&self.readout, "aria-live", Some(if spoken { "polite" } else { "off" }));
        set_text(&self.readout, text);
    }

    /// Lets one finger scroll the page while the whole image is shown, and move the map otherwise.
    pub fn set_zoomed(&self, zoomed: bool) {
        set_flag(&self.panels_box, "data-zoomed", zoomed);
        self.fit.set_disabled(!zoomed);
        self.zoom_out.set_disabled(!zoomed);
    }
}
