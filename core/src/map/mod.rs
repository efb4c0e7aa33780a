//! One level of one predicted slide as files: the same bytes from every program.
//!
//! Rows that were not predicted, in a run that was ended early, stay in the tables as empty cells or NaN, are left out
//! of GeoJSON and the overlay and grey in the figure; the provenance says how many there are.

mod anndata;
mod geojson;
mod ome_tiff;
mod picture;
mod table;
#[cfg(test)]
mod tests;

pub use anndata::{HIRES_SIDE_PX, LOWRES_SIDE_PX};

use std::io;

use serde_json::{Value, json};

use crate::anndata::Annotation;
use crate::bundle::Bundle;
use crate::coordinates::{SlidePx, SlideUm};
use crate::expression::RowSource;
use crate::heatmap::{ColorMap, PREDICTED_NOTE, ValueRange};
use crate::level::Level;
use crate::weights::Precision;

/// Part of the values that the colours leave out at either end, so that a few bins do not flatten the map.
const CLIPPED: f64 = 0.01;

/// Longer side of a map unless somebody chooses another, in pixels.
pub const MAP_SIDE_PX: u32 = 1400;

/// The predictions of one level of one slide, with what makes them understood.
#[derive(Debug, Clone, Copy)]
pub struct PredictedMap<'a> {
    /// The model.
    pub bundle: &'a Bundle,
    /// SHA-256 of the model's file, lower-case hexadecimal.
    pub model_sha256: &'a str,
    /// The program that predicted and its version, such as `magnet-native 0.1.0`.
    pub program: &'a str,
    /// The slide's name for people: its file name without the extension.
    pub slide_name: &'a str,
    /// SHA-256 of the image file, lower-case hexadecimal; of the RGB values that were read, where `region` is there.
    pub image_sha256: &'a str,
    /// Where on its slide the image lies, where it is a region of one. Centres and pixel size are the slide's then.
    pub region: Option<SlideRegion<'a>>,
    /// Side of a pixel of the image, in µm.
    pub um_per_px: f64,
    /// Which level.
    pub level: Level,
    /// Name of each node.
    pub names: &'a [String],
    /// Centre of each node, in µm.
    pub centers_um: &'a [SlideUm],
    /// Centre of each node, in full-resolution pixels.
    pub centers_px: &'a [SlidePx],
    /// `[N,G]` predictions in label units; NaN where a node was not predicted.
    pub values: &'a dyn RowSource,
    /// Whether the run reached its end.
    pub complete: bool,
    /// What the patch encoder calculated with.
    pub precision: Precision,
}

/// A region of a slide that was predicted alone, from a file that is too large to be read, or hashed, as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlideRegion<'a> {
    /// File name of the slide.
    pub slide_file: &'a str,
    /// Size of that file, in bytes.
    pub slide_bytes: u64,
    /// Width and height of the slide, in full-resolution pixels.
    pub slide_px: (u32, u32),
    /// Left and top edge of the region, in full-resolution pixels.
    pub corner_px: (f64, f64),
    /// Width and height of the region, in full-resolution pixels.
    pub size_px: (f64, f64),
    /// Side of the pixels that the region was read with, in µm.
    pub read_um_per_px: f64,
}

/// How a map is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapStyle {
    /// What the ends of the colour map stand for.
    pub range: ValueRange,
    /// The colour map.
    pub color_map: ColorMap,
    /// How opaque the tiles are: 0 is invisible, 1 hides the tissue.
    pub opacity: f32,
    /// Longer side of the map, in pixels (16 to 8192).
    pub max_side_px: u32,
}

impl MapStyle {
    /// Viridis over the given range, slightly transparent, [`MAP_SIDE_PX`] long.
    pub fn new(range: ValueRange) -> Self {
        Self { range, color_map: ColorMap::default(), opacity: 0.85, max_side_px: MAP_SIDE_PX }
    }
}

impl PredictedMap<'_> {
    /// Where the numbers come from, as JSON: the keys of `uns/magnet`, and how much of the slide was
    /// predicted.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub fn provenance(&self) -> io::Result<Value> {
        let model = provenance(self.bundle, self.model_sha256, self.program);
        let mut fields: serde_json::Map<String, Value> =
            model.into_iter().map(|(key, value)| (key.to_owned(), json_of(value))).collect();
        fields.extend(self.run_provenance().into_iter().map(|(key, value)| (key.to_owned(), json_of(value))));
        fields.insert("complete".into(), json!(self.complete));
        fields.insert("rows".into(), json!(self.values.rows()));
        fields.insert("rows_predicted".into(), json!(self.values.rows_known()?));
        Ok(Value::Object(fields))
    }

    /// What `uns/magnet` says beside [`provenance`].
    fn run_provenance(&self) -> Vec<(&'static str, Annotation)> {
        let digest = Annotation::Text(self.image_sha256.to_owned());
        let mut fields = vec![
            ("slide", Annotation::Text(self.slide_name.to_owned())),
            ("level", Annotation::Text(self.level.to_string())),
            ("um_per_px", Annotation::Number(self.um_per_px)),
        ];
        if self.precision == Precision::Half {
            fields.push(("encoder_precision", Annotation::Text("16 bits".into())));
        }
        let Some(region) = &self.region else {
            fields.push(("image_sha256", digest));
            return fields;
        };
        let whole = |value: u64| Annotation::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        fields.extend([
            ("region_rgb_sha256", digest),
            ("region_left_px", Annotation::Number(region.corner_px.0)),
            ("region_top_px", Annotation::Number(region.corner_px.1)),
            ("region_width_px", Annotation::Number(region.size_px.0)),
            ("region_height_px", Annotation::Number(region.size_px.1)),
            ("region_read_um_per_px", Annotation::Number(region.read_um_per_px)),
            ("slide_file", Annotation::Text(region.slide_file.to_owned())),
            ("slide_bytes", whole(region.slide_bytes)),
            ("slide_width_px", whole(region.slide_px.0.into())),
            ("slide_height_px", whole(region.slide_px.1.into())),
        ]);
        fields
    }

    fn symbol(&self, gene: usize) -> &str {
        self.bundle.metadata.panel.symbols.get(gene).map_or("", String::as_str)
    }

    fn tile_um(&self) -> f64 {
        self.bundle.metadata.config.levels.get(self.level).tile_um
    }
}

/// The values between which the colours of a map run by default: the middle 98 % of those that are known.
pub fn value_range(values: impl IntoIterator<Item = f32>) -> ValueRange {
    ValueRange::of(values, CLIPPED, 1.0 - CLIPPED)
}

/// What tells a table of predictions which model its numbers come from, for `uns/magnet`. `program` is the name and
/// version of the one that writes.
pub fn provenance(bundle: &Bundle, model_sha256: &str, program: &str) -> Vec<(&'static str, Annotation)> {
    let metadata = &bundle.metadata;
    let slides = metadata.provenance.training_slides.iter().map(|slide| slide.id.clone()).collect();
    vec![
        ("program", Annotation::Text(program.to_owned())),
        ("model_sha256", Annotation::Text(model_sha256.to_owned())),
        ("weights_sha256", Annotation::Text(bundle.weights_sha256())),
        ("model_code_version", Annotation::Text(metadata.code_version.clone())),
        ("training_slides", Annotation::Texts(slides)),
        ("seed", Annotation::Text(metadata.provenance.seed.to_string())),
        ("units", Annotation::Text(metadata.normalization.unit().to_owned())),
        ("note", Annotation::Text(PREDICTED_NOTE.to_owned())),
    ]
}

/// An annotation as JSON.
fn json_of(annotation: Annotation) -> Value {
    match annotation {
        Annotation::Text(text) => json!(text),
        Annotation::Number(number) => json!(number),
        Annotation::Integer(integer) => json!(integer),
        Annotation::Flag(flag) => json!(flag),
        Annotation::Texts(texts) => json!(texts),
        Annotation::Numbers(numbers) => json!(numbers),
        Annotation::Image(image) => json!({ "height": image.height, "width": image.width }),
        Annotation::Group(children) => {
            Value::Object(children.into_iter().map(|(key, value)| (key, json_of(value))).collect())
        }
    }
}

/// A gene's symbol as a file name: symbols like `HLA-A` stay, anything else unusual becomes `_`.
pub fn gene_file_name(symbol: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = symbol.chars().map(safe).collect();
    name.trim_start_matches('.').to_owned()
}
