//! The tiles with their measurements, as QuPath reads them.

use std::io::{self, Write};

use serde_json::Value;

use super::PredictedMap;
use crate::expression::is_known;

impl PredictedMap<'_> {
    /// Writes a GeoJSON `FeatureCollection` for QuPath: one tile per predicted node, a square in full-resolution
    /// pixels, with a measurement for each of `genes` (all of them where `genes` is empty). The member `magnet` beside
    /// the features holds the provenance.
    ///
    /// # Errors
    /// When the values cannot be read, or `out` cannot be written.
    pub fn write_geojson(&self, genes: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let cols = self.values.cols();
        let symbols = &self.bundle.metadata.panel.symbols;
        let symbols: Vec<String> = symbols.iter().map(|symbol| json_text(symbol)).collect();
        let all: Vec<usize>;
        let genes = if genes.is_empty() {
            all = (0..cols).collect();
            &all
        } else {
            genes
        };
        let half_px = self.tile_um() / self.um_per_px / 2.0;
        write!(out, "{{\"type\":\"FeatureCollection\",\"magnet\":{},\"features\":[", self.provenance()?)?;
        let mut separator = "\n";
        self.values.for_each_block(|first, block| {
            let places = self.names.iter().zip(self.centers_px).skip(first);
            for (row, (name, center)) in block.chunks_exact(cols.max(1)).zip(places) {
                if !(is_known(row) && center.x.is_finite() && center.y.is_finite()) {
                    continue;
                }
                let (left, right) = (center.x - half_px, center.x + half_px);
                let (top, bottom) = (center.y - half_px, center.y + half_px);
                write!(
                    out,
                    "{separator}{{\"type\":\"Feature\",\"geometry\":{{\"type\":\"Polygon\",\"coordinates\":[[\
                     [{left:.2},{top:.2}],[{right:.2},{top:.2}],[{right:.2},{bottom:.2}],[{left:.2},{bottom:.2}],\
                     [{left:.2},{top:.2}]]]}},\"properties\":{{\"objectType\":\"tile\",\"name\":{},\"measurements\":{{",
                    json_text(name)
                )?;
                let mut comma = "";
                for &gene in genes {
                    let value = row.get(gene).filter(|value| value.is_finite());
                    if let (Some(value), Some(symbol)) = (value, symbols.get(gene)) {
                        write!(out, "{comma}{symbol}:{value:.5}")?;
                        comma = ",";
                    }
                }
                out.write_all(b"}}}")?;
                separator = ",\n";
            }
            Ok(())
        })?;
        out.write_all(b"\n]}\n")
    }
}

/// A JSON string.
fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}
