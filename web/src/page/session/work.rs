//! What a session wants of the engine, what there is, and what lies between.

use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::Uint8Array;
use magnet_core::Level;
use web_sys::Blob;

use super::mailbox::Reply;
use super::plan::{Held, Revision, Wanted, WantedRun};
use super::problem::{Problem, ProblemKind};
use super::rate::Rate;
use super::recovery::Recovery;
use super::state::{ExportedFile, GeneValues, Running};
use super::store::Download;
use crate::protocol::{BatchLimits, DeviceChoice, Request};
use crate::slide::messages::RegionWindow;

/// Bytes from somewhere, which are read anew for each engine. The browser holds them, and may do so on disk.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub blob: Blob,
}

/// What an engine is to hold as its image.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// A file, which it decodes.
    File(Source),
    /// A part of the open slide, which the slide worker reads anew for each engine; with the slide's name.
    Region(String, RegionWindow),
}

/// What was open before something else was asked for. It comes back where that is refused.
#[derive(Debug)]
pub struct Kept {
    pub wanted: Wanted,
    model: Option<Source>,
    image: Option<ImageSource>,
    pieces: Vec<Uint8Array>,
    /// The catalogue's id of that model.
    pub chosen_model: Option<String>,
}

/// A question that the engine has to answer.
#[derive(Debug)]
pub enum Ask {
    Values(Level, usize, Reply<Result<Rc<GeneValues>, Problem>>),
    Export(Request, Reply<Result<ExportedFile, Problem>>),
}

impl Ask {
    /// What the engine is asked.
    pub fn request(&self) -> Request {
        match self {
            Self::Values(level, gene, _) => Request::Values { level: *level, gene: *gene },
            Self::Export(request, _) => request.clone(),
        }
    }

    /// Answers with values.
    pub fn give_values(self, values: Result<Rc<GeneValues>, Problem>) {
        match self {
            Self::Values(.., reply) => reply.send(values),
            other => other.refuse(misunderstood()),
        }
    }

    /// Answers with a file.
    pub fn give_file(self, file: Result<ExportedFile, Problem>) {
        match self {
            Self::Export(_, reply) => reply.send(file),
            other => other.refuse(misunderstood()),
        }
    }

    /// Answers that there is no answer.
    pub fn refuse(self, problem: Problem) {
        match self {
            Self::Values(.., reply) => reply.send(Err(problem)),
            Self::Export(_, reply) => reply.send(Err(problem)),
        }
    }
}

fn misunderstood() -> Problem {
    Problem::new(ProblemKind::Internal, "The engine answered another question than it was asked.")
}

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Start,
    OpenModel,
    OpenImage,
    Run,
    Rest,
    /// There is no engine, and none is started before the next action.
    Stopped,
}

/// What is wanted, what there is, and what lies between.
#[derive(Debug)]
pub struct Work {
    pub wanted: Wanted,
    pub held: Held,
    pub doing: Doing,
    pub model: Option<Source>,
    pub image: Option<ImageSource>,
    /// What is on screen until what is wanted now is open.
    pub kept: Option<Kept>,
    /// What runs with this model and image have finished.
    pub pieces: Vec<Uint8Array>,
    pub asks: VecDeque<Ask>,
    pub recovery: Recovery,
    pub rate: Option<Rate>,
    pub running: Running,
    pub model_download: Option<Download>,
    /// Bytes so far, and in all.
    pub model_bytes: (f64, f64),
    pub image_download: Option<Download>,
    pub sample_download: Option<Download>,
    pub catalogue_download: Option<Download>,
    pub auto_predict: bool,
    /// What a bin took in the last complete run with this model and device.
    pub seconds_per_bin: Option<f64>,
    last_revision: Revision,
}

impl Work {
    /// Wants an engine on a device, and nothing else yet.
    pub fn new(device: DeviceChoice, limits: BatchLimits, auto_predict: bool) -> Self {
        Self {
            wanted: Wanted { engine: 1, ..Wanted::default() },
            held: Held::default(),
            doing: Doing::Start,
            model: None,
            image: None,
            kept: None,
            pieces: Vec::new(),
            asks: VecDeque::new(),
            recovery: Recovery::new(device, limits),
            rate: None,
            running: Running::default(),
            model_download: None,
            model_bytes: (0.0, 0.0),
            image_download: None,
            sample_download: None,
            catalogue_download: None,
            auto_predict,
            seconds_per_bin: None,
            last_revision: 1,
        }
    }

    /// Keeps what is open, in case that what is wanted next is refused.
    pub fn keep(&mut self, chosen_model: Option<String>) {
        if self.kept.is_none() {
            self.kept = Some(Kept {
                wanted: self.wanted,
                model: self.model.clone(),
                image: self.image.clone(),
                pieces: std::mem::take(&mut self.pieces),
                chosen_model,
            });
        }
        self.pieces.clear();
    }

    /// Wants again what was kept. The engine may hold nothing of it any more: what is finished of its run is.
    pub fn restore(&mut self) -> Option<Kept> {
        let kept = self.kept.take()?;
        self.wanted = Wanted { engine: self.wanted.engine, ..kept.wanted };
        self.model.clone_from(&kept.model);
        self.image.clone_from(&kept.image);
        self.pieces.clone_from(&kept.pieces);
        if self.held.model != self.wanted.model || self.held.image != self.wanted.image {
            self.held.run = None;
        }
        Some(kept)
    }

    /// A revision that was never used.
    pub fn new_revision(&mut self) -> Revision {
        self.last_revision += 1;
        self.last_revision
    }

    /// Wants a run, anew.
    pub fn want_run(&mut self) {
        let revision = self.new_revision();
        self.wanted.run = Some(WantedRun { revision, halt: false });
    }

    /// The wanted run, while the engine has not ended it.
    pub fn open_run(&self) -> Option<WantedRun> {
        self.wanted.run.filter(|run| self.held.run != Some(run.revision))
    }
}
