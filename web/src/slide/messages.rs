//! What the page and the slide worker say to each other.
//!
//! Every message is an array: what is said, and what belongs to it and is no plain value. That is the slide itself (a
//! `Blob` or an address), a piece of the view (an `ImageBitmap`), or pixels (a `Uint8Array`); the latter two are
//! transferred, not copied.

use serde::{Deserialize, Serialize};

/// Side of the square pieces that a view level is read in, in its pixels.
pub const TILE_PX: u32 = 512;
/// Most pixels of a region that the engine takes: as for an image that it decodes itself.
pub const MOST_REGION_PIXELS: f64 = 150e6;

/// A piece of a view level. Pieces at the right and lower border are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TileKey {
    /// Position of the level in [`SlideSummary::levels`].
    pub level: u32,
    /// Column, from 0.
    pub column: u32,
    /// Row, from 0.
    pub row: u32,
}

/// A part of a slide to be read at some resolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionWindow {
    /// Left edge, in full-resolution pixels.
    pub left_px: u32,
    /// Top edge, likewise.
    pub top_px: u32,
    /// Full-resolution pixels for each pixel of the output, at least 1.
    pub scale: f64,
    /// Width of the output, in its pixels.
    pub out_width_px: u32,
    /// Height of the output, in its pixels.
    pub out_height_px: u32,
}

/// A level of the view, finest first. The file need not hold it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelSize {
    /// Full-resolution pixels for each pixel of this level.
    pub downsample: f64,
    /// Width in its own pixels.
    pub width_px: u32,
    /// Height in its own pixels.
    pub height_px: u32,
}

/// What a slide is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlideSummary {
    /// File name.
    pub name: String,
    /// Size of the file in bytes.
    pub bytes: f64,
    /// Width at full resolution, in pixels.
    pub width_px: u32,
    /// Height at full resolution, in pixels.
    pub height_px: u32,
    /// Pixel size that the file gives, in µm.
    pub embedded_um_per_px: Option<f64>,
    /// Where the file gives it, such as a tag's name.
    pub pixel_size_from: Option<String>,
    /// Resolutions that the file holds.
    pub file_levels: u32,
    /// Levels of the view.
    pub levels: Vec<LevelSize>,
}

/// Page to slide worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SlideRequest {
    /// Open the slide that comes with it. Answered by [`SlideEvent::Opened`] and later [`SlideEvent::Overview`], by
    /// [`SlideEvent::Plain`], or by [`SlideEvent::Refused`]. The slide before it is closed once this one is open.
    Open {
        /// Names the request.
        id: u32,
        /// Its file name.
        name: String,
    },
    /// The pieces that the view wants now, most wanted first. What was wanted before and is not in the list is wanted
    /// no more. Each is answered by [`SlideEvent::Tile`] or [`SlideEvent::TileFailed`].
    Tiles {
        /// The pieces.
        tiles: Vec<TileKey>,
    },
    /// Read a part of the slide. Answered by [`SlideEvent::RegionProgress`], then [`SlideEvent::Region`] or
    /// [`SlideEvent::RegionFailed`]. A part that is being read already is given up.
    Region {
        /// Names the request.
        id: u32,
        /// What to read.
        window: RegionWindow,
    },
    /// Give the part up that is being read.
    CancelRegion,
    /// Forget the slide.
    Close,
}

/// Slide worker to page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SlideEvent {
    /// The worker's code is there.
    Loaded,
    /// A slide is open.
    Opened {
        /// The request.
        id: u32,
        /// What it is.
        slide: SlideSummary,
    },
    /// An image that needs no slide worker: one resolution, and small enough for the engine.
    Plain {
        /// The request.
        id: u32,
    },
    /// The file cannot be opened as a slide.
    Refused {
        /// The request.
        id: u32,
        /// What was expected and what was found, for people.
        message: String,
    },
    /// The slide in little, with its RGBA values: first a part of it, where reading all takes long.
    Overview {
        /// The request that opened the slide.
        id: u32,
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// Rows that are read.
        rows_done: u32,
    },
    /// A piece of the view comes with it.
    Tile {
        /// Which.
        tile: TileKey,
    },
    /// A piece of the view cannot be read.
    TileFailed {
        /// Which.
        tile: TileKey,
        /// Why, for people.
        message: String,
    },
    /// How far a region is read.
    RegionProgress {
        /// The request.
        id: u32,
        /// Rows of the output that are read.
        done: u32,
        /// Rows of the output.
        total: u32,
    },
    /// A region's RGB values come with it.
    Region {
        /// The request.
        id: u32,
    },
    /// A region cannot be read.
    RegionFailed {
        /// The request.
        id: u32,
        /// Why, for people.
        message: String,
    },
}
