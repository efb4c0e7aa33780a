use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use magnet_core::coordinates::SlidePx;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::{BinPosition, COLUMNS, PositionRow, Source, in_tissue, thrift};
use crate::dataset::table::TableError;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic_with};

/// Several times the 11 million bins of 2 µm that a whole capture area has.
const MOST_ROWS: u64 = 100_000_000;
/// What a Parquet file ends with, after the length of its footer in four bytes.
const END: &[u8] = b"PAR1";
/// Rows held in memory at a time.
const BATCH: usize = 1 << 16;

/// Reads a positions table batch by batch.
pub(super) fn visit(
    source: impl Source,
    path: &Path,
    take: &mut dyn FnMut(PositionRow<'_>) -> Result<()>,
) -> Result<()> {
    // The Parquet library checks some of what a damaged file says with assertions. Nothing outlives the read but what
    // `take` keeps, which is dropped with the error, so a panic in it is an error like any other.
    catch_unwind(AssertUnwindSafe(|| read(source, path, take))).unwrap_or_else(|_| {
        let (expected, found) = ("a complete Parquet file of bin positions", "damage");
        Err(InputError::in_file(path, "content", expected, found).into())
    })
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> InputError {
    InputError::in_file(path, "content", "a complete Parquet file of bin positions", error)
}

fn read(source: impl Source, path: &Path, take: &mut dyn FnMut(PositionRow<'_>) -> Result<()>) -> Result<()> {
    let source = Arc::new(source);
    check_footer(source.as_ref(), path)?;
    let reader = SerializedFileReader::new(Shared(source.clone())).map_err(|error| damaged(path, &error))?;
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        if start < 0 || column.compressed_size() < 0 {
            return Err(damaged(path, &"a column that starts or ends before the file does").into());
        }
    }
    let schema = reader.metadata().file_metadata().schema_descr();
    let found: Vec<&str> = schema.columns().iter().map(|column| column.name()).collect();
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        let Some(at) = found.iter().position(|column| *column == name) else {
            return Err(TableError::header(path, name, &found.join(", ")).into());
        };
        if schema.column(at).max_rep_level() > 0 || schema.column(at).max_def_level() > 1 {
            let (expected, lists) = ("one value in each row", "lists or records");
            return Err(InputError::in_file(path, format!("column {name}"), expected, lists).into());
        }
        *place = at;
    }
    check_pages(source.as_ref(), &reader, places, path)?;
    let mut first_row = 1;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|error| damaged(path, &error))?;
        let mut columns = Vec::with_capacity(COLUMNS.len());
        for place in places {
            columns.push(group.get_column_reader(place).map_err(|error| damaged(path, &error))?);
        }
        loop {
            let mut batch = Batch { path, first_row, columns: Vec::with_capacity(COLUMNS.len()) };
            for (column, name) in columns.iter_mut().zip(COLUMNS) {
                let cells = Cells::read(column).map_err(|error| {
                    damaged(path, &format!("damage in column {name} after row {}: {error}", first_row - 1))
                })?;
                batch.columns.push(cells);
            }
            let rows = batch.give(take)?;
            first_row += rows as u64;
            if first_row > MOST_ROWS {
                return Err(InputError::in_file(path, "rows", format!("at most {MOST_ROWS}"), "more").into());
            }
            if rows < BATCH {
                break;
            }
        }
    }
    Ok(())
}

/// Refuses a footer that would keep the library busy; one that is not there at all is left to the library.
fn check_footer(source: &impl Source, path: &Path) -> Result<()> {
    let length = source.len();
    let Some(tail) = length.checked_sub(8) else { return Ok(()) };
    let end = source.get_bytes(tail, 8).map_err(|error| damaged(path, &error))?;
    let Some((size, END)) = end.split_first_chunk::<4>().map(|(size, end)| (u32::from_le_bytes(*size), end))
    else {
        return Ok(());
    };
    let Some(start) = tail.checked_sub(size.into()) else { return Ok(()) };
    let footer = source.get_bytes(start, size as usize).map_err(|error| damaged(path, &error))?;
    thrift::check_footer(&footer).map_err(|found| {
        InputError::in_file(path, "footer", "Parquet's metadata in its compact form", found).into()
    })
}

/// Refuses page headers that would keep the library busy, and columns that lie over each other, which would be read
/// once for each. What else is wrong with pages is left to the library.
fn check_pages<R: ChunkReader + 'static>(
    source: &impl Source,
    reader: &SerializedFileReader<R>,
    places: [usize; COLUMNS.len()],
    path: &Path,
) -> Result<()> {
    let file_bytes = source.len();
    let mut unclaimed = file_bytes;
    for group in reader.metadata().row_groups() {
        for (place, name) in places.into_iter().zip(COLUMNS) {
            let (mut offset, mut left) = group.column(place).byte_range();
            unclaimed = unclaimed.checked_sub(left).ok_or_else(|| {
                let expected = format!("columns that fill the file's {file_bytes} bytes once at most");
                InputError::in_file(path, "row groups", expected, "more")
            })?;
            while left > 0 {
                let header = source.get_read(offset).map_err(|error| damaged(path, &error))?;
                let page = thrift::check_page_header(header, left).map_err(|found| {
                    let field = format!("column {name}, page header at {offset}");
                    InputError::in_file(path, field, "Parquet's page header in its compact form", found)
                })?;
                let bytes = page.body_bytes.and_then(|bytes| bytes.checked_add(page.header_bytes));
                let Some((after, bytes)) = bytes.and_then(|bytes| Some((left.checked_sub(bytes)?, bytes)))
                else {
                    break;
                };
                (offset, left) = (offset + bytes, after);
            }
        }
    }
    Ok(())
}

/// The source, for the library and for the checks before it.
struct Shared<S>(Arc<S>);

impl<S: Source> Length for Shared<S> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<S: Source> ChunkReader for Shared<S> {
    type T = S::T;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<bytes::Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Up to [`BATCH`] rows of all columns, in the order of [`COLUMNS`].
struct Batch<'a> {
    path: &'a Path,
    first_row: u64,
    columns: Vec<Cells>,
}

impl Batch<'_> {
    /// Hands on the rows, and tells how many there were.
    fn give(&self, take: &mut dyn FnMut(PositionRow<'_>) -> Result<()>) -> Result<usize> {
        let [barcode, tissue, array_row, array_col, pxl_row, pxl_col] = self.columns.as_slice() else {
            bail!("{}: not all columns were read", self.path.display());
        };
        let rows = barcode.len();
        if let Some((cells, name)) = self.columns.iter().zip(COLUMNS).find(|(cells, _)| cells.len() != rows) {
            let found = format!("{} rows of {name} beside {rows} of barcode", cells.len());
            return Err(damaged(self.path, &found).into());
        }
        for row in 0..rows {
            let wrong = |cells: &Cells, name: &str, expected: &str| {
                let line = self.first_row + row as u64;
                TableError::cell(self.path, line, name, expected, cells.shown(row))
            };
            let integer = |cells: &Cells, name| {
                let value = cells.integer(row).and_then(|value| i32::try_from(value).ok());
                value.ok_or_else(|| wrong(cells, name, "an integer"))
            };
            let pixels = |cells: &Cells, name| {
                let value = cells.number(row).filter(|value| value.is_finite());
                value.ok_or_else(|| wrong(cells, name, "a finite number of pixels"))
            };
            let flag = integer(tissue, "in_tissue")?;
            take(PositionRow {
                barcode: barcode.text(row).ok_or_else(|| wrong(barcode, "barcode", "text"))?,
                in_tissue: in_tissue(flag.into(), || wrong(tissue, "in_tissue", "0 or 1"))?,
                array_row: integer(array_row, "array_row")?,
                array_col: integer(array_col, "array_col")?,
                center_px: SlidePx {
                    x: pixels(pxl_col, "pxl_col_in_fullres")?,
                    y: pixels(pxl_row, "pxl_row_in_fullres")?,
                },
            })?;
        }
        Ok(rows)
    }
}

/// Cells of one column, in whichever type it is stored; `None` where a cell is empty.
enum Cells {
    Texts(Vec<Option<ByteArray>>),
    Integers(Vec<Option<i64>>),
    Numbers(Vec<Option<f64>>),
    Others(usize),
}

impl Cells {
    /// The next cells of a column; fewer than [`BATCH`] at its end.
    fn read(column: &mut ColumnReader) -> parquet::errors::Result<Self> {
        Ok(match column {
            ColumnReader::ByteArrayColumnReader(reader) => Self::Texts(next(reader, |value| value)?),
            ColumnReader::BoolColumnReader(reader) => Self::Integers(next(reader, i64::from)?),
            ColumnReader::Int32ColumnReader(reader) => Self::Integers(next(reader, i64::from)?),
            ColumnReader::Int64ColumnReader(reader) => Self::Integers(next(reader, |value| value)?),
            ColumnReader::FloatColumnReader(reader) => Self::Numbers(next(reader, f64::from)?),
            ColumnReader::DoubleColumnReader(reader) => Self::Numbers(next(reader, |value| value)?),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Self::Others(next(reader, drop)?.len()),
            ColumnReader::Int96ColumnReader(reader) => Self::Others(next(reader, drop)?.len()),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(cells) => cells.len(),
            Self::Integers(cells) => cells.len(),
            Self::Numbers(cells) => cells.len(),
            Self::Others(cells) => *cells,
        }
    }

    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Texts(cells) => cells.get(row)?.as_ref()?.as_utf8().ok(),
            _ => None,
        }
    }

    fn integer(&self, row: usize) -> Option<i64> {
        match self {
            Self::Integers(cells) => *cells.get(row)?,
            _ => None,
        }
    }

    fn number(&self, row: usize) -> Option<f64> {
        match self {
            Self::Numbers(cells) => *cells.get(row)?,
            Self::Integers(cells) => cells.get(row)?.map(|value| value as f64),
            _ => None,
        }
    }

    /// The cell as an error shows it.
    fn shown(&self, row: usize) -> String {
        let text = match self {
            Self::Texts(cells) => cells.get(row).and_then(Option::as_ref).map(|cell| match cell.as_utf8() {
                Ok(text) => text.to_owned(),
                Err(_) => "bytes that are no UTF-8".to_owned(),
            }),
            Self::Integers(_) => self.integer(row).map(|value| value.to_string()),
            Self::Numbers(_) => self.number(row).map(|value| value.to_string()),
            Self::Others(_) => Some("a value of another type".to_owned()),
        };
        text.unwrap_or_else(|| "null".to_owned())
    }
}

/// Up to [`BATCH`] cells of a column.
fn next<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    convert: impl Fn(T::T) -> V,
) -> parquet::errors::Result<Vec<Option<V>>> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut rows = 0;
    // One call may end at the border of a page.
    while rows < BATCH {
        let (records, ..) = reader.read_records(BATCH - rows, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        rows += records;
    }
    let mut values = values.into_iter().map(convert);
    if levels.is_empty() {
        return Ok(values.map(Some).collect());
    }
    // Flat columns: a cell is there at the highest level, and the levels are all 0 or 1.
    Ok(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}

/// Writes a positions table with the types and compression that Space Ranger uses.
///
/// # Errors
/// When the file exists and may not be replaced, or cannot be written.
pub fn write_positions_parquet(path: &Path, positions: &[BinPosition], overwrite: Overwrite) -> Result<()> {
    let schema = "message schema {
        optional binary barcode (UTF8);
        optional int32 in_tissue;
        optional int32 array_row;
        optional int32 array_col;
        optional double pxl_row_in_fullres;
        optional double pxl_col_in_fullres;
    }";
    let schema = Arc::new(parse_message_type(schema)?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    write_atomic_with(path, overwrite, |out| {
        let encode = || -> parquet::errors::Result<()> {
            let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
            let mut group = writer.next_row_group()?;
            // Every cell of an optional column is present.
            let present = vec![1_i16; positions.len()];
            let barcodes: Vec<ByteArray> =
                positions.iter().map(|position| ByteArray::from(position.barcode.as_str())).collect();
            write_column::<ByteArrayType>(&mut group, &barcodes, &present)?;
            let integers: [fn(&BinPosition) -> i32; 3] = [
                |position| i32::from(position.in_tissue),
                |position| position.array_row,
                |position| position.array_col,
            ];
            for field in integers {
                let values: Vec<i32> = positions.iter().map(field).collect();
                write_column::<Int32Type>(&mut group, &values, &present)?;
            }
            let numbers: [fn(&BinPosition) -> f64; 2] =
                [|position| position.center_px.y, |position| position.center_px.x];
            for field in numbers {
                let values: Vec<f64> = positions.iter().map(field).collect();
                write_column::<DoubleType>(&mut group, &values, &present)?;
            }
            group.close()?;
            writer.close()?;
            Ok(())
        };
        encode().with_context(|| format!("cannot write {}", path.display()))
    })
}

fn write_column<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
    values: &[T::T],
    present: &[i16],
) -> parquet::errors::Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, Some(present), None)?;
        column.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::read_positions;
    use super::*;

    /// From the package, where tests run: a path from compile time would outlive a moved clone.
    const FIXTURE: &str = "../tests/fixtures/tenx/tissue_positions.parquet";

    fn position(row: i32, col: i32, in_tissue: bool) -> BinPosition {
        let barcode = format!("s_008um_{row:05}_{col:05}-1");
        let center_px = SlidePx { x: f64::from(col) * 29.25, y: f64::from(row) * 29.25 + 0.5 };
        BinPosition { barcode, in_tissue, array_row: row, array_col: col, center_px }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tissue_positions.parquet");
        let positions = vec![position(0, 0, true), position(0, 7, false), position(269, 526, true)];
        write_positions_parquet(&path, &positions, Overwrite::No).unwrap();
        assert_eq!(read_positions(&path).unwrap(), positions);
        assert!(write_positions_parquet(&path, &positions, Overwrite::No).is_err());
    }

    #[test]
    fn a_table_of_another_writer_is_read() {
        let path = Path::new(FIXTURE);
        let positions = read_positions(path).unwrap();
        let expected = BinPosition {
            barcode: "s_016um_00001_00000-1".into(),
            in_tissue: false,
            array_row: 1,
            array_col: 0,
            center_px: SlidePx { x: 8.5, y: 40.25 },
        };
        assert_eq!(positions.len(), 3);
        assert_eq!(positions[2], expected);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tissue_positions.parquet");
        std::fs::write(&path, b"barcode,in_tissue\n").unwrap();
        let error = format!("{:#}", read_positions(&path).unwrap_err());
        assert!(error.contains("expected a complete Parquet file"), "{error}");
        write_positions_parquet(&path, &[position(1, 2, true)], Overwrite::Yes).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(read_positions(&path).is_err());
    }

    #[test]
    fn a_missing_column_and_an_empty_cell_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let write_null_barcodes = |schema: &str| {
            let schema = Arc::new(parse_message_type(schema).unwrap());
            let mut writer =
                SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[], Some(&[0]), None).unwrap();
            column.close().unwrap();
            while let Some(mut column) = group.next_column().unwrap() {
                column.typed::<Int32Type>().write_batch(&[1], Some(&[1]), None).unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
            writer.close().unwrap();
        };
        write_null_barcodes("message schema { optional binary barcode (UTF8); optional int32 in_tissue; }");
        let error = format!("{:#}", read_positions(&path).unwrap_err());
        assert!(error.ends_with("header: expected a column array_row, found barcode, in_tissue"), "{error}");
        write_null_barcodes(
            "message schema { optional binary barcode (UTF8); optional int32 in_tissue; optional int32 array_row;
             optional int32 array_col; optional int32 pxl_row_in_fullres; optional int32 pxl_col_in_fullres; }",
        );
        let error = format!("{:#}", read_positions(&path).unwrap_err());
        assert!(error.contains("line 1, column barcode: expected text, found null"), "{error}");
    }

    /// Lists that claim 2³¹ − 1 booleans each, as field 100, which the library does not know.
    fn booleans() -> Vec<u8> {
        [0x09, 0xc8, 0x01, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07].repeat(20)
    }

    fn refusal(bytes: Vec<u8>) -> String {
        format!("{:#}", super::super::read_positions_bytes(bytes, Path::new("t.parquet")).unwrap_err())
    }

    #[test]
    fn lists_of_booleans_in_the_footer_are_refused() {
        let mut bytes = std::fs::read(FIXTURE).unwrap();
        // Before the zero that ends the footer's structure.
        let end = bytes.len() - 9;
        let size = u32::from_le_bytes(bytes[end + 1..end + 5].try_into().unwrap());
        bytes[end + 1..end + 5].copy_from_slice(&(size + booleans().len() as u32).to_le_bytes());
        bytes.splice(end..end, booleans());
        let error = refusal(bytes);
        assert!(error.starts_with("t.parquet: footer: "), "{error}");
        assert!(error.contains("found a list of 2147483647 values of type 1"), "{error}");
        // Alone in a file of two hundred bytes.
        let size = (booleans().len() as u32 + 1).to_le_bytes();
        let small = [&b"PAR1"[..], &booleans(), &[0], &size, b"PAR1"].concat();
        assert!(small.len() < 200 && refusal(small).contains("footer"));
    }

    #[test]
    fn lists_of_booleans_in_a_page_header_are_refused() {
        let mut bytes = std::fs::read(FIXTURE).unwrap();
        let reader = SerializedFileReader::new(File::open(FIXTURE).unwrap()).unwrap();
        let (start, _) = reader.metadata().row_group(0).column(3).byte_range();
        let place = start as usize;
        bytes[place..place + booleans().len()].copy_from_slice(&booleans());
        let error = refusal(bytes);
        assert!(
            error.starts_with(&format!("t.parquet: column array_col, page header at {start}: ")),
            "{error}"
        );
    }

    #[test]
    fn columns_over_each_other_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let positions: Vec<_> = (0..3000).map(|row| position(row, row, true)).collect();
        write_positions_parquet(&path, &positions, Overwrite::No).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let group = reader.metadata().row_group(0).clone();
        let metadata = reader.metadata().file_metadata().clone();
        // The same row group many times.
        let groups = vec![group; 10];
        let metadata = parquet::file::metadata::ParquetMetaData::new(metadata, groups);
        let mut footer = Vec::new();
        parquet::file::metadata::ParquetMetaDataWriter::new(&mut footer, &metadata).finish().unwrap();
        let bytes = [std::fs::read(&path).unwrap(), footer].concat();
        let error = refusal(bytes);
        assert!(error.contains("row groups: expected columns that fill the file's"), "{error}");
    }

    #[test]
    fn damaged_bytes_give_an_error_or_a_value_and_never_a_panic() {
        let original = std::fs::read(FIXTURE).unwrap();
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
            drop(read_positions(&path));
        }
    }
}
