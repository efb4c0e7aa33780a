//! The runs of a plan, one after the other; what is done is never done again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::Level;
use magnet_core::metrics::LevelScores;
use magnet_core::weights::Precision;

use super::plan::{Arm, Plan, Resolution, train_args};
use super::results::{ResultRow, Results};
use super::table::markdown;
use crate::cli::ProtocolArgs;
use crate::console::Console;
use crate::dataset::{Dataset, rebin};
use crate::device::ChosenDevice;
use crate::error::{InputError, Interrupted};
use crate::evaluate::{HeldOut, score_slides};
use crate::files::{Overwrite, read_limited, write_atomic};
use crate::interrupt;
use crate::model_file::ModelFile;
use crate::train::{self, TrainOptions, WideSource};

/// The results' name in the output folder.
pub const RESULTS_FILE: &str = "results.json";
/// The table's name in the output folder.
pub const TABLE_FILE: &str = "table.md";
/// The scores' name in the folder of a run.
const SCORES_FILE: &str = "scores.json";
/// Scores take some hundred bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Scores of a run on its held-out slides, by level.
pub type RunScores = BTreeMap<Level, LevelScores>;

/// One run of a plan.
pub struct Run<'a> {
    /// The bins.
    pub resolution: &'a Resolution,
    /// The model.
    pub arm: &'a Arm,
    /// Slides to train on.
    pub train: Vec<String>,
    /// Slides to score.
    pub held_out: &'a [String],
    /// The run's folder.
    pub folder: PathBuf,
}

/// Trains and scores one run.
pub trait Runner {
    /// The scores on the held-out slides.
    ///
    /// # Errors
    /// Whatever training and scoring say; [`Interrupted`] where the user interrupts.
    fn run(&mut self, run: &Run<'_>) -> Result<RunScores>;
}

/// Does all runs of a plan that have no scores in `out` yet, fold by fold, so that what is there when it is interrupted
/// compares all models on the same slides. Results and table are written after every run.
///
/// # Errors
/// What a run says, and whatever the disk says; [`Interrupted`] when `stop` says so, with everything done kept.
pub fn all(
    plan: &Plan,
    out: &Path,
    runner: &mut dyn Runner,
    stop: &dyn Fn() -> bool,
    console: &Console,
) -> Result<Results> {
    let mut results = plan.empty_results();
    let mut done = 0;
    for resolution in &plan.resolutions {
        for (fold, held_out) in plan.folds.iter().enumerate() {
            for arm in &resolution.arms {
                let name = format!("{}um/{}/fold-{fold}", resolution.bin_um, arm.folder);
                let folder = out.join(&name);
                let scores_path = folder.join(SCORES_FILE);
                done += 1;
                let stored = read_scores(&scores_path)?;
                let new = stored.is_none();
                let scores = match stored {
                    Some(scores) => {
                        console.detail(format_args!("{name}: done before"));
                        scores
                    }
                    None if stop() => return Err(interrupted(out).into()),
                    None => {
                        console.say(format_args!(
                            "run {done} of {}: {name} (holds out {})",
                            plan.runs(),
                            held_out.join(", ")
                        ));
                        let train = plan.training_slides(fold);
                        let run = Run { resolution, arm, train, held_out, folder };
                        let scores = runner.run(&run).map_err(|error| match error.is::<Interrupted>() {
                            true => interrupted(out).into(),
                            false => error.context(name.clone()),
                        })?;
                        let json = serde_json::to_vec_pretty(&scores)?;
                        write_atomic(&scores_path, &json, Overwrite::Yes)?;
                        // As a resumed protocol will read them, to the last digit.
                        read_scores(&scores_path)?.unwrap_or(scores)
                    }
                };
                results.rows.extend(scores.into_iter().map(|(level, scores)| ResultRow {
                    model: arm.model.clone(),
                    variant: arm.variant.clone(),
                    bin_um: resolution.bin_um,
                    level,
                    fold,
                    held_out: held_out.clone(),
                    scores,
                    run: name.clone(),
                }));
                if new || done == plan.runs() {
                    write(plan, out, &results, done)?;
                }
            }
        }
    }
    Ok(results)
}

/// The table with the plan's notes.
pub fn table(plan: &Plan, results: &Results, done: usize) -> String {
    let mut notes = plan.notes();
    if done < plan.runs() {
        notes.push(format!("{done} of {} runs are done.", plan.runs()));
    }
    markdown(results, &notes)
}

fn write(plan: &Plan, out: &Path, results: &Results, done: usize) -> Result<()> {
    results.write(&out.join(RESULTS_FILE))?;
    write_atomic(&out.join(TABLE_FILE), table(plan, results, done).as_bytes(), Overwrite::Yes)
}

fn interrupted(out: &Path) -> Interrupted {
    Interrupted(format!("what is done is kept in {}; the same command with --resume goes on", out.display()))
}

/// The scores of a finished run; `None` where there are none yet.
fn read_scores(path: &Path) -> Result<Option<RunScores>> {
    if !path.exists() {
        return Ok(None);
    }
    let scores: RunScores = serde_json::from_slice(&read_limited(path, MOST_BYTES)?)
        .map_err(|error| InputError::in_file(path, "JSON", "the scores of a run by level", error))?;
    Ok(Some(scores))
}

/// Trains with `train` and scores with `evaluate`.
pub struct TrainAndEvaluate<'a> {
    /// What the user gave.
    pub args: &'a ProtocolArgs,
    /// Where to compute.
    pub device: &'a ChosenDevice,
    /// Where to talk.
    pub console: &'a Console,
}

impl TrainAndEvaluate<'_> {
    /// The dataset of a resolution, made where it is not there yet.
    fn dataset(&self, resolution: &Resolution, ids: &[&String]) -> Result<Dataset> {
        if !resolution.summed {
            return Dataset::open(&self.args.data);
        }
        let source = Dataset::open(&self.args.data)?;
        let path = self.args.out.join(format!("{}um", resolution.bin_um)).join("dataset");
        // A slide is listed once it is complete.
        let there = Dataset::open(&path).map(|dataset| dataset.ids().to_vec()).unwrap_or_default();
        for id in ids.iter().filter(|id| !there.contains(id)) {
            if interrupt::requested() {
                return Err(interrupted(&self.args.out).into());
            }
            self.console.say(rebin(&source, id, resolution.tile_um, &path)?);
        }
        Dataset::open(&path)
    }

    fn model(&self, run: &Run<'_>, dataset: &Dataset) -> Result<ModelFile> {
        if let Some(model) = train::finished_model(&run.folder) {
            return ModelFile::load(&model, &self.device.device, Precision::Single);
        }
        clear_unbegun(&run.folder)?;
        let stop = |_| interrupt::requested();
        let args = train_args(self.args, None);
        let options = train::options_from(&args, run.arm.config.clone(), self.device, self.console, &stop);
        let wide = if run.arm.config.model.wide_levels { options.wide } else { WideSource::Shared };
        let summary = train::run(&TrainOptions {
            data: dataset.root().to_path_buf(),
            train: run.train.clone(),
            out: run.folder.clone(),
            resume: true,
            wide,
            ..options
        })?;
        ModelFile::load(&summary.model, &self.device.device, Precision::Single)
    }
}

impl Runner for TrainAndEvaluate<'_> {
    fn run(&mut self, run: &Run<'_>) -> Result<RunScores> {
        let ids: Vec<&String> = run.train.iter().chain(run.held_out).collect();
        let dataset = self.dataset(run.resolution, &ids)?;
        let model = self.model(run, &dataset)?;
        let held_out = HeldOut {
            dataset: &dataset,
            slides: run.held_out,
            allow_training_slides: false,
            augment: false,
            features: self.args.settings.features.as_deref(),
        };
        let (_, scores) = score_slides(&model, &held_out, &self.device.device, self.console)?;
        Ok(scores.levels.into_iter().map(|(level, evaluation)| (level, evaluation.scores)).collect())
    }
}

/// Removes what is left of a run that was ended before its configuration stood there: nothing that could go on.
fn clear_unbegun(folder: &Path) -> Result<()> {
    if folder.is_dir() && !folder.join(train::CONFIG_FILE).is_file() {
        fs::remove_dir_all(folder).with_context(|| format!("{}: cannot begin anew", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
