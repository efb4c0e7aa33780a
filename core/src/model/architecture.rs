//! The wall between a model and those who use it: what prediction, training and bundles need of any model, and the
//! one place that chooses among the models that there are.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{
    Architecture, BatchError, ConfigError, GeneStatistics, MagNet, MagNetConfig, Published, StatisticsError,
    WeightMap, WeightsError,
};
use crate::batch::{LevelInput, MagNetBatch};
#[cfg(feature = "comparators")]
use crate::comparator::ComparatorModel;
use crate::level::{Level, PerLevel};
use crate::loss::{HybridLoss, LossError, hybrid_loss};
use crate::weights::Precision;

/// A model that predicts expression from a block of a slide.
///
/// Prediction takes any such model as `&dyn ExpressionModel`; training and bundles hold a [`Model`].
pub trait ExpressionModel {
    /// The configuration that the model was built with.
    fn config(&self) -> &MagNetConfig;

    /// A level's encoder alone. What it gives can be passed on as [`LevelInput::Encoded`].
    ///
    /// # Shapes
    /// - `input`: `N` nodes
    /// - output: `[N,D]`
    ///
    /// # Errors
    /// An input of another kind or width than the configuration says.
    fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError>;

    /// Predicts the expression of every gene, in label units, for the core nodes of each level.
    ///
    /// # Shapes
    /// - output: `[Bc,G]`, `[Sc,G]`, `[Rc,G]`; no rows for a level that is not predicted
    ///
    /// # Errors
    /// A batch whose inputs are not those of the configuration, or whose tensors disagree in shape.
    fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError>;

    /// Mean and standard deviation by which the model's outputs are standardised; 0 and 1 where they are not.
    ///
    /// # Shapes
    /// - output: `[G]` each
    fn gene_statistics(&self) -> PerLevel<GeneStatistics>;

    /// Whether steps along the gradient teach the model anything.
    fn learns_by_steps(&self) -> bool {
        true
    }

    /// How many bins of the training slides [`Model::with_training_set`] wants, at most; 0 where it wants none.
    fn wanted_training_bins(&self) -> usize {
        0
    }

    /// Whether steps read what [`Model::with_training_set`] leaves: then it comes before the first as well as after
    /// the last, and batches say what of it their bins must not see ([`MagNetBatch::own_references`]).
    fn steps_read_training_set(&self) -> bool {
        false
    }
}

/// Bins of the training slides, for what is learnt from all of them at once.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    /// `[M,D]` what [`ExpressionModel::encode`] makes of them.
    pub encoded: Tensor<2>,
    /// `[M,G]` their labels.
    pub labels: Tensor<2>,
}

/// Why there is no objective for a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    /// A batch that the model cannot read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Labels that do not fit the predictions.
    #[error(transparent)]
    Loss(#[from] LossError),
}

/// Why nothing could be learnt from a training set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("training set: {0}")]
pub struct TrainingSetError(pub String);

impl ExpressionModel for MagNet {
    fn config(&self) -> &MagNetConfig {
        MagNet::config(self)
    }

    fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError> {
        MagNet::encode(self, level, input)
    }

    fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        MagNet::forward(self, batch)
    }

    fn gene_statistics(&self) -> PerLevel<GeneStatistics> {
        MagNet::gene_statistics(self)
    }
}

/// The models that can be configured, trained and stored. The choice does not show in the names of the tensors.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one model at a time, and modules cannot be boxed")]
pub enum Model {
    /// The architecture of the paper's Figure 2.
    Figure2(MagNet),
    /// The released code.
    Published(Published),
    /// A model that MagNet is compared with.
    #[cfg(feature = "comparators")]
    Comparator(ComparatorModel),
}

impl MagNetConfig {
    /// Builds the model that `architecture` names. Parameters are drawn as in [`MagNetConfig::init`].
    ///
    /// # Errors
    /// The first field that no model can be built with, or an architecture that is not in this build: those that MagNet
    /// is compared with need the feature `comparators`.
    pub fn build(&self, device: &Device) -> Result<Model, ConfigError> {
        match self.architecture {
            Architecture::Figure2 => Ok(Model::Figure2(self.init(device)?)),
            Architecture::Published => Ok(Model::Published(Published::new(self, device)?)),
            #[cfg(feature = "comparators")]
            _ => Ok(Model::Comparator(ComparatorModel::new(self, device)?)),
            #[cfg(not(feature = "comparators"))]
            other => Err(ConfigError {
                field: "architecture".into(),
                expected: "`figure2` or `published`: this program holds no other".into(),
                found: format!("`{}`", other.name()),
            }),
        }
    }
}

impl Model {
    /// The configuration that the model was built with.
    pub fn config(&self) -> &MagNetConfig {
        self.inner().config()
    }

    fn inner(&self) -> &dyn ExpressionModel {
        match self {
            Model::Figure2(model) => model,
            Model::Published(model) => model,
            #[cfg(feature = "comparators")]
            Model::Comparator(model) => model,
        }
    }

    /// What training minimises on a batch: the hybrid loss of the predictions, where a model has no objective of its
    /// own. Not of [`ExpressionModel`], so that programs that only predict hold no loss.
    ///
    /// # Shapes
    /// - output: `[1]` each
    ///
    /// # Errors
    /// As [`ExpressionModel::forward`], and a batch without labels.
    pub fn objective(&self, batch: &MagNetBatch) -> Result<HybridLoss, ObjectiveError> {
        #[cfg(feature = "comparators")]
        if let Model::Comparator(model) = self {
            return model.objective(batch);
        }
        let predictions = self.forward(batch)?;
        Ok(hybrid_loss(&self.config().loss, &predictions, batch, &self.gene_statistics())?)
    }

    /// The model with its outputs standardised by the training labels of each level, where it does that.
    ///
    /// # Errors
    /// As [`MagNet::with_gene_statistics`].
    pub fn with_gene_statistics(
        self,
        statistics: &PerLevel<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Self, StatisticsError> {
        Ok(match self {
            Model::Figure2(model) => Model::Figure2(model.with_gene_statistics(statistics)?),
            published @ Model::Published(_) => published,
            #[cfg(feature = "comparators")]
            Model::Comparator(model) => Model::Comparator(model.with_gene_statistics(statistics)?),
        })
    }

    /// The model with what it learns from all training bins at once; a model that wants none is unchanged.
    ///
    /// # Errors
    /// When the set does not fit the model or cannot be learnt from.
    pub fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        #[cfg(not(feature = "comparators"))]
        let _ = set;
        match self {
            #[cfg(feature = "comparators")]
            Model::Comparator(model) => Ok(Model::Comparator(model.with_training_set(set)?)),
            other => Ok(other),
        }
    }

    /// The model as prediction runs it: the same values sooner, with batch norm folded into the convolutions of its
    /// ResNet. It learns nothing any more, and what its patch encoder's weights are changed to later does not show.
    ///
    /// `precision` is that of the ResNet's maps and weights on a graphics adapter that
    /// [has it](super::half_is_there); anywhere else they are f32.
    pub fn for_inference(self, precision: Precision) -> Self {
        match self {
            Model::Figure2(model) => Model::Figure2(model.for_inference(precision)),
            Model::Published(model) => Model::Published(model.for_inference(precision)),
            #[cfg(feature = "comparators")]
            Model::Comparator(model) => Model::Comparator(model.for_inference(precision)),
        }
    }

    /// The model with its patch encoder's ResNet taken from a torchvision file, as a start for training.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn with_pretrained_encoder(self, weights: WeightMap) -> Result<Self, WeightsError> {
        Ok(match self {
            Model::Figure2(model) => Model::Figure2(model.with_pretrained_encoder(weights)?),
            Model::Published(model) => Model::Published(model.with_pretrained_encoder(weights)?),
            #[cfg(feature = "comparators")]
            Model::Comparator(model) => Model::Comparator(model.with_pretrained_encoder(weights)?),
        })
    }
}

impl ExpressionModel for Model {
    fn config(&self) -> &MagNetConfig {
        Model::config(self)
    }

    fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError> {
        self.inner().encode(level, input)
    }

    fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        self.inner().forward(batch)
    }

    fn gene_statistics(&self) -> PerLevel<GeneStatistics> {
        self.inner().gene_statistics()
    }

    fn learns_by_steps(&self) -> bool {
        self.inner().learns_by_steps()
    }

    fn wanted_training_bins(&self) -> usize {
        self.inner().wanted_training_bins()
    }

    fn steps_read_training_set(&self) -> bool {
        self.inner().steps_read_training_set()
    }
}
