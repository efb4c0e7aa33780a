//! Which bins are core in which block.

use rand::RngExt;

use super::SlideLayout;
use crate::coordinates::SlideUm;
use crate::random;

/// Bins that stay together while the slide is cut.
#[derive(Clone)]
struct Unit {
    /// Mean place of the bins, µm.
    center: SlideUm,
    bins: Vec<u32>,
}

/// The core bins of every block, ascending within a block: at most `max_core_bins`, each bin in exactly one block.
pub(super) fn cut(layout: &SlideLayout, max_core_bins: usize, seed: Option<u64>) -> Vec<Vec<u32>> {
    let axis = axis(seed);
    let mut blocks = Vec::new();
    halve(units(layout, max_core_bins), max_core_bins, axis, &mut blocks);
    blocks
}

/// The direction of one cutting axis, a unit vector; the other is normal to it.
fn axis(seed: Option<u64>) -> (f64, f64) {
    let Some(seed) = seed else { return (1.0, 0.0) };
    let mut rng = random::stream(seed, "cut", &[]);
    // A direction by rejection, without sines, whose last bit differs between platforms.
    loop {
        let (x, y) = (rng.random::<f64>() * 2.0 - 1.0, rng.random::<f64>() * 2.0 - 1.0);
        let length = (x * x + y * y).sqrt();
        if (0.01..=1.0).contains(&length) {
            return (x / length, y / length);
        }
    }
}

/// The largest groups that fit a block: the spots of a region, else a spot, else a bin.
fn units(layout: &SlideLayout, max_core_bins: usize) -> Vec<Unit> {
    let bins = 0..layout.centers.bin.len() as u32;
    let spot_of = |&bin: &u32| layout.parent_spot.get(bin as usize).copied().unwrap_or_default();
    let spots = grouped(bins.collect(), spot_of);
    // A spot goes with one region even where the two grids do not nest: that of its first bin.
    let region_of = |spot: &[u32]| {
        let first = spot.first().map_or(0, |&bin| bin as usize);
        layout.parent_region.get(first).copied().unwrap_or_default()
    };
    let mut units = Vec::new();
    for region in grouped(spots, |spot| region_of(spot)) {
        if region.iter().map(Vec::len).sum::<usize>() <= max_core_bins {
            units.push(region.concat());
            continue;
        }
        for spot in region {
            if spot.len() <= max_core_bins {
                units.push(spot);
            } else {
                units.extend(spot.into_iter().map(|bin| vec![bin]));
            }
        }
    }
    let place = |bins: Vec<u32>| Unit { center: mean(layout, &bins), bins };
    units.into_iter().map(place).collect()
}

/// Items with equal keys together, by ascending key, in their order within a group.
fn grouped<T>(items: Vec<T>, key: impl Fn(&T) -> u32) -> Vec<Vec<T>>
where
    T: Clone,
{
    let mut items = items;
    items.sort_by_key(&key);
    items.chunk_by(|a, b| key(a) == key(b)).map(<[T]>::to_vec).collect()
}

/// Mean place of bins.
fn mean(layout: &SlideLayout, bins: &[u32]) -> SlideUm {
    let mut sum = (0.0, 0.0);
    for center in bins.iter().filter_map(|&bin| layout.centers.bin.get(bin as usize)) {
        sum = (sum.0 + center.x, sum.1 + center.y);
    }
    let count = bins.len().max(1) as f64;
    SlideUm { x: sum.0 / count, y: sum.1 / count }
}

/// Halves `units` across their longer extent until each part fits a block, and appends the parts to `blocks`.
fn halve(mut units: Vec<Unit>, max_core_bins: usize, axis: (f64, f64), blocks: &mut Vec<Vec<u32>>) {
    let total: usize = units.iter().map(|unit| unit.bins.len()).sum();
    if total == 0 {
        return;
    }
    if total <= max_core_bins || units.len() < 2 {
        let mut core: Vec<u32> = units.into_iter().flat_map(|unit| unit.bins).collect();
        core.sort_unstable();
        blocks.push(core);
        return;
    }
    let along = |unit: &Unit| unit.center.x * axis.0 + unit.center.y * axis.1;
    let across = |unit: &Unit| unit.center.y * axis.0 - unit.center.x * axis.1;
    let extent = |coordinate: &dyn Fn(&Unit) -> f64| {
        let places = units.iter().map(coordinate);
        let (min, max) =
            places.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), at| (min.min(at), max.max(at)));
        max - min
    };
    if extent(&along) >= extent(&across) {
        units.sort_by(|a, b| along(a).total_cmp(&along(b)));
    } else {
        units.sort_by(|a, b| across(a).total_cmp(&across(b)));
    }
    // As many whole blocks on either side as can be, so that parts end up nearly full.
    let parts = total.div_ceil(max_core_bins);
    let target = total * (parts / 2) / parts;
    let mut before = 0;
    let place = units.iter().position(|unit| {
        // Cut where the sum comes nearest to the target.
        let nearest = before + unit.bins.len() / 2 >= target;
        before += unit.bins.len();
        nearest
    });
    let place = place.unwrap_or(units.len() - 1).clamp(1, units.len() - 1);
    let rest = units.split_off(place);
    halve(units, max_core_bins, axis, blocks);
    halve(rest, max_core_bins, axis, blocks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{LevelGeometry, PerLevel};
    use proptest::prelude::*;

    fn layout(bins: &[SlideUm], spot_um: f64, region_um: f64) -> SlideLayout {
        let level = |tile_um| LevelGeometry { tile_um, ..LevelGeometry::default() };
        let levels = PerLevel { bin: level(8.0), spot: level(spot_um), region: level(region_um) };
        SlideLayout::new(bins, &levels, 8).unwrap()
    }

    fn grid(side: u32) -> Vec<SlideUm> {
        (0..side * side)
            .map(|i| SlideUm { x: f64::from(i % side) * 8.0 + 4.0, y: f64::from(i / side) * 8.0 + 4.0 })
            .collect()
    }

    proptest! {
        #[test]
        fn every_bin_is_core_exactly_once_and_no_block_is_too_large(
            coordinates in prop::collection::vec((0.0..900.0_f64, 0.0..900.0_f64), 0..200),
            max_core_bins in 1..60_usize,
            seed in prop::option::of(any::<u64>()),
        ) {
            let bins: Vec<_> = coordinates.iter().map(|&(x, y)| SlideUm { x, y }).collect();
            let blocks = cut(&layout(&bins, 70.0, 160.0), max_core_bins, seed);
            let mut all: Vec<u32> = blocks.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..bins.len() as u32).collect::<Vec<_>>());
            for block in blocks {
                prop_assert!((1..=max_core_bins).contains(&block.len()));
                prop_assert!(block.is_sorted());
            }
        }
    }

    #[test]
    fn tiles_that_fit_stay_whole() {
        // 32 × 32 bins; spots of 4 × 4 bins, regions of 8 × 8 bins.
        let layout = layout(&grid(32), 32.0, 64.0);
        for seed in [None, Some(7)] {
            for (max_core_bins, parents) in
                [(64, &layout.parent_region), (200, &layout.parent_region), (20, &layout.parent_spot)]
            {
                let blocks = cut(&layout, max_core_bins, seed);
                let mut block_of_tile = std::collections::HashMap::new();
                for (place, block) in blocks.iter().enumerate() {
                    for &bin in block {
                        let first = *block_of_tile.entry(parents[bin as usize]).or_insert(place);
                        assert_eq!(first, place);
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_are_compact_and_well_filled() {
        let layout = layout(&grid(64), 8.0, 8.0);
        for seed in [None, Some(1), Some(2)] {
            let blocks = cut(&layout, 64, seed);
            assert!(blocks.len() <= 4096 / 64 * 3 / 2, "{} blocks", blocks.len());
            for block in blocks {
                let far = |coordinate: fn(&SlideUm) -> f64| {
                    let at = |&bin: &u32| coordinate(&layout.centers.bin[bin as usize]);
                    let max = block.iter().map(at).fold(f64::MIN, f64::max);
                    max - block.iter().map(at).fold(f64::MAX, f64::min)
                };
                // A square of 64 bins is 64 µm wide; a turned one has a diagonal of 91 µm.
                assert!(far(|at| at.x) <= 140.0 && far(|at| at.y) <= 140.0);
            }
        }
    }

    #[test]
    fn seeds_cut_differently_and_repeatably() {
        let layout = layout(&grid(20), 8.0, 8.0);
        assert_eq!(cut(&layout, 50, Some(1)), cut(&layout, 50, Some(1)));
        assert_ne!(cut(&layout, 50, Some(1)), cut(&layout, 50, Some(2)));
        assert_ne!(cut(&layout, 50, Some(1)), cut(&layout, 50, None));
    }

    #[test]
    fn a_limit_above_the_slide_gives_one_block() {
        assert_eq!(cut(&layout(&grid(5), 16.0, 32.0), usize::MAX, None), [(0..25).collect::<Vec<u32>>()]);
    }
}
