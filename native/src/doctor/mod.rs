//! Checks of the machine: each passes, warns or fails, and says what to do.

mod forward;

use std::fmt::Write;
use std::time::Instant;

use magnet_core::PerLevel;
use magnet_core::model::half_is_there;
use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::console::Console;
use crate::device::{self, Adapter, AdapterKind, DeviceRequest};

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Pass,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// What to do about it.
    fix: Option<&'static str>,
}

impl Check {
    fn new(name: &'static str, status: Status, found: String, fix: &'static str) -> Self {
        Self { name, status, found, fix: (status != Status::Pass).then_some(fix) }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    checks: &'a [Check],
    adapters: &'a [Adapter],
    /// The device of the forward pass.
    device: Option<String>,
    /// Its predictions, row-major per level.
    predictions: Option<PerLevel<Vec<f32>>>,
    genes: usize,
}

/// Runs the checks.
///
/// # Errors
/// If one of them fails, or stdout cannot be written.
pub fn run(args: &DoctorArgs, console: &Console) -> anyhow::Result<()> {
    let adapters = device::adapters();
    let mut checks = vec![check_adapters(adapters), check_cores(), check_memory(available_memory())];
    let mut predictions = None;
    let mut device = None;
    match device::choose(args.device.device, console) {
        Ok(chosen) => {
            checks.push(Check::new("device", Status::Pass, chosen.reason.clone(), ""));
            checks.push(check_half(half_is_there(&chosen.device)));
            let began = Instant::now();
            match forward::run(&chosen.device) {
                Ok(result) => {
                    checks.push(check_forward(result.difference, began.elapsed().as_secs_f64()));
                    predictions = Some(result.values);
                }
                Err(error) => {
                    let found = format!("{error:#}");
                    checks.push(Check::new("forward pass", Status::Fail, found, FORWARD_FIX));
                }
            }
            device = Some(chosen.reason);
        }
        // A device that was asked for by name is an error of its own; `auto` always finds one.
        Err(error) if args.device.device != DeviceRequest::Auto => return Err(error),
        Err(error) => {
            checks.push(Check::new("device", Status::Fail, format!("{error:#}"), "use --device cpu"));
        }
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        checks: &checks,
        adapters,
        device,
        predictions,
        genes: forward::GENES,
    };
    console.result(&as_text(&checks), &serde_json::to_value(&report)?)?;
    let failed: Vec<_> =
        checks.iter().filter(|check| check.status == Status::Fail).map(|check| check.name).collect();
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

const FORWARD_FIX: &str = "use --device cpu; if that passes, update the graphics driver";

fn check_adapters(adapters: &[Adapter]) -> Check {
    let list = adapters.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let real = |adapter: &Adapter| !matches!(adapter.kind, AdapterKind::Software | AdapterKind::Other);
    match adapters {
        [] => Check::new(
            "adapters",
            Status::Warn,
            "none".into(),
            "the CPU will be used; for a GPU install its Vulkan driver (Linux: libvulkan1 and the vendor's package)",
        ),
        _ if adapters.iter().any(real) => Check::new("adapters", Status::Pass, list, ""),
        _ => Check::new(
            "adapters",
            Status::Warn,
            list,
            "the CPU will be used, as it is faster than a software adapter; for a GPU install its Vulkan driver",
        ),
    }
}

fn check_cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let status = if cores > 1 { Status::Pass } else { Status::Warn };
    Check::new("CPU cores", status, cores.to_string(), "training without a GPU wants at least 2 cores")
}

/// Memory that can be taken without swapping, in GiB, where the system says it.
fn available_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / (1024.0 * 1024.0))
}

fn check_memory(gib: Option<f64>) -> Check {
    let fix = "close other programs, or take smaller blocks (--set train.batch_bins=64)";
    match gib {
        None => Check::new("memory", Status::Pass, "not stated by this system".into(), fix),
        Some(gib) => {
            let status = match gib {
                gib if gib < 1.5 => Status::Fail,
                gib if gib < 6.0 => Status::Warn,
                _ => Status::Pass,
            };
            Check::new("memory", status, format!("{gib:.1} GiB available"), fix)
        }
    }
}

fn check_half(is_there: bool) -> Check {
    let found = if is_there { "on this device: predict --half uses them" } else { "not on this device" };
    Check::new("16-bit floats", Status::Pass, found.into(), "")
}

fn check_forward(difference: f64, seconds: f64) -> Check {
    let status = if difference <= forward::TOLERANCE { Status::Pass } else { Status::Fail };
    let found = format!(
        "largest relative difference from the stored values {difference:.1e} (limit {:.0e}), {seconds:.2} s",
        forward::TOLERANCE
    );
    Check::new("forward pass", status, found, FORWARD_FIX)
}

fn as_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let status = match check.status {
            Status::Pass => "PASS",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        let _ = writeln!(text, "{status}  {:<13} {}", check.name, check.found);
        if let Some(fix) = check.fix {
            let _ = writeln!(text, "{:19} fix: {fix}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_says_what_to_do() {
        for check in
            [check_memory(Some(0.5)), check_memory(Some(3.0)), check_forward(0.5, 1.0), check_adapters(&[])]
        {
            assert_ne!(check.status, Status::Pass);
            assert!(check.fix.is_some_and(|fix| !fix.is_empty()), "{check:?}");
            assert!(as_text(&[check]).contains("fix: "));
        }
        assert_eq!(check_memory(Some(64.0)).fix, None);
        assert_eq!(check_forward(f64::INFINITY, 1.0).status, Status::Fail);
    }
}
