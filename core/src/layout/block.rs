//! One block: its core nodes, the halo that makes them exact, and every table in local indices.

use std::collections::HashMap;

use super::SlideLayout;
use crate::coordinates::SlideUm;
use crate::level::PerLevel;
use crate::neighbor_graph::NeighborTable;

/// The part of a slide that one forward pass reads: core nodes, whose predictions are exact, then their halo.
///
/// The local bins are the core bins and all within `T` hops of them. The local tiles of a wide level are
/// - the parents of the core bins (they are core) and all tiles within `T` hops of these, for the level's own graph;
/// - the parents of all local bins and those parents' neighbours, for the bins' cross-level attention.
#[derive(Debug, Clone)]
pub struct Block {
    /// Slide indices of the local nodes of each level; the first `core` of them are the block's own. Core and halo
    /// are ascending.
    pub nodes: PerLevel<Vec<u32>>,
    /// Number of core nodes of each level.
    pub core: PerLevel<usize>,
    /// Neighbours in local indices; a neighbour outside the block is not valid.
    pub graphs: PerLevel<NeighborTable>,
    /// For each local bin its parent spot, then that spot's neighbours: `[B,1+K]`, local spot indices. A slot that is
    /// not valid holds the parent.
    pub spot_context: NeighborTable,
    /// The same for regions.
    pub region_context: NeighborTable,
    /// Local spot index of each core bin's parent.
    pub parent_spot: Vec<u32>,
    /// Local region index of each core bin's parent.
    pub parent_region: Vec<u32>,
    /// Column and row of each local bin, counted from the block's left and upper edge in steps of its bins' pitch: the
    /// median distance from a bin to its nearest neighbour.
    pub places: Vec<[u32; 2]>,
}

impl Block {
    /// The block whose core bins are `core_bins` (ascending slide indices).
    pub(super) fn new(layout: &SlideLayout, core_bins: Vec<u32>, hops: usize) -> Self {
        let graph = &layout.graphs.bin;
        let bins = LocalNodes::new(core_bins.clone(), within_hops(graph, &core_bins, hops));
        let spots = wide_nodes(&layout.graphs.spot, &layout.parent_spot, &core_bins, &bins, hops);
        let regions = wide_nodes(&layout.graphs.region, &layout.parent_region, &core_bins, &bins, hops);
        let parents = |parents: &[u32], tiles: &LocalNodes| {
            core_bins.iter().map(|&bin| tiles.local(parent(parents, bin))).collect()
        };
        Self {
            graphs: PerLevel {
                bin: bins.graph(graph),
                spot: spots.graph(&layout.graphs.spot),
                region: regions.graph(&layout.graphs.region),
            },
            spot_context: context(&bins, &layout.parent_spot, &spots, &layout.graphs.spot),
            region_context: context(&bins, &layout.parent_region, &regions, &layout.graphs.region),
            parent_spot: parents(&layout.parent_spot, &spots),
            parent_region: parents(&layout.parent_region, &regions),
            places: places(layout, &bins.nodes),
            core: PerLevel { bin: bins.core, spot: spots.core, region: regions.core },
            nodes: PerLevel { bin: bins.nodes, spot: spots.nodes, region: regions.nodes },
        }
    }
}

/// See [`Block::places`].
fn places(layout: &SlideLayout, bins: &[u32]) -> Vec<[u32; 2]> {
    let center =
        |bin: u32| layout.centers.bin.get(bin as usize).copied().unwrap_or(SlideUm { x: 0.0, y: 0.0 });
    let mut nearest: Vec<f64> = bins
        .iter()
        .filter_map(|&bin| {
            let own = center(bin);
            let distance = |other: u32| {
                let other = center(other);
                ((other.x - own.x).powi(2) + (other.y - own.y).powi(2)).sqrt()
            };
            layout.graphs.bin.neighbors(bin as usize).map(distance).min_by(f64::total_cmp)
        })
        .filter(|&distance| distance > 0.0)
        .collect();
    nearest.sort_unstable_by(f64::total_cmp);
    let pitch = nearest.get(nearest.len() / 2).copied().unwrap_or(1.0);
    let edge = |of: fn(SlideUm) -> f64| bins.iter().map(|&bin| of(center(bin))).fold(f64::INFINITY, f64::min);
    let (left, top) = (edge(|at| at.x), edge(|at| at.y));
    let step = |at: f64, from: f64| ((at - from) / pitch).round() as u32;
    bins.iter().map(|&bin| [step(center(bin).x, left), step(center(bin).y, top)]).collect()
}

/// The nodes of one level in a block and where each of them stands.
struct LocalNodes {
    nodes: Vec<u32>,
    core: usize,
    local_of: HashMap<u32, u32>,
}

impl LocalNodes {
    /// Core nodes, then those of `wanted` that are not core; both sorted here.
    fn new(mut core_nodes: Vec<u32>, mut wanted: Vec<u32>) -> Self {
        core_nodes.sort_unstable();
        core_nodes.dedup();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|node| core_nodes.binary_search(node).is_err());
        let core = core_nodes.len();
        let nodes = [core_nodes, wanted].concat();
        let local_of = nodes.iter().copied().zip(0..).collect();
        Self { nodes, core, local_of }
    }

    /// The local index of a node that is in the block.
    fn local(&self, node: u32) -> u32 {
        self.local_of.get(&node).copied().unwrap_or_default()
    }

    /// The level's graph among the local nodes.
    fn graph(&self, slide: &NeighborTable) -> NeighborTable {
        let mut table = empty_table(slide.k, self.nodes.len());
        for (&node, own) in self.nodes.iter().zip(0..) {
            for (neighbor, valid) in slide.slots(node as usize) {
                let local = self.local_of.get(&neighbor).filter(|_| valid);
                table.indices.push(local.copied().unwrap_or(own));
                table.valid.push(local.is_some());
            }
        }
        table
    }
}

fn empty_table(k: usize, rows: usize) -> NeighborTable {
    NeighborTable { k, indices: Vec::with_capacity(k * rows), valid: Vec::with_capacity(k * rows) }
}

/// The parent of a bin of the slide.
fn parent(parents: &[u32], bin: u32) -> u32 {
    parents.get(bin as usize).copied().unwrap_or_default()
}

/// The tiles of a wide level that a block reads.
fn wide_nodes(
    graph: &NeighborTable,
    parents: &[u32],
    core_bins: &[u32],
    bins: &LocalNodes,
    hops: usize,
) -> LocalNodes {
    let distinct_parents = |bins: &[u32]| {
        let mut tiles: Vec<u32> = bins.iter().map(|&bin| parent(parents, bin)).collect();
        tiles.sort_unstable();
        tiles.dedup();
        tiles
    };
    let core_tiles = distinct_parents(core_bins);
    let mut wanted = within_hops(graph, &core_tiles, hops);
    wanted.extend(within_hops(graph, &distinct_parents(&bins.nodes), 1));
    LocalNodes::new(core_tiles, wanted)
}

/// The `seeds` (without repeats) and all nodes that can be reached from them in at most `hops` steps.
fn within_hops(graph: &NeighborTable, seeds: &[u32], hops: usize) -> Vec<u32> {
    let mut reached: std::collections::HashSet<u32> = seeds.iter().copied().collect();
    let mut nodes = seeds.to_vec();
    let mut frontier = 0;
    for _ in 0..hops {
        let end = nodes.len();
        for at in frontier..end {
            for neighbor in graph.neighbors(nodes[at] as usize) {
                if reached.insert(neighbor) {
                    nodes.push(neighbor);
                }
            }
        }
        frontier = end;
        if end == nodes.len() {
            break;
        }
    }
    nodes
}

/// For each local bin its parent and the parent's neighbours, in local tile indices.
fn context(bins: &LocalNodes, parents: &[u32], tiles: &LocalNodes, graph: &NeighborTable) -> NeighborTable {
    let mut table = empty_table(1 + graph.k, bins.nodes.len());
    for &bin in &bins.nodes {
        let parent = parent(parents, bin);
        let local_parent = tiles.local(parent);
        table.indices.push(local_parent);
        table.valid.push(true);
        for (neighbor, valid) in graph.slots(parent as usize) {
            table.indices.push(if valid { tiles.local(neighbor) } else { local_parent });
            table.valid.push(valid);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, LevelGeometry};
    use proptest::prelude::*;

    fn layout(coordinates: &[(f64, f64)], spot_um: f64, region_um: f64, neighbors: usize) -> SlideLayout {
        let level = |tile_um| LevelGeometry { tile_um, ..LevelGeometry::default() };
        let levels = PerLevel { bin: level(8.0), spot: level(spot_um), region: level(region_um) };
        let bins: Vec<_> = coordinates.iter().map(|&(x, y)| SlideUm { x, y }).collect();
        SlideLayout::new(&bins, &levels, neighbors).unwrap()
    }

    /// A number that stands for the features of a slide's node.
    fn feature(level: Level, node: u32) -> f64 {
        (crate::random::derived_seed(0, level.name(), &[u64::from(node)]) >> 11) as f64
    }

    /// `hops` rounds in which every node mixes its own value with those of its neighbours, order mattering.
    fn mix(graph: &NeighborTable, mut values: Vec<f64>, hops: usize) -> Vec<f64> {
        for _ in 0..hops {
            let mixed = |row: usize| {
                let sum = graph.neighbors(row).fold(0.0, |sum, other| sum * 0.7 + values[other as usize]);
                0.5 * values[row] + sum
            };
            values = (0..values.len()).map(mixed).collect();
        }
        values
    }

    /// What the model does to `features`, in miniature: cross-level context, graphs, wide tokens.
    fn forward(
        features: PerLevel<Vec<f64>>,
        contexts: [&NeighborTable; 2],
        graphs: &PerLevel<NeighborTable>,
        parents: [&[u32]; 2],
        hops: usize,
    ) -> PerLevel<Vec<f64>> {
        let attended = |context: &NeighborTable, row: usize, wide: &[f64]| {
            context.neighbors(row).fold(0.0, |sum, tile| sum * 0.9 + wide[tile as usize])
        };
        let bins = (0..features.bin.len()).map(|bin| {
            let [spot, region] = contexts;
            features.bin[bin] + attended(spot, bin, &features.spot) + attended(region, bin, &features.region)
        });
        let mut mixed = PerLevel {
            bin: mix(&graphs.bin, bins.collect(), hops),
            spot: mix(&graphs.spot, features.spot, hops),
            region: mix(&graphs.region, features.region, hops),
        };
        let [parent_spot, parent_region] = parents;
        for (bin, (&spot, &region)) in parent_spot.iter().zip(parent_region).enumerate() {
            mixed.bin[bin] += mixed.spot[spot as usize] * 3.0 + mixed.region[region as usize] * 5.0;
        }
        mixed
    }

    /// The context table of the whole slide, made independently of blocks.
    fn slide_context(parents: &[u32], graph: &NeighborTable) -> NeighborTable {
        let mut table = empty_table(1 + graph.k, parents.len());
        for &parent in parents {
            table.indices.push(parent);
            table.valid.push(true);
            table.indices.extend(graph.slots(parent as usize).map(|slot| slot.0));
            table.valid.extend(graph.slots(parent as usize).map(|slot| slot.1));
        }
        table
    }

    proptest! {
        #[test]
        fn core_nodes_of_every_block_get_what_the_whole_slide_gives(
            coordinates in prop::collection::vec((0.0..600.0_f64, 0.0..600.0_f64), 1..150),
            tiles in (20.0..90.0_f64, 60.0..250.0_f64),
            neighbors in 1..9_usize,
            hops in 0..4_usize,
            max_core_bins in 1..50_usize,
            seed in prop::option::of(any::<u64>()),
        ) {
            let layout = layout(&coordinates, tiles.0, tiles.1, neighbors);
            let slide = forward(
                PerLevel::from_fn(|level| {
                    (0..layout.centers.get(level).len() as u32).map(|node| feature(level, node)).collect()
                }),
                [
                    &slide_context(&layout.parent_spot, &layout.graphs.spot),
                    &slide_context(&layout.parent_region, &layout.graphs.region),
                ],
                &layout.graphs,
                [&layout.parent_spot, &layout.parent_region],
                hops,
            );
            let mut seen = layout.nodes().map(|nodes| vec![0; nodes]);
            for block in layout.blocks(max_core_bins, hops, seed) {
                let local = forward(
                    PerLevel::from_fn(|level| {
                        block.nodes.get(level).iter().map(|&node| feature(level, node)).collect()
                    }),
                    [&block.spot_context, &block.region_context],
                    &block.graphs,
                    [&block.parent_spot, &block.parent_region],
                    hops,
                );
                for level in Level::ALL {
                    for own in 0..*block.core.get(level) {
                        let node = block.nodes.get(level)[own] as usize;
                        prop_assert_eq!(local.get(level)[own], slide.get(level)[node]);
                        seen.get_mut(level)[node] += 1;
                    }
                }
            }
            prop_assert!(seen.bin.iter().all(|&times| times == 1));
            prop_assert!(seen.spot.iter().chain(&seen.region).all(|&times| times >= 1));
        }
    }

    #[test]
    fn the_halo_ends_after_the_hops() {
        // A row of 9 bins in tiles of their own; the graph is the chain.
        let row: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i) * 10.0 + 5.0, 5.0)).collect();
        let layout = layout(&row, 10.0, 10.0, 2);
        let block = Block::new(&layout, vec![0], 2);
        assert_eq!(block.nodes.bin, [0, 1, 2]);
        assert_eq!(block.core, PerLevel { bin: 1, spot: 1, region: 1 });
        // Spots: two hops from spot 0, and the neighbours of the parents of bins 0 to 2.
        assert_eq!(block.nodes.spot, [0, 1, 2, 3]);
        // The last halo bin has lost its neighbour outside the block and keeps the one inside.
        assert_eq!(block.graphs.bin.neighbors(2).collect::<Vec<_>>(), [1]);
        assert_eq!(block.spot_context.neighbors(2).collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!(block.parent_spot, [0]);
    }

    #[test]
    fn a_slot_that_is_not_valid_stays_in_bounds() {
        let layout = layout(&[(5.0, 5.0), (25.0, 5.0), (500.0, 500.0)], 10.0, 1000.0, 4);
        for block in layout.blocks(1, 1, None) {
            let rows = block.nodes.clone().map(|nodes| nodes.len() as u32);
            assert!(block.graphs.bin.indices.iter().all(|&index| index < rows.bin));
            assert!(block.spot_context.indices.iter().all(|&index| index < rows.spot));
            assert!(block.region_context.indices.iter().all(|&index| index < rows.region));
        }
    }
}
