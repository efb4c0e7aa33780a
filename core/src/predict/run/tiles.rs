//! The vectors of the wide tiles, and which of them are still to be made.

use std::ops::Range;

use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{Level, PerLevel};

/// Which wide tiles are done, and which come next.
#[derive(Clone)]
pub(in crate::predict) struct TileQueue {
    done: PerLevel<Vec<bool>>,
    /// No tile of a level before this one is left.
    next: PerLevel<usize>,
}

impl TileQueue {
    pub(in crate::predict) fn new(layout: &SlideLayout) -> Self {
        let count = |level| if level == Level::Bin { 0 } else { layout.centers.get(level).len() };
        Self { done: PerLevel::from_fn(|level| vec![false; count(level)]), next: PerLevel::default() }
    }

    /// The first tiles that are not done, neighbours of one level, at most `chunk`.
    pub(in crate::predict) fn next(
        &mut self,
        chunk: impl Fn(Level) -> usize,
    ) -> Option<(Level, Range<usize>)> {
        Level::WIDE.into_iter().find_map(|level| {
            let done = self.done.get(level);
            let next = self.next.get_mut(level);
            while *done.get(*next)? {
                *next += 1;
            }
            let left = done.iter().skip(*next).take(chunk(level)).take_while(|&&done| !done).count();
            Some((level, *next..*next + left))
        })
    }

    /// Notes that a tile is done; whether it was not before.
    pub(in crate::predict) fn finish(&mut self, level: Level, tile: usize) -> bool {
        self.done.get_mut(level).get_mut(tile).is_some_and(|done| !std::mem::replace(done, true))
    }
}

/// The vectors of the wide tiles, on the host.
pub(super) struct Tiles {
    pub(super) vectors: PerLevel<Matrix>,
    pub(super) queue: TileQueue,
    /// Tiles that are done.
    pub(super) count: usize,
}

impl Tiles {
    pub(super) fn new(width: usize, layout: &SlideLayout) -> Self {
        let count = |level| if level == Level::Bin { 0 } else { layout.centers.get(level).len() };
        Self {
            vectors: PerLevel::from_fn(|level| {
                let rows = count(level);
                Matrix { rows, cols: width, values: vec![0.0; rows * width] }
            }),
            queue: TileQueue::new(layout),
            count: 0,
        }
    }

    /// Notes the vectors of tiles from `first` on; those that are done stay as they are.
    pub(super) fn fill(&mut self, level: Level, first: usize, vectors: &[f32]) {
        let matrix = self.vectors.get_mut(level);
        let width = matrix.cols.max(1);
        let rows = matrix.values.chunks_exact_mut(width).enumerate().skip(first);
        for ((tile, row), new) in rows.zip(vectors.chunks_exact(width)) {
            if self.queue.finish(level, tile) {
                row.copy_from_slice(new);
                self.count += 1;
            }
        }
    }
}
