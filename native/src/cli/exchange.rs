//! Arguments of `import` and `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// State dict saved by PyTorch (.pth, .pt) or .safetensors: of the model, or of a torchvision ResNet for its patch
    /// encoder
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Model that the weights are of: `published` (the released code), `default` (Figure 2), or a preset of `train`
    #[arg(long, value_name = "NAME")]
    pub preset: String,
    /// Genes in the order of the model's outputs, one symbol per line; an id may stand before it, parted by a tab
    #[arg(long, value_name = "FILE")]
    pub genes: PathBuf,
    /// Model file to write
    #[arg(long, value_name = "BUNDLE")]
    pub out: PathBuf,
    /// Configuration file; its keys override the preset's
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long, value_name = "key=value")]
    pub set: Vec<String>,
    /// Store the model's weights in half precision
    #[arg(long)]
    pub half: bool,
    /// Replace the model file if it is there
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Model file
    #[arg(long, value_name = "BUNDLE")]
    pub model: PathBuf,
    /// For which program
    #[arg(long, value_enum)]
    pub to: ExportFormat,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub overwrite: bool,
}

/// For which program a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Safetensors with PyTorch's tensor names and layouts, for `load_state_dict(safetensors.torch.load_file(FILE))`
    Pytorch,
}
