//! One gene as a picture: a figure that stands on its own, and a transparent overlay.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{MapStyle, PredictedMap};
use crate::heatmap::panel::square_means;
use crate::heatmap::{Backdrop, Canvas, HeatmapError, MapFigure, Mark, PREDICTED_NOTE, PanelConfig, View};
use crate::slide::SlideImage;

/// Sides that an overlay may have, in pixels.
const OVERLAY_SIDES_PX: std::ops::RangeInclusive<u32> = 16..=8192;

impl PredictedMap<'_> {
    /// The gene's map with title, legend, scale bar and note, over `backdrop`: the slide at any size, since it knows
    /// its own pixel size.
    ///
    /// # Errors
    /// [`HeatmapError`] for a gene that the model does not predict, a style out of range, or a backdrop that cannot be
    /// resampled.
    pub fn figure(
        &self,
        gene: usize,
        style: &MapStyle,
        backdrop: Option<&SlideImage>,
    ) -> Result<Canvas, HeatmapError> {
        self.figure_of(gene, &self.gene_values(gene)?, style, backdrop)
    }

    /// [`PredictedMap::figure`] for a program that has read the gene's `values` already, as it must to choose a range.
    ///
    /// # Errors
    /// As [`PredictedMap::figure`], and for another number of values than places.
    pub fn figure_of(
        &self,
        gene: usize,
        values: &[f32],
        style: &MapStyle,
        backdrop: Option<&SlideImage>,
    ) -> Result<Canvas, HeatmapError> {
        let mark = Mark::Square { side_um: self.tile_um() };
        let view = View::of_marks(self.centers_um, mark)
            .or_else(|| backdrop.map(|slide| View::of_slide(slide)))
            .ok_or_else(|| setting("places", "at least one to draw", "none"))?;
        let score = match self.bundle.held_out_pearson(self.level, gene) {
            Some(pearson) => format!(" · {} Pearson of this gene {pearson:.2}", self.bundle.held_out_name()),
            None => String::new(),
        };
        let subtitle = format!("{} · {} level, {} µm{score}", self.slide_name, self.level, mark.size_um());
        let note = if self.complete {
            PREDICTED_NOTE.to_owned()
        } else {
            format!(
                "Partial: {} of {} places predicted. {PREDICTED_NOTE}",
                values.iter().filter(|value| !value.is_nan()).count(),
                values.len()
            )
        };
        let figure = MapFigure {
            title: self.symbol(gene),
            subtitle: &subtitle,
            units: self.bundle.metadata.normalization.unit(),
            note: &note,
            panel: PanelConfig {
                centers: self.centers_um,
                values,
                mark,
                range: style.range,
                color_map: style.color_map,
                opacity: style.opacity,
                view,
                backdrop: backdrop.map(Backdrop::muted),
                max_side_px: style.max_side_px,
            },
        };
        figure.draw()
    }

    /// The gene's tiles alone as an RGBA PNG in the frame of the whole image, transparent where no tile was predicted.
    /// The image has `width_px` × `height_px` pixels at full resolution; the picture is as large, or smaller where that
    /// is beyond the style's `max_side_px`.
    ///
    /// # Errors
    /// [`HeatmapError`] for a gene that the model does not predict, or a side out of range.
    pub fn overlay(
        &self,
        gene: usize,
        style: &MapStyle,
        width_px: u32,
        height_px: u32,
    ) -> Result<Vec<u8>, HeatmapError> {
        let values = self.gene_values(gene)?;
        if !OVERLAY_SIDES_PX.contains(&style.max_side_px) {
            return Err(setting("max_side_px", "16 to 8192", style.max_side_px));
        }
        if width_px == 0 || height_px == 0 {
            return Err(setting("image", "at least 1 × 1 px", format!("{width_px} × {height_px} px")));
        }
        let shrink = (f64::from(style.max_side_px) / f64::from(width_px.max(height_px))).min(1.0);
        let side = |px: u32| ((f64::from(px) * shrink).round() as u32).max(1);
        let (width, height) = (side(width_px), side(height_px));
        let scale_x = f64::from(width) / f64::from(width_px);
        let scale_y = f64::from(height) / f64::from(height_px);
        let side_px = self.tile_um() / self.um_per_px;
        if !(side_px.is_finite() && side_px > 0.0) {
            return Err(setting("tile", "a size above 0 px", side_px));
        }
        let opacity = if style.opacity.is_finite() { style.opacity.clamp(0.0, 1.0) } else { 1.0 };
        let alpha = (opacity * 255.0).round() as u8;
        let places = self.centers_px.iter().zip(&values).filter(|(_, value)| value.is_finite());
        let places = places.map(|(center, &value)| (center.x * scale_x, center.y * scale_y, value));
        let size = (width as usize, height as usize);
        let mut rgba = vec![0; size.0 * size.1 * 4];
        let means = square_means(size, (side_px * scale_x, side_px * scale_y), places);
        for (pixel, mean) in rgba.as_chunks_mut::<4>().0.iter_mut().zip(means) {
            if let Some(mean) = mean {
                let [red, green, blue] = style.color_map.color(style.range.fraction(mean));
                *pixel = [red, green, blue, alpha];
            }
        }
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&rgba, width, height, ExtendedColorType::Rgba8)
            .map_err(|error| HeatmapError::Encoding(error.to_string()))?;
        Ok(bytes)
    }

    /// The predictions of a gene, one for each place.
    ///
    /// # Errors
    /// [`HeatmapError`] for a gene that the model does not predict, another number of values than places, or values
    /// that cannot be read.
    pub fn gene_values(&self, gene: usize) -> Result<Vec<f32>, HeatmapError> {
        if gene >= self.values.cols() {
            return Err(setting("gene", "a gene of the model, by its number from 0 on", gene));
        }
        let (centers, values) = (self.centers_px.len(), self.values.rows());
        if centers != values {
            return Err(HeatmapError::Lengths { centers, values });
        }
        let read =
            self.values.read_columns(&[gene]).map_err(|error| HeatmapError::Values(error.to_string()))?;
        Ok(read.into_iter().flatten().collect())
    }
}

fn setting(field: &'static str, expected: &'static str, found: impl ToString) -> HeatmapError {
    HeatmapError::Setting { field, expected, found: found.to_string() }
}
