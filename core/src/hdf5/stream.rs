//! Large datasets that are written while their values are read.
//!
//! The library wants all values of a dataset at once and keeps them until the file is done. So it is given the first
//! two chunks of a large dataset, empty, and describes it: its type, filters, attributes and chunk index (a Fixed Array
//! of HDF5 1.10). The real chunks then go behind the library's file with an index of their own, and the dataset's header
//! is made to name the true extent and that index.

use std::io::{self, Seek, SeekFrom, Write};

use super::deflate::{Chunk, ChunkCompressor};
use super::write::LONGEST_CHUNK_SIDE;
use super::{Data, Hdf5Error};
use crate::expression::RowSource;

/// Datasets of fewer bytes are handed to the library whole.
const SMALLEST_STREAMED: usize = 4 << 20;
/// Values per chunk of a matrix: 1 MB.
const CHUNK_VALUES: usize = 256 << 10;
/// Columns per chunk. One gene of many is found in a few chunks of many rows, some rows of all genes in some more.
const CHUNK_COLS: usize = 32;
/// Where the superblock (version 2 and 3) says how long the file is and where the root group lies.
const END_OF_FILE: usize = 28;
const ROOT_ADDRESS: usize = 36;
const SUPERBLOCK_BYTES: usize = 48;
/// Messages of an object header.
const DATASPACE: u8 = 1;
const LINK: u8 = 6;
const LAYOUT: u8 = 8;

/// A list of 32-bit numbers that stays where it is until it is written.
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    /// Floating point.
    F32(&'a [f32]),
    /// Numbers below 2³¹, stored as signed integers.
    I32(&'a [u32]),
}

/// Values that are read when they are written.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// `[N,G]`, floating point.
    Rows(&'a dyn RowSource),
    List(List<'a>),
}

impl<'a> Source<'a> {
    pub(super) fn extents(&self) -> Vec<usize> {
        match self {
            Source::Rows(rows) => vec![rows.rows(), rows.cols()],
            Source::List(List::F32(values)) => vec![values.len()],
            Source::List(List::I32(values)) => vec![values.len()],
        }
    }

    /// Whether there are enough values to be streamed.
    pub(super) fn is_streamed(&self) -> bool {
        self.extents().into_iter().fold(4, usize::saturating_mul) >= SMALLEST_STREAMED
    }

    /// The sides of the chunks of a large dataset.
    pub(super) fn chunk_shape(&self) -> Vec<usize> {
        match self {
            Source::Rows(source) => {
                let cols = source.cols().clamp(1, CHUNK_COLS);
                vec![source.rows().clamp(1, (CHUNK_VALUES / cols).min(LONGEST_CHUNK_SIDE)), cols]
            }
            Source::List(_) => vec![LONGEST_CHUNK_SIDE],
        }
    }

    /// Zeros of this type.
    pub(super) fn zeros(&self, elements: usize) -> Data {
        match self {
            Source::Rows(_) | Source::List(List::F32(_)) => Data::F32(vec![0.0; elements]),
            Source::List(List::I32(_)) => Data::I32(vec![0; elements]),
        }
    }

    /// All values.
    pub(super) fn read(&self) -> io::Result<Data> {
        Ok(match self {
            Source::Rows(source) => {
                let mut values = vec![0.0; source.rows() * source.cols()];
                source.read_rows(0..source.rows(), &mut values)?;
                Data::F32(values)
            }
            Source::List(List::F32(values)) => Data::F32(values.to_vec()),
            Source::List(List::I32(values)) => Data::I32(values.iter().map(|&value| value as i32).collect()),
        })
    }

    /// Visits the chunks in the order of the grid. Chunks at the edges are as large as the others; what lies beyond the
    /// dataset is 0.
    fn for_each_chunk(&self, visit: &mut dyn FnMut(Chunk<'a>) -> io::Result<()>) -> io::Result<()> {
        let shape = self.chunk_shape();
        let elements = shape.iter().product::<usize>();
        match *self {
            Source::Rows(source) => {
                let (cols, chunk_cols) = (source.cols(), shape.last().copied().unwrap_or(1));
                source.for_each_block_of(shape.first().copied().unwrap_or(1), |_, block| {
                    for first in (0..cols).step_by(chunk_cols) {
                        let mut chunk = vec![0.0; elements];
                        for (places, row) in chunk.chunks_exact_mut(chunk_cols).zip(block.chunks_exact(cols))
                        {
                            let row = row.get(first..cols.min(first + chunk_cols)).unwrap_or_default();
                            for (place, &value) in places.iter_mut().zip(row) {
                                *place = value;
                            }
                        }
                        visit(Chunk::owned(chunk))?;
                    }
                    Ok(())
                })
            }
            Source::List(List::F32(values)) => {
                values.chunks(elements).try_for_each(|part| visit(Chunk::f32(part, elements)))
            }
            Source::List(List::I32(values)) => {
                values.chunks(elements).try_for_each(|part| visit(Chunk::u32(part, elements)))
            }
        }
    }
}

/// Writes the chunks of the dataset at `path` and their index to `out`, whose position is `position`, and makes the
/// dataset in `file`, which the library wrote with two empty chunks, name them. Returns the new position.
pub(super) fn append(
    file: &mut [u8],
    path: &str,
    source: Source<'_>,
    compressor: &dyn ChunkCompressor,
    out: &mut (impl Write + Seek),
    position: u64,
) -> Result<u64, Hdf5Error> {
    let failed = |reason: &dyn std::fmt::Display| Hdf5Error::Write {
        object: path.to_owned(),
        reason: reason.to_string(),
    };
    let places = Places::find(file, path).ok_or_else(|| failed(&"the dataset's header was not found"))?;
    let mut out = Counting { out, position };
    let chunks = write_chunks(source, compressor, &mut out).map_err(|error| failed(&error))?;
    let index = write_index(&chunks, places.record_bytes, &mut out).map_err(|error| failed(&error))?;
    places
        .patch(file, &source.extents(), index, page_bits(chunks.len()))
        .ok_or_else(|| failed(&"the dataset's header cannot be changed"))?;
    Ok(out.position)
}

/// Makes the superblock name the length of the whole file.
pub(super) fn set_end_of_file(file: &mut [u8], end: u64) -> Option<()> {
    file.get_mut(END_OF_FILE..END_OF_FILE + 8)?.copy_from_slice(&end.to_le_bytes());
    seal(file, 0, SUPERBLOCK_BYTES)
}

/// A writer that knows where it is.
struct Counting<'a, W> {
    out: &'a mut W,
    position: u64,
}

impl<W: Write + Seek> Counting<'_, W> {
    /// Appends bytes and says where they begin.
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let begin = self.position;
        self.out.seek(SeekFrom::Start(begin))?;
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(begin)
    }
}

/// Address and length of each chunk, in the order of the grid.
fn write_chunks(
    source: Source<'_>,
    compressor: &dyn ChunkCompressor,
    out: &mut Counting<'_, impl Write + Seek>,
) -> io::Result<Vec<(u64, u64)>> {
    let mut places = Vec::new();
    compressor.deflate_all(&mut |visit| source.for_each_chunk(visit), &mut |bytes| {
        places.push((out.put(bytes)?, bytes.len() as u64));
        Ok(())
    })?;
    Ok(places)
}

/// Bits of the number of records in a page of the index: there is one page.
fn page_bits(chunks: usize) -> u8 {
    (usize::BITS - chunks.leading_zeros()).clamp(10, 63) as u8
}

/// Writes a Fixed Array of filtered chunks with one page, and says where it begins.
fn write_index(
    chunks: &[(u64, u64)],
    record_bytes: usize,
    out: &mut Counting<'_, impl Write + Seek>,
) -> io::Result<u64> {
    const HEADER_BYTES: u64 = 28;
    let begin = out.position;
    let mut index = b"FAHD\x00\x01".to_vec();
    index.push(record_bytes as u8);
    index.push(page_bits(chunks.len()));
    index.extend((chunks.len() as u64).to_le_bytes());
    index.extend((begin + HEADER_BYTES).to_le_bytes());
    index.extend(lookup3(&index).to_le_bytes());
    let mut block = b"FADB\x00\x01".to_vec();
    block.extend(begin.to_le_bytes());
    for (address, bytes) in chunks {
        block.extend(address.to_le_bytes());
        // Address, length in what is left of the record, filters that were left out.
        block.extend(bytes.to_le_bytes().iter().take(record_bytes.saturating_sub(12)));
        block.extend([0; 4]);
    }
    block.extend(lookup3(&block).to_le_bytes());
    index.extend(block);
    out.put(&index)
}

/// Where a dataset's header says what is to be changed.
struct Places {
    /// The header's first and last byte but for its checksum.
    header: (usize, usize),
    /// The extents, and how many there are.
    extents: usize,
    rank: usize,
    /// Bits of the index' pages, then its address.
    page_bits: usize,
    /// Bytes of a record of the index.
    record_bytes: usize,
}

impl Places {
    /// In a file as the library writes it: version 2 object headers in one piece, links in the group's header,
    /// addresses and lengths of eight bytes.
    fn find(file: &[u8], path: &str) -> Option<Self> {
        let mut address = usize::try_from(u64_at(file, ROOT_ADDRESS)?).ok()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let group = Header::at(file, address)?;
            let link = group.messages(file).filter(|message| message.kind == LINK);
            address = link
                .filter_map(|message| linked(file, &message))
                .find(|(linked, _)| *linked == name.as_bytes())?
                .1;
        }
        let header = Header::at(file, address)?;
        let message = |kind| header.messages(file).find(|message| message.kind == kind);
        // Dataspace version 2: version, rank, flags, type, extents.
        let dataspace = message(DATASPACE)?;
        let &[2, rank @ 1..=2] = file.get(dataspace.begin..dataspace.begin + 2)? else { return None };
        // Layout version 4, chunked: it ends with the index' kind (3, Fixed Array), page bits and address.
        let layout = message(LAYOUT)?;
        let page_bits = layout.end.checked_sub(9)?;
        if file.get(layout.begin..layout.begin + 2)? != [4, 2] || *file.get(page_bits - 1)? != 3 {
            return None;
        }
        let index = usize::try_from(u64_at(file, page_bits + 1)?).ok()?;
        if file.get(index..index.checked_add(6)?)? != b"FAHD\x00\x01" {
            return None;
        }
        let record_bytes = usize::from(*file.get(index + 6)?);
        Some(Self {
            header: (address, header.end),
            extents: dataspace.begin + 4,
            rank: usize::from(rank),
            page_bits,
            record_bytes: (13..=20).contains(&record_bytes).then_some(record_bytes)?,
        })
    }

    fn patch(&self, file: &mut [u8], extents: &[usize], index: u64, page_bits: u8) -> Option<()> {
        let places = file.get_mut(self.extents..self.extents + 8 * self.rank)?.as_chunks_mut().0;
        for (place, &extent) in places.iter_mut().zip(extents) {
            *place = (extent as u64).to_le_bytes();
        }
        *file.get_mut(self.page_bits)? = page_bits;
        file.get_mut(self.page_bits + 1..self.page_bits + 9)?.copy_from_slice(&index.to_le_bytes());
        seal(file, self.header.0, self.header.1 + 4 - self.header.0)
    }
}

/// A version 2 object header: where its messages lie.
struct Header {
    begin: usize,
    end: usize,
}

/// A message: its kind and where its content lies.
struct Message {
    kind: u8,
    begin: usize,
    end: usize,
}

impl Header {
    fn at(file: &[u8], address: usize) -> Option<Self> {
        let start = file.get(address..address.checked_add(6)?)?;
        let [b'O', b'H', b'D', b'R', 2, flags @ 0..=2] = start else { return None };
        let width = 1 << flags;
        let begin = address + 6 + width;
        let bytes =
            file.get(address + 6..begin)?.iter().rev().fold(0, |size, &byte| size << 8 | usize::from(byte));
        Some(Self { begin, end: begin.checked_add(bytes).filter(|end| *end < file.len())? })
    }

    fn messages(&self, file: &[u8]) -> impl Iterator<Item = Message> {
        let (mut at, end) = (self.begin, self.end);
        std::iter::from_fn(move || {
            let &[kind, low, high, _flags] = file.get(at..at.checked_add(4)?)? else { return None };
            let begin = at + 4;
            at = begin + usize::from(u16::from_le_bytes([low, high]));
            (at <= end).then_some(Message { kind, begin, end: at })
        })
    }
}

/// Name and address of a hard link.
fn linked<'a>(file: &'a [u8], message: &Message) -> Option<(&'a [u8], usize)> {
    let content = file.get(message.begin..message.end)?;
    let (&[1, flags], rest) = content.split_first_chunk()? else { return None };
    // Kind of link (only where it is not hard), order of creation, character set, length of the name, name, address.
    if flags & 8 != 0 {
        return None;
    }
    let rest = rest.get(if flags & 4 != 0 { 8 } else { 0 } + usize::from(flags >> 4 & 1)..)?;
    let (length, rest) = rest.split_at_checked(1 << (flags & 3))?;
    let length = length.iter().rev().fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
    let (name, rest) = rest.split_at_checked(length)?;
    Some((name, usize::try_from(u64_at(rest, 0)?).ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Sets the checksum at the end of `bytes` bytes of metadata.
fn seal(file: &mut [u8], begin: usize, bytes: usize) -> Option<()> {
    let (content, sum) = file.get_mut(begin..begin + bytes)?.split_last_chunk_mut::<4>()?;
    *sum = lookup3(content).to_le_bytes();
    Some(())
}

/// Bob Jenkins' lookup3 (`hashlittle`), HDF5's checksum of metadata.
fn lookup3(bytes: &[u8]) -> u32 {
    let mut state = [0xdead_beef_u32.wrapping_add(bytes.len() as u32); 3];
    let last = bytes.len().saturating_sub(1) / 12;
    for (number, twelve) in bytes.chunks(12).enumerate() {
        let mut padded = [0; 12];
        for (place, byte) in padded.iter_mut().zip(twelve) {
            *place = *byte;
        }
        for (word, four) in state.iter_mut().zip(padded.as_chunks().0) {
            *word = word.wrapping_add(u32::from_le_bytes(*four));
        }
        if number < last {
            for (x, y, z, turn) in
                [(0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4)]
            {
                state[x] = state[x].wrapping_sub(state[y]) ^ state[y].rotate_left(turn);
                state[y] = state[y].wrapping_add(state[z]);
            }
        } else {
            let [a, b, c] = &mut state;
            for turn in [(14, 11, 25), (16, 4, 14)] {
                *c = (*c ^ *b).wrapping_sub(b.rotate_left(turn.0));
                *a = (*a ^ *c).wrapping_sub(c.rotate_left(turn.1));
                *b = (*b ^ *a).wrapping_sub(a.rotate_left(turn.2));
            }
            *c = (*c ^ *b).wrapping_sub(b.rotate_left(24));
        }
    }
    state[2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::deflate::{Feed, InTurn};
    use super::super::{Attribute, Data, Hdf5File, Hdf5Writer, Limits};
    use super::*;

    #[test]
    fn checksums_are_those_of_the_published_function() {
        // From the driver of lookup3.c.
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    }

    /// Values that are made when they are asked for; every seventh is NaN.
    #[derive(Debug)]
    struct Pattern {
        rows: usize,
        cols: usize,
    }

    impl Pattern {
        fn value(&self, cell: usize) -> f32 {
            if cell.is_multiple_of(7) { f32::NAN } else { (cell % 1_000_003) as f32 * 0.001 - 5.0 }
        }
    }

    impl RowSource for Pattern {
        fn rows(&self) -> usize {
            self.rows
        }

        fn cols(&self) -> usize {
            self.cols
        }

        fn read_rows(&self, range: std::ops::Range<usize>, out: &mut [f32]) -> io::Result<()> {
            for (cell, value) in (range.start * self.cols..range.end * self.cols).zip(out) {
                *value = self.value(cell);
            }
            Ok(())
        }
    }

    fn written(sources: &[(&str, &Pattern)]) -> Vec<u8> {
        let mut file = Hdf5Writer::new();
        file.dataset("first", &[2], Data::I32(vec![1, 2])).unwrap();
        for (path, source) in sources {
            file.rows(path, *source).unwrap();
            file.attribute(path, "encoding-type", Attribute::Text("array".into())).unwrap();
        }
        file.dataset("last", &[], Data::Texts(vec!["end".into()])).unwrap();
        file.finish().unwrap()
    }

    fn holds(file: &Hdf5File, path: &str, source: &Pattern) -> bool {
        let shape = file.shape(path).unwrap() == [source.rows, source.cols];
        let attributes = file.attributes(path).unwrap();
        let values = file.read_f32(path).unwrap();
        shape
            && attributes["encoding-type"].text() == Some("array")
            && values.len() == source.rows * source.cols
            && values.iter().enumerate().all(|(cell, value)| value.to_bits() == source.value(cell).to_bits())
    }

    #[test]
    fn large_matrices_are_streamed_and_small_ones_are_not() {
        let [large, wide, small] =
            [(40_000, 33), (19, 70_000), (50, 33)].map(|(rows, cols)| Pattern { rows, cols });
        let streamed = |source| Source::Rows(source).is_streamed();
        assert!(streamed(&large) && streamed(&wide) && !streamed(&small));
        let bytes = written(&[("X", &large), ("layers/measured", &wide), ("layers/small", &small)]);
        let file = Hdf5File::from_bytes(bytes, Limits::default()).unwrap();
        assert!(holds(&file, "X", &large));
        assert!(holds(&file, "layers/measured", &wide));
        assert!(holds(&file, "layers/small", &small));
        assert_eq!(file.read_i64("first").unwrap(), [1, 2]);
        assert_eq!(file.read_strings("last").unwrap(), ["end"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn every_shape_reads_back(cols in 1_usize..90, over in 0_usize..9_000) {
            let source = Pattern { rows: SMALLEST_STREAMED / 4 / cols + 1 + over, cols };
            let file = Hdf5File::from_bytes(written(&[("a/b/c", &source)]), Limits::default()).unwrap();
            prop_assert!(holds(&file, "a/b/c", &source));
        }
    }

    /// Compresses several chunks at a time, the last first.
    struct Backwards(usize);

    impl ChunkCompressor for Backwards {
        fn deflate_all<'a>(
            &self,
            feed: &mut Feed<'_, 'a>,
            write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        ) -> io::Result<()> {
            let mut waiting: Vec<Chunk<'a>> = Vec::new();
            let mut give = |waiting: &mut Vec<Chunk<'a>>| {
                let mut done: Vec<Vec<u8>> =
                    waiting.drain(..).rev().map(|chunk| chunk.deflate()).collect::<io::Result<_>>()?;
                done.reverse();
                done.iter().try_for_each(|bytes| write(bytes))
            };
            feed(&mut |chunk| {
                waiting.push(chunk);
                if waiting.len() > self.0 { give(&mut waiting) } else { Ok(()) }
            })?;
            give(&mut waiting)
        }
    }

    /// A file with both lists.
    fn lists(floats: &[f32], integers: &[u32], compressor: &dyn ChunkCompressor) -> Vec<u8> {
        let mut file = Hdf5Writer::new();
        file.list("X/data", List::F32(floats)).unwrap();
        file.list("X/indices", List::I32(integers)).unwrap();
        file.attribute("X/data", "unit", Attribute::Text("counts".into())).unwrap();
        file.dataset("last", &[1], Data::I32(vec![9])).unwrap();
        let mut out = io::Cursor::new(Vec::new());
        file.finish_to(&mut out, compressor).unwrap();
        out.into_inner()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn lists_read_back_the_same_whoever_compresses(
            length in (SMALLEST_STREAMED / 4 - 2)..(SMALLEST_STREAMED / 4 + 200_000),
            at_once in 0_usize..20,
            seed in any::<u32>(),
        ) {
            let mixed = |place: u32| (place ^ seed).wrapping_mul(2_654_435_761) >> 12;
            let floats: Vec<f32> = (0..length as u32).map(|place| (mixed(place) % 7) as f32).collect();
            let integers: Vec<u32> = (0..length as u32).map(mixed).collect();
            let bytes = lists(&floats, &integers, &InTurn);
            prop_assert!(bytes == lists(&floats, &integers, &Backwards(at_once)));
            let file = Hdf5File::from_bytes(bytes, Limits::default()).unwrap();
            prop_assert!(file.read_f32("X/data").unwrap() == floats);
            prop_assert!(file.read_u32("X/indices").unwrap() == integers);
            prop_assert_eq!(file.shape("X/data").unwrap(), [length]);
            let attributes = file.attributes("X/data").unwrap();
            prop_assert_eq!(attributes["unit"].text(), Some("counts"));
            prop_assert_eq!(file.read_i64("last").unwrap(), [9]);
        }
    }

    #[test]
    fn large_lists_are_shuffled_and_deflated_and_their_chunks_can_be_decoded_apart() {
        let integers: Vec<u32> = (0..SMALLEST_STREAMED as u32 / 4).map(|place| place % 18_000).collect();
        let bytes = lists(&[], &integers, &InTurn);
        let file = Hdf5File::from_bytes(bytes, Limits::default()).unwrap();
        let chunks = file.integer_chunks("X/indices").unwrap().unwrap();
        assert!(chunks.shuffled && chunks.signed && chunks.width == 4);
        assert_eq!(chunks.places.len(), integers.len().div_ceil(LONGEST_CHUNK_SIDE));
        let stored: u64 = chunks.places.iter().map(|place| place.1).sum();
        assert!(stored < SMALLEST_STREAMED as u64 / 2, "{stored}");
    }

    #[test]
    fn an_index_of_many_chunks_has_one_page() {
        assert_eq!((page_bits(4), page_bits(1023), page_bits(1024), page_bits(10_750)), (10, 10, 11, 14));
    }

    #[test]
    fn rows_that_cannot_be_read_are_an_error() {
        #[derive(Debug)]
        struct Broken;
        impl RowSource for Broken {
            fn rows(&self) -> usize {
                2_000_000
            }

            fn cols(&self) -> usize {
                1
            }

            fn read_rows(&self, _: std::ops::Range<usize>, _: &mut [f32]) -> io::Result<()> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let mut file = Hdf5Writer::new();
        file.rows("X", &Broken).unwrap();
        assert_eq!(file.finish().unwrap_err().to_string(), "X: cannot be written: the disk is gone");
    }

    #[test]
    fn what_is_no_file_of_the_library_is_not_patched() {
        for bytes in [&b""[..], &[0; 100], &[0xFF; 100]] {
            assert!(Places::find(bytes, "X").is_none());
        }
    }
}
