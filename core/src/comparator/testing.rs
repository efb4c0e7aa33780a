//! What the tests of the comparators share: a small configuration and batches for it.

use burn::tensor::{Device, Tensor};

use crate::batch::{LevelInput, MagNetBatch};
use crate::coordinates::SlideUm;
use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{LevelGeometry, PerLevel};
use crate::model::testing::{noise, pseudo_random};
use crate::model::{
    Architecture, CrossLevelConfig, DepthConfig, GraphConfig, MagNetConfig, PatchEncoderConfig, ResNetDepth,
};

/// Side of a patch, in pixels.
pub(super) const PATCH_PX: usize = 16;

/// Width 8, five genes, patches of 16 px.
pub(super) fn small_config(architecture: Architecture) -> MagNetConfig {
    let level = |tile_um| LevelGeometry { tile_um, patch_um: tile_um, patch_px: PATCH_PX };
    MagNetConfig {
        architecture,
        levels: PerLevel { bin: level(10.0), spot: level(20.0), region: level(40.0) },
        genes: 5,
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
