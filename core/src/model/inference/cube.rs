//! A residual network on a graphics adapter. Maps lie channels last, and each convolution is one launch of the
//! [`kernel`], which also adds bias and shortcut and applies ReLU.

use burn::tensor::{DType, Device, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor};

use super::kernel::{self, Window};
use super::network::{Block, Folded, Network};
use crate::model::convolution::output_side;
use crate::model::resnet::stem_pooling;
use crate::weights::Precision;

/// The network on its adapter.
#[derive(Debug)]
pub(super) struct Executor {
    network: Network<Convolution>,
    device: Device,
    precision: Precision,
}

/// A convolution with its bias.
#[derive(Debug)]
struct Convolution {
    /// `[k,k,C_in,C_out]`
    weight: CubeTensor,
    /// `[C_out]`, f32
    bias: CubeTensor,
    stride: usize,
    precision: Precision,
}

/// Whether CubeCL's kernels run on a device.
pub(super) fn is_adapter(device: &Device) -> bool {
    Tensor::<1>::zeros([1], device).without_autodiff().try_into_primitive::<CubeBackend>().is_ok()
}

impl Executor {
    /// Readies a network that an [adapter](is_adapter) holds, with maps and weights of that precision.
    pub fn new(network: Network<Folded>, precision: Precision) -> Self {
        let device = network.stem.bias.device();
        Self { network: network.map(|folded| Convolution::new(folded, precision)), device, precision }
    }

    /// The network's last map.
    ///
    /// # Shapes
    /// - `input`: `[N,3,P,P]`, normalised
    /// - output: `[N,C,h,w]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let input = input.to_device(&self.device).permute([0, 2, 3, 1]).cast(dtype(self.precision));
        let stem = self.network.stem.forward(&primitive(input), None, true);
        let pooled = stem_pooling().forward(tensor(stem).permute([0, 3, 1, 2]));
        let pooled = primitive(pooled.permute([0, 2, 3, 1]));
        let last = self.network.blocks.iter().fold(pooled, |map, block| block.forward(&map));
        tensor(last).permute([0, 3, 1, 2]).cast(DType::F32)
    }
}

impl Convolution {
    fn new(folded: Folded, precision: Precision) -> Self {
        Self {
            weight: primitive(folded.weight.permute([2, 3, 1, 0]).cast(dtype(precision))),
            bias: primitive(folded.bias),
            stride: folded.stride,
            precision,
        }
    }

    /// # Shapes
    /// - `input`: `[N,H,W,C_in]`
    /// - `shortcut`, output: `[N,h,w,C_out]`
    fn forward(&self, input: &CubeTensor, shortcut: Option<&CubeTensor>, relu: bool) -> CubeTensor {
        let weight = self.weight.meta.shape();
        let sizes = input.meta.shape();
        let side = |axis: usize| output_side(sizes[axis], self.stride);
        let shape = [sizes[0], side(1), side(2), weight[3]];
        let bytes = shape.iter().product::<usize>() * input.dtype.size();
        let (client, device) = (input.client.clone(), input.device.clone());
        let memory = client.empty(bytes);
        let output = CubeTensor::new_contiguous(client, device, shape.into(), memory, input.dtype);
        let window = Window { side: weight[0], stride: self.stride, relu };
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        kernel::launch(
            window,
            self.precision,
            input.clone(),
            (weight, bias),
            shortcut.cloned(),
            output.clone(),
        );
        output
    }
}

impl Block<Convolution> {
    /// # Shapes
    /// - `input`: `[N,H,W,C_in]`
    /// - output: `[N,h,w,C_out]`
    fn forward(&self, input: &CubeTensor) -> CubeTensor {
        let shortcut = self.shortcut.as_ref().map(|convolution| convolution.forward(input, None, false));
        let last = self.path.len().saturating_sub(1);
        self.path.iter().enumerate().fold(input.clone(), |map, (index, convolution)| {
            let shortcut = (index == last).then(|| shortcut.as_ref().unwrap_or(input));
            convolution.forward(&map, shortcut, true)
        })
    }
}

fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::Single => DType::F32,
        Precision::Half => DType::F16,
    }
}

/// The values of a tensor on an adapter, laid out in the order of its axes.
fn primitive<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    let sizes = tensor.dims();
    // Through one axis, or the order in memory would stay what it was.
    let tensor = tensor.without_autodiff().reshape([sizes.iter().product::<usize>()]).reshape(sizes);
    match tensor.try_into_primitive::<CubeBackend>() {
        Ok(tensor) => tensor,
        Err(error) => unreachable!("weights and maps are on an adapter: {error:?}"),
    }
}

fn tensor(primitive: CubeTensor) -> Tensor<4> {
    Tensor::from_primitive::<CubeBackend>(primitive)
}

#[cfg(test)]
mod tests {
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::model::testing::{adapter, assert_close, noise};

    fn noisy(name: &str, sizes: [usize; 4]) -> Tensor<4> {
        noise(name, [1, sizes.iter().product()], &Device::flex()).reshape(sizes)
    }

    #[test]
    fn one_convolution_agrees_with_burns_whatever_its_sizes() {
        let Some(adapter) = adapter() else { return };
        for (images, height, width, channels_in, channels_out, side, stride) in [
            (1, 1, 1, 1, 1, 1, 1),
            (1, 1, 1, 4, 8, 3, 1),
            (1, 7, 7, 8, 4, 1, 1),
            (2, 7, 5, 8, 12, 1, 2),
            (3, 5, 6, 10, 13, 3, 2),
            (1, 6, 5, 4, 10, 3, 1),
            (2, 15, 14, 3, 16, 7, 2),
            (5, 3, 3, 16, 16, 3, 1),
        ] {
            let input = noisy("input", [images, channels_in, height, width]);
            let weight = noisy("weight", [channels_out, channels_in, side, side]);
            let bias = noisy("bias", [1, 1, 1, channels_out]).reshape([channels_out]);
            let options = ConvOptions::new([stride; 2], [side / 2; 2], [1, 1], 1);
            let plain = conv2d(input.clone(), weight.clone(), Some(bias.clone()), options);
            let shortcut = noisy("shortcut", plain.dims());
            let there = |map: &Tensor<4>| primitive(map.clone().permute([0, 2, 3, 1]).to_device(&adapter));
            let folded =
                Folded { weight: weight.to_device(&adapter), bias: bias.to_device(&adapter), stride };
            let convolution = Convolution::new(folded, Precision::Single);
            let back = |map| tensor(map).permute([0, 3, 1, 2]).to_device(&Device::flex());
            let found = back(convolution.forward(&there(&input), None, false));
            assert_close(&found, &plain, 1e-5);
            let found = back(convolution.forward(&there(&input), Some(&there(&shortcut)), true));
            assert_close(&found, &(plain + shortcut).clamp_min(0.0), 1e-5);
        }
    }
}
