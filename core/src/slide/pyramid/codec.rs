//! The bytes of a tile or strip → its samples, within the size that its image declares.

use std::fmt;

use flate2::{Decompress, FlushDecompress};

use crate::slide::RangeRead;
use crate::tiff::TiffError;
use crate::tiff::read::{ByteOrder, Directory, TiffReader};
use crate::tiff::tags;

/// How tiles are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// Lempel, Ziv and Welch.
    Lzw,
    /// zlib.
    Deflate,
    /// Runs of bytes.
    PackBits,
    /// JPEG with tables that tiles may share.
    Jpeg,
    /// A JPEG 2000 codestream; `true` when its three components are known to be luma and chroma.
    Jpeg2000(bool),
}

impl Compression {
    pub(super) fn from_tag<R: RangeRead + ?Sized>(
        reader: &mut TiffReader<'_, R>,
        directory: &Directory,
    ) -> Result<Self, TiffError> {
        let number = reader.unsigned(directory, tags::COMPRESSION)?.unwrap_or(1);
        Ok(match number {
            1 => Self::None,
            5 => Self::Lzw,
            7 => Self::Jpeg,
            8 | 32_946 => Self::Deflate,
            32_773 => Self::PackBits,
            33_003 => Self::Jpeg2000(true),
            33_004 | 33_005 | 34_712 => Self::Jpeg2000(false),
            other => {
                let known = [
                    (2, "CCITT runs"),
                    (3, "fax T.4"),
                    (4, "fax T.6"),
                    (6, "JPEG of the old style"),
                    (34_887, "LERC"),
                    (34_925, "LZMA"),
                    (50_000, "Zstandard"),
                    (50_001, "WebP"),
                    (50_002, "JPEG XL"),
                ];
                let name =
                    known.iter().find(|(number, _)| *number == other).map_or("unknown", |(_, name)| name);
                return Err(TiffError::field(
                    directory.field(tags::COMPRESSION),
                    "none, LZW, Deflate, PackBits, JPEG or JPEG 2000",
                    format!("{other} ({name})"),
                ));
            }
        })
    }

    /// Whether a compressed tile is an image by itself, which says its own size and knows colour spaces.
    pub(super) fn holds_colors(self) -> bool {
        matches!(self, Self::Jpeg | Self::Jpeg2000(_))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no compression",
            Self::Lzw => "LZW",
            Self::Deflate => "Deflate",
            Self::PackBits => "PackBits",
            Self::Jpeg => "JPEG",
            Self::Jpeg2000(_) => "JPEG 2000",
        })
    }
}

/// What was done to samples before they were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    /// Nothing.
    None,
    /// Each is its difference to the one before.
    Horizontal,
}

impl Predictor {
    pub(super) fn from_tag<R: RangeRead + ?Sized>(
        reader: &mut TiffReader<'_, R>,
        directory: &Directory,
        bits: u8,
    ) -> Result<Self, TiffError> {
        match reader.unsigned(directory, tags::PREDICTOR)? {
            None | Some(1) => Ok(Self::None),
            Some(2) if bits >= 8 => Ok(Self::Horizontal),
            Some(other) => {
                let expected = "1, or 2 with 8 or 16 bits";
                Err(TiffError::field(directory.field(tags::PREDICTOR), expected, other))
            }
        }
    }

    /// Undoes the prediction over rows of `row_bytes`, with `per_pixel` samples side by side.
    pub(super) fn undo(
        self,
        bytes: &mut [u8],
        row_bytes: usize,
        per_pixel: usize,
        bits: u8,
        order: ByteOrder,
    ) {
        if self == Self::None {
            return;
        }
        for row in bytes.chunks_exact_mut(row_bytes.max(1)) {
            match (bits, order) {
                (16, ByteOrder::Little) => undo_16(row, per_pixel, u16::from_le_bytes, u16::to_le_bytes),
                (16, ByteOrder::Big) => undo_16(row, per_pixel, u16::from_be_bytes, u16::to_be_bytes),
                _ => undo_8(row, per_pixel),
            }
        }
    }
}

fn undo_8(row: &mut [u8], per_pixel: usize) {
    if let (3, (pixels, _)) = (per_pixel, row.as_chunks_mut::<3>()) {
        let mut sum = [0u8; 3];
        for pixel in pixels {
            for (value, sum) in pixel.iter_mut().zip(&mut sum) {
                *sum = sum.wrapping_add(*value);
                *value = *sum;
            }
        }
        return;
    }
    for index in per_pixel..row.len() {
        row[index] = row[index].wrapping_add(row[index - per_pixel]);
    }
}

fn undo_16(row: &mut [u8], per_pixel: usize, read: fn([u8; 2]) -> u16, write: fn(u16) -> [u8; 2]) {
    let (samples, _) = row.as_chunks_mut::<2>();
    for index in per_pixel..samples.len() {
        samples[index] = write(read(samples[index]).wrapping_add(read(samples[index - per_pixel])));
    }
}

/// Expands `data` to exactly `expected` bytes; what would follow is left unread, so that no tile grows beyond what its
/// image declares. On failure, says what was wrong.
pub(super) fn expand(compression: Compression, data: Vec<u8>, expected: usize) -> Result<Vec<u8>, String> {
    let (out, written, trouble) = match compression {
        Compression::Lzw => {
            let mut out = vec![0; expected];
            let (written, trouble) = lzw(&data, &mut out);
            (out, written, trouble)
        }
        Compression::Deflate => {
            let mut out = vec![0; expected];
            let mut inflate = Decompress::new(true);
            let status = inflate.decompress(&data, &mut out, FlushDecompress::Finish);
            (out, inflate.total_out() as usize, status.err().map(|error| error.to_string()))
        }
        Compression::PackBits => {
            let out = pack_bits(&data, expected);
            let written = out.len();
            (out, written, None)
        }
        _ => {
            let mut data = data;
            let written = data.len().min(expected);
            data.truncate(expected);
            (data, written, None)
        }
    };
    if written < expected {
        let why = trouble.map_or_else(String::new, |trouble| format!(" ({trouble})"));
        return Err(format!("{written} bytes{why}"));
    }
    Ok(out)
}

fn lzw(data: &[u8], out: &mut [u8]) -> (usize, Option<String>) {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < out.len() {
        let result = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status {
            Ok(weezl::LzwStatus::Ok) => {}
            Ok(_) => break,
            Err(error) => return (written, Some(error.to_string())),
        }
    }
    (written, None)
}

fn pack_bits(data: &[u8], expected: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(expected);
    let mut rest = data;
    while out.len() < expected
        && let Some((&head, after)) = rest.split_first()
    {
        let room = expected - out.len();
        match head as i8 {
            -128 => rest = after,
            run @ ..0 => {
                let Some((&value, after)) = after.split_first() else { break };
                out.resize(out.len() + room.min(1 + usize::from(run.unsigned_abs())), value);
                rest = after;
            }
            literal => {
                let taken = after.len().min(1 + literal as usize);
                out.extend_from_slice(&after[..taken.min(room)]);
                rest = &after[taken..];
            }
        }
    }
    out
}
