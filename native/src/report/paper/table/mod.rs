//! The table of models, resolutions and datasets (the paper's Table 1), from `results.json` of protocols.

mod latex;
mod markdown;
mod published;

use std::path::{Path, PathBuf};

use anyhow::Result;
use magnet_core::Level;
use serde_json::json;

use super::short_names;
use crate::cli::{ReportTableArgs, TableFormat};
use crate::console::Console;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic};
use crate::protocol::results::{FULL, MEAN_PREDICTOR, Results, Spread, SummaryRow};

/// A score that the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Score {
    name: &'static str,
    lower_is_better: bool,
}

/// The scores of measured results, in their order; the published table has the first three.
const SCORES: [Score; 4] = [
    Score { name: "MSE", lower_is_better: true },
    Score { name: "MAE", lower_is_better: true },
    Score { name: "PCC per spot", lower_is_better: false },
    Score { name: "PCC per gene", lower_is_better: false },
];

fn scores_of(row: &SummaryRow) -> [Spread; SCORES.len()] {
    [row.mse, row.mae, row.pcc_spot, row.pcc_gene]
}

/// How a score stands among the models at its resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    Best,
    Second,
    #[default]
    Other,
}

/// One score of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cell {
    /// The mean over the folds; empty where there is none.
    mean: String,
    /// The standard deviation over the folds; empty for fewer than two.
    sd: String,
    place: Place,
}

impl Cell {
    fn of(spread: Spread) -> Self {
        let text = |value: f64| if value.is_finite() { decimals(value) } else { String::new() };
        Self { mean: text(spread.mean), sd: text(spread.sd), place: Place::Other }
    }
}

/// Three decimals with a plain minus, and no `-0.000`.
fn decimals(value: f64) -> String {
    let text = format!("{value:.3}");
    if text == "-0.000" { "0.000".into() } else { text }
}

/// The scores of one model at one resolution on every dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    model: String,
    /// For each dataset a cell for each score.
    cells: Vec<Vec<Cell>>,
}

/// A table as every format writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    title: String,
    datasets: Vec<String>,
    scores: Vec<Score>,
    /// The rows of each resolution, with its name.
    blocks: Vec<(String, Vec<Row>)>,
    notes: Vec<String>,
}

/// Results of one dataset, from one file or several.
struct Column {
    dataset: String,
    name: String,
    first: PathBuf,
    about: Results,
    rows: Vec<SummaryRow>,
}

/// Prints or writes the table of `--results`.
///
/// # Errors
/// When a file is not one of results, files contradict each other, or the output cannot be written.
pub(super) fn run(args: &ReportTableArgs, console: &Console) -> Result<()> {
    let columns = read(&args.results, args.level.into())?;
    let mut tables = vec![measured(&columns, args.level.into())];
    if args.paper {
        tables.push(published::table());
    }
    let text = match args.format {
        TableFormat::Markdown => markdown::write(&tables),
        TableFormat::Latex => latex::write(&tables),
    };
    let rows: Vec<_> =
        columns.iter().map(|column| json!({ "dataset": column.dataset, "rows": column.rows })).collect();
    let value = json!({ "level": Level::from(args.level), "out": args.out, "datasets": rows });
    match &args.out {
        None => console.result(&text, &value)?,
        Some(out) => {
            write_atomic(out, text.as_bytes(), Overwrite::from(args.overwrite))?;
            console.result(&format!("→ {}", out.display()), &value)?;
        }
    }
    Ok(())
}

/// Reads results, those of one dataset together.
fn read(paths: &[PathBuf], level: Level) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    for path in paths {
        let mut results = Results::read(path)?;
        let rows: Vec<SummaryRow> = results.summary().into_iter().filter(|row| row.level == level).collect();
        if rows.is_empty() {
            let expected = format!("scores of the {level} level");
            return Err(InputError::in_file(path, "rows", expected, "none").into());
        }
        match columns.iter_mut().find(|column| column.dataset == results.dataset) {
            Some(column) => merge(column, path, &results, rows)?,
            None => {
                results.rows.clear();
                columns.push(Column {
                    dataset: results.dataset.clone(),
                    name: String::new(),
                    first: path.clone(),
                    about: results,
                    rows,
                });
            }
        }
    }
    let datasets: Vec<&Path> = columns.iter().map(|column| Path::new(&column.dataset)).collect();
    let names = short_names(&datasets);
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name;
    }
    Ok(columns)
}

/// Adds the rows of another file on the same dataset.
fn merge(
    column: &mut Column,
    path: &Path,
    results: &Results,
    rows: Vec<SummaryRow>,
) -> Result<(), InputError> {
    let first = &column.about;
    for (field, found, expected) in [
        ("units", results.units.clone(), first.units.clone()),
        ("group", results.group.to_string(), first.group.to_string()),
        ("folds", results.folds.to_string(), first.folds.to_string()),
        ("seed", results.seed.to_string(), first.seed.to_string()),
    ] {
        if found != expected {
            let expected = format!("{expected}, as in {} on the same dataset", column.first.display());
            return Err(InputError::in_file(path, field, expected, found));
        }
    }
    for row in rows {
        let same = |known: &&SummaryRow| {
            (known.bin_um, &known.model, &known.variant) == (row.bin_um, &row.model, &row.variant)
        };
        match column.rows.iter().find(same) {
            None => column.rows.push(row),
            Some(known) if agree(known, &row) => {}
            Some(_) => {
                let expected = format!(
                    "the scores of {} at {} µm that {} has",
                    model_title(&row.model, &row.variant),
                    row.bin_um,
                    column.first.display()
                );
                return Err(InputError::in_file(path, "rows", expected, "others"));
            }
        }
    }
    Ok(())
}

/// Whether two summaries say the same, to the digits that the table shows.
fn agree(a: &SummaryRow, b: &SummaryRow) -> bool {
    let cells = |row| scores_of(row).map(Cell::of);
    a.folds == b.folds && cells(a) == cells(b)
}

/// A model as readers know it.
fn model_title(model: &str, variant: &str) -> String {
    let title = match model {
        "magnet" => "MagNet",
        "published" => "MagNet, released code",
        MEAN_PREDICTOR => "Training mean",
        "ridge" => "Ridge regression",
        "stnet" => "ST-Net",
        "bleep" => "BLEEP",
        "egn" => "EGN",
        "histogene" => "HisToGene",
        "hist2st" => "Hist2ST",
        other => other,
    };
    if variant == FULL { title.to_owned() } else { format!("{title} ({variant})") }
}

fn resolution(bin_um: f64) -> String {
    format!("{bin_um} µm")
}

fn measured(columns: &[Column], level: Level) -> Table {
    let mut sizes: Vec<f64> = Vec::new();
    let mut names: Vec<(String, String)> = Vec::new();
    for row in columns.iter().flat_map(|column| &column.rows) {
        if !sizes.contains(&row.bin_um) {
            sizes.push(row.bin_um);
        }
        let name = (row.model.clone(), row.variant.clone());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    sizes.sort_by(f64::total_cmp);
    // The training mean is what every other row is read against.
    names.sort_by_key(|(model, _)| model != MEAN_PREDICTOR);
    let mut blocks = Vec::with_capacity(sizes.len());
    for &bin_um in &sizes {
        let mut rows = Vec::new();
        for (model, variant) in &names {
            let found: Vec<Option<&SummaryRow>> = columns
                .iter()
                .map(|column| {
                    let own = |row: &&SummaryRow| {
                        row.bin_um == bin_um && row.model == *model && row.variant == *variant
                    };
                    column.rows.iter().find(own)
                })
                .collect();
            if found.iter().any(Option::is_some) {
                let empty = || vec![Cell::default(); SCORES.len()];
                let cells =
                    |row: &SummaryRow| scores_of(row).map(Cell::of).into_iter().collect::<Vec<Cell>>();
                rows.push(Row {
                    model: model_title(model, variant),
                    cells: found.into_iter().map(|row| row.map_or_else(empty, cells)).collect(),
                });
            }
        }
        mark_places(&mut rows, &SCORES);
        blocks.push((resolution(bin_um), rows));
    }
    Table {
        title: format!("Scores on held-out slides, {level} level: mean ± standard deviation over the folds"),
        datasets: columns.iter().map(|column| column.name.clone()).collect(),
        scores: SCORES.to_vec(),
        blocks,
        notes: notes(columns),
    }
}

/// Marks the best and the second of each column among the rows of one resolution. What reads the same ranks the same;
/// where there is only one, there is nothing to be better than.
fn mark_places(rows: &mut [Row], scores: &[Score]) {
    let datasets = rows.first().map_or(0, |row| row.cells.len());
    for dataset in 0..datasets {
        for (index, score) in scores.iter().enumerate() {
            let shown = |row: &Row| -> Option<f64> {
                let value: f64 = row.cells.get(dataset)?.get(index)?.mean.parse().ok()?;
                Some(if score.lower_is_better { value } else { -value })
            };
            let mut ranked: Vec<f64> = rows.iter().filter_map(shown).collect();
            if ranked.len() < 2 {
                continue;
            }
            ranked.sort_by(f64::total_cmp);
            ranked.dedup();
            for row in rows.iter_mut() {
                let Some(value) = shown(row) else { continue };
                let place = match ranked.iter().position(|known| *known == value) {
                    Some(0) => Place::Best,
                    Some(1) => Place::Second,
                    _ => Place::Other,
                };
                if let Some(cell) = row.cells.get_mut(dataset).and_then(|cells| cells.get_mut(index)) {
                    cell.place = place;
                }
            }
        }
    }
}

fn notes(columns: &[Column]) -> Vec<String> {
    let mut notes: Vec<String> = columns
        .iter()
        .map(|column| {
            let Results { folds, group, seed, units, .. } = &column.about;
            format!("{}: {folds} folds by {group}, seed {seed}; errors in {units}.", column.name)
        })
        .collect();
    notes.push(
        "PCC per spot: Pearson over the genes at one place, mean over the places (the paper's PCC). PCC per gene: Pearson \
         over the places for one gene, mean over the genes; the training mean has 0."
            .into(),
    );
    notes.push("Best value in bold, second underlined, among the rows of one resolution.".into());
    let mut fewer = Vec::new();
    for column in columns {
        for row in column.rows.iter().filter(|row| row.folds < column.about.folds) {
            fewer.push(format!(
                "{} at {} on {} ({} of {})",
                model_title(&row.model, &row.variant),
                resolution(row.bin_um),
                column.name,
                row.folds,
                column.about.folds
            ));
        }
    }
    if !fewer.is_empty() {
        notes.push(format!("Not over all folds, so not to be ranked: {}.", fewer.join("; ")));
    }
    notes
}

#[cfg(test)]
mod tests;
