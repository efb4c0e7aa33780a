//! `bench`: how fast this machine does the parts of the work, beside how fast it could at best.
//!
//! `floor` measures what the device can do, `work` counts what a part needs, one file per part measures it, `report`
//! puts them beside each other. `scale` runs parts at several sizes, each in a process of its own.

mod encode;
mod floor;
mod forward;
mod graph;
mod model;
mod patches;
mod report;
mod scale;
mod slide;
#[cfg(test)]
mod tests;
mod timing;
mod tissue;
mod train_step;
mod work;

use anyhow::Result;
use burn::tensor::Device;
use magnet_core::model::Architecture;
use magnet_core::weights::Precision;

use crate::cli::{BenchArgs, BenchKind};
use crate::config::RunConfig;
use crate::console::Console;
use crate::device::{self, ChosenDevice};
use crate::error::InputError;
use crate::interrupt;
use crate::train;
use report::{Measurement, Report};
use timing::Repeats;

/// Repetitions where nobody says how many.
const REPEATS: u32 = 5;
/// The preset of the small model.
const SMALL: &str = "demo";

/// Runs the command.
///
/// # Errors
/// If a setting is wrong, the device fails, or nothing can be written.
pub fn run(args: &BenchArgs, console: &Console) -> Result<()> {
    interrupt::watch();
    if let Some(folder) = &args.scale_part {
        return scale::part(args, folder, console);
    }
    if !args.scale.is_empty() {
        return scale::run(args, console);
    }
    let report = measure(args, console)?;
    console.result(&report.to_string(), &serde_json::to_value(&report)?)?;
    Ok(())
}

/// What every measurement is told.
struct Bench<'a> {
    args: &'a BenchArgs,
    /// The settings that were named, or the paper's.
    config: RunConfig,
    /// The settings that were named, or the small model's.
    small: RunConfig,
    chosen: &'a ChosenDevice,
    repeats: Repeats,
    /// Of the patch encoder in predictions.
    precision: Precision,
}

fn measure(args: &BenchArgs, console: &Console) -> Result<Report> {
    let (config, small) = (config_of(args)?, small_config_of(args)?);
    // The random numbers of a CPU device are the process's.
    let _one_at_a_time = train::exclusive();
    let chosen = device::choose(args.device.device, console)?;
    let precision = chosen.precision(args.half)?;
    let repeats = Repeats { warm_up: args.warm_up, repeats: args.repeats.unwrap_or(REPEATS) };
    console.say("measuring what the device can do");
    let floor = floor::measure(&chosen, repeats)?;
    let bench = Bench { args, config, small, chosen: &chosen, repeats, precision };
    let mut report = Report::new(&chosen, precision, floor);
    for kind in BenchKind::ALL {
        if args.only.is_empty() || args.only.contains(&kind) {
            console.say(format_args!("measuring {}", kind.name()));
            report.measurements.push(bench.measure(kind)?.beside(&floor));
        }
    }
    Ok(report)
}

impl Bench<'_> {
    fn device(&self) -> &Device {
        &self.chosen.device
    }

    fn measure(&self, kind: BenchKind) -> Result<Measurement> {
        match kind {
            BenchKind::Encode => encode::measure(self),
            BenchKind::Forward => forward::measure(self),
            BenchKind::TrainStep => train_step::measure(self),
            BenchKind::Graph => graph::measure(self),
            BenchKind::Patches => patches::measure(self),
            BenchKind::Slide => slide::measure(self),
        }
    }

    /// The bins that were asked for, else as many as this measurement has of itself.
    fn bins(&self, otherwise: usize) -> usize {
        self.args.bins.map_or(otherwise, |bins| bins as usize)
    }
}

/// The settings that the arguments name; the paper's where they name none.
fn config_of(args: &BenchArgs) -> Result<RunConfig> {
    let settings = &args.settings;
    if settings.encoder.is_some() || settings.features.is_some() || settings.cache.is_some() {
        let expected = "no encoder and no features: what is measured is made here";
        return Err(
            InputError::in_flag("--encoder, --features, --cache", "wide levels", expected, "one").into()
        );
    }
    if let Some(genes) = settings.genes.as_ref().filter(|genes| genes.parse::<usize>().is_err()) {
        return Err(InputError::in_flag("--genes", "gene panel", "a number", genes).into());
    }
    let mut config =
        RunConfig::load(settings.preset.as_deref(), None, settings.config.as_deref(), &settings.keys()?)?;
    config.model.genes = config.data.genes;
    // Of a preset that is made for an encoder's features the model's own encoder is measured.
    config.model.validate()?;
    let architecture = config.model.architecture;
    if !matches!(architecture, Architecture::Figure2 | Architecture::Published) {
        let expected = "figure2 or published: the work of other models is not counted";
        return Err(InputError::in_flag("--set", "model.architecture", expected, architecture.name()).into());
    }
    Ok(config)
}

/// The settings that the arguments name; the small model's where they name none.
fn small_config_of(args: &BenchArgs) -> Result<RunConfig> {
    let mut args = args.clone();
    if args.settings.preset.is_none() && args.settings.config.is_none() {
        args.settings.preset = Some(SMALL.to_owned());
    }
    config_of(&args)
}
