//! `results.json`: the scores of every fold of a protocol, and what they are over the folds.
//!
//! This is the only definition of the file; tables and figures are made of [`Results::summary`], so that none says
//! another number than the others.

use std::path::{Component, Path};

use anyhow::Result;
use clap::ValueEnum;
use magnet_core::Level;
use magnet_core::metrics::LevelScores;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::InputError;
use crate::files::{Overwrite, read_limited, write_atomic};

/// What `format` says in a file of results.
const FORMAT: &str = "magnet-results";
/// The version of the format that is written and read.
const VERSION: u64 = 1;
/// A row takes about a kilobyte; a hundred folds of a hundred models at three levels are 30 MB.
const MOST_BYTES: u64 = 256 << 20;
/// Name of a model as it is, without anything taken away.
pub const FULL: &str = "full";
/// Name under which the predictor of the training mean stands in tables.
pub const MEAN_PREDICTOR: &str = "mean";

/// The scores of every fold of every model at every resolution, as far as they are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    format: String,
    version: u64,
    /// What was compared.
    pub command: Protocol,
    /// The prepared dataset, as the user named it.
    pub dataset: String,
    /// What a fold holds out.
    pub group: Group,
    /// Number of folds.
    pub folds: usize,
    /// Seed of the folds and of every run.
    pub seed: u64,
    /// Units of the labels.
    pub units: String,
    /// One entry per resolution, model, variant, fold and level, in the order in which they were made.
    pub rows: Vec<ResultRow>,
}

/// Which protocol made the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Several models against each other.
    CrossValidate,
    /// One model, whole and with parts taken away.
    Ablate,
}

/// What stays together when slides are divided into folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Each slide is a group of its own
    #[default]
    Slide,
    /// All slides of a patient are one group
    Patient,
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Group::Slide => "slide",
            Group::Patient => "patient",
        })
    }
}

/// One model's scores on the held-out slides of one fold, at one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRow {
    /// The model's name.
    pub model: String,
    /// [`FULL`], or what was taken away.
    pub variant: String,
    /// Side of a bin, in µm.
    pub bin_um: f64,
    /// The level.
    pub level: Level,
    /// The fold, from 0.
    pub fold: usize,
    /// The slides that the fold holds out; the scores are over all of them.
    pub held_out: Vec<String>,
    /// The scores, with the training mean's beside them.
    pub scores: LevelScores,
    /// Folder of the run, relative to that of the results.
    pub run: String,
}

impl ResultRow {
    /// What no two rows share.
    fn key(&self) -> (&str, &str, u64, Level, usize) {
        (&self.model, &self.variant, self.bin_um.to_bits(), self.level, self.fold)
    }
}

impl Results {
    /// Results without a row.
    pub fn new(
        command: Protocol,
        dataset: String,
        group: Group,
        folds: usize,
        seed: u64,
        units: String,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            command,
            dataset,
            group,
            folds,
            seed,
            units,
            rows: Vec::new(),
        }
    }

    /// Reads results and checks them.
    ///
    /// # Errors
    /// When the file cannot be read, is no file of results of this version, or its rows contradict each other.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MOST_BYTES)?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| InputError::in_file(path, "JSON", "results of a protocol", error))?;
        // Before the fields, so that a file of another kind or version is called that.
        for (key, expected) in [("format", Value::from(FORMAT)), ("version", VERSION.into())] {
            let found = value.get(key).unwrap_or(&Value::Null);
            if *found != expected {
                return Err(InputError::in_file(path, key, expected, found).into());
            }
        }
        let results: Self = serde_json::from_value(value)
            .map_err(|error| InputError::in_file(path, "results", "those of a protocol", error))?;
        results.check(path)?;
        Ok(results)
    }

    /// Writes the results, whole or not at all; a file of the same name is replaced.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        write_atomic(path, &json, Overwrite::Yes)
    }

    fn check(&self, path: &Path) -> Result<(), InputError> {
        let mut seen = std::collections::HashSet::with_capacity(self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            let wrong = |field: &str, expected: String, found: String| {
                Err(InputError::in_file(path, format!("rows[{index}].{field}"), expected, found))
            };
            if !(row.bin_um.is_finite() && row.bin_um > 0.0) {
                return wrong("bin_um", "a positive number of µm".into(), row.bin_um.to_string());
            }
            if row.fold >= self.folds {
                return wrong("fold", format!("below {}", self.folds), row.fold.to_string());
            }
            if Path::new(&row.run).components().any(|part| !matches!(part, Component::Normal(_))) {
                return wrong("run", "a folder below that of the results".into(), row.run.clone());
            }
            if !seen.insert(row.key()) {
                let found =
                    format!("{} ({}), fold {}, {} again", row.model, row.variant, row.fold, row.level);
                return wrong("model", "each model, variant, fold and level once".into(), found);
            }
        }
        Ok(())
    }

    /// The scores over the folds: for each resolution, fine to coarse, and each level, narrow to wide, the training mean
    /// and then the models and variants in the order in which they first appear.
    pub fn summary(&self) -> Vec<SummaryRow> {
        let mut sizes: Vec<f64> = Vec::new();
        let mut names: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            if !sizes.contains(&row.bin_um) {
                sizes.push(row.bin_um);
            }
            let name = (row.model.as_str(), row.variant.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        sizes.sort_by(f64::total_cmp);
        let mut summary = Vec::new();
        for bin_um in sizes {
            for level in Level::ALL {
                let here: Vec<&ResultRow> =
                    self.rows.iter().filter(|row| row.bin_um == bin_um && row.level == level).collect();
                // A row of the training mean as a model of its own says the same as what stands beside the others.
                if !here.iter().any(|row| row.model == MEAN_PREDICTOR) {
                    let mean = mean_predictor(&here, self.folds);
                    summary.extend(SummaryRow::of(MEAN_PREDICTOR, FULL, bin_um, level, &mean));
                }
                for &(model, variant) in &names {
                    let of_model = here.iter().filter(|row| row.model == model && row.variant == variant);
                    let scores: Vec<&LevelScores> = of_model.map(|row| &row.scores).collect();
                    summary.extend(SummaryRow::of(model, variant, bin_um, level, &scores));
                }
            }
        }
        summary
    }
}

/// The training mean's scores of each fold that has any. All models of a fold see the same slides, so the first that
/// carries them speaks for all.
fn mean_predictor<'a>(rows: &[&'a ResultRow], folds: usize) -> Vec<&'a LevelScores> {
    let of_fold = |fold: usize| {
        rows.iter().filter(|row| row.fold == fold).find_map(|row| row.scores.mean_predictor.as_deref())
    };
    (0..folds).filter_map(of_fold).collect()
}

/// A model's scores over the folds, at one resolution and level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SummaryRow {
    /// The model's name; [`MEAN_PREDICTOR`] for the training mean.
    pub model: String,
    /// [`FULL`], or what was taken away.
    pub variant: String,
    /// Side of a bin, in µm.
    pub bin_um: f64,
    /// The level.
    pub level: Level,
    /// Number of folds that are there.
    pub folds: usize,
    /// Number of observations over these folds.
    pub observations: usize,
    /// Mean squared error.
    pub mse: Spread,
    /// Mean absolute error.
    pub mae: Spread,
    /// Pearson per spot: over the genes, at one place.
    pub pcc_spot: Spread,
    /// Pearson per gene: over the places, mean over the genes.
    pub pcc_gene: Spread,
}

impl SummaryRow {
    /// `None` without a fold.
    fn of(model: &str, variant: &str, bin_um: f64, level: Level, folds: &[&LevelScores]) -> Option<Self> {
        let spread = |score: fn(&LevelScores) -> f64| Spread::of(folds.iter().map(|scores| score(scores)));
        (!folds.is_empty()).then(|| Self {
            model: model.into(),
            variant: variant.into(),
            bin_um,
            level,
            folds: folds.len(),
            observations: folds.iter().map(|scores| scores.n).sum(),
            mse: spread(|scores| scores.mse),
            mae: spread(|scores| scores.mae),
            pcc_spot: spread(|scores| scores.pcc_spot),
            pcc_gene: spread(|scores| scores.pcc_gene_mean),
        })
    }
}

/// A score over the folds, every fold counting the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean over the folds where the score is defined; NaN (`null` in JSON) where it is in none.
    pub mean: f64,
    /// Sample standard deviation (with `n − 1`) over these folds; NaN for fewer than two.
    pub sd: f64,
    /// Number of folds where the score is defined.
    pub folds: usize,
}

impl Spread {
    /// Mean and sample standard deviation of the finite values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let folds = values.len();
        let mean = values.iter().sum::<f64>() / folds as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if folds < 2 { f64::NAN } else { (squares / (folds - 1) as f64).sqrt() };
        Self { mean, sd, folds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(mse: f64, mean_mse: Option<f64>) -> LevelScores {
        let mean_predictor = mean_mse.map(|mse| Box::new(scores(mse, None)));
        LevelScores {
            mse,
            mae: mse / 2.0,
            pcc_spot: 0.5,
            pcc_gene_mean: if mse > 8.0 { f64::NAN } else { mse / 10.0 },
            pcc_gene_median: 0.1,
            n: 7,
            mean_predictor,
        }
    }

    fn row(model: &str, bin_um: f64, level: Level, fold: usize, mse: f64) -> ResultRow {
        ResultRow {
            model: model.into(),
            variant: FULL.into(),
            bin_um,
            level,
            fold,
            held_out: vec!["A".into()],
            scores: scores(mse, Some(mse + 1.0)),
            run: format!("{bin_um}um/{model}/fold-{fold}"),
        }
    }

    fn results(rows: Vec<ResultRow>) -> Results {
        let units = "log1p CP10K".into();
        Results { rows, ..Results::new(Protocol::CrossValidate, "d".into(), Group::Patient, 3, 4, units) }
    }

    #[test]
    fn the_file_has_the_documented_keys_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let written = results(vec![row("magnet", 16.0, Level::Bin, 0, 9.0)]);
        written.write(&path).unwrap();
        let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&value["format"], &value["version"]), (&"magnet-results".into(), &1.into()));
        assert_eq!((&value["command"], &value["group"]), (&"cross-validate".into(), &"patient".into()));
        assert_eq!((&value["rows"][0]["level"], &value["rows"][0]["bin_um"]), (&"bin".into(), &16.0.into()));
        assert!(value["rows"][0]["scores"]["pcc_gene_mean"].is_null());
        // NaN is not equal to itself, so the texts are compared.
        let read = Results::read(&path).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), value);
    }

    #[test]
    fn a_file_of_another_kind_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let said = |json: &str| {
            std::fs::write(&path, json).unwrap();
            let error = Results::read(&path).unwrap_err();
            assert!(error.is::<InputError>(), "{error:?}");
            error.to_string()
        };
        assert!(said("[").contains("JSON: expected results"));
        assert!(said("[1]").contains("format: expected \"magnet-results\", found null"));
        assert!(said(r#"{"format":"magnet-results","version":2}"#).contains("version: expected 1, found 2"));
        assert!(said(r#"{"format":"magnet-results","version":1}"#).contains("missing field"));
        let with = |change: fn(&mut ResultRow)| {
            let mut second = row("magnet", 8.0, Level::Bin, 1, 1.0);
            change(&mut second);
            serde_json::to_string(&results(vec![row("magnet", 8.0, Level::Bin, 0, 1.0), second])).unwrap()
        };
        assert!(said(&with(|row| row.fold = 3)).contains("rows[1].fold: expected below 3, found 3"));
        assert!(said(&with(|row| row.fold = 0)).contains("found magnet (full), fold 0, bin again"));
        assert!(said(&with(|row| row.bin_um = 0.0)).contains("rows[1].bin_um"));
        for run in ["/etc", "../other"] {
            let mut second = row("magnet", 8.0, Level::Bin, 1, 1.0);
            second.run = run.into();
            assert!(said(&serde_json::to_string(&results(vec![second])).unwrap()).contains("rows[0].run"));
        }
        let error = Results::read(Path::new("/nonexistent/results.json")).unwrap_err();
        assert_eq!(crate::error::exit_code(&error), crate::error::exit::BAD_INPUT);
    }

    #[test]
    fn the_summary_is_mean_and_sample_deviation_over_the_folds() {
        let results = results(vec![
            row("magnet", 16.0, Level::Bin, 0, 1.0),
            row("magnet", 16.0, Level::Spot, 0, 5.0),
            row("magnet", 16.0, Level::Bin, 1, 2.0),
            row("magnet", 16.0, Level::Bin, 2, 9.0),
            row("published", 16.0, Level::Bin, 0, 3.0),
            row("magnet", 8.0, Level::Bin, 0, 4.0),
        ]);
        let summary = results.summary();
        let names: Vec<_> = summary.iter().map(|row| (row.bin_um, row.level, row.model.as_str())).collect();
        let expected = [
            (8.0, Level::Bin, "mean"),
            (8.0, Level::Bin, "magnet"),
            (16.0, Level::Bin, "mean"),
            (16.0, Level::Bin, "magnet"),
            (16.0, Level::Bin, "published"),
            (16.0, Level::Spot, "mean"),
            (16.0, Level::Spot, "magnet"),
        ];
        assert_eq!(names, expected);
        // 1, 2, 9: mean 4, squared distances 9 + 4 + 25 = 38, over 2.
        let magnet = &summary[3];
        assert_eq!((magnet.mse.mean, magnet.mse.folds, magnet.folds), (4.0, 3, 3));
        assert_eq!(magnet.mse.sd, 19.0_f64.sqrt());
        assert_eq!((magnet.mae.mean, magnet.observations), (2.0, 21));
        // The third fold has no Pearson per gene: 0.1 and 0.2 are left.
        assert_eq!(magnet.pcc_gene.folds, 2);
        assert!((magnet.pcc_gene.mean - 0.15).abs() < 1e-12);
        assert!((magnet.pcc_gene.sd - 0.005_f64.sqrt()).abs() < 1e-12);
        // The training mean stands at one more than the first model of each fold.
        assert_eq!((summary[2].mse.mean, summary[2].folds), (5.0, 3));
        assert!(summary[4].mse.sd.is_nan() && summary[4].mse.mean == 3.0);
    }

    #[test]
    fn a_model_that_is_the_training_mean_stands_once() {
        let results = results(vec![
            row("magnet", 16.0, Level::Bin, 0, 1.0),
            row(MEAN_PREDICTOR, 16.0, Level::Bin, 0, 2.0),
        ]);
        let summary = results.summary();
        assert_eq!(summary.iter().filter(|row| row.model == MEAN_PREDICTOR).count(), 1);
    }
}
