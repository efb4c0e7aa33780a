//! Sparse counts → tiles → normalised labels.

use serde::{Deserialize, Serialize};

/// Raw counts of `observations` × `genes`, compressed by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CountMatrix {
    /// Number of columns.
    pub genes: usize,
    /// `observations + 1` offsets into `columns` and `values`.
    pub row_offsets: Vec<usize>,
    /// Column of each stored count, ascending within a row.
    pub columns: Vec<u32>,
    /// The stored counts.
    pub values: Vec<f32>,
}

/// A dense row-major matrix of `f32`, the form in which labels and predictions cross module borders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows × cols` values.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Row `row`, or an empty slice past the end.
    pub fn row(&self, row: usize) -> &[f32] {
        self.values.get(row * self.cols..(row + 1) * self.cols).unwrap_or_default()
    }

    /// Column `col` as a vector.
    pub fn column(&self, col: usize) -> Vec<f32> {
        self.values.iter().skip(col).step_by(self.cols.max(1)).copied().collect()
    }
}

/// How raw counts become labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// `ln(1 + 10,000 · c / Σ_all genes c)`, per observation.
    #[default]
    Log1pCp10k,
    /// `ln((c + 1) / Σ_panel (c + 1))`, per observation.
    LogProportion,
}
