//! A figure as a picture.

use anyhow::Result;
use magnet_core::heatmap::Canvas;
use magnet_core::heatmap::figure::PAPER;
use magnet_core::heatmap::text::Typeface;

use super::{Anchor, Drawing, PX_PER_UNIT, Shape};

/// How much darker than the light typeface of the program text is drawn; see [`Typeface::draw`].
const WEIGHT: f32 = 1.25;
/// How much wider the strokes of bold text are, in units.
const BOLDER: f64 = 0.45;

impl Drawing {
    /// # Errors
    /// When the program's font cannot be read.
    pub(super) fn paint(&self) -> Result<Canvas> {
        let typeface = Typeface::sans()?;
        let scale = f64::from(PX_PER_UNIT);
        let side = |units: f64| (units * scale).clamp(1.0, f64::from(u32::MAX)) as u32;
        let mut canvas = Canvas::new(side(self.width), side(self.height), PAPER);
        for shape in &self.shapes {
            draw(&mut canvas, shape, &typeface, scale);
        }
        Ok(canvas)
    }
}

fn draw(canvas: &mut Canvas, shape: &Shape, typeface: &Typeface, scale: f64) {
    let px = |units: f64| (units * scale).round() as i64;
    match shape {
        Shape::Rect { x, y, width, height, color } => {
            let (x1, y1) = (px(x + width).max(px(*x) + 1), px(y + height).max(px(*y) + 1));
            canvas.fill(px(*x), px(*y), x1, y1, *color);
        }
        Shape::Line { points, width, color } => {
            let at = |(x, y): (f64, f64)| (x * scale, y * scale);
            for ends in points.windows(2) {
                if let &[from, to] = ends {
                    canvas.stroke(at(from), at(to), width * scale, *color, 1.0);
                }
            }
        }
        Shape::Text { x, y, anchor, font, text } => {
            let size = (font.size * scale) as f32;
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => typeface.width(text, size) / 2.0,
                Anchor::End => typeface.width(text, size),
            };
            let at = ((x * scale) as f32 - shift, (y * scale) as f32);
            typeface.draw(canvas, text, at, size, font.color, WEIGHT);
            if font.bold {
                let beside = (at.0 + (BOLDER * scale) as f32, at.1);
                typeface.draw(canvas, text, beside, size, font.color, WEIGHT);
            }
        }
        Shape::Picture { x, y, canvas: picture, .. } => canvas.paste(picture, px(*x), px(*y)),
    }
}
