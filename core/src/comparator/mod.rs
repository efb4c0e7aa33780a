//! What MagNet is compared with: predictors so simple that whoever does not beat them has learnt nothing, and the models
//! of other groups, each written from its paper.
//!
//! [`ComparatorModel`] puts them behind the same wall as MagNet, so that one command trains them on the same slides,
//! genes and labels. All read the patches of the bins alone and predict the bins alone.

mod bleep;
mod egn;
mod exemplar_bridge;
mod hist2st;
mod histogene;
mod image_statistics;
mod mean;
mod model;
mod patch_features;
mod references;
mod ridge;
mod spot_transformer;
mod st_net;
#[cfg(test)]
mod testing;

use thiserror::Error;

use crate::expression::Matrix;

pub use bleep::Bleep;
pub use egn::Egn;
pub use hist2st::Hist2St;
pub use histogene::HisToGene;
pub use image_statistics::{PATCH_STATISTICS, patch_statistics, patch_statistics_names};
pub use mean::MeanModel;
pub use model::ComparatorModel;
pub use ridge::{RIDGE_PATCH_PX, RidgeModel};
pub use st_net::StNet;

/// Why a comparator could not learn.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ComparatorError {
    /// A matrix of the wrong size.
    #[error("{what}: found {found}, expected {expected}")]
    Size {
        /// What was counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Nothing to learn from.
    #[error("{what}: found none, expected at least one")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },
    /// A number that is not finite.
    #[error("{what}: row {row}, column {column} is {value}, expected a finite number")]
    NotFinite {
        /// Features or labels.
        what: &'static str,
        /// Row.
        row: usize,
        /// Column.
        column: usize,
        /// What stands there.
        value: f32,
    },
    /// A penalty that makes no ridge.
    #[error("ridge penalty: found {found}, expected a positive number")]
    Penalty {
        /// What was asked for.
        found: f64,
    },
    /// Equations that rounding made unsolvable.
    #[error(
        "ridge: the normal equations with penalty {penalty} are singular in double precision; raise the penalty"
    )]
    Singular {
        /// The penalty.
        penalty: f64,
    },
}

/// Checks that features and labels pair up, are finite, and hold something.
fn check_training(features: &Matrix, labels: &Matrix) -> Result<(), ComparatorError> {
    if labels.rows != features.rows {
        let (expected, found) = (features.rows, labels.rows);
        return Err(ComparatorError::Size {
            what: "rows of labels (one per row of features)",
            expected,
            found,
        });
    }
    for (what, empty) in
        [("training rows", labels.rows == 0), ("features", features.cols == 0), ("genes", labels.cols == 0)]
    {
        if empty {
            return Err(ComparatorError::Empty { what });
        }
    }
    check_values("labels", labels)?;
    check_values("features", features)
}

/// Checks that a matrix is full and finite.
fn check_values(what: &'static str, matrix: &Matrix) -> Result<(), ComparatorError> {
    let (expected, found) = (matrix.rows * matrix.cols, matrix.values.len());
    if expected != found {
        return Err(ComparatorError::Size { what, expected, found });
    }
    match matrix.values.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(ComparatorError::NotFinite {
            what,
            row: place / matrix.cols,
            column: place % matrix.cols,
            value: matrix.values[place],
        }),
        None => Ok(()),
    }
}
