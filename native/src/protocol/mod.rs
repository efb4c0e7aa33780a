//! Protocols that compare models fairly: the same folds, the same slides held out, the same scores.
//!
//! `folds` divides the slides, `resolution` and `variants` say how settings follow, `plan` puts it together before
//! anything is trained, `runs` trains and scores, `results` and `table` say what came of it.

mod difference;
mod folds;
mod plan;
mod resolution;
pub mod results;
mod runs;
mod table;
mod variants;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::plan::{Compared, PLAN_FILE, Plan};
use self::runs::TrainAndEvaluate;
use crate::cli::{AblateArgs, CrossValidateArgs, ProtocolArgs};
use crate::console::Console;
use crate::device;
use crate::error::InputError;
use crate::interrupt;

pub use variants::Variant;

/// Compares models over folds.
///
/// # Errors
/// Wrong input, before anything is written; [`crate::error::Interrupted`] with everything done kept; what training and
/// scoring say.
pub fn cross_validate(args: &CrossValidateArgs, console: &Console) -> Result<()> {
    run(&args.common, &Compared::Models(&args.models), console)
}

/// Compares MagNet with itself without its parts.
///
/// # Errors
/// As [`cross_validate`].
pub fn ablate(args: &AblateArgs, console: &Console) -> Result<()> {
    let all = Variant::value_variants();
    let variants = if args.variants.is_empty() { all } else { &args.variants };
    run(&args.common, &Compared::Variants(variants), console)
}

fn run(args: &ProtocolArgs, compared: &Compared<'_>, console: &Console) -> Result<()> {
    let plan = Plan::new(args, compared, console)?;
    if args.dry_run {
        console.result(&plan.to_string(), &serde_json::to_value(&plan)?)?;
        return Ok(());
    }
    interrupt::watch();
    open_folder(args, &plan)?;
    let chosen = device::choose(args.device.device, console)?;
    let mut runner = TrainAndEvaluate { args, device: &chosen, console };
    let results = runs::all(&plan, &args.out, &mut runner, &interrupt::requested, console)?;
    console.result(&runs::table(&plan, &results, plan.runs()), &serde_json::to_value(&results)?)?;
    Ok(())
}

/// Makes the output folder of a new plan, or checks that the one that is there belongs to this plan.
fn open_folder(args: &ProtocolArgs, plan: &Plan) -> Result<()> {
    let out = &args.out;
    if is_occupied(out) {
        let has_plan = out.join(PLAN_FILE).is_file();
        let refuse =
            |expected: &str, found: &str| Err(InputError::in_file(out, "--out", expected, found).into());
        match (args.resume, args.overwrite) {
            (true, _) if has_plan => return plan.check_stored(out),
            (true, _) => return refuse("the folder of a protocol (with plan.json)", "another folder"),
            // Only results of a protocol are replaced, never some other folder that was named by mistake.
            (_, true) if !has_plan => {
                return refuse("the folder of a protocol (with plan.json)", "another folder");
            }
            (_, true) => {
                fs::remove_dir_all(out).with_context(|| format!("{}: cannot replace", out.display()))?;
            }
            _ => return refuse("an empty folder, or --resume or --overwrite", "a folder with files in it"),
        }
    }
    plan.write(out)
}

fn is_occupied(out: &Path) -> bool {
    out.exists() && (!out.is_dir() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()))
}
