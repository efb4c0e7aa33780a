//! One slide's geometry: bins, their parent tiles, and the neighbour table of every level; and the spatial blocks
//! with a halo into which it is cut.

mod block;
mod cut;

use thiserror::Error;

use crate::coordinates::{SlideUm, Tile, tile_from_um, um_from_tile};
use crate::level::{Level, LevelGeometry, PerLevel};
use crate::neighbor_graph::{NeighborGraphError, NeighborTable};

pub use block::Block;

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

/// Why a slide has no layout.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LayoutError {
    /// A tile size that makes no grid.
    #[error("levels.{level}.tile_um: found {found}, expected a positive number of µm")]
    TileSize {
        /// Which level.
        level: Level,
        /// Its tile size.
        found: f64,
    },
    /// No neighbour table for a level.
    #[error("{level} level: {source}")]
    Graph {
        /// Which level.
        level: Level,
        /// Why.
        source: NeighborGraphError,
    },
}

impl SlideLayout {
    /// Lays out the tiles that hold the bins with the given centres, and the neighbour tables of all levels with
    /// `neighbors` slots (`K`).
    ///
    /// Tiles lie on grids anchored at the slide's top left corner, so that a bin has the same parents however many
    /// other bins are given with it. A tile's centre is that of its square.
    ///
    /// # Errors
    /// When a coordinate is not finite, a tile size is not positive, or `neighbors` is out of range.
    pub fn new(
        bins_um: &[SlideUm],
        levels: &PerLevel<LevelGeometry>,
        neighbors: usize,
    ) -> Result<Self, LayoutError> {
        for level in Level::WIDE {
            let found = levels.get(level).tile_um;
            if !(found.is_finite() && found > 0.0) {
                return Err(LayoutError::TileSize { level, found });
            }
        }
        let graph = |level, points: &[SlideUm]| {
            NeighborTable::mutual_knn(points, neighbors)
                .map_err(|source| LayoutError::Graph { level, source })
        };
        // The bins' graph comes first, because it checks the coordinates that the tiles are made from.
        let bin_graph = graph(Level::Bin, bins_um)?;
        let (spot_centers, parent_spot) = tiles(bins_um, levels.spot.tile_um);
        let (region_centers, parent_region) = tiles(bins_um, levels.region.tile_um);
        let graphs = PerLevel {
            bin: bin_graph,
            spot: graph(Level::Spot, &spot_centers)?,
            region: graph(Level::Region, &region_centers)?,
        };
        let centers = PerLevel { bin: bins_um.to_vec(), spot: spot_centers, region: region_centers };
        Ok(Self { centers, parent_spot, parent_region, graphs })
    }

    /// Number of nodes of each level.
    pub fn nodes(&self) -> PerLevel<usize> {
        PerLevel::from_fn(|level| self.centers.get(level).len())
    }

    /// The parent tile of each bin at a wide level; at [`Level::Bin`] there is none.
    pub fn parents(&self, level: Level) -> &[u32] {
        match level {
            Level::Bin => &[],
            Level::Spot => &self.parent_spot,
            Level::Region => &self.parent_region,
        }
    }

    /// Cuts the slide into spatially contiguous blocks of at most `max_core_bins` core bins (at least 1), each with
    /// the halo that makes the predictions of its core nodes exact after `hops` graph layers (`T`).
    ///
    /// Every bin is core in exactly one block. Spot tiles stay whole wherever one fits into a block, and so do the
    /// groups of spots that lie in one region. `seed` turns the cutting lines, so that training sees other
    /// neighbourhoods at the edges in each epoch; `None` cuts along the axes.
    ///
    /// A tile is core in every block that holds one of its bins as core. A tile that two blocks share is predicted
    /// twice with the same result, because its own halo is complete in both. Only what is averaged over a tile's core
    /// bins sees part of them in a shared tile.
    ///
    /// Blocks are built as the iterator is read, so that memory does not grow with the slide.
    pub fn blocks(
        &self,
        max_core_bins: usize,
        hops: usize,
        seed: Option<u64>,
    ) -> impl ExactSizeIterator<Item = Block> + '_ {
        self.block_cores(max_core_bins, seed).into_iter().map(move |core| self.block(core, hops))
    }

    /// The core bins of every block of [`SlideLayout::blocks`], ascending within a block. For whoever does not go
    /// through the blocks in order: building one is far more work than knowing its core.
    pub fn block_cores(&self, max_core_bins: usize, seed: Option<u64>) -> Vec<Vec<u32>> {
        cut::cut(self, max_core_bins.max(1), seed)
    }

    /// The block with the given core bins, ascending, and their halo.
    pub fn block(&self, core_bins: Vec<u32>, hops: usize) -> Block {
        Block::new(self, core_bins, hops)
    }
}

/// The centres of the tiles of pitch `tile_um` that hold a bin, by row, then column; and the tile of each bin.
fn tiles(bins_um: &[SlideUm], tile_um: f64) -> (Vec<SlideUm>, Vec<u32>) {
    let tile_of_bin: Vec<Tile> = bins_um.iter().map(|&bin| tile_from_um(bin, tile_um)).collect();
    let mut tiles = tile_of_bin.clone();
    tiles.sort_unstable();
    tiles.dedup();
    let place = |tile: &Tile| tiles.partition_point(|other| other < tile) as u32;
    let parents = tile_of_bin.iter().map(place).collect();
    (tiles.iter().map(|&tile| um_from_tile(tile, tile_um)).collect(), parents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(spot_um: f64, region_um: f64) -> PerLevel<LevelGeometry> {
        let level = |tile_um| LevelGeometry { tile_um, ..LevelGeometry::default() };
        PerLevel { bin: level(8.0), spot: level(spot_um), region: level(region_um) }
    }

    #[test]
    fn tiles_hold_bins_and_are_ordered_by_row_then_column() {
        // Spot tiles of 10 µm: (row 1, col 0), (row 0, col 3), (row 0, col 0), (row 0, col 3).
        let bins = [(5.0, 15.0), (31.0, 2.0), (0.0, 0.0), (39.9, 9.9)].map(|(x, y)| SlideUm { x, y });
        let layout = SlideLayout::new(&bins, &levels(10.0, 40.0), 2).unwrap();
        let at = |x, y| SlideUm { x, y };
        assert_eq!(layout.centers.spot, [at(5.0, 5.0), at(35.0, 5.0), at(5.0, 15.0)]);
        assert_eq!(layout.parent_spot, [2, 1, 0, 1]);
        assert_eq!(layout.centers.region, [at(20.0, 20.0)]);
        assert_eq!(layout.parents(Level::Region), [0, 0, 0, 0]);
        assert_eq!(layout.nodes(), PerLevel { bin: 4, spot: 3, region: 1 });
    }

    #[test]
    fn parents_do_not_depend_on_which_bins_are_given() {
        let bins: Vec<_> =
            (0..50).map(|i| SlideUm { x: f64::from(i) * 7.3, y: f64::from(i * i % 90) }).collect();
        let whole = SlideLayout::new(&bins, &levels(20.0, 60.0), 4).unwrap();
        let part = SlideLayout::new(&bins[20..30], &levels(20.0, 60.0), 4).unwrap();
        for bin in 0..10 {
            let centers = [(&whole, bin + 20), (&part, bin)]
                .map(|(layout, bin)| layout.centers.spot[layout.parent_spot[bin] as usize]);
            assert_eq!(centers[0], centers[1]);
        }
    }

    #[test]
    fn errors_name_the_level_and_the_field() {
        let bins = [SlideUm { x: 1.0, y: 1.0 }];
        let text = SlideLayout::new(&bins, &levels(0.0, 40.0), 2).unwrap_err().to_string();
        assert!(text.contains("levels.spot.tile_um") && text.contains("found 0"), "{text}");
        let text = SlideLayout::new(&bins, &levels(10.0, 40.0), 0).unwrap_err().to_string();
        assert!(text.contains("bin level") && text.contains("neighbors"), "{text}");
        let text = SlideLayout::new(&[SlideUm { x: f64::NAN, y: 0.0 }], &levels(10.0, 40.0), 2).unwrap_err();
        assert!(text.to_string().contains("finite"), "{text}");
    }

    #[test]
    fn a_slide_without_bins_has_no_blocks() {
        let layout = SlideLayout::new(&[], &levels(10.0, 40.0), 2).unwrap();
        assert_eq!(layout.blocks(10, 3, None).len(), 0);
    }
}
