//! The session: its state, what it wants of the engine, and how both change.

use std::cell::{Cell, Ref, RefCell};
use std::rc::{Rc, Weak};

use magnet_core::Level;

use super::client::Input;
use super::mailbox::Mailbox;
use super::plan::{Revision, Wanted};
use super::problem::{Problem, ProblemKind};
use super::slide::SlideWork;
use super::state::{CatalogueState, Change, GeneValues, Notice, Phase, State, Weight};
use super::value_cache::ValueCache;
use super::work::{Doing, ImageSource, Work};
use crate::protocol::{BatchLimits, DeviceChoice, ExportKind};

/// Bytes of gene values that are kept.
const VALUE_CACHE_BYTES: usize = 64 << 20;
/// Between two reports of one download or run.
const REPORT_EVERY_MS: f64 = 100.0;
/// Beyond this, notices that nobody dismissed are dropped, oldest first.
const MOST_NOTICES: usize = 20;

/// How a session is set up.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Absolute address of the folder with `engine-worker.js`, or of a file in it.
    pub base: String,
    /// Address of the catalogue, relative to `base`.
    pub catalogue: Option<String>,
    /// The model to begin with: an id of the catalogue, or an address relative to the document. Without one it is the
    /// catalogue's first.
    pub model: Option<String>,
    /// Which device to use.
    pub device: DeviceChoice,
    /// Whether a prediction starts as soon as there is all that it needs.
    pub auto_predict: bool,
    /// Batch sizes to begin with.
    pub limits: BatchLimits,
}

impl SessionOptions {
    /// The defaults, for the files at `base`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            catalogue: Some("models/catalogue.json".into()),
            model: None,
            device: DeviceChoice::Auto,
            auto_predict: true,
            limits: BatchLimits::default(),
        }
    }
}

/// A page's work with one engine. Everything happens on the page's thread; what takes long, happens elsewhere.
pub struct Session {
    pub(super) this: Weak<Session>,
    pub(super) base: String,
    pub(super) limits: BatchLimits,
    on_change: Box<dyn Fn(Change)>,
    state: RefCell<State>,
    pub(super) work: RefCell<Work>,
    pub(super) slides: RefCell<SlideWork>,
    pub(super) values: RefCell<ValueCache<(Level, usize), Rc<GeneValues>>>,
    pub(super) mailbox: Rc<Mailbox<Input>>,
    pub(super) disposed: Cell<bool>,
    last_notice: Cell<u32>,
    reported_ms: Cell<f64>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Starts an engine and fetches the catalogue. `on_change` hears of every change of the state, with the state free
    /// to be read.
    pub fn new(options: SessionOptions, on_change: impl Fn(Change) + 'static) -> Rc<Self> {
        let SessionOptions { base, catalogue, model, device, auto_predict, limits } = options;
        let session = Rc::new_cyclic(|this| Self {
            this: this.clone(),
            base,
            limits,
            on_change: Box::new(on_change),
            state: RefCell::new(State::new(device)),
            work: RefCell::new(Work::new(device, limits, auto_predict)),
            slides: RefCell::default(),
            values: RefCell::new(ValueCache::new(VALUE_CACHE_BYTES)),
            mailbox: Rc::new(Mailbox::new()),
            disposed: Cell::new(false),
            last_notice: Cell::new(0),
            reported_ms: Cell::new(0.0),
        });
        wasm_bindgen_futures::spawn_local(session.clone().drive());
        session.load_first(catalogue, model);
        session
    }

    /// The state. It must not be held across an action or an `await`.
    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// Changes the state and tells the view.
    pub(super) fn change(&self, change: Change, write: impl FnOnce(&mut State)) {
        write(&mut self.state.borrow_mut());
        self.tell(change);
    }

    fn tell(&self, change: Change) {
        if !self.disposed.get() {
            (self.on_change)(change);
        }
    }

    /// Lets the loop see that something else is wanted.
    pub(super) fn wake(&self) {
        self.mailbox.put(Input::Wake);
    }

    /// Says something that needs no answer.
    pub(super) fn notice(&self, weight: Weight, text: String) {
        let id = self.last_notice.get() + 1;
        self.last_notice.set(id);
        self.change(Change::Notices, |state| {
            state.notices.push(Notice { id, weight, text });
            if state.notices.len() > MOST_NOTICES {
                state.notices.remove(0);
            }
        });
    }

    /// Says what went wrong.
    pub(super) fn problem(&self, problem: Problem) {
        self.change(Change::Problem, |state| state.problem = Some(problem));
    }

    /// An action of the user begins: the last problem is history, and an engine that was given up gets another chance.
    pub(super) fn begin_action(&self) {
        let stopped = {
            let mut work = self.work.borrow_mut();
            let stopped = work.doing == Doing::Stopped;
            if stopped {
                work.doing = Doing::Rest;
                work.recovery.renew();
            }
            stopped
        };
        self.dismiss_problem();
        if stopped {
            self.wake();
        }
    }

    /// The model, the image or its pixel size is to be another one: a run that goes on ends. With `auto_predict`, one
    /// for what is wanted now follows. What is on screen stays until what is wanted now is open.
    pub(super) fn begin_anew(&self) {
        let mut work = self.work.borrow_mut();
        work.recovery.renew();
        if work.auto_predict {
            work.want_run();
        } else {
            work.wanted.run = None;
        }
    }

    /// The model, the image or its pixel size is another one: what was predicted holds no more, and a run that goes on
    /// ends. With `auto_predict`, one for what is wanted now follows.
    pub(super) fn forget_map(&self) {
        self.begin_anew();
        self.work.borrow_mut().pieces.clear();
        self.forget_shown();
    }

    /// A model or an image is open now. If it is another one than was kept in case, what is on screen goes, and with it
    /// what was kept; an engine may also have opened what was kept anew.
    pub(super) fn settle(&self, opened: impl Fn(&Wanted) -> Option<Revision>) {
        let is_another = {
            let mut work = self.work.borrow_mut();
            let revision = opened(&work.wanted);
            work.kept.take_if(|kept| opened(&kept.wanted) != revision).is_some()
        };
        if is_another {
            self.forget_shown();
        }
    }

    /// What was wanted is refused, or not wanted any more: what was open before comes back.
    pub(super) fn restore_kept(&self) {
        let kept = self.work.borrow_mut().restore();
        if let Some(kept) = kept
            && self.state().chosen_model != kept.chosen_model
        {
            self.change(Change::Chosen, |state| state.chosen_model = kept.chosen_model);
        }
    }

    /// Asks refer to what is on screen, which goes.
    fn forget_shown(&self) {
        let asks = std::mem::take(&mut self.work.borrow_mut().asks);
        for ask in asks {
            ask.refuse(Problem::state("Another model or image was opened meanwhile."));
        }
        self.forget_result();
        if self.state().geometry.is_some() {
            self.change(Change::Geometry, |state| state.geometry = None);
        }
    }

    /// There is no finished run.
    pub(super) fn forget_result(&self) {
        self.values.borrow_mut().clear();
        if self.state().result.is_some() {
            self.change(Change::Result, |state| (state.result, state.deviation) = (None, None));
        }
    }

    /// Works out what is going on and tells the view if that is new.
    pub(super) fn refresh_phase(&self) {
        let phase = self.phase();
        let same_kind = self.state().phase.kind() == phase.kind();
        if self.state().phase == phase {
            return;
        }
        match phase {
            Phase::LoadingModel { .. }
            | Phase::ReadingRegion { .. }
            | Phase::Predicting(_)
            | Phase::Cancelling(_)
                if same_kind =>
            {
                self.state.borrow_mut().phase = phase;
                let now_ms = now_ms();
                if now_ms - self.reported_ms.get() >= REPORT_EVERY_MS {
                    self.reported_ms.set(now_ms);
                    self.tell(Change::Progress);
                }
            }
            _ => {
                // So that a view has the last figures of what ends now.
                self.reported_ms.set(0.0);
                self.change(Change::Phase, |state| state.phase = phase);
            }
        }
    }

    fn phase(&self) -> Phase {
        let work = self.work.borrow();
        let state = self.state();
        if work.doing == Doing::Stopped {
            return Phase::Failed;
        }
        let slides = self.slides.borrow();
        if work.model_download.is_some() {
            let (bytes, total) = work.model_bytes;
            return Phase::LoadingModel { bytes, total };
        }
        match work.doing {
            Doing::Start => return Phase::Starting,
            Doing::OpenModel => return Phase::OpeningModel,
            Doing::OpenImage => {
                let (done, total) = slides.rows;
                let is_region = matches!(work.image, Some(ImageSource::Region(..)));
                return if is_region { Phase::ReadingRegion { done, total } } else { Phase::OpeningImage };
            }
            Doing::Run => {
                return match work.wanted.run {
                    Some(run) if !run.halt => Phase::Predicting(work.running),
                    _ => Phase::Cancelling(work.running),
                };
            }
            Doing::Rest | Doing::Stopped => {}
        }
        if work.image_download.is_some() || slides.is_opening() {
            Phase::OpeningImage
        } else if slides.is_open() && state.image.as_ref().is_some_and(|image| image.um_per_px.is_none()) {
            Phase::NeedsPixelSize
        } else if work.wanted.model.is_none() {
            if state.catalogue == CatalogueState::Loading { Phase::Starting } else { Phase::NeedsModel }
        } else if work.wanted.image.is_none() && slides.is_open() {
            if state.region.is_some() { Phase::Ready } else { Phase::NeedsRegion }
        } else if work.wanted.image.is_none() {
            Phase::NeedsImage
        } else if work.held.image == work.wanted.image && !work.held.has_pixel_size {
            Phase::NeedsPixelSize
        } else if let Some(result) = state.result {
            Phase::Done { complete: result.complete }
        } else {
            Phase::Ready
        }
    }

    /// An address relative to the page's files.
    pub(super) fn resolve(&self, relative: &str) -> Result<String, Problem> {
        resolve(relative, &self.base)
    }
}

/// An address relative to another one.
pub(super) fn resolve(relative: &str, base: &str) -> Result<String, Problem> {
    web_sys::Url::new_with_base(relative, base)
        .map(|url| url.href())
        .map_err(|_| Problem::new(ProblemKind::Input, format!("\"{relative}\" is no address")))
}

/// Milliseconds of a clock that only goes forward.
pub(super) fn now_ms() -> f64 {
    gloo::utils::window().performance().map_or(0.0, |performance| performance.now())
}

/// The name of an export's kind, for messages.
pub(super) fn export_name(kind: ExportKind) -> &'static str {
    match kind {
        ExportKind::Csv => "table",
        ExportKind::H5ad => "AnnData file",
        ExportKind::Png => "picture",
        ExportKind::Overlay => "overlay",
        ExportKind::Geojson => "GeoJSON file",
        ExportKind::Provenance => "provenance",
    }
}
