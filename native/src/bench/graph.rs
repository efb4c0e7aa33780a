//! The tiles of a slide, the parents of its bins and the neighbour tables of all levels.

use anyhow::Result;
use magnet_core::layout::SlideLayout;
use serde_json::json;

use super::report::Measurement;
use super::tissue::Tissue;
use super::{Bench, work};
use crate::cli::BenchKind;

const BINS: usize = 100_000;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let config = &bench.config.model;
    let bins = bench.bins(BINS);
    let tissue = Tissue::new(bins, config);
    let mut nodes = 0;
    let seconds = bench.repeats.time(
        || Ok(()),
        |()| {
            let layout: SlideLayout = tissue.layout(config)?;
            nodes = layout.nodes().iter().map(|(_, nodes)| nodes).sum();
            Ok(())
        },
    )?;
    Ok(Measurement::new(
        BenchKind::Graph,
        json!({
            "preset": bench.config.preset,
            "bins": bins,
            "nodes": nodes,
            "neighbors": config.neighbors,
            "threads": 1,
        }),
        seconds,
        (bins, "bins/s"),
        work::neighbor_tables(nodes, config.neighbors),
    ))
}
