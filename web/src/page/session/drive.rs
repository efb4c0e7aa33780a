//! The loop that brings the engine to hold what is wanted, one request at a time, and replaces it when it is lost.

use std::rc::Rc;

use gloo::timers::callback::Timeout;
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;

use super::client::{Engines, Input, Word};
use super::handle::Session;
use super::plan::{Held, Step, WantedRun, next_step};
use super::problem::{Problem, ProblemKind, Subject};
use super::recovery::{Loss, Remedy, Task};
use super::state::{Change, Weight};
use super::work::Doing;
use crate::protocol::{DeviceKind, ErrorCode, Event, Request};

/// How long the first step waits for the spare engine's code, so that no request for it comes later.
const SPARE_WAIT_MS: u32 = 4000;

/// An event of the engine with its `bytes` or `values`.
pub(super) type Said = (Event, Option<JsValue>);

/// Why a step did not end as it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine refused it and goes on.
    Refused(Problem),
    /// There is no engine any more.
    Lost(Loss, String),
    /// Another engine is wanted, or none.
    Superseded,
}

impl Failure {
    /// The engine said something that answers nothing.
    pub fn out_of_turn(event: &Event) -> Self {
        Self::Lost(Loss::Engine, format!("it said {} out of turn", event_name(event)))
    }
}

/// How a step ended.
pub(super) type Turn = Result<(), Failure>;

impl Session {
    /// Runs until the session is disposed of. The workers live in here and end with it.
    pub(super) async fn drive(self: Rc<Self>) {
        let url = match self.resolve("engine-worker.js") {
            Ok(url) => url,
            Err(problem) => return self.stop(problem),
        };
        let mut engines = Engines::new(url, self.mailbox.clone());
        while !self.disposed.get() {
            if self.work.borrow().doing == Doing::Stopped {
                self.pause(&mut engines).await;
                continue;
            }
            let step = {
                let work = self.work.borrow();
                next_step(&work.wanted, &work.held)
            };
            let (task, turn) = match step {
                Step::Start => {
                    self.do_now(Doing::Start);
                    (Task::Start, self.start(&mut engines).await)
                }
                Step::OpenModel(revision) => {
                    self.do_now(Doing::OpenModel);
                    (Task::Model, self.feed_model(&mut engines, revision).await)
                }
                Step::OpenImage(revision) => {
                    self.do_now(Doing::OpenImage);
                    (Task::Image, self.feed_image(&mut engines, revision).await)
                }
                Step::SetPixelSize(um_per_px) => {
                    self.do_now(Doing::OpenImage);
                    (Task::Image, self.apply_pixel_size(&mut engines, um_per_px).await)
                }
                Step::Predict(run) => {
                    self.begin_run();
                    self.do_now(Doing::Run);
                    (Task::Run, self.run(&mut engines, run).await)
                }
                Step::Rest => {
                    self.do_now(Doing::Rest);
                    let ask = self.work.borrow_mut().asks.pop_front();
                    match ask {
                        Some(ask) => (Task::Answer, self.answer(&mut engines, ask).await),
                        None => (Task::Rest, self.rest(&mut engines).await),
                    }
                }
            };
            if let Err(failure) = turn {
                self.after(&mut engines, task, failure);
            }
        }
    }

    /// Says what is being done now.
    pub(super) fn do_now(&self, doing: Doing) {
        self.work.borrow_mut().doing = doing;
        self.refresh_phase();
    }

    /// Waits for an action while there is no engine.
    async fn pause(&self, engines: &mut Engines) {
        engines.end_current();
        self.work.borrow_mut().held = Held::default();
        self.mailbox.next().await;
    }

    /// Nothing can be done before the next action.
    pub(super) fn stop(&self, problem: Problem) {
        let asks = {
            let mut work = self.work.borrow_mut();
            work.doing = Doing::Stopped;
            work.held = Held::default();
            std::mem::take(&mut work.asks)
        };
        for ask in asks {
            ask.refuse(problem.clone());
        }
        self.problem(problem);
        self.refresh_phase();
    }

    /// Takes what comes in until the engine has answered. `on_wake` is called when the user wants something else.
    pub(super) async fn outcome(
        &self,
        engines: &mut Engines,
        mut on_wake: impl FnMut(&Engines),
    ) -> Result<Said, Failure> {
        let engine = self.work.borrow().wanted.engine;
        loop {
            match self.mailbox.next().await {
                Input::Wake => {
                    if self.disposed.get() || self.work.borrow().wanted.engine != engine {
                        return Err(Failure::Superseded);
                    }
                    on_wake(engines);
                }
                Input::Engine(id, word) if engines.current().is_some_and(|current| current.id == id) => {
                    match word {
                        Word::Event(event, binary) => match *event {
                            Event::Loaded { .. } => self.loaded(engines),
                            Event::Failed { code, message } => return Err(failure(code, message)),
                            event => return Ok((event, binary)),
                        },
                        Word::Died(text) => return Err(Failure::Lost(Loss::Engine, text)),
                    }
                }
                Input::Engine(id, Word::Died(_)) => engines.drop_spare(id),
                // A word of an engine that was ended, or the spare one's that it is there.
                Input::Engine(..) => {}
            }
        }
    }

    /// The working engine's code is there: what is the same for a spare one comes from the browser's cache now. After
    /// an image was opened it has to wait for the next one, so that no request follows the image.
    fn loaded(&self, engines: &mut Engines) {
        if self.work.borrow().image.is_none() {
            engines.prepare_spare();
        }
    }

    /// Waits until the spare engine has its code, or seems never to get it.
    pub(super) async fn spare_is_there(&self, engines: &mut Engines) {
        if !engines.spare_is_loading() {
            return;
        }
        let late = Rc::new(std::cell::Cell::new(false));
        let _timer = Timeout::new(SPARE_WAIT_MS, {
            let (late, mailbox) = (late.clone(), self.mailbox.clone());
            move || {
                late.set(true);
                mailbox.put(Input::Wake);
            }
        });
        let mut held_back = Vec::new();
        while engines.spare_is_loading() && !late.get() && !self.disposed.get() {
            match self.mailbox.next().await {
                Input::Engine(id, word) if engines.current().is_some_and(|current| current.id == id) => {
                    held_back.push(Input::Engine(id, word));
                }
                Input::Engine(id, Word::Died(_)) => engines.drop_spare(id),
                Input::Engine(..) | Input::Wake => {}
            }
        }
        for input in held_back {
            self.mailbox.put(input);
        }
    }

    /// Waits for an action while the engine has nothing to do.
    async fn rest(&self, engines: &mut Engines) -> Turn {
        loop {
            match self.mailbox.next().await {
                Input::Wake => return Ok(()),
                Input::Engine(id, word) if engines.current().is_some_and(|current| current.id == id) => {
                    match word {
                        Word::Event(event, _) => {
                            if let Event::Failed { code, message } = *event {
                                return Err(failure(code, message));
                            }
                        }
                        Word::Died(text) => return Err(Failure::Lost(Loss::Engine, text)),
                    }
                }
                Input::Engine(id, Word::Died(_)) => engines.drop_spare(id),
                Input::Engine(..) => {}
            }
        }
    }

    /// Deals with a step that did not end as it should.
    fn after(&self, engines: &mut Engines, task: Task, failure: Failure) {
        match failure {
            Failure::Refused(problem) => self.refused(task, problem),
            Failure::Lost(loss, detail) => self.lost(engines, task, loss, detail),
            // The next step starts what is wanted instead.
            Failure::Superseded => self.work.borrow_mut().held = Held::default(),
        }
    }

    /// The engine is fine, and what it was asked for is not.
    fn refused(&self, task: Task, problem: Problem) {
        {
            let mut work = self.work.borrow_mut();
            match task {
                Task::Start => {
                    drop(work);
                    return self.stop(problem);
                }
                Task::Model => {
                    (work.wanted.model, work.held.model, work.model) = (None, None, None);
                    work.held.run = None;
                }
                Task::Image => {
                    (work.wanted.image, work.held.image, work.image) = (None, None, None);
                    work.held.run = None;
                }
                Task::Run => work.wanted.run = None,
                Task::Answer | Task::Rest => {}
            }
        }
        if matches!(task, Task::Model | Task::Image) {
            let nothing_kept = self.work.borrow().kept.is_none();
            if task == Task::Model && nothing_kept {
                self.change(Change::Chosen, |state| state.chosen_model = None);
            }
            self.restore_kept();
        }
        self.problem(problem.about(match task {
            Task::Model => Subject::Model,
            Task::Image if self.slides.borrow().is_open() => Subject::Run,
            Task::Image => Subject::Image,
            Task::Run => Subject::Run,
            Task::Start | Task::Answer | Task::Rest => Subject::All,
        }));
    }

    /// The engine is gone.
    fn lost(&self, engines: &mut Engines, task: Task, loss: Loss, detail: String) {
        let never_came = task == Task::Start && engines.current().is_some_and(|current| !current.is_loaded());
        engines.end_current();
        let device = self.state().device.as_ref().map(|report| report.device);
        let remedy = {
            let mut work = self.work.borrow_mut();
            work.held = Held::default();
            let total = work.running.progress.total;
            let percent =
                (task == Task::Run && total > 0).then(|| (work.running.progress.done * 100 / total) as u32);
            work.recovery.remedy(loss, task, device, percent)
        };
        if !detail.is_empty() {
            web_sys::console::warn_1(&format!("magnet: the engine was lost: {detail}").into());
        }
        if never_came {
            // Another device would not help: its code comes from the same place.
            return self.stop(Problem::new(
                ProblemKind::Network,
                "The engine's code cannot be loaded. Is the network there? Any action tries again.",
            ));
        }
        let kind = match loss {
            Loss::Memory => ProblemKind::Memory,
            Loss::Device => ProblemKind::Device,
            Loss::Engine if device == Some(DeviceKind::Gpu) && task == Task::Run => ProblemKind::Device,
            Loss::Engine => ProblemKind::Internal,
        };
        match remedy {
            Remedy::Continue(text) => self.notice(Weight::Warning, text),
            // Who asked has been told already.
            Remedy::Abandon(text) if task == Task::Answer => self.notice(Weight::Warning, text),
            Remedy::Abandon(text) => self.refused(task, Problem::new(kind, text)),
            Remedy::Stop(text) => self.stop(Problem::new(kind, with_detail(text, &detail))),
        }
    }

    /// Sends a request with what the engine needs of it, and says if that cannot be.
    pub(super) fn send(&self, engines: &Engines, request: &Request, bytes: Option<&Uint8Array>) -> Turn {
        let Some(engine) = engines.current() else {
            return Err(Failure::Lost(Loss::Engine, "there is no worker".into()));
        };
        let sent = match bytes {
            Some(bytes) => engine.send_bytes(request, bytes),
            None => engine.send(request),
        };
        sent.map_err(|problem| Failure::Lost(Loss::Memory, problem.text))
    }

    /// Whether a run is still the one that is wanted, and is to go on.
    pub(super) fn wants(&self, run: WantedRun) -> bool {
        self.work.borrow().wanted.run == Some(WantedRun { halt: false, ..run })
    }
}

/// What an error of the engine means for it.
fn failure(code: ErrorCode, message: String) -> Failure {
    match code {
        ErrorCode::DeviceLost => Failure::Lost(Loss::Device, message),
        ErrorCode::OutOfMemory => Failure::Lost(Loss::Memory, message),
        ErrorCode::Internal => Failure::Lost(Loss::Engine, message),
        ErrorCode::Input | ErrorCode::NoDevice | ErrorCode::State => {
            Failure::Refused(Problem::new(code.into(), message))
        }
    }
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() { text } else { format!("{text} ({detail})") }
}

fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Loaded { .. } => "loaded",
        Event::Ready { .. } => "ready",
        Event::ModelOpened { .. } => "modelOpened",
        Event::ImageOpened { .. } => "imageOpened",
        Event::Planned { .. } => "planned",
        Event::Progress { .. } => "progress",
        Event::Piece => "piece",
        Event::Finished { .. } => "finished",
        Event::Values { .. } => "values",
        Event::Exported { .. } => "exported",
        Event::Failed { .. } => "failed",
    }
}
