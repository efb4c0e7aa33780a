//! MobileNetV1 1.0 (Howard et al. 2017) with batch norm folded into the convolutions.
//!
//! Names in a weight file: `stem.{weight,bias}`, `block1.depthwise.{weight,bias}` … `block13.pointwise.{weight,bias}`,
//! which here are `blocks.0` … `blocks.12`. Convolutions pad as TensorFlow's SAME does: what a stride leaves uneven
//! goes to the bottom and the right.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu6;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use super::weights::{WeightLayout, WeightMap, WeightsError, load_weights};

/// Channels after the stem.
const STEM_CHANNELS: usize = 32;
/// Channels and depthwise stride of each separable block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// The network without its classifier.
#[derive(Module, Debug)]
pub struct MobileNetV1 {
    stem: Conv2d,
    blocks: Vec<SeparableBlock>,
}

/// A 3×3 convolution per channel, then a 1×1 convolution across channels.
#[derive(Module, Debug)]
pub struct SeparableBlock {
    depthwise: Conv2d,
    pointwise: Conv2d,
}

impl MobileNetV1 {
    /// Builds the network; its parameters are drawn at random until weights are loaded.
    pub fn new(device: &Device) -> Self {
        let mut channels_in = STEM_CHANNELS;
        let blocks = BLOCKS
            .iter()
            .map(|&(channels_out, stride)| {
                let block = SeparableBlock {
                    depthwise: Conv2dConfig::new([channels_in, channels_in], [3, 3])
                        .with_stride([stride, stride])
                        .with_groups(channels_in)
                        .init(device),
                    pointwise: Conv2dConfig::new([channels_in, channels_out], [1, 1]).init(device),
                };
                channels_in = channels_out;
                block
            })
            .collect();
        let stem = Conv2dConfig::new([3, STEM_CHANNELS], [3, 3]).with_stride([2, 2]).init(device);
        Self { stem, blocks }
    }

    /// The network with weights in the names of the file; see the module's text.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn load(self, weights: WeightMap) -> Result<Self, WeightsError> {
        let weights = weights
            .into_iter()
            .map(|(name, tensor)| {
                let ours = name.strip_prefix("block").and_then(|rest| {
                    let (number, rest) = rest.split_once('.')?;
                    let index = number.parse::<usize>().ok()?.checked_sub(1)?;
                    Some(format!("blocks.{index}.{rest}"))
                });
                (ours.unwrap_or(name), tensor)
            })
            .collect();
        load_weights(self, weights, WeightLayout::Burn)
    }

    /// Width of the features.
    pub fn feature_width(&self) -> usize {
        BLOCKS.last().map_or(STEM_CHANNELS, |&(channels, _)| channels)
    }

    /// Brings RGB to the network's range, `(x − 128)/128` of 0..255, and reads it.
    ///
    /// # Shapes
    /// - `patches`: `[N,3,P,P]` RGB in 0..1
    /// - output: `[N,1024]`
    pub fn features(&self, patches: Tensor<4>) -> Tensor<2> {
        self.forward(patches * (255.0 / 128.0) - 1.0)
    }

    /// The mean over the last map, for an input already in the network's range.
    ///
    /// # Shapes
    /// - `input`: `[N,3,P,P]`, about −1..1
    /// - output: `[N,1024]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let mut map = same_convolution(&self.stem, input);
        for block in &self.blocks {
            map = same_convolution(&block.depthwise, map);
            map = same_convolution(&block.pointwise, map);
        }
        let [nodes, channels, height, width] = map.dims();
        map.reshape([nodes, channels, height * width]).mean_dim(2).reshape([nodes, channels])
    }
}

/// Convolution with TensorFlow's SAME padding, then ReLU6.
fn same_convolution(convolution: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = input.dims();
    let [kernel_height, kernel_width] = convolution.kernel_size;
    let [stride_y, stride_x] = convolution.stride;
    let padding =
        [same_padding(height, kernel_height, stride_y), same_padding(width, kernel_width, stride_x)];
    let options =
        ConvOptions::new_with_padding(convolution.stride, padding, convolution.dilation, convolution.groups);
    let bias = convolution.bias.as_ref().map(|bias| bias.val());
    relu6(conv2d(input, convolution.weight.val(), bias, options))
}

/// Padding before and after an axis of `size`: total `max((⌈size/stride⌉ − 1)·stride + kernel − size, 0)`, the
/// smaller half before.
fn same_padding(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let covered = size.div_ceil(stride).saturating_sub(1) * stride + kernel;
    let total = covered.saturating_sub(size);
    (total / 2, total - total / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{assert_close, assert_values, noise, pseudo_random, shared_file, values};
    use crate::model::weights::read_safetensors;

    #[test]
    fn padding_is_tensorflows_same() {
        assert_eq!(same_padding(224, 3, 2), (0, 1));
        assert_eq!(same_padding(112, 3, 1), (1, 1));
        assert_eq!(same_padding(7, 3, 2), (1, 1));
        assert_eq!(same_padding(7, 1, 1), (0, 0));
        assert_eq!(same_padding(1, 3, 2), (1, 1));
    }

    #[test]
    fn pixels_are_brought_to_minus_one_to_one() {
        let device = Device::flex();
        let network = MobileNetV1::new(&device);
        let input = noise("input", [1, 3 * 32 * 32], &device).reshape([1, 3, 32, 32]);
        let pixels = (input.clone() * 128.0 + 128.0) / 255.0;
        assert_close(&network.features(pixels), &network.forward(input), 1e-4);
    }

    /// The reference output for an input filled by a formula.
    #[test]
    fn mobilenet_agrees_with_its_reference_output() {
        let (Some(weights), Some(golden)) = (
            shared_file("encoders/mobilenet_v1_1.0_224.safetensors"),
            shared_file("golden/mobilenet_v1_output.safetensors"),
        ) else {
            return;
        };
        let device = Device::flex();
        let golden = read_safetensors(golden).unwrap();
        let expected = golden.values().next().unwrap();
        let network = MobileNetV1::new(&device).load(read_safetensors(weights).unwrap()).unwrap();
        let input: Vec<f32> =
            (0..3 * 224 * 224).map(|index| pseudo_random("input.encoder", index) as f32).collect();
        let output =
            network.forward(Tensor::<1>::from_floats(input.as_slice(), &device).reshape([1, 3, 224, 224]));
        assert_eq!(output.dims(), [1, 1024]);
        assert_values(&values(&output), &expected.values, 1e-4);
    }
}
