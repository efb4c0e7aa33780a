//! AnnData (.h5ad) files, read from and written to bytes.
//!
//! What the field's tools exchange: a matrix of observations × variables with a table for each axis, further matrices
//! of the same shape (`layers`), coordinates (`obsm/spatial`) and free annotations (`uns`). The encodings are those of
//! AnnData's on-disk format 0.1.0.

#[cfg(test)]
mod layout_tests;
mod read;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use read::AnnDataFile;
pub use sparse::CompressedMatrix;

use std::collections::BTreeMap;

use crate::coordinates::SlidePx;
use crate::expression::{CountMatrix, Matrix, RowSource};
use crate::hdf5::{Hdf5Error, Limits};

/// Observations × variables, as stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Compressed by row.
    Sparse(CountMatrix),
    /// Every value.
    Dense(Matrix),
}

impl Values {
    /// Observations and variables.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Values::Sparse(matrix) => (matrix.row_offsets.len().saturating_sub(1), matrix.genes),
            Values::Dense(matrix) => (matrix.rows, matrix.cols),
        }
    }

    /// The values compressed by row; zeros of a dense matrix are dropped, anything else (also NaN) is kept.
    pub fn into_sparse(self) -> CountMatrix {
        match self {
            Values::Sparse(matrix) => matrix,
            Values::Dense(matrix) => sparse::from_dense(&matrix),
        }
    }

    /// The values as a dense matrix.
    pub fn into_dense(self) -> Matrix {
        match self {
            Values::Sparse(matrix) => sparse::to_dense(&matrix),
            Values::Dense(matrix) => matrix,
        }
    }
}

/// One column of an axis table.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Strings.
    Texts(Vec<String>),
    /// Floating point.
    Numbers(Vec<f64>),
    /// Integers.
    Integers(Vec<i64>),
    /// Booleans.
    Flags(Vec<bool>),
    /// One of a few strings per row, or none.
    Categorical {
        /// Index into `categories`, per row.
        codes: Vec<Option<u32>>,
        /// The strings to choose from.
        categories: Vec<String>,
    },
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Texts(values) => values.len(),
            Column::Numbers(values) => values.len(),
            Column::Integers(values) => values.len(),
            Column::Flags(values) => values.len(),
            Column::Categorical { codes, .. } => codes.len(),
        }
    }

    /// Whether the column has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The given rows, in the given order; rows past the end are left out.
    pub fn select(&self, rows: &[usize]) -> Self {
        fn pick<T: Clone>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().filter_map(|&row| values.get(row).cloned()).collect()
        }
        match self {
            Column::Texts(values) => Column::Texts(pick(values, rows)),
            Column::Numbers(values) => Column::Numbers(pick(values, rows)),
            Column::Integers(values) => Column::Integers(pick(values, rows)),
            Column::Flags(values) => Column::Flags(pick(values, rows)),
            Column::Categorical { codes, categories } => {
                Column::Categorical { codes: pick(codes, rows), categories: categories.clone() }
            }
        }
    }

    /// The column as strings; a missing category reads as the empty string. `None` for a column of numbers.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Column::Texts(values) => Some(values.iter().map(String::as_str).collect()),
            Column::Categorical { codes, categories } => {
                let text = |code: &Option<u32>| categories.get((*code)? as usize).map(String::as_str);
                Some(codes.iter().map(|code| text(code).unwrap_or_default()).collect())
            }
            _ => None,
        }
    }
}

/// The table of one axis: a name for each row, and columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AxisTable {
    /// Names of the rows: barcodes for `obs`, gene symbols for `var`.
    pub names: Vec<String>,
    /// Columns with their names, in order.
    pub columns: Vec<(String, Column)>,
}

impl AxisTable {
    /// A table of names alone.
    pub fn from_names(names: Vec<String>) -> Self {
        Self { names, columns: Vec::new() }
    }

    /// The given rows, in the given order; rows past the end are left out.
    pub fn select(&self, rows: &[usize]) -> Self {
        let names = rows.iter().filter_map(|&row| self.names.get(row).cloned()).collect();
        let columns = self.columns.iter().map(|(name, column)| (name.clone(), column.select(rows)));
        Self { names, columns: columns.collect() }
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, column)| column)
    }
}

/// A free annotation under `uns`.
#[derive(Debug, Clone, PartialEq)]
pub enum Annotation {
    /// A string.
    Text(String),
    /// A floating-point number.
    Number(f64),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Flag(bool),
    /// Several strings.
    Texts(Vec<String>),
    /// Several numbers.
    Numbers(Vec<f64>),
    /// An RGB image.
    Image(RgbImage),
    /// Named annotations.
    Group(BTreeMap<String, Annotation>),
}

/// Eight-bit RGB pixels, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `height × width × 3` bytes.
    pub pixels: Vec<u8>,
}

/// The content of one `.h5ad` file.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnData {
    /// The main matrix.
    pub x: Values,
    /// Table of the observations (rows).
    pub obs: AxisTable,
    /// Table of the variables (columns).
    pub var: AxisTable,
    /// Further matrices of the main matrix's shape.
    pub layers: BTreeMap<String, Values>,
    /// `obsm/spatial`: centres of the observations in full-resolution pixels, column then row.
    pub spatial: Option<Vec<SlidePx>>,
    /// Free annotations.
    pub uns: BTreeMap<String, Annotation>,
    /// Paths of objects that were in the file and are not represented here; not written.
    pub ignored: Vec<String>,
}

impl AnnData {
    /// A main matrix with its axes, and nothing else.
    pub fn new(x: Values, obs: AxisTable, var: AxisTable) -> Self {
        let (layers, uns) = (BTreeMap::new(), BTreeMap::new());
        Self { x, obs, var, layers, spatial: None, uns, ignored: Vec::new() }
    }

    /// The annotation at a `/`-separated path below `uns`.
    pub fn annotation(&self, path: &str) -> Option<&Annotation> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let mut found = self.uns.get(names.next()?)?;
        for name in names {
            match found {
                Annotation::Group(children) => found = children.get(name)?,
                _ => return None,
            }
        }
        Some(found)
    }

    /// Sets the annotation at a `/`-separated path below `uns`; see [`annotate`].
    pub fn set_annotation(&mut self, path: &str, value: Annotation) {
        annotate(&mut self.uns, path, value);
    }
}

/// The content of an `.h5ad` file that is only to be written: its matrices are read while it is.
#[derive(Debug)]
pub struct AnnDataRows<'a> {
    /// The main matrix.
    pub x: &'a dyn RowSource,
    /// Further matrices of the main matrix's shape.
    pub layers: BTreeMap<String, &'a dyn RowSource>,
    /// Table of the observations (rows).
    pub obs: AxisTable,
    /// Table of the variables (columns).
    pub var: AxisTable,
    /// `obsm/spatial`: centres of the observations in full-resolution pixels, column then row.
    pub spatial: Option<Vec<SlidePx>>,
    /// Free annotations.
    pub uns: BTreeMap<String, Annotation>,
}

/// Sets the annotation at a `/`-separated path; what is in the way is replaced by groups.
pub fn annotate(annotations: &mut BTreeMap<String, Annotation>, path: &str, value: Annotation) {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let Some((last, groups)) = names.split_last() else { return };
    let mut children = annotations;
    for name in groups {
        let child = children.entry((*name).to_owned()).or_insert_with(|| Annotation::Group(BTreeMap::new()));
        if !matches!(child, Annotation::Group(_)) {
            *child = Annotation::Group(BTreeMap::new());
        }
        let Annotation::Group(next) = child else { return };
        children = next;
    }
    children.insert((*last).to_owned(), value);
}

/// Which parts of a file to read, and how much memory it may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Memory limits.
    pub limits: Limits,
    /// Whether to read `layers`.
    pub layers: bool,
    /// Whether to read `uns`.
    pub uns: bool,
}

impl Default for ReadOptions {
    /// Everything, within the default limits.
    fn default() -> Self {
        Self { limits: Limits::default(), layers: true, uns: true }
    }
}

/// Why an `.h5ad` file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AnnDataError {
    /// The HDF5 layer failed.
    #[error(transparent)]
    Hdf5(#[from] Hdf5Error),
    /// An object contradicts AnnData's format or another object.
    #[error("{object}: expected {expected}, found {found}")]
    Invalid {
        /// Path of the object.
        object: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

fn invalid(object: &str, expected: impl Into<String>, found: impl Into<String>) -> AnnDataError {
    AnnDataError::Invalid { object: object.to_owned(), expected: expected.into(), found: found.into() }
}
