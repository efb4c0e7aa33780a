//! Whole generations of a training run's state, written atomically.
//!
//! `RUN/checkpoints/gen-00000012/` holds the state after 12 steps: `state.safetensors` with the weights, the optimizer's
//! moments, the moving average and the best weights so far; `position.json` with everything else and the digest of the
//! first file. A generation is written under another name, flushed to disk and renamed, so one that is there is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_store::burn_pack::Scalar;
use magnet_core::digest::sha256_hex;
use magnet_core::weights::{Precision, Weights, safetensors_bytes};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::train::optimizer::UpdaterState;

/// Version of the checkpoint's layout.
const FORMAT_VERSION: u32 = 1;
const FOLDER: &str = "checkpoints";
const STATE: &str = "state.safetensors";
const POSITION: &str = "position.json";
const PREFIX: &str = "gen-";
/// Names of generations being written; one that a killed run left behind is removed by the next.
const UNFINISHED: &str = ".unfinished-";

/// Where a run stands. Random streams need no state: they are functions of seed, epoch and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Digest of everything that must be the same for the run to continue: configuration, slides, encoder.
    pub run_digest: String,
    /// Steps done since the start.
    pub steps: usize,
    /// The epoch that the next step belongs to, counted from 0.
    pub epoch: usize,
    /// Steps of that epoch that are done.
    pub steps_in_epoch: usize,
    /// Sums over the done steps of that epoch, by loss term.
    #[serde(with = "exact_map")]
    pub epoch_sums: BTreeMap<String, f64>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Early stopping.
    pub progress: Progress,
}

/// What early stopping knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Best value of the monitored metric.
    #[serde(with = "exact")]
    pub best: Option<f64>,
    /// Epochs that were done when it was reached.
    pub best_epoch: usize,
    /// Validations since.
    pub without_improvement: usize,
    /// Whether the run has ended.
    pub finished: bool,
}

/// The whole state of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Where the run stands.
    pub position: Position,
    /// The model's parameters and running statistics.
    pub model: Weights,
    /// The optimizer's state.
    pub optimizer: UpdaterState,
    /// The moving average of the weights, if the run keeps one.
    pub average: Option<Weights>,
    /// Weights of the best validation so far.
    pub best: Option<Weights>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u32,
    state_sha256: String,
    optimizer_scalars: BTreeMap<String, Scalar>,
    position: Position,
}

/// Numbers as strings: the JSON reader may miss the last bit of a number, and a run must go on exactly as it was.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// [`exact`] for the values of a map.
mod exact_map {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        map.iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect::<BTreeMap<_, _>>()
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        map.into_iter().map(|(name, text)| Ok((name, text.parse().map_err(D::Error::custom)?))).collect()
    }
}

/// Writes a generation, then removes all but the newest `keep`. One that is already there for the same step stays.
///
/// # Errors
/// If the disk refuses; then no generation has changed.
pub fn save(run: &Path, generation: &Generation, keep: usize) -> Result<PathBuf> {
    let folder = run.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let target = folder.join(format!("{PREFIX}{:08}", generation.position.steps));
    if load(&target).is_ok_and(|there| there.position.run_digest == generation.position.run_digest) {
        return Ok(target);
    }

    let mut entries = generation.model.to_entries("model.", Precision::Single);
    entries.extend(generation.optimizer.arrays.to_entries("optimizer.", Precision::Single));
    if let Some(average) = &generation.average {
        entries.extend(average.to_entries("average.", Precision::Single));
    }
    if let Some(best) = &generation.best {
        entries.extend(best.to_entries("best.", Precision::Single));
    }
    let state = safetensors_bytes(&entries, "magnet_checkpoint", FORMAT_VERSION.to_string())?;
    let document = Document {
        format_version: FORMAT_VERSION,
        state_sha256: sha256_hex(&state),
        optimizer_scalars: generation.optimizer.scalars.clone(),
        position: generation.position.clone(),
    };

    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(&folder)
        .with_context(|| format!("{}: cannot write", folder.display()))?;
    write_flushed(&unfinished.path().join(STATE), &state)?;
    write_flushed(&unfinished.path().join(POSITION), &serde_json::to_vec_pretty(&document)?)?;
    flush_folder(unfinished.path())?;
    if target.exists() {
        // Not a whole generation of this run.
        fs::remove_dir_all(&target).with_context(|| format!("{}: cannot replace", target.display()))?;
    }
    fs::rename(unfinished.path(), &target).with_context(|| format!("{}: cannot write", target.display()))?;
    flush_folder(&folder)?;

    let mut generations = list(&folder)?;
    let excess = generations.len().saturating_sub(keep.max(1));
    for (_, old) in generations.drain(..excess) {
        fs::remove_dir_all(&old).with_context(|| format!("{}: cannot remove", old.display()))?;
    }
    Ok(target)
}

/// The newest whole generation of a run, if there is one. `warn` is told of each damaged one on the way.
///
/// # Errors
/// If the folder cannot be read, or all of its generations are damaged.
pub fn load_latest(run: &Path, mut warn: impl FnMut(&str)) -> Result<Option<Generation>> {
    let folder = run.join(FOLDER);
    if !folder.is_dir() {
        return Ok(None);
    }
    for entry in fs::read_dir(&folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // Nothing refers to it; if it cannot be removed, it does no harm either.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let generations = list(&folder)?;
    for (_, path) in generations.iter().rev() {
        match load(path) {
            Ok(generation) => return Ok(Some(generation)),
            Err(error) => warn(&format!("{}: damaged, trying the one before: {error:#}", path.display())),
        }
    }
    if generations.is_empty() {
        return Ok(None);
    }
    bail!("{}: all {} checkpoints are damaged", folder.display(), generations.len())
}

fn load(path: &Path) -> Result<Generation> {
    let position = fs::read(path.join(POSITION)).with_context(|| format!("cannot read {POSITION}"))?;
    let document: Document = serde_json::from_slice(&position).context(POSITION)?;
    if document.format_version != FORMAT_VERSION {
        bail!("{POSITION}: format version: expected {FORMAT_VERSION}, found {}", document.format_version);
    }
    let bytes = fs::read(path.join(STATE)).with_context(|| format!("cannot read {STATE}"))?;
    let digest = sha256_hex(&bytes);
    if digest != document.state_sha256 {
        bail!("{STATE}: SHA-256: expected {}, found {digest}", document.state_sha256);
    }
    let file = SafeTensors::deserialize(&bytes).context(STATE)?;
    let part = |prefix: &str| Weights::from_safetensors(&file, prefix).context(STATE);
    let optional = |weights: Weights| (!weights.is_empty()).then_some(weights);
    Ok(Generation {
        position: document.position,
        model: part("model.")?,
        optimizer: UpdaterState { arrays: part("optimizer.")?, scalars: document.optimizer_scalars },
        average: optional(part("average.")?),
        best: optional(part("best.")?),
    })
}

/// Generations by step, oldest first.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}: cannot read", folder.display()))?;
    let mut generations: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((name.to_str()?.strip_prefix(PREFIX)?.parse().ok()?, entry.path()))
        })
        .collect();
    generations.sort();
    Ok(generations)
}

fn write_flushed(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot write", path.display()))
}

/// Makes renames within the folder durable. Windows has no such call and needs none.
fn flush_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnet_core::model::WeightTensor;

    fn weights(value: f32) -> Weights {
        Weights {
            arrays: [("w".to_string(), WeightTensor { shape: vec![2], values: vec![value, 0.1] })].into(),
        }
    }

    fn generation(steps: usize) -> Generation {
        Generation {
            position: Position {
                run_digest: "d".into(),
                steps,
                epoch: 1,
                steps_in_epoch: 2,
                epoch_sums: [("loss".to_string(), 1.076_910_228_729_247_8)].into(),
                seconds: 1.5,
                progress: Progress {
                    best: Some(0.3),
                    best_epoch: 1,
                    without_improvement: 1,
                    finished: false,
                },
            },
            model: weights(steps as f32),
            optimizer: UpdaterState {
                arrays: weights(-1.0),
                scalars: [("w.time".into(), Scalar::UInt(7))].into(),
            },
            average: None,
            best: Some(weights(f32::MIN_POSITIVE)),
        }
    }

    fn load_all(run: &Path) -> (Option<Generation>, Vec<String>) {
        let mut warnings = Vec::new();
        let loaded = load_latest(run, |warning| warnings.push(warning.to_string())).unwrap();
        (loaded, warnings)
    }

    #[test]
    fn what_is_saved_comes_back() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(load_all(run.path()).0, None);
        save(run.path(), &generation(3), 2).unwrap();
        assert_eq!(load_all(run.path()), (Some(generation(3)), vec![]));
    }

    #[test]
    fn the_newest_are_kept_in_the_order_of_steps() {
        let run = tempfile::tempdir().unwrap();
        for steps in [9, 10, 11, 11] {
            save(run.path(), &generation(steps), 2).unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(run.path().join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["gen-00000010", "gen-00000011"]);
        assert_eq!(load_all(run.path()).0, Some(generation(11)));
    }

    #[test]
    fn a_damaged_generation_falls_back_to_the_one_before() {
        for damage in ["truncate", "flip", "remove", "json"] {
            let run = tempfile::tempdir().unwrap();
            save(run.path(), &generation(1), 3).unwrap();
            let newest = save(run.path(), &generation(2), 3).unwrap();
            let state = newest.join(STATE);
            let mut bytes = fs::read(&state).unwrap();
            match damage {
                "truncate" => fs::write(&state, &bytes[..bytes.len() / 2]).unwrap(),
                "flip" => {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    fs::write(&state, &bytes).unwrap();
                }
                "remove" => fs::remove_file(&state).unwrap(),
                _ => fs::write(newest.join(POSITION), "{").unwrap(),
            }
            let (loaded, warnings) = load_all(run.path());
            assert_eq!(loaded, Some(generation(1)), "{damage}");
            assert!(warnings.len() == 1 && warnings[0].contains("gen-00000002"), "{warnings:?}");
            fs::remove_dir_all(run.path().join(FOLDER).join("gen-00000001")).unwrap();
            assert!(load_latest(run.path(), |_| ()).unwrap_err().to_string().contains("damaged"));
        }
    }

    #[test]
    fn what_a_killed_run_left_behind_is_removed() {
        let run = tempfile::tempdir().unwrap();
        save(run.path(), &generation(1), 3).unwrap();
        let unfinished = run.path().join(FOLDER).join(".unfinished-x");
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join(STATE), "half").unwrap();
        assert_eq!(load_all(run.path()).0, Some(generation(1)));
        assert!(!unfinished.exists());
    }
}
