//! Everything after the encoder, over encoded nodes of blocks with their halo.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use magnet_core::batch::{LevelInput, MagNetBatch};
use magnet_core::expression::Matrix;
use magnet_core::layout::{Block, SlideLayout};
use magnet_core::predict::PredictOptions;
use magnet_core::random::stream;
use magnet_core::weights::Precision;
use magnet_core::{ExpressionModel, Level, MagNetConfig, PerLevel};
use rand::RngExt;
use serde_json::json;

use super::report::Measurement;
use super::tissue::Tissue;
use super::{Bench, model, work};
use crate::cli::BenchKind;

/// Bins of the tissue for each bin of the block, so that the block lies among others and has its whole halo.
const TISSUE: usize = 16;
/// Rows of features that are kept; the nodes of a slide take them in turn, so that memory does not grow with it.
const KEPT_ROWS: usize = 4096;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Measurement> {
    let (device, config) = (bench.device(), &bench.config.model);
    let bins = bench.bins(PredictOptions::default().block_bins);
    let layout = Tissue::new(bins.saturating_mul(TISSUE), config).layout(config)?;
    let block = middle_block(&layout, bins, config.halo_hops()).context("the tissue has no block")?;
    let features = Features::draw(config.width, bench.config.train.seed);
    let model = model::ready(&bench.config, device, Precision::Single)?.model;
    let batch = features.batch(&block, device)?;
    let seconds = bench.repeats.time(|| Ok(()), |()| predict(&model, &batch))?;
    let nodes = PerLevel::from_fn(|level| block.nodes.get(level).len());
    Ok(Measurement::new(
        BenchKind::Forward,
        json!({
            "preset": bench.config.preset,
            "core_bins": block.core.bin,
            "bins": nodes.bin,
            "spots": nodes.spot,
            "regions": nodes.region,
            "width": config.width,
            "genes": config.genes,
        }),
        seconds,
        (block.core.bin, "bins/s"),
        work::predicting(config, nodes, block.core),
    ))
}

/// The block of at most `bins` core bins in which the middle of the slide lies.
fn middle_block(layout: &SlideLayout, bins: usize, hops: usize) -> Option<Block> {
    let middle = (layout.nodes().bin / 2) as u32;
    let core = layout.block_cores(bins, None).into_iter().find(|core| core.contains(&middle))?;
    Some(layout.block(core, hops))
}

/// Runs the model on a batch and reads the predictions back, which waits for the device.
///
/// # Errors
/// If the batch does not fit the model or the device fails.
pub(super) fn predict(model: &dyn ExpressionModel, batch: &MagNetBatch) -> Result<()> {
    let PerLevel { bin, spot, region } = model.forward(batch)?;
    for level in [bin, spot, region] {
        if !level.dims().contains(&0) {
            level.try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error}"))?;
        }
    }
    Ok(())
}

/// What an encoder could have made of the nodes of a slide.
pub(super) struct Features(Matrix);

impl Features {
    pub(super) fn draw(width: usize, seed: u64) -> Self {
        let mut rng = stream(seed, "encoded nodes", &[]);
        let values = (0..KEPT_ROWS * width).map(|_| rng.random_range(-1.0..1.0_f32)).collect();
        Self(Matrix { rows: KEPT_ROWS, cols: width, values })
    }

    /// The batch of a block whose nodes are encoded.
    ///
    /// # Errors
    /// If the block is none.
    pub(super) fn batch(&self, block: &Block, device: &Device) -> Result<MagNetBatch> {
        let inputs = PerLevel::try_from_fn(|level: Level| {
            let nodes = block.nodes.get(level);
            let rows: Vec<u32> = nodes.iter().map(|node| node % KEPT_ROWS as u32).collect();
            anyhow::Ok(LevelInput::Encoded(self.rows(level, &rows, device)?))
        })?;
        Ok(MagNetBatch::from_block(block, inputs, None, device)?)
    }

    fn rows(&self, level: Level, rows: &[u32], device: &Device) -> Result<Tensor<2>> {
        Ok(magnet_core::batch::rows_tensor(&self.0, rows, level, device)?)
    }
}

/// Predicts a slide whose nodes are encoded, block by block.
///
/// # Errors
/// If the device fails.
pub(super) fn predict_blocks(
    model: &dyn ExpressionModel,
    features: &Features,
    layout: &SlideLayout,
    block_bins: usize,
    device: &Device,
) -> Result<()> {
    let config: &MagNetConfig = model.config();
    for block in layout.blocks(block_bins, config.halo_hops(), None) {
        if crate::interrupt::requested() {
            return Err(crate::error::Interrupted("nothing was measured to its end".into()).into());
        }
        predict(model, &features.batch(&block, device)?)?;
    }
    Ok(())
}
