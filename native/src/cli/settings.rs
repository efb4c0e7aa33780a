//! Arguments that say how a model is trained, for every command that trains one.

use std::path::{Path, PathBuf};

use clap::Args;

use super::preset_names;
use crate::config::Setting;
use crate::error::InputError;

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

impl SettingsArgs {
    /// The keys that are set here one by one; those of flags of their own come last.
    ///
    /// # Errors
    /// A gene panel that is neither a number nor a file.
    pub fn keys(&self) -> Result<Vec<Setting>, InputError> {
        let mut keys: Vec<Setting> = self.set.iter().map(|set| Setting::set(set)).collect();
        keys.extend(self.seed.map(|seed| Setting::flag("--seed", seed, format!("train.seed={seed}"))));
        if let Some(genes) = &self.genes {
            let key = |assignment| Setting::flag("--genes", genes, assignment);
            match genes.parse::<usize>() {
                Ok(count) => keys.push(key(format!("data.genes={count}"))),
                Err(_) if Path::new(genes).is_file() => {
                    keys.push(key("data.gene_selection=file".into()));
                    keys.push(key(format!("data.gene_file={}", toml::Value::from(genes.as_str()))));
                }
                Err(_) => {
                    let expected = "a number or an existing file";
                    return Err(InputError::in_flag("--genes", "gene panel", expected, genes));
                }
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    #[test]
    fn a_panel_file_of_any_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["genes.txt", "it's.txt", "a \"b\" = c.txt", "tab\t#.txt"] {
            let path = folder.path().join(name).display().to_string();
            std::fs::write(&path, "EPCAM\n").unwrap();
            let settings = SettingsArgs { genes: Some(path.clone()), ..SettingsArgs::default() };
            let config = RunConfig::load(None, None, None, &settings.keys().unwrap()).unwrap();
            assert_eq!(config.data.gene_file, path);
        }
    }

    #[test]
    fn errors_name_the_flag_that_set_the_key() {
        let message = |settings: SettingsArgs| {
            settings
                .keys()
                .map_err(anyhow::Error::from)
                .and_then(|keys| RunConfig::load(None, None, None, &keys))
                .unwrap_err()
                .to_string()
        };
        let genes = |genes: &str| SettingsArgs { genes: Some(genes.into()), ..SettingsArgs::default() };
        assert!(message(genes("0")).starts_with("--genes 0: data.genes: "));
        assert!(message(genes("none.txt")).starts_with("--genes: gene panel: "));
        let seed = SettingsArgs { seed: Some(u64::MAX), ..SettingsArgs::default() };
        assert!(message(seed).starts_with(&format!("--seed {}: train.seed: ", u64::MAX)));
    }
}
