//! Files of an evaluation: scores, a table of genes, measured beside predicted values.

use std::path::Path;

use anyhow::Context;
use magnet_core::Level;
use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, Values};
use magnet_core::metrics::Evaluation;
use magnet_core::predict::centers_px;

use super::{EvaluatedSlide, Scores};
use crate::model_file::ModelFile;

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
            let bytes = anndata(model, slide, *level).write()?;
            std::fs::write(folder.join(&name), bytes).with_context(|| format!("cannot write {name}"))?;
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

fn anndata(model: &ModelFile, slide: &EvaluatedSlide, level: Level) -> AnnData {
    let panel = &model.bundle.metadata.panel;
    let names = match level {
        Level::Bin => slide.slide.barcodes.clone(),
        _ => (0..slide.layout.centers.get(level).len()).map(|tile| format!("{level}-{tile}")).collect(),
    };
    let var = AxisTable {
        names: panel.symbols.clone(),
        columns: vec![("gene_ids".into(), Column::Texts(panel.ids.clone()))],
    };
    let predicted = Values::Dense(slide.prediction.values.get(level).clone());
    let mut data = AnnData::new(predicted, AxisTable::from_names(names), var);
    data.layers.insert("measured".into(), Values::Dense(slide.measured.get(level).clone()));
    data.spatial = Some(centers_px(&slide.layout, level, slide.slide.um_per_px));
    for (key, value) in model.provenance() {
        data.set_annotation(&format!("magnet/{key}"), value);
    }
    data.set_annotation("magnet/level", Annotation::Text(level.to_string()));
    data.set_annotation("magnet/slide", Annotation::Text(slide.slide.id.clone()));
    data.set_annotation("magnet/image_sha256", Annotation::Text(slide.slide.image_sha256.clone()));
    data.set_annotation("magnet/counts_sha256", Annotation::Text(slide.slide.counts_sha256.clone()));
    data
}
