//! Ridge regression on standardised features, in closed form.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use nalgebra::{Cholesky, DMatrix};

use super::model::BinModel;
use super::patch_features::{PATCH_FEATURES, patch_features};
use super::references::host_matrix;
use super::{ComparatorError, check_training};
use crate::batch::MagNetBatch;
use crate::expression::Matrix;
use crate::model::{MagNetConfig, TrainingSet, TrainingSetError};

/// Side of the patch that ridge reads, in pixels: enough for its texture, little enough for a batch of bins.
pub const RIDGE_PATCH_PX: usize = 224;

/// Ridge regression on the statistics of a patch and of its centre, as a model.
#[derive(Module, Debug)]
pub struct RidgeModel {
    /// `[F,G]`
    weight: Param<Tensor<2>>,
    /// `[G]`
    bias: Param<Tensor<1>>,
    #[module(skip)]
    config: MagNetConfig,
}

impl RidgeModel {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let genes = config.genes;
        Self {
            weight: Param::from_tensor(Tensor::zeros([PATCH_FEATURES, genes], device))
                .set_require_grad(false),
            bias: Param::from_tensor(Tensor::zeros([genes], device)).set_require_grad(false),
            config: config.clone(),
        }
    }

    /// The model fitted to the set.
    pub(super) fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        let penalty = self.config.comparator.penalty;
        let (weight, bias) = solve(&host_matrix(&set.encoded)?, &host_matrix(&set.labels)?, penalty)
            .map_err(|error| TrainingSetError(error.to_string()))?;
        let (rows, cols) = (PATCH_FEATURES, bias.len());
        let weight = TensorData::new(weight, [rows, cols]);
        let bias = TensorData::new(bias, [cols]);
        Ok(Self {
            weight: self.weight.map(|old| Tensor::from_data(weight, &old.device())),
            bias: self.bias.map(|old| Tensor::from_data(bias, &old.device())),
            ..self
        })
    }
}

impl BinModel for RidgeModel {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        patch_features(patches)
    }

    fn width(&self) -> usize {
        PATCH_FEATURES
    }

    fn predict(&self, bins: Tensor<2>, _batch: &MagNetBatch) -> Tensor<2> {
        bins.matmul(self.weight.val()) + self.bias.val().unsqueeze()
    }

    fn learns_by_steps(&self) -> bool {
        false
    }

    fn wanted_training_bins(&self) -> usize {
        usize::MAX
    }
}

/// Least squares with a penalty on the squared coefficients of the standardised features; the intercept is free.
///
/// With `Z` the features after subtracting the training mean and dividing by the training standard deviation
/// (population; a constant feature becomes 0) and `Y` the centred labels, the coefficients are
/// `(ZᵀZ + penalty · I)⁻¹ ZᵀY`.
///
/// Returns weights `[F,G]`, row-major, for features as they are, and a bias `[G]`.
fn solve(features: &Matrix, labels: &Matrix, penalty: f64) -> Result<(Vec<f32>, Vec<f32>), ComparatorError> {
    if !(penalty.is_finite() && penalty > 0.0) {
        return Err(ComparatorError::Penalty { found: penalty });
    }
    check_training(features, labels)?;
    let scaling = Scaling::of(features);
    let standardized = scaling.apply(features);
    let labels = DMatrix::from_row_iterator(
        labels.rows,
        labels.cols,
        labels.values.iter().map(|&value| f64::from(value)),
    );
    let intercept: Vec<f64> = labels.column_iter().map(|column| column.mean()).collect();
    let mut centered = labels;
    for (mut column, mean) in centered.column_iter_mut().zip(&intercept) {
        column.add_scalar_mut(-mean);
    }
    let solve = |mut gram: DMatrix<f64>, right: &DMatrix<f64>| {
        for place in 0..gram.nrows() {
            gram[(place, place)] += penalty;
        }
        Cholesky::new(gram).map(|factor| factor.solve(right)).ok_or(ComparatorError::Singular { penalty })
    };
    // The smaller of the two systems; both have the same solution.
    let transposed = standardized.transpose();
    let coefficients = if features.cols <= features.rows {
        solve(&transposed * &standardized, &(&transposed * &centered))?
    } else {
        &transposed * solve(&standardized * &transposed, &centered)?
    };
    Ok(scaling.unscaled(&coefficients, intercept))
}

/// Mean and standard deviation of each training feature.
pub(super) struct Scaling {
    pub(super) mean: Vec<f64>,
    /// 0 for a constant feature.
    pub(super) inverse_sd: Vec<f64>,
}

impl Scaling {
    pub(super) fn of(features: &Matrix) -> Self {
        let columns = (0..features.cols).map(|col| {
            let column = features.column(col);
            let n = column.len() as f64;
            let mean = column.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
            let variance = column.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
            // Compared exactly, because the rounded variance of a constant need not be 0.
            let constant = column.iter().all(|value| Some(value) == column.first());
            (mean, if constant { 0.0 } else { 1.0 / variance.sqrt() })
        });
        let (mean, inverse_sd) = columns.unzip();
        Self { mean, inverse_sd }
    }

    /// Standardised features `[N,F]`.
    fn apply(&self, features: &Matrix) -> DMatrix<f64> {
        let scaled = features.values.chunks_exact(features.cols.max(1)).flat_map(|row| {
            row.iter()
                .zip(self.mean.iter().zip(&self.inverse_sd))
                .map(|(&value, (mean, inverse_sd))| (f64::from(value) - mean) * inverse_sd)
        });
        DMatrix::from_row_iterator(features.rows, features.cols, scaled)
    }

    /// Coefficients `[F,G]` of standardised features, and an intercept, as weights and bias for features as they are.
    fn unscaled(&self, coefficients: &DMatrix<f64>, mut bias: Vec<f64>) -> (Vec<f32>, Vec<f32>) {
        let mut weight = Vec::with_capacity(coefficients.len());
        for (row, (mean, inverse_sd)) in coefficients.row_iter().zip(self.mean.iter().zip(&self.inverse_sd)) {
            for (value, bias) in row.iter().zip(&mut bias) {
                weight.push((value * inverse_sd) as f32);
                *bias -= value * inverse_sd * mean;
            }
        }
        (weight, bias.into_iter().map(|value| value as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize, values: &[f32]) -> Matrix {
        Matrix::new(rows, cols, values.to_vec()).unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} against {expected}");
        }
    }

    /// Learns from two matrices and predicts a third, row-major.
    fn predicted(features: &Matrix, labels: &Matrix, penalty: f64, new: &Matrix) -> Vec<f32> {
        let (weight, bias) = solve(features, labels, penalty).unwrap();
        let value = |row: usize, gene: usize| {
            let terms = new.row(row).iter().zip(weight.iter().skip(gene).step_by(bias.len()));
            bias[gene] + terms.map(|(feature, weight)| feature * weight).sum::<f32>()
        };
        (0..new.rows)
            .flat_map(|row| (0..bias.len()).map(move |gene| (row, gene)))
            .map(|(r, g)| value(r, g))
            .collect()
    }

    #[test]
    fn one_feature_gives_the_slope_by_hand() {
        // Standardised: −1, 1, so ZᵀZ = 2; centred labels −3, 3, so ZᵀY = 6. With penalty 1 the slope is 2.
        let features = matrix(2, 1, &[10.0, 30.0]);
        let labels = matrix(2, 1, &[4.0, 10.0]);
        close(&predicted(&features, &labels, 1.0, &matrix(3, 1, &[10.0, 20.0, 40.0])), &[5.0, 7.0, 11.0]);
    }

    #[test]
    fn a_vanishing_penalty_recovers_a_linear_law_and_a_huge_one_the_mean() {
        let features = matrix(5, 3, &[1., 0., 5., 0., 2., 5., 3., 1., 5., -1., 4., 5., 2., 2., 5.]);
        let law = |row: &[f32]| [2.0 * row[0] - row[1] + 3.0, 0.5 * row[1]];
        let labels: Vec<f32> = (0..5).flat_map(|row| law(features.row(row))).collect();
        let labels = matrix(5, 2, &labels);
        close(&predicted(&features, &labels, 1e-9, &features), &labels.values);
        let mean = predicted(&features, &labels, 1e12, &features);
        close(&mean[..2], &[3.2, 0.9]);
        close(&mean[8..], &[3.2, 0.9]);
    }

    #[test]
    fn more_features_than_rows_gives_the_same_as_the_other_form() {
        // Doubling every row with a doubled penalty leaves the solution as it is, and turns 3 rows into 6 > 4 columns.
        let features = matrix(3, 4, &[1., 5., 2., 0., 4., 4., -1., 3., 0., 1., 1., 7.]);
        let labels = matrix(3, 1, &[1.0, 2.0, 6.0]);
        let twice = |matrix_: &Matrix| matrix(6, matrix_.cols, &matrix_.values.repeat(2));
        let new = matrix(2, 4, &[3., 3., 3., 3., 0., 0., 0., 0.]);
        let dual = predicted(&features, &labels, 0.7, &new);
        close(&dual, &predicted(&twice(&features), &twice(&labels), 1.4, &new));
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let features = matrix(2, 1, &[1.0, 2.0]);
        let labels = matrix(2, 1, &[1.0, 2.0]);
        let refused =
            |features: &Matrix, labels: &Matrix, penalty| solve(features, labels, penalty).unwrap_err();
        assert_eq!(refused(&features, &labels, 0.0), ComparatorError::Penalty { found: 0.0 });
        let nan = matrix(2, 1, &[1.0, f32::NAN]);
        let not_finite = refused(&nan, &labels, 1.0);
        assert!(matches!(not_finite, ComparatorError::NotFinite { what: "features", row: 1, .. }));
        let none = Matrix::default();
        assert_eq!(refused(&none, &none, 1.0), ComparatorError::Empty { what: "training rows" });
        let short = matrix(1, 1, &[1.0]);
        assert!(matches!(refused(&features, &short, 1.0), ComparatorError::Size { .. }));
    }
}
