//! Ridge regression on standardised features, in closed form.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use nalgebra::{Cholesky, DMatrix};

use super::image_statistics::{PATCH_STATISTICS, patch_statistics};
use super::model::BinModel;
use super::{Comparator, ComparatorError, Predictor, check_training, check_values};
use crate::batch::MagNetBatch;
use crate::expression::Matrix;
use crate::model::{MagNetConfig, TrainingSet, TrainingSetError};

/// Sides of the centred squares whose statistics are read, as parts of the patch: at 512 px, the three patches of the
/// paper (512, 224 and 112 px).
const CROPS: [f64; 3] = [1.0, 224.0 / 512.0, 112.0 / 512.0];

/// Side of the patch that ridge reads, in pixels: enough for its texture, little enough for a batch of bins.
pub const RIDGE_PATCH_PX: usize = 224;

/// Number of statistics that ridge reads of a patch.
const FEATURES: usize = CROPS.len() * PATCH_STATISTICS;

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
            weight: Param::from_tensor(Tensor::zeros([FEATURES, genes], device)).set_require_grad(false),
            bias: Param::from_tensor(Tensor::zeros([genes], device)).set_require_grad(false),
            config: config.clone(),
        }
    }

    /// The model fitted to the set.
    pub(super) fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        let host = |tensor: &Tensor<2>| {
            let [rows, cols] = tensor.dims();
            let values = tensor.clone().try_into_vec_as::<f32>();
            values.map(|values| Matrix { rows, cols, values }).map_err(|e| TrainingSetError(format!("{e:?}")))
        };
        let fitted = Ridge { penalty: self.config.comparator.penalty }
            .learn(&host(&set.encoded)?, &host(&set.labels)?)
            .map_err(|error| TrainingSetError(error.to_string()))?;
        let (weight, bias) = fitted.linear_map();
        let (rows, cols) = (FEATURES, bias.len());
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

    /// Reads the patches back from the device, because the statistics are the host's.
    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        let [count, _, side, width] = patches.dims();
        let device = patches.device();
        let pixels = patches.permute([0, 2, 3, 1]).into_data().convert::<f32>();
        // A device that fails gives no pixels: zeros here, and an error from whoever reads what comes of them.
        let pixels = pixels.try_into_vec::<f32>().unwrap_or_default();
        let mut values = Vec::with_capacity(count * FEATURES);
        for patch in pixels.chunks_exact((3 * side * width).max(1)) {
            let rgb: Vec<u8> = patch.iter().map(|value| (value * 255.0).round() as u8).collect();
            for part in CROPS {
                let crop = centre(&rgb, side, ((side as f64 * part).round() as usize).max(1));
                let own = patch_statistics(&crop.0, crop.1).unwrap_or([0.0; PATCH_STATISTICS]);
                values.extend(own);
            }
        }
        values.resize(count * FEATURES, 0.0);
        Tensor::from_data(TensorData::new(values, [count, FEATURES]), &device)
    }

    fn width(&self) -> usize {
        FEATURES
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

/// The centred square of `wanted` pixels (or one fewer, so that it has a centre in common) of a square RGB patch, and
/// its side.
fn centre(rgb: &[u8], side: usize, wanted: usize) -> (Vec<u8>, usize) {
    let wanted = wanted.min(side);
    let edge = (side - wanted) / 2;
    let own = side - 2 * edge;
    let mut crop = Vec::with_capacity(own * own * 3);
    for row in edge..edge + own {
        let start = (row * side + edge) * 3;
        crop.extend_from_slice(rgb.get(start..start + own * 3).unwrap_or_default());
    }
    (crop, own)
}

/// Least squares with a penalty on the squared coefficients of the standardised features; the intercept is free.
///
/// With `Z` the features after subtracting the training mean and dividing by the training standard deviation
/// (population; a constant feature becomes 0) and `Y` the centred labels, the coefficients are
/// `(ZᵀZ + penalty · I)⁻¹ ZᵀY`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    /// The penalty, in units of the squared standardised features summed over the training rows.
    pub penalty: f64,
}

impl Default for Ridge {
    /// A penalty that suits some 70 image statistics of several hundred spots.
    fn default() -> Self {
        Self { penalty: 300.0 }
    }
}

impl Comparator for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn fit(&self, features: &Matrix, labels: &Matrix) -> Result<Box<dyn Predictor>, ComparatorError> {
        Ok(Box::new(self.learn(features, labels)?))
    }
}

impl Ridge {
    fn learn(&self, features: &Matrix, labels: &Matrix) -> Result<FittedRidge, ComparatorError> {
        let penalty = self.penalty;
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
        Ok(FittedRidge { scaling, coefficients, intercept })
    }
}

/// What ridge has learnt.
struct FittedRidge {
    scaling: Scaling,
    /// `[F,G]`
    coefficients: DMatrix<f64>,
    /// `[G]`
    intercept: Vec<f64>,
}

impl FittedRidge {
    /// The same as weights `[F,G]`, row-major, on features as they are, and a bias `[G]`.
    fn linear_map(&self) -> (Vec<f32>, Vec<f32>) {
        let Scaling { mean, inverse_sd } = &self.scaling;
        let mut bias = self.intercept.clone();
        let mut weight = Vec::with_capacity(self.coefficients.len());
        for (row, (mean, inverse_sd)) in self.coefficients.row_iter().zip(mean.iter().zip(inverse_sd)) {
            for (value, bias) in row.iter().zip(&mut bias) {
                weight.push((value * inverse_sd) as f32);
                *bias -= value * inverse_sd * mean;
            }
        }
        (weight, bias.into_iter().map(|value| value as f32).collect())
    }
}

impl Predictor for FittedRidge {
    fn predict(&self, features: &Matrix) -> Result<Matrix, ComparatorError> {
        let expected = self.scaling.mean.len();
        if features.cols != expected {
            return Err(ComparatorError::Size {
                what: "columns of features",
                expected,
                found: features.cols,
            });
        }
        check_values("features", features)?;
        let product = self.scaling.apply(features) * &self.coefficients;
        let mut values = Vec::with_capacity(features.rows * self.intercept.len());
        for row in product.row_iter() {
            values
                .extend(row.iter().zip(&self.intercept).map(|(value, intercept)| (value + intercept) as f32));
        }
        Ok(Matrix { rows: features.rows, cols: self.intercept.len(), values })
    }
}

/// Mean and standard deviation of each training feature.
struct Scaling {
    mean: Vec<f64>,
    /// 0 for a constant feature.
    inverse_sd: Vec<f64>,
}

impl Scaling {
    fn of(features: &Matrix) -> Self {
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

    #[test]
    fn one_feature_gives_the_slope_by_hand() {
        // Standardised: −1, 1, so ZᵀZ = 2; centred labels −3, 3, so ZᵀY = 6. With penalty 1 the slope is 2.
        let features = matrix(2, 1, &[10.0, 30.0]);
        let labels = matrix(2, 1, &[4.0, 10.0]);
        let fitted = Ridge { penalty: 1.0 }.fit(&features, &labels).unwrap();
        close(&fitted.predict(&matrix(3, 1, &[10.0, 20.0, 40.0])).unwrap().values, &[5.0, 7.0, 11.0]);
    }

    #[test]
    fn a_vanishing_penalty_recovers_a_linear_law_and_a_huge_one_the_mean() {
        let features = matrix(5, 3, &[1., 0., 5., 0., 2., 5., 3., 1., 5., -1., 4., 5., 2., 2., 5.]);
        let law = |row: &[f32]| [2.0 * row[0] - row[1] + 3.0, 0.5 * row[1]];
        let labels: Vec<f32> = (0..5).flat_map(|row| law(features.row(row))).collect();
        let labels = matrix(5, 2, &labels);
        let exact = Ridge { penalty: 1e-9 }.fit(&features, &labels).unwrap().predict(&features).unwrap();
        close(&exact.values, &labels.values);
        let mean = Ridge { penalty: 1e12 }.fit(&features, &labels).unwrap().predict(&features).unwrap();
        close(mean.row(0), &[3.2, 0.9]);
        close(mean.row(4), &[3.2, 0.9]);
    }

    #[test]
    fn more_features_than_rows_gives_the_same_as_the_other_form() {
        // Doubling every row with a doubled penalty leaves the solution as it is, and turns 3 rows into 6 > 4 columns.
        let features = matrix(3, 4, &[1., 5., 2., 0., 4., 4., -1., 3., 0., 1., 1., 7.]);
        let labels = matrix(3, 1, &[1.0, 2.0, 6.0]);
        let twice = |matrix_: &Matrix| matrix(6, matrix_.cols, &matrix_.values.repeat(2));
        let dual = Ridge { penalty: 0.7 }.fit(&features, &labels).unwrap();
        let primal = Ridge { penalty: 1.4 }.fit(&twice(&features), &twice(&labels)).unwrap();
        let new = matrix(2, 4, &[3., 3., 3., 3., 0., 0., 0., 0.]);
        close(&dual.predict(&new).unwrap().values, &primal.predict(&new).unwrap().values);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let features = matrix(2, 1, &[1.0, 2.0]);
        let labels = matrix(2, 1, &[1.0, 2.0]);
        let refused =
            |ridge: Ridge, features: &Matrix, labels: &Matrix| ridge.fit(features, labels).err().unwrap();
        let zero = Ridge { penalty: 0.0 };
        assert_eq!(refused(zero, &features, &labels), ComparatorError::Penalty { found: 0.0 });
        let nan = matrix(2, 1, &[1.0, f32::NAN]);
        let ridge = Ridge::default();
        assert!(matches!(
            refused(ridge, &nan, &labels),
            ComparatorError::NotFinite { what: "features", row: 1, .. }
        ));
        let none = Matrix::default();
        assert_eq!(refused(ridge, &none, &none), ComparatorError::Empty { what: "training rows" });
        let fitted = ridge.fit(&features, &labels).unwrap();
        assert!(fitted.predict(&matrix(1, 2, &[1.0, 2.0])).is_err());
    }
}
