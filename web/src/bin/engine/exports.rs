//! What JavaScript can call.

use js_sys::Array;
use magnet_web::engine::worker;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// Answers the page of the worker that this is called in; `arrived` are messages that came before. For
/// `engine-worker.js`.
///
/// # Errors
/// If this is no dedicated worker.
#[wasm_bindgen(skip_typescript)]
pub fn serve(arrived: Array) -> Result<(), JsValue> {
    // Owned: a borrowed value would be passed by an instruction that older versions of wasm-opt do not read.
    worker::serve(&arrived)
}
