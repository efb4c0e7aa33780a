//! How much of a known program a model recovered, gene group by gene group.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use magnet_core::expression::Normalization;
use magnet_core::metrics::pearson;
use serde::Serialize;

use super::SyntheticSlide;
use super::counts::wide_counts;
use super::generate::{PROGRAM_FILE, ProgramFile};
use super::morphology::{BIN_UM, WIDE_BIN_UM};
use super::program::GeneGroup;
use crate::error::InputError;
use crate::files::read_limited;

/// Largest `program.json` that is read, in bytes.
const MAX_PROGRAM_BYTES: u64 = 64 << 20;

/// One group of genes with the same kind of driver.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupRecovery {
    /// The group.
    pub group: GeneGroup,
    /// Its genes that the model predicts.
    pub genes: usize,
    /// Pearson of prediction and measurement over the bins, mean over the genes.
    pub model: f64,
    /// The same for the noise-free truth in place of the prediction: what the noise of the counts leaves to explain.
    pub ceiling: f64,
}

/// Compares a model's scores on one slide of a generated folder with the ceiling; labels are log1p CP10K over all genes.
///
/// `scores` gives Pearson of prediction and measurement over the slide's bins of `bin_um` by gene symbol. Groups of
/// which no gene is scored are left out.
///
/// # Errors
/// When the folder holds no readable `program.json`, the slide is none of its slides, or `bin_um` is no bin size of it.
pub fn recovery(
    tissue: &Path,
    slide_id: &str,
    bin_um: f64,
    scores: &HashMap<String, f64>,
) -> Result<Vec<GroupRecovery>> {
    let path = tissue.join(PROGRAM_FILE);
    let bytes = read_limited(&path, MAX_PROGRAM_BYTES)?;
    let file: ProgramFile =
        serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
    file.config.validate()?;
    let known = || file.slides.iter().map(|slide| slide.id.as_str()).collect::<Vec<_>>().join(", ");
    let index = (0..file.config.slides).find(|&index| file.config.slide_id(index) == slide_id);
    let index =
        index.ok_or_else(|| InputError::in_file(&path, "slides", format!("one of {}", known()), slide_id))?;
    let slide = SyntheticSlide::grow(&file.config, index);
    let small = slide.truth(&file.genes);
    let drawn = small.draw(&file.genes, slide.seed)?;
    let (truth, counts) = if bin_um == BIN_UM {
        (small, drawn)
    } else if bin_um == WIDE_BIN_UM {
        let (_, wide) = wide_counts(small.grid, &small.in_tissue, &drawn)?;
        (small.wide(), wide)
    } else {
        return Err(
            InputError::in_file(&path, "bin size", format!("{BIN_UM} or {WIDE_BIN_UM}"), bin_um).into()
        );
    };
    let columns: Vec<u32> = (0..counts.genes as u32).collect();
    let measured = Normalization::Log1pCp10k.labels(&counts, &columns)?;
    let expected = truth.labels(Normalization::Log1pCp10k);
    let ceiling = |gene: usize| {
        let pairs = expected.column(gene).into_iter().zip(measured.column(gene));
        // A constant truth explains nothing.
        pearson(pairs).unwrap_or(0.0)
    };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let mut groups = Vec::new();
    for group in GeneGroup::ALL {
        let genes = file.genes.genes.iter().enumerate().filter(|(_, gene)| gene.group == group);
        let scored: Vec<(usize, f64)> =
            genes.filter_map(|(index, gene)| Some((index, *scores.get(&gene.symbol)?))).collect();
        if scored.is_empty() {
            continue;
        }
        groups.push(GroupRecovery {
            group,
            genes: scored.len(),
            model: mean(scored.iter().map(|&(_, score)| score).collect()),
            ceiling: mean(scored.iter().map(|&(index, _)| ceiling(index)).collect()),
        });
    }
    Ok(groups)
}
