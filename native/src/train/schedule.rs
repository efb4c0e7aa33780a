//! The learning rate at a step.

use crate::config::ScheduleConfig;

/// A learning rate as a function of the step.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    config: ScheduleConfig,
    base: f64,
    warmup_steps: f64,
    steps: f64,
}

impl Schedule {
    /// The schedule of a run of `steps` steps, `steps_per_epoch` of them in an epoch, around the rate `base`.
    pub fn new(config: ScheduleConfig, base: f64, steps: usize, steps_per_epoch: usize) -> Self {
        let warmup_epochs = match config {
            ScheduleConfig::Polynomial { warmup_epochs, .. }
            | ScheduleConfig::Cosine { warmup_epochs, .. }
            | ScheduleConfig::Constant { warmup_epochs } => warmup_epochs,
        };
        let steps = steps.max(1) as f64;
        // A warm-up as long as the run would never reach the base.
        let warmup_steps = (warmup_epochs * steps_per_epoch as f64).min(steps / 2.0);
        Self { config, base, warmup_steps, steps }
    }

    /// The rate of step `step`, counted from 0 over the run.
    pub fn at(&self, step: usize) -> f64 {
        let step = step as f64;
        if step < self.warmup_steps {
            return self.base * (step + 1.0) / (self.warmup_steps + 1.0);
        }
        match self.config {
            // The published form counts the warm-up's steps too, so that without one it is exactly as published.
            ScheduleConfig::Polynomial { power, .. } => {
                self.base * (1.0 - (step / self.steps).min(1.0)).powf(power)
            }
            ScheduleConfig::Cosine { floor, .. } => {
                let progress =
                    ((step - self.warmup_steps) / (self.steps - self.warmup_steps).max(1.0)).min(1.0);
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
        let schedule = Schedule::new(config, 0.005, 100, 10);
        assert_eq!(schedule.at(0), 0.005);
        assert!((schedule.at(50) - 0.005 * 0.5f64.powf(0.9)).abs() < 1e-12);
        assert_eq!(schedule.at(100), 0.0);
    }

    #[test]
    fn the_cosine_rises_then_falls_to_its_floor() {
        let config = ScheduleConfig::Cosine { warmup_epochs: 1.0, floor: 0.1 };
        let schedule = Schedule::new(config, 1.0, 110, 10);
        let rates: Vec<f64> = (0..=110).map(|step| schedule.at(step)).collect();
        assert!(rates[0] > 0.0 && rates[..10].windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(rates[10], 1.0);
        assert!(rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((rates[60] - 0.55).abs() < 1e-12 && (rates[110] - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_still_reaches_the_base() {
        let schedule = Schedule::new(ScheduleConfig::Constant { warmup_epochs: 50.0 }, 1.0, 10, 10);
        assert_eq!(schedule.at(9), 1.0);
    }
}
