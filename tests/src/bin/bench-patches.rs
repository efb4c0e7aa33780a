//! Reads square patches around places of a slide, as `tests/bench/patches_in_python.py` does, and says how long it took.
//!
//! ```text
//! bench-patches SLIDE CENTERS.csv SIDE_PX THREADS [SAMPLE]
//! ```

use std::path::Path;
use std::time::Instant;

use magnet_core::slide::{PyramidOptions, SlideError, SlidePyramid};
use magnet_native::file_range::FileRange;
use rayon::prelude::*;

/// As many decoded tiles as the Python way keeps.
const CACHE_BYTES: usize = 64 << 20;
/// Patches that are handed on for a comparison.
const SAMPLES: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [slide, centers, side, threads, sample @ ..] = arguments.as_slice() else {
        return Err("usage: bench-patches SLIDE CENTERS.csv SIDE_PX THREADS [SAMPLE]".into());
    };
    let side: u32 = side.parse()?;
    let mut corners: Vec<(i64, i64)> = Vec::new();
    for line in std::fs::read_to_string(centers)?.lines().skip(1) {
        let (x, y) = line.split_once(',').ok_or("expected lines of x,y")?;
        // Halves to even, as numpy rounds.
        let corner = |text: &str| -> Result<i64, std::num::ParseFloatError> {
            Ok(text.parse::<f64>()?.round_ties_even() as i64 - i64::from(side / 2))
        };
        corners.push((corner(x)?, corner(y)?));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;

    let began = Instant::now();
    let options = PyramidOptions { cache_bytes: CACHE_BYTES, ..PyramidOptions::default() };
    let slide = SlidePyramid::open(FileRange::open(Path::new(slide))?, options)?;
    let read = |&(left, top): &(i64, i64)| slide.read_region(0, left, top, side, side);
    // Pieces of the list in their order, so that each thread stays where its tiles are.
    let sums: Vec<u64> = pool.install(|| {
        let pieces = corners.par_chunks(256);
        let sum_of = |piece: &[(i64, i64)]| -> Result<u64, SlideError> {
            piece.iter().try_fold(0, |total, corner| Ok(total + sum(&read(corner)?, side as usize)))
        };
        pieces.map(sum_of).collect::<Result<_, _>>()
    })?;
    let total: u64 = sums.iter().sum();
    println!("{} {total}", began.elapsed().as_secs_f64());
    if let [path] = sample {
        let patches: Result<Vec<_>, _> = corners.iter().take(SAMPLES).map(read).collect();
        std::fs::write(path, patches?.concat())?;
    }
    Ok(())
}

/// Some of a patch's pixels added up, so that every patch is really there.
fn sum(patch: &[u8], side: usize) -> u64 {
    let rows = patch.chunks(side * 3).step_by(16);
    rows.flat_map(|row| row.chunks(3).step_by(16)).flatten().map(|&value| u64::from(value)).sum()
}
