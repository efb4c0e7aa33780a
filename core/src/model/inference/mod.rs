//! A [`ResNet`](super::ResNet) as prediction runs it: batch norm folded into the convolutions, ReLU and shortcuts
//! applied with them, channels last. No gradient flows through it.
//!
//! On the CPU the network goes through kernels of this crate's own ([`cpu`]); on any other device its convolutions are
//! Burn's own ([`direct`]).

mod cpu;
pub(super) mod direct;
mod network;

use std::sync::Arc;

use burn::tensor::Tensor;

use super::convolution::is_cpu;

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
    Tensors(Arc<Network<direct::Convolution>>),
}

impl FoldedResNet {
    /// Readies a network for the device that holds its weights.
    pub(super) fn new(network: Network<Folded>) -> Self {
        let last = network.blocks.last().and_then(|block| block.path.last());
        let channels = last.unwrap_or(&network.stem).bias.dims()[0];
        let executor = if is_cpu(&network.stem.bias.device()) {
            Executor::Cpu(Arc::new(cpu::Executor::new(network)))
        } else {
            Executor::Tensors(Arc::new(network.map(direct::Convolution::new)))
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
            Executor::Tensors(network) => direct::forward(network, input),
        }
    }
}
