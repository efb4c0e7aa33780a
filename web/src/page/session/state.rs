//! All that a view shows, in one place, and what it is told when some of it changes.

use std::rc::Rc;

use js_sys::Float32Array;
use magnet_core::Level;
use magnet_core::level::PerLevel;
use web_sys::ImageData;

use super::catalogue::CatalogueModel;
pub use super::problem::{Problem, ProblemKind, Subject};
pub use super::rate::Running;
pub use super::region::Region;
use crate::protocol::{DeviceChoice, DeviceReport, ExportKind, ImageSummary, ModelSummary, RunProgress};
use crate::slide::messages::SlideSummary;

/// What changed. A view redraws what depends on it; the state itself is read from the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// [`State::phase`], but for a step of the same download or run.
    Phase,
    /// A step of the download or run that [`State::phase`] tells of.
    Progress,
    /// [`State::device`] or [`State::device_choice`].
    Device,
    /// [`State::catalogue`].
    Catalogue,
    /// [`State::chosen_model`].
    Chosen,
    /// [`State::model`]: one was opened.
    Model,
    /// [`State::image`], and [`State::preview`] with it: one was opened, or its pixel size is another one.
    Image,
    /// [`State::preview`] alone.
    Preview,
    /// Pieces of the slide's view have come.
    Tiles,
    /// [`State::region`].
    Region,
    /// [`State::geometry`]: a run was planned, or there is no map any more.
    Geometry,
    /// [`State::result`] and [`State::deviation`]: a run has ended, or there is no result any more. Values asked
    /// earlier no longer hold.
    Result,
    /// [`State::notices`].
    Notices,
    /// [`State::problem`].
    Problem,
    /// [`State::exporting`].
    Export,
}

/// What is going on.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// The engine starts.
    Starting,
    /// A model has to be chosen.
    NeedsModel,
    /// A bundle is being fetched.
    LoadingModel {
        /// Bytes so far.
        bytes: f64,
        /// Bytes in all.
        total: f64,
    },
    /// The engine reads the bundle.
    OpeningModel,
    /// An image has to be given.
    NeedsImage,
    /// An image is being fetched or decoded.
    OpeningImage,
    /// A region of the slide has to be chosen.
    NeedsRegion,
    /// The chosen region is being read.
    ReadingRegion {
        /// Rows so far.
        done: u32,
        /// Rows in all.
        total: u32,
    },
    /// The image does not say how large its pixels are: the user has to.
    NeedsPixelSize,
    /// Everything for a prediction is there.
    Ready,
    /// A run goes on.
    Predicting(Running),
    /// A run was cancelled, and its current step ends.
    Cancelling(Running),
    /// There is a map.
    Done {
        /// Whether it covers all the tissue.
        complete: bool,
    },
    /// The engine cannot go on; [`State::problem`] says why. Any action tries again.
    Failed,
}

impl Phase {
    /// The phase without its figures, so that steps of one phase compare equal.
    pub(super) fn kind(&self) -> std::mem::Discriminant<Phase> {
        std::mem::discriminant(self)
    }
}

/// The catalogue's state.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogueState {
    /// No catalogue was asked for.
    None,
    /// It is being fetched.
    Loading,
    /// It is there.
    Ready(Rc<Vec<CatalogueModel>>),
    /// It cannot be had; the text says why. Bundles can still be opened from disk.
    Failed(String),
}

/// The image in little, for drawing.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Its pixels, as `putImageData` and `createImageBitmap` take them.
    pub pixels: ImageData,
}

/// Where the nodes of a run lie.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// How many nodes each level has.
    pub nodes: PerLevel<usize>,
    /// Where their grids start, in pixels of the full image.
    pub start_px: (f64, f64),
    /// Their centres in pixels of the full image: x and y in turn.
    pub centers_px: PerLevel<Float32Array>,
}

/// One gene's map.
#[derive(Debug, Clone)]
pub struct GeneValues {
    /// Of which level.
    pub level: Level,
    /// Position in the panel.
    pub gene: usize,
    /// Value of the lowest colour by default.
    pub low: f64,
    /// Value of the highest colour by default.
    pub high: f64,
    /// One value per node, in the order of [`Geometry::centers_px`]; NaN where none was predicted.
    pub values: Float32Array,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunResult {
    /// Whether every bin was predicted.
    pub complete: bool,
    /// Seconds that the run took, as the engine measured them.
    pub seconds: f64,
    /// How far it came.
    pub progress: RunProgress,
}

/// A file that the engine made.
#[derive(Debug, Clone)]
pub struct ExportedFile {
    /// Which.
    pub kind: ExportKind,
    /// A name to save it under.
    pub name: String,
    /// Its contents, with the media type.
    pub blob: web_sys::Blob,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Good to know.
    Info,
    /// Something does not go as planned.
    Warning,
}

/// Something that happened and that the user should know, without having to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Unlike that of every other notice of this session; to dismiss it by.
    pub id: u32,
    /// How much it matters.
    pub weight: Weight,
    /// What happened, in one or two sentences.
    pub text: String,
}

/// All that a view shows.
#[derive(Debug, Clone)]
pub struct State {
    /// What is going on.
    pub phase: Phase,
    /// Which device the user asked for.
    pub device_choice: DeviceChoice,
    /// Which device runs, and why; `None` while the engine starts.
    pub device: Option<DeviceReport>,
    /// The models beside the page.
    pub catalogue: CatalogueState,
    /// The catalogue's id of the chosen model; `None` for a bundle from elsewhere, and before one is chosen.
    pub chosen_model: Option<String>,
    /// The model, once the engine has read it.
    pub model: Option<Rc<ModelSummary>>,
    /// The image, once the engine has read it; or the slide, whose size and name stand here as well.
    pub image: Option<Rc<ImageSummary>>,
    /// The slide, where the image is one.
    pub slide: Option<Rc<SlideSummary>>,
    /// The region of the slide that the user chose.
    pub region: Option<Region>,
    /// The image in little.
    pub preview: Option<Preview>,
    /// Where the nodes of the run lie; `None` before the first run with this model and image.
    pub geometry: Option<Geometry>,
    /// How the last run ended; `None` before that, and while a run goes on.
    pub result: Option<RunResult>,
    /// Standard deviation over the predicted nodes, per level and gene; there with `result`.
    pub deviation: Option<Rc<PerLevel<Vec<f32>>>>,
    /// What happened, oldest first.
    pub notices: Vec<Notice>,
    /// What went wrong last; gone with the next action.
    pub problem: Option<Problem>,
    /// The file that is being made.
    pub exporting: Option<ExportKind>,
}

impl State {
    pub(super) fn new(device_choice: DeviceChoice) -> Self {
        Self {
            phase: Phase::Starting,
            device_choice,
            device: None,
            catalogue: CatalogueState::None,
            chosen_model: None,
            model: None,
            image: None,
            slide: None,
            region: None,
            preview: None,
            geometry: None,
            result: None,
            deviation: None,
            notices: Vec::new(),
            problem: None,
            exporting: None,
        }
    }

    /// The catalogue's entry of the chosen model.
    pub fn chosen_entry(&self) -> Option<&CatalogueModel> {
        let (CatalogueState::Ready(models), Some(id)) = (&self.catalogue, &self.chosen_model) else {
            return None;
        };
        models.iter().find(|model| model.id == *id)
    }

    /// The catalogue's entry whose sample [`open_sample`](super::Session::open_sample) opens: the chosen model's. Another
    /// model's sample is other tissue, so it is offered only where no model is chosen; it then brings its own.
    pub fn sample_entry(&self) -> Option<&CatalogueModel> {
        let CatalogueState::Ready(models) = &self.catalogue else { return None };
        let mut offered = models.iter().filter(|model| model.sample.is_some());
        if self.chosen_model.is_none() && self.model.is_none() {
            return offered.next();
        }
        offered.find(|model| self.chosen_model.as_ref() == Some(&model.id))
    }

    /// Whether the catalogue has a sample at all.
    pub fn has_samples(&self) -> bool {
        matches!(&self.catalogue, CatalogueState::Ready(models) if models.iter().any(|model| model.sample.is_some()))
    }

    /// Whether values and files can be asked for now.
    pub fn has_map(&self) -> bool {
        self.result.is_some_and(|result| result.progress.bins_done > 0 || result.complete)
    }
}
