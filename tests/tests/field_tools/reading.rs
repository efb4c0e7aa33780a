//! What anndata, h5py, scanpy, pandas and pyarrow write is read with identical values.

use std::path::Path;
use std::sync::OnceLock;

use magnet_core::anndata::{AnnData, Values};
use magnet_core::coordinates::SlidePx;
use magnet_native::dataset::positions::read_positions;
use magnet_native::dataset::tenx_matrix::read_tenx_matrix;
use tempfile::TempDir;

use crate::expected::{Expected, ExpectedAnnData, ExpectedPositions, ExpectedTenx, identical};
use crate::python::{python, report, run_python};

/// The files that the tools wrote, with what each holds; written once for the tests of this program.
fn inputs(python: &Path) -> &'static (TempDir, Expected) {
    static INPUTS: OnceLock<(TempDir, Expected)> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        run_python(python, "write_inputs.py", &[folder.path()]);
        let text = std::fs::read_to_string(folder.path().join("expected.json")).unwrap();
        let expected = serde_json::from_str(&text).unwrap();
        (folder, expected)
    })
}

#[test]
fn what_anndata_writes_is_read_with_identical_values() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedAnnData| {
        let mut wrong = Vec::new();
        match AnnData::read(std::fs::read(folder.path().join(&expected.file)).unwrap()) {
            Ok(found) => expected.compare(found, &mut wrong),
            Err(error) => wrong.push(error.to_string()),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.h5ad.iter().map(compare).collect::<Vec<_>>(), expected.h5ad.len());
}

#[test]
fn a_10x_matrix_is_read_as_scanpy_reads_it() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedTenx| {
        let mut wrong = Vec::new();
        match read_tenx_matrix(&folder.path().join(&expected.file)) {
            Ok(found) => {
                let fields: [(&str, Vec<&String>, &[String]); 5] = [
                    ("barcodes", found.barcodes.iter().collect(), &expected.barcodes),
                    ("ids", found.features.iter().map(|feature| &feature.id).collect(), &expected.ids),
                    ("names", found.features.iter().map(|feature| &feature.name).collect(), &expected.names),
                    (
                        "types",
                        found.features.iter().map(|feature| &feature.feature_type).collect(),
                        &expected.types,
                    ),
                    (
                        "genomes",
                        found.features.iter().map(|feature| &feature.genome).collect(),
                        &expected.genomes,
                    ),
                ];
                for (name, found, expected) in fields {
                    if found != expected.iter().collect::<Vec<_>>() {
                        wrong.push(format!("{name}: {found:?}"));
                    }
                }
                expected.x.compare("matrix", Values::Sparse(found.counts), &mut wrong);
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.tenx.iter().map(compare).collect::<Vec<_>>(), expected.tenx.len());
}

#[test]
fn positions_are_read_as_pandas_reads_them() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedPositions| {
        let mut wrong = Vec::new();
        match read_positions(&folder.path().join(&expected.file)) {
            Ok(found) => {
                let centers = |field: fn(&SlidePx) -> f64| -> Vec<f64> {
                    found.iter().map(|row| field(&row.center_px)).collect()
                };
                let same = [
                    ("rows", found.len() == expected.barcode.len()),
                    ("barcode", found.iter().map(|row| &row.barcode).eq(&expected.barcode)),
                    ("in_tissue", found.iter().map(|row| &row.in_tissue).eq(&expected.in_tissue)),
                    ("array_row", found.iter().map(|row| &row.array_row).eq(&expected.array_row)),
                    ("array_col", found.iter().map(|row| &row.array_col).eq(&expected.array_col)),
                    ("x", identical(&expected.x, &centers(|center| center.x))),
                    ("y", identical(&expected.y, &centers(|center| center.y))),
                ];
                let differing = same.iter().filter(|(_, same)| !same);
                wrong.extend(differing.map(|(name, _)| format!("{name} differs")));
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.positions.iter().map(compare).collect::<Vec<_>>(), expected.positions.len());
}
