//! What a view can have the session do.

use std::rc::Rc;

use magnet_core::Level;
use magnet_core::slide::SENSIBLE_UM;
use web_sys::{Blob, File};

use super::handle::{Session, export_name};
use super::mailbox::question;
use super::problem::{Problem, ProblemKind, Subject};
use super::recovery::Recovery;
use super::state::{Change, ExportedFile, GeneValues};
use super::work::{Ask, Doing, ImageSource, Source};
use crate::protocol::{DeviceChoice, DrawStyle, ExportKind, ImageSummary, Request};

/// The largest image file. Decoding needs several times as much, and a wasm module has 4 GB at most.
pub(super) const LARGEST_IMAGE_BYTES: f64 = 512e6;
/// The largest bundle.
pub(super) const LARGEST_BUNDLE_BYTES: f64 = 1e9;

impl Session {
    /// Opens a bundle from disk.
    pub fn open_model_file(&self, file: File) {
        let name = file.name();
        self.open_model_blob(file.into(), name);
    }

    /// Opens a bundle whose bytes are at hand.
    pub fn open_model_blob(&self, blob: Blob, name: String) {
        self.begin_action();
        match check_size(&blob, &name, LARGEST_BUNDLE_BYTES) {
            Ok(()) => self.take_model(Source { name, blob }, None),
            Err(problem) => self.problem(problem.about(Subject::Model)),
        }
    }

    /// Opens an image from disk.
    pub fn open_image_file(&self, file: File) {
        let name = file.name();
        self.open_image_blob(file.into(), name, None);
    }

    /// Opens an image whose bytes are at hand, of any size where it is a slide. A pixel size that is given overrides the
    /// file's.
    pub fn open_image_blob(&self, blob: Blob, name: String, um_per_px: Option<f64>) {
        self.begin_action();
        let checked =
            check_size(&blob, &name, f64::INFINITY).and_then(|()| um_per_px.map_or(Ok(()), check_pixel_size));
        match (checked, self.this.upgrade()) {
            (Ok(()), Some(session)) => session.open_blob(blob, name, um_per_px),
            (Err(problem), _) => self.problem(problem.about(Subject::Image)),
            (Ok(()), None) => {}
        }
    }

    /// Says how large the image's pixels are, also against what the file says.
    pub fn set_pixel_size(&self, um_per_px: f64) {
        self.begin_action();
        if let Err(problem) = check_pixel_size(um_per_px) {
            return self.problem(problem.about(Subject::Nothing));
        }
        if self.slides.borrow().is_open() {
            return self.set_slide_pixel_size(um_per_px);
        }
        {
            let mut work = self.work.borrow_mut();
            if work.wanted.image.is_none() {
                drop(work);
                return self.problem(Problem::state("There is no image yet whose pixels could have a size."));
            }
            if work.wanted.um_per_px == Some(um_per_px) {
                return;
            }
            work.wanted.um_per_px = Some(um_per_px);
        }
        self.forget_map();
        self.wake();
    }

    /// The slide's pixels have another size: what was read of it has another scale.
    fn set_slide_pixel_size(&self, um_per_px: f64) {
        let Some(image) = self.state().image.clone() else { return };
        if image.um_per_px == Some(um_per_px) {
            return;
        }
        self.drop_image();
        self.change(Change::Image, |state| {
            state.image = Some(Rc::new(ImageSummary { um_per_px: Some(um_per_px), ..(*image).clone() }));
        });
        self.refresh_phase();
        self.predict_region_if_ready();
    }

    /// The engine's image is wanted no more, and what was predicted on it goes.
    pub(super) fn drop_image(&self) {
        self.stop_reading_region();
        {
            let mut work = self.work.borrow_mut();
            (work.image_download, work.sample_download) = (None, None);
            (work.wanted.image, work.wanted.um_per_px, work.image) = (None, None, None);
            work.kept = None;
        }
        self.forget_map();
        self.work.borrow_mut().wanted.run = None;
        self.wake();
    }

    /// Starts a new engine on another device. A run that goes on continues there from what is finished.
    pub fn set_device(&self, choice: DeviceChoice) {
        self.begin_action();
        {
            let mut work = self.work.borrow_mut();
            work.recovery = Recovery::new(choice, self.limits);
            work.wanted.engine = work.new_revision();
            work.seconds_per_bin = None;
        }
        self.change(Change::Device, |state| (state.device_choice, state.device) = (choice, None));
        self.wake();
    }

    /// Whether a prediction starts by itself as soon as there is all that it needs.
    pub fn set_auto_predict(&self, on: bool) {
        self.work.borrow_mut().auto_predict = on;
    }

    /// Predicts: continues where a cancelled run ended, and starts anew after a complete one.
    pub fn predict(&self) {
        self.begin_action();
        if self.slides.borrow().is_open() {
            if self.state().model.is_none() && self.work.borrow().wanted.model.is_some() {
                self.slides.borrow_mut().wants_region = true;
                return;
            }
            if let Err(problem) = self.take_region() {
                return self.problem(problem.about(Subject::Run));
            }
        }
        self.want_run_now();
    }

    pub(super) fn want_run_now(&self) {
        let result = self.state().result;
        let missing = {
            let mut work = self.work.borrow_mut();
            if work.wanted.model.is_none() && work.model_download.is_none() {
                Some("Choose a model first.")
            } else if work.wanted.image.is_none() && work.image_download.is_none() {
                Some("Open an image first.")
            } else if work.open_run().is_some_and(|run| !run.halt) {
                // It goes on already, or begins as soon as there is all that it needs.
                None
            } else {
                if work.kept.is_none() && result.is_some_and(|result| result.complete) {
                    work.pieces.clear();
                }
                work.recovery.renew();
                work.want_run();
                None
            }
        };
        if let Some(missing) = missing {
            return self.problem(Problem::state(missing).about(Subject::Run));
        }
        if self.work.borrow().open_run().is_some() && self.work.borrow().kept.is_none() {
            self.forget_result();
        }
        self.wake();
    }

    /// Ends the run after its current step, and what is being fetched at once. What the run has done stays.
    pub fn cancel(&self) {
        let reads = self.work.borrow().doing == Doing::OpenImage;
        if reads && self.slides.borrow().is_open() {
            self.stop_reading_region();
            let was_kept = self.work.borrow().kept.is_some();
            if was_kept {
                self.restore_kept();
            } else {
                let mut work = self.work.borrow_mut();
                (work.wanted.image, work.image, work.wanted.run) = (None, None, None);
            }
        }
        let downloads = {
            let mut work = self.work.borrow_mut();
            let downloads = (work.model_download.take(), work.image_download.take());
            let is_running = work.doing == Doing::Run;
            if work.open_run().is_some() {
                if is_running {
                    if let Some(run) = &mut work.wanted.run {
                        run.halt = true;
                    }
                } else {
                    work.wanted.run = None;
                }
            }
            downloads
        };
        if downloads.0.is_some() || downloads.1.is_some() {
            self.restore_kept();
        }
        drop(downloads);
        self.refresh_phase();
        self.wake();
    }

    /// Takes a notice away.
    pub fn dismiss_notice(&self, id: u32) {
        self.change(Change::Notices, |state| state.notices.retain(|notice| notice.id != id));
    }

    /// Takes the problem away.
    pub fn dismiss_problem(&self) {
        if self.state().problem.is_some() {
            self.change(Change::Problem, |state| state.problem = None);
        }
    }

    /// Ends the engine and gives its memory back. Later actions do nothing.
    pub fn dispose(&self) {
        if self.disposed.replace(true) {
            return;
        }
        {
            let mut work = self.work.borrow_mut();
            (work.model_download, work.image_download) = (None, None);
            (work.sample_download, work.catalogue_download) = (None, None);
            (work.model, work.image, work.kept) = (None, None, None);
            work.pieces.clear();
            work.asks.clear();
        }
        self.values.borrow_mut().clear();
        self.slides.borrow_mut().clear();
        // The loop ends, and the workers with it.
        self.wake();
    }

    /// The values of one gene, if they are at hand.
    pub fn cached_values(&self, level: Level, gene: usize) -> Option<Rc<GeneValues>> {
        self.values.borrow_mut().get(&(level, gene))
    }

    /// The values of one gene. During a run the answer comes between two of its steps and holds what is predicted by
    /// then; such values are not kept.
    ///
    /// # Errors
    /// If there is no prediction, the model has no such level or gene, or another model or image is opened meanwhile.
    pub async fn values(self: &Rc<Self>, level: Level, gene: usize) -> Result<Rc<GeneValues>, Problem> {
        if let Some(values) = self.cached_values(level, gene) {
            return Ok(values);
        }
        let (reply, answer) = question();
        self.ask(Ask::Values(level, gene, reply))?;
        answer.get().await.unwrap_or_else(|| Err(closed()))
    }

    /// Has the engine make a file.
    ///
    /// # Errors
    /// As [`values`](Self::values), or if the file cannot be made.
    pub async fn export(
        self: &Rc<Self>,
        kind: ExportKind,
        level: Level,
        genes: Vec<usize>,
        style: DrawStyle,
    ) -> Result<ExportedFile, Problem> {
        if let Some(other) = self.state().exporting {
            return Err(Problem::state(format!("The {} is being made; wait for it.", export_name(other))));
        }
        let (reply, answer) = question();
        self.ask(Ask::Export(Request::Export { export: kind, level, genes, style }, reply))?;
        self.change(Change::Export, |state| state.exporting = Some(kind));
        let answer = answer.get().await;
        self.change(Change::Export, |state| state.exporting = None);
        answer.unwrap_or_else(|| Err(closed()))
    }

    fn ask(&self, ask: Ask) -> Result<(), Problem> {
        if self.disposed.get() {
            return Err(closed());
        }
        {
            let mut work = self.work.borrow_mut();
            if work.kept.is_some() {
                return Err(Problem::state("Another model or image is being opened."));
            }
            if work.wanted.run.is_none() {
                return Err(Problem::state("There is no prediction yet."));
            }
            work.asks.push_back(ask);
        }
        self.wake();
        Ok(())
    }

    /// Wants this model from now on.
    pub(super) fn take_model(&self, source: Source, id: Option<String>) {
        self.keep_open();
        {
            let mut work = self.work.borrow_mut();
            work.model_download = None;
            let revision = work.new_revision();
            work.wanted.model = Some(revision);
            work.model = Some(source);
        }
        self.begin_anew();
        self.change(Change::Chosen, |state| state.chosen_model = id);
        self.refresh_phase();
        self.wake();
    }

    /// Wants this image from now on.
    pub(super) fn take_image(&self, source: ImageSource, um_per_px: Option<f64>) {
        self.stop_reading_region();
        self.keep_open();
        {
            let mut work = self.work.borrow_mut();
            (work.image_download, work.sample_download) = (None, None);
            let revision = work.new_revision();
            work.wanted.image = Some(revision);
            work.wanted.um_per_px = um_per_px;
            work.image = Some(source);
        }
        self.begin_anew();
        self.refresh_phase();
        self.wake();
    }

    /// Something else is to be opened: what is open stays on screen until it is, and after it where it is refused.
    pub(super) fn keep_open(&self) {
        let chosen = self.state().chosen_model.clone();
        self.work.borrow_mut().keep(chosen);
    }
}

fn closed() -> Problem {
    Problem::state("The viewer was closed.")
}

fn check_pixel_size(um_per_px: f64) -> Result<(), Problem> {
    if SENSIBLE_UM.contains(&um_per_px) {
        return Ok(());
    }
    Err(Problem::input(format!(
        "The pixel size has to be between {} and {} µm per pixel; found {um_per_px}.",
        SENSIBLE_UM.start(),
        SENSIBLE_UM.end()
    )))
}

pub(super) fn check_size(blob: &Blob, name: &str, most_bytes: f64) -> Result<(), Problem> {
    let bytes = blob.size();
    if bytes == 0.0 {
        return Err(Problem::input(format!("{name} is empty.")));
    }
    if bytes > most_bytes {
        let mb = |bytes: f64| (bytes / 1e6).ceil() as u64;
        return Err(Problem::new(
            ProblemKind::Input,
            format!(
                "{name} has {} MB; at most {} MB can be opened in a browser tab.",
                mb(bytes),
                mb(most_bytes)
            ),
        ));
    }
    Ok(())
}
