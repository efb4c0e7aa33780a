//! Values to pictures: colours, legends, scale bars, maps. Pure functions over buffers; nothing here knows a file or
//! a screen.
//!
//! [`panel`] draws the marks alone, to be put into a page that has its own title and legend; [`figure`] adds title,
//! legend with units, scale bar and note, and stands on its own.

pub mod canvas;
pub mod color_map;
pub mod figure;
pub mod panel;
pub mod scale;
pub mod text;

pub use canvas::Canvas;
pub use color_map::ColorMap;
pub use figure::{MapFigure, PREDICTED_NOTE};
pub use panel::{Backdrop, Mark, Panel, PanelConfig, View};
pub use scale::{ScaleBar, Tick, ValueRange, ticks};

/// What can be wrong with a picture that is asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeatmapError {
    /// Two lists that must agree in length do not.
    #[error("map: expected one value for each of {centers} places, found {values} values")]
    Lengths {
        /// Number of places.
        centers: usize,
        /// Number of values.
        values: usize,
    },
    /// A setting out of its range.
    #[error("map: {field}: expected {expected}, found {found}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// The slide behind the marks could not be read.
    #[error("map: {0}")]
    Backdrop(#[from] crate::slide::SlideError),
    /// The values to be drawn could not be read.
    #[error("map: the values could not be read: {0}")]
    Values(String),
    /// The picture could not be written as PNG, or its font could not be read.
    #[error("map: {0}")]
    Encoding(String),
}
