//! How much memory one file may make its reader take.
//!
//! Bounding each dataset is not enough: any number of names may lead to one stored chunk, any number of strings to one
//! text in a heap, and a group may hold itself. So every byte that is made of a file is counted, and a file that asks for
//! more than its size justifies is refused. Nothing is given back when values are dropped: what a program asks of a file
//! does not grow with the file's content, so reading a dataset twice costs a factor of two, not a limit that depends on
//! when memory was freed.
//!
//! What is fetched is counted apart, for what the library makes of names and attributes before it can be looked at: in
//! one question it may be as much, in all of them much more, since a name is found by reading its group again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_pure::{FormatError, Source};

use super::{Hdf5Error, Limits};

/// Deflate never expands more than about 1,032-fold; what claims more was not stored in its file.
const LARGEST_EXPANSION: u64 = 1_100;
/// Small files may declare chunks far larger than their content.
const SLACK_BYTES: u64 = 16 << 20;
/// What any file may take, however small: objects and chunks that hold nothing take memory too.
const FLOOR_BYTES: u64 = 64 << 20;
/// How much more may be fetched in all than is made of it: a table of 3,000 columns is read a thousand times over.
const FETCHES: u64 = 64;
/// What fetching costs apart from the bytes fetched, so that very many small reads end too.
const READ_BYTES: u64 = 32;

/// Most bytes that a dataset can hold as stored, in a file of `size` bytes.
pub(super) fn possible_bytes(size: u64) -> u64 {
    size.saturating_mul(LARGEST_EXPANSION).saturating_add(SLACK_BYTES)
}

/// What may still be read of a file and made of it, in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    left: AtomicU64,
    /// Fetched since something was charged last: by the question that is being answered.
    fetched_at_once: AtomicU64,
    fetched: AtomicU64,
}

impl Budget {
    /// For a file of `size` bytes: 1,100 times its size and 64 MiB, within `limits`.
    pub(super) fn new(size: u64, limits: Limits) -> Self {
        let justified = size.saturating_mul(LARGEST_EXPANSION).saturating_add(FLOOR_BYTES);
        let limit = justified.min(limits.file_bytes);
        let [fetched_at_once, fetched] = [0, 0].map(AtomicU64::new);
        Self { limit, left: AtomicU64::new(limit), fetched_at_once, fetched }
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for `object`. Once they are not there, nothing is.
    pub(super) fn charge(&self, object: &str, bytes: u64) -> Result<(), Hdf5Error> {
        self.fetched_at_once.store(0, Ordering::Relaxed);
        let left = self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if left.is_ok_and(|before| before > 0) {
            return Ok(());
        }
        self.left.store(0, Ordering::Relaxed);
        Err(self.spent(object))
    }

    /// Whether `bytes` may still be fetched. Once they may not, nothing may.
    fn may_fetch(&self, bytes: u64) -> bool {
        let add = |counter: &AtomicU64| counter.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let (at_once, all) = (add(&self.fetched_at_once), add(&self.fetched));
        let may = self.left() > 0 && at_once <= self.limit && all <= self.limit.saturating_mul(FETCHES);
        if !may {
            self.left.store(0, Ordering::Relaxed);
        }
        may
    }

    fn spent(&self, object: &str) -> Hdf5Error {
        Hdf5Error::FileTooLarge { object: object.to_owned(), limit: self.limit }
    }

    /// The result of asking the library about `object`. A file that ran out meanwhile is refused even where the library
    /// left out what it could not read.
    pub(super) fn within<T>(
        &self,
        object: &str,
        result: Result<T, hdf5_pure::Error>,
    ) -> Result<Result<T, hdf5_pure::Error>, Hdf5Error> {
        if self.left() == 0 { Err(self.spent(object)) } else { Ok(result) }
    }
}

/// A source of bytes that counts what is fetched.
pub(super) struct Metered<S> {
    pub(super) source: S,
    pub(super) budget: Arc<Budget>,
}

impl<S: Source> Source for Metered<S> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        if !self.budget.may_fetch((buf.len() as u64).saturating_add(READ_BYTES)) {
            return Err(FormatError::Source("the file asks for more than its size justifies".to_owned()));
        }
        self.source.read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Data, Hdf5File, Hdf5Writer};
    use super::*;

    /// A file of `tests/fixtures/make_hostile.py`.
    macro_rules! hostile {
        ($name:literal) => {
            open(include_bytes!(concat!("../../../tests/fixtures/fuzz/hdf5_matrix/", $name)))
        };
    }

    fn open(bytes: &[u8]) -> Hdf5File {
        Hdf5File::from_bytes(bytes.to_vec(), Limits::default()).unwrap()
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Hdf5Error>) {
        let error = result.unwrap_err();
        assert!(matches!(error, Hdf5Error::FileTooLarge { .. }), "{error}");
    }

    #[test]
    fn one_chunk_under_many_names_is_read_some_times_and_then_refused() {
        let file = hostile!("many-names.h5");
        let reads: Vec<_> = (0..16).map(|name| file.read_u32(&name.to_string())).collect();
        assert_eq!(reads[0].as_ref().unwrap().len(), 2_000_000);
        refused(reads.into_iter().next_back().unwrap());
        // Nor is anything else said of it from then on.
        refused(file.kind("0"));
        refused(file.members(""));
    }

    #[test]
    fn chunks_that_hold_nothing_take_memory_too() {
        refused(hostile!("no-chunks.h5").read_u8("0"));
        refused(hostile!("no-chunks.h5").integer_chunks("0"));
    }

    #[test]
    fn one_text_that_many_strings_share_counts_for_each() {
        refused(hostile!("one-text.h5").read_strings("0"));
        assert_eq!(hostile!("one-text.h5").read_strings("first").unwrap(), ["x".repeat(8192)]);
    }

    #[test]
    fn what_one_question_fetches_is_held_to_the_budget_and_all_of_them_to_much_more() {
        let budget = Budget::new(0, Limits::default());
        assert!(budget.may_fetch(FLOOR_BYTES) && !budget.may_fetch(1));
        refused(budget.charge("name", 0));
        let budget = Budget::new(0, Limits::default());
        for _ in 0..FETCHES {
            budget.charge("name", 0).unwrap();
            assert!(budget.may_fetch(FLOOR_BYTES));
        }
        budget.charge("name", 0).unwrap();
        assert!(!budget.may_fetch(1));
    }

    #[test]
    fn a_file_may_be_read_twice_however_well_it_is_compressed() {
        // Zeros, which deflate best, and far more of them than the floor allows.
        let mut writer = Hdf5Writer::new();
        writer.dataset("zeros", &[4_000_000], Data::I32(vec![0; 4_000_000])).unwrap();
        let bytes = writer.finish().unwrap();
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let file = open(&bytes);
        for _ in 0..2 {
            assert_eq!(file.read_f32("zeros").unwrap().len(), 4_000_000);
        }
    }
}
