//! An RGB picture to draw on.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::HeatmapError;

/// Largest side of a picture, in pixels.
pub(super) const MAX_SIDE_PX: u32 = 16_384;

/// An RGB picture with 8 bits per channel. Drawing outside it does nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A picture of one colour. Sides are kept between 1 and 16,384 px.
    pub fn new(width: u32, height: u32, color: [u8; 3]) -> Self {
        let (width, height) = (width.clamp(1, MAX_SIDE_PX), height.clamp(1, MAX_SIDE_PX));
        Self { width, height, rgb: color.repeat(width as usize * height as usize) }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Interleaved RGB, rows from the top.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Interleaved RGB to change, rows from the top.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The pixel of a column and row, or `None` outside.
    pub fn pixel(&self, x: i64, y: i64) -> Option<[u8; 3]> {
        self.rgb.get(self.offset(x, y)?..).and_then(|rest| rest.first_chunk()).copied()
    }

    /// Lays `color` over a pixel: `alpha` 0 leaves it, 1 replaces it.
    pub fn blend(&mut self, x: i64, y: i64, color: [u8; 3], alpha: f32) {
        let Some(offset) = self.offset(x, y) else { return };
        let Some(pixel) = self.rgb.get_mut(offset..offset + 3) else { return };
        let alpha = alpha.clamp(0.0, 1.0);
        for (channel, color) in pixel.iter_mut().zip(color) {
            *channel = (f32::from(*channel) * (1.0 - alpha) + f32::from(color) * alpha).round() as u8;
        }
    }

    /// Fills columns `x0..x1` of rows `y0..y1`.
    pub fn fill(&mut self, x0: i64, y0: i64, x1: i64, y1: i64, color: [u8; 3]) {
        let (x0, x1) = (x0.clamp(0, i64::from(self.width)), x1.clamp(0, i64::from(self.width)));
        for y in y0.max(0)..y1.min(i64::from(self.height)) {
            for x in x0..x1 {
                self.blend(x, y, color, 1.0);
            }
        }
    }

    /// Fills a disc with a smooth rim.
    pub fn fill_disc(&mut self, center_x: f64, center_y: f64, radius: f64, color: [u8; 3], alpha: f32) {
        let center = (center_x, center_y);
        self.stroke(center, center, 2.0 * radius, color, alpha);
    }

    /// Draws a straight line with round ends and smooth rims.
    pub fn stroke(&mut self, from: (f64, f64), to: (f64, f64), width: f64, color: [u8; 3], alpha: f32) {
        let reach = width / 2.0 + 1.0;
        let span = |a: f64, b: f64, side: u32| {
            let low = (a.min(b) - reach).floor().clamp(0.0, f64::from(side)) as i64;
            let high = (a.max(b) + reach).ceil().clamp(0.0, f64::from(side)) as i64;
            low..high
        };
        let along = (to.0 - from.0, to.1 - from.1);
        let squared = along.0 * along.0 + along.1 * along.1;
        for y in span(from.1, to.1, self.height) {
            for x in span(from.0, to.0, self.width) {
                let (dx, dy) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
                // The nearest point of the line, as a part of its length.
                let part = match squared > 0.0 {
                    true => ((dx * along.0 + dy * along.1) / squared).clamp(0.0, 1.0),
                    false => 0.0,
                };
                let distance = (dx - part * along.0).hypot(dy - part * along.1);
                let coverage = (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    self.blend(x, y, color, coverage as f32 * alpha);
                }
            }
        }
    }

    /// Copies another picture so that its top left corner comes to `(x, y)`.
    pub fn paste(&mut self, other: &Canvas, x: i64, y: i64) {
        for (row, line) in other.rgb.chunks_exact(other.width as usize * 3).enumerate() {
            for (column, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
                self.blend(x + column as i64, y + row as i64, *pixel, 1.0);
            }
        }
    }

    /// The picture as a PNG file.
    ///
    /// # Errors
    /// [`HeatmapError::Encoding`] when the encoder fails.
    pub fn to_png(&self) -> Result<Vec<u8>, HeatmapError> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&self.rgb, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(|error| HeatmapError::Encoding(error.to_string()))?;
        Ok(bytes)
    }

    fn offset(&self, x: i64, y: i64) -> Option<usize> {
        let inside = (0..i64::from(self.width)).contains(&x) && (0..i64::from(self.height)).contains(&y);
        inside.then(|| (y as usize * self.width as usize + x as usize) * 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slide::{DecodeLimits, decode};

    #[test]
    fn drawing_outside_does_nothing() {
        let mut canvas = Canvas::new(4, 4, [9; 3]);
        canvas.fill(-10, -10, 0, 20, [0; 3]);
        canvas.blend(4, 0, [0; 3], 1.0);
        canvas.fill_disc(-50.0, 2.0, 3.0, [0; 3], 1.0);
        canvas.fill_disc(f64::NAN, 2.0, 3.0, [0; 3], 1.0);
        assert!(canvas.rgb().iter().all(|&value| value == 9));
        assert_eq!(canvas.pixel(-1, 0), None);
    }

    #[test]
    fn a_disc_has_the_area_of_a_disc() {
        let mut canvas = Canvas::new(40, 40, [0; 3]);
        canvas.fill_disc(20.3, 19.6, 12.0, [200; 3], 1.0);
        let area: f64 = canvas.rgb().iter().step_by(3).map(|&value| f64::from(value) / 200.0).sum();
        assert!((area - std::f64::consts::PI * 144.0).abs() < 2.0, "{area}");
    }

    #[test]
    fn a_line_has_the_area_of_its_length_and_width() {
        let mut canvas = Canvas::new(60, 60, [0; 3]);
        canvas.stroke((10.2, 50.1), (45.7, 12.4), 5.0, [200; 3], 1.0);
        let area: f64 = canvas.rgb().iter().step_by(3).map(|&value| f64::from(value) / 200.0).sum();
        let expected = 5.0 * 35.5_f64.hypot(37.7) + std::f64::consts::PI * 2.5 * 2.5;
        assert!((area - expected).abs() < 0.02 * expected, "{area} {expected}");
    }

    #[test]
    fn a_png_holds_the_pixels() {
        let mut canvas = Canvas::new(5, 3, [1, 2, 3]);
        canvas.fill(1, 1, 3, 2, [200, 100, 50]);
        let decoded = decode(&canvas.to_png().unwrap(), &DecodeLimits::default()).unwrap();
        assert_eq!(decoded.rgb, canvas.rgb());
    }
}
