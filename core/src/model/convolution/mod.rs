//! Convolutions on the CPU, for inference and for training.
//!
//! Maps lie channels last, each image in a margin of zeros ([`Map`]), so that a row of a kernel's window is one run of
//! numbers: the kernel's width times the channels. Products are taken in tiles that stay in registers
//! ([`Convolution`], [`weight_gradient`]); no matrix of windows is ever written.

mod kernel;
mod map;
#[cfg(not(target_family = "wasm"))]
mod trained;
#[cfg(not(target_family = "wasm"))]
mod weight_gradient;

#[cfg(not(target_family = "wasm"))]
use burn::nn::conv::Conv2d;
use burn::tensor::Device;
#[cfg(not(target_family = "wasm"))]
use burn::tensor::Tensor;

pub(super) use kernel::{Convolution, Finish, output_side};
pub(super) use map::Map;

/// Whether tensors of the device lie in the memory of this program, to be read without waiting.
pub(super) fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// A convolution without bias, of a square kernel that pads by half its width. In training on the CPU it takes the
/// kernels of this room, forwards and backwards; on any other device, and where there is nothing to learn, it is
/// Burn's.
///
/// # Shapes
/// - `input`: `[N,C_in,H,W]`
/// - output: `[N,C_out,h,w]`
#[cfg(not(target_family = "wasm"))]
pub(super) fn convolve(convolution: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let device = input.device();
    if device.is_autodiff() && is_cpu(&device) {
        return trained::convolve(convolution, input);
    }
    convolution.forward(input)
}
