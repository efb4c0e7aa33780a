//! Sparse counts, compressed by row.

use super::{ExpressionError, Matrix};

/// Raw counts of `observations` × `genes`, compressed by row. A matrix that a file holds may have other values, such as
/// normalised ones; what is made by the constructors here has counts alone.
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

/// From 2²³ on, every floating point number of 32 bits is whole.
const ALWAYS_WHOLE: f32 = 8_388_608.0;

/// Whether a value is a raw count: finite, whole, and not negative.
#[inline]
pub fn is_count(value: f32) -> bool {
    // Not by its fractional part, which a processor does not take of many values with one instruction.
    let whole = (value as u32) as f32 == value;
    value >= 0.0 && (whole || (ALWAYS_WHOLE..f32::INFINITY).contains(&value))
}

impl CountMatrix {
    /// Counts from rows of (column, count) pairs in any order; zeros are not stored.
    ///
    /// # Errors
    /// When a column is out of range or repeats in a row, or a value is no count.
    pub fn from_rows<R>(genes: usize, rows: impl IntoIterator<Item = R>) -> Result<Self, ExpressionError>
    where
        R: IntoIterator<Item = (u32, f32)>,
    {
        let mut matrix = Self { genes, row_offsets: vec![0], columns: Vec::new(), values: Vec::new() };
        let mut entries = Vec::new();
        for row in rows {
            entries.clear();
            entries.extend(row);
            matrix.push_row(&mut entries)?;
        }
        Ok(matrix)
    }

    /// Counts from the compressed-sparse-row form of files. Columns may stand in any order within a row; stored
    /// zeros are dropped.
    ///
    /// # Errors
    /// When the offsets do not start at 0, decrease, or end elsewhere than at the number of values; when a column is
    /// out of range or repeats in a row; when a value is no count.
    pub fn from_csr(
        genes: usize,
        row_offsets: &[usize],
        columns: &[u32],
        values: &[f32],
    ) -> Result<Self, ExpressionError> {
        check_offsets(row_offsets, columns.len(), values.len())?;
        Self::from_rows(
            genes,
            row_offsets.windows(2).map(|window| {
                let stretch = window[0]..window[1];
                let columns = columns.get(stretch.clone()).unwrap_or_default();
                columns.iter().copied().zip(values.get(stretch).unwrap_or_default().iter().copied())
            }),
        )
    }

    /// Counts of `observations` rows from the compressed-sparse-column form of files.
    ///
    /// # Errors
    /// As [`CountMatrix::from_csr`], and when a row index is not below `observations`.
    pub fn from_csc(
        observations: usize,
        column_offsets: &[usize],
        rows: &[u32],
        values: &[f32],
    ) -> Result<Self, ExpressionError> {
        check_offsets(column_offsets, rows.len(), values.len())?;
        let genes = column_offsets.len() - 1;
        let mut entries: Vec<(u32, u32, f32)> = Vec::with_capacity(values.len());
        for ((column, window), _) in (0_u32..).zip(column_offsets.windows(2)).zip(0..genes) {
            for at in window[0]..window[1] {
                if let (Some(&row), Some(&value)) = (rows.get(at), values.get(at)) {
                    if row as usize >= observations {
                        return Err(ExpressionError::Offsets {
                            field: "a row index",
                            expected: format!("below {observations}"),
                            found: row.to_string(),
                        });
                    }
                    entries.push((row, column, value));
                }
            }
        }
        entries.sort_unstable_by_key(|&(row, column, _)| (row, column));
        let mut rest = entries.as_slice();
        Self::from_rows(
            genes,
            (0..observations).map(|row| {
                let (own, others) = rest.split_at(rest.partition_point(|entry| entry.0 as usize <= row));
                rest = others;
                own.iter().map(|&(_, column, value)| (column, value))
            }),
        )
    }

    /// Counts from a dense matrix.
    ///
    /// # Errors
    /// When a value is no count.
    pub fn from_dense(matrix: &Matrix) -> Result<Self, ExpressionError> {
        let rows = (0..matrix.rows).map(|row| (0_u32..).zip(matrix.row(row).iter().copied()));
        Self::from_rows(matrix.cols, rows)
    }

    /// Appends a row, which it sorts and checks.
    fn push_row(&mut self, entries: &mut [(u32, f32)]) -> Result<(), ExpressionError> {
        let row = self.rows();
        entries.sort_by_key(|&(column, _)| column);
        for (place, &(column, value)) in entries.iter().enumerate() {
            if column as usize >= self.genes {
                return Err(ExpressionError::Column { row, column: column as usize, genes: self.genes });
            }
            if entries.get(place + 1).is_some_and(|next| next.0 == column) {
                return Err(ExpressionError::RepeatedColumn { row, column: column as usize });
            }
            if !is_count(value) {
                return Err(ExpressionError::NotACount { row, column: column as usize, value });
            }
            if value > 0.0 {
                self.columns.push(column);
                self.values.push(value);
            }
        }
        self.row_offsets.push(self.columns.len());
        Ok(())
    }

    /// Number of observations.
    pub fn rows(&self) -> usize {
        self.row_offsets.len().saturating_sub(1)
    }

    /// Columns and counts stored in row `row`; empty past the end.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let start = self.row_offsets.get(row).copied().unwrap_or_default();
        let end = self.row_offsets.get(row + 1).copied().unwrap_or(start);
        (self.columns.get(start..end).unwrap_or_default(), self.values.get(start..end).unwrap_or_default())
    }

    /// Sum of the counts of row `row`: the library size of the observation.
    pub fn total(&self, row: usize) -> f64 {
        self.row(row).1.iter().map(|&value| f64::from(value)).sum()
    }

    /// Sum of the counts of each gene.
    pub fn gene_sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.genes];
        for (&column, &value) in self.columns.iter().zip(&self.values) {
            if let Some(sum) = sums.get_mut(column as usize) {
                *sum += f64::from(value);
            }
        }
        sums
    }

    /// The given rows, in the given order; a row past the end is one without counts.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let mut selected = Self { genes: self.genes, row_offsets: vec![0], ..Self::default() };
        for &row in rows {
            let (columns, values) = self.row(row);
            selected.columns.extend_from_slice(columns);
            selected.values.extend_from_slice(values);
            selected.row_offsets.push(selected.columns.len());
        }
        selected
    }

    /// The given columns, in the given order.
    ///
    /// # Errors
    /// When a column is out of range or named twice.
    pub fn select_columns(&self, columns: &[u32]) -> Result<Self, ExpressionError> {
        let mut place_of: Vec<Option<u32>> = vec![None; self.genes];
        for (place, &column) in (0_u32..).zip(columns) {
            match place_of.get_mut(column as usize) {
                Some(slot @ None) => *slot = Some(place),
                _ => return Err(ExpressionError::Selection { column, genes: self.genes }),
            }
        }
        let ascending = columns.is_sorted();
        let mut selected = Self { genes: columns.len(), row_offsets: vec![0], ..Self::default() };
        let mut entries: Vec<(u32, f32)> = Vec::new();
        for row in 0..self.rows() {
            let (columns, values) = self.row(row);
            let kept = columns.iter().zip(values).filter_map(|(&column, &value)| {
                Some((place_of.get(column as usize).copied().flatten()?, value))
            });
            entries.clear();
            entries.extend(kept);
            if !ascending {
                entries.sort_unstable_by_key(|entry| entry.0);
            }
            selected.push_sorted(&entries);
        }
        Ok(selected)
    }

    /// Appends a row whose columns ascend.
    pub(super) fn push_sorted(&mut self, entries: &[(u32, f32)]) {
        self.columns.extend(entries.iter().map(|entry| entry.0));
        self.values.extend(entries.iter().map(|entry| entry.1));
        self.row_offsets.push(self.columns.len());
    }
}

/// Checks that `offsets` cut `stored` indices and `values` values into stretches.
fn check_offsets(offsets: &[usize], stored: usize, values: usize) -> Result<(), ExpressionError> {
    let wrong =
        |field, expected: String, found: String| Err(ExpressionError::Offsets { field, expected, found });
    if stored != values {
        return wrong("the number of values", format!("{stored} (one per index)"), values.to_string());
    }
    match (offsets.first(), offsets.last()) {
        (Some(0), Some(&last)) if last == values => {}
        (Some(0), Some(last)) => return wrong("the last offset", values.to_string(), last.to_string()),
        (Some(first), _) => return wrong("the first offset", "0".into(), first.to_string()),
        (None, _) => return wrong("the number of offsets", "at least 1".into(), "0".into()),
    }
    match offsets.windows(2).position(|window| window[1] < window[0]) {
        Some(place) => wrong(
            "an offset",
            format!("at least {} (offsets must not decrease)", offsets[place]),
            offsets[place + 1].to_string(),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> CountMatrix {
        CountMatrix::from_rows(3, [vec![(2, 5.0), (0, 1.0)], vec![], vec![(1, 2.0), (2, 0.0)]]).unwrap()
    }

    #[test]
    fn selected_rows_keep_their_counts_and_their_order() {
        let counts = CountMatrix::from_csr(3, &[0, 1, 1, 3], &[2, 0, 1], &[5.0, 1.0, 2.0]).unwrap();
        let selected = counts.select_rows(&[2, 0, 9]);
        assert_eq!(selected.rows(), 3);
        assert_eq!(selected.row(0), (&[0, 1][..], &[1.0, 2.0][..]));
        assert_eq!(selected.row(1), (&[2][..], &[5.0][..]));
        assert_eq!(selected.total(2), 0.0);
    }

    #[test]
    fn rows_are_sorted_and_zeros_are_not_stored() {
        let counts = small();
        assert_eq!(counts.rows(), 3);
        assert_eq!(counts.row(0), ([0, 2].as_slice(), [1.0, 5.0].as_slice()));
        assert_eq!(counts.row(1), ([].as_slice(), [].as_slice()));
        assert_eq!(counts.row(2), ([1].as_slice(), [2.0].as_slice()));
        assert_eq!(counts.row(3), ([].as_slice(), [].as_slice()));
        assert_eq!(counts.total(0), 6.0);
        assert_eq!(counts.gene_sums(), [1.0, 2.0, 5.0]);
    }

    #[test]
    fn row_column_and_dense_forms_agree() {
        let counts = small();
        let csr = CountMatrix::from_csr(3, &[0, 2, 2, 4], &[2, 0, 1, 2], &[5.0, 1.0, 2.0, 0.0]).unwrap();
        let csc = CountMatrix::from_csc(3, &[0, 1, 2, 3], &[0, 2, 0], &[1.0, 2.0, 5.0]).unwrap();
        let dense = Matrix::new(3, 3, vec![1.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]).unwrap();
        assert_eq!(csr, counts);
        assert_eq!(csc, counts);
        assert_eq!(CountMatrix::from_dense(&dense).unwrap(), counts);
    }

    #[test]
    fn numbers_that_are_no_counts_are_refused_with_their_place() {
        for value in [f32::NAN, f32::INFINITY, -1.0, 0.5] {
            let error = CountMatrix::from_rows(2, [vec![], vec![(1, value)]]).unwrap_err().to_string();
            assert!(error.contains("row 1, column 1") && error.contains("raw"), "{error}");
        }
    }

    #[test]
    fn malformed_compressed_rows_are_refused() {
        let from = CountMatrix::from_csr;
        for (offsets, columns, expected) in [
            (vec![], vec![], "number of offsets"),
            (vec![1, 2], vec![0, 0], "first offset"),
            (vec![0, 1], vec![0, 0], "last offset"),
            (vec![0, 2, 1, 2], vec![0, 0], "must not decrease"),
            (vec![0, 2], vec![0, 3], "below 3"),
            (vec![0, 2], vec![1, 1], "more than once"),
        ] {
            let values = vec![1.0; columns.len()];
            let error = from(3, &offsets, &columns, &values).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(from(3, &[0, 1], &[0], &[]).unwrap_err().to_string().contains("number of values"));
        let far_row = CountMatrix::from_csc(2, &[0, 1], &[2], &[1.0]).unwrap_err().to_string();
        assert!(far_row.contains("below 2"), "{far_row}");
    }

    #[test]
    fn columns_are_selected_in_the_order_asked_for() {
        let chosen = small().select_columns(&[2, 0]).unwrap();
        assert_eq!(chosen.row(0), ([0, 1].as_slice(), [5.0, 1.0].as_slice()));
        assert_eq!((chosen.genes, chosen.rows(), chosen.total(2)), (2, 3, 0.0));
        for bad in [[0, 3], [1, 1]] {
            assert!(matches!(small().select_columns(&bad), Err(ExpressionError::Selection { .. })));
        }
    }
}
