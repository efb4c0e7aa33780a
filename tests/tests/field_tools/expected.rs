//! What the tools say that their files hold, and how that is compared with what was read.

use std::collections::BTreeMap;

use magnet_core::anndata::{AnnData, AxisTable, Column, Values};
use serde::Deserialize;

/// A number that travels as text, so that no digit is lost on the way.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub struct Exact(pub f64);

impl TryFrom<String> for Exact {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Exact)
    }
}

/// Equal to the last bit, NaN to NaN.
pub fn identical(expected: &[Exact], found: &[f64]) -> bool {
    let same =
        |(expected, found): (&Exact, &f64)| expected.0 == *found || (expected.0.is_nan() && found.is_nan());
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

/// What a matrix holds, as the tool that wrote it reads it back.
#[derive(Deserialize)]
pub struct ExpectedMatrix {
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<Exact>,
}

impl ExpectedMatrix {
    pub fn compare(&self, what: &str, found: Values, wrong: &mut Vec<String>) {
        let found = found.into_dense();
        if (found.rows, found.cols) != (self.rows, self.cols) {
            wrong.push(format!("{what}: {} × {}, not {} × {}", found.rows, found.cols, self.rows, self.cols));
            return;
        }
        let differing =
            self.values.iter().zip(&found.values).position(|(expected, found)| expected.0 as f32 != *found);
        if let Some(place) = differing {
            let (expected, found) = (self.values[place].0, found.values[place]);
            wrong.push(format!(
                "{what}: row {}, column {}: {found}, not {expected}",
                place / self.cols,
                place % self.cols
            ));
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ExpectedColumn {
    Texts { values: Vec<String> },
    Numbers { values: Vec<Exact> },
    Integers { values: Vec<i64> },
    Flags { values: Vec<bool> },
    Categorical { values: Vec<Option<String>>, categories: Vec<String> },
}

impl ExpectedColumn {
    pub fn holds(&self, found: &Column) -> bool {
        match (self, found) {
            (ExpectedColumn::Texts { values }, Column::Texts(found)) => values == found,
            (ExpectedColumn::Numbers { values }, Column::Numbers(found)) => identical(values, found),
            (ExpectedColumn::Integers { values }, Column::Integers(found)) => values == found,
            (ExpectedColumn::Flags { values }, Column::Flags(found)) => values == found,
            (
                ExpectedColumn::Categorical { values, categories },
                Column::Categorical { codes, categories: found },
            ) => {
                let text = |code: &Option<u32>| code.map(|code| found[code as usize].clone());
                categories == found && *values == codes.iter().map(text).collect::<Vec<_>>()
            }
            _ => false,
        }
    }
}

#[derive(Deserialize)]
pub struct ExpectedTable {
    pub names: Vec<String>,
    pub columns: BTreeMap<String, ExpectedColumn>,
}

impl ExpectedTable {
    pub fn compare(&self, what: &str, found: &AxisTable, wrong: &mut Vec<String>) {
        if self.names != found.names {
            wrong.push(format!("{what}: other names"));
        }
        let mut columns: Vec<&str> = found.columns.iter().map(|(name, _)| name.as_str()).collect();
        columns.sort_unstable();
        if columns != self.columns.keys().collect::<Vec<_>>() {
            wrong.push(format!("{what}: the columns {columns:?}"));
        }
        for (name, expected) in &self.columns {
            if let Some(found) = found.column(name)
                && !expected.holds(found)
            {
                wrong.push(format!("{what}/{name}: {:.300}", format!("{found:?}")));
            }
        }
    }
}

#[derive(Deserialize)]
pub struct ExpectedAnnData {
    pub file: String,
    pub sparse: bool,
    pub x: ExpectedMatrix,
    pub layers: BTreeMap<String, ExpectedMatrix>,
    pub obs: ExpectedTable,
    pub var: ExpectedTable,
    pub spatial: Option<Vec<Exact>>,
    pub ignored: Vec<String>,
}

impl ExpectedAnnData {
    pub fn compare(&self, found: AnnData, wrong: &mut Vec<String>) {
        if matches!(found.x, Values::Sparse(_)) != self.sparse {
            wrong.push(format!("X: {}sparse", if self.sparse { "not " } else { "" }));
        }
        self.x.compare("X", found.x, wrong);
        let mut layers = found.layers;
        for (name, expected) in &self.layers {
            match layers.remove(name) {
                Some(found) => expected.compare(&format!("layers/{name}"), found, wrong),
                None => wrong.push(format!("layers/{name}: absent")),
            }
        }
        if !layers.is_empty() {
            wrong.push(format!("further layers {:?}", layers.keys()));
        }
        self.obs.compare("obs", &found.obs, wrong);
        self.var.compare("var", &found.var, wrong);
        let spatial: Option<Vec<f64>> =
            found.spatial.map(|points| points.iter().flat_map(|point| [point.x, point.y]).collect());
        let same = match (&self.spatial, &spatial) {
            (Some(expected), Some(found)) => identical(expected, found),
            (None, None) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("obsm/spatial: {:.300}", format!("{spatial:?}")));
        }
        let mut ignored = found.ignored;
        ignored.sort_unstable();
        if ignored != self.ignored {
            wrong.push(format!("ignored: {ignored:?}"));
        }
    }
}

#[derive(Deserialize)]
pub struct ExpectedTenx {
    pub file: String,
    pub barcodes: Vec<String>,
    pub ids: Vec<String>,
    pub names: Vec<String>,
    pub types: Vec<String>,
    pub genomes: Vec<String>,
    pub x: ExpectedMatrix,
}

#[derive(Deserialize)]
pub struct ExpectedPositions {
    pub file: String,
    pub barcode: Vec<String>,
    pub in_tissue: Vec<bool>,
    pub array_row: Vec<i32>,
    pub array_col: Vec<i32>,
    pub x: Vec<Exact>,
    pub y: Vec<Exact>,
}

#[derive(Deserialize)]
pub struct Expected {
    pub h5ad: Vec<ExpectedAnnData>,
    pub tenx: Vec<ExpectedTenx>,
    pub positions: Vec<ExpectedPositions>,
}
