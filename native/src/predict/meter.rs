//! How far a run is, and how long it still takes, over all of its phases.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use magnet_core::Level;
use magnet_core::predict::Progress;

use super::stream::Job;
use crate::console::Console;

/// How often a run says where it is when nobody sees a bar.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Work is counted in pixels that pass an encoder: a region's patch costs twenty times a bin's.
pub(super) struct Meter {
    bar: ProgressBar,
    console: Console,
    began: Instant,
    said: Instant,
    start: Progress,
    start_left: f64,
    /// Pixels of a patch of each wide level, and how many of those there are in a pass.
    spot: (f64, usize),
    region: (f64, usize),
    /// Pixels of a bin's patch.
    bin: f64,
}

impl Meter {
    pub(super) fn new(job: &Job<'_>, at: Progress) -> Self {
        let config = job.model.model.config();
        let reads = |level: Level| match job.features {
            Some(_) if level != Level::Bin => 0.0,
            _ => (config.levels.get(level).patch_px as f64).powi(2),
        };
        let bar = job.console.bar(0, "predict", "");
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:28}] {percent}% {prefix}, {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        let tiles = |level: Level| job.layout.centers.get(level).len();
        let mut meter = Self {
            bar,
            console: *job.console,
            began: Instant::now(),
            said: Instant::now(),
            start: at,
            start_left: 0.0,
            spot: (reads(Level::Spot), tiles(Level::Spot)),
            region: (reads(Level::Region), tiles(Level::Region)),
            bin: reads(Level::Bin),
        };
        meter.start_left = meter.left(at);
        meter.bar.set_length((meter.start_left / 1e3) as u64);
        meter
    }

    /// Pixels that are still to be read.
    fn left(&self, at: Progress) -> f64 {
        let tiles = at.tiles_total.saturating_sub(at.tiles_done);
        // Regions come last in a pass.
        let per_pass = self.spot.1 + self.region.1;
        let (passes, rest) = (tiles / per_pass.max(1), tiles % per_pass.max(1));
        let regions = passes * self.region.1 + rest.min(self.region.1);
        let spots = tiles - regions;
        let bins = at.bins_total.saturating_sub(at.bins_done + at.bins_underway);
        spots as f64 * self.spot.0 + regions as f64 * self.region.0 + bins as f64 * self.bin
    }

    pub(super) fn show(&mut self, at: Progress) {
        let left = self.left(at);
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let bins = at.bins_done + at.bins_underway;
        let new = bins.saturating_sub(self.start.bins_done + self.start.bins_underway);
        let text = match new {
            0 => format!("{} of {} wide tiles", at.tiles_done, at.tiles_total),
            _ => format!("{bins} of {} bins, {:.0}/s", at.bins_total, new as f64 / seconds),
        };
        self.bar.set_position(((self.start_left - left).max(0.0) / 1e3) as u64);
        if !self.console.draws_bars() && self.said.elapsed() > SAY_EVERY {
            self.said = Instant::now();
            let rate = (self.start_left - left) / seconds;
            let minutes = left / rate.max(1e-9) / 60.0;
            self.console.say(format_args!("{text}, about {minutes:.0} min left"));
        }
        self.bar.set_prefix(text);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
