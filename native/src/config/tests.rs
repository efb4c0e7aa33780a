use super::*;

fn load(set: &[&str]) -> anyhow::Result<RunConfig> {
    let set: Vec<Setting> = set.iter().map(|set| Setting::set(set)).collect();
    RunConfig::load(Some("st-small"), None, None, &set)
}

fn refused(set: &[&str]) -> String {
    load(set).unwrap_err().to_string()
}

#[test]
fn every_preset_is_valid_and_survives_its_own_file() {
    for (name, _) in PRESETS {
        let config = RunConfig::preset(name).unwrap();
        config.validate(name).unwrap();
        assert_eq!(config.preset, name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        let read = RunConfig::load(None, None, Some(&path), &[]).unwrap();
        assert_eq!(read.to_toml().unwrap(), config.to_toml().unwrap());
        assert_eq!(read.digest().unwrap(), config.digest().unwrap());
        assert_eq!(read.model.genes, read.data.genes);
    }
}

#[test]
fn each_small_preset_fits_the_array_that_it_is_for() {
    for (name, bin_um) in [("st-small", 100.0), ("visium-small", 55.0), ("visium-hd-small", 16.0)] {
        let levels = RunConfig::preset(name).unwrap().model.levels;
        assert_eq!(levels.bin.tile_um, bin_um, "{name}");
        // A wide tile holds more than one bin, and every patch at least its tile.
        assert!(bin_um < levels.spot.tile_um && levels.spot.tile_um < levels.region.tile_um, "{name}");
        assert!(levels.iter().all(|(_, level)| level.patch_um >= level.tile_um), "{name}");
    }
}

#[test]
fn later_layers_override_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "preset = \"demo\"\n[train]\nepochs = 3\nlearning_rate = 1\n").unwrap();
    let set = ["train.epochs=4", "data.gene_selection=most_variable"].map(Setting::set);
    let config = RunConfig::load(None, None, Some(&path), &set).unwrap();
    assert_eq!(config.preset, "demo");
    assert_eq!((config.train.epochs, config.train.learning_rate), (4, 1.0));
    assert_eq!(config.data.gene_selection, GeneSelection::MostVariable);
    let other = RunConfig::load(Some("st-small"), None, Some(&path), &set).unwrap();
    assert_eq!(other.preset, "st-small");
}

#[test]
fn a_changed_setting_changes_the_digest() {
    let base = load(&[]).unwrap();
    assert_ne!(base.digest().unwrap(), load(&["train.seed=1"]).unwrap().digest().unwrap());
}

#[test]
fn another_kind_brings_its_own_keys() {
    let config = load(&["train.optimizer.kind=sgd", "train.optimizer.momentum=0.5"]).unwrap();
    let expected = OptimizerConfig::Sgd { momentum: 0.5, nesterov: false, weight_decay: 0.0 };
    assert_eq!(config.train.optimizer, expected);
    let message = refused(&["train.optimizer.kind=sgd", "train.optimizer.beta_1=0.5"]);
    assert!(message.contains("train.optimizer.beta_1"), "{message}");
    let message = refused(&["train.optimizer.kind=adam"]);
    assert!(message.contains("one of sgd, adamw") && message.contains("found adam"), "{message}");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    for (set, nearest) in [
        ("train.epoch=3", "`train.epochs`"),
        ("train.learing_rate=3", "`train.learning_rate`"),
        ("epochs=3", "`train.epochs`"),
        ("model.graph.layer=2", "`model.graph.layers`"),
        ("model.levels.spot.patch_pixels=2", "patch_px`"),
    ] {
        let message = refused(&[set]);
        assert!(message.contains(nearest), "{message}");
        assert!(message.contains(&format!("--set {set}")), "{message}");
    }
}

#[test]
fn wrong_values_name_key_expected_and_found() {
    for (set, parts) in [
        ("train.epochs=many", ["train.epochs", "an integer", "many"]),
        ("train.epochs=1.5", ["train.epochs", "an integer", "1.5"]),
        ("train.epochs=0", ["train.epochs", "at least 1", "0"]),
        ("train.learning_rate=-1", ["train.learning_rate", "above 0", "-1"]),
        ("train.learning_rate=nan", ["train.learning_rate", "above 0", "NaN"]),
        ("train.augmentation=true", ["train.augmentation", "a table", "true"]),
        ("train.ema_decay=1", ["train.ema_decay", "below 1", "1"]),
        ("model.patch_encoder.depth=resnet19", ["depth", "resnet18", "resnet19"]),
        ("data.gene_selection=file", ["data.gene_file", "exactly when", "\"\""]),
        ("model.genes=3", ["model.genes", "data.genes", ""]),
        ("train.epochs", ["--set", "key=value", "no `=`"]),
    ] {
        let message = refused(&[set]);
        for part in parts {
            assert!(message.contains(part), "{set}: {message}");
        }
    }
}

#[test]
fn the_layer_that_set_a_value_out_of_range_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, "[train]\naccumulate_steps = 0\n").unwrap();
    let message = |file, set: &[&str]| {
        let set: Vec<Setting> = set.iter().map(|set| Setting::set(set)).collect();
        RunConfig::load(None, None, file, &set).unwrap_err().to_string()
    };
    let other = "data.genes=20";
    assert!(message(Some(path.as_path()), &[other]).contains("run.toml"));
    for set in [["train.epochs=0", other], [other, "train.epochs=0"]] {
        assert!(message(None, &set).contains("--set train.epochs=0"));
    }
    // The one key is right without the other.
    assert!(message(None, &["data.gene_file='a.txt'", other]).contains("--set data.gene_file='a.txt'"));
}

#[test]
fn a_file_that_is_not_toml_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.toml");
    std::fs::write(&path, "[train\n").unwrap();
    let message = RunConfig::load(None, None, Some(&path), &[]).unwrap_err().to_string();
    assert!(message.contains("broken.toml") && message.contains("TOML"), "{message}");
    let missing = RunConfig::load(None, None, Some(&folder.path().join("none.toml")), &[]).unwrap_err();
    assert!(missing.to_string().contains("none.toml"));
}
