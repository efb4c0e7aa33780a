//! The folder form of Space Ranger's matrix: `matrix.mtx`, `barcodes.tsv` and `features.tsv` (`genes.tsv` in older
//! ones), each plain or gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::anndata::CompressedMatrix;

use super::table::{Table, TableError};
use super::tenx_matrix::{Feature, GENE_EXPRESSION, TenxMatrix};
use super::text::unpacked;
use crate::error::InputError;

/// Reads the three files of a folder; returns them with the matrix.
///
/// # Errors
/// When a file is absent or damaged, or the files contradict each other; the message names file, line, expected and
/// found.
pub fn read_matrix_folder(folder: &Path) -> Result<(TenxMatrix, Vec<PathBuf>)> {
    let matrix = one_of(folder, &["matrix.mtx.gz", "matrix.mtx"])?;
    let barcodes = one_of(folder, &["barcodes.tsv.gz", "barcodes.tsv"])?;
    let features = one_of(folder, &["features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv"])?;
    let open = |path: &PathBuf| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let read_barcodes = barcodes_from(open(&barcodes)?, &barcodes)?;
    let read_features = features_from(open(&features)?, &features)?;
    let read = read_matrix_market_from(open(&matrix)?, &matrix, read_features, read_barcodes)?;
    Ok((read, vec![matrix, barcodes, features]))
}

fn one_of(folder: &Path, names: &[&str]) -> Result<PathBuf, InputError> {
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| InputError::in_file(folder, "matrix folder", names.join(" or "), "none of them"))
}

fn barcodes_from(source: impl Read + 'static, path: &Path) -> Result<Vec<String>> {
    let mut table = Table::from_reader(source, path, b'\t')?.without_header(&["barcode"]);
    let mut barcodes = Vec::new();
    while let Some(row) = table.next_row()? {
        barcodes.push(row.text(0).to_owned());
    }
    Ok(barcodes)
}

fn features_from(source: impl Read + 'static, path: &Path) -> Result<Vec<Feature>> {
    let table = Table::from_reader(source, path, b'\t')?;
    // Two columns before Cell Ranger 3; after the type come places that nothing here asks for.
    let names = ["id", "name", "feature_type", "chromosome", "start", "end"];
    let columns = table.header().len();
    let Some(names) = names.get(..columns).filter(|_| columns >= 2) else {
        let found = format!("{columns} columns");
        return Err(TableError::header(path, "id, name and feature_type", &found).into());
    };
    let mut table = table.without_header(names);
    let mut features = Vec::new();
    while let Some(row) = table.next_row()? {
        let feature_type = if columns > 2 { row.text(2) } else { GENE_EXPRESSION };
        features.push(Feature {
            id: row.text(0).to_owned(),
            name: row.text(1).to_owned(),
            feature_type: feature_type.to_owned(),
            genome: String::new(),
        });
    }
    Ok(features)
}

/// Reads a Matrix Market file of features × barcodes. Memory grows with the entries that are there, whatever number
/// the file declares.
///
/// # Errors
/// When it is no such file, its sizes are not those of `features` and `barcodes`, an entry lies outside or is no
/// number, or there are more or fewer entries than declared.
pub fn read_matrix_market_from(
    source: impl Read + 'static,
    path: &Path,
    features: Vec<Feature>,
    barcodes: Vec<String>,
) -> Result<TenxMatrix> {
    let text = unpacked(source).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines =
        Lines { path, text: BufReader::with_capacity(1 << 18, text), line: Vec::new(), number: 0 };
    let kinds: Vec<String> = match lines.next()? {
        Some(line) => line.split_ascii_whitespace().map(str::to_ascii_lowercase).collect(),
        None => Vec::new(),
    };
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    if !matches!(kinds.as_slice(), ["%%matrixmarket", "matrix", "coordinate", "integer" | "real", "general"])
    {
        let expected = "%%MatrixMarket matrix coordinate integer general";
        return Err(InputError::in_file(path, "line 1", expected, kinds.join(" ")).into());
    }
    let (rows, columns, declared) = loop {
        let Some(line) = lines.next()? else {
            let expected = "the numbers of features, barcodes and entries";
            return Err(InputError::in_file(path, "sizes", expected, "the end of the file").into());
        };
        if line.starts_with('%') || line.trim().is_empty() {
            continue;
        }
        let sizes: Vec<u64> = line.split_ascii_whitespace().map_while(|size| size.parse().ok()).collect();
        match sizes.as_slice() {
            &[rows, columns, declared] => break (rows, columns, declared),
            _ => return Err(lines.wrong("sizes", "three whole numbers").into()),
        }
    };
    if (rows, columns) != (features.len() as u64, barcodes.len() as u64) {
        let expected =
            format!("{} features × {} barcodes, as listed beside it", features.len(), barcodes.len());
        return Err(InputError::in_file(path, "sizes", expected, format!("{rows} × {columns}")).into());
    }
    let mut entries = Entries::new(features.len(), barcodes.len());
    while let Some(line) = lines.next()? {
        if line.trim().is_empty() {
            continue;
        }
        let mut cells = line.split_ascii_whitespace();
        let mut place = |count: usize| {
            let place: usize = cells.next()?.parse().ok()?;
            place.checked_sub(1).filter(|&place| place < count)
        };
        let (feature, barcode) = (place(features.len()), place(barcodes.len()));
        let value =
            cells.next().and_then(|value| value.parse::<f32>().ok()).filter(|value| value.is_finite());
        let (Some(feature), Some(barcode), Some(value), None) = (feature, barcode, value, cells.next())
        else {
            let expected = format!("a feature of 1 to {rows}, a barcode of 1 to {columns} and a number");
            return Err(lines.wrong("entry", &expected).into());
        };
        if entries.len() as u64 == declared {
            return Err(lines.wrong("entry", &format!("the end after {declared} entries")).into());
        }
        entries.push(feature, barcode, value);
    }
    if entries.len() as u64 != declared {
        let expected = format!("{declared} (line of sizes)");
        return Err(InputError::in_file(path, "entries", expected, entries.len()).into());
    }
    let counts = entries.into_compressed().into_rows("matrix").with_context(|| path.display().to_string())?;
    Ok(TenxMatrix { barcodes, features, counts })
}

/// Entries in file order.
struct Entries {
    features: usize,
    /// How many entries each barcode has.
    lengths: Vec<usize>,
    barcodes: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
    /// Whether the barcodes ascend, as Space Ranger writes them.
    ascending: bool,
}

impl Entries {
    fn new(features: usize, barcodes: usize) -> Self {
        let (columns, values) = (Vec::new(), Vec::new());
        Self { features, lengths: vec![0; barcodes], barcodes: Vec::new(), columns, values, ascending: true }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    /// Takes an entry whose places have been checked.
    fn push(&mut self, feature: usize, barcode: usize, value: f32) {
        if let Some(length) = self.lengths.get_mut(barcode) {
            *length += 1;
        }
        self.ascending &= self.barcodes.last().is_none_or(|&last| last as usize <= barcode);
        self.barcodes.push(barcode as u32);
        self.columns.push(feature as u32);
        self.values.push(value);
    }

    fn into_compressed(self) -> CompressedMatrix {
        let major = self.lengths.len();
        let mut next = Vec::with_capacity(major + 1);
        let mut total = 0;
        for length in &self.lengths {
            next.push(total);
            total += length;
        }
        next.push(total);
        let indptr = next.iter().map(|&offset| offset as i64).collect();
        if self.ascending {
            let (indices, data) = (self.columns, self.values);
            return CompressedMatrix { major, minor: self.features, indptr, indices, data };
        }
        let (mut indices, mut data) = (vec![0; total], vec![0.0; total]);
        for ((barcode, column), value) in self.barcodes.iter().zip(self.columns).zip(self.values) {
            let Some(place) = next.get_mut(*barcode as usize) else { continue };
            if let (Some(index), Some(slot)) = (indices.get_mut(*place), data.get_mut(*place)) {
                (*index, *slot) = (column, value);
            }
            *place += 1;
        }
        CompressedMatrix { major, minor: self.features, indptr, indices, data }
    }
}

/// The lines of a text, with their numbers.
struct Lines<'a, R> {
    path: &'a Path,
    text: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        self.number += 1;
        let unreadable = |found: String| {
            InputError::in_file(self.path, format!("line {}", self.number), "readable text", found)
        };
        if self.text.read_until(b'\n', &mut self.line).map_err(|error| unreadable(error.to_string()))? == 0 {
            return Ok(None);
        }
        let line =
            std::str::from_utf8(&self.line).map_err(|_| unreadable("bytes that are no text".into()))?;
        Ok(Some(line))
    }

    /// The error of a line that should be `expected`.
    fn wrong(&self, what: &str, expected: &str) -> TableError {
        let found = String::from_utf8_lossy(&self.line);
        TableError::cell(self.path, self.number, what, expected, found.trim())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn features(count: usize) -> Vec<Feature> {
        let feature = |index: usize| Feature {
            id: format!("E{index}"),
            name: format!("G{index}"),
            feature_type: GENE_EXPRESSION.into(),
            genome: String::new(),
        };
        (0..count).map(feature).collect()
    }

    fn read(text: &str, rows: usize, columns: usize) -> Result<TenxMatrix> {
        let barcodes = (0..columns).map(|index| format!("B{index}")).collect();
        let text = std::io::Cursor::new(text.as_bytes().to_vec());
        read_matrix_market_from(text, Path::new("matrix.mtx"), features(rows), barcodes)
    }

    const HEAD: &str = "%%MatrixMarket matrix coordinate integer general\n%metadata_json: {}\n";

    #[test]
    fn entries_in_any_order_become_rows() {
        let matrix = read(&format!("{HEAD}3 2 3\n3 2 7\n1 1 2\n2 2 5\n"), 3, 2).unwrap();
        assert_eq!(matrix.counts.row_offsets, [0, 1, 3]);
        assert_eq!(matrix.counts.columns, [0, 1, 2]);
        assert_eq!(matrix.counts.values, [2.0, 5.0, 7.0]);
    }

    #[test]
    fn what_contradicts_the_header_is_named() {
        for (body, says) in [
            ("3 2 1\n4 1 1\n", "line 4, column entry: expected a feature of 1 to 3"),
            ("3 2 1\n0 1 1\n", "found 0 1 1"),
            ("3 2 1\n1 3 1\n", "found 1 3 1"),
            ("3 2 1\n1 1 x\n", "found 1 1 x"),
            ("3 2 1\n1 1 NaN\n", "found 1 1 NaN"),
            ("3 2 2\n1 1 1\n", "entries: expected 2 (line of sizes), found 1"),
            ("3 2 1\n1 1 1\n2 1 1\n", "expected the end after 1 entries, found 2 1 1"),
            ("3 2 2\n1 1 1\n1 1 2\n", "each variable at most once"),
            ("9 2 1\n1 1 1\n", "sizes: expected 3 features × 2 barcodes, as listed beside it, found 9 × 2"),
            ("3 2\n", "three whole numbers"),
            ("", "found the end of the file"),
            ("99999999999 99999999999 99999999999999\n", "found 99999999999 × 99999999999"),
            ("3 2 999999999999999\n1 1 1\n", "expected 999999999999999 (line of sizes), found 1"),
        ] {
            let error = format!("{:#}", read(&format!("{HEAD}{body}"), 3, 2).unwrap_err());
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
        let error = read("%%MatrixMarket matrix array real general\n", 3, 2).unwrap_err().to_string();
        assert!(error.contains("line 1: expected %%MatrixMarket matrix coordinate"), "{error}");
    }

    #[test]
    fn a_folder_of_version_two_or_three_is_read() {
        let gzip = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let matrix = format!("{HEAD}2 1 1\n2 1 4\n");
        let three = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| std::fs::write(three.path().join(name), bytes).unwrap();
        put("matrix.mtx.gz", gzip(&matrix));
        put("barcodes.tsv.gz", gzip("AAAC-1\n"));
        let error = read_matrix_folder(three.path()).unwrap_err().to_string();
        assert!(error.contains("expected features.tsv.gz or features.tsv or genes.tsv"), "{error}");
        put("features.tsv.gz", gzip("E1\tA\tGene Expression\nAB\tB\tAntibody Capture\n"));
        let (read, files) = read_matrix_folder(three.path()).unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(read.features[1].feature_type, "Antibody Capture");
        assert_eq!(read.counts.columns, [1]);

        let two = tempfile::tempdir().unwrap();
        std::fs::write(two.path().join("matrix.mtx"), matrix).unwrap();
        std::fs::write(two.path().join("barcodes.tsv"), "AAAC-1\n").unwrap();
        std::fs::write(two.path().join("genes.tsv"), "E1\tA\nE2\tB\n").unwrap();
        let (read, _) = read_matrix_folder(two.path()).unwrap();
        assert_eq!(
            (read.features[1].id.as_str(), read.features[1].feature_type.as_str()),
            ("E2", GENE_EXPRESSION)
        );
    }

    proptest! {
        #[test]
        fn any_order_of_entries_gives_the_same_matrix(
            dense in prop::collection::vec(0..4_u32, 0..40),
            shuffle in any::<u64>(),
        ) {
            let (rows, columns) = (5, dense.len() / 5);
            let mut entries: Vec<(usize, usize, u32)> = (0..rows * columns)
                .filter(|&at| dense[at] > 0)
                .map(|at| (at % rows + 1, at / rows + 1, dense[at]))
                .collect();
            let text = |entries: &[(usize, usize, u32)]| {
                let lines: String = entries.iter().map(|(i, j, v)| format!("{i} {j} {v}\n")).collect();
                format!("{HEAD}{rows} {columns} {}\n{lines}", entries.len())
            };
            let ordered = read(&text(&entries), rows, columns).unwrap();
            entries.sort_by_key(|entry| (entry.0 as u64 * 31 + entry.1 as u64).wrapping_mul(shuffle | 1));
            prop_assert_eq!(read(&text(&entries), rows, columns).unwrap(), ordered.clone());
            let total: f32 = ordered.counts.values.iter().sum();
            prop_assert_eq!(total, dense[..rows * columns].iter().sum::<u32>() as f32);
        }
    }
}
