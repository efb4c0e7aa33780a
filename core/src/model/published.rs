//! The authors' released code as it runs, in one place, so that weights trained with it give the same numbers here.
//!
//! Where it differs from Figure 2:
//! - Cross-level attention has one key per query. The softmax over it is 1, so the block is `output(value(parent))`;
//!   query and key are kept, and no gradient reaches them.
//! - A graph layer scales each row by a positive attention weight, applies ReLU, and normalises the row by its length,
//!   which cancels the weight. What remains is the mean over the neighbours without the node itself, a linear map,
//!   ReLU and the unit length. The score vector is kept, and no gradient reaches it.
//! - The `T` layers are parallel maps of one input.
//! - Their outputs `[T,N,D]` are read as `[N,T,D]` without a transposition: a token sequence mixes nodes and layers, and
//!   depends on which other nodes are in the block and on their order.
//! - One transformer, with a positional code of unit variance, and one gene head serve all three levels.
//! - The linear map of the frozen features is drawn per run and not trained. The released code does not save it, here
//!   it is part of the weights.
//!
//! What the state dict holds and no forward pass reads is not part of this model: two more gene heads, an LSTM, and the
//! template of the encoder layer ([`super::pytorch`] knows them). How the released code finds parents, shuffles bins
//! over a slide and reads labels is not reproduced: parents, neighbours and blocks are those of [`crate::layout`].

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::{
    BatchError, ConfigError, DepthTransformer, ExpressionModel, GeneStatistics, LevelModules, MagNetConfig,
    PatchEncoder, WeightMap, WeightsError, WideModules, encode_level,
};
use crate::batch::{LevelInput, MagNetBatch, NeighborIndices};
use crate::level::{Level, PerLevel};
use crate::weights::Precision;

/// Rows shorter than this are divided by it, as PyTorch's `normalize` does.
const LEAST_LENGTH: f64 = 1e-12;

/// The released model.
#[derive(Module, Debug)]
pub struct Published {
    patch_encoder: PatchEncoder,
    /// `F` → `D`, where the wide levels come as features; not trained.
    wide_features: Option<WideModules<Linear>>,
    cross_level_attention: WideModules<ParentValue>,
    graph: LevelModules<ParallelMaps>,
    depth_transformer: DepthTransformer,
    gene_head: Head,
    #[module(skip)]
    config: MagNetConfig,
}

/// What each stage of the forward pass gives, for comparison with the released code.
#[derive(Debug, Clone)]
pub struct PublishedTrace {
    /// `[B,D]` bins after the patch encoder.
    pub encoder: Tensor<2>,
    /// `[B,D]` what the bins take from their spots.
    pub cross_attention_spot: Tensor<2>,
    /// `[B,D]` what the bins take from their regions.
    pub cross_attention_region: Tensor<2>,
    /// `[N,D]` outputs of the `T` graph layers of each level.
    pub graph: PerLevel<Vec<Tensor<2>>>,
    /// `[N,D]` after the transformer, all local nodes.
    pub depth: PerLevel<Tensor<2>>,
    /// `[Bc,G]`, `[Sc,G]`, `[Rc,G]` predictions.
    pub output: PerLevel<Tensor<2>>,
}

/// Attention over a single key.
#[derive(Module, Debug)]
struct ParentValue {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl ParentValue {
    fn new(width: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(width, width).init(device);
        Self { query: linear(), key: linear(), value: linear(), output: linear() }
    }

    /// # Shapes
    /// - `tiles`: `[S,D]`
    /// - `context`: `[B,1+K]`, the parent first
    /// - output: `[B,D]`
    fn forward(&self, tiles: Tensor<2>, context: &NeighborIndices) -> Tensor<2> {
        let [bins, _] = context.index.dims();
        let parent = context.index.clone().narrow(1, 0, 1).reshape([bins]);
        self.output.forward(self.value.forward(tiles)).select(0, parent)
    }
}

/// The `T` graph layers of one level.
#[derive(Module, Debug)]
struct ParallelMaps {
    layers: Vec<ParallelMap>,
}

/// One graph layer.
#[derive(Module, Debug)]
struct ParallelMap {
    map: Linear,
    /// `[D,1]`, whose effect the row's unit length cancels.
    score: Param<Tensor<2>>,
}

impl ParallelMaps {
    fn new(layers: usize, width: usize, device: &Device) -> Self {
        let glorot = Initializer::XavierUniform { gain: 1.0 };
        let layer = |_| ParallelMap {
            map: LinearConfig::new(width, width)
                .with_bias(false)
                .with_initializer(glorot.clone())
                .init(device),
            score: glorot.init_with([width, 1], Some(width), Some(1), device),
        };
        Self { layers: (0..layers).map(layer).collect() }
    }

    /// # Shapes
    /// - `nodes`: `[N,D]`
    /// - `neighbors`: `[N,K]`, without the node itself
    /// - output: `T` tensors `[N,D]`
    fn forward(&self, nodes: Tensor<2>, neighbors: &NeighborIndices) -> Vec<Tensor<2>> {
        let mean = mean_over_neighbors(nodes, neighbors);
        self.layers.iter().map(|layer| unit_rows(relu(layer.map.forward(mean.clone())))).collect()
    }
}

/// LayerNorm and a linear map.
#[derive(Module, Debug)]
struct Head {
    norm: LayerNorm,
    linear: Linear,
}

impl Published {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Result<Self, ConfigError> {
        config.validate()?;
        let (width, layers) = (config.width, config.graph.layers);
        let mut depth_transformer = config.depth.init(layers, width, device);
        depth_transformer.positions =
            Initializer::Normal { mean: 0.0, std: 1.0 }.init([layers, width], device);
        let attention = || ParentValue::new(width, device);
        Ok(Self {
            patch_encoder: config.patch_encoder.init(width, device),
            wide_features: config.wide_feature_maps(device).map(Module::no_grad),
            cross_level_attention: WideModules { spot: attention(), region: attention() },
            graph: LevelModules::new(true, |_| ParallelMaps::new(layers, width, device)),
            depth_transformer,
            gene_head: Head {
                norm: LayerNormConfig::new(width).init(device),
                linear: LinearConfig::new(width, config.genes).init(device),
            },
            config: config.clone(),
        })
    }

    /// The forward pass with the output of every stage.
    ///
    /// # Errors
    /// A batch whose inputs are not those of the configuration, or whose tensors disagree in shape.
    pub fn trace(&self, batch: &MagNetBatch) -> Result<PublishedTrace, BatchError> {
        self.config.check(batch)?;
        let nodes = PerLevel::try_from_fn(|level| self.encode(level, batch.inputs.get(level)))?;
        let attention = &self.cross_level_attention;
        let from_spot = attention.spot.forward(nodes.spot.clone(), &batch.spot_context);
        let from_region = attention.region.forward(nodes.region.clone(), &batch.region_context);
        let encoder = nodes.bin.clone();
        let mixed = PerLevel { bin: nodes.bin + from_spot.clone() + from_region.clone(), ..nodes };

        let graph = PerLevel::from_fn(|level| match self.graph.get(level) {
            Some(maps) => maps.forward(mixed.get(level).clone(), batch.graphs.get(level)),
            None => Vec::new(),
        });
        let depth = PerLevel::from_fn(|level| self.read_depth(graph.get(level)));
        let output = PerLevel::from_fn(|level| {
            let core = *batch.core.get(level);
            if core == 0 {
                return Tensor::zeros([0, self.config.genes], &encoder.device());
            }
            let nodes = depth.get(level).clone().narrow(0, 0, core);
            self.gene_head.linear.forward(self.gene_head.norm.forward(nodes))
        });
        Ok(PublishedTrace {
            encoder,
            cross_attention_spot: from_spot,
            cross_attention_region: from_region,
            graph,
            depth,
            output,
        })
    }

    /// # Shapes
    /// - `layers`: `T` tensors `[N,D]`
    /// - output: `[N,D]`
    fn read_depth(&self, layers: &[Tensor<2>]) -> Tensor<2> {
        let stacked: Tensor<3> = Tensor::stack(layers.to_vec(), 0); // [T,N,D]
        let [depth, count, width] = stacked.dims();
        self.depth_transformer.forward(stacked.reshape([count, depth, width]))
    }

    pub(super) fn for_inference(self, precision: Precision) -> Self {
        Self { patch_encoder: self.patch_encoder.for_inference(precision), ..self }
    }

    pub(super) fn with_pretrained_encoder(mut self, weights: WeightMap) -> Result<Self, WeightsError> {
        self.patch_encoder = self.patch_encoder.load_torchvision(weights)?;
        Ok(self)
    }
}

impl ExpressionModel for Published {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError> {
        encode_level(&self.config, &self.patch_encoder, self.wide_features.as_ref(), level, input)
    }

    fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        Ok(self.trace(batch)?.output)
    }

    fn gene_statistics(&self) -> PerLevel<GeneStatistics> {
        let device = self.gene_head.norm.gamma.device();
        let genes = [self.config.genes];
        PerLevel::from_fn(|_| GeneStatistics {
            mean: Tensor::zeros(genes, &device),
            sd: Tensor::ones(genes, &device),
        })
    }
}

/// The mean over the valid neighbours; 0 without any. A table of `[N,K]` rows is gathered, so that nothing is `N×N`.
///
/// # Shapes
/// - `nodes`: `[N,D]`
/// - output: `[N,D]`
fn mean_over_neighbors(nodes: Tensor<2>, neighbors: &NeighborIndices) -> Tensor<2> {
    let [count, width] = nodes.dims();
    let [_, slots] = neighbors.index.dims();
    if slots == 0 {
        return nodes.zeros_like();
    }
    let gathered =
        nodes.select(0, neighbors.index.clone().reshape([count * slots])).reshape([count, slots, width]);
    let valid = neighbors.valid.clone().float(); // [N,K]
    let degree = valid.clone().sum_dim(1).clamp_min(1.0); // [N,1]
    let sum = (gathered * valid.unsqueeze_dim::<3>(2)).sum_dim(1).reshape([count, width]);
    sum / degree
}

/// Each row divided by its length.
///
/// # Shapes
/// - both `[N,D]`
fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    // The bound is under the root, so that a row of zeros has a gradient of zeros.
    let length = rows.clone().square().sum_dim(1).clamp_min(LEAST_LENGTH * LEAST_LENGTH).sqrt(); // [N,1]
    rows / length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{assert_values, matrix, table, values};

    #[test]
    fn neighbours_are_averaged_without_the_node_itself_and_rows_have_unit_length() {
        let device = Device::flex();
        let nodes = matrix(&[&[9.0, 9.0], &[2.0, 0.0], &[4.0, 8.0]], &device);
        let neighbors = table(&[vec![Some(1), Some(2)], vec![Some(2), None], vec![None, None]], &device);
        let mean = mean_over_neighbors(nodes, &neighbors);
        assert_values(&values(&mean), &[3.0, 4.0, 4.0, 8.0, 0.0, 0.0], 1e-6);
        let unit = unit_rows(mean);
        assert_values(&values(&unit)[..2], &[0.6, 0.8], 1e-6);
        assert_eq!(values(&unit)[4..], [0.0, 0.0]);
    }

    #[test]
    fn a_row_of_zeros_has_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let rows = matrix(&[&[0.0, 0.0]], &device).require_grad();
        let gradients = unit_rows(rows.clone()).sum().backward();
        assert!(values(&rows.grad(&gradients).unwrap()).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn what_the_released_code_cannot_be_without_is_refused_by_field() {
        use crate::model::Architecture;
        let base = MagNetConfig { architecture: Architecture::Published, ..MagNetConfig::default() };
        base.validate().unwrap();
        let mut changed = base.clone();
        changed.depth.layers = 2;
        assert_eq!(changed.validate().unwrap_err().field, "depth.layers");
        let changed = MagNetConfig { wide_levels: false, ..base };
        assert_eq!(changed.validate().unwrap_err().field, "wide_levels");
    }
}
