//! The one place that chooses a device in the browser.

use std::future::Future;

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::clock::yield_to_events;
use super::error::EngineError;
use super::faults::{FaultHandler, Faults, from_gpu};
use super::signal::Signal;
use crate::protocol::{DeviceChoice, DeviceKind, DeviceReport, ErrorCode};

/// What Burn's kernels measure themselves with; without it Burn ends the program.
const TIMESTAMPS: &str = "timestamp-query";
/// Names under which software adapters appear that do not say that they are one.
const SOFTWARE_NAMES: [&str; 6] =
    ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render", "microsoft warp"];
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

/// What the browser says about its adapter, before any device is opened.
#[derive(Debug)]
struct Adapter {
    name: String,
    software: bool,
    timestamps: bool,
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
            _ => decide(choice, find_adapter().await)?,
        };
        match decision {
            Decision::Cpu { reason } => Ok(Self::cpu(reason)),
            Decision::Gpu { adapter, reason } => match open(on_fault).await {
                Ok((burn, gpu)) => {
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

    /// Gives the device back.
    pub fn close(self) {
        let Self { gpu, burn, .. } = self;
        drop(burn);
        if let Some(gpu) = gpu {
            gpu.faults.close();
            gpu.device.destroy();
        }
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

/// Asks the browser for its adapter.
async fn find_adapter() -> Result<Adapter, String> {
    let global = js_sys::global();
    if property(&global, "isSecureContext").as_bool() == Some(false) {
        return Err("WebGPU needs a page that came over https or from localhost".into());
    }
    let gpu = property(&property(&global, "navigator"), "gpu");
    let Ok(request) = property(&gpu, "requestAdapter").dyn_into::<js_sys::Function>() else {
        return Err("this browser has no WebGPU in workers".into());
    };
    let options = Object::new();
    // Setting a field of a fresh object cannot fail.
    let _ = Reflect::set(&options, &"powerPreference".into(), &"high-performance".into());
    let promise = request.call1(&gpu, &options).and_then(|value| value.dyn_into::<Promise>());
    let adapter = match promise {
        Ok(promise) => JsFuture::from(promise).await,
        Err(error) => Err(error),
    };
    let adapter = adapter.map_err(|error| format!("the browser refused an adapter ({})", text_of(&error)))?;
    if adapter.is_null() || adapter.is_undefined() {
        return Err("the browser offers no graphics adapter".into());
    }
    Ok(describe(&adapter))
}

fn describe(adapter: &JsValue) -> Adapter {
    let info = property(adapter, "info");
    let words: Vec<String> = ["description", "vendor", "architecture", "device"]
        .iter()
        .filter_map(|field| property(&info, field).as_string())
        .filter(|word| !word.trim().is_empty())
        .collect();
    let all = words.join(" ").to_lowercase();
    let says_so = |object: &JsValue| property(object, "isFallbackAdapter").as_bool() == Some(true);
    let software =
        says_so(&info) || says_so(adapter) || SOFTWARE_NAMES.iter().any(|software| all.contains(software));
    // The description is for people, where the browser gives one; it often gives only the vendor and the family.
    let name = match words.split_first() {
        Some((first, _)) if property(&info, "description").as_string().as_ref() == Some(first) => {
            first.clone()
        }
        Some(_) => words.join(" "),
        None => "unnamed adapter".into(),
    };
    Adapter { name, software, timestamps: has_feature(adapter, TIMESTAMPS) }
}

/// Whether an adapter's set of features holds a name.
fn has_feature(adapter: &JsValue, name: &str) -> bool {
    let features = property(adapter, "features");
    property(&features, "has")
        .dyn_into::<js_sys::Function>()
        .and_then(|has| has.call1(&features, &name.into()))
        .is_ok_and(|found| found.is_truthy())
}

/// A property; undefined where there is none, or no object.
fn property(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// An error of JavaScript, in words.
pub(super) fn text_of(error: &JsValue) -> String {
    property(error, "message")
        .as_string()
        .or_else(|| error.as_string())
        .unwrap_or_else(|| "no reason given".into())
}

/// Opens the adapter with its own limits and hands it to Burn.
async fn open(on_fault: FaultHandler) -> Result<(Device, Gpu), String> {
    let backend = wgpu::Backend::BrowserWebGpu;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        })
        .await
        .map_err(|error| error.to_string())?;
    // Burn reads from the adapter, not from the device, which types kernels may use: the device must have them all.
    let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("MagNet"),
            required_features: adapter.features().difference(unwanted),
            required_limits: adapter.limits(),
            // Burn batches its allocations itself.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
        })
        .await
        .map_err(|error| error.to_string())?;
    let setup = WgpuSetup { instance, adapter, device: device.clone(), queue: queue.clone(), backend };
    let burn = Device::wgpu_options().setup(setup).init().map_err(|error| error.to_string())?;
    let faults = Faults::watch(&device, on_fault);
    Ok((burn, Gpu { device, queue, faults }))
}
