//! The command line as a user meets it: help, usage errors, completions, broken pipes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::process::Stdio;

use magnet_tests::{command, run, run_line};

const COMMANDS: [&str; 15] = [
    "demo",
    "synthesize",
    "prepare",
    "prepare st",
    "prepare visium",
    "prepare visium-hd",
    "prepare h5ad",
    "prepare hest",
    "prepare auto",
    "train",
    "evaluate",
    "predict",
    "bench",
    "doctor",
    "completions",
];

#[test]
fn every_help_shows_an_example_and_the_output_options() {
    for name in COMMANDS {
        let help = run_line(&format!("{name} --help")).success().stdout;
        assert!(
            help.contains("Example") && help.contains(&format!("magnet-native {name}")),
            "{name}: {help}"
        );
        assert!(help.contains("--json") && help.contains("--quiet"), "{name}: {help}");
    }
    let help = run_line("--help").success().stdout;
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_known() {
    for (line, part) in [
        ("trian", "train"),
        ("train --data d --out r", "--train"),
        ("predict --model m --image i --out o --level cell", "bin, spot, region"),
        ("doctor --device tpu", "gpu:N"),
        ("doctor --quiet --verbose", "--verbose"),
    ] {
        let run = run_line(line);
        assert_eq!(run.code, Some(2), "{line}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{line}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{line}: {}", run.stdout);
    }
}

#[test]
fn a_figure_that_is_there_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("scale.svg");
    std::fs::write(&plot, "mine").unwrap();
    let bench = "bench --device cpu --only graph --scale 50 --repeats 1 --warm-up 0";
    let words: Vec<&str> = bench.split(' ').chain(["--plot", plot.to_str().unwrap()]).collect();
    let refused = run(&words);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("scale.svg") && refused.stderr.contains("--overwrite"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("measuring"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&plot).unwrap(), "mine");
    let done = run(words.iter().copied().chain(["--overwrite"])).success();
    assert!(done.stdout.contains("graph"), "{}", done.stdout);
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
}

#[test]
fn half_precision_is_refused_where_the_device_has_none() {
    let refused = run_line("bench --half --device cpu --only encode");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    for part in ["--half", "16-bit floats", "found the CPU"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("measuring"), "{}", refused.stderr);
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(["completions", shell]).success().stdout;
        for word in ["demo", "synthesize", "prepare", "train", "evaluate", "predict", "doctor"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_panic() {
    let mut child =
        command(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}
