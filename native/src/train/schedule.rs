//! The learning rate over a run.

use crate::config::ScheduleConfig;

/// A learning rate as a function of the epochs done. Epochs may differ a little in their number of steps, so time is
/// measured in (fractions of) epochs.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    config: ScheduleConfig,
    base: f64,
    warmup_epochs: f64,
    epochs: f64,
}

impl Schedule {
    /// The schedule of a run of `epochs` epochs around the rate `base`.
    pub fn new(config: ScheduleConfig, base: f64, epochs: usize) -> Self {
        let (ScheduleConfig::Polynomial { warmup_epochs, .. }
        | ScheduleConfig::Cosine { warmup_epochs, .. }
        | ScheduleConfig::Constant { warmup_epochs }) = config;
        let epochs = epochs.max(1) as f64;
        // A warm-up as long as the run would never reach the base.
        Self { config, base, warmup_epochs: warmup_epochs.min(epochs / 2.0), epochs }
    }

    /// The rate of step `step` of the `steps` steps of epoch `epoch`, all counted from 0.
    pub fn at(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let one = 1.0 / steps.max(1) as f64;
        let done = epoch as f64 + step as f64 * one;
        if done < self.warmup_epochs {
            return self.base * (done + one) / (self.warmup_epochs + one);
        }
        match self.config {
            // The published form counts the warm-up too, so that without one it is exactly as published.
            ScheduleConfig::Polynomial { power, .. } => {
                self.base * (1.0 - (done / self.epochs).min(1.0)).powf(power)
            }
            ScheduleConfig::Cosine { floor, .. } => {
                let after = (self.epochs - self.warmup_epochs).max(f64::MIN_POSITIVE);
                let progress = ((done - self.warmup_epochs) / after).min(1.0);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.base * (floor + (1.0 - floor) * cosine)
            }
            ScheduleConfig::Constant { .. } => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_the_published_one() {
        let config = ScheduleConfig::Polynomial { power: 0.9, warmup_epochs: 0.0 };
        let schedule = Schedule::new(config, 0.005, 10);
        assert_eq!(schedule.at(0, 0, 10), 0.005);
        // Step 53 of 100.
        assert!((schedule.at(5, 3, 10) - 0.005 * 0.47f64.powf(0.9)).abs() < 1e-12);
        assert_eq!(schedule.at(10, 0, 10), 0.0);
    }

    #[test]
    fn the_cosine_rises_then_falls_to_its_floor() {
        let config = ScheduleConfig::Cosine { warmup_epochs: 1.0, floor: 0.1 };
        let schedule = Schedule::new(config, 1.0, 11);
        let rates: Vec<f64> = (0..=110).map(|step| schedule.at(step / 10, step % 10, 10)).collect();
        assert!(rates[0] > 0.0 && rates[..10].windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(rates[10], 1.0);
        assert!(rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((rates[60] - 0.55).abs() < 1e-12 && (rates[110] - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_still_reaches_the_base() {
        let schedule = Schedule::new(ScheduleConfig::Constant { warmup_epochs: 50.0 }, 1.0, 10);
        assert_eq!(schedule.at(9, 0, 10), 1.0);
    }
}
