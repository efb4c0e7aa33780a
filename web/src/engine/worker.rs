//! The door for our own page: messages in, messages out, one long request at a time.
//!
//! While a run goes on, requests that only read its results are answered between its steps; all others wait until it
//! has ended, but for [`Request::Cancel`], which ends it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::{Array, Float32Array, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use super::export::ExportOptions;
use super::signal::Signal;
use super::{Engine, EngineError, Finished};
use crate::clock::{now_ms, yield_to_events};
use crate::protocol::{BYTES, BatchLimits, ErrorCode, Event, Request, VALUES};

thread_local! {
    /// Whether the page has heard of a fault of the device since the request at hand began.
    static FAULT_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Binary content of a message.
#[derive(Debug, Default)]
enum Payload {
    #[default]
    None,
    Bytes(Vec<u8>),
    Values(Vec<f32>),
}

/// A request with the JavaScript array that came with it. It enters the module's memory only when its turn comes.
struct Letter {
    request: Request,
    bytes: Option<Uint8Array>,
}

/// The worker's side of the conversation.
struct Worker {
    scope: DedicatedWorkerGlobalScope,
    letters: RefCell<VecDeque<Letter>>,
    /// Whether somebody is reading the letters.
    reading: Cell<bool>,
    /// Raised to end the run that goes on.
    cancel: Signal,
    /// Whether a run goes on, so that a cancel is for it.
    running: Cell<bool>,
}

/// Answers the page from now on; first the messages in `arrived`, which came before.
///
/// # Errors
/// If this is no dedicated worker.
pub fn serve(arrived: &Array) -> Result<(), JsValue> {
    crate::panic::report_panics();
    let scope: DedicatedWorkerGlobalScope = js_sys::global()
        .dyn_into()
        .map_err(|_| js_sys::Error::new("serve: expected a dedicated worker, found another place"))?;
    let worker = Rc::new(Worker {
        scope: scope.clone(),
        letters: RefCell::default(),
        reading: Cell::new(false),
        cancel: Signal::default(),
        running: Cell::new(false),
    });
    let engine = Rc::new(RefCell::new(None));
    let receive = {
        let worker = Rc::clone(&worker);
        move |data: JsValue| {
            worker.receive(&data);
            if !worker.reading.replace(true) {
                let (worker, engine) = (Rc::clone(&worker), Rc::clone(&engine));
                wasm_bindgen_futures::spawn_local(async move {
                    // Nobody else reads, so nobody else holds the engine.
                    let mut own = engine.borrow_mut().take();
                    worker.read_letters(&mut own).await;
                    *engine.borrow_mut() = own;
                    worker.reading.set(false);
                });
            }
        }
    };
    arrived.iter().for_each(&receive);
    let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| receive(event.data()));
    scope.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The worker lives as long as its scope.
    on_message.forget();
    Ok(())
}

impl Worker {
    /// Puts a message where it is read in its turn.
    fn receive(&self, data: &JsValue) {
        let field = JsValue::from_str(BYTES);
        let bytes = Reflect::get(data, &field).ok().and_then(|bytes| bytes.dyn_into::<Uint8Array>().ok());
        // Out of the object, or reading its other fields would copy the bytes.
        if bytes.is_some() {
            let _ = Reflect::delete_property::<js_sys::Object>(data.unchecked_ref(), &field);
        }
        match serde_wasm_bindgen::from_value(data.clone()) {
            Ok(Request::Cancel) => {
                if self.running.get() {
                    self.cancel.raise();
                }
            }
            Ok(request) => {
                // Set here, not when its turn comes, so that a cancel that follows at once is for it.
                if matches!(request, Request::Predict { .. }) {
                    self.running.set(true);
                }
                self.letters.borrow_mut().push_back(Letter { request, bytes });
            }
            Err(error) => self.fail(EngineError::state("a request of the protocol", &error.to_string())),
        }
    }

    async fn read_letters(&self, engine: &mut Option<Engine>) {
        loop {
            let Some(letter) = self.letters.borrow_mut().pop_front() else { return };
            FAULT_TOLD.set(false);
            if let Err(error) = self.answer(engine, letter).await {
                self.fail(error);
            }
        }
    }

    async fn answer(&self, engine: &mut Option<Engine>, letter: Letter) -> Result<(), EngineError> {
        let bytes = || {
            let bytes = letter.bytes.as_ref().map(Uint8Array::to_vec);
            bytes.ok_or_else(|| EngineError::state("bytes in the message", "none"))
        };
        if let Request::Start { device } = letter.request {
            if engine.is_some() {
                return Err(EngineError::state("an engine without a device", "one that has its device"));
            }
            let started = engine.insert(Engine::start(device, report_fault).await?);
            self.post(&Event::Ready { report: started.device().clone() }, Payload::None);
            return Ok(());
        }
        let engine = engine.as_mut().ok_or_else(|| EngineError::state("a device", "none"))?;
        match letter.request {
            Request::Start { .. } | Request::Cancel => {}
            Request::OpenModel { name } => {
                let model = engine.open_model(&bytes()?, name).await?.clone();
                self.post(&Event::ModelOpened { model }, Payload::None);
            }
            Request::OpenImage { name, um_per_px } => {
                let (image, preview) = engine.open_image(bytes()?, name, um_per_px)?;
                self.post(&Event::ImageOpened { image }, Payload::Bytes(preview.rgba));
            }
            Request::OpenPixels { name, width_px, height_px, um_per_px, frame } => {
                // Before they are copied: two images at once may be more than the memory holds.
                engine.close_image();
                let image = engine.open_pixels(bytes()?, name, (width_px, height_px), um_per_px, frame)?;
                self.post(&Event::ImageOpened { image }, Payload::None);
            }
            Request::SetPixelSize { um_per_px } => {
                let image = engine.set_pixel_size(um_per_px)?;
                self.post(&Event::ImageOpened { image }, Payload::None);
            }
            Request::Restore => engine.restore(&bytes()?)?,
            Request::Predict { limits } => {
                let result = self.predict(engine, limits).await;
                self.running.set(false);
                self.cancel.lower();
                result?;
            }
            request @ (Request::Values { .. } | Request::Export { .. }) => self.show(engine, request)?,
        }
        Ok(())
    }

    /// Answers a request that only reads.
    fn show(&self, engine: &Engine, request: Request) -> Result<(), EngineError> {
        match request {
            Request::Values { level, gene } => {
                let found = engine.values(level, gene)?;
                let (low, high) = found.range;
                self.post(&Event::Values { level, gene, low, high }, Payload::Values(found.values));
            }
            Request::Export { export, level, genes, style } => {
                let file = engine.export(&ExportOptions { kind: export, level, genes, style })?;
                let event = Event::Exported { export, name: file.name, media_type: file.media_type.into() };
                self.post(&event, Payload::Bytes(file.bytes));
            }
            _ => {}
        }
        Ok(())
    }

    /// A run from its plan to its end, or to a cancel.
    async fn predict(&self, engine: &mut Engine, limits: BatchLimits) -> Result<(), EngineError> {
        let began = now_ms();
        let Some(plan) = self.cancel.unless_raised(engine.plan(limits)).await else {
            let seconds = (now_ms() - began) / 1000.0;
            self.post(
                &Event::Finished { complete: false, seconds, deviation: Default::default() },
                Payload::None,
            );
            return Ok(());
        };
        let plan = plan?;
        let estimated_s = self.cancel.unless_raised(engine.estimate()).await.transpose()?;
        let planned = Event::Planned { nodes: plan.nodes, estimated_s };
        self.post(&planned, Payload::Values(plan.centers_px));
        self.post(&Event::Progress { progress: engine.progress() }, Payload::None);
        while !engine.is_complete() && !self.cancel.is_raised() {
            let Some(step) = self.cancel.unless_raised(engine.step()).await else { break };
            let step = step?;
            if let Some(piece) = step.piece {
                self.post(&Event::Piece, Payload::Bytes(piece));
            }
            self.post(&Event::Progress { progress: step.progress }, Payload::None);
            yield_to_events().await;
            self.show_meanwhile(engine);
        }
        let Finished { complete, deviation, .. } = engine.finish()?;
        let seconds = (now_ms() - began) / 1000.0;
        self.post(&Event::Finished { complete, seconds, deviation }, Payload::None);
        Ok(())
    }

    /// Answers what waits and only reads, up to the first request that does more: order is kept.
    fn show_meanwhile(&self, engine: &Engine) {
        loop {
            let letter = {
                let mut letters = self.letters.borrow_mut();
                let reads = |letter: &Letter| {
                    matches!(letter.request, Request::Values { .. } | Request::Export { .. })
                };
                if !letters.front().is_some_and(reads) {
                    return;
                }
                letters.pop_front()
            };
            let Some(letter) = letter else { return };
            if let Err(error) = self.show(engine, letter.request) {
                self.fail(error);
            }
        }
    }

    fn post(&self, event: &Event, payload: Payload) {
        post(&self.scope, event, payload);
    }

    fn fail(&self, error: EngineError) {
        // A fault of the device is told when it happens; the request that it ends need not tell it again.
        let of_device = matches!(error.code, ErrorCode::DeviceLost | ErrorCode::OutOfMemory);
        if !(of_device && FAULT_TOLD.get()) {
            self.post(&error.into_event(), Payload::None);
        }
    }
}

/// Tells the page of a device's fault the moment it is known, also while nothing runs.
fn report_fault(fault: &EngineError) {
    FAULT_TOLD.set(true);
    if let Ok(scope) = js_sys::global().dyn_into::<DedicatedWorkerGlobalScope>() {
        post(&scope, &fault.clone().into_event(), Payload::None);
    }
}

fn post(scope: &DedicatedWorkerGlobalScope, event: &Event, payload: Payload) {
    let serializer = serde_wasm_bindgen::Serializer::new();
    let sent = event.serialize(&serializer).map_err(JsValue::from).and_then(|message| {
        let content = match payload {
            Payload::None => None,
            Payload::Bytes(bytes) => {
                let array = Uint8Array::from(bytes.as_slice());
                let buffer = array.buffer();
                Some((BYTES, JsValue::from(array), buffer))
            }
            Payload::Values(values) => {
                let array = Float32Array::from(values.as_slice());
                let buffer = array.buffer();
                Some((VALUES, JsValue::from(array), buffer))
            }
        };
        match content {
            None => scope.post_message(&message),
            Some((field, array, buffer)) => {
                Reflect::set(&message, &JsValue::from_str(field), &array)?;
                scope.post_message_with_transfer(&message, &Array::of1(&buffer))
            }
        }
    });
    if let Err(error) = sent {
        // The page would wait for ever; as an error of the worker it hears of it.
        wasm_bindgen::throw_val(error);
    }
}
