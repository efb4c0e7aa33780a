use std::collections::BTreeMap;

use super::{
    AnnData, AnnDataError, Annotation, AxisTable, Column, CompressedMatrix, ReadOptions, RgbImage, Values,
    invalid,
};
use crate::coordinates::SlidePx;
use crate::expression::Matrix;
use crate::hdf5::{Attribute, Element, Hdf5Error, Hdf5File, Kind, STRING_BYTES};

/// Annotations nested deeper than this are left out.
const DEEPEST_ANNOTATION: usize = 16;
/// Parts of a file that are reported in [`AnnData::ignored`] and not read.
const UNREAD_GROUPS: [&str; 4] = ["obsp", "varm", "varp", "raw"];

/// An open `.h5ad` file whose parts are read when they are asked for.
#[derive(Debug, Clone, Copy)]
pub struct AnnDataFile<'a> {
    file: &'a Hdf5File,
}

impl<'a> AnnDataFile<'a> {
    /// Takes an open HDF5 file for AnnData.
    ///
    /// # Errors
    /// When it has no `X`, `obs` or `var`.
    pub fn new(file: &'a Hdf5File) -> Result<Self, AnnDataError> {
        for (part, expected) in
            [("X", "a matrix"), ("obs", "a dataframe group"), ("var", "a dataframe group")]
        {
            if file.kind(part)?.is_none() {
                return Err(invalid(part, expected, "nothing at this path (is this an AnnData file?)"));
            }
        }
        Ok(Self { file })
    }

    /// The observations.
    ///
    /// # Errors
    /// When the table is of another encoding or its columns contradict each other.
    pub fn obs(&self) -> Result<AxisTable, AnnDataError> {
        axis_table(self.file, "obs", &mut Vec::new())
    }

    /// The variables of the matrix at `path`: those of `raw` for `raw/X`, otherwise the main ones.
    ///
    /// # Errors
    /// As [`AnnDataFile::obs`].
    pub fn var_of(&self, path: &str) -> Result<AxisTable, AnnDataError> {
        let table = if path.starts_with("raw/") { "raw/var" } else { "var" };
        axis_table(self.file, table, &mut Vec::new())
    }

    /// The matrices in the file: `X`, `layers/<name>` and `raw/X`.
    ///
    /// # Errors
    /// When a group cannot be read.
    pub fn matrices(&self) -> Result<Vec<String>, AnnDataError> {
        let mut paths = vec!["X".to_owned()];
        paths.extend(self.members("layers")?.into_iter().map(|name| format!("layers/{name}")));
        if self.file.kind("raw/X")?.is_some() {
            paths.push("raw/X".to_owned());
        }
        Ok(paths)
    }

    /// The matrix at `path`, which must be of `shape`, observations × variables.
    ///
    /// # Errors
    /// When nothing is there, it is of another encoding or shape, or its parts contradict each other.
    pub fn matrix(&self, path: &str, shape: (usize, usize)) -> Result<Values, AnnDataError> {
        matrix(self.file, path, shape)
    }

    /// The names in `obsm`.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub fn coordinate_keys(&self) -> Result<Vec<String>, AnnDataError> {
        self.members("obsm")
    }

    /// The points in `obsm/<key>`, column then row, or `None` when there is no such key.
    ///
    /// # Errors
    /// When they are not two (or three) finite numbers for each observation.
    pub fn coordinates(&self, key: &str, observations: usize) -> Result<Option<Vec<SlidePx>>, AnnDataError> {
        let path = format!("obsm/{key}");
        match self.file.kind(&path)? {
            None => Ok(None),
            Some(Kind::Group) => Err(invalid(&path, "an array of coordinates", "a group")),
            Some(Kind::Dataset) => coordinates(self.file, &path, observations).map(Some),
        }
    }

    /// Names of the members of the group at `path`; none when there is no such group.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub fn members(&self, path: &str) -> Result<Vec<String>, AnnDataError> {
        match self.file.kind(path)? {
            Some(Kind::Group) => Ok(self.file.members(path)?.into_iter().map(|(name, _)| name).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The annotation at `path`, such as `uns/spatial/S1/scalefactors`; `None` when there is none.
    ///
    /// # Errors
    /// When something is there and cannot be read.
    pub fn annotation(&self, path: &str) -> Result<Option<Annotation>, AnnDataError> {
        Ok(match self.file.kind(path)? {
            None => None,
            Some(Kind::Group) => Some(Annotation::Group(annotations(self.file, path, 0, &mut Vec::new())?)),
            Some(Kind::Dataset) => annotation(self.file, path)?,
        })
    }
}

impl AnnData {
    /// Reads a whole file from memory, within the default limits.
    ///
    /// # Errors
    /// When the bytes are no HDF5 file, or an object is absent, of another encoding, or contradicts another.
    pub fn read(bytes: Vec<u8>) -> Result<Self, AnnDataError> {
        let options = ReadOptions::default();
        Self::read_from(&Hdf5File::from_bytes(bytes, options.limits)?, options)
    }

    /// Reads the parts that `options` names from an open file.
    ///
    /// # Errors
    /// As [`AnnData::read`].
    pub fn read_from(file: &Hdf5File, options: ReadOptions) -> Result<Self, AnnDataError> {
        let mut ignored = Vec::new();
        let parts = AnnDataFile::new(file)?;
        let obs = axis_table(file, "obs", &mut ignored)?;
        let var = axis_table(file, "var", &mut ignored)?;
        let shape = (obs.names.len(), var.names.len());
        let x = matrix(file, "X", shape)?;
        let mut layers = BTreeMap::new();
        if options.layers {
            for name in parts.members("layers")? {
                let values = matrix(file, &format!("layers/{name}"), shape)?;
                layers.insert(name, values);
            }
        }
        let mut spatial = None;
        for name in parts.coordinate_keys()? {
            match name.as_str() {
                "spatial" => spatial = parts.coordinates("spatial", shape.0)?,
                _ => ignored.push(format!("obsm/{name}")),
            }
        }
        for group in UNREAD_GROUPS {
            ignored.extend(parts.members(group)?.into_iter().map(|name| format!("{group}/{name}")));
        }
        let uns = match file.kind("uns")? {
            Some(Kind::Group) if options.uns => annotations(file, "uns", 0, &mut ignored)?,
            _ => BTreeMap::new(),
        };
        Ok(Self { x, obs, var, layers, spatial, uns, ignored })
    }
}

fn encoding(attributes: &BTreeMap<String, Attribute>) -> &str {
    attributes.get("encoding-type").and_then(Attribute::text).unwrap_or_default()
}

fn matrix(file: &Hdf5File, path: &str, expected: (usize, usize)) -> Result<Values, AnnDataError> {
    let described = format!("{} observations × {} variables", expected.0, expected.1);
    let check = |rows: usize, cols: usize| {
        if (rows, cols) == expected {
            return Ok(());
        }
        Err(invalid(path, described.clone(), format!("{rows} × {cols}")))
    };
    let kind = file.kind(path)?;
    if kind.is_none() {
        return Err(invalid(path, described, "nothing at this path"));
    }
    if kind == Some(Kind::Dataset) {
        let shape = file.shape(path)?;
        let &[rows, cols] = shape.as_slice() else {
            return Err(invalid(path, described, format!("an array of shape {shape:?}")));
        };
        check(rows, cols)?;
        let values = file.read_f32(path)?;
        return Ok(Values::Dense(Matrix { rows, cols, values }));
    }
    let attributes = file.attributes(path)?;
    // Before 0.7 the format stood in `h5sparse_format`, the shape in `h5sparse_shape`.
    let legacy = attributes.get("h5sparse_format").and_then(Attribute::text).unwrap_or_default();
    let by_row = match (encoding(&attributes), legacy) {
        ("csr_matrix", _) | ("", "csr") => true,
        ("csc_matrix", _) | ("", "csc") => false,
        ("", _) => return Err(invalid(path, "an encoding-type", "a group without one")),
        (other, _) => return Err(invalid(path, "encoding-type csr_matrix, csc_matrix or array", other)),
    };
    let shape = attributes.get("shape").or_else(|| attributes.get("h5sparse_shape"));
    let shape = shape.and_then(Attribute::integers).unwrap_or_default();
    let sides: Vec<usize> = shape.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
    let &[rows, cols] = sides.as_slice() else {
        return Err(invalid(path, "a shape attribute of two sizes", format!("{shape:?}")));
    };
    check(rows, cols)?;
    let compressed = CompressedMatrix {
        major: if by_row { rows } else { cols },
        minor: if by_row { cols } else { rows },
        indptr: file.read_i64(&format!("{path}/indptr"))?,
        indices: file.read_u32(&format!("{path}/indices"))?,
        data: file.read_f32(&format!("{path}/data"))?,
    };
    let counts = if by_row { compressed.into_rows(path)? } else { compressed.columns_into_rows(path)? };
    Ok(Values::Sparse(counts))
}

fn coordinates(file: &Hdf5File, path: &str, observations: usize) -> Result<Vec<SlidePx>, AnnDataError> {
    let shape = file.shape(path)?;
    // Some writers keep a third, constant coordinate.
    let width = match shape.as_slice() {
        &[rows, width @ (2 | 3)] if rows == observations => width,
        _ => return Err(invalid(path, format!("shape [{observations}, 2]"), format!("{shape:?}"))),
    };
    let values = file.read_f64(path)?;
    let mut points = Vec::with_capacity(observations);
    for (row, point) in values.chunks_exact(width).enumerate() {
        let &[x, y, ..] = point else { continue };
        if !(x.is_finite() && y.is_finite()) {
            return Err(invalid(path, "finite coordinates", format!("({x}, {y}) at row {row}")));
        }
        points.push(SlidePx { x, y });
    }
    Ok(points)
}

fn axis_table(file: &Hdf5File, path: &str, ignored: &mut Vec<String>) -> Result<AxisTable, AnnDataError> {
    match file.kind(path)? {
        Some(Kind::Group) => {}
        Some(Kind::Dataset) => {
            return Err(invalid(path, "a dataframe group", "a record array, as AnnData before 0.7 wrote"));
        }
        None => return Err(invalid(path, "a dataframe group", "nothing at this path")),
    }
    let attributes = file.attributes(path)?;
    let index_name = attributes.get("_index").and_then(Attribute::text).unwrap_or("_index");
    let index_path = format!("{path}/{index_name}");
    let names = match column(file, &index_path)? {
        Some(Column::Integers(values)) => shown(file, &index_path, &values)?,
        Some(Column::Texts(values)) => values,
        Some(column) => {
            let texts = column.texts().ok_or_else(|| invalid(&index_path, "strings", "numbers"))?;
            texts.into_iter().map(str::to_owned).collect()
        }
        None => return Err(invalid(&index_path, "strings", "an encoding that is not read here")),
    };
    let order = match attributes.get("column-order") {
        Some(value) => value
            .texts()
            .ok_or_else(|| invalid(&format!("{path}@column-order"), "strings", format!("{value:?}")))?,
        None => Vec::new(),
    };
    let mut columns = Vec::with_capacity(order.len());
    for name in order {
        let column_path = format!("{path}/{name}");
        // Before 0.8 a categorical column was its codes, with the categories aside.
        let categories_path = format!("{path}/__categories/{name}");
        let values = match file.kind(&categories_path)? {
            Some(_) => Some(categorical(file, &column_path, &categories_path)?),
            None => column(file, &column_path)?,
        };
        let Some(values) = values else {
            ignored.push(column_path);
            continue;
        };
        if values.len() != names.len() {
            let found = format!("{} rows", values.len());
            return Err(invalid(&column_path, format!("{} rows", names.len()), found));
        }
        columns.push((name, values));
    }
    Ok(AxisTable { names, columns })
}

/// A column, or `None` for an encoding that is not read here.
fn column(file: &Hdf5File, path: &str) -> Result<Option<Column>, AnnDataError> {
    match file.kind(path)? {
        None => {
            let (object, expected) = (path.to_owned(), "a column".to_owned());
            Err(Hdf5Error::Missing { object, expected }.into())
        }
        Some(Kind::Group) => match encoding(&file.attributes(path)?) {
            "categorical" => {
                categorical(file, &format!("{path}/codes"), &format!("{path}/categories")).map(Some)
            }
            "nullable-string-array" => nullable_texts(file, path).map(Some),
            _ => Ok(None),
        },
        Some(Kind::Dataset) => {
            let shape = file.shape(path)?;
            if shape.len() != 1 {
                return Err(invalid(path, "one dimension", format!("shape {shape:?}")));
            }
            Ok(match file.element(path)? {
                Element::Text => Some(Column::Texts(file.read_strings(path)?)),
                Element::Float => Some(Column::Numbers(file.read_f64(path)?)),
                Element::Integer => Some(Column::Integers(file.read_i64(path)?)),
                Element::Flag => Some(Column::Flags(file.read_flags(path)?)),
                Element::Other(_) => None,
            })
        }
    }
}

fn categorical(file: &Hdf5File, codes_path: &str, categories_path: &str) -> Result<Column, AnnDataError> {
    // Categories are plain. A group among them could lead back to itself.
    let plain = match file.kind(categories_path)? {
        Some(Kind::Group) if encoding(&file.attributes(categories_path)?) == "categorical" => None,
        _ => column(file, categories_path)?,
    };
    let categories = match plain {
        Some(Column::Texts(values)) => values,
        Some(Column::Integers(values)) => shown(file, categories_path, &values)?,
        Some(Column::Numbers(values)) => shown(file, categories_path, &values)?,
        Some(Column::Flags(values)) => shown(file, categories_path, &values)?,
        Some(Column::Categorical { .. }) | None => {
            return Err(invalid(categories_path, "a plain array", "another encoding"));
        }
    };
    let code = |code: i64| match u32::try_from(code) {
        Ok(code) if (code as usize) < categories.len() => Ok(Some(code)),
        _ if code == -1 => Ok(None),
        _ => Err(invalid(codes_path, format!("codes from -1 to {}", categories.len()), code.to_string())),
    };
    let codes: Vec<Option<u32>> =
        file.read_i64(codes_path)?.into_iter().map(code).collect::<Result<_, _>>()?;
    // Who takes the column takes a string for each row, and a category may be as long as the file.
    let length = |code: &u32| STRING_BYTES + categories.get(*code as usize).map_or(0, String::len) as u64;
    file.charge(codes_path, codes.iter().flatten().map(length).fold(0, u64::saturating_add))?;
    Ok(Column::Categorical { codes, categories })
}

/// The values as strings.
fn shown<T: ToString>(file: &Hdf5File, path: &str, values: &[T]) -> Result<Vec<String>, AnnDataError> {
    file.charge(path, STRING_BYTES.saturating_mul(values.len() as u64))?;
    Ok(values.iter().map(T::to_string).collect())
}

/// Strings with a mask of those that are missing, which read as empty.
fn nullable_texts(file: &Hdf5File, path: &str) -> Result<Column, AnnDataError> {
    let mut texts = file.read_strings(&format!("{path}/values"))?;
    let missing = file.read_flags(&format!("{path}/mask"))?;
    if missing.len() != texts.len() {
        let found = format!("{} entries", missing.len());
        return Err(invalid(&format!("{path}/mask"), format!("{} entries", texts.len()), found));
    }
    for (text, _) in texts.iter_mut().zip(missing).filter(|(_, missing)| *missing) {
        text.clear();
    }
    Ok(Column::Texts(texts))
}

fn annotations(
    file: &Hdf5File,
    path: &str,
    depth: usize,
    ignored: &mut Vec<String>,
) -> Result<BTreeMap<String, Annotation>, AnnDataError> {
    let mut found = BTreeMap::new();
    for (name, kind) in file.members(path)? {
        let child = format!("{path}/{name}");
        let value = match kind {
            Kind::Group if depth >= DEEPEST_ANNOTATION => None,
            Kind::Group => {
                let attributes = file.attributes(&child)?;
                match encoding(&attributes) {
                    "dict" | "" => Some(Annotation::Group(annotations(file, &child, depth + 1, ignored)?)),
                    _ => None,
                }
            }
            Kind::Dataset => annotation(file, &child)?,
        };
        match value {
            Some(value) => drop(found.insert(name, value)),
            None => ignored.push(child),
        }
    }
    Ok(found)
}

/// A scalar, a list or an image, or `None` for anything else.
fn annotation(file: &Hdf5File, path: &str) -> Result<Option<Annotation>, AnnDataError> {
    if encoding(&file.attributes(path)?) == "null" {
        return Ok(None);
    }
    let shape = file.shape(path)?;
    let element = file.element(path)?;
    Ok(match (shape.as_slice(), element) {
        ([], Element::Text) => file.read_strings(path)?.pop().map(Annotation::Text),
        ([], Element::Float) => file.read_f64(path)?.pop().map(Annotation::Number),
        ([], Element::Integer) => file.read_i64(path)?.pop().map(Annotation::Integer),
        ([], Element::Flag) => file.read_flags(path)?.pop().map(Annotation::Flag),
        ([_], Element::Text) => Some(Annotation::Texts(file.read_strings(path)?)),
        ([_], Element::Float | Element::Integer) => Some(Annotation::Numbers(file.read_f64(path)?)),
        (&[height, width, 3], Element::Integer) => match file.read_u8(path) {
            Ok(pixels) => Some(Annotation::Image(RgbImage { height, width, pixels })),
            Err(Hdf5Error::Mismatch { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        _ => None,
    })
}
