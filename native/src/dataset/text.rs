//! Text as files hold it: plain or gzipped, within limits.

use std::cell::Cell;
use std::io::{BufReader, Cursor, Error, Read, Result};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

/// Most bytes of text that one file may unpack to.
const MOST_BYTES: u64 = 64 << 30;
/// Longest line; a row is held in memory whole.
const LONGEST_LINE: usize = 64 << 20;
/// Text of this size may come from anything.
const SMALL_BYTES: u64 = 64 << 20;
/// Real tables shrink six- to fifty-fold; a file that expands further than this was made to do so.
const LARGEST_EXPANSION: u64 = 150;

/// The text of a file, unpacked where its first bytes say that it is gzipped.
///
/// Reading fails where a line or the text grows past what a table can have, or where a small file unpacks to a huge
/// one.
///
/// # Errors
/// When the first bytes cannot be read.
pub(super) fn unpacked<'a>(mut source: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut start = Vec::with_capacity(2);
    source.by_ref().take(2).read_to_end(&mut start)?;
    let gzipped = start == [0x1f, 0x8b];
    let packed_bytes = Rc::new(Cell::new(0));
    let whole = Cursor::new(start).chain(source);
    let limited = |inner, packed_bytes| TextLimit { inner, packed_bytes, text_bytes: 0, in_line: 0 };
    Ok(if gzipped {
        let counted = Counted { inner: whole, bytes: packed_bytes.clone() };
        let inner = Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted)));
        Box::new(limited(inner as Box<dyn Read>, Some(packed_bytes)))
    } else {
        Box::new(limited(Box::new(whole), None))
    })
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// Fails where the text passes a limit.
struct TextLimit<'a> {
    inner: Box<dyn Read + 'a>,
    packed_bytes: Option<Rc<Cell<u64>>>,
    text_bytes: u64,
    in_line: usize,
}

impl Read for TextLimit<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        self.in_line = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(place) => read - place - 1,
            None => self.in_line.saturating_add(read),
        };
        if self.in_line > LONGEST_LINE {
            return Err(Error::other(format!("a line of more than {LONGEST_LINE} bytes")));
        }
        self.text_bytes = self.text_bytes.saturating_add(read as u64);
        if self.text_bytes > MOST_BYTES {
            return Err(Error::other(format!("more than {MOST_BYTES} bytes of text")));
        }
        if let Some(packed) = &self.packed_bytes {
            let most = packed.get().saturating_mul(LARGEST_EXPANSION).max(SMALL_BYTES);
            if self.text_bytes > most {
                let found = format!("gzip data that unpacks to more than {LARGEST_EXPANSION} times its size");
                return Err(Error::other(found));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, copy, repeat, sink};

    use super::*;

    #[test]
    fn a_line_without_end_is_refused_and_many_lines_are_not() {
        let error = copy(&mut unpacked(repeat(b'0')).unwrap(), &mut sink()).unwrap_err().to_string();
        assert!(error.contains("a line of more than"), "{error}");
        let lines = Cursor::new(b"ab\n".repeat(30_000_000));
        assert_eq!(copy(&mut unpacked(lines).unwrap(), &mut sink()).unwrap(), 90_000_000);
    }

    #[test]
    fn a_gzip_bomb_is_refused_before_it_is_unpacked() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let line = b"0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\n".repeat(4096);
        for _ in 0..640 {
            bomb.write_all(&line).unwrap();
        }
        let bytes = bomb.finish().unwrap();
        assert!(bytes.len() < 1 << 20);
        let error = copy(&mut unpacked(bytes.as_slice()).unwrap(), &mut sink()).unwrap_err().to_string();
        assert!(error.contains("unpacks to more than"), "{error}");
    }
}
