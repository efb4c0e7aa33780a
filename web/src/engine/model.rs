//! A bundle, its model on the device, and what it is for people.

use magnet_core::bundle::BundleError;
use magnet_core::digest::sha256_hex;
use magnet_core::gene_panel::GenePanel;
use magnet_core::model::{FrozenEncoder, WideFeatures};
use magnet_core::predict::WideSource;
use magnet_core::weights::Precision;
use magnet_core::{Bundle, Level, Model, PerLevel};

use super::device::EngineDevice;
use super::error::EngineError;
use crate::protocol::{LevelSummary, ModelSummary};

/// A model that is open.
#[derive(Debug)]
pub struct OpenModel {
    /// What it is, for people.
    pub summary: ModelSummary,
    /// Configuration, genes, provenance and the weights as stored.
    pub bundle: Bundle,
    /// The model on the device.
    pub model: Model,
    /// The encoder of the wide levels, where it is not the model's own.
    frozen: Option<FrozenEncoder>,
}

impl OpenModel {
    /// Reads a bundle and puts its model on the device.
    ///
    /// # Errors
    /// If the bytes are no bundle of this version, or one of a model that needs features made elsewhere.
    pub fn read(bytes: &[u8], name: String, device: &EngineDevice) -> Result<Self, EngineError> {
        let wrong = |error: BundleError| EngineError::from(error).in_file(&name);
        let bundle = Bundle::from_bytes(bytes).map_err(wrong)?;
        if let WideFeatures::File { width } = bundle.metadata.config.wide_features {
            let encoder =
                bundle.metadata.wide_encoder.as_ref().map_or("an unnamed encoder", |encoder| &encoder.name);
            let message = format!(
                "wide features: expected a model that reads the image alone, found one that needs feature matrices of \
                 {encoder} ({width} wide)"
            );
            return Err(EngineError::input(message).in_file(&name));
        }
        let model = bundle.model(device.burn()).map_err(wrong)?.for_inference(Precision::Single);
        let frozen = bundle.frozen_encoder(device.burn()).map_err(wrong)?;
        let summary = summary(&bundle, name, bytes);
        Ok(Self { summary, bundle, model, frozen })
    }

    /// Where the wide levels' features come from.
    pub fn wide_source(&self) -> WideSource<'_> {
        self.frozen.as_ref().map_or(WideSource::Patches, WideSource::Frozen)
    }

    /// The genes, in the order of the values' columns.
    pub fn panel(&self) -> &GenePanel {
        &self.bundle.metadata.panel
    }

    /// Checks that the model predicts a level.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_level(&self, level: Level) -> Result<(), EngineError> {
        let predicted = self.model.config().predicted_levels();
        if predicted.contains(&level) {
            return Ok(());
        }
        let names: Vec<&str> = predicted.iter().map(|level| level.name()).collect();
        Err(EngineError::input(format!("level: expected one of {}, found {level}", names.join(", "))))
    }

    /// Checks that a position is one of the panel.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_gene(&self, gene: usize) -> Result<(), EngineError> {
        let genes = self.panel().len();
        if gene < genes {
            return Ok(());
        }
        Err(EngineError::input(format!("gene: expected a position below {genes}, found {gene}")))
    }
}

fn summary(bundle: &Bundle, name: String, bytes: &[u8]) -> ModelSummary {
    let metadata = &bundle.metadata;
    let levels = PerLevel::from_fn(|level| {
        let geometry = metadata.config.levels.get(level);
        let held_out = metadata.held_out.as_ref().and_then(|held_out| held_out.levels.get(level).as_ref());
        LevelSummary {
            tile_um: geometry.tile_um,
            patch_um: geometry.patch_um,
            patch_px: geometry.patch_px,
            predicted: metadata.config.predicted_levels().contains(&level),
            gene_pearson: held_out.map(|held_out| held_out.gene_pearson.clone()).unwrap_or_default(),
            pcc_gene_mean: held_out
                .map(|held_out| held_out.scores.pcc_gene_mean)
                .filter(|mean| mean.is_finite()),
        }
    });
    ModelSummary {
        name,
        sha256: sha256_hex(bytes),
        size: bytes.len(),
        code_version: metadata.code_version.clone(),
        symbols: metadata.panel.symbols.clone(),
        ids: metadata.panel.ids.clone(),
        unit: metadata.normalization.unit().to_owned(),
        levels,
        training_slides: metadata.provenance.training_slides.iter().map(|slide| slide.id.clone()).collect(),
        held_out_slides: metadata.held_out.as_ref().map(|scores| scores.slides.clone()).unwrap_or_default(),
        selected_on_validation: metadata
            .held_out
            .as_ref()
            .is_some_and(|scores| scores.selected_on_validation),
        command_line: metadata.provenance.command_line.clone(),
    }
}
