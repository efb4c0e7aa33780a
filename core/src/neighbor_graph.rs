//! K nearest neighbours of points in the plane as an `[N,K]` table, without an N×N matrix.
//!
//! The points go into the buckets of a balanced k-d tree. A uniform grid of buckets would do for a regular array of
//! bins, but one far outlier makes its cells too coarse, and then the search is quadratic; halving by rank has no
//! such case, not even for points that all coincide.

use thiserror::Error;

use crate::coordinates::SlideUm;

/// Most neighbours that a table may hold per row; far beyond any useful graph, it bounds the memory that a
/// configuration can ask for.
pub const MAX_NEIGHBORS: usize = 1024;

/// Points per bucket: below this a scan is faster than a descent.
const BUCKET: usize = 12;

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

/// Why no neighbour table could be made.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NeighborGraphError {
    /// A point that is nowhere.
    #[error("coordinates: point {index} is at ({x}, {y}) µm; expected finite numbers")]
    NotFinite {
        /// Which point.
        index: usize,
        /// Its x.
        x: f64,
        /// Its y.
        y: f64,
    },
    /// A number of neighbours that makes no graph.
    #[error("neighbors: found {found}, expected 1 to {MAX_NEIGHBORS}")]
    Neighbors {
        /// What was asked for.
        found: usize,
    },
    /// More points than an index can number.
    #[error("coordinates: {found} points, expected at most {}", u32::MAX)]
    TooManyPoints {
        /// Number of points.
        found: usize,
    },
}

impl NeighborTable {
    /// Number of rows `N`.
    pub fn len(&self) -> usize {
        self.indices.len().checked_div(self.k).unwrap_or_default()
    }

    /// Whether the table has no row.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The slots of row `row`, valid or not; none past the end.
    pub fn slots(&self, row: usize) -> impl Iterator<Item = (u32, bool)> + '_ {
        let range = row.saturating_mul(self.k)..row.saturating_add(1).saturating_mul(self.k);
        let indices = self.indices.get(range.clone()).unwrap_or_default();
        let valid = self.valid.get(range).unwrap_or_default();
        indices.iter().copied().zip(valid.iter().copied())
    }

    /// The neighbours of row `row`, in the table's order.
    pub fn neighbors(&self, row: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots(row).filter(|&(_, valid)| valid).map(|(neighbor, _)| neighbor)
    }

    /// The mutual `k`-nearest-neighbour graph: two points are neighbours when each is among the other's `k` nearest
    /// by Euclidean distance, the point itself excluded.
    ///
    /// Distances are compared in steps of 1/64 µm, so that what ties on a lattice ties in spite of rounding. Ties go to the
    /// neighbour further up, then further left, then of the lower index: the graph does not depend on the order of the
    /// points, unless some coincide. Rows are sorted alike. The table is symmetric and no row has more than `k` entries. Time is `O(N log N)` for every arrangement of the points, memory `O(N·k)`.
    ///
    /// # Errors
    /// When a coordinate is not finite, `k` is 0 or above [`MAX_NEIGHBORS`], or there are more points than `u32` can
    /// number.
    pub fn mutual_knn(points: &[SlideUm], k: usize) -> Result<Self, NeighborGraphError> {
        let nearest = NearestNeighbors::of(points, k)?;
        let mut table = Self { k, indices: Vec::with_capacity(points.len() * k), valid: Vec::new() };
        table.valid.reserve(points.len() * k);
        for (row, own) in (0..points.len()).zip(0_u32..) {
            let mutual = nearest.row(row).iter().filter(|&&other| nearest.row(other as usize).contains(&own));
            table.indices.extend(mutual);
            table.valid.resize(table.indices.len(), true);
            table.indices.resize((row + 1) * k, own);
            table.valid.resize((row + 1) * k, false);
        }
        Ok(table)
    }
}

/// The `k` nearest neighbours of every point, one way.
struct NearestNeighbors {
    /// Neighbours of all rows, one row after the other; all rows have the same length, `min(k, N − 1)`.
    neighbors: Vec<u32>,
    per_row: usize,
}

impl NearestNeighbors {
    fn of(points: &[SlideUm], k: usize) -> Result<Self, NeighborGraphError> {
        if k == 0 || k > MAX_NEIGHBORS {
            return Err(NeighborGraphError::Neighbors { found: k });
        }
        if u32::try_from(points.len()).is_err() {
            return Err(NeighborGraphError::TooManyPoints { found: points.len() });
        }
        if let Some(index) = points.iter().position(|point| !(point.x.is_finite() && point.y.is_finite())) {
            let SlideUm { x, y } = points[index];
            return Err(NeighborGraphError::NotFinite { index, x, y });
        }
        let per_row = k.min(points.len().saturating_sub(1));
        let mut neighbors = Vec::with_capacity(points.len() * per_row);
        if per_row > 0 {
            let tree = BucketTree::new(points);
            let mut best = Vec::with_capacity(per_row + 1);
            for own in 0..points.len() as u32 {
                best.clear();
                tree.nearest(0, own, per_row, &mut best);
                neighbors.extend(best.iter().map(|candidate| candidate.index));
            }
        }
        Ok(Self { neighbors, per_row })
    }

    fn row(&self, row: usize) -> &[u32] {
        self.neighbors.get(row * self.per_row..(row + 1) * self.per_row).unwrap_or_default()
    }
}

/// Steps per µm in which places are compared.
const STEPS_PER_UM: f64 = 64.0;

/// A point as seen from another, or the best that a bucket can hold, ordered by distance, then from top to bottom, from
/// left to right, and by index. Distance and offset are in steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    distance: u64,
    down: i64,
    right: i64,
    index: u32,
}

impl Candidate {
    /// `right` and `down` are the smallest offsets in µm that the point can have, `squared` its least squared distance.
    fn new(squared: f64, right: f64, down: f64, index: u32) -> Self {
        let steps = |um: f64| (um * STEPS_PER_UM).round();
        Self {
            distance: steps(squared.sqrt()) as u64,
            down: steps(down) as i64,
            right: steps(right) as i64,
            index,
        }
    }
}

/// A balanced k-d tree whose leaves are buckets of up to [`BUCKET`] points.
struct BucketTree<'a> {
    points: &'a [SlideUm],
    /// Point indices, bucket by bucket.
    order: Vec<u32>,
    nodes: Vec<Node>,
}

struct Node {
    min: SlideUm,
    max: SlideUm,
    /// Smallest point index below this node: with the box it bounds what the node can offer when distances tie.
    lowest_index: u32,
    /// The node's stretch of `order`.
    start: usize,
    end: usize,
    /// The two halves; `None` for a bucket.
    children: Option<(usize, usize)>,
}

impl<'a> BucketTree<'a> {
    fn new(points: &'a [SlideUm]) -> Self {
        let order = (0..points.len() as u32).collect();
        let mut tree = Self { points, order, nodes: Vec::with_capacity(4 * points.len() / BUCKET + 1) };
        tree.build(0, points.len());
        tree
    }

    /// Builds the node over `order[start..end]` and returns its place.
    fn build(&mut self, start: usize, end: usize) -> usize {
        let mut min = SlideUm { x: f64::INFINITY, y: f64::INFINITY };
        let mut max = SlideUm { x: f64::NEG_INFINITY, y: f64::NEG_INFINITY };
        let mut lowest_index = u32::MAX;
        for &index in &self.order[start..end] {
            let point = self.points[index as usize];
            min = SlideUm { x: min.x.min(point.x), y: min.y.min(point.y) };
            max = SlideUm { x: max.x.max(point.x), y: max.y.max(point.y) };
            lowest_index = lowest_index.min(index);
        }
        let place = self.nodes.len();
        self.nodes.push(Node { min, max, lowest_index, start, end, children: None });
        if end - start > BUCKET {
            let middle = start + (end - start) / 2;
            let points = self.points;
            let coordinate: fn(&SlideUm) -> f64 =
                if max.x - min.x >= max.y - min.y { |point| point.x } else { |point| point.y };
            self.order[start..end].select_nth_unstable_by(middle - start, |&a, &b| {
                // Equal coordinates are split by index, so that even coinciding points part into ordered halves.
                let by_coordinate =
                    coordinate(&points[a as usize]).total_cmp(&coordinate(&points[b as usize]));
                by_coordinate.then(a.cmp(&b))
            });
            let low = self.build(start, middle);
            let high = self.build(middle, end);
            self.nodes[place].children = Some((low, high));
        }
        place
    }

    /// The best candidate that could lie below a node. Rounding is monotone, so no point below it has a smaller
    /// computed distance.
    fn bound(&self, node: usize, from: SlideUm) -> Candidate {
        let Node { min, max, lowest_index, .. } = &self.nodes[node];
        let dx = (min.x - from.x).max(from.x - max.x).max(0.0);
        let dy = (min.y - from.y).max(from.y - max.y).max(0.0);
        Candidate::new(dx * dx + dy * dy, min.x - from.x, min.y - from.y, *lowest_index)
    }

    /// Merges the points below `node` into `best`, the sorted list of the up to `wanted` nearest to point `own`.
    fn nearest(&self, node: usize, own: u32, wanted: usize, best: &mut Vec<Candidate>) {
        let from = self.points[own as usize];
        let Some((low, high)) = self.nodes[node].children else {
            for &index in &self.order[self.nodes[node].start..self.nodes[node].end] {
                if index != own {
                    let point = self.points[index as usize];
                    let (dx, dy) = (point.x - from.x, point.y - from.y);
                    insert(best, wanted, Candidate::new(dx * dx + dy * dy, dx, dy, index));
                }
            }
            return;
        };
        let mut halves = [(low, self.bound(low, from)), (high, self.bound(high, from))];
        if halves[1].1 < halves[0].1 {
            halves.swap(0, 1);
        }
        for (child, bound) in halves {
            let worse = |worst: &Candidate| bound > *worst;
            if best.len() < wanted || !best.last().is_some_and(worse) {
                self.nearest(child, own, wanted, best);
            }
        }
    }
}

/// Puts `candidate` into its place in the sorted list `best`, which keeps at most `wanted`.
fn insert(best: &mut Vec<Candidate>, wanted: usize, candidate: Candidate) {
    if best.len() == wanted && best.last().is_some_and(|worst| candidate > *worst) {
        return;
    }
    let place = best.partition_point(|held| *held < candidate);
    best.insert(place, candidate);
    best.truncate(wanted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(coordinates: &[(f64, f64)]) -> Vec<SlideUm> {
        coordinates.iter().map(|&(x, y)| SlideUm { x, y }).collect()
    }

    /// Every pair of points compared: what the tree must reproduce.
    fn brute_force(points: &[SlideUm], k: usize) -> Vec<Vec<u32>> {
        let nearest: Vec<Vec<u32>> = (0..points.len())
            .map(|i| {
                let mut others: Vec<usize> = (0..points.len()).filter(|&j| j != i).collect();
                let steps = |um: f64| (um * 64.0).round() as i64;
                others.sort_by_key(|&j| {
                    let (dx, dy) = (points[j].x - points[i].x, points[j].y - points[i].y);
                    (steps((dx * dx + dy * dy).sqrt()), steps(dy), steps(dx), j)
                });
                others.into_iter().take(k).map(|j| j as u32).collect()
            })
            .collect();
        let mutual = |i: usize| {
            nearest[i].iter().copied().filter(|&j| nearest[j as usize].contains(&(i as u32))).collect()
        };
        (0..points.len()).map(mutual).collect()
    }

    fn rows(table: &NeighborTable) -> Vec<Vec<u32>> {
        (0..table.len()).map(|row| table.neighbors(row).collect()).collect()
    }

    proptest! {
        /// Half of the cases lie on a coarse lattice, where distances tie and points coincide.
        #[test]
        fn the_table_equals_the_brute_force_one_and_is_symmetric(
            (coordinates, k, lattice) in (
                prop::collection::vec((-500.0..500.0_f64, -500.0..500.0_f64), 0..120),
                1..12_usize,
                any::<bool>(),
            )
        ) {
            let mut points = points(&coordinates);
            if lattice {
                for point in &mut points {
                    *point = SlideUm { x: (point.x / 100.0).round(), y: (point.y / 100.0).round() };
                }
            }
            let table = NeighborTable::mutual_knn(&points, k).unwrap();
            let found = rows(&table);
            prop_assert_eq!(&found, &brute_force(&points, k));
            for (i, row) in found.iter().enumerate() {
                for &j in row {
                    prop_assert!(found[j as usize].contains(&(i as u32)));
                }
            }
        }

        #[test]
        fn moving_all_points_together_changes_nothing(
            coordinates in prop::collection::vec((0..40_i32, 0..40_i32), 1..100),
            dx in -1000..1000_i32,
            dy in -1000..1000_i32,
        ) {
            let at = |dx: i32, dy: i32| -> Vec<SlideUm> {
                coordinates.iter().map(|&(x, y)| SlideUm { x: f64::from(x + dx), y: f64::from(y + dy) }).collect()
            };
            prop_assert_eq!(
                NeighborTable::mutual_knn(&at(0, 0), 5).unwrap(),
                NeighborTable::mutual_knn(&at(dx, dy), 5).unwrap()
            );
        }
    }

    /// A hexagonal array as Visium's, where the second ring of neighbours ties and rounding differs from place to place.
    #[test]
    fn the_graph_of_an_array_does_not_depend_on_the_order_of_its_points() {
        let array: Vec<SlideUm> = (0..400)
            .map(|i| {
                let (row, col) = (i / 20, i % 20);
                let x = f64::from(2 * col + row % 2) * 50.0 + 1234.567;
                SlideUm { x, y: f64::from(row) * 50.0 * 3.0_f64.sqrt() + 0.1 }
            })
            .collect();
        // 147 has no factor in common with 400, so that this is a permutation.
        let order: Vec<usize> = (0..array.len()).map(|i| i * 147 % array.len()).collect();
        let turned: Vec<SlideUm> = order.iter().map(|&i| array[i]).collect();
        let (table, turned) =
            [&array, &turned].map(|points| NeighborTable::mutual_knn(points, 8).unwrap()).into();
        for (row, &own) in order.iter().enumerate() {
            let back: Vec<u32> = turned.neighbors(row).map(|other| order[other as usize] as u32).collect();
            assert_eq!(back, table.neighbors(own).collect::<Vec<_>>());
        }
        // Six at one step; of the ring behind them, which ties, nobody is mutual.
        assert_eq!(table.neighbors(210).count(), 6);
    }

    #[test]
    fn eight_neighbours_of_a_regular_grid_are_the_surrounding_cells() {
        let side = 320;
        let grid: Vec<_> = (0..side * side)
            .map(|i| SlideUm { x: f64::from(i % side) * 8.0, y: f64::from(i / side) * 8.0 })
            .collect();
        let table = NeighborTable::mutual_knn(&grid, 8).unwrap();
        assert_eq!(table.len(), 102_400);
        let inner = (10 * side + 10) as u32;
        let step = side as u32;
        let expected = [
            inner - step,
            inner - 1,
            inner + 1,
            inner + step,
            inner - step - 1,
            inner - step + 1,
            inner + step - 1,
            inner + step + 1,
        ];
        assert_eq!(table.neighbors(inner as usize).collect::<Vec<_>>(), expected);
        // A corner bin also has those two steps along either edge, which reach back to it.
        assert_eq!(table.neighbors(0).collect::<Vec<_>>(), [1, step, step + 1, 2, 2 * step]);
    }

    /// Each of these takes minutes when the search is quadratic.
    #[test]
    fn clusters_outliers_lines_and_coinciding_points_are_no_slow_case() {
        let n = 100_000;
        let mut clustered: Vec<_> =
            (0..n).map(|i| SlideUm { x: f64::from(i % 317) * 1e-6, y: f64::from(i / 317) * 1e-6 }).collect();
        clustered.push(SlideUm { x: 1e9, y: -1e9 });
        let line: Vec<_> = (0..n).map(|i| SlideUm { x: f64::from(i), y: 3.0 }).collect();
        let coinciding = vec![SlideUm { x: 1.0, y: 2.0 }; n as usize];
        for (points, inner_degree) in [(clustered, 8), (line, 8), (coinciding, 8)] {
            let table = NeighborTable::mutual_knn(&points, 8).unwrap();
            let most = (0..table.len()).map(|row| table.neighbors(row).count()).max();
            assert_eq!(most, Some(inner_degree));
        }
    }

    #[test]
    fn tiny_sets_have_the_neighbours_that_exist() {
        assert!(NeighborTable::mutual_knn(&[], 3).unwrap().is_empty());
        let one = NeighborTable::mutual_knn(&points(&[(1.0, 1.0)]), 2).unwrap();
        assert_eq!((one.indices, one.valid), (vec![0, 0], vec![false, false]));
        let two = NeighborTable::mutual_knn(&points(&[(1.0, 1.0), (1.0, 1.0)]), 2).unwrap();
        assert_eq!((two.indices, two.valid), (vec![1, 0, 0, 1], vec![true, false, true, false]));
    }

    #[test]
    fn a_point_far_from_all_others_has_no_mutual_neighbour() {
        let table = NeighborTable::mutual_knn(&points(&[(0.0, 0.0), (1.0, 0.0), (100.0, 0.0)]), 1).unwrap();
        assert_eq!(rows(&table), [vec![1], vec![0], vec![]]);
    }

    #[test]
    fn bad_requests_get_typed_errors() {
        let bad = NeighborTable::mutual_knn(&points(&[(0.0, 0.0), (f64::NAN, 1.0)]), 1);
        assert!(matches!(bad, Err(NeighborGraphError::NotFinite { index: 1, .. })));
        for k in [0, MAX_NEIGHBORS + 1] {
            assert_eq!(NeighborTable::mutual_knn(&[], k), Err(NeighborGraphError::Neighbors { found: k }));
        }
    }

    #[test]
    fn distances_beyond_the_range_of_f64_do_not_break_the_search() {
        let far = points(&[(-1e200, 0.0), (1e200, 0.0), (0.0, 1e300), (0.0, -1e300)]);
        let table = NeighborTable::mutual_knn(&far, 2).unwrap();
        assert_eq!(rows(&table), brute_force(&far, 2));
    }
}
