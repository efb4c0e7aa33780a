//! Protocols through the command line: folds, resolutions, what is written, and what is not done twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use magnet_tests::fixture::tiny_lawn_config;
use magnet_tests::{Run, run};
use serde_json::Value;
use tempfile::TempDir;

const SLIDES: [&str; 2] = ["synthetic_1", "synthetic_2"];

/// Two slides in bins of 16 µm beside a configuration that trains one epoch in a second, made once.
fn tissue() -> &'static Path {
    static TISSUE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, place) = TISSUE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        run(["synthesize", "--out", &at("tissue"), "--slides", "2", "--size-um", "256", "--mpp", "1"])
            .success();
        for slide in SLIDES {
            let input = at(&format!("tissue/{slide}"));
            run(["prepare", "visium-hd", "--input", &input, "--bin-um", "16", "--out", &at("dataset")])
                .success();
        }
        fs::write(at("config.toml"), tiny_lawn_config()).unwrap();
        let place = folder.path().to_path_buf();
        (folder, place)
    });
    place
}

/// A protocol on that tissue, with what its line says in addition.
fn protocol(command: &str, out: &Path, more: &str) -> Run {
    let at = |name: &str| tissue().join(name).display().to_string();
    let (data, config, out) = (at("dataset"), at("config.toml"), out.display().to_string());
    let words = [command, "--data", &data, "--config", &config, "--out", &out, "--folds", "2"];
    let set = ["--set", "train.epochs=1", "--device", "cpu", "--seed", "3"];
    run(words.into_iter().chain(set).chain(more.split_whitespace()))
}

fn rows(results: &Value) -> &Vec<Value> {
    results["rows"].as_array().unwrap()
}

#[test]
fn models_are_compared_at_two_resolutions_and_nothing_is_done_twice() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("cv");
    let line = "--models magnet,mean --bin-um 16,32 --json";
    let plan = protocol("cross-validate", &out, &format!("{line} --dry-run")).success().json();
    assert!(!out.exists());
    let folds: BTreeSet<&str> =
        plan["folds"].as_array().unwrap().iter().map(|fold| fold[0].as_str().unwrap()).collect();
    assert_eq!(folds, BTreeSet::from(SLIDES));

    let results = protocol("cross-validate", &out, line).success().json();
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read("results.json")).unwrap(), results);
    // Two resolutions and two folds; MagNet at three levels, the mean at one.
    assert_eq!(rows(&results).len(), 16);
    for row in rows(&results) {
        let scores = &row["scores"];
        assert!(scores["mse"].as_f64().is_some_and(f64::is_finite), "{row}");
        assert!(out.join(row["run"].as_str().unwrap()).join("model.safetensors").is_file(), "{row}");
        let beside = scores["mean_predictor"]["mse"].as_f64().unwrap();
        if row["model"] == "mean" {
            assert!((scores["mse"].as_f64().unwrap() - beside).abs() < 1e-5 * beside, "{row}");
        }
    }
    let bins = |bin_um: f64| -> u64 {
        let at = |row: &&Value| row["model"] == "mean" && row["bin_um"].as_f64() == Some(bin_um);
        rows(&results).iter().filter(at).map(|row| row["scores"]["n"].as_u64().unwrap()).sum()
    };
    assert!(bins(16.0) > 200 && (bins(16.0) / 5..bins(16.0) / 3).contains(&bins(32.0)));
    let table = read("table.md");
    for part in ["| 16 µm | magnet |", "| 32 µm | training mean |", "Wider levels", "8 of highest mean"] {
        assert!(table.contains(part), "{part}: {table}");
    }

    let again = protocol("cross-validate", &out, &format!("{line} --resume")).success();
    assert_eq!(again.json(), results);
    assert!(!again.stderr.contains("run 1 of") && !again.stderr.contains("epoch"), "{}", again.stderr);
    let other = protocol("cross-validate", &out, &format!("{line} --resume --set train.learning_rate=0.5"));
    assert_eq!(other.code, Some(3));
    assert!(other.stderr.contains("config.train.learning_rate: expected 0.003"), "{}", other.stderr);
    let twice = protocol("cross-validate", &out, line);
    assert!(twice.code == Some(3) && twice.stderr.contains("--resume"), "{}", twice.stderr);
}

#[test]
fn a_part_taken_away_is_a_variant_of_its_own() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("ablations");
    let run = protocol("ablate", &out, "--variants full,single-level").success();
    assert!(run.stdout.contains("| 16 µm | full model |"), "{}", run.stdout);
    let results: Value = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let levels = |variant: &str| rows(&results).iter().filter(|row| row["variant"] == variant).count();
    assert_eq!((levels("full"), levels("single level")), (6, 2));
    assert!(out.join("16um/single-level/fold-1/scores.json").is_file());
}

#[test]
fn what_cannot_be_divided_or_summed_is_said_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("cv");
    for (line, said) in [
        ("--bin-um 8", "slide synthetic_1 at 8 µm: expected finer bins"),
        ("--bin-um 40", "a multiple of the bin size, such as 32 or 48 µm"),
        ("--group patient", "none for synthetic_1, synthetic_2"),
        ("--slides synthetic_1", "at least 2 slides, found 1 (synthetic_1)"),
        ("--slides synthetic_9", "perhaps synthetic_"),
        ("--models magnet,magnet", "magnet twice"),
        ("--set model.levels.bin.tile_um=100", "or --bin-um 16"),
    ] {
        let run = protocol("cross-validate", &out, line);
        assert_eq!(run.code, Some(3), "{line}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{line}: {}", run.stderr);
        assert!(!out.exists(), "{line}");
    }
}
