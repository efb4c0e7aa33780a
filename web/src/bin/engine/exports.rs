//! What JavaScript can call.

use js_sys::Array;
use magnet_web::engine::worker;
#[cfg(feature = "bench")]
use magnet_web::{engine::BenchEncoder, protocol::DeviceChoice};
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

/// An encoder alone, for `tests/bench/browser`.
#[cfg(feature = "bench")]
#[wasm_bindgen(skip_typescript)]
#[derive(Debug)]
pub struct Encoder(BenchEncoder);

#[cfg(feature = "bench")]
#[wasm_bindgen]
impl Encoder {
    /// Opens an encoder on the GPU or the CPU; see [`BenchEncoder::open`].
    ///
    /// # Errors
    /// What was expected and what was found, in words.
    #[wasm_bindgen(skip_typescript)]
    pub async fn open(gpu: bool, weights: Vec<u8>, frozen: bool) -> Result<Encoder, String> {
        let choice = if gpu { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
        let encoder = BenchEncoder::open(choice, weights, frozen).await;
        encoder.map(Encoder).map_err(|error| error.to_string())
    }

    /// The vectors of patches; see [`BenchEncoder::encode`].
    ///
    /// # Errors
    /// What was expected and what was found, in words.
    #[wasm_bindgen(skip_typescript)]
    pub async fn encode(&self, rgb: Vec<u8>, side_px: usize) -> Result<Vec<f32>, String> {
        self.0.encode(&rgb, side_px).await.map_err(|error| error.to_string())
    }
}
