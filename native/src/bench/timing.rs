//! Repeating and timing.

use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;

use crate::error::Interrupted;
use crate::interrupt;

/// How often something is done: first without a clock, then with one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeats {
    pub(super) warm_up: u32,
    pub(super) repeats: u32,
}

impl Repeats {
    /// The seconds of each timed repetition. `prepare` runs before each and is not timed; `work` must have come to its end
    /// when it returns, see [`wait`].
    ///
    /// # Errors
    /// What either returns, and [`Interrupted`].
    pub(super) fn time<T>(
        self,
        mut prepare: impl FnMut() -> Result<T>,
        mut work: impl FnMut(T) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(self.repeats as usize);
        for repetition in 0..self.warm_up + self.repeats {
            if interrupt::requested() {
                return Err(Interrupted("nothing was measured to its end".into()).into());
            }
            let prepared = prepare()?;
            let began = Instant::now();
            work(prepared)?;
            let passed = began.elapsed().as_secs_f64();
            if repetition >= self.warm_up {
                seconds.push(passed);
            }
        }
        Ok(seconds)
    }
}

/// Waits until the device has done all that it was told: a GPU is told ahead of its work.
///
/// # Errors
/// If the device failed meanwhile.
pub(super) fn wait(device: &Device) -> Result<()> {
    device.sync().context("the device failed")
}

/// The median; of an even number the mean of the two in the middle. 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(value)) => *value,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn warm_ups_are_done_and_not_timed() {
        let (mut prepared, mut done) = (0, 0);
        let repeats = Repeats { warm_up: 2, repeats: 3 };
        let prepare = || {
            prepared += 1;
            Ok(prepared)
        };
        let work = |of: i32| {
            assert_eq!(of, done + 1);
            done = of;
            Ok(())
        };
        let seconds = repeats.time(prepare, work).unwrap();
        assert_eq!((seconds.len(), prepared, done), (3, 5, 5));
        assert!(seconds.iter().all(|&seconds| seconds >= 0.0));
    }
}
