//! Bytes of a file, by range.

use std::fs::File;
use std::io;
use std::path::Path;
#[cfg(not(unix))]
use std::sync::{Mutex, PoisonError};

use magnet_core::slide::RangeRead;

/// A file that several threads read at any place at a time.
#[derive(Debug)]
pub struct FileRange {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: Mutex<File>,
    len: u64,
}

impl FileRange {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// The bytes that an open file has now.
    ///
    /// # Errors
    /// If the file system does not tell how many they are.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        #[cfg(not(unix))]
        let file = Mutex::new(file);
        Ok(Self { file, len })
    }
}

impl RangeRead for FileRange {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset);
        #[cfg(not(unix))]
        {
            use std::io::{Read, Seek};
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(io::SeekFrom::Start(offset))?;
            file.read_exact(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_any_place_and_never_beyond_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, [1, 2, 3, 4, 5]).unwrap();
        let file = FileRange::open(&path).unwrap();
        let mut out = [0; 3];
        file.read_at(2, &mut out).unwrap();
        assert_eq!((out, file.len()), ([3, 4, 5], 5));
        assert_eq!(file.read_at(3, &mut out).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
