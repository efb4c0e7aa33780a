//! From slides to batches: which block comes when, its patches, their augmentation, its tensors.
//!
//! Everything random is a function of (seed, epoch, step), so a run that is resumed sees the same batches.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use magnet_core::MagNetBatch;
use magnet_core::batch::{LevelInput, patches_from_rgb, rows_tensor};
use magnet_core::layout::Block;
use magnet_core::level::{Level, PerLevel};
use magnet_core::random::{derived_seed, stream};
use magnet_core::slide::augment::{Dihedral, StainJitter};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::data::{LevelSource, TrainingSlide};
use crate::config::AugmentationConfig;
use crate::read_ahead::read_ahead;

/// Relative change of a stain's amount, and change of its optical density, at strength 1.
const STAIN_SCALE: f32 = 0.2;
const STAIN_SHIFT: f32 = 0.05;

/// How the patches of one step are changed.
#[derive(Debug, Clone, Copy)]
pub struct Augmentation {
    config: AugmentationConfig,
    seed: u64,
    epoch: u64,
    step: u64,
}

/// A block with its input, before it goes to the device.
pub struct PreparedBlock {
    /// Index of the slide.
    pub slide: usize,
    /// The block.
    pub block: Block,
    inputs: PerLevel<PreparedInput>,
}

enum PreparedInput {
    Patches {
        rgb: Vec<u8>,
        side_px: usize,
    },
    /// Rows are taken from the slide's matrix when the tensors are made.
    Rows,
    Unused,
}

/// The blocks of one epoch in the order of its steps: every slide cut anew, all blocks shuffled together.
pub fn epoch_blocks(
    slides: &[TrainingSlide],
    batch_bins: usize,
    hops: usize,
    seed: u64,
    epoch: usize,
) -> Vec<(usize, Block)> {
    let mut blocks: Vec<(usize, Block)> = Vec::new();
    for (index, slide) in slides.iter().enumerate() {
        let cut = derived_seed(seed, "cut", &[epoch as u64, index as u64]);
        blocks.extend(slide.layout.blocks(batch_bins, hops, Some(cut)).map(|block| (index, block)));
    }
    blocks.shuffle(&mut stream(seed, "shuffle", &[epoch as u64]));
    blocks
}

impl Augmentation {
    /// The changes of step `step` of epoch `epoch`.
    pub fn new(config: AugmentationConfig, seed: u64, epoch: usize, step: usize) -> Self {
        Self { config, seed, epoch: epoch as u64, step: step as u64 }
    }

    fn apply(&self, level: Level, rgb: &mut [u8], side_px: usize) -> Result<()> {
        let counters = [self.epoch, self.step];
        let strength = self.config.stain_jitter as f32;
        let jitter = StainJitter { scale: STAIN_SCALE * strength, shift: STAIN_SHIFT * strength };
        // One draw for the block, the same at all levels: the stain is the section's, not the patch's.
        let stain = jitter.draw(&mut stream(self.seed, "stain", &counters));
        let mut turns_stream = stream(self.seed, &format!("turns {level}"), &counters);
        let size = side_px * side_px * 3;
        let turns: Vec<Dihedral> =
            (0..rgb.len() / size.max(1)).map(|_| Dihedral::draw(&mut turns_stream)).collect();
        rgb.par_chunks_exact_mut(size.max(1)).zip(turns).try_for_each(|(patch, turn)| {
            if self.config.flips_and_turns {
                turn.apply(patch, side_px)?;
            }
            if strength > 0.0 {
                stain.apply(patch);
            }
            Ok(())
        })
    }
}

impl PreparedBlock {
    /// Reads a block's patches and augments them.
    ///
    /// # Errors
    /// If a patch cannot be read.
    pub fn read(
        slides: &[TrainingSlide],
        slide: usize,
        block: Block,
        augmentation: Option<Augmentation>,
    ) -> Result<Self> {
        let source = slides.get(slide).context("no such slide")?;
        let inputs = PerLevel::try_from_fn(|level| match source.inputs.get(level) {
            LevelSource::Patches(store) => {
                let mut rgb = store.read(block.nodes.get(level))?;
                if let Some(augmentation) = &augmentation {
                    augmentation.apply(level, &mut rgb, store.side_px)?;
                }
                anyhow::Ok(PreparedInput::Patches { rgb, side_px: store.side_px })
            }
            LevelSource::Features(_) => Ok(PreparedInput::Rows),
            LevelSource::Unused => Ok(PreparedInput::Unused),
        })
        .with_context(|| format!("slide {}", source.id))?;
        Ok(Self { slide, block, inputs })
    }

    /// The tensors of the block, with labels.
    ///
    /// # Errors
    /// If input, labels and block do not fit each other.
    pub fn to_batch(&self, slides: &[TrainingSlide], device: &Device) -> Result<MagNetBatch> {
        let slide = slides.get(self.slide).context("no such slide")?;
        let inputs = PerLevel::try_from_fn(|level| {
            let nodes = self.block.nodes.get(level);
            let input = match (self.inputs.get(level), slide.inputs.get(level)) {
                (PreparedInput::Patches { rgb, side_px }, _) => {
                    LevelInput::Patches(patches_from_rgb(rgb, nodes.len(), *side_px, device)?)
                }
                (PreparedInput::Rows, LevelSource::Features(rows)) => {
                    LevelInput::Features(rows_tensor(rows, nodes, level, device)?)
                }
                _ => LevelInput::Features(Tensor::zeros([nodes.len(), 1], device)),
            };
            anyhow::Ok(input)
        })?;
        Ok(MagNetBatch::from_block(&self.block, inputs, Some(&slide.labels), device)?)
    }
}

/// Calls `each` with every block in order while the next ones are read on another thread. The first error of either
/// side ends it; so does `each` returning `false`.
///
/// # Errors
/// What `each` or the reading returns.
pub fn for_each_prepared(
    slides: &[TrainingSlide],
    blocks: Vec<(usize, Block)>,
    augmentation: impl Fn(usize) -> Option<Augmentation> + Send,
    first: usize,
    mut each: impl FnMut(usize, PreparedBlock) -> Result<bool>,
) -> Result<()> {
    let read =
        move |(step, (slide, block))| (step, PreparedBlock::read(slides, slide, block, augmentation(step)));
    read_ahead(blocks.into_iter().enumerate().skip(first), read, |prepared| {
        for (step, prepared) in prepared {
            if !each(step, prepared?)? {
                break;
            }
        }
        Ok(())
    })
}
