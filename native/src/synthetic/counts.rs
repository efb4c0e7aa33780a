//! Counts of the bins: what is expected, what is drawn, and the sums over large bins.

use magnet_core::expression::{CountMatrix, ExpressionError, Matrix, Normalization};
use magnet_core::random::stream;
use rand::Rng;
use rand_distr::{Distribution, Gamma, LogNormal, Poisson};
use rayon::prelude::*;

use super::morphology::{BinGrid, Morphology};
use super::program::{Program, library_sizes};

/// Spread of the library size that nothing in the image explains: standard deviation of its logarithm.
const LIBRARY_SPREAD: f64 = 0.15;

/// The noise-free truth of one slide at one bin size.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The grid of bins.
    pub grid: BinGrid,
    /// Positions in the grid (row-major) of the bins on tissue, ascending; one row of `expected` each.
    pub in_tissue: Vec<usize>,
    /// Expected counts, bins × genes.
    pub expected: Matrix,
}

impl Truth {
    /// Expected counts of the small bins, with `depth` counts per bin in the mean.
    pub fn of(program: &Program, morphology: &Morphology, depth: f64) -> Self {
        let genes = program.genes.len();
        let mut values = program.shares(morphology);
        let libraries = library_sizes(morphology, depth);
        for (row, library) in values.chunks_exact_mut(genes.max(1)).zip(&libraries) {
            row.iter_mut().for_each(|value| *value *= library);
        }
        Self {
            grid: morphology.grid,
            in_tissue: morphology.in_tissue.clone(),
            expected: Matrix { rows: libraries.len(), cols: genes, values },
        }
    }

    /// The same at twice the bin size: sums over four bins each.
    pub fn wide(&self) -> Self {
        let (in_tissue, parents) = wide_bins(self.grid, &self.in_tissue);
        let cols = self.expected.cols;
        let mut values = vec![0.0f32; in_tissue.len() * cols];
        for (row, &parent) in parents.iter().enumerate() {
            let start = parent as usize * cols;
            let sums = &mut values[start..start + cols];
            sums.iter_mut().zip(self.expected.row(row)).for_each(|(sum, value)| *sum += value);
        }
        let rows = in_tissue.len();
        Self { grid: self.grid.wide(), in_tissue, expected: Matrix { rows, cols, values } }
    }

    /// The labels that the expected counts have over all genes: what a perfect predictor would say. The Pearson
    /// correlation of these with the labels of the drawn counts is the ceiling for any predictor.
    pub fn labels(&self, normalization: Normalization) -> Matrix {
        let mut labels = self.expected.clone();
        for row in labels.values.chunks_exact_mut(labels.cols.max(1)) {
            match normalization {
                Normalization::Log1pCp10k => {
                    let total = row.iter().sum::<f32>().max(f32::MIN_POSITIVE);
                    row.iter_mut().for_each(|value| *value = (1e4 * *value / total).ln_1p());
                }
                Normalization::LogProportion => {
                    let total: f32 = row.iter().map(|value| value + 1.0).sum();
                    row.iter_mut().for_each(|value| *value = ((*value + 1.0) / total).ln());
                }
                Normalization::AsGiven => {}
            }
        }
        labels
    }

    /// Draws counts of the small bins: negative binomial around the expectation, with a library size that varies at
    /// random as well.
    ///
    /// # Errors
    /// When a drawn value is no count, which only an infinite expectation brings about.
    pub fn draw(&self, program: &Program, slide_seed: u64) -> Result<CountMatrix, ExpressionError> {
        let rows: Vec<Vec<(u32, f32)>> = (0..self.expected.rows)
            .into_par_iter()
            .map(|row| {
                let mut rng = stream(slide_seed, "counts", &[row as u64]);
                let spread = -0.5 * LIBRARY_SPREAD * LIBRARY_SPREAD;
                let library = LogNormal::new(spread, LIBRARY_SPREAD).map_or(1.0, |law| law.sample(&mut rng));
                let expected = (0..).zip(self.expected.row(row)).zip(&program.genes);
                expected
                    .map(|((column, &mean), gene)| {
                        (column, draw_count(f64::from(mean) * library, gene.dispersion, &mut rng))
                    })
                    .collect()
            })
            .collect();
        CountMatrix::from_rows(self.expected.cols, rows)
    }
}

/// A negative binomial count as a Poisson count of a gamma-distributed mean.
fn draw_count(mean: f64, dispersion: f64, rng: &mut impl Rng) -> f32 {
    let mean = if dispersion > 0.0 {
        Gamma::new(1.0 / dispersion, dispersion * mean).map_or(mean, |law| law.sample(rng))
    } else {
        mean
    };
    Poisson::new(mean).map_or(0.0, |law| law.sample(rng)) as f32
}

/// The counts of large bins on tissue as the sums of the small ones, with their positions in the large grid.
///
/// # Errors
/// When `counts` does not have one row per bin.
pub fn wide_counts(
    grid: BinGrid,
    in_tissue: &[usize],
    counts: &CountMatrix,
) -> Result<(Vec<usize>, CountMatrix), ExpressionError> {
    let (wide, parents) = wide_bins(grid, in_tissue);
    let sums = counts.aggregate(&parents, wide.len())?;
    Ok((wide, sums))
}

/// Positions of the large bins that hold small bins on tissue, ascending, and for each small bin its row among them.
fn wide_bins(grid: BinGrid, in_tissue: &[usize]) -> (Vec<usize>, Vec<u32>) {
    let wide_side = grid.wide().side;
    let parent = |index: usize| (index / grid.side / 2) * wide_side + (index % grid.side) / 2;
    let mut wide: Vec<usize> = in_tissue.iter().map(|&index| parent(index)).collect();
    wide.sort_unstable();
    wide.dedup();
    let row = |index: usize| wide.partition_point(|&other| other < parent(index)) as u32;
    let parents = in_tissue.iter().map(|&index| row(index)).collect();
    (wide, parents)
}
