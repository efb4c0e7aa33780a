//! A map that stands on its own: title, legend with units, scale bar, note.

use super::HeatmapError;
use super::canvas::Canvas;
use super::panel::{Panel, PanelConfig};
use super::scale::{ScaleBar, ticks};
use super::text::Typeface;

/// The note under every map of predicted values.
pub const PREDICTED_NOTE: &str = "Predicted from the H&E image, not measured. Research use only.";

/// The ground of every figure.
pub const PAPER: [u8; 3] = [255, 255, 255];
/// Text and scale bars.
pub const INK: [u8; 3] = [28, 32, 38];
/// Text that explains.
pub const SOFT_INK: [u8; 3] = [92, 99, 110];
/// Frames and grid lines.
pub const RULE: [u8; 3] = [205, 209, 215];

/// A map with everything that it needs to be understood by itself.
#[derive(Debug, Clone)]
pub struct MapFigure<'a> {
    /// First line: what is shown, usually the gene.
    pub title: &'a str,
    /// Second line, smaller: the slide, the level, the score; may be empty.
    pub subtitle: &'a str,
    /// What the legend's numbers are, such as `log1p CP10K`.
    pub units: &'a str,
    /// Under the map: [`PREDICTED_NOTE`] or what else must be said; may be empty.
    pub note: &'a str,
    /// The marks.
    pub panel: PanelConfig<'a>,
}

impl MapFigure<'_> {
    /// Draws the figure.
    ///
    /// # Errors
    /// As [`Panel::draw`].
    pub fn draw(&self) -> Result<Canvas, HeatmapError> {
        let panel = Panel::draw(&self.panel)?;
        let typeface = Typeface::sans()?;
        // Everything around the panel follows its size, so that text stays readable when the figure is shrunk to fit.
        let unit = (self.panel.max_side_px as f32 / 40.0).clamp(13.0, 96.0);
        let layout = Layout::new(&panel, unit, self, &typeface);
        let mut canvas = Canvas::new(layout.width, layout.height, PAPER);
        self.draw_titles(&mut canvas, &layout, &typeface);
        self.draw_panel(&mut canvas, &layout, &panel);
        self.draw_legend(&mut canvas, &layout, &panel, &typeface);
        self.draw_foot(&mut canvas, &layout, &panel, &typeface);
        Ok(canvas)
    }

    fn draw_titles(&self, canvas: &mut Canvas, layout: &Layout, typeface: &Typeface) {
        let left = layout.panel_left as f32;
        let room = layout.width as f32 - left - layout.margin;
        let title = typeface.fit(self.title, layout.title_px, room);
        let baseline = layout.margin + layout.title_px * 0.8;
        typeface.draw(canvas, &title, (left, baseline), layout.title_px, INK, 1.6);
        let subtitle = typeface.fit(self.subtitle, layout.text_px, room);
        let baseline = baseline + layout.text_px * 1.5;
        typeface.draw(canvas, &subtitle, (left, baseline), layout.text_px, SOFT_INK, 1.2);
    }

    fn draw_panel(&self, canvas: &mut Canvas, layout: &Layout, panel: &Panel) {
        let (x, y) = (layout.panel_left, layout.panel_top);
        let (width, height) = (i64::from(panel.canvas.width()), i64::from(panel.canvas.height()));
        canvas.fill(x - 1, y - 1, x + width + 1, y + height + 1, RULE);
        canvas.paste(&panel.canvas, x, y);
    }

    fn draw_legend(&self, canvas: &mut Canvas, layout: &Layout, panel: &Panel, typeface: &Typeface) {
        let range = self.panel.range;
        let x = layout.legend_left;
        let top = layout.panel_top + (layout.text_px * 2.2) as i64;
        let length = (f64::from(panel.canvas.height()) * 0.62).max(f64::from(layout.text_px) * 7.0) as i64;
        let bottom = top + length;
        let width = layout.bar_width;
        typeface.draw(
            canvas,
            self.units,
            (x as f32, layout.panel_top as f32 + layout.text_px * 0.8),
            layout.text_px,
            INK,
            1.2,
        );
        for y in top..bottom {
            let fraction = (bottom as f64 - y as f64 - 0.5) / length as f64;
            canvas.fill(x, y, x + width, y + 1, self.panel.color_map.color(fraction));
        }
        // Pointed ends say that values lie beyond the range.
        let (mut below, mut above) = (false, false);
        for value in self.panel.values.iter().filter(|value| value.is_finite()) {
            let fraction = range.fraction(f64::from(*value));
            below |= fraction < -1e-6;
            above |= fraction > 1.0 + 1e-6;
        }
        for step in 0..width / 2 {
            let inset = step + 1;
            if above {
                let color = self.panel.color_map.color(1.0);
                canvas.fill(x + inset, top - 1 - step, x + width - inset, top - step, color);
            }
            if below {
                let color = self.panel.color_map.color(0.0);
                canvas.fill(x + inset, bottom + step, x + width - inset, bottom + step + 1, color);
            }
        }
        let tick_length = (layout.text_px * 0.3) as i64;
        for tick in ticks(range, 5) {
            let y = bottom as f64 - range.fraction(tick.value) * length as f64;
            let row = (y.round() as i64).clamp(top, bottom - 1);
            canvas.fill(x + width, row, x + width + tick_length, row + layout.line, SOFT_INK);
            let at = ((x + width + 2 * tick_length) as f32, y as f32 + layout.text_px * 0.32);
            typeface.draw(canvas, &tick.label, at, layout.text_px, INK, 1.2);
        }
    }

    fn draw_foot(&self, canvas: &mut Canvas, layout: &Layout, panel: &Panel, typeface: &Typeface) {
        let x = layout.panel_left;
        let top = layout.panel_top + i64::from(panel.canvas.height()) + (layout.text_px * 0.75) as i64;
        let bar = ScaleBar::fit(panel.um_per_px, f64::from(panel.canvas.width()) * 0.25);
        let length = bar.length_px.round() as i64;
        let thickness = (layout.line * 3).max(3);
        canvas.fill(x, top, x + length, top + thickness, INK);
        let baseline = top as f32 + thickness as f32 / 2.0 + layout.text_px * 0.32;
        let label_x = (x + length) as f32 + layout.text_px * 0.5;
        typeface.draw(canvas, &bar.label, (label_x, baseline), layout.text_px, INK, 1.2);
        let room = layout.width as f32 - x as f32 - layout.margin;
        let note = typeface.fit(self.note, layout.note_px, room);
        let baseline = baseline + layout.text_px * 1.55;
        typeface.draw(canvas, &note, (x as f32, baseline), layout.note_px, SOFT_INK, 1.2);
    }
}

/// Where the parts of a figure lie, in pixels.
struct Layout {
    margin: f32,
    title_px: f32,
    text_px: f32,
    note_px: f32,
    line: i64,
    panel_left: i64,
    panel_top: i64,
    legend_left: i64,
    bar_width: i64,
    width: u32,
    height: u32,
}

impl Layout {
    fn new(panel: &Panel, unit: f32, figure: &MapFigure<'_>, typeface: &Typeface) -> Self {
        let (margin, title_px, text_px, note_px) = (unit, unit * 1.5, unit, unit * 0.85);
        let bar_width = (unit * 0.9) as i64;
        let label_width = ticks(figure.panel.range, 5)
            .iter()
            .map(|tick| typeface.width(&tick.label, text_px))
            .fold(0.0, f32::max);
        let legend_width = (bar_width as f32 + 0.6 * text_px + label_width)
            .max(typeface.width(figure.units, text_px))
            // A unit as long as a sentence must not make the figure as wide as one.
            .min(text_px * 14.0);
        let panel_left = margin as i64;
        let panel_top =
            (margin + title_px + text_px * if figure.subtitle.is_empty() { 0.4 } else { 2.0 }) as i64;
        let legend_left = panel_left + i64::from(panel.canvas.width()) + (unit * 1.1) as i64;
        let width = legend_left as f32 + legend_width + margin;
        // Titles and notes need room even beside a narrow panel.
        let words = typeface.width(figure.title, title_px).max(typeface.width(figure.note, note_px));
        let width = width.max(panel_left as f32 + words.min(text_px * 30.0) + margin * 1.5);
        let foot = text_px * if figure.note.is_empty() { 1.9 } else { 3.4 };
        let legend_bottom = text_px * 12.0; // a short panel still has its legend in full
        let body = (panel.canvas.height() as f32).max(legend_bottom);
        let height = panel_top as f32 + body + foot + margin * 0.5;
        Self {
            margin,
            title_px,
            text_px,
            note_px,
            line: ((unit / 16.0).round() as i64).max(1),
            panel_left,
            panel_top,
            legend_left,
            bar_width,
            width: width.ceil() as u32,
            height: height.ceil() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::color_map::ColorMap;
    use super::super::panel::{Mark, View};
    use super::super::scale::ValueRange;
    use super::*;
    use crate::coordinates::SlideUm;

    fn figure<'a>(centers: &'a [SlideUm], values: &'a [f32], title: &'a str) -> MapFigure<'a> {
        MapFigure {
            title,
            subtitle: "held-out slide",
            units: "log1p CP10K",
            note: PREDICTED_NOTE,
            panel: PanelConfig {
                centers,
                values,
                mark: Mark::Square { side_um: 8.0 },
                range: ValueRange::new(0.0, 2.0).unwrap(),
                color_map: ColorMap::Magma,
                opacity: 1.0,
                view: View { left_um: 0.0, top_um: 0.0, width_um: 400.0, height_um: 300.0 },
                backdrop: None,
                max_side_px: 400,
            },
        }
    }

    fn count(canvas: &Canvas, color: [u8; 3]) -> usize {
        canvas.rgb().as_chunks::<3>().0.iter().filter(|pixel| **pixel == color).count()
    }

    #[test]
    fn the_figure_holds_panel_legend_and_scale_bar() {
        let centers = [SlideUm { x: 100.0, y: 100.0 }];
        let canvas = figure(&centers, &[1.0], "ERBB2").draw().unwrap();
        assert!(canvas.width() > 400 && canvas.height() > 300);
        // The panel's one bin of 8 × 8 px and the legend's row of the same colour.
        assert!(count(&canvas, ColorMap::Magma.color(0.5)) >= 64);
        // The legend reaches both ends of the map.
        assert!(count(&canvas, ColorMap::Magma.color(0.002)) > 0);
        // The scale bar: 100 px for 100 µm, and some text.
        assert!(count(&canvas, INK) > 300);
    }

    #[test]
    fn names_of_any_length_and_script_are_drawn_within_the_figure() {
        let long = "a very long name ".repeat(40);
        for title in ["", "\u{4E2D}\u{6587}", "<b>&amp;</b>", long.as_str()] {
            let canvas = figure(&[], &[], title).draw().unwrap();
            assert!(canvas.width() < 1000, "{}", canvas.width());
        }
    }

    #[test]
    fn values_beyond_the_range_give_the_legend_a_point() {
        let centers = [SlideUm { x: 1000.0, y: 1000.0 }]; // outside the view, so only the legend has colour
        let end = ColorMap::Magma.color(1.0);
        let within = count(&figure(&centers, &[1.0], "A").draw().unwrap(), end);
        let beyond = count(&figure(&centers, &[3.0], "A").draw().unwrap(), end);
        assert!(beyond > within);
    }
}
