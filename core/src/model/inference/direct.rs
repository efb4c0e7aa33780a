//! Convolutions by Burn's own kernel, on any device but the CPU.
//!
//! Maps lie channels last, `[N,H,W,C]`, as that kernel reads and writes them, so nothing is copied in between. Windows
//! written out and multiplied as matrices (im2col) take a dozen passes where this takes one, and were several times slower
//! where it was measured: on WebGPU's software adapter, for ResNet-50 as for the small networks of the page.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::network::{Block, Folded, Network};
use crate::model::resnet::stem_pooling;

/// A convolution with its bias.
#[derive(Debug)]
pub struct Convolution {
    /// `[C_out,C_in,k,k]`, of which the input channels lie next to each other
    weight: Tensor<4>,
    /// `[C_out]`
    bias: Tensor<1>,
    options: ConvOptions<2>,
}

impl Convolution {
    pub fn new(folded: Folded) -> Self {
        let [channels_out, channels_in, kernel, _] = folded.weight.dims();
        let by_place = folded.weight.permute([0, 2, 3, 1]); // [C_out,k,k,C_in]
        // Through one axis, or the order in memory would stay what it was.
        let weight = by_place
            .reshape([channels_out * kernel * kernel * channels_in])
            .reshape([channels_out, kernel, kernel, channels_in])
            .permute([0, 3, 1, 2]);
        let options = ConvOptions::new([folded.stride; 2], [kernel / 2; 2], [1, 1], 1);
        Self { weight, bias: folded.bias, options }
    }

    /// The convolution without ReLU.
    ///
    /// # Shapes
    /// - `input`: `[N,H,W,C_in]`
    /// - output: `[N,h,w,C_out]`
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let map = input.permute([0, 3, 1, 2]);
        conv2d(map, self.weight.clone(), Some(self.bias.clone()), self.options.clone()).permute([0, 2, 3, 1])
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
