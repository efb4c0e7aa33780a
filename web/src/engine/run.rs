//! A run: where the bins lie, what is predicted, how large the batches are.

use std::sync::Arc;

use magnet_core::coordinates::SlidePx;
use magnet_core::layout::SlideLayout;
use magnet_core::map::value_range;
use magnet_core::predict::{
    Piece, Places, PredictOptions, PredictRun, SlidePrediction, TissueError, centers_px, layout_of_bins,
    tissue_places,
};
use magnet_core::slide::{PatchReader, SlideImage};
use magnet_core::{Level, PerLevel};

use super::device::EngineDevice;
use super::error::EngineError;
use super::image::OpenImage;
use super::model::OpenModel;
use super::rates::{Rates, most_chunk_pixels, step_s};
use crate::clock::{now_ms, yield_to_events};
use crate::protocol::{BatchLimits, RegionFrame, RunProgress};

/// Blocks whose halo is looked at for an estimate.
const HALO_SAMPLES: usize = 3;

/// Where the nodes of one image lie for one model.
#[derive(Debug)]
pub(super) struct Ground {
    pub places: Places,
    pub layout: Arc<SlideLayout>,
    pub centers_px: PerLevel<Vec<SlidePx>>,
}

/// A run on one image with one model.
pub(super) struct Run {
    pub ground: Arc<Ground>,
    predict: PredictRun<Arc<SlideImage>, Arc<SlideLayout>>,
    limits: BatchLimits,
    chunk_pixels: usize,
    began_ms: f64,
}

/// What is about to be predicted.
#[derive(Debug)]
pub struct Plan {
    /// How many nodes each level has.
    pub nodes: PerLevel<usize>,
    /// Their centres in full-resolution pixels, x and y in turn: bins, spots, regions.
    pub centers_px: Vec<f32>,
}

/// What a step has come to.
#[derive(Debug)]
pub struct Step {
    /// How far the run is.
    pub progress: RunProgress,
    /// What the step has finished, if anything: opaque bytes for [`super::Engine::restore`].
    pub piece: Option<Vec<u8>>,
    /// Whether nothing is left.
    pub complete: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// Whether every bin was predicted.
    pub complete: bool,
    /// Wall time since the plan, in seconds.
    pub seconds: f64,
    /// Standard deviation over the predicted nodes, per level and gene.
    pub deviation: PerLevel<Vec<f32>>,
}

/// One gene of a level.
#[derive(Debug)]
pub struct GeneValues {
    /// In the order of the plan; NaN where nothing is predicted yet.
    pub values: Vec<f32>,
    /// The values between which colours run by default.
    pub range: (f64, f64),
}

impl Ground {
    /// Finds the tissue of an image and lays the model's levels over it.
    ///
    /// # Errors
    /// If the image's pixel size is not known, or there is no tissue on it.
    pub async fn find(model: &OpenModel, image: &OpenImage) -> Result<Self, EngineError> {
        let (slide, config) = (image.slide()?, model.model.config());
        let places = tissue_places(slide, config).map_err(|error| match error {
            TissueError::Slide(error) => EngineError::from(error),
            TissueError::NoTissue { .. } => EngineError::input(error.to_string()).in_file(image.name()),
        })?;
        yield_to_events().await;
        let um_per_px = slide.um_per_px();
        let layout = layout_of_bins(&places.centers_px, um_per_px, config)
            .map_err(|error| EngineError::input(error.to_string()))?;
        yield_to_events().await;
        let centers_px = PerLevel::from_fn(|level| centers_px(&layout, level, um_per_px));
        Ok(Self { places, layout: Arc::new(layout), centers_px })
    }

    /// What is to be predicted; `region` is where the image lies on its slide, if it is a part of one.
    pub fn plan(&self, region: Option<&RegionFrame>) -> Plan {
        let all = Level::ALL.into_iter().flat_map(|level| self.centers_px.get(level));
        let all = all.map(|&center| region.map_or(center, |frame| frame.slide_from_region(center)));
        Plan {
            nodes: self.layout.nodes(),
            centers_px: all.flat_map(|center| [center.x as f32, center.y as f32]).collect(),
        }
    }
}

impl Run {
    /// A run that continues from the pieces of an earlier one.
    ///
    /// # Errors
    /// If the image cannot be read, or a piece is of another run.
    pub fn new(
        model: &OpenModel,
        image: &OpenImage,
        ground: Arc<Ground>,
        device: &EngineDevice,
        limits: BatchLimits,
        restored: Vec<Piece>,
    ) -> Result<Self, EngineError> {
        let config = model.model.config();
        let chunk_pixels = most_chunk_pixels(config, device, limits);
        let options = PredictOptions {
            block_bins: limits.block_bins.max(1),
            chunk_pixels,
            ..PredictOptions::default()
        };
        let slide = Arc::clone(image.slide()?);
        let mut predict = PredictRun::new(config, slide, Arc::clone(&ground.layout), options)?;
        for piece in restored {
            predict.restore(piece)?;
        }
        Ok(Self { ground, predict, limits, chunk_pixels, began_ms: now_ms() })
    }

    /// Sizes the batches after what was measured, and says how many seconds are left.
    pub fn use_rates(&mut self, model: &OpenModel, device: &EngineDevice, rates: &Rates) -> f64 {
        let config = model.model.config();
        self.set_chunk_pixels(rates.chunk_pixels(config, device, self.limits));
        let layout = self.predict.layout();
        let cores = layout.block_cores(self.limits.block_bins.max(1), None);
        let apart = (cores.len() / HALO_SAMPLES).max(1);
        let (mut core_bins, mut local_bins) = (0, 0);
        for core in cores.into_iter().step_by(apart) {
            let block = layout.block(core, config.halo_hops());
            core_bins += block.core.bin;
            local_bins += block.nodes.bin.len();
        }
        let nodes_per_bin = local_bins as f64 / core_bins.max(1) as f64;
        rates.remaining_s(layout, self.predict.progress(), nodes_per_bin, device)
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn step(&mut self, model: &OpenModel, device: &EngineDevice) -> Result<Step, EngineError> {
        let began = now_ms();
        let blocks = self.predict.progress().blocks_done;
        let piece = device
            .guarded(async {
                let piece = self.predict.step(&model.model, model.wide_source(), device.burn()).await?;
                device.settled().await;
                Ok(piece)
            })
            .await?;
        // The mixing of a block knows no chunks.
        if self.predict.progress().blocks_done == blocks {
            self.adapt(model, device, (now_ms() - began) / 1000.0);
        }
        Ok(Step {
            progress: self.progress(),
            piece: piece.map(|piece| piece.to_bytes()),
            complete: self.predict.is_complete(),
        })
    }

    /// The batch sizes that were asked for.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// How far the run is.
    pub fn progress(&self) -> RunProgress {
        let at = self.predict.progress();
        RunProgress {
            done: at.tiles_done + at.bins_done + at.bins_underway,
            total: at.tiles_total + at.bins_total,
            bins_done: at.bins_done,
            bins_total: at.bins_total,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        self.predict.is_complete()
    }

    /// The prediction so far.
    pub fn prediction(&self) -> SlidePrediction {
        self.predict.prediction()
    }

    /// What the run has come to.
    pub fn finished(&self) -> Finished {
        let prediction = self.predict.prediction();
        let deviation = PerLevel::from_fn(|level| {
            let values = prediction.values.get(level);
            let predicted = prediction.predicted.get(level);
            let rows = values.values.chunks_exact(values.cols.max(1)).zip(predicted);
            deviations(rows.filter(|&(_, &predicted)| predicted).map(|(row, _)| row), values.cols)
        });
        Finished { complete: prediction.complete, seconds: (now_ms() - self.began_ms) / 1000.0, deviation }
    }

    /// One gene of a level, as far as the run has come.
    ///
    /// # Errors
    /// If the model has no such level or gene.
    pub fn values(&self, model: &OpenModel, level: Level, gene: usize) -> Result<GeneValues, EngineError> {
        model.check_level(level)?;
        model.check_gene(gene)?;
        let values = self.predict.gene_values(level, gene);
        let range = value_range(values.iter().copied());
        Ok(GeneValues { range: (range.low(), range.high()), values })
    }

    /// Keeps a step's time within what the device's worker can afford: patches of different levels differ in cost, and
    /// a laptop that gets warm slows down.
    fn adapt(&mut self, model: &OpenModel, device: &EngineDevice, seconds: f64) {
        let target = step_s(device);
        let most = most_chunk_pixels(model.model.config(), device, self.limits);
        if seconds > 1.5 * target {
            // On a GPU much of a step's time does not depend on its size.
            let least = if device.is_gpu() { most / 16 } else { 1 };
            self.set_chunk_pixels((self.chunk_pixels / 2).max(least));
        } else if seconds < 0.4 * target {
            self.set_chunk_pixels((self.chunk_pixels * 2).min(most));
        }
    }

    fn set_chunk_pixels(&mut self, chunk_pixels: usize) {
        // At least one: every chunk has one patch, however many pixels that is.
        self.chunk_pixels = chunk_pixels.max(1);
        self.predict.set_chunk_pixels(self.chunk_pixels);
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// Standard deviation of each column; 0 for all without rows.
fn deviations<'a>(rows: impl Iterator<Item = &'a [f32]>, cols: usize) -> Vec<f32> {
    let (mut count, mut means, mut squares) = (0.0, vec![0.0_f64; cols], vec![0.0_f64; cols]);
    for row in rows {
        count += 1.0;
        for ((mean, square), &value) in means.iter_mut().zip(&mut squares).zip(row) {
            // Welford: exact enough for genes whose mean is far above their deviation.
            let before = f64::from(value) - *mean;
            *mean += before / count;
            *square += before * (f64::from(value) - *mean);
        }
    }
    squares.iter().map(|square| if count > 0.0 { (square / count).sqrt() as f32 } else { 0.0 }).collect()
}
