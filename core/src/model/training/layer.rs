//! A convolution and the batch norm that follows it, forwards and backwards.

use burn::backend::flex::FlexTensor;
use fearless_simd::{Level as Instructions, dispatch};
use rayon::prelude::*;

use super::{tensor, values};
use crate::model::convolution::{Band, Convolution, Finish, Loan, Map, Memory, weight_gradient};

/// What a layer learns, as it is now.
pub(super) struct Parameters {
    /// `[C_out,C_in,k,k]`
    pub weight: FlexTensor,
    /// `[C_out]`
    pub gamma: FlexTensor,
    /// `[C_out]`
    pub beta: FlexTensor,
}

/// A layer after its forward pass.
#[derive(Debug)]
pub(super) struct Layer {
    weight: FlexTensor,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    pub kernel: usize,
    stride: usize,
    channels_in: usize,
    /// What the convolution gave.
    raw: Map<Loan>,
    memory: Memory,
    /// Of each channel of `raw`.
    pub mean: Vec<f32>,
    /// Of each channel of `raw`, biased.
    pub variance: Vec<f32>,
    /// `1/√(variance + ε)`.
    inverse_sd: Vec<f32>,
}

/// For one band, of each channel: the sum of a gradient over its pixels, and that of the gradient times the distance
/// from the mean. `[2·C]`
pub(super) struct BandSums(Vec<f32>);

/// Of each channel of a band: the mean, and the sum of the squared distances from it.
struct Moments {
    pixels: usize,
    mean: Vec<f32>,
    squares: Vec<f32>,
}

/// What the convolution of a layer gets back.
pub(super) struct LayerGradient {
    /// Of what the convolution gave.
    pub raw: Map<Loan>,
    /// `[C_out]`
    pub gamma: FlexTensor,
    /// `[C_out]`
    pub beta: FlexTensor,
}

impl Layer {
    /// Convolves a map whose margin is half the kernel or more, and takes the moments of what comes out.
    pub fn new(
        parameters: &Parameters,
        stride: usize,
        epsilon: f64,
        input: Map<&[f32]>,
        memory: &Memory,
    ) -> Self {
        let [channels_in, kernel] = [1, 2].map(|axis| parameters.weight.layout().shape()[axis]);
        let channels_out = parameters.weight.layout().shape()[0];
        let bias = vec![0.0; channels_out];
        let convolution = Convolution::new(values(&parameters.weight), bias, channels_in, kernel, stride);
        let raw = memory.map(convolution.output_sizes(&input), 0);
        let (raw, bands) =
            convolved(&convolution, input, None, raw, |_, band| Moments::of(band, channels_out));
        let (mean, variance) = joined(&bands);
        let inverse_sd = variance.iter().map(|&value| (f64::from(value) + epsilon).sqrt().recip() as f32);
        Self {
            weight: parameters.weight.clone(),
            gamma: values(&parameters.gamma).to_vec(),
            beta: values(&parameters.beta).to_vec(),
            kernel,
            stride,
            channels_in,
            inverse_sd: inverse_sd.collect(),
            raw,
            memory: memory.clone(),
            mean,
            variance,
        }
    }

    /// The layer's output: the normalised map, with the values of a map of the output's sizes and margin added.
    pub fn output(&self, shortcut: Option<&[f32]>, relu: bool, margin: usize) -> Map<Loan> {
        let scale: Vec<f32> = self.gamma.iter().zip(&self.inverse_sd).map(|(gamma, sd)| gamma * sd).collect();
        let shift =
            self.beta.iter().zip(&self.mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale);
        let shift: Vec<f32> = shift.collect();
        let Map { images, height, width, channels, .. } = self.raw;
        let mut out = self.memory.map([images, height, width, channels], margin);
        let (sizes, raw) = (out.with(()), self.raw.view());
        let instructions = Instructions::new();
        out.view_mut().cut(1).into_par_iter().for_each(|(band, out)| {
            for (image, y, inside) in band.rows_inside() {
                let shortcut = shortcut.map(|shortcut| &shortcut[sizes.row_inside(image, y)]);
                let (out, raw) = (&mut out[inside], &raw.values[raw.row_inside(image, y)]);
                dispatch!(instructions, _simd => normalize(out, raw, shortcut, (&scale, &shift), relu));
            }
        });
        out
    }

    /// Takes a gradient of the layer's output to where the norm can be gone back through, band by band: clears it
    /// where ReLU was closed, if `gate` is what came out of ReLU, and sums it up.
    pub fn gate(&self, gradient: &mut Map<Loan>, gate: Option<Map<&[f32]>>) -> Vec<BandSums> {
        let bands = gradient.view_mut().cut(1).into_par_iter();
        bands.map(|(band, values)| self.gate_band(&band, values, gate)).collect()
    }

    /// [`gate`](Self::gate) for one band.
    fn gate_band(&self, band: &Band, gradient: &mut [f32], gate: Option<Map<&[f32]>>) -> BandSums {
        let mut sums = vec![0.0; 2 * self.raw.channels];
        for (image, y, inside) in band.rows_inside() {
            let gate = gate.map(|gate| &gate.values[gate.row_inside(image, y)]);
            let (gradient, raw) = (&mut gradient[inside], &self.raw.values[self.raw.row_inside(image, y)]);
            dispatch!(Instructions::new(), _simd => gate_and_sum(gradient, gate, raw, &self.mean, &mut sums));
        }
        BandSums(sums)
    }

    /// Takes a gradient of the layer's output that went through [`gate`](Self::gate) back through the norm.
    pub fn through_norm(&self, gradient: &Map<Loan>, sums: &[BandSums]) -> LayerGradient {
        // In the order of the bands, whichever thread took them: it comes out the same on any machine.
        let sum = |at: usize| sums.iter().map(|sums| f64::from(sums.0[at])).sum::<f64>();
        let Map { images, height, width, channels, .. } = self.raw;
        let pixels = (images * height * width) as f64;
        let (mut gamma, mut beta) = (vec![0.0; channels], vec![0.0; channels]);
        // Of raw: a · gradient + b · raw + c.
        let (mut a, mut b, mut c) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        for channel in 0..channels {
            let (mean, inverse_sd) = (f64::from(self.mean[channel]), f64::from(self.inverse_sd[channel]));
            let (of_beta, of_gamma) = (sum(channel), sum(channels + channel) * inverse_sd);
            let scale = f64::from(self.gamma[channel]) * inverse_sd;
            let slope = -scale * of_gamma / pixels * inverse_sd;
            (gamma[channel], beta[channel]) = (of_gamma as f32, of_beta as f32);
            (a[channel], b[channel]) = (scale as f32, slope as f32);
            c[channel] = (-scale * of_beta / pixels - slope * mean) as f32;
        }
        let raw = self.combined(gradient.view(), (&a, &b, &c));
        LayerGradient { raw, gamma: tensor(gamma, [channels]), beta: tensor(beta, [channels]) }
    }

    /// The gradient of what the convolution gave, from that of the norm's output.
    fn combined(&self, gradient: Map<&[f32]>, factors: (&[f32], &[f32], &[f32])) -> Map<Loan> {
        let Map { images, height, width, channels, .. } = self.raw;
        // What goes on through the transposed convolution needs its margin.
        let mut out = self.memory.map([images, height, width, channels], self.kernel / 2);
        let raw = self.raw.view();
        let instructions = Instructions::new();
        out.view_mut().cut(1).into_par_iter().for_each(|(band, out)| {
            for (image, y, inside) in band.rows_inside() {
                let gradient = &gradient.values[gradient.row_inside(image, y)];
                let (out, raw) = (&mut out[inside], &raw.values[raw.row_inside(image, y)]);
                dispatch!(instructions, _simd => combine(out, gradient, raw, factors));
            }
        });
        out
    }

    /// The gradient of the weights.
    ///
    /// # Shapes
    /// - output: `[C_out,C_in,k,k]`
    pub fn weight_gradient(&self, input: Map<&[f32]>, gradient: &Map<Loan>) -> FlexTensor {
        let weights = weight_gradient(input, gradient.view(), self.kernel, self.stride);
        tensor(weights, [gradient.channels, self.channels_in, self.kernel, self.kernel])
    }

    /// The gradient of the layer's input, a map like `input`; the values of another such map are added.
    pub fn input_gradient<V>(&self, input: &Map<V>, gradient: Map<Loan>, add: Option<&[f32]>) -> Map<Loan> {
        self.gradient_before(input, gradient, add, |_, _| ()).0
    }

    /// The gradient of the output of the layer before, which is this one's input after ReLU, [gated](Self::gate).
    pub fn gated_gradient(
        &self,
        before: &Layer,
        input: Map<&[f32]>,
        gradient: Map<Loan>,
    ) -> (Map<Loan>, Vec<BandSums>) {
        let sizes = Map { margin: 0, ..input };
        self.gradient_before(&sizes, gradient, None, |band, values| {
            before.gate_band(band, values, Some(input))
        })
    }

    /// The gradient of the input, with `finish` done to each band of it while it is in the cache.
    fn gradient_before<V, T: Send>(
        &self,
        input: &Map<V>,
        gradient: Map<Loan>,
        add: Option<&[f32]>,
        finish: impl Fn(&Band, &mut [f32]) -> T + Sync,
    ) -> (Map<Loan>, Vec<T>) {
        let (weight, channels) = (values(&self.weight), [self.channels_in, gradient.channels]);
        let back = Convolution::transposed(weight, channels, self.kernel, self.stride);
        let out = self.memory.map([input.images, input.height, input.width, self.channels_in], input.margin);
        convolved(&back, gradient.view(), add, out, finish)
    }
}

/// A convolution of many images into `out`; the values of a map like it are added. `finish` sees each band of it while
/// it is in the cache.
fn convolved<T: Send>(
    convolution: &Convolution,
    input: Map<&[f32]>,
    add: Option<&[f32]>,
    mut out: Map<Loan>,
    finish: impl Fn(&Band, &mut [f32]) -> T + Sync,
) -> (Map<Loan>, Vec<T>) {
    // Small images together, so that tiles are full, and every thread has some.
    let together = out.images_of_a_band(out.images.div_ceil(rayon::current_num_threads().max(1)));
    let margin = out.margin;
    let bands = out.view_mut().cut(together).into_par_iter();
    let finished = bands.map(|(band, out)| {
        let shortcut = add.map(|add| &add[band.values()]);
        convolution.write(input, Finish { shortcut, relu: false, margin }, &band, out);
        band.by_image(out).map(|(band, values)| finish(&band, values)).collect::<Vec<T>>()
    });
    let finished: Vec<Vec<T>> = finished.collect();
    (out, finished.into_iter().flatten().collect())
}

impl Moments {
    /// Of a band of a map without margin.
    fn of(band: &[f32], channels: usize) -> Self {
        let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        let pixels = band.len() / channels.max(1);
        dispatch!(Instructions::new(), _simd => add_pixels(band, &mut mean));
        mean.iter_mut().for_each(|mean| *mean /= pixels as f32);
        dispatch!(Instructions::new(), _simd => add_squares(band, &mean, &mut squares));
        Self { pixels, mean, squares }
    }
}

/// Mean and biased variance of each channel, from the moments of bands.
fn joined(bands: &[Moments]) -> (Vec<f32>, Vec<f32>) {
    let pixels = bands.iter().map(|band| band.pixels).sum::<usize>().max(1) as f64;
    let of_channel = |channel: usize| {
        let weighed = |band: &Moments| band.pixels as f64 * f64::from(band.mean[channel]);
        let mean = bands.iter().map(weighed).sum::<f64>() / pixels;
        let squares = |band: &Moments| {
            let distance = f64::from(band.mean[channel]) - mean;
            f64::from(band.squares[channel]) + band.pixels as f64 * distance * distance
        };
        (mean as f32, (bands.iter().map(squares).sum::<f64>() / pixels) as f32)
    };
    (0..bands.first().map_or(0, |band| band.mean.len())).map(of_channel).unzip()
}

#[inline(always)]
fn add_pixels(pixels: &[f32], sums: &mut [f32]) {
    for pixel in pixels.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
}

#[inline(always)]
fn add_squares(pixels: &[f32], mean: &[f32], sums: &mut [f32]) {
    for pixel in pixels.chunks_exact(sums.len()) {
        for ((sum, value), mean) in sums.iter_mut().zip(pixel).zip(mean) {
            *sum += (value - mean) * (value - mean);
        }
    }
}

#[inline(always)]
fn normalize(
    out: &mut [f32],
    raw: &[f32],
    shortcut: Option<&[f32]>,
    (scale, shift): (&[f32], &[f32]),
    relu: bool,
) {
    let channels = scale.len();
    let least = if relu { 0.0 } else { f32::NEG_INFINITY };
    let pixels = out.chunks_exact_mut(channels).zip(raw.chunks_exact(channels));
    match shortcut {
        None => {
            for (out, raw) in pixels {
                for (((out, raw), scale), shift) in out.iter_mut().zip(raw).zip(scale).zip(shift) {
                    *out = (raw * scale + shift).max(least);
                }
            }
        }
        Some(shortcut) => {
            for ((out, raw), shortcut) in pixels.zip(shortcut.chunks_exact(channels)) {
                let affine = raw.iter().zip(scale).zip(shift);
                for ((out, ((raw, scale), shift)), shortcut) in out.iter_mut().zip(affine).zip(shortcut) {
                    *out = (raw * scale + shift + shortcut).max(least);
                }
            }
        }
    }
}

/// Clears the gradient where the gate is closed; adds it to the first half of `sums`, and to the second times the
/// distance of `raw` from its mean.
#[inline(always)]
fn gate_and_sum(gradient: &mut [f32], gate: Option<&[f32]>, raw: &[f32], mean: &[f32], sums: &mut [f32]) {
    if let Some(gate) = gate {
        for (gradient, gate) in gradient.iter_mut().zip(gate) {
            *gradient = if *gate > 0.0 { *gradient } else { 0.0 };
        }
    }
    let channels = mean.len();
    let (sums, products) = sums.split_at_mut(channels);
    for (gradient, raw) in gradient.chunks_exact(channels).zip(raw.chunks_exact(channels)) {
        let sums = sums.iter_mut().zip(products.iter_mut());
        for (((sum, product), (gradient, raw)), mean) in sums.zip(gradient.iter().zip(raw)).zip(mean) {
            *sum += gradient;
            *product += gradient * (raw - mean);
        }
    }
}

#[inline(always)]
fn combine(out: &mut [f32], gradient: &[f32], raw: &[f32], (a, b, c): (&[f32], &[f32], &[f32])) {
    let channels = a.len();
    let pixels = out.chunks_exact_mut(channels).zip(gradient.chunks_exact(channels));
    for ((out, gradient), raw) in pixels.zip(raw.chunks_exact(channels)) {
        let terms = gradient.iter().zip(raw).zip(a.iter().zip(b).zip(c));
        for (out, ((gradient, raw), ((a, b), c))) in out.iter_mut().zip(terms) {
            *out = a * gradient + b * raw + c;
        }
    }
}
