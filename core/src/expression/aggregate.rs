//! Tiles from the bins that lie in them.

use super::{CountMatrix, ExpressionError};

impl CountMatrix {
    /// Sums the rows of each of `groups` groups: the counts of tiles from the counts of the bins that lie in them.
    /// A group without rows gets a row without counts.
    ///
    /// # Errors
    /// When there is not one parent per row or a parent is not below `groups`.
    pub fn aggregate(&self, parents: &[u32], groups: usize) -> Result<Self, ExpressionError> {
        let wrong = |what, expected: String, found| ExpressionError::Parents { what, expected, found };
        if parents.len() != self.rows() {
            return Err(wrong(
                "the number of parents",
                format!("{} (one per row)", self.rows()),
                parents.len(),
            ));
        }
        if let Some(&parent) = parents.iter().find(|&&parent| parent as usize >= groups) {
            return Err(wrong("a parent", format!("below {groups}"), parent as usize));
        }
        let mut children: Vec<u32> = (0_u32..).zip(parents).map(|(row, _)| row).collect();
        children.sort_by_key(|&row| parents[row as usize]);
        let mut rest = children.as_slice();
        // Dense over the genes, so that a sum costs no search; only the touched columns are read and cleared.
        let mut sums: Vec<Option<f32>> = vec![None; self.genes];
        let mut touched = Vec::new();
        let mut entries = Vec::new();
        let mut tiles = Self { genes: self.genes, row_offsets: vec![0], ..Self::default() };
        for group in 0..groups {
            let members = rest.partition_point(|&row| parents[row as usize] as usize <= group);
            let (own, others) = rest.split_at(members);
            rest = others;
            for &child in own {
                let (columns, values) = self.row(child as usize);
                for (&column, &value) in columns.iter().zip(values) {
                    let sum = &mut sums[column as usize];
                    if sum.is_none() {
                        touched.push(column);
                    }
                    *sum = Some(sum.unwrap_or_default() + value);
                }
            }
            touched.sort_unstable();
            entries.clear();
            let take = |column: u32| (column, sums[column as usize].take().unwrap_or_default());
            entries.extend(touched.drain(..).map(take).filter(|entry| entry.1 != 0.0));
            tiles.push_sorted(&entries);
        }
        Ok(tiles)
    }

    /// As [`CountMatrix::aggregate`], with the mean over the rows of each group in place of the sum: tiles of values that
    /// were normalised before, whose sums mean nothing.
    ///
    /// # Errors
    /// As [`CountMatrix::aggregate`].
    pub fn aggregate_means(&self, parents: &[u32], groups: usize) -> Result<Self, ExpressionError> {
        let mut tiles = self.aggregate(parents, groups)?;
        let mut members = vec![0.0_f32; groups];
        parents.iter().for_each(|&parent| members[parent as usize] += 1.0);
        for (bounds, members) in tiles.row_offsets.windows(2).zip(members) {
            let values = tiles.values.get_mut(bounds[0]..bounds[1]).unwrap_or_default();
            values.iter_mut().for_each(|value| *value /= members);
        }
        Ok(tiles)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Matrix;
    use super::*;

    #[test]
    fn parents_that_do_not_fit_are_refused() {
        let counts = CountMatrix::from_rows(3, [vec![(2, 5.0), (0, 1.0)], vec![], vec![(1, 2.0)]]).unwrap();
        let error = counts.aggregate(&[0, 1], 2).unwrap_err().to_string();
        assert!(error.contains("one per row"), "{error}");
        let error = counts.aggregate(&[0, 1, 2], 2).unwrap_err().to_string();
        assert!(error.contains("below 2"), "{error}");
    }

    #[test]
    fn means_count_the_bins_without_a_value_too() {
        let values = CountMatrix {
            values: vec![-1.5, 0.5, 4.0],
            ..CountMatrix::from_csr(2, &[0, 1, 1, 3], &[0, 0, 1], &[1.0; 3]).unwrap()
        };
        let tiles = values.aggregate_means(&[0, 0, 2], 3).unwrap();
        assert_eq!(tiles.row(0), ([0].as_slice(), [-0.75].as_slice()));
        assert_eq!(tiles.row(1).0.len(), 0);
        assert_eq!(tiles.row(2), ([0, 1].as_slice(), [0.5, 4.0].as_slice()));
        assert!(values.aggregate_means(&[0], 1).is_err());
    }

    proptest! {
        #[test]
        fn tiles_hold_the_sums_of_their_bins(
            dense in prop::collection::vec(0..4_u8, 0..60),
            parents in prop::collection::vec(0..5_u32, 20),
        ) {
            let genes = 3;
            let rows = dense.len() / genes;
            let values: Vec<f32> = dense[..rows * genes].iter().map(|&count| f32::from(count)).collect();
            let counts = CountMatrix::from_dense(&Matrix::new(rows, genes, values.clone()).unwrap()).unwrap();
            let mut expected = vec![0.0; 5 * genes];
            for row in 0..rows {
                for gene in 0..genes {
                    expected[parents[row] as usize * genes + gene] += values[row * genes + gene];
                }
            }
            let expected = CountMatrix::from_dense(&Matrix::new(5, genes, expected).unwrap()).unwrap();
            prop_assert_eq!(counts.aggregate(&parents[..rows], 5).unwrap(), expected);
        }
    }
}
