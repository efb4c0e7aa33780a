//! The pictures that panels are put together from: the image in little, and one raster for each gene that is shown.
//! They are made once and drawn many times, so that moving the map costs two scaled copies whatever it holds.

use std::collections::HashMap;
use std::rc::Rc;

use magnet_core::heatmap::{ColorMap, ValueRange};
use magnet_core::{Level, PerLevel};
use wasm_bindgen::{Clamped, JsCast};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

use super::camera::{Point, Size};
use super::dom::el;
use super::lattice::Lattice;
use super::palette::Palette;
use crate::page::session::state::{GeneValues, Geometry, Preview, State};

/// Rasters that are kept; four panels at three levels, and some more for going back.
const KEPT: usize = 24;

/// One gene's raster as it was last coloured.
#[derive(Debug)]
pub struct Layer {
    /// The gene's values.
    pub gene: Rc<GeneValues>,
    /// The values as the raster reads them.
    pub values: Vec<f32>,
    /// Least and largest value, if there is any.
    pub extent: Option<(f64, f64)>,
    canvas: HtmlCanvasElement,
    colored: Option<(ColorMap, ValueRange)>,
    used: u64,
}

impl Layer {
    /// The raster, one pixel for each tile.
    pub fn canvas(&self) -> &HtmlCanvasElement {
        &self.canvas
    }
}

/// All pictures of one viewer.
#[derive(Debug, Default)]
pub struct Layers {
    preview: Option<HtmlCanvasElement>,
    image_px: Size,
    lattices: PerLevel<Option<Lattice>>,
    genes: HashMap<(Level, usize), Layer>,
    clock: u64,
}

impl Layers {
    /// Takes over the image that the state holds.
    pub fn set_image(&mut self, state: &State) {
        self.preview = state.preview.as_ref().and_then(preview_canvas);
        self.image_px = state.image.as_ref().map_or(Size::default(), |image| Size {
            width: f64::from(image.width_px),
            height: f64::from(image.height_px),
        });
    }

    /// Takes over where the tiles of a run lie, and forgets values.
    pub fn set_geometry(&mut self, state: &State) {
        self.genes.clear();
        let um_per_px = state.image.as_ref().and_then(|image| image.um_per_px);
        self.lattices = match (&state.geometry, &state.model, um_per_px) {
            (Some(Geometry { centers_px, start_px, .. }), Some(model), Some(um_per_px)) => {
                let start_px = Point { x: start_px.0, y: start_px.1 };
                PerLevel::from_fn(|level| {
                    let pitch_px = model.levels.get(level).tile_um / um_per_px;
                    Lattice::new(&centers_px.get(level).to_vec(), pitch_px, start_px)
                })
            }
            _ => PerLevel::default(),
        };
    }

    /// Forgets values, which no longer hold.
    pub fn forget_values(&mut self) {
        self.genes.clear();
    }

    /// The image in little.
    pub fn preview(&self) -> Option<&HtmlCanvasElement> {
        self.preview.as_ref()
    }

    /// Size of the image in full resolution.
    pub fn image_px(&self) -> Size {
        self.image_px
    }

    /// The tiles of a level.
    pub fn lattice(&self, level: Level) -> Option<&Lattice> {
        self.lattices.get(level).as_ref()
    }

    /// One gene's raster, if its values have come.
    pub fn gene(&self, level: Level, gene: usize) -> Option<&Layer> {
        self.genes.get(&(level, gene))
    }

    /// Takes over one gene's values.
    pub fn insert(&mut self, gene: Rc<GeneValues>) {
        let Some(lattice) = self.lattices.get(gene.level).as_ref() else { return };
        let Some(canvas) = canvas(lattice.columns() as u32, lattice.rows() as u32) else { return };
        self.clock += 1;
        let values = gene.values.to_vec();
        let extent = extent(&values);
        let layer = Layer { values, extent, canvas, colored: None, used: self.clock, gene: gene.clone() };
        self.genes.insert((gene.level, gene.gene), layer);
        if self.genes.len() > KEPT {
            let oldest = self.genes.iter().min_by_key(|(_, layer)| layer.used).map(|(&key, _)| key);
            oldest.and_then(|key| self.genes.remove(&key));
        }
    }

    /// Colours one gene's raster, unless it has these colours already.
    pub fn color(&mut self, level: Level, gene: usize, color_map: ColorMap, range: ValueRange) {
        self.clock += 1;
        let Some(lattice) = self.lattices.get(level).as_ref() else { return };
        let Some(layer) = self.genes.get_mut(&(level, gene)) else { return };
        layer.used = self.clock;
        if layer.colored == Some((color_map, range)) {
            return;
        }
        let rgba = lattice.rgba(&layer.values, &Palette::new(color_map, range));
        let (width, height) = (lattice.columns() as u32, lattice.rows() as u32);
        let pixels = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&rgba), width, height);
        if let (Ok(pixels), Some(context)) = (pixels, context(&layer.canvas))
            && context.put_image_data(&pixels, 0.0, 0.0).is_ok()
        {
            layer.colored = Some((color_map, range));
        }
    }
}

/// The canvas's drawing context.
pub fn context(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok().flatten()?.dyn_into().ok()
}

fn preview_canvas(preview: &Preview) -> Option<HtmlCanvasElement> {
    let canvas = canvas(preview.width_px, preview.height_px)?;
    context(&canvas)?.put_image_data(&preview.pixels, 0.0, 0.0).ok()?;
    Some(canvas)
}

fn canvas(width: u32, height: u32) -> Option<HtmlCanvasElement> {
    if width == 0 || height == 0 {
        return None;
    }
    let canvas: HtmlCanvasElement = el("canvas").done();
    canvas.set_width(width);
    canvas.set_height(height);
    Some(canvas)
}

fn extent(values: &[f32]) -> Option<(f64, f64)> {
    values.iter().filter(|value| value.is_finite()).fold(None, |extent, &value| {
        let value = f64::from(value);
        let (low, high) = extent.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Draws a gradient from the first colour of a map to its last, from left to right.
pub fn draw_gradient(canvas: &HtmlCanvasElement, palette: &Palette) {
    let colors = palette.colors();
    canvas.set_width(colors.len() as u32);
    canvas.set_height(1);
    let rgba: Vec<u8> = colors.iter().flat_map(|&[red, green, blue]| [red, green, blue, 255]).collect();
    let pixels = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&rgba), colors.len() as u32, 1);
    if let (Ok(pixels), Some(context)) = (pixels, context(canvas)) {
        let _ = context.put_image_data(&pixels, 0.0, 0.0);
    }
}
