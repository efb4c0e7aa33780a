//! Matrices that need not be in memory.

use std::io::{self, Error, ErrorKind};
use std::ops::Range;

use super::Matrix;

/// Values that are held at a time while a source is gone through: 16 MB.
const BLOCK_VALUES: usize = 4 << 20;

/// The rows of a dense `[N,G]` matrix, wherever they lie: in memory, or in a file that holds more than memory takes.
pub trait RowSource: std::fmt::Debug {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of columns.
    fn cols(&self) -> usize;

    /// Copies the rows of `range` to `out`, row after row.
    ///
    /// # Shapes
    /// - `out`: `range.len() × cols`
    ///
    /// # Errors
    /// When the range is past the end, `out` has another length, or what holds the rows cannot be read.
    fn read_rows(&self, range: Range<usize>, out: &mut [f32]) -> io::Result<()>;
}

impl RowSource for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn read_rows(&self, range: Range<usize>, out: &mut [f32]) -> io::Result<()> {
        let cells = range.start.checked_mul(self.cols).zip(range.end.checked_mul(self.cols));
        match cells.and_then(|(start, end)| self.values.get(start..end)) {
            Some(values) if values.len() == out.len() => {
                out.copy_from_slice(values);
                Ok(())
            }
            _ => {
                let reason = format!("rows {range:?} of {} do not fill {} values", self.rows, out.len());
                Err(Error::new(ErrorKind::InvalidInput, reason))
            }
        }
    }
}

impl dyn RowSource + '_ {
    /// Goes through all rows in order, some at a time: `visit` is given the number of the first row and the values.
    ///
    /// # Errors
    /// What the source or `visit` says.
    pub fn for_each_block(&self, visit: impl FnMut(usize, &[f32]) -> io::Result<()>) -> io::Result<()> {
        self.for_each_block_of((BLOCK_VALUES / self.cols().max(1)).max(1), visit)
    }

    /// As `for_each_block`, with `block_rows` rows at a time; the last block may be shorter.
    ///
    /// # Errors
    /// What the source or `visit` says.
    pub fn for_each_block_of(
        &self,
        block_rows: usize,
        mut visit: impl FnMut(usize, &[f32]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (rows, cols) = (self.rows(), self.cols());
        let mut block = Vec::new();
        for first in (0..rows).step_by(block_rows.max(1)) {
            let range = first..rows.min(first + block_rows);
            block.resize(range.len() * cols, 0.0);
            self.read_rows(range, &mut block)?;
            visit(first, &block)?;
        }
        Ok(())
    }

    /// The columns of `columns`, one vector each, in one pass over the rows. A column past the last one is NaN.
    ///
    /// # Errors
    /// What the source says.
    pub fn read_columns(&self, columns: &[usize]) -> io::Result<Vec<Vec<f32>>> {
        let cols = self.cols().max(1);
        let mut read = vec![Vec::with_capacity(self.rows()); columns.len()];
        self.for_each_block(|_, block| {
            for (values, &column) in read.iter_mut().zip(columns) {
                values
                    .extend(block.chunks_exact(cols).map(|row| row.get(column).copied().unwrap_or(f32::NAN)));
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// Number of rows with a value other than NaN.
    ///
    /// # Errors
    /// What the source says.
    pub fn rows_known(&self) -> io::Result<usize> {
        let cols = self.cols().max(1);
        let mut known = 0;
        self.for_each_block(|_, block| {
            known += block.chunks_exact(cols).filter(|row| is_known(row)).count();
            Ok(())
        })?;
        Ok(known)
    }
}

/// Whether a row holds a value other than NaN.
pub fn is_known(row: &[f32]) -> bool {
    row.iter().any(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_columns_and_counts_are_the_matrix() {
        let values =
            (0..15).map(|value| if (6..9).contains(&value) { f32::NAN } else { value as f32 }).collect();
        let matrix = Matrix::new(5, 3, values).unwrap();
        let source: &dyn RowSource = &matrix;
        let (mut firsts, mut seen) = (Vec::new(), Vec::new());
        source
            .for_each_block_of(2, |first, block| {
                firsts.push(first);
                seen.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
        assert_eq!(firsts, [0, 2, 4]);
        assert!(seen.iter().zip(&matrix.values).all(|(seen, value)| seen.to_bits() == value.to_bits()));
        let columns = source.read_columns(&[2, 9, 0]).unwrap();
        assert_eq!((columns[0][1], columns[0][4], columns[2][3]), (5.0, 14.0, 9.0));
        assert!(columns[0][2].is_nan() && columns[1].iter().all(|value| value.is_nan()));
        assert_eq!(source.rows_known().unwrap(), 4);
        let (no_rows, no_columns) =
            (Matrix::new(0, 3, Vec::new()).unwrap(), Matrix::new(3, 0, Vec::new()).unwrap());
        let no_rows: &dyn RowSource = &no_rows;
        assert_eq!(
            (no_rows.rows_known().unwrap(), no_rows.read_columns(&[1]).unwrap()),
            (0, vec![Vec::new()])
        );
        let no_columns: &dyn RowSource = &no_columns;
        assert_eq!(no_columns.rows_known().unwrap(), 0);
    }

    #[test]
    fn rows_past_the_end_are_refused() {
        let matrix = Matrix::new(2, 2, vec![0.0; 4]).unwrap();
        assert!(matrix.read_rows(1..3, &mut [0.0; 4]).is_err());
        assert!(matrix.read_rows(0..1, &mut [0.0; 3]).is_err());
        assert!(matrix.read_rows(0..usize::MAX, &mut []).is_err());
    }
}
