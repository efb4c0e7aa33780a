//! Chunks of HDF5 files, compressed by all threads at once.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};

use magnet_core::hdf5::{ChunkCompressor, Feed, InTurn};

/// Chunks for each thread: enough that none waits while the oldest is written.
const CHUNKS_PER_THREAD: usize = 8;

/// Compresses with all threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllThreads;

impl ChunkCompressor for AllThreads {
    fn deflate_all<'a>(
        &self,
        feed: &mut Feed<'_, 'a>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        // A thread of the pool must not wait for the others: there may be none.
        if rayon::current_thread_index().is_some() {
            return InTurn.deflate_all(feed, write);
        }
        let most = CHUNKS_PER_THREAD * rayon::current_num_threads();
        rayon::in_place_scope(|pool| {
            let mut waiting = VecDeque::new();
            feed(&mut |chunk| {
                let (give, deflated) = sync_channel(1);
                // Nobody waits for it any more once something failed.
                pool.spawn(move |_| drop(give.send(chunk.deflate())));
                waiting.push_back(deflated);
                if waiting.len() > most { write_oldest(&mut waiting, write) } else { Ok(()) }
            })?;
            while !waiting.is_empty() {
                write_oldest(&mut waiting, write)?;
            }
            Ok(())
        })
    }
}

fn write_oldest(
    waiting: &mut VecDeque<Receiver<io::Result<Vec<u8>>>>,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(oldest) = waiting.pop_front() else { return Ok(()) };
    let deflated =
        oldest.recv().map_err(|_| io::Error::other("a thread ended before its chunk was deflated"))?;
    write(&deflated?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use magnet_core::hdf5::{Hdf5Writer, List};

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
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(pool.install(|| written(&AllThreads)) == written(&InTurn));
    }

    #[test]
    fn what_cannot_be_written_ends_it() {
        let values = vec![1.0; 1_500_000];
        let mut file = Hdf5Writer::new();
        file.list("X/data", List::F32(&values)).unwrap();
        let mut small = [0; 10_000];
        let error = file.finish_to(&mut Cursor::new(&mut small[..]), &AllThreads).unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
    }
}
