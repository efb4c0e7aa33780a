//! What a model must beat: the training mean, and ridge regression on colour and texture statistics.

use anyhow::Context;
use magnet_core::Level;
use magnet_core::comparator::{Comparator, Ridge, TrainingMean, slide_statistics};
use magnet_core::coordinates::um_from_px;
use magnet_core::expression::{GeneSelection, Matrix, Normalization, ValueKind};
use magnet_core::metrics::{Evaluation, ScoredSlide, evaluate};
use rayon::prelude::*;
use serde_json::json;

use super::{as_text, open_image};
use crate::cli::BaselineArgs;
use crate::console::Console;
use crate::dataset::{Dataset, SlideData};
use crate::error::InputError;

/// A slide as ridge regression sees it.
struct Observed {
    /// `[N,F]` statistics of the patches around each spot.
    features: Matrix,
    /// `[N,G]` labels.
    labels: Matrix,
}

/// Fits both comparators on `--train` and scores them on `--test`.
///
/// # Errors
/// If an input is wrong.
pub fn run(args: &BaselineArgs, console: &Console) -> anyhow::Result<()> {
    if let Some(id) = args.test.iter().find(|id| args.train.contains(id)) {
        return Err(InputError::in_flag("--test", "slide", "slides that are not in --train", id).into());
    }
    let dataset = Dataset::open(&args.data)?;
    let values = dataset.value_kind(args.train.iter().chain(&args.test))?;
    let load = |ids: &[String]| ids.iter().map(|id| dataset.slide(id)).collect::<anyhow::Result<Vec<_>>>();
    let (train, test) = (load(&args.train)?, load(&args.test)?);
    let panel = gene_panel(&train, values, args.genes)?;
    let observe = |slides: &[SlideData]| -> anyhow::Result<Vec<Observed>> {
        slides
            .iter()
            .map(|slide| {
                console.say(format_args!("{}: statistics of {} bins", slide.id, slide.centers_px.len()));
                observe(slide, &panel, &args.patches_px)
            })
            .collect()
    };
    let (train, test) = (observe(&train)?, observe(&test)?);
    let mean = fit_and_score(&TrainingMean, &train, &test)?;
    let ridge = fit_and_score(&Ridge { penalty: args.penalty }, &train, &test)?;
    let text = as_text(&[("the training mean".into(), &mean.scores), ("ridge".into(), &ridge.scores)]);
    let value = json!({ Level::Bin.name(): { "mean_predictor": mean.scores, "ridge": ridge.scores } });
    console.result(&text, &value)?;
    Ok(())
}

fn gene_panel(
    slides: &[SlideData],
    values: ValueKind,
    genes: usize,
) -> anyhow::Result<magnet_core::GenePanel> {
    let counts: Vec<_> = slides.iter().map(|slide| (&slide.counts, &slide.genes)).collect();
    Ok(GeneSelection::HighestMean.select(&counts, values, &[], genes)?)
}

fn observe(
    slide: &SlideData,
    panel: &magnet_core::GenePanel,
    patches_px: &[usize],
) -> anyhow::Result<Observed> {
    let columns = panel.columns_in(&slide.genes).with_context(|| format!("slide {}", slide.id))?;
    let normalization = match slide.values {
        ValueKind::Counts => Normalization::Log1pCp10k,
        ValueKind::Normalized => Normalization::AsGiven,
    };
    let labels = normalization.labels(&slide.counts, &columns)?;
    let image = open_image(slide)?;
    let centers: Vec<_> =
        slide.centers_px.iter().map(|&center| um_from_px(center, slide.um_per_px)).collect();
    // Texture depends on the resolution, so patches are whole pixels of the image as it is.
    let sides_um: Vec<f64> = patches_px.iter().map(|&side| side as f64 * slide.um_per_px).collect();
    let parts = centers
        .par_chunks(16)
        .map(|centers| slide_statistics(&image, centers, &sides_um))
        .collect::<Result<Vec<_>, _>>()?;
    let features = stacked(parts.iter());
    Ok(Observed { features, labels })
}

fn fit_and_score(
    comparator: &dyn Comparator,
    train: &[Observed],
    test: &[Observed],
) -> anyhow::Result<Evaluation> {
    let features = stacked(train.iter().map(|slide| &slide.features));
    let labels = stacked(train.iter().map(|slide| &slide.labels));
    let fitted = comparator.fit(&features, &labels)?;
    let predicted =
        test.iter().map(|slide| fitted.predict(&slide.features)).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<_> = predicted
        .iter()
        .zip(test)
        .map(|(predicted, slide)| ScoredSlide { predicted, measured: &slide.labels })
        .collect();
    Ok(evaluate(&pairs)?)
}

/// The rows of several matrices of one width, one after the other.
fn stacked<'a>(matrices: impl Iterator<Item = &'a Matrix>) -> Matrix {
    let mut all = Matrix::default();
    for matrix in matrices {
        all.rows += matrix.rows;
        all.cols = matrix.cols;
        all.values.extend_from_slice(&matrix.values);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacking_keeps_the_order_of_rows() {
        let a = Matrix { rows: 2, cols: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
        let b = Matrix { rows: 1, cols: 2, values: vec![5.0, 6.0] };
        let all = stacked([&a, &b].into_iter());
        assert_eq!((all.rows, all.row(2)), (3, [5.0, 6.0].as_slice()));
    }
}
