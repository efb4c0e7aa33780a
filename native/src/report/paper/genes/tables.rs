//! Every number of the figure.

use std::path::Path;

use anyhow::{Context, Result};

use super::overlap::Overlap;
use super::selection::{RULES, Selection};
use crate::files::{Overwrite, write_atomic};

/// One row for each gene of each selection, by falling mean.
pub(super) fn write_genes(path: &Path, selections: &[Selection]) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut head: Vec<String> =
        ["dataset", "bin_um", "gene", "id", "mean", "variance", "dispersion", "detected"]
            .map(String::from)
            .to_vec();
    head.extend(RULES.iter().flat_map(|(_, _, key)| [format!("{key}_rank"), format!("{key}_chosen")]));
    table.write_record(&head)?;
    for selection in selections {
        let ranks: Vec<Vec<usize>> = (0..RULES.len()).map(|rule| selection.ranks(rule)).collect();
        for &gene in selection.ranked.first().into_iter().flatten() {
            let (Some(moments), Some(symbol), Some(id)) = (
                selection.moments.get(gene),
                selection.genes.symbols.get(gene),
                selection.genes.ids.get(gene),
            ) else {
                continue;
            };
            let mut row =
                vec![selection.dataset.clone(), selection.bin_um.to_string(), symbol.clone(), id.clone()];
            let numbers = [moments.mean, moments.variance, moments.dispersion(), moments.detected];
            // What is not defined is an empty cell, as tables of this kind have it.
            row.extend(
                numbers.map(|value| if value.is_nan() { String::new() } else { format!("{value:.6}") }),
            );
            for ranks in &ranks {
                let rank = ranks.get(gene).copied().unwrap_or_default();
                row.extend([rank.to_string(), u8::from(rank <= selection.chosen).to_string()]);
            }
            table.write_record(&row)?;
        }
    }
    finish(path, table)
}

/// One row for each two choices.
pub(super) fn write_overlap(path: &Path, overlap: &Overlap) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["a", "b", "genes_a", "genes_b", "shared", "jaccard"])?;
    for (a, (name_a, row)) in overlap.names.iter().zip(&overlap.shared).enumerate() {
        for (b, (name_b, shared)) in overlap.names.iter().zip(row).enumerate().skip(a + 1) {
            let size = |panel: usize| overlap.sizes.get(panel).copied().unwrap_or_default().to_string();
            let numbers = [size(a), size(b), shared.to_string(), format!("{:.6}", overlap.jaccard(a, b))];
            table.write_record([name_a.clone(), name_b.clone()].into_iter().chain(numbers))?;
        }
    }
    finish(path, table)
}

fn finish(path: &Path, table: csv::Writer<Vec<u8>>) -> Result<()> {
    let bytes = table.into_inner().map_err(|error| error.into_error()).context("cannot write a table")?;
    write_atomic(path, &bytes, Overwrite::No)
}
