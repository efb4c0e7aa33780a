use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};
use std::sync::Arc;

use hdf5_pure::{
    AttrValue, DType, Dataset, DatatypeByteOrder, Error, File, FormatError, ReadSeekSource,
    VlenStringReadOptions,
};

use super::budget::{Budget, Metered, possible_bytes};
use super::{Attribute, Element, Hdf5Error, Kind, Limits};

/// Elements converted at a time where the stored type and the wanted one differ.
const WINDOW: u64 = 1 << 20;

/// What looking at an object takes, apart from what it holds.
const OBJECT_BYTES: u64 = 512;
/// What the library keeps of each chunk of a dataset, whether it is stored or not.
const CHUNK_BYTES: u64 = 128;
/// What a string takes apart from its text, with the reference that leads to it.
pub(crate) const STRING_BYTES: u64 = 64;

/// An HDF5 file opened for reading.
pub struct Hdf5File {
    file: File,
    /// Most bytes that a dataset may decode to.
    pub(super) limit_bytes: u64,
    /// Most bytes that a dataset can hold as stored, given the file's size.
    possible_bytes: u64,
    /// Bytes of the file.
    size: u64,
    /// What may still be read of the file.
    budget: Arc<Budget>,
}

impl std::fmt::Debug for Hdf5File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hdf5File").field("limit_bytes", &self.limit_bytes).finish_non_exhaustive()
    }
}

impl Hdf5File {
    /// Opens a file held in memory.
    ///
    /// # Errors
    /// [`Hdf5Error::NotHdf5`] when the bytes are something else or end early.
    pub fn from_bytes(bytes: Vec<u8>, limits: Limits) -> Result<Self, Hdf5Error> {
        Self::from_reader(Cursor::new(bytes), limits)
    }

    /// Opens a file that is read piece by piece, so that only the datasets asked for are ever in memory.
    ///
    /// # Errors
    /// [`Hdf5Error::NotHdf5`] when the content is something else, ends early or cannot be read.
    pub fn from_reader<R>(mut reader: R, limits: Limits) -> Result<Self, Hdf5Error>
    where
        R: Read + Seek + Send + 'static,
    {
        let mut start = Vec::new();
        reader
            .by_ref()
            .take(8)
            .read_to_end(&mut start)
            .map_err(|error| Hdf5Error::NotHdf5 { found: format!("an unreadable file ({error})") })?;
        let source =
            ReadSeekSource::new(reader).map_err(|error| Hdf5Error::NotHdf5 { found: error.to_string() })?;
        let size = hdf5_pure::Source::len(&source);
        let budget = Arc::new(Budget::new(size, limits));
        let source = Metered { source, budget: budget.clone() };
        let file = File::from_source(source).map_err(|error| not_hdf5(size, &start, &error))?;
        let (limit_bytes, possible_bytes) = (limits.dataset_bytes, possible_bytes(size));
        Ok(Self { file, limit_bytes, possible_bytes, size, budget })
    }

    /// Counts `bytes` that are to be made of the content of `object`, before they are.
    ///
    /// # Errors
    /// [`Hdf5Error::FileTooLarge`] when the file's size does not justify them.
    pub(crate) fn charge(&self, object: &str, bytes: u64) -> Result<(), Hdf5Error> {
        self.budget.charge(object, bytes)
    }

    /// What the library says of `path`.
    pub(super) fn whole<T>(&self, path: &str, result: Result<T, Error>) -> Result<T, Hdf5Error> {
        self.budget.within(path, result)?.map_err(|error| damaged(path, &error))
    }

    /// What `path` leads to, or `None` when nothing is there.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`] when the way there cannot be read.
    pub fn kind(&self, path: &str) -> Result<Option<Kind>, Hdf5Error> {
        self.charge(path, OBJECT_BYTES)?;
        match self.budget.within(path, self.file.group(path))? {
            Ok(_) => Ok(Some(Kind::Group)),
            // A component on the way that is a dataset means that nothing lies below it.
            Err(Error::NotAGroup(_)) => match self.budget.within(path, self.file.dataset(path))? {
                Ok(_) => Ok(Some(Kind::Dataset)),
                Err(Error::NotADataset(_) | Error::NotAGroup(_)) => Ok(None),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(damaged(path, &error)),
            },
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(damaged(path, &error)),
        }
    }

    /// Names of the objects in a group, in alphabetical order.
    ///
    /// # Errors
    /// When `group` is no group or cannot be read.
    pub fn members(&self, group: &str) -> Result<Vec<(String, Kind)>, Hdf5Error> {
        let handle = self.group(group)?;
        let groups = self.whole(group, handle.groups())?;
        let datasets = self.whole(group, handle.datasets())?;
        let names = groups.iter().chain(&datasets).map(|name| OBJECT_BYTES + name.len() as u64);
        self.charge(group, names.sum())?;
        let mut members: Vec<(String, Kind)> = groups.into_iter().map(|name| (name, Kind::Group)).collect();
        members.extend(datasets.into_iter().map(|name| (name, Kind::Dataset)));
        members.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(members)
    }

    /// The attributes of a group or dataset; those of a type not listed in [`Attribute`] are left out.
    ///
    /// # Errors
    /// When nothing is at `path` or its attributes cannot be read.
    pub fn attributes(&self, path: &str) -> Result<BTreeMap<String, Attribute>, Hdf5Error> {
        let raw = match self.kind(path)? {
            Some(Kind::Group) => self.group(path)?.attrs(),
            Some(Kind::Dataset) => self.dataset(path)?.attrs(),
            None => return Err(missing(path, "a group or dataset")),
        };
        let raw = self.whole(path, raw)?;
        self.charge(path, raw.iter().map(|(name, value)| name.len() as u64 + size_of_value(value)).sum())?;
        Ok(raw.into_iter().filter_map(|(name, value)| Some((name, attribute(&value)?))).collect())
    }

    /// The shape of a dataset; empty for a scalar.
    ///
    /// # Errors
    /// When `path` is no dataset, or is longer than this machine can address.
    pub fn shape(&self, path: &str) -> Result<Vec<usize>, Hdf5Error> {
        let shape = self.whole(path, self.dataset(path)?.shape())?;
        shape
            .iter()
            .map(|&side| {
                usize::try_from(side).map_err(|_| Hdf5Error::TooLarge {
                    object: path.to_owned(),
                    bytes: side,
                    limit: self.limit_bytes,
                })
            })
            .collect()
    }

    /// What the elements of a dataset are.
    ///
    /// # Errors
    /// When `path` is no dataset.
    pub fn element(&self, path: &str) -> Result<Element, Hdf5Error> {
        Ok(element(&self.whole(path, self.dataset(path)?.dtype())?))
    }

    /// All elements of a numeric dataset, row-major.
    ///
    /// # Errors
    /// When `path` is no dataset of numbers, is too large, or cannot be decoded.
    pub fn read_f32(&self, path: &str) -> Result<Vec<f32>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Float, Element::Integer], "numbers", 4)?;
        if let Some(values) = self.half_precision(path, &dataset)? {
            return Ok(values.into_iter().map(half::f16::to_f32).collect());
        }
        self.whole(path, dataset.read_f32())
    }

    /// All elements of a numeric dataset, row-major.
    ///
    /// # Errors
    /// As [`Hdf5File::read_f32`].
    pub fn read_f64(&self, path: &str) -> Result<Vec<f64>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Float, Element::Integer], "numbers", 8)?;
        if let Some(values) = self.half_precision(path, &dataset)? {
            return Ok(values.into_iter().map(half::f16::to_f64).collect());
        }
        self.whole(path, dataset.read_f64())
    }

    /// All elements of an integer dataset, row-major.
    ///
    /// # Errors
    /// As [`Hdf5File::read_f32`]; floating point is refused rather than rounded.
    pub fn read_i64(&self, path: &str) -> Result<Vec<i64>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers", 8)?;
        if matches!(dataset.dtype(), Ok(DType::U64)) {
            let values = self.whole(path, dataset.read_u64())?;
            let narrow = |value: u64| i64::try_from(value).map_err(|_| out_of_range(path, value));
            return values.into_iter().map(narrow).collect();
        }
        self.whole(path, dataset.read_i64())
    }

    /// All elements of an integer dataset whose values fit 32 bits without a sign, row-major. Not for scalars.
    ///
    /// # Errors
    /// As [`Hdf5File::read_i64`]; and when a value is negative or larger.
    pub fn read_u32(&self, path: &str) -> Result<Vec<u32>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers", 4)?;
        match dataset.dtype() {
            Ok(DType::U64) => {
                self.converted(path, &dataset, |value: u64| u32::try_from(value).ok(), Dataset::read_u64_rows)
            }
            _ => {
                self.converted(path, &dataset, |value: i64| u32::try_from(value).ok(), Dataset::read_i64_rows)
            }
        }
    }

    /// All elements of a dataset of unsigned bytes, row-major.
    ///
    /// # Errors
    /// As [`Hdf5File::read_f32`]; wider integers are refused.
    pub fn read_u8(&self, path: &str) -> Result<Vec<u8>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "unsigned bytes", 1)?;
        match self.whole(path, dataset.dtype())? {
            DType::U8 => self.whole(path, dataset.read_u8()),
            other => Err(mismatch(path, "unsigned bytes", format!("{other:?}"))),
        }
    }

    /// All elements of a boolean dataset.
    ///
    /// # Errors
    /// When `path` is no dataset of booleans as h5py writes them.
    pub fn read_flags(&self, path: &str) -> Result<Vec<bool>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Flag], "booleans", 1)?;
        let raw = self.whole(path, dataset.read_raw())?;
        Ok(raw.into_iter().map(|byte| byte != 0).collect())
    }

    /// All elements of a dataset of strings.
    ///
    /// # Errors
    /// When `path` is no dataset of strings, is too large, or cannot be decoded.
    pub fn read_strings(&self, path: &str) -> Result<Vec<String>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Text], "strings", STRING_BYTES)?;
        if matches!(dataset.dtype(), Ok(DType::VariableLengthString)) {
            // Fetching each text counts, but several may be one text in the file: they are added up before that.
            let bytes = self.whole(path, dataset.vlen_string_payload_size())?;
            self.charge(path, bytes)?;
            let limit = usize::try_from(self.limit_bytes.min(bytes)).unwrap_or(usize::MAX);
            let options = VlenStringReadOptions::new().with_max_payload_bytes(limit);
            return self.whole(path, dataset.read_vlen_strings(options));
        }
        self.whole(path, dataset.read_string())
    }

    fn group(&self, path: &str) -> Result<hdf5_pure::Group, Hdf5Error> {
        self.charge(path, OBJECT_BYTES)?;
        self.budget.within(path, self.file.group(path))?.map_err(|error| match error {
            Error::NotAGroup(_) => mismatch(path, "a group", "a dataset".to_owned()),
            error if is_absent(&error) => missing(path, "a group"),
            error => damaged(path, &error),
        })
    }

    fn dataset(&self, path: &str) -> Result<Dataset, Hdf5Error> {
        self.charge(path, OBJECT_BYTES)?;
        self.budget.within(path, self.file.dataset(path))?.map_err(|error| match error {
            Error::NotADataset(_) => mismatch(path, "a dataset", "a group".to_owned()),
            Error::NotAGroup(_) => missing(path, "a dataset"),
            error if is_absent(&error) => missing(path, "a dataset"),
            error => damaged(path, &error),
        })
    }

    /// Opens a dataset whose elements are of an accepted kind, and counts what reading all of it takes: its elements as
    /// stored and as `result_bytes` each, and one chunk.
    pub(super) fn bounded(
        &self,
        path: &str,
        accepted: &[Element],
        expected: &str,
        result_bytes: u64,
    ) -> Result<Dataset, Hdf5Error> {
        let dataset = self.dataset(path)?;
        let found = element(&self.whole(path, dataset.dtype())?);
        if !accepted.contains(&found) {
            return Err(mismatch(path, expected, found.to_string()));
        }
        let stored_width = self.whole(path, dataset.element_size())?;
        // A decoded element takes up to eight bytes whatever its stored width.
        let bounds = [(stored_width, self.possible_bytes), (stored_width.max(8), self.limit_bytes)];
        let shape = self.whole(path, dataset.shape())?;
        let chunk = self.whole(path, dataset.chunk_shape())?.unwrap_or_default();
        let product = |sides: &[u64], one: u64| sides.iter().fold(one, |all, &side| all.saturating_mul(side));
        for sides in [&shape, &chunk] {
            for (width, limit) in bounds {
                let bytes = product(sides, width);
                if bytes > limit {
                    return Err(Hdf5Error::TooLarge { object: path.to_owned(), bytes, limit });
                }
            }
        }
        let mut bytes = product(&shape, stored_width.saturating_add(result_bytes));
        if !chunk.is_empty() {
            let chunks = shape.iter().zip(&chunk).map(|(&side, &part)| side.div_ceil(part.max(1)));
            let chunks = chunks.fold(CHUNK_BYTES, u64::saturating_mul);
            bytes = bytes.saturating_add(chunks).saturating_add(product(&chunk, stored_width));
        }
        self.charge(path, bytes)?;
        if !chunk.is_empty() {
            self.check_chunks(path, &dataset)?;
        }
        Ok(dataset)
    }

    /// Refuses chunks that lie past the file's end: the library takes memory for a stored chunk before it looks for one.
    fn check_chunks(&self, path: &str, dataset: &Dataset) -> Result<(), Hdf5Error> {
        // Where they cannot be listed they cannot be read either, and reading says why.
        let Ok(chunks) = dataset.chunks() else { return Ok(()) };
        let passes = |chunk: &&hdf5_pure::Chunk| {
            chunk.address.checked_add(chunk.storage_size).is_none_or(|end| end > self.size)
        };
        match chunks.iter().find(passes) {
            None => Ok(()),
            Some(chunk) => Err(Hdf5Error::Damaged {
                object: path.to_owned(),
                reason: format!(
                    "a chunk of {} bytes at {} passes the end of the file at {}",
                    chunk.storage_size, chunk.address, self.size
                ),
            }),
        }
    }

    /// Reads window by window, so that no copy of the whole dataset in the wider type is ever held.
    fn converted<Wide: Copy + std::fmt::Display, Narrow>(
        &self,
        path: &str,
        dataset: &Dataset,
        narrow: impl Fn(Wide) -> Option<Narrow>,
        read_rows: impl Fn(&Dataset, u64, u64) -> Result<Vec<Wide>, Error>,
    ) -> Result<Vec<Narrow>, Hdf5Error> {
        let shape = self.whole(path, dataset.shape())?;
        let rows = shape.first().copied().unwrap_or(1);
        let row_elements = shape.iter().skip(1).product::<u64>().max(1);
        // Whole chunks, so that none is decompressed twice.
        let chunk_rows = dataset.chunk_shape().ok().flatten().and_then(|chunk| chunk.first().copied());
        let chunk_rows = chunk_rows.unwrap_or(1).max(1);
        let step = (WINDOW / row_elements).max(1).next_multiple_of(chunk_rows).min(rows.max(1));
        let mut out = Vec::new();
        let mut start = 0;
        while start < rows {
            let window = self.whole(path, read_rows(dataset, start, step.min(rows - start)))?;
            out.reserve(window.len());
            for value in window {
                out.push(narrow(value).ok_or_else(|| out_of_range(path, value))?);
            }
            start += step;
        }
        Ok(out)
    }

    /// The elements of a half-precision dataset, which the library does not convert; `None` for any other.
    fn half_precision(&self, path: &str, dataset: &Dataset) -> Result<Option<Vec<half::f16>>, Hdf5Error> {
        let Ok(DType::Other(datatype)) = dataset.dtype() else { return Ok(None) };
        let hdf5_pure::Datatype::FloatingPoint { size: 2, byte_order, layout } = datatype.as_ref() else {
            return Ok(None);
        };
        if layout.exponent_size != 5 {
            let found = format!("a float with {} exponent bits", layout.exponent_size);
            return Err(mismatch(path, "half, single or double precision", found));
        }
        let decode = match byte_order {
            DatatypeByteOrder::LittleEndian => half::f16::from_le_bytes,
            DatatypeByteOrder::BigEndian => half::f16::from_be_bytes,
            other => return Err(mismatch(path, "little- or big-endian numbers", format!("{other:?}"))),
        };
        let raw = self.whole(path, dataset.read_raw())?;
        Ok(Some(raw.as_chunks::<2>().0.iter().map(|&bytes| decode(bytes)).collect()))
    }
}

fn element(dtype: &DType) -> Element {
    match dtype {
        DType::F32 | DType::F64 => Element::Float,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Element::Integer,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => Element::Integer,
        DType::String | DType::VariableLengthString => Element::Text,
        DType::Enum(names)
            if names.len() == 2 && names.iter().all(|name| name == "FALSE" || name == "TRUE") =>
        {
            Element::Flag
        }
        DType::Other(datatype) => match datatype.as_ref() {
            // Half precision has no class of its own in the library's simple view.
            hdf5_pure::Datatype::FloatingPoint { size: 2, .. } => Element::Float,
            other => Element::Other(format!("{other:?}")),
        },
        other => Element::Other(format!("{other:?}")),
    }
}

fn attribute(value: &AttrValue) -> Option<Attribute> {
    if let Some(texts) = value.as_strings() {
        return Some(match texts {
            [text] if !value.type_name().ends_with("[]") => Attribute::Text(text.clone()),
            texts => Attribute::Texts(texts.to_vec()),
        });
    }
    if let Some(integers) = value.to_i64s() {
        return Some(Attribute::Integers(integers));
    }
    value.to_f64s().map(Attribute::Numbers)
}

/// What the value of an attribute takes, roughly.
fn size_of_value(value: &AttrValue) -> u64 {
    let texts = value.as_strings().unwrap_or_default().iter().map(|text| STRING_BYTES + text.len() as u64);
    texts.sum::<u64>().max(STRING_BYTES)
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Format(FormatError::PathNotFound(_)))
}

fn not_hdf5(size: u64, start: &[u8], error: &Error) -> Hdf5Error {
    let found = if start == b"\x89HDF\r\n\x1a\n" {
        format!("a damaged or truncated one of {size} bytes ({error})")
    } else if size == 0 {
        "an empty file".to_owned()
    } else {
        format!("a file of {size} bytes that begins with {start:02x?}")
    };
    Hdf5Error::NotHdf5 { found }
}

fn missing(path: &str, expected: &str) -> Hdf5Error {
    Hdf5Error::Missing { object: path.to_owned(), expected: expected.to_owned() }
}

fn mismatch(path: &str, expected: &str, found: String) -> Hdf5Error {
    Hdf5Error::Mismatch { object: path.to_owned(), expected: expected.to_owned(), found }
}

fn out_of_range(path: &str, value: impl std::fmt::Display) -> Hdf5Error {
    mismatch(path, "integers in the range that their use allows", value.to_string())
}

pub(super) fn damaged(path: &str, error: &Error) -> Hdf5Error {
    Hdf5Error::Damaged { object: path.to_owned(), reason: error.to_string() }
}
