//! Parts of a slide that cannot be read: noted, so that they cost their own bins and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use magnet_core::coordinates::SlidePx;
use magnet_core::slide::pyramid::CutOff;
use magnet_core::{Level, PerLevel};
use serde::{Deserialize, Serialize};

/// Different errors that a report names; a damaged disk gives one for every tile.
const NAMED_ERRORS: usize = 10;
/// Largest log that is read back, in bytes: some hundred for each of the nodes that may fail.
const MAX_LOG_BYTES: u64 = 4 << 30;

/// A node whose patch could not be read whole: one line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fault {
    level: Level,
    node: u32,
    x: f64,
    y: f64,
    error: String,
}

/// Part of a slide that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnreadRegion {
    /// What the reader said.
    pub error: String,
    /// Patches that touch it.
    pub patches: usize,
    /// Left, top, right and bottom of the box around the centres of those patches, in full-resolution pixels.
    pub centers_px: [f64; 4],
}

/// What of a slide is not in its file, in words.
pub struct CutOffOf<'a>(pub &'a Path, pub &'a CutOff);

impl std::fmt::Display for CutOffOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(image, CutOff { tiles, beyond_end, file_bytes, expected_bytes, .. }) = self;
        let share = 100.0 * *beyond_end as f64 / (*tiles).max(1) as f64;
        write!(
            f,
            "{}: {share:.1} % of the slide's tiles cannot be read: {beyond_end} of {tiles} lie past the end of the \
             file, which has {file_bytes} bytes and should have at least {expected_bytes} (is the copy complete?)",
            image.display()
        )
    }
}

/// The nodes whose patches could not be read whole. What is missing of a patch is read as glass; the node's own
/// prediction does not count.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: PerLevel<BTreeSet<u32>>,
    regions: BTreeMap<String, UnreadRegion>,
    /// Where each fault is written before anything that depends on it.
    log: Option<File>,
    /// The first fault that could not be written.
    lost: Option<std::io::Error>,
}

impl Faults {
    /// Faults that are also written to `path`, those that stand there already among them. A last line that was cut off
    /// is dropped.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn logged(path: &Path) -> Result<Self> {
        let named = || format!("cannot read {}", path.display());
        let mut log = File::options().read(true).append(true).create(true).open(path).with_context(named)?;
        let mut bytes = Vec::new();
        (&mut log).take(MAX_LOG_BYTES).read_to_end(&mut bytes).with_context(named)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let faults = Self::default();
        {
            let mut state = faults.state();
            for line in bytes.get(..whole).unwrap_or_default().split(|&byte| byte == b'\n') {
                if let Ok(fault) = serde_json::from_slice::<Fault>(line) {
                    state.add(fault);
                }
            }
            log.set_len(whole as u64).with_context(named)?;
            log.seek(SeekFrom::End(0)).with_context(named)?;
            state.log = Some(log);
        }
        Ok(faults)
    }

    /// Notes that the patch of a node could not be read whole.
    pub fn note(&self, level: Level, node: u32, center: SlidePx, error: &dyn std::fmt::Display) {
        let fault = Fault { level, node, x: center.x, y: center.y, error: error.to_string() };
        let mut state = self.state();
        if !state.add(fault.clone()) {
            return;
        }
        if let Some(log) = &mut state.log {
            let written = serde_json::to_vec(&fault).map_err(std::io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                log.write_all(&line)
            });
            if let Err(error) = written {
                state.lost.get_or_insert(error);
            }
        }
    }

    /// The nodes of a level whose own patches could not be read whole.
    pub fn nodes(&self, level: Level) -> BTreeSet<u32> {
        self.state().nodes.get(level).clone()
    }

    /// How many they are.
    pub fn count(&self, level: Level) -> usize {
        self.state().nodes.get(level).len()
    }

    /// The parts of the slide that could not be read, at most ten, those with the most patches first.
    pub fn regions(&self) -> Vec<UnreadRegion> {
        let mut regions: Vec<_> = self.state().regions.values().cloned().collect();
        regions.sort_by(|a, b| b.patches.cmp(&a.patches).then_with(|| a.error.cmp(&b.error)));
        regions.truncate(NAMED_ERRORS);
        regions
    }

    /// Makes sure that the log is on the disk.
    ///
    /// # Errors
    /// If a fault could not be written.
    pub fn sync(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(error) = state.lost.take() {
            return Err(error).context("cannot write the log of what could not be read");
        }
        if let Some(log) = &state.log {
            log.sync_data().context("cannot write the log of what could not be read")?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the node was not known to fail.
    fn add(&mut self, fault: Fault) -> bool {
        let Fault { level, node, x, y, error } = fault;
        if !self.nodes.get_mut(level).insert(node) {
            return false;
        }
        let region = self.regions.entry(error.clone()).or_insert(UnreadRegion {
            error,
            patches: 0,
            centers_px: [x, y, x, y],
        });
        region.patches += 1;
        let [left, top, right, bottom] = region.centers_px;
        region.centers_px = [left.min(x), top.min(y), right.max(x), bottom.max(y)];
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_logged_comes_back_without_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        let faults = Faults::logged(&path).unwrap();
        for (node, x) in [(3, 10.0), (9, 4.0), (3, 10.0)] {
            faults.note(Level::Bin, node, SlidePx { x, y: 2.0 }, &"tile 7: damaged");
        }
        faults.note(Level::Spot, 3, SlidePx { x: 1.0, y: 1.0 }, &"tile 8: damaged");
        faults.sync().unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole, br#"{"level":"bin","node":5,"x":1"#.as_slice()].concat()).unwrap();
        let again = Faults::logged(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(again.nodes(Level::Bin), BTreeSet::from([3, 9]));
        assert_eq!((again.count(Level::Spot), again.count(Level::Region)), (1, 0));
        assert_eq!(again.regions(), faults.regions());
        let expected =
            UnreadRegion { error: "tile 7: damaged".into(), patches: 2, centers_px: [4.0, 2.0, 10.0, 2.0] };
        assert_eq!(again.regions()[0], expected);
    }
}
