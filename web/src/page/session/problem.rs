//! What goes wrong, for programs and for people.

use crate::protocol::ErrorCode;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// A file, address or number that was given is wrong.
    Input,
    /// Something could not be fetched.
    Network,
    /// The device is not there, or gone.
    Device,
    /// The memory does not suffice.
    Memory,
    /// The action does not fit the state: nothing is open, or it was overtaken by another.
    State,
    /// A fault of the program.
    Internal,
}

impl ProblemKind {
    /// The kind as the `error` event's `code` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Network => "network",
            Self::Device => "device",
            Self::Memory => "memory",
            Self::State => "state",
            Self::Internal => "internal",
        }
    }
}

impl From<ErrorCode> for ProblemKind {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Input => Self::Input,
            ErrorCode::DeviceLost | ErrorCode::NoDevice => Self::Device,
            ErrorCode::OutOfMemory => Self::Memory,
            ErrorCode::State => Self::State,
            ErrorCode::Internal => Self::Internal,
        }
    }
}

/// What a problem is about: what a page asked for and now does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subject {
    /// All that is under way.
    #[default]
    All,
    /// The image that was to be opened.
    Image,
    /// The model that was to be opened.
    Model,
    /// The run.
    Run,
    /// Nothing that anybody waits for.
    Nothing,
}

impl Subject {
    /// The subject's name for the element.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Image => "open",
            Self::Model => "model",
            Self::Run => "result",
            Self::Nothing => "nothing",
        }
    }
}

/// Why something cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// What it is about.
    pub subject: Subject,
    /// What was expected and what was found, for people.
    pub text: String,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, subject: Subject::All, text: text.into() }
    }

    /// The same about something.
    pub fn about(self, subject: Subject) -> Self {
        Self { subject, ..self }
    }

    /// A wrong input.
    pub(super) fn input(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Input, text)
    }

    /// An action that does not fit the state.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn state(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::State, text)
    }
}
