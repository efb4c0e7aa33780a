//! From nothing to maps through the command line: synthesize, prepare, train, evaluate, predict.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use magnet_core::anndata::AnnData;
use magnet_core::{Bundle, Level};
use magnet_tests::fixture::{fixture, tiny_lawn_config};
use magnet_tests::source::{IMAGE_PX, SIDE};
use magnet_tests::{run, run_line};
use serde_json::Value;
use tempfile::TempDir;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The scores of a level, all finite, with the mean predictor's beside them.
fn check_scores(scores: &Value, n: usize) {
    for name in ["mse", "mae", "pcc_spot", "pcc_gene_mean", "pcc_gene_median"] {
        assert!(scores[name].as_f64().is_some_and(f64::is_finite), "{name}: {scores}");
    }
    assert_eq!(scores["n"].as_u64(), Some(n as u64));
    assert_eq!(scores["mean_predictor"]["n"].as_u64(), Some(n as u64));
    // The mean predictor gives every observation the same value, so it can know nothing about a gene's place.
    assert_eq!(scores["mean_predictor"]["pcc_gene_mean"].as_f64(), Some(0.0));
}

#[test]
fn evaluation_writes_scores_genes_and_both_matrices() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("scores");
    let line = format!(
        "evaluate --model {} --data {} --slides C --out {} --report --device cpu --json",
        text(&fixture().model()),
        text(&fixture().dataset()),
        text(&out)
    );
    let result = run_line(&line).success();
    assert!(result.stderr.contains("device: CPU"), "{}", result.stderr);
    let scores = result.json();
    check_scores(&scores["bin"], SIDE * SIDE);
    assert!(scores["spot"]["n"].as_u64() < scores["bin"]["n"].as_u64());
    assert!(scores["region"]["n"].as_u64() < scores["spot"]["n"].as_u64());
    let written: Value = serde_json::from_slice(&fs::read(out.join("scores.json")).unwrap()).unwrap();
    assert_eq!(written, scores);

    let table = fs::read_to_string(out.join("genes.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with("bin,GENE")).count(), 8);
    let data = AnnData::read(fs::read(out.join("C.bin.h5ad")).unwrap()).unwrap();
    assert_eq!(data.x.shape(), (SIDE * SIDE, 8));
    assert_eq!(data.layers["measured"].shape(), (SIDE * SIDE, 8));
    assert_eq!(data.spatial.as_ref().map(Vec::len), Some(SIDE * SIDE));
    for key in ["magnet/weights_sha256", "magnet/counts_sha256", "magnet/training_slides", "magnet/units"] {
        assert!(data.annotation(key).is_some(), "{key}");
    }
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("GENE") && html.contains("data:image/png;base64,"));
}

#[test]
fn prediction_writes_maps_and_the_same_values_twice() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("maps");
    let image = text(&fixture().source().join("C.jpg"));
    let model = text(&fixture().model());
    let beyond = IMAGE_PX * 2;
    let panel = Bundle::from_bytes(&fs::read(fixture().model()).unwrap()).unwrap().metadata.panel.symbols;
    let places = folder.path().join("places.csv");
    fs::write(&places, "barcode,x,y\nleft,100,200\nright,350,200.5\n").unwrap();
    let line = format!(
        "predict --model {model} --image {image} --mpp 4 --positions {} --region 50,0,{beyond},{beyond} --out {} --genes {} --device cpu --json",
        text(&places),
        text(&out),
        panel[1].to_lowercase()
    );
    let result = run_line(&line).success();
    assert!(result.stderr.contains("reaches beyond the slide"), "{}", result.stderr);
    let result = result.json();
    assert_eq!((result["observations"].as_u64(), result["genes"].as_u64()), (Some(2), Some(8)));
    assert_eq!(result["region"]["beyond_slide"], Value::Bool(true));
    assert_eq!(result["region"]["predicted_px"], format!("50,0,{},{IMAGE_PX}", IMAGE_PX - 50));

    let map = image::open(out.join(format!("{}.png", panel[1]))).unwrap();
    assert!(map.width() > 300 && map.height() > 300);
    let data = AnnData::read(fs::read(out.join("predictions.h5ad")).unwrap()).unwrap();
    assert_eq!(data.obs.names, ["left", "right"]);
    assert_eq!(data.var.names, panel);
    assert_eq!(data.spatial.as_ref().map(|places| (places[1].x, places[1].y)), Some((350.0, 200.5)));
    let values = data.x.into_dense();
    let mut table = csv::Reader::from_path(out.join("predictions.csv")).unwrap();
    for (row, record) in table.records().enumerate() {
        let record = record.unwrap();
        for (gene, value) in values.row(row).iter().enumerate() {
            let cell: f32 = record[gene + 5].parse().unwrap();
            assert!((cell - value).abs() < 1e-4, "row {row}, gene {gene}: {cell} against {value}");
        }
    }
}

#[test]
fn without_positions_the_tissue_is_tiled_at_the_bin_size() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("maps");
    let line = format!(
        "predict --model {} --image {} --mpp 4 --level spot --out {} --device cpu --json",
        text(&fixture().model()),
        text(&fixture().source().join("C.jpg")),
        text(&out)
    );
    let result = run_line(&line).success().json();
    // The image is tissue all over: tiles of 400 µm on 1800 × 1800 µm.
    let side = (IMAGE_PX as f64 * 4.0 / 400.0).ceil() as u64;
    assert_eq!(result["observations"].as_u64(), Some(side * side));
    assert_eq!(result["level"].as_str(), Some(Level::Spot.name()));
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would_do() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let line = format!(
        "train --data {} --train A --valid B --config {} --out {} --device cpu --dry-run",
        text(&fixture().dataset()),
        text(&fixture().config()),
        text(&out)
    );
    let result = run_line(&line).success();
    assert!(result.stdout.contains("GENE") || result.stdout.contains("genes"), "{}", result.stdout);
    assert!(!out.exists());
}

#[test]
fn ridge_knows_nearly_all_that_colour_tells() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (text(&fixture().dataset()), text(&folder.path().join("run")));
    let config = text(&fixture().config());
    run_line(&format!(
        "train --data {data} --train A,B --config {config} --model ridge --out {out} --device cpu"
    ))
    .success();
    let line =
        format!("evaluate --model {out}/model.safetensors --data {data} --slides C --device cpu --json");
    let scores = run_line(&line).success().json();
    assert_eq!(scores["bin"]["mean_predictor"]["pcc_gene_mean"].as_f64(), Some(0.0));
    // Half of the genes rise with the tissue's darkness and half fall.
    assert!(scores["bin"]["pcc_gene_mean"].as_f64().unwrap() > 0.8, "{scores}");
}

#[test]
fn synthetic_tissue_goes_through_every_command() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    run(["synthesize", "--out", &path("tissue"), "--slides", "2", "--size-um", "320", "--mpp", "1"])
        .success();
    let mut slides: Vec<String> = fs::read_dir(folder.path().join("tissue"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    slides.sort();
    assert_eq!(slides.len(), 2, "{slides:?}");
    for slide in &slides {
        let input = format!("{}/{slide}", path("tissue"));
        let dataset = path("dataset");
        run(["prepare", "visium-hd", "--input", &input, "--bin-um", "16", "--id", slide, "--out", &dataset])
            .success();
    }
    fs::write(path("config.toml"), tiny_lawn_config()).unwrap();
    let (train, valid) = (slides[0].as_str(), slides[1].as_str());
    run_line(&format!(
        "train --data {} --train {train} --valid {valid} --config {} --out {} --device cpu --set train.epochs=1",
        path("dataset"),
        path("config.toml"),
        path("run")
    ))
    .success();
    let model = format!("{}/model.safetensors", path("run"));
    let line =
        format!("evaluate --model {model} --data {} --slides {valid} --device cpu --json", path("dataset"));
    let scores = run_line(&line).success().json();
    assert!(scores["bin"]["n"].as_u64().is_some_and(|bins| bins > 100), "{scores}");
}
