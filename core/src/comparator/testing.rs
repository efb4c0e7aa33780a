//! What the tests of the comparators share: a small configuration and batches for it.

use burn::tensor::{Device, Tensor};

use super::ComparatorModel;
use crate::batch::{LevelInput, MagNetBatch};
use crate::coordinates::SlideUm;
use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{LevelGeometry, PerLevel};
use crate::model::testing::{filled, noise, pseudo_random};
use crate::model::{
    Architecture, CrossLevelConfig, DepthConfig, ExpressionModel, GraphConfig, MagNetConfig,
    PatchEncoderConfig, ResNetDepth,
};

/// Side of a patch, in pixels.
pub(super) const PATCH_PX: usize = 16;

/// Genes of the small model.
pub(super) const GENES: usize = 5;

/// Width 8, five genes, patches of 16 px.
pub(super) fn small_config(architecture: Architecture) -> MagNetConfig {
    let level = |tile_um| LevelGeometry { tile_um, patch_um: tile_um, patch_px: PATCH_PX };
    MagNetConfig {
        architecture,
        levels: PerLevel { bin: level(10.0), spot: level(20.0), region: level(40.0) },
        genes: GENES,
        width: 8,
        neighbors: 2,
        wide_levels: false,
        patch_encoder: PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 1,
            ..PatchEncoderConfig::default()
        },
        cross_level: CrossLevelConfig { heads: 2, ..CrossLevelConfig::default() },
        graph: GraphConfig { layers: 2, heads: 2, ..GraphConfig::default() },
        depth: DepthConfig { layers: 2, heads: 2, feed_forward: 2, dropout: 0.0, ..DepthConfig::default() },
        ..MagNetConfig::default()
    }
}

/// A slide of `bins` bins in a row as one batch, with patches of noise and labels.
pub(super) fn batch_of(bins: usize, device: &Device) -> MagNetBatch {
    let config = small_config(Architecture::StNet);
    let centers: Vec<_> = (0..bins).map(|i| SlideUm { x: 10.0 * i as f64 + 5.0, y: 5.0 }).collect();
    let layout = SlideLayout::new(&centers, &config.levels, config.neighbors).unwrap();
    let block = layout.blocks(bins, 0, None).next().unwrap();
    let labels = PerLevel::from_fn(|level| {
        let rows = *layout.nodes().get(level);
        let values = (0..rows * config.genes).map(|index| pseudo_random("batch labels", index) as f32);
        Matrix::new(rows, config.genes, values.collect()).unwrap()
    });
    let inputs = PerLevel::from_fn(|level| {
        let rows = block.nodes.get(level).len();
        let pixels = noise("batch patches", [rows, 3 * PATCH_PX * PATCH_PX], device) / 2.0 + 0.5;
        LevelInput::Patches(pixels.reshape([rows, 3, PATCH_PX, PATCH_PX]) as Tensor<4>)
    });
    MagNetBatch::from_block(&block, inputs, Some(&labels), device).unwrap()
}

/// The model with reproducible weights and outputs that are not standardised.
pub(super) fn model(architecture: Architecture, device: &Device) -> ComparatorModel {
    filled(ComparatorModel::new(&small_config(architecture), device).unwrap(), |name, index| {
        let noise = 0.7 * pseudo_random(name, index) as f32;
        match name.rsplit('.').next() {
            Some("scale") => 1.0,
            Some("shift") => 0.0,
            Some("running_var" | "gamma") => 1.0 + 0.4 * noise,
            _ => noise,
        }
    })
}

/// Bins in a row, 10 µm apart.
pub(super) fn row_of(bins: usize) -> Vec<(f64, f64)> {
    (0..bins).map(|bin| (10.0 * bin as f64, 0.0)).collect()
}

/// The block of all bins at these places in µm, without labels; its bins are still to be put in.
pub(super) fn batch_at(at_um: &[(f64, f64)], device: &Device) -> MagNetBatch {
    let centers: Vec<_> = at_um.iter().map(|&(x, y)| SlideUm { x, y }).collect();
    let config = small_config(Architecture::StNet);
    let layout = SlideLayout::new(&centers, &config.levels, config.neighbors).unwrap();
    let block = layout.blocks(centers.len(), 0, None).next().unwrap();
    assert_eq!(block.nodes.bin.len(), centers.len());
    let inputs = PerLevel::from_fn(|level| {
        LevelInput::Features(Tensor::zeros([block.nodes.get(level).len(), 1], device))
    });
    MagNetBatch::from_block(&block, inputs, None, device).unwrap()
}

/// The batch with these encoded bins.
pub(super) fn with_bins(batch: &MagNetBatch, bins: Tensor<2>) -> MagNetBatch {
    let inputs = PerLevel { bin: LevelInput::Encoded(bins), ..batch.inputs.clone() };
    MagNetBatch { inputs, ..batch.clone() }
}

/// `[B,G]` of the bins.
pub(super) fn predicted(model: &ComparatorModel, batch: &MagNetBatch) -> Tensor<2> {
    model.forward(batch).unwrap().bin
}
