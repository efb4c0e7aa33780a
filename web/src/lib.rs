//! MagNet in a browser tab.
//!
//! The engine worker and the page are still to come; this crate keeps the promise that the shared core compiles for
//! `wasm32-unknown-unknown`, together with the one setting that a browser build needs (random numbers from the page).

pub use magnet_core;
