//! Dense matrices.

use super::ExpressionError;

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
    /// A matrix from its row-major values.
    ///
    /// # Errors
    /// When there are not `rows × cols` values.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Result<Self, ExpressionError> {
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(ExpressionError::Shape { rows, cols, values: values.len() });
        }
        Ok(Self { rows, cols, values })
    }

    /// `rows` copies of one row.
    pub fn repeat_row(row: &[f32], rows: usize) -> Self {
        Self { rows, cols: row.len(), values: row.repeat(rows) }
    }

    /// Row `row`, or an empty slice past the end.
    pub fn row(&self, row: usize) -> &[f32] {
        self.values.get(row * self.cols..(row + 1) * self.cols).unwrap_or_default()
    }

    /// Column `col` as a vector.
    pub fn column(&self, col: usize) -> Vec<f32> {
        self.values.iter().skip(col).step_by(self.cols.max(1)).copied().collect()
    }
}
