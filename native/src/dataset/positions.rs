//! `tissue_positions.parquet`: where each bin of a Visium HD run lies.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use magnet_core::coordinates::SlidePx;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;

use super::table::TableError;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic_with};

/// The columns, in file order.
const COLUMNS: [&str; 6] =
    ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"];
/// Several times the 11 million bins of 2 µm that a whole capture area has.
const MOST_ROWS: usize = 100_000_000;

/// One row of the positions table.
#[derive(Debug, Clone, PartialEq)]
pub struct BinPosition {
    /// Name of the bin, such as `s_008um_00269_00526-1`.
    pub barcode: String,
    /// Whether the bin lies under tissue.
    pub in_tissue: bool,
    /// Row of the array.
    pub array_row: i32,
    /// Column of the array.
    pub array_col: i32,
    /// Centre in full-resolution pixels.
    pub center_px: SlidePx,
}

/// Reads a positions table.
///
/// # Errors
/// When the file is no Parquet file, lacks a column, or holds a cell of another type; the message names file, line,
/// column, expected and found.
pub fn read_positions_parquet(path: &Path) -> Result<Vec<BinPosition>> {
    // The Parquet library checks some of what a damaged file says with assertions. Nothing outlives the read, so a
    // panic in it is an error like any other.
    std::panic::catch_unwind(|| read(path)).unwrap_or_else(|_| {
        let (expected, found) = ("a complete Parquet file of bin positions", "damage");
        Err(InputError::in_file(path, "content", expected, found).into())
    })
}

fn read(path: &Path) -> Result<Vec<BinPosition>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let damaged = |error: &dyn std::fmt::Display| {
        InputError::in_file(path, "content", "a complete Parquet file of bin positions", error)
    };
    let reader = SerializedFileReader::new(file).map_err(|error| damaged(&error))?;
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        if start < 0 || column.compressed_size() < 0 {
            return Err(damaged(&"a column that starts or ends before the file does").into());
        }
    }
    let schema = reader.metadata().file_metadata().schema();
    let found: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    if let Some(missing) = COLUMNS.iter().find(|column| !found.contains(column)) {
        let found = found.join(", ");
        return Err(TableError::header(path, missing, &found).into());
    }
    let rows = reader.get_row_iter(None).map_err(|error| damaged(&error))?;
    let mut positions = Vec::new();
    for (index, row) in rows.enumerate() {
        if index >= MOST_ROWS {
            return Err(InputError::in_file(path, "rows", format!("at most {MOST_ROWS}"), "more").into());
        }
        let row = row.map_err(|error| damaged(&format!("damage at row {}: {error}", index + 1)))?;
        let cell =
            |name: &str| row.get_column_iter().find(|(column, _)| *column == name).map(|(_, field)| field);
        let wrong = |name: &str, expected: &str, field: Option<&Field>| {
            let found = field.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            TableError::cell(path, index as u64 + 1, name, expected, found)
        };
        let text = |name| match cell(name) {
            Some(Field::Str(text)) => Ok(text.clone()),
            Some(Field::Bytes(bytes)) => match bytes.as_utf8() {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => Err(wrong(name, "UTF-8 text", cell(name))),
            },
            other => Err(wrong(name, "text", other)),
        };
        let integer = |name| {
            match cell(name) {
                Some(Field::Bool(value)) => Some(i64::from(*value)),
                Some(Field::Byte(value)) => Some(i64::from(*value)),
                Some(Field::UByte(value)) => Some(i64::from(*value)),
                Some(Field::Short(value)) => Some(i64::from(*value)),
                Some(Field::Int(value)) => Some(i64::from(*value)),
                Some(Field::Long(value)) => Some(*value),
                _ => None,
            }
            .and_then(|value| i32::try_from(value).ok())
            .ok_or_else(|| wrong(name, "an integer", cell(name)))
        };
        let number = |name| {
            match cell(name) {
                Some(Field::Double(value)) => Some(*value),
                Some(Field::Float(value)) => Some(f64::from(*value)),
                Some(Field::Int(value)) => Some(f64::from(*value)),
                Some(Field::Long(value)) => Some(*value as f64),
                _ => None,
            }
            .filter(|value| value.is_finite())
            .ok_or_else(|| wrong(name, "a finite number of pixels", cell(name)))
        };
        let in_tissue = match integer("in_tissue")? {
            0 => false,
            1 => true,
            _ => return Err(wrong("in_tissue", "0 or 1", cell("in_tissue")).into()),
        };
        positions.push(BinPosition {
            barcode: text("barcode")?,
            in_tissue,
            array_row: integer("array_row")?,
            array_col: integer("array_col")?,
            center_px: SlidePx { x: number("pxl_col_in_fullres")?, y: number("pxl_row_in_fullres")? },
        });
    }
    Ok(positions)
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
        assert_eq!(read_positions_parquet(&path).unwrap(), positions);
        assert!(write_positions_parquet(&path, &positions, Overwrite::No).is_err());
    }

    #[test]
    fn a_table_of_another_writer_is_read() {
        let path = Path::new(FIXTURE);
        let positions = read_positions_parquet(path).unwrap();
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
        let error = format!("{:#}", read_positions_parquet(&path).unwrap_err());
        assert!(error.contains("expected a complete Parquet file"), "{error}");
        write_positions_parquet(&path, &[position(1, 2, true)], Overwrite::Yes).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(read_positions_parquet(&path).is_err());
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
        let error = format!("{:#}", read_positions_parquet(&path).unwrap_err());
        assert!(error.ends_with("header: expected a column array_row, found barcode, in_tissue"), "{error}");
        write_null_barcodes(
            "message schema { optional binary barcode (UTF8); optional int32 in_tissue; optional int32 array_row;
             optional int32 array_col; optional int32 pxl_row_in_fullres; optional int32 pxl_col_in_fullres; }",
        );
        let error = format!("{:#}", read_positions_parquet(&path).unwrap_err());
        assert!(error.contains("line 1, column barcode: expected text, found null"), "{error}");
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
            drop(read_positions_parquet(&path));
        }
    }
}
