//! Slide and model to values: the one loop that every program shares.
//!
//! The wide tiles are few, so each is encoded once and its vector kept on the host. The bins come block by block: a
//! block's core and halo are read, encoded once, mixed, and only the core is kept. Memory is therefore that of one
//! block, of one vector per wide tile, and of the predictions themselves.

mod encode;

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use crate::batch::{self, LevelInput, MagNetBatch, rows_tensor};
use crate::coordinates::{SlidePx, px_from_um, um_from_px};
use crate::expression::Matrix;
use crate::layout::{Block, LayoutError, SlideLayout};
use crate::level::{Level, PerLevel};
use crate::model::{self, FrozenEncoder, MagNet, MagNetConfig, WideFeatures};
use crate::slide::augment::Dihedral;
use crate::slide::{NormalizedSlide, PatchReader, SlideError};

/// Where the wide levels' features of one slide come from.
#[derive(Debug, Clone, Copy)]
pub enum WideSource<'a> {
    /// The model's own patch encoder reads the wide patches.
    Patches,
    /// A frozen encoder reads them.
    Frozen(&'a FrozenEncoder),
    /// Features made elsewhere, one row per tile of the layout.
    Features {
        /// `[S,F]`
        spot: &'a Matrix,
        /// `[R,F]`
        region: &'a Matrix,
    },
}

impl WideSource<'_> {
    fn name(&self) -> &'static str {
        match self {
            WideSource::Patches => "shared",
            WideSource::Frozen(_) => "frozen",
            WideSource::Features { .. } => "file",
        }
    }
}

/// How to go through a slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictOptions {
    /// Core bins of a block, at most. It changes memory and speed, never a prediction.
    pub block_bins: usize,
    /// Average over the eight turns and flips of every patch: eight times the work.
    pub dihedral_average: bool,
}

impl Default for PredictOptions {
    /// 256 bins a block, no averaging.
    fn default() -> Self {
        Self { block_bins: 256, dihedral_average: false }
    }
}

/// How far a prediction has come. Whoever holds a clock can make a rate of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Wide tiles encoded, over all passes.
    pub tiles_done: usize,
    /// Wide tiles to encode.
    pub tiles_total: usize,
    /// Blocks predicted, over all passes.
    pub blocks_done: usize,
    /// Blocks to predict.
    pub blocks_total: usize,
    /// Core bins predicted, over all passes.
    pub bins_done: usize,
    /// Core bins to predict.
    pub bins_total: usize,
}

/// The predictions of one slide, in label units.
#[derive(Debug, Clone, PartialEq)]
pub struct SlidePrediction {
    /// `[N,G]` of each level in the layout's order; NaN where a cancelled run did not come. A level that the model does
    /// not predict has no rows.
    pub values: PerLevel<Matrix>,
    /// Whether each node of each level was predicted.
    pub predicted: PerLevel<Vec<bool>>,
    /// Whether the run reached its end.
    pub complete: bool,
}

/// Why a slide could not be predicted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictError {
    /// The image.
    #[error(transparent)]
    Slide(#[from] SlideError),
    /// The positions.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A block that is no batch.
    #[error(transparent)]
    Batch(#[from] batch::BatchError),
    /// A batch that the model does not read.
    #[error(transparent)]
    Model(#[from] model::BatchError),
    /// Features of another kind than the model was trained on.
    #[error("features of the wide levels: expected `{expected}`, found `{found}`")]
    WideSource {
        /// What the model was trained on.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// Features of another number of tiles or another width.
    #[error(
        "{level} features: expected {expected_rows} rows of {expected_width}, found {found_rows} of {found_width}"
    )]
    Features {
        /// Which level.
        level: Level,
        /// Tiles of the layout.
        expected_rows: usize,
        /// The model's feature width.
        expected_width: usize,
        /// Rows given.
        found_rows: usize,
        /// Columns given.
        found_width: usize,
    },
    /// The device did not give its results back.
    #[error("the device did not return the result: {0}")]
    Device(String),
}

/// The layout of bins with the given centres, as `config` describes the levels.
///
/// # Errors
/// As [`SlideLayout::new`].
pub fn layout_of_bins(
    centers_px: &[SlidePx],
    um_per_px: f64,
    config: &MagNetConfig,
) -> Result<SlideLayout, LayoutError> {
    let bins_um: Vec<_> = centers_px.iter().map(|&center| um_from_px(center, um_per_px)).collect();
    SlideLayout::new(&bins_um, &config.levels, config.neighbors)
}

/// Predicts every node of the layout.
///
/// `device` is the model's. `progress` is called after each piece of work; [`ControlFlow::Break`] ends the run, and what
/// was done by then is returned with `complete` false.
///
/// # Shapes
/// - output: `[B,G]`, `[S,G]`, `[R,G]` over the whole slide
///
/// # Errors
/// [`PredictError`]: an image that cannot be read, features that do not fit, a device that fails.
pub async fn predict_slide(
    model: &MagNet,
    reader: &dyn PatchReader,
    layout: &SlideLayout,
    wide: WideSource<'_>,
    options: PredictOptions,
    device: &Device,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<SlidePrediction, PredictError> {
    check_wide(model.config(), layout, wide)?;
    let normalized = NormalizedSlide::new(reader, model.config().stain_normalization)?;
    let reader: &dyn PatchReader = &normalized;
    let passes: &[Dihedral] =
        if options.dihedral_average { &Dihedral::ALL } else { std::slice::from_ref(&Dihedral::IDENTITY) };
    let mut sums = Sums::new(model.config(), layout);
    let mut at = planned(model.config(), layout, wide, options, passes.len());
    let mut wide_vectors = None;
    let mut stopped = progress(at).is_break();
    'passes: for (pass, &transform) in passes.iter().enumerate() {
        if stopped {
            break;
        }
        // Features of a file are the same in every pass.
        if wide_vectors.is_none() || !matches!(wide, WideSource::Features { .. }) {
            let mut step = |tiles: usize| {
                at.tiles_done += tiles;
                progress(at)
            };
            let slide = encode::Slide { model, reader, layout, transform, device };
            wide_vectors = encode::wide_levels(&slide, wide, &mut step).await?;
        }
        // No vectors: cancelled half-way.
        let Some(vectors) = &wide_vectors else { break };
        for block in layout.blocks(options.block_bins, model.config().graph.layers, None) {
            let slide = encode::Slide { model, reader, layout, transform, device };
            let values = predict_block(&slide, &block, vectors).await?;
            sums.add(&block, &values, pass);
            at.blocks_done += 1;
            at.bins_done += block.core.bin;
            stopped = progress(at).is_break();
            if stopped {
                break 'passes;
            }
        }
    }
    let complete = at.blocks_done == at.blocks_total;
    Ok(sums.finish(complete))
}

/// The predictions of a block's core nodes, row-major per level.
async fn predict_block(
    slide: &encode::Slide<'_>,
    block: &Block,
    wide_vectors: &PerLevel<Matrix>,
) -> Result<PerLevel<Vec<f32>>, PredictError> {
    let inputs = PerLevel {
        bin: LevelInput::Encoded(encode::bins(slide, &block.nodes.bin)?),
        spot: wide_rows(slide, block, wide_vectors, Level::Spot)?,
        region: wide_rows(slide, block, wide_vectors, Level::Region)?,
    };
    let batch = MagNetBatch::from_block(block, inputs, None, slide.device)?;
    let PerLevel { bin, spot, region } = slide.model.forward(&batch)?;
    Ok(PerLevel {
        bin: encode::values(bin).await?,
        spot: encode::values(spot).await?,
        region: encode::values(region).await?,
    })
}

/// The vectors of a block's tiles. The single-level model reads none, but a batch has its rows.
fn wide_rows(
    slide: &encode::Slide<'_>,
    block: &Block,
    vectors: &PerLevel<Matrix>,
    level: Level,
) -> Result<LevelInput, PredictError> {
    let nodes = block.nodes.get(level);
    if slide.model.config().wide_levels {
        return Ok(LevelInput::Encoded(rows_tensor(vectors.get(level), nodes, level, slide.device)?));
    }
    Ok(LevelInput::Encoded(Tensor::zeros([nodes.len(), slide.model.config().width], slide.device)))
}

fn check_wide(config: &MagNetConfig, layout: &SlideLayout, wide: WideSource<'_>) -> Result<(), PredictError> {
    if !config.wide_levels {
        return Ok(());
    }
    let wrong = |expected| Err(PredictError::WideSource { expected, found: wide.name() });
    match (&config.wide_features, wide) {
        (WideFeatures::Shared, WideSource::Patches) => Ok(()),
        (WideFeatures::Shared, _) => wrong("shared"),
        (&WideFeatures::Frozen { width }, WideSource::Frozen(encoder)) => {
            let found_width = encoder.feature_width();
            if found_width == width {
                return Ok(());
            }
            let (level, rows) = (Level::Spot, layout.centers.spot.len());
            Err(PredictError::Features {
                level,
                expected_rows: rows,
                expected_width: width,
                found_rows: rows,
                found_width,
            })
        }
        // Features of the frozen encoder that were computed earlier do as well as the encoder itself.
        (
            &(WideFeatures::Frozen { width } | WideFeatures::File { width }),
            WideSource::Features { spot, region },
        ) => {
            for (level, features) in [(Level::Spot, spot), (Level::Region, region)] {
                let expected_rows = layout.centers.get(level).len();
                if features.rows != expected_rows || features.cols != width {
                    return Err(PredictError::Features {
                        level,
                        expected_rows,
                        expected_width: width,
                        found_rows: features.rows,
                        found_width: features.cols,
                    });
                }
            }
            Ok(())
        }
        (WideFeatures::Frozen { .. }, _) => wrong("frozen"),
        (WideFeatures::File { .. }, _) => wrong("file"),
    }
}

fn planned(
    config: &MagNetConfig,
    layout: &SlideLayout,
    wide: WideSource<'_>,
    options: PredictOptions,
    passes: usize,
) -> Progress {
    let tile_passes = if matches!(wide, WideSource::Features { .. }) { 1 } else { passes };
    let tiles = if config.wide_levels { layout.centers.spot.len() + layout.centers.region.len() } else { 0 };
    Progress {
        tiles_total: tiles * tile_passes,
        blocks_total: layout.blocks(options.block_bins, config.graph.layers, None).len() * passes,
        bins_total: layout.centers.bin.len() * passes,
        ..Progress::default()
    }
}

/// Predictions summed over the passes.
struct Sums {
    values: PerLevel<Matrix>,
    passes: PerLevel<Vec<usize>>,
}

impl Sums {
    fn new(config: &MagNetConfig, layout: &SlideLayout) -> Self {
        let rows = |level| {
            if config.predicted_levels().contains(&level) { layout.centers.get(level).len() } else { 0 }
        };
        let matrix = |rows| Matrix { rows, cols: config.genes, values: vec![0.0; rows * config.genes] };
        Self {
            values: PerLevel::from_fn(|level| matrix(rows(level))),
            passes: PerLevel::from_fn(|level| vec![0; rows(level)]),
        }
    }

    /// Adds a block's core rows. A tile that two blocks share is predicted by both, alike; the first one counts.
    fn add(&mut self, block: &Block, predicted: &PerLevel<Vec<f32>>, pass: usize) {
        for level in Level::ALL {
            let sums = self.values.get_mut(level);
            let passes = self.passes.get_mut(level);
            let rows = predicted.get(level).chunks_exact(sums.cols.max(1));
            for (&node, row) in block.nodes.get(level).iter().take(*block.core.get(level)).zip(rows) {
                let node = node as usize;
                let Some(done) = passes.get_mut(node).filter(|done| **done == pass) else { continue };
                *done += 1;
                let sum = sums.values.iter_mut().skip(node * sums.cols).take(sums.cols);
                sum.zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    fn finish(mut self, complete: bool) -> SlidePrediction {
        for level in Level::ALL {
            let matrix = self.values.get_mut(level);
            for (row, &passes) in
                matrix.values.chunks_exact_mut(matrix.cols.max(1)).zip(self.passes.get(level))
            {
                // No pass: 0 / 0 marks the row as NaN.
                row.iter_mut().for_each(|value| *value /= passes as f32);
            }
        }
        SlidePrediction {
            values: self.values,
            predicted: self.passes.map(|passes| passes.iter().map(|&count| count > 0).collect()),
            complete,
        }
    }
}

/// Where the nodes of a level lie on the image, in full-resolution pixels.
pub fn centers_px(layout: &SlideLayout, level: Level, um_per_px: f64) -> Vec<SlidePx> {
    layout.centers.get(level).iter().map(|&center| px_from_um(center, um_per_px)).collect()
}

#[cfg(test)]
mod tests;
