//! Tab- or comma-separated tables, plain or gzipped; every complaint names file, line, column, expected and found.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::text::unpacked;

/// A table that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A cell holds something else.
    #[error("{}, line {line}, column {column}: expected {expected}, found {found}", file.display())]
    Cell {
        /// The table's file.
        file: PathBuf,
        /// Line in the file, from 1; in a binary table, the row.
        line: u64,
        /// Name of the column.
        column: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A row has more or fewer cells than the header says.
    #[error("{}, line {line}: expected {expected} columns, found {found}", file.display())]
    Ragged {
        /// The table's file.
        file: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// Number of columns of the header.
        expected: usize,
        /// Number of columns of the row.
        found: usize,
    },
    /// The header lacks a column.
    #[error("{}, header: expected a column {column}, found {found}", file.display())]
    Header {
        /// The table's file.
        file: PathBuf,
        /// The column that should be there.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// The text ends early or is no text.
    #[error("{}, after line {line}: expected {expected}, found {found}", file.display())]
    Unreadable {
        /// The table's file.
        file: PathBuf,
        /// The last line that could be read.
        line: u64,
        /// What should follow.
        expected: String,
        /// What stands in the way.
        found: String,
    },
}

impl TableError {
    /// A cell that holds something else; a long `found` is cut.
    pub fn cell(
        file: &Path,
        line: u64,
        column: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let mut found: String = found.into();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain("…".chars()).collect();
        }
        Self::Cell { file: file.to_path_buf(), line, column: column.into(), expected: expected.into(), found }
    }

    /// A header without a needed column.
    pub fn header(file: &Path, column: &str, found: &str) -> Self {
        let found = if found.is_empty() { "no columns".to_owned() } else { found.to_owned() };
        Self::Header { file: file.to_path_buf(), column: column.to_owned(), found }
    }
}

/// A table read row by row.
pub struct Table {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read>>,
    header: Vec<String>,
    record: csv::StringRecord,
    /// Whether `record` is a row that was read and not given out yet.
    pending: bool,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Table {
    /// Opens a table with a header line; gzip is recognised by its first bytes, not by the name.
    ///
    /// # Errors
    /// When the file cannot be read or has no header.
    pub fn open(path: &Path, delimiter: u8) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::from_reader(file, path, delimiter)
    }

    /// Like [`Table::open`] for bytes from anywhere; `path` is what errors call them.
    ///
    /// # Errors
    /// When they cannot be read or have no header.
    pub fn from_reader(source: impl Read + 'static, path: &Path, delimiter: u8) -> Result<Self> {
        let text = unpacked(source).with_context(|| format!("cannot read {}", path.display()))?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(delimiter == b',')
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(1 << 16)
            .from_reader(text);
        let mut record = csv::StringRecord::new();
        let found = reader.read_record(&mut record).map_err(|error| unreadable(path, 0, &error))?;
        let header: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
        if !found {
            return Err(TableError::header(path, "line", "").into());
        }
        Ok(Self { path: path.to_path_buf(), reader, header, record, pending: false })
    }

    /// For a table without a header: its first line is a row, and `names` are its columns.
    pub fn without_header(mut self, names: &[&str]) -> Self {
        self.header = names.iter().map(|&name| name.to_owned()).collect();
        self.pending = true;
        self
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Position of the column called `name`.
    ///
    /// # Errors
    /// When the header has no such column.
    pub fn column(&self, name: &str) -> Result<usize, TableError> {
        let position = self.header.iter().position(|column| column == name);
        position.ok_or_else(|| {
            let mut found = self.header.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
            if self.header.len() > 12 {
                found.push_str(", …");
            }
            TableError::header(&self.path, name, &found)
        })
    }

    /// The next row, or `None` at the end. Rows must have as many cells as the header.
    ///
    /// # Errors
    /// When the text ends early, is not UTF-8, or the row is ragged.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, TableError> {
        let before = self.reader.position().line();
        if !std::mem::take(&mut self.pending) {
            match self.reader.read_record(&mut self.record) {
                Ok(false) => return Ok(None),
                Ok(true) => {}
                Err(error) => return Err(unreadable(&self.path, before.saturating_sub(1), &error)),
            }
        }
        let line = self.record.position().map_or(before, csv::Position::line);
        if self.record.len() != self.header.len() {
            let (expected, found) = (self.header.len(), self.record.len());
            return Err(TableError::Ragged { file: self.path.clone(), line, expected, found });
        }
        Ok(Some(Row { table: self, line }))
    }
}

/// One row of a [`Table`].
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a Table,
    line: u64,
}

impl Row<'_> {
    /// The cells.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        self.table.record.iter()
    }

    /// The cell at `column`, without surrounding blanks.
    pub fn text(&self, column: usize) -> &str {
        self.table.record.get(column).unwrap_or_default().trim()
    }

    /// The cell at `column` as a number of type `T`.
    ///
    /// # Errors
    /// When it is something else; `expected` says what it should be.
    pub fn parse<T: std::str::FromStr>(&self, column: usize, expected: &str) -> Result<T, TableError> {
        self.text(column).parse().map_err(|_| self.wrong(column, expected))
    }

    /// The error of a cell that should be `expected`.
    pub fn wrong(&self, column: usize, expected: &str) -> TableError {
        let name = match self.table.header.get(column) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => (column + 1).to_string(),
        };
        let found = match self.text(column) {
            "" => "an empty cell".to_owned(),
            text => text.to_owned(),
        };
        TableError::cell(&self.table.path, self.line, name, expected, found)
    }
}

fn unreadable(path: &Path, line: u64, error: &csv::Error) -> TableError {
    let (expected, found) = match error.kind() {
        csv::ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            ("the rest of a gzip stream", "the end of the file (it is truncated)".to_owned())
        }
        csv::ErrorKind::Io(io) => ("readable content", io.to_string()),
        csv::ErrorKind::Utf8 { .. } => ("UTF-8 text", "other bytes".to_owned()),
        _ => ("a table", error.to_string()),
    };
    TableError::Unreadable { file: path.to_path_buf(), line, expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Vec<String>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tsv");
        std::fs::write(&path, bytes).unwrap();
        let mut table = Table::open(&path, b'\t')?;
        let mut rows = vec![table.header().to_vec()];
        while let Some(row) = table.next_row()? {
            rows.push(row.cells().map(str::to_owned).collect());
        }
        Ok(rows)
    }

    #[test]
    fn plain_and_gzipped_tables_read_alike() {
        let text = "\tA\tB\n1x1\t0\t3\n1x2\t4\t\"\n";
        let plain = read_all(text.as_bytes()).unwrap();
        assert_eq!(plain, [["", "A", "B"], ["1x1", "0", "3"], ["1x2", "4", "\""]]);
        assert_eq!(read_all(&gzip(text)).unwrap(), plain);
    }

    #[test]
    fn errors_name_the_line() {
        let error = read_all(b"a\tb\n1\t2\n3\n").unwrap_err().to_string();
        assert!(error.ends_with("t.tsv, line 3: expected 2 columns, found 1"), "{error}");
        let error = read_all(b"a\tb\n1\t\xff\n").unwrap_err().to_string();
        assert!(error.contains("expected UTF-8 text"), "{error}");
        let error = read_all(b"").unwrap_err().to_string();
        assert!(error.contains("found no columns"), "{error}");
        let text: String = (0..5000).map(|row| format!("{row}\t{}\n", row * 7919 % 1000)).collect();
        let mut bytes = gzip(&text);
        bytes.truncate(bytes.len() / 2);
        let error = read_all(&bytes).unwrap_err().to_string();
        assert!(error.contains("the end of the file (it is truncated)"), "{error}");
    }

    #[test]
    fn a_table_without_a_header_loses_no_row() {
        let table = Table::from_reader(&b"a,1\nb,2\n"[..], Path::new("t.csv"), b',').unwrap();
        let mut table = table.without_header(&["name", "count"]);
        let mut rows = Vec::new();
        while let Some(row) = table.next_row().unwrap() {
            rows.push((row.text(0).to_owned(), row.parse::<u8>(1, "a number").unwrap()));
        }
        assert_eq!(rows, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let table = Table::from_reader(&b"a,x\n"[..], Path::new("t.csv"), b',').unwrap();
        let mut table = table.without_header(&["name", "count"]);
        let error = table.next_row().unwrap().unwrap().parse::<u8>(1, "a number").unwrap_err().to_string();
        assert_eq!(error, "t.csv, line 1, column count: expected a number, found x");
    }

    #[test]
    fn a_missing_column_and_a_wrong_cell_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tsv");
        std::fs::write(&path, "x\ty\n1\tabc\n").unwrap();
        let mut table = Table::open(&path, b'\t').unwrap();
        assert!(table.column("z").unwrap_err().to_string().ends_with("expected a column z, found x, y"));
        let row = table.next_row().unwrap().unwrap();
        let error = row.parse::<f64>(1, "a number").unwrap_err().to_string();
        assert!(error.ends_with("t.tsv, line 2, column y: expected a number, found abc"), "{error}");
    }
}
