//! A training run that is killed and resumed ends with the weights of one that was not.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use magnet_core::Bundle;
use magnet_tests::fixture::{fixture, spawn, train_arguments};
use magnet_tests::run;
use tempfile::TempDir;

fn weights_digest(run_folder: &Path) -> String {
    Bundle::from_bytes(&fs::read(run_folder.join("model.safetensors")).unwrap()).unwrap().weights_sha256()
}

/// Number of epochs that `metrics.jsonl` records.
fn epochs_recorded(run_folder: &Path) -> usize {
    fs::read_to_string(run_folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_killed_and_resumed_run_ends_with_the_same_weights() {
    let work = TempDir::new().unwrap();
    let dataset = fixture().dataset().display().to_string();
    let arguments = |out: &str, more: &[&str]| {
        let mut line = train_arguments(fixture(), &dataset, &work.path().join(out).display().to_string());
        line.extend(["--set", "train.epochs=6"].into_iter().chain(more.iter().copied()).map(str::to_owned));
        line
    };
    run(arguments("whole", &[])).success();

    let cut = work.path().join("cut");
    let mut child = spawn(&arguments("cut", &[])).unwrap();
    let began = Instant::now();
    while epochs_recorded(&cut) < 2 {
        assert!(began.elapsed() < Duration::from_secs(120), "no second epoch within two minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: no handler runs, no buffer is flushed.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!cut.join("model.safetensors").exists(), "the run was over before the signal");

    let resumed = run(arguments("cut", &["--resume"])).success();
    assert!(resumed.stderr.contains("resum"), "{}", resumed.stderr);
    assert_eq!(weights_digest(&cut), weights_digest(&work.path().join("whole")));
    assert_eq!(epochs_recorded(&cut), epochs_recorded(&work.path().join("whole")));
}

#[test]
fn a_killed_and_resumed_prediction_writes_the_same_bytes() {
    let work = TempDir::new().unwrap();
    // A coarse pixel makes a large slide of a small image: 8,100 bins.
    let arguments = |out: &str, more: &[&str]| -> Vec<String> {
        let path = |path: std::path::PathBuf| path.display().to_string();
        let (model, image) = (path(fixture().model()), path(fixture().source().join("C.jpg")));
        let out = path(work.path().join(out));
        ["predict", "--model", &model, "--image", &image, "--mpp", "20", "--out", &out]
            .into_iter()
            .chain(["--device", "cpu"])
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect()
    };
    run(arguments("whole", &[])).success();

    let partial = work.path().join("cut.partial");
    let written = || fs::metadata(partial.join("pieces")).map_or(0, |pieces| pieces.len());
    let mut child = spawn(&arguments("cut", &[])).unwrap();
    let began = Instant::now();
    while written() < 1 << 16 {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing predicted within two minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!work.path().join("cut").exists(), "the run was over before the signal");

    let refused = run(arguments("cut", &[]));
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("--resume"), "{}", refused.stderr);
    let resumed = run(arguments("cut", &["--resume"])).success();
    assert!(resumed.stderr.contains("resuming: "), "{}", resumed.stderr);
    for file in ["predictions.csv", "predictions.h5ad"] {
        let read = |run: &str| fs::read(work.path().join(run).join(file)).unwrap();
        assert!(read("cut") == read("whole"), "{file} differs");
    }
    assert!(!partial.exists());
}
