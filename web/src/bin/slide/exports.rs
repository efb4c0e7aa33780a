//! What JavaScript can call.

use js_sys::Array;
use magnet_web::slide::worker;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// Answers the page of the worker that this is called in; `arrived` are messages that came before. For
/// `slide-worker.js`.
///
/// # Errors
/// If this is no dedicated worker.
#[wasm_bindgen(skip_typescript)]
pub fn serve(arrived: Array) -> Result<(), JsValue> {
    worker::serve(&arrived)
}
