//! What the engine says when something goes wrong: a code for programs and a sentence for people.

use magnet_core::bundle::BundleError;
use magnet_core::heatmap::HeatmapError;
use magnet_core::predict::{PieceError, PredictError};
use magnet_core::slide::SlideError;

use crate::protocol::{ErrorCode, Event};

/// An error of the engine.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind of thing went wrong.
    pub code: ErrorCode,
    /// What was expected and what was found, for people.
    pub message: String,
}

impl EngineError {
    /// An error of a kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The input is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Input, message)
    }

    /// A request that does not fit the state.
    pub fn state(expected: &str, found: &str) -> Self {
        Self::new(ErrorCode::State, format!("this request needs {expected}; there is {found}"))
    }

    /// A fault of the program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// The same error with the file's name before it.
    pub fn in_file(self, name: &str) -> Self {
        Self { message: format!("{name}: {}", self.message), ..self }
    }

    /// The event that tells the page.
    pub fn into_event(self) -> Event {
        Event::Failed { code: self.code, message: self.message }
    }
}

impl From<SlideError> for EngineError {
    fn from(error: SlideError) -> Self {
        Self::input(error.to_string())
    }
}

impl From<BundleError> for EngineError {
    fn from(error: BundleError) -> Self {
        Self::input(error.to_string())
    }
}

impl From<PieceError> for EngineError {
    fn from(error: PieceError) -> Self {
        Self::state("a piece of a run with the same model, image and batch size", &error.to_string())
    }
}

impl From<HeatmapError> for EngineError {
    fn from(error: HeatmapError) -> Self {
        Self::input(error.to_string())
    }
}

impl From<PredictError> for EngineError {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Slide(_) | PredictError::Layout(_) | PredictError::WideSource { .. } => {
                Self::input(error.to_string())
            }
            _ => Self::internal(error.to_string()),
        }
    }
}
