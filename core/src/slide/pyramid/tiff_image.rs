//! One image of a TIFF file: what its directory says of it, checked, and where its tiles are.

use std::sync::Arc;

use super::codec::{Compression, Predictor};
use super::color::{Alpha, Ink, Samples};
use crate::slide::RangeRead;
use crate::tiff::TiffError;
use crate::tiff::read::{Array, Directory, TiffReader};
use crate::tiff::tags;

/// Most bytes that shared JPEG tables take: four tables of each kind are 2 kB.
const MAX_JPEG_TABLES: u64 = 64 << 10;

/// How much of a description is read. Facts about the first image stand at its start.
const MAX_DESCRIPTION: u64 = 4 << 20;

/// Uncompressed strips are read in blocks of about this many bytes, however tall the strip.
const BLOCK_BYTES: u64 = 1 << 20;

/// One image of a TIFF file. Its pixels come in blocks: its tiles, its strips, or parts of uncompressed strips.
#[derive(Debug, Clone)]
pub(super) struct TiffImage {
    /// What messages call it.
    pub(super) label: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) tiled: bool,
    /// NewSubfileType's bits.
    pub(super) subfile: u64,
    pub(super) block_width: u32,
    pub(super) block_height: u32,
    /// Blocks in a row of blocks.
    pub(super) across: u64,
    /// Rows of blocks.
    pub(super) down: u64,
    /// Blocks of a strip, 1 unless it is read in parts.
    parts: u64,
    /// Number of separate planes, 1 unless the samples of a pixel are stored apart.
    pub(super) planes: u16,
    pub(super) samples: Samples,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    pub(super) jpeg_tables: Option<Arc<[u8]>>,
    pub(super) offsets: Array,
    pub(super) byte_counts: Array,
}

/// Where the bytes of a block are, as (offset, length) within the file, is found through these indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Index into the file's arrays of offsets and lengths.
    pub(super) index: u64,
    /// Bytes to be skipped at its start, where a strip is read in parts.
    pub(super) skip: u64,
}

impl TiffImage {
    /// Reads and checks a directory.
    ///
    /// # Errors
    /// [`TiffError`] when the image is none that is read here, or when a block of it, decoded, is larger than
    /// `max_block_bytes`.
    pub(super) fn read<R: RangeRead + ?Sized>(
        reader: &mut TiffReader<'_, R>,
        directory: &Directory,
        max_block_bytes: u64,
    ) -> Result<Self, TiffError> {
        let required = |reader: &mut TiffReader<'_, R>, tag| {
            let value = reader.unsigned(directory, tag)?;
            value.ok_or_else(|| TiffError::field(directory.field(tag), "a value", "none"))
        };
        let width = side(required(reader, tags::IMAGE_WIDTH)?, directory, tags::IMAGE_WIDTH)?;
        let height = side(required(reader, tags::IMAGE_LENGTH)?, directory, tags::IMAGE_LENGTH)?;
        let compression = Compression::from_tag(reader, directory)?;
        let fill_order = reader.unsigned(directory, tags::FILL_ORDER)?.unwrap_or(1);
        if fill_order != 1 {
            return Err(TiffError::field(directory.field(tags::FILL_ORDER), 1, fill_order));
        }
        let (samples, planes) = samples(reader, directory, &compression)?;
        let predictor = Predictor::from_tag(reader, directory, samples.bits)?;

        let tiled = directory.has(tags::TILE_WIDTH) || directory.has(tags::TILE_OFFSETS);
        let (block_width, mut block_height, offset_tag, length_tag) = if tiled {
            (
                side(required(reader, tags::TILE_WIDTH)?, directory, tags::TILE_WIDTH)?,
                side(required(reader, tags::TILE_LENGTH)?, directory, tags::TILE_LENGTH)?,
                tags::TILE_OFFSETS,
                tags::TILE_BYTE_COUNTS,
            )
        } else {
            let rows = reader.unsigned(directory, tags::ROWS_PER_STRIP)?.unwrap_or(u64::from(height));
            let rows = side(rows.min(u64::from(height)), directory, tags::ROWS_PER_STRIP)?;
            (width, rows, tags::STRIP_OFFSETS, tags::STRIP_BYTE_COUNTS)
        };

        let row_bytes = samples.row_bytes(block_width, planes);
        let mut parts = 1;
        if !tiled && compression == Compression::None {
            let rows = rows_per_part(block_height, height, row_bytes);
            parts = u64::from(block_height.div_ceil(rows));
            block_height = rows;
        }
        // Held at once while a block is decoded: its samples and its RGB.
        let pixels = u64::from(block_width) * u64::from(block_height);
        let decoded =
            pixels.saturating_mul(u64::from(samples.per_pixel) * u64::from(samples.bits).div_ceil(8));
        let decoded = decoded.max(pixels.saturating_mul(3));
        if decoded > max_block_bytes {
            let part = if tiled { "tile" } else { "strip" };
            return Err(TiffError::field(
                format!("{}, {part}s", directory.label()),
                format!(
                    "at most {max_block_bytes} bytes each (a slide is best stored in tiles of 256 to 1024 px)"
                ),
                format!("{block_width} x {block_height} pixels, {decoded} bytes"),
            ));
        }

        let across = u64::from(width.div_ceil(block_width));
        let down = u64::from(height.div_ceil(block_height));
        let offsets = array(reader, directory, offset_tag)?;
        let byte_counts = array(reader, directory, length_tag)?;
        let chunks = chunk_count(across, down, parts, planes);
        for (array, tag) in [(&offsets, offset_tag), (&byte_counts, length_tag)] {
            if array.count < chunks {
                let expected = format!("{chunks} values for {width} x {height} pixels");
                return Err(TiffError::field(directory.field(tag), expected, array.count));
            }
        }
        let jpeg_tables = match compression {
            Compression::Jpeg => reader.prefix(directory, tags::JPEG_TABLES, MAX_JPEG_TABLES)?,
            _ => None,
        };
        Ok(Self {
            label: directory.label().to_string(),
            width,
            height,
            tiled,
            subfile: reader.unsigned(directory, tags::NEW_SUBFILE_TYPE)?.unwrap_or(0),
            block_width,
            block_height,
            across,
            down,
            parts,
            planes,
            samples,
            compression,
            predictor,
            jpeg_tables: jpeg_tables.map(Arc::from),
            offsets,
            byte_counts,
        })
    }

    /// Rows of the blocks in row `row` of blocks: all but the last have `block_height`, tiles all have it.
    pub(super) fn block_rows(&self, row: u64) -> u32 {
        if self.tiled {
            return self.block_height;
        }
        let above = row.saturating_mul(u64::from(self.block_height));
        u64::from(self.height).saturating_sub(above).min(u64::from(self.block_height)) as u32
    }

    /// Tiles or strips of the image, of all planes.
    pub(super) fn chunks(&self) -> u64 {
        chunk_count(self.across, self.down, self.parts, self.planes)
    }

    /// Bytes of the pixels of a chunk as they are before compression.
    pub(super) fn chunk_bytes(&self, index: u64) -> u64 {
        let chunk_rows = self.down.div_ceil(self.parts);
        let row = index % (self.across * chunk_rows) / self.across;
        let all_rows = u64::from(self.block_height).saturating_mul(self.parts);
        let below = u64::from(self.height).saturating_sub(row.saturating_mul(all_rows));
        let rows = if self.tiled { all_rows } else { all_rows.min(below) };
        self.samples.row_bytes(self.block_width, self.planes).saturating_mul(rows)
    }

    /// What messages call a chunk.
    pub(super) fn field(&self, chunk: Chunk) -> String {
        let part = if self.tiled { "tile" } else { "strip" };
        format!("{}, {part} {}", self.label, chunk.index)
    }

    /// Which chunk of the file holds plane `plane` of a block.
    pub(super) fn chunk(&self, column: u64, row: u64, plane: u16) -> Chunk {
        let chunk_rows = self.down.div_ceil(self.parts);
        let plane_chunks = self.across * chunk_rows;
        let index = u64::from(plane) * plane_chunks + row / self.parts * self.across + column;
        let row_bytes = self.samples.row_bytes(self.block_width, self.planes);
        Chunk { index, skip: row % self.parts * u64::from(self.block_height) * row_bytes }
    }
}

fn chunk_count(across: u64, down: u64, parts: u64, planes: u16) -> u64 {
    across * down.div_ceil(parts) * u64::from(planes)
}

/// Rows of a part of an uncompressed strip: about [`BLOCK_BYTES`], dividing the strip evenly unless it is the only one.
fn rows_per_part(strip_rows: u32, height: u32, row_bytes: u64) -> u32 {
    let most = (BLOCK_BYTES / row_bytes.max(1)).clamp(1, u64::from(strip_rows)) as u32;
    if strip_rows >= height {
        return most;
    }
    (1..=most).rev().find(|rows| strip_rows.is_multiple_of(*rows)).unwrap_or(1)
}

/// What the file says in words, decoded leniently; empty when it says nothing.
pub(super) fn description<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
) -> Result<String, TiffError> {
    let bytes = reader.prefix(directory, tags::IMAGE_DESCRIPTION, MAX_DESCRIPTION)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string())
}

fn side(value: u64, directory: &Directory, tag: u16) -> Result<u32, TiffError> {
    // So that sums and products of a few sides stay far from overflowing.
    match u32::try_from(value) {
        Ok(side) if (1..=i32::MAX as u32).contains(&side) => Ok(side),
        _ => Err(TiffError::field(directory.field(tag), format!("1 to {}", i32::MAX), value)),
    }
}

fn array<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
    tag: u16,
) -> Result<Array, TiffError> {
    let array = reader.array(directory, tag)?;
    array.ok_or_else(|| TiffError::field(directory.field(tag), "a value", "none"))
}

/// How a pixel is stored, and in how many planes.
fn samples<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
    compression: &Compression,
) -> Result<(Samples, u16), TiffError> {
    let refuse = |tag, expected: &str, found: &dyn std::fmt::Display| {
        Err(TiffError::field(directory.field(tag), expected, found))
    };
    let per_pixel = reader.unsigned(directory, tags::SAMPLES_PER_PIXEL)?.unwrap_or(1);
    if !(1..=16).contains(&per_pixel) {
        return refuse(tags::SAMPLES_PER_PIXEL, "1 to 16", &per_pixel);
    }
    let per_pixel = per_pixel as u16;
    let bits = reader.unsigned_values(directory, tags::BITS_PER_SAMPLE, 16)?.unwrap_or_else(|| vec![1]);
    let depth = bits.first().copied().unwrap_or(0);
    if bits.iter().any(|&other| other != depth) || !matches!(depth, 1 | 2 | 4 | 8 | 16) {
        return refuse(tags::BITS_PER_SAMPLE, "1, 2, 4, 8 or 16, the same for all", &format!("{bits:?}"));
    }
    let bits = depth as u8;
    let formats = reader.unsigned_values(directory, tags::SAMPLE_FORMAT, 16)?.unwrap_or_default();
    // 4 is "undefined", which some writers put for plain numbers.
    if let Some(format) = formats.iter().find(|format| !matches!(format, 1 | 4)) {
        return refuse(tags::SAMPLE_FORMAT, "1 (unsigned numbers)", format);
    }
    let planar = reader.unsigned(directory, tags::PLANAR_CONFIGURATION)?.unwrap_or(1);
    let planes = match planar {
        1 => 1,
        2 => per_pixel,
        other => return refuse(tags::PLANAR_CONFIGURATION, "1 or 2", &other),
    };
    let ink = match reader.unsigned(directory, tags::PHOTOMETRIC)? {
        Some(0) => Ink::WhiteIsZero,
        Some(1) => Ink::BlackIsZero,
        Some(2) => Ink::Rgb,
        Some(3) => Ink::Palette(palette(reader, directory, bits)?),
        Some(6) if compression.holds_colors() => Ink::YCbCr,
        // Aperio's JPEG 2000 carries its colour space in the compression's number; others leave the tag out.
        None => {
            if per_pixel >= 3 {
                Ink::Rgb
            } else {
                Ink::BlackIsZero
            }
        }
        Some(6) => return refuse(tags::PHOTOMETRIC, "YCbCr only with JPEG or JPEG 2000", &compression),
        Some(5) if bits == 8 && !compression.holds_colors() => Ink::Cmyk,
        Some(other) => {
            return refuse(
                tags::PHOTOMETRIC,
                "0 to 3 or 6 (grey, RGB, palette, YCbCr), or CMYK of 8 bits",
                &other,
            );
        }
    };
    let needed = ink.channels();
    if per_pixel < needed {
        return refuse(
            tags::SAMPLES_PER_PIXEL,
            &format!("at least {needed} for this colour space"),
            &per_pixel,
        );
    }
    if bits < 8 && (per_pixel != 1 || compression.holds_colors()) {
        return refuse(tags::BITS_PER_SAMPLE, "8 or 16 for images of several samples", &bits);
    }
    if bits == 16 && compression.holds_colors() {
        return refuse(tags::BITS_PER_SAMPLE, "8 with JPEG or JPEG 2000", &bits);
    }
    if *compression == Compression::Jpeg && !matches!(per_pixel / planes, 1 | 3) {
        return refuse(tags::SAMPLES_PER_PIXEL, "1 or 3 with JPEG", &per_pixel);
    }
    if planes > 1 && ink == Ink::YCbCr {
        return refuse(tags::PLANAR_CONFIGURATION, "1 with YCbCr", &2);
    }
    let extra = reader.unsigned_values(directory, tags::EXTRA_SAMPLES, 16)?.unwrap_or_default();
    let alpha = match extra.first() {
        Some(1) if per_pixel > needed => Alpha::Premultiplied,
        Some(2) if per_pixel > needed => Alpha::Straight,
        _ => Alpha::None,
    };
    Ok((Samples { per_pixel, bits, order: reader.order(), ink, alpha }, planes))
}

/// The colours of a palette, reduced to 8 bits.
fn palette<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
    bits: u8,
) -> Result<Arc<[[u8; 3]]>, TiffError> {
    let colors = 1usize << bits.min(8);
    let values = reader.unsigned_values(directory, tags::COLOR_MAP, 3 * 256)?.unwrap_or_default();
    if bits > 8 || values.len() != 3 * colors {
        let expected = format!("{} values for indices of at most 8 bits", 3 * colors);
        return Err(TiffError::field(directory.field(tags::COLOR_MAP), expected, values.len()));
    }
    let channel = |index: usize| values.get(index).map_or(0, |&value| (value >> 8) as u8);
    Ok((0..colors)
        .map(|index| [channel(index), channel(colors + index), channel(2 * colors + index)])
        .collect())
}
