//! The directories of a TIFF or BigTIFF file, read by range.
//!
//! The `tiff` crate reads every array of an image when it opens one. A slide has millions of tiles, so that would be
//! tens of megabytes before the first pixel, over a network or out of a browser's `Blob`. Here a directory is its
//! entries, and what they point at is read when it is asked for: single values at once, long arrays in pieces by
//! [`Array`]. A file is opened with a few reads whatever its size.
//!
//! Files may be hostile: counts are held against the file's length and against limits before memory is taken, and a
//! chain of directories that comes back to itself is an error.

use super::TiffError;
use super::tags;
use crate::slide::RangeRead;

/// Most directories that a file may chain: slides have a dozen, a stack of focal planes a few hundred.
const MAX_DIRECTORIES: usize = 1024;

/// Most entries that a directory may have: there are about a hundred tags in use.
const MAX_ENTRIES: u64 = 1024;

/// How much is fetched at once while directories are read.
const BLOCK_BYTES: u64 = 16 << 10;

/// Which end of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The least significant byte ("II").
    Little,
    /// The most significant byte ("MM").
    Big,
}

impl ByteOrder {
    /// An unsigned number of up to 8 bytes.
    pub fn unsigned(self, bytes: &[u8]) -> u64 {
        let join = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        match self {
            ByteOrder::Little => bytes.iter().rev().fold(0, join),
            ByteOrder::Big => bytes.iter().fold(0, join),
        }
    }
}

/// Type of an entry's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsigned,
    Rational,
    Other,
}

/// Kind and bytes per value of a field type; `None` for types that the standard does not know, whose entries a reader
/// must skip.
fn kind_of(field_type: u16) -> Option<(Kind, u64)> {
    Some(match field_type {
        1 => (Kind::Unsigned, 1),
        3 => (Kind::Unsigned, 2),
        4 | 13 => (Kind::Unsigned, 4),
        16 | 18 => (Kind::Unsigned, 8),
        5 => (Kind::Rational, 8),
        2 | 6 | 7 => (Kind::Other, 1),
        8 => (Kind::Other, 2),
        9 | 11 => (Kind::Other, 4),
        10 | 12 | 17 => (Kind::Other, 8),
        _ => return None,
    })
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    kind: Kind,
    value_bytes: u64,
    count: u64,
    /// Where the values are.
    offset: u64,
    /// The values themselves, where they fit into the entry.
    inline: Option<[u8; 8]>,
}

/// An array of numbers that stays in the file: where it is, how many there are and how wide each is.
#[derive(Debug, Clone, Copy)]
pub struct Array {
    /// Offset of the first number, in bytes.
    pub offset: u64,
    /// Count of numbers.
    pub count: u64,
    /// Bytes of each: 1, 2, 4 or 8.
    pub value_bytes: u64,
}

/// A directory: what is said about one image. Only the tags of [`tags`] are kept.
#[derive(Debug, Clone)]
pub struct Directory {
    label: String,
    entries: Vec<Entry>,
}

/// A TIFF file that is being read.
pub struct TiffReader<'a, R: ?Sized> {
    source: &'a R,
    order: ByteOrder,
    big: bool,
    first: u64,
    /// The bytes fetched last, and where they are from.
    block: Vec<u8>,
    block_offset: u64,
    /// Directories read so far, so that none is read twice.
    seen: Vec<u64>,
}

impl<'a, R: RangeRead + ?Sized> TiffReader<'a, R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`TiffError`] when this is no TIFF file.
    pub fn new(source: &'a R) -> Result<Self, TiffError> {
        let mut reader = Self {
            source,
            order: ByteOrder::Little,
            big: false,
            first: 0,
            block: Vec::new(),
            block_offset: 0,
            seen: Vec::new(),
        };
        let start = reader.bytes(0, 8, "header")?.to_vec();
        (reader.order, reader.big) = match start.get(..4) {
            Some(b"II*\0") => (ByteOrder::Little, false),
            Some(b"MM\0*") => (ByteOrder::Big, false),
            Some(b"II+\0") => (ByteOrder::Little, true),
            Some(b"MM\0+") => (ByteOrder::Big, true),
            _ => return Err(TiffError::field("header", "II or MM and 42 or 43", format!("{start:02x?}"))),
        };
        reader.first = if reader.big {
            let sizes = reader.order.unsigned(start.get(4..6).unwrap_or_default());
            if sizes != 8 {
                return Err(TiffError::field("header", "offsets of 8 bytes", format!("of {sizes}")));
            }
            reader.unsigned_at(8, 8, "header")?
        } else {
            reader.unsigned_at(4, 4, "header")?
        };
        Ok(reader)
    }

    /// The file's byte order.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// The directories of the file's chain, at least one.
    ///
    /// # Errors
    /// [`TiffError`] when the chain comes back to itself, leaves the file, is longer than 1024, or when a directory
    /// is longer than the file or than 1024 entries.
    pub fn directories(&mut self) -> Result<Vec<Directory>, TiffError> {
        let mut directories = Vec::new();
        let mut offset = self.first;
        while offset != 0 {
            let (directory, next) = self.directory(offset, format!("image {}", directories.len()))?;
            directories.push(directory);
            offset = next;
        }
        if directories.is_empty() {
            return Err(TiffError::field("header", "the offset of an image", 0));
        }
        Ok(directories)
    }

    /// The directories that `parent` names in its SubIFDs; none when it names none.
    ///
    /// # Errors
    /// As [`TiffReader::directories`].
    pub fn sub_directories(&mut self, parent: &Directory) -> Result<Vec<Directory>, TiffError> {
        let offsets = self.unsigned_values(parent, tags::SUB_IFDS, MAX_DIRECTORIES as u64)?;
        let mut directories = Vec::new();
        // Each is the start of a chain of its own by the standard; slides use only its first.
        for offset in offsets.unwrap_or_default() {
            let label = format!("{}, sub-image {}", parent.label, directories.len());
            directories.push(self.directory(offset, label)?.0);
        }
        Ok(directories)
    }

    /// The directory at `offset` and the offset of the next.
    fn directory(&mut self, offset: u64, label: String) -> Result<(Directory, u64), TiffError> {
        if self.seen.contains(&offset) {
            return Err(TiffError::field(
                label,
                "directories that are each listed once",
                format!("the one at {offset} again"),
            ));
        }
        if self.seen.len() >= MAX_DIRECTORIES {
            return Err(TiffError::field(label, format!("at most {MAX_DIRECTORIES} images"), "more"));
        }
        self.seen.push(offset);
        let (count_bytes, entry_bytes, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.unsigned_at(offset, count_bytes, &label)?;
        if count > MAX_ENTRIES {
            return Err(TiffError::field(
                format!("{label}, entry count"),
                format!("at most {MAX_ENTRIES}"),
                count,
            ));
        }
        let start = offset.saturating_add(count_bytes);
        let order = self.order;
        let bytes = self.bytes(start, count * entry_bytes + word, &label)?;
        let mut entries = Vec::new();
        let mut rest = bytes;
        for index in 0..count {
            let Some((entry, after)) = rest.split_at_checked(entry_bytes as usize) else { break };
            rest = after;
            let at = start + index * entry_bytes;
            if let Some(entry) = entry_of(entry, at, order, word as usize)
                && !entries.iter().any(|known: &Entry| known.tag == entry.tag)
            {
                entries.push(entry);
            }
        }
        let next = order.unsigned(rest);
        Ok((Directory { label, entries }, next))
    }

    /// The first value of a tag, `None` when the directory has no such tag.
    ///
    /// # Errors
    /// [`TiffError`] when the values are no unsigned numbers or lie outside the file.
    pub fn unsigned(&mut self, directory: &Directory, tag: u16) -> Result<Option<u64>, TiffError> {
        let Some(entry) = directory.entry(tag) else { return Ok(None) };
        let first = self.values(directory, &Entry { count: entry.count.min(1), ..*entry }, 1)?;
        match first.first() {
            Some(&value) => Ok(Some(value)),
            None => Err(TiffError::field(directory.field(tag), "a value", "none")),
        }
    }

    /// All values of a tag, at most `max_count`.
    ///
    /// # Errors
    /// [`TiffError`] when there are more, or when they are no unsigned numbers or lie outside the file.
    pub fn unsigned_values(
        &mut self,
        directory: &Directory,
        tag: u16,
        max_count: u64,
    ) -> Result<Option<Vec<u64>>, TiffError> {
        let Some(entry) = directory.entry(tag).copied() else { return Ok(None) };
        self.values(directory, &entry, max_count).map(Some)
    }

    fn values(
        &mut self,
        directory: &Directory,
        entry: &Entry,
        max_count: u64,
    ) -> Result<Vec<u64>, TiffError> {
        if entry.kind != Kind::Unsigned {
            return Err(TiffError::field(directory.field(entry.tag), "unsigned numbers", "another type"));
        }
        let order = self.order;
        let bytes = self.raw(directory, entry, max_count)?;
        Ok(bytes.chunks_exact(entry.value_bytes as usize).map(|value| order.unsigned(value)).collect())
    }

    /// A fraction; `None` when the directory has no such tag, or no fraction in it.
    ///
    /// # Errors
    /// [`TiffError`] when it lies outside the file.
    pub fn rational(&mut self, directory: &Directory, tag: u16) -> Result<Option<f64>, TiffError> {
        let Some(entry) = directory.entry(tag).copied() else { return Ok(None) };
        if entry.kind != Kind::Rational || entry.count == 0 {
            return Ok(None);
        }
        let order = self.order;
        let bytes = self.raw(directory, &Entry { count: 1, ..entry }, 1)?;
        let (numerator, denominator) = bytes.split_at(4);
        Ok(Some(order.unsigned(numerator) as f64 / order.unsigned(denominator) as f64))
    }

    /// The bytes of a tag, at most the first `max_bytes` of them; `None` when the directory has no such tag.
    ///
    /// # Errors
    /// [`TiffError`] when they lie outside the file.
    pub fn prefix(
        &mut self,
        directory: &Directory,
        tag: u16,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, TiffError> {
        let Some(entry) = directory.entry(tag).copied() else { return Ok(None) };
        let count = entry.count.min(max_bytes / entry.value_bytes);
        self.raw(directory, &Entry { count, ..entry }, count).map(Some)
    }

    /// Where the values of a tag are, for an array that is too long to be read at once; `None` when the directory has
    /// no such tag.
    ///
    /// # Errors
    /// [`TiffError`] when the values are no unsigned numbers or lie outside the file.
    pub fn array(&mut self, directory: &Directory, tag: u16) -> Result<Option<Array>, TiffError> {
        let Some(&Entry { kind, value_bytes, count, offset, .. }) = directory.entry(tag) else {
            return Ok(None);
        };
        let field = directory.field(tag);
        if kind != Kind::Unsigned {
            return Err(TiffError::field(field, "unsigned numbers", "another type"));
        }
        self.check_range(offset, count.saturating_mul(value_bytes), &field)?;
        Ok(Some(Array { offset, count, value_bytes }))
    }

    fn raw(&mut self, directory: &Directory, entry: &Entry, max_count: u64) -> Result<Vec<u8>, TiffError> {
        let field = directory.field(entry.tag);
        if entry.count > max_count {
            let expected = format!("at most {max_count} values");
            return Err(TiffError::field(field, expected, entry.count));
        }
        let bytes = entry.count.saturating_mul(entry.value_bytes);
        match entry.inline {
            Some(inline) => Ok(inline.into_iter().take(bytes as usize).collect()),
            None => Ok(self.bytes(entry.offset, bytes, &field)?.to_vec()),
        }
    }

    fn unsigned_at(&mut self, offset: u64, bytes: u64, field: &str) -> Result<u64, TiffError> {
        let order = self.order;
        Ok(order.unsigned(self.bytes(offset, bytes, field)?))
    }

    /// `length` bytes at `offset`: from the block at hand, or fetched with their neighbourhood.
    fn bytes(&mut self, offset: u64, length: u64, field: &str) -> Result<&[u8], TiffError> {
        self.check_range(offset, length, field)?;
        let block_end = self.block_offset + self.block.len() as u64;
        if offset < self.block_offset || offset + length > block_end {
            // From a boundary of blocks on, so that what lies just before is at hand too.
            let start = offset - offset % BLOCK_BYTES;
            let end = (offset + length).max(start + BLOCK_BYTES).min(self.source.len());
            self.block_offset = start;
            self.block.clear();
            // All callers bound `length`; what they ask for lies within the file.
            self.block.resize((end - start) as usize, 0);
            if let Err(error) = self.source.read_at(start, &mut self.block) {
                self.block.clear();
                let (field, detail) = (field.to_string(), error.to_string());
                return Err(TiffError::Io { field, offset: start, bytes: end - start, detail });
            }
        }
        let from = (offset - self.block_offset) as usize;
        Ok(self.block.get(from..from + length as usize).unwrap_or_default())
    }

    fn check_range(&self, offset: u64, bytes: u64, field: &str) -> Result<(), TiffError> {
        let file_bytes = self.source.len();
        if offset.checked_add(bytes).is_none_or(|end| end > file_bytes) {
            return Err(TiffError::BeyondEnd { field: field.to_string(), offset, bytes, file_bytes });
        }
        Ok(())
    }
}

/// The entry in `bytes`, which stands at `at` in the file; `None` for a tag or a type that is not read here. Values
/// that fit into `word` bytes stand in the entry itself.
fn entry_of(bytes: &[u8], at: u64, order: ByteOrder, word: usize) -> Option<Entry> {
    let (tag, rest) = bytes.split_at_checked(2)?;
    let (field_type, rest) = rest.split_at_checked(2)?;
    let (count, value) = rest.split_at_checked(word)?;
    let tag = order.unsigned(tag) as u16;
    tags::name(tag)?;
    let (kind, value_bytes) = kind_of(order.unsigned(field_type) as u16)?;
    let count = order.unsigned(count);
    let fits = count.saturating_mul(value_bytes) <= word as u64;
    let inline = fits.then(|| {
        let mut inline = [0; 8];
        inline.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        inline
    });
    let offset = if fits { at + 4 + word as u64 } else { order.unsigned(value) };
    Some(Entry { tag, kind, value_bytes, count, offset, inline })
}

impl Directory {
    /// What messages call this image.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What messages call a tag of this image.
    pub fn field(&self, tag: u16) -> String {
        format!("{}, {}", self.label, tags::name(tag).unwrap_or("tag"))
    }

    /// Whether the directory has a tag.
    pub fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A classic little-endian file: header, one directory at 8 with these entries, then `tail`.
    fn classic(entries: &[(u16, u16, u32, u32)], next: u32, tail: &[u8]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for &(tag, field_type, count, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(field_type.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(next.to_le_bytes());
        bytes.extend(tail);
        bytes
    }

    fn directories(bytes: &[u8]) -> Result<Vec<Directory>, TiffError> {
        TiffReader::new(bytes)?.directories()
    }

    #[test]
    fn values_are_read_from_the_entry_and_from_where_it_points() {
        // What follows the directory stands at 8 + 2 + 4 · 12 + 4.
        let bytes = classic(
            &[
                (tags::IMAGE_WIDTH, 4, 1, 70_000),
                (tags::BITS_PER_SAMPLE, 3, 3, 62),
                (tags::PREDICTOR, 3, 1, 2),
                (60_000, 3, 1, 1),
            ],
            0,
            &[8, 0, 9, 0, 10, 0],
        );
        let mut reader = TiffReader::new(bytes.as_slice()).unwrap();
        let directory = reader.directories().unwrap().remove(0);
        assert_eq!(reader.unsigned(&directory, tags::IMAGE_WIDTH).unwrap(), Some(70_000));
        assert_eq!(reader.unsigned(&directory, tags::PREDICTOR).unwrap(), Some(2));
        assert_eq!(reader.unsigned(&directory, tags::IMAGE_LENGTH).unwrap(), None);
        assert!(!directory.has(60_000));
        let bits = reader.unsigned_values(&directory, tags::BITS_PER_SAMPLE, 3).unwrap();
        assert_eq!(bits, Some(vec![8, 9, 10]));
        assert!(reader.unsigned_values(&directory, tags::BITS_PER_SAMPLE, 2).is_err());
    }

    #[test]
    fn a_chain_that_comes_back_to_itself_is_an_error() {
        let error = directories(&classic(&[], 8, &[])).unwrap_err();
        assert!(error.to_string().contains("again"), "{error}");
        // Two directories that point at each other.
        let mut bytes = classic(&[], 14, &[]);
        bytes.extend([0, 0, 8, 0, 0, 0]);
        assert!(directories(&bytes).unwrap_err().to_string().contains("again"));
    }

    #[test]
    fn a_long_chain_is_an_error() {
        // Directories without entries, one after the other.
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        for index in 1..=3000u32 {
            bytes.extend([0, 0]);
            bytes.extend((8 + index * 6).to_le_bytes());
        }
        assert!(directories(&bytes).unwrap_err().to_string().contains("at most 1024 images"));
    }

    #[test]
    fn offsets_and_counts_beyond_the_file_are_errors() {
        let beyond = |bytes: &[u8]| {
            let mut reader = TiffReader::new(bytes)?;
            let directory = reader.directories()?.remove(0);
            reader.array(&directory, tags::TILE_OFFSETS)?;
            reader.unsigned(&directory, tags::IMAGE_WIDTH).map(|_| ())
        };
        for bytes in [
            b"II*\0\xff\xff\xff\xff".to_vec(),
            classic(&[], u32::MAX, &[]),
            classic(&[(tags::TILE_OFFSETS, 4, u32::MAX, 8)], 0, &[]),
            classic(&[(tags::TILE_OFFSETS, 4, 2, u32::MAX - 3)], 0, &[]),
            classic(&[(tags::IMAGE_WIDTH, 16, 1, 4000)], 0, &[]),
            b"II+\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        ] {
            let error = beyond(&bytes).unwrap_err();
            assert!(matches!(error, TiffError::BeyondEnd { .. }), "{error}");
        }
        let many = [b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".as_slice(), &[0xFF; 8]].concat();
        assert!(directories(&many).unwrap_err().to_string().contains("entry count"));
        for bytes in [&b""[..], b"II*", b"II*\0\0\0\0\0", b"II+\0\x04\0\0\0\0\0\0\0", b"\x89PNG\r\n\x1a\n"] {
            assert!(directories(bytes).is_err());
        }
    }
}
