//! The one place that chooses a device in the browser.

use std::future::Future;

use burn::tensor::Device;

use super::adapter::{self, Adapter, TIMESTAMPS};
use super::error::EngineError;
use super::faults::{FaultHandler, Faults, from_gpu};
use super::signal::Signal;
use crate::clock::yield_to_events;
use crate::protocol::{DeviceChoice, DeviceKind, DeviceReport, ErrorCode};

/// Turns of the event loop after which a lost device has been reported, if it was lost.
const TURNS_UNTIL_REPORTED: usize = 8;

/// A device that is open.
#[derive(Debug)]
pub struct EngineDevice {
    burn: Device,
    report: DeviceReport,
    gpu: Option<Gpu>,
}

#[derive(Debug)]
struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
}

/// What a choice means on this machine.
enum Decision {
    Gpu { adapter: Adapter, reason: String },
    Cpu { reason: String },
}

impl EngineDevice {
    /// Chooses and opens a device.
    ///
    /// # Errors
    /// [`ErrorCode::NoDevice`] where a GPU was insisted on and none can be used. The automatic choice takes the CPU
    /// instead.
    pub async fn choose(choice: DeviceChoice, on_fault: FaultHandler) -> Result<Self, EngineError> {
        let decision = match choice {
            DeviceChoice::Cpu => Decision::Cpu { reason: "You chose the CPU.".into() },
            _ => decide(choice, adapter::find().await)?,
        };
        match decision {
            Decision::Cpu { reason } => Ok(Self::cpu(reason)),
            Decision::Gpu { adapter, reason } => match adapter::open().await {
                Ok((burn, device, queue)) => {
                    let faults = Faults::watch(&device, on_fault);
                    let gpu = Gpu { device, queue, faults };
                    let limits = gpu.device.limits();
                    let report = DeviceReport {
                        device: DeviceKind::Gpu,
                        name: adapter.name,
                        reason,
                        software: adapter.software,
                        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
                    };
                    Ok(Self { burn, report, gpu: Some(gpu) })
                }
                Err(error) if choice == DeviceChoice::Gpu => {
                    let message = format!("the GPU ({}) does not open: {error}", adapter.name);
                    Err(EngineError::new(ErrorCode::NoDevice, message))
                }
                Err(error) => Ok(Self::cpu(format!(
                    "The GPU ({}) does not open ({error}), so the CPU computes.",
                    adapter.name
                ))),
            },
        }
    }

    fn cpu(reason: String) -> Self {
        let report = DeviceReport {
            device: DeviceKind::Cpu,
            name: "WebAssembly, 128-bit vectors, one thread".into(),
            reason,
            software: false,
            max_binding_bytes: 0,
        };
        Self { burn: Device::flex(), report, gpu: None }
    }

    /// Where tensors live.
    pub fn burn(&self) -> &Device {
        &self.burn
    }

    /// Which device this is, and why.
    pub fn report(&self) -> &DeviceReport {
        &self.report
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Gives memory that nothing uses back to the system. In a browser each allocation has pages of its own.
    pub fn free_unused(&self) {
        if self.is_gpu() {
            self.burn.memory_cleanup();
        }
    }

    /// Waits until the device has done what it was given: so that its queue stays short, and time can be taken. The CPU
    /// is never behind.
    pub async fn settled(&self) {
        let Some(gpu) = &self.gpu else { return };
        // What does not flush fails again, with its reason, when it is read.
        let _ = self.burn.flush();
        let done = Signal::default();
        let submitted = done.clone();
        gpu.queue.on_submitted_work_done(move || submitted.raise());
        // A lost device may never say that it is done.
        gpu.faults.signal().unless_raised(done.raised()).await;
    }

    /// Does some work and says what the device did meanwhile. WebGPU reports errors later and elsewhere, and a command
    /// that failed leaves zeros behind: a result counts only if nothing failed.
    ///
    /// # Errors
    /// What the device reports, else what the work returns.
    pub async fn guarded<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let Some(gpu) = &self.gpu else { return work.await };
        if let Some(fault) = gpu.faults.first() {
            return Err(fault);
        }
        // Scopes are a stack: the last one is left first, also where this future is dropped half-way.
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work.await;
        let validation = validation.pop();
        let memory = memory.pop();
        let (validation, memory) = (validation.await, memory.await);
        if let Some(fault) = gpu.faults.first() {
            return Err(fault);
        }
        if let Some(error) = memory.or(validation) {
            let fault = from_gpu(&error);
            gpu.faults.record(fault.clone());
            return Err(fault);
        }
        if result.is_err() {
            // A read from a lost device fails before the loss is reported.
            for _ in 0..TURNS_UNTIL_REPORTED {
                yield_to_events().await;
                if let Some(fault) = gpu.faults.first() {
                    return Err(fault);
                }
            }
        }
        result
    }
}

/// What a choice other than the CPU means, given the adapter or the reason why there is none.
fn decide(choice: DeviceChoice, adapter: Result<Adapter, String>) -> Result<Decision, EngineError> {
    let insists = choice == DeviceChoice::Gpu;
    let unusable = |why: String| {
        if insists {
            return Err(EngineError::new(ErrorCode::NoDevice, format!("no GPU can be used: {why}")));
        }
        Ok(Decision::Cpu { reason: format!("The CPU computes: {why}.") })
    };
    let adapter = match adapter {
        Ok(adapter) => adapter,
        Err(why) => return unusable(why),
    };
    if !adapter.timestamps {
        return unusable(format!(
            "the GPU ({}) lacks `{TIMESTAMPS}`, which the compute library needs",
            adapter.name
        ));
    }
    if adapter.software && !insists {
        return unusable(format!(
            "the browser offers only a software adapter ({}), which is slower than the CPU itself",
            adapter.name
        ));
    }
    let reason = match (insists, adapter.software) {
        (true, true) => "You chose WebGPU; this is a software adapter, slower than the CPU.",
        (true, false) => "You chose WebGPU.",
        (false, _) => "The browser offers this GPU through WebGPU.",
    };
    Ok(Decision::Gpu { adapter, reason: reason.into() })
}
