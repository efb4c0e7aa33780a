//! Which block predicts which node, and the predictions summed over the passes.

use super::SlidePrediction;
use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{Level, PerLevel};
use crate::model::MagNetConfig;

/// The blocks of a slide by their cores.
pub(super) struct Plan {
    /// Core bins of each block, ascending.
    pub cores: Vec<Vec<u32>>,
    /// The block whose prediction of a tile counts: the first of those that share it. Which one it is must not depend
    /// on the order in which blocks are done, since their results may differ in the last bit.
    owners: PerLevel<Vec<u32>>,
    /// The last block that reads each bin, as one of its own or in its halo.
    last_readers: Vec<u32>,
}

impl Plan {
    pub(super) fn new(layout: &SlideLayout, block_bins: usize, halo_hops: usize) -> Self {
        let cores = layout.block_cores(block_bins, None);
        let owners = PerLevel::from_fn(|level| {
            if level == Level::Bin {
                return Vec::new();
            }
            let mut owners = vec![u32::MAX; layout.centers.get(level).len()];
            for (block, core) in (0..).zip(&cores) {
                for tile in parents_of(layout, level, core) {
                    if let Some(owner) = owners.get_mut(tile as usize) {
                        *owner = block.min(*owner);
                    }
                }
            }
            owners
        });
        let last_readers = last_readers(layout, &cores, halo_hops);
        Self { cores, owners, last_readers }
    }

    /// Whether a block after this one reads a bin.
    pub(super) fn is_read_after(&self, block: usize, bin: u32) -> bool {
        self.last_readers.get(bin as usize).is_some_and(|&last| last as usize > block)
    }

    /// The core nodes of a block, ascending: the order of its predictions.
    pub(super) fn core_nodes(&self, layout: &SlideLayout, block: usize, level: Level) -> Vec<u32> {
        let core = self.cores.get(block).map_or(&[][..], Vec::as_slice);
        if level == Level::Bin {
            return core.to_vec();
        }
        let mut tiles: Vec<u32> = parents_of(layout, level, core).collect();
        tiles.sort_unstable();
        tiles.dedup();
        tiles
    }

    /// Whether a block's prediction of a node counts.
    pub(super) fn owns(&self, block: usize, level: Level, node: u32) -> bool {
        level == Level::Bin
            || self.owners.get(level).get(node as usize).is_some_and(|&owner| owner as usize == block)
    }
}

/// See [`Plan::last_readers`].
fn last_readers(layout: &SlideLayout, cores: &[Vec<u32>], halo_hops: usize) -> Vec<u32> {
    let graph = &layout.graphs.bin;
    let mut last = vec![0; layout.centers.bin.len()];
    for (block, core) in (0..).zip(cores) {
        for &bin in core {
            if let Some(last) = last.get_mut(bin as usize) {
                *last = block;
            }
        }
    }
    for _ in 0..halo_hops {
        // Whoever reads a bin reads its neighbours one hop later.
        let nearer = last.clone();
        for (bin, &reader) in nearer.iter().enumerate() {
            for neighbor in graph.neighbors(bin) {
                if let Some(last) = last.get_mut(neighbor as usize) {
                    *last = reader.max(*last);
                }
            }
        }
    }
    last
}

fn parents_of<'a>(layout: &'a SlideLayout, level: Level, bins: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let parents = layout.parents(level);
    bins.iter().filter_map(|&bin| parents.get(bin as usize).copied())
}

/// Predictions summed over the passes.
pub(super) struct Sums {
    values: PerLevel<Matrix>,
    /// Passes in each node's sum.
    passes: PerLevel<Vec<u8>>,
}

impl Sums {
    /// Room for the predictions of a slide; for none of them where they are not kept.
    pub(super) fn new(config: &MagNetConfig, layout: &SlideLayout, keep: bool) -> Self {
        let rows = |level| {
            let kept = keep && config.predicted_levels().contains(&level);
            if kept { layout.centers.get(level).len() } else { 0 }
        };
        let matrix = |rows| Matrix { rows, cols: config.genes, values: vec![0.0; rows * config.genes] };
        Self {
            values: PerLevel::from_fn(|level| matrix(rows(level))),
            passes: PerLevel::from_fn(|level| vec![0; rows(level)]),
        }
    }

    /// Adds the core rows of a block, once per pass.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        layout: &SlideLayout,
        block: usize,
        predicted: &PerLevel<Vec<f32>>,
    ) {
        for level in Level::ALL {
            let sums = self.values.get_mut(level);
            let passes = self.passes.get_mut(level);
            let rows = predicted.get(level).chunks_exact(sums.cols.max(1));
            for (node, row) in plan.core_nodes(layout, block, level).into_iter().zip(rows) {
                let at = node as usize;
                let range = at * sums.cols..(at + 1) * sums.cols;
                let (Some(done), Some(sum)) = (passes.get_mut(at), sums.values.get_mut(range)) else {
                    continue;
                };
                if plan.owns(block, level, node) {
                    *done += 1;
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    }

    /// One gene of a level, averaged over the passes; NaN where there is none.
    pub(super) fn gene(&self, level: Level, gene: usize) -> Vec<f32> {
        let matrix = self.values.get(level);
        let rows = matrix.values.chunks_exact(matrix.cols.max(1)).zip(self.passes.get(level));
        rows.filter_map(|(row, &passes)| row.get(gene).map(|&sum| sum / f32::from(passes))).collect()
    }

    /// The averages over the passes.
    pub(super) fn finish(&self, complete: bool) -> SlidePrediction {
        Self { values: self.values.clone(), passes: self.passes.clone() }.into_prediction(complete)
    }

    /// As [`Sums::finish`], in place.
    pub(super) fn into_prediction(mut self, complete: bool) -> SlidePrediction {
        for level in Level::ALL {
            let matrix = self.values.get_mut(level);
            for (row, &passes) in
                matrix.values.chunks_exact_mut(matrix.cols.max(1)).zip(self.passes.get(level))
            {
                // No pass: 0 / 0 marks the row as NaN.
                row.iter_mut().for_each(|value| *value /= f32::from(passes));
            }
        }
        SlidePrediction {
            values: self.values,
            predicted: self.passes.map(|passes| passes.iter().map(|&count| count > 0).collect()),
            complete,
        }
    }
}
