//! Files of a prediction: maps, a matrix, a table.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use magnet_core::heatmap::HeatmapError;
use magnet_core::map::{MAP_SIDE_PX, MapStyle, PredictedMap, gene_file_name};
use magnet_core::slide::{PatchReader, SlideImage};

/// Writes `<gene>.png` for each of `genes`, `predictions.h5ad` and `predictions.csv`; returns their names.
///
/// # Errors
/// If a map cannot be drawn or a file cannot be written.
pub(super) fn write(
    map: &PredictedMap<'_>,
    slide: &dyn PatchReader,
    folder: &Path,
    genes: &[usize],
) -> anyhow::Result<Vec<String>> {
    let mut written = Vec::new();
    let draw = |gene: usize, thumbnail: &SlideImage| -> Result<Vec<u8>, HeatmapError> {
        map.figure(gene, &MapStyle::new(map.value_range(gene)), Some(thumbnail))?.to_png()
    };
    let thumbnail = slide.thumbnail(MAP_SIDE_PX)?;
    for &gene in genes {
        let symbol = map.bundle.metadata.panel.symbols.get(gene).map_or("", String::as_str);
        let mut name = format!("{}.png", gene_file_name(symbol));
        // `A/B` and `A_B` are two genes but one file name.
        if written.contains(&name) {
            name = format!("{}-{gene}.png", gene_file_name(symbol));
        }
        std::fs::write(folder.join(&name), draw(gene, &thumbnail)?)
            .with_context(|| format!("cannot write {name}"))?;
        written.push(name);
    }
    std::fs::write(folder.join("predictions.h5ad"), map.anndata().write()?)
        .context("cannot write predictions.h5ad")?;
    written.push("predictions.h5ad".into());
    write_csv(map, &folder.join("predictions.csv")).context("cannot write predictions.csv")?;
    written.push("predictions.csv".into());
    Ok(written)
}

/// Writes the table line by line: it is as large as all predictions.
fn write_csv(map: &PredictedMap<'_>, path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for line in map.csv_lines() {
        file.write_all(line.as_bytes())?;
    }
    file.flush()
}
