//! What a run will read, known before it asks.
//!
//! Which patches come when follows from the layout, the blocks and the size of the chunks alone, so a program with
//! threads can read and decode them while the device is busy with those before.

use std::borrow::Borrow;
use std::sync::Arc;

use super::encode::chunk_patches;
use super::nodes_px;
use super::run::{EncodedBins, TileQueue};
use super::sums::Plan;
use crate::coordinates::SlidePx;
use crate::layout::SlideLayout;
use crate::level::Level;
use crate::model::MagNetConfig;

/// Patches that one step reads together.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchRequest {
    /// Their level.
    pub level: Level,
    /// The nodes that they belong to.
    pub nodes: Vec<u32>,
    /// Their centres, in full-resolution pixels.
    pub centers_px: Vec<SlidePx>,
    /// Side of the square that each shows, in µm.
    pub patch_um: f64,
    /// Its side in pixels.
    pub patch_px: usize,
}

/// The patches that the next steps of a run read, in order. Made by [`super::PredictRun::patches_ahead`].
pub struct PatchesAhead<L> {
    config: MagNetConfig,
    layout: L,
    um_per_px: f64,
    chunk_pixels: usize,
    plan: Arc<Plan>,
    /// Whether each block of each pass is done: pass by pass.
    done: Vec<bool>,
    /// The tiles of each pass that are left; empty where no tile is read from the slide.
    queues: Vec<TileQueue>,
    /// No block before this one, counted over the passes, is left.
    next: usize,
    /// The pass under way, and whether each bin was asked for in it.
    pass: usize,
    known: Vec<bool>,
    /// Bins that the block `next` is the first to read, once its turn has come, and how many of them were asked for.
    bins: Option<Vec<u32>>,
    asked: usize,
}

impl<L: Borrow<SlideLayout>> PatchesAhead<L> {
    #[allow(clippy::too_many_arguments, reason = "the state of a run, taken over once")]
    pub(super) fn new(
        config: MagNetConfig,
        layout: L,
        um_per_px: f64,
        chunk_pixels: usize,
        plan: Arc<Plan>,
        done: Vec<bool>,
        queues: Vec<TileQueue>,
        encoded: &EncodedBins,
        asked: usize,
    ) -> Self {
        let bins = 0..layout.borrow().centers.bin.len() as u32;
        let (pass, known) = (encoded.pass(), bins.map(|bin| encoded.contains(bin)).collect());
        let (next, bins) = (0, None);
        Self { config, layout, um_per_px, chunk_pixels, plan, done, queues, next, pass, known, bins, asked }
    }

    /// The bins of a block that no block of the pass has read before.
    fn begin_block(&mut self, pass: usize, index: usize) -> Vec<u32> {
        if pass != self.pass {
            self.pass = pass;
            self.known.fill(false);
        }
        let core = self.plan.cores.get(index).cloned().unwrap_or_default();
        let mut bins = self.layout.borrow().block(core, self.config.halo_hops()).nodes.bin;
        bins.retain(|&bin| {
            self.known.get_mut(bin as usize).is_some_and(|known| !std::mem::replace(known, true))
        });
        bins
    }

    fn request(&self, level: Level, nodes: Vec<u32>) -> PatchRequest {
        let geometry = self.config.levels.get(level);
        PatchRequest {
            level,
            centers_px: nodes_px(self.layout.borrow(), level, &nodes, self.um_per_px),
            nodes,
            patch_um: geometry.patch_um,
            patch_px: geometry.patch_px,
        }
    }
}

impl<L: Borrow<SlideLayout>> Iterator for PatchesAhead<L> {
    type Item = PatchRequest;

    fn next(&mut self) -> Option<PatchRequest> {
        loop {
            while *self.done.get(self.next)? {
                self.next += 1;
            }
            let blocks = self.plan.cores.len();
            let (pass, index) = (self.next / blocks, self.next % blocks);
            if let Some(queue) = self.queues.get_mut(pass) {
                let (config, pixels) = (&self.config, self.chunk_pixels);
                if let Some((level, tiles)) = queue.next(|level| chunk_patches(config, level, pixels)) {
                    for tile in tiles.clone() {
                        queue.finish(level, tile);
                    }
                    return Some(self.request(level, tiles.map(|tile| tile as u32).collect()));
                }
            }
            let bins = match self.bins.take() {
                Some(bins) => bins,
                None => self.begin_block(pass, index),
            };
            let bins = self.bins.insert(bins);
            let chunk = chunk_patches(&self.config, Level::Bin, self.chunk_pixels);
            let end = self.asked.saturating_add(chunk).min(bins.len());
            let nodes = bins.get(self.asked..end).unwrap_or_default().to_vec();
            if !nodes.is_empty() {
                self.asked = end;
                return Some(self.request(Level::Bin, nodes));
            }
            self.bins = None;
            self.asked = 0;
            self.next += 1;
        }
    }
}
