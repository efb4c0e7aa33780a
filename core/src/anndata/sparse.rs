//! Compressed layouts: checked, brought to ascending columns, turned from columns to rows.

use super::{AnnDataError, invalid};
use crate::expression::{CountMatrix, Matrix};

/// The three arrays of a compressed matrix as they stand in a file; `major` is the compressed axis.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressedMatrix {
    /// Length of the compressed axis.
    pub major: usize,
    /// Length of the other axis.
    pub minor: usize,
    /// `major + 1` offsets into `indices` and `data`.
    pub indptr: Vec<i64>,
    /// Position of each stored value along the other axis.
    pub indices: Vec<u32>,
    /// The stored values.
    pub data: Vec<f32>,
}

impl CompressedMatrix {
    /// The checked offsets into `indices` and `data`.
    fn offsets(&self, object: &str) -> Result<Vec<usize>, AnnDataError> {
        let stored = self.data.len();
        if self.indices.len() != stored {
            let found = format!("{} indices and {stored} values", self.indices.len());
            return Err(invalid(object, "as many indices as values", found));
        }
        if self.indptr.len() != self.major.saturating_add(1) {
            let found = format!("{} entries", self.indptr.len());
            return Err(invalid(&format!("{object}/indptr"), format!("{} entries", self.major + 1), found));
        }
        let mut offsets = Vec::with_capacity(self.indptr.len());
        let mut before = 0;
        for (position, &offset) in self.indptr.iter().enumerate() {
            let checked = usize::try_from(offset)
                .ok()
                .filter(|&offset| offset >= before && offset <= stored && (position > 0 || offset == 0));
            before = checked.ok_or_else(|| {
                let expected = format!("offsets from 0 to {stored} that never fall");
                invalid(&format!("{object}/indptr"), expected, format!("{offset} at position {position}"))
            })?;
            offsets.push(before);
        }
        if before != stored {
            let expected = format!("a last offset of {stored}");
            return Err(invalid(&format!("{object}/indptr"), expected, before.to_string()));
        }
        if let Some(index) = self.indices.iter().copied().max().filter(|&index| index as usize >= self.minor)
        {
            let expected = format!("indices below {}", self.minor);
            return Err(invalid(&format!("{object}/indices"), expected, index.to_string()));
        }
        Ok(offsets)
    }

    /// For a matrix compressed by row (CSR): checks it, and sorts rows whose columns do not ascend. `object` is the
    /// path that errors name.
    ///
    /// # Errors
    /// When the arrays contradict each other or the sizes, or a row holds a column twice.
    pub fn into_rows(mut self, object: &str) -> Result<CountMatrix, AnnDataError> {
        let row_offsets = self.offsets(object)?;
        let mut entries: Vec<(u32, f32)> = Vec::new();
        for (row, bounds) in row_offsets.windows(2).enumerate() {
            let &[start, end] = bounds else { continue };
            let (Some(columns), Some(values)) =
                (self.indices.get_mut(start..end), self.data.get_mut(start..end))
            else {
                continue;
            };
            if ascend(columns) {
                continue;
            }
            entries.clear();
            entries.extend(columns.iter().copied().zip(values.iter().copied()));
            entries.sort_by_key(|entry| entry.0);
            for (slot, (column, value)) in columns.iter_mut().zip(values.iter_mut()).zip(&entries) {
                (*slot.0, *slot.1) = (*column, *value);
            }
            if !ascend(columns) {
                return Err(twice(object, row));
            }
        }
        Ok(CountMatrix { genes: self.minor, row_offsets, columns: self.indices, values: self.data })
    }

    /// For a matrix compressed by column (CSC): checks it and turns it. `object` is the path that errors name.
    ///
    /// # Errors
    /// As [`CompressedMatrix::into_rows`].
    pub fn columns_into_rows(self, object: &str) -> Result<CountMatrix, AnnDataError> {
        let column_offsets = self.offsets(object)?;
        let mut next = vec![0_usize; self.minor + 1];
        for &row in &self.indices {
            if let Some(count) = next.get_mut(row as usize + 1) {
                *count += 1;
            }
        }
        let mut total = 0;
        for count in &mut next {
            total += *count;
            *count = total;
        }
        let row_offsets = next.clone();
        let mut columns = vec![0_u32; self.data.len()];
        let mut values = vec![0.0_f32; self.data.len()];
        // Columns are visited in ascending order, so each row comes out ascending.
        for (column, bounds) in column_offsets.windows(2).enumerate() {
            let &[start, end] = bounds else { continue };
            let stored = self.indices.get(start..end).into_iter().flatten();
            for (&row, &value) in stored.zip(self.data.get(start..end).into_iter().flatten()) {
                let Some(place) = next.get_mut(row as usize) else { continue };
                if let (Some(slot), Some(target)) = (columns.get_mut(*place), values.get_mut(*place)) {
                    (*slot, *target) = (column as u32, value);
                }
                *place += 1;
            }
        }
        for (row, bounds) in row_offsets.windows(2).enumerate() {
            let &[start, end] = bounds else { continue };
            if !ascend(columns.get(start..end).unwrap_or_default()) {
                return Err(twice(object, row));
            }
        }
        Ok(CountMatrix { genes: self.major, row_offsets, columns, values })
    }
}

/// Whether each is larger than the one before it. All are looked at, which a processor does many at a time.
fn ascend(columns: &[u32]) -> bool {
    let after = columns.get(1..).unwrap_or_default();
    columns.iter().zip(after).fold(true, |good, (a, b)| good & (a < b))
}

fn twice(object: &str, row: usize) -> AnnDataError {
    invalid(object, "each variable at most once per observation", format!("one twice in observation {row}"))
}

/// Keeps everything that is not zero.
pub(super) fn from_dense(matrix: &Matrix) -> CountMatrix {
    let mut counts = CountMatrix { genes: matrix.cols, row_offsets: vec![0], ..CountMatrix::default() };
    for row in 0..matrix.rows {
        for (column, &value) in matrix.row(row).iter().enumerate() {
            if value != 0.0 {
                counts.columns.push(column as u32);
                counts.values.push(value);
            }
        }
        counts.row_offsets.push(counts.values.len());
    }
    counts
}

/// Fills in the zeros.
pub(super) fn to_dense(counts: &CountMatrix) -> Matrix {
    let rows = counts.row_offsets.len().saturating_sub(1);
    let mut values = vec![0.0; rows * counts.genes];
    for (row, bounds) in counts.row_offsets.windows(2).enumerate() {
        let &[start, end] = bounds else { continue };
        let columns = counts.columns.get(start..end).into_iter().flatten();
        for (&column, &value) in columns.zip(counts.values.get(start..end).into_iter().flatten()) {
            if let Some(slot) = values.get_mut(row * counts.genes + column as usize) {
                *slot = value;
            }
        }
    }
    Matrix { rows, cols: counts.genes, values }
}
