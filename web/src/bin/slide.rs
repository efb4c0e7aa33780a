//! The slide reader as a wasm module: what it exports stands here, so that the other modules, which share the library,
//! get none of it.

#[cfg(target_arch = "wasm32")]
#[path = "slide/exports.rs"]
mod exports;

// The module does nothing by itself: whoever loads it calls an export.
fn main() {}
