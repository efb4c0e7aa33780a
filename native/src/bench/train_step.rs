//! One step of training, as `train` takes it: patches, forward pass, loss, backward pass, update.

use anyhow::Result;
use magnet_core::PerLevel;
use serde_json::json;

use super::report::Measurement;
use super::timing::wait;
use super::tissue::Tissue;
use super::{Bench, work};
use crate::cli::BenchKind;
use crate::config::OptimizerConfig;
use crate::console::Console;
use crate::train::{Rehearsal, Setup, TrainOptions, WideSource};

/// The paper's model of ResNet-50 takes some 60 MB for each bin and its share of tiles, and this is to run everywhere.
const BINS: usize = 64;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let bins = bench.bins(BINS);
    let mut config = bench.config.clone();
    // One block of all bins; and none is to be left out.
    config.train.batch_bins = bins;
    config.data.min_counts = 0;
    let tissue = Tissue::new(bins, &config.model);
    let folder = tempfile::tempdir()?;
    let path = tissue.draw(config.train.seed, folder.path())?;
    let slide = tissue.measured(config.data.genes, path)?;
    let options = TrainOptions {
        data: folder.path().to_path_buf(),
        train: vec![slide.id.clone()],
        valid: Vec::new(),
        out: folder.path().to_path_buf(),
        config,
        wide: WideSource::Shared,
        cache: None,
        resume: false,
        overwrite: false,
        half: false,
        device: bench.device().clone(),
        device_name: String::new(),
        command_line: Vec::new(),
        console: Console::quiet(),
        stop: &|_| false,
    };
    let setup = Setup::of_slides(&options, vec![slide], Vec::new())?;
    let mut rehearsal = Rehearsal::new(&options, &setup)?;
    let seconds = bench.repeats.time(
        || Ok(()),
        |()| {
            rehearsal.step()?;
            wait(bench.device())
        },
    )?;
    let block = rehearsal.block();
    let nodes = PerLevel::from_fn(|level| block.nodes.get(level).len());
    let states = match options.config.train.optimizer {
        OptimizerConfig::Sgd { momentum, .. } => u64::from(momentum > 0.0),
        OptimizerConfig::Adamw { .. } => 2,
    };
    Ok(Measurement::new(
        BenchKind::TrainStep,
        json!({
            "preset": options.config.preset,
            "core_bins": block.core.bin,
            "bins": nodes.bin,
            "spots": nodes.spot,
            "regions": nodes.region,
            "patch_px": setup.model.levels.map(|level| level.patch_px),
            "parameters": rehearsal.parameters(),
        }),
        seconds,
        (block.core.bin, "bins/s"),
        work::training(&setup.model, nodes, block.core, states),
    ))
}
