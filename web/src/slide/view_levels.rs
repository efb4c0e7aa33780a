//! The levels of a deep-zoom view, whatever levels the file holds.
//!
//! A view wants a level at each halving: with fewer it would read up to sixteen times the pixels that it shows, or show
//! blurred ones. Levels that the file lacks are made from the next finer one by whole factors.

use super::messages::{LevelSize, TILE_PX};

/// Largest factor by which a level of the file is shrunk for a level of the view: a piece then takes 4096 × 4096 px.
const MOST_SHRINK: u32 = 8;
/// Below this many pixels on its longer side a level is one piece or less, and the overview shows as much.
const SMALLEST_SIDE: u32 = 2 * TILE_PX;

/// A level of the view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewLevel {
    /// The level of the file that it is read from.
    pub native: usize,
    /// By which factor that is shrunk.
    pub shrink: u32,
    /// Its size.
    pub size: LevelSize,
}

/// Levels of the view for a file with `native` levels, finest first.
pub fn view_levels(native: &[LevelSize]) -> Vec<ViewLevel> {
    let mut levels = Vec::new();
    for (place, level) in native.iter().enumerate() {
        let next = native.get(place + 1).map_or(f64::INFINITY, |next| next.downsample);
        let mut shrink = 1;
        loop {
            let downsample = level.downsample * f64::from(shrink);
            let side = |px: u32| px.div_ceil(shrink).max(1);
            let size =
                LevelSize { downsample, width_px: side(level.width_px), height_px: side(level.height_px) };
            // A made level lies clearly between two of the file's own.
            let needed = shrink == 1
                || (downsample * 1.5 < next && size.width_px.max(size.height_px) * 2 > SMALLEST_SIDE);
            if !needed || shrink > MOST_SHRINK {
                break;
            }
            levels.push(ViewLevel { native: place, shrink, size });
            shrink *= 2;
        }
    }
    levels
}

/// Shrinks interleaved RGB values by a whole factor: each output pixel is the mean of the pixels that it covers. Squares
/// at the right and lower border may be cut.
pub fn shrunk(rgb: &[u8], width: usize, height: usize, factor: usize) -> Vec<u8> {
    let factor = factor.max(1);
    let (out_width, out_height) = (width.div_ceil(factor), height.div_ceil(factor));
    let mut out = Vec::with_capacity(out_width * out_height * 3);
    let mut sums = vec![[0_u32; 3]; out_width];
    let rows: Vec<&[u8]> = rgb.chunks_exact((width * 3).max(1)).take(height).collect();
    for band in rows.chunks(factor) {
        sums.fill([0; 3]);
        for row in band {
            for (sum, pixels) in sums.iter_mut().zip(row.chunks(factor * 3)) {
                for pixel in pixels.as_chunks::<3>().0 {
                    for (total, &value) in sum.iter_mut().zip(pixel) {
                        *total += u32::from(value);
                    }
                }
            }
        }
        for (column, sum) in sums.iter().enumerate() {
            let across = factor.min(width - column * factor);
            let count = (across * band.len()) as u32;
            out.extend(sum.map(|total| ((total + count / 2) / count) as u8));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(downsample: f64, width_px: u32, height_px: u32) -> LevelSize {
        LevelSize { downsample, width_px, height_px }
    }

    #[test]
    fn gaps_between_the_files_levels_are_filled() {
        let native = [level(1.0, 100_000, 80_000), level(4.0, 25_000, 20_000), level(16.0, 6250, 5000)];
        let levels = view_levels(&native);
        let steps: Vec<(usize, u32, f64)> =
            levels.iter().map(|level| (level.native, level.shrink, level.size.downsample)).collect();
        assert_eq!(
            steps,
            [
                (0, 1, 1.0),
                (0, 2, 2.0),
                (1, 1, 4.0),
                (1, 2, 8.0),
                (2, 1, 16.0),
                (2, 2, 32.0),
                (2, 4, 64.0),
                (2, 8, 128.0),
            ]
        );
        assert_eq!((levels[3].size.width_px, levels[3].size.height_px), (12_500, 10_000));
    }

    #[test]
    fn nothing_is_made_between_levels_that_are_close_or_below_one_piece() {
        let steps = |native: &[LevelSize]| {
            view_levels(native).iter().map(|l| (l.native, l.shrink)).collect::<Vec<_>>()
        };
        assert_eq!(steps(&[level(1.0, 4000, 3000), level(2.0, 2000, 1500)]), [(0, 1), (1, 1), (1, 2)]);
        assert_eq!(steps(&[level(1.0, 300, 200)]), [(0, 1)]);
        assert_eq!(steps(&[]), []);
        // One level alone: shrunk as far as a piece can be read at once.
        assert_eq!(steps(&[level(1.0, 90_000, 90_000)]), [(0, 1), (0, 2), (0, 4), (0, 8)]);
    }

    #[test]
    fn shrinking_takes_means_also_at_the_border() {
        // 5 × 3 pixels whose red is 10·x, green 20·y.
        let rgb: Vec<u8> = (0..3_u8).flat_map(|y| (0..5_u8).flat_map(move |x| [10 * x, 20 * y, 7])).collect();
        assert_eq!(shrunk(&rgb, 5, 3, 1), rgb);
        let half = shrunk(&rgb, 5, 3, 2);
        assert_eq!(half.len(), 3 * 2 * 3);
        assert_eq!(half[..3], [5, 10, 7]);
        assert_eq!(half[6..9], [40, 10, 7]); // one column of two rows
        assert_eq!(half[9..12], [5, 40, 7]); // one row of two columns
        assert_eq!(shrunk(&rgb, 5, 3, 8), [20, 20, 7]);
    }
}
