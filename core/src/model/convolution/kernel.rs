//! The forward product: a tile of some output pixels by two vectors of output channels, or of twice as many pixels by
//! one, stays in registers while it reads its runs, and bias, shortcut and ReLU are applied before it is written. Weights
//! lie in the order in which tiles read them.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level as Instructions, Simd, dispatch};
#[cfg(not(target_family = "wasm"))]
use rayon::prelude::*;

use super::Band;
use super::map::{LINE, Map};

/// A convolution and its weights as tiles read them.
#[derive(Debug)]
pub(in crate::model) struct Convolution {
    phases: Vec<Phase>,
    /// `[panels·panel]`
    bias: Vec<f32>,
    kernel: usize,
    channels_in: usize,
    channels_out: usize,
    /// Output channels of a tile.
    panel: usize,
    instructions: Instructions,
}

/// What makes the output pixels whose windows have the same places: all of them, or those of a transposed convolution
/// that are equally far from a multiple of the stride.
#[derive(Debug)]
struct Phase {
    rows: Axis,
    columns: Axis,
    /// `[panels,window,window·C_in,panel]`; output channels that there are not have weight 0
    weights: Vec<f32>,
}

/// Along one side: the output pixels that are written, and their windows.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// The first pixel, and how far the next one is from it.
    writes: (usize, usize),
    /// Where the first pixel's window begins, and how far the next one is from it.
    reads: (isize, usize),
    /// Pixels of a window.
    window: usize,
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

impl Axis {
    /// That of a convolution which pads by half its kernel.
    fn forward(kernel: usize, stride: usize) -> Self {
        Self { writes: (0, 1), reads: (-(kernel as isize / 2), stride), window: kernel }
    }

    /// That of its transposed one for the pixels `phase` beyond a multiple of the stride; with the place in the
    /// kernel's window that is the first here. The next ones are a stride before it.
    #[cfg(not(target_family = "wasm"))]
    fn transposed(kernel: usize, stride: usize, phase: usize) -> (Self, usize) {
        let reach = phase + kernel / 2;
        let window = kernel.saturating_sub(reach % stride).div_ceil(stride);
        let place = reach % stride + window.saturating_sub(1) * stride;
        let first = (reach as isize - place as isize) / stride as isize;
        (Self { writes: (phase, stride), reads: (first, 1), window }, place)
    }

    /// Which of the pixels written is pixel `at`, if it is one.
    fn written(&self, at: usize) -> Option<usize> {
        let from_first = at.checked_sub(self.writes.0)?;
        (from_first % self.writes.1 == 0).then_some(from_first / self.writes.1)
    }

    /// Pixels written of so many.
    fn count(&self, pixels: usize) -> usize {
        pixels.saturating_sub(self.writes.0).div_ceil(self.writes.1)
    }

    /// Where the window of a pixel begins in a map of such a margin.
    fn begin(&self, pixel: usize, margin: usize) -> usize {
        (margin + pixel * self.reads.1).wrapping_add_signed(self.reads.0)
    }
}

impl Convolution {
    /// Packs weights.
    ///
    /// # Shapes
    /// - `weights`: `[C_out,C_in,k,k]`
    /// - `bias`: `[C_out]`
    pub fn new(weights: &[f32], bias: Vec<f32>, channels_in: usize, kernel: usize, stride: usize) -> Self {
        let mut convolution = Self::without_weights(bias, channels_in, kernel);
        let axis = Axis::forward(kernel, stride);
        convolution.pack(axis, axis, |output, input, row, column| {
            weights[((output * channels_in + input) * kernel + row) * kernel + column]
        });
        convolution
    }

    /// The convolution that takes the gradient of the output of another one back to its input.
    ///
    /// # Shapes
    /// - `weights`: `[C_out,C_in,k,k]` of the other
    #[cfg(not(target_family = "wasm"))]
    pub fn transposed(
        weights: &[f32],
        [channels_in, channels_out]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Self {
        let mut convolution = Self::without_weights(vec![0.0; channels_in], channels_out, kernel);
        for phase in 0..stride * stride {
            let (rows, row) = Axis::transposed(kernel, stride, phase / stride);
            let (columns, column) = Axis::transposed(kernel, stride, phase % stride);
            convolution.pack(rows, columns, |output, input, down, right| {
                let place = (row - down * stride) * kernel + column - right * stride;
                weights[(input * channels_in + output) * kernel * kernel + place]
            });
        }
        convolution
    }

    fn without_weights(mut bias: Vec<f32>, channels_in: usize, kernel: usize) -> Self {
        let instructions = Instructions::new();
        let channels_out = bias.len();
        let panel = panel(instructions, channels_out);
        bias.resize(channels_out.next_multiple_of(panel), 0.0);
        Self { phases: Vec::new(), bias, kernel, channels_in, channels_out, panel, instructions }
    }

    /// Adds a phase; `weight`: of output channel, input channel, row and column of the window.
    fn pack(&mut self, rows: Axis, columns: Axis, weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync) {
        let Self { panel, channels_in, channels_out, .. } = *self;
        let window = rows.window * columns.window;
        let depth = window * channels_in;
        let mut weights = vec![0.0; self.bias.len() * depth];
        let pack = |(index, packed): (usize, &mut [f32])| {
            let first = index * panel;
            for inputs in together(channels_in, LINE) {
                for lane in 0..panel.min(channels_out - first) {
                    for place in 0..window {
                        let (row, column) = (place / columns.window, place % columns.window);
                        for input in inputs.clone() {
                            packed[(place * channels_in + input) * panel + lane] =
                                weight(first + lane, input, row, column);
                        }
                    }
                }
            }
        };
        #[cfg(not(target_family = "wasm"))]
        weights.par_chunks_exact_mut((depth * panel).max(1)).enumerate().for_each(pack);
        #[cfg(target_family = "wasm")]
        weights.chunks_exact_mut((depth * panel).max(1)).enumerate().for_each(pack);
        self.phases.push(Phase { rows, columns, weights });
    }

    /// The margin that the convolution's input needs.
    pub fn margin(&self) -> usize {
        self.kernel / 2
    }

    /// The convolution of a map whose margin is at least [`margin`](Self::margin).
    pub fn forward(&self, input: Map<&[f32]>, finish: Finish<'_>, memory: Vec<f32>) -> Map {
        let mut out = Map::over(memory, self.output_sizes(&input), finish.margin);
        let band = Band::whole(&out);
        self.write(input, finish, &band, out.view_mut().values);
        out
    }

    /// `[N,h,w,C_out]` of the convolution of a map; not for a transposed one, which several sizes fit.
    pub fn output_sizes<V>(&self, input: &Map<V>) -> [usize; 4] {
        let stride = self.phases.first().map_or(1, |phase| phase.rows.reads.1);
        let size = |side| output_side(side, stride);
        [input.images, size(input.height), size(input.width), self.channels_out]
    }

    /// As [`forward`](Self::forward), a band of the output with its values and those of the shortcut.
    pub fn write(&self, input: Map<&[f32]>, finish: Finish<'_>, band: &Band, out: &mut [f32]) {
        let Finish { shortcut, relu, .. } = finish;
        for phase in &self.phases {
            let (from, to) = phase.places(&input, band, self.channels_out);
            if phase.weights.is_empty() {
                // A window without a place: the gradient of a pixel that nobody read.
                for &to in &to {
                    let out = &mut out[to..to + self.channels_out];
                    match shortcut {
                        Some(shortcut) => out.copy_from_slice(&shortcut[to..to + self.channels_out]),
                        None => out.fill(0.0),
                    }
                }
                continue;
            }
            let tiles = Tiles { convolution: self, phase, input, from: &from, to: &to, shortcut, relu };
            dispatch!(self.instructions, simd => tiles.write(simd, out));
        }
    }
}

impl Phase {
    /// Where the window of each output pixel of a band begins in the input, and where the pixel is in the band.
    fn places<V>(&self, input: &Map<V>, band: &Band, channels: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        let columns = &self.columns;
        for (image, y, inside) in band.rows_inside() {
            let Some(row) = self.rows.written(y) else { continue };
            let first =
                input.place(image, self.rows.begin(row, input.margin), columns.begin(0, input.margin));
            let count = columns.count(inside.len() / channels);
            let (step_in, step_out) = (columns.reads.1 * input.channels, columns.writes.1 * channels);
            let first_out = inside.start + columns.writes.0 * channels;
            from.extend((0..count).map(|x| first + x * step_in));
            to.extend((0..count).map(|x| first_out + x * step_out));
        }
        (from, to)
    }
}

/// Pixels along a side after a convolution or pooling that pads by half its kernel.
pub(in crate::model) fn output_side(side: usize, stride: usize) -> usize {
    side.saturating_sub(1) / stride + 1
}

/// Input channels in their order, so many at a time.
pub(super) fn together(channels: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..channels).step_by(count).map(move |first| first..channels.min(first + count))
}

/// Output channels of a tile: two vectors, or one where that holds them all.
pub(super) fn panel(instructions: Instructions, channels: usize) -> usize {
    let lanes = dispatch!(instructions, simd => lanes(simd));
    if is_narrow(channels, lanes) { lanes } else { 2 * lanes }
}

/// Whether one vector holds all output channels. In a browser its vectors are too short for that to be a layer.
pub(super) fn is_narrow(channels: usize, lanes: usize) -> bool {
    cfg!(not(target_family = "wasm")) && channels <= lanes
}

#[inline(always)]
fn lanes<S: Simd>(_: S) -> usize {
    S::f32s::LEN
}

/// One convolution over one map.
struct Tiles<'a> {
    convolution: &'a Convolution,
    phase: &'a Phase,
    input: Map<&'a [f32]>,
    from: &'a [usize],
    to: &'a [usize],
    shortcut: Option<&'a [f32]>,
    relu: bool,
}

/// A pixel of a tile: the run it reads, and its two vectors of output channels; or two pixels in a narrow tile, with a
/// vector each.
struct Pixel<'a, V> {
    run: &'a [f32],
    second_run: &'a [f32],
    low: V,
    high: V,
}

/// Writes all tiles of so many pixels. Spelled out for each pixel, because only what is never indexed by a variable
/// stays in registers at every level of optimisation.
macro_rules! tiles {
    ($name:ident, $pixels:literal: $($pixel:ident $index:literal),*) => {
        #[inline(always)]
        fn $name<S: Simd, const NARROW: bool>(self, simd: S, out: &mut [f32]) {
            let convolution = self.convolution;
            let lanes = S::f32s::LEN;
            let panel = if NARROW { lanes } else { 2 * lanes }; // that of the convolution, and known to the compiler
            let pixels = if NARROW { 2 * $pixels } else { $pixels };
            let run = self.phase.columns.window * convolution.channels_in;
            let row = self.input.row();
            let panels = self.phase.weights.chunks_exact(self.phase.rows.window * run * panel);
            for (index, (weights, bias)) in panels.zip(convolution.bias.chunks_exact(panel)).enumerate() {
                let first = index * panel;
                let channels = panel.min(convolution.channels_out - first);
                let (low, high) = halves::<S, NARROW>(simd, bias);
                for (from, to) in self.from.chunks(pixels).zip(self.to.chunks(pixels)) {
                    let last = from.len() - 1;
                    let run_of = |index: usize, y: usize| &self.input.values[from[last.min(index)] + y * row..][..run];
                    $(let mut $pixel = Pixel::<S::f32s> { run: &[], second_run: &[], low, high };)*
                    for (y, weights) in weights.chunks_exact(run * panel).enumerate() {
                        $(
                            $pixel.run = run_of($index, y);
                            if NARROW {
                                $pixel.second_run = run_of($pixels + $index, y);
                            }
                        )*
                        // Not an iterator: built for size, its steps would be calls.
                        let (mut place, mut left) = (0, weights);
                        while place < run {
                            let (weights, next) = left.split_at(panel);
                            let (low, high) = halves::<S, NARROW>(simd, weights);
                            $(
                                let value = S::f32s::splat(simd, $pixel.run[place]);
                                let second =
                                    if NARROW { S::f32s::splat(simd, $pixel.second_run[place]) } else { value };
                                $pixel.low = value.mul_add(low, $pixel.low);
                                $pixel.high = second.mul_add(high, $pixel.high);
                            )*
                            (place, left) = (place + 1, next);
                        }
                    }
                    $(
                        if NARROW {
                            for (index, vector) in [($index, $pixel.low), ($pixels + $index, $pixel.high)] {
                                if let Some(&to) = to.get(index) {
                                    self.finish(simd, vector, &mut out[to..][..channels], to);
                                }
                            }
                        } else if let Some(to) = to.get($index) {
                            let to = to + first;
                            self.finish(simd, $pixel.low, &mut out[to..][..channels.min(lanes)], to);
                            if channels > lanes {
                                let out = &mut out[to + lanes..][..channels - lanes];
                                self.finish(simd, $pixel.high, out, to + lanes);
                            }
                        }
                    )*
                }
            }
        }
    };
}

impl Tiles<'_> {
    #[inline(always)]
    fn write<S: Simd>(self, simd: S, out: &mut [f32]) {
        if is_narrow(self.convolution.channels_out, S::f32s::LEN) {
            return self.by_registers::<S, true>(simd, out);
        }
        self.by_registers::<S, false>(simd, out);
    }

    /// As many pixels as the registers of the instruction set hold.
    #[inline(always)]
    fn by_registers<S: Simd, const NARROW: bool>(self, simd: S, out: &mut [f32]) {
        match S::f32s::LEN {
            16 => self.by_twelve::<S, NARROW>(simd, out),
            8 => self.by_six::<S, NARROW>(simd, out),
            // NEON has twice the registers of x86's 128-bit vectors, on which wasm's run.
            _ if cfg!(target_arch = "aarch64") => self.by_twelve::<S, NARROW>(simd, out),
            _ => self.by_four::<S, NARROW>(simd, out),
        }
    }

    tiles!(by_twelve, 12: a 0, b 1, c 2, d 3, e 4, f 5, g 6, h 7, i 8, j 9, k 10, l 11);
    tiles!(by_six, 6: a 0, b 1, c 2, d 3, e 4, f 5);
    tiles!(by_four, 4: a 0, b 1, c 2, d 3);

    /// Writes a vector of output channels, or as many of it as there are.
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, mut vector: S::f32s, out: &mut [f32], place: usize) {
        let lanes = S::f32s::LEN;
        let mut padded = [0.0; MOST_LANES];
        if let Some(shortcut) = self.shortcut {
            let shortcut = &shortcut[place..][..out.len()];
            vector += if out.len() == lanes {
                S::f32s::from_slice(simd, shortcut)
            } else {
                padded[..shortcut.len()].copy_from_slice(shortcut);
                S::f32s::from_slice(simd, &padded[..lanes])
            };
        }
        if self.relu {
            vector = vector.max(S::f32s::splat(simd, 0.0));
        }
        if out.len() == lanes {
            vector.store_slice(out);
        } else {
            vector.store_slice(&mut padded[..lanes]);
            out.copy_from_slice(&padded[..out.len()]);
        }
    }
}

/// The two vectors of a panel; one of them twice in a narrow tile.
#[inline(always)]
pub(super) fn halves<S: Simd, const NARROW: bool>(simd: S, panel: &[f32]) -> (S::f32s, S::f32s) {
    if NARROW {
        let vector = S::f32s::from_slice(simd, panel);
        return (vector, vector);
    }
    let (low, high) = panel.split_at(S::f32s::LEN);
    (S::f32s::from_slice(simd, low), S::f32s::from_slice(simd, high))
}

/// Numbers in the widest vector there is.
const MOST_LANES: usize = 16;
