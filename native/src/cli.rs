//! The command line, as clap sees it: definitions only. What a command does is in the module of its name.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use magnet_core::Level;

use crate::config::PRESETS;
use crate::device::DeviceRequest;

/// What every `--help` says about exit codes.
const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed · 2 wrong usage · 3 bad input (a file, a table, an image, a \
                          bundle) · 130 interrupted";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "magnet-native",
    version,
    about = "Predict gene expression at high resolution from H&E slides with MagNet",
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to talk.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// One name of a list; spaces around it mean nothing. Whether it names anything is for the command to say.
fn name(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim().to_owned())
}

/// The presets as `--help` lists them.
fn preset_names() -> PossibleValuesParser {
    PossibleValuesParser::new(PRESETS.map(|(name, what)| PossibleValue::new(name).help(what)))
}

/// How every command talks.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the result as one JSON value on stdout; everything else goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more (repeat for more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From nothing to a report: synthetic tissue, training, held-out scores, maps
    #[command(after_help = "Example:\n  magnet-native demo --out demo")]
    Demo(DemoArgs),
    /// Draw synthetic H&E slides whose expression follows a known program, in the Visium HD layout
    #[command(after_help = "Example:\n  magnet-native synthesize --out tissue --slides 4 --seed 7")]
    Synthesize(SynthesizeArgs),
    /// Turn a source of spatial counts into a prepared dataset
    #[command(subcommand, after_help = "Example:\n  magnet-native prepare st --input her2st --out dataset")]
    Prepare(PrepareCommand),
    /// Train a model on slides of a prepared dataset
    #[command(
        after_help = "Examples:\n  magnet-native train --data dataset --train C2,C3 --valid C4 --out run --preset \
                      st-small\n  magnet-native train --data dataset --train C2,C3 --valid C4 --out run \
                      --resume\n  magnet-native train --data dataset --train C2,C3 --valid C4 --out run --set \
                      train.epochs=20 --dry-run"
    )]
    Train(TrainArgs),
    /// Score a model on held-out slides
    #[command(
        after_help = "Example:\n  magnet-native evaluate --model run/model.safetensors --data dataset --slides \
                      C5 --out scores --json"
    )]
    Evaluate(EvaluateArgs),
    /// Score the training mean and a ridge regression on colour and texture statistics
    #[command(
        after_help = "Example:\n  magnet-native baseline --data dataset --train C3,C4,C5 --test C2 --genes 250 \
                      --penalty 300"
    )]
    Baseline(BaselineArgs),
    /// Map gene expression over a slide image
    #[command(
        after_help = "Examples:\n  magnet-native predict --model run/model.safetensors --image slide.tif --mpp \
                      0.5 --out maps --genes ERBB2,KRT19\n  magnet-native predict --model \
                      run/model.safetensors --image slide.jpg --mpp 0.69 --positions spots.csv --out maps"
    )]
    Predict(PredictArgs),
    /// Check adapters, memory and a forward pass against stored values
    #[command(after_help = "Example:\n  magnet-native doctor --json")]
    Doctor(DoctorArgs),
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  magnet-native completions bash > \
                      ~/.local/share/bash-completion/completions/magnet-native")]
    Completions(CompletionsArgs),
}

/// Where the computation runs.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceArgs {
    /// Where to compute: `auto` takes a real GPU or else the CPU, `gpu:N` takes adapter N of `doctor`
    #[arg(long, value_name = "auto|cpu|gpu[:N]", default_value = "auto")]
    pub device: DeviceRequest,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder that receives tissue, dataset, run and report
    #[arg(long, value_name = "DIR", default_value = "magnet-demo")]
    pub out: PathBuf,
    /// Seed of the tissue and of the training
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Replace the folder if it is there
    #[arg(long)]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `synthesize`.
#[derive(Debug, Args)]
pub struct SynthesizeArgs {
    /// Folder that receives one Space Ranger folder and one TIFF per slide
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number of slides
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub slides: usize,
    /// Side of each slide's tissue area, µm
    #[arg(long, value_name = "UM", default_value_t = 640.0)]
    pub size_um: f64,
    /// Size of an image pixel, µm
    #[arg(long, value_name = "UM_PER_PX", default_value_t = 0.5)]
    pub mpp: f64,
    /// Seed; the same seed draws the same tissue
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Replace the folder if it is there
    #[arg(long)]
    pub overwrite: bool,
}

/// Sources of spatial counts.
#[derive(Debug, Subcommand)]
pub enum PrepareCommand {
    /// Spatial Transcriptomics arrays: ID.tsv[.gz], ID_selection.tsv, ID.jpg
    #[command(after_help = "Example:\n  magnet-native prepare st --input her2st --out dataset --samples \
                      C2,C3,C4,C5")]
    St(PrepareStArgs),
    /// Space Ranger's Visium HD folder (binned_outputs) and its full-resolution image
    #[command(
        after_help = "Example:\n  magnet-native prepare visium-hd --input outs --image slide.tif --bin-um 8 \
                      --out dataset"
    )]
    VisiumHd(PrepareVisiumHdArgs),
}

/// Arguments of `prepare st`.
#[derive(Debug, Args)]
pub struct PrepareStArgs {
    /// Folder of the source files
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Folder of the prepared dataset; slides are added to one that exists
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Samples to take; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub samples: Vec<String>,
    /// Size of an image pixel, µm; derived from the array's 200 µm pitch when left out
    #[arg(long, value_name = "UM_PER_PX")]
    pub mpp: Option<f64>,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `prepare visium-hd`.
#[derive(Debug, Args)]
pub struct PrepareVisiumHdArgs {
    /// Space Ranger's `outs` folder, or the folder that `synthesize` wrote
    #[arg(long, value_name = "DIR")]
    pub input: PathBuf,
    /// Full-resolution image; the only image of the input folder when left out
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Bin size to take, µm
    #[arg(long, value_name = "UM", default_value_t = 8)]
    pub bin_um: u32,
    /// Folder of the prepared dataset; slides are added to one that exists
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Name of the slide; the input folder's name when left out
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Replace slides that the dataset already holds
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `train`.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to train on
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub train: Vec<String>,
    /// Slides to validate on; none are also trained on
    #[arg(long, value_name = "C", value_delimiter = ',', value_parser = name)]
    pub valid: Vec<String>,
    /// Folder of the run: checkpoints, metrics.jsonl, model.safetensors
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Named configuration to start from; `paper` where none is named
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    pub preset: Option<String>,
    /// Configuration file; its keys override the preset's
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long, value_name = "key=value")]
    pub set: Vec<String>,
    /// Gene panel: a number (chosen on the training slides) or a file of symbols, one per line
    #[arg(long, value_name = "N|FILE")]
    pub genes: Option<String>,
    /// Weights of a frozen encoder for the wide levels (.safetensors, .pth)
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Folder of feature matrices for the wide levels (SLIDE.LEVEL.h5 or .npy)
    #[arg(long, value_name = "DIR", conflicts_with = "encoder")]
    pub features: Option<PathBuf>,
    /// Folder that keeps the frozen encoder's features; `features` in the dataset when left out
    #[arg(long, value_name = "DIR", requires = "encoder")]
    pub cache: Option<PathBuf>,
    /// Seed of initialisation, shuffling, augmentation and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Go on from the last checkpoint of the run
    #[arg(long)]
    pub resume: bool,
    /// Check the data, take one step, print the whole configuration and what a run would cost, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Store the model's weights in half precision
    #[arg(long)]
    pub half: bool,
    /// Replace the run folder if it is there
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `evaluate`.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Model bundle
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to score
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub slides: Vec<String>,
    /// Folder that receives scores, per-gene tables and measured beside predicted values
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write report.html into the output folder
    #[arg(long, requires = "out")]
    pub report: bool,
    /// Score slides that the model was trained on, too (the result is no held-out score)
    #[arg(long)]
    pub allow_training_slides: bool,
    /// Average the predictions over the eight turns and flips of every patch
    #[arg(long)]
    pub augment: bool,
    /// Folder of feature matrices, for a model that was trained on some
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,
    /// Replace the output folder if it is there
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `baseline`.
#[derive(Debug, Clone, Args)]
pub struct BaselineArgs {
    /// Prepared dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Slides to fit on
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name, required = true)]
    pub train: Vec<String>,
    /// Slides to score
    #[arg(long, value_name = "C", value_delimiter = ',', value_parser = name, required = true)]
    pub test: Vec<String>,
    /// Number of genes of highest mean over the training slides
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub genes: usize,
    /// Ridge penalty on standardised features
    #[arg(long, value_name = "X", default_value_t = 300.0)]
    pub penalty: f64,
    /// Sides of the patches whose statistics are taken, in pixels of the slide image
    #[arg(long, value_name = "PX", value_delimiter = ',', default_values_t = [112, 224, 512])]
    pub patches_px: Vec<usize>,
}

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Model bundle
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Slide image: PNG, JPEG or TIFF
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Size of an image pixel, µm; needed unless the image says it
    #[arg(long, value_name = "UM_PER_PX", allow_negative_numbers = true)]
    pub mpp: Option<f64>,
    /// Places to predict: a CSV with the columns x,y in full-resolution pixels, or Space Ranger's tissue_positions.csv
    #[arg(long, value_name = "CSV")]
    pub positions: Option<PathBuf>,
    /// Folder that receives maps and values
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Genes to draw; the best predicted ones of the panel when left out. Values are written for all
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub genes: Vec<String>,
    /// Level to draw and to write
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Bin)]
    pub level: LevelArg,
    /// Average the predictions over the eight turns and flips of every patch
    #[arg(long)]
    pub augment: bool,
    /// Replace the output folder if it is there
    #[arg(long)]
    pub overwrite: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A level, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// The model's bins
    Bin,
    /// The spot tiles
    Spot,
    /// The region tiles
    Region,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Bin => Level::Bin,
            LevelArg::Spot => Level::Spot,
            LevelArg::Region => Level::Region,
        }
    }
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Device for the forward pass
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Shell to write for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example") && help.contains("magnet-native"), "{}", sub.get_name());
                check(sub);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn lists_are_split_at_commas() {
        let cli = Cli::try_parse_from([
            "magnet-native",
            "train",
            "--data",
            "d",
            "--train",
            "A,B",
            "--valid",
            "C",
            "--out",
            "r",
        ])
        .unwrap();
        let Command::Train(args) = cli.command else { panic!("not train") };
        assert_eq!(args.train, ["A", "B"]);
        assert_eq!(args.valid, ["C"]);
    }
}
