//! The vectors of the wide tiles.

use std::ops::Range;

use crate::expression::Matrix;
use crate::layout::SlideLayout;
use crate::level::{Level, PerLevel};

/// The vectors of the wide tiles, on the host.
pub(super) struct Tiles {
    pub(super) vectors: PerLevel<Matrix>,
    done: PerLevel<Vec<bool>>,
    /// No tile of a level before this one is left.
    next: PerLevel<usize>,
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
            done: PerLevel::from_fn(|level| vec![false; count(level)]),
            next: PerLevel::default(),
            count: 0,
        }
    }

    /// The first tiles that are not done, neighbours of one level, at most `chunk`.
    pub(super) fn next(&mut self, chunk: impl Fn(Level) -> usize) -> Option<(Level, Range<usize>)> {
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

    /// Notes the vectors of tiles from `first` on; those that are done stay as they are.
    pub(super) fn fill(&mut self, level: Level, first: usize, vectors: &[f32]) {
        let matrix = self.vectors.get_mut(level);
        let rows = matrix.values.chunks_exact_mut(matrix.cols.max(1)).zip(self.done.get_mut(level));
        for ((row, done), new) in rows.skip(first).zip(vectors.chunks_exact(matrix.cols.max(1))) {
            if !*done {
                row.copy_from_slice(new);
                *done = true;
                self.count += 1;
            }
        }
    }
}
