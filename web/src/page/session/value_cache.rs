//! Keeps what was asked last, up to a number of bytes.

/// Pairs of keys and values, of which the least recently used ones are dropped once they hold too many bytes.
#[derive(Debug)]
pub struct ValueCache<K, V> {
    /// Least recently used first. There are at most a few hundred entries, so that a walk is cheaper than a map.
    entries: Vec<(K, V, usize)>,
    bytes: usize,
    limit_bytes: usize,
}

impl<K: PartialEq, V: Clone> ValueCache<K, V> {
    /// An empty cache for at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { entries: Vec::new(), bytes: 0, limit_bytes }
    }

    /// The value of a key, which is now the most recently used one.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let place = self.entries.iter().position(|(held, ..)| held == key)?;
        let entry = self.entries.remove(place);
        let value = entry.1.clone();
        self.entries.push(entry);
        Some(value)
    }

    /// Keeps a value of `bytes`, and drops others for it; one that is larger than the limit stays alone.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) {
        if let Some(place) = self.entries.iter().position(|(held, ..)| *held == key) {
            self.bytes -= self.entries.remove(place).2;
        }
        while self.bytes.saturating_add(bytes) > self.limit_bytes && !self.entries.is_empty() {
            self.bytes -= self.entries.remove(0).2;
        }
        self.bytes += bytes;
        self.entries.push((key, value, bytes));
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = ValueCache::new(30);
        cache.insert(1, 'a', 10);
        cache.insert(2, 'b', 10);
        cache.insert(3, 'c', 10);
        assert_eq!(cache.get(&1), Some('a'));
        cache.insert(4, 'd', 10);
        assert_eq!(cache.get(&2), None);
        assert_eq!(cache.get(&1), Some('a'));
        assert_eq!(cache.bytes, 30);
    }

    #[test]
    fn what_is_replaced_is_not_counted_twice() {
        let mut cache = ValueCache::new(30);
        for _ in 0..10 {
            cache.insert(1, 'a', 20);
        }
        assert_eq!((cache.bytes, cache.entries.len()), (20, 1));
        cache.insert(2, 'b', 100);
        assert_eq!((cache.bytes, cache.entries.len()), (100, 1));
        cache.clear();
        assert_eq!((cache.bytes, cache.get(&2)), (0, None));
    }
}
