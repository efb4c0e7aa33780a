//! Hears events of a page or a worker.
//!
//! As gloo's listener, but the browser hands the event over instead of lending it: for lent values wasm-bindgen emits
//! `table.fill`, which the `wasm-opt` of Debian 12 cannot read.

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{AddEventListenerOptions, Event, EventTarget};

/// Hears one kind of event until it is dropped.
#[derive(Debug)]
pub struct EventListener {
    target: EventTarget,
    kind: &'static str,
    callback: Closure<dyn FnMut(Event)>,
}

impl EventListener {
    /// Calls `act` for each event of `kind`; it may prevent what the browser would do.
    pub fn new(target: &EventTarget, kind: &'static str, mut act: impl FnMut(&Event) + 'static) -> Self {
        let callback = Closure::<dyn FnMut(Event)>::new(move |event: Event| act(&event));
        let options = AddEventListenerOptions::new();
        options.set_passive(false);
        // This fails for no target and no kind.
        let _ = target.add_event_listener_with_callback_and_add_event_listener_options(
            kind,
            callback.as_ref().unchecked_ref(),
            &options,
        );
        Self { target: target.clone(), kind, callback }
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let callback = self.callback.as_ref().unchecked_ref();
        let _ = self.target.remove_event_listener_with_callback(self.kind, callback);
    }
}
