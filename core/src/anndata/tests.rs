use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::hdf5::{Attribute, Data, Hdf5File, Hdf5Writer};

const DENSE: &[u8] = include_bytes!("../../../tests/fixtures/anndata/dense.h5ad");
const CSR: &[u8] = include_bytes!("../../../tests/fixtures/anndata/csr.h5ad");
const CSC_GZIP: &[u8] = include_bytes!("../../../tests/fixtures/anndata/csc_gzip.h5ad");

/// The matrix in every fixture.
fn fixture_matrix() -> Matrix {
    #[rustfmt::skip]
    let values = vec![
        0.0, 1.0, 0.0, 7.0,
        2.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0,
        3.0, 0.0, 5.0, 0.0,
        0.0, 0.0, 0.0, 9.0,
    ];
    Matrix { rows: 5, cols: 4, values }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}{index}")).collect()
}

/// A complete example of 2 observations × 3 variables.
fn example() -> AnnData {
    let x = CountMatrix {
        genes: 3,
        row_offsets: vec![0, 2, 3],
        columns: vec![0, 2, 1],
        values: vec![4.0, 1.0, 2.0],
    };
    let mut obs = AxisTable::from_names(vec!["10x11".into(), "10x12".into()]);
    obs.columns.push(("row".into(), Column::Integers(vec![10, -3])));
    obs.columns.push(("score".into(), Column::Numbers(vec![0.25, 1e-300])));
    obs.columns.push(("kept".into(), Column::Flags(vec![true, false])));
    obs.columns.push(("note".into(), Column::Texts(vec!["é".into(), String::new()])));
    let codes = vec![Some(1), None];
    obs.columns
        .push(("kind".into(), Column::Categorical { codes, categories: vec!["a".into(), "b".into()] }));
    let mut data = AnnData::new(Values::Sparse(x), obs, AxisTable::from_names(names("gene", 3)));
    let measured = Matrix { rows: 2, cols: 3, values: vec![0.5, -1.0, 0.0, 3.0, 4.0, f32::MIN_POSITIVE] };
    data.layers.insert("measured".into(), Values::Dense(measured));
    data.spatial = Some(vec![SlidePx { x: 1.5, y: 2.0 }, SlidePx { x: 30000.125, y: 4.0 }]);
    data.set_annotation("magnet/version", Annotation::Text("0.1.0".into()));
    data.set_annotation("magnet/seed", Annotation::Integer(7));
    data.set_annotation("magnet/rate", Annotation::Number(0.1));
    data.set_annotation("magnet/half", Annotation::Flag(true));
    data.set_annotation("magnet/genes", Annotation::Texts(names("gene", 3)));
    data.set_annotation("magnet/none", Annotation::Texts(Vec::new()));
    data.set_annotation("magnet/losses", Annotation::Numbers(vec![1.0, 0.5]));
    let image = RgbImage { height: 2, width: 1, pixels: vec![1, 2, 3, 4, 5, 255] };
    data.set_annotation("spatial/S1/images/hires", Annotation::Image(image));
    data
}

fn error_of(bytes: Vec<u8>) -> String {
    AnnData::read(bytes).expect_err("the file must be refused").to_string()
}

/// A file with every required part, into which a test puts one mistake.
fn skeleton(observations: usize, variables: usize) -> Hdf5Writer<'static> {
    let mut file = Hdf5Writer::new();
    for (axis, count) in [("obs", observations), ("var", variables)] {
        file.attribute(axis, "encoding-type", Attribute::Text("dataframe".into())).unwrap();
        file.attribute(axis, "_index", Attribute::Text("_index".into())).unwrap();
        file.attribute(axis, "column-order", Attribute::Texts(Vec::new())).unwrap();
        file.dataset(&format!("{axis}/_index"), &[count], Data::Texts(names(axis, count))).unwrap();
    }
    file
}

fn csr_skeleton(shape: [i64; 2], indptr: Vec<i64>, indices: Vec<i32>, data: Vec<f32>) -> Vec<u8> {
    let mut file = skeleton(2, 3);
    file.attribute("X", "encoding-type", Attribute::Text("csr_matrix".into())).unwrap();
    file.attribute("X", "shape", Attribute::Integers(shape.to_vec())).unwrap();
    file.dataset("X/indptr", &[indptr.len()], Data::I64(indptr)).unwrap();
    file.dataset("X/indices", &[indices.len()], Data::I32(indices)).unwrap();
    file.dataset("X/data", &[data.len()], Data::F32(data)).unwrap();
    file.finish().unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let data = example();
    let back = AnnData::read(data.write().unwrap()).unwrap();
    assert_eq!(back, data);
}

#[test]
fn writing_is_reproducible() {
    assert_eq!(example().write().unwrap(), example().write().unwrap());
}

#[test]
fn an_empty_table_survives() {
    let x = CountMatrix { genes: 0, row_offsets: vec![0], ..CountMatrix::default() };
    let data = AnnData::new(Values::Sparse(x), AxisTable::default(), AxisTable::default());
    assert_eq!(AnnData::read(data.write().unwrap()).unwrap(), data);
}

#[test]
fn files_of_the_reference_writer_are_read() {
    for (bytes, sparse) in [(DENSE, false), (CSR, true), (CSC_GZIP, true)] {
        let data = AnnData::read(bytes.to_vec()).unwrap();
        assert_eq!(matches!(data.x, Values::Sparse(_)), sparse);
        assert_eq!(data.x.into_dense(), fixture_matrix());
        assert_eq!(data.obs.names, ["0x1", "1x2", "2x3", "3x4", "4x5"]);
        assert_eq!(data.var.names, ["ACTB", "GAPDH", "ERBB2", "ÅB-1"]);
    }
    for bytes in [DENSE, CSR] {
        let data = AnnData::read(bytes.to_vec()).unwrap();
        let ids = data.var.column("gene_ids").and_then(Column::texts).unwrap();
        assert_eq!(ids.first().copied(), Some("ENSG00000000000"));
        assert_eq!(data.obs.column("cluster").and_then(Column::texts).unwrap(), ["a", "b", "a", "", "b"]);
        let flags = vec![true, false, true, true, false];
        assert_eq!(data.obs.column("kept"), Some(&Column::Flags(flags)));
        assert_eq!(data.obs.column("reads"), Some(&Column::Integers(vec![1, 2, 3, 4, 5])));
        assert_eq!(data.spatial.unwrap().first(), Some(&SlidePx { x: 10.5, y: 20.25 }));
        assert_eq!(data.ignored, ["obsm/X_pca"]);
    }
}

#[test]
fn annotations_of_the_reference_writer_are_read() {
    let data = AnnData::read(DENSE.to_vec()).unwrap();
    assert_eq!(data.annotation("magnet/version"), Some(&Annotation::Text("0.1.0".into())));
    assert_eq!(data.annotation("magnet/seed"), Some(&Annotation::Integer(7)));
    assert_eq!(data.annotation("magnet/rate"), Some(&Annotation::Number(0.25)));
    assert_eq!(data.annotation("magnet/resumed"), Some(&Annotation::Flag(true)));
    assert_eq!(data.annotation("magnet/genes"), Some(&Annotation::Texts(vec!["a".into(), "b".into()])));
    assert_eq!(data.annotation("magnet/curve"), Some(&Annotation::Numbers(vec![1.0, 0.5])));
    let Some(Annotation::Image(image)) = data.annotation("spatial/ST/images/downscaled_fullres") else {
        panic!("the image is missing");
    };
    assert_eq!((image.height, image.width), (2, 3));
    assert_eq!(image.pixels, (0..18).collect::<Vec<u8>>());
    assert_eq!(data.annotation("spatial/ST/nothing"), None);
}

#[test]
fn rows_whose_columns_do_not_ascend_are_sorted() {
    let bytes = csr_skeleton([2, 3], vec![0, 2, 3], vec![2, 0, 1], vec![5.0, 6.0, 7.0]);
    let counts = AnnData::read(bytes).unwrap().x.into_sparse();
    assert_eq!(counts.columns, [0, 2, 1]);
    assert_eq!(counts.values, [6.0, 5.0, 7.0]);
}

#[test]
fn a_layer_by_column_equals_the_matrix_by_row() {
    let data = AnnData::read(CSR.to_vec()).unwrap();
    assert_eq!(data.layers.get("counts"), Some(&data.x));
}

#[test]
fn parts_that_are_not_asked_for_are_not_read() {
    let options = ReadOptions { layers: false, uns: false, ..ReadOptions::default() };
    let file = Hdf5File::from_reader(std::io::Cursor::new(CSR.to_vec()), options.limits).unwrap();
    let data = AnnData::read_from(&file, options).unwrap();
    assert_eq!(data.x.into_dense(), fixture_matrix());
    assert!(data.layers.is_empty() && data.uns.is_empty());
}

#[test]
fn a_large_matrix_passes_through_chunks_and_compression() {
    let values: Vec<f32> = (0..700 * 97).map(|index| (index % 31) as f32).collect();
    let matrix = Matrix { rows: 700, cols: 97, values };
    let (obs, var) = (AxisTable::from_names(names("o", 700)), AxisTable::from_names(names("v", 97)));
    let data = AnnData::new(Values::Dense(matrix.clone()), obs.clone(), var.clone());
    let bytes = data.write().unwrap();
    assert!(bytes.len() < 700 * 97 * 3, "{} bytes are not compressed", bytes.len());
    assert_eq!(AnnData::read(bytes).unwrap(), data);
    let sparse = AnnData::new(Values::Sparse(Values::Dense(matrix).into_sparse()), obs, var);
    assert_eq!(AnnData::read(sparse.write().unwrap()).unwrap(), sparse);
}

#[test]
fn bytes_that_are_no_hdf5_are_refused() {
    assert!(error_of(Vec::new()).contains("found an empty file"));
    assert!(error_of(b"barcode,x,y\n".to_vec()).contains("expected an HDF5 file"));
    let truncated = CSR.get(..CSR.len() / 2).unwrap().to_vec();
    let error = error_of(truncated);
    assert!(error.contains("found damage") || error.contains("damaged or truncated"), "{error}");
}

#[test]
fn contradictions_name_object_expected_and_found() {
    let indptr = || vec![0, 2, 3];
    let cases = [
        (
            csr_skeleton([2, 4], indptr(), vec![0, 2, 1], vec![1.0; 3]),
            "X: expected 2 observations × 3 variables, found 2 × 4",
        ),
        (
            csr_skeleton([2, 3], vec![0, 3], vec![0, 2, 1], vec![1.0; 3]),
            "X/indptr: expected 3 entries, found 2",
        ),
        (
            csr_skeleton([2, 3], vec![0, 3, 2], vec![0, 2, 1], vec![1.0; 3]),
            "X/indptr: expected offsets from 0 to 3 that never fall, found 2",
        ),
        (csr_skeleton([2, 3], vec![0, 2, 9], vec![0, 2, 1], vec![1.0; 3]), "found 9 at position 2"),
        (csr_skeleton([2, 3], vec![-1, 2, 3], vec![0, 2, 1], vec![1.0; 3]), "found -1 at position 0"),
        (csr_skeleton([2, 3], vec![0, 2, 2], vec![0, 2, 1], vec![1.0; 3]), "a last offset of 3, found 2"),
        (
            csr_skeleton([2, 3], indptr(), vec![0, 3, 1], vec![1.0; 3]),
            "X/indices: expected indices below 3, found 3",
        ),
        (
            csr_skeleton([2, 3], indptr(), vec![0, -2, 1], vec![1.0; 3]),
            "X/indices: expected integers in the range that their use allows, found -2",
        ),
        (csr_skeleton([2, 3], indptr(), vec![0, 0, 1], vec![1.0; 3]), "found one twice in observation 0"),
        (csr_skeleton([2, 3], indptr(), vec![0, 2], vec![1.0; 3]), "found 2 indices and 3 values"),
        (
            csr_skeleton([2, -3], indptr(), vec![0, 2, 1], vec![1.0; 3]),
            "X: expected a shape attribute of two sizes, found [2, -3]",
        ),
        (skeleton(2, 3).finish().unwrap(), "X: expected a matrix, found nothing"),
        (Hdf5Writer::new().finish().unwrap(), "X: expected a matrix"),
    ];
    for (bytes, expected) in cases {
        let error = error_of(bytes);
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn tables_and_coordinates_must_fit_the_axes() {
    let with = |change: &dyn Fn(&mut Hdf5Writer<'static>)| {
        let mut file = skeleton(2, 3);
        file.dataset("X", &[2, 3], Data::F32(vec![0.0; 6])).unwrap();
        change(&mut file);
        error_of(file.finish().unwrap())
    };
    let error = with(&|file| file.dataset("obsm/spatial", &[3, 2], Data::F64(vec![0.0; 6])).unwrap());
    assert_eq!(error, "obsm/spatial: expected shape [2, 2], found [3, 2]");
    let error = with(&|file| file.dataset("obsm/spatial", &[2, 2], Data::F64(vec![f64::NAN; 4])).unwrap());
    assert!(error.contains("obsm/spatial: expected finite coordinates"), "{error}");
    let error = with(&|file| file.dataset("layers/raw", &[3, 2], Data::F32(vec![0.0; 6])).unwrap());
    assert!(error.starts_with("layers/raw: expected 2 observations × 3 variables"), "{error}");
    let error = with(&|file| {
        file.attribute("obs", "column-order", Attribute::Texts(vec!["gone".into()])).unwrap();
    });
    assert!(error.contains("obs/gone: expected a column, found nothing"), "{error}");
}

#[test]
fn nullable_strings_are_read_and_other_columns_reported() {
    let mut file = skeleton(2, 3);
    file.dataset("X", &[2, 3], Data::F32(vec![0.0; 6])).unwrap();
    file.attribute("var", "column-order", Attribute::Texts(vec!["id".into(), "odd".into()])).unwrap();
    file.attribute("var/id", "encoding-type", Attribute::Text("nullable-string-array".into())).unwrap();
    file.dataset("var/id/values", &[3], Data::Texts(names("id", 3))).unwrap();
    file.dataset("var/id/mask", &[3], Data::Flags(vec![false, true, false])).unwrap();
    file.attribute("var/odd", "encoding-type", Attribute::Text("nullable-integer".into())).unwrap();
    let data = AnnData::read(file.finish().unwrap()).unwrap();
    let expected = ["id0", "", "id2"].map(str::to_owned).to_vec();
    assert_eq!(data.var.columns, [("id".to_owned(), Column::Texts(expected))]);
    assert_eq!(data.ignored, ["var/odd"]);
}

#[test]
fn sizes_that_disagree_are_not_written() {
    let mut data = example();
    data.spatial = Some(Vec::new());
    assert_eq!(data.write().unwrap_err().to_string(), "obsm/spatial: expected 2 points, found 0 points");
    let mut data = example();
    data.var.names.pop();
    assert!(data.write().unwrap_err().to_string().starts_with("X: expected 2 observations × 2 variables"));
    let mut data = example();
    data.layers = BTreeMap::from([("a/b".to_owned(), data.x.clone())]);
    assert!(data.write().unwrap_err().to_string().contains("without slashes"));
}

#[test]
fn a_declared_size_that_the_file_cannot_hold_is_refused_before_it_is_read() {
    let limits = Limits { dataset_bytes: 1 << 10, ..Limits::default() };
    let file = Hdf5File::from_bytes(CSR.to_vec(), limits).unwrap();
    let options = ReadOptions { limits, ..ReadOptions::default() };
    assert!(AnnData::read_from(&file, options).is_ok());
    let mut writer = skeleton(2, 3);
    writer.dataset("X", &[2, 300], Data::F32(vec![0.0; 600])).unwrap();
    let file = Hdf5File::from_bytes(writer.finish().unwrap(), limits).unwrap();
    let error = file.read_f32("X").unwrap_err().to_string();
    assert_eq!(error, "X: expected at most 1024 bytes once decoded, found a dataset of 4800 bytes");
}

#[test]
fn a_small_file_that_asks_for_gigabytes_is_refused() {
    let group_in_itself = include_bytes!("../../../tests/fixtures/fuzz/hdf5_matrix/group-in-itself.h5ad");
    let long_category = include_bytes!("../../../tests/fixtures/fuzz/hdf5_matrix/long-category.h5ad");
    for (bytes, object) in [(&group_in_itself[..], "uns/a/a/a"), (&long_category[..], "obs/_index/codes")] {
        let error = AnnData::read(bytes.to_vec()).unwrap_err();
        let AnnDataError::Hdf5(Hdf5Error::FileTooLarge { object: found, .. }) = &error else {
            panic!("{error}");
        };
        assert!(found.starts_with(object), "{error}");
    }
}

#[test]
fn a_chunk_that_is_longer_than_its_file_is_refused_before_memory_is_taken() {
    // One chunk of `obs/_index/codes` says that it takes three gigabytes.
    let bytes = include_bytes!("../../../tests/fixtures/fuzz/hdf5_matrix/chunk-past-end.h5ad");
    let error = AnnData::read(bytes.to_vec()).unwrap_err().to_string();
    assert!(
        error.contains("a chunk of 3070230566 bytes at 3246 passes the end of the file at 26648"),
        "{error}"
    );
}

#[test]
fn damaged_bytes_give_an_error_or_a_value_and_never_a_panic() {
    for original in [CSR, CSC_GZIP, DENSE] {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..150 {
            let mut bytes = original.to_vec();
            for _ in 0..4 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (random >> 33) as usize % bytes.len();
                bytes[place] = (random >> 13) as u8;
            }
            drop(AnnData::read(bytes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sparse_layout_survives(
        (rows, cols, values) in (1_usize..12, 1_usize..12).prop_flat_map(|(rows, cols)| {
            let value = prop_oneof![3 => Just(0.0_f32), 1 => 1.0_f32..1e6];
            (Just(rows), Just(cols), proptest::collection::vec(value, rows * cols))
        })
    ) {
        let matrix = Matrix { rows, cols, values };
        let counts = Values::Dense(matrix.clone()).into_sparse();
        prop_assert_eq!(Values::Sparse(counts.clone()).into_dense(), matrix);
        let (obs, var) = (AxisTable::from_names(names("o", rows)), AxisTable::from_names(names("v", cols)));
        let data = AnnData::new(Values::Sparse(counts), obs, var);
        let back = AnnData::read(data.write().unwrap()).unwrap();
        prop_assert_eq!(back, data);
    }

    #[test]
    fn columns_turn_into_rows(
        (rows, cols, values) in (1_usize..9, 1_usize..9).prop_flat_map(|(rows, cols)| {
            let value = prop_oneof![1 => Just(0.0_f32), 1 => 1.0_f32..9.0];
            (Just(rows), Just(cols), proptest::collection::vec(value, rows * cols))
        })
    ) {
        let matrix = Matrix { rows, cols, values };
        let transposed: Vec<f32> = (0..cols).flat_map(|col| matrix.column(col)).collect();
        let by_column = sparse::from_dense(&Matrix { rows: cols, cols: rows, values: transposed });
        let compressed = CompressedMatrix {
            major: cols,
            minor: rows,
            indptr: by_column.row_offsets.iter().map(|&offset| offset as i64).collect(),
            indices: by_column.columns,
            data: by_column.values,
        };
        prop_assert_eq!(compressed.columns_into_rows("X").unwrap(), sparse::from_dense(&matrix));
    }
}
