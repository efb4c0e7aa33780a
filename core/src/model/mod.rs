//! The model, one file per box of the paper's Figure 2; [`MagNet::embed`] reads as the figure does, left to right.
//!
//! A model's tensors are saved under the names of its fields: `patch_encoder.…`, `wide_features.spot.…`,
//! `cross_level_attention.region.…`, `graph_attention.bin.layers.0.…`, `depth_transformer.bin.…`,
//! `gene_head.region.…`. Renaming a field breaks saved models.

mod architecture;
mod check;
mod config;
mod convolution;
mod cross_level_attention;
mod depth_transformer;
mod frozen_encoder;
mod gene_head;
mod graph_attention;
mod inference;
mod mobilenet;
mod patch_encoder;
mod published;
pub mod pytorch;
mod resnet;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(not(target_family = "wasm"))]
mod training;
mod validate;
mod weights;

use burn::module::{Module, ModuleDisplay};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

pub use architecture::{ExpressionModel, Model, ObjectiveError, TrainingSet, TrainingSetError};
pub use check::BatchError;
#[cfg(feature = "comparators")]
pub(crate) use check::check_bins;
pub use config::{
    Architecture, ComparatorConfig, ConsistencyTarget, CrossLevelConfig, DepthConfig, GraphAttentionKind,
    GraphConfig, LossConfig, LossUnits, MagNetConfig, PatchEncoderConfig, Pooling, ResNetDepth, WideFeatures,
};
pub use cross_level_attention::CrossLevelAttention;
pub use depth_transformer::DepthTransformer;
pub use frozen_encoder::FrozenEncoder;
pub use gene_head::{GeneHead, GeneStatistics};
pub use graph_attention::{GraphAttention, GraphAttentionLayer};
pub use inference::half_is_there;
pub use mobilenet::MobileNetV1;
pub use patch_encoder::PatchEncoder;
pub use published::{Published, PublishedTrace};
pub use resnet::ResNet;
#[cfg(feature = "comparators")]
pub(crate) use resnet::normalized;
pub use validate::ConfigError;
pub use weights::{
    Misshapen, WeightLayout, WeightMap, WeightTensor, WeightsError, expected_shapes, load_weights,
    read_safetensors, weights_from_store,
};

use crate::batch::{LevelInput, MagNetBatch, NeighborIndices};
use crate::level::{Level, PerLevel};
use crate::weights::Precision;
use depth_transformer::mean_over_tokens;

/// Score of what attention must not see. `exp` of it is exactly 0 in `f32` beside any real score, and unlike −∞ it
/// gives no NaN.
const MASKED_SCORE: f32 = -1e9;

/// A gene whose training labels vary less than this is left unscaled.
const LEAST_SD: f32 = 1e-6;

/// One module per level; the wide ones are absent in the single-level ablation.
#[derive(Module, Debug)]
struct LevelModules<M: Module + ModuleDisplay> {
    bin: M,
    spot: Option<M>,
    region: Option<M>,
}

impl<M: Module + ModuleDisplay> LevelModules<M> {
    fn new(wide_levels: bool, mut build: impl FnMut(Level) -> M) -> Self {
        Self {
            bin: build(Level::Bin),
            spot: wide_levels.then(|| build(Level::Spot)),
            region: wide_levels.then(|| build(Level::Region)),
        }
    }

    fn get(&self, level: Level) -> Option<&M> {
        match level {
            Level::Bin => Some(&self.bin),
            Level::Spot => self.spot.as_ref(),
            Level::Region => self.region.as_ref(),
        }
    }
}

/// One module per wide level.
#[derive(Module, Debug)]
struct WideModules<M: Module + ModuleDisplay> {
    spot: M,
    region: M,
}

/// The model.
#[derive(Module, Debug)]
pub struct MagNet {
    patch_encoder: PatchEncoder,
    /// `F` → `D`, where the wide levels come as features.
    wide_features: Option<WideModules<Linear>>,
    cross_level_attention: Option<WideModules<CrossLevelAttention>>,
    graph_attention: LevelModules<GraphAttention>,
    depth_transformer: Option<LevelModules<DepthTransformer>>,
    gene_head: LevelModules<GeneHead>,
    #[module(skip)]
    config: MagNetConfig,
}

/// Gene statistics that the model cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{level} gene statistics, {field}: expected {expected}, found {found}")]
pub struct StatisticsError {
    /// The level whose statistics are wrong.
    pub level: Level,
    /// `mean` or `sd`.
    pub field: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl MagNetConfig {
    /// Builds the model of Figure 2, whatever `architecture` says. Parameters are drawn when first used, from the device's random stream: seed it
    /// (`device.seed`) and call `Module::materialize` for a model that follows from the seed alone.
    ///
    /// # Errors
    /// The first field that no model can be built with.
    pub fn init(&self, device: &Device) -> Result<MagNet, ConfigError> {
        self.validate()?;
        let wide = |build: &dyn Fn() -> CrossLevelAttention| WideModules { spot: build(), region: build() };
        let attends = self.wide_levels && self.cross_level.enabled;
        Ok(MagNet {
            patch_encoder: self.patch_encoder.init(self.width, device),
            wide_features: self.wide_feature_maps(device),
            cross_level_attention: attends.then(|| wide(&|| self.cross_level.init(self.width, device))),
            graph_attention: LevelModules::new(self.wide_levels, |_| self.graph.init(self.width, device)),
            depth_transformer: self.depth.enabled.then(|| {
                LevelModules::new(self.wide_levels, |level| {
                    self.depth.init(self.depth_tokens(level), self.width, device)
                })
            }),
            gene_head: LevelModules::new(self.wide_levels, |_| {
                GeneHead::new(self.width, self.genes, self.head_dropout, device)
            }),
            config: self.clone(),
        })
    }

    /// The trainable maps of the wide levels' features to `D`, where those levels come as features.
    fn wide_feature_maps(&self, device: &Device) -> Option<WideModules<Linear>> {
        let features = match self.wide_features {
            WideFeatures::Shared => return None,
            WideFeatures::Frozen { width } | WideFeatures::File { width } => width,
        };
        let linear = || LinearConfig::new(features, self.width).init(device);
        self.wide_levels.then(|| WideModules { spot: linear(), region: linear() })
    }

    /// How many hops of neighbours around its core nodes a block must hold.
    pub fn halo_hops(&self) -> usize {
        match self.architecture {
            Architecture::Figure2 => self.graph.layers,
            // The released code's graph ends at the batch, and comparators have none that goes beyond it.
            _ => 0,
        }
    }

    /// Whether the bin's sequence holds the tokens of its parents.
    fn reads_parents_in_depth(&self) -> bool {
        self.depth.enabled && self.depth.wide_tokens && self.wide_levels
    }

    /// Length of a node's sequence in the depth transformer: `T`, or `3·T` for a bin with its parents.
    pub fn depth_tokens(&self, level: Level) -> usize {
        if level == Level::Bin && self.reads_parents_in_depth() {
            3 * self.graph.layers
        } else {
            self.graph.layers
        }
    }

    /// The levels that the model predicts.
    pub fn predicted_levels(&self) -> &'static [Level] {
        if self.wide_levels { &Level::ALL } else { &[Level::Bin] }
    }
}

impl MagNet {
    /// The configuration that the model was built with.
    pub fn config(&self) -> &MagNetConfig {
        &self.config
    }

    /// Predicts the expression of every gene, in label units, for the core nodes of each level.
    ///
    /// Without wide levels (the single-level ablation) the spot and region tensors have no rows; so has a level of
    /// which the batch holds no core node.
    ///
    /// # Shapes
    /// - output: `[Bc,G]`, `[Sc,G]`, `[Rc,G]`
    ///
    /// # Errors
    /// A batch whose inputs are not those of the configuration, or whose tensors disagree in shape.
    pub fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        Ok(self.predict_genes(self.embed(batch)?))
    }

    /// The vector of each core node, before the gene head.
    ///
    /// # Shapes
    /// - output: `[Bc,D]`, `[Sc,D]`, `[Rc,D]`; no rows as for [`forward`](Self::forward)
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn embed(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        self.config.check(batch)?;
        let bins = self.encode(Level::Bin, &batch.inputs.bin)?;
        let spots = self.encode_if_used(Level::Spot, &batch.inputs.spot)?;
        let regions = self.encode_if_used(Level::Region, &batch.inputs.region)?;

        let bins = match (&self.cross_level_attention, &spots, &regions) {
            (Some(attention), Some(spots), Some(regions)) => {
                bins.clone()
                    + attention.spot.forward(bins.clone(), spots.clone(), &batch.spot_context)
                    + attention.region.forward(bins, regions.clone(), &batch.region_context)
            }
            _ => bins,
        };

        let hops = PerLevel {
            bin: self.mix(Level::Bin, Some(bins), &batch.graphs.bin),
            spot: self.mix(Level::Spot, spots, &batch.graphs.spot),
            region: self.mix(Level::Region, regions, &batch.graphs.region),
        };
        Ok(PerLevel::from_fn(|level| self.read_depth(level, &hops, batch)))
    }

    /// The gene heads alone.
    ///
    /// # Shapes
    /// - `nodes`: `[N,D]` per level
    /// - output: `[N,G]` per level
    pub fn predict_genes(&self, nodes: PerLevel<Tensor<2>>) -> PerLevel<Tensor<2>> {
        let PerLevel { bin, spot, region } = nodes;
        let predict = |level: Level, nodes: Tensor<2>| match self.gene_head.get(level) {
            Some(head) if nodes.dims()[0] > 0 => head.forward(nodes),
            _ => Tensor::zeros([0, self.config.genes], &nodes.device()),
        };
        PerLevel {
            bin: predict(Level::Bin, bin),
            spot: predict(Level::Spot, spot),
            region: predict(Level::Region, region),
        }
    }

    /// The bin encoder alone. What it gives can be passed on as [`LevelInput::Encoded`].
    ///
    /// # Shapes
    /// - `patches`: `[B,3,P,P]` RGB in 0..1
    /// - output: `[B,D]`
    pub fn encode_bins(&self, patches: Tensor<4>) -> Tensor<2> {
        self.patch_encoder.forward(patches)
    }

    /// A level's encoder alone: patches through the patch encoder, features of a frozen encoder through the level's
    /// linear map, encoded nodes unchanged. What it gives can be passed on as [`LevelInput::Encoded`].
    ///
    /// # Shapes
    /// - `input`: `N` nodes
    /// - output: `[N,D]`
    ///
    /// # Errors
    /// An input of another kind or width than the configuration says.
    pub fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError> {
        encode_level(&self.config, &self.patch_encoder, self.wide_features.as_ref(), level, input)
    }

    /// The patch encoder with its ResNet's weights taken from a torchvision file, as a start for training.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn with_pretrained_encoder(mut self, weights: WeightMap) -> Result<Self, WeightsError> {
        self.patch_encoder = self.patch_encoder.load_torchvision(weights)?;
        Ok(self)
    }

    pub(super) fn for_inference(self, precision: Precision) -> Self {
        Self { patch_encoder: self.patch_encoder.for_inference(precision), ..self }
    }

    /// The model with each gene head working in standardised units: mean and standard deviation of every gene's
    /// training labels, per level, `G` values each. A gene that does not vary is left unscaled.
    ///
    /// # Errors
    /// A vector of another length, a value that is not finite, a negative standard deviation.
    pub fn with_gene_statistics(
        mut self,
        statistics: &PerLevel<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Self, StatisticsError> {
        for &level in self.config.predicted_levels() {
            check_statistics(level, self.config.genes, statistics.get(level))?;
        }
        let place = |level: Level, head: GeneHead| standardized(head, statistics.get(level));
        self.gene_head = LevelModules {
            bin: place(Level::Bin, self.gene_head.bin),
            spot: self.gene_head.spot.map(|head| place(Level::Spot, head)),
            region: self.gene_head.region.map(|head| place(Level::Region, head)),
        };
        Ok(self)
    }

    /// The statistics that the gene heads hold; a level that the model does not predict has mean 0 and deviation 1.
    ///
    /// # Shapes
    /// - output: `[G]` each
    pub fn gene_statistics(&self) -> PerLevel<GeneStatistics> {
        PerLevel::from_fn(|level| match self.gene_head.get(level) {
            Some(head) => head.statistics(),
            None => {
                let bin = self.gene_head.bin.statistics();
                GeneStatistics { mean: bin.mean.zeros_like(), sd: bin.sd.ones_like() }
            }
        })
    }

    fn encode_if_used(&self, level: Level, input: &LevelInput) -> Result<Option<Tensor<2>>, BatchError> {
        if self.config.wide_levels { self.encode(level, input).map(Some) } else { Ok(None) }
    }

    /// The `T` outputs of a level's graph layers, `[N,D]` each; none for a level that the model lacks.
    fn mix(&self, level: Level, nodes: Option<Tensor<2>>, neighbors: &NeighborIndices) -> Vec<Tensor<2>> {
        match (self.graph_attention.get(level), nodes) {
            (Some(graph), Some(nodes)) => graph.forward(nodes, neighbors),
            _ => Vec::new(),
        }
    }

    /// The core nodes' vectors from the outputs of the graph layers.
    fn read_depth(&self, level: Level, hops: &PerLevel<Vec<Tensor<2>>>, batch: &MagNetBatch) -> Tensor<2> {
        let core = *batch.core.get(level);
        let own = hops.get(level);
        if core == 0 || own.is_empty() {
            return Tensor::zeros([0, self.config.width], &batch.spot_mean.device());
        }
        let mut tokens: Vec<Tensor<2>> = own.iter().map(|hop| hop.clone().narrow(0, 0, core)).collect();
        if level == Level::Bin && self.config.reads_parents_in_depth() {
            for (hops, parent) in [(&hops.spot, &batch.parent_spot), (&hops.region, &batch.parent_region)] {
                tokens.extend(hops.iter().map(|hop| hop.clone().select(0, parent.clone())));
            }
        }
        let tokens: Tensor<3> = Tensor::stack(tokens, 1); // [core,T,D] or [core,3·T,D]
        match self.depth_transformer.as_ref().and_then(|modules| modules.get(level)) {
            Some(transformer) => transformer.forward(tokens),
            None => mean_over_tokens(tokens),
        }
    }
}

/// Refuses statistics that a model of `genes` genes cannot hold.
pub(crate) fn check_statistics(
    level: Level,
    genes: usize,
    (mean, sd): &(Vec<f32>, Vec<f32>),
) -> Result<(), StatisticsError> {
    let refuse =
        |field, expected: String, found: String| Err(StatisticsError { level, field, expected, found });
    for (field, values) in [("mean", mean), ("sd", sd)] {
        if values.len() != genes {
            return refuse(field, format!("{genes} genes"), values.len().to_string());
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return refuse(field, "finite values".to_owned(), value.to_string());
        }
    }
    match sd.iter().find(|&&value| value < 0.0) {
        Some(value) => refuse("sd", "values of at least 0".to_owned(), value.to_string()),
        None => Ok(()),
    }
}

/// The head with statistics that have been checked; a gene that does not vary is left unscaled.
pub(crate) fn standardized(head: GeneHead, (mean, sd): &(Vec<f32>, Vec<f32>)) -> GeneHead {
    head.with_statistics(mean, &usable_sd(sd))
}

/// Standard deviations to divide by: 1 for a gene that hardly varies.
pub(crate) fn usable_sd(sd: &[f32]) -> Vec<f32> {
    sd.iter().map(|&sd| if sd < LEAST_SD { 1.0 } else { sd }).collect()
}

/// A level's vectors before any mixing; see [`MagNet::encode`].
fn encode_level(
    config: &MagNetConfig,
    patch_encoder: &PatchEncoder,
    wide_features: Option<&WideModules<Linear>>,
    level: Level,
    input: &LevelInput,
) -> Result<Tensor<2>, BatchError> {
    config.check_input(level, input)?;
    let linear = wide_features.map(|linears| match level {
        Level::Region => &linears.region,
        Level::Bin | Level::Spot => &linears.spot,
    });
    match (input, linear) {
        (LevelInput::Patches(patches), _) => Ok(patch_encoder.forward(patches.clone())),
        (LevelInput::Encoded(nodes), _) => Ok(nodes.clone()),
        (LevelInput::Features(features), Some(linear)) => Ok(linear.forward(features.clone())),
        (LevelInput::Features(_), None) => Err(config.wrong_input(level, input)),
    }
}
