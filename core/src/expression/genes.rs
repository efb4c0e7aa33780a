//! Which genes a model learns, chosen on the training slides alone.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::labels::log1p_cp10k;
use super::{CountMatrix, ExpressionError};
use crate::gene_panel::GenePanel;

/// How the genes of a panel are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneSelection {
    /// Highest mean of log1p CP10K over all training observations together: a deep observation weighs no more than a
    /// shallow one.
    #[default]
    HighestMean,
    /// Highest variance of log1p CP10K over all training observations together.
    MostVariable,
}

impl GeneSelection {
    /// The `genes` best genes among those that all `slides` measured, best first; ties go to the gene that stands
    /// earlier in the first slide. Genes are matched by id, and symbols are those of the first slide.
    ///
    /// # Errors
    /// When fewer than `genes` genes are common to all slides, there is no observation, or counts and gene names of a
    /// slide do not match.
    pub fn select(
        self,
        slides: &[(&CountMatrix, &GenePanel)],
        genes: usize,
    ) -> Result<GenePanel, ExpressionError> {
        for (slide, (counts, names)) in slides.iter().enumerate() {
            if counts.genes != names.len() {
                let (columns, genes) = (counts.genes, names.len());
                return Err(ExpressionError::GeneNames { slide, columns, genes });
            }
        }
        let Some(((_, first), others)) = slides.split_first() else {
            return Err(ExpressionError::NoObservations { slides: 0 });
        };
        let observations: usize = slides.iter().map(|(counts, _)| counts.rows()).sum();
        if observations == 0 {
            return Err(ExpressionError::NoObservations { slides: slides.len() });
        }

        let mut slides_with: HashMap<&str, usize> = first.ids.iter().map(|id| (id.as_str(), 1)).collect();
        for id in others.iter().flat_map(|(_, names)| &names.ids) {
            slides_with.entry(id).and_modify(|slides| *slides += 1);
        }
        let in_all = |id: &str| slides_with.get(id) == Some(&slides.len());
        let common: Vec<usize> = (0..first.len()).filter(|&gene| in_all(&first.ids[gene])).collect();
        if common.len() < genes {
            let (common, slides) = (common.len(), slides.len());
            return Err(ExpressionError::TooFewGenes { wanted: genes, common, slides });
        }

        let scores = self.scores(slides, observations);
        let score = |gene: usize| scores.get(first.ids[gene].as_str()).copied().unwrap_or_default();
        let mut ranked = common;
        // A stable sort: equal scores stay in the order of the first slide.
        ranked.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        ranked.truncate(genes);
        let names = |of: &[String]| ranked.iter().map(|&gene| of[gene].clone()).collect();
        Ok(GenePanel::new(names(&first.ids), names(&first.symbols))?)
    }

    /// The score of every gene id over the pooled observations.
    fn scores<'a>(
        self,
        slides: &[(&CountMatrix, &'a GenePanel)],
        observations: usize,
    ) -> HashMap<&'a str, f64> {
        let mut moments: HashMap<&str, (f64, f64)> = HashMap::new();
        for (counts, names) in slides {
            let mut sums = vec![(0.0, 0.0); counts.genes];
            for row in 0..counts.rows() {
                let total = counts.total(row);
                let (columns, values) = counts.row(row);
                for (&column, &count) in columns.iter().zip(values) {
                    let value = log1p_cp10k(count, total);
                    if let Some((sum, squares)) = sums.get_mut(column as usize) {
                        *sum += value;
                        *squares += value * value;
                    }
                }
            }
            for (id, (sum, squares)) in names.ids.iter().zip(sums) {
                let moment = moments.entry(id).or_default();
                *moment = (moment.0 + sum, moment.1 + squares);
            }
        }
        let n = observations as f64;
        let score = |(sum, squares): (f64, f64)| match self {
            GeneSelection::HighestMean => sum / n,
            GeneSelection::MostVariable => squares / n - (sum / n).powi(2),
        };
        moments.into_iter().map(|(id, moment)| (id, score(moment))).collect()
    }
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
        let chosen = GeneSelection::HighestMean.select(&slides, 3).unwrap();
        assert_eq!(chosen.ids, ["a", "c", "b"]);
        let error = GeneSelection::HighestMean.select(&slides, 4).unwrap_err();
        assert_eq!(error, ExpressionError::TooFewGenes { wanted: 4, common: 3, slides: 2 });
    }

    #[test]
    fn the_variance_is_that_of_log1p_cp10k() {
        // `steady` has the highest mean and half of each library; `varied` goes from 10 to 40 %, `rest` from 40 to 10.
        let one = counts(&[&[50.0, 10.0, 40.0], &[500.0, 400.0, 100.0], &[500.0, 400.0, 100.0]]);
        let names = panel(&["steady", "varied", "rest"]);
        let chosen = GeneSelection::MostVariable.select(&[(&one, &names)], 3).unwrap();
        assert_eq!(chosen.ids.last().map(String::as_str), Some("steady"));
        assert_eq!(GeneSelection::HighestMean.select(&[(&one, &names)], 1).unwrap().ids, ["steady"]);
    }

    #[test]
    fn slides_without_matching_names_or_observations_are_refused() {
        let one = counts(&[&[1.0, 2.0]]);
        let names = panel(&["a"]);
        assert!(GeneSelection::HighestMean.select(&[(&one, &names)], 1).is_err());
        assert!(GeneSelection::HighestMean.select(&[], 1).is_err());
        let none = CountMatrix::from_rows(1, Vec::<Vec<(u32, f32)>>::new()).unwrap();
        assert!(GeneSelection::HighestMean.select(&[(&none, &names)], 1).is_err());
    }
}
