//! Arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DeviceArgs, SettingsArgs};

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure; all when left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_enum)]
    pub only: Vec<BenchKind>,
    /// Patches of `encode` (64) and of `patches` (2000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub patches: Option<u32>,
    /// Side of their patches in pixels; the bins' own when left out
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub patch_px: Option<u32>,
    /// Bins of `forward` (a block of 1024), `train-step` (64), `graph` (100000) and `slide` (4096)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub bins: Option<u32>,
    /// Timed repetitions of each; their median is reported [default: 5; 3 with --scale]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: Option<u32>,
    /// Repetitions before those, not timed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub warm_up: u32,
    /// Instead: time and peak memory of graph, forward and slide (or of what --only names of them) at these numbers of
    /// bins, a process for each; by the preset demo where none is named
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=10_000_000),
        conflicts_with_all = ["bins", "patches", "patch_px"]
    )]
    pub scale: Vec<u32>,
    /// Figure of `--scale` to write: .png, .svg or .html
    #[arg(long, value_name = "FILE", requires = "scale", conflicts_with_all = ["bins", "patches", "patch_px"])]
    pub plot: Option<PathBuf>,
    /// Replace the figure if it is there
    #[arg(long, requires = "plot")]
    pub overwrite: bool,
    /// The model
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Measure `encode` and `slide` as `predict --half` does, on an adapter that has 16-bit floats
    #[arg(long, conflicts_with = "scale")]
    pub half: bool,
    /// Where to compute
    #[command(flatten)]
    pub device: DeviceArgs,
    /// The folder in which a process of `--scale` finds what it measures
    #[arg(long, hide = true, value_name = "DIR", requires_all = ["bins", "only"])]
    pub scale_part: Option<PathBuf>,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    /// The patch encoder
    Encode,
    /// All after the encoder: cross-level attention, graph, depth transformer and gene heads of a block
    Forward,
    /// One step of training
    TrainStep,
    /// The tiles and neighbour tables of a slide
    Graph,
    /// Patches from a slide on disk
    Patches,
    /// A whole slide, from the file to its predictions; by the preset demo where none is named
    Slide,
}

impl BenchKind {
    /// Everything, in the order in which it is measured.
    pub const ALL: [BenchKind; 6] = [
        BenchKind::Encode,
        BenchKind::Forward,
        BenchKind::TrainStep,
        BenchKind::Graph,
        BenchKind::Patches,
        BenchKind::Slide,
    ];

    /// The name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            BenchKind::Encode => "encode",
            BenchKind::Forward => "forward",
            BenchKind::TrainStep => "train-step",
            BenchKind::Graph => "graph",
            BenchKind::Patches => "patches",
            BenchKind::Slide => "slide",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(words: &[&str]) -> Result<BenchArgs, clap::Error> {
        let words = ["magnet-native", "bench"].iter().chain(words);
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn names_on_the_command_line_are_those_of_the_tables() {
        for kind in BenchKind::ALL {
            assert_eq!(parsed(&["--only", kind.name()]).unwrap().only, [kind]);
        }
        assert_eq!(BenchKind::ALL.len(), BenchKind::value_variants().len());
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let error = parsed(&["--only", "encode,grap"]).unwrap_err().to_string();
        assert!(error.contains("'graph'") && error.contains("grap"), "{error}");
        assert!(parsed(&["--preset", "papr"]).unwrap_err().to_string().contains("'paper'"));
    }

    #[test]
    fn sizes_that_measure_nothing_are_refused() {
        for words in [
            ["--repeats", "0"],
            ["--bins", "0"],
            ["--patches", "0"],
            ["--patch-px", "0"],
            ["--scale", "0"],
            ["--plot", "a.svg"],
        ] {
            assert!(parsed(&words).is_err(), "{words:?}");
        }
        assert!(parsed(&["--scale", "100", "--bins", "5"]).is_err());
        assert!(parsed(&["--plot", "a.svg", "--bins", "5"]).is_err());
    }
}
