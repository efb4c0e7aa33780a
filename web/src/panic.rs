//! The end of the program, said in words.

use std::sync::Once;

use wasm_bindgen::JsValue;

/// The name of the JavaScript error that a panic becomes.
const ERROR_NAME: &str = "MagnetPanic";

/// From now on a panic becomes a JavaScript error that holds the panic's message and place. Without it all that arrives
/// is `unreachable executed`; with it, that trap means one thing only: the memory of the module is exhausted.
pub fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let error = js_sys::Error::new(&panic.to_string());
            error.set_name(ERROR_NAME);
            wasm_bindgen::throw_val(JsValue::from(error));
        }));
    });
}
