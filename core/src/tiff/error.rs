//! What can be wrong with a TIFF file. The file's name is the caller's to add.

/// What can be wrong with a TIFF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TiffError {
    /// The medium failed.
    #[error("TIFF, {field}: reading {bytes} bytes at {offset} failed: {detail}")]
    Io {
        /// What was being read.
        field: String,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// How many bytes.
        bytes: u64,
        /// The medium's own words.
        detail: String,
    },
    /// Something lies beyond the end of the file.
    #[error("TIFF, {field}: expected {bytes} bytes at {offset}, found the end of the file at {file_bytes}")]
    BeyondEnd {
        /// What should be there.
        field: String,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// How many bytes.
        bytes: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// A part of the file is not what it must be.
    #[error("TIFF, {field}: expected {expected}, found {found}")]
    Field {
        /// The part: a tag, a tile.
        field: String,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl TiffError {
    /// A part that is not what it must be.
    pub fn field(field: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        Self::Field { field: field.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}
