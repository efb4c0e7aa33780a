//! Arguments of `report`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::{LevelArg, name};

/// The figures and the table of the paper.
#[derive(Debug, Clone, Subcommand)]
pub enum ReportCommand {
    /// Which genes are chosen of a dataset at a resolution: means, detection, variances, and what choices share
    #[command(
        after_help = "Example:\n  magnet-native report genes --data dataset --bin-um 8,16,55 --genes 250 --out genes"
    )]
    Genes(ReportGenesArgs),
    /// Measured beside predicted maps of several models on one slide
    #[command(
        after_help = "Example:\n  magnet-native report maps --scores MagNet=scores --scores ridge=ridge-scores \
                      --genes ERBB2,KRT19 --slide C5 --out maps.png"
    )]
    Maps(ReportMapsArgs),
    /// Models, resolutions and datasets in one table of scores over the folds
    #[command(
        after_help = "Example:\n  magnet-native report table --results cv/results.json --format latex --out table.tex"
    )]
    Table(ReportTableArgs),
}

/// Arguments of `report table`.
#[derive(Debug, Clone, Args)]
pub struct ReportTableArgs {
    /// Results of a protocol over folds; once for each file
    #[arg(long, value_name = "FILE", required = true)]
    pub results: Vec<PathBuf>,
    /// How to write the table
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = TableFormat::Markdown)]
    pub format: TableFormat,
    /// Level whose scores are shown
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Bin)]
    pub level: LevelArg,
    /// Also give the numbers that the paper's authors published, in a table of their own
    #[arg(long)]
    pub paper: bool,
    /// File to write instead of printing
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For pages and editors
    Markdown,
    /// For papers, with the package booktabs
    Latex,
}

/// Arguments of `report genes`.
#[derive(Debug, Clone, Args)]
pub struct ReportGenesArgs {
    /// Prepared dataset; once for each
    #[arg(long, value_name = "DATASET", required = true)]
    pub data: Vec<PathBuf>,
    /// Bin sizes in µm: the dataset's own, or coarser ones into which its bins are brought together (default: its own)
    #[arg(long, value_name = "UM,UM", value_delimiter = ',')]
    pub bin_um: Vec<f64>,
    /// Number of genes to choose; 250 when left out, or all where fewer are common to a dataset's slides
    #[arg(long, value_name = "N")]
    pub genes: Option<usize>,
    /// Folder that receives figure and tables
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the folder if it is there
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `report maps`.
#[derive(Debug, Clone, Args)]
pub struct ReportMapsArgs {
    /// A model's name and the folder that `evaluate --out` wrote of it; once for each model
    #[arg(long, value_name = "NAME=DIR", required = true)]
    pub scores: Vec<NamedFolder>,
    /// Genes to show (default: the best, the median and the worst by the first model's Pearson)
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = name)]
    pub genes: Vec<String>,
    /// Slide to show, where the folders hold several
    #[arg(long, value_name = "ID")]
    pub slide: Option<String>,
    /// Level to show
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Bin)]
    pub level: LevelArg,
    /// Figure to write: .png, .svg or .html
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the figure if it is there
    #[arg(long)]
    pub overwrite: bool,
}

/// A folder with the name under which it is shown, as in `MagNet=scores`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFolder {
    /// The name.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
}

impl FromStr for NamedFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=').map(|(name, path)| (name.trim(), path)) {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err("expected NAME=DIR".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_has_a_name_and_a_folder() {
        let folder: NamedFolder = " MagNet =a=b".parse().unwrap();
        assert_eq!((folder.name.as_str(), folder.path.to_str()), ("MagNet", Some("a=b")));
        for wrong in ["scores", "=scores", "MagNet="] {
            assert!(wrong.parse::<NamedFolder>().is_err(), "{wrong}");
        }
    }
}
