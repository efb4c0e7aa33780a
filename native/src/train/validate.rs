//! Prediction and scores on whole slides during training.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use magnet_core::ExpressionModel;
use magnet_core::expression::{GeneStatistics, Matrix};
use magnet_core::level::{Level, PerLevel};
use magnet_core::loss::hybrid_loss;
use magnet_core::metrics::{Evaluation, ScoredSlide, evaluate_beside_mean};

use super::batches::for_each_prepared;
use super::data::TrainingSlide;
use super::loss_terms::LossTerms;

/// What validation gives.
pub struct Validation {
    /// The loss, mean over the bins.
    pub loss: LossTerms,
    /// Scores of each level that the model predicts, the mean predictor beside.
    pub scores: PerLevel<Option<Evaluation>>,
}

/// Predicts every node of every slide and scores the predictions against the labels.
///
/// # Errors
/// If a slide cannot be read, or a prediction is not finite.
pub fn validate(
    model: &dyn ExpressionModel,
    slides: &[TrainingSlide],
    training_statistics: &PerLevel<GeneStatistics>,
    batch_bins: usize,
    device: &Device,
) -> Result<Validation> {
    let config = model.config().clone();
    let statistics = model.gene_statistics();
    let mut loss = LossTerms::default();
    let mut bins = 0;
    let mut predictions: Vec<PerLevel<Matrix>> = slides
        .iter()
        .map(|slide| {
            PerLevel::from_fn(|level| {
                let Matrix { rows, cols, .. } = *slide.labels.get(level);
                Matrix { rows, cols, values: vec![f32::NAN; rows * cols] }
            })
        })
        .collect();

    let mut blocks = Vec::new();
    for (index, slide) in slides.iter().enumerate() {
        blocks.extend(slide.layout.blocks(batch_bins, config.halo_hops(), None).map(|block| (index, block)));
    }
    for_each_prepared(
        slides,
        blocks,
        |_| None,
        0,
        |_, prepared| {
            let batch = prepared.to_batch(slides, device)?;
            let predicted = model.forward(&batch)?;
            let terms = LossTerms::read(&hybrid_loss(&config.loss, &predicted, &batch, &statistics)?)?;
            loss.add(&terms, prepared.block.core.bin as f64);
            bins += prepared.block.core.bin;
            let slide = predictions.get_mut(prepared.slide).context("no such slide")?;
            for &level in config.predicted_levels() {
                let nodes = prepared.block.nodes.get(level).iter().take(*prepared.block.core.get(level));
                scatter(predicted.get(level).clone(), nodes, slide.get_mut(level))?;
            }
            Ok(true)
        },
    )?;

    let scores = PerLevel::try_from_fn(|level| {
        if !config.predicted_levels().contains(&level) {
            return anyhow::Ok(None);
        }
        let scored: Vec<ScoredSlide<'_>> = slides
            .iter()
            .zip(&predictions)
            .map(|(slide, predicted)| ScoredSlide {
                predicted: predicted.get(level),
                measured: slide.labels.get(level),
            })
            .collect();
        let mean = &training_statistics.get(level).mean;
        Ok(Some(evaluate_beside_mean(&scored, mean).with_context(|| format!("{level} level"))?))
    })?;
    Ok(Validation { loss: loss.divided(bins as f64), scores })
}

/// Puts predicted rows at the places of their nodes.
fn scatter<'a>(rows: Tensor<2>, nodes: impl Iterator<Item = &'a u32>, into: &mut Matrix) -> Result<()> {
    let values = rows.try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error}"))?;
    let cols = into.cols;
    for (row, &node) in values.chunks_exact(cols.max(1)).zip(nodes) {
        let start = node as usize * cols;
        into.values
            .get_mut(start..start + cols)
            .context("a prediction beyond the slide")?
            .copy_from_slice(row);
    }
    Ok(())
}

/// The monitored Pearson of the bins.
pub fn bin_pcc_gene_mean(validation: &Validation) -> Option<f64> {
    validation.scores.get(Level::Bin).as_ref().map(|evaluation| evaluation.scores.pcc_gene_mean)
}
