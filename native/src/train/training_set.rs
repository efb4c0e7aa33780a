//! What some models learn from all training bins at once, or keep of them to look up.

use std::ops::Range;

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use magnet_core::model::TrainingSet;
use magnet_core::random::stream;
use magnet_core::{ExpressionModel, Level, Model};
use rand::seq::index::sample;

use super::batches::{PreparedBlock, for_each_prepared};
use super::data::TrainingSlide;
use crate::config::TrainConfig;

/// Which bins of the training slides a model is given, and which row of the set each is. Where it wants fewer than
/// there are, the choice follows from the seed.
#[derive(Debug, Default)]
pub struct TrainingRows {
    /// Of each slide, by bin: its row, where it has one.
    of_bin: Vec<Vec<Option<u32>>>,
    /// Of each slide: its rows.
    of_slide: Vec<Range<u32>>,
}

impl TrainingRows {
    /// The rows for a model; none where it wants none.
    pub fn choose(model: &Model, slides: &[TrainingSlide], config: &TrainConfig) -> Self {
        let bins: usize = slides.iter().map(|slide| slide.layout.nodes().bin).sum();
        let wanted = model.wanted_training_bins().min(bins);
        if wanted == 0 {
            return Self::default();
        }
        let mut chosen = sample(&mut stream(config.seed, "training set", &[]), bins, wanted).into_vec();
        chosen.sort_unstable();

        let mut rows = Self::default();
        let (mut slide_start, mut next) = (0, 0);
        for slide in slides {
            let count = slide.layout.nodes().bin;
            let first = next;
            let mut of_bin = vec![None; count];
            // In the order in which the blocks come.
            for block in slide.layout.blocks(config.batch_bins, 0, None) {
                for &node in block.nodes.bin.iter().take(block.core.bin) {
                    let is_chosen = chosen.binary_search(&(slide_start + node as usize)).is_ok();
                    if is_chosen && let Some(row) = of_bin.get_mut(node as usize) {
                        *row = Some(next);
                        next += 1;
                    }
                }
            }
            rows.of_bin.push(of_bin);
            rows.of_slide.push(first..next);
            slide_start += count;
        }
        rows
    }

    fn row(&self, slide: usize, node: u32) -> Option<u32> {
        self.of_bin.get(slide)?.get(node as usize).copied().flatten()
    }

    /// The rows that each bin of a block must not learn from: those of its slide, or where all are of one slide, its
    /// own. See [`magnet_core::MagNetBatch::own_references`].
    ///
    /// # Shapes
    /// - output: `[B,2]`
    pub fn own(&self, prepared: &PreparedBlock, device: &Device) -> Tensor<2, Int> {
        let of_slide = self.of_slide.get(prepared.slide).cloned().unwrap_or_default();
        let among_others = self.of_slide.iter().filter(|rows| !rows.is_empty()).count() > 1;
        let nodes = &prepared.block.nodes.bin;
        let ranges = nodes.iter().flat_map(|&node| {
            let own = match among_others {
                true => of_slide.clone(),
                false => self.row(prepared.slide, node).map_or(0..0, |row| row..row + 1),
            };
            [own.start as i32, own.end as i32]
        });
        Tensor::from_data(TensorData::new(ranges.collect(), [nodes.len(), 2]), device)
    }
}

/// The model with what it learns from the bins of its training slides, or keeps of them; most models want none.
///
/// # Errors
/// If a patch cannot be read, or the model cannot learn from the set.
pub fn with_training_set(
    model: Model,
    slides: &[TrainingSlide],
    rows: &TrainingRows,
    batch_bins: usize,
    device: &Device,
) -> Result<Model> {
    if model.wanted_training_bins() == 0 {
        return Ok(model);
    }
    let mut blocks = Vec::new();
    for (index, slide) in slides.iter().enumerate() {
        blocks.extend(slide.layout.blocks(batch_bins, 0, None).map(|block| (index, block)));
    }
    let (mut encoded, mut labels) = (Vec::new(), Vec::new());
    for_each_prepared(
        slides,
        blocks,
        |_| None,
        0,
        |_, prepared| {
            let core = prepared.block.nodes.bin.iter().take(prepared.block.core.bin);
            let wanted = core.enumerate().filter(|(_, node)| rows.row(prepared.slide, **node).is_some());
            let places: Vec<i64> = wanted.map(|(place, _)| place as i64).collect();
            if places.is_empty() {
                return Ok(true);
            }
            let batch = prepared.to_batch(slides, device)?;
            let count = places.len();
            let places: Tensor<1, Int> = Tensor::from_data(TensorData::new(places, [count]), device);
            // Detached, or a model in training would hold every patch for the sake of gradients.
            let bins = model.encode(Level::Bin, &batch.inputs.bin)?.detach();
            encoded.push(bins.select(0, places.clone()));
            labels.extend(batch.labels.map(|labels| labels.bin.select(0, places)));
            Ok(true)
        },
    )?;
    let set = TrainingSet { encoded: Tensor::cat(encoded, 0), labels: Tensor::cat(labels, 0) };
    Ok(model.with_training_set(&set)?)
}
