//! The slide worker, seen from the page.

use js_sys::Array;
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::client::text_of;
use super::problem::{Problem, ProblemKind};
use crate::page::listener::EventListener;
use crate::slide::messages::{SlideEvent, SlideRequest};

/// What the slide worker says.
#[derive(Debug)]
pub enum SlideWord {
    /// An event, with the pixels or the picture that belongs to it.
    Event(Box<SlideEvent>, Option<JsValue>),
    /// The worker ended, or cannot be understood.
    Died(String),
}

/// The slide worker. Dropping it ends it.
#[derive(Debug)]
pub struct SlideClient {
    worker: Worker,
    _listeners: [EventListener; 3],
}

impl SlideClient {
    /// Starts a worker; `hear` gets what it says.
    ///
    /// # Errors
    /// If the browser starts none.
    pub fn spawn(url: &str, hear: impl Fn(SlideWord) + Clone + 'static) -> Result<Self, Problem> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        options.set_name("magnet-slide");
        let worker = Worker::new_with_options(url, &options).map_err(|error| {
            let text = text_of(&error);
            Problem::new(
                ProblemKind::Internal,
                format!("The slide reader cannot be started from {url}: {text}"),
            )
        })?;
        let on_message = {
            let hear = hear.clone();
            move |event: &web_sys::Event| {
                if let Some(event) = event.dyn_ref::<MessageEvent>() {
                    hear(read(&event.data()));
                }
            }
        };
        let on_error = {
            let hear = hear.clone();
            move |event: &web_sys::Event| {
                event.prevent_default();
                let text = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).unwrap_or_default();
                hear(SlideWord::Died(text));
            }
        };
        let on_unreadable =
            move |_: &web_sys::Event| hear(SlideWord::Died("a message could not be read".into()));
        let listeners = [
            EventListener::new(&worker, "message", on_message),
            EventListener::new(&worker, "error", on_error),
            EventListener::new(&worker, "messageerror", on_unreadable),
        ];
        Ok(Self { worker, _listeners: listeners })
    }

    /// Sends a request, with the slide where it opens one. That it cannot be sent is a fault of the program.
    pub fn send(&self, request: &SlideRequest, source: Option<&JsValue>) {
        let source = source.cloned().unwrap_or(JsValue::UNDEFINED);
        let sent = request
            .serialize(&serde_wasm_bindgen::Serializer::new())
            .map_err(JsValue::from)
            .and_then(|request| self.worker.post_message(&Array::of2(&request, &source)));
        if let Err(error) = sent {
            web_sys::console::error_1(&error);
        }
    }
}

impl Drop for SlideClient {
    fn drop(&mut self) {
        self.worker.terminate();
    }
}

/// Reads a message.
fn read(data: &JsValue) -> SlideWord {
    let parts: &Array = data.unchecked_ref();
    match serde_wasm_bindgen::from_value(parts.get(0)) {
        Ok(event) => SlideWord::Event(Box::new(event), Some(parts.get(1)).filter(JsValue::is_object)),
        Err(error) => SlideWord::Died(format!("the slide reader said what the page does not know: {error}")),
    }
}
