//! Files of a prediction: pictures, matrices, tables.

mod parquet_table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use magnet_core::heatmap::HeatmapError;
use magnet_core::map::{
    HIRES_SIDE_PX, LOWRES_SIDE_PX, MAP_SIDE_PX, MapStyle, PredictedMap, gene_file_name, value_range,
};
use magnet_core::slide::PatchReader;

use crate::cli::PredictFormat;
use crate::console::Console;
use crate::deflate::AllThreads;

/// Genes whose values are in memory at a time while they are drawn.
const GENES_AT_ONCE: usize = 16;
/// From this many tiles on QuPath is slow to open a GeoJSON file.
const MANY_TILES: usize = 100_000;

/// What to write of a prediction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// In which forms.
    pub formats: &'a [PredictFormat],
    /// Genes to draw and to measure in GeoJSON.
    pub genes: &'a [usize],
    /// Genes that are channels of the OME-TIFF: all where there are none.
    pub channels: &'a [usize],
}

/// Writes what is wanted: `<gene>.png` for each of the genes to draw, `predictions.*` for the rest. Returns the names.
///
/// # Errors
/// If a map cannot be drawn, the values cannot be read, or a file cannot be written.
pub(super) fn write(
    map: &PredictedMap<'_>,
    slide: &dyn PatchReader,
    folder: &Path,
    wanted: Wanted<'_>,
    console: &Console,
) -> anyhow::Result<Vec<String>> {
    let mut written = Vec::new();
    for format in PredictFormat::ALL.iter().filter(|format| wanted.formats.contains(format)) {
        let name = match format {
            PredictFormat::Png => {
                draw(map, slide, folder, wanted.genes, &mut written)?;
                continue;
            }
            PredictFormat::H5ad => "predictions.h5ad",
            PredictFormat::Csv => "predictions.csv",
            PredictFormat::Parquet => "predictions.parquet",
            PredictFormat::Geojson => "predictions.geojson",
            PredictFormat::OmeTiff => "predictions.ome.tif",
        };
        let write = || -> anyhow::Result<()> {
            let mut out = BufWriter::new(File::create(folder.join(name))?);
            match format {
                PredictFormat::Png => {}
                PredictFormat::H5ad => {
                    let (hires, lowres) = (slide.thumbnail(HIRES_SIDE_PX)?, slide.thumbnail(LOWRES_SIDE_PX)?);
                    map.anndata(&[("hires", &hires), ("lowres", &lowres)])?.write(&mut out, &AllThreads)?;
                }
                PredictFormat::Csv => map.write_csv(&mut out)?,
                PredictFormat::Parquet => parquet_table::write(map, &mut out)?,
                PredictFormat::Geojson => {
                    let tiles = map.values.rows();
                    if tiles > MANY_TILES {
                        console.warn(format_args!(
                            "{name}: {tiles} tiles; QuPath opens more than {MANY_TILES} slowly (predict a wider level, \
                             or use ome-tiff)"
                        ));
                    }
                    map.write_geojson(wanted.genes, &mut out)?;
                }
                PredictFormat::OmeTiff => {
                    let all: Vec<usize> = (0..map.values.cols()).collect();
                    let channels = if wanted.channels.is_empty() { &all } else { wanted.channels };
                    let slide_px = (slide.width_px(), slide.height_px());
                    let sharing = map.write_ome_tiff(channels, slide_px, &mut out)?;
                    if sharing > 0 {
                        console.warn(format_args!(
                            "{name}: {sharing} of {} places lie closer than a pixel and share one, which shows their mean; \
                             the tables have them all",
                            map.values.rows()
                        ));
                    }
                }
            }
            Ok(out.flush()?)
        };
        write().with_context(|| format!("cannot write {name}"))?;
        written.push(name.to_owned());
    }
    Ok(written)
}

/// Draws each gene and appends the files' names to `written`.
fn draw(
    map: &PredictedMap<'_>,
    slide: &dyn PatchReader,
    folder: &Path,
    genes: &[usize],
    written: &mut Vec<String>,
) -> anyhow::Result<()> {
    let thumbnail = slide.thumbnail(MAP_SIDE_PX)?;
    let picture = |gene: usize, values: &[f32]| -> Result<Vec<u8>, HeatmapError> {
        let style = MapStyle::new(value_range(values.iter().copied()));
        map.figure_of(gene, values, &style, Some(&thumbnail))?.to_png()
    };
    for genes in genes.chunks(GENES_AT_ONCE) {
        for (&gene, values) in genes.iter().zip(map.values.read_columns(genes)?) {
            let symbol = map.bundle.metadata.panel.symbols.get(gene).map_or("", String::as_str);
            let mut name = format!("{}.png", gene_file_name(symbol));
            // `A/B` and `A_B` are two genes but one file name.
            if written.contains(&name) {
                name = format!("{}-{gene}.png", gene_file_name(symbol));
            }
            std::fs::write(folder.join(&name), picture(gene, &values)?)
                .with_context(|| format!("cannot write {name}"))?;
            written.push(name);
        }
    }
    Ok(())
}
