//! Bytes by range: what a slide is read from, when it is too large to be held.

use std::io;
use std::sync::Arc;

/// Bytes that are read by range: a file, memory, a browser's `Blob`, a server that answers range requests.
///
/// Reading is synchronous and takes `&self`, so that several threads may read one slide. In a browser a worker has
/// synchronous readers for files and for requests.
pub trait RangeRead {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Whatever the medium gives; [`io::ErrorKind::UnexpectedEof`] when the range reaches beyond the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl RangeRead for [u8] {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(out.len())?));
        let bytes = range.and_then(|range| self.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

impl RangeRead for Vec<u8> {
    fn len(&self) -> u64 {
        RangeRead::len(self.as_slice())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, out)
    }
}

/// What points at bytes reads as the bytes do.
macro_rules! read_through {
    ($pointer:ty) => {
        impl<R: RangeRead + ?Sized> RangeRead for $pointer {
            fn len(&self) -> u64 {
                (**self).len()
            }

            fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
                (**self).read_at(offset, out)
            }
        }
    };
}

read_through!(&R);
read_through!(Box<R>);
read_through!(Arc<R>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_range_and_never_beyond_its_end() {
        let bytes: Arc<dyn RangeRead + Send + Sync> = Arc::new(vec![1u8, 2, 3, 4, 5]);
        assert_eq!((bytes.len(), bytes.is_empty()), (5, false));
        let mut out = [0; 3];
        bytes.read_at(2, &mut out).unwrap();
        assert_eq!(out, [3, 4, 5]);
        for offset in [3, 5, 6, u64::MAX] {
            assert_eq!(bytes.read_at(offset, &mut out).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(RangeRead::is_empty(&Vec::new()));
        bytes.read_at(5, &mut []).unwrap();
    }
}
