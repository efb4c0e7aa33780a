//! Patches of a slide through the encoders, in pieces that fit in memory.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::{PredictError, WideSource};
use crate::batch::{LevelInput, patches_from_rgb, rows_tensor};
use crate::coordinates::px_from_um;
use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{Level, PerLevel};
use crate::model::MagNet;
use crate::slide::PatchReader;
use crate::slide::augment::Dihedral;

/// Pixels of the patches that pass an encoder together: 80 patches of 112 px, or 3 of 512 px. A ResNet holds some
/// hundred bytes for each.
const CHUNK_PIXELS: usize = 1_000_000;

/// What one pass over a slide reads.
pub(super) struct Slide<'a> {
    pub model: &'a MagNet,
    pub reader: &'a dyn PatchReader,
    pub layout: &'a SlideLayout,
    pub transform: Dihedral,
    pub device: &'a Device,
}

impl Slide<'_> {
    /// The patches of some nodes of a level: `[N,3,P,P]`, in 0..1.
    fn patches(&self, level: Level, nodes: &[u32]) -> Result<Tensor<4>, PredictError> {
        let geometry = self.model.config().levels.get(level);
        let um_per_px = self.reader.um_per_px();
        let centers = self.layout.centers.get(level);
        let centers: Vec<_> = nodes
            .iter()
            .filter_map(|&node| centers.get(node as usize))
            .map(|&center| px_from_um(center, um_per_px))
            .collect();
        let side = geometry.patch_px;
        let mut rgb = self.reader.read_patches(&centers, geometry.patch_um, side)?;
        if self.transform != Dihedral::IDENTITY {
            for patch in rgb.chunks_exact_mut((side * side * 3).max(1)) {
                self.transform.apply(patch, side)?;
            }
        }
        Ok(patches_from_rgb(&rgb, centers.len(), side, self.device)?)
    }

    fn chunk(&self, level: Level) -> usize {
        let side = self.model.config().levels.get(level).patch_px.max(1);
        (CHUNK_PIXELS / (side * side)).max(1)
    }
}

/// The vectors of some bins, in their order.
///
/// # Shapes
/// - output: `[N,D]`
pub(super) fn bins(slide: &Slide<'_>, nodes: &[u32]) -> Result<Tensor<2>, PredictError> {
    let mut parts = Vec::new();
    for chunk in nodes.chunks(slide.chunk(Level::Bin)) {
        let patches = slide.patches(Level::Bin, chunk)?;
        parts.push(slide.model.encode(Level::Bin, &LevelInput::Patches(patches))?);
    }
    if parts.is_empty() {
        return Err(crate::batch::BatchError::Empty { what: "bins of the block" }.into());
    }
    Ok(Tensor::cat(parts, 0))
}

/// The vectors of all wide tiles of the slide, `[S,D]` and `[R,D]`; none if `step` breaks off. A single-level model has
/// none, which is an empty matrix.
pub(super) async fn wide_levels(
    slide: &Slide<'_>,
    wide: WideSource<'_>,
    step: &mut impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<PerLevel<Matrix>>, PredictError> {
    let mut vectors = PerLevel::<Matrix>::default();
    if !slide.model.config().wide_levels {
        return Ok(Some(vectors));
    }
    let width = slide.model.config().width;
    for level in Level::WIDE {
        let tiles = slide.layout.centers.get(level).len();
        let mut values = Vec::with_capacity(tiles * width);
        let nodes: Vec<u32> = (0..tiles as u32).collect();
        for chunk in nodes.chunks(slide.chunk(level)) {
            let input = match wide {
                WideSource::Patches => LevelInput::Patches(slide.patches(level, chunk)?),
                WideSource::Frozen(encoder) => {
                    LevelInput::Features(encoder.features(slide.patches(level, chunk)?))
                }
                WideSource::Features { spot, region } => {
                    let features = if level == Level::Spot { spot } else { region };
                    LevelInput::Features(rows_tensor(features, chunk, level, slide.device)?)
                }
            };
            // Reading back after every piece keeps a GPU's queue short and gives the caller its turn.
            values.extend(self::values(slide.model.encode(level, &input)?).await?);
            if step(chunk.len()).is_break() {
                return Ok(None);
            }
        }
        *vectors.get_mut(level) = Matrix { rows: tiles, cols: width, values };
    }
    Ok(Some(vectors))
}

/// The values of a tensor, row-major.
///
/// # Shapes
/// - `tensor`: `[N,M]`
pub(super) async fn values(tensor: Tensor<2>) -> Result<Vec<f32>, PredictError> {
    if tensor.dims().contains(&0) {
        return Ok(Vec::new());
    }
    let data = tensor.into_data_async().await.map_err(|error| PredictError::Device(error.to_string()))?;
    data.try_into_vec_as::<f32>().map_err(|error| PredictError::Device(format!("{error:?}")))
}
