//! Bins of a Visium HD run by their place on the array: found by number rather than by name, and brought together to
//! coarser tiles before anything is normalised.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;

use super::positions::visit_positions;
use crate::error::InputError;

/// Where a bin lies on the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BinPlace {
    pub row: u32,
    pub col: u32,
}

impl BinPlace {
    /// The place that a bin's name states: `s_008um_00269_00526-1` is row 269, column 526.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (_, place) = name.strip_prefix("s_")?.split_once("um_")?;
        let (row, col) = place.split_once('_')?;
        let (col, _) = col.split_once('-')?;
        Some(Self { row: row.parse().ok()?, col: col.parse().ok()? })
    }

    /// The tile that holds the centre of this bin; `bins_per_tile` is the ratio of their sides, from 1.
    pub(super) fn tile(self, bins_per_tile: f64) -> Self {
        let tile = |index: u32| ((f64::from(index) + 0.5) / bins_per_tile) as u32;
        Self { row: tile(self.row), col: tile(self.col) }
    }
}

/// The bins of a matrix, to be found by place.
struct BinIndex {
    /// The places, ascending, each with its row of the matrix.
    places: Vec<(BinPlace, u32)>,
    /// Where the last search ended. Tables list bins in the order of the matrix, so the next one is here.
    cursor: usize,
}

impl BinIndex {
    /// The index, or the first name that repeats.
    fn new(places: &[BinPlace]) -> Result<Self, BinPlace> {
        let mut places: Vec<(BinPlace, u32)> = places.iter().copied().zip(0..).collect();
        if !places.is_sorted() {
            places.sort_unstable();
        }
        match places.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            Some([(place, _), ..]) => Err(*place),
            _ => Ok(Self { places, cursor: 0 }),
        }
    }

    /// The matrix's row of a bin.
    fn find(&mut self, place: BinPlace) -> Option<u32> {
        if self.places.get(self.cursor).is_none_or(|entry| entry.0 < place)
            || self
                .cursor
                .checked_sub(1)
                .and_then(|before| self.places.get(before))
                .is_some_and(|e| e.0 >= place)
        {
            self.cursor = self.places.partition_point(|entry| entry.0 < place);
        }
        let &(found, row) = self.places.get(self.cursor)?;
        if found != place {
            return None;
        }
        self.cursor += 1;
        Some(row)
    }
}

/// What a positions table says about the bins of a matrix.
#[derive(Debug, Default)]
pub(super) struct BinPositions {
    /// Centre of each bin, by row of the matrix.
    pub centers_px: Vec<SlidePx>,
    /// Whether each lies under tissue.
    pub in_tissue: Vec<bool>,
    /// Bins on tissue that the matrix does not have: how many, and some of their names.
    pub without_counts: (usize, Vec<String>),
}

/// Names that are kept as examples.
const EXAMPLES: usize = 5;

/// Reads where the bins of a matrix lie, and hands every row of the table on: its place, centre and whether it is on
/// tissue.
///
/// # Errors
/// When the table is damaged, names a bin twice, or lacks one of the matrix.
pub(super) fn locate(
    matrix_path: &Path,
    positions_path: &Path,
    barcodes: &[String],
    places: &[BinPlace],
    each: &mut dyn FnMut(BinPlace, SlidePx, bool),
) -> Result<BinPositions> {
    let bins = places.len();
    let nowhere = SlidePx { x: f64::NAN, y: f64::NAN };
    let mut found =
        BinPositions { centers_px: vec![nowhere; bins], in_tissue: vec![false; bins], ..Default::default() };
    let repeated = |place: BinPlace| {
        let name = places.iter().position(|other| *other == place).and_then(|row| barcodes.get(row));
        let found = format!("{} twice", name.map_or("one", String::as_str));
        InputError::in_file(matrix_path, "matrix/barcodes", "each bin once", found)
    };
    let mut index = BinIndex::new(places).map_err(repeated)?;
    visit_positions(positions_path, &mut |row| {
        let Some(place) = BinPlace::from_name(row.barcode) else {
            let expected = "bins such as s_008um_00269_00526-1";
            return Err(InputError::in_file(positions_path, "barcode", expected, row.barcode).into());
        };
        each(place, row.center_px, row.in_tissue);
        match index.find(place) {
            Some(at) => {
                let at = at as usize;
                if let Some(center) = found.centers_px.get_mut(at) {
                    if !center.x.is_nan() {
                        let twice = format!("{} twice", row.barcode);
                        return Err(
                            InputError::in_file(positions_path, "barcode", "each bin once", twice).into()
                        );
                    }
                    *center = row.center_px;
                }
                if let Some(flag) = found.in_tissue.get_mut(at) {
                    *flag = row.in_tissue;
                }
            }
            None if row.in_tissue => {
                found.without_counts.0 += 1;
                if found.without_counts.1.len() < EXAMPLES {
                    found.without_counts.1.push(row.barcode.to_owned());
                }
            }
            None => {}
        }
        Ok(())
    })?;
    let missing = found.centers_px.iter().filter(|center| center.x.is_nan()).count();
    if let Some(at) = found.centers_px.iter().position(|center| center.x.is_nan()) {
        let expected = format!("a position in {} for each bin", positions_path.display());
        let such_as = barcodes.get(at).map_or("", String::as_str);
        let found = format!("{missing} bins without one (such as {such_as})");
        return Err(InputError::in_file(matrix_path, "matrix/barcodes", expected, found).into());
    }
    Ok(found)
}

/// Tiles of a coarser grid.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Where each tile lies on its own grid, ascending.
    pub places: Vec<BinPlace>,
    /// Centre of each tile: the mean of the centres of all its bins that the array has.
    pub centers_px: Vec<SlidePx>,
    /// Whether at least half of its bins lie under tissue.
    pub in_tissue: Vec<bool>,
    /// How many bins with counts each tile has.
    pub bins: Vec<u32>,
    /// Sums of the bins' raw counts.
    pub counts: CountMatrix,
}

/// Gathers what tiles need while the positions are read.
pub(super) struct TileBuilder {
    bins_per_tile: f64,
    sums: HashMap<BinPlace, TileSum>,
}

#[derive(Debug, Clone, Copy, Default)]
struct TileSum {
    x: f64,
    y: f64,
    bins: u32,
    on_tissue: u32,
}

impl TileBuilder {
    /// Tiles of `bins_per_tile` bins on a side around the bins of a matrix.
    pub(super) fn new(bins_per_tile: f64, places: &[BinPlace]) -> Self {
        let sums = places.iter().map(|place| (place.tile(bins_per_tile), TileSum::default())).collect();
        Self { bins_per_tile, sums }
    }

    /// Takes one bin of the array.
    pub(super) fn take(&mut self, place: BinPlace, center: SlidePx, in_tissue: bool) {
        if let Some(sum) = self.sums.get_mut(&place.tile(self.bins_per_tile)) {
            *sum = TileSum {
                x: sum.x + center.x,
                y: sum.y + center.y,
                bins: sum.bins + 1,
                on_tissue: sum.on_tissue + u32::from(in_tissue),
            };
        }
    }

    /// The tiles, from the bins of the matrix that are `kept`.
    ///
    /// # Errors
    /// When counts and places do not fit together.
    pub(super) fn finish(self, places: &[BinPlace], kept: &[bool], counts: &CountMatrix) -> Result<Tiles> {
        let mut tiles: Vec<(BinPlace, TileSum)> = self.sums.into_iter().collect();
        tiles.sort_unstable_by_key(|tile| tile.0);
        let rank: HashMap<BinPlace, u32> = tiles.iter().map(|tile| tile.0).zip(0..).collect();
        // What is not kept goes to one tile past the end, which is cut off again.
        let aside = tiles.len() as u32;
        let parent = |(place, &kept): (&BinPlace, &bool)| {
            let own = rank.get(&place.tile(self.bins_per_tile)).copied();
            if kept { own.unwrap_or(aside) } else { aside }
        };
        let parents: Vec<u32> = places.iter().zip(kept).map(parent).collect();
        let mut bins = vec![0_u32; tiles.len()];
        for &parent in &parents {
            if let Some(count) = bins.get_mut(parent as usize) {
                *count += 1;
            }
        }
        let mut sums = counts.aggregate(&parents, tiles.len() + 1)?;
        sums.row_offsets.truncate(tiles.len() + 1);
        let end = sums.row_offsets.last().copied().unwrap_or_default();
        sums.columns.truncate(end);
        sums.values.truncate(end);
        let center = |(_, sum): &(BinPlace, TileSum)| {
            let bins = f64::from(sum.bins.max(1));
            SlidePx { x: sum.x / bins, y: sum.y / bins }
        };
        Ok(Tiles {
            places: tiles.iter().map(|tile| tile.0).collect(),
            centers_px: tiles.iter().map(center).collect(),
            in_tissue: tiles.iter().map(|(_, sum)| sum.on_tissue * 2 >= sum.bins).collect(),
            bins,
            counts: sums,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_give_places() {
        let place = |row, col| Some(BinPlace { row, col });
        assert_eq!(BinPlace::from_name("s_008um_00269_00526-1"), place(269, 526));
        assert_eq!(BinPlace::from_name("s_2um_0_12-2"), place(0, 12));
        for name in ["AAAC-1", "s_008um_00269-1", "s_008um_x_00526-1", "s_008um_1_2", "s_008um_-1_2-1"] {
            assert_eq!(BinPlace::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_tile_holds_the_bins_whose_centres_lie_in_it() {
        let tile = |index, ratio| BinPlace { row: index, col: 0 }.tile(ratio).row;
        // 24 µm of 8: three each.
        assert_eq!([0, 2, 3, 5, 6].map(|index| tile(index, 3.0)), [0, 0, 1, 1, 2]);
        // 55 µm of 8: centres at 4, 12, …, 52 | 60, …, 108 | 116.
        assert_eq!([0, 6, 7, 13, 14].map(|index| tile(index, 55.0 / 8.0)), [0, 0, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn bins_are_found_in_any_order_of_the_table(
            present in prop::collection::hash_set((0..20_u32, 0..20_u32), 1..60),
            asked in prop::collection::vec((0..22_u32, 0..22_u32), 0..120),
        ) {
            let places: Vec<BinPlace> = present.iter().map(|&(row, col)| BinPlace { row, col }).collect();
            let mut index = BinIndex::new(&places).unwrap();
            for (row, col) in asked {
                let place = BinPlace { row, col };
                let expected = places.iter().position(|other| *other == place).map(|row| row as u32);
                prop_assert_eq!(index.find(place), expected);
            }
        }
    }
}
