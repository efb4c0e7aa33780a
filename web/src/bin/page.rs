//! The page as a wasm module: what it exports stands here, so that the engine's module, which shares the library, gets
//! none of it.

#[cfg(target_arch = "wasm32")]
#[path = "page/exports.rs"]
mod exports;

// The module does nothing by itself: whoever loads it calls an export.
fn main() {}
