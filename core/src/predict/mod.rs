//! Slide and model to values: the one loop that every program shares.
//!
//! The wide tiles are few, so each is encoded once and its vector kept on the host. The bins come block by block: what
//! no block before has encoded of a block's core and halo is read and encoded, all of it is mixed, and only the core
//! is predicted. A bin's vector stays on the device until the last block that reads it is done, so that each is made
//! once. Memory is therefore that of one block and of the vectors along the edges of blocks to come, of one vector
//! per wide tile, and of the predictions themselves.
//!
//! [`PredictRun`] does this in steps and hands out what is finished, so that a program that may lose its device can
//! continue elsewhere; [`predict_slide`] is the plain loop over it.

mod ahead;
mod encode;
mod piece;
mod places;
mod run;
mod sums;

use std::ops::ControlFlow;

use burn::tensor::Device;

use crate::batch;
use crate::coordinates::{SlidePx, px_from_um, um_from_px};
use crate::expression::Matrix;
use crate::layout::{LayoutError, SlideLayout};
use crate::level::{Level, PerLevel};
use crate::model::{self, ExpressionModel, FrozenEncoder, MagNetConfig, WideFeatures};
use crate::slide::{PatchReader, SlideError};

pub use ahead::{PatchRequest, PatchesAhead};
pub use piece::{Piece, PieceError};
pub use places::{Places, TissueError, tissue_places};
pub use run::PredictRun;

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
    /// Pixels of the patches that pass an encoder together, at most: 1,000,000 are 80 patches of 112 px, or 3 of
    /// 512 px. A ResNet holds some hundred bytes for each. It changes memory and speed, never a prediction.
    pub chunk_pixels: usize,
    /// Average over the eight turns and flips of every patch: eight times the work.
    pub dihedral_average: bool,
    /// Whether the run keeps the predictions. A run that does not hands them out as pieces only, so that its memory
    /// does not grow with the number of genes; its own prediction has no rows.
    pub keep_values: bool,
}

impl Default for PredictOptions {
    /// 1,024 bins a block, so that its halo adds two fifths to the bins that are mixed (at 256 it more than doubles
    /// them), a million pixels, no averaging, predictions kept.
    fn default() -> Self {
        Self { block_bins: 1024, chunk_pixels: 1_000_000, dihedral_average: false, keep_values: true }
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
    /// Work done in the block that is under way, in core bins: these are encoded, not predicted, and not among
    /// `bins_done`.
    pub bins_underway: usize,
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
    /// A step with another model than the run was planned for.
    #[error("model: expected one of the configuration that the run was planned for, found another")]
    OtherModel,
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
    model: &dyn ExpressionModel,
    reader: &dyn PatchReader,
    layout: &SlideLayout,
    wide: WideSource<'_>,
    options: PredictOptions,
    device: &Device,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<SlidePrediction, PredictError> {
    check_wide(model.config(), layout, wide)?;
    let mut run = PredictRun::new(model.config(), reader, layout, options)?;
    run.use_source(model, wide)?;
    let mut stopped = progress(run.progress()).is_break();
    while !stopped && !run.is_complete() {
        run.step(model, wide, device).await?;
        stopped = progress(run.progress()).is_break();
    }
    Ok(run.into_prediction())
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

/// Centres of some nodes of a level in full-resolution pixels.
fn nodes_px(layout: &SlideLayout, level: Level, nodes: &[u32], um_per_px: f64) -> Vec<SlidePx> {
    let centers = layout.centers.get(level);
    let known = nodes.iter().filter_map(|&node| centers.get(node as usize));
    known.map(|&center| px_from_um(center, um_per_px)).collect()
}

/// Where the nodes of a level lie on the image, in full-resolution pixels.
pub fn centers_px(layout: &SlideLayout, level: Level, um_per_px: f64) -> Vec<SlidePx> {
    layout.centers.get(level).iter().map(|&center| px_from_um(center, um_per_px)).collect()
}

#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
