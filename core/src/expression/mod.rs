//! Sparse counts → tiles → normalised labels; or values that were normalised before, which become labels as they are.

mod aggregate;
mod counts;
mod error;
mod genes;
mod labels;
mod matrix;
mod rows;

pub use counts::{CountMatrix, is_count};
pub use error::ExpressionError;
pub use genes::{CommonGenes, GeneMoments, GeneSelection, gene_moments};
pub use labels::{GeneStatistics, Normalization, ValueKind, per_gene_statistics};
pub use matrix::Matrix;
pub use rows::{RowSource, is_known};
