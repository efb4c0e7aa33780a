//! One sample of a file of several, and which of its observations.

use anyhow::{Context, Result};
use magnet_core::anndata::{AnnDataFile, AxisTable, Column};

use super::H5adOptions;
use crate::dataset::prepare::Dropped;
use crate::dataset::rows_on_tissue;
use crate::error::InputError;

/// Columns of `obs` that name the sample of each observation, in order.
const LIBRARY_COLUMNS: [&str; 4] = ["library_id", "sample_id", "sample", "library"];

/// The sample to take.
pub(super) struct Library<'a> {
    /// Its name, where the file names one.
    pub(super) name: Option<String>,
    /// The sample of each observation, where there are several.
    pub(super) of_row: Option<Vec<&'a str>>,
}

impl H5adOptions {
    /// Which sample to take.
    pub(super) fn library<'a>(&self, data: &AnnDataFile<'_>, obs: &'a AxisTable) -> Result<Library<'a>> {
        let of_uns = data.members("uns/spatial").with_context(|| self.input.display().to_string())?;
        let column = match &self.library_key {
            Some(key) => {
                let Some(column) = obs.column(key) else {
                    let found =
                        obs.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                    let expected = format!("a column {key} (--library-key)");
                    return Err(InputError::in_file(&self.input, "obs", expected, found).into());
                };
                Some(column)
            }
            None => LIBRARY_COLUMNS.iter().find_map(|name| obs.column(name)),
        };
        let of_row = column.and_then(Column::texts);
        let mut names: Vec<&str> = of_row.clone().unwrap_or_default();
        names.sort_unstable();
        names.dedup();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let several = if names.len() > 1 { &names } else { &of_uns };
        let name = match &self.library {
            Some(wanted) if names.contains(wanted) || of_uns.contains(wanted) => Some(wanted.clone()),
            Some(wanted) => {
                let known = if names.is_empty() { &of_uns } else { &names };
                let expected = format!("one of {}", known.join(", "));
                return Err(InputError::in_flag("--library", "value", expected, wanted).into());
            }
            None if several.len() > 1 => {
                let expected = format!("one of the {} samples: {}", several.len(), several.join(", "));
                return Err(InputError::in_flag("--library", "value", expected, "nothing").into());
            }
            None => of_uns.first().or(names.first()).cloned(),
        };
        // A column with one value says nothing about rows.
        let of_row = of_row.filter(|_| names.len() > 1);
        Ok(Library { name, of_row })
    }

    /// The observations to take, and what is left out.
    pub(super) fn rows(&self, obs: &AxisTable, library: &Library<'_>) -> (Vec<usize>, Vec<Dropped>) {
        let all = 0..obs.names.len();
        let of_sample: Vec<usize> = match (&library.of_row, &library.name) {
            (Some(of_row), Some(name)) => {
                all.filter(|&row| of_row.get(row) == Some(&name.as_str())).collect()
            }
            _ => all.collect(),
        };
        let mut dropped = Vec::new();
        let other_samples = obs.names.len() - of_sample.len();
        if other_samples > 0 {
            let what = "observations of other samples".to_owned();
            dropped.push(Dropped { what, count: other_samples, examples: Vec::new() });
        }
        let on_tissue = if self.off_tissue { None } else { rows_on_tissue(obs) };
        let Some(on_tissue) = on_tissue else { return (of_sample, dropped) };
        let (kept, off): (Vec<usize>, Vec<usize>) =
            of_sample.into_iter().partition(|row| on_tissue.binary_search(row).is_ok());
        let names: Vec<String> = off.iter().filter_map(|&row| obs.names.get(row).cloned()).collect();
        dropped.extend(Dropped::of("observations off tissue", &names));
        (kept, dropped)
    }
}
