use std::collections::BTreeMap;
use std::io::{Seek, Write};

use super::{AnnData, AnnDataError, AnnDataRows, Annotation, AxisTable, Column, Values, invalid};
use crate::coordinates::SlidePx;
use crate::expression::{CountMatrix, RowSource};
use crate::hdf5::{Attribute, ChunkCompressor, Data, Hdf5Writer, List};

impl AnnData {
    /// The file's bytes, in AnnData's on-disk format 0.1.0.
    ///
    /// # Errors
    /// When matrices, tables and coordinates disagree in size, or a name cannot stand in an HDF5 file.
    pub fn write(&self) -> Result<Vec<u8>, AnnDataError> {
        Ok(self.file()?.finish()?)
    }

    /// Writes the file from the start of `out` on. Beside the matrices themselves, memory holds some chunks of them.
    ///
    /// # Errors
    /// As [`AnnData::write`], and when `out` cannot be written.
    pub fn write_to(
        &self,
        out: &mut (impl Write + Seek),
        compressor: &dyn ChunkCompressor,
    ) -> Result<(), AnnDataError> {
        Ok(self.file()?.finish_to(out, compressor)?)
    }

    fn file(&self) -> Result<Hdf5Writer<'_>, AnnDataError> {
        let layers = self.layers.iter().map(|(name, values)| (name.as_str(), Stored::from(values))).collect();
        let x = Stored::from(&self.x);
        let spatial = self.spatial.as_deref();
        let parts = Parts { x, layers, obs: &self.obs, var: &self.var, spatial, uns: &self.uns };
        parts.file()
    }
}

impl AnnDataRows<'_> {
    /// Writes the file from the start of `out` on. Memory holds some rows of the matrices, and everything else.
    ///
    /// # Errors
    /// As [`AnnData::write`], and when the rows cannot be read or `out` cannot be written.
    pub fn write(
        &self,
        out: &mut (impl Write + Seek),
        compressor: &dyn ChunkCompressor,
    ) -> Result<(), AnnDataError> {
        let layers = self.layers.iter().map(|(name, rows)| (name.as_str(), Stored::Rows(*rows))).collect();
        let x = Stored::Rows(self.x);
        let spatial = self.spatial.as_deref();
        let parts = Parts { x, layers, obs: &self.obs, var: &self.var, spatial, uns: &self.uns };
        Ok(parts.file()?.finish_to(out, compressor)?)
    }
}

/// A matrix to be written.
enum Stored<'a> {
    Sparse(&'a CountMatrix),
    Rows(&'a dyn RowSource),
}

impl<'a> From<&'a Values> for Stored<'a> {
    fn from(values: &'a Values) -> Self {
        match values {
            Values::Sparse(matrix) => Stored::Sparse(matrix),
            Values::Dense(matrix) => Stored::Rows(matrix),
        }
    }
}

/// All that a file holds.
struct Parts<'a> {
    x: Stored<'a>,
    layers: Vec<(&'a str, Stored<'a>)>,
    obs: &'a AxisTable,
    var: &'a AxisTable,
    spatial: Option<&'a [SlidePx]>,
    uns: &'a BTreeMap<String, Annotation>,
}

impl<'a> Parts<'a> {
    fn file(self) -> Result<Hdf5Writer<'a>, AnnDataError> {
        let shape = (self.obs.names.len(), self.var.names.len());
        let mut file = Hdf5Writer::new();
        encode(&mut file, "", "anndata", "0.1.0")?;
        for group in ["layers", "obsm", "obsp", "uns", "varm", "varp"] {
            encode(&mut file, group, "dict", "0.1.0")?;
        }
        write_matrix(&mut file, "X", self.x, shape)?;
        for (name, values) in self.layers {
            write_matrix(&mut file, &child("layers", name)?, values, shape)?;
        }
        write_axis_table(&mut file, "obs", self.obs)?;
        write_axis_table(&mut file, "var", self.var)?;
        if let Some(points) = self.spatial {
            if points.len() != shape.0 {
                let found = format!("{} points", points.len());
                return Err(invalid("obsm/spatial", format!("{} points", shape.0), found));
            }
            let values = points.iter().flat_map(|point| [point.x, point.y]).collect();
            write_array(&mut file, "obsm/spatial", &[points.len(), 2], Data::F64(values))?;
        }
        write_annotations(&mut file, "uns", self.uns)?;
        Ok(file)
    }
}

fn encode(file: &mut Hdf5Writer<'_>, path: &str, encoding: &str, version: &str) -> Result<(), AnnDataError> {
    file.attribute(path, "encoding-type", Attribute::Text(encoding.to_owned()))?;
    file.attribute(path, "encoding-version", Attribute::Text(version.to_owned()))?;
    Ok(())
}

/// The path of a member, whose own name may not be empty or hold a slash.
fn child(parent: &str, name: &str) -> Result<String, AnnDataError> {
    if name.is_empty() || name == "." || name.contains(['/', '\0']) {
        return Err(invalid(parent, "a member name without slashes", format!("{name:?}")));
    }
    Ok(format!("{parent}/{name}"))
}

fn write_array(
    file: &mut Hdf5Writer<'_>,
    path: &str,
    shape: &[usize],
    data: Data,
) -> Result<(), AnnDataError> {
    let encoding = if matches!(data, Data::Texts(_)) { "string-array" } else { "array" };
    file.dataset(path, shape, data)?;
    encode(file, path, encoding, "0.2.0")
}

fn write_texts(file: &mut Hdf5Writer<'_>, path: &str, values: &[String]) -> Result<(), AnnDataError> {
    write_array(file, path, &[values.len()], Data::Texts(values.to_vec()))
}

fn write_matrix<'a>(
    file: &mut Hdf5Writer<'a>,
    path: &str,
    values: Stored<'a>,
    expected: (usize, usize),
) -> Result<(), AnnDataError> {
    let (rows, cols) = match values {
        Stored::Sparse(matrix) => (matrix.row_offsets.len().saturating_sub(1), matrix.genes),
        Stored::Rows(rows) => (rows.rows(), rows.cols()),
    };
    if (rows, cols) != expected {
        let described = format!("{} observations × {} variables", expected.0, expected.1);
        return Err(invalid(path, described, format!("{rows} × {cols}")));
    }
    match values {
        Stored::Rows(rows) => {
            file.rows(path, rows)?;
            encode(file, path, "array", "0.2.0")
        }
        Stored::Sparse(matrix) => {
            encode(file, path, "csr_matrix", "0.1.0")?;
            file.attribute(path, "shape", Attribute::Integers(vec![rows as i64, cols as i64]))?;
            let stored = matrix.values.len();
            // SciPy wants both index arrays in one type, and the narrow one where it suffices.
            let narrow = i32::try_from(stored.max(cols)).is_ok();
            let indptr = matrix.row_offsets.iter();
            let indptr = if narrow {
                Data::I32(indptr.map(|&offset| offset as i32).collect())
            } else {
                Data::I64(indptr.map(|&offset| offset as i64).collect())
            };
            file.dataset(&format!("{path}/indptr"), &[rows + 1], indptr)?;
            let indices = format!("{path}/indices");
            if narrow {
                file.list(&indices, List::I32(&matrix.columns))?;
            } else {
                let columns = Data::I64(matrix.columns.iter().map(|&column| i64::from(column)).collect());
                file.dataset(&indices, &[matrix.columns.len()], columns)?;
            }
            file.list(&format!("{path}/data"), List::F32(&matrix.values))?;
            Ok(())
        }
    }
}

fn write_axis_table(file: &mut Hdf5Writer<'_>, path: &str, table: &AxisTable) -> Result<(), AnnDataError> {
    encode(file, path, "dataframe", "0.2.0")?;
    let order = table.columns.iter().map(|(name, _)| name.clone()).collect();
    file.attribute(path, "_index", Attribute::Text("_index".to_owned()))?;
    file.attribute(path, "column-order", Attribute::Texts(order))?;
    write_texts(file, &format!("{path}/_index"), &table.names)?;
    for (name, column) in &table.columns {
        let column_path = child(path, name)?;
        let rows = column.len();
        if rows != table.names.len() {
            let expected = format!("{} rows", table.names.len());
            return Err(invalid(&column_path, expected, format!("{rows} rows")));
        }
        match column {
            Column::Texts(values) => write_texts(file, &column_path, values)?,
            Column::Numbers(values) => write_array(file, &column_path, &[rows], Data::F64(values.clone()))?,
            Column::Integers(values) => write_array(file, &column_path, &[rows], Data::I64(values.clone()))?,
            Column::Flags(values) => write_array(file, &column_path, &[rows], Data::Flags(values.clone()))?,
            Column::Categorical { codes, categories } => {
                encode(file, &column_path, "categorical", "0.2.0")?;
                file.attribute(&column_path, "ordered", Attribute::Integers(vec![0]))?;
                let stored = codes.iter().map(|code| code.map_or(-1, |code| code as i32)).collect();
                write_array(file, &format!("{column_path}/codes"), &[rows], Data::I32(stored))?;
                write_texts(file, &format!("{column_path}/categories"), categories)?;
            }
        }
    }
    Ok(())
}

fn write_annotations(
    file: &mut Hdf5Writer<'_>,
    path: &str,
    annotations: &BTreeMap<String, Annotation>,
) -> Result<(), AnnDataError> {
    for (name, value) in annotations {
        let object = child(path, name)?;
        let mut scalar = |data, encoding| -> Result<(), AnnDataError> {
            file.dataset(&object, &[], data)?;
            encode(file, &object, encoding, "0.2.0")
        };
        match value {
            Annotation::Text(text) => scalar(Data::Texts(vec![text.clone()]), "string")?,
            Annotation::Number(number) => scalar(Data::F64(vec![*number]), "numeric-scalar")?,
            Annotation::Integer(integer) => scalar(Data::I64(vec![*integer]), "numeric-scalar")?,
            Annotation::Flag(flag) => scalar(Data::Flags(vec![*flag]), "numeric-scalar")?,
            Annotation::Texts(values) => write_texts(file, &object, values)?,
            Annotation::Numbers(values) => {
                write_array(file, &object, &[values.len()], Data::F64(values.clone()))?;
            }
            Annotation::Image(image) => {
                let shape = [image.height, image.width, 3];
                write_array(file, &object, &shape, Data::U8(image.pixels.clone()))?;
            }
            Annotation::Group(children) => {
                encode(file, &object, "dict", "0.1.0")?;
                write_annotations(file, &object, children)?;
            }
        }
    }
    Ok(())
}
