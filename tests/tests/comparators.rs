//! Each model that MagNet is compared with learns the synthetic tissue: trained on two slides it predicts a third with less
//! error than the training mean, and orders its bins gene by gene.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::OnceLock;

use magnet_tests::run;

/// Small enough for seconds on two cores. The genes follow what the patch shows.
const CONFIG: &str = r#"
preset = "demo"

[data]
genes = 15

[train]
epochs = 12
batch_bins = 128
checkpoint_every = 12

[model.levels.bin]
patch_px = 16
"#;

/// The dataset, made once.
fn tissue() -> &'static PathBuf {
    static TISSUE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, dataset) = TISSUE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let out = at("tissue");
        run(["synthesize", "--out", &out, "--slides", "3", "--size-um", "480", "--mpp", "1", "--seed", "5"])
            .success();
        for slide in ["synthetic_1", "synthetic_2", "synthetic_3"] {
            let input = format!("{out}/{slide}");
            run(["prepare", "visium-hd", "--input", &input, "--bin-um", "16", "--out", &at("dataset")])
                .success();
        }
        std::fs::write(at("config.toml"), CONFIG).unwrap();
        let dataset = folder.path().join("dataset");
        (folder, dataset)
    });
    dataset
}

/// Trains a model and gives its scores on the held-out slide at the level of the bins.
fn scores(model: &str, settings: &[&str]) -> serde_json::Value {
    let dataset = tissue();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let config = dataset.with_file_name("config.toml").display().to_string();
    let data = dataset.display().to_string();
    let mut words = vec!["train", "--config", &config, "--model", model, "--data", &data, "--out", &out];
    words.extend(["--train", "synthetic_1,synthetic_2", "--device", "cpu", "--seed", "1"]);
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    run(words).success();
    let bundle = format!("{out}/model.safetensors");
    let words = [
        "evaluate",
        "--model",
        &bundle,
        "--data",
        &data,
        "--slides",
        "synthetic_3",
        "--device",
        "cpu",
        "--json",
    ];
    let scores = run(words).success().json();
    scores["bin"].clone()
}

fn learns(model: &str, settings: &[&str]) {
    let scores = scores(model, settings);
    let (own, mean) = (scores["mse"].as_f64().unwrap(), scores["mean_predictor"]["mse"].as_f64().unwrap());
    let pearson = scores["pcc_gene_mean"].as_f64().unwrap();
    assert!(own < 0.95 * mean, "{model}: squared error {own}, the training mean's {mean}");
    assert!(pearson > 0.2, "{model}: Pearson per gene {pearson}");
}

#[test]
fn the_mean_is_the_mean_predictor() {
    let scores = scores("mean", &[]);
    let (own, mean) = (scores["mse"].as_f64().unwrap(), scores["mean_predictor"]["mse"].as_f64().unwrap());
    assert!((own - mean).abs() < 1e-5 * mean, "{own} against {mean}");
}

#[test]
fn ridge_learns() {
    learns("ridge", &[]);
}

#[test]
fn st_net_learns() {
    learns("stnet", &[]);
}

#[test]
fn bleep_learns() {
    learns("bleep", &["model.comparator.nearest=20"]);
}

#[test]
fn egn_learns() {
    learns("egn", &["train.epochs=4", "model.depth.layers=2"]);
}

#[test]
fn histogene_learns() {
    learns("histogene", &[]);
}

#[test]
fn hist2st_learns() {
    learns("hist2st", &[]);
}
