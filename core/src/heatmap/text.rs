//! Text in pictures, with a font that comes with the program: the same on every machine.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

use super::HeatmapError;
use super::canvas::Canvas;

/// What is drawn in place of a character that the font lacks.
const REPLACEMENT: char = '?';

/// A typeface at hand.
pub struct Typeface {
    font: FontRef<'static>,
}

impl Typeface {
    /// Ubuntu Light.
    ///
    /// # Errors
    /// [`HeatmapError::Encoding`] when the font in the program cannot be read.
    pub fn sans() -> Result<Self, HeatmapError> {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|error| HeatmapError::Encoding(format!("font Ubuntu Light: {error}")))?;
        Ok(Self { font })
    }

    /// Width of one line of text of `size_px` height, in pixels.
    pub fn width(&self, text: &str, size_px: f32) -> f32 {
        self.layout(text, size_px).1
    }

    /// `text`, cut off with an ellipsis if it is wider than `max_width_px`.
    pub fn fit(&self, text: &str, size_px: f32, max_width_px: f32) -> String {
        if self.width(text, size_px) <= max_width_px {
            return text.to_owned();
        }
        let mut kept: Vec<char> = text.chars().collect();
        while kept.pop().is_some() {
            let shorter: String = kept.iter().chain(['…'].iter()).collect();
            if self.width(&shorter, size_px) <= max_width_px {
                return shorter;
            }
        }
        String::new()
    }

    /// Draws one line of text whose baseline starts at `(x, y)`. `weight` 1 is the font as it is; more makes its
    /// strokes darker and wider by a part of a pixel, as small light text on a screen needs.
    pub fn draw(
        &self,
        canvas: &mut Canvas,
        text: &str,
        at: (f32, f32),
        size_px: f32,
        color: [u8; 3],
        weight: f32,
    ) {
        let (glyphs, _) = self.layout(text, size_px);
        for mut glyph in glyphs {
            glyph.position.x += at.0;
            glyph.position.y += at.1;
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            let (left, top) = (bounds.min.x as i64, bounds.min.y as i64);
            outline.draw(|x, y, coverage| {
                let (x, y) = (left + i64::from(x), top + i64::from(y));
                canvas.blend(x, y, color, coverage * weight.min(1.25));
                if weight > 1.0 {
                    canvas.blend(x + 1, y, color, coverage * (weight - 1.0));
                }
            });
        }
    }

    /// The glyphs of a line from `(0, 0)`, and its width.
    fn layout(&self, text: &str, size_px: f32) -> (Vec<Glyph>, f32) {
        let scaled = self.font.as_scaled(PxScale::from(size_px));
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        let mut previous = None;
        for character in text.chars().filter(|character| !character.is_control()) {
            let mut id = self.font.glyph_id(character);
            if id.0 == 0 {
                id = self.font.glyph_id(REPLACEMENT);
            }
            if let Some(previous) = previous {
                x += scaled.kern(previous, id);
            }
            glyphs.push(id.with_scale_and_position(size_px, point(x, 0.0)));
            x += scaled.h_advance(id);
            previous = Some(id);
        }
        (glyphs, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_holds_what_maps_write() {
        let font = Typeface::sans().unwrap().font;
        for character in "AZaz09 µ²·–−±…≥×()-./".chars() {
            assert_ne!(font.glyph_id(character).0, 0, "{character}");
        }
    }

    #[test]
    fn text_is_as_wide_as_it_says() {
        let typeface = Typeface::sans().unwrap();
        let mut canvas = Canvas::new(300, 60, [255; 3]);
        typeface.draw(&mut canvas, "ERBB2 µm", (10.0, 40.0), 30.0, [0; 3], 1.0);
        let columns: Vec<usize> = (0..300)
            .filter(|&x| (0..60).any(|y| canvas.pixel(x, y).unwrap()[0] < 128))
            .map(|x| x as usize)
            .collect();
        let (first, last) = (columns[0] as f32, columns[columns.len() - 1] as f32);
        assert!(first >= 10.0 && (last - 10.0 - typeface.width("ERBB2 µm", 30.0)).abs() < 6.0);
    }

    #[test]
    fn long_text_is_cut_to_fit() {
        let typeface = Typeface::sans().unwrap();
        let long = "a name that is much longer than the picture is wide";
        let cut = typeface.fit(long, 20.0, 150.0);
        assert!(cut.ends_with('…') && typeface.width(&cut, 20.0) <= 150.0);
        assert_eq!(typeface.fit("short", 20.0, 150.0), "short");
        assert_eq!(typeface.fit("short", 20.0, 1.0), "");
    }

    #[test]
    fn unknown_and_control_characters_do_no_harm() {
        let typeface = Typeface::sans().unwrap();
        assert_eq!(typeface.width("a\u{0}\n", 20.0), typeface.width("a", 20.0));
        assert_eq!(typeface.width("\u{4E2D}", 20.0), typeface.width("?", 20.0));
    }
}
