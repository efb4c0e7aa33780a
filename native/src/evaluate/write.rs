//! Files of an evaluation: scores, a table of genes, measured beside predicted values.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use magnet_core::Level;
use magnet_core::anndata::{Annotation, annotate};
use magnet_core::map::PredictedMap;
use magnet_core::metrics::Evaluation;
use magnet_core::predict::{Places, centers_px};
use magnet_core::weights::Precision;

use super::{EvaluatedSlide, Scores};
use crate::deflate::AllThreads;
use crate::model_file::{ModelFile, PROGRAM};

/// Writes `scores.json`, `genes.csv` and one `<slide>.<level>.h5ad` per slide and level; returns their names.
pub(super) fn write(
    folder: &Path,
    model: &ModelFile,
    slides: &[EvaluatedSlide],
    scores: &Scores,
) -> anyhow::Result<Vec<String>> {
    let json = serde_json::to_string_pretty(&scores.to_json()?)?;
    std::fs::write(folder.join("scores.json"), json + "\n").context("cannot write scores.json")?;
    write_genes(&folder.join("genes.csv"), model, scores).context("cannot write genes.csv")?;
    let mut written = vec!["scores.json".to_owned(), "genes.csv".to_owned()];
    for slide in slides {
        for (level, _) in &scores.levels {
            let name = format!("{}.{level}.h5ad", slide.slide.id);
            write_anndata(&folder.join(&name), model, slide, *level)
                .with_context(|| format!("cannot write {name}"))?;
            written.push(name);
        }
    }
    Ok(written)
}

fn write_genes(path: &Path, model: &ModelFile, scores: &Scores) -> anyhow::Result<()> {
    let mut table = csv::Writer::from_path(path)?;
    table.write_record([
        "level",
        "gene",
        "id",
        "pcc",
        "mse",
        "mae",
        "measured_mean",
        "measured_sd",
        "predicted_mean",
        "predicted_sd",
    ])?;
    let panel = &model.bundle.metadata.panel;
    for (level, evaluation) in &scores.levels {
        let Evaluation { genes, .. } = evaluation;
        for ((gene, symbol), id) in genes.iter().zip(&panel.symbols).zip(&panel.ids) {
            let numbers = [
                gene.pcc,
                gene.mse,
                gene.mae,
                gene.measured_mean,
                gene.measured_sd,
                gene.predicted_mean,
                gene.predicted_sd,
            ];
            // An undefined correlation is an empty cell, as tables of this kind have it.
            let cell = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.6}") };
            let names = [level.to_string(), symbol.clone(), id.clone()];
            table.write_record(names.into_iter().chain(numbers.map(cell)))?;
        }
    }
    table.flush()?;
    Ok(())
}

/// Predictions in `X`, labels in `layers/measured`, else as `predict` writes them.
fn write_anndata(path: &Path, model: &ModelFile, slide: &EvaluatedSlide, level: Level) -> anyhow::Result<()> {
    let EvaluatedSlide { slide, layout, measured, prediction, images } = slide;
    let places = Places { names: slide.barcodes.clone(), centers_px: Vec::new() };
    let map = PredictedMap {
        bundle: &model.bundle,
        model_sha256: &model.sha256,
        program: PROGRAM,
        slide_name: &slide.id,
        image_sha256: &slide.image_sha256,
        region: None,
        um_per_px: slide.um_per_px,
        level,
        names: &places.level_names(layout, level),
        centers_um: layout.centers.get(level),
        centers_px: &centers_px(layout, level, slide.um_per_px),
        values: prediction.values.get(level),
        complete: prediction.complete,
        precision: Precision::Single,
    };
    let mut data = map.anndata(&images.each_ref().map(|(name, image)| (*name, image)))?;
    data.layers.insert("measured".into(), measured.get(level));
    let normalization = model.bundle.metadata.normalization;
    let (values, unit) = (normalization.values(), normalization.unit());
    let note = format!("{values} of the slide in the same genes and units as X, {unit}");
    annotate(&mut data.uns, "magnet/measured", Annotation::Text(note));
    annotate(&mut data.uns, "magnet/counts_sha256", Annotation::Text(slide.counts_sha256.clone()));
    let mut out = BufWriter::new(File::create(path)?);
    data.write(&mut out, &AllThreads)?;
    Ok(out.flush()?)
}
