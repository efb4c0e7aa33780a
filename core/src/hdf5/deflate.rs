//! Chunks of large datasets, shuffled and deflated. What compresses one is given to whoever has threads.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};
use simd_adler32::Adler32;

use super::write::DEFLATE_LEVEL;

/// The header of a zlib stream (RFC 1950): deflate with a window of 32 KiB, the fastest levels.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];
/// The last block of a stream (RFC 1951): stored, and empty.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Most bytes of a stored block.
const STORED_BYTES: usize = 0xffff;
/// Bytes of a plane that are compressed to see whether the others are worth it.
const SAMPLE_BYTES: usize = 2048;

/// A chunk of a dataset of 32-bit values.
#[derive(Debug)]
pub struct Chunk<'a> {
    values: Values<'a>,
    /// Values in the chunk; what `values` lack of them is 0.
    elements: usize,
}

#[derive(Debug)]
enum Values<'a> {
    Owned(Vec<f32>),
    F32(&'a [f32]),
    U32(&'a [u32]),
}

impl<'a> Chunk<'a> {
    /// A whole chunk.
    pub(super) fn owned(values: Vec<f32>) -> Self {
        Self { elements: values.len(), values: Values::Owned(values) }
    }

    /// A chunk of `elements` values, of which these are the first.
    pub(super) fn f32(values: &'a [f32], elements: usize) -> Self {
        Self { values: Values::F32(values), elements }
    }

    /// As [`Chunk::f32`].
    pub(super) fn u32(values: &'a [u32], elements: usize) -> Self {
        Self { values: Values::U32(values), elements }
    }

    /// The chunk as HDF5's shuffle and deflate filters leave it: the first bytes of all values, then all second bytes,
    /// and so on, as one zlib stream. Bytes that do not get fewer, such as the low bytes of columns, are stored as they
    /// are, which is faster both ways and smaller.
    ///
    /// # Errors
    /// When they cannot be deflated.
    pub fn deflate(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(2 * self.elements);
        out.extend(ZLIB_HEADER);
        let mut sum = Adler32::new();
        let mut plane = Vec::with_capacity(self.elements);
        let mut deflate = Compress::new(Compression::new(DEFLATE_LEVEL), false);
        let mut sample = Vec::with_capacity(2 * SAMPLE_BYTES);
        for byte in 0..4 {
            plane.clear();
            self.put_plane(byte, &mut plane);
            sum.write(&plane);
            let head = plane.get(..SAMPLE_BYTES).unwrap_or(&plane);
            sample.clear();
            append_deflated(&mut deflate, head, &mut sample)?;
            if sample.len() >= head.len() {
                append_stored(&plane, &mut out);
            } else {
                append_deflated(&mut deflate, &plane, &mut out)?;
            }
        }
        out.extend(LAST_BLOCK);
        out.extend(sum.finish().to_be_bytes());
        Ok(out)
    }

    /// One byte of each value.
    fn put_plane(&self, byte: usize, out: &mut Vec<u8>) {
        let shift = 8 * byte as u32;
        match &self.values {
            Values::Owned(values) => out.extend(values.iter().map(|value| (value.to_bits() >> shift) as u8)),
            Values::F32(values) => out.extend(values.iter().map(|value| (value.to_bits() >> shift) as u8)),
            Values::U32(values) => out.extend(values.iter().map(|value| (value >> shift) as u8)),
        }
        out.resize(self.elements, 0);
    }
}

/// Appends blocks that end at a byte and refer to nothing before them.
fn append_deflated(deflate: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    deflate.reset();
    let mut rest = bytes;
    loop {
        let (before, room) = (deflate.total_in(), out.len() + bytes.len() / 4 + 64);
        out.reserve(room - out.len());
        let status = deflate.compress_vec(rest, out, FlushCompress::Full)?;
        rest = rest.get((deflate.total_in() - before) as usize..).unwrap_or_default();
        // A flush is done once there was room left for more.
        if rest.is_empty() && out.len() < out.capacity() {
            return Ok(());
        }
        if status != Status::Ok {
            return Err(io::Error::other("a chunk that cannot be deflated"));
        }
    }
}

/// Appends blocks that hold the bytes as they are.
fn append_stored(bytes: &[u8], out: &mut Vec<u8>) {
    for block in bytes.chunks(STORED_BYTES) {
        let length = block.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
}

/// Hands on chunks, one after the other.
pub type Feed<'f, 'a> = dyn FnMut(&mut dyn FnMut(Chunk<'a>) -> io::Result<()>) -> io::Result<()> + 'f;

/// Who compresses the chunks of large datasets. What is written is the same whoever it is.
pub trait ChunkCompressor {
    /// Calls [`Chunk::deflate`] on each chunk that `feed` hands on, and gives `write` the outcomes in the same order. At
    /// most some tens of chunks may wait, of up to 1 MB each.
    ///
    /// # Errors
    /// The first of `feed`, a chunk or `write`.
    fn deflate_all<'a>(
        &self,
        feed: &mut Feed<'_, 'a>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()>;
}

/// Compresses one chunk after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct InTurn;

impl ChunkCompressor for InTurn {
    fn deflate_all<'a>(
        &self,
        feed: &mut Feed<'_, 'a>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        feed(&mut |chunk| write(&chunk.deflate()?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;
    use proptest::prelude::*;

    use super::*;

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(stream).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn shuffled(values: &[u32]) -> Vec<u8> {
        (0..4).flat_map(|byte| values.iter().map(move |value| value.to_le_bytes()[byte])).collect()
    }

    fn noise(count: usize) -> impl Iterator<Item = u32> {
        (0..count as u32).map(|place| place.wrapping_mul(2_654_435_761) ^ place.wrapping_mul(40_503) >> 7)
    }

    #[test]
    fn noise_costs_next_to_nothing_and_what_repeats_shrinks() {
        let size = |values: &[u32]| Chunk::u32(values, values.len()).deflate().unwrap().len();
        let all: Vec<u32> = noise(65_535).collect();
        assert!(size(&all) < 4 * all.len() + 100, "{}", size(&all));
        let low: Vec<u32> = all.iter().map(|value| value & 0xff).collect();
        assert!(size(&low) < low.len() + low.len() / 20, "{}", size(&low));
        // Each byte value is as frequent as any other, but they come in order.
        let ramp: Vec<u32> = (0..65_535).map(|place| place & 0xff).collect();
        assert!(size(&ramp) < ramp.len() / 20, "{}", size(&ramp));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_values_come_back_from_an_ordinary_decoder(
            count in 0_usize..70_000, missing in 0_usize..3_000, mask in any::<u32>(), run in 1_u32..5_000,
        ) {
            let mut values: Vec<u32> = noise(count).zip(0_u32..).map(|(value, at)| (value & mask) ^ (at / run)).collect();
            let stream = Chunk::u32(&values, count + missing).deflate().unwrap();
            let floats: Vec<f32> = values.iter().copied().map(f32::from_bits).collect();
            prop_assert_eq!(&stream, &Chunk::f32(&floats, count + missing).deflate().unwrap());
            values.resize(count + missing, 0);
            prop_assert_eq!(inflated(&stream), shuffled(&values));
        }
    }
}
