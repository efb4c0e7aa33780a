//! Samples of a block → RGB with 8 bits.

use std::sync::Arc;

use crate::slide::slide_image::{BACKGROUND, over_background};
use crate::tiff::read::ByteOrder;

/// What the samples of a pixel mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ink {
    /// Grey, 0 is white.
    WhiteIsZero,
    /// Grey, 0 is black.
    BlackIsZero,
    /// Red, green and blue.
    Rgb,
    /// Indices into these colours.
    Palette(Arc<[[u8; 3]]>),
    /// Luma and chroma, inside a compression that knows them.
    YCbCr,
    /// Cyan, magenta, yellow, black.
    Cmyk,
}

impl Ink {
    /// Samples that make up a colour.
    pub(super) fn channels(&self) -> u16 {
        match self {
            Ink::WhiteIsZero | Ink::BlackIsZero | Ink::Palette(_) => 1,
            Ink::Rgb | Ink::YCbCr => 3,
            Ink::Cmyk => 4,
        }
    }
}

/// What the first sample beyond the colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpha {
    /// Nothing that is used.
    None,
    /// Opacity; the colour has been multiplied by it.
    Premultiplied,
    /// Opacity.
    Straight,
}

/// How the pixels of an image are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Samples {
    /// Samples per pixel.
    pub(super) per_pixel: u16,
    /// Bits per sample: 1, 2, 4, 8 or 16.
    pub(super) bits: u8,
    /// Which byte of 16 bits comes first.
    pub(super) order: ByteOrder,
    pub(super) ink: Ink,
    pub(super) alpha: Alpha,
}

impl Samples {
    /// Bytes of a row of `width` pixels in one of `planes` planes. Rows start at whole bytes.
    pub(super) fn row_bytes(&self, width: u32, planes: u16) -> u64 {
        let samples = u64::from(self.per_pixel / planes.max(1)) * u64::from(width);
        (samples * u64::from(self.bits)).div_ceil(8)
    }

    /// The samples as bytes, one each, whatever their depth: grey and colour are scaled to 0..=255, indices are not.
    pub(super) fn to_bytes(&self, stored: Vec<u8>, width: u32, planes: u16) -> Vec<u8> {
        match self.bits {
            8 => stored,
            16 => {
                let (pairs, _) = stored.as_chunks::<2>();
                let eight_bits = |pair: &[u8; 2]| {
                    let value = match self.order {
                        ByteOrder::Little => u16::from_le_bytes(*pair),
                        ByteOrder::Big => u16::from_be_bytes(*pair),
                    };
                    ((u32::from(value) + 128) / 257) as u8
                };
                pairs.iter().map(eight_bits).collect()
            }
            bits => {
                let mask = (1u8 << bits) - 1;
                let scale = if matches!(self.ink, Ink::Palette(_)) { 1 } else { 255 / mask };
                let per_byte = usize::from(8 / bits);
                let row_bytes = self.row_bytes(width, planes).max(1) as usize;
                let mut bytes = Vec::with_capacity(stored.len() * per_byte);
                for row in stored.chunks_exact(row_bytes) {
                    for x in 0..width as usize {
                        let byte = row.get(x / per_byte).copied().unwrap_or(0);
                        let shift = 8 - usize::from(bits) * (x % per_byte + 1);
                        bytes.push((byte >> shift & mask) * scale);
                    }
                }
                bytes
            }
        }
    }

    /// RGB from interleaved bytes, one per sample. Transparent pixels are laid over white.
    pub(super) fn to_rgb(&self, bytes: Vec<u8>) -> Vec<u8> {
        let per_pixel = usize::from(self.per_pixel).max(1);
        if per_pixel == 3 && matches!(self.ink, Ink::Rgb) {
            return bytes;
        }
        let color_channels = usize::from(self.ink.channels());
        let pixels = bytes.chunks_exact(per_pixel);
        let mut rgb = Vec::with_capacity(pixels.len() * 3);
        for pixel in pixels {
            let color = self.color(pixel);
            let opacity = pixel.get(color_channels).copied().unwrap_or(u8::MAX);
            match self.alpha {
                Alpha::None => rgb.extend_from_slice(&color),
                Alpha::Straight => rgb.extend(color.map(|value| over_background(value, opacity))),
                Alpha::Premultiplied => {
                    rgb.extend(color.map(|value| value.saturating_add(over_background(0, opacity))));
                }
            }
        }
        rgb
    }

    fn color(&self, pixel: &[u8]) -> [u8; 3] {
        match (&self.ink, pixel) {
            (Ink::WhiteIsZero, [grey, ..]) => [255 - grey; 3],
            (Ink::BlackIsZero, [grey, ..]) => [*grey; 3],
            (Ink::Palette(colors), [index, ..]) => {
                colors.get(usize::from(*index)).copied().unwrap_or([BACKGROUND; 3])
            }
            (Ink::Rgb | Ink::YCbCr, [red, green, blue, ..]) => [*red, *green, *blue],
            (Ink::Cmyk, [cyan, magenta, yellow, black, ..]) => {
                let light = 255 - u32::from(*black);
                [cyan, magenta, yellow].map(|ink| (((255 - u32::from(*ink)) * light + 127) / 255) as u8)
            }
            _ => [BACKGROUND; 3],
        }
    }
}

/// Interleaves planes of one sample each.
pub(super) fn interleave(planes: &[Vec<u8>]) -> Vec<u8> {
    let pixels = planes.iter().map(Vec::len).min().unwrap_or(0);
    let mut bytes = vec![0; pixels * planes.len()];
    for (channel, plane) in planes.iter().enumerate() {
        for (to, from) in bytes.iter_mut().skip(channel).step_by(planes.len()).zip(plane) {
            *to = *from;
        }
    }
    bytes
}
