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
        let mut neighbors = vec![0; points.len() * per_row];
        if per_row > 0 {
            BucketTree::new(points).nearest(per_row, |own, nearest| {
                let start = own as usize * per_row;
                if let Some(row) = neighbors.get_mut(start..start + per_row) {
                    row.iter_mut().zip(nearest).for_each(|(slot, candidate)| *slot = candidate.index);
                }
            });
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
    distance: i64,
    down: i64,
    right: i64,
    index: u32,
}

impl Candidate {
    /// `right` and `down` are the smallest offsets in µm that the point can have, `squared` its least squared distance.
    fn new(squared: f64, right: f64, down: f64, index: u32) -> Self {
        Self { distance: steps(squared.sqrt()), down: steps(down), right: steps(right), index }
    }
}

/// A length in steps, rounded to the nearest, from a half on away from 0; the largest integer for what is longer.
fn steps(um: f64) -> i64 {
    let exact = um * STEPS_PER_UM;
    // Not `round`, which is a call into the C library on processors that are not asked for more.
    let whole = exact as i64;
    let rest = exact - whole as f64;
    whole.saturating_add(i64::from(rest >= 0.5)).saturating_sub(i64::from(rest <= -0.5))
}

/// The nearest points to one that were found so far.
struct Nearest {
    /// Sorted; at most `wanted`.
    best: Vec<Candidate>,
    wanted: usize,
    /// Squared distances above this are farther than the worst of the best by every rounding; infinite until there are
    /// `wanted`. It spares most points the root and the steps that a [`Candidate`] takes.
    reach: f64,
}

impl Nearest {
    fn new(wanted: usize) -> Self {
        Self { best: Vec::with_capacity(wanted + 1), wanted, reach: f64::INFINITY }
    }

    fn clear(&mut self) {
        self.best.clear();
        self.reach = f64::INFINITY;
    }

    /// The worst that is still among the nearest, once there are `wanted`.
    fn worst(&self) -> Option<&Candidate> {
        self.best.last().filter(|_| self.best.len() == self.wanted)
    }

    /// Puts `candidate` into its place, if it is nearer than the worst.
    fn insert(&mut self, candidate: Candidate) {
        if self.worst().is_some_and(|worst| candidate > *worst) {
            return;
        }
        if self.best.len() == self.wanted {
            self.best.pop();
        }
        // From the end, since most come in the order of their distance or behind the middle.
        let mut place = self.best.len();
        self.best.push(candidate);
        while let Some(before) = place.checked_sub(1).filter(|&before| self.best[before] > candidate) {
            self.best.swap(before, place);
            place = before;
        }
        if let Some(worst) = self.worst() {
            self.reach = reach_of(worst.distance);
        }
    }
}

/// A squared distance in µm² above which every distance rounds to more than `steps`.
fn reach_of(steps: i64) -> f64 {
    // Beyond this the steps of a distance stop at the largest integer, or are themselves rounded.
    if steps >= 1 << 52 {
        return f64::INFINITY;
    }
    let um = (steps as f64 + 0.5) / STEPS_PER_UM;
    // A little more than the square, for the rounding of the squares and of the root.
    um * um * (1.0 + 1e-9)
}

/// A point in the tree.
#[derive(Clone, Copy)]
struct Placed {
    x: f64,
    y: f64,
    index: u32,
}

/// A balanced k-d tree whose leaves are buckets of up to [`BUCKET`] points.
struct BucketTree {
    /// The points, bucket by bucket.
    points: Vec<Placed>,
    /// The root first.
    nodes: Vec<Node>,
}

struct Node {
    min: SlideUm,
    max: SlideUm,
    /// Smallest point index below this node: with the box it bounds what the node can offer when distances tie.
    lowest_index: u32,
    /// The node's stretch of the points.
    start: usize,
    end: usize,
    /// The two halves; `None` for a bucket.
    children: Option<(usize, usize)>,
}

/// The points of one bucket and what each has found: one descent serves them all.
struct Search<'a> {
    bucket: usize,
    min: SlideUm,
    max: SlideUm,
    points: &'a [Placed],
    found: &'a mut [Nearest],
}

impl Search<'_> {
    /// The farthest that any of the points still looks.
    fn reach(&self) -> f64 {
        self.found.iter().fold(0.0, |reach, nearest| reach.max(nearest.reach))
    }

    /// Whether what comes no earlier than `bound` is worse than all that every point has found.
    fn is_beyond(&self, bound: &Candidate) -> bool {
        self.found.iter().all(|nearest| nearest.worst().is_some_and(|worst| bound > worst))
    }
}

impl BucketTree {
    fn new(points: &[SlideUm]) -> Self {
        let points: Vec<Placed> =
            points.iter().zip(0..).map(|(&SlideUm { x, y }, index)| Placed { x, y, index }).collect();
        let nodes = Vec::with_capacity(4 * points.len() / BUCKET + 1);
        let mut tree = Self { points, nodes };
        tree.build(0, tree.points.len());
        tree
    }

    /// Builds the node over `points[start..end]` and returns its place.
    fn build(&mut self, start: usize, end: usize) -> usize {
        let mut min = SlideUm { x: f64::INFINITY, y: f64::INFINITY };
        let mut max = SlideUm { x: f64::NEG_INFINITY, y: f64::NEG_INFINITY };
        let mut lowest_index = u32::MAX;
        for point in &self.points[start..end] {
            min = SlideUm { x: min.x.min(point.x), y: min.y.min(point.y) };
            max = SlideUm { x: max.x.max(point.x), y: max.y.max(point.y) };
            lowest_index = lowest_index.min(point.index);
        }
        let place = self.nodes.len();
        self.nodes.push(Node { min, max, lowest_index, start, end, children: None });
        if end - start > BUCKET {
            let half = (end - start) / 2;
            let points = &mut self.points[start..end];
            // Equal coordinates are split by index, so that even coinciding points part into ordered halves.
            if max.x - min.x >= max.y - min.y {
                points.select_nth_unstable_by(half, |a, b| a.x.total_cmp(&b.x).then(a.index.cmp(&b.index)));
            } else {
                points.select_nth_unstable_by(half, |a, b| a.y.total_cmp(&b.y).then(a.index.cmp(&b.index)));
            }
            let low = self.build(start, start + half);
            let high = self.build(start + half, end);
            self.nodes[place].children = Some((low, high));
        }
        place
    }

    /// Calls `each` with every point's index and the `wanted` nearest to it, the nearest first.
    fn nearest(&self, wanted: usize, mut each: impl FnMut(u32, &[Candidate])) {
        let mut found: Vec<Nearest> = (0..BUCKET).map(|_| Nearest::new(wanted)).collect();
        for (bucket, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.children.is_none()) {
            let points = &self.points[node.start..node.end];
            let found = &mut found[..points.len()];
            found.iter_mut().for_each(Nearest::clear);
            let mut search = Search { bucket, min: node.min, max: node.max, points, found };
            // The bucket itself first: what it holds is near, and sets bounds for all others.
            self.scan(bucket, &mut search);
            self.descend(0, &mut search);
            for (point, nearest) in points.iter().zip(found.iter()) {
                each(point.index, &nearest.best);
            }
        }
    }

    /// The least squared distance from a point of the bucket to one below a node, by coordinate. Rounding is monotone,
    /// so no two points have a smaller computed distance.
    fn least_squared(&self, node: usize, search: &Search<'_>) -> f64 {
        let Node { min, max, .. } = &self.nodes[node];
        squared_gap((min.x, max.x), (search.min.x, search.max.x))
            + squared_gap((min.y, max.y), (search.min.y, search.max.y))
    }

    /// The best candidate that could lie below a node, whichever of the bucket's points looks.
    fn bound(&self, node: usize, squared: f64, search: &Search<'_>) -> Candidate {
        let Node { min, lowest_index, .. } = &self.nodes[node];
        Candidate::new(squared, min.x - search.max.x, min.y - search.max.y, *lowest_index)
    }

    /// Merges the points below `node` into what the search has found, nearer halves first.
    fn descend(&self, node: usize, search: &mut Search<'_>) {
        let Some((low, high)) = self.nodes[node].children else {
            if node != search.bucket {
                self.scan(node, search);
            }
            return;
        };
        let squared = [low, high].map(|child| self.least_squared(child, search));
        let reach = search.reach();
        let mut halves = match squared.map(|squared| squared > reach) {
            [true, true] => return,
            [false, true] => return self.descend_within(low, squared[0], search),
            [true, false] => return self.descend_within(high, squared[1], search),
            [false, false] => [(low, squared[0]), (high, squared[1])]
                .map(|(child, squared)| (self.bound(child, squared, search), child, squared)),
        };
        if halves[1].0 < halves[0].0 {
            halves.swap(0, 1);
        }
        for (bound, child, squared) in halves {
            if squared <= search.reach() && !search.is_beyond(&bound) {
                self.descend(child, search);
            }
        }
    }

    /// Descends to a node that is near enough by its squared distance, unless ties put all of it behind.
    fn descend_within(&self, node: usize, squared: f64, search: &mut Search<'_>) {
        let bound = self.bound(node, squared, search);
        if !search.is_beyond(&bound) {
            self.descend(node, search);
        }
    }

    /// Compares the points of the search with those of a bucket.
    fn scan(&self, bucket: usize, search: &mut Search<'_>) {
        let Node { min, max, start, end, .. } = self.nodes[bucket];
        let others = &self.points[start..end];
        for (own, nearest) in search.points.iter().zip(search.found.iter_mut()) {
            let least =
                squared_gap((min.x, max.x), (own.x, own.x)) + squared_gap((min.y, max.y), (own.y, own.y));
            if least > nearest.reach {
                continue;
            }
            for other in others {
                let (dx, dy) = (other.x - own.x, other.y - own.y);
                let squared = dx * dx + dy * dy;
                if squared <= nearest.reach && other.index != own.index {
                    nearest.insert(Candidate::new(squared, dx, dy, other.index));
                }
            }
        }
    }
}

/// The square of the gap between two ranges; 0 where they meet.
fn squared_gap(a: (f64, f64), b: (f64, f64)) -> f64 {
    let gap = (a.0 - b.1).max(b.0 - a.1).max(0.0);
    gap * gap
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
