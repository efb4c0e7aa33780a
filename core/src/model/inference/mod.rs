//! A [`ResNet`](super::ResNet) as prediction runs it: batch norm folded into the convolutions, ReLU and shortcuts
//! applied with them, channels last. No gradient flows through it.
//!
//! The kernels are this crate's own, on the CPU ([`cpu`]) as on graphics adapters ([`cube`]).

mod cpu;
mod cube;
mod kernel;
mod network;

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use crate::weights::Precision;

pub(super) use network::{Block, Folded, Network};

/// A ResNet whose weights no longer change.
#[derive(Debug, Clone)]
pub struct FoldedResNet {
    executor: Executor,
    /// Of the last map.
    channels: usize,
}

#[derive(Debug, Clone)]
enum Executor {
    Cpu(Arc<cpu::Executor>),
    Cube(Arc<cube::Executor>),
}

impl FoldedResNet {
    /// Readies a network for the device that holds its weights; maps and weights are of `precision` on a graphics adapter
    /// that [has](half_is_there) it. Where the device is neither adapter nor CPU, maps go by way of the CPU.
    pub(super) fn new(network: Network<Folded>, precision: Precision) -> Self {
        let last = network.blocks.last().and_then(|block| block.path.last());
        let channels = last.unwrap_or(&network.stem).bias.dims()[0];
        let device = network.stem.bias.device();
        let executor = if cube::is_adapter(&device) {
            let precision = match precision {
                Precision::Half if half_is_there(&device) => Precision::Half,
                _ => Precision::Single,
            };
            Executor::Cube(Arc::new(cube::Executor::new(network, precision)))
        } else {
            Executor::Cpu(Arc::new(cpu::Executor::new(network)))
        };
        Self { executor, channels }
    }

    /// The last map of patches that are normalised already.
    ///
    /// # Shapes
    /// - `input`: `[N,3,P,P]`
    /// - output: `[N,C,h,w]`; `[0,C,1,1]` of no patches
    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        if input.dims()[0] == 0 {
            return Tensor::zeros([0, self.channels, 1, 1], &input.device());
        }
        match &self.executor {
            Executor::Cpu(executor) => executor.forward(input),
            Executor::Cube(executor) => executor.forward(input),
        }
    }
}

/// Whether a device is a graphics adapter that calculates with 16-bit floats.
pub fn half_is_there(device: &Device) -> bool {
    cube::is_adapter(device) && device.supports_dtype(DType::F16)
}
