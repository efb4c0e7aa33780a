//! A convolution and the batch norm that follows it, forwards and backwards.

use burn::backend::flex::FlexTensor;
use fearless_simd::{Level as Instructions, dispatch};
use rayon::prelude::*;

use super::{tensor, values};
use crate::model::convolution::{Convolution, Finish, Loan, Map, Memory, weight_gradient};

/// Pixels of small maps that go through a convolution together, so that its tiles are full.
const PIXELS: usize = 256;

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

/// For one image, of each channel: the sum of a gradient over its pixels, and that of the gradient times the distance
/// from the mean. `[2·C]`
pub(super) struct ImageSums(Vec<f32>);

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
        let channels = |image: &mut [f32]| moments(image, channels_out);
        let (raw, images) = convolved(&convolution, input, (None, 0), memory, |_, image| channels(image));
        let (mean, variance) = joined(&images, raw.height * raw.width);
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
        let sizes = out.with(());
        let instructions = Instructions::new();
        let raws = self.raw.view().values.par_chunks_exact(self.raw.image().max(1));
        let outs = out.values.par_chunks_exact_mut(sizes.image().max(1));
        outs.zip(raws).enumerate().for_each(|(image, (out, raw))| {
            for y in 0..height {
                let inside = sizes.row_inside(y);
                let shortcut = shortcut.map(|shortcut| &shortcut[image * sizes.image()..][inside.clone()]);
                let (out, raw) = (&mut out[inside], &raw[self.raw.row_inside(y)]);
                dispatch!(instructions, _simd => normalize(out, raw, shortcut, (&scale, &shift), relu));
            }
        });
        out
    }

    /// Takes a gradient of the layer's output to where the norm can be gone back through, image by image: clears it
    /// where ReLU was closed, if `gate` is what came out of ReLU, and sums it up.
    pub fn gate(&self, gradient: &mut Map<Loan>, gate: Option<Map<&[f32]>>) -> Vec<ImageSums> {
        let sizes = gradient.with(());
        let images = gradient.view_mut().values.par_chunks_exact_mut(sizes.image().max(1));
        images.enumerate().map(|(image, values)| self.gate_image(image, values, &sizes, gate)).collect()
    }

    /// [`gate`](Self::gate) for one image of a gradient with such sizes.
    fn gate_image(
        &self,
        image: usize,
        gradient: &mut [f32],
        sizes: &Map<()>,
        gate: Option<Map<&[f32]>>,
    ) -> ImageSums {
        let mut sums = vec![0.0; 2 * self.raw.channels];
        let raw = &self.raw.values[image * self.raw.image()..];
        for y in 0..self.raw.height {
            let gate = gate.map(|gate| &gate.values[image * gate.image()..][gate.row_inside(y)]);
            let (gradient, raw) = (&mut gradient[sizes.row_inside(y)], &raw[self.raw.row_inside(y)]);
            dispatch!(Instructions::new(), _simd => gate_and_sum(gradient, gate, raw, &self.mean, &mut sums));
        }
        ImageSums(sums)
    }

    /// Takes a gradient of the layer's output that went through [`gate`](Self::gate) back through the norm.
    pub fn through_norm(&self, gradient: &Map<Loan>, sums: &[ImageSums]) -> LayerGradient {
        // In the order of the images, whichever thread took them: it comes out the same on any machine.
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
        // What goes on through the transposed convolution needs its margin.
        let margin = if self.stride == 1 { self.kernel / 2 } else { 0 };
        let Map { images, height, width, channels, .. } = self.raw;
        let mut out = self.memory.map([images, height, width, channels], margin);
        let (sizes, raw_sizes, to) = (gradient.with(()), self.raw.with(()), out.with(()));
        let instructions = Instructions::new();
        let raws = self.raw.view().values.par_chunks_exact(self.raw.image().max(1));
        let terms = gradient.values.par_chunks_exact(sizes.image().max(1)).zip(raws);
        let outs = out.values.par_chunks_exact_mut(to.image().max(1));
        outs.zip(terms).for_each(|(out, (gradient, raw))| {
            for y in 0..height {
                let (gradient, raw) = (&gradient[sizes.row_inside(y)], &raw[raw_sizes.row_inside(y)]);
                let out = &mut out[to.row_inside(y)];
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
        self.gradient_before(input, gradient, add, |_, _, _| ()).0
    }

    /// The gradient of the output of the layer before, which is this one's input after ReLU, [gated](Self::gate).
    pub fn gated_gradient(
        &self,
        before: &Layer,
        input: Map<&[f32]>,
        gradient: Map<Loan>,
    ) -> (Map<Loan>, Vec<ImageSums>) {
        let sizes = Map { margin: 0, ..input };
        self.gradient_before(&sizes, gradient, None, |image, values, sizes| {
            before.gate_image(image, values, sizes, Some(input))
        })
    }

    /// The gradient of the input, with `finish` done to each image of it while it is in the cache.
    fn gradient_before<V, T: Send>(
        &self,
        input: &Map<V>,
        gradient: Map<Loan>,
        add: Option<&[f32]>,
        finish: impl Fn(usize, &mut [f32], &Map<()>) -> T + Sync,
    ) -> (Map<Loan>, Vec<T>) {
        let back =
            Convolution::transposed(values(&self.weight), self.channels_in, gradient.channels, self.kernel);
        let sizes = Map { channels: self.channels_in, ..input.with(()) };
        let finish = |image: usize, values: &mut [f32]| finish(image, values, &sizes);
        let apart = |gradient: &Map<Loan>, margin: usize| {
            let sizes = [input.images, input.height, input.width, gradient.channels];
            let mut out = self.memory.zeros(sizes, margin);
            add_apart(&mut out, gradient, self.stride);
            out
        };
        if self.stride == 1 {
            return convolved(&back, gradient.view(), (add, input.margin), &self.memory, finish);
        }
        if self.kernel > 1 || add.is_some() {
            let wide = apart(&gradient, back.margin());
            return convolved(&back, wide.view(), (add, input.margin), &self.memory, finish);
        }
        // A window of one pixel leaves zeros where they are.
        let (narrow, _) = convolved(&back, gradient.view(), (None, 0), &self.memory, |_, _| ());
        let mut out = apart(&narrow, input.margin);
        let images = out.view_mut().values.par_chunks_exact_mut(sizes.image().max(1)).enumerate();
        let finished = images.map(|(image, values)| finish(image, values)).collect();
        (out, finished)
    }
}

/// A convolution of many images; the values of a map like the output are added, whose margin is given too. `finish` sees
/// each image of it while it is in the cache.
fn convolved<T: Send>(
    convolution: &Convolution,
    input: Map<&[f32]>,
    (add, margin): (Option<&[f32]>, usize),
    memory: &Memory,
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Map<Loan>, Vec<T>) {
    let mut out = memory.map(convolution.output_sizes(&input), margin);
    let sizes = out.with(());
    let (threads, pixels) = (rayon::current_num_threads().max(1), (sizes.height * sizes.width).max(1));
    let group = (PIXELS / pixels).min(sizes.images.div_ceil(threads)).max(1);
    let (from, to) = (input.image().max(1), sizes.image().max(1));
    let groups = out.view_mut().values.par_chunks_mut(group * to).zip(input.values.par_chunks(group * from));
    let finished = groups.enumerate().map(|(index, (out, own))| {
        let shortcut = add.map(|add| &add[index * group * to..][..out.len()]);
        let images = out.len() / to;
        let how = Finish { shortcut, relu: false, margin };
        convolution.write(Map { images, ..input.with(own) }, how, Map { images, ..sizes.with(&mut *out) });
        let images = out.chunks_exact_mut(to).enumerate();
        images.map(|(image, values)| finish(index * group + image, values)).collect::<Vec<T>>()
    });
    let finished: Vec<Vec<T>> = finished.collect();
    (out, finished.into_iter().flatten().collect())
}

/// Adds a map to the pixels of `onto` that lie `stride` apart.
fn add_apart(onto: &mut Map<Loan>, map: &Map<Loan>, stride: usize) {
    let sizes = onto.with(());
    let images = map.view().values.par_chunks_exact(map.image().max(1));
    onto.view_mut().values.par_chunks_exact_mut(sizes.image().max(1)).zip(images).for_each(
        |(onto, image)| {
            for y in 0..map.height {
                for (x, pixel) in image[map.row_inside(y)].chunks_exact(map.channels).enumerate() {
                    let place = sizes.place(0, y * stride + sizes.margin, x * stride + sizes.margin);
                    let onto = &mut onto[place..place + map.channels];
                    onto.iter_mut().zip(pixel).for_each(|(onto, value)| *onto += value);
                }
            }
        },
    );
}

/// Of each channel of an image without margin: the mean, and the sum of the squared distances from it.
fn moments(image: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let pixels = (image.len() / channels.max(1)) as f32;
    dispatch!(Instructions::new(), _simd => add_pixels(image, &mut mean));
    mean.iter_mut().for_each(|mean| *mean /= pixels);
    dispatch!(Instructions::new(), _simd => add_squares(image, &mean, &mut squares));
    (mean, squares)
}

/// Mean and biased variance of each channel, from the moments of images of so many pixels.
fn joined(images: &[(Vec<f32>, Vec<f32>)], pixels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = images.len().max(1) as f64;
    let of_channel = |channel: usize| {
        let mean = images.iter().map(|(mean, _)| f64::from(mean[channel])).sum::<f64>() / count;
        let spread = |(own, squares): &(Vec<f32>, Vec<f32>)| {
            f64::from(squares[channel]) / pixels as f64 + (f64::from(own[channel]) - mean).powi(2)
        };
        (mean as f32, (images.iter().map(spread).sum::<f64>() / count) as f32)
    };
    (0..images.first().map_or(0, |(mean, _)| mean.len())).map(of_channel).unzip()
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
