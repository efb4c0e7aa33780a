//! The 10x Genomics HDF5 matrix (`filtered_feature_bc_matrix.h5`).

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail};
use magnet_core::anndata::CompressedMatrix;
use magnet_core::expression::CountMatrix;
use magnet_core::hdf5::{Attribute, Data, Hdf5File, Hdf5Writer, Limits};

use super::stored_integers::StoredIntegers;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic};

/// The feature type of genes; matrices may also hold antibodies and controls.
pub const GENE_EXPRESSION: &str = "Gene Expression";

/// One row of the features table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Stable id, an Ensembl id for a gene.
    pub id: String,
    /// Symbol; may repeat.
    pub name: String,
    /// What kind of feature, [`GENE_EXPRESSION`] for a gene.
    pub feature_type: String,
    /// Reference genome.
    pub genome: String,
}

/// The content of a 10x HDF5 matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct TenxMatrix {
    /// Names of the bins or spots, in row order of `counts`.
    pub barcodes: Vec<String>,
    /// Features, in column order of `counts`.
    pub features: Vec<Feature>,
    /// Raw counts, one row per barcode.
    pub counts: CountMatrix,
}

impl TenxMatrix {
    /// Keeps the genes among the features; returns how many others were dropped.
    pub fn retain_genes(&mut self) -> usize {
        let genes: Vec<u32> = (0..)
            .zip(&self.features)
            .filter(|(_, feature)| feature.feature_type == GENE_EXPRESSION)
            .map(|(column, _)| column)
            .collect();
        let dropped = self.features.len() - genes.len();
        // Distinct columns that are there: the selection cannot fail.
        if dropped > 0
            && let Ok(counts) = self.counts.select_columns(&genes)
        {
            self.counts = counts;
            self.features.retain(|feature| feature.feature_type == GENE_EXPRESSION);
        }
        dropped
    }
}

/// Reads a 10x HDF5 matrix.
///
/// # Errors
/// When the file is no HDF5 file, lacks a part, or its parts contradict each other; the message names file and object.
pub fn read_tenx_matrix(path: &Path) -> Result<TenxMatrix> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let threads = StoredIntegers::open(path)?;
    read(file, path, Some(&threads)).with_context(|| path.display().to_string())
}

/// Like [`read_tenx_matrix`] for bytes from anywhere; `name` is what errors call them.
///
/// # Errors
/// As [`read_tenx_matrix`].
pub fn read_tenx_matrix_from<R>(source: R, name: &Path) -> Result<TenxMatrix>
where
    R: Read + Seek + Send + 'static,
{
    read(source, name, None).with_context(|| name.display().to_string())
}

/// `stored` is the same file once more, where it is one, to be decoded by several threads.
fn read(
    source: impl Read + Seek + Send + 'static,
    path: &Path,
    stored: Option<&StoredIntegers>,
) -> Result<TenxMatrix> {
    let file = Hdf5File::from_reader(source, Limits::default())?;
    if file.kind("matrix")?.is_none() {
        let expected = "the matrix of Cell Ranger 3 or Space Ranger";
        return Err(InputError::in_file(path, "matrix", expected, "nothing at this path").into());
    }
    let shape = file.read_i64("matrix/shape")?;
    let sides: Vec<usize> = shape.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
    let &[feature_count, barcode_count] = sides.as_slice() else {
        let expected = "the numbers of features and barcodes";
        return Err(InputError::in_file(path, "matrix/shape", expected, format!("{shape:?}")).into());
    };
    let texts = |name: &str, expected: usize| -> Result<Vec<String>> {
        let values = file.read_strings(name)?;
        if values.len() != expected {
            let expected = format!("{expected} entries (matrix/shape)");
            return Err(InputError::in_file(path, name, expected, values.len()).into());
        }
        Ok(values)
    };
    let barcodes = texts("matrix/barcodes", barcode_count)?;
    let ids = texts("matrix/features/id", feature_count)?;
    let symbols = texts("matrix/features/name", feature_count)?;
    let types = texts("matrix/features/feature_type", feature_count)?;
    let genomes = match file.kind("matrix/features/genome")? {
        Some(_) => texts("matrix/features/genome", feature_count)?,
        None => vec![String::new(); feature_count],
    };
    let features = ids
        .into_iter()
        .zip(symbols)
        .zip(types.into_iter().zip(genomes))
        .map(|((id, name), (feature_type, genome))| Feature { id, name, feature_type, genome })
        .collect();
    // Features × barcodes compressed by column is barcodes × features compressed by row.
    let compressed = CompressedMatrix {
        major: barcode_count,
        minor: feature_count,
        indptr: file.read_i64("matrix/indptr")?,
        indices: match stored {
            Some(stored) => stored.read_u32(&file, "matrix/indices")?,
            None => file.read_u32("matrix/indices")?,
        },
        data: match stored {
            Some(stored) => stored.read_f32(&file, "matrix/data")?,
            None => file.read_f32("matrix/data")?,
        },
    };
    Ok(TenxMatrix { barcodes, features, counts: compressed.into_rows("matrix")? })
}

/// Writes a matrix as Space Ranger lays it out. Counts must be whole numbers that fit 32 bits.
///
/// # Errors
/// When sizes disagree, a count is no whole number, or the file cannot be written.
pub fn write_tenx_matrix(path: &Path, matrix: &TenxMatrix, overwrite: Overwrite) -> Result<()> {
    let bytes = encode(matrix).with_context(|| format!("cannot write {}", path.display()))?;
    write_atomic(path, &bytes, overwrite)
}

fn encode(matrix: &TenxMatrix) -> Result<Vec<u8>> {
    let (barcodes, features) = (matrix.barcodes.len(), matrix.features.len());
    let rows = matrix.counts.row_offsets.len().saturating_sub(1);
    if (rows, matrix.counts.genes) != (barcodes, features) {
        let found = matrix.counts.genes;
        bail!("counts: expected {barcodes} barcodes × {features} features, found {rows} × {found}");
    }
    let count = |&value: &f32| {
        let whole = value >= 0.0 && value <= i32::MAX as f32 && value.fract() == 0.0;
        if whole { Ok(value as i32) } else { bail!("counts: expected whole numbers, found {value}") }
    };
    let data: Vec<i32> = matrix.counts.values.iter().map(count).collect::<Result<_>>()?;
    let indices: Vec<i64> = matrix.counts.columns.iter().map(|&column| i64::from(column)).collect();
    let indptr: Vec<i64> = matrix.counts.row_offsets.iter().map(|&offset| offset as i64).collect();
    let column = |field: fn(&Feature) -> &String| {
        Data::FixedTexts(matrix.features.iter().map(field).cloned().collect())
    };

    let mut file = Hdf5Writer::new();
    file.attribute("", "filetype", Attribute::Text("matrix".to_owned()))?;
    file.attribute("", "version", Attribute::Integers(vec![2]))?;
    file.dataset("matrix/barcodes", &[barcodes], Data::FixedTexts(matrix.barcodes.clone()))?;
    file.dataset("matrix/data", &[data.len()], Data::I32(data))?;
    file.dataset("matrix/indices", &[indices.len()], Data::I64(indices))?;
    file.dataset("matrix/indptr", &[indptr.len()], Data::I64(indptr))?;
    file.dataset("matrix/shape", &[2], Data::I32(vec![i32::try_from(features)?, i32::try_from(barcodes)?]))?;
    file.dataset("matrix/features/id", &[features], column(|feature| &feature.id))?;
    file.dataset("matrix/features/name", &[features], column(|feature| &feature.name))?;
    file.dataset("matrix/features/feature_type", &[features], column(|feature| &feature.feature_type))?;
    file.dataset("matrix/features/genome", &[features], column(|feature| &feature.genome))?;
    let tags = Data::FixedTexts(vec!["genome".to_owned()]);
    file.dataset("matrix/features/_all_tag_keys", &[1], tags)?;
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the package, where tests run: a path from compile time would outlive a moved clone.
    fn fixture() -> std::path::PathBuf {
        "../tests/fixtures/tenx/matrix.h5".into()
    }

    #[test]
    fn the_file_of_another_writer_is_read_by_barcode() {
        let matrix = read_tenx_matrix(&fixture()).unwrap();
        assert_eq!(matrix.barcodes.len(), 3);
        assert_eq!(matrix.barcodes[1], "s_016um_00000_00001-1");
        let names: Vec<&str> = matrix.features.iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names, ["ACTB", "TBCE", "TBCE", "CD3"]);
        assert_eq!(matrix.counts.row_offsets, [0, 2, 4, 7]);
        assert_eq!(matrix.counts.columns, [0, 3, 1, 3, 0, 2, 3]);
        assert_eq!(matrix.counts.values, [1.0, 9.0, 2.0, 9.0, 4.0, 3.0, 9.0]);
    }

    #[test]
    fn only_genes_are_kept() {
        let mut matrix = read_tenx_matrix(&fixture()).unwrap();
        assert_eq!(matrix.retain_genes(), 1);
        assert_eq!(matrix.features.len(), 3);
        assert_eq!(matrix.counts.genes, 3);
        assert_eq!(matrix.counts.row_offsets, [0, 1, 2, 4]);
        assert_eq!(matrix.counts.values, [1.0, 2.0, 4.0, 3.0]);
        assert_eq!(matrix.retain_genes(), 0);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.h5");
        let matrix = read_tenx_matrix(&fixture()).unwrap();
        write_tenx_matrix(&path, &matrix, Overwrite::No).unwrap();
        assert_eq!(read_tenx_matrix(&path).unwrap(), matrix);
    }

    #[test]
    fn contradictions_name_file_and_object() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.h5");
        let mut matrix = read_tenx_matrix(&fixture()).unwrap();
        matrix.counts.values[0] = 0.5;
        let error = format!("{:#}", write_tenx_matrix(&path, &matrix, Overwrite::No).unwrap_err());
        assert!(error.contains("expected whole numbers, found 0.5"), "{error}");
        assert!(!path.exists());

        std::fs::write(&path, b"not HDF5").unwrap();
        let error = format!("{:#}", read_tenx_matrix(&path).unwrap_err());
        assert!(error.contains("m.h5") && error.contains("expected an HDF5 file"), "{error}");

        let mut file = Hdf5Writer::new();
        file.dataset("matrix/shape", &[2], Data::I32(vec![2, 1])).unwrap();
        file.dataset("matrix/barcodes", &[2], Data::FixedTexts(vec!["a".into(), "b".into()])).unwrap();
        std::fs::write(&path, file.finish().unwrap()).unwrap();
        let error = format!("{:#}", read_tenx_matrix(&path).unwrap_err());
        assert!(error.contains("matrix/barcodes: expected 1 entries (matrix/shape), found 2"), "{error}");
    }

    #[test]
    fn damaged_bytes_give_an_error_or_a_value_and_never_a_panic() {
        let original = std::fs::read(fixture()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged");
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..300 {
            let mut bytes = original.clone();
            for _ in 0..3 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (random >> 33) as usize % bytes.len();
                bytes[place] = (random >> 13) as u8;
            }
            std::fs::write(&path, bytes).unwrap();
            drop(read_tenx_matrix(&path));
        }
    }
}
