//! Scores of predicted against measured expression.
//!
//! The paper's Pearson (`pcc_spot`: per observation over the genes) is mostly the difference between the genes'
//! means, which a predictor of the training mean has too. The Pearson per gene over the observations is what such a
//! predictor cannot win, so both stand side by side, with the training-mean predictor's scores beside them.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::expression::Matrix;

/// Scores of one level over the held-out slides.
///
/// A correlation that is defined nowhere (no gene or no observation varies) is NaN, and `null` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelScores {
    /// Mean squared error over all observations and genes, in squared label units.
    #[serde(deserialize_with = "nan_from_null")]
    pub mse: f64,
    /// Mean absolute error over all observations and genes, in label units.
    #[serde(deserialize_with = "nan_from_null")]
    pub mae: f64,
    /// Pearson over the genes, per observation; mean over the observations of all slides.
    #[serde(deserialize_with = "nan_from_null")]
    pub pcc_spot: f64,
    /// Pearson over the observations, per gene: mean over the genes of [`GeneScore::pcc`].
    #[serde(deserialize_with = "nan_from_null")]
    pub pcc_gene_mean: f64,
    /// The median over the genes instead.
    #[serde(deserialize_with = "nan_from_null")]
    pub pcc_gene_median: f64,
    /// Number of observations.
    pub n: usize,
    /// The same scores of the predictor that gives every observation the training mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_predictor: Option<Box<LevelScores>>,
}

/// Scores of one gene over the held-out slides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneScore {
    /// Pearson over the observations of a slide, averaged over the slides where it is defined; NaN (`null` in JSON)
    /// where the measurement varies in no slide.
    ///
    /// Slides are not pooled: that would reward a predictor for the shift between slides, which is mostly technical.
    #[serde(deserialize_with = "nan_from_null")]
    pub pcc: f64,
    /// Mean squared error over all observations.
    pub mse: f64,
    /// Mean absolute error over all observations.
    pub mae: f64,
    /// Mean of the measurement over all observations.
    pub measured_mean: f64,
    /// Population standard deviation of the measurement over all observations.
    pub measured_sd: f64,
    /// Mean of the prediction over all observations.
    pub predicted_mean: f64,
    /// Population standard deviation of the prediction over all observations.
    pub predicted_sd: f64,
}

/// All scores of one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The level's summary.
    pub scores: LevelScores,
    /// One entry per gene, in panel order.
    pub genes: Vec<GeneScore>,
    /// Genes whose measurement is constant in every slide; they are left out of `pcc_gene_mean` and its median.
    pub undefined_genes: usize,
    /// Observations whose measurement is the same for all genes; they are left out of `pcc_spot`.
    pub undefined_observations: usize,
}

/// What is predicted and what is measured on one slide, both `[N,G]` in label units.
#[derive(Debug, Clone, Copy)]
pub struct ScoredSlide<'a> {
    /// The prediction.
    pub predicted: &'a Matrix,
    /// The measurement.
    pub measured: &'a Matrix,
}

/// Why there is no score.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MetricsError {
    /// No observation or no gene to score.
    #[error("scores: nothing to score in {slides} slides (no observation or no gene)")]
    Empty {
        /// Number of slides.
        slides: usize,
    },
    /// A prediction of another shape than its measurement, or slides with different genes.
    #[error("scores: slide {slide}: the {what} is {found:?}, expected {expected:?} (observations, genes)")]
    Shape {
        /// Which slide.
        slide: usize,
        /// Which side.
        what: &'static str,
        /// Rows and columns wanted.
        expected: (usize, usize),
        /// Rows and columns found.
        found: (usize, usize),
    },
    /// A number that is no expression.
    #[error("scores: slide {slide}: the {what} of observation {row}, gene {gene} is {value}")]
    NotFinite {
        /// Which slide.
        slide: usize,
        /// Which side.
        what: &'static str,
        /// Observation.
        row: usize,
        /// Gene.
        gene: usize,
        /// What stands there.
        value: f32,
    },
}

/// Pearson's correlation of pairs (prediction, measurement): 0 where only the prediction is constant, `None` where the
/// measurement is, or where there is no pair.
pub fn pearson(pairs: impl Iterator<Item = (f32, f32)>) -> Option<f64> {
    let mut moments = Moments::default();
    pairs.for_each(|(predicted, measured)| moments.add(predicted, measured));
    moments.pearson()
}

/// Scores predictions of one level against the measurement.
///
/// # Errors
/// When there is nothing to score, shapes differ, or a number is not finite.
pub fn evaluate(slides: &[ScoredSlide<'_>]) -> Result<Evaluation, MetricsError> {
    let genes = check(slides)?;
    let observations: usize = slides.iter().map(|slide| slide.measured.rows).sum();

    let mut columns = vec![GeneSums::default(); genes];
    let (mut spot_sum, mut spots_defined) = (0.0, 0_usize);
    for slide in slides {
        // Row by row, because a walk down each column would touch a large slide once per gene.
        let mut within_slide = vec![Moments::default(); genes];
        for row in 0..slide.measured.rows {
            let pairs = slide.predicted.row(row).iter().copied().zip(slide.measured.row(row).iter().copied());
            if let Some(pcc) = pearson(pairs.clone()) {
                spot_sum += pcc;
                spots_defined += 1;
            }
            for ((sums, within), (predicted, measured)) in
                columns.iter_mut().zip(&mut within_slide).zip(pairs)
            {
                sums.add(predicted, measured);
                within.add(predicted, measured);
            }
        }
        for (sums, pcc) in columns.iter_mut().zip(within_slide.iter().map(Moments::pearson)) {
            sums.pcc_sum += pcc.unwrap_or_default();
            sums.slides_defined += usize::from(pcc.is_some());
        }
    }

    let genes: Vec<GeneScore> = columns.iter().map(|sums| sums.score(observations)).collect();
    let mut defined: Vec<f64> = genes.iter().map(|gene| gene.pcc).filter(|pcc| !pcc.is_nan()).collect();
    defined.sort_by(f64::total_cmp);
    let mean_over_genes =
        |score: fn(&GeneScore) -> f64| genes.iter().map(score).sum::<f64>() / genes.len() as f64;
    let scores = LevelScores {
        mse: mean_over_genes(|gene| gene.mse),
        mae: mean_over_genes(|gene| gene.mae),
        pcc_spot: spot_sum / spots_defined as f64,
        pcc_gene_mean: defined.iter().sum::<f64>() / defined.len() as f64,
        pcc_gene_median: median(&defined),
        n: observations,
        mean_predictor: None,
    };
    let undefined_genes = genes.len() - defined.len();
    Ok(Evaluation { scores, genes, undefined_genes, undefined_observations: observations - spots_defined })
}

/// As [`evaluate`], with the scores of the predictor that gives every observation `training_mean` (`[G]`) beside.
///
/// # Errors
/// As [`evaluate`], and when the mean has another number of genes.
pub fn evaluate_beside_mean(
    slides: &[ScoredSlide<'_>],
    training_mean: &[f32],
) -> Result<Evaluation, MetricsError> {
    let mut evaluation = evaluate(slides)?;
    let means: Vec<Matrix> =
        slides.iter().map(|slide| Matrix::repeat_row(training_mean, slide.measured.rows)).collect();
    let baseline: Vec<_> = slides
        .iter()
        .zip(&means)
        .map(|(slide, mean)| ScoredSlide { predicted: mean, measured: slide.measured })
        .collect();
    evaluation.scores.mean_predictor = Some(Box::new(evaluate(&baseline)?.scores));
    Ok(evaluation)
}

/// Checks shapes and values; the number of genes.
fn check(slides: &[ScoredSlide<'_>]) -> Result<usize, MetricsError> {
    let genes = slides.first().map_or(0, |slide| slide.measured.cols);
    if genes == 0 || slides.iter().all(|slide| slide.measured.rows == 0) {
        return Err(MetricsError::Empty { slides: slides.len() });
    }
    for (index, slide) in slides.iter().enumerate() {
        let expected = (slide.measured.rows, genes);
        for (what, matrix) in [("measurement", slide.measured), ("prediction", slide.predicted)] {
            let found = (matrix.rows, matrix.cols);
            if found != expected || matrix.values.len() != matrix.rows * matrix.cols {
                return Err(MetricsError::Shape { slide: index, what, expected, found });
            }
            if let Some(place) = matrix.values.iter().position(|value| !value.is_finite()) {
                let (row, gene, value) = (place / genes, place % genes, matrix.values[place]);
                return Err(MetricsError::NotFinite { slide: index, what, row, gene, value });
            }
        }
    }
    Ok(genes)
}

/// What is summed for one gene.
#[derive(Debug, Clone, Default)]
struct GeneSums {
    squared_error: f64,
    absolute_error: f64,
    /// Over the observations of all slides.
    pooled: Moments,
    /// Over the slides where the correlation is defined.
    pcc_sum: f64,
    slides_defined: usize,
}

impl GeneSums {
    fn add(&mut self, predicted: f32, measured: f32) {
        let error = f64::from(predicted) - f64::from(measured);
        self.squared_error += error * error;
        self.absolute_error += error.abs();
        self.pooled.add(predicted, measured);
    }

    fn score(&self, observations: usize) -> GeneScore {
        let n = observations as f64;
        GeneScore {
            pcc: self.pcc_sum / self.slides_defined as f64,
            mse: self.squared_error / n,
            mae: self.absolute_error / n,
            measured_mean: self.pooled.mean.1,
            measured_sd: (self.pooled.squares.1 / n).sqrt(),
            predicted_mean: self.pooled.mean.0,
            predicted_sd: (self.pooled.squares.0 / n).sqrt(),
        }
    }
}

/// Means, and sums of squares and products about them, of pairs (prediction, measurement), by Welford's update.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: f64,
    mean: (f64, f64),
    squares: (f64, f64),
    products: f64,
    first: (f32, f32),
    /// Whether any value differs from the first, which the rounded sums cannot tell.
    varies: (bool, bool),
}

impl Moments {
    fn add(&mut self, predicted: f32, measured: f32) {
        if self.n == 0.0 {
            self.first = (predicted, measured);
        }
        self.varies.0 |= predicted != self.first.0;
        self.varies.1 |= measured != self.first.1;
        self.n += 1.0;
        let (predicted, measured) = (f64::from(predicted), f64::from(measured));
        let off = (predicted - self.mean.0, measured - self.mean.1);
        self.mean.0 += off.0 / self.n;
        self.mean.1 += off.1 / self.n;
        self.squares.0 += off.0 * (predicted - self.mean.0);
        self.squares.1 += off.1 * (measured - self.mean.1);
        self.products += off.0 * (measured - self.mean.1);
    }

    fn pearson(&self) -> Option<f64> {
        match self.varies {
            (_, false) => None,
            (false, true) => Some(0.0),
            (true, true) => {
                Some((self.products / (self.squares.0.sqrt() * self.squares.1.sqrt())).clamp(-1.0, 1.0))
            }
        }
    }
}

/// The median of sorted values; NaN of none.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(&upper), Some(&lower)) if sorted.len().is_multiple_of(2) => (lower + upper) / 2.0,
        (Some(&upper), _) => upper,
        (None, _) => f64::NAN,
    }
}

/// JSON has no NaN; serde writes it as `null`, and this reads it back.
fn nan_from_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(rows: &[&[f32]]) -> Matrix {
        Matrix::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    fn score(slides: &[(&Matrix, &Matrix)]) -> Evaluation {
        let slides: Vec<_> =
            slides.iter().map(|&(predicted, measured)| ScoredSlide { predicted, measured }).collect();
        evaluate(&slides).unwrap()
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
    }

    #[test]
    fn scores_match_a_calculation_by_hand() {
        // Errors: 1 0 0 / 0 −2 0.
        let measured = matrix(&[&[0.0, 2.0, 4.0], &[1.0, 3.0, 2.0]]);
        let predicted = matrix(&[&[1.0, 2.0, 4.0], &[1.0, 1.0, 2.0]]);
        let found = score(&[(&predicted, &measured)]);
        close(found.scores.mse, 5.0 / 6.0);
        close(found.scores.mae, 0.5);
        // Row 0: (−4/3, −1/3, 5/3)·(−2, 0, 2) = 6; |·|² = 14/3 and 8. Row 1: (−1, −1, 2)/3·(−1, 1, 0) = 0.
        close(found.scores.pcc_spot, (6.0 / (14.0_f64 / 3.0 * 8.0).sqrt() + 0.0) / 2.0);
        // Gene 0 is predicted as a constant; genes 1 and 2 fall and rise together.
        let pcc: Vec<f64> = found.genes.iter().map(|gene| gene.pcc).collect();
        close(pcc[0], 0.0);
        close(pcc[1], -1.0);
        close(pcc[2], 1.0);
        close(found.scores.pcc_gene_mean, 0.0);
        close(found.scores.pcc_gene_median, 0.0);
        assert_eq!((found.scores.n, found.undefined_genes, found.undefined_observations), (2, 0, 0));
        let gene = &found.genes[1];
        close(gene.mse, 2.0);
        close(gene.mae, 1.0);
        close(gene.measured_mean, 2.5);
        close(gene.measured_sd, 0.5);
        close(gene.predicted_mean, 1.5);
        close(gene.predicted_sd, 0.5);
    }

    #[test]
    fn genes_that_do_not_vary_are_left_out_and_counted() {
        let measured = matrix(&[&[1.0, 7.0, 1.0], &[2.0, 7.0, 1.0]]);
        let predicted = matrix(&[&[1.0, 3.0, 5.0], &[2.0, 4.0, 5.0]]);
        let found = score(&[(&predicted, &measured)]);
        assert_eq!(found.undefined_genes, 2);
        assert!(found.genes[1].pcc.is_nan());
        close(found.scores.pcc_gene_mean, 1.0);
        let flat = matrix(&[&[0.1, 0.1], &[0.2, 0.2]]);
        let found = score(&[(&flat, &flat)]);
        assert_eq!(found.undefined_observations, 2);
        assert!(found.scores.pcc_spot.is_nan());
    }

    #[test]
    fn shifts_between_slides_earn_nothing() {
        // Within each slide the prediction is reversed; pooled, it would correlate at nearly 1.
        let low = (matrix(&[&[1.0], &[2.0]]), matrix(&[&[2.0], &[1.0]]));
        let high = (matrix(&[&[101.0], &[102.0]]), matrix(&[&[102.0], &[101.0]]));
        let found = score(&[(&low.0, &low.1), (&high.0, &high.1)]);
        close(found.scores.pcc_gene_mean, -1.0);
    }

    #[test]
    fn a_slide_in_which_a_gene_does_not_vary_does_not_count_for_it() {
        let varied = (matrix(&[&[1.0], &[2.0]]), matrix(&[&[1.0], &[2.0]]));
        let constant = (matrix(&[&[1.0], &[2.0]]), matrix(&[&[5.0], &[5.0]]));
        let found = score(&[(&varied.0, &varied.1), (&constant.0, &constant.1)]);
        close(found.genes[0].pcc, 1.0);
    }

    #[test]
    fn the_mean_predictor_stands_beside_and_scores_zero_per_gene() {
        let measured = matrix(&[&[0.1, 2.3], &[0.7, 3.1], &[0.4, 2.2]]);
        let slides = [ScoredSlide { predicted: &measured, measured: &measured }];
        let found = evaluate_beside_mean(&slides, &[0.4, 2.5]).unwrap();
        close(found.scores.mse, 0.0);
        close(found.scores.pcc_gene_mean, 1.0);
        let mean = found.scores.mean_predictor.unwrap();
        close(mean.pcc_gene_mean, 0.0);
        close(mean.pcc_spot, 1.0);
        assert!(evaluate_beside_mean(&slides, &[0.4]).is_err());
    }

    #[test]
    fn the_json_has_exactly_the_documented_fields() {
        let measured = matrix(&[&[0.0, 2.0], &[1.0, 3.0]]);
        let slides = [ScoredSlide { predicted: &measured, measured: &measured }];
        let found = evaluate_beside_mean(&slides, &[0.5, 2.5]).unwrap().scores;
        let json = serde_json::to_value(&found).unwrap();
        let fields =
            |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut own = vec!["mse", "mae", "pcc_spot", "pcc_gene_mean", "pcc_gene_median", "n"];
        own.sort_unstable();
        let mut nested = fields(&json["mean_predictor"]);
        nested.sort_unstable();
        assert_eq!(nested, own);
        own.push("mean_predictor");
        own.sort_unstable();
        let mut all = fields(&json);
        all.sort_unstable();
        assert_eq!(all, own);
        assert_eq!(serde_json::from_value::<LevelScores>(json).unwrap(), found);
    }

    #[test]
    fn an_undefined_score_is_null_in_json_and_comes_back_as_nan() {
        let flat = matrix(&[&[1.0], &[1.0]]);
        let scores = score(&[(&flat, &flat)]).scores;
        let json = serde_json::to_string(&scores).unwrap();
        assert!(json.contains(r#""pcc_gene_mean":null"#), "{json}");
        assert!(serde_json::from_str::<LevelScores>(&json).unwrap().pcc_gene_mean.is_nan());
    }

    #[test]
    fn mismatched_and_broken_numbers_are_refused() {
        let good = matrix(&[&[1.0, 2.0]]);
        let narrow = matrix(&[&[1.0]]);
        let nan = matrix(&[&[1.0, f32::NAN]]);
        let refused = |predicted, measured| evaluate(&[ScoredSlide { predicted, measured }]).unwrap_err();
        assert!(matches!(refused(&narrow, &good), MetricsError::Shape { what: "prediction", .. }));
        assert!(matches!(refused(&nan, &good), MetricsError::NotFinite { row: 0, gene: 1, .. }));
        assert!(matches!(evaluate(&[]), Err(MetricsError::Empty { slides: 0 })));
    }

    proptest! {
        #[test]
        fn pearson_is_symmetric_bounded_and_blind_to_scale(
            pairs in prop::collection::vec((-5.0..5.0_f32, -5.0..5.0_f32), 2..40),
            scale in 0.5..4.0_f32,
        ) {
            let direct = pearson(pairs.iter().copied());
            let swapped = pearson(pairs.iter().map(|&(a, b)| (b, a)));
            let scaled = pearson(pairs.iter().map(|&(a, b)| (a * scale, b)));
            if let (Some(direct), Some(swapped), Some(scaled)) = (direct, swapped, scaled) {
                prop_assert!((-1.0..=1.0).contains(&direct));
                prop_assert!((direct - swapped).abs() < 1e-9);
                prop_assert!((direct - scaled).abs() < 1e-4);
            }
        }
    }
}
