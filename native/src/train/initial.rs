//! The weights that a run starts from, where they are not drawn: those of another model, or of a pretrained encoder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use magnet_core::bundle::{BundleError, SlideDigests};
use magnet_core::model::{Misshapen, WeightLayout, WeightMap, WeightsError, expected_shapes};
use magnet_core::weights::Weights;
use magnet_core::{Bundle, GenePanel, MagNetConfig, Model};

use crate::console::Console;
use crate::device;
use crate::error::InputError;
use crate::files::{read_limited, sha256_file};
use crate::model_file::MAX_BYTES;
use crate::weight_file;

/// A tensor by which a file is known to hold a ResNet in torchvision's names.
const OF_A_RESNET: &str = "layer1.0.conv1.weight";

/// Weights of a file that go into the drawn model of a run.
#[derive(Debug)]
pub struct InitialWeights {
    path: PathBuf,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Slides that they were fitted to already.
    pub training_slides: Vec<SlideDigests>,
    /// Slides that chose the epoch that they are of.
    pub validation_slides: Vec<SlideDigests>,
    weights: Initial,
}

#[derive(Debug)]
enum Initial {
    /// Tensors of the model, under its own names.
    Model(WeightMap),
    /// All tensors of a ResNet for the patch encoder, in torchvision's names.
    Encoder(WeightMap),
}

impl InitialWeights {
    /// Reads a model file, or a ResNet's weights in torchvision's names (`.safetensors`, `.pth`, `.pt`).
    ///
    /// A model gives its parts (`patch_encoder`, `gene_head`, …): each that both models have must fit, one that only the
    /// file has is left out, one that it lacks stays as drawn. So do tensors whose shape follows the genes where those
    /// are others, and those that hold training bins.
    ///
    /// # Errors
    /// If the file cannot be read, is something else, or does not fit the configuration.
    pub fn open(path: &Path, model: &MagNetConfig, panel: &GenePanel, console: &Console) -> Result<Self> {
        let sha256 = sha256_file(path)?;
        let Some(bundle) = bundle(path)? else {
            let weights = weight_file::read(path)?;
            if !weights.contains_key(OF_A_RESNET) {
                let expected = "a model file, or a ResNet in torchvision's names";
                let found = weights.keys().take(3).cloned().collect::<Vec<_>>().join(", ");
                return Err(InputError::in_file(path, "weights", expected, format!("{found}, …")).into());
            }
            console.say(format_args!("{}: the run starts from this patch encoder", path.display()));
            let (training_slides, validation_slides) = (Vec::new(), Vec::new());
            let weights = Initial::Encoder(weights);
            let path = path.to_path_buf();
            return Ok(Self { path, sha256, training_slides, validation_slides, weights });
        };
        let same_genes = bundle.metadata.panel == *panel;
        let fitted = Parts::of(bundle.weights.arrays, model, same_genes)
            .and_then(Parts::fitting)
            .map_err(|error| does_not_fit(path, model, error))?;
        console.say(format_args!("{}: the run starts from {}", path.display(), fitted.in_words(same_genes)));
        Ok(Self {
            path: path.to_path_buf(),
            sha256,
            training_slides: bundle.metadata.provenance.training_slides,
            validation_slides: bundle.metadata.provenance.validation_slides,
            weights: Initial::Model(fitted.weights),
        })
    }

    /// The drawn model with these weights.
    ///
    /// # Errors
    /// If a ResNet is not that of the model's patch encoder.
    pub fn put_into(&self, drawn: Model) -> Result<Model> {
        let config = drawn.config().clone();
        let loaded = match &self.weights {
            Initial::Encoder(weights) => drawn.with_pretrained_encoder(weights.clone()),
            Initial::Model(weights) => {
                let mut all = Weights::of(&drawn)?;
                all.arrays.extend(weights.clone());
                all.load_into(drawn)
            }
        };
        Ok(loaded.map_err(|error| does_not_fit(&self.path, &config, error))?)
    }

    /// Refuses a validation slide that the weights were fitted to: its scores would not be held-out ones.
    ///
    /// # Errors
    /// For the first such slide.
    pub fn check_validation(&self, id: &str, counts_sha256: &str) -> Result<(), InputError> {
        match self.training_slides.iter().find(|trained| trained.is(id, counts_sha256)) {
            None => Ok(()),
            Some(trained) => {
                let expected = format!("slides that {} was not trained on", self.path.display());
                let found = match trained.id == id {
                    true => id.to_owned(),
                    false => format!("{id}, whose counts are those of its slide {}", trained.id),
                };
                Err(InputError::in_flag("--valid", "slides", expected, found))
            }
        }
    }
}

/// A file as a bundle; `None` where it is another weight file.
fn bundle(path: &Path) -> Result<Option<Bundle>> {
    if path.extension().is_none_or(|extension| extension != "safetensors") {
        return Ok(None);
    }
    match Bundle::from_bytes(&read_limited(path, MAX_BYTES)?) {
        Ok(bundle) => Ok(Some(bundle)),
        Err(BundleError::NotABundle { .. }) => Ok(None),
        Err(error) => Err(InputError::in_file(path, "bundle", "a MagNet model bundle", error).into()),
    }
}

fn does_not_fit(path: &Path, model: &MagNetConfig, error: WeightsError) -> InputError {
    let expected = format!("weights that fit this run's {} model", model.architecture.name());
    InputError::in_file(path, "weights", expected, error)
}

type Shapes = BTreeMap<String, Vec<usize>>;

/// A file's tensors beside those of the run's model.
struct Parts {
    weights: WeightMap,
    shapes: Shapes,
    /// The model's tensors that are not taken from another one.
    own: BTreeSet<String>,
}

/// What is taken of a file.
struct Fitting {
    weights: WeightMap,
    /// Parts that the file lacks.
    drawn: Vec<String>,
    /// Parts that the model lacks.
    left_out: Vec<String>,
}

impl Parts {
    fn of(weights: WeightMap, model: &MagNetConfig, same_genes: bool) -> Result<Self, WeightsError> {
        let shapes = |model: &MagNetConfig| match model.build(&device::processor()) {
            Ok(model) => Ok(expected_shapes(&model, WeightLayout::Burn)),
            Err(error) => Err(WeightsError::Unreadable(error.to_string())),
        };
        let own_shapes = shapes(model)?;
        let mut others = vec![{
            let mut other = model.clone();
            other.comparator.references += 1;
            shapes(&other)?
        }];
        if !same_genes {
            others.push(shapes(&MagNetConfig { genes: model.genes + 1, ..model.clone() })?);
        }
        let own = own_shapes
            .iter()
            .filter(|(name, shape)| others.iter().any(|other| other.get(*name) != Some(shape)))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self { weights, shapes: own_shapes, own })
    }

    fn fitting(self) -> Result<Fitting, WeightsError> {
        let Self { mut weights, shapes, own } = self;
        weights.retain(|name, _| !own.contains(name));
        let wanted: Vec<(&String, &Vec<usize>)> =
            shapes.iter().filter(|(name, _)| !own.contains(*name)).collect();
        let in_model: BTreeSet<&str> = wanted.iter().map(|(name, _)| part(name)).collect();
        let in_file: BTreeSet<&str> = weights.keys().map(|name| part(name)).collect();
        let shared = |name: &str| in_model.contains(part(name)) && in_file.contains(part(name));

        let missing: Vec<String> = wanted
            .iter()
            .filter(|(name, _)| shared(name) && !weights.contains_key(*name))
            .map(|(name, _)| (*name).clone())
            .collect();
        let unexpected: Vec<String> =
            weights.keys().filter(|name| shared(name) && !shapes.contains_key(*name)).cloned().collect();
        let misshapen: Vec<Misshapen> = wanted
            .iter()
            .filter_map(|(name, expected)| {
                let found =
                    weights.get(*name).map(|tensor| &tensor.shape).filter(|found| found != expected)?;
                let (name, expected) = ((*name).clone(), (*expected).clone());
                Some(Misshapen { name, expected, found: found.clone() })
            })
            .collect();
        let nothing_fits = in_model.is_disjoint(&in_file);
        if nothing_fits {
            let missing = wanted.iter().map(|(name, _)| (*name).clone()).collect();
            return Err(WeightsError::Mismatch {
                missing,
                unexpected: weights.into_keys().collect(),
                misshapen,
            });
        }
        if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
            return Err(WeightsError::Mismatch { missing, unexpected, misshapen });
        }
        let names = |parts: &BTreeSet<&str>, others: &BTreeSet<&str>| {
            parts.difference(others).map(|part| (*part).to_owned()).collect::<Vec<_>>()
        };
        let (drawn, left_out) = (names(&in_model, &in_file), names(&in_file, &in_model));
        weights.retain(|name, _| shapes.contains_key(name));
        Ok(Fitting { weights, drawn, left_out })
    }
}

/// The part of a model that a tensor belongs to.
fn part(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

impl Fitting {
    fn in_words(&self, same_genes: bool) -> String {
        let mut text = format!("{} tensors of this model", self.weights.len());
        if !same_genes {
            text += "; its genes are others, so what depends on them is drawn";
        }
        for (names, what) in [(&self.drawn, "as drawn, for it has none"), (&self.left_out, "left out")] {
            if !names.is_empty() {
                text += &format!("; {what}: {}", names.join(", "));
            }
        }
        text
    }
}
