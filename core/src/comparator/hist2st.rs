//! Hist2ST (Zeng et al., "Spatial transcriptomics prediction from histology jointly through
//! Transformer and graph neural networks", Briefings in Bioinformatics 2022).
//!
//! A Convmixer reads each patch; a transformer lets all spots of the section see each other, with learned vectors of
//! their columns and rows; GraphSAGE layers mix each spot with its neighbours; an LSTM runs over the outputs of these
//! layers (jumping knowledge), and the mean over its outputs, LayerNorm and a linear map give the genes.
//!
//! What differs from the paper:
//! - no zero-inflated negative binomial term: it is the likelihood of raw counts, and the labels of all models here are
//!   normalised and on a log scale, where it has no meaning;
//! - no self-distillation: it predicts several augmented views of each section in every step and draws them together,
//!   while a step of the common training has one view (another in each epoch) and must mean the same for every model;
//! - its sizes (patches of 112 px, `D` 1024, 8 transformer layers of 16 heads, 4 graph layers over 4 neighbours) are
//!   whatever the configuration says. The Convmixer keeps its own: patches of 7 px, 32 channels, 5 × 5 convolutions, 2
//!   layers. Its flattened map has width `D` in the paper; where it has not, a linear map brings it there;
//! - its sequence is a whole section, here it is a block of `train.batch_bins` bins: places count from the block's
//!   edge, and neighbours outside the block are absent;
//! - pixels have ImageNet's mean and standard deviation taken out, and genes are predicted in units of their training
//!   mean and standard deviation, as in the other models.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, Lstm, LstmConfig, PaddingConfig2d};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Tensor};

use super::model::BinModel;
use super::spot_transformer::SpotTransformer;
use crate::batch::{MagNetBatch, NeighborIndices};
use crate::model::{GeneHead, GeneStatistics, MagNetConfig, normalized, standardized};

/// Side of the Convmixer's own patches, in pixels.
const MIXER_PATCH_PX: usize = 7;
/// Channels of the Convmixer.
const MIXER_CHANNELS: usize = 32;
/// Channels that are left before its map is flattened.
const MIXER_REDUCED: usize = 4;
/// Side of its depthwise convolutions.
const MIXER_KERNEL: usize = 5;
/// Its layers.
const MIXER_LAYERS: usize = 2;
/// Stacked LSTM layers over the graph's outputs.
const LSTM_LAYERS: usize = 2;
/// Added to a squared length before the root.
const LENGTH_EPSILON: f64 = 1e-12;

/// Convmixer → transformer over the spots → GraphSAGE → LSTM over its layers → LayerNorm → linear to the genes.
#[derive(Module, Debug)]
pub struct Hist2St {
    mixer: Convmixer,
    transformer: SpotTransformer,
    graph: GraphSage,
    jumping_knowledge: Vec<Lstm>,
    gene_head: GeneHead,
    #[module(skip)]
    config: MagNetConfig,
}

impl Hist2St {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let width = config.width;
        let lstm = || LstmConfig::new(width, width, true).init(device);
        Self {
            mixer: Convmixer::new(config.levels.bin.patch_px, width, device),
            transformer: SpotTransformer::new(config, device),
            graph: GraphSage::new(config.graph.layers, width, device),
            jumping_knowledge: (0..LSTM_LAYERS).map(|_| lstm()).collect(),
            gene_head: GeneHead::new(width, config.genes, 0.0, device),
            config: config.clone(),
        }
    }

    pub(super) fn with_statistics(self, statistics: &(Vec<f32>, Vec<f32>)) -> Self {
        Self { gene_head: standardized(self.gene_head, statistics), ..self }
    }

    /// One vector per spot from the outputs of all graph layers.
    ///
    /// # Shapes
    /// - `layers`: `T` tensors `[B,D]`, the first layer's first
    /// - output: `[B,D]`
    fn gathered(&self, layers: Vec<Tensor<2>>) -> Tensor<2> {
        let sequence = Tensor::stack::<3>(layers, 1); // [B,T,D]
        let states =
            self.jumping_knowledge.iter().fold(sequence, |states, lstm| lstm.forward(states, None).0);
        states.mean_dim(1).squeeze_dim(1)
    }
}

impl BinModel for Hist2St {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        self.mixer.forward(normalized(patches))
    }

    fn width(&self) -> usize {
        self.config.width
    }

    fn patch_px(&self) -> Option<usize> {
        Some(self.config.levels.bin.patch_px)
    }

    fn predict(&self, bins: Tensor<2>, batch: &MagNetBatch) -> Tensor<2> {
        let spots = self.transformer.forward(bins, &batch.places);
        self.gene_head.forward(self.gathered(self.graph.forward(spots, &batch.graphs.bin)))
    }

    fn statistics(&self) -> Option<GeneStatistics> {
        Some(self.gene_head.statistics())
    }
}

/// ConvMixer (Trockman and Kolter 2022) on one patch, its map reduced to a few channels and flattened.
#[derive(Module, Debug)]
struct Convmixer {
    embedding: Convolution,
    layers: Vec<ConvmixerLayer>,
    reduction: Convolution,
    /// To `D`, where the flattened map has another width.
    linear: Option<Linear>,
}

/// Depthwise convolution with a residual, then a pointwise one.
#[derive(Module, Debug)]
struct ConvmixerLayer {
    depthwise: Convolution,
    pointwise: Convolution,
}

/// Convolution → GELU → batch norm.
#[derive(Module, Debug)]
struct Convolution {
    convolution: Conv2d,
    norm: BatchNorm,
}

impl Convmixer {
    /// For patches of `side` pixels and vectors of width `width`.
    fn new(side: usize, width: usize, device: &Device) -> Self {
        let (channels, patch) = (MIXER_CHANNELS, MIXER_PATCH_PX.min(side));
        let embedding = Conv2dConfig::new([3, channels], [patch, patch]).with_stride([patch, patch]);
        let pad = MIXER_KERNEL / 2;
        let depthwise = Conv2dConfig::new([channels, channels], [MIXER_KERNEL, MIXER_KERNEL])
            .with_groups(channels)
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad));
        let pointwise = |out: usize| Conv2dConfig::new([channels, out], [1, 1]);
        let layer = || ConvmixerLayer {
            depthwise: Convolution::new(&depthwise, device),
            pointwise: Convolution::new(&pointwise(channels), device),
        };
        // Pixels that make up no whole patch, at the right and lower edge, are not read.
        let flattened = MIXER_REDUCED * (side / patch.max(1)).pow(2);
        Self {
            embedding: Convolution::new(&embedding, device),
            layers: (0..MIXER_LAYERS).map(|_| layer()).collect(),
            reduction: Convolution::new(&pointwise(MIXER_REDUCED), device),
            linear: (flattened != width).then(|| LinearConfig::new(flattened, width).init(device)),
        }
    }

    /// # Shapes
    /// - `patches`: `[B,3,P,P]`
    /// - output: `[B,D]`
    fn forward(&self, patches: Tensor<4>) -> Tensor<2> {
        let mut map = self.embedding.forward(patches); // [B,C,P/7,P/7]
        for layer in &self.layers {
            map = layer.pointwise.forward(layer.depthwise.forward(map.clone()) + map);
        }
        let flat = self.reduction.forward(map).flatten(1, 3);
        match &self.linear {
            Some(linear) => linear.forward(flat),
            None => flat,
        }
    }
}

impl Convolution {
    fn new(config: &Conv2dConfig, device: &Device) -> Self {
        let [_, channels] = config.channels;
        Self { convolution: config.init(device), norm: BatchNormConfig::new(channels).init(device) }
    }

    /// # Shapes
    /// - `map`: `[B,C,H,W]`
    /// - output: `[B,C',H',W']`
    fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        self.norm.forward(gelu(self.convolution.forward(map)))
    }
}

/// GraphSAGE (Hamilton et al. 2017) with the mean over the neighbours.
#[derive(Module, Debug)]
struct GraphSage {
    /// Each `2D → D`: the node and the mean of its neighbours, side by side.
    layers: Vec<Linear>,
}

impl GraphSage {
    fn new(layers: usize, width: usize, device: &Device) -> Self {
        let layer = || LinearConfig::new(2 * width, width).with_bias(false).init(device);
        Self { layers: (0..layers).map(|_| layer()).collect() }
    }

    /// Every layer's output. Rows have unit length, or are 0. A node without neighbours has 0 for their mean.
    ///
    /// # Shapes
    /// - `nodes`: `[B,D]`
    /// - `neighbors`: `[B,K]`, without the node itself
    /// - output: `T` tensors `[B,D]`, the first layer's first
    fn forward(&self, nodes: Tensor<2>, neighbors: &NeighborIndices) -> Vec<Tensor<2>> {
        let [count, width] = nodes.dims();
        let [_, slots] = neighbors.index.dims();
        let rows = neighbors.index.clone().reshape([count * slots]);
        let present = neighbors.valid.clone().float();
        let share = (present.clone() / present.sum_dim(1).clamp_min(1.0)).reshape([count, slots, 1]);
        let mut state = nodes;
        let step = |layer: &Linear| {
            let gathered = state.clone().select(0, rows.clone()).reshape([count, slots, width]);
            let mean = (gathered * share.clone()).sum_dim(1).reshape([count, width]);
            let mixed = relu(layer.forward(Tensor::cat(vec![state.clone(), mean], 1)));
            let length = (mixed.clone().powi_scalar(2).sum_dim(1) + LENGTH_EPSILON).sqrt();
            state = mixed / length;
            state.clone()
        };
        self.layers.iter().map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GENES, batch_at, model, predicted, row_of, small_config, with_bins};
    use super::*;
    use crate::level::Level;
    use crate::model::testing::{
        assert_close, assert_values, filled, matrix, noise, pseudo_random, table, values,
    };
    use crate::model::{Architecture, ExpressionModel};

    const ARCHITECTURE: Architecture = Architecture::Hist2St;

    fn random<M: Module>(module: M) -> M {
        filled(module, |name, index| pseudo_random(name, index) as f32)
    }

    #[test]
    fn a_graph_layer_reads_the_node_and_the_mean_of_its_valid_neighbours() {
        let device = Device::flex();
        let nodes = matrix(&[&[3.0], &[1.0], &[7.0]], &device);
        let neighbors = table(&[vec![Some(1), Some(2)], vec![Some(0), None], vec![None, None]], &device);
        // Two outputs would be scaled to unit length, so ask with two weights of known ratio.
        let wide = Tensor::cat(vec![nodes, Tensor::zeros([3, 1], &device)], 1);
        let graph = filled(GraphSage::new(1, 2, &device), |_, index| {
            // Inputs: node (2), mean (2); outputs: the node's first value, the mean's first value.
            f32::from(u8::from(index == 0 || index == 5))
        });
        let [out] = graph.forward(wide, &neighbors).try_into().unwrap();
        // (3, 4), (1, 3), (7, 0), each divided by its length.
        let root = 10.0_f32.sqrt();
        assert_values(&values(&out), &[0.6, 0.8, 1.0 / root, 3.0 / root, 1.0, 0.0], 1e-5);
    }

    #[test]
    fn each_graph_layer_reaches_one_hop_further() {
        let device = Device::flex();
        // Nothing below 0, so that no ReLU hides a change.
        let graph =
            filled(GraphSage::new(3, 4, &device), |name, index| pseudo_random(name, index).abs() as f32);
        let path = table(
            &[vec![Some(1), None], vec![Some(0), Some(2)], vec![Some(1), Some(3)], vec![Some(2), None]],
            &device,
        );
        let nodes = noise("nodes", [4, 4], &device).abs();
        let moved = nodes.clone() + matrix(&[&[0.0], &[0.0], &[0.0], &[1.0]], &device);
        let changed: Vec<bool> = (graph.forward(nodes, &path).iter().zip(&graph.forward(moved, &path)))
            .map(|(a, b)| values(a)[..4] != values(b)[..4])
            .collect();
        assert_eq!(changed, [false, false, true]);
    }

    #[test]
    fn a_dead_row_has_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let graph = filled(GraphSage::new(1, 2, &device), |_, _| -1.0);
        let nodes = matrix(&[&[1.0, 2.0]], &device).require_grad();
        let [out] = graph.forward(nodes.clone(), &table(&[vec![None]], &device)).try_into().unwrap();
        assert_values(&values(&out), &[0.0; 2], 0.0);
        let gradient = nodes.grad(&out.sum().backward()).unwrap();
        assert!(values(&gradient).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn neighbours_matter_beyond_what_the_transformer_sees() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let batch = with_bins(&batch_at(&row_of(4), &device), noise("bins", [4, 8], &device));
        let mut alone = batch.clone();
        alone.graphs.bin = table(&vec![vec![None, None]; 4], &device);
        let (with, without) = (values(&predicted(&model, &batch)), values(&predicted(&model, &alone)));
        for (with, without) in with.chunks(GENES).zip(without.chunks(GENES)) {
            assert_ne!(with, without);
        }
    }

    #[test]
    fn the_output_of_every_graph_layer_and_their_order_reach_the_genes() {
        let device = Device::flex();
        let hist2st = random(Hist2St::new(&small_config(ARCHITECTURE), &device));
        let [first, second, other] = ["first", "second", "other"].map(|name| noise(name, [2, 8], &device));
        let run = |layers: [&Tensor<2>; 2]| values(&hist2st.gathered(layers.map(Clone::clone).to_vec()));
        let usual = run([&first, &second]);
        assert_ne!(usual, run([&other, &second]));
        assert_ne!(usual, run([&first, &other]));
        assert_ne!(usual, run([&second, &first]));
    }

    #[test]
    fn distant_spots_see_each_other_and_places_matter() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let bins = noise("bins", [12, 8], &device);
        let changed = Tensor::cat(vec![bins.clone().narrow(0, 0, 11), noise("last", [1, 8], &device)], 0);
        let row = batch_at(&row_of(12), &device);
        let first = |batch: &MagNetBatch| values(&predicted(&model, batch))[..GENES].to_vec();
        let usual = first(&with_bins(&row, bins.clone()));
        // Eleven spots away, and the graph reaches two.
        assert_ne!(usual, first(&with_bins(&row, changed)));
        let mut elsewhere = with_bins(&row, bins);
        elsewhere.places = elsewhere.places.clone().flip([1]);
        assert_ne!(usual, first(&elsewhere));
    }

    #[test]
    fn the_flattened_map_is_the_vector_at_the_published_sizes_and_is_mapped_to_it_at_others() {
        let device = Device::flex();
        assert!(Convmixer::new(112, 1024, &device).linear.is_none());
        for side in [1, 3, 7, 16] {
            let mixer = Convmixer::new(side, 8, &device);
            let patches = noise("patches", [2, 3 * side * side], &device).reshape([2, 3, side, side]);
            assert_eq!(mixer.forward(patches).dims(), [2, 8], "side {side}");
        }
    }

    #[test]
    fn patches_are_encoded_one_by_one_and_of_one_size_only() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let patches = noise("patches", [3, 3 * 16 * 16], &device).reshape([3, 3, 16, 16]);
        let encode =
            |patches: Tensor<4>| model.encode(Level::Bin, &crate::batch::LevelInput::Patches(patches));
        let together = encode(patches.clone()).unwrap();
        assert_close(&together.narrow(0, 1, 1), &encode(patches.clone().narrow(0, 1, 1)).unwrap(), 1e-5);
        assert!(encode(patches.narrow(2, 0, 8)).is_err());
    }
}
