//! How fast a model is on a device: a small run, measured.

use std::sync::Arc;

use magnet_core::layout::SlideLayout;
use magnet_core::predict::{PredictOptions, PredictRun, Progress};
use magnet_core::slide::SlideImage;
use magnet_core::{Level, MagNetConfig, PerLevel};

use super::clock::{now_ms, yield_to_events};
use super::device::EngineDevice;
use super::error::EngineError;
use super::model::OpenModel;
use crate::protocol::BatchLimits;

/// Bins of the small run: enough for the mean of a few patches.
const SAMPLE_BINS: usize = 8;
/// Most pixels of patches that pass an encoder together, whatever the device.
const MAX_CHUNK_PIXELS: usize = 1_000_000;
/// Bytes of the largest buffer that an encoder needs for each pixel of its patches, rounded up: a ResNet's first
/// convolution as a matrix has 147 columns of 4 bytes at a quarter of the pixels.
const BUFFER_BYTES_PER_PIXEL: u64 = 256;
/// Time of a step that keeps the CPU's worker able to answer, in seconds.
const CPU_STEP_S: f64 = 0.08;
/// Time of a step on a GPU, in seconds; meanwhile the worker answers.
const GPU_STEP_S: f64 = 0.3;
/// A GPU is measured at its full batch size as well where this does not take longer, in seconds.
const MAX_FULL_SAMPLE_S: f64 = 2.0;

/// Seconds of each kind of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// For one patch of each level through its encoder.
    patch_s: PerLevel<f64>,
    /// For the mixing of a block of [`SAMPLE_BINS`] bins.
    mix_s: f64,
    /// Whether the mixing grows with the block; on a GPU a block takes as long as a part of one.
    mix_grows: bool,
}

impl Rates {
    /// Measures a model on a small part of a slide. The first pass over it on a GPU compiles the kernels and is not
    /// counted.
    ///
    /// # Errors
    /// Whatever a run gives.
    pub async fn measure(
        model: &OpenModel,
        slide: &Arc<SlideImage>,
        layout: &SlideLayout,
        device: &EngineDevice,
        limits: BatchLimits,
    ) -> Result<Self, EngineError> {
        let sample = Sample { model, slide, layout, device };
        if !device.is_gpu() {
            return sample.pass(SAMPLE_BINS, 1).await;
        }
        sample.pass(SAMPLE_BINS, 1).await?;
        let small = sample.pass(SAMPLE_BINS, 1).await?;
        let config = model.model.config();
        let chunk_pixels = small.chunk_pixels(config, device, limits);
        let bins = (chunk_pixels / pixels(config, Level::Bin)).clamp(1, layout.centers.bin.len().max(1));
        if bins as f64 * small.patch_s.bin > MAX_FULL_SAMPLE_S {
            return Ok(small);
        }
        let full = sample.pass(bins, chunk_pixels).await?;
        Ok(Self {
            patch_s: PerLevel::from_fn(|level| small.patch_s.get(level).min(*full.patch_s.get(level))),
            ..small
        })
    }

    /// How many pixels may pass an encoder together, so that a step is short and its buffers fit.
    pub fn chunk_pixels(&self, config: &MagNetConfig, device: &EngineDevice, limits: BatchLimits) -> usize {
        let slowest = Level::ALL
            .into_iter()
            .map(|level| self.patch_s.get(level) / pixels(config, level) as f64)
            .fold(0.0, f64::max);
        let timely = if slowest > 0.0 { (step_s(device) / slowest) as usize } else { MAX_CHUNK_PIXELS };
        timely.clamp(pixels(config, Level::Bin), most_chunk_pixels(config, device, limits))
    }

    /// Seconds for what is left of a run, where a block of the run has `nodes_per_bin` local bins for each core bin.
    pub fn remaining_s(&self, layout: &SlideLayout, left: Progress, nodes_per_bin: f64) -> f64 {
        let nodes = layout.nodes();
        let tiles = (nodes.spot + nodes.region).max(1) as f64;
        let tiles_left = left.tiles_total.saturating_sub(left.tiles_done) as f64 / tiles;
        let wide_s = nodes.spot as f64 * self.patch_s.spot + nodes.region as f64 * self.patch_s.region;
        let bins_left = left.bins_total.saturating_sub(left.bins_done) as f64 * nodes_per_bin;
        let mix_s = if self.mix_grows {
            bins_left * self.mix_s / SAMPLE_BINS as f64
        } else {
            left.blocks_total.saturating_sub(left.blocks_done) as f64 * self.mix_s
        };
        tiles_left * wide_s + bins_left * self.patch_s.bin + mix_s
    }
}

/// The time that a step should take, in seconds.
pub(super) fn step_s(device: &EngineDevice) -> f64 {
    if device.is_gpu() { GPU_STEP_S } else { CPU_STEP_S }
}

/// Most pixels that may pass an encoder together.
pub(super) fn most_chunk_pixels(config: &MagNetConfig, device: &EngineDevice, limits: BatchLimits) -> usize {
    let asked = if limits.chunk_pixels == 0 { MAX_CHUNK_PIXELS } else { limits.chunk_pixels };
    let fits = match device.report().max_binding_bytes {
        0 => MAX_CHUNK_PIXELS,
        bytes => usize::try_from(bytes / BUFFER_BYTES_PER_PIXEL).unwrap_or(MAX_CHUNK_PIXELS),
    };
    // One bin's patch is the least there is.
    asked.min(fits).min(MAX_CHUNK_PIXELS).max(pixels(config, Level::Bin))
}

fn pixels(config: &MagNetConfig, level: Level) -> usize {
    let side = config.levels.get(level).patch_px;
    (side * side).max(1)
}

/// What is measured.
struct Sample<'a> {
    model: &'a OpenModel,
    slide: &'a Arc<SlideImage>,
    layout: &'a SlideLayout,
    device: &'a EngineDevice,
}

impl Sample<'_> {
    /// Predicts some bins from the middle of the slide and takes the time of each step.
    async fn pass(&self, bins: usize, chunk_pixels: usize) -> Result<Rates, EngineError> {
        let config = self.model.model.config();
        let centers = &self.layout.centers.bin;
        let first = (centers.len() / 2).min(centers.len().saturating_sub(bins));
        let centers: Vec<_> = centers.iter().skip(first).take(bins).copied().collect();
        let layout = SlideLayout::new(&centers, &config.levels, config.neighbors)
            .map_err(|error| EngineError::internal(error.to_string()))?;
        let options = PredictOptions { block_bins: bins, chunk_pixels, ..PredictOptions::default() };
        let mut run = PredictRun::new(config, Arc::clone(self.slide), layout, options)?;
        let spots = run.layout().centers.spot.len();
        let (mut patch_s, mut patches, mut mix_s) =
            (PerLevel::<f64>::default(), PerLevel::<usize>::default(), 0.0);
        while !run.is_complete() {
            let before = run.progress();
            let began = now_ms();
            let piece = self
                .device
                .guarded(async {
                    let piece =
                        run.step(&self.model.model, self.model.wide_source(), self.device.burn()).await?;
                    self.device.settled().await;
                    Ok(piece)
                })
                .await?;
            let seconds = (now_ms() - began) / 1000.0;
            let after = run.progress();
            let tiles = after.tiles_done - before.tiles_done;
            let (level, count) = match (tiles, piece) {
                (0, None) => (Level::Bin, after.bins_underway - before.bins_underway),
                (0, Some(_)) => {
                    mix_s += seconds;
                    yield_to_events().await;
                    continue;
                }
                _ if before.tiles_done < spots => (Level::Spot, tiles),
                _ => (Level::Region, tiles),
            };
            *patch_s.get_mut(level) += seconds;
            *patches.get_mut(level) += count;
            yield_to_events().await;
        }
        let patch_s = PerLevel::from_fn(|level| patch_s.get(level) / (*patches.get(level)).max(1) as f64);
        let mix_s = mix_s * SAMPLE_BINS as f64 / centers.len().max(1) as f64;
        Ok(Rates { patch_s, mix_s, mix_grows: !self.device.is_gpu() })
    }
}
