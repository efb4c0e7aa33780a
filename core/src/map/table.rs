//! All values as a table of text.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::PredictedMap;

impl PredictedMap<'_> {
    /// Writes a row per node: name, centre in full-resolution pixels and in µm, and the value of every gene with five
    /// decimals; a value that was not predicted is an empty cell.
    ///
    /// # Errors
    /// When the values cannot be read, or `out` cannot be written.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::from("barcode,x_px,y_px,x_um,y_um");
        for symbol in &self.bundle.metadata.panel.symbols {
            line.push(',');
            push_cell(&mut line, symbol);
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        let cols = self.values.cols().max(1);
        self.values.for_each_block(|first, block| {
            let centers = self.centers_px.iter().zip(self.centers_um);
            let places = self.names.iter().zip(centers).skip(first);
            for (row, (name, (px, um))) in block.chunks_exact(cols).zip(places) {
                line.clear();
                push_cell(&mut line, name);
                // Writing to a string does not fail.
                let _ = write!(line, ",{:.2},{:.2},{:.2},{:.2}", px.x, px.y, um.x, um.y);
                for value in row {
                    let _ = if value.is_nan() { write!(line, ",") } else { write!(line, ",{value:.5}") };
                }
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
            Ok(())
        })
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
