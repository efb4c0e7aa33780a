//! Which genes a model learns, chosen on the training slides alone.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::labels::log1p_cp10k;
use super::{CountMatrix, ExpressionError, ValueKind};
use crate::gene_panel::GenePanel;

/// How the genes of a panel are ranked: by log1p CP10K of counts, by normalised values as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneSelection {
    /// Highest mean over all training observations together: a deep observation weighs no more than a shallow one.
    #[default]
    HighestMean,
    /// Highest variance over all training observations together.
    MostVariable,
}

/// The genes that all of several slides measured. Two slides are matched by stable id where both have ids of their own,
/// and by symbol where one has only symbols.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommonGenes {
    /// For each slide, the columns of the common genes, in the order of the first slide.
    pub columns: Vec<Vec<u32>>,
    /// Symbols of the genes of the first slide that another slide lacks.
    pub left_out: Vec<String>,
}

impl CommonGenes {
    /// Compares the genes of `slides`.
    pub fn of(slides: &[&GenePanel]) -> Self {
        let Some((first, others)) = slides.split_first() else { return Self::default() };
        let found: Vec<Vec<Option<u32>>> = others.iter().map(|other| columns_of(first, other)).collect();
        let mut common = Self { columns: vec![Vec::new(); slides.len()], left_out: Vec::new() };
        for (gene, symbol) in first.symbols.iter().enumerate() {
            let in_others: Option<Vec<u32>> =
                found.iter().map(|columns| columns.get(gene).copied().flatten()).collect();
            let Some(in_others) = in_others else {
                common.left_out.push(symbol.clone());
                continue;
            };
            for (columns, column) in common.columns.iter_mut().zip([gene as u32].into_iter().chain(in_others))
            {
                columns.push(column);
            }
        }
        common
    }

    /// How many genes are common to all slides.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Whether no gene is common to all slides.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// For each gene of `first` its column in `other`.
fn columns_of(first: &GenePanel, other: &GenePanel) -> Vec<Option<u32>> {
    let has_ids = |panel: &GenePanel| panel.ids != panel.symbols;
    let (wanted, there) = if has_ids(first) && has_ids(other) {
        (&first.ids, &other.ids)
    } else {
        (&first.symbols, &other.symbols)
    };
    let columns: HashMap<&str, u32> = there.iter().map(String::as_str).zip(0..).collect();
    wanted.iter().map(|name| columns.get(name.as_str()).copied()).collect()
}

impl GeneSelection {
    /// The `genes` best genes among those that all `slides` and all of `others` measured, best first; ties go to the
    /// gene that stands earlier in the first slide. Names are those of the first slide; only `slides` are scored, whose
    /// numbers are `values`.
    ///
    /// # Errors
    /// When fewer than `genes` genes are common to all, there is no observation, or counts and gene names of a slide do
    /// not match.
    pub fn select(
        self,
        slides: &[(&CountMatrix, &GenePanel)],
        values: ValueKind,
        others: &[&GenePanel],
        genes: usize,
    ) -> Result<GenePanel, ExpressionError> {
        for (slide, (counts, names)) in slides.iter().enumerate() {
            if counts.genes != names.len() {
                let (columns, genes) = (counts.genes, names.len());
                return Err(ExpressionError::GeneNames { slide, columns, genes });
            }
        }
        let Some((_, first)) = slides.first() else {
            return Err(ExpressionError::NoObservations { slides: 0 });
        };
        let observations: usize = slides.iter().map(|(counts, _)| counts.rows()).sum();
        if observations == 0 {
            return Err(ExpressionError::NoObservations { slides: slides.len() });
        }
        let panels: Vec<&GenePanel> =
            slides.iter().map(|slide| slide.1).chain(others.iter().copied()).collect();
        let common = CommonGenes::of(&panels);
        if common.len() < genes {
            let (common, slides) = (common.len(), panels.len());
            return Err(ExpressionError::TooFewGenes { wanted: genes, common, slides });
        }
        let mut ranked = self.rank(&gene_moments(slides, values, &common));
        ranked.truncate(genes);
        let names =
            |of: &[String]| ranked.iter().map(|&gene| of[common.columns[0][gene] as usize].clone()).collect();
        Ok(GenePanel::new(names(&first.ids), names(&first.symbols))?)
    }

    /// Positions of all genes, best first; equal ones stay in their order.
    pub fn rank(self, moments: &[GeneMoments]) -> Vec<usize> {
        let score = |gene: usize| match self {
            GeneSelection::HighestMean => moments[gene].mean,
            GeneSelection::MostVariable => moments[gene].variance,
        };
        let mut ranked: Vec<usize> = (0..moments.len()).collect();
        ranked.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        ranked
    }
}

/// What all observations of all slides together say of one gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeneMoments {
    /// Mean, in label units: log1p CP10K of counts, normalised values as they are.
    pub mean: f64,
    /// Population variance, in squared label units.
    pub variance: f64,
    /// Part of the observations in which the value is not 0.
    pub detected: f64,
}

impl GeneMoments {
    /// Variance as a multiple of the mean; NaN for a gene whose mean is 0.
    pub fn dispersion(&self) -> f64 {
        if self.mean == 0.0 { f64::NAN } else { self.variance / self.mean }
    }
}

/// The moments of every gene that is `common` to the slides, whose numbers are `values`; NaN without an observation.
pub fn gene_moments(
    slides: &[(&CountMatrix, &GenePanel)],
    values: ValueKind,
    common: &CommonGenes,
) -> Vec<GeneMoments> {
    let mut totals = vec![Sums::default(); common.len()];
    let mut observations = 0;
    for ((counts, _), common) in slides.iter().zip(&common.columns) {
        observations += counts.rows();
        let mut sums = vec![Sums::default(); counts.genes];
        for row in 0..counts.rows() {
            let total = counts.total(row);
            let (columns, stored) = counts.row(row);
            for (&column, &count) in columns.iter().zip(stored) {
                let value = match values {
                    ValueKind::Counts => log1p_cp10k(count, total),
                    ValueKind::Normalized => f64::from(count),
                };
                if let Some(sums) = sums.get_mut(column as usize) {
                    sums.values += value;
                    sums.squares += value * value;
                    sums.nonzero += u64::from(value != 0.0);
                }
            }
        }
        for (total, &column) in totals.iter_mut().zip(common) {
            let Some(sums) = sums.get(column as usize) else { continue };
            total.values += sums.values;
            total.squares += sums.squares;
            total.nonzero += sums.nonzero;
        }
    }
    let n = observations as f64;
    let moments = |sums: Sums| GeneMoments {
        mean: sums.values / n,
        variance: sums.squares / n - (sums.values / n).powi(2),
        detected: sums.nonzero as f64 / n,
    };
    totals.into_iter().map(moments).collect()
}

/// Sums over the observations of one gene.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    values: f64,
    squares: f64,
    nonzero: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(ids: &[&str]) -> GenePanel {
        let names: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
        GenePanel::new(names.clone(), names).unwrap()
    }

    fn counts(rows: &[&[f32]]) -> CountMatrix {
        CountMatrix::from_rows(rows[0].len(), rows.iter().map(|row| (0..).zip(row.iter().copied()))).unwrap()
    }

    #[test]
    fn the_mean_is_over_the_observations_of_all_slides_and_needs_common_genes() {
        // Sums of log1p CP10K of a, b, c: 22.5, 6.8, 14.2; `only` has the most counts but stands in one slide.
        let one = counts(&[&[1.0, 9.0, 4.0, 90.0], &[2.0, 0.0, 0.0, 0.0]]);
        let two = counts(&[&[2.0, 3.0, 0.0]]);
        let slides = [(&one, &panel(&["a", "b", "c", "only"])), (&two, &panel(&["c", "a", "b"]))];
        let chosen = GeneSelection::HighestMean.select(&slides, ValueKind::Counts, &[], 3).unwrap();
        assert_eq!(chosen.ids, ["a", "c", "b"]);
        let error = GeneSelection::HighestMean.select(&slides, ValueKind::Counts, &[], 4).unwrap_err();
        assert_eq!(error, ExpressionError::TooFewGenes { wanted: 4, common: 3, slides: 2 });
    }

    #[test]
    fn the_variance_is_that_of_log1p_cp10k() {
        // `steady` has the highest mean and half of each library; `varied` goes from 10 to 40 %, `rest` from 40 to 10.
        let one = counts(&[&[50.0, 10.0, 40.0], &[500.0, 400.0, 100.0], &[500.0, 400.0, 100.0]]);
        let names = panel(&["steady", "varied", "rest"]);
        let chosen =
            GeneSelection::MostVariable.select(&[(&one, &names)], ValueKind::Counts, &[], 3).unwrap();
        assert_eq!(chosen.ids.last().map(String::as_str), Some("steady"));
        assert_eq!(
            GeneSelection::HighestMean.select(&[(&one, &names)], ValueKind::Counts, &[], 1).unwrap().ids,
            ["steady"]
        );
    }

    #[test]
    fn normalised_values_are_ranked_as_they_are() {
        // The second gene has the larger values, and the wider spread.
        let one = counts(&[&[1.0, 3.0], &[10.0, 30.0], &[3.0, 1.0]]);
        let negative = CountMatrix { values: one.values.iter().map(|value| -value).collect(), ..one.clone() };
        let names = panel(&["a", "b"]);
        let first = |rule: GeneSelection, values, counts: &CountMatrix| {
            rule.select(&[(counts, &names)], values, &[], 1).unwrap().ids[0].clone()
        };
        assert_eq!(first(GeneSelection::MostVariable, ValueKind::Normalized, &one), "b");
        assert_eq!(first(GeneSelection::HighestMean, ValueKind::Normalized, &one), "b");
        assert_eq!(first(GeneSelection::HighestMean, ValueKind::Normalized, &negative), "a");
    }

    #[test]
    fn slides_without_matching_names_or_observations_are_refused() {
        let one = counts(&[&[1.0, 2.0]]);
        let names = panel(&["a"]);
        assert!(GeneSelection::HighestMean.select(&[(&one, &names)], ValueKind::Counts, &[], 1).is_err());
        assert!(GeneSelection::HighestMean.select(&[], ValueKind::Counts, &[], 1).is_err());
        let none = CountMatrix::from_rows(1, Vec::<Vec<(u32, f32)>>::new()).unwrap();
        assert!(GeneSelection::HighestMean.select(&[(&none, &names)], ValueKind::Counts, &[], 1).is_err());
    }

    #[test]
    fn genes_are_common_by_id_where_both_slides_have_ids_and_else_by_symbol() {
        let named = |ids: &[&str], symbols: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
            GenePanel::new(owned(ids), owned(symbols)).unwrap()
        };
        let one = named(&["E1", "E2", "E3"], &["A", "B", "C"]);
        // A symbol that was renamed, and one that another gene has now.
        let other = named(&["E3", "E1", "E9"], &["B", "A2", "C"]);
        let bare = named(&["C", "A"], &["C", "A"]);
        let common = CommonGenes::of(&[&one, &other]);
        assert_eq!(common.columns, [vec![0, 2], vec![1, 0]]);
        assert_eq!(common.left_out, ["B"]);
        assert_eq!(CommonGenes::of(&[&one, &bare]).columns, [vec![0, 2], vec![1, 0]]);
        assert_eq!(CommonGenes::of(&[&one, &other, &bare]).len(), 2);
        assert!(CommonGenes::of(&[]).is_empty());
    }

    #[test]
    fn genes_that_a_slide_beside_the_training_lacks_are_not_chosen() {
        let one = counts(&[&[9.0, 5.0, 1.0]]);
        let names = panel(&["a", "b", "c"]);
        let held_out = panel(&["c", "b"]);
        let chosen =
            GeneSelection::HighestMean.select(&[(&one, &names)], ValueKind::Counts, &[&held_out], 2).unwrap();
        assert_eq!(chosen.ids, ["b", "c"]);
    }

    #[test]
    fn moments_are_those_of_all_observations_together() {
        let genes = GenePanel::new(vec!["a".into(), "b".into()], vec!["a".into(), "b".into()]).unwrap();
        let first = CountMatrix::from_rows(2, [vec![(0_u32, 1.0_f32)], vec![(0, 3.0), (1, 2.0)]]).unwrap();
        let second = CountMatrix::from_rows(2, [vec![(1_u32, 4.0_f32)], vec![]]).unwrap();
        let slides = [(&first, &genes), (&second, &genes)];
        let common = CommonGenes::of(&[&genes, &genes]);
        let moments = gene_moments(&slides, ValueKind::Normalized, &common);
        // 1, 3, 0, 0: mean 1, mean square 2.5. 0, 2, 4, 0: mean 1.5, mean square 5.
        assert_eq!(moments[0], GeneMoments { mean: 1.0, variance: 1.5, detected: 0.5 });
        assert_eq!(moments[1], GeneMoments { mean: 1.5, variance: 2.75, detected: 0.5 });
        assert_eq!(moments[0].dispersion(), 1.5);
        assert_eq!(GeneSelection::HighestMean.rank(&moments), [1, 0]);
        let counts = gene_moments(&slides[..1], ValueKind::Counts, &CommonGenes::of(&[&genes]));
        // All counts of the first row, three of five of the second.
        assert!((counts[0].mean - (10_001.0_f64.ln() + 6_001.0_f64.ln()) / 2.0).abs() < 1e-9);
    }
}
