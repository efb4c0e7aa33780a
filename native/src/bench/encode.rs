//! The patch encoder, as prediction runs it: patches that lie on the device, in chunks of as many pixels.

use anyhow::Result;
use burn::tensor::{Distribution, Tensor};
use magnet_core::batch::LevelInput;
use magnet_core::predict::PredictOptions;
use magnet_core::{ExpressionModel, Level};
use serde_json::json;

use super::report::Measurement;
use super::timing::wait;
use super::{Bench, model, work};
use crate::cli::BenchKind;

const PATCHES: usize = 64;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let (device, config) = (bench.device(), &bench.config.model);
    let patches = bench.args.patches.map_or(PATCHES, |patches| patches as usize);
    let side = bench.args.patch_px.map_or(config.levels.bin.patch_px, |side| side as usize);
    let model = model::ready(&bench.config, device, bench.precision)?.model;
    let chunk = (PredictOptions::default().chunk_pixels / (side * side)).max(1);
    let draw = |first: usize| {
        let shape = [chunk.min(patches - first), 3, side, side];
        LevelInput::Patches(Tensor::random(shape, Distribution::Uniform(0.0, 1.0), device))
    };
    let chunks: Vec<LevelInput> = (0..patches).step_by(chunk).map(draw).collect();
    wait(device)?;
    let seconds = bench.repeats.time(
        || Ok(()),
        |()| {
            let encoded =
                chunks.iter().map(|chunk| model.encode(Level::Bin, chunk)).collect::<Result<Vec<_>, _>>()?;
            wait(device)?;
            drop(encoded);
            Ok(())
        },
    )?;
    Ok(Measurement::new(
        BenchKind::Encode,
        json!({
            "preset": bench.config.preset,
            "patches": patches,
            "patch_px": side,
            "chunk": chunk.min(patches),
            "width": config.width,
        }),
        seconds,
        (patches, "patches/s"),
        work::encoding(config, patches, side, bench.precision),
    ))
}
