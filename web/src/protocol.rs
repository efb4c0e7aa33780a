//! What the page and the engine say to each other.
//!
//! Every message is a JavaScript object with a field `kind`. Large binary payloads travel beside the message, in the
//! field `bytes` (`Uint8Array`) or `values` (`Float32Array`), and are transferred, not copied; the types here hold the
//! rest. Both sides are built from this one file, so they cannot disagree.

use magnet_core::Level;
use magnet_core::coordinates::SlidePx;
use magnet_core::level::PerLevel;
use serde::{Deserialize, Serialize};

/// The field of a message that holds its bytes.
pub const BYTES: &str = "bytes";
/// The field of a message that holds its 32-bit values.
pub const VALUES: &str = "values";

/// Which device the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU that WebGPU offers and that is no software adapter; else the CPU.
    #[default]
    Auto,
    /// WebGPU, whatever adapter it offers.
    Gpu,
    /// The CPU.
    Cpu,
}

/// A device that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// WebGPU.
    Gpu,
    /// WebAssembly with 128-bit vectors, on one thread.
    Cpu,
}

/// How much work passes the device at once; it changes memory and speed, never a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchLimits {
    /// Core bins of a block, at most. Pieces of a run can be taken over only by a run with the same value.
    pub block_bins: usize,
    /// Pixels of the patches that pass an encoder together; 0 lets the engine choose from its device.
    pub chunk_pixels: usize,
}

impl Default for BatchLimits {
    /// 256 bins; the engine chooses the pixels.
    fn default() -> Self {
        Self { block_bins: 256, chunk_pixels: 0 }
    }
}

/// What a file of a result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportKind {
    /// All values of a level as a table.
    Csv,
    /// All values of a level as AnnData.
    H5ad,
    /// One gene over the image, with legend and scale bar.
    Png,
    /// One gene alone, transparent, in the image's frame.
    Overlay,
    /// Tiles with measurements, for QuPath.
    Geojson,
    /// Where every number comes from.
    Provenance,
}

/// How a map is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrawStyle {
    /// `viridis`, `cividis` or `magma`.
    pub color_map: String,
    /// 0 (only the image) to 1 (only the map).
    pub opacity: f32,
    /// Value of the lowest colour, in label units.
    pub low: f64,
    /// Value of the highest colour, in label units.
    pub high: f64,
}

/// Page to engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// The first message: choose a device. Answered by [`Event::Ready`].
    Start {
        /// What the user asked for.
        device: DeviceChoice,
    },
    /// Read a bundle; it is in `bytes`. Answered by [`Event::ModelOpened`].
    OpenModel {
        /// Its file name, for error messages.
        name: String,
    },
    /// Decode an image; it is in `bytes`. Answered by [`Event::ImageOpened`].
    OpenImage {
        /// Its file name.
        name: String,
        /// The pixel size that the user gave, in µm per pixel; it overrides the file's.
        um_per_px: Option<f64>,
    },
    /// Take a region of a slide as the image; its RGB values are in `bytes`. Answered by [`Event::ImageOpened`] without a
    /// preview.
    OpenPixels {
        /// File name of the slide.
        name: String,
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// µm per pixel.
        um_per_px: f64,
        /// Where on which slide that is.
        frame: RegionFrame,
    },
    /// Settle the pixel size of the image that is open. Answered by [`Event::ImageOpened`] without a preview.
    SetPixelSize {
        /// µm per pixel.
        um_per_px: f64,
    },
    /// A piece of an earlier run, in `bytes`: the next [`Request::Predict`] continues from it. Not answered.
    Restore,
    /// Predict the open image with the open model. Answered by [`Event::Planned`], then [`Event::Progress`] and
    /// [`Event::Piece`], then [`Event::Finished`].
    Predict {
        /// Batch sizes.
        limits: BatchLimits,
    },
    /// End the run after its current step; what is done is kept. Answered by [`Event::Finished`].
    Cancel,
    /// The values of one gene. Answered by [`Event::Values`].
    Values {
        /// At which level.
        level: Level,
        /// Position in the panel.
        gene: usize,
    },
    /// Make a file. Answered by [`Event::Exported`].
    Export {
        /// Which file.
        export: ExportKind,
        /// Of which level.
        level: Level,
        /// Genes: the first one is drawn; tables hold all genes, and GeoJSON these.
        genes: Vec<usize>,
        /// How pictures are drawn.
        style: DrawStyle,
    },
}

/// Where a region lies on its slide.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionFrame {
    /// Left edge on the slide, in its full-resolution pixels.
    pub left_px: u32,
    /// Top edge, likewise.
    pub top_px: u32,
    /// Full-resolution pixels of the slide for each pixel of the region.
    pub scale: f64,
    /// Width of the slide at full resolution, in pixels.
    pub slide_width_px: u32,
    /// Height of the slide at full resolution, in pixels.
    pub slide_height_px: u32,
    /// Size of the slide's file in bytes.
    pub slide_bytes: f64,
}

impl RegionFrame {
    /// Where a place of the region lies on the slide, in full-resolution pixels.
    pub fn slide_from_region(&self, place: SlidePx) -> SlidePx {
        SlidePx {
            x: f64::from(self.left_px) + place.x * self.scale,
            y: f64::from(self.top_px) + place.y * self.scale,
        }
    }
}

/// What runs the model, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    /// Which kind.
    pub device: DeviceKind,
    /// The adapter's name as the browser gives it, or `WebAssembly`.
    pub name: String,
    /// Why this one, in one sentence for people.
    pub reason: String,
    /// Whether the adapter is a software one.
    pub software: bool,
    /// Largest buffer that a kernel may bind, in bytes; 0 on the CPU.
    pub max_binding_bytes: u64,
}

/// What a level of a model is, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelSummary {
    /// Side of what one value describes, in µm.
    pub tile_um: f64,
    /// Side of the tissue that the level sees, in µm.
    pub patch_um: f64,
    /// Side of the picture of that tissue, in pixels.
    pub patch_px: usize,
    /// Whether the model predicts this level.
    pub predicted: bool,
    /// Held-out Pearson of each gene; empty without held-out scores.
    pub gene_pearson: Vec<Option<f32>>,
    /// Mean of those.
    pub pcc_gene_mean: Option<f64>,
}

/// What a model is, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSummary {
    /// File name.
    pub name: String,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Bytes of the file.
    pub size: usize,
    /// Version of the program that trained it.
    pub code_version: String,
    /// Gene symbols, in the panel's order.
    pub symbols: Vec<String>,
    /// Gene ids, likewise.
    pub ids: Vec<String>,
    /// Unit of the values.
    pub unit: String,
    /// The levels.
    pub levels: PerLevel<LevelSummary>,
    /// Slides that the weights were fitted to.
    pub training_slides: Vec<String>,
    /// Slides behind the scores.
    pub held_out_slides: Vec<String>,
    /// Whether those slides chose the epoch, so that their scores flatter the model a little.
    pub selected_on_validation: bool,
    /// The command that trained it.
    pub command_line: Vec<String>,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// File name.
    pub name: String,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Pixel size, where the file or the user gave one.
    pub um_per_px: Option<f64>,
    /// Pixel size that the file itself gives.
    pub embedded_um_per_px: Option<f64>,
    /// SHA-256 of the file, lower-case hexadecimal; `None` for a slide, which is not read whole.
    pub sha256: Option<String>,
    /// Size of the preview, in pixels; its RGBA values are in `bytes`, where there are any.
    pub preview_px: (u32, u32),
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunProgress {
    /// Tiles encoded and bins predicted.
    pub done: usize,
    /// Tiles to encode and bins to predict.
    pub total: usize,
    /// Bins predicted.
    pub bins_done: usize,
    /// Bins to predict.
    pub bins_total: usize,
}

/// What kind of thing went wrong; the page decides by it what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorCode {
    /// The input is wrong; another file is needed.
    Input,
    /// The device is gone; a new engine can continue.
    DeviceLost,
    /// The device's memory does not suffice; a new engine with smaller batches can continue.
    OutOfMemory,
    /// No device of the kind that the user insists on.
    NoDevice,
    /// A request that does not fit the engine's state.
    State,
    /// Anything else; it is a fault of the program.
    Internal,
}

/// Engine to page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "one event exists at a time, so a box would save nothing")]
pub enum Event {
    /// The worker's script has loaded; it waits for [`Request::Start`].
    Loaded {
        /// Version of the program.
        version: String,
    },
    /// A device is chosen.
    Ready {
        /// Which.
        report: DeviceReport,
    },
    /// A bundle is open.
    ModelOpened {
        /// What it is.
        model: ModelSummary,
    },
    /// An image is open; a preview in `bytes`, where one was made.
    ImageOpened {
        /// What it is.
        image: ImageSummary,
    },
    /// A run begins. `values` holds the centres of all levels in full-resolution pixels, x and y in turn: first the
    /// bins, then the spots, then the regions.
    Planned {
        /// How many nodes each level has.
        nodes: PerLevel<usize>,
        /// Seconds that the run should take, from a warm-up on this device.
        estimated_s: Option<f64>,
    },
    /// A step is done.
    Progress {
        /// How far the run is.
        progress: RunProgress,
    },
    /// A piece is finished; it is in `bytes`.
    Piece,
    /// The run has ended.
    Finished {
        /// Whether every bin was predicted.
        complete: bool,
        /// Wall time of the run in seconds.
        seconds: f64,
        /// Standard deviation over the predicted nodes, per level and gene.
        deviation: PerLevel<Vec<f32>>,
    },
    /// One gene's values in `values`, in the order of [`Event::Planned`]; NaN where there is none.
    Values {
        /// Of which level.
        level: Level,
        /// Position in the panel.
        gene: usize,
        /// The values between which colours run by default.
        low: f64,
        /// As `low`, at the upper end.
        high: f64,
    },
    /// A file; it is in `bytes`.
    Exported {
        /// Which.
        export: ExportKind,
        /// A name to save it under.
        name: String,
        /// Its media type.
        media_type: String,
    },
    /// Something went wrong.
    Failed {
        /// What kind of thing.
        code: ErrorCode,
        /// What was expected and what was found, for people.
        message: String,
    },
}
