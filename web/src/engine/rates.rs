//! How fast a model is on a device: a small run, measured.

use std::sync::Arc;

use magnet_core::layout::SlideLayout;
use magnet_core::predict::{PredictOptions, PredictRun, Progress};
use magnet_core::slide::SlideImage;
use magnet_core::{Level, MagNetConfig, PerLevel};

use super::device::EngineDevice;
use super::error::EngineError;
use super::model::OpenModel;
use crate::clock::{now_ms, yield_to_events};
use crate::protocol::BatchLimits;

/// Bins of the first small run: enough for the mean of a few patches.
const FEW_BINS: usize = 8;
/// Bins of the second one, at most.
const MANY_BINS: usize = 128;
/// Time that the patches of the second one may take, in seconds.
const SAMPLE_S: f64 = 0.7;
/// Most pixels of patches that pass an encoder together, whatever the device.
const MAX_CHUNK_PIXELS: usize = 1_000_000;
/// Bytes of the largest buffer that an encoder may need for each pixel of its patches: a ResNet's first map has 64
/// channels of 4 bytes at a quarter of the pixels, and it may be four times as wide.
const BUFFER_BYTES_PER_PIXEL: u64 = 256;
/// Time of a step that keeps the CPU's worker able to answer, in seconds.
const CPU_STEP_S: f64 = 0.08;
/// Longest time of a step on a GPU, in seconds. The worker answers meanwhile; it is progress that should be seen.
const GPU_STEP_S: f64 = 2.0;

/// Seconds of each kind of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// For one patch of each level through its encoder.
    patch_s: PerLevel<f64>,
    /// For the mixing of a block of [`Rates::bins`] bins.
    mix_s: f64,
    /// Bins of the small run.
    bins: usize,
}

impl Rates {
    /// Measures a model on a small part of a slide. The first pass over it on a GPU compiles the kernels and is not
    /// counted; a second, larger part follows where the first was quick.
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
        let config = model.model.config();
        // Patch by patch on the CPU, where nobody knows yet how long one takes.
        let chunk_pixels = if device.is_gpu() { most_chunk_pixels(config, device, limits) } else { 1 };
        if device.is_gpu() {
            sample.pass(FEW_BINS, chunk_pixels).await?;
        }
        let few = sample.pass(FEW_BINS, chunk_pixels).await?;
        let bins = ((SAMPLE_S / few.patch_s.bin.max(1e-6)) as usize).min(MANY_BINS);
        if bins < 2 * FEW_BINS || layout.centers.bin.len() < bins {
            return Ok(few);
        }
        let many = sample.pass(bins, few.chunk_pixels(config, device, limits)).await?;
        // The part may hold no more wide tiles than before, but more patches of a bin share one start.
        let patch_s = PerLevel::from_fn(|level| few.patch_s.get(level).min(*many.patch_s.get(level)));
        Ok(Self { patch_s, ..many })
    }

    /// How many pixels may pass an encoder together, so that its buffers fit and, on the CPU, a step is short. On a
    /// GPU a patch alone takes about as long as many.
    pub fn chunk_pixels(&self, config: &MagNetConfig, device: &EngineDevice, limits: BatchLimits) -> usize {
        let most = most_chunk_pixels(config, device, limits);
        if device.is_gpu() {
            return most;
        }
        let slowest = Level::ALL
            .into_iter()
            .map(|level| self.patch_s.get(level) / pixels(config, level) as f64)
            .fold(0.0, f64::max);
        let timely = if slowest > 0.0 { (CPU_STEP_S / slowest) as usize } else { most };
        timely.clamp(1, most)
    }

    /// Seconds for what is left of a run, where a block of the run has `nodes_per_bin` local bins for each core bin:
    /// each bin is encoded once and mixed in every block that holds it.
    pub fn remaining_s(
        &self,
        layout: &SlideLayout,
        left: Progress,
        nodes_per_bin: f64,
        device: &EngineDevice,
    ) -> f64 {
        let nodes = layout.nodes();
        let tiles = (nodes.spot + nodes.region).max(1) as f64;
        let tiles_left = left.tiles_total.saturating_sub(left.tiles_done) as f64 / tiles;
        let wide_s = nodes.spot as f64 * self.patch_s.spot + nodes.region as f64 * self.patch_s.region;
        let bins_left = left.bins_total.saturating_sub(left.bins_done) as f64;
        // A GPU mixes a block in the time of a part of one.
        let mix_s = if device.is_gpu() {
            left.blocks_total.saturating_sub(left.blocks_done) as f64 * self.mix_s
        } else {
            bins_left * nodes_per_bin * self.mix_s / self.bins.max(1) as f64
        };
        tiles_left * wide_s + bins_left * self.patch_s.bin + mix_s
    }
}

/// The time that a step should not pass by far, in seconds.
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
        Ok(Rates { patch_s, mix_s, bins: centers.len() })
    }
}
