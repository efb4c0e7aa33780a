//! Bringing the parts up to date, and drawing the maps.

use std::rc::Rc;

use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::Closure;

use super::camera::{Camera, Point, Size};
use super::deep_zoom::Sight;
use super::dom::{set_attr, set_flag};
use super::genes::is_weak;
use super::lattice::Lattice;
use super::layers::Layer;
use super::look::Look;
use super::panel::{Caption, MapPanel, Scene};
use super::viewer::Viewer;
use super::{details, words};
use crate::page::session::state::{Phase, State};

impl Viewer {
    /// Brings every part up to date.
    pub(super) fn refresh(self: &Rc<Self>) {
        let state = self.session.state().clone();
        self.ask_for_values(&state, false);
        let look = self.look.borrow();
        let asking = self.asking_size.get() || matches!(state.phase, Phase::NeedsPixelSize);
        self.topbar.refresh(&state);
        let focused = self.root.active_element();
        let choosing = look.choosing && state.slide.is_some();
        self.stage.region_bar.refresh(
            &state,
            choosing,
            self.tissue.get(),
            self.session.seconds_per_bin(),
            focused.as_ref(),
        );
        set_flag(&self.stage.panels_box, "data-choosing", choosing);
        let empty = state.image.is_none() && !matches!(state.phase, Phase::OpeningImage);
        let elsewhere = empty.then_some(&self.stage.empty);
        self.topbar.place_open_actions(elsewhere, focused.as_ref());
        self.runbar.refresh(&state, self.own_problem.borrow().as_deref(), self.session.is_region_taken());
        self.stage.refresh(&state, look.genes.len(), asking);
        self.gene_list.refresh(&state, &look);
        self.drawing.refresh(&look, self.active_gene(&state, &look).as_ref());
        self.export.refresh(&state);
        self.about.refresh(&state);
        set_flag(&self.app, "data-has-map", state.has_map());
        set_attr(&self.host, "data-state", Some(details::state_name(&state.phase)));
        self.caption_panels(&state, &look);
        drop(look);
        self.show_readout(false);
        self.redraw();
    }

    fn caption_panels(&self, state: &State, look: &Look) {
        let badge = match (&state.phase, state.result) {
            (Phase::Predicting(_) | Phase::Cancelling(_), _) => None,
            (_, Some(result)) if !result.complete && result.progress.bins_total > 0 => {
                let part = 100 * result.progress.bins_done / result.progress.bins_total;
                Some(format!("Partial map: {part} % of the tissue"))
            }
            (_, Some(result)) if !result.complete => Some("Partial map".to_owned()),
            _ => None,
        };
        let unit = state.model.as_ref().map(|model| model.unit.as_str()).unwrap_or_default();
        for (place, panel) in self.stage.panels.iter().enumerate() {
            let gene = look.genes.get(place).copied();
            let symbol = gene
                .and_then(|gene| Some(state.model.as_ref()?.symbols.get(gene)?.as_str()))
                .unwrap_or_default();
            let pearson = gene.and_then(|gene| {
                let levels = &state.model.as_ref()?.levels;
                levels.get(look.level).gene_pearson.get(gene).copied().flatten()
            });
            let weak = is_weak(pearson);
            let name = match (&state.image, symbol) {
                (None, _) => "Map".to_owned(),
                (Some(image), symbol) if !state.has_map() || symbol.is_empty() => {
                    format!("Image {}", image.name)
                }
                (Some(_), symbol) => format!("Predicted map of {symbol}, {} level", look.level),
            };
            panel.set_caption(&Caption {
                symbol,
                score: match pearson {
                    Some(score) => {
                        let score = words::pearson(Some(f64::from(score)));
                        if weak {
                            format!("held-out r {score}: hardly predicted")
                        } else {
                            format!("held-out r {score}")
                        }
                    }
                    None => "no held-out score".to_owned(),
                },
                weak,
                name,
                active: place == look.active && look.genes.len() > 1,
                closable: look.genes.len() > 1,
            });
            let layers = self.layers.borrow();
            let range = gene.and_then(|gene| {
                let layer = layers.gene(look.level, gene)?;
                Some(look.range(look.level, gene, layer.gene.low, layer.gene.high))
            });
            drop(layers);
            panel.set_legend(range.map(|range| (look.color_map, range)), unit);
            panel.set_badge(range.and(badge.as_deref()));
            if let (Some(gene), Some(range)) = (gene, range) {
                self.layers.borrow_mut().color(look.level, gene, look.color_map, range);
            }
        }
    }

    /// Size of a map panel.
    pub(super) fn panel_css(&self) -> Size {
        self.stage.panels.first().map(MapPanel::size_css).unwrap_or_default()
    }

    pub(super) fn image_px(&self) -> Size {
        self.layers.borrow().image_px()
    }

    /// The camera in use.
    pub(super) fn camera(&self) -> Camera {
        let (image_px, panel_css) = (self.image_px(), self.panel_css());
        match self.look.borrow().camera {
            Some(camera) => camera.held(image_px, panel_css),
            None => Camera::fit(image_px, panel_css),
        }
    }

    /// Moves the camera of all panels.
    pub(super) fn move_camera(self: &Rc<Self>, change: impl FnOnce(Camera, Size, Size) -> Camera) {
        let (image_px, panel_css) = (self.image_px(), self.panel_css());
        if image_px == Size::default() || panel_css.width == 0.0 {
            return;
        }
        let camera = change(self.camera(), image_px, panel_css);
        self.look.borrow_mut().camera = (!camera.is_fitted(image_px, panel_css)).then_some(camera);
        self.redraw();
    }

    /// Side of a tile of the shown level on the image, in pixels.
    pub(super) fn tile_px(&self) -> Option<f64> {
        let level = self.look.borrow().level;
        self.layers.borrow().lattice(level).map(Lattice::pitch_px)
    }

    /// Puts the crosshair on a place of the image, or takes it away.
    pub(super) fn set_cursor(self: &Rc<Self>, place_px: Option<Point>, by_keyboard: bool) {
        let image = self.image_px();
        let inside = |at: &Point| (0.0..=image.width).contains(&at.x) && (0.0..=image.height).contains(&at.y);
        let place_px = place_px.filter(inside);
        if self.look.borrow().cursor_px != place_px {
            self.look.borrow_mut().cursor_px = place_px;
            self.show_readout(by_keyboard);
            self.redraw();
        }
    }

    fn show_readout(&self, spoken: bool) {
        let state = self.session.state().clone();
        let (look, layers) = (self.look.borrow(), self.layers.borrow());
        let tile = look.cursor_px.and_then(|at| layers.lattice(look.level)?.tile_at(at));
        let mut parts = Vec::new();
        if let Some(at) = look.cursor_px {
            parts.push(match state.image.as_ref().and_then(|image| image.um_per_px) {
                Some(um_per_px) => {
                    format!(
                        "x {} µm, y {} µm",
                        words::microns(at.x * um_per_px),
                        words::microns(at.y * um_per_px)
                    )
                }
                None => format!("x {} px, y {} px", words::microns(at.x), words::microns(at.y)),
            });
        }
        for (place, panel) in self.stage.panels.iter().enumerate() {
            let layer = look.genes.get(place).and_then(|&gene| layers.gene(look.level, gene));
            let value = layer
                .zip(tile)
                .and_then(|(layer, tile)| layer.values.get(tile))
                .map(|&value| words::value(value));
            panel.set_value(value.as_deref().unwrap_or_default());
            let symbol = layer.and_then(|layer| state.model.as_ref()?.symbols.get(layer.gene.gene));
            if let (Some(symbol), Some(value)) = (symbol, value) {
                parts.push(format!("{symbol} {value}"));
            }
        }
        let unit = state.model.as_ref().map(|model| model.unit.as_str()).unwrap_or_default();
        let text = match (look.cursor_px, tile, state.has_map()) {
            (None, ..) => String::new(),
            (Some(_), None, true) => format!("{} · no tissue here", parts.join(" · ")),
            (Some(_), _, true) if parts.len() > 1 => format!("{} ({unit})", parts.join(" · ")),
            _ => parts.join(" · "),
        };
        drop((look, layers));
        self.stage.set_readout(&text, spoken);
    }

    /// Draws at the browser's next frame.
    pub(super) fn redraw(self: &Rc<Self>) {
        if self.frame_asked.get().is_some() {
            return;
        }
        let mut frame = self.frame.borrow_mut();
        let callback = frame.get_or_insert_with(|| {
            let viewer = Rc::downgrade(self);
            Closure::new(move || {
                if let Some(viewer) = viewer.upgrade() {
                    viewer.frame_asked.set(None);
                    viewer.draw();
                }
            })
        });
        let asked = gloo::utils::window().request_animation_frame(callback.as_ref().unchecked_ref());
        self.frame_asked.set(asked.ok());
    }

    fn draw(&self) {
        let camera = self.camera();
        let (look, layers) = (self.look.borrow(), self.layers.borrow());
        let um_per_px = self.session.state().image.as_ref().and_then(|image| image.um_per_px);
        self.stage.set_zoomed(look.camera.is_some());
        let has_slide = self.tiles.borrow().has_slide();
        if has_slide {
            let overview_px = layers.preview().map_or(0, |preview| preview.width());
            let pixel_ratio = gloo::utils::window().device_pixel_ratio();
            let sight = Sight { camera, panel_css: self.panel_css(), pixel_ratio };
            let wanted = self.tiles.borrow_mut().missing_from(&sight, overview_px);
            if let Some(wanted) = wanted {
                self.session.want_tiles(wanted);
            }
            set_flag(&self.app, "data-loading-tiles", self.tiles.borrow().is_waiting());
        }
        for (place, panel) in self.stage.panels.iter().enumerate().take(look.genes.len().max(1)) {
            let layer = look.genes.get(place).and_then(|&gene| layers.gene(look.level, gene));
            let scene = Scene {
                preview: layers.preview(),
                tiles: has_slide.then_some(&self.tiles),
                region: self.session.state().region.map(|region| (region, look.choosing)),
                minimap: has_slide && place == 0 && look.camera.is_some(),
                map: layer.map(Layer::canvas).zip(layers.lattice(look.level)),
                image_px: layers.image_px(),
                panel_css: panel.size_css(),
                camera,
                opacity: f64::from(look.opacity),
                cursor_px: look.cursor_px,
                pixel_ratio: gloo::utils::window().device_pixel_ratio(),
            };
            panel.draw(&scene, um_per_px);
        }
    }
}
