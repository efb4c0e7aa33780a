//! The one place that chooses a device.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use cubecl::config::autotune::AutotuneLevel;
use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::future::block_on;
use magnet_core::model::half_is_there;
use magnet_core::weights::Precision;
use serde::Serialize;

use crate::console::Console;
use crate::error::InputError;

/// Names under which software adapters appear that report themselves as something else.
const SOFTWARE_NAMES: [&str; 5] = ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"];

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// A real GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best real GPU; none is an error.
    Gpu,
    /// The adapter of this index in `doctor`'s list, even a software one.
    Adapter(usize),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => text
                .strip_prefix("gpu:")
                .and_then(|index| index.parse().ok())
                .map(Self::Adapter)
                .ok_or_else(|| format!("expected auto, cpu, gpu or gpu:N, found {text:?}")),
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Adapter(index) => write!(f, "gpu:{index}"),
        }
    }
}

/// What kind of hardware an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU passed into a virtual machine.
    Virtual,
    /// A program on the CPU that speaks a graphics API; slower than the CPU device.
    Software,
    /// Not said by the driver.
    Other,
}

/// One adapter of one graphics API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The N of `gpu:N`.
    pub index: usize,
    /// Name given by the driver.
    pub name: String,
    /// Graphics API.
    pub api: &'static str,
    /// Kind of hardware.
    pub kind: AdapterKind,
    /// Driver and its version.
    pub driver: String,
    /// Position among the adapters of its API that report the same type, by which Burn selects it.
    #[serde(skip)]
    kind_index: usize,
    /// The type reported, which a software adapter may get wrong.
    #[serde(skip)]
    reported: wgpu::DeviceType,
    /// The API, to pin it.
    #[serde(skip)]
    backend: WgpuBackend,
}

impl Adapter {
    fn selector(&self) -> Option<DeviceKind> {
        match self.reported {
            wgpu::DeviceType::DiscreteGpu => Some(DeviceKind::DiscreteGpu(self.kind_index)),
            wgpu::DeviceType::IntegratedGpu => Some(DeviceKind::IntegratedGpu(self.kind_index)),
            wgpu::DeviceType::VirtualGpu => Some(DeviceKind::VirtualGpu(self.kind_index)),
            // Burn reaches the first software adapter of an API and no adapter of unknown type.
            wgpu::DeviceType::Cpu => (self.kind_index == 0).then_some(DeviceKind::Cpu),
            wgpu::DeviceType::Other => None,
        }
    }

    /// Preference of `auto`, lower is better; none for what it never takes.
    fn rank(&self) -> Option<u8> {
        self.selector()?;
        match self.kind {
            AdapterKind::Discrete => Some(0),
            AdapterKind::Integrated => Some(1),
            AdapterKind::Virtual => Some(2),
            AdapterKind::Software | AdapterKind::Other => None,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Software => "software adapter",
            AdapterKind::Other => "adapter of unknown type",
        };
        write!(f, "gpu:{} {} ({kind}, {})", self.index, self.name, self.api)
    }
}

/// The adapters of this machine, in the order in which `gpu:N` counts them. Asked once per process: the Vulkan loader
/// does not bear instances that come and go on several threads.
pub fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let apis = [
            (wgpu::Backend::Metal, WgpuBackend::Metal, "Metal"),
            (wgpu::Backend::Vulkan, WgpuBackend::Vulkan, "Vulkan"),
            (wgpu::Backend::Dx12, WgpuBackend::Dx12, "DirectX 12"),
        ];
        let mut found = Vec::new();
        for (api, backend, api_name) in apis {
            let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
                backends: api.into(),
                ..wgpu::InstanceDescriptor::new_without_display_handle()
            });
            let infos: Vec<_> = block_on(instance.enumerate_adapters(api.into()))
                .iter()
                .map(wgpu::Adapter::get_info)
                .collect();
            for (position, info) in infos.iter().enumerate() {
                let same_type = |other: &&wgpu::AdapterInfo| other.device_type == info.device_type;
                found.push(Adapter {
                    index: found.len(),
                    name: info.name.clone(),
                    api: api_name,
                    kind: kind_of(info.device_type, &info.name),
                    driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
                    kind_index: infos.iter().take(position).filter(same_type).count(),
                    reported: info.device_type,
                    backend,
                });
            }
        }
        found
    })
}

fn kind_of(reported: wgpu::DeviceType, name: &str) -> AdapterKind {
    let name = name.to_lowercase();
    if reported == wgpu::DeviceType::Cpu || SOFTWARE_NAMES.iter().any(|software| name.contains(software)) {
        return AdapterKind::Software;
    }
    match reported {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Other,
    }
}

/// A chosen device and the reason.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// Where tensors live.
    pub device: Device,
    /// The adapter; none for the CPU.
    pub adapter: Option<&'static Adapter>,
    /// Which device and why, for people.
    pub reason: String,
}

impl ChosenDevice {
    /// What `--half` asks the patch encoder to calculate with.
    ///
    /// # Errors
    /// If it asks for 16-bit floats of a device that has none.
    pub fn precision(&self, half: bool) -> Result<Precision, InputError> {
        match half {
            false => Ok(Precision::Single),
            true if half_is_there(&self.device) => Ok(Precision::Half),
            true => {
                let expected = "a graphics adapter with 16-bit floats (--device gpu or gpu:N)";
                let found = self.adapter.map_or_else(|| "the CPU".into(), ToString::to_string);
                Err(InputError::in_flag("--half", "device", expected, found))
            }
        }
    }
}

/// What a request means on these adapters, before any of them is opened.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    Cpu { reason: String },
    Gpu { adapter: &'a Adapter, reason: String },
}

fn choice(request: DeviceRequest, adapters: &[Adapter]) -> Result<Choice<'_>, InputError> {
    let best =
        adapters.iter().filter(|adapter| adapter.rank().is_some()).min_by_key(|adapter| adapter.rank());
    let listed = || match adapters {
        [] => "no adapter at all".to_owned(),
        _ => adapters.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    match (request, best) {
        (DeviceRequest::Cpu, _) => Ok(Choice::Cpu { reason: "asked for".into() }),
        (DeviceRequest::Auto, Some(adapter)) => {
            Ok(Choice::Gpu { adapter, reason: "the best real GPU".into() })
        }
        (DeviceRequest::Auto, None) if adapters.is_empty() => {
            Ok(Choice::Cpu { reason: "no graphics adapter was found".into() })
        }
        (DeviceRequest::Auto, None) => {
            Ok(Choice::Cpu { reason: "no real GPU was found (`doctor` lists the software adapters)".into() })
        }
        (DeviceRequest::Gpu, Some(adapter)) => Ok(Choice::Gpu { adapter, reason: "asked for a GPU".into() }),
        (DeviceRequest::Gpu, None) => Err(InputError::in_flag(
            "--device gpu",
            "adapters",
            "a real GPU (a software adapter must be named as gpu:N)",
            listed(),
        )),
        (DeviceRequest::Adapter(index), _) => match adapters.get(index) {
            Some(adapter) if adapter.selector().is_some() => {
                Ok(Choice::Gpu { adapter, reason: "asked for by its number".into() })
            }
            Some(adapter) => Err(InputError::in_flag(
                "--device",
                format!("gpu:{index}"),
                "an adapter of known type",
                adapter.to_string(),
            )),
            None => {
                Err(InputError::in_flag("--device", format!("gpu:{index}"), "one of the adapters", listed()))
            }
        },
    }
}

/// Chooses and opens the device, and says on the console which and why.
///
/// # Errors
/// If a GPU was asked for and there is none, or it does not open. `auto` falls back to the CPU instead.
pub fn choose(request: DeviceRequest, console: &Console) -> anyhow::Result<ChosenDevice> {
    // The CPU needs no look at the graphics drivers.
    let adapters = if request == DeviceRequest::Cpu { &[] } else { adapters() };
    let chosen = match choice(request, adapters)? {
        Choice::Cpu { reason } => cpu(reason),
        Choice::Gpu { adapter, reason } => match open(adapter) {
            Ok(device) => {
                if adapter.kind == AdapterKind::Software {
                    console.warn(format_args!(
                        "{adapter} is a program on the CPU: good for tests, slow for work"
                    ));
                }
                ChosenDevice { device, adapter: Some(adapter), reason: format!("{adapter}: {reason}") }
            }
            Err(error) if request == DeviceRequest::Auto => {
                let reason = format!("{adapter} does not open: {error}");
                console.warn(&reason);
                cpu(reason)
            }
            Err(error) => return Err(error.context(format!("{adapter} does not open"))),
        },
    };
    console.say(format_args!("device: {}", chosen.reason));
    Ok(chosen)
}

/// The processor, for work that is too small to choose a device for, such as turning a file of weights into another.
pub fn processor() -> Device {
    Device::flex()
}

fn cpu(reason: String) -> ChosenDevice {
    ChosenDevice { device: processor(), adapter: None, reason: format!("CPU: {reason}") }
}

/// Opens an adapter once per process; a second command in it (the demo runs several) gets the same device.
fn open(adapter: &Adapter) -> anyhow::Result<Device> {
    static OPENED: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, device)) = opened.iter().find(|(index, _)| *index == adapter.index) {
        return Ok(device.clone());
    }
    let Some(kind) = adapter.selector() else { anyhow::bail!("its type is unknown to the runtime") };
    configure_kernels(adapter.kind);
    let device = Device::wgpu_options().device_kind(kind).graphics_api(adapter.backend).init()?;
    opened.push((adapter.index, device.clone()));
    Ok(device)
}

/// Kernel variants are timed once per shape and remembered in the user's cache folder. On a software adapter the
/// timing takes far longer than it can save, so it is kept to the least.
fn configure_kernels(kind: AdapterKind) {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.environment.path = CacheConfig::Global;
    if kind == AdapterKind::Software {
        config.autotune.level = AutotuneLevel::Minimal;
        config.autotune.bench.min_samples = 1;
        config.autotune.bench.max_samples = 1;
        config.autotune.bench.short_circuit_samples = 1;
    }
    // Not the first device of this process: its configuration stands.
    let _ = CubeClRuntimeConfig::try_set(config);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, reported: wgpu::DeviceType, name: &str) -> Adapter {
        Adapter {
            index,
            name: name.into(),
            api: "Vulkan",
            kind: kind_of(reported, name),
            driver: String::new(),
            kind_index: 0,
            reported,
            backend: WgpuBackend::Vulkan,
        }
    }

    fn machine() -> Vec<Adapter> {
        vec![
            adapter(0, wgpu::DeviceType::Cpu, "llvmpipe (LLVM 15.0.6, 256 bits)"),
            adapter(1, wgpu::DeviceType::IntegratedGpu, "Intel Iris Xe"),
            adapter(2, wgpu::DeviceType::DiscreteGpu, "NVIDIA L40S"),
            adapter(3, wgpu::DeviceType::VirtualGpu, "SwiftShader Device (Subzero)"),
        ]
    }

    fn index_of(choice: Choice<'_>) -> Option<usize> {
        match choice {
            Choice::Cpu { .. } => None,
            Choice::Gpu { adapter, .. } => Some(adapter.index),
        }
    }

    #[test]
    fn auto_takes_the_discrete_gpu_and_never_a_software_adapter() {
        let all = machine();
        assert_eq!(index_of(choice(DeviceRequest::Auto, &all).unwrap()), Some(2));
        let software = [all[0].clone(), all[3].clone()];
        let Choice::Cpu { reason } = choice(DeviceRequest::Auto, &software).unwrap() else {
            panic!("not the CPU")
        };
        assert!(reason.contains("no real GPU") && reason.contains("doctor"), "{reason}");
    }

    #[test]
    fn a_software_adapter_must_be_named_by_its_number() {
        let software = [adapter(0, wgpu::DeviceType::Cpu, "llvmpipe")];
        let error = choice(DeviceRequest::Gpu, &software).unwrap_err();
        assert!(error.to_string().contains("gpu:0 llvmpipe"), "{error}");
        assert_eq!(index_of(choice(DeviceRequest::Adapter(0), &software).unwrap()), Some(0));
        assert!(choice(DeviceRequest::Adapter(1), &software).is_err());
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "gpu", "gpu:3"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
        }
        for text in ["", "gpu:", "gpu:-1", "cuda", "GPU"] {
            assert!(text.parse::<DeviceRequest>().is_err(), "{text}");
        }
    }
}
