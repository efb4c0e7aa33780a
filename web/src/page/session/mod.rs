//! The page's side without a document: it talks to the engine, recovers it, fetches models, and holds the state that
//! a view shows.
//!
//! An action writes down what is wanted ([`plan::Wanted`]); one loop (`drive`) asks the engine for it, step by step,
//! and starts a new engine where the old one is lost ([`recovery`]).

pub mod catalogue;
pub mod plan;
pub mod problem;
pub mod rate;
pub mod recovery;
pub mod region;

#[cfg(target_arch = "wasm32")]
mod actions;
#[cfg(target_arch = "wasm32")]
mod client;
#[cfg(target_arch = "wasm32")]
mod drive;
#[cfg(target_arch = "wasm32")]
mod engine_steps;
#[cfg(target_arch = "wasm32")]
mod handle;
#[cfg(target_arch = "wasm32")]
mod loading;
#[cfg(any(test, target_arch = "wasm32"))]
mod mailbox;
#[cfg(target_arch = "wasm32")]
mod slide;
#[cfg(target_arch = "wasm32")]
mod slide_client;
#[cfg(target_arch = "wasm32")]
pub mod state;
#[cfg(target_arch = "wasm32")]
mod store;
#[cfg(any(test, target_arch = "wasm32"))]
mod value_cache;
#[cfg(target_arch = "wasm32")]
mod work;

#[cfg(target_arch = "wasm32")]
pub use handle::{Session, SessionOptions};
