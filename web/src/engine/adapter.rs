//! The graphics adapter that the browser offers: what it is, and how Burn gets it.

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use cubecl::config::autotune::AutotuneLevel;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// What Burn's kernels measure themselves with; without it Burn ends the program.
pub(super) const TIMESTAMPS: &str = "timestamp-query";
/// Names under which software adapters appear that do not say that they are one.
const SOFTWARE_NAMES: [&str; 6] =
    ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render", "microsoft warp"];
/// What Burn is told of the size of subgroups, smallest and largest. See [`open`].
const SUBGROUP_SIZES: (u32, u32) = (32, 160);

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
    let Some((gpu, request)) = entrance() else {
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

/// `navigator.gpu` and its `requestAdapter`.
fn entrance() -> Option<(JsValue, Function)> {
    let gpu = property(&property(&js_sys::global(), "navigator"), "gpu");
    let request = property(&gpu, "requestAdapter").dyn_into().ok()?;
    Some((gpu, request))
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
/// Burn's tuner tries matrix kernels that add up a row over a subgroup of the largest size that the adapter names,
/// without asking whether the device has subgroups, and in a browser it does not hear that such a kernel was refused:
/// a kernel that does nothing would win. Where subgroups vary in size, the sum would be wrong. These kernels decline a
/// row whose length is no multiple of the subgroup's size, so Burn is told a size that divides no usual row. It is
/// then no more than the number of threads that simple kernels work with. Should a kernel ask for subgroups all the
/// same, the device refuses it, and [`super::EngineDevice::guarded`] makes that an error.
///
/// # Errors
/// The reason, in words, why the adapter does not open.
pub(super) async fn open(software: bool) -> Result<(Device, wgpu::Device, wgpu::Queue), String> {
    configure_tuner(software);
    let backend = wgpu::Backend::BrowserWebGpu;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let described = DescribedAdapters::begin();
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        })
        .await;
    drop(described);
    let adapter = adapter.map_err(|error| error.to_string())?;
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

/// A visitor loads the page to see one map: kernels are told apart roughly, by few runs of each. On a software adapter
/// every run costs more than it can save.
fn configure_tuner(software: bool) {
    let mut config = CubeClRuntimeConfig::default();
    config.autotune.level = AutotuneLevel::Minimal;
    config.autotune.bench.min_samples = 1;
    config.autotune.bench.max_samples = if software { 1 } else { 3 };
    // Not the first device of this module: its settings stand.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// While this is held, adapters that are asked for describe their subgroups as [`SUBGROUP_SIZES`]; nothing else about
/// them or about others changes.
struct DescribedAdapters {
    gpu: JsValue,
    _request: Closure<dyn FnMut(JsValue) -> Result<Promise, JsValue>>,
}

impl DescribedAdapters {
    /// Nothing where there is no WebGPU.
    fn begin() -> Option<Self> {
        let (gpu, original) = entrance()?;
        let target = gpu.clone();
        let request = Closure::<dyn FnMut(JsValue) -> Result<Promise, JsValue>>::new(move |options| {
            let asked = original.call1(&target, &options)?.dyn_into::<Promise>()?;
            Ok(wasm_bindgen_futures::future_to_promise(async move {
                let adapter = JsFuture::from(asked).await?;
                if adapter.is_object() {
                    describe_subgroups(&adapter)?;
                }
                Ok(adapter)
            }))
        });
        // A property of this object, before that of its class.
        Reflect::set(&gpu, &"requestAdapter".into(), request.as_ref()).ok()?;
        Some(Self { gpu, _request: request })
    }
}

impl Drop for DescribedAdapters {
    fn drop(&mut self) {
        // The one of its class is seen again.
        let _ = Reflect::delete_property(self.gpu.unchecked_ref::<Object>(), &"requestAdapter".into());
    }
}

/// Gives an adapter a description of its own, equal to the browser's but for the subgroups.
fn describe_subgroups(adapter: &JsValue) -> Result<(), JsValue> {
    let original = property(adapter, "info");
    let info = Object::new();
    for field in ["vendor", "architecture", "device", "description"] {
        let text = property(&original, field).as_string().unwrap_or_default();
        Reflect::set(&info, &field.into(), &text.into())?;
    }
    let fallback = property(&original, "isFallbackAdapter").is_truthy();
    Reflect::set(&info, &"isFallbackAdapter".into(), &fallback.into())?;
    let (smallest, largest) = SUBGROUP_SIZES;
    Reflect::set(&info, &"subgroupMinSize".into(), &smallest.into())?;
    Reflect::set(&info, &"subgroupMaxSize".into(), &largest.into())?;
    let property = Object::new();
    Reflect::set(&property, &"value".into(), &info)?;
    Reflect::set(&property, &"configurable".into(), &true.into())?;
    Reflect::define_property(adapter.unchecked_ref::<Object>(), &"info".into(), &property)?;
    Ok(())
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
