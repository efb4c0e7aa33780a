//! What the user sees: the elements of one viewer, drawn from the session's state and from what the user chose to
//! look at.
//!
//! `Viewer` holds the parts and tells them when to change; `wire` turns what the user does into actions. Everything
//! that is arithmetic or text stands in modules without a document, so that it is tested natively.

pub mod camera;
pub mod deep_zoom;
pub mod genes;
pub mod lattice;
pub mod look;
pub mod palette;
pub mod region_shape;
pub mod words;

#[cfg(target_arch = "wasm32")]
mod about;
#[cfg(target_arch = "wasm32")]
mod attributes;
#[cfg(target_arch = "wasm32")]
mod details;
#[cfg(target_arch = "wasm32")]
mod dom;
#[cfg(target_arch = "wasm32")]
mod drawing;
#[cfg(target_arch = "wasm32")]
mod export_bar;
#[cfg(target_arch = "wasm32")]
mod gene_list;
#[cfg(target_arch = "wasm32")]
mod layers;
#[cfg(target_arch = "wasm32")]
mod panel;
#[cfg(target_arch = "wasm32")]
mod pixel_size;
#[cfg(target_arch = "wasm32")]
mod region_bar;
#[cfg(target_arch = "wasm32")]
mod runbar;
#[cfg(target_arch = "wasm32")]
mod show;
#[cfg(target_arch = "wasm32")]
mod stage;
#[cfg(target_arch = "wasm32")]
mod tiles;
#[cfg(target_arch = "wasm32")]
mod topbar;
#[cfg(target_arch = "wasm32")]
mod values;
#[cfg(target_arch = "wasm32")]
mod viewer;
#[cfg(target_arch = "wasm32")]
mod wire;
#[cfg(target_arch = "wasm32")]
mod wire_map;
#[cfg(target_arch = "wasm32")]
mod wire_region;

#[cfg(target_arch = "wasm32")]
pub use viewer::{Viewer, mount};
