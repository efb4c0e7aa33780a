//! What each bin holds and what lies around it: the inputs of the gene programs.

use magnet_core::coordinates::{SlideUm, Tile, um_from_tile};

use super::tissue::{CellKind, Tissue};

/// Side of the small bins, µm; the program is defined on them.
pub const BIN_UM: f64 = 8.0;
/// Side of the large bins, µm: two small ones.
pub const WIDE_BIN_UM: f64 = 16.0;

/// Spread of a cell's transcripts around its nucleus (standard deviation), µm.
const CELL_SPREAD_UM: f64 = 5.0;
/// Transcripts of a bin of plain stroma without a nucleus, relative to one epithelial cell.
const MATRIX_CONTENT: f32 = 0.06;
/// Transcripts of any bin on tissue, relative to one epithelial cell.
const AMBIENT_CONTENT: f32 = 0.03;
/// Distance from the lumen over which the lumen's programme fades, µm.
const LUMEN_REACH_UM: f64 = 9.0;

/// A square grid of bins from the slide's top left corner; all bins lie within the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinGrid {
    /// Side of a bin, µm.
    pub bin_um: f64,
    /// Rows and columns.
    pub side: usize,
}

impl BinGrid {
    /// The grid of small bins of a slide; an even number of rows, so that large bins hold four each.
    pub fn small(side_um: f64) -> Self {
        Self { bin_um: BIN_UM, side: 2 * (side_um / WIDE_BIN_UM).floor() as usize }
    }

    /// The grid of large bins over a grid of small ones.
    pub fn wide(self) -> Self {
        Self { bin_um: 2.0 * self.bin_um, side: self.side / 2 }
    }

    /// Number of bins.
    pub fn len(self) -> usize {
        self.side * self.side
    }

    /// Whether the grid has no bin.
    pub fn is_empty(self) -> bool {
        self.side == 0
    }

    /// The bin at a position of a row-major array over the grid.
    pub fn tile(self, index: usize) -> Tile {
        Tile { row: (index / self.side) as i64, col: (index % self.side) as i64 }
    }

    /// The centre of the bin at a position of a row-major array over the grid.
    pub fn center(self, index: usize) -> SlideUm {
        um_from_tile(self.tile(index), self.bin_um)
    }
}

/// What one bin holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BinMorphology {
    /// Share of the bin's transcripts from each kind of cell, in the order of [`CellKind::ALL`]; sums to one.
    pub shares: [f32; 4],
    /// Closeness to a gland's lumen, 0..1.
    pub lumen: f32,
    /// The wide gradient at the bin, 0..1.
    pub crowding: f32,
    /// Amount of transcripts relative to one epithelial cell.
    pub content: f32,
}

/// The small bins of a slide that lie on tissue, with their surroundings.
#[derive(Debug, Clone)]
pub struct Morphology {
    /// The grid of small bins.
    pub grid: BinGrid,
    /// Positions in the grid (row-major) of the bins on tissue, ascending.
    pub in_tissue: Vec<usize>,
    /// What each bin on tissue holds.
    pub bins: Vec<BinMorphology>,
    /// Nuclei of each kind in every bin of the grid, whether on tissue or not.
    nuclei: [Vec<u16>; 4],
}

impl Morphology {
    /// Measures the small bins of a tissue.
    pub fn of(tissue: &Tissue) -> Self {
        let grid = BinGrid::small(tissue.side_um);
        let mut content: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; grid.len()]);
        let mut nuclei: [Vec<u16>; 4] = std::array::from_fn(|_| vec![0; grid.len()]);
        for nucleus in &tissue.nuclei {
            let kind = nucleus.kind as usize;
            spread(grid, nucleus.center, nucleus.kind.content(), &mut content[kind]);
            let (col, row) = ((nucleus.center.x / BIN_UM) as usize, (nucleus.center.y / BIN_UM) as usize);
            if col < grid.side && row < grid.side {
                nuclei[kind][row * grid.side + col] += 1;
            }
        }
        let lumen = lumen_closeness(tissue, grid);
        let stroma = CellKind::Stromal as usize;
        let mut in_tissue = Vec::new();
        let mut bins = Vec::new();
        for index in 0..grid.len() {
            let center = grid.center(index);
            if !tissue.is_tissue(center) {
                continue;
            }
            let mut amounts: [f32; 4] = std::array::from_fn(|kind| content[kind][index]);
            let hole = tissue.is_hole(center);
            amounts[stroma] += AMBIENT_CONTENT + if hole { 0.0 } else { MATRIX_CONTENT };
            let total: f32 = amounts.iter().sum();
            in_tissue.push(index);
            bins.push(BinMorphology {
                shares: amounts.map(|amount| amount / total),
                lumen: lumen[index],
                crowding: tissue.fields.crowding.at(center),
                content: total,
            });
        }
        Self { grid, in_tissue, bins, nuclei }
    }

    /// Nuclei of `kind` per µm² in the ring of bins whose centres lie at `inner_um <= distance < outer_um` of each bin
    /// on tissue; the part of the ring off the slide counts as empty.
    pub fn ring_density(&self, kind: CellKind, inner_um: f64, outer_um: f64) -> Vec<f32> {
        let side = self.grid.side;
        let mut prefix = vec![0u32; side * (side + 1)];
        for (sums, row) in
            prefix.chunks_exact_mut(side + 1).zip(self.nuclei[kind as usize].chunks_exact(side))
        {
            for (col, &count) in row.iter().enumerate() {
                sums[col + 1] = sums[col] + u32::from(count);
            }
        }
        let ring = Ring::new(inner_um / self.grid.bin_um, outer_um / self.grid.bin_um);
        let area_um2 = ring.bins() as f64 * self.grid.bin_um * self.grid.bin_um;
        let span = |row: usize, low: i64, high: i64| {
            let clamp = |col: i64| col.clamp(0, side as i64) as usize;
            let sums = &prefix[row * (side + 1)..(row + 1) * (side + 1)];
            sums[clamp(high)].saturating_sub(sums[clamp(low)])
        };
        self.in_tissue
            .iter()
            .map(|&index| {
                let (row, col) = ((index / side) as i64, (index % side) as i64);
                let mut nuclei = 0;
                for (offset, &(inner, outer)) in (-ring.reach..=ring.reach).zip(&ring.rows) {
                    let other = row + offset;
                    if outer == 0 || !(0..side as i64).contains(&other) {
                        continue;
                    }
                    let other = other as usize;
                    nuclei += span(other, col - outer + 1, col + outer);
                    if inner > 0 {
                        nuclei -= span(other, col - inner + 1, col + inner);
                    }
                }
                (f64::from(nuclei) / area_um2) as f32
            })
            .collect()
    }
}

/// The rows of a ring of bins: in each row the bins with `inner <= |offset| < outer`.
struct Ring {
    reach: i64,
    rows: Vec<(i64, i64)>,
}

impl Ring {
    /// A ring between two radii in bins.
    fn new(inner: f64, outer: f64) -> Self {
        let reach = outer.ceil() as i64;
        // The number of offsets 0, 1, … that stay below `radius` in a row `offset` away.
        let half = |radius: f64, offset: i64| {
            let rest = radius * radius - (offset * offset) as f64;
            if rest > 0.0 { rest.sqrt().ceil() as i64 } else { 0 }
        };
        let rows = (-reach..=reach).map(|offset| (half(inner, offset), half(outer, offset))).collect();
        Self { reach, rows }
    }

    fn bins(&self) -> i64 {
        let width = |half: i64| (2 * half - 1).max(0);
        self.rows.iter().map(|&(inner, outer)| width(outer) - width(inner)).sum()
    }
}

/// Adds a cell's transcripts to the bins around its nucleus.
fn spread(grid: BinGrid, center: SlideUm, amount: f32, content: &mut [f32]) {
    let reach = 3.0 * CELL_SPREAD_UM;
    let range = |at: f64| {
        let low = ((at - reach) / grid.bin_um).floor().max(0.0) as usize;
        let high = (((at + reach) / grid.bin_um).ceil().max(0.0) as usize).min(grid.side);
        low..high
    };
    let weight = |from: f64, index: usize| {
        let distance = (index as f64 + 0.5) * grid.bin_um - from;
        (-0.5 * (distance / CELL_SPREAD_UM).powi(2)).exp()
    };
    // An isolated cell far from the edge gives away `amount` in all.
    let norm = grid.bin_um / (CELL_SPREAD_UM * std::f64::consts::TAU.sqrt());
    for row in range(center.y) {
        let across = weight(center.y, row) * norm * norm * f64::from(amount);
        for col in range(center.x) {
            content[row * grid.side + col] += (across * weight(center.x, col)) as f32;
        }
    }
}

/// How close each bin of the grid is to the edge of a lumen, 0..1.
fn lumen_closeness(tissue: &Tissue, grid: BinGrid) -> Vec<f32> {
    let mut closeness = vec![0.0f32; grid.len()];
    for gland in &tissue.glands {
        let reach = gland.reach_um();
        let range = |at: f64| {
            let low = ((at - reach) / grid.bin_um).floor().max(0.0) as usize;
            low..(((at + reach) / grid.bin_um).ceil().max(0.0) as usize).min(grid.side)
        };
        for row in range(gland.center.y) {
            for col in range(gland.center.x) {
                let index = row * grid.side + col;
                let (distance, theta) = gland.polar(grid.center(index));
                if distance < gland.outer_um(theta) {
                    let from_lumen = (distance - gland.lumen_um(theta)).abs() / LUMEN_REACH_UM;
                    closeness[index] = closeness[index].max((-from_lumen * from_lumen).exp() as f32);
                }
            }
        }
    }
    closeness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_of_the_grid_is_found_again_from_its_centre() {
        let grid = BinGrid::small(200.0);
        assert_eq!(grid.side, 24);
        for index in [0, 23, 24, 24 * 24 - 1] {
            let center = grid.center(index);
            assert_eq!(magnet_core::coordinates::tile_from_um(center, BIN_UM), grid.tile(index));
            let wide = magnet_core::coordinates::tile_from_um(center, WIDE_BIN_UM);
            assert!(wide.row < grid.wide().side as i64 && wide.col < grid.wide().side as i64);
        }
    }

    #[test]
    fn ring_density_equals_a_count_over_all_nuclei() {
        let tissue = Tissue::grow(320.0, 5);
        let morphology = Morphology::of(&tissue);
        let (inner, outer) = (24.0, 61.0);
        let ring = morphology.ring_density(CellKind::Tumor, inner, outer);
        let grid = morphology.grid;
        let bins_in_ring = {
            let far = (outer / grid.bin_um).ceil() as i64;
            let within = |row: i64, col: i64| {
                let distance = (row as f64).hypot(col as f64) * grid.bin_um;
                (inner..outer).contains(&distance)
            };
            (-far..=far).flat_map(|row| (-far..=far).filter(move |&col| within(row, col))).count()
        };
        let mut checked = 0.0f32;
        for (&index, &density) in morphology.in_tissue.iter().zip(&ring).step_by(37) {
            let center = grid.center(index);
            let nuclei = tissue
                .nuclei
                .iter()
                .filter(|nucleus| nucleus.kind == CellKind::Tumor)
                .filter(|nucleus| {
                    let tile = magnet_core::coordinates::tile_from_um(nucleus.center, grid.bin_um);
                    let other = um_from_tile(tile, grid.bin_um);
                    let distance = (other.x - center.x).hypot(other.y - center.y);
                    tile.row < grid.side as i64
                        && tile.col < grid.side as i64
                        && (inner..outer).contains(&distance)
                })
                .count();
            let expected = nuclei as f64 / (bins_in_ring as f64 * grid.bin_um * grid.bin_um);
            assert!(
                (f64::from(density) - expected).abs() < 1e-9,
                "bin {index}: {density} against {expected}"
            );
            checked += density;
        }
        assert!(checked > 0.0, "the slide must hold tumour for this test to mean something");
    }

    #[test]
    fn shares_sum_to_one_and_a_hole_is_poor_in_transcripts() {
        let tissue = Tissue::grow(600.0, 2);
        let morphology = Morphology::of(&tissue);
        for bin in &morphology.bins {
            assert!((bin.shares.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let mean = |hole: bool| {
            let contents: Vec<f32> = (morphology.in_tissue.iter().zip(&morphology.bins))
                .filter(|&(&index, _)| tissue.is_hole(morphology.grid.center(index)) == hole)
                .map(|(_, bin)| bin.content)
                .collect();
            contents.iter().sum::<f32>() / contents.len() as f32
        };
        assert!(mean(true) < 0.5 * mean(false), "{} against {}", mean(true), mean(false));
    }
}
