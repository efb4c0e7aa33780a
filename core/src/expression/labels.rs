//! From counts to the numbers that the model learns.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::{CountMatrix, ExpressionError, Matrix};
use crate::layout::SlideLayout;
use crate::level::{Level, PerLevel};

/// Counts per observation after library-size normalisation.
const LIBRARY_SIZE: f64 = 10_000.0;

/// What the numbers of a slide's matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// Raw counts.
    #[default]
    Counts,
    /// Numbers that were normalised before they came here, in whichever way.
    Normalized,
}

impl std::fmt::Display for ValueKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ValueKind::Counts => "raw counts",
            ValueKind::Normalized => "normalised values",
        })
    }
}

/// How the values of a slide become labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// `ln(1 + 10,000 · c / Σ_all genes c)`, per observation.
    #[default]
    Log1pCp10k,
    /// `ln((c + 1) / Σ_panel (c + 1))`, per observation.
    LogProportion,
    /// Normalised values as they are: no library size, no logarithm. Tiles take the mean of their bins.
    AsGiven,
}

impl Normalization {
    /// The unit of the labels, as it stands on maps and in tables.
    pub fn unit(self) -> &'static str {
        match self {
            Normalization::Log1pCp10k => "log1p CP10K",
            Normalization::LogProportion => "log proportion",
            Normalization::AsGiven => "normalised values as given",
        }
    }

    /// What it makes labels of.
    pub fn values(self) -> ValueKind {
        match self {
            Normalization::Log1pCp10k | Normalization::LogProportion => ValueKind::Counts,
            Normalization::AsGiven => ValueKind::Normalized,
        }
    }

    /// Labels of the panel's genes at every level of a slide, from the values of its bins: counts of a tile are summed
    /// before they are normalised, values that are normalised already are averaged.
    ///
    /// # Shapes
    /// - of each level: `[N, G]`
    ///
    /// # Errors
    /// As [`Normalization::labels`], and when the layout is that of other bins.
    pub fn labels_of_levels(
        self,
        counts: &CountMatrix,
        panel_columns: &[u32],
        layout: &SlideLayout,
    ) -> Result<PerLevel<Matrix>, ExpressionError> {
        PerLevel::try_from_fn(|level| {
            let (parents, tiles) = (layout.parents(level), layout.centers.get(level).len());
            match (level, self.values()) {
                (Level::Bin, _) => self.labels(counts, panel_columns),
                (_, ValueKind::Counts) => self.labels(&counts.aggregate(parents, tiles)?, panel_columns),
                (_, ValueKind::Normalized) => {
                    self.labels(&counts.aggregate_means(parents, tiles)?, panel_columns)
                }
            }
        })
    }

    /// Labels `[N,G]` of the panel's genes, from the counts of *all* genes of a slide: the library size of log1p
    /// CP10K is over all of them, the proportion is over the panel.
    ///
    /// An observation without counts has log1p CP10K labels of 0.
    ///
    /// # Errors
    /// When a panel column is out of range or named twice.
    pub fn labels(self, counts: &CountMatrix, panel_columns: &[u32]) -> Result<Matrix, ExpressionError> {
        let panel = counts.select_columns(panel_columns)?;
        let genes = panel_columns.len();
        let mut values = Vec::with_capacity(counts.rows() * genes);
        for row in 0..counts.rows() {
            let (columns, stored) = panel.row(row);
            let start = values.len();
            match self {
                Normalization::Log1pCp10k => {
                    values.resize(start + genes, 0.0);
                    let total = counts.total(row);
                    for (&column, &count) in columns.iter().zip(stored) {
                        values[start + column as usize] = log1p_cp10k(count, total) as f32;
                    }
                }
                Normalization::LogProportion => {
                    let log_sum = (panel.total(row) + genes as f64).ln();
                    values.resize(start + genes, -log_sum as f32);
                    for (&column, &count) in columns.iter().zip(stored) {
                        values[start + column as usize] = (f64::from(count).ln_1p() - log_sum) as f32;
                    }
                }
                Normalization::AsGiven => {
                    values.resize(start + genes, 0.0);
                    for (&column, &value) in columns.iter().zip(stored) {
                        values[start + column as usize] = value;
                    }
                }
            }
        }
        Ok(Matrix { rows: counts.rows(), cols: genes, values })
    }
}

/// `ln(1 + 10,000 · count / total)`; 0 for an observation without counts.
pub(super) fn log1p_cp10k(count: f32, total: f64) -> f64 {
    if total > 0.0 { (LIBRARY_SIZE * f64::from(count) / total).ln_1p() } else { 0.0 }
}

/// Mean and standard deviation of each gene over all observations of all slides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneStatistics {
    /// `[G]` means, in label units.
    pub mean: Vec<f32>,
    /// `[G]` population standard deviations, in label units.
    pub sd: Vec<f32>,
}

/// Mean and standard deviation of each column over the rows of all `slides` together.
///
/// # Errors
/// When the slides have no observation or differ in their number of genes.
pub fn per_gene_statistics<M: Borrow<Matrix>>(slides: &[M]) -> Result<GeneStatistics, ExpressionError> {
    let slides: Vec<&Matrix> = slides.iter().map(Borrow::borrow).collect();
    let genes = slides.first().map_or(0, |slide| slide.cols);
    if let Some((slide, other)) = slides.iter().enumerate().find(|(_, slide)| slide.cols != genes) {
        return Err(ExpressionError::Genes { slide, expected: genes, found: other.cols });
    }
    let observations: usize = slides.iter().map(|slide| slide.rows).sum();
    if observations == 0 {
        return Err(ExpressionError::NoObservations { slides: slides.len() });
    }
    let rows = || slides.iter().flat_map(|slide| slide.values.chunks_exact(genes.max(1)));
    let mut mean = vec![0.0_f64; genes];
    for row in rows() {
        mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    mean.iter_mut().for_each(|sum| *sum /= observations as f64);
    // A second pass about the mean: the sum of squares alone would lose genes with a small spread.
    let mut variance = vec![0.0_f64; genes];
    for row in rows() {
        for ((sum, mean), &value) in variance.iter_mut().zip(&mean).zip(row) {
            *sum += (f64::from(value) - mean).powi(2);
        }
    }
    Ok(GeneStatistics {
        mean: mean.iter().map(|&mean| mean as f32).collect(),
        sd: variance.iter().map(|&sum| (sum / observations as f64).sqrt() as f32).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinates::SlideUm;
    use crate::level::LevelGeometry;

    fn counts() -> CountMatrix {
        CountMatrix::from_rows(4, [vec![(0, 1.0), (1, 3.0), (3, 6.0)], vec![], vec![(3, 2.0)]]).unwrap()
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (&found, &expected) in found.iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-6, "{found} against {expected}");
        }
    }

    #[test]
    fn log1p_cp10k_divides_by_the_library_over_all_genes() {
        let labels = Normalization::Log1pCp10k.labels(&counts(), &[1, 0]).unwrap();
        close(labels.row(0), &[3001.0_f64.ln(), 1001.0_f64.ln()]);
        close(labels.row(1), &[0.0, 0.0]);
        close(labels.row(2), &[0.0, 0.0]);
    }

    #[test]
    fn tiles_are_summed_before_they_are_normalised() {
        // Three bins of 2, 8 and 90 counts; the first two make a spot, all three a region.
        let bins = [vec![(0, 1.0), (1, 1.0)], vec![(1, 8.0)], vec![(0, 30.0), (1, 60.0)]];
        let bins = CountMatrix::from_rows(2, bins).unwrap();
        let labels = |counts: &CountMatrix| Normalization::Log1pCp10k.labels(counts, &[0]).unwrap().values;
        close(&labels(&bins), &[5001.0_f64.ln(), 0.0, (1.0_f64 + 300_000.0 / 90.0).ln()]);
        // 1 of 10 and 30 of 90; the mean of the bins' labels would be something else.
        let spots = bins.aggregate(&[0, 0, 1], 2).unwrap();
        close(&labels(&spots), &[1001.0_f64.ln(), (1.0_f64 + 300_000.0 / 90.0).ln()]);
        close(&labels(&bins.aggregate(&[0, 0, 0], 1).unwrap()), &[3101.0_f64.ln()]);
    }

    #[test]
    fn values_as_given_are_the_labels_and_tiles_take_their_mean() {
        let levels = PerLevel::from_fn(|level| {
            let tile_um = [10.0, 20.0, 100.0][level as usize];
            LevelGeometry { tile_um, patch_um: tile_um, patch_px: 8 }
        });
        let bins = [5.0, 15.0, 25.0].map(|x| SlideUm { x, y: 5.0 });
        let layout = SlideLayout::new(&bins, &levels, 2).unwrap();
        let values = CountMatrix {
            genes: 2,
            row_offsets: vec![0, 1, 2, 4],
            columns: vec![0, 0, 0, 1],
            values: vec![0.5, -2.0, 4.5, 3.0],
        };
        let labels = Normalization::AsGiven.labels_of_levels(&values, &[1, 0], &layout).unwrap();
        assert_eq!(labels.bin.values, [0.0, 0.5, 0.0, -2.0, 3.0, 4.5]);
        assert_eq!(labels.spot.values, [0.0, -0.75, 3.0, 4.5]);
        assert_eq!(labels.region.values, [1.0, 1.0]);
    }

    #[test]
    fn log_proportion_divides_by_the_panel_alone() {
        let labels = Normalization::LogProportion.labels(&counts(), &[1, 0]).unwrap();
        close(labels.row(0), &[(4.0_f64 / 6.0).ln(), (2.0_f64 / 6.0).ln()]);
        close(labels.row(1), &[0.5_f64.ln(), 0.5_f64.ln()]);
    }

    #[test]
    fn a_panel_column_that_the_slide_lacks_is_an_error() {
        assert!(Normalization::Log1pCp10k.labels(&counts(), &[4]).is_err());
    }

    #[test]
    fn gene_statistics_pool_the_observations_of_all_slides() {
        let a = Matrix::new(2, 2, vec![1.0, 5.0, 3.0, 5.0]).unwrap();
        let b = Matrix::new(1, 2, vec![5.0, 5.0]).unwrap();
        let statistics = per_gene_statistics(&[a.clone(), b]).unwrap();
        close(&statistics.mean, &[3.0, 5.0]);
        close(&statistics.sd, &[(8.0_f64 / 3.0).sqrt(), 0.0]);
        let narrow = Matrix::new(1, 1, vec![0.0]).unwrap();
        let error = per_gene_statistics(&[a, narrow]).unwrap_err();
        assert_eq!(error, ExpressionError::Genes { slide: 1, expected: 2, found: 1 });
        assert!(per_gene_statistics::<Matrix>(&[]).is_err());
    }

    #[test]
    fn names_in_files_are_snake_case() {
        assert_eq!(serde_json::to_string(&Normalization::Log1pCp10k).unwrap(), r#""log1p_cp10k""#);
        assert_eq!(serde_json::to_string(&Normalization::LogProportion).unwrap(), r#""log_proportion""#);
    }
}
