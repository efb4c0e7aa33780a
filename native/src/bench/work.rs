//! How much work the parts of the model are, counted from their shapes, one function per box of Figure 2.
//!
//! Counted are the multiply-adds of convolutions, matrix products and weighted sums, as the definition of the model
//! needs them: a bin attends to its 1 + K tiles, whatever a kernel computes beside that. Normalisation, activations and
//! other work by element are not counted, nor is what lies between layers read or written: a floor is a time that
//! cannot be beaten, not one that is likely.

use std::iter::Sum;
use std::ops::{Add, Mul};

use magnet_core::model::{
    Architecture, CrossLevelConfig, DepthConfig, GraphAttentionKind, GraphConfig, MagNetConfig,
    PatchEncoderConfig, Pooling,
};
use magnet_core::weights::Precision;
use magnet_core::{Level, PerLevel};

/// Channels of ResNet's four stages at width 1.
const STAGE_CHANNELS: [usize; 4] = [64, 128, 256, 512];
/// Bytes of a value on the device.
const VALUE: u64 = size_of::<f32>() as u64;

/// What a measurement needs at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// Two for each multiply-add.
    pub(super) operations: u64,
    /// Bytes that come in, weights that are read, and bytes that go out, each once.
    pub(super) bytes: u64,
}

/// What some part of a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    pub(super) multiply_adds: u64,
    /// Values of matrices and kernels, however often they are used.
    pub(super) weights: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            multiply_adds: self.multiply_adds + other.multiply_adds,
            weights: self.weights + other.weights,
        }
    }
}

/// So many times the same weights.
impl Mul<usize> for Cost {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self { multiply_adds: self.multiply_adds * times as u64, weights: self.weights }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// Multiply-adds without weights.
fn products(multiply_adds: usize) -> Cost {
    Cost { multiply_adds: multiply_adds as u64, weights: 0 }
}

/// A linear map of one vector.
fn linear(from: usize, to: usize) -> Cost {
    let values = (from * to) as u64;
    Cost { multiply_adds: values, weights: values }
}

/// A convolution over a map of the side `side`, with the side of its output.
fn convolution(channels_in: usize, channels_out: usize, kernel: usize, side: usize) -> Cost {
    let weights = (channels_in * channels_out * kernel * kernel) as u64;
    Cost { multiply_adds: weights * (side * side) as u64, weights }
}

/// The side of a map after a step of `stride`, padded so that a stride of 1 keeps it.
fn strided(side: usize, stride: usize) -> usize {
    side.saturating_sub(1) / stride + 1
}

/// Figure 2, left: the ResNet and the linear map to the width `width`, for one patch of `side_px`.
pub(super) fn patch_encoder(config: &PatchEncoderConfig, width: usize, side_px: usize) -> Cost {
    let (resnet, features) = resnet(config, side_px);
    resnet + linear(features, width)
}

/// The ResNet for one patch, and the width of what it gives.
fn resnet(config: &PatchEncoderConfig, side_px: usize) -> (Cost, usize) {
    let scale = |channels: usize| ((channels as f64 * config.width_multiplier).round() as usize).max(1);
    let expansion = config.depth.expansion();
    let mut channels = scale(STAGE_CHANNELS[0]);
    let mut side = strided(side_px, 2);
    let mut cost = convolution(3, channels, 7, side);
    side = strided(side, 2);
    let stages = STAGE_CHANNELS.iter().zip(config.depth.blocks()).enumerate().take(config.stages);
    for (stage, (&inner, blocks)) in stages {
        let inner = scale(inner);
        let out = inner * expansion;
        for block in 0..blocks {
            let before = side;
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            side = strided(side, stride);
            cost = cost
                + if expansion > 1 {
                    convolution(channels, inner, 1, before)
                        + convolution(inner, inner, 3, side)
                        + convolution(inner, out, 1, side)
                } else {
                    convolution(channels, inner, 3, side) + convolution(inner, inner, 3, side)
                };
            if stride != 1 || channels != out {
                cost = cost + convolution(channels, out, 1, side);
            }
            channels = out;
        }
    }
    let features = match config.pooling {
        Pooling::Mean => channels,
        Pooling::MeanStd => 2 * channels,
    };
    (cost, features)
}

/// Figure 2, middle: `bins` bins attend to their 1 + K of `tiles` tiles of a wider level.
fn cross_level(config: &CrossLevelConfig, width: usize, neighbors: usize, bins: usize, tiles: usize) -> Cost {
    let keys = if config.neighbors { 1 + neighbors } else { 1 };
    let scores_and_values = products(2 * bins * keys * width);
    let maps = [bins, tiles, tiles, bins].map(|nodes| linear(width, width) * nodes);
    maps.into_iter().sum::<Cost>() + scores_and_values
}

/// Figure 2, right of the middle: the graph layers of `nodes` nodes.
fn graph(config: &GraphConfig, width: usize, neighbors: usize, nodes: usize) -> Cost {
    let slots = if config.enabled { 1 + neighbors } else { 1 };
    let (maps, scores) = match config.attention {
        GraphAttentionKind::Gat => (1, 2),
        GraphAttentionKind::Gatv2 => (2, slots),
    };
    let maps = (0..maps).map(|_| linear(width, width) * nodes).sum::<Cost>();
    let layer = maps + products(nodes * width * (scores + slots));
    (0..config.layers).map(|_| layer).sum()
}

/// Figure 2, right: the transformer over the sequences of `nodes` nodes.
fn depth(config: &DepthConfig, width: usize, tokens: usize, nodes: usize) -> Cost {
    if !config.enabled {
        return Cost::default();
    }
    let attention = (0..4).map(|_| linear(width, width)).sum::<Cost>();
    let inner = config.feed_forward * width;
    let by_token = (attention + linear(width, inner) + linear(inner, width)) * (tokens * nodes);
    let layer = by_token + products(2 * nodes * tokens * tokens * width);
    (0..config.layers).map(|_| layer).sum()
}

/// All after the encoders, for the nodes of each level of which the first `core` are predicted.
pub(super) fn mixing(config: &MagNetConfig, nodes: PerLevel<usize>, core: PerLevel<usize>) -> Cost {
    let (width, neighbors) = (config.width, config.neighbors);
    let levels = config.predicted_levels();
    let wide = levels.iter().filter(|level| **level != Level::Bin);
    if config.architecture == Architecture::Published {
        // Keys and queries are not used, every local node goes through the transformer, and all levels share it and the
        // head.
        let layers = config.graph.layers;
        let attention = wide.map(|&level| linear(width, width) * *nodes.get(level));
        let attention = attention.flat_map(|map| [map, map]).sum::<Cost>();
        let graphs = levels.iter().flat_map(|&level| (0..layers).map(move |_| level));
        let graphs = graphs.map(|level| linear(width, width) * *nodes.get(level)).sum::<Cost>();
        let (all, core): (usize, usize) =
            (nodes.iter().map(|(_, nodes)| nodes).sum(), core.iter().map(|(_, core)| core).sum());
        return attention
            + graphs
            + products(all * neighbors * width)
            + depth(&config.depth, width, layers, all)
            + linear(width, config.genes) * core;
    }
    let cross = wide
        .filter(|_| config.cross_level.enabled)
        .map(|&level| cross_level(&config.cross_level, width, neighbors, nodes.bin, *nodes.get(level)));
    let after = levels.iter().map(|&level| {
        let core = *core.get(level);
        graph(&config.graph, width, neighbors, *nodes.get(level))
            + depth(&config.depth, width, config.depth_tokens(level), core)
            + linear(width, config.genes) * core
    });
    cross.sum::<Cost>() + after.sum()
}

/// Bytes of a value of the patch encoder's weights; those of its last linear map are 32-bit in either case, so that the
/// floor of the other is a little low.
fn encoder_value(precision: Precision) -> u64 {
    match precision {
        Precision::Single => VALUE,
        Precision::Half => VALUE / 2,
    }
}

/// Encoding `patches` patches of `side_px` on the device.
pub(super) fn encoding(config: &MagNetConfig, patches: usize, side_px: usize, precision: Precision) -> Work {
    let cost = patch_encoder(&config.patch_encoder, config.width, side_px) * patches;
    let values = patches as u64 * (3 * side_px * side_px + config.width) as u64;
    let bytes = VALUE * values + encoder_value(precision) * cost.weights;
    Work { operations: 2 * cost.multiply_adds, bytes }
}

/// Encoding the nodes of each level that the model reads.
fn encoding_levels(config: &MagNetConfig, nodes: PerLevel<usize>) -> (Cost, u64) {
    let levels = config.predicted_levels().iter();
    levels.fold((Cost::default(), 0), |(cost, values), &level| {
        let side = config.levels.get(level).patch_px;
        let count = *nodes.get(level);
        let of_level = patch_encoder(&config.patch_encoder, config.width, side) * count;
        // One encoder for all levels.
        let cost = Cost { multiply_adds: cost.multiply_adds + of_level.multiply_adds, ..of_level };
        (cost, values + (count * 3 * side * side) as u64)
    })
}

/// Mixing encoded nodes into predictions.
pub(super) fn predicting(config: &MagNetConfig, nodes: PerLevel<usize>, core: PerLevel<usize>) -> Work {
    let cost = mixing(config, nodes, core);
    let sum = |counts: PerLevel<usize>, width: usize| {
        config.predicted_levels().iter().map(|&level| (*counts.get(level) * width) as u64).sum::<u64>()
    };
    let values = sum(nodes, config.width) + cost.weights + sum(core, config.genes);
    Work { operations: 2 * cost.multiply_adds, bytes: VALUE * values }
}

/// A step of training: the backward pass is twice the forward pass, and every weight has a gradient and `states` values of
/// the optimiser.
pub(super) fn training(
    config: &MagNetConfig,
    nodes: PerLevel<usize>,
    core: PerLevel<usize>,
    states: u64,
) -> Work {
    let (encoder, pixels) = encoding_levels(config, nodes);
    let cost = encoder + mixing(config, nodes, core);
    // Weights are read forward, backward and by the update, which writes them; gradients are written and read, the
    // optimiser's values as well.
    let by_weight = 4 + 2 + 2 * states;
    Work { operations: 3 * 2 * cost.multiply_adds, bytes: VALUE * (pixels + by_weight * cost.weights) }
}

/// A whole slide, every node once: its bytes are the pixels of the patches and the predictions.
pub(super) fn whole_slide(config: &MagNetConfig, nodes: PerLevel<usize>, precision: Precision) -> Work {
    let (encoder, pixels) = encoding_levels(config, nodes);
    let cost = encoder + mixing(config, nodes, nodes);
    let predictions = predicting(config, nodes, nodes).bytes;
    let bytes = pixels + encoder_value(precision) * encoder.weights + predictions;
    Work { operations: 2 * cost.multiply_adds, bytes }
}

/// The neighbour tables of `bins` places: coordinates in, indices and flags out.
pub(super) fn neighbor_tables(bins: usize, neighbors: usize) -> Work {
    let place = 2 * size_of::<f64>();
    let slot = size_of::<u32>() + size_of::<bool>();
    Work { operations: 0, bytes: (bins * (place + neighbors * slot)) as u64 }
}

/// `patches` patches of 8-bit RGB, written.
pub(super) fn patches(patches: usize, side_px: usize) -> Work {
    Work { operations: 0, bytes: (patches * 3 * side_px * side_px) as u64 }
}

#[cfg(test)]
mod tests {
    use magnet_core::model::ResNetDepth;

    use super::*;

    fn encoder(depth: ResNetDepth) -> PatchEncoderConfig {
        PatchEncoderConfig { depth, ..PatchEncoderConfig::default() }
    }

    /// The published counts are with the classifier of 1,000 classes, which is our linear map at that width.
    #[test]
    fn resnets_at_224_px_need_what_is_published_of_them() {
        for (depth, giga) in [
            (ResNetDepth::ResNet18, 1.81),
            (ResNetDepth::ResNet34, 3.66),
            (ResNetDepth::ResNet50, 4.09),
            (ResNetDepth::ResNet101, 7.80),
            (ResNetDepth::ResNet152, 11.51),
        ] {
            let cost = patch_encoder(&encoder(depth), 1000, 224);
            let found = cost.multiply_adds as f64 / 1e9;
            assert!((found - giga).abs() < 0.006, "{depth:?}: {found}");
        }
    }

    #[test]
    fn weights_are_those_of_the_built_network_without_normalisation() {
        // 25,557,032 parameters of torchvision's ResNet-50: 53,120 of batch norm, 1,000 of the classifier's bias.
        assert_eq!(
            patch_encoder(&encoder(ResNetDepth::ResNet50), 1000, 224).weights,
            25_557_032 - 53_120 - 1000
        );
    }

    #[test]
    fn a_small_encoder_is_what_a_hand_counts() {
        let config = PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 2,
            pooling: Pooling::MeanStd,
            dropout: 0.0,
        };
        // 32 px: stem 8 channels at 16 px; stage 1 at 8 px, four 3×3 of 8 → 8; stage 2 at 4 px, 8 → 16, three of 16 → 16 and
        // a 1×1 beside the first; 32 pooled values to width 10.
        let stem = 3 * 8 * 49 * 16 * 16;
        let first = 4 * 8 * 8 * 9 * 8 * 8;
        let second = (8 * 16 * 9 + 3 * 16 * 16 * 9 + 8 * 16) * 4 * 4;
        assert_eq!(patch_encoder(&config, 10, 32).multiply_adds, stem + first + second + 32 * 10);
    }

    fn tiny() -> MagNetConfig {
        MagNetConfig {
            genes: 5,
            width: 4,
            neighbors: 2,
            graph: GraphConfig { layers: 2, heads: 2, ..GraphConfig::default() },
            depth: DepthConfig { layers: 1, heads: 2, feed_forward: 3, ..DepthConfig::default() },
            cross_level: CrossLevelConfig { heads: 2, ..CrossLevelConfig::default() },
            ..MagNetConfig::default()
        }
    }

    #[test]
    fn mixing_is_what_a_hand_counts() {
        let (nodes, core) =
            (PerLevel { bin: 10, spot: 3, region: 2 }, PerLevel { bin: 6, spot: 2, region: 1 });
        // Width 4: a map of a node is 16. Bins attend to three tiles.
        let cross = |tiles: u64| 16 * (10 + tiles + tiles + 10) + 2 * 10 * 3 * 4;
        // Two layers: a map, two scores, and a sum over three slots.
        let graph = |nodes: u64| 2 * nodes * (16 + 4 * (2 + 3));
        // One layer: four maps and 4 → 12 → 4 of every token, and all pairs of tokens twice.
        let depth = |nodes: u64, tokens: u64| nodes * (tokens * (4 * 16 + 2 * 48) + 2 * tokens * tokens * 4);
        let heads = (6 + 2 + 1) * 20;
        let expected = cross(3) + cross(2)
            + graph(10) + graph(3) + graph(2)
            // Bins read the tokens of their parents as well.
            + depth(6, 6) + depth(2, 2) + depth(1, 2)
            + heads;
        assert_eq!(mixing(&tiny(), nodes, core).multiply_adds, expected);
    }

    #[test]
    fn the_single_level_model_has_no_wide_work() {
        let config = MagNetConfig { wide_levels: false, ..tiny() };
        let (nodes, wide) =
            (PerLevel { bin: 10, spot: 0, region: 0 }, PerLevel { bin: 10, spot: 7, region: 9 });
        assert_eq!(mixing(&config, nodes, nodes), mixing(&config, wide, wide));
        let single = Precision::Single;
        assert_eq!(whole_slide(&config, nodes, single), whole_slide(&config, wide, single));
    }

    #[test]
    fn work_grows_with_its_nodes_and_weights_do_not() {
        let config = tiny();
        let (one, two) = (PerLevel { bin: 10, spot: 4, region: 2 }, PerLevel { bin: 20, spot: 8, region: 4 });
        let (a, b) = (mixing(&config, one, one), mixing(&config, two, two));
        assert_eq!((2 * a.multiply_adds, a.weights), (b.multiply_adds, b.weights));
        assert_eq!(
            training(&config, two, two, 1).operations,
            3 * whole_slide(&config, two, Precision::Half).operations
        );
        let published = MagNetConfig { architecture: Architecture::Published, ..config };
        assert_eq!(
            2 * mixing(&published, one, one).multiply_adds,
            mixing(&published, two, two).multiply_adds
        );
    }
}
