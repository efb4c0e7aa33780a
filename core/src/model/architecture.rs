//! The wall between a model and those who use it: what prediction, training and bundles need of any model, and the
//! one place that chooses among the models that there are.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{
    Architecture, BatchError, ConfigError, GeneStatistics, MagNet, MagNetConfig, Published, StatisticsError,
    WeightMap, WeightsError,
};
use crate::batch::{LevelInput, MagNetBatch};
use crate::level::{Level, PerLevel};

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
}

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
}

impl MagNetConfig {
    /// Builds the model that `architecture` names. Parameters are drawn as in [`MagNetConfig::init`].
    ///
    /// # Errors
    /// The first field that no model can be built with.
    pub fn build(&self, device: &Device) -> Result<Model, ConfigError> {
        Ok(match self.architecture {
            Architecture::Figure2 => Model::Figure2(self.init(device)?),
            Architecture::Published => Model::Published(Published::new(self, device)?),
        })
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
        }
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
        })
    }

    /// The model with its patch encoder's ResNet taken from a torchvision file, as a start for training.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn with_pretrained_encoder(self, weights: WeightMap) -> Result<Self, WeightsError> {
        Ok(match self {
            Model::Figure2(model) => Model::Figure2(model.with_pretrained_encoder(weights)?),
            Model::Published(model) => Model::Published(model.with_pretrained_encoder(weights)?),
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
}
