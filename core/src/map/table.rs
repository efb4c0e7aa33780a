//! All values as tables: CSV and AnnData.

use std::fmt::Write;

use super::PredictedMap;
use crate::anndata::{AnnData, Annotation, AxisTable, Column, Values};

impl PredictedMap<'_> {
    /// A row per node: name, centre in full-resolution pixels, and the value of every gene with five decimals; a value
    /// that was not predicted is an empty cell.
    pub fn csv(&self) -> Vec<u8> {
        let mut table = Vec::new();
        self.csv_lines().for_each(|line| table.extend(line.into_bytes()));
        table
    }

    /// The lines of [`PredictedMap::csv`] with their line ends, the header first; for a table that is written as it is
    /// made.
    pub fn csv_lines(&self) -> impl Iterator<Item = String> {
        let symbols = &self.bundle.metadata.panel.symbols;
        let mut header = String::from("barcode,x,y");
        for symbol in symbols {
            header.push(',');
            push_cell(&mut header, symbol);
        }
        header.push('\n');
        let rows = self.names.iter().zip(self.centers_px).enumerate().take(self.values.rows);
        std::iter::once(header).chain(rows.map(|(row, (name, center))| {
            let values = self.values.row(row);
            let mut line = String::with_capacity(name.len() + 24 + 8 * values.len());
            push_cell(&mut line, name);
            // Writing to a string does not fail.
            let _ = write!(line, ",{:.2},{:.2}", center.x, center.y);
            for value in values {
                let _ = if value.is_nan() { write!(line, ",") } else { write!(line, ",{value:.5}") };
            }
            line.push('\n');
            line
        }))
    }

    /// The values as AnnData: genes with their ids, centres in `obsm/spatial`, provenance in `uns/magnet`.
    pub fn anndata(&self) -> AnnData {
        let panel = &self.bundle.metadata.panel;
        let var = AxisTable {
            names: panel.symbols.clone(),
            columns: vec![("gene_ids".into(), Column::Texts(panel.ids.clone()))],
        };
        let obs = AxisTable::from_names(self.names.to_vec());
        let mut data = AnnData::new(Values::Dense(self.values.clone()), obs, var);
        data.spatial = Some(self.centers_px.to_vec());
        let model = super::provenance(self.bundle, self.model_sha256, self.program);
        for (key, value) in model.into_iter().chain(self.run_provenance()) {
            data.set_annotation(&format!("magnet/{key}"), value);
        }
        if !self.complete {
            data.set_annotation("magnet/complete", Annotation::Flag(false));
            let rows = i64::try_from(self.rows_predicted()).unwrap_or(i64::MAX);
            data.set_annotation("magnet/rows_predicted", Annotation::Integer(rows));
        }
        data
    }
}

/// Appends a cell, in quotes where it needs them.
fn push_cell(line: &mut String, cell: &str) {
    if cell.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&cell.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(cell);
    }
}
