//! Slides: opening one in its worker, its view, and the region that the engine predicts.

use std::rc::Rc;

use js_sys::{Uint8Array, Uint8ClampedArray};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, ImageBitmap, ImageData};

use super::actions::LARGEST_IMAGE_BYTES;
use super::handle::Session;
use super::mailbox::{Reply, question};
use super::problem::{Problem, ProblemKind, Subject};
use super::region::{Region, is_too_large, scale_for};
use super::slide_client::{SlideClient, SlideWord};
use super::state::{Change, Preview};
use super::work::{ImageSource, Source};
use crate::protocol::ImageSummary;
use crate::slide::messages::{RegionWindow, SlideEvent, SlideRequest, SlideSummary, TileKey};

/// How often the slide reader is started anew for one slide.
const MOST_RESTARTS: u32 = 3;
/// The first bytes of TIFF and BigTIFF, in both byte orders.
const TIFF_SIGNATURES: [[u8; 4]; 4] = [*b"II*\0", *b"MM\0*", *b"II+\0", *b"MM\0+"];

/// A slide that is open or being opened.
#[derive(Debug, Clone)]
pub struct SlideFile {
    /// Names the request that opened it last.
    id: u32,
    name: String,
    /// A `Blob`, or an address.
    source: JsValue,
    um_per_px: Option<f64>,
}

/// What the session knows of its slide worker.
#[derive(Debug, Default)]
pub struct SlideWork {
    client: Option<SlideClient>,
    last_id: u32,
    /// What is being opened, and what follows where it is no slide.
    opening: Option<(SlideFile, Plain)>,
    open: Option<SlideFile>,
    restarts: u32,
    /// The region that is being read, and rows of it so far and in all.
    reading: Option<(u32, Reply<Result<Uint8Array, Problem>>)>,
    pub rows: (u32, u32),
    /// Pieces of the view that have come and that nobody has taken.
    pieces: Vec<(TileKey, Option<ImageBitmap>)>,
    /// The region that is to be predicted as soon as there is all that it needs.
    pub wants_region: bool,
    /// The region that an attribute asks for, until there is a slide.
    pub asked_region: Option<String>,
}

/// What to do with an image that needs no slide worker.
#[derive(Debug, Clone)]
pub enum Plain {
    /// Hand these bytes to the engine.
    Blob(Blob),
    /// Fetch this address whole.
    Fetch(String),
}

impl SlideWork {
    /// Whether a slide is being opened.
    pub fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Whether a slide is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Forgets every slide and ends the worker.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Session {
    /// Starts the slide worker where there is none, so that nothing is requested once a slide is open.
    pub(super) fn prepare_slides(&self) {
        if self.slides.borrow().client.is_some() || self.disposed.get() {
            return;
        }
        let this = self.this.clone();
        let hear = move |word: SlideWord| {
            if let Some(session) = this.upgrade() {
                session.hear_slides(word);
            }
        };
        let client = self.resolve("slide-worker.js").and_then(|url| SlideClient::spawn(&url, hear));
        match client {
            Ok(client) => self.slides.borrow_mut().client = Some(client),
            Err(problem) => self.problem(problem),
        }
    }

    /// Opens an image that may be a slide: TIFF files by the slide worker, which says if the engine can as well have
    /// the whole file; others by the engine.
    pub(super) fn open_blob(self: &Rc<Self>, blob: Blob, name: String, um_per_px: Option<f64>) {
        let session = self.clone();
        let id = self.next_slide();
        spawn_local(async move {
            let is_tiff = is_tiff(&blob).await;
            if session.slides.borrow().last_id != id || session.disposed.get() {
                return; // another image was opened meanwhile
            }
            let file = SlideFile { id, name, source: blob.clone().into(), um_per_px };
            if is_tiff {
                session.open_slide(file, Plain::Blob(blob));
            } else {
                session.open_plain(file, Plain::Blob(blob));
            }
        });
    }

    /// Opens a slide at an address whose server answers ranges.
    pub(super) fn open_address(&self, url: String, name: String, um_per_px: Option<f64>) {
        let id = self.next_slide();
        let source = JsValue::from_str(&url);
        self.open_slide(SlideFile { id, name, source, um_per_px }, Plain::Fetch(url));
    }

    /// The number of the next request; what is being opened is wanted no more.
    fn next_slide(&self) -> u32 {
        let mut slides = self.slides.borrow_mut();
        slides.opening = None;
        slides.last_id += 1;
        slides.last_id
    }

    fn open_slide(&self, file: SlideFile, plain: Plain) {
        self.prepare_slides();
        self.send_open(&file);
        self.slides.borrow_mut().opening = Some((file, plain));
        self.refresh_phase();
    }

    fn send_open(&self, file: &SlideFile) {
        let request = SlideRequest::Open { id: file.id, name: file.name.clone() };
        if let Some(client) = &self.slides.borrow().client {
            client.send(&request, Some(&file.source));
        }
    }

    /// What is no slide goes to the engine as a whole.
    fn open_plain(&self, file: SlideFile, plain: Plain) {
        match plain {
            Plain::Blob(blob) => {
                let checked = super::actions::check_size(&blob, &file.name, LARGEST_IMAGE_BYTES);
                match checked {
                    Ok(()) => {
                        let source = Source { name: file.name, blob };
                        self.take_image(ImageSource::File(source), file.um_per_px);
                    }
                    Err(problem) => self.problem(problem.about(Subject::Image)),
                }
            }
            Plain::Fetch(url) => self.fetch_whole_image(url, file.um_per_px),
        }
        self.refresh_phase();
    }

    /// The pieces that the view wants now, most wanted first.
    pub fn want_tiles(&self, tiles: Vec<TileKey>) {
        if let Some(client) = &self.slides.borrow().client {
            client.send(&SlideRequest::Tiles { tiles }, None);
        }
    }

    /// The pieces of the view that have come; `None` for one that cannot be read.
    pub fn take_tiles(&self) -> Vec<(TileKey, Option<ImageBitmap>)> {
        std::mem::take(&mut self.slides.borrow_mut().pieces)
    }

    fn hear_slides(&self, word: SlideWord) {
        if self.disposed.get() {
            return;
        }
        match word {
            SlideWord::Event(event, binary) => self.slide_event(*event, binary),
            SlideWord::Died(text) => self.slides_died(&text),
        }
    }

    fn slide_event(&self, event: SlideEvent, binary: Option<JsValue>) {
        match event {
            SlideEvent::Loaded => {}
            SlideEvent::Opened { id, slide } => self.slide_opened(id, slide),
            SlideEvent::Plain { id } => {
                if let Some((file, plain)) = self.taken_opening(id) {
                    self.open_plain(file, plain);
                }
            }
            SlideEvent::Refused { id, message } => self.slide_refused(id, message),
            SlideEvent::Overview { id, width_px, height_px, .. } => {
                let is_open = self.slides.borrow().open.as_ref().is_some_and(|file| file.id == id);
                if let (true, Some(preview)) = (is_open, picture(binary, width_px, height_px)) {
                    self.change(Change::Preview, |state| state.preview = Some(preview));
                }
            }
            SlideEvent::Tile { tile } => {
                self.tile_came(tile, binary.and_then(|bitmap| bitmap.dyn_into().ok()))
            }
            SlideEvent::TileFailed { tile, message } => {
                self.tile_came(tile, None);
                let problem = Problem::input(format!("A part of the slide cannot be read: {message}"));
                // A damaged slide fails in many places; it is said once.
                if self.state().problem.as_ref() != Some(&problem) {
                    self.problem(problem.about(Subject::Nothing));
                }
            }
            SlideEvent::RegionProgress { id, done, total } => {
                let mut slides = self.slides.borrow_mut();
                if slides.reading.as_ref().is_some_and(|(reading, _)| *reading == id) {
                    slides.rows = (done, total);
                    drop(slides);
                    self.refresh_phase();
                }
            }
            SlideEvent::Region { id } => {
                let pixels = binary.and_then(|bytes| bytes.dyn_into().ok());
                self.region_came(id, pixels.ok_or_else(|| ended("it sent no pixels")));
            }
            SlideEvent::RegionFailed { id, message } => {
                self.region_came(id, Err(Problem::input(format!("The region cannot be read: {message}"))));
            }
        }
    }

    fn tile_came(&self, tile: TileKey, bitmap: Option<ImageBitmap>) {
        self.slides.borrow_mut().pieces.push((tile, bitmap));
        self.change(Change::Tiles, |_| ());
    }

    fn taken_opening(&self, id: u32) -> Option<(SlideFile, Plain)> {
        self.slides.borrow_mut().opening.take_if(|(file, _)| file.id == id)
    }

    fn slide_opened(&self, id: u32, slide: SlideSummary) {
        // A restarted worker has opened the same slide again: nothing else has changed.
        if self.slides.borrow().open.as_ref().is_some_and(|file| file.id == id) {
            return self.change(Change::Tiles, |_| ());
        }
        let Some((file, _)) = self.taken_opening(id) else { return };
        let image = ImageSummary {
            name: slide.name.clone(),
            width_px: slide.width_px,
            height_px: slide.height_px,
            um_per_px: file.um_per_px.or(slide.embedded_um_per_px),
            embedded_um_per_px: slide.embedded_um_per_px,
            sha256: None,
            preview_px: (0, 0),
        };
        let size_px = (slide.width_px, slide.height_px);
        let asked = {
            let mut slides = self.slides.borrow_mut();
            slides.open = Some(file);
            slides.restarts = 0;
            slides.wants_region = false;
            slides.asked_region.clone()
        };
        self.drop_image();
        self.change(Change::Image, |state| {
            state.slide = Some(Rc::new(slide));
            state.region = None;
            state.image = Some(Rc::new(image));
            state.preview = None;
        });
        self.refresh_phase();
        if let Some(asked) = asked {
            self.ask_for_region(&asked, size_px);
        }
    }

    /// The worker cannot open what it was given. A file that is small enough may still be one for the engine, which
    /// says what is wrong with it otherwise.
    fn slide_refused(&self, id: u32, message: String) {
        if let Some((file, plain)) = self.taken_opening(id) {
            let small = matches!(&plain, Plain::Blob(blob) if blob.size() <= LARGEST_IMAGE_BYTES);
            if small {
                return self.open_plain(file, plain);
            }
            self.problem(Problem::input(message).about(Subject::Image));
        } else if self.slides.borrow().open.as_ref().is_some_and(|file| file.id == id) {
            self.problem(Problem::input(format!("The slide cannot be shown in little: {message}")));
        }
        self.refresh_phase();
    }

    /// The worker is gone: a new one takes the slide over, a few times.
    fn slides_died(&self, text: &str) {
        let (opening, open, reading) = {
            let mut slides = self.slides.borrow_mut();
            slides.client = None;
            slides.restarts += 1;
            (slides.opening.take(), slides.open.clone(), slides.reading.take())
        };
        if !text.is_empty() {
            web_sys::console::warn_1(&format!("magnet: the slide reader was lost: {text}").into());
        }
        if let Some((_, reply)) = reading {
            reply.send(Err(ended("predict again")));
        }
        if let Some((file, _)) = opening {
            let text = format!(
                "{}: the slide reader ended while it opened this file, which may be damaged.",
                file.name
            );
            self.problem(Problem::new(ProblemKind::Internal, text).about(Subject::Image));
        }
        if let Some(file) = open {
            if self.slides.borrow().restarts > MOST_RESTARTS {
                let text =
                    "The slide reader ended again and again. Open the slide once more, or reload the page.";
                self.problem(Problem::new(ProblemKind::Internal, text));
            } else {
                self.notice(
                    super::state::Weight::Warning,
                    "The slide reader ended unexpectedly and was started again.".into(),
                );
                self.prepare_slides();
                self.send_open(&file);
            }
        }
        self.refresh_phase();
    }

    /// Takes the region over that an attribute gives, as four numbers in full-resolution pixels, and predicts it as soon
    /// as there is all that it needs; one that comes before its slide waits for it.
    pub fn set_region_text(&self, text: Option<&str>) {
        self.slides.borrow_mut().asked_region = text.map(str::to_owned);
        let size_px = self.state().slide.as_ref().map(|slide| (slide.width_px, slide.height_px));
        match (text, size_px) {
            (Some(text), Some(size_px)) => self.ask_for_region(text, size_px),
            (None, Some(_)) => self.set_region(None),
            _ => {}
        }
    }

    fn ask_for_region(&self, text: &str, size_px: (u32, u32)) {
        let Some(region) = Region::from_text(text, size_px) else {
            let (width, height) = size_px;
            let text =
                format!("region: expected x,y,width,height in pixels of {width} × {height}, found “{text}”");
            return self.problem(Problem::input(text).about(Subject::Nothing));
        };
        if self.state().region == Some(region) {
            return;
        }
        self.set_region(Some(region));
        self.slides.borrow_mut().wants_region = true;
        self.predict_region_if_ready();
    }

    /// Chooses a region, or none.
    pub fn set_region(&self, region: Option<Region>) {
        if self.state().region != region {
            self.change(Change::Region, |state| state.region = region);
            self.refresh_phase();
        }
    }

    /// What of the slide would be read for the chosen region with the open model.
    pub fn region_window(&self) -> Option<RegionWindow> {
        let state = self.state();
        let um_per_px = state.image.as_ref()?.um_per_px?;
        Some(state.region?.window(scale_for(state.model.as_deref(), um_per_px)))
    }

    /// Seconds that a bin took in the last complete run with this model on this device.
    pub fn seconds_per_bin(&self) -> Option<f64> {
        self.work.borrow().seconds_per_bin
    }

    /// Whether what the engine holds, or is about to, is the chosen region.
    pub fn is_region_taken(&self) -> bool {
        let taken = match &self.work.borrow().image {
            Some(ImageSource::Region(_, window)) => Some(*window),
            _ => None,
        };
        taken.is_some() && taken == self.region_window()
    }

    /// Predicts the region that waits for its model or the slide's pixel size, once they are there.
    pub(super) fn predict_region_if_ready(&self) {
        if !self.slides.borrow().wants_region
            || self.state().model.is_none()
            || self.region_window().is_none()
        {
            return;
        }
        self.slides.borrow_mut().wants_region = false;
        match self.take_region() {
            Ok(()) => self.want_run_now(),
            Err(problem) => self.problem(problem),
        }
    }

    /// Makes the chosen region the image that the engine is to hold.
    ///
    /// # Errors
    /// If there is none, or it is too large.
    pub(super) fn take_region(&self) -> Result<(), Problem> {
        if self.state().region.is_none() {
            return Err(Problem::state("Choose a region of the slide first."));
        }
        let Some(window) = self.region_window() else {
            return Err(Problem::state("Say first how large the slide's pixels are."));
        };
        if is_too_large(&window) {
            return Err(Problem::input(format!(
                "The region has {:.0} megapixels; a browser tab holds 150. Choose a smaller one, or predict the slide \
                 with magnet-native.",
                f64::from(window.out_width_px) * f64::from(window.out_height_px) / 1e6
            )));
        }
        if self.is_region_taken() {
            return Ok(());
        }
        let name = self.state().image.as_ref().map(|image| image.name.clone()).unwrap_or_default();
        self.take_image(ImageSource::Region(name, window), None);
        Ok(())
    }

    /// A region's RGB values.
    ///
    /// # Errors
    /// If they cannot be read, or another region is wanted meanwhile.
    pub(super) async fn region_pixels(&self, window: RegionWindow) -> Result<Uint8Array, Problem> {
        self.prepare_slides();
        let (reply, answer) = question();
        {
            let mut slides = self.slides.borrow_mut();
            slides.last_id += 1;
            let id = slides.last_id;
            slides.reading = Some((id, reply));
            slides.rows = (0, window.out_height_px);
            if let Some(client) = &slides.client {
                client.send(&SlideRequest::Region { id, window }, None);
            }
        }
        self.refresh_phase();
        let answer = answer.get().await;
        self.slides.borrow_mut().rows = (0, 0);
        answer.unwrap_or_else(|| Err(Problem::state("Another region was chosen meanwhile.")))
    }

    fn region_came(&self, id: u32, pixels: Result<Uint8Array, Problem>) {
        let reading = self.slides.borrow_mut().reading.take_if(|(reading, _)| *reading == id);
        if let Some((_, reply)) = reading {
            reply.send(pixels);
        }
    }

    /// Gives the region up that is being read.
    pub(super) fn stop_reading_region(&self) {
        let mut slides = self.slides.borrow_mut();
        if slides.reading.take().is_some()
            && let Some(client) = &slides.client
        {
            client.send(&SlideRequest::CancelRegion, None);
        }
    }

    /// The slide is open no more: another image takes its place.
    pub(super) fn close_slide(&self) {
        let was_open = {
            let mut slides = self.slides.borrow_mut();
            slides.pieces.clear();
            if let (Some(_), Some(client)) = (&slides.open, &slides.client) {
                client.send(&SlideRequest::Close, None);
            }
            slides.open.take().is_some()
        };
        if was_open {
            self.change(Change::Region, |state| (state.slide, state.region) = (None, None));
        }
    }
}

fn ended(detail: &str) -> Problem {
    Problem::new(ProblemKind::Internal, format!("The slide reader ended unexpectedly: {detail}."))
}

/// Whether a file begins as TIFF or BigTIFF.
async fn is_tiff(blob: &Blob) -> bool {
    let Ok(start) = blob.slice_with_f64_and_f64(0.0, 4.0) else { return false };
    let Ok(buffer) = JsFuture::from(start.array_buffer()).await else { return false };
    starts_as_tiff(&Uint8Array::new(&buffer).to_vec())
}

/// Whether bytes begin as TIFF or BigTIFF.
pub(super) fn starts_as_tiff(bytes: &[u8]) -> bool {
    TIFF_SIGNATURES.iter().any(|signature| bytes.starts_with(signature))
}

fn picture(bytes: Option<JsValue>, width_px: u32, height_px: u32) -> Option<Preview> {
    let bytes: Uint8Array = bytes?.dyn_into().ok()?;
    let values = Uint8ClampedArray::new_with_byte_offset_and_length(
        &bytes.buffer(),
        bytes.byte_offset(),
        bytes.length(),
    );
    let pixels = ImageData::new_with_js_u8_clamped_array_and_sh(&values, width_px, height_px).ok()?;
    Some(Preview { width_px, height_px, pixels })
}
