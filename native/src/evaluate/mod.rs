//! Held-out scores: a model against measured slides, beside the training mean.

mod report;
mod write;

use std::path::Path;

use magnet_core::bundle::BundleMetadata;
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::map::{HIRES_SIDE_PX, LOWRES_SIDE_PX};
use magnet_core::metrics::{Evaluation, LevelScores, ScoredSlide, evaluate_beside_mean};
use magnet_core::model::WideFeatures;
use magnet_core::predict::{PredictOptions, SlidePrediction, layout_of_bins};
use magnet_core::slide::{PatchReader, SlideImage};
use magnet_core::weights::Precision;
use magnet_core::{Level, PerLevel};
use serde_json::{Map, Value};

use crate::cli::EvaluateArgs;
use crate::console::Console;
use crate::dataset::{Dataset, SlideData};
use crate::device;
use crate::error::InputError;
use crate::features::read_matrices;
use crate::files::{OutputFolder, Overwrite};
use crate::model_file::ModelFile;
use crate::predict::{Job, predict_whole};
use crate::slide_file::{SharedSlide, open_slide};

/// One slide, measured and predicted, at every level.
#[derive(Debug)]
pub struct EvaluatedSlide {
    /// The measurement.
    pub slide: SlideData,
    /// Where its nodes lie.
    pub layout: SlideLayout,
    /// `[N,G]` labels of each level.
    pub measured: PerLevel<Matrix>,
    /// The predictions.
    pub prediction: SlidePrediction,
    /// The slide at the sizes in which AnnData files carry it, by name.
    pub images: [(&'static str, SlideImage); 2],
}

/// Scores of all levels that the model predicts.
#[derive(Debug)]
pub struct Scores {
    /// Per level, narrow to wide.
    pub levels: Vec<(Level, Evaluation)>,
}

impl Scores {
    /// `{"bin": {…}, "spot": {…}, "region": {…}}`; a level that the model lacks is absent.
    ///
    /// # Errors
    /// If a score cannot be written as JSON, which no score does.
    pub fn to_json(&self) -> anyhow::Result<Value> {
        let mut object = Map::new();
        for (level, evaluation) in &self.levels {
            object.insert(level.to_string(), serde_json::to_value(&evaluation.scores)?);
        }
        Ok(Value::Object(object))
    }
}

/// Scores the model of `--model` on the slides of `--slides`.
///
/// # Errors
/// If an input is wrong, a slide was trained on, or the output cannot be written.
pub fn run(args: &EvaluateArgs, console: &Console) -> anyhow::Result<()> {
    let output = match &args.out {
        Some(out) => Some(OutputFolder::create(out, Overwrite::from(args.overwrite))?),
        None => None,
    };
    let dataset = Dataset::open(&args.data)?;
    let chosen = device::choose(args.device.device, console)?;
    let model = ModelFile::load(&args.model, &chosen.device, Precision::Single)?;
    let held_out = HeldOut {
        dataset: &dataset,
        slides: &args.slides,
        allow_training_slides: args.allow_training_slides,
        augment: args.augment,
        features: args.features.as_deref(),
    };
    let (evaluated, scores) = score_slides(&model, &held_out, &chosen.device, console)?;
    let mut written = Vec::new();
    if let Some(output) = output {
        written = write::write(output.path(), &model, &evaluated, &scores)?;
        if args.report {
            let html = crate::report::render(&report::input(&model, &evaluated, &scores)?)?;
            std::fs::write(output.path().join("report.html"), html)?;
            written.push("report.html".into());
        }
        output.commit()?;
    }
    for (level, evaluation) in &scores.levels {
        if let Some(mean) = &evaluation.scores.mean_predictor
            && evaluation.scores.mse >= mean.mse
        {
            console.warn(format_args!(
                "{level} level: squared error {:.3} is not below the training mean's {:.3}: do not use these maps",
                evaluation.scores.mse, mean.mse
            ));
        }
    }
    let mut text =
        as_text(&scores.levels.iter().map(|(level, e)| (level.to_string(), &e.scores)).collect::<Vec<_>>());
    if let Some(out) = &args.out {
        text.push_str(&format!("→ {}\n  {}\n", out.display(), written.join("\n  ")));
    }
    console.result(&text, &scores.to_json()?)?;
    Ok(())
}

/// Slides that a model is to be scored on.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a> {
    /// The dataset that holds them.
    pub dataset: &'a Dataset,
    /// Their ids.
    pub slides: &'a [String],
    /// Whether slides that the model was trained on are scored, too.
    pub allow_training_slides: bool,
    /// Whether predictions are averaged over the eight turns and flips of every patch.
    pub augment: bool,
    /// Folder of feature matrices, for a model that was trained on some.
    pub features: Option<&'a Path>,
}

/// Predicts the slides and scores the predictions, all slides of a level together. Nothing is written.
///
/// # Errors
/// If an input is wrong or a slide was trained on; [`crate::error::Interrupted`] where the user interrupts.
pub fn score_slides(
    model: &ModelFile,
    held_out: &HeldOut<'_>,
    device: &burn::tensor::Device,
    console: &Console,
) -> anyhow::Result<(Vec<EvaluatedSlide>, Scores)> {
    let dataset = held_out.dataset;
    let (learned, values) =
        (model.bundle.metadata.normalization.values(), dataset.value_kind(held_out.slides)?);
    if values != learned {
        let expected = format!("slides of {learned}, as those that {} was trained on", model.path.display());
        return Err(InputError::in_file(dataset.root(), "values", expected, values).into());
    }
    let mut slides = Vec::with_capacity(held_out.slides.len());
    for id in held_out.slides {
        let slide = dataset.slide(id)?;
        refuse_training_slide(model, &slide, held_out.allow_training_slides, console)?;
        slides.push(slide);
    }
    let mut evaluated = Vec::with_capacity(slides.len());
    for slide in slides {
        let tile_um = model.model.config().levels.bin.tile_um;
        if other_bin_size(slide.bin_um, tile_um) {
            console.warn(format_args!(
                "{}: measured in places of {} µm, while the model was trained on {tile_um} µm: its scores here say little",
                slide.id, slide.bin_um
            ));
        }
        evaluated.push(evaluate_slide(model, slide, held_out, device, console)?);
    }
    let scores = score(model, &evaluated)?;
    Ok((evaluated, scores))
}

/// How far the bin size of a slide may be from the model's before scores say little, as a fraction of the latter.
const BIN_SIZE_TOLERANCE: f64 = 0.25;

/// Whether places have so much another size than the model's that they hold other counts and other tissue.
fn other_bin_size(bin_um: f64, tile_um: f64) -> bool {
    (bin_um / tile_um - 1.0).abs() > BIN_SIZE_TOLERANCE
}

/// A slide that the weights were fitted to gives no held-out score.
fn refuse_training_slide(
    model: &ModelFile,
    slide: &SlideData,
    allowed: bool,
    console: &Console,
) -> Result<(), InputError> {
    let provenance = &model.bundle.metadata.provenance;
    let trained =
        provenance.training_slides.iter().find(|trained| trained.is(&slide.id, &slide.counts_sha256));
    if let Some(trained) = trained {
        let found = match trained.id == slide.id {
            true => format!("{}, which the model was trained on", slide.id),
            false => format!("{}, whose counts are those of the training slide {}", slide.id, trained.id),
        };
        if !allowed {
            let expected = "held-out slides (or --allow-training-slides)";
            return Err(InputError::in_flag("--slides", "slide", expected, found));
        }
        console.warn(format_args!("{found}: this is no held-out score"));
    }
    if provenance.validation_slides.iter().any(|valid| valid.counts_sha256 == slide.counts_sha256) {
        console.say(format_args!("{} chose the epoch of this model: its score flatters a little", slide.id));
    }
    Ok(())
}

fn evaluate_slide(
    model: &ModelFile,
    slide: SlideData,
    held_out: &HeldOut<'_>,
    device: &burn::tensor::Device,
    console: &Console,
) -> anyhow::Result<EvaluatedSlide> {
    let config = model.model.config();
    let layout = layout_of_bins(&slide.centers_px, slide.um_per_px, config)?;
    let measured = measured(&model.path, &model.bundle.metadata, held_out.dataset, &slide, &layout)?;
    let image = open_image(&slide)?;
    console.say(format_args!("{}: {} bins", slide.id, layout.centers.bin.len()));
    let options = PredictOptions { dihedral_average: held_out.augment, ..PredictOptions::default() };
    let features = match (&config.wide_features, held_out.features) {
        (WideFeatures::File { width }, Some(folder)) => {
            Some(read_matrices(folder, (&slide).into(), &layout, config, *width)?)
        }
        _ => None,
    };
    let features = features.as_ref().map(|(spot, region)| (spot, region));
    let prediction =
        predict_whole(Job { model, slide: &image, layout: &layout, features, options, device, console })?;
    let images = [("hires", image.thumbnail(HIRES_SIDE_PX)?), ("lowres", image.thumbnail(LOWRES_SIDE_PX)?)];
    Ok(EvaluatedSlide { slide, layout, measured, prediction, images })
}

/// Labels of every level, as the model's were made.
fn measured(
    model_path: &Path,
    metadata: &BundleMetadata,
    dataset: &Dataset,
    slide: &SlideData,
    layout: &SlideLayout,
) -> anyhow::Result<PerLevel<Matrix>> {
    let columns = metadata.panel.columns_in(&slide.genes).map_err(|error| {
        InputError::in_file(
            model_path,
            "genes",
            format!("genes measured on slide {} of {}", slide.id, dataset.root().display()),
            error,
        )
    })?;
    Ok(metadata.normalization.labels_of_levels(&slide.counts, &columns, layout)?)
}

fn score(model: &ModelFile, slides: &[EvaluatedSlide]) -> anyhow::Result<Scores> {
    let mut levels = Vec::new();
    for &level in model.model.config().predicted_levels() {
        let pairs: Vec<_> = slides
            .iter()
            .map(|slide| ScoredSlide {
                predicted: slide.prediction.values.get(level),
                measured: slide.measured.get(level),
            })
            .collect();
        let mean = &model.bundle.metadata.gene_statistics.get(level).mean;
        levels.push((level, evaluate_beside_mean(&pairs, mean)?));
    }
    Ok(Scores { levels })
}

/// The slide's image, with the pixel size that the dataset states.
pub(crate) fn open_image(slide: &SlideData) -> anyhow::Result<SharedSlide> {
    Ok(open_slide(&slide.image_path, Some(slide.um_per_px), &Console::quiet())?.reader)
}

/// Scores as a table: one row per name, and one for its mean predictor.
pub(crate) fn as_text(rows: &[(String, &LevelScores)]) -> String {
    let mut text = format!(
        "{:<22} {:>8} {:>8} {:>9} {:>14} {:>16} {:>7}\n",
        "", "MSE", "MAE", "PCC spot", "PCC gene mean", "PCC gene median", "n"
    );
    let mut line = |name: &str, scores: &LevelScores| {
        let number = |value: f64| if value.is_nan() { "–".to_owned() } else { format!("{value:.3}") };
        text.push_str(&format!(
            "{name:<22} {:>8} {:>8} {:>9} {:>14} {:>16} {:>7}\n",
            number(scores.mse),
            number(scores.mae),
            number(scores.pcc_spot),
            number(scores.pcc_gene_mean),
            number(scores.pcc_gene_median),
            scores.n
        ));
    };
    for (name, scores) in rows {
        line(name, scores);
        if let Some(mean) = &scores.mean_predictor {
            line("  the training mean", mean);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_another_size_are_told_from_those_of_nearly_the_same() {
        assert!(other_bin_size(55.0, 100.0) && other_bin_size(100.0, 55.0) && other_bin_size(16.0, 8.0));
        assert!(!other_bin_size(55.0, 50.0) && !other_bin_size(100.0, 100.0));
    }
}
