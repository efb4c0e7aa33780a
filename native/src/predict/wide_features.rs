//! Features of the wide tiles, where they are made before the run.

use anyhow::Result;
use burn::tensor::Device;
use magnet_core::Level;
use magnet_core::coordinates::SlidePx;
use magnet_core::digest::hex;
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::model::WideFeatures;
use magnet_core::slide::{NormalizedSlide, SlideError};
use sha2::{Digest, Sha256};

use super::faults::Faults;
use crate::cli::PredictArgs;
use crate::console::Console;
use crate::error::InputError;
use crate::features::{FeatureCache, SlideName, read_matrices};
use crate::model_file::ModelFile;
use crate::slide_file::{FileDigest, OpenedSlide, SharedSlide};

/// Features of the wide tiles that are made before the run.
pub(super) struct Read {
    pub(super) spot: Matrix,
    pub(super) region: Matrix,
    /// Tiles whose patches could not be read whole.
    unread: Vec<(Level, u32, SlidePx, String)>,
}

impl Read {
    pub(super) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for value in self.spot.values.iter().chain(&self.region.values) {
            hash.update(value.to_le_bytes());
        }
        hex(&hash.finalize())
    }

    pub(super) fn note_in(&self, faults: &Faults) {
        for (level, node, center, error) in &self.unread {
            faults.note(*level, *node, *center, error);
        }
    }
}

/// Features of the wide tiles from `--features`, or of the model's frozen encoder by way of `--cache`; `None` where the
/// run makes its own.
pub(super) fn wide_features(
    args: &PredictArgs,
    model: &ModelFile,
    slide: &OpenedSlide,
    layout: &SlideLayout,
    digest: &FileDigest,
    device: &Device,
    console: &Console,
) -> Result<Option<Read>> {
    let config = model.model.config();
    let id = super::slide_name(&args.image);
    match (&config.wide_features, &args.features, &args.cache) {
        (WideFeatures::File { width }, Some(folder), _) => {
            let name = SlideName { id: &id, image_sha256: "", um_per_px: slide.um_per_px };
            let (spot, region) = read_matrices(folder, name, layout, config, *width)?;
            Ok(Some(Read { spot, region, unread: Vec::new() }))
        }
        (_, Some(_), _) => {
            let expected = "a model that was trained on feature matrices";
            Err(InputError::in_flag("--features", "wide features", expected, "one that makes its own").into())
        }
        (WideFeatures::Frozen { .. }, _, Some(folder)) => {
            let (Some(encoder), Some(identity)) = (&model.frozen, &model.bundle.metadata.wide_encoder) else {
                return Ok(None);
            };
            let image_sha256 = digest.wait(console)?;
            let name = SlideName { id: &id, image_sha256: &image_sha256, um_per_px: slide.um_per_px };
            let cache = FeatureCache::new(folder.clone());
            let normalized: NormalizedSlide<SharedSlide> =
                NormalizedSlide::new(slide.reader.clone(), config.stain_normalization)?;
            let unread = std::sync::Mutex::new(Vec::new());
            let note = |level: Level, tile: usize, center: SlidePx, error: &SlideError| {
                let mut unread = unread.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                unread.push((level, tile as u32, center, error.to_string()));
            };
            let of_level = |level| {
                cache.features(
                    encoder,
                    &identity.sha256,
                    name,
                    &normalized,
                    level,
                    layout,
                    config,
                    device,
                    console,
                    Some(&note),
                )
            };
            let (spot, region) = (of_level(Level::Spot)?, of_level(Level::Region)?);
            let unread = unread.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(Some(Read { spot, region, unread }))
        }
        (_, _, Some(_)) => {
            console.warn("--cache keeps features of a frozen encoder; this model has none: nothing is kept");
            Ok(None)
        }
        _ => Ok(None),
    }
}
