//! The page.

#[cfg(target_arch = "wasm32")]
mod listener;
pub mod session;
pub mod view;
