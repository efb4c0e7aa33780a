//! A figure as a list of shapes. It is written as SVG or painted as a picture, and says the same in both, because both
//! are made of the one list. Lengths are in units; a unit is a CSS pixel in SVG and [`PX_PER_UNIT`] pixels in a picture.

mod picture;
mod svg;

use anyhow::Result;
use magnet_core::heatmap::Canvas;
use magnet_core::heatmap::text::Typeface;

/// Pixels of a painted figure for each unit: 288 to the inch, as print wants.
pub(super) const PX_PER_UNIT: u32 = 3;
/// Longest side of a figure: more would not be painted.
pub(super) const MAX_SIDE: f64 = 5_400.0;
/// How much wider than in the painted figure text may be in the reader's own sans-serif; bold text more so.
const OTHER_FONTS: f64 = 1.18;
const OTHER_BOLD_FONTS: f64 = 1.3;

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// Which end of a text its place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    /// Height, in units.
    pub(super) size: f64,
    pub(super) color: Rgb,
    pub(super) bold: bool,
}

impl Font {
    pub(super) const fn plain(size: f64, color: Rgb) -> Self {
        Self { size, color, bold: false }
    }

    pub(super) const fn bold(size: f64, color: Rgb) -> Self {
        Self { size, color, bold: true }
    }

    /// How much wider than in the painted figure this may be elsewhere.
    fn spread(self) -> f64 {
        if self.bold { OTHER_BOLD_FONTS } else { OTHER_FONTS }
    }
}

/// One thing to draw.
#[derive(Debug, Clone)]
enum Shape {
    Rect { x: f64, y: f64, width: f64, height: f64, color: Rgb },
    Line { points: Vec<(f64, f64)>, width: f64, color: Rgb },
    Text { x: f64, y: f64, anchor: Anchor, font: Font, text: String },
    Picture { x: f64, y: f64, canvas: Canvas, alt: String },
}

/// A figure.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    /// What the figure shows, for who cannot see it.
    label: String,
    shapes: Vec<Shape>,
}

impl Drawing {
    /// A figure without a shape.
    pub(super) fn new(width: f64, height: f64, label: String) -> Self {
        Self { width: width.ceil(), height: height.ceil(), label, shapes: Vec::new() }
    }

    pub(super) fn width(&self) -> f64 {
        self.width
    }

    pub(super) fn height(&self) -> f64 {
        self.height
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, color: Rgb) {
        self.shapes.push(Shape::Rect { x, y, width, height, color });
    }

    /// The outline of a rectangle, outside of it.
    pub(super) fn frame(&mut self, x: f64, y: f64, width: f64, height: f64, line: f64, color: Rgb) {
        self.rect(x - line, y - line, width + 2.0 * line, line, color);
        self.rect(x - line, y + height, width + 2.0 * line, line, color);
        self.rect(x - line, y, line, height, color);
        self.rect(x + width, y, line, height, color);
    }

    /// A line through `points`.
    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, color: Rgb) {
        self.shapes.push(Shape::Line { points, width, color });
    }

    /// A straight line in dashes.
    pub(super) fn dashes(&mut self, from: (f64, f64), to: (f64, f64), width: f64, color: Rgb) {
        const DASH: f64 = 5.0;
        const PERIOD: f64 = 9.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |along: f64| {
            let part = (along / length).min(1.0);
            (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
        };
        for dash in 0..(length / PERIOD).ceil().clamp(0.0, 10_000.0) as u32 {
            let start = f64::from(dash) * PERIOD;
            self.line(vec![at(start), at(start + DASH)], width, color);
        }
    }

    /// One line of text whose baseline is at `y`.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, font: Font, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, anchor, font, text: text.into() });
    }

    /// A picture of [`PX_PER_UNIT`] pixels a unit; `alt` is its text alternative.
    pub(super) fn picture(&mut self, x: f64, y: f64, canvas: Canvas, alt: String) {
        self.shapes.push(Shape::Picture { x, y, canvas, alt });
    }

    /// The figure as an SVG file.
    ///
    /// # Errors
    /// When a picture in it cannot be encoded.
    pub(super) fn to_svg(&self) -> Result<String> {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.svg()?.write(&mut out);
        Ok(out)
    }

    /// The figure as a PNG file.
    ///
    /// # Errors
    /// When the program's font cannot be read or the picture cannot be encoded.
    pub(super) fn to_png(&self) -> Result<Vec<u8>> {
        Ok(self.paint()?.to_png()?)
    }
}

/// Sides of a picture in units.
pub(super) fn sides(canvas: &Canvas) -> (f64, f64) {
    let scale = f64::from(PX_PER_UNIT);
    (f64::from(canvas.width()) / scale, f64::from(canvas.height()) / scale)
}

/// Measures text before it is drawn.
pub(super) struct Ruler(Typeface);

impl Ruler {
    /// # Errors
    /// When the program's font cannot be read.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Typeface::sans()?))
    }

    /// The most room that a text takes in any usual sans-serif, in units.
    pub(super) fn width(&self, text: &str, font: Font) -> f64 {
        f64::from(self.0.width(text, font.size as f32)) * font.spread()
    }

    /// `text`, cut off with an ellipsis if it needs more than `width`.
    pub(super) fn fit(&self, text: &str, font: Font, width: f64) -> String {
        self.0.fit(text, font.size as f32, (width / font.spread()) as f32)
    }

    /// `text` in lines of at most `width`; a word that is longer is cut off.
    pub(super) fn wrap(&self, text: &str, font: Font, width: f64) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let word = self.fit(word, font, width);
            match lines.last_mut() {
                Some(line) if self.width(&format!("{line} {word}"), font) <= width => {
                    line.push(' ');
                    line.push_str(&word);
                }
                _ => lines.push(word),
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn drawing() -> Drawing {
        let mut drawing = Drawing::new(100.0, 40.0, "Two <things> & \"more\"".into());
        drawing.rect(10.0, 10.0, 20.0, 10.0, [200, 0, 0]);
        drawing.line(vec![(40.0, 30.0), (60.0, 30.0)], 2.0, [0, 0, 200]);
        drawing.text(70.0, 20.0, Anchor::End, Font::bold(12.0, [0; 3]), "A<B & 'C'\u{1}");
        drawing.picture(80.0, 5.0, Canvas::new(30, 30, [0, 200, 0]), "a picture".into());
        drawing
    }

    #[test]
    fn both_forms_hold_every_shape() {
        let drawing = drawing();
        let svg = drawing.to_svg().unwrap();
        for part in [
            "#c80000",
            "#0000c8",
            "A&lt;B &amp; &#39;C&#39;",
            "data:image/png",
            "a picture",
            "&lt;things&gt;",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let painted = drawing.paint().unwrap();
        assert_eq!((painted.width(), painted.height()), (300, 120));
        assert_eq!(painted.pixel(60, 45), Some([200, 0, 0]));
        assert_eq!(painted.pixel(150, 90), Some([0, 0, 200]));
        assert_eq!(painted.pixel(250, 20), Some([0, 200, 0]));
        // The text ends before its place, and something of it is there.
        let dark = |x: i64| (25..65).any(|y| painted.pixel(x, y).unwrap().iter().all(|&c| c < 90));
        assert!((120..210).any(dark) && !(212..238).any(dark));
    }

    #[test]
    fn wrapped_lines_fit_and_hold_every_word() {
        let ruler = Ruler::new().unwrap();
        let text = "one scale for each gene, shared by what was measured and what was predicted";
        let font = Font::plain(11.0, [0; 3]);
        let lines = ruler.wrap(text, font, 120.0);
        assert!(lines.len() > 2 && lines.iter().all(|line| ruler.width(line, font) <= 120.0));
        assert_eq!(lines.join(" "), text);
        assert!(ruler.wrap("", font, 120.0).is_empty());
    }

    #[test]
    fn dashes_stay_between_their_ends() {
        let mut drawing = Drawing::new(50.0, 50.0, String::new());
        drawing.dashes((0.0, 10.0), (40.0, 10.0), 1.0, [0; 3]);
        assert_eq!(drawing.shapes.len(), 5);
        drawing.dashes((5.0, 5.0), (5.0, 5.0), 1.0, [0; 3]);
        assert_eq!(drawing.shapes.len(), 5);
    }
}
