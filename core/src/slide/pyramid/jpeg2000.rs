//! A JPEG 2000 tile.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

/// Start of a codestream: its own marker and that of the image's size.
const START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

/// Most tiles that a codestream may divide its image into; what slides hold is one.
const MAX_TILES: u64 = 64;

/// Decodes a tile to interleaved grey or RGB. `luma_chroma` says that three components are luma and chroma; where the
/// chroma is coarser than the luma, they are so in any case, and where the codestream has transformed them itself, they
/// are not. On failure, says what was found.
pub(super) fn decode(
    data: &[u8],
    width: u32,
    height: u32,
    components: u16,
    luma_chroma: bool,
) -> Result<Vec<u8>, String> {
    // Some writers wrap the codestream into a file of its own; the directory says all that is in its boxes.
    let start = data.windows(4).position(|window| window == START).ok_or("no JPEG 2000 codestream")?;
    let stream = &data[start..];
    // Coded data holds no marker above 0xFF8F, so a stream that was cut off has no end.
    if !stream.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]) {
        return Err("a codestream without its end".into());
    }
    let size = Size::read(stream).ok_or("a codestream without its size")?;
    if (size.width, size.height, size.components) != (u64::from(width), u64::from(height), components) {
        return Err(format!("{} x {} pixels of {} components", size.width, size.height, size.components));
    }
    if size.tiles > MAX_TILES || size.depths.iter().any(|&depth| depth != 8) {
        return Err(format!("{} tiles, components of {:?} bits", size.tiles, size.depths));
    }
    let image = Image::new(stream, &DecodeSettings::default()).map_err(|error| error.to_string())?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|error| error.to_string())?;
    let pixels = width as usize * height as usize;
    if decoded.components().len() != usize::from(components)
        || decoded.components().iter().any(|component| component.samples().len() != pixels)
    {
        return Err(format!("{} decoded components", decoded.components().len()));
    }
    let mut bytes = decoded.data_u8();
    if components == 3 && luma_chroma && !size.coarse_chroma && !transforms_colors(stream) {
        rgb_from_ycbcr(&mut bytes);
    }
    Ok(bytes)
}

/// What a codestream's SIZ segment says.
struct Size {
    width: u64,
    height: u64,
    tiles: u64,
    components: u16,
    depths: Vec<u8>,
    /// Whether components have different resolutions. The decoder takes those for chroma and converts them.
    coarse_chroma: bool,
}

impl Size {
    fn read(stream: &[u8]) -> Option<Self> {
        // SOC, SIZ, length, capabilities, then eight numbers of 4 bytes and the count of components.
        let word = |index: usize| {
            let (bytes, _) = stream.get(8 + index * 4..)?.split_first_chunk::<4>()?;
            Some(u64::from(u32::from_be_bytes(*bytes)))
        };
        let tiles = |size: u64, tile: u64, tile_offset: u64| -> Option<u64> {
            (tile > 0).then(|| size.saturating_sub(tile_offset).div_ceil(tile))
        };
        let tiles = tiles(word(0)?, word(4)?, word(6)?)?.saturating_mul(tiles(word(1)?, word(5)?, word(7)?)?);
        let (count, _) = stream.get(40..)?.split_first_chunk::<2>()?;
        let components = u16::from_be_bytes(*count);
        // Depth less one with a sign bit, and the steps to the next sample in x and y.
        let (each, _) = stream.get(42..42 + usize::from(components) * 3)?.as_chunks::<3>();
        Some(Self {
            width: word(0)?.checked_sub(word(2)?)?,
            height: word(1)?.checked_sub(word(3)?)?,
            tiles,
            components,
            depths: each.iter().map(|[depth, ..]| depth.saturating_add(1)).collect(),
            coarse_chroma: each.windows(2).any(|pair| pair[0][1..] != pair[1][1..]),
        })
    }
}

/// Whether the codestream says itself that its components were transformed, which the decoder undoes.
fn transforms_colors(stream: &[u8]) -> bool {
    let mut rest = stream.get(2..).unwrap_or_default();
    while let [0xFF, marker, high, low, content @ ..] = rest
        && !matches!(marker, 0x90 | 0xD9)
    {
        // COD: style, order of progression, layers (2), transform.
        if *marker == 0x52 {
            return content.get(4).is_some_and(|&transform| transform != 0);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    false
}

/// JFIF's conversion, in place.
fn rgb_from_ycbcr(bytes: &mut [u8]) {
    let (pixels, _) = bytes.as_chunks_mut::<3>();
    for pixel in pixels {
        let [luma, blue, red] = pixel.map(f32::from);
        let (blue, red) = (blue - 128.0, red - 128.0);
        // The casts saturate.
        *pixel = [
            (luma + 1.402 * red).round() as u8,
            (luma - 0.344_136 * blue - 0.714_136 * red).round() as u8,
            (luma + 1.772 * blue).round() as u8,
        ];
    }
}
