//! What the element's events tell a page.

use js_sys::{Array, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::JsValue;

use super::look::Look;
use crate::page::session::state::{Phase, Running, State};

/// A plain object with these fields.
pub fn object<const N: usize>(fields: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Fails only on objects that are sealed.
        let _ = Reflect::set(&object, &name.into(), &value);
    }
    object.into()
}

/// A field of an object as text.
pub fn text(object: &JsValue, name: &str) -> Option<String> {
    Reflect::get(object, &name.into()).ok()?.as_string()
}

/// Whether a field of an object is `true`.
pub fn flag(object: &JsValue, name: &str) -> Option<bool> {
    Reflect::get(object, &name.into()).ok()?.as_bool()
}

/// A serialisable value as a plain object.
pub fn plain(value: &impl Serialize) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}

/// The `progress` event.
pub fn progress(running: &Running) -> JsValue {
    let progress = running.progress;
    object([
        ("done", (progress.done as f64).into()),
        ("total", (progress.total as f64).into()),
        ("binsDone", (progress.bins_done as f64).into()),
        ("binsTotal", (progress.bins_total as f64).into()),
        ("tilesPerSecond", running.tiles_per_s.into()),
        ("remainingSeconds", running.remaining_s.map_or(JsValue::NULL, JsValue::from)),
        ("elapsedSeconds", running.elapsed_s.into()),
    ])
}

/// The `result` event; `None` where there is no result.
pub fn result(state: &State, look: &Look) -> Option<JsValue> {
    let result = state.result?;
    let symbols = state.model.as_ref().map(|model| &model.symbols);
    let genes: Array = look
        .genes
        .iter()
        .filter_map(|&gene| symbols?.get(gene))
        .map(|symbol| JsValue::from_str(symbol))
        .collect();
    Some(object([
        ("complete", result.complete.into()),
        ("seconds", result.seconds.into()),
        ("binsDone", (result.progress.bins_done as f64).into()),
        ("binsTotal", (result.progress.bins_total as f64).into()),
        ("device", state.device.as_ref().map_or(JsValue::NULL, |report| plain(&report.device))),
        ("model", state.model.as_ref().map_or(JsValue::NULL, |model| model.sha256.as_str().into())),
        (
            "image",
            state
                .image
                .as_ref()
                .map_or(JsValue::NULL, |image| image.sha256.as_deref().map_or(JsValue::NULL, JsValue::from)),
        ),
        ("level", look.level.name().into()),
        ("genes", genes.into()),
    ]))
}

/// The name of the state that the host's `data-state` gives.
pub fn state_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Starting
        | Phase::LoadingModel { .. }
        | Phase::OpeningModel
        | Phase::OpeningImage
        | Phase::ReadingRegion { .. } => "loading",
        Phase::NeedsModel | Phase::NeedsImage | Phase::NeedsRegion | Phase::NeedsPixelSize | Phase::Ready => {
            "ready"
        }
        Phase::Predicting(_) | Phase::Cancelling(_) => "running",
        Phase::Done { complete: true } => "done",
        Phase::Done { complete: false } => "partial",
        Phase::Failed => "error",
    }
}
