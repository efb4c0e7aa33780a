//! One viewer: its parts, its session, and what changes when.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};

use js_sys::Function;
use magnet_core::Level;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{HtmlElement, ResizeObserver, ShadowRoot};

use super::about::About;
use super::details;
use super::dom::{el, set_attr};
use super::drawing::Drawing;
use super::export_bar::ExportBar;
use super::gene_list::GeneList;
use super::genes::Panel;
use super::layers::Layers;
use super::look::Look;
use super::runbar::Runbar;
use super::stage::Stage;
use super::tiles::Tiles;
use super::topbar::{Topbar, device_choice};
use super::wire_region::{Absorbing, RegionDrag};
use crate::page::listener::EventListener;
use crate::page::session::state::{Change, Phase, Problem, State};
use crate::page::session::{Session, SessionOptions};

/// Seconds between two times that the map fills in while a run goes on.
const FILL_IN_EVERY_S: f64 = 1.0;

/// An observer of sizes, with what it calls.
type Watch = (ResizeObserver, Closure<dyn FnMut()>);

/// One viewer on a page.
pub struct Viewer {
    pub(super) session: Rc<Session>,
    pub(super) host: HtmlElement,
    pub(super) app: HtmlElement,
    pub(super) root: ShadowRoot,
    pub(super) whole_page: bool,
    pub(super) topbar: Topbar,
    pub(super) runbar: Runbar,
    pub(super) stage: Stage,
    pub(super) gene_list: GeneList,
    pub(super) drawing: Drawing,
    pub(super) export: ExportBar,
    pub(super) about: About,
    pub(super) look: RefCell<Look>,
    pub(super) layers: RefCell<Layers>,
    pub(super) tiles: RefCell<Tiles>,
    /// When in its run, in seconds, the map was last asked to fill in, and how many bins there were.
    filled_in: Cell<(f64, usize)>,
    /// The region that is being dragged.
    pub(super) drag: Cell<Option<RegionDrag>>,
    /// Where the slide in little is dark.
    pub(super) absorbing: RefCell<Absorbing>,
    /// Which part of the chosen region seems to be tissue.
    pub(super) tissue: Cell<Option<f64>>,
    /// Symbols to show as soon as a model has them.
    pub(super) wanted_genes: RefCell<Vec<String>>,
    /// Model to choose as soon as the catalogue is there.
    pub(super) wanted_model: RefCell<Option<String>>,
    /// Pixel size for images that have none, µm.
    pub(super) given_um_per_px: Cell<Option<f64>>,
    /// Whether the user asked to change the pixel size.
    pub(super) asking_size: Cell<bool>,
    pub(super) own_problem: RefCell<Option<String>>,
    pub(super) asked: RefCell<HashSet<(Level, usize)>>,
    pub(super) generation: Cell<u32>,
    model_shown: RefCell<String>,
    was_ready: Cell<bool>,
    notify: Option<Function>,
    listeners: RefCell<Vec<EventListener>>,
    observer: RefCell<Option<Watch>>,
    pub(super) frame: RefCell<Option<Closure<dyn FnMut()>>>,
    pub(super) frame_asked: Cell<Option<i32>>,
}

/// Builds a viewer in an element's shadow root and starts its session. `options` is an object with the fields `base`
/// (address of the folder with the engine), `catalogue`, `model`, `device`, `autoPredict`, `wholePage` (hear drops and
/// pastes on all of the page) and `notify` (a function that takes the name of an event and what it tells).
///
/// # Errors
/// When `base` is missing.
pub fn mount(root: &ShadowRoot, options: &JsValue) -> Result<Rc<Viewer>, JsValue> {
    let Some(base) = details::text(options, "base") else {
        return Err(js_sys::TypeError::new("mount: expected options with the field `base`, a URL").into());
    };
    let mut session_options = SessionOptions::new(base);
    session_options.catalogue = details::text(options, "catalogue").filter(|url| !url.is_empty());
    session_options.device = device_choice(&details::text(options, "device").unwrap_or_default());
    session_options.auto_predict = details::flag(options, "autoPredict").unwrap_or(true);
    session_options.model = details::text(options, "model").filter(|model| !model.is_empty());
    let slot: Rc<RefCell<Weak<Viewer>>> = Rc::default();
    let session = Session::new(session_options, {
        let slot = slot.clone();
        move |change| {
            let viewer = slot.borrow().upgrade();
            if let Some(viewer) = viewer {
                viewer.changed(change);
            }
        }
    });
    let viewer = Rc::new(Viewer::new(root, options, session));
    *slot.borrow_mut() = Rc::downgrade(&viewer);
    viewer.wire();
    viewer.wire_map();
    viewer.wire_region();
    viewer.watch_size();
    viewer.refresh();
    Ok(viewer)
}

impl Viewer {
    fn new(root: &ShadowRoot, options: &JsValue, session: Rc<Session>) -> Self {
        let (topbar, runbar, stage) = (Topbar::new(), Runbar::new(), Stage::new());
        let (gene_list, drawing, export, about) =
            (GeneList::new(), Drawing::new(), ExportBar::new(), About::new());
        let side = el("div")
            .attr("role", "group")
            .class("side")
            .attr("aria-label", "Genes, drawing and export")
            .with(&gene_list.root)
            .with(&drawing.root)
            .with(&export.root)
            .with(&about.root);
        let app: HtmlElement = el("div")
            .class("app")
            .with(el("div").class("head").with(&topbar.root).with(&runbar.root))
            .with(el("div").class("body").with(&stage.root).with(side))
            .done();
        let _ = root.append_child(&app);
        Self {
            session,
            host: root.host().unchecked_into(),
            app,
            root: root.clone(),
            whole_page: details::flag(options, "wholePage").unwrap_or(false),
            topbar,
            runbar,
            stage,
            gene_list,
            drawing,
            export,
            about,
            look: RefCell::default(),
            layers: RefCell::default(),
            tiles: RefCell::default(),
            filled_in: Cell::new((0.0, 0)),
            drag: Cell::new(None),
            absorbing: RefCell::default(),
            tissue: Cell::new(None),
            wanted_genes: RefCell::default(),
            wanted_model: RefCell::default(),
            given_um_per_px: Cell::new(None),
            asking_size: Cell::new(false),
            own_problem: RefCell::default(),
            asked: RefCell::default(),
            generation: Cell::new(0),
            model_shown: RefCell::default(),
            was_ready: Cell::new(false),
            notify: js_sys::Reflect::get(options, &"notify".into())
                .ok()
                .and_then(|value| value.dyn_into().ok()),
            listeners: RefCell::default(),
            observer: RefCell::default(),
            frame: RefCell::default(),
            frame_asked: Cell::new(None),
        }
    }

    /// The session behind the viewer.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Ends the viewer: its session, its listeners, its elements.
    pub fn dispose(&self) {
        self.session.dispose();
        self.listeners.borrow_mut().clear();
        if let Some((observer, _)) = self.observer.borrow_mut().take() {
            observer.disconnect();
        }
        if let Some(frame) = self.frame_asked.take() {
            let _ = gloo::utils::window().cancel_animation_frame(frame);
        }
        self.generation.set(self.generation.get() + 1);
        *self.layers.borrow_mut() = Layers::default();
        *self.tiles.borrow_mut() = Tiles::default();
        self.app.remove();
    }

    pub(super) fn keep_listener(&self, listener: EventListener) {
        self.listeners.borrow_mut().push(listener);
    }

    /// Hears what changed in the session.
    fn changed(self: &Rc<Self>, change: Change) {
        let state = self.session.state().clone();
        set_attr(&self.host, "data-state", Some(details::state_name(&state.phase)));
        match change {
            Change::Progress => {
                // Before the run is laid out there is nothing to count.
                if let Phase::Predicting(running) = &state.phase
                    && running.progress.total > 0
                {
                    self.tell("progress", details::progress(running));
                }
                self.runbar.refresh_progress(&state);
                self.fill_in(&state);
                return;
            }
            Change::Tiles => {
                self.take_tiles();
                return;
            }
            Change::Preview => {
                self.layers.borrow_mut().set_image(&state);
                self.take_overview(&state);
            }
            Change::Region => self.measure_tissue(),
            Change::Catalogue => self.choose_wanted_model(),
            Change::Model => self.take_over_model(&state),
            Change::Image => self.take_over_image(&state),
            Change::Geometry => {
                self.forget_values();
                self.layers.borrow_mut().set_geometry(&state);
            }
            Change::Result => {
                self.forget_values();
                self.layers.borrow_mut().forget_values();
            }
            _ => {}
        }
        if matches!(state.phase, Phase::Predicting(_)) {
            self.own_problem.borrow_mut().take();
        }
        self.refresh();
        self.tell_of(change, &state);
    }

    /// Has the map fill in while a run goes on: asks for what is predicted by now, now and then.
    fn fill_in(self: &Rc<Self>, state: &State) {
        let Phase::Predicting(running) = &state.phase else { return };
        let bins = running.progress.bins_done;
        let (asked_s, asked_bins) = self.filled_in.get();
        let due = running.elapsed_s < asked_s || running.elapsed_s - asked_s >= FILL_IN_EVERY_S;
        if bins > 0 && bins != asked_bins && due {
            self.filled_in.set((running.elapsed_s, bins));
            self.ask_for_values(state, true);
        }
    }

    fn tell_of(self: &Rc<Self>, change: Change, state: &State) {
        match (change, &state.device, &state.problem) {
            (Change::Device, Some(report), _) if !self.was_ready.replace(true) => {
                self.tell("ready", details::plain(report));
            }
            (Change::Problem, _, Some(problem)) => self.tell("error", problem_detail(problem)),
            (Change::Image, ..) => {
                if let Some(image) = &state.image {
                    self.tell("image", details::plain(&**image));
                }
            }
            (Change::Model, ..) => {
                if let Some(model) = &state.model {
                    self.tell(
                        "model",
                        details::object([
                            ("name", model.name.as_str().into()),
                            ("sha256", model.sha256.as_str().into()),
                            ("symbols", details::plain(&model.symbols)),
                        ]),
                    );
                }
            }
            (Change::Region, ..) => self.tell_region(state),
            (Change::Phase, ..) if matches!(state.phase, Phase::ReadingRegion { .. }) => self.show_region(),
            (Change::Result, ..) => {
                if let Some(result) = details::result(state, &self.look.borrow()) {
                    self.tell("result", result);
                }
            }
            _ => {}
        }
    }

    /// Shows a problem that the page itself met.
    pub(super) fn report(&self, problem: Problem) {
        self.tell("error", problem_detail(&problem));
        *self.own_problem.borrow_mut() = Some(problem.text);
        self.refresh_runbar();
    }

    pub(super) fn dismiss_problem(self: &Rc<Self>) {
        self.own_problem.borrow_mut().take();
        self.session.dismiss_problem();
        self.refresh();
    }

    fn refresh_runbar(&self) {
        let state = self.session.state().clone();
        self.runbar.refresh(&state, self.own_problem.borrow().as_deref(), self.session.is_region_taken());
    }

    pub(super) fn tell(&self, name: &str, detail: JsValue) {
        if let Some(notify) = &self.notify {
            // What a page's own listener throws is reported by the browser, not here.
            let _ = notify.call2(&JsValue::NULL, &name.into(), &detail);
        }
    }

    fn take_over_model(&self, state: &State) {
        let Some(model) = &state.model else { return };
        if self.model_shown.replace(model.sha256.clone()) == model.sha256 {
            return;
        }
        {
            let mut look = self.look.borrow_mut();
            look.ranges.clear();
            look.query.clear();
            if !model.levels.get(look.level).predicted {
                look.level = Level::ALL
                    .into_iter()
                    .find(|&level| model.levels.get(level).predicted)
                    .unwrap_or(Level::Bin);
            }
            let best = panel_of(model, None, look.level).find("", look.sort).first().copied();
            look.genes = best.into_iter().collect();
            look.active = 0;
        }
        self.gene_list.search.set_value("");
        self.choose_wanted_genes();
    }

    fn take_over_image(&self, state: &State) {
        let mut layers = self.layers.borrow_mut();
        let size = layers.image_px();
        layers.set_image(state);
        layers.set_geometry(state);
        self.tiles.borrow_mut().set_slide(state.slide.as_ref());
        if layers.image_px() != size {
            let mut look = self.look.borrow_mut();
            look.camera = None;
            look.cursor_px = None;
            look.choosing = false;
        }
        drop(layers);
        self.take_overview(state);
        self.asking_size.set(false);
        self.use_given_size();
    }

    fn forget_values(&self) {
        self.generation.set(self.generation.get() + 1);
        self.asked.borrow_mut().clear();
    }

    pub(super) fn set_level(self: &Rc<Self>, level: Level) {
        self.look.borrow_mut().level = level;
        self.refresh();
    }

    /// Changes what is shown, and shows it.
    pub(super) fn change_look(self: &Rc<Self>, change: impl FnOnce(&mut Look)) {
        change(&mut self.look.borrow_mut());
        self.remember_genes();
        self.refresh();
    }

    /// The genes on screen stay when another model is opened that has them.
    fn remember_genes(&self) {
        if let Some(model) = &self.session.state().model {
            let look = self.look.borrow();
            let shown = look.genes.iter().filter_map(|&gene| model.symbols.get(gene).cloned());
            *self.wanted_genes.borrow_mut() = shown.collect();
        }
    }

    fn watch_size(self: &Rc<Self>) {
        let viewer = Rc::downgrade(self);
        let callback: Closure<dyn FnMut()> = Closure::new(move || {
            if let Some(viewer) = viewer.upgrade() {
                viewer.redraw();
            }
        });
        if let Ok(observer) = ResizeObserver::new(callback.as_ref().unchecked_ref()) {
            observer.observe(&self.stage.panels_box);
            *self.observer.borrow_mut() = Some((observer, callback));
        }
    }
}

/// A model's genes with what is known about them at a level.
pub(super) fn panel_of<'a>(
    model: &'a crate::protocol::ModelSummary,
    deviation: Option<&'a [f32]>,
    level: Level,
) -> Panel<'a> {
    Panel {
        symbols: &model.symbols,
        ids: &model.ids,
        pearson: &model.levels.get(level).gene_pearson,
        deviation: deviation.unwrap_or(&[]),
    }
}

fn problem_detail(problem: &Problem) -> JsValue {
    details::object([
        ("code", problem.kind.name().into()),
        ("message", problem.text.as_str().into()),
        ("subject", problem.subject.name().into()),
    ])
}
