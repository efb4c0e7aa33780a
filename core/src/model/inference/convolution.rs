//! Convolutions on the CPU, as a matrix product whose left side is never written out.
//!
//! Maps lie channels last, each image in a margin of zeros, so that a row of a kernel's window is one run of numbers:
//! the kernel's width times the channels. A tile of some output pixels by two vectors of output channels stays in
//! registers while it reads its runs, and bias, shortcut and ReLU are applied before it is written. Weights lie in the
//! order in which tiles read them.

use burn::tensor::Tensor;
use fearless_simd::prelude::*;
use fearless_simd::{Level as Instructions, Simd, dispatch};

use super::network::Folded;

/// A stack of images, channels last, each in a margin of zeros.
#[derive(Debug)]
pub(super) struct Map {
    /// `[N, H + 2·margin, W + 2·margin, C]`
    pub values: Vec<f32>,
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub margin: usize,
}

impl Map {
    /// A map with a margin of zeros whose inside is still to be written; `memory` is used where it is large enough.
    pub(super) fn over(
        mut memory: Vec<f32>,
        [images, height, width, channels]: [usize; 4],
        margin: usize,
    ) -> Self {
        memory.resize(images * (height + 2 * margin) * (width + 2 * margin) * channels, 0.0);
        let mut map = Self { values: memory, images, height, width, channels, margin };
        map.clear_margin();
        map
    }

    fn clear_margin(&mut self) {
        if self.margin == 0 || self.values.is_empty() {
            return;
        }
        let row = self.row();
        let side = self.margin * self.channels;
        let inside = self.margin..self.margin + self.height;
        for image in self.values.chunks_exact_mut(row * (self.height + 2 * self.margin)) {
            for (y, row) in image.chunks_exact_mut(row).enumerate() {
                if inside.contains(&y) {
                    let end = row.len() - side;
                    row[..side].fill(0.0);
                    row[end..].fill(0.0);
                } else {
                    row.fill(0.0);
                }
            }
        }
    }

    /// Values from one row to the next.
    fn row(&self) -> usize {
        (self.width + 2 * self.margin) * self.channels
    }

    /// Where a pixel begins; `y` and `x` count from the corner of the margin.
    pub(super) fn place(&self, image: usize, y: usize, x: usize) -> usize {
        (image * (self.height + 2 * self.margin) + y) * self.row() + x * self.channels
    }
}

/// A convolution and its weights as tiles read them.
#[derive(Debug)]
pub(super) struct Convolution {
    /// `[panels,k,k·C_in,panel]`; output channels that there are not have weight 0
    weights: Vec<f32>,
    /// `[panels·panel]`
    bias: Vec<f32>,
    kernel: usize,
    stride: usize,
    channels_in: usize,
    channels_out: usize,
    /// Output channels of a tile: two vectors.
    panel: usize,
    instructions: Instructions,
}

/// How a convolution's output is finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish<'a> {
    /// Added to the output, which it is like in every size.
    pub shortcut: Option<&'a Map>,
    pub relu: bool,
    /// Margin of the output.
    pub margin: usize,
}

impl Convolution {
    pub(super) fn new(folded: Folded, instructions: Instructions) -> Self {
        let [channels_out, channels_in, kernel, _] = folded.weight.dims();
        let panel = dispatch!(instructions, simd => two_vectors(simd));
        let panels = channels_out.div_ceil(panel);
        let depth = kernel * kernel * channels_in;
        // [k,k,C_in,C_out], of which a panel takes some columns.
        let by_output = values(folded.weight.permute([2, 3, 1, 0]).reshape([depth * channels_out]));
        let mut weights = vec![0.0; panels * depth * panel];
        for (index, packed) in weights.chunks_exact_mut((depth * panel).max(1)).enumerate() {
            let rows = by_output.chunks_exact(channels_out.max(1));
            for (packed, row) in packed.chunks_exact_mut(panel).zip(rows) {
                let columns = &row[index * panel..channels_out.min((index + 1) * panel)];
                packed[..columns.len()].copy_from_slice(columns);
            }
        }
        let mut bias = values(folded.bias);
        bias.resize(panels * panel, 0.0);
        let stride = folded.stride;
        Self { weights, bias, kernel, stride, channels_in, channels_out, panel, instructions }
    }

    /// The margin that the convolution's input needs.
    pub(super) fn margin(&self) -> usize {
        self.kernel / 2
    }

    /// The convolution of a map whose margin is at least [`margin`](Self::margin).
    pub(super) fn forward(&self, input: &Map, finish: Finish<'_>, memory: Vec<f32>) -> Map {
        let size = |side: usize| (side - 1) / self.stride + 1;
        let sizes = [input.images, size(input.height), size(input.width), self.channels_out];
        let mut out = Map::over(memory, sizes, finish.margin);
        let (from, to) = self.places(input, &out);
        let shortcut = finish.shortcut.map(|map| map.values.as_slice());
        let tiles = Tiles { convolution: self, input, from: &from, to: &to, shortcut, relu: finish.relu };
        dispatch!(self.instructions, simd => tiles.write(simd, &mut out.values));
        out
    }

    /// Where the window of each output pixel begins in the input, and where the pixel is in the output.
    fn places(&self, input: &Map, out: &Map) -> (Vec<usize>, Vec<usize>) {
        let shift = input.margin - self.kernel / 2;
        let pixels = out.images * out.height * out.width;
        let (mut from, mut to) = (Vec::with_capacity(pixels), Vec::with_capacity(pixels));
        for image in 0..out.images {
            for y in 0..out.height {
                let first_in = input.place(image, y * self.stride + shift, shift);
                let first_out = out.place(image, y + out.margin, out.margin);
                from.extend((0..out.width).map(|x| first_in + x * self.stride * input.channels));
                to.extend((0..out.width).map(|x| first_out + x * out.channels));
            }
        }
        (from, to)
    }
}

/// Values of a tensor in memory.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap_or_default()
}

#[inline(always)]
fn two_vectors<S: Simd>(_: S) -> usize {
    2 * S::f32s::LEN
}

/// One convolution over one map.
struct Tiles<'a> {
    convolution: &'a Convolution,
    input: &'a Map,
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
            let panel = convolution.panel;
            let lanes = panel / 2;
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
                        for place in 0..run {
                            let (low, high) = weights[place * panel..][..panel].split_at(lanes);
                            let (low, high) = (S::f32s::from_slice(simd, low), S::f32s::from_slice(simd, high));
                            $(
                                let value = S::f32s::splat(simd, $pixel.run[place]);
                                $pixel.low = value.mul_add(low, $pixel.low);
                                $pixel.high = value.mul_add(high, $pixel.high);
                            )*
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
