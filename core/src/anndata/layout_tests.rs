//! Every layout and type in which files hold counts gives the same matrix.

use proptest::prelude::*;

use super::*;
use crate::hdf5::{Attribute, Data, Hdf5Writer};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Dense,
    ByRow,
    ByColumn,
    /// By row, in the attributes of files from before AnnData 0.7.
    Old,
}

#[derive(Debug, Clone, Copy)]
enum Type {
    I32,
    I64,
    F32,
    F64,
}

fn numbers(values: &[f32], stored: Type) -> Data {
    let values = values.iter().copied();
    match stored {
        Type::I32 => Data::I32(values.map(|value| value as i32).collect()),
        Type::I64 => Data::I64(values.map(|value| value as i64).collect()),
        Type::F32 => Data::F32(values.collect()),
        Type::F64 => Data::F64(values.map(f64::from).collect()),
    }
}

fn write_matrix(
    file: &mut Hdf5Writer,
    path: &str,
    matrix: &Matrix,
    layout: Layout,
    stored: Type,
    wide: bool,
) {
    let (rows, cols) = (matrix.rows, matrix.cols);
    if layout == Layout::Dense {
        file.dataset(path, &[rows, cols], numbers(&matrix.values, stored)).unwrap();
        return;
    }
    let (format, shape) = match layout {
        Layout::Old => ("h5sparse_format", "h5sparse_shape"),
        _ => ("encoding-type", "shape"),
    };
    let name = match layout {
        Layout::ByColumn => "csc_matrix",
        Layout::Old => "csr",
        _ => "csr_matrix",
    };
    let (major, minor) = if layout == Layout::ByColumn { (cols, rows) } else { (rows, cols) };
    let (mut indptr, mut indices, mut data) = (vec![0_i64], Vec::new(), Vec::new());
    for outer in 0..major {
        for inner in 0..minor {
            let (row, col) = if layout == Layout::ByColumn { (inner, outer) } else { (outer, inner) };
            let value = matrix.values[row * cols + col];
            if value != 0.0 {
                indices.push(inner as i64);
                data.push(value);
            }
        }
        indptr.push(indices.len() as i64);
    }
    let index = |values: Vec<i64>| match wide {
        true => Data::I64(values),
        false => Data::I32(values.into_iter().map(|value| value as i32).collect()),
    };
    file.group(path).unwrap();
    file.attribute(path, format, Attribute::Text(name.into())).unwrap();
    file.attribute(path, shape, Attribute::Integers(vec![rows as i64, cols as i64])).unwrap();
    file.dataset(&format!("{path}/indptr"), &[major + 1], index(indptr)).unwrap();
    file.dataset(&format!("{path}/indices"), &[indices.len()], index(indices)).unwrap();
    file.dataset(&format!("{path}/data"), &[data.len()], numbers(&data, stored)).unwrap();
}

fn read_back(matrix: &Matrix, layout: Layout, stored: Type, wide: bool) -> CountMatrix {
    let mut file = Hdf5Writer::new();
    for (table, rows) in [("obs", matrix.rows), ("var", matrix.cols)] {
        file.group(table).unwrap();
        file.attribute(table, "_index", Attribute::Text("_index".into())).unwrap();
        let names = (0..rows).map(|row| format!("n{row}")).collect();
        file.dataset(&format!("{table}/_index"), &[rows], Data::Texts(names)).unwrap();
    }
    for path in ["X", "layers/counts", "raw/X"] {
        write_matrix(&mut file, path, matrix, layout, stored, wide);
    }
    let bytes = file.finish().unwrap();
    let file = crate::hdf5::Hdf5File::from_bytes(bytes, Limits::default()).unwrap();
    let data = AnnDataFile::new(&file).unwrap();
    assert_eq!(data.matrices().unwrap(), ["X", "layers/counts", "raw/X"]);
    let shape = (matrix.rows, matrix.cols);
    let read = |path| data.matrix(path, shape).unwrap().into_sparse();
    let x = read("X");
    assert_eq!(read("layers/counts"), x);
    assert_eq!(read("raw/X"), x);
    x
}

const LAYOUTS: [Layout; 4] = [Layout::Dense, Layout::ByRow, Layout::ByColumn, Layout::Old];
const TYPES: [Type; 4] = [Type::I32, Type::I64, Type::F32, Type::F64];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_layout_and_type_gives_the_same_counts(
        counts in prop::collection::vec(prop_oneof![3 => Just(0_u16), 1 => any::<u16>()], 1..60),
        cols in 1_usize..6,
        layout in prop::sample::select(&LAYOUTS[..]),
        stored in prop::sample::select(&TYPES[..]),
        wide in any::<bool>(),
    ) {
        let rows = counts.len().div_ceil(cols);
        let mut values: Vec<f32> = counts.iter().map(|&count| f32::from(count)).collect();
        values.resize(rows * cols, 0.0);
        let matrix = Matrix::new(rows, cols, values).unwrap();
        prop_assert_eq!(read_back(&matrix, layout, stored, wide), sparse::from_dense(&matrix));
    }
}

#[test]
fn matrices_that_are_chunked_and_compressed_give_the_same_counts() {
    let (rows, cols) = (211, 331);
    let values = (0..rows * cols).map(|at| (at * 7919 % 13 % 5) as f32).collect();
    let matrix = Matrix::new(rows, cols, values).unwrap();
    let expected = sparse::from_dense(&matrix);
    for layout in LAYOUTS {
        for (stored, wide) in [(Type::I32, false), (Type::F64, true)] {
            assert_eq!(read_back(&matrix, layout, stored, wide), expected, "{layout:?} {stored:?}");
        }
    }
}
