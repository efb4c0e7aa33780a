//! The model file: one `.safetensors` with everything a prediction needs.
//!
//! Tensors: `model.<parameter>` (see [`crate::weights`]) and, for a model whose wide levels read a frozen encoder,
//! `frozen.<tensor>` with that encoder's own names. The header's metadata holds one key, `magnet`, with a JSON
//! document: format version, digests, configuration, genes, normalisation, gene statistics, held-out scores and
//! provenance.

use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::expression::Normalization;
use crate::gene_panel::GenePanel;
use crate::level::{Level, PerLevel};
use crate::model::{MagNetConfig, WideFeatures};
use crate::weights::{Precision, Weights, WeightsError, safetensors_bytes};

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

/// Mean and standard deviation of each gene's training labels at one level.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneStatistics {
    /// Mean per gene, in label units.
    pub mean: Vec<f32>,
    /// Standard deviation per gene, in label units.
    pub sd: Vec<f32>,
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

/// Scores of one level on held-out slides. Values that are not defined (no variance) are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutLevel {
    /// Number of observations.
    pub n: usize,
    /// Mean squared error, in squared label units.
    pub mse: Option<f64>,
    /// Mean absolute error, in label units.
    pub mae: Option<f64>,
    /// Pearson over the genes, mean over the observations (the paper's).
    pub pcc_spot: Option<f64>,
    /// Pearson over the observations, mean over the genes.
    pub pcc_gene_mean: Option<f64>,
    /// Pearson over the observations for each gene of the panel.
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
            return Err(WeightsError::Mismatch { missing, extra: foreign, misshapen }.into());
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

    /// SHA-256 of the weights, lower-case hexadecimal: equal for bit-identical models.
    pub fn weights_sha256(&self) -> String {
        self.weights.digest()
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
    if version.format_version != serde_json::Value::from(FORMAT_VERSION) {
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
