//! HDF5, as little of it as the formats of the field need.
//!
//! Everything that knows the library behind it stands in this folder: the rest of the project sees paths, shapes and
//! plain vectors, so the library can be replaced without touching a format.

mod budget;
mod chunks;
mod deflate;
mod read;
mod stream;
mod write;

pub use chunks::IntegerChunks;
pub use deflate::{Chunk, ChunkCompressor, Feed, InTurn};
pub use read::Hdf5File;
pub(crate) use read::STRING_BYTES;
pub use stream::List;
pub use write::{Data, Hdf5Writer};

/// How much memory a file may ask for.
///
/// A dataset is refused before it is read when it would decode to more than [`Limits::dataset_bytes`], or to more than
/// its file could hold at the best compression that HDF5's filters reach. So is everything after a file took 1,100 times
/// its size and 64 MiB, or [`Limits::file_bytes`]: its elements as stored and as handed out, its names and attributes,
/// counted at each read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that one dataset may decode to.
    pub dataset_bytes: u64,
    /// Most bytes that all reads from one opened file may take together.
    pub file_bytes: u64,
}

impl Default for Limits {
    /// 8 GiB for a dataset and 64 GiB for a file on the host, 1 GiB and 3 GiB where addresses have 32 bits.
    fn default() -> Self {
        let gib = |count: u64| count << 30;
        let (dataset, file) = if usize::BITS > 32 { (8, 64) } else { (1, 3) };
        Self { dataset_bytes: gib(dataset), file_bytes: gib(file) }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder of further objects.
    Group,
    /// An array.
    Dataset,
}

/// What the elements of a dataset are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// IEEE floating point.
    Float,
    /// Integers of any width.
    Integer,
    /// A two-valued enumeration, as h5py writes booleans.
    Flag,
    /// Strings, of fixed or variable length.
    Text,
    /// Anything else, described.
    Other(String),
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Element::Float => f.write_str("floating point"),
            Element::Integer => f.write_str("integers"),
            Element::Flag => f.write_str("booleans"),
            Element::Text => f.write_str("strings"),
            Element::Other(description) => f.write_str(description),
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// One string.
    Text(String),
    /// Several strings.
    Texts(Vec<String>),
    /// Integers; one for a scalar.
    Integers(Vec<i64>),
    /// Floating point; one for a scalar.
    Numbers(Vec<f64>),
}

impl Attribute {
    /// The value as one string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Attribute::Text(text) => Some(text),
            Attribute::Texts(texts) => match texts.as_slice() {
                [text] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value as strings. An empty array of any type counts as no strings, because writers store it so.
    pub fn texts(&self) -> Option<Vec<String>> {
        match self {
            Attribute::Text(text) => Some(vec![text.clone()]),
            Attribute::Texts(texts) => Some(texts.clone()),
            Attribute::Integers(values) if values.is_empty() => Some(Vec::new()),
            Attribute::Numbers(values) if values.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }

    /// The value as integers.
    pub fn integers(&self) -> Option<&[i64]> {
        match self {
            Attribute::Integers(values) => Some(values),
            _ => None,
        }
    }
}

/// Why an HDF5 file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Hdf5Error {
    /// The bytes are no HDF5 file, or not one that can be opened.
    #[error("expected an HDF5 file, found {found}")]
    NotHdf5 {
        /// What the bytes look like instead.
        found: String,
    },
    /// An object is absent.
    #[error("{object}: expected {expected}, found nothing at this path")]
    Missing {
        /// Path of the object.
        object: String,
        /// What should be there.
        expected: String,
    },
    /// An object is of another kind, type or shape.
    #[error("{object}: expected {expected}, found {found}")]
    Mismatch {
        /// Path of the object.
        object: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A dataset asks for more memory than allowed.
    #[error("{object}: expected at most {limit} bytes once decoded, found a dataset of {bytes} bytes")]
    TooLarge {
        /// Path of the dataset.
        object: String,
        /// Size that it declares.
        bytes: u64,
        /// Size that is allowed.
        limit: u64,
    },
    /// Reading a file took more memory than its size justifies.
    #[error(
        "{object}: expected at most {limit} bytes to be read and decoded from a file of this size, found more (is it \
         damaged?)"
    )]
    FileTooLarge {
        /// Path of the object that was read.
        object: String,
        /// What all reads of the file may take.
        limit: u64,
    },
    /// The stored bytes contradict themselves.
    #[error("{object}: expected readable HDF5 storage, found damage: {reason}")]
    Damaged {
        /// Path of the object.
        object: String,
        /// The library's account of it.
        reason: String,
    },
    /// An object could not be written.
    #[error("{object}: cannot be written: {reason}")]
    Write {
        /// Path of the object.
        object: String,
        /// What stood in the way.
        reason: String,
    },
}
