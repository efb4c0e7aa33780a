//! What the user does with controls, files and the clipboard, turned into actions.

use std::rc::Rc;

use gloo::utils::{document, window};
use magnet_core::Level;
use wasm_bindgen::JsCast;
use web_sys::{
    ClipboardEvent, DataTransfer, DragEvent, Element, Event, EventTarget, File, FileList, HtmlInputElement,
    KeyboardEvent, MediaQueryList, MouseEvent,
};

use super::dom::{closest, listen, set_attr, set_flag};
use super::genes::GeneSort;
use super::palette;
use super::topbar::device_choice;
use super::viewer::Viewer;
use crate::page::session::state::{Problem, ProblemKind};

/// The end of a model's file name.
const MODEL_SUFFIX: &str = ".safetensors";
/// Rows that Page Up and Page Down move by.
const PAGE_ROWS: isize = 10;

impl Viewer {
    /// Hears an event for as long as the viewer lives.
    pub(super) fn on(
        self: &Rc<Self>,
        target: &EventTarget,
        kind: &'static str,
        act: impl Fn(&Rc<Viewer>, &Event) + 'static,
    ) {
        let viewer = Rc::downgrade(self);
        self.keep_listener(listen(target, kind, move |event| {
            if let Some(viewer) = viewer.upgrade() {
                act(&viewer, event);
            }
        }));
    }

    /// Connects the controls.
    pub(super) fn wire(self: &Rc<Self>) {
        self.wire_topbar();
        self.wire_runbar();
        self.wire_pixel_size();
        self.wire_genes();
        self.wire_drawing();
        self.wire_files();
        for (kind, control) in &self.export.buttons {
            let kind = *kind;
            self.on(control, "click", move |viewer, _| viewer.export(kind));
        }
    }

    fn wire_topbar(self: &Rc<Self>) {
        let bar = &self.topbar;
        self.on(&bar.open_image, "click", |viewer, _| viewer.topbar.image_file.click());
        self.on(&bar.open_model, "click", |viewer, _| viewer.topbar.model_file.click());
        self.on(&bar.sample, "click", |viewer, _| viewer.session.open_sample());
        self.on(&bar.image_file, "change", |viewer, _| {
            if let Some(file) = taken_file(&viewer.topbar.image_file) {
                viewer.session.open_image_file(file);
            }
        });
        self.on(&bar.model_file, "change", |viewer, _| {
            if let Some(file) = taken_file(&viewer.topbar.model_file) {
                viewer.session.open_model_file(file);
            }
        });
        self.on(&bar.model, "change", |viewer, _| {
            let id = viewer.topbar.model.value();
            if !id.is_empty() {
                viewer.session.choose_model(&id);
            }
        });
        self.on(&bar.device, "change", |viewer, _| {
            viewer.session.set_device(device_choice(&viewer.topbar.device.value()));
        });
        self.on(&bar.theme, "click", |viewer, _| viewer.toggle_theme());
        if let Some(query) = dark_preferred() {
            self.on(&query, "change", |viewer, _| viewer.show_theme());
        }
        self.show_theme();
    }

    fn is_dark(&self) -> bool {
        match self.host.get_attribute("theme").as_deref() {
            Some("dark") => true,
            Some("light") => false,
            _ => dark_preferred().is_some_and(|query| query.matches()),
        }
    }

    fn toggle_theme(&self) {
        let theme = if self.is_dark() { "light" } else { "dark" };
        set_attr(&self.host, "theme", Some(theme));
        self.show_theme();
    }

    /// Says on the switch which theme is in use.
    pub(super) fn show_theme(&self) {
        set_attr(&self.topbar.theme, "aria-pressed", Some(if self.is_dark() { "true" } else { "false" }));
    }

    fn wire_runbar(self: &Rc<Self>) {
        let bar = &self.runbar;
        self.on(&bar.predict, "click", |viewer, _| viewer.session.predict());
        self.on(&bar.cancel, "click", |viewer, _| viewer.session.cancel());
        self.on(&bar.dismiss, "click", |viewer, _| viewer.dismiss_problem());
        self.on(&bar.notices, "click", |viewer, event| {
            let id = closest(event, "[data-notice]").and_then(|button| number(&button, "data-notice"));
            if let Some(id) = id {
                viewer.session.dismiss_notice(id);
            }
        });
    }

    fn wire_pixel_size(self: &Rc<Self>) {
        let dialog = &self.stage.pixel_size;
        self.on(&self.stage.change_size, "click", |viewer, _| {
            viewer.asking_size.set(true);
            viewer.refresh();
        });
        self.on(&dialog.keep, "click", |viewer, _| viewer.close_pixel_size());
        self.on(&dialog.root, "keydown", |viewer, event| {
            let known = viewer.session.state().image.as_ref().is_some_and(|image| image.um_per_px.is_some());
            if key(event).as_deref() == Some("Escape") && known {
                viewer.close_pixel_size();
            }
        });
        self.on(&dialog.input, "input", |viewer, _| viewer.describe_extent());
        self.on(&dialog.common, "click", |viewer, event| {
            let size = closest(event, "[data-size]").and_then(|button| button.get_attribute("data-size"));
            if let Some(size) = size {
                viewer.stage.pixel_size.input.set_value(&size);
                viewer.describe_extent();
            }
        });
        self.on(&dialog.form, "submit", |viewer, event| {
            event.prevent_default();
            match viewer.stage.pixel_size.value() {
                Some(um_per_px) => {
                    viewer.asking_size.set(false);
                    viewer.session.set_pixel_size(um_per_px);
                    viewer.refresh();
                }
                None => {
                    viewer.report(Problem::new(
                        ProblemKind::Input,
                        format!(
                            "Pixel size: expected a number between 0.05 and 20 µm per pixel, found “{}”.",
                            viewer.stage.pixel_size.input.value()
                        ),
                    ));
                }
            }
        });
    }

    fn close_pixel_size(self: &Rc<Self>) {
        self.asking_size.set(false);
        self.refresh();
        let _ = self.stage.change_size.focus();
    }

    fn describe_extent(&self) {
        let state = self.session.state().clone();
        self.stage.pixel_size.describe_extent(&state);
    }

    fn wire_genes(self: &Rc<Self>) {
        let list = &self.gene_list;
        self.on(&list.levels, "change", |viewer, event| {
            let name = event
                .target()
                .and_then(|target| target.dyn_into::<HtmlInputElement>().ok())
                .map(|radio| radio.value());
            let level = Level::ALL.into_iter().find(|level| Some(level.name()) == name.as_deref());
            if let Some(level) = level {
                viewer.set_level(level);
            }
        });
        self.on(&list.search, "input", |viewer, _| {
            let query = viewer.gene_list.search.value();
            viewer.change_look(|look| look.query = query);
            viewer.gene_list.restart();
        });
        self.on(&list.sort, "change", |viewer, _| {
            let sort = GeneSort::from_name(&viewer.gene_list.sort.value());
            viewer.change_look(|look| look.sort = sort);
            viewer.gene_list.restart();
        });
        self.on(&list.side_by_side, "change", |viewer, _| {
            let on = viewer.gene_list.side_by_side.checked();
            viewer.change_look(|look| {
                look.side_by_side = on;
                if !on {
                    look.keep_active();
                }
            });
        });
        self.on(&list.list, "click", |viewer, event| {
            let gene = closest(event, "[data-gene]").and_then(|option| number(&option, "data-gene"));
            let beside = event
                .dyn_ref::<MouseEvent>()
                .is_some_and(|event| event.ctrl_key() || event.meta_key() || event.shift_key());
            if let Some(gene) = gene {
                viewer.pick_gene(gene, beside);
            }
        });
        for target in [list.search.as_ref() as &EventTarget, list.list.as_ref()] {
            self.on(target, "keydown", |viewer, event| viewer.gene_key(event));
        }
    }

    /// Shows a gene: in the active panel, or beside the others.
    fn pick_gene(self: &Rc<Self>, gene: usize, beside: bool) {
        self.change_look(|look| {
            look.side_by_side |= beside;
            if look.side_by_side { look.toggle(gene) } else { look.choose(gene) }
        });
        self.gene_list.highlight_gene(gene);
    }

    fn gene_key(self: &Rc<Self>, event: &Event) {
        let Some(pressed) = event.dyn_ref::<KeyboardEvent>() else { return };
        if pressed.is_composing() {
            return;
        }
        match pressed.key().as_str() {
            "ArrowDown" => self.gene_list.step(1),
            "ArrowUp" => self.gene_list.step(-1),
            "PageDown" => self.gene_list.step(PAGE_ROWS),
            "PageUp" => self.gene_list.step(-PAGE_ROWS),
            "Home" if pressed.ctrl_key() || !self.in_search(event) => self.gene_list.to_first(),
            "End" if pressed.ctrl_key() || !self.in_search(event) => self.gene_list.to_last(),
            "Enter" => {
                if let Some(gene) = self.gene_list.highlighted() {
                    self.pick_gene(gene, pressed.shift_key());
                }
            }
            " " if !self.in_search(event) => {
                if let Some(gene) = self.gene_list.highlighted() {
                    self.pick_gene(gene, pressed.shift_key());
                }
            }
            "Escape" if !self.gene_list.search.value().is_empty() => {
                self.gene_list.search.set_value("");
                self.change_look(|look| look.query.clear());
            }
            _ => return,
        }
        event.prevent_default();
    }

    fn in_search(&self, event: &Event) -> bool {
        event.current_target().as_ref() == Some(self.gene_list.search.as_ref())
    }

    fn wire_drawing(self: &Rc<Self>) {
        let part = &self.drawing;
        self.on(&part.color_map, "change", |viewer, _| {
            let color_map = palette::color_map(&viewer.drawing.color_map.value());
            viewer.change_look(|look| look.color_map = color_map);
        });
        self.on(&part.opacity, "input", |viewer, _| {
            let opacity = viewer.drawing.opacity.value_as_number() / 100.0;
            viewer.change_look(|look| look.opacity = opacity.clamp(0.0, 1.0) as f32);
        });
        self.on(&part.low, "input", |viewer, _| viewer.set_range_from_sliders(true));
        self.on(&part.high, "input", |viewer, _| viewer.set_range_from_sliders(false));
        self.on(&part.reset, "click", |viewer, _| {
            viewer.change_look(|look| {
                if let Some(gene) = look.active_gene() {
                    look.ranges.remove(&(look.level, gene));
                }
            });
        });
    }

    /// Files that are dropped or pasted: on the element, or anywhere where the element is the page.
    fn wire_files(self: &Rc<Self>) {
        let page: EventTarget = document().into();
        let field: EventTarget = if self.whole_page { page } else { self.host.clone().into() };
        self.on(&field, "dragover", |viewer, event| {
            if holds_files(event) {
                event.prevent_default();
                set_flag(&viewer.app, "data-dropping", true);
            }
        });
        for end in ["dragleave", "dragend"] {
            self.on(&field, end, |viewer, event| {
                let inside = event.dyn_ref::<DragEvent>().and_then(|event| event.related_target()).is_some();
                if !inside {
                    set_flag(&viewer.app, "data-dropping", false);
                }
            });
        }
        self.on(&field, "drop", |viewer, event| {
            if holds_files(event) {
                event.prevent_default();
                set_flag(&viewer.app, "data-dropping", false);
                viewer.open_any(transfer(event).and_then(|transfer| transfer.files()));
            }
        });
        self.on(&field, "paste", |viewer, event| {
            let data = event.dyn_ref::<ClipboardEvent>().and_then(ClipboardEvent::clipboard_data);
            if let Some(files) = data.and_then(|data| data.files()).filter(|files| files.length() > 0) {
                event.prevent_default();
                viewer.open_any(Some(files));
            }
        });
    }

    /// Opens the first file as what its name says.
    fn open_any(self: &Rc<Self>, files: Option<FileList>) {
        let Some(file) = files.and_then(|files| files.get(0)) else {
            self.report(Problem::new(
                ProblemKind::Input,
                "Expected an image or model file, found none.".to_owned(),
            ));
            return;
        };
        if file.name().to_ascii_lowercase().ends_with(MODEL_SUFFIX) {
            self.session.open_model_file(file);
        } else {
            self.session.open_image_file(file);
        }
    }
}

/// Whether the user's system is dark.
fn dark_preferred() -> Option<MediaQueryList> {
    window().match_media("(prefers-color-scheme: dark)").ok().flatten()
}

/// The file of a file dialog; the dialog forgets it, so that the same file can be chosen again.
fn taken_file(input: &HtmlInputElement) -> Option<File> {
    let file = input.files().and_then(|files| files.get(0));
    input.set_value("");
    file
}

fn transfer(event: &Event) -> Option<DataTransfer> {
    event.dyn_ref::<DragEvent>().and_then(DragEvent::data_transfer)
}

fn holds_files(event: &Event) -> bool {
    transfer(event).is_some_and(|transfer| transfer.types().includes(&"Files".into(), 0))
}

fn key(event: &Event) -> Option<String> {
    event.dyn_ref::<KeyboardEvent>().map(KeyboardEvent::key)
}

fn number<T: std::str::FromStr>(element: &Element, attribute: &str) -> Option<T> {
    element.get_attribute(attribute)?.parse().ok()
}
