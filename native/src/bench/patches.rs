//! Patches around neighbouring bins from a slide on disk, by all threads. The slide is opened anew each time, so that
//! every tile is decoded; the file itself is in the system's memory.

use anyhow::Result;
use serde_json::json;

use super::report::Measurement;
use super::tissue::Tissue;
use super::{Bench, work};
use crate::cli::BenchKind;
use crate::read_ahead::read_patches;

const PATCHES: usize = 2000;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let config = &bench.config.model;
    let geometry = config.levels.bin;
    let patches = bench.args.patches.map_or(PATCHES, |patches| patches as usize);
    let side = bench.args.patch_px.map_or(geometry.patch_px, |side| side as usize);
    let tissue = Tissue::new(patches, config);
    let folder = tempfile::tempdir()?;
    let path = tissue.draw(bench.config.train.seed, folder.path())?;
    let side_um = side as f64 * tissue.um_per_px;
    let seconds = bench.repeats.time(
        || tissue.open(&path),
        |slide| {
            read_patches(slide.reader.as_ref(), &tissue.centers_px, side_um, side, None)?;
            Ok(())
        },
    )?;
    Ok(Measurement::new(
        BenchKind::Patches,
        json!({
            "preset": bench.config.preset,
            "patches": patches,
            "patch_px": side,
            "threads": rayon::current_num_threads(),
        }),
        seconds,
        (patches, "patches/s"),
        work::patches(patches, side),
    ))
}
