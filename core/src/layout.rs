//! One slide's geometry: bins, their parent tiles, and the neighbour table of every level; and the spatial blocks
//! with a halo into which it is cut.

use crate::coordinates::SlideUm;
use crate::level::PerLevel;
use crate::neighbor_graph::NeighborTable;

/// Where every node of a slide lies and who its parents and neighbours are.
#[derive(Debug, Clone)]
pub struct SlideLayout {
    /// Centres of the nodes of each level, µm. Tiles hold at least one bin and are ordered by row, then column.
    pub centers: PerLevel<Vec<SlideUm>>,
    /// Spot tile of each bin.
    pub parent_spot: Vec<u32>,
    /// Region tile of each bin.
    pub parent_region: Vec<u32>,
    /// Mutual K-nearest-neighbour table of each level.
    pub graphs: PerLevel<NeighborTable>,
}

/// The part of a slide that one forward pass reads: core nodes, whose predictions are exact, then their halo.
#[derive(Debug, Clone)]
pub struct Block {
    /// Slide indices of the local nodes of each level; the first `core` of them are the block's own.
    pub nodes: PerLevel<Vec<u32>>,
    /// Number of core nodes of each level.
    pub core: PerLevel<usize>,
    /// Neighbours in local indices; a neighbour outside the block is not valid.
    pub graphs: PerLevel<NeighborTable>,
    /// For each local bin its parent spot, then that spot's neighbours: `[B,1+K]`, local spot indices.
    pub spot_context: NeighborTable,
    /// The same for regions.
    pub region_context: NeighborTable,
    /// Local spot index of each core bin's parent.
    pub parent_spot: Vec<u32>,
    /// Local region index of each core bin's parent.
    pub parent_region: Vec<u32>,
}
