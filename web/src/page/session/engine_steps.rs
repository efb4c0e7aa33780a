//! The requests, one by one: what is sent, what is awaited, and what the answer changes.

use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::{Array, Float32Array, Uint8Array, Uint8ClampedArray};
use magnet_core::Level;
use magnet_core::level::PerLevel;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, BlobPropertyBag, ImageData};

use super::client::Engines;
use super::drive::{Failure, Turn};
use super::handle::{Session, now_ms};
use super::plan::{Held, Revision, WantedRun};
use super::problem::{Problem, Subject};
use super::rate::Rate;
use super::recovery::Loss;
use super::region::frame;
use super::state::{Change, ExportedFile, GeneValues, Geometry, Preview, RunResult, Running};
use super::store::bytes_of;
use super::work::{Ask, ImageSource, Source};
use crate::protocol::{Event, ImageSummary, Request, RunProgress};
use crate::slide::messages::RegionWindow;

/// A run that goes on.
#[derive(Debug, Default)]
struct Going {
    run: WantedRun,
    is_cancelled: bool,
    is_planned: bool,
    has_ended: bool,
    /// What the engine was asked meanwhile and has not answered.
    asked: VecDeque<Ask>,
}

impl Session {
    /// Puts an engine in place and has it choose its device.
    pub(super) async fn start(&self, engines: &mut Engines) -> Turn {
        engines.replace_current().map_err(Failure::Refused)?;
        let (engine, device, fallen_back) = {
            let work = self.work.borrow();
            (work.wanted.engine, work.recovery.device(), work.recovery.has_fallen_back())
        };
        self.send(engines, &Request::Start { device }, None)?;
        let mut report = match self.outcome(engines, |_| ()).await? {
            (Event::Ready { report }, _) => report,
            (event, _) => return Err(Failure::out_of_turn(&event)),
        };
        if fallen_back {
            // The engine only knows that it was asked for the CPU, not that the user was not the one who asked.
            report.reason = "The GPU failed, so the CPU continues.".into();
        }
        self.prepare_slides();
        self.spare_is_there(engines).await;
        {
            let mut work = self.work.borrow_mut();
            if work.wanted.engine != engine {
                return Err(Failure::Superseded);
            }
            // Whatever the last one held, this one does not.
            work.held = Held { engine: Some(engine), ..Held::default() };
        }
        self.change(Change::Device, |state| state.device = Some(report));
        Ok(())
    }

    /// Has the engine read the model.
    pub(super) async fn feed_model(&self, engines: &mut Engines, revision: Revision) -> Turn {
        let Some(source) = self.work.borrow().model.clone() else {
            return Err(Failure::Refused(Problem::state("There is no model.")));
        };
        let bytes = bytes_of(&source.blob, &source.name).await.map_err(Failure::Refused)?;
        self.send(engines, &Request::OpenModel { name: source.name }, Some(&bytes))?;
        let outcome = self.outcome(engines, |_| ()).await;
        let is_wanted = self.work.borrow().wanted.model == Some(revision);
        match outcome {
            Ok((Event::ModelOpened { model }, _)) => {
                self.work.borrow_mut().held.model = Some(revision);
                if is_wanted {
                    self.settle(|wanted| wanted.model);
                    self.work.borrow_mut().seconds_per_bin = None;
                    self.change(Change::Model, |state| state.model = Some(Rc::new(model)));
                    self.refit_region();
                }
                Ok(())
            }
            // Another one is wanted by now, and what was wrong with this one is no matter.
            Err(Failure::Refused(_)) if !is_wanted => {
                self.work.borrow_mut().held.model = None;
                Ok(())
            }
            Ok((event, _)) => Err(Failure::out_of_turn(&event)),
            Err(failure) => Err(failure),
        }
    }

    /// Has the engine decode the image.
    pub(super) async fn feed_image(&self, engines: &mut Engines, revision: Revision) -> Turn {
        // An earlier loss may have used the spare engine up. Only a new image may follow a request, and only before it is
        // read: while a loss is mended the network stays alone.
        if self.state().image.is_none() {
            engines.prepare_spare();
            self.spare_is_there(engines).await;
        }
        let (source, um_per_px) = {
            let work = self.work.borrow();
            if work.wanted.image != Some(revision) {
                return Ok(());
            }
            (work.image.clone(), work.wanted.um_per_px)
        };
        let (request, bytes) = match source {
            None => return Err(Failure::Refused(Problem::state("There is no image."))),
            Some(ImageSource::File(Source { name, blob })) => {
                let bytes = bytes_of(&blob, &name).await.map_err(Failure::Refused)?;
                (Request::OpenImage { name, um_per_px }, bytes)
            }
            Some(ImageSource::Region(name, window)) => {
                let pixels = self.region_pixels(window).await;
                if self.work.borrow().wanted.image != Some(revision) || self.disposed.get() {
                    return Ok(());
                }
                let pixels = pixels.map_err(Failure::Refused)?;
                let request = self.region_request(name, window).map_err(Failure::Refused)?;
                (request, pixels)
            }
        };
        self.send(engines, &request, Some(&bytes))?;
        let outcome = self.outcome(engines, |_| ()).await;
        let is_wanted = self.work.borrow().wanted.image == Some(revision);
        match outcome {
            Ok((Event::ImageOpened { image }, pixels)) => {
                self.hold_image(Some(revision), um_per_px, &image);
                if is_wanted {
                    self.settle(|wanted| wanted.image);
                }
                if is_wanted && matches!(request, Request::OpenImage { .. }) {
                    self.close_slide();
                    let preview = pixels.and_then(|pixels| preview_of(&image, pixels));
                    self.change(Change::Image, |state| {
                        state.image = Some(Rc::new(image));
                        // A new engine makes the same preview anew.
                        state.preview = preview;
                    });
                }
                Ok(())
            }
            Err(Failure::Refused(_)) if !is_wanted => {
                self.work.borrow_mut().held.image = None;
                Ok(())
            }
            Ok((event, _)) => Err(Failure::out_of_turn(&event)),
            Err(failure) => Err(failure),
        }
    }

    /// Hands a region's pixels to the engine.
    fn region_request(&self, name: String, window: RegionWindow) -> Result<Request, Problem> {
        let state = self.state();
        let (Some(slide), Some(um_per_px)) =
            (&state.slide, state.image.as_ref().and_then(|image| image.um_per_px))
        else {
            return Err(Problem::state("There is no slide."));
        };
        Ok(Request::OpenPixels {
            name,
            width_px: window.out_width_px,
            height_px: window.out_height_px,
            um_per_px: um_per_px * window.scale,
            frame: frame(&window, slide),
        })
    }

    /// Another model may need the region at another resolution.
    fn refit_region(&self) {
        let is_region = matches!(self.work.borrow().image, Some(ImageSource::Region(..)));
        if is_region && !self.is_region_taken() {
            if let Err(problem) = self.take_region() {
                self.problem(problem.about(Subject::Run));
            }
        } else {
            self.predict_region_if_ready();
        }
    }

    /// Tells the engine the pixel size that the user gave.
    pub(super) async fn apply_pixel_size(&self, engines: &mut Engines, um_per_px: f64) -> Turn {
        self.send(engines, &Request::SetPixelSize { um_per_px }, None)?;
        match self.outcome(engines, |_| ()).await? {
            (Event::ImageOpened { image }, _) => {
                let revision = self.work.borrow().held.image;
                self.hold_image(revision, Some(um_per_px), &image);
                if self.work.borrow().wanted.image == revision {
                    self.change(Change::Image, |state| state.image = Some(Rc::new(image)));
                }
                Ok(())
            }
            (event, _) => Err(Failure::out_of_turn(&event)),
        }
    }

    fn hold_image(&self, revision: Option<Revision>, um_per_px: Option<f64>, image: &ImageSummary) {
        let mut work = self.work.borrow_mut();
        work.held.image = revision;
        work.held.um_per_px = um_per_px;
        work.held.has_pixel_size = image.um_per_px.is_some();
    }

    /// A run is about to begin, and nothing is known of it.
    pub(super) fn begin_run(&self) {
        let progress = self.state().result.map(|result| result.progress).unwrap_or_default();
        let mut work = self.work.borrow_mut();
        work.rate = None;
        work.running = Running { progress, ..Running::default() };
    }

    /// Predicts, from the pieces that there are. What the view asks meanwhile is answered between the run's steps.
    pub(super) async fn run(&self, engines: &mut Engines, run: WantedRun) -> Turn {
        self.ask_for_run(engines, run)?;
        let mut going = Going { run, is_cancelled: run.halt, ..Going::default() };
        let turn = self.follow_run(engines, &mut going).await;
        for ask in going.asked {
            ask.refuse(started_anew());
        }
        turn
    }

    fn ask_for_run(&self, engines: &Engines, run: WantedRun) -> Turn {
        let (pieces, limits) = {
            let work = self.work.borrow();
            (work.pieces.clone(), work.recovery.limits())
        };
        for piece in &pieces {
            let Some(engine) = engines.current() else { break };
            engine
                .send_copy(&Request::Restore, piece)
                .map_err(|problem| Failure::Lost(Loss::Memory, problem.text))?;
        }
        self.send(engines, &Request::Predict { limits }, None)?;
        if run.halt { self.send(engines, &Request::Cancel, None) } else { Ok(()) }
    }

    async fn follow_run(&self, engines: &mut Engines, going: &mut Going) -> Turn {
        let revision = going.run.revision;
        while !going.has_ended || !going.asked.is_empty() {
            let outcome = self.outcome(engines, |engines| self.on_wake(engines, going)).await;
            let wish = self.work.borrow().wanted.run.filter(|wanted| wanted.revision == revision);
            let is_same_map = wish.is_some();
            match outcome {
                Ok((Event::Planned { nodes, estimated_s }, centers)) => {
                    if is_same_map {
                        self.planned(nodes, estimated_s, centers);
                    }
                    going.is_planned = true;
                    self.on_wake(engines, going);
                }
                Ok((Event::Progress { progress }, _)) => self.progress(progress),
                Ok((Event::Piece, piece)) => {
                    if let (Some(piece), true) = (piece.and_then(|piece| piece.dyn_into().ok()), is_same_map)
                    {
                        self.work.borrow_mut().pieces.push(piece);
                    }
                }
                Ok((Event::Finished { complete, seconds, deviation }, _)) => {
                    // A run that made way for something that was then refused is wanted again, and goes on from its pieces.
                    let is_over = complete || wish.is_some_and(|wanted| wanted.halt);
                    self.work.borrow_mut().held.run = is_over.then_some(revision);
                    going.has_ended = true;
                    if is_same_map && is_over {
                        self.finished(complete, seconds, deviation);
                    }
                }
                Ok((event, binary)) => match going.asked.pop_front() {
                    // The engine answers in the order in which it was asked.
                    Some(ask) => self.reply(ask, event, binary, going.has_ended)?,
                    None => return Err(Failure::out_of_turn(&event)),
                },
                Err(Failure::Refused(problem)) => match going.asked.pop_front() {
                    Some(ask) => ask.refuse(problem),
                    // Whatever was wrong with a run that nobody wants any more.
                    None if !is_same_map => return Ok(()),
                    None => return Err(Failure::Refused(problem)),
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Something else is wanted while a run goes on.
    fn on_wake(&self, engines: &Engines, going: &mut Going) {
        if !going.is_cancelled && !self.wants(going.run) {
            going.is_cancelled = true;
            // If this fails, the worker is gone, which it says itself.
            let _ = self.send(engines, &Request::Cancel, None);
        }
        // Before its plan, a run has nothing to show; after its end, the loop asks.
        while going.is_planned && !going.has_ended {
            let Some(ask) = self.work.borrow_mut().asks.pop_front() else { return };
            if self.send(engines, &ask.request(), None).is_ok() {
                going.asked.push_back(ask);
            } else {
                ask.refuse(started_anew());
            }
        }
    }

    fn planned(&self, nodes: PerLevel<usize>, estimated_s: Option<f64>, centers: Option<JsValue>) {
        {
            let mut work = self.work.borrow_mut();
            let rate = Rate::begin(now_ms() / 1e3, estimated_s);
            work.running = Running { progress: work.running.progress, ..rate.start() };
            work.rate = Some(rate);
        }
        if let Some(centers) = centers.and_then(|centers| centers.dyn_into::<Float32Array>().ok()) {
            let mut begin = 0;
            let centers_px = nodes.map(|nodes| {
                let end = begin + 2 * nodes as u32;
                let part = centers.subarray(begin, end);
                begin = end;
                part
            });
            let start_px = match &self.work.borrow().image {
                Some(ImageSource::Region(_, window)) => (f64::from(window.left_px), f64::from(window.top_px)),
                _ => (0.0, 0.0),
            };
            let geometry = Geometry { nodes, start_px, centers_px };
            self.change(Change::Geometry, |state| state.geometry = Some(geometry));
        }
        self.refresh_phase();
    }

    fn progress(&self, progress: RunProgress) {
        {
            let mut work = self.work.borrow_mut();
            work.running = match &mut work.rate {
                Some(rate) => rate.report(now_ms() / 1e3, progress),
                None => Running { progress, ..work.running },
            };
        }
        self.refresh_phase();
    }

    fn finished(&self, complete: bool, seconds: f64, deviation: PerLevel<Vec<f32>>) {
        let mut progress = self.work.borrow().running.progress;
        if complete {
            (progress.done, progress.bins_done) = (progress.total, progress.bins_total);
        } else if progress.bins_done == 0 {
            // Cancelled before the first bin: there is no map, but what was encoded is kept for the next run.
            self.work.borrow_mut().wanted.run = None;
            self.forget_result();
            return;
        }
        self.values.borrow_mut().clear();
        if complete && progress.bins_total > 0 {
            let seconds = seconds / progress.bins_total as f64;
            self.work.borrow_mut().seconds_per_bin = Some(seconds);
        }
        self.change(Change::Result, |state| {
            state.result = Some(RunResult { complete, seconds, progress });
            state.deviation = Some(Rc::new(deviation));
        });
    }

    /// Has a question of the view answered.
    pub(super) async fn answer(&self, engines: &mut Engines, ask: Ask) -> Turn {
        if self.work.borrow().held.run.is_none() {
            ask.refuse(Problem::state("There is no prediction yet."));
            return Ok(());
        }
        if let Ask::Values(level, gene, _) = &ask
            && let Some(values) = self.cached_values(*level, *gene)
        {
            ask.give_values(Ok(values));
            return Ok(());
        }
        self.send(engines, &ask.request(), None)?;
        match self.outcome(engines, |_| ()).await {
            Ok((event, binary)) => self.reply(ask, event, binary, true),
            Err(Failure::Refused(problem)) => {
                ask.refuse(problem);
                Ok(())
            }
            Err(failure) => {
                ask.refuse(started_anew());
                Err(failure)
            }
        }
    }

    /// Hands an answer to the one who asked. Values that may still change are not kept.
    fn reply(&self, ask: Ask, event: Event, binary: Option<JsValue>, is_final: bool) -> Turn {
        match event {
            Event::Values { level, gene, low, high } => {
                ask.give_values(self.values_from(level, gene, (low, high), binary, is_final));
                Ok(())
            }
            Event::Exported { export, name, media_type } => {
                let blob = blob_of(binary, &media_type);
                ask.give_file(blob.map(|blob| ExportedFile { kind: export, name, blob }));
                Ok(())
            }
            other => {
                ask.refuse(started_anew());
                Err(Failure::out_of_turn(&other))
            }
        }
    }

    fn values_from(
        &self,
        level: Level,
        gene: usize,
        (low, high): (f64, f64),
        values: Option<JsValue>,
        is_final: bool,
    ) -> Result<Rc<GeneValues>, Problem> {
        let values: Float32Array = values.and_then(|values| values.dyn_into().ok()).ok_or_else(|| {
            Problem::new(super::problem::ProblemKind::Internal, "The engine sent no values.")
        })?;
        let bytes = values.byte_length() as usize;
        let values = Rc::new(GeneValues { level, gene, low, high, values });
        if is_final {
            self.values.borrow_mut().insert((level, gene), values.clone(), bytes);
        }
        Ok(values)
    }
}

fn started_anew() -> Problem {
    Problem::state("The engine was started anew meanwhile. Ask again.")
}

fn preview_of(image: &ImageSummary, pixels: JsValue) -> Option<Preview> {
    let pixels: Uint8Array = pixels.dyn_into().ok()?;
    let (width_px, height_px) = image.preview_px;
    let clamped = Uint8ClampedArray::new_with_byte_offset_and_length(
        &pixels.buffer(),
        pixels.byte_offset(),
        pixels.length(),
    );
    let pixels = ImageData::new_with_js_u8_clamped_array_and_sh(&clamped, width_px, height_px).ok()?;
    Some(Preview { width_px, height_px, pixels })
}

fn blob_of(bytes: Option<JsValue>, media_type: &str) -> Result<Blob, Problem> {
    let internal = |text: &str| Problem::new(super::problem::ProblemKind::Internal, text);
    let bytes = bytes.ok_or_else(|| internal("The engine sent no file."))?;
    let options = BlobPropertyBag::new();
    options.set_type(media_type);
    Blob::new_with_u8_array_sequence_and_options(&Array::of1(&bytes), &options)
        .map_err(|_| internal("There is no memory for the file."))
}
