//! Refuses a batch that the model cannot read, with the field, what it must be and what it is.

use super::{MagNetConfig, WideFeatures};
use crate::batch::{LevelInput, MagNetBatch, NeighborIndices};
use crate::level::{Level, PerLevel};

/// A batch that the model cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch field `{field}`: expected {expected}, found {found}")]
pub struct BatchError {
    /// Path of the field in [`MagNetBatch`].
    pub field: String,
    /// What the model needs there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl MagNetConfig {
    /// Compares the batch with the configuration and its tensors with one another. Shapes only: that indices are in
    /// bounds is the duty of whoever builds the tables, because reading them back would stall the device.
    pub(super) fn check(&self, batch: &MagNetBatch) -> Result<(), BatchError> {
        let mut rows = PerLevel { bin: 0, spot: 0, region: 0 };
        for &level in self.predicted_levels() {
            let nodes = self.check_input(level, batch.inputs.get(level))?;
            *rows.get_mut(level) = nodes;
            require(nodes > 0, || (format!("inputs.{level}"), "at least one node".to_owned(), nodes))?;
            let core = *batch.core.get(level);
            require(core <= nodes, || (format!("core.{level}"), format!("at most {nodes} nodes"), core))?;
            check_table(&format!("graphs.{level}"), batch.graphs.get(level), nodes)?;
        }
        if self.wide_levels {
            for (name, context, parent) in [
                ("spot", &batch.spot_context, &batch.parent_spot),
                ("region", &batch.region_context, &batch.parent_region),
            ] {
                check_table(&format!("{name}_context"), context, rows.bin)?;
                let [_, keys] = context.index.dims();
                require(keys > 0, || (format!("{name}_context"), "at least the parent".to_owned(), keys))?;
                let [parents] = parent.dims();
                let core = batch.core.bin;
                require(parents == core, || (format!("parent_{name}"), format!("{core} rows"), parents))?;
            }
        }
        Ok(())
    }

    /// Number of nodes of an input that fits the configuration.
    pub(super) fn check_input(&self, level: Level, input: &LevelInput) -> Result<usize, BatchError> {
        let fits = match (input, &self.wide_features) {
            (LevelInput::Patches(patches), source) => {
                let [_, channels, height, width] = patches.dims();
                let own = level == Level::Bin || *source == WideFeatures::Shared;
                own && channels == 3 && height > 0 && width > 0
            }
            (LevelInput::Encoded(nodes), _) => nodes.dims()[1] == self.width,
            (LevelInput::Features(_), WideFeatures::Shared) => false,
            (
                LevelInput::Features(features),
                WideFeatures::Frozen { width } | WideFeatures::File { width },
            ) => level != Level::Bin && features.dims()[1] == *width,
        };
        if fits { Ok(input_dims(input)[0]) } else { Err(self.wrong_input(level, input)) }
    }

    pub(super) fn wrong_input(&self, level: Level, input: &LevelInput) -> BatchError {
        let width = self.width;
        let expected = match &self.wide_features {
            WideFeatures::Frozen { width: features } | WideFeatures::File { width: features }
                if level != Level::Bin =>
            {
                format!("features [N, {features}] or encoded nodes [N, {width}]")
            }
            _ => format!("patches [N, 3, P, P] or encoded nodes [N, {width}]"),
        };
        let kind = match input {
            LevelInput::Patches(_) => "patches",
            LevelInput::Features(_) => "features",
            LevelInput::Encoded(_) => "encoded nodes",
        };
        BatchError {
            field: format!("inputs.{level}"),
            expected,
            found: format!("{kind} {:?}", input_dims(input)),
        }
    }
}

/// Compares the tables of the bins with the number of bins, and the number of core bins.
#[cfg(feature = "comparators")]
pub(crate) fn check_bins(batch: &MagNetBatch, bins: usize) -> Result<(), BatchError> {
    require(bins > 0, || ("inputs.bin".to_owned(), "at least one node".to_owned(), bins))?;
    let core = batch.core.bin;
    require(core <= bins, || ("core.bin".to_owned(), format!("at most {bins} nodes"), core))?;
    let places = batch.places.dims();
    require(places == [bins, 2], || ("places".to_owned(), format!("[{bins}, 2]"), format!("{places:?}")))?;
    check_table("graphs.bin", &batch.graphs.bin, bins)
}

fn input_dims(input: &LevelInput) -> Vec<usize> {
    match input {
        LevelInput::Patches(patches) => patches.dims().to_vec(),
        LevelInput::Features(rows) | LevelInput::Encoded(rows) => rows.dims().to_vec(),
    }
}

fn require<T: ToString>(
    holds: bool,
    message: impl FnOnce() -> (String, String, T),
) -> Result<(), BatchError> {
    if holds {
        return Ok(());
    }
    let (field, expected, found) = message();
    Err(BatchError { field, expected, found: found.to_string() })
}

fn check_table(field: &str, table: &NeighborIndices, rows: usize) -> Result<(), BatchError> {
    let index = table.index.dims();
    let valid = table.valid.dims();
    require(index[0] == rows, || (field.to_owned(), format!("{rows} rows"), index[0]))?;
    require(index == valid, || (format!("{field}.valid"), format!("{index:?}"), format!("{valid:?}")))
}
