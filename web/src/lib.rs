//! MagNet in a browser tab: the engine, which holds the model in a worker of its own, the slide
//! reader, which has one too, and the page, which draws and asks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub use magnet_core;

pub mod protocol;
pub mod slide;

#[cfg(target_arch = "wasm32")]
mod clock;
#[cfg(target_arch = "wasm32")]
mod panic;

#[cfg(all(target_arch = "wasm32", feature = "engine"))]
pub mod engine;
pub mod page;
