//! MagNet in a browser tab: the engine, which holds the model in a worker of its own, and the page, which draws and
//! asks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub use magnet_core;

pub mod protocol;

#[cfg(all(target_arch = "wasm32", feature = "engine"))]
pub mod engine;
pub mod page;
