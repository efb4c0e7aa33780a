//! `--dry-run`: everything is read and checked, one step is taken, nothing is written.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use magnet_core::level::PerLevel;
use serde::Serialize;

use super::TrainOptions;
use super::data::{LevelSource, TrainingSlide};
use super::rehearsal::Rehearsal;
use super::setup::{Setup, for_values};
use crate::config::OptimizerConfig;

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Slides to fit to.
    pub train: Vec<PlannedSlide>,
    /// Slides to validate on.
    pub valid: Vec<PlannedSlide>,
    /// Genes.
    pub genes: usize,
    /// Parameters and constants of the model.
    pub parameters: usize,
    /// Steps of the first epoch.
    pub steps_per_epoch: usize,
    /// Updates of the weights that these make: `train.accumulate_steps` of them one.
    pub updates_per_epoch: usize,
    /// Epochs.
    pub epochs: usize,
    /// Nodes of the largest batch of the first epoch, halo included.
    pub largest_batch: PerLevel<usize>,
    /// Memory for weights, gradients, optimizer state and kept patches, in MiB. Activations come on top.
    pub memory_mib: f64,
    /// Seconds of the one step that was taken.
    pub step_seconds: f64,
    /// Loss of that step.
    pub loss: f64,
    /// Estimated seconds of the whole run, without validation.
    pub estimated_seconds: f64,
    /// The device.
    pub device: String,
    /// Every setting, TOML.
    pub config: String,
}

/// One slide of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedSlide {
    /// The slide's id.
    pub id: String,
    /// Nodes of each level.
    pub nodes: PerLevel<usize>,
    /// Whether all patches are kept in memory.
    pub patches_in_memory: bool,
}

/// Reads and checks everything, takes one step, and says what a run would do. Nothing is written but the cache of
/// frozen features.
///
/// # Errors
/// As [`super::run`].
pub fn plan(options: &TrainOptions<'_>) -> Result<Plan> {
    let _one_at_a_time = super::exclusive();
    let options = &for_values(options)?;
    let setup = Setup::open(options)?;
    let config = &options.config.train;
    let mut rehearsal = Rehearsal::new(options, &setup)?;
    let parameters = rehearsal.parameters();
    let steps_per_epoch = rehearsal.steps_per_epoch;
    let largest_batch = rehearsal.largest_batch;
    let started = Instant::now();
    let terms = rehearsal.step()?;
    let step_seconds = started.elapsed().as_secs_f64();

    let copies = match config.optimizer {
        OptimizerConfig::Sgd { .. } => 3,
        OptimizerConfig::Adamw { .. } => 4,
    } + usize::from(config.ema_decay > 0.0);
    let patches: usize = setup.training.iter().chain(&setup.validation).map(kept_bytes).sum();
    let slides = |slides: &[TrainingSlide]| slides.iter().map(planned).collect();
    Ok(Plan {
        train: slides(&setup.training),
        valid: slides(&setup.validation),
        genes: setup.panel.len(),
        parameters,
        steps_per_epoch,
        updates_per_epoch: steps_per_epoch.div_ceil(config.accumulate_steps.max(1)),
        epochs: config.epochs,
        largest_batch,
        memory_mib: (parameters * 4 * copies + patches) as f64 / f64::from(1 << 20),
        step_seconds,
        loss: terms.total,
        estimated_seconds: step_seconds * (steps_per_epoch * config.epochs) as f64,
        device: options.device_name.clone(),
        config: options.config.to_toml()?,
    })
}

/// A length of time in its natural unit.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}

fn stores(slide: &TrainingSlide) -> impl Iterator<Item = &super::data::PatchStore> {
    slide.inputs.iter().filter_map(|(_, source)| match source {
        LevelSource::Patches(store) => Some(store),
        LevelSource::Features(_) | LevelSource::Unused => None,
    })
}

fn planned(slide: &TrainingSlide) -> PlannedSlide {
    PlannedSlide {
        id: slide.id.clone(),
        nodes: slide.layout.nodes(),
        patches_in_memory: stores(slide).all(super::data::PatchStore::is_kept),
    }
}

fn kept_bytes(slide: &TrainingSlide) -> usize {
    stores(slide).map(super::data::PatchStore::kept_bytes).sum()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.config)?;
        for (what, slides) in [("train", &self.train), ("valid", &self.valid)] {
            for PlannedSlide { id, nodes, patches_in_memory } in slides {
                let kept = if *patches_in_memory { "" } else { ", patches read as needed" };
                writeln!(
                    f,
                    "{what} {id}: {} bins, {} spots, {} regions{kept}",
                    nodes.bin, nodes.spot, nodes.region
                )?;
            }
        }
        writeln!(f, "{} genes, {} parameters, on {}", self.genes, self.parameters, self.device)?;
        write!(f, "epochs: {}; steps in each: {}", self.epochs, self.steps_per_epoch)?;
        match self.updates_per_epoch == self.steps_per_epoch {
            true => writeln!(f)?,
            false => writeln!(f, ", which make {} updates", self.updates_per_epoch)?,
        }
        let largest = &self.largest_batch;
        writeln!(
            f,
            "largest batch: {} bins, {} spots, {} regions, halo included",
            largest.bin, largest.spot, largest.region
        )?;
        writeln!(
            f,
            "{:.0} MiB for weights, optimizer and patches; activations come on top",
            self.memory_mib
        )?;
        write!(
            f,
            "one step took {:.2} s (loss {:.4}): about {} in all; nothing was written",
            self.step_seconds,
            self.loss,
            duration(self.estimated_seconds)
        )
    }
}
