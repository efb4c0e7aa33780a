//! How fast a run is, and how long it still takes.

use crate::protocol::RunProgress;

/// Seconds over which the rate is smoothed: long enough that one slow step does not shake the estimate.
const SMOOTHING_S: f64 = 6.0;
/// Seconds of a run before its own rate says more than the engine's warm-up.
const SETTLED_S: f64 = 3.0;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Running {
    /// Done and in all.
    pub progress: RunProgress,
    /// Tiles per second, smoothed; 0 until it is known.
    pub tiles_per_s: f64,
    /// Seconds that remain, where they can be told: from the engine's warm-up at first, then from the rate.
    pub remaining_s: Option<f64>,
    /// Seconds since the run began.
    pub elapsed_s: f64,
}

/// Follows one run. Times are in seconds of any clock that only goes forward.
#[derive(Debug, Clone)]
pub struct Rate {
    began_s: f64,
    estimated_s: Option<f64>,
    last_s: f64,
    /// What was done at `last_s`; `None` until the first report, which tells what was taken over from an earlier run.
    last_done: Option<usize>,
    first_s: f64,
    first_done: usize,
    per_s: f64,
}

impl Rate {
    /// A run that begins at `now_s` and that the engine expects to take `estimated_s`.
    pub fn begin(now_s: f64, estimated_s: Option<f64>) -> Self {
        Self {
            began_s: now_s,
            estimated_s,
            last_s: now_s,
            last_done: None,
            first_s: now_s,
            first_done: 0,
            per_s: 0.0,
        }
    }

    /// Takes note of a report and says how the run stands.
    pub fn report(&mut self, now_s: f64, progress: RunProgress) -> Running {
        match self.last_done {
            None => {
                self.first_s = now_s;
                self.first_done = progress.done;
                self.last_s = now_s;
                self.last_done = Some(progress.done);
            }
            Some(last_done) if progress.done > last_done && now_s > self.last_s => {
                let elapsed_s = now_s - self.last_s;
                let now_per_s = (progress.done - last_done) as f64 / elapsed_s;
                // Early on the mean since the first report; then an exponential mean that forgets.
                let mean_per_s =
                    progress.done.saturating_sub(self.first_done) as f64 / (now_s - self.first_s).max(1e-3);
                let weight = 1.0 - (-elapsed_s / SMOOTHING_S).exp();
                self.per_s = if now_s - self.first_s < SMOOTHING_S {
                    mean_per_s
                } else {
                    self.per_s + weight * (now_per_s - self.per_s)
                };
                self.last_s = now_s;
                self.last_done = Some(progress.done);
            }
            Some(_) => {}
        }
        self.running(now_s, progress)
    }

    /// How the run stands at `now_s`.
    fn running(&self, now_s: f64, progress: RunProgress) -> Running {
        let elapsed_s = (now_s - self.began_s).max(0.0);
        let by_rate =
            (self.per_s > 0.0).then(|| progress.total.saturating_sub(progress.done) as f64 / self.per_s);
        let by_warm_up = self.estimated_s.map(|estimated_s| (estimated_s - elapsed_s).max(0.0));
        let settled = now_s - self.first_s >= SETTLED_S;
        let remaining_s = if settled { by_rate.or(by_warm_up) } else { by_warm_up.or(by_rate) };
        // Both figures from one source, or they contradict each other on the screen.
        let tiles_per_s = if settled || by_warm_up.is_none() { self.per_s } else { 0.0 };
        Running { progress, tiles_per_s, remaining_s, elapsed_s }
    }

    /// How the run stands before its first report.
    pub fn start(&self) -> Running {
        Running { remaining_s: self.estimated_s, ..Running::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: usize) -> RunProgress {
        RunProgress { done, total: 1000, bins_done: 0, bins_total: 500 }
    }

    #[test]
    fn a_steady_run_is_told_exactly() {
        let mut rate = Rate::begin(0.0, Some(60.0));
        assert_eq!(rate.start().remaining_s, Some(60.0));
        let mut last = Running::default();
        for second in 1..=20 {
            last = rate.report(f64::from(second), progress(second as usize * 10));
        }
        assert!((last.tiles_per_s - 10.0).abs() < 1e-9, "{last:?}");
        assert!((last.remaining_s.unwrap() - 80.0).abs() < 1e-6, "{last:?}");
        assert_eq!(last.elapsed_s, 20.0);
    }

    #[test]
    fn what_was_taken_over_is_no_speed() {
        let mut rate = Rate::begin(0.0, None);
        assert_eq!(rate.report(0.1, progress(800)).tiles_per_s, 0.0);
        let later = rate.report(1.1, progress(805));
        assert!((later.tiles_per_s - 5.0).abs() < 1e-9, "{later:?}");
    }

    #[test]
    fn the_warm_up_speaks_first_and_the_rate_later() {
        let mut rate = Rate::begin(0.0, Some(30.0));
        rate.report(0.5, progress(0));
        let early = rate.report(1.0, progress(100));
        assert_eq!((early.remaining_s, early.tiles_per_s), (Some(29.0), 0.0));
        let later = rate.report(5.0, progress(450));
        assert!((later.remaining_s.unwrap() - 5.5).abs() < 1e-9, "{later:?}");
    }

    #[test]
    fn reports_without_progress_or_time_do_no_harm() {
        let mut rate = Rate::begin(0.0, None);
        for _ in 0..3 {
            let running = rate.report(1.0, progress(10));
            assert_eq!((running.tiles_per_s, running.remaining_s), (0.0, None));
        }
    }
}
