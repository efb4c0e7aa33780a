//! K nearest neighbours of points in the plane as an `[N,K]` table, without an N×N matrix.

/// For each of `N` rows up to `K` row indices, and which of them are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborTable {
    /// Slots per row.
    pub k: usize,
    /// Row-major `[N,K]`; a slot that is not valid holds the row's own index, so that a gather stays in bounds.
    pub indices: Vec<u32>,
    /// Row-major `[N,K]`.
    pub valid: Vec<bool>,
}

impl NeighborTable {
    /// Number of rows `N`.
    pub fn len(&self) -> usize {
        if self.k == 0 { 0 } else { self.indices.len() / self.k }
    }

    /// Whether the table has no row.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}
