//! The ordered list of genes that a model predicts.

use serde::{Deserialize, Serialize};

/// Gene ids (Ensembl where known) and symbols, in the order of the model's output columns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenePanel {
    /// Stable ids; the symbol again where the source has no id.
    pub ids: Vec<String>,
    /// Symbols as shown to people; unique within the panel.
    pub symbols: Vec<String>,
}
