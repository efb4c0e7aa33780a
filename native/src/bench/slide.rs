//! A whole slide: from the file to the predictions of every node, as `predict` streams them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use magnet_core::PerLevel;
use serde_json::json;

use super::report::Measurement;
use super::tissue::Tissue;
use super::{Bench, model, work};
use crate::cli::BenchKind;
use crate::console::Console;
use crate::model_file::ModelFile;
use crate::predict::{Job, predict_whole, to_disk};
use crate::synthetic::whole_slide::FILE;

const BINS: usize = 4096;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let (device, config) = (bench.device(), &bench.small.model);
    let bins = bench.bins(BINS);
    let tissue = Tissue::new(bins, config);
    let folder = tempfile::tempdir()?;
    let path = tissue.draw(bench.small.train.seed, folder.path())?;
    let model = model::ready(&bench.small, device, bench.precision)?;
    let mut nodes = PerLevel::default();
    let seconds = bench.repeats.time(
        || Ok(()),
        |()| {
            nodes = predict(&tissue, &path, &model, device)?;
            Ok(())
        },
    )?;
    Ok(Measurement::new(
        BenchKind::Slide,
        json!({
            "preset": bench.small.preset,
            "bins": nodes.bin,
            "spots": nodes.spot,
            "regions": nodes.region,
            "patch_px": config.levels.map(|level| level.patch_px),
            "width": config.width,
            "genes": config.genes,
        }),
        seconds,
        (bins, "bins/s"),
        work::whole_slide(config, nodes, bench.precision),
    ))
}

/// The slide that [`Tissue::draw`] left in a folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Opens the slide, lays its bins out and predicts them; returns the number of nodes. Predictions are handed out as they
/// are finished and not kept, as when they go to the disk.
///
/// # Errors
/// If the slide cannot be read or the device fails.
pub(super) fn predict(
    tissue: &Tissue,
    path: &Path,
    model: &ModelFile,
    device: &Device,
) -> Result<PerLevel<usize>> {
    let slide = tissue.open(path)?;
    let layout = tissue.layout(model.model.config())?;
    let nodes = layout.nodes();
    let console = Console::quiet();
    predict_whole(Job {
        model,
        slide: &slide.reader,
        layout: &layout,
        features: None,
        options: to_disk(false),
        device,
        console: &console,
    })?;
    Ok(nodes)
}
