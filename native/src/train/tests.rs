use std::cell::Cell;
use std::fs;
use std::path::Path;

use magnet_core::anndata::{AnnData, AxisTable, Values};
use magnet_core::bundle::Bundle;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, Normalization, ValueKind};
use magnet_core::model::WeightTensor;
use magnet_core::random::stream;
use magnet_core::weights::{Precision, Weights, safetensors_bytes};
use rand::RngExt;

use super::*;
use crate::config::Setting;
use crate::dataset::Dataset;
use crate::error::{Interrupted, exit, exit_code};

/// Bins per side of a slide, and their size in px and µm.
const SIDE: usize = 10;
const BIN: usize = 16;

/// Writes slides of coloured squares. Of four genes, the first grows with a bin's own redness, the second with that of
/// its 4 × 4 neighbourhood, the others are constant.
fn write_dataset(root: &Path, ids: &[&str]) {
    for folder in ["st", "wsis", "metadata"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (index, id) in ids.iter().enumerate() {
        let mut rng = stream(7, "squares", &[index as u64]);
        let block: Vec<u32> = (0..SIDE * SIDE).map(|_| rng.random_range(0..100)).collect();
        let own: Vec<u32> = (0..SIDE * SIDE).map(|_| rng.random_range(0..100)).collect();
        let neighborhood = |bin: usize| block[(bin / SIDE / 4) * SIDE + bin % SIDE / 4];
        let redness = |bin: usize| (own[bin] + neighborhood(bin)) / 2;
        let side = (SIDE * BIN) as u32;
        let image = image::RgbImage::from_fn(side, side, |x, y| {
            let bin = (y as usize / BIN) * SIDE + x as usize / BIN;
            image::Rgb([100 + redness(bin) as u8, 200 - redness(bin) as u8, 150])
        });
        image.save(root.join("wsis").join(format!("{id}.png"))).unwrap();
        let rows = (0..SIDE * SIDE).map(|bin| {
            let counts = [redness(bin), neighborhood(bin), 50, 50];
            (0_u32..).zip(counts).map(|(gene, count)| (gene, 1.0 + count as f32)).collect::<Vec<_>>()
        });
        let counts = CountMatrix::from_rows(4, rows).unwrap();
        let names = (0..SIDE * SIDE).map(|bin| format!("b{bin}")).collect();
        let genes = ["OWN", "AROUND", "FLAT1", "FLAT2"].map(String::from).to_vec();
        let mut data =
            AnnData::new(Values::Sparse(counts), AxisTable::from_names(names), AxisTable::from_names(genes));
        let center = |at: usize| (at * BIN) as f64 + BIN as f64 / 2.0;
        let centers = (0..SIDE * SIDE).map(|bin| SlidePx { x: center(bin % SIDE), y: center(bin / SIDE) });
        data.spatial = Some(centers.collect());
        fs::write(root.join("st").join(format!("{id}.h5ad")), data.write().unwrap()).unwrap();
        let metadata = serde_json::json!({ "pixel_size_um": 1.0, "bin_um": BIN });
        fs::write(root.join("metadata").join(format!("{id}.json")), metadata.to_string()).unwrap();
    }
}

fn config(set: &[&str]) -> RunConfig {
    let tiny = [
        "data.genes=4",
        "train.epochs=3",
        "train.batch_bins=32",
        "model.width=8",
        "model.neighbors=4",
        "model.patch_encoder.stages=1",
        "model.patch_encoder.width_multiplier=0.0625",
        "model.cross_level.heads=2",
        "model.cross_level.dropout=0",
        "model.graph.heads=2",
        "model.graph.layers=1",
        "model.depth.heads=2",
        "model.depth.dropout=0",
        "model.levels.bin={tile_um=16, patch_um=16, patch_px=8}",
        "model.levels.spot={tile_um=64, patch_um=64, patch_px=8}",
        "model.levels.region={tile_um=128, patch_um=128, patch_px=8}",
    ];
    let set: Vec<Setting> = tiny.iter().chain(set).map(|set| Setting::set(set)).collect();
    RunConfig::load(Some("demo"), None, None, &set).unwrap()
}

fn never(_: usize) -> bool {
    false
}

fn options<'a>(
    root: &Path,
    out: &str,
    config: RunConfig,
    stop: &'a dyn Fn(usize) -> bool,
) -> TrainOptions<'a> {
    TrainOptions {
        data: root.join("data"),
        train: vec!["a".into(), "b".into()],
        valid: vec!["c".into()],
        out: root.join(out),
        config,
        wide: WideSource::Shared,
        cache: None,
        resume: false,
        overwrite: false,
        half: false,
        device: Device::flex(),
        device_name: "CPU".into(),
        command_line: vec!["test".into()],
        console: Console::quiet(),
        stop,
    }
}

fn dataset() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write_dataset(&root.path().join("data"), &["a", "b", "c"]);
    root
}

#[test]
fn a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one() {
    let root = dataset();
    let set = ["train.ema_decay=0.9", "train.augmentation.stain_jitter=0.5"];
    let whole = run(&options(root.path(), "whole", config(&set), &never)).unwrap();

    // Stopped twice in the middle of an epoch, which has 8 steps or more.
    let stops = [5, 12];
    for (attempt, at) in stops.into_iter().enumerate() {
        let stop = move |steps: usize| steps == at;
        let options =
            TrainOptions { resume: attempt > 0, ..options(root.path(), "parts", config(&set), &stop) };
        let error = run(&options).unwrap_err();
        assert!(error.is::<Interrupted>(), "{error:#}");
        assert!(!root.path().join("parts").join(MODEL_FILE).exists());
    }
    let resumed = TrainOptions { resume: true, ..options(root.path(), "parts", config(&set), &never) };
    let parts = run(&resumed).unwrap();
    assert_eq!(parts.steps, whole.steps);
    assert_eq!(parts.weights_sha256, whole.weights_sha256);
    let (rows, expected) = ["parts", "whole"].map(|out| read_metrics(&root.path().join(out)).unwrap()).into();
    assert_eq!(rows.len(), 3);
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!((row.epoch, row.step), (expected.epoch, expected.step));
        // The metrics went through JSON once more, which may cost the last bit.
        assert!((row.train.total - expected.train.total).abs() < 1e-12);
        assert!((row.valid.unwrap().total - expected.valid.unwrap().total).abs() < 1e-12);
    }

    // A finished run that is resumed has nothing left to do.
    let again = run(&resumed).unwrap();
    assert_eq!((again.steps, again.weights_sha256), (whole.steps, whole.weights_sha256));

    let other = TrainOptions { config: config(&[set[0], set[1], "train.seed=3"]), ..resumed };
    let message = format!("{:#}", run(&other).unwrap_err());
    assert!(message.contains("config.toml") && message.contains("seed = 3"), "{message}");
}

#[test]
fn a_run_that_accumulates_stops_and_resumes_between_updates() {
    let root = dataset();
    let set = ["train.accumulate_steps=3", "train.epochs=2"];
    let whole = run(&options(root.path(), "whole", config(&set), &never)).unwrap();
    let apart = run(&options(root.path(), "apart", config(&["train.epochs=2"]), &never)).unwrap();
    assert_eq!(whole.steps, apart.steps);
    assert_ne!(whole.weights_sha256, apart.weights_sha256);
    // Asked for after the fourth step, the end comes with the update, after the sixth.
    let stop = |steps: usize| steps >= 4;
    let error = run(&options(root.path(), "parts", config(&set), &stop)).unwrap_err();
    assert!(format!("{error:#}").contains("6 steps are saved"), "{error:#}");
    let resumed = TrainOptions { resume: true, ..options(root.path(), "parts", config(&set), &never) };
    assert_eq!(run(&resumed).unwrap().weights_sha256, whole.weights_sha256);
}

#[test]
fn gradients_of_equal_blocks_accumulate_to_those_of_one() {
    let root = dataset();
    // Plain descent: AdamW would take the rounding of a gradient that is zero for one.
    let sgd = "train.optimizer={kind=\"sgd\", momentum=0.0, nesterov=false, weight_decay=0.0}";
    let options = options(root.path(), "run", config(&[sgd]), &never);
    let setup = setup::Setup::open(&options).unwrap();
    let device = setup::Setup::training_device(&options.device);
    let (model, rows) = trainer::initial_model(&setup, &options.config.train, &device).unwrap();
    let (slide, block) =
        batches::epoch_blocks(&setup.training, 32, setup.model.halo_hops(), 0, 0).into_iter().next().unwrap();
    let prepared = batches::PreparedBlock::read(&setup.training, slide, block, None).unwrap();
    let mut updated = [vec![1.0], vec![0.25, 0.75]].map(|shares| {
        let mut gathered = burn::optim::GradientsAccumulator::new();
        for share in shares {
            device.seed(1);
            let (gradients, _) =
                trainer::gradients(&model, share, &prepared, &setup, &rows, &device).unwrap();
            gathered.accumulate(&model, gradients);
        }
        let mut updater = optimizer::Updater::new(&options.config.train);
        let model = updater.step(0.1, model.clone(), gathered.grads());
        magnet_core::weights::Weights::of(&model).unwrap().arrays
    });
    // Running statistics follow what was seen, not what was learnt.
    updated.iter_mut().for_each(|weights| weights.retain(|name, _| !name.contains("running_")));
    let [one, two] = updated;
    for (name, array) in &one {
        for (a, b) in array.values.iter().zip(&two[name].values) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn training_learns_and_its_bundle_predicts() {
    let root = dataset();
    let set = ["train.epochs=14", "train.learning_rate=0.01", "train.early_stopping.keep=last"];
    let options = options(root.path(), "run", config(&set), &never);
    let summary = run(&options).unwrap();
    let scores = summary.valid.unwrap().bin.unwrap();
    // Two of the four genes can be known from the image; the flat ones follow from the proportions.
    assert!(scores.pcc_gene_mean > 0.5, "{scores:?}");
    assert!(scores.mse < scores.mean_predictor.as_ref().unwrap().mse, "{scores:?}");

    let bytes = fs::read(&summary.model).unwrap();
    let bundle = Bundle::from_bytes(&bytes).unwrap();
    assert_eq!(bundle.weights_sha256(), summary.weights_sha256);
    let metadata = &bundle.metadata;
    assert_eq!((metadata.panel.len(), metadata.config.genes), (4, 4));
    let slides: Vec<&str> =
        metadata.provenance.training_slides.iter().map(|slide| slide.id.as_str()).collect();
    assert_eq!(slides, ["a", "b"]);
    let held_out = metadata.held_out.as_ref().unwrap();
    assert_eq!(
        (held_out.slides.as_slice(), held_out.selected_on_validation),
        (&["c".to_string()][..], false)
    );
    let stored = &held_out.levels.bin.as_ref().unwrap().scores;
    assert!((stored.pcc_gene_mean - scores.pcc_gene_mean).abs() < 1e-12);

    // The bundle alone gives the scores of the run.
    let setup = setup::Setup::open(&options).unwrap();
    let model = bundle.model(&options.device).unwrap();
    let again =
        validate::validate(&model, &setup.validation, &setup.statistics, 1000, &options.device).unwrap();
    let again = again.scores.bin.unwrap().scores;
    assert!((again.pcc_gene_mean - scores.pcc_gene_mean).abs() < 1e-4, "{again:?}");
}

#[test]
fn a_run_stops_early_and_keeps_the_best_epoch() {
    let root = dataset();
    let set = ["train.epochs=9", "train.early_stopping.patience=2", "train.learning_rate=1e-12"];
    // Nothing is learned but the running statistics, so some early epoch stays the best.
    let summary = run(&options(root.path(), "run", config(&set), &never)).unwrap();
    let rows = read_metrics(&root.path().join("run")).unwrap();
    assert_eq!(rows.len(), summary.epochs);
    let score = |row: &EpochRow| row.valid_scores.as_ref().unwrap().bin.as_ref().unwrap().pcc_gene_mean;
    let best = rows.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(score(&rows[summary.kept_epoch - 1]), best);
    assert_eq!(summary.valid.unwrap().bin.unwrap().pcc_gene_mean, best);
    assert_eq!(summary.stopped_early, summary.epochs < 9);
    assert!(summary.epochs == 9 || summary.epochs == summary.kept_epoch + 2);
}

#[test]
fn a_plan_takes_one_step_and_writes_nothing() {
    let root = dataset();
    let plan = plan(&options(root.path(), "run", config(&[]), &never)).unwrap();
    assert!(!root.path().join("run").exists());
    assert_eq!(plan.train.len(), 2);
    assert_eq!(plan.train[0].nodes.bin, SIDE * SIDE);
    assert!(plan.steps_per_epoch >= 8 && plan.loss.is_finite() && plan.parameters > 0);
    assert!(plan.to_string().contains("nothing was written"));
    assert!(!plan.to_string().contains("updates"));
    let plan =
        super::plan(&options(root.path(), "run", config(&["train.accumulate_steps=3"]), &never)).unwrap();
    assert_eq!(plan.updates_per_epoch, plan.steps_per_epoch.div_ceil(3));
    assert!(plan.to_string().contains(&format!("which make {} updates", plan.updates_per_epoch)));
}

/// The bundle that a run makes.
fn bundle_of(options: &TrainOptions<'_>) -> Bundle {
    Bundle::from_bytes(&fs::read(run(options).unwrap().model).unwrap()).unwrap()
}

/// Settings of a run that starts from a file and hardly moves.
fn still(init: &Path, set: &[&str]) -> RunConfig {
    let init = format!("train.init='{}'", init.display());
    let rate = "train.learning_rate=1e-30";
    config(&[&["train.epochs=1", "train.ema_decay=0", rate, &init], set].concat())
}

/// The tensors that two models share bit for bit, and those that differ; running statistics move without any rate.
fn compared(a: &Bundle, b: &Bundle) -> (Vec<String>, Vec<String>) {
    let names = a.weights.arrays.keys().filter(|name| !name.contains("running")).cloned();
    names.partition(|name| a.weights.arrays.get(name) == b.weights.arrays.get(name))
}

#[test]
fn a_run_starts_from_another_models_weights() {
    let root = dataset();
    let set = ["train.epochs=1", "train.ema_decay=0"];
    let first = bundle_of(&options(root.path(), "first", config(&set), &never));
    let init = root.path().join("first/model.safetensors");

    let same = bundle_of(&options(root.path(), "same", still(&init, &[]), &never));
    assert_eq!(compared(&first, &same).1, Vec::<String>::new());
    let drawn =
        bundle_of(&options(root.path(), "drawn", config(&["train.epochs=1", "train.seed=1"]), &never));
    assert!(compared(&first, &drawn).0.len() < compared(&first, &drawn).1.len());

    // Other genes are drawn, parts that only one of both has stay as they are or are left out.
    let set = ["data.genes=3", "model.depth.enabled=false"];
    let c_alone = TrainOptions {
        train: vec!["c".into()],
        valid: vec![],
        ..options(root.path(), "genes", still(&init, &set), &never)
    };
    let other = bundle_of(&c_alone);
    let (equal, different) = compared(&other, &first);
    assert!(equal.iter().any(|name| name.starts_with("patch_encoder.")), "{equal:?}");
    assert!(equal.iter().any(|name| name.starts_with("graph_attention.")), "{equal:?}");
    assert!(
        !different.is_empty() && different.iter().all(|name| name.starts_with("gene_head.")),
        "{different:?}"
    );
    let back = root.path().join("genes/model.safetensors");
    let whole = bundle_of(&TrainOptions {
        train: vec!["c".into()],
        valid: vec![],
        ..options(root.path(), "whole", still(&back, &[]), &never)
    });
    assert!(compared(&other, &whole).0.iter().any(|name| name.starts_with("patch_encoder.")));

    // What the weights were fitted to before is known of all that came of them.
    let ids = |bundle: &Bundle| {
        let slides = bundle.metadata.provenance.training_slides.iter();
        slides.map(|slide| slide.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&same), ["a", "b"]);
    assert_eq!(ids(&whole), ["c", "a", "b"]);
}

#[test]
fn a_run_starts_from_a_pretrained_encoder() {
    let root = dataset();
    let first = bundle_of(&options(root.path(), "first", config(&["train.epochs=1"]), &never));
    // Under torchvision's names.
    let renamed = first.weights.arrays.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix("patch_encoder.resnet.")?;
        let name = [("downsample.conv", "downsample.0"), ("downsample.bn", "downsample.1")]
            .into_iter()
            .chain([("gamma", "weight"), ("beta", "bias")])
            .fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs));
        Some((name, tensor.clone()))
    });
    let init = root.path().join("resnet.safetensors");
    let entries = Weights { arrays: renamed.collect() }.to_entries("", Precision::Single);
    fs::write(&init, safetensors_bytes(&entries, "format", "pt".into()).unwrap()).unwrap();
    let other = bundle_of(&options(root.path(), "other", still(&init, &["train.seed=1"]), &never));
    let (equal, different) = compared(&first, &other);
    let is_of_resnet = |name: &&String| name.starts_with("patch_encoder.resnet.");
    assert!(equal.iter().filter(is_of_resnet).count() > 3, "{equal:?}");
    assert_eq!(different.iter().find(is_of_resnet), None);
    assert!(different.contains(&"patch_encoder.fc.weight".to_owned()), "{different:?}");
    let trained = &other.metadata.provenance.training_slides;
    assert_eq!(trained.len(), 2);
}

#[test]
fn weights_that_a_run_cannot_start_from_are_refused() {
    let root = dataset();
    run(&options(root.path(), "first", config(&["train.epochs=1"]), &never)).unwrap();
    let model = root.path().join("first/model.safetensors");
    let other = root.path().join("other.safetensors");
    let tensor = WeightTensor { shape: vec![1], values: vec![1.0] };
    let entries = Weights { arrays: [("odd".to_owned(), tensor)].into() }.to_entries("", Precision::Single);
    fs::write(&other, safetensors_bytes(&entries, "format", "pt".into()).unwrap()).unwrap();
    let text = root.path().join("weights.txt");
    fs::write(&text, "none").unwrap();
    let base = |config| options(root.path(), "run", config, &never);
    let cut = root.path().join("cut.safetensors");
    fs::write(&cut, &fs::read(&model).unwrap()[..5000]).unwrap();
    let cases = [
        (base(still(&root.path().join("none.safetensors"), &[])), vec!["none.safetensors"]),
        (base(still(&text, &[])), vec!["weights.txt", ".safetensors, .pth or .pt"]),
        (base(still(&cut, &[])), vec!["cut.safetensors", "safetensors"]),
        (base(still(&other, &[])), vec!["other.safetensors", "a model file, or a ResNet", "odd"]),
        (
            base(still(&model, &["model.width=4"])),
            vec![
                "model.safetensors",
                "of another shape",
                "cross_level_attention.region.key.bias: expected [4], found [8]",
            ],
        ),
        (base(still(&model, &["model.graph.layers=2"])), vec!["missing (", "graph_attention.bin.layers.1."]),
        (
            TrainOptions { train: vec!["c".into()], valid: vec!["a".into()], ..base(still(&model, &[])) },
            vec!["--valid", "was not trained on", "found a"],
        ),
    ];
    for (options, parts) in cases {
        let message = format!("{:#}", run(&options).map(|_| ()).unwrap_err());
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!root.path().join("run").exists(), "{message}");
    }
}

#[test]
fn wrong_input_is_refused_before_anything_is_written() {
    let root = dataset();
    let base = || options(root.path(), "run", config(&[]), &never);
    let ids = |ids: &[&str]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>();
    let genes = root.path().join("genes.txt");
    fs::write(&genes, "OWN\nNOSUCH\n").unwrap();
    let gene_file = format!("data.gene_file='{}'", genes.display());
    let cases = [
        (TrainOptions { train: vec![], ..base() }, vec!["--train", "at least one"]),
        (TrainOptions { valid: ids(&["a"]), ..base() }, vec!["--valid", "a in both"]),
        (TrainOptions { train: ids(&["a", "a"]), ..base() }, vec!["--train", "a twice"]),
        (TrainOptions { train: ids(&["bb"]), ..base() }, vec!["--train", "perhaps b", "found bb"]),
        (TrainOptions { data: root.path().join("none"), ..base() }, vec!["none"]),
        (TrainOptions { config: config(&["data.genes=5"]), ..base() }, vec!["gene panel", "5"]),
        (
            TrainOptions { config: config(&["data.gene_selection=file", &gene_file]), ..base() },
            vec!["genes.txt", "NOSUCH"],
        ),
        (
            TrainOptions { config: config(&["model.levels.bin.tile_um=8"]), ..base() },
            vec!["bin size", "8 µm", "16 µm", "--preset demo or visium-hd-small"],
        ),
        (TrainOptions { config: config(&["model.graph.heads=3"]), ..base() }, vec!["graph.heads"]),
        (
            TrainOptions { wide: WideSource::Encoder(genes.clone()), ..base() },
            vec!["genes.txt", "safetensors"],
        ),
        (
            TrainOptions { wide: WideSource::Features(root.path().join("nowhere")), ..base() },
            vec!["--features"],
        ),
    ];
    for (options, parts) in cases {
        let message = format!("{:#}", run(&options).map(|_| ()).unwrap_err());
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!root.path().join("run").exists(), "{message}");
    }
}

#[test]
fn an_existing_folder_is_not_replaced_unless_it_is_a_run_and_asked_for() {
    let root = dataset();
    let asked = Cell::new(0);
    let stop = |steps: usize| {
        asked.set(steps);
        true
    };
    run(&options(root.path(), "run", config(&[]), &stop)).unwrap_err();
    assert_eq!(asked.get(), 1);
    let message = run(&options(root.path(), "run", config(&[]), &stop)).unwrap_err().to_string();
    assert!(message.contains("--overwrite"), "{message}");
    let overwrite =
        TrainOptions { overwrite: true, ..options(root.path(), "run", config(&["train.seed=1"]), &stop) };
    assert!(run(&overwrite).unwrap_err().is::<Interrupted>());

    let other = TrainOptions { overwrite: true, ..options(root.path(), "data", config(&[]), &stop) };
    let message = run(&other).unwrap_err().to_string();
    assert!(message.contains("the folder of a run"), "{message}");
    assert!(root.path().join("data/st/a.h5ad").exists());
}

#[test]
fn features_of_files_stand_in_for_the_wide_levels() {
    use npyz::WriterBuilder;
    let root = dataset();
    let folder = root.path().join("features");
    fs::create_dir(&folder).unwrap();
    let write = |name: String, shape: &[u64], values: Vec<f64>| {
        let file = fs::File::create(folder.join(name)).unwrap();
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
    };
    for id in ["a", "b", "c"] {
        let places: Vec<f64> =
            (0..36).flat_map(|i| [f64::from(i % 6) * 32.0, f64::from(i / 6) * 32.0]).collect();
        write(format!("{id}.npy"), &[36, 3], (0..108).map(|i| f64::from(i % 7) / 7.0).collect());
        write(format!("{id}.coords.npy"), &[36, 2], places);
    }
    let config = config(&["train.epochs=1"]);
    let wide = WideSource::Features(folder.clone());
    let summary = run(&TrainOptions { wide, ..options(root.path(), "run", config.clone(), &never) }).unwrap();
    let bundle = Bundle::from_bytes(&fs::read(summary.model).unwrap()).unwrap();
    assert_eq!(bundle.metadata.wide_encoder.as_ref().map(|encoder| encoder.width), Some(3));
    assert!(bundle.frozen.is_none());

    write("b.coords.npy".into(), &[36, 2], vec![1e6; 72]);
    let wide = WideSource::Features(folder);
    let error = run(&TrainOptions { wide, ..options(root.path(), "other", config, &never) }).unwrap_err();
    assert!(format!("{error:#}").contains("b.coords.npy") || format!("{error:#}").contains("a patch within"));
}

#[test]
fn a_single_level_model_trains() {
    let root = dataset();
    let config = config(&["train.epochs=1", "model.wide_levels=false", "train.optimizer.kind=sgd"]);
    let summary = run(&options(root.path(), "run", config, &never)).unwrap();
    let scores = summary.valid.unwrap();
    assert!(scores.bin.is_some() && scores.spot.is_none() && scores.region.is_none());
}

/// Puts the slides' own log1p CP10K in place of their counts.
fn normalize(root: &Path, ids: &[&str]) {
    let dataset = Dataset::open(root).unwrap();
    for id in ids {
        let slide = dataset.slide(id).unwrap();
        let all: Vec<u32> = (0..slide.genes.len() as u32).collect();
        let values = Normalization::Log1pCp10k.labels(&slide.counts, &all).unwrap();
        let (obs, var) =
            [&slide.barcodes, &slide.genes.symbols].map(|names| AxisTable::from_names(names.clone())).into();
        let mut data = AnnData::new(Values::Dense(values), obs, var);
        data.spatial = Some(slide.centers_px);
        fs::write(root.join("st").join(format!("{id}.h5ad")), data.write().unwrap()).unwrap();
        let metadata = serde_json::json!({ "pixel_size_um": 1.0, "bin_um": BIN, "values": "normalized" });
        fs::write(root.join("metadata").join(format!("{id}.json")), metadata.to_string()).unwrap();
    }
}

#[test]
fn normalised_values_train_the_model_that_their_counts_train() {
    let root = dataset();
    let set = ["model.wide_levels=false", "train.epochs=2", "data.genes=3"];
    let of_counts = run(&options(root.path(), "counts", config(&set), &never)).unwrap();
    normalize(&root.path().join("data"), &["a"]);
    let error = run(&options(root.path(), "mixed", config(&set), &never)).unwrap_err();
    assert_eq!(exit_code(&error), exit::BAD_INPUT);
    assert!(error.to_string().contains("normalised values of a, raw counts of b"), "{error}");

    normalize(&root.path().join("data"), &["b", "c"]);
    let shallow = [set[0], set[1], set[2], "data.min_counts=1000"];
    let of_values = run(&options(root.path(), "values", config(&shallow), &never)).unwrap();
    assert_eq!(of_values.weights_sha256, of_counts.weights_sha256);
    let metadata =
        |summary: &TrainSummary| Bundle::from_bytes(&fs::read(&summary.model).unwrap()).unwrap().metadata;
    let (given, counted) = (metadata(&of_values), metadata(&of_counts));
    assert_eq!(given.panel, counted.panel);
    assert_eq!(given.gene_statistics.bin, counted.gene_statistics.bin);
    assert_eq!(given.held_out, counted.held_out);
    assert_eq!(given.normalization.values(), ValueKind::Normalized);
    assert_eq!(given.normalization.unit(), "normalised values as given");
    assert!(given.provenance.run_config.contains("normalization = \"as_given\""));

    // The run goes on with what it wrote; counts are never taken as they are.
    let resumed = TrainOptions { resume: true, ..options(root.path(), "values", config(&shallow), &never) };
    assert_eq!(run(&resumed).unwrap().weights_sha256, of_counts.weights_sha256);
    let root = dataset();
    let as_given = config(&["data.normalization=as_given"]);
    let error = run(&options(root.path(), "run", as_given, &never)).unwrap_err();
    assert!(error.to_string().contains("data.normalization: expected log1p_cp10k or"), "{error}");
}

/// EGN on the slides of [`dataset`].
fn egn() -> RunConfig {
    let mut config = config(&["train.augmentation.stain_jitter=0.5"]).with_model("egn").unwrap();
    config.model.comparator.references = 150;
    config
}

#[test]
fn a_training_bin_is_kept_from_the_rows_of_its_slide_or_where_all_are_of_one_from_its_own() {
    let root = dataset();
    let mut options = options(root.path(), "egn", egn(), &never);
    let ranges = |options: &TrainOptions<'_>| {
        let setup = setup::Setup::open(options).unwrap();
        let config = &options.config.train;
        let (model, rows) = trainer::initial_model(&setup, config, &Device::flex()).unwrap();
        let blocks = batches::epoch_blocks(&setup.training, config.batch_bins, 0, config.seed, 0);
        let mut found = Vec::new();
        for (slide, block) in blocks {
            let nodes = block.nodes.bin.clone();
            let prepared = batches::PreparedBlock::read(&setup.training, slide, block, None).unwrap();
            let own = rows.own(&prepared, &Device::flex()).to_data().iter::<i64>().collect::<Vec<_>>();
            found.extend(own.chunks(2).zip(nodes).map(|(own, node)| (slide, node, own[0], own[1])));
        }
        found.sort_unstable();
        let weights = magnet_core::weights::Weights::of(&model).unwrap();
        let labels = weights.arrays["references.labels"].values.clone();
        let measured = setup.training.iter().map(|slide| slide.labels.bin.clone()).collect::<Vec<_>>();
        (found, labels, measured)
    };

    // 150 of the 200 bins of two slides: together the two ranges are all rows.
    let (found, labels, measured) = ranges(&options);
    assert_eq!(labels.len(), 150 * 4);
    let (first, second) = (found[0], found[199]);
    assert_eq!((first.2, first.3, second.3), (0, second.2, 150));
    assert!(found.iter().all(|own| (own.2, own.3) == if own.0 == 0 { (0, first.3) } else { (first.3, 150) }));
    // Every row of a slide's range is a bin of that slide.
    for (slide, rows) in [(0, 0..first.3), (1, first.3..150)] {
        let slide: &magnet_core::expression::Matrix = &measured[slide];
        let is_here = |row: &[f32]| (0..slide.rows).any(|bin| slide.row(bin) == row);
        assert!(rows.clone().all(|row| is_here(&labels[row as usize * 4..][..4])));
    }

    // One slide of 100 bins, all of them wanted: each bin's own row holds its own labels.
    options.train.pop();
    let (found, labels, measured) = ranges(&options);
    assert_eq!(found.len(), 100);
    for (_, node, first, end) in found {
        assert_eq!(end, first + 1);
        assert_eq!(labels[first as usize * 4..][..4], *measured[0].row(node as usize));
    }
}

#[test]
fn a_model_that_reads_the_training_set_in_its_steps_resumes_as_it_would_have_gone_on() {
    let root = dataset();
    let whole = run(&options(root.path(), "whole", egn(), &never)).unwrap();
    let stop = |steps: usize| steps == 5;
    assert!(run(&options(root.path(), "parts", egn(), &stop)).unwrap_err().is::<Interrupted>());
    let resumed = TrainOptions { resume: true, ..options(root.path(), "parts", egn(), &never) };
    let resumed = run(&resumed).unwrap();
    assert_eq!(resumed.weights_sha256, whole.weights_sha256);
}
