//! Time and peak memory at several numbers of bins. A process remembers the most memory that it ever had, so every
//! measurement is a process of its own: this program again, with what it reads in a folder.

mod report;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use magnet_core::ExpressionModel;
use magnet_core::weights::Precision;
use serde::{Deserialize, Serialize};

use super::forward::{Features, predict_blocks};
use super::report::device_name;
use super::timing::Repeats;
use super::tissue::Tissue;
use super::{model, slide, small_config_of};
use crate::cli::{BenchArgs, BenchKind};
use crate::config::RunConfig;
use crate::console::Console;
use crate::device;
use crate::error::{Interrupted, exit};
use crate::files::{Overwrite, refuse_existing, write_atomic};
use crate::predict::to_disk;
use crate::report::paper::ScaleFigure;
use crate::train;
use report::{ScaleReport, Series};

/// What is measured at each size, where nobody chooses.
const KINDS: [BenchKind; 3] = [BenchKind::Graph, BenchKind::Forward, BenchKind::Slide];
/// Repetitions where nobody says how many.
const REPEATS: u32 = 3;
/// Bins of the warm-up of what takes minutes at the largest size.
const WARM_UP_BINS: usize = 2000;
/// Name of the configuration in the folder.
const CONFIG: &str = "config.toml";

/// What a process found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    bins: usize,
    seconds: Vec<f64>,
    /// Most memory that the process ever had; `None` where the system does not say.
    peak_bytes: Option<u64>,
}

/// Runs all sizes and reports them.
///
/// # Errors
/// If a setting is wrong, a process fails, or a file cannot be written.
pub(super) fn run(args: &BenchArgs, console: &Console) -> Result<()> {
    let config = small_config_of(args)?;
    let kinds = kinds(args)?;
    if let Some(path) = &args.plot {
        ScaleFigure::check_ending("--plot", path)?;
        refuse_existing(path, Overwrite::from(args.overwrite))?;
    }
    let mut sizes: Vec<usize> = args.scale.iter().map(|&bins| bins as usize).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let chosen = device::choose(args.device.device, console)?;
    let folder = tempfile::tempdir()?;
    write_atomic(&folder.path().join(CONFIG), config.to_toml()?.as_bytes(), Overwrite::No)?;
    model::write(&config, folder.path())?;
    let mut series: Vec<Series> = kinds.iter().map(|&kind| Series::new(kind)).collect();
    for &bins in &sizes {
        if kinds.contains(&BenchKind::Slide) {
            draw(&config, bins, "", folder.path(), console)?;
            draw(&config, WARM_UP_BINS.min(bins), ", to warm up", folder.path(), console)?;
        }
        for series in &mut series {
            console.say(format_args!("measuring {} of {bins} bins", series.kind().name()));
            series.sizes.push(process(args, series.kind(), bins, folder.path())?.into());
        }
    }
    let report = ScaleReport::new(device_name(&chosen), &config.preset, series);
    console.result(&report.to_string(), &serde_json::to_value(&report)?)?;
    if let Some(path) = &args.plot {
        report.figure().write("--plot", path, Overwrite::from(args.overwrite))?;
        console.say(format_args!("{} written", path.display()));
    }
    Ok(())
}

fn kinds(args: &BenchArgs) -> Result<Vec<BenchKind>> {
    if args.only.is_empty() {
        return Ok(KINDS.to_vec());
    }
    if let Some(other) = args.only.iter().find(|kind| !KINDS.contains(kind)) {
        let known = KINDS.map(BenchKind::name).join(", ");
        return Err(crate::error::InputError::in_flag("--only", "--scale", known, other.name()).into());
    }
    Ok(KINDS.into_iter().filter(|kind| args.only.contains(kind)).collect())
}

/// The folder of the slide of so many bins.
fn slide_folder(folder: &Path, bins: usize) -> std::path::PathBuf {
    folder.join(format!("slide-{bins}"))
}

fn draw(config: &RunConfig, bins: usize, purpose: &str, folder: &Path, console: &Console) -> Result<()> {
    let folder = slide_folder(folder, bins);
    if !folder.exists() {
        console.say(format_args!("drawing a slide of {bins} bins{purpose}"));
        Tissue::new(bins, &config.model).draw(config.train.seed, &folder)?;
    }
    Ok(())
}

/// Measures in a process of its own.
fn process(args: &BenchArgs, kind: BenchKind, bins: usize, folder: &Path) -> Result<Part> {
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut command = Command::new(program);
    command.args(["bench", "--json", "--quiet", "--only", kind.name()]);
    command.args(["--bins", &bins.to_string()]);
    command.args(["--repeats", &args.repeats.unwrap_or(REPEATS).to_string()]);
    command.args(["--warm-up", &args.warm_up.to_string()]);
    command.args(["--device", &args.device.device.to_string()]);
    command.arg("--config").arg(folder.join(CONFIG)).arg("--scale-part").arg(folder);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start this program again")?;
    match output.status.code() {
        Some(code) if code == i32::from(exit::DONE) => {}
        Some(code) if code == i32::from(exit::INTERRUPTED) => {
            return Err(Interrupted("nothing was written".into()).into());
        }
        _ => bail!("{} of {bins} bins: the process ended with {}", kind.name(), output.status),
    }
    serde_json::from_slice(&output.stdout).context("the process did not say what it measured")
}

/// Measures one thing at one size, in the process that [`process`] starts.
///
/// # Errors
/// If what it reads is not there, or the device fails.
pub(super) fn part(args: &BenchArgs, folder: &Path, console: &Console) -> Result<()> {
    let (Some(bins), &[kind]) = (args.bins, args.only.as_slice()) else {
        bail!("--scale-part measures one thing at one number of bins")
    };
    let bins = bins as usize;
    let config = small_config_of(args)?;
    let _one_at_a_time = train::exclusive();
    let repeats = Repeats { warm_up: args.warm_up, repeats: args.repeats.unwrap_or(REPEATS) };
    let seconds = match kind {
        BenchKind::Graph => graph(&config, bins, repeats)?,
        BenchKind::Forward | BenchKind::Slide => {
            let chosen = device::choose(args.device.device, console)?;
            let model = model::open(folder, &chosen.device, Precision::Single)?;
            let measure = |bins: usize, repeats: Repeats| match kind {
                BenchKind::Forward => {
                    let layout = Tissue::new(bins, &config.model).layout(&config.model)?;
                    let features = Features::draw(config.model.width, config.train.seed);
                    let block_bins = to_disk(false).block_bins;
                    let expression: &dyn ExpressionModel = &model.model;
                    let all = || predict_blocks(expression, &features, &layout, block_bins, &chosen.device);
                    repeats.time(|| Ok(()), |()| all())
                }
                _ => {
                    let tissue = Tissue::new(bins, &config.model);
                    let path = slide::path(&slide_folder(folder, bins));
                    let all = || slide::predict(&tissue, &path, &model, &chosen.device).map(drop);
                    repeats.time(|| Ok(()), |()| all())
                }
            };
            if args.warm_up > 0 {
                measure(WARM_UP_BINS.min(bins), Repeats { warm_up: 0, repeats: 1 })?;
            }
            measure(bins, Repeats { warm_up: 0, ..repeats })?
        }
        other => bail!("--scale-part: {} is not measured by size", other.name()),
    };
    let part = Part { bins, seconds, peak_bytes: peak_bytes() };
    console.result("", &serde_json::to_value(&part)?)?;
    Ok(())
}

fn graph(config: &RunConfig, bins: usize, repeats: Repeats) -> Result<Vec<f64>> {
    let tissue = Tissue::new(bins, &config.model);
    repeats.time(|| Ok(()), |()| tissue.layout(&config.model).map(drop))
}

/// The most memory that this process ever had, where the system says it.
fn peak_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_where_it_is_said() {
        assert_eq!(peak_of("VmPeak:\t  99 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 7 kB\n"), Some(2 << 20));
        for none in ["", "VmRSS:\t 7 kB\n", "VmHWM:\t many kB\n"] {
            assert_eq!(peak_of(none), None);
        }
    }
}
