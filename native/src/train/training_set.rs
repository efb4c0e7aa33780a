//! What some models learn from all training bins at once, after the steps.

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use magnet_core::model::TrainingSet;
use magnet_core::random::stream;
use magnet_core::{ExpressionModel, Level, Model};
use rand::seq::index::sample;

use super::batches::for_each_prepared;
use super::data::TrainingSlide;

/// The model with what it learns from the bins of its training slides; most models want none. Where it wants fewer than
/// there are, the choice follows from the seed.
///
/// # Errors
/// If a patch cannot be read, or the model cannot learn from the set.
pub fn with_training_set(
    model: Model,
    slides: &[TrainingSlide],
    batch_bins: usize,
    seed: u64,
    device: &Device,
) -> Result<Model> {
    let bins: usize = slides.iter().map(|slide| slide.layout.nodes().bin).sum();
    let wanted = model.wanted_training_bins().min(bins);
    if wanted == 0 {
        return Ok(model);
    }
    let mut chosen = sample(&mut stream(seed, "training set", &[]), bins, wanted).into_vec();
    chosen.sort_unstable();

    let mut blocks = Vec::new();
    for (index, slide) in slides.iter().enumerate() {
        blocks.extend(slide.layout.blocks(batch_bins, 0, None).map(|block| (index, block)));
    }
    let (mut encoded, mut labels, mut seen) = (Vec::new(), Vec::new(), 0);
    for_each_prepared(
        slides,
        blocks,
        |_| None,
        0,
        |_, prepared| {
            let core = prepared.block.core.bin;
            let own =
                chosen.partition_point(|&bin| bin < seen)..chosen.partition_point(|&bin| bin < seen + core);
            let rows: Vec<i64> = chosen[own].iter().map(|&bin| (bin - seen) as i64).collect();
            seen += core;
            if rows.is_empty() {
                return Ok(true);
            }
            let batch = prepared.to_batch(slides, device)?;
            let count = rows.len();
            let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), device);
            encoded.push(model.encode(Level::Bin, &batch.inputs.bin)?.select(0, rows.clone()));
            labels.extend(batch.labels.map(|labels| labels.bin.select(0, rows)));
            Ok(true)
        },
    )?;
    let set = TrainingSet { encoded: Tensor::cat(encoded, 0), labels: Tensor::cat(labels, 0) };
    Ok(model.with_training_set(&set)?)
}
