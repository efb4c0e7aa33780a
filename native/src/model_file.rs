//! A bundle on disk, ready to predict.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use magnet_core::bundle::BundleError;
use magnet_core::digest::sha256_hex;
use magnet_core::expression::Matrix;
use magnet_core::model::{FrozenEncoder, WideFeatures};
use magnet_core::predict::WideSource;
use magnet_core::weights::Precision;
use magnet_core::{Bundle, Level, Model};

use crate::error::InputError;
use crate::files::read_limited;

/// The program's name and version, as they stand in what it writes.
pub const PROGRAM: &str = concat!("magnet-native ", env!("CARGO_PKG_VERSION"));

/// The command line, as it stands in a bundle. The program goes by its name: where it lay on this machine is nobody's
/// business.
pub fn command_line() -> Vec<String> {
    std::iter::once("magnet-native".to_owned()).chain(std::env::args().skip(1)).collect()
}

/// Largest bundle that is read, in bytes; the paper's model has 0.4 GB.
pub const MAX_BYTES: u64 = 8 << 30;

/// A bundle with its model on a device.
#[derive(Debug)]
pub struct ModelFile {
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Everything but the weights on the device.
    pub bundle: Bundle,
    /// The model.
    pub model: Model,
    /// The frozen encoder of the wide levels, where the model has one.
    pub frozen: Option<FrozenEncoder>,
}

impl ModelFile {
    /// Reads a bundle and puts its model on `device`, where its patch encoder calculates with `precision`; see
    /// [`Model::for_inference`].
    ///
    /// # Errors
    /// If the file is missing, damaged, or no bundle of this version.
    pub fn load(path: &Path, device: &Device, precision: Precision) -> anyhow::Result<Self> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let wrong = |error: BundleError| InputError::in_file(path, "bundle", "a MagNet model bundle", error);
        let bundle = Bundle::from_bytes(&bytes).map_err(wrong)?;
        let model = bundle.model(device).map_err(wrong)?.for_inference(precision);
        let frozen = bundle.frozen_encoder(device).map_err(wrong)?;
        Ok(Self { path: path.to_path_buf(), sha256: sha256_hex(&bytes), bundle, model, frozen })
    }

    /// Where the wide levels' features come from, given those of a file where the model was trained on some.
    ///
    /// # Errors
    /// If the model was trained on features of a file and none are given.
    pub fn wide_source<'a>(
        &'a self,
        features: Option<(&'a Matrix, &'a Matrix)>,
    ) -> anyhow::Result<WideSource<'a>> {
        if let Some((spot, region)) = features {
            return Ok(WideSource::Features { spot, region });
        }
        match (&self.model.config().wide_features, &self.frozen) {
            (WideFeatures::Frozen { .. }, Some(encoder)) => Ok(WideSource::Frozen(encoder)),
            (WideFeatures::File { width }, _) => {
                let encoder = self.bundle.metadata.wide_encoder.as_ref();
                let name = encoder.map_or("an unnamed encoder", |encoder| encoder.name.as_str());
                Err(InputError::in_file(
                    &self.path,
                    "wide features",
                    format!("feature matrices of {name} ({width} wide) for the tiles of this slide, as --features DIR"),
                    "none",
                )
                .into())
            }
            _ => Ok(WideSource::Patches),
        }
    }

    /// The level, if the model predicts it.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_level(&self, level: Level) -> Result<(), InputError> {
        let predicted = self.model.config().predicted_levels();
        if predicted.contains(&level) {
            return Ok(());
        }
        let names = predicted.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ");
        Err(InputError::in_flag(
            "--level",
            level,
            format!("a level that the model predicts ({names})"),
            level,
        ))
    }

    /// Positions in the panel of the genes with these names.
    ///
    /// # Errors
    /// For the first name that is not there, with the nearest ones that are.
    pub fn genes(&self, names: &[String]) -> Result<Vec<usize>, InputError> {
        names.iter().map(|name| self.gene(name)).collect()
    }

    fn gene(&self, name: &str) -> Result<usize, InputError> {
        let panel = &self.bundle.metadata.panel;
        let same = |other: &String| other.eq_ignore_ascii_case(name);
        let exact = panel.position(name);
        if let Some(position) = exact.or_else(|| panel.symbols.iter().position(same)) {
            return Ok(position);
        }
        let mut near: Vec<_> = panel
            .symbols
            .iter()
            .map(|symbol| (strsim::jaro_winkler(&symbol.to_lowercase(), &name.to_lowercase()), symbol))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let near = near.iter().take(5).map(|(_, symbol)| symbol.as_str()).collect::<Vec<_>>().join(", ");
        let expected =
            format!("one of the {} genes of {} (nearest: {near})", panel.symbols.len(), self.path.display());
        Err(InputError::in_flag("--genes", "gene", expected, format!("{name:?}")))
    }

    /// The genes that were predicted best at a level on held-out slides; without such scores those that vary most.
    pub fn best_genes(&self, level: Level, count: usize) -> Vec<usize> {
        let metadata = &self.bundle.metadata;
        let held_out = metadata.held_out.as_ref().and_then(|held_out| held_out.levels.get(level).as_ref());
        let keys: Vec<f32> = match held_out {
            Some(scores) => scores.gene_pearson.iter().map(|score| score.unwrap_or(-2.0)).collect(),
            None => metadata.gene_statistics.get(level).sd.clone(),
        };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        let key = |gene: &usize| keys.get(*gene).copied().unwrap_or(f32::NEG_INFINITY);
        order.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.cmp(b)));
        order.truncate(count);
        order
    }
}
