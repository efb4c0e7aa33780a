//! Whole runs at sizes that take no time.

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::cli::{Cli, Command};

fn args(words: &[&str]) -> BenchArgs {
    let words = ["magnet-native", "bench", "--device", "cpu"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Bench(args) => args,
        other => panic!("{other:?}"),
    }
}

/// A model that takes no time.
const TINY: [&str; 14] = [
    "--preset",
    "demo",
    "--genes",
    "6",
    "--set",
    "model.width=8",
    "--set",
    "model.patch_encoder.width_multiplier=0.0625",
    "--set",
    "model.levels.bin.patch_px=8",
    "--set",
    "model.levels.spot.patch_px=8",
    "--set",
    "model.levels.region.patch_px=8",
];

#[test]
fn every_kind_is_measured_and_every_field_is_there() {
    let words = [&TINY[..], &["--repeats", "2", "--warm-up", "0"]].concat();
    let words = [&words[..], &["--bins", "12", "--patches", "3", "--patch-px", "8"]].concat();
    let args = args(&words);
    let (config, small) = (config_of(&args).unwrap(), small_config_of(&args).unwrap());
    assert_eq!(config, small);
    let _one_at_a_time = train::exclusive();
    let chosen = device::choose(args.device.device, &Console::quiet()).unwrap();
    let repeats = Repeats { warm_up: 0, repeats: 2 };
    let bench = Bench { args: &args, config, small, chosen: &chosen, repeats, precision: Precision::Single };
    let floor = floor::Floor { matrix_gflops: 1.0, bandwidth_gbytes: 1.0 };
    let mut report = Report::new(&chosen, Precision::Single, floor);
    for kind in BenchKind::ALL {
        report.measurements.push(bench.measure(kind).unwrap().beside(&floor));
    }
    let text = report.to_string();
    let value = serde_json::to_value(&report).unwrap();
    for field in ["version", "device", "precision", "threads", "matrix_gflops", "bandwidth_gbytes"] {
        assert!(!value[field].is_null(), "{field}");
    }
    let measurements = value["measurements"].as_array().unwrap();
    assert_eq!(measurements.len(), BenchKind::ALL.len());
    for (kind, measured) in BenchKind::ALL.into_iter().zip(measurements) {
        assert_eq!(measured["name"], kind.name());
        assert!(text.contains(kind.name()), "{text}");
        assert_eq!(measured["seconds"].as_array().map(Vec::len), Some(2));
        assert_eq!(measured["repeats"], 2);
        for field in ["seconds_median", "rate", "bytes", "floor_seconds", "share_of_floor"] {
            assert!(
                measured[field].as_f64().is_some_and(|value| value > 0.0),
                "{kind:?} {field}: {measured}"
            );
        }
        let computes = !matches!(kind, BenchKind::Graph | BenchKind::Patches);
        assert_eq!(measured["operations"].as_u64().is_some_and(|count| count > 0), computes, "{kind:?}");
        assert!(["matrix", "memory"].map(Value::from).contains(&measured["floor_bound"]));
        assert!(measured["unit"].as_str().is_some_and(|unit| unit.ends_with("/s")));
    }
    let of = |kind: BenchKind| &measurements[BenchKind::ALL.iter().position(|other| *other == kind).unwrap()];
    assert_eq!(of(BenchKind::Encode)["shape"]["patches"], 3);
    assert_eq!(of(BenchKind::Slide)["shape"]["bins"], 12);
    assert_eq!(of(BenchKind::TrainStep)["shape"]["core_bins"], 12);
    assert!(
        of(BenchKind::Forward)["shape"]["bins"].as_u64()
            > of(BenchKind::Forward)["shape"]["core_bins"].as_u64()
    );
}

#[test]
fn the_model_is_the_papers_and_for_slides_the_small_one_unless_one_is_named() {
    let none = args(&[]);
    assert_eq!(config_of(&none).unwrap().preset, "paper");
    assert_eq!(small_config_of(&none).unwrap().preset, SMALL);
    let named = args(&["--preset", "st-small"]);
    assert_eq!(small_config_of(&named).unwrap(), config_of(&named).unwrap());
    // Of a preset for a frozen encoder the own one is measured.
    assert!(config_of(&args(&["--preset", "st-frozen"])).is_ok());
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    for (words, part) in [
        (["--encoder", "e.pth"], "--encoder"),
        (["--genes", "genes.txt"], "--genes"),
        (["--set", "model.architecture=stnet"], "stnet"),
        (["--set", "model.widht=8"], "model.width"),
    ] {
        let error = config_of(&args(&words)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
