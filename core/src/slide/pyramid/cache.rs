//! A bounded store of what was read last: decoded tiles, and pieces of the arrays that say where tiles are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stored piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A decoded block of pixels of a level, by its index.
    Block(usize, u64),
    /// A piece of an array in the file, by its offset.
    Piece(u64),
}

/// A store of at most `budget` bytes, of which those used longest ago are dropped first. The last piece is kept even
/// when it alone is larger. Its lock is held for look-ups, never while a tile is decoded: two threads that want the
/// same tile at once may both decode it.
#[derive(Debug)]
pub(super) struct Cache {
    budget: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: BTreeMap<Key, (u64, Arc<[u8]>)>,
    /// Keys by the time of their last use.
    used: BTreeMap<u64, Key>,
    bytes: usize,
    now: u64,
}

impl Cache {
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, state: Mutex::default() }
    }

    /// A thread that panicked with the lock has left at worst a piece that is never dropped or never found.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let state = &mut *self.state();
        let (used, piece) = state.pieces.get_mut(&key)?;
        state.used.remove(used);
        state.now += 1;
        *used = state.now;
        state.used.insert(state.now, key);
        Some(piece.clone())
    }

    pub(super) fn insert(&self, key: Key, piece: Arc<[u8]>) {
        let state = &mut *self.state();
        state.now += 1;
        state.bytes += piece.len();
        state.used.insert(state.now, key);
        if let Some((used, replaced)) = state.pieces.insert(key, (state.now, piece)) {
            state.used.remove(&used);
            state.bytes -= replaced.len();
        }
        while state.bytes > self.budget && state.pieces.len() > 1 {
            let Some((_, oldest)) = state.used.pop_first() else { break };
            if let Some((_, dropped)) = state.pieces.remove(&oldest) {
                state.bytes -= dropped.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cache: &Cache) -> Vec<u64> {
        cache.state().pieces.keys().map(|key| if let Key::Piece(at) = key { *at } else { 0 }).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = Cache::new(30);
        for at in 0..3 {
            cache.insert(Key::Piece(at), vec![at as u8; 10].into());
        }
        assert_eq!(cache.get(Key::Piece(0)).unwrap()[0], 0);
        cache.insert(Key::Piece(3), vec![3; 10].into());
        assert_eq!(held(&cache), [0, 2, 3]);
        assert_eq!(cache.get(Key::Piece(1)), None);
    }

    #[test]
    fn the_budget_holds_but_for_one_piece() {
        let cache = Cache::new(30);
        cache.insert(Key::Piece(0), vec![0; 10].into());
        cache.insert(Key::Piece(1), vec![0; 100].into());
        assert_eq!(held(&cache), [1]);
        cache.insert(Key::Piece(2), vec![0; 25].into());
        assert_eq!(held(&cache), [2]);
        // The same piece again, as when two threads decoded it at once.
        cache.insert(Key::Piece(2), vec![0; 25].into());
        let state = cache.state();
        assert_eq!((state.bytes, state.pieces.len(), state.used.len()), (25, 1, 1));
    }
}
