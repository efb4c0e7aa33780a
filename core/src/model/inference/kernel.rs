//! The convolution of graphics adapters, which CubeCL compiles to WGSL or SPIR-V: one launch takes a map through the
//! convolution, its bias, the shortcut and ReLU.
//!
//! A thread makes [`PIXELS`] pixels of one vector of output channels. It keeps their sums in registers, so that each
//! vector of weights that it reads serves all of them, and writes them once. Values may be f32 or f16; sums are f32.
//
// CubeCL's macros write functions with a parameter for each of the kernel's.
#![allow(clippy::too_many_arguments)]

use burn_wgpu::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use crate::weights::Precision;

/// Pixels of a thread.
const PIXELS: usize = 8;
/// The longest vector that an adapter reads at once, of f32.
const LANES: usize = 4;

/// How a convolution's window moves, and what becomes of its sums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Side in pixels; the padding is half of it.
    pub side: usize,
    /// Pixels from one window to the next, along both axes.
    pub stride: usize,
    /// Whether negative values become 0.
    pub relu: bool,
}

/// Convolves a map. All tensors are contiguous.
///
/// # Shapes
/// - `input`: `[N,H,W,C_in]`
/// - `weight`: `[k,k,C_in,C_out]`
/// - `bias`: `[C_out]`, f32
/// - `shortcut`, `output`: `[N,h,w,C_out]`
pub(super) fn launch(
    window: Window,
    precision: Precision,
    input: CubeTensor,
    (weight, bias): (CubeTensor, CubeTensor),
    shortcut: Option<CubeTensor>,
    output: CubeTensor,
) {
    let [channels_in, channels] = [&input, &output].map(|map| map.meta.shape()[3]);
    let pixels = output.meta.shape()[..3].iter().product::<usize>();
    let client = output.client.clone();
    let kind = match precision {
        Precision::Single => FloatKind::F32,
        Precision::Half => FloatKind::F16,
    };
    let threads = pixels.div_ceil(PIXELS) * (channels / lanes(channels));
    let cube = CubeDim::new(&client, threads);
    convolve::launch(
        &client,
        calculate_cube_count_elemwise(&client, threads, cube),
        cube,
        lanes(channels_in),
        lanes(channels),
        input.into_tensor_arg(),
        weight.into_buffer_arg(),
        bias.into_buffer_arg(),
        shortcut.map(CubeTensor::into_buffer_arg).into(),
        output.into_tensor_arg(),
        window.side,
        window.stride,
        window.relu,
        ElemType::Float(kind),
    );
}

/// The longest vector that divides so many channels.
fn lanes(channels: usize) -> usize {
    if channels.is_multiple_of(LANES) { LANES } else { 1 }
}

#[cube(launch)]
fn convolve<E: Float, I: Size, O: Size>(
    input: &Tensor<Vector<E, I>>,
    weight: &[Vector<E, O>],
    bias: &[Vector<f32, O>],
    shortcut: ComptimeOption<&[Vector<E, O>]>,
    output: &mut Tensor<Vector<E, O>>,
    #[comptime] side: usize,
    #[comptime] stride: usize,
    #[comptime] relu: bool,
    #[define(E)] _element: ElemType,
) {
    let lanes = input.vector_size();
    let depth = input.shape(3) / lanes;
    let channels = output.shape(3) / output.vector_size();
    let (height, width) = (input.shape(1), input.shape(2));
    let (rows, columns) = (output.shape(1), output.shape(2));
    let pixels = output.shape(0) * rows * columns;
    let channel = ABSOLUTE_POS % channels;
    let first = ABSOLUTE_POS / channels * PIXELS;
    if first >= pixels {
        terminate!();
    }
    // Where each pixel's window begins, and its sums.
    let mut images = Array::<usize>::new(PIXELS);
    let mut tops = Array::<i32>::new(PIXELS);
    let mut lefts = Array::<i32>::new(PIXELS);
    let mut sums = Array::<Vector<f32, O>>::new(PIXELS);
    let padding = comptime!((side / 2) as i32);
    #[unroll]
    for index in 0..PIXELS {
        let pixel = clamp_max(first + index, pixels - 1);
        let row = pixel / columns;
        images[index] = row / rows * height;
        tops[index] = (row % rows * stride) as i32 - padding;
        lefts[index] = (pixel % columns * stride) as i32 - padding;
        sums[index] = bias[channel];
    }
    for y in 0..side {
        for x in 0..side {
            let mut places = Array::<usize>::new(PIXELS);
            let mut insides = Array::<bool>::new(PIXELS);
            #[unroll]
            for index in 0..PIXELS {
                let (top, left) = (tops[index] + y as i32, lefts[index] + x as i32);
                places[index] = ((images[index] + top as usize) * width + left as usize) * depth;
                // Of a single pixel's window nothing lies outside.
                insides[index] = comptime!(side == 1)
                    || (top >= 0 && left >= 0 && (top as usize) < height && (left as usize) < width);
            }
            let weights = (y * side + x) * depth * lanes;
            for vector in 0..depth {
                let mut values = Array::<Vector<f32, I>>::new(PIXELS);
                #[unroll]
                for index in 0..PIXELS {
                    let mut value = Vector::<f32, I>::new(0.0f32);
                    if insides[index] {
                        value = Vector::cast_from(input[places[index] + vector]);
                    }
                    values[index] = value;
                }
                #[unroll]
                for lane in 0..lanes {
                    let place = weights + vector * lanes + lane;
                    let weight = Vector::<f32, O>::cast_from(weight[place * channels + channel]);
                    #[unroll]
                    for index in 0..PIXELS {
                        sums[index] += Vector::new(values[index].extract(lane)) * weight;
                    }
                }
            }
        }
    }
    #[unroll]
    for index in 0..PIXELS {
        if first + index < pixels {
            let place = (first + index) * channels + channel;
            let mut sum = sums[index];
            #[comptime]
            match shortcut {
                ComptimeOption::Some(shortcut) => sum += Vector::cast_from(shortcut[place]),
                ComptimeOption::None => {}
            }
            if relu {
                sum = max(sum, Vector::new(0.0f32));
            }
            output[place] = Vector::cast_from(sum);
        }
    }
}
