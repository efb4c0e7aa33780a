//! The gradient of a convolution's weights: for every place in the window the sum, over all output pixels, of the input
//! that the window has there times the gradient of the output. A tile of some places by two vectors of output channels
//! stays in registers while it goes through the pixels.

use fearless_simd::prelude::*;
use fearless_simd::{Level as Instructions, Simd, dispatch};
use rayon::prelude::*;

use super::Map;
use super::kernel::panel;

/// Output pixels that a tile goes through before the next one does: their inputs stay in the cache.
const PIXELS: usize = 512;
/// Least places that one thread takes at a time, and how many times each thread takes some.
const PLACES: usize = 64;
const TASKS: usize = 4;

/// # Shapes
/// - `input`: `[N,H,W,C_in]` with a margin of half the kernel or more
/// - `gradient`: `[N,h,w,C_out]`
/// - output: `[C_out,C_in,k,k]`
pub(in crate::model) fn weight_gradient(
    input: Map<&[f32]>,
    gradient: Map<&[f32]>,
    kernel: usize,
    stride: usize,
) -> Vec<f32> {
    let instructions = Instructions::new();
    let panel = panel(instructions);
    let run = kernel * input.channels;
    let rows = rows(&input, &gradient, kernel, stride);
    let panels = gradient.channels.div_ceil(panel);
    let end = gradient.values.len().saturating_sub(panel);
    let tail = [&gradient.values[end..], &vec![0.0; panel]].concat();
    // [panels,k,k·C_in,panel]
    let mut sums = vec![0.0; panels * kernel * run * panel];
    // As few passes over the maps as leave every thread some work.
    let tasks = TASKS * rayon::current_num_threads();
    let chunk = (panels * kernel * run / tasks).clamp(PLACES, run.max(PLACES)).next_multiple_of(PLACES);
    sums.par_chunks_mut((run * panel).max(1)).enumerate().for_each(|(index, sums)| {
        let (first_channel, row) = (index / kernel * panel, index % kernel * input.row());
        sums.par_chunks_mut(chunk * panel).enumerate().for_each(|(index, sums)| {
            let tiles = Tiles {
                input: &input.values[row + index * chunk..],
                gradient: gradient.values,
                first_channel,
                tail: (end, &tail),
                rows: &rows,
                width: gradient.width,
                steps: (stride * input.channels, gradient.channels),
            };
            dispatch!(instructions, simd => tiles.add(simd, sums));
        });
    });
    unpacked(&sums, [gradient.channels, input.channels, kernel], panel)
}

/// # Shapes
/// - `sums`: `[panels,k·k·C_in,panel]`
/// - output: `[C_out,C_in,k,k]`
fn unpacked(sums: &[f32], [channels_out, channels_in, kernel]: [usize; 3], panel: usize) -> Vec<f32> {
    let window = kernel * kernel;
    let depth = window * channels_in;
    let mut weights = vec![0.0; channels_out * depth];
    weights.par_chunks_mut(depth.max(1)).enumerate().for_each(|(output, weights)| {
        let sums = &sums[output / panel * depth * panel + output % panel..];
        for (index, weight) in weights.iter_mut().enumerate() {
            let (input, place) = (index / window, index % window);
            *weight = sums[(place * channels_in + input) * panel];
        }
    });
    weights
}

/// Where the first window of each row of the gradient begins in the input, and where that row begins.
fn rows<V, W>(input: &Map<V>, gradient: &Map<W>, kernel: usize, stride: usize) -> Vec<(usize, usize)> {
    let (shift, margin) = (input.margin - kernel / 2, gradient.margin);
    let places = (0..gradient.images).flat_map(|image| (0..gradient.height).map(move |y| (image, y)));
    let row = |(image, y): (usize, usize)| {
        (input.place(image, y * stride + shift, shift), gradient.place(image, y + margin, margin))
    };
    places.map(row).collect()
}

struct Tiles<'a> {
    /// The first place of the first window and what follows.
    input: &'a [f32],
    /// What a tile reads beyond the last channel of a pixel belongs to output channels that there are not.
    gradient: &'a [f32],
    first_channel: usize,
    /// Where the last panel of the gradient begins, and it with zeros after it.
    tail: (usize, &'a [f32]),
    /// Where each row of pixels begins in the input and in the gradient.
    rows: &'a [(usize, usize)],
    /// Pixels of a row.
    width: usize,
    /// From one pixel of a row to the next, in the input and in the gradient.
    steps: (usize, usize),
}

/// The sums of one place in the window.
struct Sum<V> {
    low: V,
    high: V,
}

/// Adds to all tiles of so many places. Spelled out for each place, as the forward product is for each pixel.
macro_rules! tiles {
    ($name:ident, $places:literal: $($sum:ident $index:literal),*) => {
        #[inline(always)]
        fn $name<S: Simd>(self, simd: S, sums: &mut [f32]) {
            let lanes = S::f32s::LEN;
            let panel = 2 * lanes;
            for rows in self.rows.chunks((PIXELS / self.width.max(1)).max(1)) {
                for (tile, sums) in sums.chunks_mut($places * panel).enumerate() {
                    // Places that there are not are summed up and forgotten.
                    $(let mut $sum = {
                        let place = (sums.len() / panel - 1).min($index);
                        let (low, high) = sums[place * panel..][..panel].split_at(lanes);
                        Sum { low: S::f32s::from_slice(simd, low), high: S::f32s::from_slice(simd, high) }
                    };)*
                    for &(from, to) in rows {
                        let (mut from, mut to) = (from + tile * $places, to + self.first_channel);
                        for _ in 0..self.width {
                            let run = &self.input[from..];
                            let mut padded = [0.0; $places];
                            let run = match run.first_chunk::<$places>() {
                                Some(run) => run,
                                None => {
                                    padded[..run.len()].copy_from_slice(run);
                                    &padded
                                }
                            };
                            let gradient = match self.gradient.get(to..to + panel) {
                                Some(gradient) => gradient,
                                None => &self.tail.1[to - self.tail.0..][..panel],
                            };
                            let (low, high) = gradient.split_at(lanes);
                            let (low, high) = (S::f32s::from_slice(simd, low), S::f32s::from_slice(simd, high));
                            $(
                                let value = S::f32s::splat(simd, run[$index]);
                                $sum.low = value.mul_add(low, $sum.low);
                                $sum.high = value.mul_add(high, $sum.high);
                            )*
                            (from, to) = (from + self.steps.0, to + self.steps.1);
                        }
                    }
                    $(if let Some(sums) = sums.chunks_exact_mut(panel).nth($index) {
                        let (low, high) = sums.split_at_mut(lanes);
                        $sum.low.store_slice(low);
                        $sum.high.store_slice(high);
                    })*
                }
            }
        }
    };
}

impl Tiles<'_> {
    #[inline(always)]
    fn add<S: Simd>(self, simd: S, sums: &mut [f32]) {
        match S::f32s::LEN {
            16 => self.by_eight(simd, sums),
            _ => self.by_four(simd, sums),
        }
    }

    tiles!(by_eight, 8: a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7);
    tiles!(by_four, 4: a 0, b 1, c 2, d 3);
}
