//! The report: one HTML file that needs nothing else, to be read, printed or sent to a colleague.
//!
//! Callers fill in [`ReportInput`] and write what [`render`] returns. Everything is inline: styles, charts as SVG, maps
//! as PNG data. There is no script and no address of another file. All text goes through `element`, which escapes
//! it.

mod charts;
mod drawing;
mod element;
mod maps;
mod page;
pub mod paper;
mod style;
mod tables;

use anyhow::Result;
use magnet_core::Level;
use magnet_core::coordinates::SlideUm;
use magnet_core::heatmap::{ColorMap, Mark};
use magnet_core::metrics::{GeneScore, LevelScores};
use magnet_core::slide::SlideImage;

/// What a report says.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// The heading.
    pub title: String,
    /// One or two sentences: what was trained on which slides, and tested on which.
    pub summary: String,
    /// What the expression values are, such as `log1p CP10K`.
    pub units: String,
    /// Scores on the held-out slides, in the order of the table: by level, the model first.
    pub scores: Vec<ScoreRow>,
    /// One row per gene of the panel, at the bin level.
    pub genes: Vec<GeneRow>,
    /// Training, epoch by epoch.
    pub training: Vec<TrainingRow>,
    /// Held-out slides with the maps of a few genes.
    pub slides: Vec<SlideMaps>,
    /// The colour map of all maps.
    pub color_map: ColorMap,
    /// Settings, digests, versions.
    pub details: Vec<DetailGroup>,
    /// What else a reader must know, one paragraph each.
    pub notes: Vec<String>,
}

/// Scores of one predictor at one level. NaN stands for a score that is not defined.
#[derive(Debug, Clone)]
pub struct ScoreRow {
    /// The level.
    pub level: Level,
    /// Who predicted: `MagNet`, `mean predictor`, `ridge`.
    pub predictor: String,
    /// What role it has in the report.
    pub role: Role,
    /// Mean squared error.
    pub mse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Pearson over the genes, mean over the observations.
    pub pcc_spot: f64,
    /// Pearson over the observations, mean over the genes.
    pub pcc_gene_mean: f64,
    /// Pearson over the observations, median over the genes.
    pub pcc_gene_median: f64,
    /// Number of observations.
    pub n: usize,
}

impl ScoreRow {
    /// The row of a predictor's scores.
    pub fn new(level: Level, predictor: &str, role: Role, scores: &LevelScores) -> Self {
        Self {
            level,
            predictor: predictor.to_owned(),
            role,
            mse: scores.mse,
            mae: scores.mae,
            pcc_spot: scores.pcc_spot,
            pcc_gene_mean: scores.pcc_gene_mean,
            pcc_gene_median: scores.pcc_gene_median,
            n: scores.n,
        }
    }

    /// The rows of the model and of the mean predictor that its scores carry.
    pub fn of_model(level: Level, scores: &LevelScores) -> Vec<Self> {
        let mean = scores.mean_predictor.as_deref();
        std::iter::once(Self::new(level, "MagNet", Role::Model, scores))
            .chain(mean.map(|mean| Self::new(level, "mean predictor", Role::MeanPredictor, mean)))
            .collect()
    }
}

/// What a predictor is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The model that the report is about.
    Model,
    /// The training mean for every observation: what is reached without looking.
    MeanPredictor,
    /// Anything else that the model is compared with.
    Comparator,
}

/// Scores of one gene at the bin level. NaN stands for a score that is not defined.
#[derive(Debug, Clone)]
pub struct GeneRow {
    /// The gene's symbol.
    pub symbol: String,
    /// Pearson over the observations.
    pub pearson: f64,
    /// Mean squared error.
    pub mse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean of the measurement.
    pub measured_mean: f64,
    /// Standard deviation of the measurement.
    pub measured_sd: f64,
    /// Standard deviation of the prediction.
    pub predicted_sd: f64,
}

impl GeneRow {
    /// The row of a gene's scores.
    pub fn new(symbol: &str, score: &GeneScore) -> Self {
        Self {
            symbol: symbol.to_owned(),
            pearson: score.pcc,
            mse: score.mse,
            mae: score.mae,
            measured_mean: score.measured_mean,
            measured_sd: score.measured_sd,
            predicted_sd: score.predicted_sd,
        }
    }
}

/// One epoch. What was not recorded is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingRow {
    /// Epochs done.
    pub epoch: f64,
    /// Loss on the training slides.
    pub train_loss: Option<f64>,
    /// Loss on the validation slides.
    pub valid_loss: Option<f64>,
    /// Pearson per gene on the validation slides, mean over the genes.
    pub valid_pcc_gene: Option<f64>,
}

/// The maps of one held-out slide.
#[derive(Debug, Clone)]
pub struct SlideMaps {
    /// The slide's name.
    pub name: String,
    /// The H&E image, any size with its own pixel size; it is shown once and lies behind no map.
    pub slide: Option<SlideImage>,
    /// Centres of the observations.
    pub centers: Vec<SlideUm>,
    /// Shape and size of an observation.
    pub mark: Mark,
    /// The genes shown, best first.
    pub genes: Vec<GeneMap>,
}

/// Measured and predicted values of one gene on one slide.
#[derive(Debug, Clone)]
pub struct GeneMap {
    /// The gene's symbol.
    pub symbol: String,
    /// Why it is shown: `best`, `median`, `worst`.
    pub label: String,
    /// Pearson over the observations of this slide; NaN where it is not defined.
    pub pearson: f64,
    /// The measurement, one value per centre; `None` where there is none.
    pub measured: Option<Vec<f32>>,
    /// The prediction, one value per centre.
    pub predicted: Vec<f32>,
}

/// Named facts that belong together.
#[derive(Debug, Clone)]
pub struct DetailGroup {
    /// Heading.
    pub title: String,
    /// Name and value.
    pub rows: Vec<(String, String)>,
}

/// Positions of the `best` best genes, the median and the worst, with what they are; genes whose Pearson is not defined
/// are none of these, and no gene is named twice.
pub(crate) fn best_median_worst(pearsons: &[f64], best: usize) -> Vec<(usize, &'static str)> {
    let key = |gene: &usize| pearsons.get(*gene).copied().unwrap_or(f64::NAN);
    let mut order: Vec<usize> = (0..pearsons.len()).filter(|gene| !key(gene).is_nan()).collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let places = (0..best).map(|place| (place, "best"));
    let places = places.chain([(order.len() / 2, "median"), (order.len().saturating_sub(1), "worst")]);
    let mut shown: Vec<(usize, &'static str)> = Vec::new();
    for (place, label) in places {
        if let Some(&gene) = order.get(place)
            && shown.iter().all(|(other, _)| *other != gene)
        {
            shown.push((gene, label));
        }
    }
    shown
}

/// Renders the report as one HTML file.
///
/// # Errors
/// When a map cannot be drawn: a list of values that does not match its places, a mark without a size. The error names
/// the slide and the gene.
pub fn render(input: &ReportInput) -> Result<String> {
    page::render(input)
}

#[cfg(test)]
mod tests;
