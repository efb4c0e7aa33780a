//! The model file: one `.safetensors` with everything a prediction needs.
//!
//! Tensors: `model.<parameter>` (see [`crate::weights`]) and, for a model whose wide levels read a frozen encoder,
//! `frozen.<tensor>` with that encoder's own names. The header's metadata holds one key, `magnet`, with a JSON
//! document: format version, digests, configuration, genes, normalisation, gene statistics, held-out scores and
//! provenance.

use burn::module::Module;
use burn::tensor::Device;
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::expression::{GeneStatistics, Normalization};
use crate::gene_panel::GenePanel;
use crate::level::{Level, PerLevel};
use crate::metrics::LevelScores;
use crate::model::{ConfigError, FrozenEncoder, MagNetConfig, Model, WeightsError, WideFeatures};
use crate::weights::{Precision, Weights, safetensors_bytes};

/// Version of the bundle's layout that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The metadata key of the JSON document.
const METADATA_KEY: &str = "magnet";
const MODEL_PREFIX: &str = "model.";
const FROZEN_PREFIX: &str = "frozen.";
/// Largest accepted JSON document, in bytes: 36,000 genes need about 3 MB.
const METADATA_LIMIT: usize = 16 << 20;

/// A trained model with its configuration, genes, normalisation, held-out scores and provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Everything but the weights.
    pub metadata: BundleMetadata,
    /// The model's parameters and running statistics.
    pub weights: Weights,
    /// The frozen encoder's tensors under its own names, where the wide levels read one.
    pub frozen: Option<Weights>,
}

/// What a bundle says about its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleMetadata {
    /// Version of the program that wrote the bundle.
    pub code_version: String,
    /// The model's configuration.
    pub config: MagNetConfig,
    /// The genes, in the order of the model's outputs.
    pub panel: GenePanel,
    /// How raw counts became the labels that the model was trained on.
    pub normalization: Normalization,
    /// Mean and standard deviation of the training labels of each level; the means are the mean predictor.
    pub gene_statistics: PerLevel<GeneStatistics>,
    /// How well each gene was predicted on slides that the weights were not fitted to.
    pub held_out: Option<HeldOut>,
    /// The encoder behind the wide levels' features, where it is not the model's own.
    pub wide_encoder: Option<WideEncoderIdentity>,
    /// Where the weights come from.
    pub provenance: Provenance,
}

/// Scores on held-out slides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Ids of the slides.
    pub slides: Vec<String>,
    /// Whether these slides chose the epoch that was kept: then the scores flatter the model a little.
    pub selected_on_validation: bool,
    /// Scores of each level; absent where the model has no such level.
    pub levels: PerLevel<Option<HeldOutLevel>>,
}

/// Scores of one level on held-out slides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutLevel {
    /// Scores over all genes, the training-mean predictor beside.
    pub scores: LevelScores,
    /// Pearson over the observations for each gene of the panel; absent where the measurement does not vary.
    pub gene_pearson: Vec<Option<f32>>,
}

/// Which encoder made the wide levels' features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideEncoderIdentity {
    /// File name or, for feature matrices, the name that the user gave.
    pub name: String,
    /// SHA-256 of the encoder's file, lower-case hexadecimal; empty for feature matrices.
    pub sha256: String,
    /// Feature width `F`.
    pub width: usize,
}

/// Where a bundle's weights come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The run's seed.
    pub seed: u64,
    /// The run's configuration, TOML.
    pub run_config: String,
    /// The command that trained the model, one entry per argument; empty if it was not a command line.
    pub command_line: Vec<String>,
    /// Device that trained the model.
    pub device: String,
    /// Epochs run.
    pub epochs: usize,
    /// Epoch whose weights were kept, counted from 1.
    pub kept_epoch: usize,
    /// Slides that the weights were fitted to.
    pub training_slides: Vec<SlideDigests>,
    /// Slides that chose the epoch.
    pub validation_slides: Vec<SlideDigests>,
}

/// Which files a slide was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlideDigests {
    /// The slide's id.
    pub id: String,
    /// SHA-256 of the image file, lower-case hexadecimal.
    pub image_sha256: String,
    /// SHA-256 of the counts file, lower-case hexadecimal.
    pub counts_sha256: String,
}

impl SlideDigests {
    /// Whether a slide is this one: by its id, or by the same counts under another id.
    pub fn is(&self, id: &str, counts_sha256: &str) -> bool {
        self.id == id || self.counts_sha256 == counts_sha256
    }
}

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a safetensors file, or a truncated one.
    #[error("not a complete safetensors file: {0}")]
    NotSafetensors(String),
    /// A safetensors file of something else.
    #[error("not a MagNet bundle: expected the metadata key `{METADATA_KEY}`, found {found}")]
    NotABundle {
        /// The keys that are there.
        found: String,
    },
    /// A layout that this program does not know.
    #[error("bundle format version: expected {FORMAT_VERSION}, found {found}")]
    FormatVersion {
        /// The file's version.
        found: String,
    },
    /// The metadata is larger than any real model's.
    #[error("bundle metadata: expected at most {METADATA_LIMIT} bytes, found {found}")]
    MetadataTooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// The metadata does not parse.
    #[error("bundle metadata: {0}")]
    Metadata(String),
    /// Two parts of the bundle contradict each other.
    #[error("{field}: expected {expected}, found {found}")]
    Inconsistent {
        /// What is wrong.
        field: String,
        /// What the rest of the bundle asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The weights are not those of the configuration, or not numbers.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No model has such a configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The JSON document. Digests stand beside the metadata because they depend on the stored precision.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u32,
    weights_sha256: String,
    frozen_sha256: Option<String>,
    metadata: BundleMetadata,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`BundleError`] if the bytes are not a whole, consistent bundle of this format version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| BundleError::NotSafetensors(e.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| BundleError::NotSafetensors(e.to_string()))?;
        let json = match header.metadata() {
            Some(map) => map.get(METADATA_KEY).ok_or_else(|| {
                let mut keys: Vec<&str> = map.keys().map(String::as_str).take(20).collect();
                keys.sort_unstable();
                BundleError::NotABundle { found: format!("`{}`", keys.join("`, `")) }
            })?,
            None => return Err(BundleError::NotABundle { found: "no metadata".into() }),
        };
        let document = parse_document(json)?;
        let metadata = document.metadata;
        check_metadata(&metadata)?;

        let mut foreign: Vec<String> = file
            .names()
            .into_iter()
            .filter(|name| !name.starts_with(MODEL_PREFIX) && !name.starts_with(FROZEN_PREFIX))
            .map(str::to_string)
            .collect();
        if !foreign.is_empty() {
            foreign.sort_unstable();
            let (missing, misshapen) = (Vec::new(), Vec::new());
            return Err(WeightsError::Mismatch { missing, unexpected: foreign, misshapen }.into());
        }
        let weights = Weights::from_safetensors(&file, MODEL_PREFIX)?;
        weights.check_finite()?;
        check_digest("model weights (SHA-256)", &document.weights_sha256, &weights)?;
        let frozen = Weights::from_safetensors(&file, FROZEN_PREFIX)?;
        frozen.check_finite()?;
        let frozen = match (&metadata.config.wide_features, document.frozen_sha256) {
            (WideFeatures::Frozen { .. }, Some(expected)) if !frozen.is_empty() => {
                check_digest("frozen encoder (SHA-256)", &expected, &frozen)?;
                Some(frozen)
            }
            (WideFeatures::Frozen { .. }, _) => {
                return Err(inconsistent(
                    "frozen encoder",
                    "its weights, as model.wide_features asks",
                    "none",
                ));
            }
            (_, _) if !frozen.is_empty() => {
                return Err(inconsistent(
                    "frozen encoder",
                    "none, as model.wide_features is not `frozen`",
                    format!("{} tensors", frozen.arrays.len()),
                ));
            }
            _ => None,
        };
        Ok(Self { metadata, weights, frozen })
    }

    /// Writes the bundle; the same bundle gives the same bytes.
    ///
    /// # Errors
    /// [`BundleError`] if the parts contradict each other or a weight is not finite (also after rounding to half
    /// precision).
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, BundleError> {
        check_metadata(&self.metadata)?;
        let weights = self.weights.rounded(precision);
        weights.check_finite()?;
        let frozen = self.frozen.as_ref().map(|frozen| frozen.rounded(precision));
        let is_frozen = matches!(self.metadata.config.wide_features, WideFeatures::Frozen { .. });
        if is_frozen != frozen.is_some() {
            let found = if frozen.is_some() { "its weights" } else { "none" };
            let expected = if is_frozen { "its weights" } else { "none" };
            return Err(inconsistent("frozen encoder", expected, found));
        }
        let mut entries = weights.to_entries(MODEL_PREFIX, precision);
        if let Some(frozen) = &frozen {
            frozen.check_finite()?;
            entries.extend(frozen.to_entries(FROZEN_PREFIX, precision));
        }
        let document = Document {
            format_version: FORMAT_VERSION,
            weights_sha256: weights.digest(),
            frozen_sha256: frozen.as_ref().map(Weights::digest),
            metadata: self.metadata.clone(),
        };
        let json = serde_json::to_string(&document).map_err(|e| BundleError::Metadata(e.to_string()))?;
        if json.len() > METADATA_LIMIT {
            return Err(BundleError::MetadataTooLarge { found: json.len() });
        }
        safetensors_bytes(&entries, METADATA_KEY, json).map_err(|e| BundleError::Metadata(e.to_string()))
    }

    /// The model, ready for inference on `device`.
    ///
    /// # Errors
    /// [`BundleError::Weights`] with every tensor that the configuration asks for and the file lacks, or the reverse.
    pub fn model(&self, device: &Device) -> Result<Model, BundleError> {
        let model = self.metadata.config.build(device)?;
        Ok(self.weights.load_into(model)?.valid())
    }

    /// The frozen encoder behind the wide levels, where there is one.
    ///
    /// # Errors
    /// [`BundleError::Weights`] if its tensors are those of no encoder that is known.
    pub fn frozen_encoder(&self, device: &Device) -> Result<Option<FrozenEncoder>, BundleError> {
        let Some(frozen) = &self.frozen else { return Ok(None) };
        Ok(Some(FrozenEncoder::from_weights(frozen.arrays.clone(), device)?))
    }

    /// SHA-256 of the weights, lower-case hexadecimal: equal for bit-identical models.
    pub fn weights_sha256(&self) -> String {
        self.weights.digest()
    }

    /// How well a gene was predicted at a level on held-out slides.
    pub fn held_out_pearson(&self, level: Level, gene: usize) -> Option<f32> {
        let held_out = self.metadata.held_out.as_ref()?;
        held_out.levels.get(level).as_ref()?.gene_pearson.get(gene).copied().flatten()
    }

    /// What the slides behind [`Self::held_out_pearson`] were: those that chose the epoch flatter the model a little.
    pub fn held_out_name(&self) -> &'static str {
        match &self.metadata.held_out {
            Some(held_out) if held_out.selected_on_validation => "validation",
            _ => "held-out",
        }
    }
}

fn parse_document(json: &str) -> Result<Document, BundleError> {
    if json.len() > METADATA_LIMIT {
        return Err(BundleError::MetadataTooLarge { found: json.len() });
    }
    // The version first: a later layout must be named as such, not by the first field that it changed.
    #[derive(Deserialize)]
    struct VersionOnly {
        format_version: serde_json::Value,
    }
    let version: VersionOnly =
        serde_json::from_str(json).map_err(|e| BundleError::Metadata(e.to_string()))?;
    if version.format_version != FORMAT_VERSION {
        return Err(BundleError::FormatVersion { found: version.format_version.to_string() });
    }
    serde_json::from_str(json).map_err(|e| BundleError::Metadata(e.to_string()))
}

fn inconsistent(
    field: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> BundleError {
    BundleError::Inconsistent { field: field.into(), expected: expected.into(), found: found.into() }
}

fn check_digest(field: &str, expected: &str, weights: &Weights) -> Result<(), BundleError> {
    let found = weights.digest();
    if found == expected { Ok(()) } else { Err(inconsistent(field, expected, found)) }
}

fn check_metadata(metadata: &BundleMetadata) -> Result<(), BundleError> {
    metadata.config.validate()?;
    let genes = metadata.config.genes;
    let count = |field: &str, found: usize| {
        if found == genes {
            Ok(())
        } else {
            Err(inconsistent(field, format!("{genes} genes"), found.to_string()))
        }
    };
    count("gene panel ids", metadata.panel.ids.len())?;
    count("gene panel symbols", metadata.panel.symbols.len())?;
    for (level, statistics) in metadata.gene_statistics.iter() {
        count(&format!("{level} gene means"), statistics.mean.len())?;
        count(&format!("{level} gene standard deviations"), statistics.sd.len())?;
        let numbers = statistics.mean.iter().chain(&statistics.sd);
        if let Some(value) = numbers.into_iter().find(|value| !value.is_finite()) {
            return Err(inconsistent(
                format!("{level} gene statistics"),
                "finite numbers",
                value.to_string(),
            ));
        }
    }
    if let Some(held_out) = &metadata.held_out {
        for level in Level::ALL {
            if let Some(scores) = held_out.levels.get(level) {
                count(&format!("{level} held-out scores"), scores.gene_pearson.len())?;
            }
        }
    }
    let width = match metadata.config.wide_features {
        WideFeatures::Shared => None,
        WideFeatures::Frozen { width } | WideFeatures::File { width } => Some(width),
    };
    match (width, &metadata.wide_encoder) {
        (None, None) => Ok(()),
        (Some(width), Some(encoder)) if encoder.width == width => Ok(()),
        (Some(width), Some(encoder)) => {
            Err(inconsistent("wide encoder width", width.to_string(), encoder.width.to_string()))
        }
        (Some(_), None) => Err(inconsistent("wide encoder", "its identity", "none")),
        (None, Some(encoder)) => Err(inconsistent("wide encoder", "none", encoder.name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DepthConfig, GraphConfig, PatchEncoderConfig, ResNetDepth, WeightTensor};
    use std::collections::HashMap;

    fn bundle(wide_features: WideFeatures) -> Bundle {
        let base = MagNetConfig::default();
        let config = MagNetConfig {
            genes: 3,
            width: 8,
            wide_features: wide_features.clone(),
            patch_encoder: PatchEncoderConfig {
                depth: ResNetDepth::ResNet18,
                width_multiplier: 0.0625,
                stages: 1,
                ..base.patch_encoder
            },
            graph: GraphConfig { layers: 1, heads: 2, ..base.graph },
            depth: DepthConfig { layers: 1, heads: 2, feed_forward: 1, ..base.depth },
            ..base
        };
        let names = |prefix: &str| (0..3).map(|gene| format!("{prefix}{gene}")).collect::<Vec<_>>();
        let weights = Weights::of(&config.init(&Device::flex()).unwrap()).unwrap();
        let (wide_encoder, frozen) = match wide_features {
            WideFeatures::Frozen { width } => {
                let encoder = WideEncoderIdentity { name: "e".into(), sha256: "0".into(), width };
                let tensor = WeightTensor { shape: vec![1, 2], values: vec![1.0, 2.0] };
                (Some(encoder), Some(Weights { arrays: [("stem".to_string(), tensor)].into() }))
            }
            _ => (None, None),
        };
        Bundle {
            metadata: BundleMetadata {
                code_version: "0.0.0".into(),
                config,
                panel: GenePanel::new(names("id"), names("gene")).unwrap(),
                normalization: Normalization::Log1pCp10k,
                gene_statistics: PerLevel::from_fn(|_| GeneStatistics {
                    mean: vec![0.1; 3],
                    sd: vec![1.5; 3],
                }),
                held_out: None,
                wide_encoder,
                provenance: Provenance { seed: 7, ..Provenance::default() },
            },
            weights,
            frozen,
        }
    }

    /// The bytes of a safetensors file with its JSON document changed.
    fn with_document(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let json = header.metadata().as_ref().unwrap()[METADATA_KEY].clone();
        let mut document: serde_json::Value = serde_json::from_str(&json).unwrap();
        change(&mut document);
        let file = SafeTensors::deserialize(bytes).unwrap();
        let metadata = HashMap::from([(METADATA_KEY.to_string(), document.to_string())]);
        safetensors::serialize(file.tensors(), Some(metadata)).unwrap()
    }

    fn refused(bytes: &[u8]) -> String {
        Bundle::from_bytes(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_bundle_survives_its_bytes() {
        for wide in [WideFeatures::Shared, WideFeatures::Frozen { width: 5 }] {
            let bundle = bundle(wide);
            let bytes = bundle.to_bytes(Precision::Single).unwrap();
            assert_eq!(bytes, bundle.to_bytes(Precision::Single).unwrap());
            let read = Bundle::from_bytes(&bytes).unwrap();
            assert_eq!(read, bundle);
            assert_eq!(Weights::of(&read.model(&Device::flex()).unwrap()).unwrap(), bundle.weights);
        }
    }

    #[test]
    fn half_precision_is_smaller_and_near() {
        let bundle = bundle(WideFeatures::Shared);
        let single = bundle.to_bytes(Precision::Single).unwrap();
        let half = bundle.to_bytes(Precision::Half).unwrap();
        assert!(half.len() < single.len());
        let read = Bundle::from_bytes(&half).unwrap();
        assert_eq!(read.weights, bundle.weights.rounded(Precision::Half));
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let bundle = bundle(WideFeatures::Shared);
        let bytes = bundle.to_bytes(Precision::Single).unwrap();
        for end in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(refused(&bytes[..end]).contains("safetensors"), "{end}");
        }
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(refused(&flipped).contains("SHA-256"));
        let foreign =
            safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), None).unwrap();
        assert!(refused(&foreign).contains("expected the metadata key `magnet`, found no metadata"));
        let other = HashMap::from([("format".to_string(), "pt".to_string())]);
        let foreign =
            safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), Some(other))
                .unwrap();
        assert!(refused(&foreign).contains("found `format`"));
    }

    #[test]
    fn contradictions_name_field_expected_and_found() {
        let bytes = bundle(WideFeatures::Shared).to_bytes(Precision::Single).unwrap();
        type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
        let cases: [(Change<'_>, &str); 6] = [
            (&|d| d["format_version"] = 2.into(), "format version: expected 1, found 2"),
            (&|d| d["metadata"]["config"]["genes"] = 4.into(), "gene panel ids: expected 4 genes, found 3"),
            (
                &|d| d["metadata"]["gene_statistics"]["spot"]["sd"] = serde_json::json!([1.0]),
                "spot gene standard",
            ),
            (&|d| d["metadata"]["config"]["width"] = 7.into(), "heads"),
            (&|d| d["metadata"]["surprise"] = 1.into(), "surprise"),
            (
                &|d| {
                    d["metadata"]["config"]["wide_features"] =
                        serde_json::json!({"from": "frozen", "width": 5})
                },
                "wide encoder: expected its identity, found none",
            ),
        ];
        for (change, part) in cases {
            let message = refused(&with_document(&bytes, change));
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn weights_of_another_model_are_listed() {
        let mut bundle = bundle(WideFeatures::Shared);
        let name = bundle.weights.arrays.keys().next().unwrap().clone();
        let tensor = bundle.weights.arrays.remove(&name).unwrap();
        bundle.weights.arrays.insert("stranger".into(), tensor);
        let read = Bundle::from_bytes(&bundle.to_bytes(Precision::Single).unwrap()).unwrap();
        let message = read.model(&Device::flex()).unwrap_err().to_string();
        assert!(message.contains(&name) && message.contains("stranger"), "{message}");
    }

    #[test]
    fn numbers_that_are_none_are_refused_on_both_sides() {
        let mut bundle = bundle(WideFeatures::Shared);
        bundle.weights.arrays.values_mut().next().unwrap().values[0] = f32::NAN;
        assert!(bundle.to_bytes(Precision::Single).unwrap_err().to_string().contains("NaN"));
        // Finite, but not in half precision.
        let tensor = bundle.weights.arrays.values_mut().find(|tensor| tensor.shape.len() > 1).unwrap();
        tensor.values[0] = 1e30;
        assert!(bundle.to_bytes(Precision::Half).is_err());
    }
}
