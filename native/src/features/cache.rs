//! Features of a frozen encoder, computed once per slide, level and geometry.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use magnet_core::MagNetConfig;
use magnet_core::batch::patches_from_rgb;
use magnet_core::bundle::WideEncoderIdentity;
use magnet_core::coordinates::SlidePx;
use magnet_core::digest::hex;
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::level::Level;
use magnet_core::model::{FrozenEncoder, WeightTensor};
use magnet_core::slide::{PatchReader, SlideError, StainNormalization};
use magnet_core::weights::{Precision, Weights, safetensors_bytes};
use safetensors::tensor::SafeTensors;
use sha2::{Digest, Sha256};

use super::{SlideName, tile_centers_px};
use crate::console::Console;
use crate::error::{InputError, Interrupted};
use crate::files::{Overwrite, read_limited, sha256_file, write_atomic};
use crate::interrupt;
use crate::read_ahead::{read_ahead, read_patches};
use crate::weight_file;

/// Pixels that the encoder reads at a time, about: 32 patches of 224 px, 6 of 512.
const BATCH_PIXELS: usize = 32 * 224 * 224;
/// Largest accepted cache file.
const CACHE_LIMIT_BYTES: u64 = 64 << 30;
const METADATA_KEY: &str = "magnet_features";
const TENSOR: &str = "features";

/// A frozen encoder with the file that it came from.
#[derive(Debug, Clone)]
pub struct FrozenFile {
    /// Name, digest and width.
    pub identity: WideEncoderIdentity,
    /// The encoder's tensors under their own names.
    pub weights: Weights,
    /// The encoder on its device.
    pub encoder: FrozenEncoder,
}

impl FrozenFile {
    /// Reads a `.safetensors`, `.pth` or `.pt` file.
    ///
    /// # Errors
    /// If the file cannot be read, or its tensors are those of no encoder that is known.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let wrong = |error| InputError::in_file(path, "encoder", "weights of a ResNet or MobileNetV1", error);
        let arrays = weight_file::read(path)?;
        let sha256 = sha256_file(path)?;
        let encoder = FrozenEncoder::from_weights(arrays.clone(), device).map_err(wrong)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let identity = WideEncoderIdentity { name, sha256, width: encoder.feature_width() };
        Ok(Self { identity, weights: Weights { arrays }, encoder })
    }
}

/// Hears of a tile whose patch cannot be read whole: its level, number and centre, and the error.
pub type UnreadableTile<'a> = dyn Fn(Level, usize, SlidePx, &SlideError) + Sync + 'a;

/// A folder of computed features.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
}

impl FeatureCache {
    /// The cache in this folder, which is made when the first features are stored.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Features of a level's tiles, one row each: from the cache, else computed and stored. `encoder_sha256` is the digest
    /// of the encoder's file.
    ///
    /// With `unreadable`, a patch that damage keeps from being read whole goes there with its tile, and the features are
    /// not stored; without, it is an error.
    ///
    /// # Errors
    /// If a patch cannot be read, the device fails or the cache cannot be written.
    #[allow(clippy::too_many_arguments, reason = "the key of the cache: slide, encoder, level and geometry")]
    pub fn features(
        &self,
        encoder: &FrozenEncoder,
        encoder_sha256: &str,
        slide: SlideName<'_>,
        image: &(dyn PatchReader + Send),
        level: Level,
        layout: &SlideLayout,
        model: &MagNetConfig,
        device: &Device,
        console: &Console,
        unreadable: Option<&UnreadableTile<'_>>,
    ) -> Result<Matrix> {
        let centers = tile_centers_px(layout, level, slide.um_per_px);
        let geometry = model.levels.get(level);
        let key = key(
            slide.image_sha256,
            encoder_sha256,
            model.stain_normalization,
            geometry.patch_um,
            geometry.patch_px,
            slide.um_per_px,
            &centers,
        );
        let path =
            self.folder.join(format!("{}.{level}.{}.safetensors", slide.id, key.get(..16).unwrap_or(&key)));
        if path.is_file() {
            match load(&path, &key, centers.len(), encoder.feature_width()) {
                Ok(features) => return Ok(features),
                Err(error) => console.warn(format_args!("{}: computed anew: {error:#}", path.display())),
            }
        }
        let bar = console.bar(centers.len() as u64, &format!("{} {level} features", slide.id), "tiles");
        let whole = AtomicBool::new(true);
        let note = unreadable.map(|unreadable| {
            let whole = &whole;
            move |tile: usize, center: SlidePx, error: &SlideError| {
                whole.store(false, Ordering::Relaxed);
                unreadable(level, tile, center, error);
            }
        });
        let note = note.as_ref().map(|note| note as &Note<'_>);
        let features =
            compute(encoder, image, &centers, geometry.patch_um, geometry.patch_px, device, note, |done| {
                bar.set_position(done as u64);
            })
            .with_context(|| format!("slide {}: {level} features", slide.id))?;
        bar.finish_and_clear();
        if whole.into_inner() {
            store(&path, &key, &features)?;
        }
        Ok(features)
    }
}

/// Told of a patch that could not be read whole: its number, its centre, why.
type Note<'a> = dyn Fn(usize, SlidePx, &SlideError) + Sync + 'a;

/// Features of patches around given centres, `[N,F]`. The patches of the next batch are read while the encoder is busy.
///
/// # Errors
/// If a patch cannot be read or the device fails.
#[allow(clippy::too_many_arguments, reason = "patches: slide, places and geometry")]
fn compute(
    encoder: &FrozenEncoder,
    image: &(dyn PatchReader + Send),
    centers: &[SlidePx],
    patch_um: f64,
    patch_px: usize,
    device: &Device,
    unreadable: Option<&Note<'_>>,
    mut done: impl FnMut(usize),
) -> Result<Matrix> {
    let cols = encoder.feature_width();
    let mut values = Vec::with_capacity(centers.len() * cols);
    let at_once = (BATCH_PIXELS / patch_px.saturating_mul(patch_px).max(1)).max(1);
    let batches = centers.chunks(at_once).enumerate();
    let read = |(batch, centers): (usize, &[SlidePx])| {
        let note = unreadable.map(|unreadable| {
            move |number: usize, error: &SlideError| {
                if let Some(&center) = centers.get(number) {
                    unreadable(batch * at_once + number, center, error);
                }
            }
        });
        let note = note.as_ref().map(|note| note as &(dyn Fn(usize, &SlideError) + Sync));
        (centers.len(), read_patches(image, centers, patch_um, patch_px, note))
    };
    read_ahead(batches, read, |batches| -> Result<()> {
        for (patches, rgb) in batches {
            if interrupt::requested() {
                return Err(Interrupted("no features were stored".into()).into());
            }
            let features = encoder.features(patches_from_rgb(&rgb?, patches, patch_px, device)?);
            values.extend(features.try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error}"))?);
            done(values.len() / cols.max(1));
        }
        Ok(())
    })?;
    Ok(Matrix { rows: centers.len(), cols, values })
}

/// What the features depend on.
fn key(
    image_sha256: &str,
    encoder_sha256: &str,
    stain: StainNormalization,
    patch_um: f64,
    patch_px: usize,
    um_per_px: f64,
    centers: &[SlidePx],
) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{image_sha256} {encoder_sha256} {stain:?} {patch_px}"));
    for number in
        [patch_um, um_per_px].into_iter().chain(centers.iter().flat_map(|center| [center.x, center.y]))
    {
        hash.update(number.to_le_bytes());
    }
    hex(&hash.finalize())
}

fn store(path: &Path, key: &str, features: &Matrix) -> Result<()> {
    let tensor = WeightTensor { shape: vec![features.rows, features.cols], values: features.values.clone() };
    let weights = Weights { arrays: [(TENSOR.to_string(), tensor)].into() };
    let bytes = safetensors_bytes(&weights.to_entries("", Precision::Single), METADATA_KEY, key.to_string())?;
    write_atomic(path, &bytes, Overwrite::Yes)
}

fn load(path: &Path, key: &str, rows: usize, cols: usize) -> Result<Matrix> {
    let bytes = read_limited(path, CACHE_LIMIT_BYTES)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let found = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    if found.is_none_or(|found| found != key) {
        bail!("the key is another one");
    }
    let weights = Weights::from_safetensors(&SafeTensors::deserialize(&bytes)?, "")?;
    weights.check_finite()?;
    let tensor = weights.arrays.into_values().next().context("no tensor")?;
    if tensor.shape != [rows, cols] {
        bail!("shape: expected [{rows}, {cols}], found {:?}", tensor.shape);
    }
    Ok(Matrix { rows, cols, values: tensor.values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_features_come_back_under_their_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let features = Matrix { rows: 2, cols: 3, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 0.1] };
        store(&path, "k", &features).unwrap();
        assert_eq!(load(&path, "k", 2, 3).unwrap(), features);
        assert!(load(&path, "other", 2, 3).is_err());
        assert!(load(&path, "k", 3, 2).is_err());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).unwrap();
        assert!(load(&path, "k", 2, 3).is_err());
    }

    #[test]
    fn the_key_sees_image_encoder_geometry_and_places() {
        let centers = [SlidePx { x: 1.0, y: 2.0 }];
        let base = key("i", "e", StainNormalization::None, 56.0, 224, 0.5, &centers);
        let others = [
            key("j", "e", StainNormalization::None, 56.0, 224, 0.5, &centers),
            key("i", "f", StainNormalization::None, 56.0, 224, 0.5, &centers),
            key("i", "e", StainNormalization::Slide, 56.0, 224, 0.5, &centers),
            key("i", "e", StainNormalization::None, 57.0, 224, 0.5, &centers),
            key("i", "e", StainNormalization::None, 56.0, 112, 0.5, &centers),
            key("i", "e", StainNormalization::None, 56.0, 224, 0.25, &centers),
            key("i", "e", StainNormalization::None, 56.0, 224, 0.5, &[SlidePx { x: 2.0, y: 1.0 }]),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
