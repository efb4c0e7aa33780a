//! The `train` command: from its arguments to a run.

use anyhow::Result;

use super::{TrainOptions, TrainSummary, WideSource, plan, run};
use crate::cli::TrainArgs;
use crate::config::{RunConfig, Setting};
use crate::console::Console;
use crate::device;
use crate::error::InputError;
use crate::interrupt;
use crate::model_file::command_line;

/// Runs the command.
///
/// # Errors
/// As [`run`], and if stdout cannot be written.
pub fn command(args: &TrainArgs, console: &Console) -> Result<()> {
    let config = config_from(args)?;
    interrupt::watch();
    let chosen = device::choose(args.device.device, console)?;
    let stop = |_| interrupt::requested();
    let options = options_from(args, config, &chosen, console, &stop);
    if args.dry_run {
        let plan = plan(&options)?;
        console.result(&plan.to_string(), &serde_json::to_value(&plan)?)?;
        return Ok(());
    }
    let summary = run(&options)?;
    console.result(&describe(&summary), &serde_json::to_value(&summary)?)?;
    Ok(())
}

/// The options that arguments mean.
pub fn options_from<'a>(
    args: &TrainArgs,
    config: RunConfig,
    chosen: &device::ChosenDevice,
    console: &Console,
    stop: &'a dyn Fn(usize) -> bool,
) -> TrainOptions<'a> {
    let wide = match (&args.settings.encoder, &args.settings.features) {
        (Some(file), _) => WideSource::Encoder(file.clone()),
        (None, Some(folder)) => WideSource::Features(folder.clone()),
        (None, None) => WideSource::Shared,
    };
    TrainOptions {
        data: args.data.clone(),
        train: args.train.clone(),
        valid: args.valid.clone(),
        out: args.out.clone(),
        config,
        wide,
        cache: args.settings.cache.clone(),
        resume: args.resume,
        overwrite: args.overwrite,
        half: args.half,
        device: chosen.device.clone(),
        device_name: chosen.reason.clone(),
        command_line: command_line(),
        console: *console,
        stop,
    }
}

/// The configuration: preset, file and settings; the flags that stand for single keys come last. A run that is resumed
/// without naming a configuration goes on with its own.
///
/// # Errors
/// An unreadable file, an unknown key or preset, a value of a wrong type or out of range, or an encoder that the preset
/// needs and nobody gave.
pub fn config_from(args: &TrainArgs) -> Result<RunConfig> {
    let own = args.out.join("config.toml");
    let names_none = args.settings.preset.is_none() && args.settings.config.is_none() && args.model.is_none();
    let file = match &args.settings.config {
        Some(file) => Some(file.as_path()),
        None if args.resume && names_none && own.is_file() => Some(own.as_path()),
        None => None,
    };
    let mut settings = args.settings.keys()?;
    if let Some(path) = &args.init {
        let assignment = format!("train.init={}", toml::Value::from(path.display().to_string()));
        settings.push(Setting::flag("--init", path.display(), assignment));
    }
    let config = RunConfig::load(args.settings.preset.as_deref(), args.model.as_deref(), file, &settings)?;
    if config.needs_encoder() && args.settings.encoder.is_none() && args.settings.features.is_none() {
        let expected = "--encoder FILE or --features DIR, which this preset is made for";
        return Err(InputError::in_flag("--preset", &config.preset, expected, "neither").into());
    }
    Ok(config)
}

fn describe(summary: &TrainSummary) -> String {
    let mut text = format!(
        "{}\nepochs run: {}; weights of epoch {} kept; {} steps, {:.0} s",
        summary.model.display(),
        summary.epochs,
        summary.kept_epoch,
        summary.steps,
        summary.seconds
    );
    if let Some(scores) = summary.valid.as_ref().and_then(|levels| levels.bin.as_ref()) {
        text += &format!(
            "\nvalidation: Pearson per gene {:.3}, per spot {:.3}, MSE {:.4}",
            scores.pcc_gene_mean, scores.pcc_spot, scores.mse
        );
        if let Some(mean) = &scores.mean_predictor {
            text += &format!(" (training mean: per spot {:.3}, MSE {:.4})", mean.pcc_spot, mean.mse);
        }
    }
    text
}
