use std::collections::BTreeMap;
use std::io::{Read, Seek};

use hdf5_pure::{
    AttrValue, DType, Dataset, DatatypeByteOrder, Error, File, FormatError, ReadSeekSource,
    VlenStringReadOptions,
};

use super::{Attribute, Element, Hdf5Error, IntegerChunks, Kind, Limits};

/// Deflate never expands more than about 1,032-fold; a dataset that claims more was not stored in its file.
const LARGEST_EXPANSION: u64 = 1_100;
/// Small files may declare chunks far larger than their content.
const SLACK_BYTES: u64 = 16 << 20;
/// Elements converted at a time where the stored type and the wanted one differ.
const WINDOW: u64 = 1 << 20;

/// HDF5's number of the deflate filter.
const DEFLATE: u16 = 1;
/// HDF5's number of the filter that puts the first bytes of all elements first, then the second ones, and so on.
const SHUFFLE: u16 = 2;

/// An HDF5 file opened for reading.
pub struct Hdf5File {
    file: File,
    /// Most bytes that a dataset may decode to.
    limit_bytes: u64,
    /// Most bytes that a dataset can hold as stored, given the file's size.
    possible_bytes: u64,
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
        let size = bytes.len() as u64;
        let start: Vec<u8> = bytes.iter().take(8).copied().collect();
        let file = File::from_bytes(bytes).map_err(|error| not_hdf5(size, &start, &error))?;
        Ok(Self::new(file, size, limits))
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
        let file = File::from_source(source).map_err(|error| not_hdf5(size, &start, &error))?;
        Ok(Self::new(file, size, limits))
    }

    fn new(file: File, size: u64, limits: Limits) -> Self {
        let possible = size.saturating_mul(LARGEST_EXPANSION).saturating_add(SLACK_BYTES);
        Self { file, limit_bytes: limits.dataset_bytes, possible_bytes: possible }
    }

    /// What `path` leads to, or `None` when nothing is there.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`] when the way there cannot be read.
    pub fn kind(&self, path: &str) -> Result<Option<Kind>, Hdf5Error> {
        match self.file.group(path) {
            Ok(_) => Ok(Some(Kind::Group)),
            // A component on the way that is a dataset means that nothing lies below it.
            Err(Error::NotAGroup(_)) => match self.file.dataset(path) {
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
        let groups = handle.groups().map_err(|error| damaged(group, &error))?;
        let datasets = handle.datasets().map_err(|error| damaged(group, &error))?;
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
        let raw = raw.map_err(|error| damaged(path, &error))?;
        Ok(raw.into_iter().filter_map(|(name, value)| Some((name, attribute(&value)?))).collect())
    }

    /// The shape of a dataset; empty for a scalar.
    ///
    /// # Errors
    /// When `path` is no dataset, or is longer than this machine can address.
    pub fn shape(&self, path: &str) -> Result<Vec<usize>, Hdf5Error> {
        let shape = self.dataset(path)?.shape().map_err(|error| damaged(path, &error))?;
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
        Ok(element(&self.dataset(path)?.dtype().map_err(|error| damaged(path, &error))?))
    }

    /// All elements of a numeric dataset, row-major.
    ///
    /// # Errors
    /// When `path` is no dataset of numbers, is too large, or cannot be decoded.
    pub fn read_f32(&self, path: &str) -> Result<Vec<f32>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Float, Element::Integer], "numbers")?;
        if let Some(values) = half_precision(path, &dataset)? {
            return Ok(values.into_iter().map(half::f16::to_f32).collect());
        }
        dataset.read_f32().map_err(|error| damaged(path, &error))
    }

    /// All elements of a numeric dataset, row-major.
    ///
    /// # Errors
    /// As [`Hdf5File::read_f32`].
    pub fn read_f64(&self, path: &str) -> Result<Vec<f64>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Float, Element::Integer], "numbers")?;
        if let Some(values) = half_precision(path, &dataset)? {
            return Ok(values.into_iter().map(half::f16::to_f64).collect());
        }
        dataset.read_f64().map_err(|error| damaged(path, &error))
    }

    /// All elements of an integer dataset, row-major.
    ///
    /// # Errors
    /// As [`Hdf5File::read_f32`]; floating point is refused rather than rounded.
    pub fn read_i64(&self, path: &str) -> Result<Vec<i64>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers")?;
        if matches!(dataset.dtype(), Ok(DType::U64)) {
            let values = dataset.read_u64().map_err(|error| damaged(path, &error))?;
            let narrow = |value: u64| i64::try_from(value).map_err(|_| out_of_range(path, value));
            return values.into_iter().map(narrow).collect();
        }
        dataset.read_i64().map_err(|error| damaged(path, &error))
    }

    /// All elements of an integer dataset whose values fit 32 bits without a sign, row-major. Not for scalars.
    ///
    /// # Errors
    /// As [`Hdf5File::read_i64`]; and when a value is negative or larger.
    pub fn read_u32(&self, path: &str) -> Result<Vec<u32>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers")?;
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
        let dataset = self.bounded(path, &[Element::Integer], "unsigned bytes")?;
        match dataset.dtype().map_err(|error| damaged(path, &error))? {
            DType::U8 => dataset.read_u8().map_err(|error| damaged(path, &error)),
            other => Err(mismatch(path, "unsigned bytes", format!("{other:?}"))),
        }
    }

    /// All elements of a boolean dataset.
    ///
    /// # Errors
    /// When `path` is no dataset of booleans as h5py writes them.
    pub fn read_flags(&self, path: &str) -> Result<Vec<bool>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Flag], "booleans")?;
        let raw = dataset.read_raw().map_err(|error| damaged(path, &error))?;
        Ok(raw.into_iter().map(|byte| byte != 0).collect())
    }

    /// All elements of a dataset of strings.
    ///
    /// # Errors
    /// When `path` is no dataset of strings, is too large, or cannot be decoded.
    pub fn read_strings(&self, path: &str) -> Result<Vec<String>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Text], "strings")?;
        if matches!(dataset.dtype(), Ok(DType::VariableLengthString)) {
            let limit = usize::try_from(self.limit_bytes).unwrap_or(usize::MAX);
            let options = VlenStringReadOptions::new().with_max_payload_bytes(limit);
            return dataset.read_vlen_strings(options).map_err(|error| damaged(path, &error));
        }
        dataset.read_string().map_err(|error| damaged(path, &error))
    }

    /// How a one-dimensional dataset of little-endian integers is stored, for a reader that decodes its chunks itself,
    /// several at a time. `None` where the storage is of another kind; [`Hdf5File::read_u32`] and its like read it all
    /// the same.
    ///
    /// # Errors
    /// As [`Hdf5File::read_i64`].
    pub fn integer_chunks(&self, path: &str) -> Result<Option<IntegerChunks>, Hdf5Error> {
        let dataset = self.bounded(path, &[Element::Integer], "integers")?;
        let shape = dataset.shape().map_err(|error| damaged(path, &error))?;
        let chunk = dataset.chunk_shape().map_err(|error| damaged(path, &error))?.unwrap_or_default();
        let (&[elements], &[chunk_elements]) = (shape.as_slice(), chunk.as_slice()) else { return Ok(None) };
        let datatype = dataset.datatype().map_err(|error| damaged(path, &error))?;
        let hdf5_pure::Datatype::FixedPoint { size, byte_order, layout } = datatype else { return Ok(None) };
        let whole = layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8;
        let little = byte_order == hdf5_pure::DatatypeByteOrder::LittleEndian;
        // In the order in which they were applied.
        let shuffled = match dataset.filters().as_slice() {
            [DEFLATE] => false,
            [SHUFFLE, DEFLATE] => true,
            _ => return Ok(None),
        };
        if !whole || !little || chunk_elements == 0 || !(1..=8).contains(&size) {
            return Ok(None);
        }
        let Ok(chunks) = dataset.chunks() else { return Ok(None) };
        let mut places = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (&[first], 0) = (chunk.offset.as_slice(), chunk.filter_mask) else { return Ok(None) };
            places.push((first, chunk.address, chunk.storage_size));
        }
        places.sort_unstable();
        // Every chunk once and none missing, where fill values would stand.
        let complete = places.len() as u64 == elements.div_ceil(chunk_elements)
            && places
                .iter()
                .zip(0_u64..)
                .all(|(place, number)| Some(place.0) == number.checked_mul(chunk_elements));
        if !complete {
            return Ok(None);
        }
        let size_of = |value: u64| {
            usize::try_from(value).map_err(|_| Hdf5Error::TooLarge {
                object: path.to_owned(),
                bytes: value,
                limit: self.limit_bytes,
            })
        };
        Ok(Some(IntegerChunks {
            object: path.to_owned(),
            elements: size_of(elements)?,
            chunk_elements: size_of(chunk_elements)?,
            width: size as usize,
            signed: layout.signed,
            shuffled,
            places: places.into_iter().map(|(_, address, bytes)| (address, bytes)).collect(),
        }))
    }

    fn group(&self, path: &str) -> Result<hdf5_pure::Group, Hdf5Error> {
        self.file.group(path).map_err(|error| match error {
            Error::NotAGroup(_) => mismatch(path, "a group", "a dataset".to_owned()),
            error if is_absent(&error) => missing(path, "a group"),
            error => damaged(path, &error),
        })
    }

    fn dataset(&self, path: &str) -> Result<Dataset, Hdf5Error> {
        self.file.dataset(path).map_err(|error| match error {
            Error::NotADataset(_) => mismatch(path, "a dataset", "a group".to_owned()),
            Error::NotAGroup(_) => missing(path, "a dataset"),
            error if is_absent(&error) => missing(path, "a dataset"),
            error => damaged(path, &error),
        })
    }

    /// Opens a dataset whose elements are of an accepted kind and whose decoded size is within the limit.
    fn bounded(&self, path: &str, accepted: &[Element], expected: &str) -> Result<Dataset, Hdf5Error> {
        let dataset = self.dataset(path)?;
        let found = element(&dataset.dtype().map_err(|error| damaged(path, &error))?);
        if !accepted.contains(&found) {
            return Err(mismatch(path, expected, found.to_string()));
        }
        let stored_width = dataset.element_size().map_err(|error| damaged(path, &error))?;
        // A decoded element takes up to eight bytes whatever its stored width.
        let bounds = [(stored_width, self.possible_bytes), (stored_width.max(8), self.limit_bytes)];
        let shape = dataset.shape().map_err(|error| damaged(path, &error))?;
        let chunk = dataset.chunk_shape().map_err(|error| damaged(path, &error))?.unwrap_or_default();
        for sides in [shape, chunk] {
            for (width, limit) in bounds {
                let bytes = sides.iter().fold(width, |bytes, &side| bytes.saturating_mul(side));
                if bytes > limit {
                    return Err(Hdf5Error::TooLarge { object: path.to_owned(), bytes, limit });
                }
            }
        }
        Ok(dataset)
    }

    /// Reads window by window, so that no copy of the whole dataset in the wider type is ever held.
    fn converted<Wide: Copy + std::fmt::Display, Narrow>(
        &self,
        path: &str,
        dataset: &Dataset,
        narrow: impl Fn(Wide) -> Option<Narrow>,
        read_rows: impl Fn(&Dataset, u64, u64) -> Result<Vec<Wide>, Error>,
    ) -> Result<Vec<Narrow>, Hdf5Error> {
        let shape = dataset.shape().map_err(|error| damaged(path, &error))?;
        let rows = shape.first().copied().unwrap_or(1);
        let row_elements = shape.iter().skip(1).product::<u64>().max(1);
        // Whole chunks, so that none is decompressed twice.
        let chunk_rows = dataset.chunk_shape().ok().flatten().and_then(|chunk| chunk.first().copied());
        let chunk_rows = chunk_rows.unwrap_or(1).max(1);
        let step = (WINDOW / row_elements).max(1).next_multiple_of(chunk_rows).min(rows.max(1));
        let mut out = Vec::new();
        let mut start = 0;
        while start < rows {
            let window =
                read_rows(dataset, start, step.min(rows - start)).map_err(|error| damaged(path, &error))?;
            out.reserve(window.len());
            for value in window {
                out.push(narrow(value).ok_or_else(|| out_of_range(path, value))?);
            }
            start += step;
        }
        Ok(out)
    }
}

/// The elements of a half-precision dataset, which the library does not convert; `None` for any other.
fn half_precision(path: &str, dataset: &Dataset) -> Result<Option<Vec<half::f16>>, Hdf5Error> {
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
    let raw = dataset.read_raw().map_err(|error| damaged(path, &error))?;
    Ok(Some(raw.as_chunks::<2>().0.iter().map(|&bytes| decode(bytes)).collect()))
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

fn damaged(path: &str, error: &Error) -> Hdf5Error {
    Hdf5Error::Damaged { object: path.to_owned(), reason: error.to_string() }
}
