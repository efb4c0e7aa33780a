//! What the element's attributes ask for: a model, genes, a level, a place to start from.

use std::rc::Rc;

use magnet_core::Level;

use super::look::MAX_PANELS;
use super::topbar::device_choice;
use super::viewer::{Viewer, panel_of};
use super::{palette, words};
use crate::page::session::state::{CatalogueState, Problem, ProblemKind, Subject};

impl Viewer {
    /// Takes over an attribute of the element.
    pub fn set_attribute(self: &Rc<Self>, name: &str, value: Option<&str>) {
        let value = value.map(str::trim).filter(|value| !value.is_empty());
        match (name, value) {
            ("src", Some(url)) => self.session.open_image_url(url, self.given_um_per_px.get()),
            ("model", Some(model)) => {
                *self.wanted_model.borrow_mut() = Some(model.to_owned());
                self.choose_wanted_model();
            }
            ("gene", Some(genes)) => {
                let symbols = genes.split([',', ' ']).filter(|symbol| !symbol.is_empty());
                *self.wanted_genes.borrow_mut() = symbols.take(MAX_PANELS).map(str::to_owned).collect();
                self.choose_wanted_genes();
                self.refresh();
            }
            ("region", text) => {
                self.session.set_region_text(text);
                self.show_region();
            }
            ("level", Some(name)) => {
                let level = Level::ALL.into_iter().find(|level| level.name() == name);
                match level {
                    Some(level) => self.set_level(level),
                    None => {
                        let text = format!("level: expected bin, spot or region, found “{name}”");
                        self.report(Problem::new(ProblemKind::Input, text).about(Subject::Nothing));
                    }
                }
            }
            ("device", choice) => self.session.set_device(device_choice(choice.unwrap_or_default())),
            ("colormap", name) => {
                self.look.borrow_mut().color_map = palette::color_map(name.unwrap_or_default());
                self.refresh();
            }
            ("theme", _) => self.show_theme(),
            ("mpp", text) => {
                let um_per_px = text.and_then(words::positive);
                self.given_um_per_px.set(um_per_px);
                self.use_given_size();
            }
            _ => {}
        }
    }

    /// Opens the model that was asked for, once the catalogue is there that may hold it.
    pub(super) fn choose_wanted_model(&self) {
        if matches!(self.session.state().catalogue, CatalogueState::Loading) {
            return;
        }
        let wanted = self.wanted_model.borrow_mut().take();
        if let Some(model) = wanted {
            self.session.open_model(&model);
        }
    }

    /// Shows the genes that were asked for, as soon as a model says which it has.
    pub(super) fn choose_wanted_genes(&self) {
        let Some(model) = self.session.state().model.clone() else { return };
        let wanted = self.wanted_genes.borrow().clone();
        let panel = panel_of(&model, None, Level::Bin);
        let (known, unknown): (Vec<_>, Vec<_>) =
            wanted.iter().map(|name| (name, panel.position(name))).partition(|(_, gene)| gene.is_some());
        let genes: Vec<usize> = known.into_iter().filter_map(|(_, gene)| gene).collect();
        if !genes.is_empty() {
            let mut look = self.look.borrow_mut();
            look.side_by_side |= genes.len() > 1;
            look.genes = genes;
            look.active = 0;
        } else if let Some((name, _)) = unknown.first() {
            let text = format!("gene: “{name}” is none of the {} genes of this model", model.symbols.len());
            self.report(Problem::new(ProblemKind::Input, text).about(Subject::Nothing));
        }
    }

    /// Gives the image the size from the attribute, where it has none of its own.
    pub(super) fn use_given_size(&self) {
        let unknown = self.session.state().image.as_ref().is_some_and(|image| image.um_per_px.is_none());
        if let (true, Some(um_per_px)) = (unknown, self.given_um_per_px.get()) {
            self.session.set_pixel_size(um_per_px);
        }
    }
}
