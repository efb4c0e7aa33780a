//! Chunks of HDF5 files, compressed by all threads at once.

use std::io;

use magnet_core::hdf5::{Chunk, ChunkCompressor};
use rayon::prelude::*;

/// Chunks for each thread: enough that none waits long for the last to end.
const CHUNKS_PER_THREAD: usize = 4;

/// Compresses with all threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllThreads;

impl ChunkCompressor for AllThreads {
    fn chunks_at_once(&self) -> usize {
        CHUNKS_PER_THREAD * rayon::current_num_threads()
    }

    fn deflate_all(&self, chunks: &mut [Chunk]) -> io::Result<()> {
        chunks.par_iter_mut().try_for_each(Chunk::deflate)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use magnet_core::hdf5::{Hdf5Writer, InTurn, List};

    use super::*;

    #[test]
    fn all_threads_write_what_one_writes() {
        let values: Vec<f32> =
            (0..1_500_000_u32).map(|place| (place.wrapping_mul(48_271) >> 30) as f32).collect();
        let columns: Vec<u32> = (0..1_500_000).map(|place| place * 7 % 18_000).collect();
        let written = |compressor: &dyn ChunkCompressor| {
            let mut file = Hdf5Writer::new();
            file.list("X/data", List::F32(&values)).unwrap();
            file.list("X/indices", List::I32(&columns)).unwrap();
            let mut out = Cursor::new(Vec::new());
            file.finish_to(&mut out, compressor).unwrap();
            out.into_inner()
        };
        assert!(written(&AllThreads) == written(&InTurn));
    }
}
