//! A model with random weights, brought to the device on the way on which a prediction brings one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use magnet_core::bundle::{BundleMetadata, Provenance};
use magnet_core::expression::GeneStatistics;
use magnet_core::weights::{Precision, Weights};
use magnet_core::{Bundle, GenePanel, PerLevel};

use crate::config::RunConfig;
use crate::device;
use crate::files::{Overwrite, write_atomic};
use crate::model_file::ModelFile;
use crate::train::drawn_model;

/// Name of the file.
const FILE: &str = "model.safetensors";

/// Writes a model file with weights that follow from the seed.
///
/// # Errors
/// If the model cannot be built or the file cannot be written.
pub(super) fn write(config: &RunConfig, folder: &Path) -> Result<PathBuf> {
    let genes = config.model.genes;
    let model = drawn_model(&config.model, config.train.seed, &device::processor())?;
    let names = |prefix: &str| (0..genes).map(|gene| format!("{prefix}{gene}")).collect::<Vec<_>>();
    let statistics = GeneStatistics { mean: vec![0.0; genes], sd: vec![1.0; genes] };
    let bundle = Bundle {
        metadata: BundleMetadata {
            code_version: env!("CARGO_PKG_VERSION").into(),
            config: config.model.clone(),
            panel: GenePanel::new(names("ID"), names("GENE"))?,
            normalization: config.data.normalization,
            gene_statistics: PerLevel::from_fn(|_| statistics.clone()),
            held_out: None,
            wide_encoder: None,
            provenance: Provenance { seed: config.train.seed, ..Provenance::default() },
        },
        weights: Weights::of(&model)?,
        frozen: None,
    };
    let path = folder.join(FILE);
    write_atomic(&path, &bundle.to_bytes(Precision::Single)?, Overwrite::Yes)?;
    Ok(path)
}

/// Opens what [`write`] left in a folder, as `predict` does.
///
/// # Errors
/// If it cannot be read.
pub(super) fn open(folder: &Path, device: &Device, precision: Precision) -> Result<ModelFile> {
    ModelFile::load(&folder.join(FILE), device, precision)
}

/// Both, by way of a folder that is gone afterwards.
///
/// # Errors
/// As [`write`] and [`open`].
pub(super) fn ready(config: &RunConfig, device: &Device, precision: Precision) -> Result<ModelFile> {
    let folder = tempfile::tempdir()?;
    write(config, folder.path())?;
    open(folder.path(), device, precision)
}
