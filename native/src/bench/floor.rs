//! What the device can do at best: its rate in a large product of matrices, and its bandwidth over large arrays.

use anyhow::Result;
use burn::tensor::{Device, Distribution, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use super::timing::{Repeats, median, wait};
use super::work::Work;
use crate::device::ChosenDevice;

/// Sides of the matrices: from one that every device does in a moment to one that keeps the largest busy.
const SMALLEST_SIDE: usize = 512;
const LARGEST_SIDE: usize = 8192;
/// A product that takes this long is large enough.
const LONG_SECONDS: f64 = 0.1;
/// Values of an array that no cache holds, in less than the 128 MiB that some graphics drivers bind at most.
const ARRAY_VALUES: usize = 30 << 20;
/// Values that a thread copies at a time.
const COPY_VALUES: usize = 1 << 18;

/// What the device can do at best.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floor {
    /// 10⁹ operations per second in a product of large matrices, two for each multiply-add.
    pub(super) matrix_gflops: f64,
    /// 10⁹ bytes per second, read and written.
    pub(super) bandwidth_gbytes: f64,
}

/// Which of the two bounds a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bound {
    Matrix,
    Memory,
}

impl Floor {
    /// The least time in seconds for some work, and what sets it.
    pub(super) fn seconds(&self, work: Work) -> (f64, Bound) {
        let matrix = work.operations as f64 / (self.matrix_gflops * 1e9);
        let memory = work.bytes as f64 / (self.bandwidth_gbytes * 1e9);
        if matrix >= memory { (matrix, Bound::Matrix) } else { (memory, Bound::Memory) }
    }
}

/// Measures the device; of several ways the fastest counts.
///
/// # Errors
/// If the device fails.
pub(super) fn measure(chosen: &ChosenDevice, repeats: Repeats) -> Result<Floor> {
    let device = &chosen.device;
    let repeats = Repeats { warm_up: repeats.warm_up.max(1), ..repeats };
    let mut bandwidth_gbytes = adding(device, repeats)?;
    if chosen.adapter.is_none() {
        bandwidth_gbytes = bandwidth_gbytes.max(copying(repeats)?);
    }
    Ok(Floor { matrix_gflops: multiplying(device, repeats)?, bandwidth_gbytes })
}

/// 10⁹ operations per second of the fastest product.
fn multiplying(device: &Device, repeats: Repeats) -> Result<f64> {
    let mut best = 0.0_f64;
    let mut side = SMALLEST_SIDE;
    while side <= LARGEST_SIDE {
        let draw = || Tensor::<2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        let (a, b) = (draw(), draw());
        wait(device)?;
        let seconds = median(&repeats.time(
            || Ok(()),
            |()| {
                let product = a.clone().matmul(b.clone());
                wait(device)?;
                drop(product);
                Ok(())
            },
        )?);
        best = best.max(2.0 * (side as f64).powi(3) / seconds.max(1e-9) / 1e9);
        if seconds >= LONG_SECONDS {
            break;
        }
        side *= 2;
    }
    Ok(best)
}

/// 10⁹ bytes per second of `a = a + b` on the device.
fn adding(device: &Device, repeats: Repeats) -> Result<f64> {
    let mut sum = Some(Tensor::<1>::zeros([ARRAY_VALUES], device));
    let term = Tensor::<1>::ones([ARRAY_VALUES], device);
    wait(device)?;
    let seconds = repeats.time(
        || Ok(()),
        |()| {
            // Held by nobody else, so that it is changed in place.
            sum = sum.take().map(|sum| sum + term.clone());
            wait(device)
        },
    )?;
    Ok(gbytes(3, median(&seconds)))
}

/// 10⁹ bytes per second of a copy by all threads of the processor: Burn's own sums use one.
fn copying(repeats: Repeats) -> Result<f64> {
    let from = vec![1.0_f32; ARRAY_VALUES];
    let mut to = vec![0.0_f32; ARRAY_VALUES];
    let seconds = repeats.time(
        || Ok(()),
        |()| {
            let parts = to.par_chunks_mut(COPY_VALUES).zip(from.par_chunks(COPY_VALUES));
            parts.for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        },
    )?;
    Ok(gbytes(2, median(&seconds)))
}

/// The rate of going through `arrays` arrays in some seconds.
fn gbytes(arrays: usize, seconds: f64) -> f64 {
    (arrays * ARRAY_VALUES * size_of::<f32>()) as f64 / seconds.max(1e-9) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_longer_of_the_two_times() {
        let floor = Floor { matrix_gflops: 2.0, bandwidth_gbytes: 1.0 };
        let work = |operations, bytes| Work { operations, bytes };
        assert_eq!(floor.seconds(work(4_000_000_000, 1_000_000_000)), (2.0, Bound::Matrix));
        assert_eq!(floor.seconds(work(4_000_000_000, 3_000_000_000)), (3.0, Bound::Memory));
        assert_eq!(floor.seconds(work(0, 500_000_000)), (0.5, Bound::Memory));
    }
}
