//! The pixel size that an image file claims.

use std::io::Cursor;

use super::decode::ImageFormat;
use super::jpeg_segments::JpegSegments;
use super::range::RangeRead;
use crate::tiff::TiffError;
use crate::tiff::read::{Directory, TiffReader};
use crate::tiff::tags;

/// The pixel sizes that a microscope image can have, in µm. A screen's 72 to 300 dots per inch lie far outside.
pub const SENSIBLE_UM: std::ops::RangeInclusive<f64> = 0.05..=20.0;

/// The mean of both axes' µm per pixel, if they agree to 1 % on a size that a microscope image can have.
pub(super) fn sensible_mean((x, y): (f64, f64)) -> Option<f64> {
    let sensible = SENSIBLE_UM.contains(&x) && SENSIBLE_UM.contains(&y) && (x - y).abs() <= 0.01 * x;
    sensible.then_some((x + y) / 2.0)
}

/// µm per pixel from the file's resolution fields, if both axes agree to 1 % on a sensible size.
pub(super) fn embedded_um_per_px(bytes: &[u8], format: ImageFormat) -> Option<f64> {
    let claim = match format {
        ImageFormat::Png => png_um_per_px(bytes),
        ImageFormat::Jpeg => jpeg_um_per_px(bytes),
        ImageFormat::Tiff => tiff_um_per_px(bytes),
    }?;
    sensible_mean(claim)
}

fn png_um_per_px(bytes: &[u8]) -> Option<(f64, f64)> {
    let reader = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: 1 << 20 });
    let dims = reader.read_info().ok()?.info().pixel_dims?;
    (dims.unit == png::Unit::Meter).then(|| (1e6 / f64::from(dims.xppu), 1e6 / f64::from(dims.yppu)))
}

fn tiff_um_per_px(bytes: &[u8]) -> Option<(f64, f64)> {
    let mut reader = TiffReader::new(bytes).ok()?;
    let directories = reader.directories().ok()?;
    resolution_um_per_px(&mut reader, directories.first()?).ok()?
}

/// µm per pixel in x and y from TIFF's resolution tags; `None` where they name no unit of length.
///
/// # Errors
/// [`TiffError`] when they lie outside the file.
pub(super) fn resolution_um_per_px<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
) -> Result<Option<(f64, f64)>, TiffError> {
    let um_per_unit = match reader.unsigned(directory, tags::RESOLUTION_UNIT)? {
        None | Some(2) => 25_400.0,
        Some(3) => 10_000.0,
        _ => return Ok(None),
    };
    let x = reader.rational(directory, tags::X_RESOLUTION)?;
    let y = reader.rational(directory, tags::Y_RESOLUTION)?;
    Ok(x.zip(y).map(|(x, y)| (um_per_unit / x, um_per_unit / y)))
}

fn jpeg_um_per_px(bytes: &[u8]) -> Option<(f64, f64)> {
    // JFIF puts its segment first: "JFIF\0", version (2), unit (1), x density (2), y density (2).
    let (_, data) =
        JpegSegments::new(bytes).find(|(marker, data)| *marker == 0xE0 && data.starts_with(b"JFIF\0"))?;
    let um_per_unit = match data.get(7)? {
        1 => 25_400.0,
        2 => 10_000.0,
        _ => return None,
    };
    let density = |at: usize| Some(f64::from(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?])));
    Some((um_per_unit / density(8)?, um_per_unit / density(10)?))
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeLimits, decode};
    use image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};

    fn embedded(bytes: &[u8]) -> Option<f64> {
        decode(bytes, &DecodeLimits::default()).unwrap().embedded_um_per_px
    }

    fn png(pixels_per_metre: (u32, u32), unit: png::Unit) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(png::ColorType::Rgb);
        let (xppu, yppu) = pixels_per_metre;
        encoder.set_pixel_dims(Some(png::PixelDimensions { xppu, yppu, unit }));
        encoder.write_header().unwrap().write_image_data(&[9; 12]).unwrap();
        bytes
    }

    fn tiff(pixels_per_cm: u32) -> Vec<u8> {
        use tiff::encoder::{Rational, TiffEncoder, colortype::RGB8};
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let mut image = encoder.new_image::<RGB8>(2, 2).unwrap();
        image.resolution(tiff::tags::ResolutionUnit::Centimeter, Rational { n: pixels_per_cm, d: 1 });
        image.write_data(&[9; 12]).unwrap();
        bytes.into_inner()
    }

    fn jpeg(density: (u16, u16), unit: PixelDensityUnit) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new(&mut bytes);
        encoder.set_pixel_density(PixelDensity { density, unit });
        encoder.encode(&[9; 12], 2, 2, image::ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    #[test]
    fn microscope_resolutions_are_read() {
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-4 * expected;
        assert!(near(embedded(&png((2_000_000, 2_000_000), png::Unit::Meter)), 0.5));
        assert!(near(embedded(&tiff(40_000)), 0.25));
        assert!(near(embedded(&jpeg((14_493, 14_493), PixelDensityUnit::Centimeters)), 0.69));
    }

    #[test]
    fn a_screen_resolution_is_no_pixel_size() {
        assert_eq!(embedded(&png((2835, 2835), png::Unit::Meter)), None);
        assert_eq!(embedded(&png((2_000_000, 2_000_000), png::Unit::Unspecified)), None);
        assert_eq!(embedded(&png((2_000_000, 1_000_000), png::Unit::Meter)), None);
        assert_eq!(embedded(&tiff(28)), None);
        assert_eq!(embedded(&tiff(0)), None);
        assert_eq!(embedded(&jpeg((72, 72), PixelDensityUnit::Inches)), None);
        assert_eq!(embedded(&jpeg((1, 1), PixelDensityUnit::PixelAspectRatio)), None);
    }
}
