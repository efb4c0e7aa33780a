//! The forward product: a tile of some output pixels by two vectors of output channels stays in registers while it
//! reads its runs, and bias, shortcut and ReLU are applied before it is written. Weights lie in the order in which
//! tiles read them.

use fearless_simd::prelude::*;
use fearless_simd::{Level as Instructions, Simd, dispatch};
#[cfg(not(target_family = "wasm"))]
use rayon::prelude::*;

use super::Map;

/// A convolution and its weights as tiles read them.
#[derive(Debug)]
pub(in crate::model) struct Convolution {
    /// `[panels,k,k·C_in,panel]`; output channels that there are not have weight 0
    weights: Vec<f32>,
    /// `[panels·panel]`
    bias: Vec<f32>,
    kernel: usize,
    stride: usize,
    channels_in: usize,
    channels_out: usize,
    instructions: Instructions,
}

/// How a convolution's output is finished.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Finish<'a> {
    /// The values of a map that is like the output in every size, added to it.
    pub shortcut: Option<&'a [f32]>,
    pub relu: bool,
    /// Margin of the output.
    pub margin: usize,
}

impl Convolution {
    /// Packs weights.
    ///
    /// # Shapes
    /// - `weights`: `[C_out,C_in,k,k]`
    /// - `bias`: `[C_out]`
    pub fn new(weights: &[f32], bias: Vec<f32>, channels_in: usize, kernel: usize, stride: usize) -> Self {
        let window = kernel * kernel;
        let at = |output: usize, input: usize, place: usize| {
            weights[(output * channels_in + input) * window + place]
        };
        Self::packed(bias, channels_in, kernel, stride, at)
    }

    /// The convolution that takes the gradient of the output of another one, its pixels as far apart as the other's
    /// stride, back to its input.
    ///
    /// # Shapes
    /// - `weights`: `[C_out,C_in,k,k]` of the other
    #[cfg(not(target_family = "wasm"))]
    pub fn transposed(weights: &[f32], channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        let window = kernel * kernel;
        let at = |output: usize, input: usize, place: usize| {
            weights[(input * channels_in + output) * window + window - 1 - place]
        };
        Self::packed(vec![0.0; channels_in], channels_out, kernel, 1, at)
    }

    /// `weight`: of output channel, input channel and place in the window, row by row.
    fn packed(
        mut bias: Vec<f32>,
        channels_in: usize,
        kernel: usize,
        stride: usize,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let instructions = Instructions::new();
        let channels_out = bias.len();
        let panel = panel(instructions);
        let panels = channels_out.div_ceil(panel);
        let depth = kernel * kernel * channels_in;
        let mut weights = vec![0.0; panels * depth * panel];
        let pack = |(index, packed): (usize, &mut [f32])| {
            let first = index * panel;
            for lane in 0..panel.min(channels_out - first) {
                for place in 0..kernel * kernel {
                    for input in 0..channels_in {
                        packed[(place * channels_in + input) * panel + lane] =
                            weight(first + lane, input, place);
                    }
                }
            }
        };
        #[cfg(not(target_family = "wasm"))]
        weights.par_chunks_exact_mut((depth * panel).max(1)).enumerate().for_each(pack);
        #[cfg(target_family = "wasm")]
        weights.chunks_exact_mut((depth * panel).max(1)).enumerate().for_each(pack);
        bias.resize(panels * panel, 0.0);
        Self { weights, bias, kernel, stride, channels_in, channels_out, instructions }
    }

    /// The margin that the convolution's input needs.
    pub fn margin(&self) -> usize {
        self.kernel / 2
    }

    /// The convolution of a map whose margin is at least [`margin`](Self::margin).
    pub fn forward(&self, input: Map<&[f32]>, finish: Finish<'_>, memory: Vec<f32>) -> Map {
        let mut out = Map::over(memory, self.output_sizes(&input), finish.margin);
        self.write(input, finish, out.view_mut());
        out
    }

    /// `[N,h,w,C_out]` of the convolution of a map.
    pub fn output_sizes<V>(&self, input: &Map<V>) -> [usize; 4] {
        let size = |side| output_side(side, self.stride);
        [input.images, size(input.height), size(input.width), self.channels_out]
    }

    /// As [`forward`](Self::forward), into a map of the output's sizes and margin.
    pub fn write(&self, input: Map<&[f32]>, finish: Finish<'_>, out: Map<&mut [f32]>) {
        let (from, to) = places(&input, &out, self.kernel, self.stride);
        let Finish { shortcut, relu, .. } = finish;
        let tiles = Tiles { convolution: self, input, from: &from, to: &to, shortcut, relu };
        dispatch!(self.instructions, simd => tiles.write(simd, out.values));
    }
}

/// Pixels along a side after a convolution or pooling that pads by half its kernel.
pub(in crate::model) fn output_side(side: usize, stride: usize) -> usize {
    side.saturating_sub(1) / stride + 1
}

/// Where the window of each output pixel of a convolution begins in the input, and where the pixel is in the output.
fn places<V, W>(input: &Map<V>, out: &Map<W>, kernel: usize, stride: usize) -> (Vec<usize>, Vec<usize>) {
    let shift = input.margin - kernel / 2;
    let pixels = out.images * out.height * out.width;
    let (mut from, mut to) = (Vec::with_capacity(pixels), Vec::with_capacity(pixels));
    for image in 0..out.images {
        for y in 0..out.height {
            let first_in = input.place(image, y * stride + shift, shift);
            let first_out = out.place(image, y + out.margin, out.margin);
            from.extend((0..out.width).map(|x| first_in + x * stride * input.channels));
            to.extend((0..out.width).map(|x| first_out + x * out.channels));
        }
    }
    (from, to)
}

/// Output channels of a tile: two vectors.
pub(super) fn panel(instructions: Instructions) -> usize {
    dispatch!(instructions, simd => two_vectors(simd))
}

#[inline(always)]
fn two_vectors<S: Simd>(_: S) -> usize {
    2 * S::f32s::LEN
}

/// One convolution over one map.
struct Tiles<'a> {
    convolution: &'a Convolution,
    input: Map<&'a [f32]>,
    from: &'a [usize],
    to: &'a [usize],
    shortcut: Option<&'a [f32]>,
    relu: bool,
}

/// A pixel of a tile: the run it reads, and its two vectors of output channels.
struct Pixel<'a, V> {
    run: &'a [f32],
    low: V,
    high: V,
}

/// Writes all tiles of so many pixels. Spelled out for each pixel, because only what is never indexed by a variable
/// stays in registers at every level of optimisation.
macro_rules! tiles {
    ($name:ident, $pixels:literal: $($pixel:ident $index:literal),*) => {
        #[inline(always)]
        fn $name<S: Simd>(self, simd: S, out: &mut [f32]) {
            let convolution = self.convolution;
            let lanes = S::f32s::LEN;
            let panel = 2 * lanes; // that of the convolution, and known to the compiler
            let run = convolution.kernel * convolution.channels_in;
            let row = self.input.row();
            let panels = convolution.weights.chunks_exact(convolution.kernel * run * panel);
            for (index, (weights, bias)) in panels.zip(convolution.bias.chunks_exact(panel)).enumerate() {
                let first = index * panel;
                let channels = panel.min(convolution.channels_out - first);
                let (low, high) = bias.split_at(lanes);
                let (low, high) = (S::f32s::from_slice(simd, low), S::f32s::from_slice(simd, high));
                for (from, to) in self.from.chunks($pixels).zip(self.to.chunks($pixels)) {
                    let last = from.len() - 1;
                    $(let mut $pixel = Pixel::<S::f32s> { run: &[], low, high };)*
                    for (y, weights) in weights.chunks_exact(run * panel).enumerate() {
                        $($pixel.run = &self.input.values[from[last.min($index)] + y * row..][..run];)*
                        // Not an iterator: built for size, its steps would be calls.
                        let (mut place, mut left) = (0, weights);
                        while place < run {
                            let (weights, next) = left.split_at(panel);
                            let (low, high) = weights.split_at(lanes);
                            let (low, high) = (S::f32s::from_slice(simd, low), S::f32s::from_slice(simd, high));
                            $(
                                let value = S::f32s::splat(simd, $pixel.run[place]);
                                $pixel.low = value.mul_add(low, $pixel.low);
                                $pixel.high = value.mul_add(high, $pixel.high);
                            )*
                            (place, left) = (place + 1, next);
                        }
                    }
                    $(if let Some(to) = to.get($index) {
                        self.finish(simd, $pixel, &mut out[to + first..][..channels], to + first);
                    })*
                }
            }
        }
    };
}

impl Tiles<'_> {
    #[inline(always)]
    fn write<S: Simd>(self, simd: S, out: &mut [f32]) {
        // As many as the registers of the instruction set hold.
        match S::f32s::LEN {
            16 => self.by_twelve(simd, out),
            8 => self.by_six(simd, out),
            // NEON has twice the registers of x86's 128-bit vectors, on which wasm's run.
            _ if cfg!(target_arch = "aarch64") => self.by_twelve(simd, out),
            _ => self.by_four(simd, out),
        }
    }

    tiles!(by_twelve, 12: a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7, i 8, j 9, k 10, l 11);
    tiles!(by_six, 6: a 0, b 1, c 2, d 3, e 4, f 5);
    tiles!(by_four, 4: a 0, b 1, c 2, d 3);

    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, pixel: Pixel<'_, S::f32s>, out: &mut [f32], place: usize) {
        let (mut low, mut high) = (pixel.low, pixel.high);
        let lanes = S::f32s::LEN;
        let whole = out.len() == 2 * lanes;
        if let Some(shortcut) = self.shortcut {
            let shortcut = &shortcut[place..][..out.len()];
            let mut padded = [0.0; 2 * MOST_LANES];
            let shortcut = if whole {
                shortcut
            } else {
                padded[..shortcut.len()].copy_from_slice(shortcut);
                &padded[..2 * lanes]
            };
            let (first, second) = shortcut.split_at(lanes);
            low += S::f32s::from_slice(simd, first);
            high += S::f32s::from_slice(simd, second);
        }
        if self.relu {
            let zero = S::f32s::splat(simd, 0.0);
            (low, high) = (low.max(zero), high.max(zero));
        }
        if whole {
            let (first, second) = out.split_at_mut(lanes);
            low.store_slice(first);
            high.store_slice(second);
        } else {
            let mut padded = [0.0; 2 * MOST_LANES];
            low.store_slice(&mut padded[..lanes]);
            high.store_slice(&mut padded[lanes..2 * lanes]);
            out.copy_from_slice(&padded[..out.len()]);
        }
    }
}

/// Numbers in the widest vector there is.
const MOST_LANES: usize = 16;
