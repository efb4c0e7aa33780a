//! The values behind the maps: asking for them, their colours' ranges, and files of them.

use std::rc::Rc;

use magnet_core::Level;
use magnet_core::heatmap::ColorMap;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use super::drawing::ActiveGene;
use super::export_bar::{save, side_by_side};
use super::look::{Look, range_from};
use super::viewer::{Viewer, panel_of};
use crate::page::session::state::{Phase, Problem, ProblemKind, State};
use crate::protocol::{DrawStyle, ExportKind};

impl Viewer {
    /// The values of one gene, as a `Float32Array`, once there is a map.
    ///
    /// # Errors
    /// An `Error` where level or gene are not known, or there is no map.
    pub async fn values(self: &Rc<Self>, level: &str, gene: &str) -> Result<JsValue, JsValue> {
        let problem = |problem: Problem| {
            let error = js_sys::Error::new(&problem.text);
            // A field of a fresh object can be set.
            let _ = js_sys::Reflect::set(&error, &"code".into(), &problem.kind.name().into());
            JsValue::from(error)
        };
        let error = |text: String| problem(Problem::new(ProblemKind::Input, text));
        let known = Level::ALL.into_iter().find(|known| known.name() == level);
        let level =
            known.ok_or_else(|| error(format!("level: expected bin, spot or region, found “{level}”")))?;
        let model = self.session.state().model.clone();
        let Some(model) = model else {
            return Err(problem(Problem::new(ProblemKind::State, "There is no prediction yet.")));
        };
        let position = panel_of(&model, None, level).position(gene);
        let gene = position.ok_or_else(|| error(format!("gene: the open model does not know “{gene}”")))?;
        let values = self.session.values(level, gene).await.map_err(problem)?;
        Ok(values.values.slice(0, values.values.length()).into())
    }

    /// What the range sliders need to know of the active gene, once its values are there.
    pub(super) fn active_gene(&self, state: &State, look: &Look) -> Option<ActiveGene> {
        let gene = look.active_gene()?;
        let model = state.model.as_ref()?;
        let layers = self.layers.borrow();
        let layer = layers.gene(look.level, gene)?;
        let (low, high) = (layer.gene.low, layer.gene.high);
        let range = look.range(look.level, gene, low, high);
        let (least, largest) = layer.extent.unwrap_or((low, high));
        let extent = range_from(least.min(low), largest.max(high));
        Some(ActiveGene {
            symbol: model.symbols.get(gene)?.clone(),
            unit: model.unit.clone(),
            extent: (extent.low(), extent.high()),
            range,
        })
    }

    /// Sets the active gene's range from the sliders.
    pub(super) fn set_range_from_sliders(self: &Rc<Self>, low_moved: bool) {
        let state = self.session.state().clone();
        let active = self.active_gene(&state, &self.look.borrow());
        if let Some(active) = active {
            let range = self.drawing.range(active.extent, low_moved);
            self.change_look(|look| {
                if let Some(gene) = look.active_gene() {
                    look.ranges.insert((look.level, gene), range);
                }
            });
        }
    }

    /// Asks for the values of the genes that are shown, once each; with `again` also for those that are there, because
    /// a run that goes on has more of them.
    pub(super) fn ask_for_values(self: &Rc<Self>, state: &State, again: bool) {
        // Before the first bin of a run there is nothing to show.
        let is_running = match &state.phase {
            Phase::Predicting(running) | Phase::Cancelling(running) => running.progress.bins_done > 0,
            _ => false,
        };
        if !state.has_map() && !is_running {
            return;
        }
        let (level, genes) = {
            let look = self.look.borrow();
            (look.level, look.genes.clone())
        };
        for gene in genes {
            let there = !again && self.layers.borrow().gene(level, gene).is_some();
            if there || !self.asked.borrow_mut().insert((level, gene)) {
                continue;
            }
            if let Some(values) = self.session.cached_values(level, gene) {
                self.layers.borrow_mut().insert(values);
                self.asked.borrow_mut().remove(&(level, gene));
                continue;
            }
            let (viewer, generation) = (Rc::downgrade(self), self.generation.get());
            let session = self.session.clone();
            spawn_local(async move {
                let answer = session.values(level, gene).await;
                let Some(viewer) = viewer.upgrade().filter(|viewer| viewer.generation.get() == generation)
                else {
                    return;
                };
                match answer {
                    Ok(values) => {
                        viewer.layers.borrow_mut().insert(values);
                        viewer.asked.borrow_mut().remove(&(level, gene));
                        viewer.refresh();
                    }
                    Err(problem) if problem.kind == ProblemKind::State => {}
                    Err(problem) => viewer.report(problem),
                }
            });
        }
    }

    /// Makes a file of the result and saves it.
    pub(super) fn export(self: &Rc<Self>, kind: ExportKind) {
        let (level, genes, styles) = {
            let look = self.look.borrow();
            // Each gene as its panel shows it, the active one first where only one is drawn.
            let mut genes = look.genes.clone();
            if kind != ExportKind::Png {
                let first = look.active.min(genes.len().saturating_sub(1));
                genes.rotate_left(first);
            }
            let layers = self.layers.borrow();
            let style = |&gene: &usize| {
                let range = layers
                    .gene(look.level, gene)
                    .map(|layer| look.range(look.level, gene, layer.gene.low, layer.gene.high));
                let range = range.unwrap_or_else(|| range_from(0.0, 1.0));
                DrawStyle {
                    color_map: look.color_map.name().to_owned(),
                    opacity: look.opacity,
                    low: range.low(),
                    high: range.high(),
                }
            };
            let styles: Vec<DrawStyle> = genes.iter().map(style).collect();
            (look.level, genes, styles)
        };
        let viewer = self.clone();
        spawn_local(async move {
            let session = &viewer.session;
            let made = if kind == ExportKind::Png && genes.len() > 1 {
                let mut pictures = Vec::new();
                for (&gene, style) in genes.iter().zip(styles) {
                    match session.export(kind, level, vec![gene], style).await {
                        Ok(file) => pictures.push(file),
                        Err(problem) => return viewer.report(problem),
                    }
                }
                side_by_side(&pictures).await
            } else {
                let style = styles.into_iter().next();
                let style = style.unwrap_or_else(|| DrawStyle {
                    color_map: ColorMap::default().name().to_owned(),
                    opacity: 1.0,
                    low: 0.0,
                    high: 1.0,
                });
                session.export(kind, level, genes, style).await.map(|file| (file.blob, file.name))
            };
            match made {
                Ok((blob, name)) => save(&blob, &name),
                Err(problem) => viewer.report(problem),
            }
        });
    }
}
