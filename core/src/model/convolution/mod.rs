//! Convolutions on the CPU, for inference and for training.
//!
//! Maps lie channels last, each image in a margin of zeros ([`Map`]), so that a row of a kernel's window is one run of
//! numbers: the kernel's width times the channels. Products are taken in tiles that stay in registers
//! ([`Convolution`], [`weight_gradient`]); no matrix of windows is ever written.

mod kernel;
mod map;
#[cfg(not(target_family = "wasm"))]
mod memory;
mod pooling;
#[cfg(not(target_family = "wasm"))]
mod weight_gradient;

pub(super) use kernel::{Convolution, Finish, output_side};
pub(super) use map::Map;
#[cfg(not(target_family = "wasm"))]
pub(super) use memory::{Loan, Memory};
#[cfg(not(target_family = "wasm"))]
pub(super) use pooling::max_pool_gradient;
pub(super) use pooling::{max_pool, pooled_sizes};
#[cfg(not(target_family = "wasm"))]
pub(super) use weight_gradient::weight_gradient;
