//! The training mean of each gene, whatever the image shows.

use super::{Comparator, ComparatorError, Predictor, check_training};
use crate::expression::{Matrix, per_gene_statistics};

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
