use serde_json::json;

use super::super::plan::PLAN_FILE;
use super::*;
use crate::config::RunConfig;

/// Scores that are 0.1 times the number of the run, and the names of the runs.
struct Fake {
    runs: Vec<String>,
    fails_at: Option<usize>,
}

impl Fake {
    fn new() -> Self {
        Self { runs: Vec::new(), fails_at: None }
    }
}

impl Runner for Fake {
    fn run(&mut self, run: &Run<'_>) -> Result<RunScores> {
        if self.fails_at == Some(self.runs.len()) {
            return Err(Interrupted("training is saved".into()).into());
        }
        assert!(run.held_out.iter().all(|id| !run.train.contains(id)));
        let fold = run.folder.file_name().unwrap().to_str().unwrap();
        self.runs.push(format!("{} {} {fold}", run.resolution.bin_um, run.arm.folder));
        let mse = self.runs.len() as f64 / 10.0;
        let json = json!({"mse": mse, "mae": 1.0, "pcc_spot": 0.5, "pcc_gene_mean": null, "pcc_gene_median": null, "n": 4});
        let scores: LevelScores = serde_json::from_value(json).unwrap();
        Ok(RunScores::from([(Level::Bin, scores.clone()), (Level::Spot, scores)]))
    }
}

fn plan() -> Plan {
    let arm = |folder: &str| Arm {
        model: folder.into(),
        variant: "full".into(),
        folder: folder.into(),
        config: RunConfig::preset("demo").unwrap(),
        notes: Vec::new(),
    };
    let resolution =
        |um| Resolution { bin_um: um, tile_um: um, summed: false, arms: vec![arm("magnet"), arm("ridge")] };
    Plan::of_parts(
        vec![vec!["A".into()], vec!["B".into(), "C".into()]],
        vec![resolution(8.0), resolution(16.0)],
    )
}

fn never() -> bool {
    false
}

fn do_all(plan: &Plan, out: &Path, fake: &mut Fake) -> Result<Results> {
    all(plan, out, fake, &never, &Console::quiet())
}

#[test]
fn finished_runs_are_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, out) = (plan(), folder.path());
    let mut first = Fake { fails_at: Some(3), ..Fake::new() };
    let error = do_all(&plan, out, &mut first).unwrap_err();
    assert!(error.is::<Interrupted>() && error.to_string().contains("--resume"), "{error}");
    // Fold by fold, so that what is there compares all models.
    assert_eq!(first.runs, ["8 magnet fold-0", "8 ridge fold-0", "8 magnet fold-1"]);
    let partial = Results::read(&out.join(RESULTS_FILE)).unwrap();
    assert_eq!(partial.rows.len(), 6);
    assert!(fs::read_to_string(out.join(TABLE_FILE)).unwrap().contains("3 of 8 runs are done"));

    let mut second = Fake::new();
    let results = do_all(&plan, out, &mut second).unwrap();
    let expected =
        ["8 ridge fold-1", "16 magnet fold-0", "16 ridge fold-0", "16 magnet fold-1", "16 ridge fold-1"];
    assert_eq!(second.runs, expected);
    assert_eq!((results.rows.len(), results.rows[0].scores.mse), (16, 0.1));
    assert_eq!(results.rows[4].held_out, ["B", "C"]);
    assert!(!fs::read_to_string(out.join(TABLE_FILE)).unwrap().contains("runs are done"));

    // Results are made of the runs' own scores, so a lost file comes back without a run.
    fs::remove_file(out.join(RESULTS_FILE)).unwrap();
    let mut third = Fake::new();
    do_all(&plan, out, &mut third).unwrap();
    assert!(third.runs.is_empty());
    assert_eq!(Results::read(&out.join(RESULTS_FILE)).unwrap().rows.len(), 16);
}

#[test]
fn a_run_begins_only_where_nobody_wants_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut fake = Fake::new();
    let error = all(&plan(), folder.path(), &mut fake, &|| true, &Console::quiet()).unwrap_err();
    assert!(error.is::<Interrupted>() && fake.runs.is_empty());
}

#[test]
fn scores_that_are_damaged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("8um/magnet/fold-0/scores.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, r#"{"bin": {"mse": 1}}"#).unwrap();
    let error = do_all(&plan(), folder.path(), &mut Fake::new()).unwrap_err();
    assert!(error.is::<InputError>() && error.to_string().contains("fold-0/scores.json"), "{error}");
}

#[test]
fn a_run_that_never_began_is_cleared_and_one_that_did_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join(".partial-x"), "").unwrap();
    clear_unbegun(&run).unwrap();
    assert!(!run.exists());
    fs::create_dir(&run).unwrap();
    fs::write(run.join(train::CONFIG_FILE), "").unwrap();
    clear_unbegun(&run).unwrap();
    assert!(run.exists());
}

#[test]
fn a_stored_plan_is_compared_setting_by_setting() {
    let folder = tempfile::tempdir().unwrap();
    let stored = plan();
    stored.write(folder.path()).unwrap();
    stored.check_stored(folder.path()).unwrap();
    let mut other = plan();
    other.resolutions[1].arms[0].config.train.epochs += 1;
    let error = other.check_stored(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains(PLAN_FILE) && error.contains("resolutions[1].arms[0].config.train.epochs"),
        "{error}"
    );
    let mut other = plan();
    other.folds.swap(0, 1);
    let error = other.check_stored(folder.path()).unwrap_err().to_string();
    assert!(error.contains("folds[0][0]: expected \"A\", as in the plan"), "{error}");
}
