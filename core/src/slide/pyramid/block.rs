//! One block of a level: its bytes out of the file, decoded to RGB.

use std::sync::Arc;

use super::cache::{Cache, Key};
use super::codec::{Compression, expand};
use super::color::{Ink, interleave};
use super::tiff_image::{Chunk, TiffImage};
use super::{jpeg, jpeg2000};
use crate::slide::{BACKGROUND, RangeRead, SlideError};
use crate::tiff::TiffError;
use crate::tiff::read::Array;

/// Numbers of an array that are read at once: a row of tiles of the widest slides, and a small read.
const PIECE_NUMBERS: u64 = 2048;

/// How much longer than its pixels a compressed tile may be: a kilobyte of tables, a megabyte of private segments.
const COMPRESSED_SLACK: u64 = 1 << 20;

impl TiffImage {
    /// The RGB pixels of a block of `block_width` columns, rows from the top. A block that the file leaves out is
    /// white.
    ///
    /// # Errors
    /// [`SlideError::Tiff`] when the block cannot be read or decoded.
    pub(super) fn block<R: RangeRead + ?Sized>(
        &self,
        source: &R,
        cache: &Cache,
        column: u64,
        row: u64,
    ) -> Result<Vec<u8>, SlideError> {
        let rows = self.block_rows(row);
        let mut planes = Vec::with_capacity(usize::from(self.planes));
        for plane in 0..self.planes {
            let field = || self.field(self.chunk(column, row, plane));
            let stored = self.stored(source, cache, self.chunk(column, row, plane), rows, &field)?;
            let Some(stored) = stored else {
                let pixels = self.block_width as usize * rows as usize;
                return Ok(vec![BACKGROUND; pixels * 3]);
            };
            planes.push(self.decoded(stored, rows).map_err(|found| {
                let expected = format!(
                    "{} pixels of {} samples, {}",
                    format_args!("{} x {rows}", self.block_width),
                    self.samples.per_pixel / self.planes,
                    self.compression
                );
                TiffError::field(field(), expected, found)
            })?);
        }
        let bytes = match (planes.pop(), planes.is_empty()) {
            (Some(only), true) => only,
            (last, _) => interleave(&planes.into_iter().chain(last).collect::<Vec<_>>()),
        };
        Ok(self.samples.to_rgb(bytes))
    }

    /// The bytes of a chunk as they are in the file; `None` where the file leaves it out.
    fn stored<R: RangeRead + ?Sized>(
        &self,
        source: &R,
        cache: &Cache,
        chunk: Chunk,
        rows: u32,
        field: &dyn Fn() -> String,
    ) -> Result<Option<Vec<u8>>, SlideError> {
        let offset = self.number(source, cache, self.offsets, chunk.index)?;
        let length = self.number(source, cache, self.byte_counts, chunk.index)?;
        if offset == 0 || length == 0 {
            return Ok(None);
        }
        let raw = self.samples.row_bytes(self.block_width, self.planes).saturating_mul(u64::from(rows));
        let length = match self.compression {
            // A part of a strip, or all of it; padding behind is left.
            Compression::None => length.saturating_sub(chunk.skip).min(raw),
            _ => {
                let most = raw.saturating_mul(2).saturating_add(COMPRESSED_SLACK);
                if length > most {
                    let expected = format!("at most {most} compressed bytes");
                    return Err(TiffError::field(field(), expected, length).into());
                }
                length
            }
        };
        Ok(Some(read(source, offset.saturating_add(chunk.skip), length, field)?))
    }

    /// One number of an array in the file, out of a piece that is kept.
    fn number<R: RangeRead + ?Sized>(
        &self,
        source: &R,
        cache: &Cache,
        array: Array,
        index: u64,
    ) -> Result<u64, SlideError> {
        let first = index - index % PIECE_NUMBERS;
        let count = PIECE_NUMBERS.min(array.count.saturating_sub(first));
        let offset = array.offset.saturating_add(first * array.value_bytes);
        let key = Key::Piece(offset);
        let piece = match cache.get(key) {
            Some(piece) => piece,
            None => {
                let field = || format!("{}, where its tiles are", self.label);
                let piece: Arc<[u8]> = read(source, offset, count * array.value_bytes, &field)?.into();
                cache.insert(key, piece.clone());
                piece
            }
        };
        let from = ((index - first) * array.value_bytes) as usize;
        Ok(self
            .samples
            .order
            .unsigned(piece.get(from..from + array.value_bytes as usize).unwrap_or_default()))
    }

    /// The samples of a chunk, one byte each.
    fn decoded(&self, stored: Vec<u8>, rows: u32) -> Result<Vec<u8>, String> {
        let samples = &self.samples;
        let components = samples.per_pixel / self.planes;
        match self.compression {
            Compression::Jpeg => {
                let expected = jpeg::Expected {
                    width: self.block_width,
                    rows,
                    max_rows: self.block_height,
                    components,
                    is_ycbcr: samples.ink == Ink::YCbCr,
                };
                jpeg::decode(&stored, self.jpeg_tables.as_deref(), expected)
            }
            Compression::Jpeg2000(luma_chroma) => {
                let luma_chroma = luma_chroma || samples.ink == Ink::YCbCr;
                jpeg2000::decode(&stored, self.block_width, rows, components, luma_chroma)
            }
            compression => {
                let row_bytes = samples.row_bytes(self.block_width, self.planes) as usize;
                let mut bytes = expand(compression, stored, row_bytes * rows as usize)?;
                let beside = usize::from(components);
                self.predictor.undo(&mut bytes, row_bytes, beside, samples.bits, samples.order);
                Ok(samples.to_bytes(bytes, self.block_width, self.planes))
            }
        }
    }
}

/// `length` bytes of the file, held against its end before memory is taken.
pub(super) fn read<R: RangeRead + ?Sized>(
    source: &R,
    offset: u64,
    length: u64,
    field: &dyn Fn() -> String,
) -> Result<Vec<u8>, SlideError> {
    let file_bytes = source.len();
    if offset.checked_add(length).is_none_or(|end| end > file_bytes) {
        return Err(TiffError::BeyondEnd { field: field(), offset, bytes: length, file_bytes }.into());
    }
    let mut bytes = vec![0; length as usize];
    let result = source.read_at(offset, &mut bytes);
    result
        .map_err(|error| {
            TiffError::Io { field: field(), offset, bytes: length, detail: error.to_string() }.into()
        })
        .map(|()| bytes)
}
