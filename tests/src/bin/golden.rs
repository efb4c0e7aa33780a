//! Compares the published preset with a golden file of any size and prints how far every tensor is.
//!
//! `cargo run --release -p magnet-tests --bin golden -- FILE [--device cpu|gpu] [--forward-only]`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use magnet_native::console::Console;
use magnet_native::device::{self, DeviceRequest};
use magnet_tests::golden::{self, compare};

/// Compares the published preset with tensors of the authors' released code
#[derive(Debug, Parser)]
#[command(name = "golden")]
struct Args {
    /// Golden file (.safetensors), its sizes in its metadata
    file: PathBuf,
    /// Where to compute
    #[arg(long, value_name = "auto|cpu|gpu[:N]", default_value = "cpu")]
    device: DeviceRequest,
    /// Leave the gradients out: a software adapter takes many minutes for them
    #[arg(long)]
    forward_only: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let named = || args.file.display().to_string();
    let bytes = std::fs::read(&args.file).with_context(named)?;
    let chosen = device::choose(args.device, &Console::quiet())?;
    let tolerance = if chosen.adapter.is_some() { golden::GPU } else { golden::CPU };
    let deviations = compare(&bytes, &chosen.device, tolerance, !args.forward_only).with_context(named)?;
    for deviation in &deviations {
        println!("{deviation}");
    }
    let failed = deviations.iter().filter(|deviation| !deviation.passes()).count();
    let worst =
        deviations.iter().map(|deviation| deviation.deviation / deviation.allowed).fold(0.0, f64::max);
    println!(
        "{} tensors on {}: {failed} too far, the worst at {:.1} % of what is allowed",
        deviations.len(),
        chosen.reason,
        100.0 * worst
    );
    Ok(failed == 0 && !deviations.is_empty())
}
