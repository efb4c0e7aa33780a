//! The gradient of a convolution's weights: for every place in the window the sum, over all output pixels, of the input
//! that the window has there times the gradient of the output. A tile of some places by two vectors of output channels,
//! or of twice as many places by one, stays in registers while it goes through a few hundred pixels, which are copied
//! into the order in which tiles read them: as they lie in a map, they are kilobytes apart.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level as Instructions, Simd, dispatch};
use rayon::prelude::*;

use super::kernel::{halves, is_narrow, panel, together};
use super::map::{LINE, Map};

/// Output pixels that a tile goes through before the next one does: their gradients stay in the nearest cache.
const PIXELS: usize = 256;
/// Most places and most panels of output channels whose inputs and gradients are copied together, and the least places.
const PLACES: usize = 256;
const PANELS: usize = 8;
const LEAST_PLACES: usize = 32;
/// Parts of the work for each thread, where there is enough of it.
const TASKS: usize = 4;
/// Numbers between one tile's copies and the next one's, so that they do not fall on the same lines of a cache.
const APART: usize = 16;

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
    let panel = panel(instructions, gradient.channels);
    let places = kernel * kernel * input.channels;
    let panels = gradient.channels.div_ceil(panel);
    let (chunk, group) = parts(places, panels, TASKS * rayon::current_num_threads());
    let width = group * panel;
    let rows = rows(&input, &gradient, kernel, stride);
    let product = Product { input, gradient, rows: &rows, run: kernel * input.channels, stride, panel };
    // [groups,k·k·C_in,width]
    let mut sums = vec![0.0; panels.div_ceil(group) * places * width];
    sums.par_chunks_mut((places * width).max(1)).enumerate().for_each(|(index, sums)| {
        let first = index * width;
        let channels = first..gradient.channels.min(first + width);
        sums.par_chunks_mut(chunk * width).enumerate().for_each_init(
            Packed::default,
            |packed, (index, sums)| {
                let part = Part { places: index * chunk, channels: channels.clone(), width };
                dispatch!(instructions, simd => product.add(simd, &part, packed, sums));
            },
        );
    });
    unpacked(&sums, [gradient.channels, input.channels, kernel], width, panel)
}

/// Places and panels of a part of the work, so that there are as many parts as wanted.
fn parts(places: usize, panels: usize, wanted: usize) -> (usize, usize) {
    let (mut chunk, mut group) = (PLACES, PANELS.min(panels).max(1));
    while places.div_ceil(chunk) * panels.div_ceil(group) < wanted && (chunk > LEAST_PLACES || group > 1) {
        // A part of few places copies the gradients more often, one of few panels the inputs.
        if group > 1 && (group * LEAST_PLACES >= chunk || chunk <= LEAST_PLACES) {
            group = group.div_ceil(2);
        } else {
            chunk /= 2;
        }
    }
    (chunk, group)
}

/// # Shapes
/// - `sums`: `[groups,k·k·C_in,width]`, a group being some panels
/// - output: `[C_out,C_in,k,k]`
fn unpacked(
    sums: &[f32],
    [channels_out, channels_in, kernel]: [usize; 3],
    width: usize,
    panel: usize,
) -> Vec<f32> {
    let window = kernel * kernel;
    let depth = window * channels_in;
    let mut weights = vec![0.0; channels_out * depth];
    weights.par_chunks_mut((panel * depth).max(1)).enumerate().for_each(|(index, weights)| {
        let first = index * panel;
        let sums = &sums[first / width * depth * width + first % width..];
        // A cache line of each output channel's weights at a time.
        for inputs in together(channels_in, LINE.div_ceil(window)) {
            for (lane, weights) in weights.chunks_exact_mut(depth).enumerate() {
                for input in inputs.clone() {
                    for (place, weight) in weights[input * window..][..window].iter_mut().enumerate() {
                        *weight = sums[(place * channels_in + input) * width + lane];
                    }
                }
            }
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

/// All of the work.
struct Product<'a> {
    input: Map<&'a [f32]>,
    gradient: Map<&'a [f32]>,
    /// Where each row of pixels begins in the input and in the gradient.
    rows: &'a [(usize, usize)],
    /// Places that lie together in the input.
    run: usize,
    stride: usize,
    panel: usize,
}

/// A part of the work: places from the first one on, as many as its sums have rows, and output channels.
struct Part {
    places: usize,
    channels: Range<usize>,
    /// From one place's sums to the next one's.
    width: usize,
}

/// What is copied for some pixels.
#[derive(Default)]
struct Packed {
    /// `[tiles,pixels,places of a tile]`
    inputs: Vec<f32>,
    /// `[panels,pixels,panel]`
    gradients: Vec<f32>,
}

impl Product<'_> {
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, part: &Part, packed: &mut Packed, sums: &mut [f32]) {
        let narrow = is_narrow(self.gradient.channels, S::f32s::LEN);
        match (S::f32s::LEN, narrow) {
            (16, false) => self.add_by::<8>(part, packed, sums, |tile| by_eight::<S, false>(simd, tile)),
            (16, true) => self.add_by::<16>(part, packed, sums, |tile| by_eight::<S, true>(simd, tile)),
            (_, false) => self.add_by::<4>(part, packed, sums, |tile| by_four::<S, false>(simd, tile)),
            (_, true) => self.add_by::<8>(part, packed, sums, |tile| by_four::<S, true>(simd, tile)),
        }
    }

    /// Adds tile by tile, each of `T` places.
    #[inline(always)]
    fn add_by<const T: usize>(
        &self,
        part: &Part,
        packed: &mut Packed,
        sums: &mut [f32],
        add: impl Fn(Tile<'_>),
    ) {
        let Part { channels, width, .. } = part;
        let (width, places) = (*width, sums.len() / width);
        let (steps, gradient_steps) = (PIXELS * T + APART, PIXELS * self.panel + APART);
        packed.inputs.resize(places.div_ceil(T) * steps, 0.0);
        packed.gradients.resize(channels.len().div_ceil(self.panel) * gradient_steps, 0.0);
        let pixels = self.rows.len() * self.gradient.width;
        for first in (0..pixels).step_by(PIXELS) {
            let count = PIXELS.min(pixels - first);
            self.pack_inputs::<T>(
                first..first + count,
                part.places..part.places + places,
                &mut packed.inputs,
            );
            self.pack_gradients(first..first + count, channels.clone(), &mut packed.gradients);
            for (panel, gradients) in packed.gradients.chunks_exact(gradient_steps).enumerate() {
                let tiles = packed.inputs.chunks_exact(steps).zip(sums.chunks_mut(T * width));
                for (inputs, sums) in tiles {
                    let (inputs, gradients) = (&inputs[..count * T], &gradients[..count * self.panel]);
                    add(Tile { inputs, gradients, sums, width, first: panel * self.panel });
                }
            }
        }
    }

    /// Where the windows of some pixels begin in the input, and where the pixels are in the gradient.
    #[inline(always)]
    fn pixels(&self, pixels: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let (width, channels) = (self.gradient.width, self.gradient.channels);
        let step = self.stride * self.input.channels;
        let (mut row, mut x) = (pixels.start / width, pixels.start % width);
        pixels.map(move |_| {
            let (from, to) = self.rows[row];
            let place = (from + x * step, to + x * channels);
            x += 1;
            if x == width {
                (row, x) = (row + 1, 0);
            }
            place
        })
    }

    #[inline(always)]
    fn pack_inputs<const T: usize>(&self, pixels: Range<usize>, places: Range<usize>, packed: &mut [f32]) {
        let steps = PIXELS * T + APART;
        for (pixel, (from, _)) in self.pixels(pixels).enumerate() {
            let mut place = places.start;
            while place < places.end {
                let end = places.end.min((place / self.run + 1) * self.run);
                let from = from + place / self.run * self.input.row() + place % self.run;
                let mut run = &self.input.values[from..from + end - place];
                let mut at = place - places.start;
                while !run.is_empty() {
                    let packed = &mut packed[at / T * steps + pixel * T + at % T..];
                    let count = match (at % T, run.first_chunk::<T>(), packed.first_chunk_mut::<T>()) {
                        (0, Some(run), Some(packed)) => {
                            *packed = *run;
                            T
                        }
                        (lane, ..) => {
                            let count = (T - lane).min(run.len());
                            packed[..count].copy_from_slice(&run[..count]);
                            count
                        }
                    };
                    (at, run) = (at + count, &run[count..]);
                }
                place = end;
            }
        }
    }

    /// Channels beyond the last keep what was there: nobody reads their sums.
    #[inline(always)]
    fn pack_gradients(&self, pixels: Range<usize>, channels: Range<usize>, packed: &mut [f32]) {
        let (panel, steps) = (self.panel, PIXELS * self.panel + APART);
        for (pixel, (_, to)) in self.pixels(pixels).enumerate() {
            let gradient = &self.gradient.values[to + channels.start..to + channels.end];
            for (gradient, packed) in gradient.chunks(panel).zip(packed.chunks_exact_mut(steps)) {
                copy(gradient, &mut packed[pixel * panel..]);
            }
        }
    }
}

/// Line by line: a call for each pixel takes longer than what it copies.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    let (lines, rest) = from.as_chunks::<LINE>();
    let (to_lines, _) = to.as_chunks_mut::<LINE>();
    for (line, to) in lines.iter().zip(to_lines) {
        *to = *line;
    }
    to[lines.len() * LINE..][..rest.len()].copy_from_slice(rest);
}

/// What a tile reads, and the sums of its places from the first output channel on.
struct Tile<'a> {
    /// `[pixels,places]`
    inputs: &'a [f32],
    /// `[pixels,panel]`
    gradients: &'a [f32],
    /// Of as many places as there are, `width` numbers for each.
    sums: &'a mut [f32],
    width: usize,
    first: usize,
}

/// The sums of one place in the window; or of two places in a narrow tile, with a vector each.
struct Sum<V> {
    low: V,
    high: V,
}

/// Adds to a tile of so many places. Spelled out for each place, as the forward product is for each pixel.
macro_rules! tile {
    ($name:ident, $places:literal: $($sum:ident $index:literal),*) => {
        #[inline(always)]
        fn $name<S: Simd, const NARROW: bool>(simd: S, tile: Tile<'_>) {
            let Tile { inputs, gradients, sums, width, first } = tile;
            let lanes = S::f32s::LEN;
            let (panel, places) = if NARROW { (lanes, 2 * $places) } else { (2 * lanes, $places) };
            // Places that there are not are summed up and forgotten.
            let last = sums.len() / width - 1;
            $(let mut $sum = {
                let (low, high) = halves::<S, NARROW>(simd, &sums[last.min($index) * width + first..][..panel]);
                let second = last.min($places + $index) * width + first;
                let high = if NARROW { S::f32s::from_slice(simd, &sums[second..][..lanes]) } else { high };
                Sum { low, high }
            };)*
            for (inputs, gradients) in inputs.chunks_exact(places).zip(gradients.chunks_exact(panel)) {
                let (low, high) = halves::<S, NARROW>(simd, gradients);
                $(
                    let value = S::f32s::splat(simd, inputs[$index]);
                    let second = if NARROW { S::f32s::splat(simd, inputs[$places + $index]) } else { value };
                    $sum.low = value.mul_add(low, $sum.low);
                    $sum.high = second.mul_add(high, $sum.high);
                )*
            }
            $(
                if NARROW {
                    for (index, vector) in [($index, $sum.low), ($places + $index, $sum.high)] {
                        if index <= last {
                            vector.store_slice(&mut sums[index * width + first..][..lanes]);
                        }
                    }
                } else if let Some(sums) = sums.chunks_mut(width).nth($index) {
                    let (low, high) = sums[first..][..panel].split_at_mut(lanes);
                    $sum.low.store_slice(low);
                    $sum.high.store_slice(high);
                }
            )*
        }
    };
}

tile!(by_eight, 8: a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7);
tile!(by_four, 4: a 0, b 1, c 2, d 3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_parts_as_threads_want() {
        for (places, panels, wanted) in [(64, 2, 8), (64, 8, 8), (576, 2, 8), (512, 64, 8), (4608, 16, 64)] {
            let (chunk, group) = parts(places, panels, wanted);
            let parts = places.div_ceil(chunk) * panels.div_ceil(group);
            assert!(parts >= wanted.min(places / LEAST_PLACES * panels), "{places} × {panels}: {parts}");
            assert!(chunk >= LEAST_PLACES && group >= 1);
        }
        assert_eq!(parts(4608, 64, 8), (PLACES, PANELS));
        assert_eq!(parts(0, 0, 8), (LEAST_PLACES, 1));
    }
}
