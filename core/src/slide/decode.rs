//! PNG, JPEG and TIFF to RGB, within limits that are checked against the header before any pixel is read.

use std::io::Cursor;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, tiff::TiffDecoder};
use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, Limits};

use super::error::SlideError;
use super::pyramid::refuse_first_of_colors;
use super::slide_image::{SlideImage, over_background};
use super::{jpeg_segments, pixel_size};

/// What reading a PNG's header may allocate, whatever the limits say: metadata comes before the pixels.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// Portable Network Graphics.
    Png,
    /// JPEG, baseline and progressive.
    Jpeg,
    /// TIFF and BigTIFF; the first image of the file.
    Tiff,
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ImageFormat::Png => "PNG",
            ImageFormat::Jpeg => "JPEG",
            ImageFormat::Tiff => "TIFF",
        })
    }
}

/// How large an image may be. The header is held against them before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest width, in pixels.
    pub max_width_px: u32,
    /// Largest height, in pixels.
    pub max_height_px: u32,
    /// Largest number of pixels.
    pub max_pixels: u64,
    /// Largest size of the decoded samples, in bytes: 3 per pixel for 8-bit RGB, up to 8 for 16-bit RGBA. The
    /// decoder's own buffers may take as much again.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 30,000 px on a side and 1.2 GB, which is 400 million pixels of 8-bit RGB.
    fn default() -> Self {
        Self {
            max_width_px: 30_000,
            max_height_px: 30_000,
            max_pixels: 400_000_000,
            max_bytes: 1_200_000_000,
        }
    }
}

/// The pixels of an image, and the pixel size that its file claims.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedImage {
    /// The file's format.
    pub format: ImageFormat,
    /// Width.
    pub width_px: u32,
    /// Height.
    pub height_px: u32,
    /// Interleaved RGB, rows from the top.
    pub rgb: Vec<u8>,
    /// µm per pixel from the file's resolution fields, where they name a size that a microscope image can have
    /// (0.05 to 20 µm). Scanners often write a screen's resolution there, which is left out.
    pub embedded_um_per_px: Option<f64>,
}

impl DecodedImage {
    /// The image with the pixel size that the caller has settled on.
    ///
    /// # Errors
    /// As [`SlideImage::new`].
    pub fn into_slide(self, um_per_px: f64) -> Result<SlideImage, SlideError> {
        SlideImage::new(self.width_px, self.height_px, self.rgb, um_per_px)
    }
}

/// Decodes a PNG, JPEG or TIFF file to 8-bit RGB. Grey becomes RGB, 16 bits become 8, transparent pixels are laid over
/// white. An orientation tag is not applied: positions are given in the stored pixels.
///
/// # Errors
/// Bytes that are no such image, an image beyond the limits, a truncated or damaged one: see [`SlideError`].
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<DecodedImage, SlideError> {
    let format = format_of(bytes)?;
    let image = match format {
        ImageFormat::Png => {
            // Where addresses have 32 bits, the decoder refuses large sides itself, without saying which.
            if let Some((width_px, height_px)) = png_sides(bytes) {
                check_sides(width_px, height_px, format, limits)?;
            }
            // No limit on the sides yet: `check_size` says what the header declares, the decoder would not.
            let mut header_limits = Limits::no_limits();
            header_limits.max_alloc = Some(limits.max_bytes.max(MAX_HEADER_BYTES));
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), header_limits);
            read(decoder.map_err(|error| decode_error(format, error))?, format, limits)?
        }
        ImageFormat::Jpeg => {
            let decoder =
                JpegDecoder::new(Cursor::new(bytes)).map_err(|error| decode_error(format, error))?;
            check_size(&decoder, format, limits)?;
            // The decoder fills what is missing with grey and says nothing.
            if !jpeg_segments::is_complete(bytes) {
                return Err(SlideError::Truncated {
                    format,
                    detail: "there is no end-of-image marker".into(),
                });
            }
            read(decoder, format, limits)?
        }
        ImageFormat::Tiff => {
            let decoder =
                TiffDecoder::new(Cursor::new(bytes)).map_err(|error| decode_error(format, error))?;
            let image = read(decoder, format, limits)?;
            // After the pixels, so that a damaged file is refused in the decoder's words.
            refuse_first_of_colors(bytes)?;
            image
        }
    };
    let (width_px, height_px) = (image.width(), image.height());
    let embedded_um_per_px = pixel_size::embedded_um_per_px(bytes, format);
    Ok(DecodedImage { format, width_px, height_px, rgb: rgb_over_background(image), embedded_um_per_px })
}

fn read<D: ImageDecoder>(
    mut decoder: D,
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<DynamicImage, SlideError> {
    check_size(&decoder, format, limits)?;
    // A strip or tile may be the whole image, so the decoder needs room for the samples twice.
    let working_bytes = decoder.total_bytes().saturating_mul(2).saturating_add(1 << 20);
    decoder.set_limits(decoder_limits(limits, working_bytes)).map_err(|error| decode_error(format, error))?;
    DynamicImage::from_decoder(decoder).map_err(|error| decode_error(format, error))
}

fn check_size<D: ImageDecoder>(
    decoder: &D,
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<(), SlideError> {
    let (width_px, height_px) = decoder.dimensions();
    check_sides(width_px, height_px, format, limits)?;
    let bytes = decoder.total_bytes();
    if bytes > limits.max_bytes {
        return Err(SlideError::TooManyBytes { format, bytes, max_bytes: limits.max_bytes });
    }
    Ok(())
}

/// The sides that a PNG's header declares; its first chunk is the header.
fn png_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.get(12..24)?.strip_prefix(b"IHDR")?;
    let (&width, rest) = header.split_first_chunk::<4>()?;
    let (&height, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(width), u32::from_be_bytes(height)))
}

fn check_sides(
    width_px: u32,
    height_px: u32,
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<(), SlideError> {
    let pixels = u64::from(width_px) * u64::from(height_px);
    if width_px > limits.max_width_px || height_px > limits.max_height_px || pixels > limits.max_pixels {
        return Err(SlideError::TooManyPixels {
            format,
            width_px,
            height_px,
            max_width_px: limits.max_width_px,
            max_height_px: limits.max_height_px,
            max_pixels: limits.max_pixels,
        });
    }
    if pixels == 0 {
        return Err(SlideError::Undecodable {
            format,
            detail: format!("expected at least one pixel, found {width_px} x {height_px}"),
        });
    }
    Ok(())
}

fn decoder_limits(limits: &DecodeLimits, max_alloc: u64) -> Limits {
    let mut decoder = Limits::no_limits();
    decoder.max_image_width = Some(limits.max_width_px);
    decoder.max_image_height = Some(limits.max_height_px);
    decoder.max_alloc = Some(max_alloc);
    decoder
}

fn decode_error(format: ImageFormat, error: ImageError) -> SlideError {
    let truncated =
        matches!(&error, ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof);
    // Some decoders wrap the end of the file in their own error; its text is all that is left of it.
    let detail = error.to_string();
    let says_so = ["unexpected end", "failed to fill whole buffer", "exhausted data", "unexpected eof"]
        .iter()
        .any(|words| detail.to_ascii_lowercase().contains(words));
    if truncated || says_so {
        SlideError::Truncated { format, detail }
    } else {
        SlideError::Undecodable { format, detail }
    }
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, SlideError> {
    const TIFF: [&[u8]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(ImageFormat::Png)
    } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Ok(ImageFormat::Jpeg)
    } else if TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        Ok(ImageFormat::Tiff)
    } else {
        Err(SlideError::NotAnImage { found: what_it_looks_like(bytes) })
    }
}

fn what_it_looks_like(bytes: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"GIF8", "a GIF image"),
        (b"BM", "a BMP image"),
        (b"RIFF", "a RIFF container (WebP?)"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
        (b"%PDF", "a PDF document"),
        (b"PAR1", "a Parquet file"),
    ];
    if bytes.is_empty() {
        return "an empty file".into();
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).into();
    }
    let start = &bytes[..bytes.len().min(16)];
    if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return format!("text that starts with {:?}", String::from_utf8_lossy(start));
    }
    let hex: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes that start with {}", bytes.len(), hex.join(" "))
}

fn rgb_over_background(image: DynamicImage) -> Vec<u8> {
    if !image.color().has_alpha() {
        return image.into_rgb8().into_raw();
    }
    let rgba = image.into_rgba8();
    let mut rgb = Vec::with_capacity(rgba.as_raw().len() / 4 * 3);
    for pixel in rgba.as_raw().chunks_exact(4) {
        rgb.extend(pixel[..3].iter().map(|&channel| over_background(channel, pixel[3])));
    }
    rgb
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageBuffer, Luma, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encode(image: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient() -> DynamicImage {
        RgbImage::from_fn(37, 23, |x, y| image::Rgb([x as u8 * 5, y as u8 * 9, 120])).into()
    }

    /// A PNG of nothing but a signature, an IHDR of these sides and an empty IDAT.
    fn png_header(width: u32, height: u32) -> Vec<u8> {
        fn chunk(bytes: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
            let mut crc = !0u32;
            for &byte in kind.iter().chain(data) {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
                }
            }
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(kind);
            bytes.extend(data);
            bytes.extend((!crc).to_be_bytes());
        }
        let mut header = Vec::new();
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut bytes, b"IHDR", &header);
        chunk(&mut bytes, b"IDAT", &[]);
        bytes
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Tiff] {
            let decoded = decode(&encode(&gradient(), format), &DecodeLimits::default()).unwrap();
            assert_eq!((decoded.width_px, decoded.height_px), (37, 23));
            assert_eq!(decoded.rgb, gradient().into_rgb8().into_raw());
        }
    }

    #[test]
    fn jpeg_gives_nearly_the_pixels_back() {
        let decoded =
            decode(&encode(&gradient(), image::ImageFormat::Jpeg), &DecodeLimits::default()).unwrap();
        assert_eq!(decoded.format, ImageFormat::Jpeg);
        let original = gradient().into_rgb8().into_raw();
        let mean: f64 =
            decoded.rgb.iter().zip(&original).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
                / original.len() as f64;
        assert!(mean < 6.0, "mean difference {mean}");
    }

    #[test]
    fn grey_sixteen_bit_and_transparent_pixels_become_rgb() {
        let grey: DynamicImage = GrayImage::from_pixel(3, 2, Luma([77])).into();
        let decoded = decode(&encode(&grey, image::ImageFormat::Png), &DecodeLimits::default()).unwrap();
        assert_eq!(decoded.rgb, [77; 18]);

        let deep: DynamicImage = ImageBuffer::<Luma<u16>, _>::from_pixel(3, 2, Luma([200 * 257])).into();
        for format in [image::ImageFormat::Png, image::ImageFormat::Tiff] {
            let decoded = decode(&encode(&deep, format), &DecodeLimits::default()).unwrap();
            assert_eq!(decoded.rgb, [200; 18]);
        }

        let clear: DynamicImage = RgbaImage::from_pixel(1, 1, Rgba([0, 100, 200, 51])).into();
        let decoded = decode(&encode(&clear, image::ImageFormat::Png), &DecodeLimits::default()).unwrap();
        // One fifth of the colour, four fifths of white.
        assert_eq!(decoded.rgb, [204, 224, 244]);
    }

    #[test]
    fn a_huge_declared_image_is_refused_from_its_header() {
        let error = decode(&png_header(65_535, 65_535), &DecodeLimits::default()).unwrap_err();
        assert!(error.to_string().contains("65535") || error.to_string().contains("limit"), "{error}");
        assert!(
            matches!(error, SlideError::TooManyPixels { width_px: 65_535, height_px: 65_535, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn each_limit_holds_on_its_own() {
        let bytes = encode(&gradient(), image::ImageFormat::Png);
        let open =
            DecodeLimits { max_width_px: 37, max_height_px: 23, max_pixels: 37 * 23, max_bytes: 37 * 23 * 3 };
        assert!(decode(&bytes, &open).is_ok());
        for (limits, is_pixels) in [
            (DecodeLimits { max_width_px: 36, ..open }, true),
            (DecodeLimits { max_height_px: 22, ..open }, true),
            (DecodeLimits { max_pixels: 37 * 23 - 1, ..open }, true),
            (DecodeLimits { max_bytes: 37 * 23 * 3 - 1, ..open }, false),
        ] {
            for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::Tiff] {
                let error = decode(&encode(&gradient(), format), &limits).unwrap_err();
                assert_eq!(
                    matches!(error, SlideError::TooManyPixels { .. }),
                    is_pixels,
                    "{format:?} {error}"
                );
            }
        }
    }

    #[test]
    fn truncated_images_are_errors_at_every_length() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::Tiff] {
            let whole = encode(&gradient(), format);
            // The last bytes of a PNG (IEND) and of a TIFF may be dispensable; half of the file never is.
            for length in [whole.len() / 2, whole.len() / 4, 40, 9] {
                let error = decode(&whole[..length], &DecodeLimits::default()).unwrap_err();
                assert!(
                    matches!(error, SlideError::Truncated { .. } | SlideError::Undecodable { .. }),
                    "{format:?} cut to {length}: {error}"
                );
            }
        }
        let jpeg = encode(&gradient(), image::ImageFormat::Jpeg);
        let error = decode(&jpeg[..jpeg.len() - 2], &DecodeLimits::default()).unwrap_err();
        assert!(matches!(error, SlideError::Truncated { format: ImageFormat::Jpeg, .. }), "{error}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        for (bytes, words) in [
            (&b""[..], "an empty file"),
            (b"gene\tcount\nA\t1", "text that starts with"),
            (b"\x89HDF\r\n\x1a\n....", "HDF5"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x01\x02\x03", "01 02 03"),
        ] {
            let error = decode(bytes, &DecodeLimits::default()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn one_of_three_colours_is_not_taken_for_a_picture() {
        let planes = include_bytes!("../../../tests/fixtures/slides/planes.ome.tif");
        let error = decode(planes, &DecodeLimits::default()).unwrap_err();
        assert!(error.to_string().contains("one image per colour"), "{error}");
    }

    #[test]
    fn damaged_bytes_never_panic() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::Tiff] {
            let whole = encode(&gradient(), format);
            for place in 0..whole.len().min(400) {
                let mut damaged = whole.clone();
                damaged[place] ^= 0xA5;
                let limits =
                    DecodeLimits { max_pixels: 1 << 20, max_bytes: 1 << 22, ..DecodeLimits::default() };
                let _ = decode(&damaged, &limits);
            }
        }
    }
}
