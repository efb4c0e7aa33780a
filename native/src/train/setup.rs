//! What a run stands on: its slides, genes, statistics and features, checked before anything is written.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::Device;
use magnet_core::GenePanel;
use magnet_core::bundle::WideEncoderIdentity;
use magnet_core::digest::sha256_hex;
use magnet_core::expression::{GeneStatistics, Matrix, Normalization, ValueKind};
use magnet_core::level::{Level, PerLevel};
use magnet_core::model::{MagNetConfig, WideFeatures};
use magnet_core::weights::Weights;

use super::data::{self, TrainingSlide};
use super::initial::InitialWeights;
use super::{TrainOptions, WideSource};
use crate::config::DataConfig;
use crate::console::Console;
use crate::dataset::{Dataset, SlideData};
use crate::error::InputError;
use crate::features::{FeatureCache, FeatureFiles, FrozenFile};

/// The slides of a run and what is derived from them.
pub struct Setup {
    /// The model's configuration with the number of genes and the wide features filled in.
    pub model: MagNetConfig,
    /// The genes.
    pub panel: GenePanel,
    /// Mean and standard deviation of the training labels of each level.
    pub statistics: PerLevel<GeneStatistics>,
    /// Slides to fit to.
    pub training: Vec<TrainingSlide>,
    /// Slides to validate on.
    pub validation: Vec<TrainingSlide>,
    /// The encoder behind the wide levels, where it is not the model's own.
    pub wide_encoder: Option<WideEncoderIdentity>,
    /// The frozen encoder's tensors.
    pub frozen: Option<Weights>,
    /// The weights that the run starts from, where they are not drawn.
    pub initial: Option<InitialWeights>,
    /// Digest of all that must stay the same for a run to continue.
    pub run_digest: String,
}

/// The options, with the labels that the values of the slides allow: normalised values are labels as they are, and have
/// no library size by which a bin could be too shallow.
///
/// # Errors
/// For slides that are not there, slides of counts beside slides of normalised values, and counts that are to be taken
/// as they are.
pub fn for_values<'a>(options: &TrainOptions<'a>) -> Result<TrainOptions<'a>> {
    check_lists(&options.train, &options.valid)?;
    let mut options = options.clone();
    let dataset = Dataset::open(&options.data)?;
    for (flag, ids) in [("--train", &options.train), ("--valid", &options.valid)] {
        check_known(flag, ids, dataset.ids())?;
    }
    let values = dataset.value_kind(options.train.iter().chain(&options.valid))?;
    fit_to_values(&mut options.config.data, values, &options.console)?;
    Ok(options)
}

/// Gives the data settings the labels that values of this kind allow.
///
/// # Errors
/// For counts that are to be taken as they are.
pub fn fit_to_values(data: &mut DataConfig, values: ValueKind, console: &Console) -> Result<(), InputError> {
    match (values, data.normalization) {
        (ValueKind::Counts, Normalization::AsGiven) => {
            let expected = "log1p_cp10k or log_proportion: the slides hold raw counts";
            return Err(InputError::in_flag("--set", "data.normalization", expected, "as_given"));
        }
        (ValueKind::Counts, _) | (ValueKind::Normalized, Normalization::AsGiven) => {}
        (ValueKind::Normalized, _) => {
            data.normalization = Normalization::AsGiven;
            console.say(
                "the slides hold normalised values: labels are these as they are, tiles take their mean",
            );
        }
    }
    if values == ValueKind::Normalized && data.min_counts > 0 {
        console.say(format_args!(
            "data.min_counts = {} is not applied: normalised values have no library size",
            data.min_counts
        ));
        data.min_counts = 0;
    }
    Ok(())
}

impl Setup {
    /// Reads and checks everything that the options name.
    ///
    /// # Errors
    /// For wrong slide lists, slides that do not fit the configuration, and files that cannot be read.
    pub fn open(options: &TrainOptions<'_>) -> Result<Self> {
        let dataset = Dataset::open(&options.data)?;
        let read =
            |ids: &[String]| ids.iter().map(|id| dataset.slide(id)).collect::<Result<Vec<SlideData>>>();
        Self::of_slides(options, read(&options.train)?, read(&options.valid)?)
    }

    /// The same of slides that are read already, whatever the options name.
    ///
    /// # Errors
    /// As [`Setup::open`], but for the dataset.
    pub fn of_slides(
        options: &TrainOptions<'_>,
        training: Vec<SlideData>,
        validation: Vec<SlideData>,
    ) -> Result<Self> {
        options.config.validate("configuration")?;
        let console = &options.console;
        let panel = data::choose_panel(&options.config.data, &training, &validation, console)?;
        let training = training
            .into_iter()
            .map(|slide| data::without_shallow_bins(slide, options.config.data.min_counts, console))
            .collect::<Result<Vec<_>>>()?;

        let mut wide = Wide::open(options)?;
        let mut model = options.config.model.clone();
        model.genes = panel.len();
        let bins: usize = training.iter().map(|slide| slide.centers_px.len()).sum();
        model.comparator.references = model.comparator.references.min(bins.max(1));
        model.wide_features = wide.kind(&training)?;
        model.validate().context("configuration")?;
        let initial = match options.config.train.init.as_str() {
            "" => None,
            path => {
                let initial = InitialWeights::open(Path::new(path), &model, &panel, console)?;
                validation
                    .iter()
                    .try_for_each(|slide| initial.check_validation(&slide.id, &slide.counts_sha256))?;
                Some(initial)
            }
        };

        let lay_out = |slides: &[SlideData]| {
            slides
                .iter()
                .map(|slide| data::lay_out(slide, &panel, &options.config.data, &model))
                .collect::<Result<Vec<_>>>()
        };
        let (training_layouts, validation_layouts) = (lay_out(&training)?, lay_out(&validation)?);
        let statistics = data::statistics(training_layouts.iter().map(|(_, labels)| labels))?;

        let mut budget_bytes = options.config.train.patch_cache_mib.saturating_mul(1 << 20);
        let mut prepare = |slides: &[SlideData], layouts: Vec<_>| {
            let mut prepared = Vec::with_capacity(slides.len());
            for (slide, (layout, labels)) in slides.iter().zip(layouts) {
                console.detail(format_args!("slide {}: reading the image", slide.id));
                let image = Arc::new(data::open_image(slide, model.stain_normalization)?);
                let features = wide.features(slide, image.as_ref(), &layout, &model, options)?;
                prepared.push(data::with_inputs(
                    slide,
                    &image,
                    layout,
                    labels,
                    &model,
                    features,
                    &mut budget_bytes,
                )?);
            }
            anyhow::Ok(prepared)
        };
        let training = prepare(&training, training_layouts)?;
        let validation = prepare(&validation, validation_layouts)?;

        let (wide_encoder, frozen) = wide.into_identity();
        let run_digest =
            run_digest(options, &training, &validation, wide_encoder.as_ref(), initial.as_ref())?;
        Ok(Self { model, panel, statistics, training, validation, wide_encoder, frozen, initial, run_digest })
    }

    /// The device on which gradients are taken.
    pub fn training_device(device: &Device) -> Device {
        device.clone().autodiff()
    }
}

/// The wide levels' features while slides are being read.
enum Wide {
    Shared,
    Frozen { file: Box<FrozenFile>, cache: FeatureCache },
    Files { files: FeatureFiles, width: usize },
}

impl Wide {
    fn open(options: &TrainOptions<'_>) -> Result<Self> {
        if !options.config.model.wide_levels {
            if !matches!(options.wide, WideSource::Shared) {
                let note = "model.wide_levels is false: no features of an encoder or of files are read";
                options.console.warn(note);
            }
            return Ok(Self::Shared);
        }
        Ok(match &options.wide {
            WideSource::Shared => Self::Shared,
            WideSource::Encoder(path) => {
                let folder = options.cache.clone().unwrap_or_else(|| options.data.join("features"));
                Self::Frozen {
                    file: Box::new(FrozenFile::open(path, &options.device)?),
                    cache: FeatureCache::new(folder),
                }
            }
            WideSource::Features(folder) => Self::Files { files: FeatureFiles::open(folder)?, width: 0 },
        })
    }

    fn kind(&mut self, training: &[SlideData]) -> Result<WideFeatures> {
        Ok(match self {
            Self::Shared => WideFeatures::Shared,
            Self::Frozen { file, .. } => WideFeatures::Frozen { width: file.identity.width },
            Self::Files { files, width } => {
                if let Some(slide) = training.first() {
                    *width = files.width(&slide.id)?;
                }
                WideFeatures::File { width: *width }
            }
        })
    }

    fn features(
        &self,
        slide: &SlideData,
        image: &(dyn magnet_core::slide::PatchReader + Send),
        layout: &magnet_core::layout::SlideLayout,
        model: &MagNetConfig,
        options: &TrainOptions<'_>,
    ) -> Result<Option<(Matrix, Matrix)>> {
        let of_level = |level: Level| match self {
            Self::Shared => Ok(None),
            Self::Frozen { file, cache } => cache
                .features(
                    &file.encoder,
                    &file.identity.sha256,
                    slide.into(),
                    image,
                    level,
                    layout,
                    model,
                    &options.device,
                    &options.console,
                    None,
                )
                .map(Some),
            Self::Files { files, width } => {
                files.features(slide.into(), level, layout, model, *width).map(Some)
            }
        };
        Ok(of_level(Level::Spot)?.zip(of_level(Level::Region)?))
    }

    fn into_identity(self) -> (Option<WideEncoderIdentity>, Option<Weights>) {
        match self {
            Self::Shared => (None, None),
            Self::Frozen { file, .. } => (Some(file.identity), Some(file.weights)),
            Self::Files { files, width } => {
                (Some(WideEncoderIdentity { name: files.name, sha256: String::new(), width }), None)
            }
        }
    }
}

fn check_lists(train: &[String], valid: &[String]) -> Result<(), InputError> {
    if train.is_empty() || train.iter().any(|id| id.trim().is_empty()) {
        return Err(InputError::in_flag("--train", "slides", "at least one slide id", format!("{train:?}")));
    }
    for (flag, ids) in [("--train", train), ("--valid", valid)] {
        if let Some((_, id)) =
            ids.iter().enumerate().find(|(index, id)| ids.iter().take(*index).any(|other| other == *id))
        {
            return Err(InputError::in_flag(flag, "slides", "each slide once", format!("{id} twice")));
        }
    }
    match valid.iter().find(|id| train.contains(id)) {
        Some(id) => {
            let expected = "slides that --train does not name";
            Err(InputError::in_flag("--valid", "slides", expected, format!("{id} in both")))
        }
        None => Ok(()),
    }
}

/// Refuses an id that the dataset does not have, with the nearest that it has.
pub fn check_known(flag: &str, ids: &[String], known: &[String]) -> Result<(), InputError> {
    let Some(id) = ids.iter().find(|id| !known.contains(id)) else { return Ok(()) };
    let nearest = known.iter().min_by_key(|other| strsim::damerau_levenshtein(id, other));
    let expected = match nearest {
        Some(nearest) => format!("a slide of the dataset, perhaps {nearest} (of {})", known.len()),
        None => "a slide of the dataset, which has none".into(),
    };
    Err(InputError::in_flag(flag, "slides", expected, id))
}

fn run_digest(
    options: &TrainOptions<'_>,
    training: &[TrainingSlide],
    validation: &[TrainingSlide],
    wide_encoder: Option<&WideEncoderIdentity>,
    initial: Option<&InitialWeights>,
) -> Result<String> {
    let digests =
        |slides: &[TrainingSlide]| slides.iter().map(|slide| slide.digests.clone()).collect::<Vec<_>>();
    let all = serde_json::json!([
        options.config.digest()?,
        digests(training),
        digests(validation),
        wide_encoder,
        initial.map(|initial| &initial.sha256),
    ]);
    Ok(sha256_hex(all.to_string().as_bytes()))
}
