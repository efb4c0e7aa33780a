//! `import` and `export`: state dicts of PyTorch to model files and back. The round trip through an installed PyTorch
//! runs where `MAGNET_PYTORCH` names an interpreter that has it (`tests/run --with-pytorch`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use magnet_core::model::{WeightMap, read_safetensors};
use magnet_core::weights::{Precision, Weights, safetensors_bytes};
use magnet_core::{Bundle, MagNetConfig};
use magnet_native::weight_file;
use magnet_tests::fixture::fixture;
use magnet_tests::golden::{formula_state, released_config};
use magnet_tests::{pytorch, run, run_line};
use tempfile::TempDir;

/// A published model that is small enough for a test.
const TINY: &[&str] = &[
    "model.width=8",
    "model.patch_encoder.depth=resnet18",
    "model.patch_encoder.width_multiplier=0.0625",
    "model.patch_encoder.stages=2",
];

fn fixture_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn tiny_config() -> MagNetConfig {
    let mut config = released_config(8, 4);
    config.patch_encoder =
        serde_json::from_str(r#"{"depth": "resnet18", "width_multiplier": 0.0625, "stages": 2}"#).unwrap();
    config
}

fn write_genes(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join("genes.txt");
    fs::write(&path, (0..count).map(|gene| format!("GENE{gene}\n")).collect::<String>()).unwrap();
    path
}

fn write_state(path: &Path, state: &WeightMap) {
    let entries = Weights { arrays: state.clone() }.to_entries("", Precision::Single);
    fs::write(path, safetensors_bytes(&entries, "format", "pt".into()).unwrap()).unwrap();
}

fn import(
    folder: &Path,
    from: &Path,
    preset: &str,
    genes: usize,
    set: &[&str],
    out: &str,
) -> magnet_tests::Run {
    let genes = write_genes(folder, genes);
    let out = folder.join(out);
    let mut args: Vec<&str> = vec!["import", "--json", "--preset", preset];
    args.extend(["--from", from.to_str().unwrap(), "--genes", genes.to_str().unwrap()]);
    args.extend(["--out", out.to_str().unwrap()]);
    for set in set {
        args.extend(["--set", set]);
    }
    run(args)
}

fn export(model: &Path, out: &Path) -> WeightMap {
    run_line(&format!("export --model {} --to pytorch --out {}", model.display(), out.display())).success();
    read_safetensors(fs::read(out).unwrap()).unwrap()
}

#[test]
fn every_type_of_pytorch_reads_as_the_same_values() {
    let value = |index: usize| ((index % 17) as f32 - 8.0) / 4.0;
    for name in ["f32", "f16", "bf16", "checkpoint"] {
        let state = weight_file::read(&fixture_file(&format!("pytorch/{name}.pth"))).unwrap();
        let state = magnet_core::model::pytorch::without_prefix(state);
        let names: Vec<&str> = state.keys().map(String::as_str).collect();
        assert_eq!(names, ["linear.bias", "linear.weight", "row", "turned"], "{name}");
        assert_eq!(state["linear.weight"].shape, [3, 2]);
        assert_eq!(state["linear.weight"].values, (0..6).map(value).collect::<Vec<_>>());
        assert_eq!(state["turned"].shape, [3, 2]);
        assert_eq!(state["turned"].values, [0, 3, 1, 4, 2, 5].map(value), "{name}");
        assert_eq!(state["row"].values, [3, 4, 5].map(value), "{name}");
    }
}

#[test]
fn a_call_in_a_file_is_not_made_and_integers_or_a_cut_file_are_refused() {
    let error = weight_file::read(&fixture_file("pytorch/integers.pth")).unwrap_err().to_string();
    assert!(error.contains("linear.bias") && error.contains("floating-point"), "{error}");
    // An object that is made by a call is no tensor, and left out.
    let state = weight_file::read(&fixture_file("pytorch/runs.pth")).unwrap();
    assert_eq!(state.into_keys().collect::<Vec<_>>(), ["linear.bias"]);
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(fixture_file("pytorch/f32.pth")).unwrap();
    let cut = folder.path().join("cut.pth");
    for length in (0..bytes.len()).step_by(61) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = weight_file::read(&cut).unwrap_err().to_string();
        assert!(error.contains("cut.pth"), "{error}");
    }
    for place in (0..bytes.len()).step_by(7) {
        let mut spoilt = bytes.clone();
        spoilt[place] ^= 0x55;
        fs::write(&cut, &spoilt).unwrap();
        // Either refused or read; never a panic, and never more values than the file has bytes.
        if let Ok(state) = weight_file::read(&cut) {
            assert!(state.values().all(|tensor| tensor.values.len() <= bytes.len()));
        }
    }
}

#[test]
fn a_released_state_dict_becomes_a_model_file_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let state = formula_state(&tiny_config()).unwrap();
    let from = folder.path().join("released.safetensors");
    let wrapped = state.iter().map(|(name, tensor)| (format!("module.{name}"), tensor.clone())).collect();
    write_state(&from, &wrapped);
    import(folder.path(), &from, "published", 4, TINY, "model.safetensors").success();

    let model = folder.path().join("model.safetensors");
    let bundle = Bundle::from_bytes(&fs::read(&model).unwrap()).unwrap();
    assert_eq!(bundle.metadata.panel.symbols, ["GENE0", "GENE1", "GENE2", "GENE3"]);
    let back = export(&model, &folder.path().join("back.safetensors"));
    assert_eq!(back.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
    for (name, tensor) in &back {
        let never_read = ["lstm", "gene_head_512", "gene_head_224", "transformer.encoder_layer"];
        if never_read.iter().any(|part| name.starts_with(part)) {
            assert!(tensor.values.iter().all(|&value| value == 0.0), "{name}");
            assert_eq!(tensor.shape, state[name].shape, "{name}");
        } else {
            assert_eq!(tensor, &state[name], "{name}");
        }
    }
}

#[test]
fn missing_extra_and_misshapen_tensors_are_listed_at_once() {
    let folder = TempDir::new().unwrap();
    let mut state = formula_state(&tiny_config()).unwrap();
    let taken = state.remove("gene_head_250.1.bias").unwrap();
    state.insert("stranger".into(), taken);
    state.get_mut("gat_layer_112.0.weight").unwrap().shape = vec![4, 16];
    let from = folder.path().join("wrong.safetensors");
    write_state(&from, &state);
    let result = import(folder.path(), &from, "published", 4, TINY, "model.safetensors");
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    for part in [
        "1 missing (gene_head_250.1.bias)",
        "1 unexpected (stranger)",
        "gat_layer_112.0.weight: expected [8, 8], found [4, 16]",
    ] {
        assert!(result.stderr.contains(part), "{part}: {}", result.stderr);
    }
    assert!(!folder.path().join("model.safetensors").exists());

    // However many there are.
    state.retain(|name, _| name.starts_with("gene_head_250"));
    write_state(&from, &state);
    let result = import(folder.path(), &from, "published", 4, TINY, "model.safetensors");
    for name in formula_state(&tiny_config()).unwrap().keys().filter(|name| name.starts_with("encoder.")) {
        assert!(result.stderr.contains(&format!("missing: {name}\n")), "{name}: {}", result.stderr);
    }
}

#[test]
fn a_trained_model_goes_to_pytorch_and_back() {
    let folder = TempDir::new().unwrap();
    let state = export(&fixture().model(), &folder.path().join("state.safetensors"));
    assert!(state.contains_key("depth_transformer.bin.encoder.layers.0.self_attn.in_proj_weight"));
    let config = fixture().config().display().to_string();
    let genes = write_genes(folder.path(), 8);
    run_line(&format!(
        "import --from {} --preset st-small --config {config} --genes {} --out {}",
        folder.path().join("state.safetensors").display(),
        genes.display(),
        folder.path().join("model.safetensors").display()
    ))
    .success();
    let read = |path: &Path| Bundle::from_bytes(&fs::read(path).unwrap()).unwrap();
    let (before, after) = (read(&fixture().model()), read(&folder.path().join("model.safetensors")));
    assert_eq!(after.weights_sha256(), before.weights_sha256());
}

#[test]
fn torchvision_weights_start_the_patch_encoder() {
    let folder = TempDir::new().unwrap();
    let resnet: WeightMap = formula_state(&tiny_config())
        .unwrap()
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), tensor)))
        .collect();
    let from = folder.path().join("resnet18.safetensors");
    write_state(&from, &resnet);
    for preset in ["default", "published"] {
        let name = format!("{preset}.safetensors");
        let result = import(folder.path(), &from, preset, 4, TINY, &name).success();
        assert!(result.stderr.contains("only the patch encoder"), "{}", result.stderr);
        let bundle = Bundle::from_bytes(&fs::read(folder.path().join(name)).unwrap()).unwrap();
        let stored = &bundle.weights.arrays["patch_encoder.resnet.layer1.0.conv1.weight"];
        assert_eq!(stored, &resnet["layer1.0.conv1.weight"]);
    }
}

#[test]
fn the_published_preset_trains_scores_and_predicts() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = fs::read_to_string(fixture().config()).unwrap().replace("st-small", "published");
    fs::write(path("config.toml"), config.replace("[model.depth]", "[model.depth]\ndropout = 0.0")).unwrap();
    let dataset = fixture().dataset().display().to_string();
    run_line(&format!(
        "train --data {dataset} --train A --valid B --config {} --out {} --device cpu --set train.epochs=1",
        path("config.toml"),
        path("run")
    ))
    .success();
    let model = path("run/model.safetensors");
    let scores =
        run_line(&format!("evaluate --model {model} --data {dataset} --slides C --device cpu --json"));
    let scores = scores.success().json();
    assert!(scores["bin"]["mse"].as_f64().is_some_and(f64::is_finite), "{scores}");
    let image = fixture().source().join("C.jpg").display().to_string();
    run_line(&format!(
        "predict --model {model} --image {image} --mpp 4 --out {} --formats csv --device cpu",
        path("maps")
    ))
    .success();
}

#[test]
fn a_model_goes_through_pytorch_and_comes_back() {
    let Some(mut round_trip) = pytorch("round_trip_pytorch.py") else { return };
    let folder = TempDir::new().unwrap();
    let state = formula_state(&released_config(64, 20)).unwrap();
    write_state(&folder.path().join("formula.safetensors"), &state);
    let set = ["model.width=64"];
    let from = folder.path().join("formula.safetensors");
    import(folder.path(), &from, "published", 20, &set, "model.safetensors").success();
    let exported = folder.path().join("state.safetensors");
    export(&folder.path().join("model.safetensors"), &exported);
    let output = round_trip
        .args([&exported, &fixture_file("golden/published_small.safetensors"), &folder.path().to_path_buf()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let read = |name: &str| Bundle::from_bytes(&fs::read(folder.path().join(name)).unwrap()).unwrap();
    let first = read("model.safetensors");
    for (dtype, largest) in [("f32", 0.0), ("f16", 1e-3), ("bf16", 1e-2)] {
        let from = folder.path().join(format!("{dtype}.pth"));
        let name = format!("{dtype}.model.safetensors");
        import(folder.path(), &from, "published", 20, &set, &name).success();
        let again = read(&name);
        for (name, tensor) in &first.weights.arrays {
            let other = &again.weights.arrays[name];
            for (a, b) in tensor.values.iter().zip(&other.values) {
                assert!((a - b).abs() <= largest * a.abs().max(1.0), "{dtype} {name}: {a} {b}");
            }
        }
    }
}
