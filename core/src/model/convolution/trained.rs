//! A convolution that learns: the forward product, and both of its gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::nn::conv::Conv2d;
use burn::tensor::{Shape, Tensor, TensorData};
use rayon::prelude::*;

use super::weight_gradient::{padded_channels, weight_gradient};
use super::{Convolution, Finish, Map, output_side};

/// See [`super::convolve`].
pub(super) fn convolve(convolution: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let weight = convolution.weight.val();
    let ([images, _, height, width], [channels_out, channels_in, kernel, _]) = (input.dims(), weight.dims());
    let stride = convolution.stride[0];
    let sizes = Sizes { images, channels_in, channels_out, height, width, kernel, stride };
    let operands =
        (input.clone().try_into_primitive::<Autodiff<Flex>>(), weight.try_into_primitive::<Autodiff<Flex>>());
    let (Ok(input), Ok(weight)) = operands else { return convolution.forward(input) };
    let step = Product.prepare::<NoCheckpointing>([input.node(), weight.node()]).compute_bound().stateful();
    let (input, weight) = (input.into_primitive().to_contiguous(), weight.into_primitive().to_contiguous());
    let output = sizes.product(&input, &weight);
    let output = match step {
        OpsKind::Tracked(step) => step.finish((sizes, input, weight), output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

#[derive(Debug)]
struct Product;

impl Backward<Flex, 2> for Product {
    type State = (Sizes, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input_node, weight_node] = ops.parents;
        let (sizes, input, weight) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        if let Some(node) = input_node {
            gradients.register::<Flex>(node.id, sizes.input_gradient(&gradient, &weight));
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, sizes.weight_gradient(&gradient, &input));
        }
    }
}

/// Sizes of a convolution and of what it reads.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    images: usize,
    channels_in: usize,
    channels_out: usize,
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
}

impl Sizes {
    fn output(&self) -> [usize; 2] {
        [output_side(self.height, self.stride), output_side(self.width, self.stride)]
    }

    /// # Shapes
    /// - `input`: `[N,C_in,H,W]`
    /// - `weight`: `[C_out,C_in,k,k]`
    /// - output: `[N,C_out,h,w]`
    fn product(&self, input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
        let [rows, columns] = self.output();
        let bias = vec![0.0; self.channels_out];
        let convolution = Convolution::new(values(weight), bias, self.channels_in, self.kernel, self.stride);
        let image = [self.channels_in, self.height, self.width];
        let read = |pixels: &[f32]| Map::from_channels_first(Vec::new(), pixels, image, convolution.margin());
        let output = [self.images, self.channels_out, rows, columns];
        by_image(&convolution, values(input), image.iter().product(), output, read)
    }

    /// # Shapes
    /// - `gradient`: `[N,C_out,h,w]`
    /// - `weight`: `[C_out,C_in,k,k]`
    /// - output: `[N,C_in,H,W]`
    fn input_gradient(&self, gradient: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
        let channels_out = self.channels_out;
        let convolution =
            Convolution::transposed(values(weight), self.channels_in, channels_out, self.kernel);
        let [rows, columns] = self.output();
        let read = |pixels: &[f32]| {
            let images = pixels.len() / (channels_out * rows * columns).max(1);
            let sizes = [images, self.height, self.width, channels_out];
            let mut map = Map::over(Vec::new(), sizes, convolution.margin());
            map.write_channels_first(pixels, channels_out, [rows, columns], self.stride);
            map
        };
        let output = [self.images, self.channels_in, self.height, self.width];
        by_image(&convolution, values(gradient), channels_out * rows * columns, output, read)
    }

    /// # Shapes
    /// - `gradient`: `[N,C_out,h,w]`
    /// - `input`: `[N,C_in,H,W]`
    /// - output: `[C_out,C_in,k,k]`
    fn weight_gradient(&self, gradient: &FlexTensor, input: &FlexTensor) -> FlexTensor {
        let [rows, columns] = self.output();
        let image = [self.channels_in, self.height, self.width];
        let input = Map::from_channels_first(Vec::new(), values(input), image, self.kernel / 2);
        let sizes = [self.images, rows, columns, padded_channels(self.channels_out)];
        let mut output = Map::over(Vec::new(), sizes, 0);
        output.write_channels_first(values(gradient), self.channels_out, [rows, columns], 1);
        let weights = weight_gradient(&input, &output, self.channels_out, self.kernel, self.stride);
        tensor(weights, [self.channels_out, self.channels_in, self.kernel, self.kernel])
    }
}

/// Pixels of small maps that go through a convolution together, so that its tiles are full.
const PIXELS: usize = 256;

/// A convolution of many images, some of which `read` brings into a map.
fn by_image(
    convolution: &Convolution,
    pixels: &[f32],
    image: usize,
    output: [usize; 4],
    read: impl Fn(&[f32]) -> Map + Sync,
) -> FlexTensor {
    let finish = Finish { shortcut: None, relu: false, margin: 0 };
    let [images, channels, rows, columns] = output;
    let group = (PIXELS / (rows * columns).max(1)).min(images.div_ceil(rayon::current_num_threads())).max(1);
    let size = group * channels * rows * columns;
    let mut values = vec![0.0; output.iter().product()];
    let groups = values.par_chunks_mut(size.max(1)).zip(pixels.par_chunks((group * image).max(1)));
    groups.for_each_init(Vec::new, |memory, (out, pixels)| {
        let map = convolution.forward(&read(pixels), finish, std::mem::take(memory));
        map.read_channels_first(out);
        *memory = map.values;
    });
    tensor(values, output)
}

/// The values of a tensor that is contiguous.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_default()
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::PaddingConfig2d;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::Device;

    use crate::model::convolution::convolve;
    use crate::model::testing::{assert_close, filled, noise, pseudo_random};

    #[test]
    fn values_and_gradients_are_those_of_burn() {
        let device = Device::flex().autodiff();
        for (images, channels_in, channels_out, kernel, stride, height, width) in [
            (1, 1, 1, 1, 1, 1, 1),
            (3, 3, 5, 7, 2, 13, 16),
            (2, 8, 40, 3, 1, 7, 6),
            (5, 33, 64, 3, 2, 9, 8),
            (4, 16, 24, 1, 2, 5, 8),
            (2, 70, 32, 1, 1, 4, 4),
        ] {
            let pad = kernel / 2;
            let convolution = Conv2dConfig::new([channels_in, channels_out], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                .with_bias(false)
                .init(&device);
            let convolution = filled(convolution, |name, index| pseudo_random(name, index) as f32);
            let input = || {
                noise("input", [images, channels_in * height * width], &device)
                    .reshape([images, channels_in, height, width])
                    .require_grad()
            };
            let [ours, burns] = [true, false].map(|own| {
                let input = input();
                let output = if own {
                    convolve(&convolution, input.clone())
                } else {
                    convolution.forward(input.clone())
                };
                let weight = noise("output", [images, output.dims().iter().skip(1).product()], &device);
                let gradients = (output.clone() * weight.reshape(output.dims())).sum().backward();
                let of_weight = convolution.weight.val().grad(&gradients).unwrap();
                (output.inner(), input.grad(&gradients).unwrap(), of_weight)
            });
            assert_close(&ours.0, &burns.0, 1e-5);
            assert_close(&ours.1, &burns.1, 1e-5);
            assert_close(&ours.2, &burns.2, 1e-5);
        }
    }

    #[test]
    fn frozen_weights_get_no_gradient() {
        let device = Device::flex().autodiff();
        let convolution = Conv2dConfig::new([2, 3], [1, 1]).with_bias(false).init(&device).freeze();
        let input = noise("input", [1, 2 * 4], &device).reshape([1, 2, 2, 2]).require_grad();
        let gradients = convolve(&convolution, input.clone()).sum().backward();
        assert!(input.grad(&gradients).is_some());
        assert!(convolution.weight.val().grad(&gradients).is_none());
    }
}
