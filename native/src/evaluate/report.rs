//! An evaluation as the report shows it.

use magnet_core::Level;
use magnet_core::expression::Matrix;
use magnet_core::heatmap::{ColorMap, Mark};
use magnet_core::metrics::pearson;
use magnet_core::slide::PatchReader;

use super::{EvaluatedSlide, Scores, open_image};
use crate::model_file::ModelFile;
use crate::report::{
    DetailGroup, GeneMap, GeneRow, ReportInput, ScoreRow, SlideMaps, TrainingRow, best_median_worst,
};

/// Longer side of the slides' pictures, in pixels.
const THUMBNAIL_PX: u32 = 900;
/// How many of the best genes are shown.
const BEST_GENES: usize = 2;

/// Everything that the report of this evaluation says.
pub(super) fn input(
    model: &ModelFile,
    slides: &[EvaluatedSlide],
    scores: &Scores,
) -> anyhow::Result<ReportInput> {
    let metadata = &model.bundle.metadata;
    let trained = slide_names(metadata.provenance.training_slides.iter().map(|slide| slide.id.as_str()));
    let tested = slide_names(slides.iter().map(|slide| slide.slide.id.as_str()));
    let validated = slide_names(metadata.provenance.validation_slides.iter().map(|slide| slide.id.as_str()));
    let chosen = match validated.is_empty() {
        true => String::new(),
        false => format!("; validated on {validated}"),
    };
    let bin = scores.levels.iter().find(|(level, _)| *level == Level::Bin).map(|(_, evaluation)| evaluation);
    let symbols = &metadata.panel.symbols;
    let genes: Vec<GeneRow> = match bin {
        Some(bin) => {
            symbols.iter().zip(&bin.genes).map(|(symbol, gene)| GeneRow::new(symbol, gene)).collect()
        }
        None => Vec::new(),
    };
    let pearsons: Vec<f64> = genes.iter().map(|gene| gene.pearson).collect();
    let shown = best_median_worst(&pearsons, BEST_GENES);
    Ok(ReportInput {
        title: format!("MagNet on {tested}"),
        summary: format!("Trained on {trained}{chosen}; tested on {tested}."),
        units: metadata.normalization.unit().to_owned(),
        scores: scores
            .levels
            .iter()
            .flat_map(|(level, evaluation)| ScoreRow::of_model(*level, &evaluation.scores))
            .collect(),
        genes,
        training: training(model),
        slides: slides.iter().map(|slide| maps(slide, symbols, &shown)).collect::<anyhow::Result<_>>()?,
        color_map: ColorMap::default(),
        details: details(model, slides)?,
        notes: vec![magnet_core::heatmap::PREDICTED_NOTE.to_owned()],
    })
}

fn slide_names<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.collect::<Vec<_>>().join(", ")
}

fn maps(
    slide: &EvaluatedSlide,
    symbols: &[String],
    shown: &[(usize, &'static str)],
) -> anyhow::Result<SlideMaps> {
    let (measured, predicted): (&Matrix, &Matrix) = (&slide.measured.bin, &slide.prediction.values.bin);
    let genes = shown
        .iter()
        .map(|&(gene, label)| {
            let (measured, predicted) = (measured.column(gene), predicted.column(gene));
            let pairs = predicted.iter().copied().zip(measured.iter().copied());
            GeneMap {
                symbol: symbols.get(gene).cloned().unwrap_or_default(),
                label: label.to_owned(),
                pearson: pearson(pairs).unwrap_or(f64::NAN),
                measured: Some(measured),
                predicted,
            }
        })
        .collect();
    Ok(SlideMaps {
        name: slide.slide.id.clone(),
        slide: Some(open_image(&slide.slide)?.thumbnail(THUMBNAIL_PX)?),
        centers: slide.layout.centers.bin.clone(),
        mark: Mark::of_bin(slide.slide.bin_um),
        genes,
    })
}

/// The epochs of the run whose folder the model lies in; none for a model that was moved away.
fn training(model: &ModelFile) -> Vec<TrainingRow> {
    let folder = model.path.parent().unwrap_or_else(|| std::path::Path::new("."));
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| training_row(&serde_json::from_str(line).ok()?)).collect()
}

fn training_row(row: &serde_json::Value) -> Option<TrainingRow> {
    Some(TrainingRow {
        epoch: row.get("epoch")?.as_f64()?,
        train_loss: row.pointer("/train/total").and_then(serde_json::Value::as_f64),
        valid_loss: row.pointer("/valid/total").and_then(serde_json::Value::as_f64),
        valid_pcc_gene: row.pointer("/valid_scores/bin/pcc_gene_mean").and_then(serde_json::Value::as_f64),
    })
}

fn details(model: &ModelFile, slides: &[EvaluatedSlide]) -> anyhow::Result<Vec<DetailGroup>> {
    let metadata = &model.bundle.metadata;
    let provenance = &metadata.provenance;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut digests = vec![
        row("model file (SHA-256)", model.sha256.clone()),
        row("weights (SHA-256)", model.bundle.weights_sha256()),
    ];
    for slide in slides {
        digests.push(row(&format!("{} image (SHA-256)", slide.slide.id), slide.slide.image_sha256.clone()));
        digests.push(row(&format!("{} counts (SHA-256)", slide.slide.id), slide.slide.counts_sha256.clone()));
    }
    let run = vec![
        row("program", format!("magnet-native {}", env!("CARGO_PKG_VERSION"))),
        row("model written by", metadata.code_version.clone()),
        row("seed", provenance.seed.to_string()),
        row("trained on", provenance.device.clone()),
        row("epochs", format!("{} of {} kept", provenance.kept_epoch, provenance.epochs)),
        row("command", provenance.command_line.join(" ")),
    ];
    Ok(vec![
        DetailGroup { title: "Run".into(), rows: run },
        DetailGroup { title: "Digests".into(), rows: digests },
        DetailGroup {
            title: "Configuration".into(),
            rows: vec![row("settings", provenance.run_config.clone())],
        },
    ])
}
