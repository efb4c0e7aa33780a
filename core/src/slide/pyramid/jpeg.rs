//! A JPEG tile, with the tables that tiles share and the colour space that their image declares.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::slide::jpeg_segments::{JpegSegments, first_scan, is_complete};

/// What a tile must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) width: u32,
    /// Rows that are used; a strip at the bottom may hold as many as the others all the same.
    pub(super) rows: u32,
    /// Rows of other blocks.
    pub(super) max_rows: u32,
    /// Components: 1 or 3.
    pub(super) components: u16,
    /// Whether three components are luma and chroma rather than red, green and blue.
    pub(super) is_ycbcr: bool,
}

/// Decodes a tile to interleaved grey or RGB, `width · rows` pixels. On failure, says what was found.
pub(super) fn decode(data: &[u8], tables: Option<&[u8]>, expected: Expected) -> Result<Vec<u8>, String> {
    // The decoder fills what is missing with grey and says nothing.
    if !is_complete(data) {
        return Err("no JPEG, or one without its end".into());
    }
    let stream = with_tables(data, tables, expected).ok_or("no start of a scan")?;
    let color = if expected.components == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    let options = DecoderOptions::default()
        .set_max_width(expected.width as usize)
        .set_max_height(expected.max_rows as usize)
        .jpeg_set_out_colorspace(color);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&stream), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let Some(info) = decoder.info() else { return Err("no header".into()) };
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    if width != expected.width || height < expected.rows || u16::from(info.components) != expected.components
    {
        return Err(format!("{width} x {height} pixels of {} components", info.components));
    }
    let mut pixels = decoder.decode().map_err(|error| error.to_string())?;
    pixels.truncate(expected.width as usize * expected.rows as usize * usize::from(expected.components));
    Ok(pixels)
}

/// One stream of the shared tables and the tile. The image's directory decides the colour space, as in libtiff: what
/// application segments say of it is dropped, and an Adobe segment says what the directory does.
fn with_tables(data: &[u8], tables: Option<&[u8]>, expected: Expected) -> Option<Vec<u8>> {
    let scan = first_scan(data)?;
    let mut stream = Vec::with_capacity(data.len() + tables.map_or(0, <[u8]>::len) + 18);
    stream.extend_from_slice(&[0xFF, 0xD8]);
    if expected.components == 3 {
        // Length, "Adobe", version, flags (2 + 2), transform.
        stream.extend_from_slice(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
        stream.push(u8::from(expected.is_ycbcr));
    }
    for segments in [tables, Some(data)].into_iter().flatten() {
        for (marker, content) in JpegSegments::new(segments) {
            if matches!(marker, 0xE0..=0xEF | 0xFE) {
                continue;
            }
            stream.extend_from_slice(&[0xFF, marker]);
            stream.extend_from_slice(&u16::try_from(content.len() + 2).ok()?.to_be_bytes());
            stream.extend_from_slice(content);
        }
    }
    stream.extend_from_slice(data.get(scan..)?);
    Some(stream)
}
