//! Memory that training uses again: fresh memory costs the system a page at a time.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::Map;

/// Memory of maps; what a map held comes back when it is dropped. It never holds more than was once in use together.
#[derive(Debug, Clone, Default)]
pub(in crate::model) struct Memory(Arc<Mutex<Stock>>);

#[derive(Debug, Default)]
struct Stock {
    /// Oldest first.
    free: VecDeque<Vec<f32>>,
    /// Numbers that `free` holds.
    idle: usize,
    /// Numbers that are in use, and the most that ever were.
    used: usize,
    most_used: usize,
}

/// The values of a map, on loan.
#[derive(Debug, Default)]
pub(in crate::model) struct Loan {
    values: Vec<f32>,
    memory: Memory,
}

impl Memory {
    /// A map with a margin of zeros whose inside is still to be written.
    pub fn map(&self, [images, height, width, channels]: [usize; 4], margin: usize) -> Map<Loan> {
        let sizes = Map { values: (), images, height, width, channels, margin };
        let values = self.take(sizes.image() * images);
        let mut map = sizes.with(Loan { values, memory: self.clone() });
        let one = Map { images: 1, ..sizes };
        let images = map.view_mut().values.par_chunks_exact_mut(sizes.image().max(1));
        images.for_each(|image| one.with(image).clear_margin());
        map
    }

    /// A map of zeros.
    pub fn zeros(&self, sizes: [usize; 4], margin: usize) -> Map<Loan> {
        let mut map = self.map(sizes, margin);
        let image = map.image().max(1);
        map.view_mut().values.par_chunks_mut(image).for_each(|values| values.fill(0.0));
        map
    }

    /// A map of memory from elsewhere, which comes here when it is dropped.
    pub fn adopt(&self, map: Map<Vec<f32>>) -> Map<Loan> {
        {
            let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            stock.used += map.values.len();
            stock.most_used = stock.most_used.max(stock.used);
        }
        let sizes = map.with(());
        sizes.with(Loan { values: map.values, memory: self.clone() })
    }

    /// At least `count` numbers of any value.
    fn take(&self, count: usize) -> Vec<f32> {
        let found = {
            let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |len: usize| (count..=2 * count).contains(&len);
            let sizes = stock.free.iter().map(Vec::len).enumerate().filter(|&(_, len)| fits(len));
            let best = sizes.min_by_key(|&(_, len)| len).map(|(at, _)| at);
            let found = best.and_then(|at| stock.free.remove(at));
            let size = found.as_ref().map_or(count, Vec::len);
            stock.idle -= found.as_ref().map_or(0, Vec::len);
            stock.used += size;
            stock.most_used = stock.most_used.max(stock.used);
            found
        };
        found.unwrap_or_else(|| rayon::iter::repeat_n(0.0, count).collect())
    }

    fn note_gone(&self, count: usize) {
        let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stock.used = stock.used.saturating_sub(count);
    }

    fn give(&self, values: Vec<f32>) {
        let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stock.used = stock.used.saturating_sub(values.len());
        stock.idle += values.len();
        stock.free.push_back(values);
        while stock.idle > stock.most_used {
            let Some(oldest) = stock.free.pop_front() else { break };
            stock.idle -= oldest.len();
        }
    }
}

impl Loan {
    /// The first `count` values, which do not come back.
    pub fn keep(mut self, count: usize) -> Vec<f32> {
        let mut values = std::mem::take(&mut self.values);
        self.memory.note_gone(values.len());
        values.truncate(count);
        values
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.values.is_empty() {
            self.memory.give(std::mem::take(&mut self.values));
        }
    }
}

impl Deref for Loan {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_cleared_where_it_must_be() {
        let memory = Memory::default();
        let mut map = memory.map([2, 3, 4, 5], 1);
        map.view_mut().values.fill(7.0);
        let place = map.values.as_ptr();
        drop(map);
        let map = memory.map([2, 3, 4, 4], 1);
        assert_eq!(map.values.as_ptr(), place);
        let view = map.view();
        assert_eq!(view.values.len(), 2 * 5 * 6 * 4);
        assert_eq!(view.values.iter().filter(|&&value| value == 7.0).count(), 2 * 3 * 4 * 4);
        drop(map);
        assert!(memory.zeros([2, 3, 4, 4], 1).view().values.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn no_more_is_held_than_was_used_at_once() {
        let memory = Memory::default();
        let held = || memory.0.lock().unwrap().idle;
        for side in [2, 3, 9, 30, 4, 5] {
            drop(memory.map([1, side, side, 1], 0));
        }
        assert!(held() <= 900, "{}", held());
        let kept = memory.map([1, 30, 30, 1], 0);
        let sizes = kept.with(());
        let kept = kept.values.keep(10);
        assert_eq!(kept.len(), 10);
        let place = kept.as_ptr();
        drop(memory.adopt(Map { height: 1, width: 10, ..sizes.with(kept) }));
        assert_eq!(memory.map([1, 2, 5, 1], 0).values.as_ptr(), place);
        let stock = memory.0.lock().unwrap();
        assert_eq!((stock.used, stock.most_used), (0, 900));
    }
}
