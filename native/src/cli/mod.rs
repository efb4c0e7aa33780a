//! The command line, as clap sees it: definitions only. What a command does is in the module of its name.

mod bench;
mod evaluate;
mod exchange;
mod predict;
mod prepare;
mod protocol;
mod report;
mod settings;
mod train;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand};

use crate::config::{MODELS, PRESETS};
use crate::device::DeviceRequest;

pub use bench::{BenchArgs, BenchKind};
pub use evaluate::EvaluateArgs;
pub use exchange::{ExportArgs, ExportFormat, ImportArgs};
pub use predict::{LevelArg, PredictArgs, PredictFormat, PxRegion};
pub use prepare::{
    DatasetArgs, FrameArg, PrepareAutoArgs, PrepareCommand, PrepareH5adArgs, PrepareHestArgs, PrepareStArgs,
    PrepareVisiumArgs, PrepareVisiumHdArgs,
};
pub use protocol::{AblateArgs, CrossValidateArgs, ProtocolArgs};
pub use report::{NamedFolder, ReportCommand, ReportGenesArgs, ReportMapsArgs, ReportTableArgs, TableFormat};
pub use settings::SettingsArgs;
pub use train::TrainArgs;

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

/// Width and height, as in `100000x80000`.
fn size_px(text: &str) -> Result<(u32, u32), String> {
    let sides =
        text.split_once(['x', 'X']).map(|(width, height)| (width.trim().parse(), height.trim().parse()));
    match sides {
        Some((Ok(width), Ok(height))) => Ok((width, height)),
        _ => Err("expected WIDTHxHEIGHT in pixels".into()),
    }
}

/// The presets as `--help` lists them.
fn preset_names() -> PossibleValuesParser {
    PossibleValuesParser::new(PRESETS.map(|(name, what)| PossibleValue::new(name).help(what)))
}

/// The models as `--help` lists them.
fn model_names() -> PossibleValuesParser {
    PossibleValuesParser::new(MODELS.map(|(name, what)| PossibleValue::new(name).help(what)))
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
    /// Compare models over folds of slides or patients, at one or several resolutions
    #[command(
        after_help = "Examples:\n  magnet-native cross-validate --data dataset --folds 4 --group patient --preset \
                      st-small --out cv\n  magnet-native cross-validate --data dataset --folds 4 --bin-um 8,16,55 \
                      --models magnet,published,stnet,ridge --out cv\n  magnet-native cross-validate --data dataset \
                      --folds 4 --preset st-small --out cv --resume"
    )]
    CrossValidate(CrossValidateArgs),
    /// Compare MagNet with itself without its parts, over folds
    #[command(
        after_help = "Example:\n  magnet-native ablate --data dataset --folds 4 --preset st-small --variants \
                      full,no-graph --out ablations"
    )]
    Ablate(AblateArgs),
    /// Map gene expression over a slide image
    #[command(
        after_help = "Examples:\n  magnet-native predict --model run/model.safetensors --image slide.tif --mpp \
                      0.5 --out maps --genes ERBB2,KRT19\n  magnet-native predict --model \
                      run/model.safetensors --image slide.jpg --mpp 0.69 --positions spots.csv --out maps\n  magnet-native \
                      predict --model run/model.safetensors --image slide.svs --out maps --resume"
    )]
    Predict(PredictArgs),
    /// Draw the paper's figures and table from results
    #[command(
        subcommand,
        after_help = "Example:\n  magnet-native report maps --scores MagNet=scores --out maps.png"
    )]
    Report(ReportCommand),
    /// Make a model file from weights that PyTorch saved
    #[command(
        after_help = "Examples:\n  magnet-native import --from released.pth --preset published --genes genes.txt \
                      --out model.safetensors\n  magnet-native import --from resnet50.pth --preset default --genes \
                      genes.txt --out start.safetensors"
    )]
    Import(ImportArgs),
    /// Write a model's weights for another program
    #[command(
        after_help = "Example:\n  magnet-native export --model run/model.safetensors --to pytorch --out \
                            state_dict.safetensors"
    )]
    Export(ExportArgs),
    /// Measure how fast this machine is, beside how fast it could be at best
    #[command(
        after_help = "Examples:\n  magnet-native bench --device cpu\n  magnet-native bench --only encode,forward --json\n  \
                      magnet-native bench --scale 10000,100000,660000 --plot scale.svg"
    )]
    Bench(BenchArgs),
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
    /// Only one image of a scanner's size instead, to measure what whole slides cost: a pyramid of this width and height
    /// in pixels, whose tissue repeats over an area of `--size-um` squared
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size_px, conflicts_with = "slides")]
    pub whole_slide: Option<(u32, u32)>,
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
