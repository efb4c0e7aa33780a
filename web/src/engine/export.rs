//! Files of a prediction, made by the same code as the command line's.

use std::io::Cursor;

use magnet_core::Level;
use magnet_core::coordinates::{SlidePx, SlideUm, um_from_px};
use magnet_core::hdf5::InTurn;
use magnet_core::heatmap::{ColorMap, ValueRange};
use magnet_core::map::{HIRES_SIDE_PX, LOWRES_SIDE_PX, MapStyle, PredictedMap, SlideRegion, gene_file_name};
use magnet_core::slide::PatchReader;
use magnet_core::weights::Precision;

use super::error::EngineError;
use super::image::OpenImage;
use super::model::OpenModel;
use super::run::Run;
use crate::protocol::{DrawStyle, ExportKind, RegionFrame};

/// This program, as files name it.
const PROGRAM: &str = concat!("magnet-web ", env!("CARGO_PKG_VERSION"));
/// Longer side of a map with legend, in pixels.
const FIGURE_SIDE_PX: u32 = 1400;
/// Longer side of an overlay, in pixels.
const OVERLAY_SIDE_PX: u32 = 4096;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportOptions {
    /// Which file.
    pub kind: ExportKind,
    /// Of which level.
    pub level: Level,
    /// Genes by their position in the panel: the first one is drawn; GeoJSON holds these, or all where there are none.
    pub genes: Vec<usize>,
    /// How pictures are drawn.
    pub style: DrawStyle,
}

/// A file to be saved.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedFile {
    /// A name to save it under.
    pub name: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Makes a file of a run, as far as it has come.
///
/// # Errors
/// If the model has no such level or gene, or the file cannot be made.
pub(super) fn export(
    model: &OpenModel,
    image: &OpenImage,
    run: &Run,
    options: &ExportOptions,
) -> Result<ExportedFile, EngineError> {
    let level = options.level;
    model.check_level(level)?;
    for &gene in &options.genes {
        model.check_gene(gene)?;
    }
    let slide = image.slide()?;
    let prediction = run.prediction();
    let names = run.ground.places.level_names(&run.ground.layout, level);
    let mut map = PredictedMap {
        bundle: &model.bundle,
        model_sha256: &model.summary.sha256,
        program: PROGRAM,
        slide_name: image.stem(),
        image_sha256: image.sha256(),
        region: None,
        um_per_px: slide.um_per_px(),
        level,
        names: &names,
        centers_um: run.ground.layout.centers.get(level),
        centers_px: run.ground.centers_px.get(level),
        values: prediction.values.get(level),
        complete: prediction.complete,
        precision: Precision::Single,
    };
    let stem = image.file_stem();
    let whole = |extension: &str| format!("{stem}_{level}.{extension}");
    let file = |name, media_type, bytes| Ok(ExportedFile { name, media_type, bytes });
    // The values are in memory and so is the file: reading and writing them does not fail.
    let internal = |error: &dyn std::fmt::Display| EngineError::internal(error.to_string());
    // Tables speak of the slide, pictures show the region alone.
    let on_slide;
    let draws = matches!(options.kind, ExportKind::Png | ExportKind::Overlay);
    if let (Some(frame), false) = (image.region(), draws) {
        on_slide = OnSlide::new(&map, frame);
        map.region = Some(SlideRegion {
            slide_file: image.name(),
            slide_bytes: frame.slide_bytes as u64,
            slide_px: (frame.slide_width_px, frame.slide_height_px),
            corner_px: (frame.left_px.into(), frame.top_px.into()),
            size_px: (f64::from(slide.width_px()) * frame.scale, f64::from(slide.height_px()) * frame.scale),
            read_um_per_px: slide.um_per_px(),
        });
        map.um_per_px = on_slide.um_per_px;
        map.centers_px = &on_slide.centers_px;
        map.centers_um = &on_slide.centers_um;
    }
    match options.kind {
        ExportKind::Csv => {
            let mut bytes = Vec::new();
            map.write_csv(&mut bytes).map_err(|error| internal(&error))?;
            file(whole("csv"), "text/csv", bytes)
        }
        ExportKind::Geojson => {
            let mut bytes = Vec::new();
            map.write_geojson(&options.genes, &mut bytes).map_err(|error| internal(&error))?;
            file(whole("geojson"), "application/geo+json", bytes)
        }
        ExportKind::H5ad => {
            let (hires, lowres) = (slide.thumbnail(HIRES_SIDE_PX)?, slide.thumbnail(LOWRES_SIDE_PX)?);
            let images = [("hires", &hires), ("lowres", &lowres)];
            // A picture in this format starts where the slide does, which a region's does not.
            let data = map.anndata(if map.region.is_some() { &[] } else { &images });
            let mut out = Cursor::new(Vec::new());
            let data = data.map_err(|error| internal(&error))?;
            data.write(&mut out, &InTurn).map_err(|error| internal(&error))?;
            file(whole("h5ad"), "application/x-hdf5", out.into_inner())
        }
        ExportKind::Provenance => {
            let provenance = map.provenance().map_err(|error| internal(&error))?;
            let bytes = serde_json::to_vec_pretty(&provenance).map_err(|error| internal(&error))?;
            file(whole("provenance.json"), "application/json", bytes)
        }
        ExportKind::Png | ExportKind::Overlay => {
            let Some(&gene) = options.genes.first() else {
                return Err(EngineError::input("genes: expected the gene to draw, found none"));
            };
            let symbol = model.panel().symbols.get(gene).map_or("", String::as_str);
            let name = |kind: &str| format!("{stem}_{level}_{}{kind}.png", gene_file_name(symbol));
            let style = |side_px| map_style(&options.style, side_px);
            if options.kind == ExportKind::Overlay {
                let style = style(OVERLAY_SIDE_PX)?;
                let bytes = map.overlay(gene, &style, slide.width_px(), slide.height_px())?;
                return file(name("_overlay"), "image/png", bytes);
            }
            let backdrop = slide.thumbnail(FIGURE_SIDE_PX)?;
            let figure = map.figure(gene, &style(FIGURE_SIDE_PX)?, Some(&backdrop))?;
            file(name(""), "image/png", figure.to_png()?)
        }
    }
}

/// Centres of a region's tiles as places of its slide.
struct OnSlide {
    um_per_px: f64,
    centers_px: Vec<SlidePx>,
    centers_um: Vec<SlideUm>,
}

impl OnSlide {
    fn new(map: &PredictedMap<'_>, frame: &RegionFrame) -> Self {
        let um_per_px = map.um_per_px / frame.scale;
        let centers_px: Vec<SlidePx> =
            map.centers_px.iter().map(|&center| frame.slide_from_region(center)).collect();
        let centers_um = centers_px.iter().map(|&center| um_from_px(center, um_per_px)).collect();
        Self { um_per_px, centers_px, centers_um }
    }
}

/// How a gene is drawn.
fn map_style(asked: &DrawStyle, max_side_px: u32) -> Result<MapStyle, EngineError> {
    let color_map = ColorMap::from_name(&asked.color_map).ok_or_else(|| {
        let names = ColorMap::ALL.map(ColorMap::name).join(", ");
        EngineError::input(format!("colour map: expected one of {names}, found {:?}", asked.color_map))
    })?;
    let range = ValueRange::new(asked.low, asked.high).ok_or_else(|| {
        let found = format!("{} to {}", asked.low, asked.high);
        EngineError::input(format!("colour range: expected two numbers, the lower one first, found {found}"))
    })?;
    Ok(MapStyle { range, color_map, opacity: asked.opacity, max_side_px })
}
