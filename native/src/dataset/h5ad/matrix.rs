//! Which matrix, which of its features, and what is said of values that are no counts.

use anyhow::{Context, Result};
use magnet_core::anndata::{AnnDataFile, AxisTable};

use super::H5adOptions;
use crate::dataset::prepare::Dropped;
use crate::dataset::tenx_matrix::GENE_EXPRESSION;
use crate::error::InputError;

impl H5adOptions {
    pub(super) fn matrix_path(&self, data: &AnnDataFile<'_>) -> Result<String> {
        let known = data.matrices().with_context(|| self.input.display().to_string())?;
        let wanted = [self.layer.clone(), format!("layers/{}", self.layer)];
        let wanted_raw = (self.layer == "raw").then(|| "raw/X".to_owned());
        match known.iter().find(|path| wanted.contains(path) || Some(*path) == wanted_raw.as_ref()) {
            Some(path) => Ok(path.clone()),
            None => {
                let expected = format!("one of {}", known.join(", "));
                Err(InputError::in_flag("--layer", "value", expected, &self.layer).into())
            }
        }
    }

    /// The error of values that are no counts, with what they may be and where counts may stand.
    pub(super) fn not_counts(
        &self,
        error: InputError,
        data: &AnnDataFile<'_>,
        path: &str,
        values: &[f32],
    ) -> anyhow::Error {
        let largest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
        let looks = if values.iter().any(|value| *value < 0.0) {
            "scaled to zero mean, by their sign"
        } else if largest < 20.0 {
            "log-normalised, by their size"
        } else {
            "normalised"
        };
        let others: Vec<String> =
            data.matrices().unwrap_or_default().into_iter().filter(|other| other != path).collect();
        let hint = match others.as_slice() {
            [] => "the file has no other matrix".to_owned(),
            others => format!("--layer takes another: {}", others.join(", ")),
        };
        let found = format!("{}; the values look {looks}; {hint}", error.found);
        InputError { found, ..error }.into()
    }
}

/// The rows of genes where `var/feature_types` names other features too, and those others.
pub(super) fn other_features(var: &AxisTable) -> Option<(Vec<usize>, Dropped)> {
    let types = ["feature_types", "feature_type"].iter().find_map(|name| var.column(name)?.texts())?;
    let (genes, others): (Vec<usize>, Vec<usize>) =
        (0..types.len()).partition(|&row| types.get(row).is_some_and(|kind| *kind == GENE_EXPRESSION));
    // A table that calls genes otherwise is left as it is.
    let names = var.select(&others).names;
    let dropped = Dropped::of(&format!("features that are not {GENE_EXPRESSION}"), &names)?;
    (!genes.is_empty()).then_some((genes, dropped))
}
