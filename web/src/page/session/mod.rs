//! The page's side without a document: it talks to the engine, recovers it, fetches models, and holds the state that
//! a view shows.

#[cfg(target_arch = "wasm32")]
pub mod state;
