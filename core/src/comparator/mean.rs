//! The training mean of each gene, whatever the image shows.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::model::BinModel;
use super::{Comparator, ComparatorError, Predictor, check_training};
use crate::batch::MagNetBatch;
use crate::expression::{Matrix, per_gene_statistics};
use crate::model::MagNetConfig;

/// The mean of each gene's training labels as a model.
#[derive(Module, Debug)]
pub struct MeanModel {
    /// `[G]`
    mean: Param<Tensor<1>>,
    #[module(skip)]
    config: MagNetConfig,
}

impl MeanModel {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let mean = Param::from_tensor(Tensor::zeros([config.genes], device)).set_require_grad(false);
        Self { mean, config: config.clone() }
    }

    /// The model with the means, `G` of them; the caller has checked them.
    pub(super) fn with_mean(self, mean: &[f32]) -> Self {
        let data = TensorData::new(mean.to_vec(), [mean.len()]);
        Self { mean: self.mean.map(|old| Tensor::from_data(data, &old.device())), ..self }
    }
}

impl BinModel for MeanModel {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    /// There is nothing to see: one column, so that there is a row for each bin.
    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        Tensor::zeros([patches.dims()[0], 1], &patches.device())
    }

    fn width(&self) -> usize {
        1
    }

    fn predict(&self, bins: Tensor<2>, _batch: &MagNetBatch) -> Tensor<2> {
        let mean = self.mean.val();
        let [genes] = mean.dims();
        mean.reshape([1, genes]).expand([bins.dims()[0], genes])
    }

    fn learns_by_steps(&self) -> bool {
        false
    }
}

/// Predicts the mean of the training labels for every observation.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainingMean;

impl Comparator for TrainingMean {
    fn name(&self) -> &'static str {
        "training mean"
    }

    fn fit(&self, features: &Matrix, labels: &Matrix) -> Result<Box<dyn Predictor>, ComparatorError> {
        check_training(features, labels)?;
        let statistics = per_gene_statistics(std::slice::from_ref(labels))
            .map_err(|_| ComparatorError::Empty { what: "training rows" })?;
        Ok(Box::new(FittedMean { mean: statistics.mean }))
    }
}

/// `[G]` training means.
struct FittedMean {
    mean: Vec<f32>,
}

impl Predictor for FittedMean {
    fn predict(&self, features: &Matrix) -> Result<Matrix, ComparatorError> {
        Ok(Matrix::repeat_row(&self.mean, features.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_observation_gets_the_mean_of_the_training_labels() {
        let features = Matrix::new(2, 1, vec![0.0, 9.0]).unwrap();
        let labels = Matrix::new(2, 2, vec![1.0, 2.0, 3.0, 6.0]).unwrap();
        let predicted = TrainingMean.fit(&features, &labels).unwrap().predict(&features).unwrap();
        assert_eq!(predicted, Matrix::new(2, 2, vec![2.0, 4.0, 2.0, 4.0]).unwrap());
        let short = Matrix::new(1, 2, vec![1.0, 2.0]).unwrap();
        assert!(TrainingMean.fit(&features, &short).is_err());
    }
}
