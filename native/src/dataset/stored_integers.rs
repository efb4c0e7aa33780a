//! Large integer arrays of an HDF5 file, decoded by all threads at once.

use std::path::Path;

use anyhow::{Context, Result};
use magnet_core::hdf5::{Hdf5Error, Hdf5File, IntegerChunks};
use magnet_core::slide::RangeRead;
use rayon::prelude::*;

use crate::file_range::FileRange;

/// Chunks that a thread decodes one after the other.
const CHUNKS_IN_A_ROW: usize = 8;

/// Decodes the stored bytes of a chunk, with scratch memory.
type Decode<T> = fn(&IntegerChunks, &[u8], &mut Vec<u8>, &mut [T]) -> Result<(), Hdf5Error>;

/// The bytes of an HDF5 file that [`Hdf5File`] has opened too.
pub(super) struct StoredIntegers {
    file: FileRange,
}

impl StoredIntegers {
    /// Opens the file once more.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = FileRange::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file })
    }

    /// As [`Hdf5File::read_u32`].
    pub(super) fn read_u32(&self, file: &Hdf5File, object: &str) -> Result<Vec<u32>, Hdf5Error> {
        match file.integer_chunks(object)? {
            Some(chunks) => self.decode(&chunks, IntegerChunks::decode_u32),
            None => file.read_u32(object),
        }
    }

    /// As [`Hdf5File::read_f32`].
    pub(super) fn read_f32(&self, file: &Hdf5File, object: &str) -> Result<Vec<f32>, Hdf5Error> {
        match file.integer_chunks(object) {
            Ok(Some(chunks)) => self.decode(&chunks, IntegerChunks::decode_f32),
            // Floating point is no error here.
            _ => file.read_f32(object),
        }
    }

    fn decode<T: Clone + Default + Send>(
        &self,
        chunks: &IntegerChunks,
        decode: Decode<T>,
    ) -> Result<Vec<T>, Hdf5Error> {
        let mut out = vec![T::default(); chunks.elements];
        let parts = out.par_chunks_mut(chunks.chunk_elements).zip(&chunks.places);
        // Several in a row use the same memory.
        parts.with_min_len(CHUNKS_IN_A_ROW).try_for_each_init(
            || (Vec::new(), Vec::new()),
            |(stored, scratch), (part, &(address, bytes))| {
                self.read(chunks, address, bytes, stored)?;
                decode(chunks, stored, scratch, part)
            },
        )?;
        Ok(out)
    }

    fn read(
        &self,
        chunks: &IntegerChunks,
        address: u64,
        bytes: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Hdf5Error> {
        let damaged = |reason: String| Hdf5Error::Damaged { object: chunks.object.clone(), reason };
        let end = address.checked_add(bytes).filter(|&end| end <= self.file.len());
        let size = end.and_then(|_| usize::try_from(bytes).ok());
        let size =
            size.ok_or_else(|| damaged(format!("a chunk of {bytes} bytes at {address} passes the end")))?;
        out.resize(size, 0);
        self.file.read_at(address, out).map_err(|error| damaged(error.to_string()))
    }
}
