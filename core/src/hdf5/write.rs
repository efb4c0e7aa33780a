use std::collections::BTreeMap;
use std::io::{Cursor, Seek, SeekFrom, Write};

use hdf5_pure::{AttrValue, DatasetBuilder, EnumTypeBuilder, FileBuilder, GroupBuilder, make_i8_type};

use super::deflate::{ChunkCompressor, InTurn};
use super::stream::{self, List, Source};
use super::{Attribute, Hdf5Error};
use crate::expression::RowSource;

/// Datasets of fewer bytes are stored as they are: compressing them saves nothing.
const SMALLEST_COMPRESSED: usize = 64 << 10;
/// Bytes per chunk of a compressed dataset, before compression.
const CHUNK_BYTES: usize = 512 << 10;
/// Longest side of a chunk. The library writes longer sides in four bytes where three would do, which HDF5 2.0 refuses.
pub(super) const LONGEST_CHUNK_SIDE: usize = 0xFFFF;
/// Deflate at its fastest: level 4 makes counts a third smaller and takes half as long again.
pub(super) const DEFLATE_LEVEL: u32 = 1;

/// The elements of a dataset to be written, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit floating point.
    F64(Vec<f64>),
    /// 8-bit signed integers.
    I8(Vec<i8>),
    /// 32-bit signed integers.
    I32(Vec<i32>),
    /// 64-bit signed integers.
    I64(Vec<i64>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Booleans, in h5py's encoding.
    Flags(Vec<bool>),
    /// Variable-length UTF-8 strings.
    Texts(Vec<String>),
    /// Fixed-width ASCII strings, as Space Ranger writes them.
    FixedTexts(Vec<String>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::I8(values) => values.len(),
            Data::I32(values) => values.len(),
            Data::I64(values) => values.len(),
            Data::U8(values) => values.len(),
            Data::Flags(values) => values.len(),
            Data::Texts(values) | Data::FixedTexts(values) => values.len(),
        }
    }

    /// Bytes per element where the dataset may be compressed; strings and booleans are not.
    fn compressible_width(&self) -> Option<usize> {
        match self {
            Data::F32(_) | Data::I32(_) => Some(4),
            Data::F64(_) | Data::I64(_) => Some(8),
            Data::I8(_) | Data::U8(_) => Some(1),
            Data::Flags(_) | Data::Texts(_) | Data::FixedTexts(_) => None,
        }
    }
}

#[derive(Default)]
struct GroupNode<'a> {
    attributes: Vec<(String, Attribute)>,
    children: BTreeMap<String, Node<'a>>,
}

enum Node<'a> {
    Group(GroupNode<'a>),
    Dataset { content: Content<'a>, attributes: Vec<(String, Attribute)> },
}

enum Content<'a> {
    Held { shape: Vec<usize>, data: Data },
    Unread(Source<'a>),
}

/// An HDF5 file under construction. Large numeric datasets are chunked, shuffled and deflated.
#[derive(Default)]
pub struct Hdf5Writer<'a> {
    root: GroupNode<'a>,
}

/// The large datasets of a file, by path, in the order in which the library met them.
type Streamed<'a> = Vec<(String, Source<'a>)>;

impl<'a> Hdf5Writer<'a> {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes sure that the group at `path` and those above it exist; `""` and `"/"` are the root.
    ///
    /// # Errors
    /// When a dataset stands in the way.
    pub fn group(&mut self, path: &str) -> Result<(), Hdf5Error> {
        self.group_node(path).map(|_| ())
    }

    /// Sets an attribute of an existing dataset, or of a group, which is created where needed.
    ///
    /// # Errors
    /// When a dataset stands where a group should.
    pub fn attribute(&mut self, path: &str, name: &str, value: Attribute) -> Result<(), Hdf5Error> {
        let (parent, last) = split(path);
        let entry = (name.to_owned(), value);
        if !last.is_empty()
            && let Some(Node::Dataset { attributes, .. }) = self.group_node(parent)?.children.get_mut(last)
        {
            attributes.push(entry);
        } else {
            self.group_node(path)?.attributes.push(entry);
        }
        Ok(())
    }

    /// Adds a dataset; `shape` is empty for a scalar. Groups above it are created where needed.
    ///
    /// # Errors
    /// When `shape` does not hold as many elements as `data`, or something is at `path` already.
    pub fn dataset(&mut self, path: &str, shape: &[usize], data: Data) -> Result<(), Hdf5Error> {
        let elements = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        if elements != Some(data.len()) {
            let reason = format!("shape {shape:?} does not hold {} elements", data.len());
            return Err(Hdf5Error::Write { object: path.to_owned(), reason });
        }
        self.add(path, Content::Held { shape: shape.to_vec(), data })
    }

    /// Adds a dataset of 32-bit floating point, `[N,G]`, whose values are read when the file is written. Groups above
    /// it are created where needed.
    ///
    /// # Errors
    /// When something is at `path` already.
    pub fn rows(&mut self, path: &str, rows: &'a dyn RowSource) -> Result<(), Hdf5Error> {
        self.add(path, Content::Unread(Source::Rows(rows)))
    }

    /// Adds a list that is written from where it is. Groups above it are created where needed.
    ///
    /// # Errors
    /// When something is at `path` already.
    pub fn list(&mut self, path: &str, list: List<'a>) -> Result<(), Hdf5Error> {
        self.add(path, Content::Unread(Source::List(list)))
    }

    fn add(&mut self, path: &str, content: Content<'a>) -> Result<(), Hdf5Error> {
        let (parent, last) = split(path);
        let children = &mut self.group_node(parent)?.children;
        if last.is_empty() || children.contains_key(last) {
            let reason = "an object with this name is there already".to_owned();
            return Err(Hdf5Error::Write { object: path.to_owned(), reason });
        }
        children.insert(last.to_owned(), Node::Dataset { content, attributes: Vec::new() });
        Ok(())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When a name, string or attribute has no HDF5 form (an embedded NUL, an attribute past 64 KiB), or rows cannot
    /// be read.
    pub fn finish(self) -> Result<Vec<u8>, Hdf5Error> {
        let mut out = Cursor::new(Vec::new());
        self.finish_to(&mut out, &InTurn)?;
        Ok(out.into_inner())
    }

    /// Writes the file from the start of `out` on. Memory holds everything but what is large of [`Hdf5Writer::rows`] and
    /// [`Hdf5Writer::list`], of which it holds some chunks.
    ///
    /// # Errors
    /// As [`Hdf5Writer::finish`], and when `out` cannot be written.
    pub fn finish_to(
        self,
        out: &mut (impl Write + Seek),
        compressor: &dyn ChunkCompressor,
    ) -> Result<(), Hdf5Error> {
        let mut file = FileBuilder::new();
        let mut streamed = Vec::new();
        for (name, value) in self.root.attributes {
            file.set_attr(&name, attr_value(value));
        }
        for (name, node) in self.root.children {
            match node {
                Node::Group(group) => {
                    let builder = file.create_group(&name);
                    let finished = fill_group(builder, group, &name, &mut streamed)?;
                    file.add_group(finished.finish());
                }
                Node::Dataset { content, attributes } => {
                    fill_dataset(file.create_dataset(&name), content, attributes, &name, &mut streamed)?;
                }
            }
        }
        let mut bytes = file.finish().map_err(|error| write_error("/", &error))?;
        let mut end = bytes.len() as u64;
        for (path, source) in &streamed {
            end = stream::append(&mut bytes, path, *source, compressor, out, end)?;
        }
        if !streamed.is_empty() {
            stream::set_end_of_file(&mut bytes, end).ok_or_else(|| write_error("/", &"no superblock"))?;
        }
        out.seek(SeekFrom::Start(0))
            .and_then(|_| out.write_all(&bytes))
            .and_then(|()| out.seek(SeekFrom::Start(end)))
            .map_err(|error| write_error("/", &error))?;
        Ok(())
    }

    fn group_node(&mut self, path: &str) -> Result<&mut GroupNode<'a>, Hdf5Error> {
        let mut node = &mut self.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let child =
                node.children.entry(name.to_owned()).or_insert_with(|| Node::Group(GroupNode::default()));
            node = match child {
                Node::Group(group) => group,
                Node::Dataset { .. } => {
                    let reason = format!("{name} is a dataset, not a group");
                    return Err(Hdf5Error::Write { object: path.to_owned(), reason });
                }
            };
        }
        Ok(node)
    }
}

fn split(path: &str) -> (&str, &str) {
    let path = path.trim_matches('/');
    path.rsplit_once('/').unwrap_or(("", path))
}

fn fill_group<'a>(
    mut builder: GroupBuilder,
    group: GroupNode<'a>,
    path: &str,
    streamed: &mut Streamed<'a>,
) -> Result<GroupBuilder, Hdf5Error> {
    for (name, value) in group.attributes {
        builder.set_attr(&name, attr_value(value));
    }
    for (name, node) in group.children {
        let child_path = format!("{path}/{name}");
        match node {
            Node::Group(child) => {
                let child = fill_group(builder.create_group(&name), child, &child_path, streamed)?;
                builder.add_group(child.finish());
            }
            Node::Dataset { content, attributes } => {
                fill_dataset(builder.create_dataset(&name), content, attributes, &child_path, streamed)?;
            }
        }
    }
    Ok(builder)
}

fn fill_dataset<'a>(
    builder: &mut DatasetBuilder,
    content: Content<'a>,
    attributes: Vec<(String, Attribute)>,
    path: &str,
    streamed: &mut Streamed<'a>,
) -> Result<(), Hdf5Error> {
    match content {
        Content::Held { shape, data } => fill_held(builder, &shape, data, path)?,
        Content::Unread(source) if source.is_streamed() => {
            let mut two_chunks = source.chunk_shape();
            let chunk: Vec<u64> = two_chunks.iter().map(|&side| side as u64).collect();
            if let Some(last) = two_chunks.last_mut() {
                *last *= 2;
            }
            fill_held(builder, &two_chunks, source.zeros(two_chunks.iter().product()), path)?;
            builder.with_chunks(&chunk).with_deflate(DEFLATE_LEVEL).with_shuffle();
            streamed.push((path.to_owned(), source));
        }
        Content::Unread(source) => {
            let values = source.read().map_err(|error| write_error(path, &error))?;
            fill_held(builder, &source.extents(), values, path)?;
        }
    }
    for (name, value) in attributes {
        builder.set_attr(&name, attr_value(value));
    }
    Ok(())
}

fn fill_held(builder: &mut DatasetBuilder, shape: &[usize], data: Data, path: &str) -> Result<(), Hdf5Error> {
    let extents: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
    let compressible_width = data.compressible_width();
    let elements = data.len();
    match data {
        Data::F32(values) => builder.with_f32_data(&values),
        Data::F64(values) => builder.with_f64_data(&values),
        Data::I8(values) => builder.with_i8_data(&values),
        Data::I32(values) => builder.with_i32_data(&values),
        Data::I64(values) => builder.with_i64_data(&values),
        Data::U8(values) => builder.with_u8_data(&values),
        Data::Flags(values) => {
            let bytes: Vec<u8> = values.into_iter().map(u8::from).collect();
            let boolean = EnumTypeBuilder::with_base(make_i8_type()).value("FALSE", 0).value("TRUE", 1);
            let boolean = boolean.build().map_err(|error| write_error(path, &error))?;
            builder.with_enum_u8_data(boolean, &bytes)
        }
        Data::Texts(values) => {
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            builder.with_vlen_strings(&texts)
        }
        Data::FixedTexts(values) => {
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            builder.with_ascii_strings(&texts).map_err(|error| write_error(path, &error))?
        }
    };
    builder.with_shape(&extents);
    if let Some(width) = compressible_width
        && let Some((&rows, rest)) = shape.split_first()
        && elements * width >= SMALLEST_COMPRESSED
    {
        // Whole rows, as many as a chunk takes.
        let rest: Vec<usize> = rest.iter().map(|&side| side.clamp(1, LONGEST_CHUNK_SIDE)).collect();
        let row_bytes = rest.iter().product::<usize>() * width;
        let chunk_rows = (CHUNK_BYTES / row_bytes).clamp(1, rows.clamp(1, LONGEST_CHUNK_SIDE));
        let chunk: Vec<u64> = [chunk_rows].into_iter().chain(rest).map(|side| side as u64).collect();
        builder.with_chunks(&chunk).with_deflate(DEFLATE_LEVEL);
        if width > 1 {
            builder.with_shuffle();
        }
    }
    Ok(())
}

/// Strings vary in length, as h5py writes them; one number is a scalar.
fn attr_value(value: Attribute) -> AttrValue {
    match value {
        Attribute::Text(text) => AttrValue::VarLenString(text),
        Attribute::Texts(texts) if texts.is_empty() => AttrValue::F64Array(Vec::new()),
        Attribute::Texts(texts) => AttrValue::VarLenStringArray(texts),
        Attribute::Integers(values) => match values.as_slice() {
            [value] => AttrValue::I64(*value),
            _ => AttrValue::I64Array(values),
        },
        Attribute::Numbers(values) => match values.as_slice() {
            [value] => AttrValue::F64(*value),
            _ => AttrValue::F64Array(values),
        },
    }
}

fn write_error(path: &str, error: &dyn std::fmt::Display) -> Hdf5Error {
    Hdf5Error::Write { object: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::{Hdf5File, Limits};
    use super::*;

    #[test]
    fn no_side_of_a_chunk_needs_three_bytes() {
        let mut file = Hdf5Writer::new();
        file.dataset("long", &[70_000], Data::I32(vec![7; 70_000])).unwrap();
        file.dataset("wide", &[2, 70_000], Data::I8((0..140_000).map(|value| value as i8).collect()))
            .unwrap();
        let bytes = file.finish().unwrap();
        let opened = hdf5_pure::File::from_bytes(bytes.clone()).unwrap();
        let chunk = |name: &str| opened.dataset(name).unwrap().chunk_shape().unwrap().unwrap();
        assert_eq!(chunk("long"), [65_535]);
        assert_eq!(chunk("wide"), [2, 65_535]);
        let file = Hdf5File::from_bytes(bytes, Limits::default()).unwrap();
        assert_eq!(file.read_i64("long").unwrap(), vec![7; 70_000]);
        let wide = file.read_i64("wide").unwrap();
        assert!(wide.iter().enumerate().all(|(place, &value)| value == i64::from(place as i8)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut file = Hdf5Writer::new();
        let error = file.dataset("a", &[3], Data::I32(vec![1, 2])).unwrap_err().to_string();
        assert_eq!(error, "a: cannot be written: shape [3] does not hold 2 elements");
        file.dataset("a", &[2], Data::I32(vec![1, 2])).unwrap();
        assert!(file.dataset("a", &[2], Data::I32(vec![1, 2])).is_err());
        assert!(file.dataset("a/b", &[1], Data::I32(vec![1])).is_err());
        assert!(file.group("a").is_err());
    }
}
