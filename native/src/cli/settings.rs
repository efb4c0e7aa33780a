//! Arguments that say how a model is trained, for every command that trains one.

use std::path::PathBuf;

use clap::Args;

use super::preset_names;

/// Preset, file and single settings; genes, seed, and the encoder of the wide levels.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// Named configuration to start from; `paper` where none is named
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    pub preset: Option<String>,
    /// Configuration file; its keys override the preset's
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long, value_name = "key=value")]
    pub set: Vec<String>,
    /// Gene panel: a number (chosen on the training slides, of each fold anew) or a file of symbols, one per line
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
    /// Seed of all that is drawn: folds, initialisation, shuffling, augmentation and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}
