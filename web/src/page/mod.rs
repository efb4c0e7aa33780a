//! The page.

pub mod session;
#[cfg(target_arch = "wasm32")]
pub mod view;
