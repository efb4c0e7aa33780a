//! Chunks of integers, decoded apart from each other, so that who has threads can decode several at a time.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Element, Hdf5Error, Hdf5File};

/// HDF5's number of the deflate filter.
const DEFLATE: u16 = 1;
/// HDF5's number of the filter that puts the first bytes of all elements first, then the second ones, and so on.
const SHUFFLE: u16 = 2;

/// How a one-dimensional dataset of little-endian integers is stored: in deflated chunks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegerChunks {
    /// Path of the dataset.
    pub object: String,
    /// Number of elements.
    pub elements: usize,
    /// Elements in each chunk; the last is filled up.
    pub chunk_elements: usize,
    /// Bytes of an element, up to 8.
    pub width: usize,
    /// Whether elements have a sign.
    pub signed: bool,
    /// Whether bytes were shuffled before they were deflated.
    pub shuffled: bool,
    /// Where each chunk lies in the file, and its stored size, in bytes.
    pub places: Vec<(u64, u64)>,
}

impl Hdf5File {
    /// How a one-dimensional dataset of little-endian integers is stored, for a reader that decodes its chunks itself,
    /// several at a time. `None` where the storage is of another kind; [`Hdf5File::read_u32`] and its like read it all
    /// the same.
    ///
    /// # Errors
    /// As [`Hdf5File::read_i64`].
    pub fn integer_chunks(&self, path: &str) -> Result<Option<IntegerChunks>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers", 4)?;
        let shape = self.whole(path, dataset.shape())?;
        let chunk = self.whole(path, dataset.chunk_shape())?.unwrap_or_default();
        let (&[elements], &[chunk_elements]) = (shape.as_slice(), chunk.as_slice()) else { return Ok(None) };
        let datatype = self.whole(path, dataset.datatype())?;
        let hdf5_pure::Datatype::FixedPoint { size, byte_order, layout } = datatype else { return Ok(None) };
        let whole = layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8;
        let little = byte_order == hdf5_pure::DatatypeByteOrder::LittleEndian;
        // In the order in which they were applied.
        let shuffled = match dataset.filters().as_slice() {
            [DEFLATE] => false,
            [SHUFFLE, DEFLATE] => true,
            _ => return Ok(None),
        };
        if !whole || !little || chunk_elements == 0 || !(1..=8).contains(&size) {
            return Ok(None);
        }
        let Ok(chunks) = dataset.chunks() else { return Ok(None) };
        let mut places = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (&[first], 0) = (chunk.offset.as_slice(), chunk.filter_mask) else { return Ok(None) };
            places.push((first, chunk.address, chunk.storage_size));
        }
        places.sort_unstable();
        // Every chunk once and none missing, where fill values would stand.
        let complete = places.len() as u64 == elements.div_ceil(chunk_elements)
            && places
                .iter()
                .zip(0_u64..)
                .all(|(place, number)| Some(place.0) == number.checked_mul(chunk_elements));
        if !complete {
            return Ok(None);
        }
        let size_of = |value: u64| {
            usize::try_from(value).map_err(|_| Hdf5Error::TooLarge {
                object: path.to_owned(),
                bytes: value,
                limit: self.limit_bytes,
            })
        };
        Ok(Some(IntegerChunks {
            object: path.to_owned(),
            elements: size_of(elements)?,
            chunk_elements: size_of(chunk_elements)?,
            width: size as usize,
            signed: layout.signed,
            shuffled,
            places: places.into_iter().map(|(_, address, bytes)| (address, bytes)).collect(),
        }))
    }
}

impl IntegerChunks {
    /// Decodes a chunk of integers that must fit 32 bits without a sign. `out` is as long as the part of the chunk that
    /// is wanted; `scratch` is reused from chunk to chunk.
    ///
    /// # Errors
    /// When the stored bytes are damaged, or a value is negative or larger.
    pub fn decode_u32(&self, stored: &[u8], scratch: &mut Vec<u8>, out: &mut [u32]) -> Result<(), Hdf5Error> {
        self.inflate(stored, scratch)?;
        if self.take_low(scratch, out, |value| value) {
            return Ok(());
        }
        for (at, slot) in out.iter_mut().enumerate() {
            let value = self.element(scratch, at);
            *slot = u32::try_from(value).map_err(|_| Hdf5Error::Mismatch {
                object: self.object.clone(),
                expected: "integers in the range that their use allows".to_owned(),
                found: value.to_string(),
            })?;
        }
        Ok(())
    }

    /// Like [`IntegerChunks::decode_u32`] for counts, which may have any value.
    ///
    /// # Errors
    /// When the stored bytes are damaged.
    pub fn decode_f32(&self, stored: &[u8], scratch: &mut Vec<u8>, out: &mut [f32]) -> Result<(), Hdf5Error> {
        self.inflate(stored, scratch)?;
        if self.take_low(scratch, out, |value| value as f32) {
            return Ok(());
        }
        for (at, slot) in out.iter_mut().enumerate() {
            *slot = self.element(scratch, at) as f32;
        }
        Ok(())
    }

    /// Fills `out` from the four low bytes of each element, where those are all that it has; says whether they are.
    fn take_low<T>(&self, raw: &[u8], out: &mut [T], convert: impl Fn(u32) -> T) -> bool {
        let Some(planes) = self.low_planes(raw, out.len()) else { return false };
        let bytes = planes[0].iter().zip(planes[1]).zip(planes[2]).zip(planes[3]);
        for (slot, (((a, b), c), d)) in out.iter_mut().zip(bytes) {
            *slot = convert(u32::from_le_bytes([*a, *b, *c, *d]));
        }
        true
    }

    fn damaged(&self, reason: String) -> Hdf5Error {
        Hdf5Error::Damaged { object: self.object.clone(), reason }
    }

    /// Fills `scratch` with exactly one chunk, as it was before it was deflated.
    fn inflate(&self, stored: &[u8], scratch: &mut Vec<u8>) -> Result<(), Hdf5Error> {
        let bytes = self.chunk_elements.saturating_mul(self.width);
        scratch.clear();
        scratch.try_reserve(bytes).map_err(|error| self.damaged(error.to_string()))?;
        let mut inflate = Decompress::new(true);
        let status = inflate
            .decompress_vec(stored, scratch, FlushDecompress::Finish)
            .map_err(|error| self.damaged(error.to_string()))?;
        if scratch.len() != bytes || status != Status::StreamEnd {
            return Err(
                self.damaged(format!("a chunk of {} bytes where {bytes} were declared", scratch.len()))
            );
        }
        Ok(())
    }

    /// The four low bytes of `count` shuffled elements, each for all elements, where all bytes above are zero and no
    /// sign is set.
    fn low_planes<'a>(&self, bytes: &'a [u8], count: usize) -> Option<[&'a [u8]; 4]> {
        if !self.shuffled || self.width < 4 || count > self.chunk_elements {
            return None;
        }
        let plane = |number: usize| {
            bytes.get(number * self.chunk_elements..(number + 1) * self.chunk_elements)?.get(..count)
        };
        for number in 4..self.width {
            if plane(number)?.iter().any(|&byte| byte != 0) {
                return None;
            }
        }
        let planes = [plane(0)?, plane(1)?, plane(2)?, plane(3)?];
        let signed = self.signed && self.width == 4 && planes[3].iter().any(|&byte| byte > 0x7f);
        (!signed).then_some(planes)
    }

    /// One element of a decoded chunk; an unsigned one past the range of `i64` reads as negative.
    fn element(&self, bytes: &[u8], at: usize) -> i64 {
        let mut value = [0; 8];
        for (number, slot) in value.iter_mut().enumerate().take(self.width) {
            let place =
                if self.shuffled { number * self.chunk_elements + at } else { at * self.width + number };
            *slot = bytes.get(place).copied().unwrap_or_default();
        }
        let unused = 64 - 8 * self.width.clamp(1, 8) as u32;
        let shifted = i64::from_le_bytes(value) << unused;
        if self.signed { shifted >> unused } else { (shifted as u64 >> unused) as i64 }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::{Data, Hdf5File, Hdf5Writer, Limits};
    use super::*;

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn chunks(width: usize, signed: bool, shuffled: bool, elements: usize) -> IntegerChunks {
        let (object, places) = ("x".to_owned(), Vec::new());
        IntegerChunks { object, elements, chunk_elements: elements, width, signed, shuffled, places }
    }

    #[test]
    fn what_the_writer_chunks_is_decoded_as_the_library_reads_it() {
        let values: Vec<i64> = (0..70_000).map(|at| at * 37 % 5000).collect();
        let mut file = Hdf5Writer::new();
        file.dataset("x", &[values.len()], Data::I64(values.clone())).unwrap();
        file.dataset("small", &[2], Data::I64(vec![1, 2])).unwrap();
        let bytes = file.finish().unwrap();
        let file = Hdf5File::from_bytes(bytes.clone(), Limits::default()).unwrap();
        assert_eq!(file.integer_chunks("small").unwrap(), None);
        let chunks = file.integer_chunks("x").unwrap().unwrap();
        assert_eq!((chunks.elements, chunks.width, chunks.shuffled), (70_000, 8, true));
        let (mut out, mut scratch) = (vec![0; values.len()], Vec::new());
        for (part, &(address, size)) in out.chunks_mut(chunks.chunk_elements).zip(&chunks.places) {
            let stored = &bytes[address as usize..(address + size) as usize];
            chunks.decode_u32(stored, &mut scratch, part).unwrap();
        }
        assert_eq!(out, file.read_u32("x").unwrap());
    }

    #[test]
    fn values_out_of_range_and_damaged_chunks_are_refused() {
        let encoded =
            |values: &[i64]| chunk(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        let whole = chunks(8, true, false, 2);
        let mut out = [0; 2];
        for value in [-1, 1 << 32] {
            let error =
                whole.decode_u32(&encoded(&[3, value]), &mut Vec::new(), &mut out).unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {value}")), "{error}");
        }
        let good = encoded(&[3, 4]);
        for bad in [&good[..good.len() / 2], &encoded(&[3])[..], &encoded(&[3, 4, 5])[..], b"plain"] {
            let error = whole.decode_u32(bad, &mut Vec::new(), &mut out).unwrap_err();
            assert!(matches!(error, Hdf5Error::Damaged { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_width_and_sign_is_decoded(
            values in prop::collection::vec(any::<i64>(), 1..50),
            width in prop::sample::select(vec![1_usize, 2, 4, 8]),
            (signed, shuffled) in any::<(bool, bool)>(),
            small in any::<bool>(),
        ) {
            let unused = 64 - 8 * width as u32;
            let cut = |value: i64| {
                let value = if small { value & 0x3f } else { value };
                let shifted = value << unused;
                if signed { shifted >> unused } else { (shifted as u64 >> unused) as i64 }
            };
            let values: Vec<i64> = values.into_iter().map(cut).collect();
            let plain: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()[..width].to_vec()).collect();
            let count = values.len();
            let bytes = if shuffled {
                (0..width * count).map(|at| plain[at % count * width + at / count]).collect()
            } else {
                plain
            };
            let chunks = chunks(width, signed, shuffled, count);
            let mut numbers = vec![0.0; count];
            chunks.decode_f32(&chunk(&bytes), &mut Vec::new(), &mut numbers).unwrap();
            prop_assert_eq!(&numbers, &values.iter().map(|&value| value as f32).collect::<Vec<_>>());
            let mut whole = vec![0; count];
            let decoded = chunks.decode_u32(&chunk(&bytes), &mut Vec::new(), &mut whole);
            match values.iter().map(|&value| u32::try_from(value)).collect::<Result<Vec<_>, _>>() {
                Ok(expected) => prop_assert_eq!(decoded.map(|()| whole).unwrap(), expected),
                Err(_) => prop_assert!(decoded.is_err()),
            }
        }
    }
}
