//! What goes wrong on a GPU outside of the call that caused it: a device that is lost, memory that is out.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::EngineError;
use super::signal::Signal;
use crate::protocol::ErrorCode;

/// Hears of a fault, at most once per device.
pub type FaultHandler = fn(&EngineError);

/// The first fault of a device; later ones follow from it.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    first: Arc<Mutex<Option<EngineError>>>,
    /// Raised with the first fault.
    signal: Signal,
    handler: FaultHandler,
}

impl Faults {
    /// Watches a device; call it after Burn has taken the device, whose own handler ends the program.
    pub fn watch(device: &wgpu::Device, handler: FaultHandler) -> Self {
        let faults = Self { first: Arc::default(), signal: Signal::default(), handler };
        let lost = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let detail = if message.is_empty() { format!("{reason:?}") } else { message };
            lost.record(EngineError::new(ErrorCode::DeviceLost, format!("the GPU was lost: {detail}")));
        });
        let uncaptured = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| uncaptured.record(from_gpu(&error))));
        faults
    }

    /// The first fault, if there was one.
    pub fn first(&self) -> Option<EngineError> {
        self.lock().clone()
    }

    /// Is up once there was a fault.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Keeps the first fault and tells the handler.
    pub fn record(&self, fault: EngineError) {
        let mut first = self.lock();
        if first.is_some() {
            return;
        }
        *first = Some(fault.clone());
        drop(first);
        self.signal.raise();
        (self.handler)(&fault);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<EngineError>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error that WebGPU reports.
pub(super) fn from_gpu(error: &wgpu::Error) -> EngineError {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            EngineError::new(ErrorCode::OutOfMemory, "the GPU's memory does not suffice for this batch size")
        }
        wgpu::Error::Validation { description, .. } => {
            EngineError::internal(format!("WebGPU refused a command: {description}"))
        }
        wgpu::Error::Internal { description, .. } => {
            EngineError::internal(format!("WebGPU failed inside: {description}"))
        }
    }
}
