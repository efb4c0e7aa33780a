//! Patches of a slide through the encoders, one chunk at a time.

use burn::tensor::{Device, Tensor};

use super::{PredictError, WideSource, nodes_px};
use crate::batch::{LevelInput, patches_from_rgb, rows_tensor};
use crate::layout::SlideLayout;
use crate::level::Level;
use crate::model::{ExpressionModel, MagNetConfig};
use crate::slide::PatchReader;
use crate::slide::augment::Dihedral;

/// What one pass over a slide reads.
pub(super) struct Slide<'a> {
    pub model: &'a dyn ExpressionModel,
    pub reader: &'a dyn PatchReader,
    pub layout: &'a SlideLayout,
    pub transform: Dihedral,
    pub device: &'a Device,
}

impl Slide<'_> {
    /// The patches of some nodes of a level: `[N,3,P,P]`, in 0..1.
    fn patches(&self, level: Level, nodes: &[u32]) -> Result<Tensor<4>, PredictError> {
        let geometry = self.model.config().levels.get(level);
        let centers = nodes_px(self.layout, level, nodes, self.reader.um_per_px());
        let side = geometry.patch_px;
        let mut rgb = self.reader.read_patches(&centers, geometry.patch_um, side)?;
        if self.transform != Dihedral::IDENTITY {
            for patch in rgb.chunks_exact_mut((side * side * 3).max(1)) {
                self.transform.apply(patch, side)?;
            }
        }
        Ok(patches_from_rgb(&rgb, centers.len(), side, self.device)?)
    }

    /// The vectors of some bins.
    ///
    /// # Shapes
    /// - output: `[N,D]`
    pub(super) fn bins(&self, nodes: &[u32]) -> Result<Tensor<2>, PredictError> {
        let patches = self.patches(Level::Bin, nodes)?;
        Ok(self.model.encode(Level::Bin, &LevelInput::Patches(patches))?)
    }

    /// The vectors of some tiles of a wide level.
    ///
    /// # Shapes
    /// - output: `[N,D]`
    pub(super) fn tiles(
        &self,
        level: Level,
        wide: WideSource<'_>,
        nodes: &[u32],
    ) -> Result<Tensor<2>, PredictError> {
        let input = match wide {
            WideSource::Patches => LevelInput::Patches(self.patches(level, nodes)?),
            WideSource::Frozen(encoder) => {
                LevelInput::Features(encoder.features(self.patches(level, nodes)?))
            }
            WideSource::Features { spot, region } => {
                let features = if level == Level::Spot { spot } else { region };
                LevelInput::Features(rows_tensor(features, nodes, level, self.device)?)
            }
        };
        Ok(self.model.encode(level, &input)?)
    }
}

/// How many patches of a level make up `chunk_pixels`; at least one.
pub(super) fn chunk_patches(config: &MagNetConfig, level: Level, chunk_pixels: usize) -> usize {
    let side = config.levels.get(level).patch_px.max(1);
    (chunk_pixels / side.saturating_mul(side)).max(1)
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
