//! Engines: workers that are started, asked, and ended.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Array, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::mailbox::Mailbox;
use super::problem::{Problem, ProblemKind};
use crate::page::listener::EventListener;
use crate::protocol::{BYTES, Event, Request, VALUES};

/// What comes in at the session.
#[derive(Debug)]
pub enum Input {
    /// The user wants something else than before.
    Wake,
    /// Something from an engine; the number names the engine.
    Engine(u32, Word),
}

/// What an engine says.
#[derive(Debug)]
pub enum Word {
    /// An event, with its `bytes` or `values`.
    Event(Box<Event>, Option<JsValue>),
    /// The worker ended, or cannot be understood.
    Died(String),
}

/// One worker. Dropping it ends it, which gives its memory back.
#[derive(Debug)]
pub struct Client {
    /// Unlike that of every other worker of the session.
    pub id: u32,
    worker: Worker,
    loaded: Rc<Cell<bool>>,
    _listeners: [EventListener; 3],
}

impl Client {
    /// Starts a worker that reports to a mailbox.
    fn spawn(id: u32, url: &str, mailbox: &Rc<Mailbox<Input>>) -> Result<Self, Problem> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        options.set_name("magnet-engine");
        let worker = Worker::new_with_options(url, &options).map_err(|error| {
            Problem::new(
                ProblemKind::Internal,
                format!("The engine's worker cannot be started from {url}: {}", text_of(&error)),
            )
        })?;
        let loaded = Rc::new(Cell::new(false));
        let on_message = {
            let (mailbox, loaded) = (mailbox.clone(), loaded.clone());
            move |event: &web_sys::Event| {
                let Some(event) = event.dyn_ref::<MessageEvent>() else { return };
                let word = read(&event.data());
                if matches!(&word, Word::Event(event, _) if matches!(**event, Event::Loaded { .. })) {
                    loaded.set(true);
                }
                mailbox.put(Input::Engine(id, word));
            }
        };
        let on_error = {
            let mailbox = mailbox.clone();
            move |event: &web_sys::Event| {
                let text = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).unwrap_or_default();
                mailbox.put(Input::Engine(id, Word::Died(text)));
            }
        };
        let on_unreadable = {
            let mailbox = mailbox.clone();
            move |_: &web_sys::Event| {
                mailbox.put(Input::Engine(id, Word::Died("a message could not be read".into())));
            }
        };
        let listeners = [
            EventListener::new(&worker, "message", on_message),
            EventListener::new(&worker, "error", on_error),
            EventListener::new(&worker, "messageerror", on_unreadable),
        ];
        Ok(Self { id, worker, loaded, _listeners: listeners })
    }

    /// Whether the worker's script has said that it is there.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If it cannot be cloned, which is a fault of the program.
    pub fn send(&self, request: &Request) -> Result<(), Problem> {
        self.worker.post_message(&message(request)?).map_err(not_sent)
    }

    /// Sends a request with bytes, which are copied.
    ///
    /// # Errors
    /// If there is no memory for a copy.
    pub fn send_copy(&self, request: &Request, bytes: &Uint8Array) -> Result<(), Problem> {
        let message = message(request)?;
        attach(&message, bytes)?;
        self.worker.post_message(&message).map_err(not_sent)
    }

    /// Sends a request with bytes, which are the engine's from then on.
    ///
    /// # Errors
    /// If they cannot be transferred, which is a fault of the program.
    pub fn send_bytes(&self, request: &Request, bytes: &Uint8Array) -> Result<(), Problem> {
        let message = message(request)?;
        attach(&message, bytes)?;
        self.worker.post_message_with_transfer(&message, &Array::of1(&bytes.buffer())).map_err(not_sent)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.terminate();
    }
}

/// The engine that works, and one that waits to take its place without asking the network for anything.
#[derive(Debug)]
pub struct Engines {
    url: String,
    mailbox: Rc<Mailbox<Input>>,
    next_id: u32,
    current: Option<Client>,
    spare: Option<Client>,
}

impl Engines {
    /// None yet; they will be started from `url`.
    pub fn new(url: String, mailbox: Rc<Mailbox<Input>>) -> Self {
        Self { url, mailbox, next_id: 0, current: None, spare: None }
    }

    /// The engine that works.
    pub fn current(&self) -> Option<&Client> {
        self.current.as_ref()
    }

    /// Ends the engine that works, if there is one.
    pub fn end_current(&mut self) {
        self.current = None;
    }

    /// Makes a new engine the one that works: the spare one, where it is there.
    ///
    /// # Errors
    /// If no worker can be started.
    pub fn replace_current(&mut self) -> Result<(), Problem> {
        // The old one goes first: two at once may be more than the memory holds.
        self.current = None;
        self.current = Some(match self.spare.take() {
            Some(spare) => spare,
            None => self.spawn()?,
        });
        Ok(())
    }

    /// Starts a spare engine where there is none. It loads its code and then waits. That none can be started is no
    /// error: one may never be needed.
    pub fn prepare_spare(&mut self) {
        if self.spare.is_none() {
            self.spare = self.spawn().ok();
        }
    }

    /// Whether there is a spare engine that still loads its code.
    pub fn spare_is_loading(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| !spare.is_loaded())
    }

    /// Forgets the spare engine `id`, if it is that one.
    pub fn drop_spare(&mut self, id: u32) {
        self.spare.take_if(|spare| spare.id == id);
    }

    fn spawn(&mut self) -> Result<Client, Problem> {
        self.next_id += 1;
        Client::spawn(self.next_id, &self.url, &self.mailbox)
    }
}

/// The message of a request.
fn message(request: &Request) -> Result<JsValue, Problem> {
    request.serialize(&serde_wasm_bindgen::Serializer::new()).map_err(|error| not_sent(error.into()))
}

fn attach(message: &JsValue, bytes: &Uint8Array) -> Result<(), Problem> {
    Reflect::set(message, &BYTES.into(), bytes).map(|_| ()).map_err(not_sent)
}

fn not_sent(error: JsValue) -> Problem {
    Problem::new(
        ProblemKind::Internal,
        format!("A request cannot be sent to the engine: {}", text_of(&error)),
    )
}

/// Reads a message; its binary part is taken out first, because it would be copied byte by byte otherwise.
fn read(data: &JsValue) -> Word {
    let binary = [BYTES, VALUES].into_iter().find_map(|field| {
        let field = JsValue::from_str(field);
        let value = Reflect::get(data, &field).ok().filter(JsValue::is_object)?;
        Reflect::delete_property(data.unchecked_ref::<js_sys::Object>(), &field).ok()?;
        Some(value)
    });
    match serde_wasm_bindgen::from_value(data.clone()) {
        Ok(event) => Word::Event(Box::new(event), binary),
        Err(error) => Word::Died(format!("the engine said what the page does not know: {error}")),
    }
}

/// An exception in words.
pub(super) fn text_of(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => Reflect::get(error, &"message".into())
            .ok()
            .and_then(|message| message.as_string())
            .or_else(|| error.as_string())
            .unwrap_or_else(|| "an unknown error".into()),
    }
}
