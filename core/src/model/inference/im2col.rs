//! Convolutions as matrix products of Burn's, for devices whose own convolution kernels are slow: WebGPU has none but a
//! direct one for kernels wider than 1×1.
//!
//! Maps lie channels last, `[N,H,W,C]`, so that a 1×1 convolution is a product as it stands. For a wider kernel the
//! windows are written out first, row by row of the kernel, a few images at a time.

use burn::tensor::activation::relu;
use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, s};

use super::network::{Block, Folded, Network};
use crate::model::resnet::stem_pooling;

/// Bytes of windows that are written out at once, at most: half of what every WebGPU adapter binds.
const WINDOW_BYTES: usize = 64 << 20;

/// A convolution as the right-hand side of a product.
#[derive(Debug)]
pub struct Convolution {
    /// `[k·k·C_in,C_out]`
    weights: Tensor<2>,
    /// `[1,C_out]`
    bias: Tensor<2>,
    kernel: usize,
    stride: usize,
}

impl Convolution {
    pub fn new(folded: Folded) -> Self {
        let [channels_out, channels_in, kernel, _] = folded.weight.dims();
        let depth = kernel * kernel * channels_in;
        Self {
            weights: folded.weight.permute([2, 3, 1, 0]).reshape([depth, channels_out]),
            bias: folded.bias.reshape([1, channels_out]),
            kernel,
            stride: folded.stride,
        }
    }

    /// The convolution without ReLU.
    ///
    /// # Shapes
    /// - `input`: `[N,H,W,C_in]`
    /// - output: `[N,h,w,C_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [images, height, width, _] = input.dims();
        let size = |side: usize| (side - 1) / self.stride + 1;
        let (rows, columns) = (size(height), size(width));
        let depth = self.weights.dims()[0];
        let channels_out = self.weights.dims()[1];
        let product = |windows: Tensor<4>| {
            let pixels = windows.dims()[0] * rows * columns;
            windows.reshape([pixels, depth]).matmul(self.weights.clone()) + self.bias.clone()
        };
        let out = if self.kernel == 1 {
            product(self.strided(self.strided(input, 1, 0, rows), 2, 0, columns))
        } else {
            let chunk = (WINDOW_BYTES / (4 * depth * rows * columns).max(1)).clamp(1, images.max(1));
            let products = (0..images).step_by(chunk).map(|first| {
                let images = input.clone().narrow(0, first, chunk.min(images - first));
                product(self.windows(images, rows, columns))
            });
            Tensor::cat(products.collect(), 0)
        };
        out.reshape([images, rows, columns, channels_out])
    }

    /// The window of every output pixel.
    ///
    /// # Shapes
    /// - `input`: `[N,H,W,C]`
    /// - output: `[N,h,w,k·k·C]`
    fn windows(&self, input: Tensor<4>, rows: usize, columns: usize) -> Tensor<4> {
        let pad = self.kernel / 2;
        let input = input.pad([(0, 0), (pad, pad), (pad, pad), (0, 0)], PadMode::Constant(0.0));
        let along = |map: Tensor<4>, axis: usize, count: usize| {
            let shifted = (0..self.kernel).map(|offset| self.strided(map.clone(), axis, offset, count));
            Tensor::cat(shifted.collect(), 3)
        };
        along(along(input, 2, columns), 1, rows)
    }

    /// Every `stride`-th row (axis 1) or column (axis 2) from an offset on.
    fn strided(&self, map: Tensor<4>, axis: usize, offset: usize, count: usize) -> Tensor<4> {
        if self.stride == 1 {
            return map.narrow(axis, offset, count);
        }
        let end = offset + (count - 1) * self.stride + 1;
        if axis == 1 {
            map.slice(s![.., offset..end;self.stride, .., ..])
        } else {
            map.slice(s![.., .., offset..end;self.stride, ..])
        }
    }
}

/// The network's last map.
///
/// # Shapes
/// - `input`: `[N,3,P,P]`, normalised
/// - output: `[N,C,h,w]`
pub fn forward(network: &Network<Convolution>, input: Tensor<4>) -> Tensor<4> {
    let stem = relu(network.stem.forward(input.permute([0, 2, 3, 1])));
    let pooled = stem_pooling().forward(stem.permute([0, 3, 1, 2]));
    network.blocks.iter().fold(pooled.permute([0, 2, 3, 1]), block).permute([0, 3, 1, 2])
}

fn block(input: Tensor<4>, block: &Block<Convolution>) -> Tensor<4> {
    let shortcut = match &block.shortcut {
        Some(convolution) => convolution.forward(input.clone()),
        None => input.clone(),
    };
    let last = block.path.len().saturating_sub(1);
    let path = block.path.iter().enumerate().fold(input, |map, (index, convolution)| {
        let map = convolution.forward(map);
        if index < last { relu(map) } else { map }
    });
    relu(path + shortcut)
}
