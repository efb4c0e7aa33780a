//! Files of a prediction: maps, a matrix, a table.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use magnet_core::Level;
use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, Values};
use magnet_core::coordinates::{SlidePx, SlideUm};
use magnet_core::expression::Matrix;
use magnet_core::heatmap::{
    Backdrop, ColorMap, MapFigure, Mark, PREDICTED_NOTE, PanelConfig, ValueRange, View,
};
use magnet_core::slide::{PatchReader, SlideImage};

use super::ImageFile;
use crate::model_file::ModelFile;

/// Longer side of a map, in pixels.
const MAP_SIDE_PX: u32 = 1400;
/// Part of the values that the colours leave out at either end, so that a few bins do not flatten the map.
const CLIPPED: f64 = 0.01;

/// What is written of one level of one slide.
pub(super) struct LevelOutput<'a> {
    pub model: &'a ModelFile,
    pub image: &'a ImageFile,
    pub image_path: &'a Path,
    pub level: Level,
    pub names: Vec<String>,
    pub centers_um: &'a [SlideUm],
    pub centers_px: Vec<SlidePx>,
    /// `[N,G]` predictions.
    pub values: &'a Matrix,
}

impl LevelOutput<'_> {
    /// Writes `<gene>.png` for each of `genes`, `predictions.h5ad` and `predictions.csv`; returns their names.
    pub fn write(&self, folder: &Path, genes: &[usize]) -> anyhow::Result<Vec<String>> {
        let mut written = Vec::new();
        let thumbnail = self.image.slide.thumbnail(MAP_SIDE_PX)?;
        for &gene in genes {
            let symbol = self.symbol(gene);
            let mut name = format!("{}.png", file_name(symbol));
            // `A/B` and `A_B` are two genes but one file name.
            if written.contains(&name) {
                name = format!("{}-{gene}.png", file_name(symbol));
            }
            std::fs::write(folder.join(&name), self.map(gene, symbol, &thumbnail)?)
                .with_context(|| format!("cannot write {name}"))?;
            written.push(name);
        }
        std::fs::write(folder.join("predictions.h5ad"), self.anndata().write()?)
            .context("cannot write predictions.h5ad")?;
        written.push("predictions.h5ad".into());
        self.write_csv(&folder.join("predictions.csv")).context("cannot write predictions.csv")?;
        written.push("predictions.csv".into());
        Ok(written)
    }

    fn symbol(&self, gene: usize) -> &str {
        self.model.bundle.metadata.panel.symbols.get(gene).map_or("", String::as_str)
    }

    fn map(&self, gene: usize, symbol: &str, thumbnail: &SlideImage) -> anyhow::Result<Vec<u8>> {
        let values = self.values.column(gene);
        let mark = Mark::Square { side_um: self.model.model.config().levels.get(self.level).tile_um };
        let slide = self.image_path.file_stem().unwrap_or_default().to_string_lossy();
        let score = match self.model.held_out_pearson(self.level, gene) {
            Some(pearson) => format!(" · {} Pearson of this gene {pearson:.2}", self.model.held_out_name()),
            None => String::new(),
        };
        let subtitle = format!("{slide} · {} level, {} µm{score}", self.level, mark.size_um());
        let figure = MapFigure {
            title: symbol,
            subtitle: &subtitle,
            units: self.model.bundle.metadata.normalization.unit(),
            note: PREDICTED_NOTE,
            panel: PanelConfig {
                centers: self.centers_um,
                values: &values,
                mark,
                range: ValueRange::of(values.iter().copied(), CLIPPED, 1.0 - CLIPPED),
                color_map: ColorMap::default(),
                opacity: 0.85,
                view: View::of_marks(self.centers_um, mark)
                    .unwrap_or_else(|| View::of_slide(&self.image.slide)),
                backdrop: Some(Backdrop::muted(thumbnail)),
                max_side_px: MAP_SIDE_PX,
            },
        };
        Ok(figure.draw()?.to_png()?)
    }

    fn anndata(&self) -> AnnData {
        let panel = &self.model.bundle.metadata.panel;
        let var = AxisTable {
            names: panel.symbols.clone(),
            columns: vec![("gene_ids".into(), Column::Texts(panel.ids.clone()))],
        };
        let obs = AxisTable::from_names(self.names.clone());
        let mut data = AnnData::new(Values::Dense(self.values.clone()), obs, var);
        data.spatial = Some(self.centers_px.clone());
        for (key, value) in self.model.provenance() {
            data.set_annotation(&format!("magnet/{key}"), value);
        }
        data.set_annotation("magnet/level", Annotation::Text(self.level.to_string()));
        data.set_annotation("magnet/image_sha256", Annotation::Text(self.image.sha256.clone()));
        data.set_annotation("magnet/um_per_px", Annotation::Number(self.image.slide.um_per_px()));
        data
    }

    fn write_csv(&self, path: &Path) -> anyhow::Result<()> {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let mut table = csv::Writer::from_writer(file);
        let symbols = self.model.bundle.metadata.panel.symbols.iter().map(String::as_str);
        table.write_record(["barcode", "x", "y"].into_iter().chain(symbols))?;
        let mut cells = Vec::new();
        for (row, (name, center)) in self.names.iter().zip(&self.centers_px).enumerate() {
            cells.clear();
            cells.extend([name.clone(), format!("{:.2}", center.x), format!("{:.2}", center.y)]);
            cells.extend(self.values.row(row).iter().map(|value| format!("{value:.5}")));
            table.write_record(&cells)?;
        }
        table.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?.flush()?;
        Ok(())
    }
}

/// A gene's name as a file name: symbols like `HLA-A` stay, anything else unusual becomes `_`.
fn file_name(symbol: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = symbol.chars().map(safe).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gene_names_cannot_leave_the_folder() {
        assert_eq!(file_name("HLA-A"), "HLA-A");
        assert_eq!(file_name("../../etc/x"), "_.._etc_x");
        assert_eq!(file_name("a b/c"), "a_b_c");
    }
}
