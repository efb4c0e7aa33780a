//! Every width, depth, weight and switch of the model.

use serde::{Deserialize, Serialize};

use crate::level::{LevelGeometry, PerLevel};
use crate::slide::StainNormalization;

/// The model's configuration; it travels with the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MagNetConfig {
    /// Which model the other fields describe.
    pub architecture: Architecture,
    /// What each level sees and predicts.
    pub levels: PerLevel<LevelGeometry>,
    /// What happens to a slide's colours before any level reads them.
    pub stain_normalization: StainNormalization,
    /// Number of genes `G`.
    pub genes: usize,
    /// Feature width `D`.
    pub width: usize,
    /// Graph neighbours `K` of every level.
    pub neighbors: usize,
    /// Whether the spot and region levels exist (off: the single-level ablation).
    pub wide_levels: bool,
    /// The trainable encoder of bin patches.
    pub patch_encoder: PatchEncoderConfig,
    /// Where the features of spots and regions come from.
    pub wide_features: WideFeatures,
    /// Attention of a bin over its wide context.
    pub cross_level: CrossLevelConfig,
    /// Graph attention within each level.
    pub graph: GraphConfig,
    /// Transformer over the graph's layers.
    pub depth: DepthConfig,
    /// Dropout before each gene head.
    pub head_dropout: f64,
    /// The hybrid loss.
    pub loss: LossConfig,
    /// What only models read that MagNet is compared with.
    pub comparator: ComparatorConfig,
}

impl Default for MagNetConfig {
    /// The paper's model at 0.25 µm/px on 8 µm bins.
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            levels: PerLevel {
                bin: LevelGeometry { tile_um: 8.0, patch_um: 28.0, patch_px: 112 },
                spot: LevelGeometry { tile_um: 56.0, patch_um: 56.0, patch_px: 224 },
                region: LevelGeometry { tile_um: 128.0, patch_um: 128.0, patch_px: 512 },
            },
            stain_normalization: StainNormalization::None,
            genes: 250,
            width: 1024,
            neighbors: 8,
            wide_levels: true,
            patch_encoder: PatchEncoderConfig::default(),
            wide_features: WideFeatures::default(),
            cross_level: CrossLevelConfig::default(),
            graph: GraphConfig::default(),
            depth: DepthConfig::default(),
            head_dropout: 0.0,
            loss: LossConfig::default(),
            comparator: ComparatorConfig::default(),
        }
    }
}

/// Which model a configuration describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// The architecture of the paper's Figure 2.
    #[default]
    Figure2,
    /// The authors' released code as it runs, so that weights trained with it give the same numbers. It reads `width`,
    /// `genes`, `graph.layers` (its parallel maps) and `depth` (its transformer); see [`super::Published`].
    Published,
    /// The training mean of every gene.
    Mean,
    /// Ridge regression on colour and texture statistics of the patch.
    Ridge,
    /// ST-Net (He et al. 2020): a convolutional network and a linear map.
    StNet,
    /// BLEEP (Xie et al. 2023): contrastive learning of image and expression, and retrieval. It reads `width` (of the
    /// common space), `patch_encoder`, `head_dropout` (of the projection heads), `loss.units` (of what its expression
    /// encoder reads), `comparator.references`, `comparator.nearest` and `comparator.temperature`.
    Bleep,
    /// EGN (Yang et al. 2023): a vision transformer that training bins of alike tissue guide. It reads
    /// `levels.bin.patch_px` (of which a token is a quarter), `width`, `depth` (its transformer), `head_dropout`,
    /// `comparator.references` and `comparator.nearest`.
    Egn,
    /// HisToGene (Pang et al. 2021): a transformer whose tokens are the spots of a block. It reads `width`, `genes`,
    /// `levels.bin.patch_px` and, for the transformer, `depth.layers`, `depth.heads`, `depth.feed_forward` and
    /// `depth.dropout`.
    HisToGene,
    /// Hist2ST (Zeng et al. 2022): a Convmixer, the same transformer, and a graph network over the neighbours. It reads
    /// what HisToGene does, and `graph.layers` and `neighbors`.
    Hist2St,
}

impl Architecture {
    /// Every model, MagNet first.
    pub const ALL: [Architecture; 9] = [
        Architecture::Figure2,
        Architecture::Published,
        Architecture::Mean,
        Architecture::Ridge,
        Architecture::StNet,
        Architecture::Bleep,
        Architecture::Egn,
        Architecture::HisToGene,
        Architecture::Hist2St,
    ];

    /// The name in configurations and tables.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Figure2 => "figure2",
            Architecture::Published => "published",
            Architecture::Mean => "mean",
            Architecture::Ridge => "ridge",
            Architecture::StNet => "stnet",
            Architecture::Bleep => "bleep",
            Architecture::Egn => "egn",
            Architecture::HisToGene => "histogene",
            Architecture::Hist2St => "hist2st",
        }
    }

    /// Whether its patch encoder is a ResNet.
    pub fn has_resnet(self) -> bool {
        use Architecture::{Bleep, Figure2, Published, StNet};
        matches!(self, Figure2 | Published | StNet | Bleep)
    }

    /// Whether it is a model that MagNet is compared with: it reads bins alone and predicts bins alone.
    pub fn is_comparator(self) -> bool {
        !matches!(self, Architecture::Figure2 | Architecture::Published)
    }
}

/// What only the models read that MagNet is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComparatorConfig {
    /// Ridge: penalty on the squared coefficients of the standardised features.
    pub penalty: f64,
    /// BLEEP, EGN: most training bins that are kept to retrieve from.
    pub references: usize,
    /// BLEEP: training bins whose expression is averaged. EGN: training bins that are a bin's exemplars.
    pub nearest: usize,
    /// BLEEP: what similarities are divided by before the softmax.
    pub temperature: f64,
}

impl Default for ComparatorConfig {
    /// A penalty that suits some 70 image statistics of several hundred spots; 50 neighbours and temperature 1, as
    /// BLEEP was published.
    fn default() -> Self {
        Self { penalty: 300.0, references: 8192, nearest: 50, temperature: 1.0 }
    }
}

/// Depth of a ResNet (He et al. 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResNetDepth {
    /// Basic blocks 2, 2, 2, 2.
    #[serde(rename = "resnet18")]
    ResNet18,
    /// Basic blocks 3, 4, 6, 3.
    #[serde(rename = "resnet34")]
    ResNet34,
    /// Bottlenecks 3, 4, 6, 3.
    #[serde(rename = "resnet50")]
    ResNet50,
    /// Bottlenecks 3, 4, 23, 3.
    #[serde(rename = "resnet101")]
    ResNet101,
    /// Bottlenecks 3, 8, 36, 3.
    #[serde(rename = "resnet152")]
    ResNet152,
}

/// How the last feature map becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the map, as published.
    #[default]
    Mean,
    /// Mean and standard deviation over the map, side by side: keeps texture that the mean loses.
    MeanStd,
}

/// The trainable ResNet that reads bin patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchEncoderConfig {
    /// Block type and count.
    pub depth: ResNetDepth,
    /// Factor on every channel count (64, 128, 256, 512 at 1.0).
    pub width_multiplier: f64,
    /// Number of stages used, 1 to 4; fewer keep a finer map and fewer parameters.
    pub stages: usize,
    /// From map to vector.
    pub pooling: Pooling,
    /// Dropout on the pooled vector.
    pub dropout: f64,
}

impl Default for PatchEncoderConfig {
    fn default() -> Self {
        Self {
            depth: ResNetDepth::ResNet50,
            width_multiplier: 1.0,
            stages: 4,
            pooling: Pooling::Mean,
            dropout: 0.0,
        }
    }
}

/// Where the features of the wide levels come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "from", deny_unknown_fields)]
pub enum WideFeatures {
    /// The bin encoder reads the wide patches too.
    #[default]
    Shared,
    /// A frozen pretrained encoder, computed once and cached.
    Frozen {
        /// Feature width `F`.
        width: usize,
    },
    /// A feature matrix made elsewhere (UNI, CONCH, Virchow2, …).
    File {
        /// Feature width `F`.
        width: usize,
    },
}

/// Attention of a bin over its parent tile and the parent's neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrossLevelConfig {
    /// Off: the ablation without cross-level attention.
    pub enabled: bool,
    /// Attention heads `H`; divides the width.
    pub heads: usize,
    /// Dropout on the attention weights.
    pub dropout: f64,
    /// Whether the context holds the parent's neighbours as well as the parent.
    pub neighbors: bool,
}

impl Default for CrossLevelConfig {
    fn default() -> Self {
        Self { enabled: true, heads: 8, dropout: 0.1, neighbors: true }
    }
}

/// Which attention the graph layers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphAttentionKind {
    /// Veličković et al. 2018: the score is a sum of a term of the node and a term of the neighbour.
    #[default]
    Gat,
    /// Brody et al. 2022: the non-linearity comes before the score vector.
    Gatv2,
}

/// Graph attention within a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// Off: the ablation without the graph (each of the `T` layers sees the node alone).
    pub enabled: bool,
    /// Stacked layers `T`, which is the reach in hops.
    pub layers: usize,
    /// Attention heads `H`; divides the width.
    pub heads: usize,
    /// The score's form.
    pub attention: GraphAttentionKind,
    /// Dropout on the attention weights.
    pub dropout: f64,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self { enabled: true, layers: 3, heads: 8, attention: GraphAttentionKind::Gat, dropout: 0.0 }
    }
}

/// Transformer encoder over the `T` layer outputs of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DepthConfig {
    /// Off: the ablation without it (the mean over the layers stands in).
    pub enabled: bool,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; divides the width.
    pub heads: usize,
    /// Feed-forward width as a multiple of `D`.
    pub feed_forward: usize,
    /// Dropout in the encoder.
    pub dropout: f64,
    /// Whether the bin's sequence also holds the layer outputs of its parent spot and region (`3·T` tokens).
    pub wide_tokens: bool,
}

impl Default for DepthConfig {
    fn default() -> Self {
        Self { enabled: true, layers: 3, heads: 8, feed_forward: 4, dropout: 0.1, wide_tokens: true }
    }
}

/// In which units the loss compares prediction and label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossUnits {
    /// As the labels are, as published.
    #[default]
    Label,
    /// After subtracting each gene's training mean and dividing by its training standard deviation, so that every
    /// gene weighs the same.
    Standardized,
}

/// What the consistency term compares a tile's prediction with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyTarget {
    /// The mean of the predictions of the tile's bins, as Figure 2 draws it.
    #[default]
    Predictions,
    /// The label of each of its bins, as the released code has it.
    BinLabels,
}

/// Weights of the hybrid loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of the mean squared error of the bins.
    pub mse_bin: f64,
    /// Weight of `1 − Pearson` of the bins.
    pub pcc_bin: f64,
    /// Weight of the mean squared error of spots and of regions, each (0 as published).
    pub mse_wide: f64,
    /// Weight of `1 − Pearson` of spots and of regions, each.
    pub pcc_wide: f64,
    /// Weight of the consistency between adjacent levels.
    pub consistency: f64,
    /// What a tile's prediction must be consistent with.
    pub consistency_with: ConsistencyTarget,
    /// Units in which all terms are computed.
    pub units: LossUnits,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            mse_bin: 0.75,
            pcc_bin: 0.10,
            mse_wide: 0.0,
            pcc_wide: 0.05,
            consistency: 0.05,
            consistency_with: ConsistencyTarget::Predictions,
            units: LossUnits::Label,
        }
    }
}
