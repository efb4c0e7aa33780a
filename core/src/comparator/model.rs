//! The comparators as models: the choice among them, and what they share.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Bleep, Egn, HisToGene, Hist2St, MeanModel, RidgeModel, StNet};
use crate::batch::{LevelInput, MagNetBatch};
use crate::level::{Level, PerLevel};
use crate::loss::HybridLoss;
use crate::model::{
    Architecture, BatchError, ConfigError, ExpressionModel, GeneStatistics, MagNetConfig, ObjectiveError,
    StatisticsError, TrainingSet, TrainingSetError, WeightMap, WeightsError, check_bins, check_statistics,
};
use crate::weights::Precision;

/// A model that reads the patches of bins and predicts the bins.
pub(super) trait BinModel {
    /// The configuration that the model was built with.
    fn config(&self) -> &MagNetConfig;

    /// What one patch becomes, before bins see each other.
    ///
    /// # Shapes
    /// - `patches`: `[B,3,P,P]` RGB in 0..1
    /// - output: `[B,D]`
    fn encode(&self, patches: Tensor<4>) -> Tensor<2>;

    /// Width `D` of the encoded bins.
    fn width(&self) -> usize;

    /// Expression of the bins in label units. The core bins are the first rows.
    ///
    /// # Shapes
    /// - `bins`: `[B,D]` encoded
    /// - output: `[B,G]`
    fn predict(&self, bins: Tensor<2>, batch: &MagNetBatch) -> Tensor<2>;

    /// The statistics by which the outputs are standardised, where they are.
    fn statistics(&self) -> Option<GeneStatistics> {
        None
    }

    /// See [`Model::objective`](crate::model::Model::objective); `None` for the hybrid loss of the predictions.
    ///
    /// # Shapes
    /// - `bins`: `[B,D]` encoded
    /// - `labels`: `[Bc,G]`
    /// - output: `[1]`
    fn own_objective(&self, _bins: &Tensor<2>, _labels: &Tensor<2>) -> Option<Tensor<1>> {
        None
    }

    /// See [`ExpressionModel::learns_by_steps`].
    fn learns_by_steps(&self) -> bool {
        true
    }

    /// See [`ExpressionModel::wanted_training_bins`].
    fn wanted_training_bins(&self) -> usize {
        0
    }

    /// See [`ExpressionModel::steps_read_training_set`].
    fn steps_read_training_set(&self) -> bool {
        false
    }

    /// Side in pixels that patches must have, where the model cannot read others.
    fn patch_px(&self) -> Option<usize> {
        None
    }
}

/// A model that MagNet is compared with, by [`MagNetConfig::architecture`]. The choice does not show in the names of the
/// tensors.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one model at a time, and modules cannot be boxed")]
pub enum ComparatorModel {
    /// The training mean.
    Mean(MeanModel),
    /// Ridge regression.
    Ridge(RidgeModel),
    /// ST-Net.
    StNet(StNet),
    /// BLEEP.
    Bleep(Bleep),
    /// EGN.
    Egn(Egn),
    /// HisToGene.
    HisToGene(HisToGene),
    /// Hist2ST.
    Hist2St(Hist2St),
}

impl ComparatorModel {
    /// The model that the configuration names. Parameters are drawn as in [`MagNetConfig::init`].
    ///
    /// # Errors
    /// The first field that no model can be built with, or an architecture that is no comparator.
    pub fn new(config: &MagNetConfig, device: &Device) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(match config.architecture {
            Architecture::Mean => Self::Mean(MeanModel::new(config, device)),
            Architecture::Ridge => Self::Ridge(RidgeModel::new(config, device)),
            Architecture::StNet => Self::StNet(StNet::new(config, device)),
            Architecture::Bleep => Self::Bleep(Bleep::new(config, device)),
            Architecture::Egn => Self::Egn(Egn::new(config, device)),
            Architecture::HisToGene => Self::HisToGene(HisToGene::new(config, device)),
            Architecture::Hist2St => Self::Hist2St(Hist2St::new(config, device)),
            Architecture::Figure2 | Architecture::Published => {
                return Err(ConfigError {
                    field: "architecture".into(),
                    expected: "a comparator".into(),
                    found: format!("`{}`", config.architecture.name()),
                });
            }
        })
    }

    fn inner(&self) -> &dyn BinModel {
        match self {
            Self::Mean(model) => model,
            Self::Ridge(model) => model,
            Self::StNet(model) => model,
            Self::Bleep(model) => model,
            Self::Egn(model) => model,
            Self::HisToGene(model) => model,
            Self::Hist2St(model) => model,
        }
    }

    /// See [`Model::with_gene_statistics`](crate::model::Model::with_gene_statistics).
    pub(crate) fn with_gene_statistics(
        self,
        statistics: &PerLevel<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Self, StatisticsError> {
        let bins = statistics.get(Level::Bin);
        check_statistics(Level::Bin, self.inner().config().genes, bins)?;
        Ok(match self {
            Self::Mean(model) => Self::Mean(model.with_mean(&bins.0)),
            Self::StNet(model) => Self::StNet(model.with_statistics(bins)),
            Self::Bleep(model) => Self::Bleep(model.with_statistics(bins)),
            Self::Egn(model) => Self::Egn(model.with_statistics(bins)),
            Self::HisToGene(model) => Self::HisToGene(model.with_statistics(bins)),
            Self::Hist2St(model) => Self::Hist2St(model.with_statistics(bins)),
            other @ Self::Ridge(_) => other,
        })
    }

    /// See [`Model::with_training_set`](crate::model::Model::with_training_set).
    pub(crate) fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        let ([rows, width], [labels, genes]) = (set.encoded.dims(), set.labels.dims());
        let expected = (self.inner().width(), rows, self.inner().config().genes);
        if (width, labels, genes) != expected {
            return Err(TrainingSetError(format!(
                "expected encoded bins [M, {}] and labels [M, {}], found [{rows}, {width}] and [{labels}, {genes}]",
                expected.0, expected.2
            )));
        }
        Ok(match self {
            Self::Ridge(model) => Self::Ridge(model.with_training_set(set)?),
            Self::Bleep(model) => Self::Bleep(model.with_training_set(set)?),
            Self::Egn(model) => Self::Egn(model.with_training_set(set)?),
            other => other,
        })
    }

    /// See [`Model::for_inference`](crate::model::Model::for_inference).
    pub(crate) fn for_inference(self, precision: Precision) -> Self {
        match self {
            Self::StNet(model) => Self::StNet(model.for_inference(precision)),
            Self::Bleep(model) => Self::Bleep(model.for_inference(precision)),
            other => other,
        }
    }

    /// See [`Model::with_pretrained_encoder`](crate::model::Model::with_pretrained_encoder). A model without a ResNet
    /// refuses every tensor.
    pub(crate) fn with_pretrained_encoder(self, weights: WeightMap) -> Result<Self, WeightsError> {
        match self {
            Self::StNet(model) => Ok(Self::StNet(model.with_pretrained_encoder(weights)?)),
            Self::Bleep(model) => Ok(Self::Bleep(model.with_pretrained_encoder(weights)?)),
            _ => Err(WeightsError::Mismatch {
                missing: Vec::new(),
                unexpected: weights.into_keys().collect(),
                misshapen: Vec::new(),
            }),
        }
    }

    /// See [`Model::objective`](crate::model::Model::objective).
    pub(crate) fn objective(&self, batch: &MagNetBatch) -> Result<HybridLoss, ObjectiveError> {
        let bins = self.encode(Level::Bin, &batch.inputs.bin)?;
        let own = batch.labels.as_ref().and_then(|labels| self.inner().own_objective(&bins, &labels.bin));
        if let Some(total) = own {
            return Ok(HybridLoss::of_total(total));
        }
        let encoded = MagNetBatch {
            inputs: PerLevel { bin: LevelInput::Encoded(bins), ..batch.inputs.clone() },
            ..batch.clone()
        };
        let predictions = self.forward(&encoded)?;
        let statistics = self.gene_statistics();
        Ok(crate::loss::hybrid_loss(&self.config().loss, &predictions, &encoded, &statistics)?)
    }
}

impl ExpressionModel for ComparatorModel {
    fn config(&self) -> &MagNetConfig {
        self.inner().config()
    }

    fn encode(&self, level: Level, input: &LevelInput) -> Result<Tensor<2>, BatchError> {
        let model = self.inner();
        let (found, fits) = match input {
            LevelInput::Patches(patches) => {
                let [_, channels, height, width] = patches.dims();
                let fits = model.patch_px().is_none_or(|side| height == side && width == side);
                (patches.dims().to_vec(), channels == 3 && height > 0 && width > 0 && fits)
            }
            LevelInput::Encoded(bins) => (bins.dims().to_vec(), bins.dims()[1] == model.width()),
            LevelInput::Features(rows) => (rows.dims().to_vec(), false),
        };
        match input {
            LevelInput::Patches(patches) if fits => Ok(model.encode(patches.clone())),
            LevelInput::Encoded(bins) if fits => Ok(bins.clone()),
            _ => Err(BatchError {
                field: format!("inputs.{level}"),
                expected: match model.patch_px() {
                    Some(side) => {
                        format!("patches [N, 3, {side}, {side}] or encoded bins [N, {}]", model.width())
                    }
                    None => format!("patches [N, 3, P, P] or encoded bins [N, {}]", model.width()),
                },
                found: format!("{found:?}"),
            }),
        }
    }

    fn forward(&self, batch: &MagNetBatch) -> Result<PerLevel<Tensor<2>>, BatchError> {
        let bins = self.encode(Level::Bin, &batch.inputs.bin)?;
        check_bins(batch, bins.dims()[0])?;
        let predicted = self.inner().predict(bins, batch).narrow(0, 0, batch.core.bin);
        let none = Tensor::zeros([0, self.inner().config().genes], &predicted.device());
        Ok(PerLevel { bin: predicted, spot: none.clone(), region: none })
    }

    fn gene_statistics(&self) -> PerLevel<GeneStatistics> {
        let genes = [self.inner().config().genes];
        let device = self.devices().into_iter().next().unwrap_or_default();
        let own = self.inner().statistics().unwrap_or_else(|| GeneStatistics {
            mean: Tensor::zeros(genes, &device),
            sd: Tensor::ones(genes, &device),
        });
        PerLevel::from_fn(|_| own.clone())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparator::testing::small_config;

    #[test]
    fn models_without_a_resnet_have_no_place_for_its_weights() {
        for architecture in Architecture::ALL.into_iter().filter(|architecture| architecture.is_comparator())
        {
            let model = small_config(architecture).build(&Device::flex()).unwrap();
            let places = match model.with_pretrained_encoder(WeightMap::new()) {
                Err(WeightsError::Mismatch { missing, .. }) => missing.len(),
                other => panic!("{}: {other:?}", architecture.name()),
            };
            assert_eq!(places > 0, architecture.has_resnet(), "{}", architecture.name());
        }
    }
}
