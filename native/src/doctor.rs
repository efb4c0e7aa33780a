//! Checks of the machine.

use crate::cli::DoctorArgs;
use crate::console::Console;
use crate::device;

/// Runs the checks.
///
/// # Errors
/// If one of them fails, or stdout cannot be written.
pub fn run(args: &DoctorArgs, console: &Console) -> anyhow::Result<()> {
    let chosen = device::choose(args.device.device, console)?;
    console.result(
        &chosen.reason,
        &serde_json::json!({ "device": chosen.reason, "adapters": device::adapters() }),
    )?;
    Ok(())
}
