//! The demo: synthetic tissue to report in minutes.
//!
//! It is a list of command lines. Each is printed, parsed as if it had been typed, and run by the same function that the
//! command itself runs, so whatever the demo does can be repeated by hand, and nothing of it is special.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;

use crate::cli::{Cli, Command, DemoArgs};
use crate::console::Console;
use crate::synthetic::{GroupRecovery, recovery};

/// Slides to train on.
const TRAINING: [&str; 4] = ["synthetic_1", "synthetic_2", "synthetic_3", "synthetic_4"];
/// The slide that chooses the epoch.
const VALIDATION: &str = "synthetic_5";
/// The slide that the model never sees before it is scored.
const HELD_OUT: &str = "synthetic_6";
/// Side of a slide, µm.
const SIDE_UM: &str = "832";
/// Size of an image pixel, µm.
const UM_PER_PX: &str = "0.5";
/// Size of the bins that are predicted, µm.
const BIN_UM: f64 = 16.0;

/// Runs the demo.
///
/// # Errors
/// As the commands that it runs.
pub fn run(args: &DemoArgs, console: &Console, run_command: RunCommand) -> Result<()> {
    let began = Instant::now();
    let nested = console.nested();
    for step in steps(args) {
        console.say(format_args!("\n{}\n  $ magnet-native {}", step.what, step.line()));
        let words = std::iter::once(OsString::from("magnet-native")).chain(step.words.iter().cloned());
        let cli = Cli::try_parse_from(words).with_context(|| format!("cannot run: {}", step.line()))?;
        run_command(&cli.command, &nested)?;
    }
    let groups = recovered(&args.out)?;
    let seconds = began.elapsed().as_secs_f64();
    let text = closing_words(&args.out, &groups, seconds);
    let scores: serde_json::Value = {
        let path = args.out.join("scores").join("scores.json");
        let file = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&file).with_context(|| format!("cannot read {}", path.display()))?
    };
    let value = json!({
        "report": args.out.join("scores").join("report.html"),
        "model": args.out.join("run").join("model.safetensors"),
        "maps": args.out.join("maps"),
        "scores": scores,
        "recovery": groups,
        "seconds": seconds,
    });
    console.result(&text, &value)?;
    Ok(())
}

/// What runs one command: the function that the program itself calls.
pub type RunCommand = fn(&Command, &Console) -> Result<()>;

/// One command line of the demo.
struct Step {
    what: &'static str,
    words: Vec<OsString>,
}

impl Step {
    fn new(what: &'static str, words: &[&str]) -> Self {
        Self { what, words: words.iter().map(OsString::from).collect() }
    }

    /// Adds a flag whose value is a path below the demo's folder.
    fn path(mut self, flag: &str, base: &Path, parts: &[&str]) -> Self {
        self.words.push(flag.into());
        self.words.push(parts.iter().fold(base.to_path_buf(), |path, part| path.join(part)).into());
        self
    }

    fn flags(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(OsString::from));
        self
    }

    /// The words as a shell would read them.
    fn line(&self) -> String {
        let quoted = |word: &OsString| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+".contains(c);
            match !word.is_empty() && word.chars().all(plain) {
                true => word.into_owned(),
                false => format!("'{}'", word.replace('\'', r"'\''")),
            }
        };
        self.words.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

fn steps(args: &DemoArgs) -> Vec<Step> {
    let out = &args.out;
    let seed = args.seed.to_string();
    let device = args.device.device.to_string();
    let slides = TRAINING.into_iter().chain([VALIDATION, HELD_OUT]);
    let count = slides.clone().count().to_string();
    let bin_um = BIN_UM.to_string();
    let train = TRAINING.join(",");
    let mut steps = vec![
        Step::new("Draw tissue whose expression follows a known program", &["synthesize"])
            .path("--out", out, &["tissue"])
            .flags(&["--slides", &count, "--size-um", SIDE_UM, "--mpp", UM_PER_PX, "--seed", &seed]),
    ];
    for slide in slides {
        steps.push(
            Step::new("Prepare a slide", &["prepare", "visium-hd"])
                .path("--input", out, &["tissue", slide])
                .flags(&["--bin-um", &bin_um])
                .path("--out", out, &["dataset"]),
        );
    }
    steps.push(
        Step::new("Train on four slides; a fifth one chooses the epoch", &["train", "--preset", "demo"])
            .path("--data", out, &["dataset"])
            .flags(&["--train", &train, "--valid", VALIDATION, "--seed", &seed, "--device", &device])
            .path("--out", out, &["run"]),
    );
    steps.push(
        Step::new("Score the model on the slide that it has never seen", &["evaluate"])
            .path("--model", out, &["run", "model.safetensors"])
            .path("--data", out, &["dataset"])
            .flags(&["--slides", HELD_OUT, "--report", "--device", &device])
            .path("--out", out, &["scores"]),
    );
    steps.push(
        Step::new("Map genes over that slide's image alone", &["predict"])
            .path("--model", out, &["run", "model.safetensors"])
            .path("--image", out, &["tissue", HELD_OUT, &format!("{HELD_OUT}.tif")])
            .flags(&["--mpp", UM_PER_PX, "--device", &device])
            .path("--out", out, &["maps"]),
    );
    if args.overwrite {
        steps = steps.into_iter().map(|step| step.flags(&["--overwrite"])).collect();
    }
    steps
}

/// Pearson of each gene at the bin level, as `evaluate` wrote it, beside what the program allows.
fn recovered(out: &Path) -> Result<Vec<GroupRecovery>> {
    let path = out.join("scores").join("genes.csv");
    let cannot = || format!("cannot read {}", path.display());
    let mut table = csv::Reader::from_path(&path).with_context(cannot)?;
    let mut scores = HashMap::new();
    for row in table.deserialize() {
        let row: HashMap<String, String> = row.with_context(cannot)?;
        let cell = |name: &str| row.get(name).map(String::as_str).unwrap_or_default();
        // A correlation that is not defined is an empty cell.
        if let ("bin", Ok(pcc)) = (cell("level"), cell("pcc").parse::<f64>()) {
            scores.insert(cell("gene").to_owned(), pcc);
        }
    }
    recovery(&out.join("tissue"), HELD_OUT, BIN_UM, &scores)
}

fn closing_words(out: &Path, groups: &[GroupRecovery], seconds: f64) -> String {
    let mut text = format!(
        "\nWhat the model recovered of the program on {HELD_OUT} (Pearson per gene over {BIN_UM} µm bins)\n\n  \
         {:<34} {:>5} {:>7} {:>8}\n",
        "genes that follow", "genes", "MagNet", "ceiling"
    );
    for group in groups {
        text += &format!(
            "  {:<34} {:>5} {:>7.2} {:>8.2}\n",
            group.group.describe(),
            group.genes,
            // Adding 0 turns −0 into 0.
            (group.model * 100.0).round() / 100.0 + 0.0,
            (group.ceiling * 100.0).round() / 100.0 + 0.0
        );
    }
    let at = |parts: &[&str]| {
        parts.iter().fold(out.to_path_buf(), |path, part| path.join(part)).display().to_string()
    };
    text += &format!(
        "\nThe ceiling is what the truth without counting noise would score. Genes that follow nothing can score a little \
         above it: a bin's values are shares of its total, and the total follows the tissue.\nDone in {seconds:.0} \
         s.\n\n\
         Look at\n  {:<44} scores, curves, measured beside predicted maps\n  {:<44} maps and values of {HELD_OUT}\n\n\
         Next, on your own slides (this model knows synthetic tissue only)\n  \
         magnet-native prepare visium-hd --input OUTS --image YOUR.tif --bin-um 16 --out dataset\n  \
         magnet-native train --data dataset --train A,B --valid C --out run\n  magnet-native predict --model \
         run/model.safetensors --image YOUR.tif --mpp 0.5 --out maps\n",
        at(&["scores", "report.html"]),
        at(&["maps"]),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> DemoArgs {
        match Cli::try_parse_from(["magnet-native", "demo", "--out", "a demo", "--overwrite"])
            .unwrap()
            .command
        {
            Command::Demo(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_step_is_a_command_line_that_the_program_accepts() {
        for step in steps(&args()) {
            let words = std::iter::once(OsString::from("magnet-native")).chain(step.words.clone());
            Cli::try_parse_from(words).unwrap();
            assert!(step.line().contains("'a demo/"), "{}", step.line());
            assert!(step.line().ends_with("--overwrite"), "{}", step.line());
        }
    }

    #[test]
    fn the_scored_slide_is_neither_trained_on_nor_chosen_by() {
        let steps = steps(&args());
        let of = |name: &str| steps.iter().find(|step| step.words[0] == name).unwrap().line();
        assert!(!of("train").contains(HELD_OUT));
        assert!(of("evaluate").contains(HELD_OUT));
    }
}
