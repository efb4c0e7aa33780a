//! Slides that are too large for memory: a worker of their own reads them where they lie, piece by piece.
//!
//! The worker holds core's pyramid reader over ranges of a file or an address. It answers for small pieces of the view
//! at once, also while it reads a region for the engine; it knows neither model nor screen.

pub mod messages;
pub mod view_levels;

#[cfg(target_arch = "wasm32")]
mod reading;
#[cfg(target_arch = "wasm32")]
mod source;
#[cfg(target_arch = "wasm32")]
pub mod worker;
