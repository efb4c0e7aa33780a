//! Parquet's footer and page headers, walked before the Parquet library reads them.
//!
//! They are Thrift structures in the compact protocol. Version 60 of the library skips a list of booleans in a field
//! that it does not know without reading a byte for each of them, so that nine bytes can claim 2³¹ − 1 of them and keep
//! it busy for seconds. It also reads a field that it knows without looking at the type that is stored beside it. What
//! comes through here has the stored types that Parquet's specification names, elements that fit into the bytes
//! that are there, and no list of booleans, which Parquet has nowhere in these places.

use std::io::{Read, copy, sink};

/// Most structures and lists within each other; Parquet's own are eight.
const DEEPEST: u32 = 32;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Byte,
    /// Of 16, 32 or 64 bits: they are stored alike.
    Integer,
    Double,
    /// Bytes or text.
    Binary,
    Struct(Shape),
    List(&'static Kind),
}
use Kind::{Binary, Bool, Byte, Double, Integer, List, Struct};

/// The fields of a structure that the library knows, by their ids.
type Shape = &'static [(i16, Kind)];

const EMPTY: Kind = Struct(&[]);

const STATISTICS: Shape = &[
    (1, Binary),
    (2, Binary),
    (3, Integer),
    (4, Integer),
    (5, Binary),
    (6, Binary),
    (7, Bool),
    (8, Bool),
    (9, Integer),
];
const DATA_PAGE: Shape = &[(1, Integer), (2, Integer), (3, Integer), (4, Integer), (5, Struct(STATISTICS))];
const DICTIONARY_PAGE: Shape = &[(1, Integer), (2, Integer), (3, Bool)];
const DATA_PAGE_V2: Shape = &[
    (1, Integer),
    (2, Integer),
    (3, Integer),
    (4, Integer),
    (5, Integer),
    (6, Integer),
    (7, Bool),
    (8, Struct(STATISTICS)),
];
const PAGE_HEADER: Shape = &[
    (1, Integer),
    (2, Integer),
    (COMPRESSED_PAGE_SIZE, Integer),
    (4, Integer),
    (5, Struct(DATA_PAGE)),
    (6, EMPTY),
    (7, Struct(DICTIONARY_PAGE)),
    (8, Struct(DATA_PAGE_V2)),
];
const COMPRESSED_PAGE_SIZE: i16 = 3;

const TIME_TYPE: Shape = &[(1, Bool), (2, Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))];
const LOGICAL_TYPE: Shape = &[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Integer), (2, Integer)])),
    (6, EMPTY),
    (7, Struct(TIME_TYPE)),
    (8, Struct(TIME_TYPE)),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, Integer)])),
    (19, EMPTY),
];
const SCHEMA_ELEMENT: Shape = &[
    (1, Integer),
    (2, Integer),
    (3, Integer),
    (4, Binary),
    (5, Integer),
    (6, Integer),
    (7, Integer),
    (8, Integer),
    (9, Integer),
    (10, Struct(LOGICAL_TYPE)),
];
const KEY_VALUE: Shape = &[(1, Binary), (2, Binary)];
const BOUNDING_BOX: Shape =
    &[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)];
const COLUMN_METADATA: Shape = &[
    (1, Integer),
    (2, List(&Integer)),
    (3, List(&Binary)),
    (4, Integer),
    (5, Integer),
    (6, Integer),
    (7, Integer),
    (8, List(&Struct(KEY_VALUE))),
    (9, Integer),
    (10, Integer),
    (11, Integer),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Integer), (2, Integer), (3, Integer)]))),
    (14, Integer),
    (15, Integer),
    (16, Struct(&[(1, Integer), (2, List(&Integer)), (3, List(&Integer))])),
    (17, Struct(&[(1, Struct(BOUNDING_BOX)), (2, List(&Integer))])),
];
const COLUMN_CHUNK: Shape = &[
    (1, Binary),
    (2, Integer),
    (3, Struct(COLUMN_METADATA)),
    (4, Integer),
    (5, Integer),
    (6, Integer),
    (7, Integer),
    (8, Struct(&[(1, EMPTY), (2, Struct(&[(1, List(&Binary)), (2, Binary)]))])),
    (9, Binary),
];
const ROW_GROUP: Shape = &[
    (1, List(&Struct(COLUMN_CHUNK))),
    (2, Integer),
    (3, Integer),
    (4, List(&Struct(&[(1, Integer), (2, Bool), (3, Bool)]))),
    (5, Integer),
    (6, Integer),
    (7, Integer),
];
const ENCRYPTION: Shape = &[(1, Binary), (2, Binary), (3, Bool)];
const FILE_METADATA: Shape = &[
    (1, Integer),
    (2, List(&Struct(SCHEMA_ELEMENT))),
    (3, Integer),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Binary),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))),
    (8, Struct(&[(1, Struct(ENCRYPTION)), (2, Struct(ENCRYPTION))])),
    (9, Binary),
];

/// Walks a footer's metadata.
///
/// # Errors
/// What of it the library must not see.
pub(super) fn check_footer(metadata: &[u8]) -> Result<(), String> {
    let mut walker = Walker { source: metadata, left: metadata.len() as u64 };
    walker.structure(FILE_METADATA, 0, &mut |_, _| {})
}

/// A page header.
pub(super) struct Page {
    /// Bytes of the header.
    pub header_bytes: u64,
    /// Bytes of the page behind it; `None` where the header does not say.
    pub body_bytes: Option<u64>,
}

/// Walks the page header at the start of `source`, of which it may take up to `limit` bytes.
///
/// # Errors
/// What of it the library must not see.
pub(super) fn check_page_header(source: impl Read, limit: u64) -> Result<Page, String> {
    let mut walker = Walker { source, left: limit };
    let mut body_bytes = None;
    walker.structure(PAGE_HEADER, 0, &mut |id, value| {
        if id == COMPRESSED_PAGE_SIZE {
            body_bytes = u64::try_from(value).ok();
        }
    })?;
    Ok(Page { header_bytes: limit - walker.left, body_bytes })
}

/// Reads the compact protocol, of which it keeps nothing but the integers of the outermost structure.
struct Walker<R> {
    source: R,
    left: u64,
}

impl<R: Read> Walker<R> {
    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.left = self.left.checked_sub(1).ok_or("its end within a value")?;
        self.source.read_exact(&mut byte).map_err(|error| error.to_string())?;
        let [byte] = byte;
        Ok(byte)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| format!("a value of {bytes} bytes"))?;
        let skipped = copy(&mut self.source.by_ref().take(bytes), &mut sink());
        match skipped {
            Ok(skipped) if skipped == bytes => Ok(()),
            Ok(_) => Err("its end within a value".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Seven bits to a byte, the lowest first.
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an integer of more than ten bytes".to_owned())
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Hands the integers among the fields to `integer`, with their ids.
    fn structure(
        &mut self,
        shape: Shape,
        depth: u32,
        integer: &mut dyn FnMut(i16, i64),
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("structures nested more than {DEEPEST} deep"));
        }
        let mut id = 0_i16;
        loop {
            let header = self.byte()?;
            let stored = header & 0x0f;
            if stored == 0 {
                return Ok(());
            }
            let next = match header >> 4 {
                0 => i16::try_from(self.zigzag()?).ok(),
                step => id.checked_add(step.into()),
            };
            id = next.ok_or("a field id past 32,767")?;
            let kind = shape.iter().find(|(known, _)| *known == id).map(|(_, kind)| *kind);
            match (kind, stored) {
                (Some(Integer), 4..=6) => integer(id, self.zigzag()?),
                (Some(kind), stored) if !kind.is_stored_as(stored) => {
                    return Err(format!("field {id} as a value of type {stored}"));
                }
                // A boolean field is its own type.
                (_, 1 | 2) => {}
                (kind, stored) => self.value(kind, stored, depth)?,
            }
        }
    }

    /// A value of the stored type: of the kind that it must have, or of any where the field is not known.
    fn value(&mut self, kind: Option<Kind>, stored: u8, depth: u32) -> Result<(), String> {
        match stored {
            3 => self.skip(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => self.varint().and_then(|bytes| self.skip(bytes)),
            9 | 10 => self.list(kind, depth + 1),
            12 => {
                let shape = if let Some(Struct(shape)) = kind { shape } else { &[] };
                self.structure(shape, depth + 1, &mut |_, _| {})
            }
            13 => self.skip(16),
            // Parquet has no maps.
            _ => Err(format!("a value of type {stored}")),
        }
    }

    fn list(&mut self, kind: Option<Kind>, depth: u32) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("lists nested more than {DEEPEST} deep"));
        }
        let header = self.byte()?;
        // Some writers give an empty list no type.
        if header == 0 {
            return Ok(());
        }
        let (count, stored) = match (header >> 4, header & 0x0f) {
            (15, stored) => (self.varint()?, stored),
            (count, stored) => (count.into(), stored),
        };
        let element = if let Some(List(element)) = kind { Some(*element) } else { None };
        if element.is_some_and(|element| !element.is_stored_as(stored)) {
            return Err(format!("a list of values of type {stored}"));
        }
        // Every element takes a byte at least; the library takes none for a boolean.
        if count > self.left || (count > 0 && stored <= 2) {
            return Err(format!("a list of {count} values of type {stored} in {} bytes", self.left));
        }
        for _ in 0..count {
            self.value(element, stored, depth)?;
        }
        Ok(())
    }
}

impl Kind {
    fn is_stored_as(self, stored: u8) -> bool {
        match self {
            Bool => matches!(stored, 1 | 2),
            Byte => stored == 3,
            Integer => matches!(stored, 4..=6),
            Double => stored == 7,
            Binary => stored == 8,
            List(_) => stored == 9,
            Struct(_) => stored == 12,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that claims 2³¹ − 1 booleans, as field 100.
    const BOOLEANS: &[u8] = &[0x09, 0xc8, 0x01, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07];

    #[test]
    fn a_page_header_tells_its_length_and_that_of_its_page() {
        // type 0, 5 bytes unpacked, 3 packed, and a data page header of four integers.
        let header = [0x15, 0, 0x15, 10, 0x15, 6, 0x2c, 0x15, 4, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
        let page = check_page_header([&header[..], b"abc"].concat().as_slice(), 20).unwrap();
        assert_eq!((page.header_bytes, page.body_bytes), (header.len() as u64, Some(3)));
        for end in 0..header.len() {
            assert!(check_page_header(&header[..end], end as u64).is_err(), "{end}");
        }
    }

    #[test]
    fn lists_of_booleans_are_refused_wherever_they_hide() {
        let hidden: [&[&[u8]]; 6] = [
            &[BOOLEANS],
            // Few of them.
            &[&[0x09, 0xc8, 0x01, 0x41, 1, 1, 1, 1]],
            // In a structure within a field that is not known, in a set, in a map, and in a list of lists.
            &[&[0x0c, 0xc8, 0x01], BOOLEANS, &[0]],
            &[&[0x0a, 0xc8, 0x01, 0xf2, 0xff, 0xff, 0xff, 0xff, 0x07]],
            &[&[0x0b, 0xc8, 0x01, 0xff, 0xff, 0xff, 0xff, 0x07, 0x11]],
            &[&[0x09, 0xc8, 0x01, 0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]],
        ];
        for bytes in hidden {
            let bytes = [&bytes.concat()[..], &[0; 9]].concat();
            assert!(check_footer(&bytes).is_err(), "{bytes:02x?}");
            assert!(check_page_header(bytes.as_slice(), bytes.len() as u64).is_err(), "{bytes:02x?}");
        }
        // Behind a length where the library reads an integer: its field 1 is one, whatever is stored beside it.
        let disguised = [&[0x18, 10][..], BOOLEANS, &[0, 0]].concat();
        assert_eq!(check_footer(&disguised).unwrap_err(), "field 1 as a value of type 8");
    }

    #[test]
    fn what_a_later_version_may_add_is_no_reason_to_refuse() {
        let more =
            [0x15, 2, 0x0c, 0xc8, 0x01, 0x19, 0x28, 1, b'a', 1, b'b', 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(check_footer(&more), Ok(()));
    }

    #[test]
    fn nesting_and_claims_end_where_the_bytes_do() {
        let structures = [0xfc].repeat(100);
        assert!(check_footer(&structures).unwrap_err().contains("deep"));
        let lists = [&[0x09, 0xc8, 0x01][..], &[0x19].repeat(100)].concat();
        assert!(check_footer(&lists).unwrap_err().contains("deep"));
        let text = [0x68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(check_footer(&text).unwrap_err().contains("a value of"));
        let integer = [&[0x16][..], &[0xff].repeat(100)].concat();
        assert!(check_footer(&integer).unwrap_err().contains("ten bytes"));
    }
}
