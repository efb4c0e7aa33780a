//! Time, and turns of the event loop.

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::MessageChannel;

/// Milliseconds since some fixed moment; 0 where the place has no clock.
#[cfg(feature = "engine")]
pub fn now_ms() -> f64 {
    use wasm_bindgen::JsCast;
    js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("performance"))
        .ok()
        .and_then(|performance| performance.dyn_into::<web_sys::Performance>().ok())
        .map_or(0.0, |performance| performance.now())
}

/// Lets everything that waits in the event loop, messages above all, have its turn. A timer would do too, but browsers
/// hold repeated timers back by 4 ms.
pub async fn yield_to_events() {
    let Ok(channel) = MessageChannel::new() else { return };
    let promise = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        // A message without content: nothing in it can fail to be cloned.
        let _ = channel.port2().post_message(&JsValue::NULL);
    });
    // The promise has no way to be rejected.
    let _ = JsFuture::from(promise).await;
    channel.port1().close();
}
