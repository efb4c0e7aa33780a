//! The tiles with their measurements, as QuPath reads them.

use std::fmt::Write;

use serde_json::Value;

use super::PredictedMap;

impl PredictedMap<'_> {
    /// A GeoJSON `FeatureCollection` for QuPath: one tile per predicted node, a square in full-resolution pixels, with
    /// a measurement for each of `genes` (all of them where `genes` is empty). The member `magnet` beside the features
    /// holds the provenance.
    pub fn geojson(&self, genes: &[usize]) -> Vec<u8> {
        let symbols = &self.bundle.metadata.panel.symbols;
        let symbols: Vec<String> = symbols.iter().map(|symbol| json_text(symbol)).collect();
        let all: Vec<usize>;
        let genes = if genes.is_empty() {
            all = (0..self.values.cols).collect();
            &all
        } else {
            genes
        };
        let side_px = self.tile_um() / self.um_per_px;
        let mut text =
            format!("{{\"type\":\"FeatureCollection\",\"magnet\":{},\"features\":[", self.provenance());
        let mut separator = "\n";
        let rows = self.names.iter().zip(self.centers_px).enumerate().take(self.values.rows);
        for (row, (name, center)) in rows {
            if !(self.is_predicted(row) && center.x.is_finite() && center.y.is_finite()) {
                continue;
            }
            let (left, right) = (center.x - side_px / 2.0, center.x + side_px / 2.0);
            let (top, bottom) = (center.y - side_px / 2.0, center.y + side_px / 2.0);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "{separator}{{\"type\":\"Feature\",\"geometry\":{{\"type\":\"Polygon\",\"coordinates\":[[\
                 [{left:.2},{top:.2}],[{right:.2},{top:.2}],[{right:.2},{bottom:.2}],[{left:.2},{bottom:.2}],\
                 [{left:.2},{top:.2}]]]}},\"properties\":{{\"objectType\":\"tile\",\"name\":{},\"measurements\":{{",
                json_text(name)
            );
            let mut comma = "";
            for &gene in genes {
                let value = self.values.row(row).get(gene).filter(|value| value.is_finite());
                if let (Some(value), Some(symbol)) = (value, symbols.get(gene)) {
                    let _ = write!(text, "{comma}{symbol}:{value:.5}");
                    comma = ",";
                }
            }
            text.push_str("}}}");
            separator = ",\n";
        }
        text.push_str("\n]}\n");
        text.into_bytes()
    }
}

/// A JSON string.
fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}
