//! The graphics adapter that the browser offers: what it is, and how Burn gets it.

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// What Burn's kernels measure themselves with; without it Burn ends the program.
pub(super) const TIMESTAMPS: &str = "timestamp-query";
/// Names under which software adapters appear that do not say that they are one.
const SOFTWARE_NAMES: [&str; 6] =
    ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render", "microsoft warp"];

/// What the browser says about its adapter, before any device is opened.
#[derive(Debug)]
pub(super) struct Adapter {
    /// The name, for people.
    pub name: String,
    /// Whether it is a program on the CPU.
    pub software: bool,
    /// Whether it can take times.
    pub timestamps: bool,
}

/// Asks the browser for its adapter.
///
/// # Errors
/// The reason, in words, why there is none.
pub(super) async fn find() -> Result<Adapter, String> {
    if property(&js_sys::global(), "isSecureContext").as_bool() == Some(false) {
        return Err("WebGPU needs a page that came over https or from localhost".into());
    }
    let gpu = property(&property(&js_sys::global(), "navigator"), "gpu");
    let Ok(request) = property(&gpu, "requestAdapter").dyn_into::<Function>() else {
        return Err("this browser offers no WebGPU here".into());
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
        .dyn_into::<Function>()
        .and_then(|has| has.call1(&features, &name.into()))
        .is_ok_and(|found| found.is_truthy())
}

/// Opens the adapter with its own limits and hands it to Burn.
///
/// Burn is built without its tuner here. In a browser the tuner does not hear that the device has refused a kernel, and
/// a kernel that does nothing wins; some of those it tries need subgroups of one fixed size; and trying them takes far
/// longer than one map.
///
/// # Errors
/// The reason, in words, why the adapter does not open.
pub(super) async fn open() -> Result<(Device, wgpu::Device, wgpu::Queue), String> {
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
    Ok((burn, device, queue))
}

/// A property; undefined where there is none, or no object.
fn property(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// An error of JavaScript, in words.
fn text_of(error: &JsValue) -> String {
    let message = property(error, "message").as_string();
    message.or_else(|| error.as_string()).unwrap_or_else(|| "no reason given".into())
}
