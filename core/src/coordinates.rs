//! Places on a slide. Each type names its space; every conversion is a `*_from_*` function.

use serde::{Deserialize, Serialize};

/// A point in full-resolution pixels of the slide image: `x` is the column, `y` the row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlidePx {
    /// Column, in pixels from the left edge.
    pub x: f64,
    /// Row, in pixels from the top edge.
    pub y: f64,
}

/// A point in µm from the slide image's top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlideUm {
    /// To the right, in µm.
    pub x: f64,
    /// Downwards, in µm.
    pub y: f64,
}

/// A tile of a square grid anchored at the slide's top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Row of the grid.
    pub row: i64,
    /// Column of the grid.
    pub col: i64,
}

/// µm from pixels.
pub fn um_from_px(point_px: SlidePx, um_per_px: f64) -> SlideUm {
    SlideUm { x: point_px.x * um_per_px, y: point_px.y * um_per_px }
}

/// Pixels from µm.
pub fn px_from_um(point_um: SlideUm, um_per_px: f64) -> SlidePx {
    SlidePx { x: point_um.x / um_per_px, y: point_um.y / um_per_px }
}

/// The tile of pitch `tile_um` that holds the point.
pub fn tile_from_um(point_um: SlideUm, tile_um: f64) -> Tile {
    Tile { row: (point_um.y / tile_um).floor() as i64, col: (point_um.x / tile_um).floor() as i64 }
}

/// The centre of a tile of pitch `tile_um`.
pub fn um_from_tile(tile: Tile, tile_um: f64) -> SlideUm {
    SlideUm { x: (tile.col as f64 + 0.5) * tile_um, y: (tile.row as f64 + 0.5) * tile_um }
}
