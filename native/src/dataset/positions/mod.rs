//! Where each spot or bin lies: `tissue_positions.parquet`, `tissue_positions.csv` and, before Space Ranger 2.0,
//! `tissue_positions_list.csv`, which has no header.

mod csv;
mod parquet;
mod thrift;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ::parquet::file::reader::ChunkReader;
use anyhow::{Context, Result};
use magnet_core::coordinates::SlidePx;

pub use parquet::write_positions_parquet;

use super::table::TableError;

/// The columns, in file order. `pxl_row` is `y`.
const COLUMNS: [&str; 6] =
    ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"];
/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// One row of a positions table.
#[derive(Debug, Clone, PartialEq)]
pub struct BinPosition {
    /// Name of the bin, such as `s_008um_00269_00526-1`, or of the spot.
    pub barcode: String,
    /// Whether it lies under tissue.
    pub in_tissue: bool,
    /// Row of the array.
    pub array_row: i32,
    /// Column of the array.
    pub array_col: i32,
    /// Centre in full-resolution pixels.
    pub center_px: SlidePx,
}

/// One row of a positions table while it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositionRow<'a> {
    /// As [`BinPosition::barcode`].
    pub barcode: &'a str,
    /// As [`BinPosition::in_tissue`].
    pub in_tissue: bool,
    /// As [`BinPosition::array_row`].
    pub array_row: i32,
    /// As [`BinPosition::array_col`].
    pub array_col: i32,
    /// As [`BinPosition::center_px`].
    pub center_px: SlidePx,
}

impl PositionRow<'_> {
    fn to_owned(self) -> BinPosition {
        let Self { barcode, in_tissue, array_row, array_col, center_px } = self;
        BinPosition { barcode: barcode.to_owned(), in_tissue, array_row, array_col, center_px }
    }
}

/// Reads a positions table of any kind; its first bytes say which.
///
/// # Errors
/// When the file is no such table, lacks a column, or holds a cell of another type; the message names file, line,
/// column, expected and found.
pub fn read_positions(path: &Path) -> Result<Vec<BinPosition>> {
    let mut positions = Vec::new();
    visit_positions(path, &mut |row| {
        positions.push(row.to_owned());
        Ok(())
    })?;
    Ok(positions)
}

/// Like [`read_positions`] for bytes in memory; `name` is what errors call them.
///
/// # Errors
/// As [`read_positions`].
pub fn read_positions_bytes(bytes: Vec<u8>, name: &Path) -> Result<Vec<BinPosition>> {
    let mut positions = Vec::new();
    let mut take = |row: PositionRow<'_>| {
        positions.push(row.to_owned());
        Ok(())
    };
    if bytes.starts_with(PARQUET) {
        parquet::visit(bytes::Bytes::from(bytes), name, &mut take)?;
    } else {
        csv::visit(std::io::Cursor::new(bytes), name, &mut take)?;
    }
    Ok(positions)
}

/// Hands every row of a positions table to `take`, without holding the table in memory.
///
/// # Errors
/// As [`read_positions`], and whatever `take` returns.
pub fn visit_positions(path: &Path, take: &mut dyn FnMut(PositionRow<'_>) -> Result<()>) -> Result<()> {
    let is_parquet = is_parquet(path)?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if is_parquet { parquet::visit(file, path, take) } else { csv::visit(file, path, take) }
}

/// Whether a table is read as Parquet: by its first bytes, or by its name, so that a file of this name that is something
/// else is complained about as Parquet.
///
/// # Errors
/// When the file cannot be read.
pub fn is_parquet(path: &Path) -> Result<bool> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut start = Vec::with_capacity(PARQUET.len());
    file.take(PARQUET.len() as u64)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(start == PARQUET || path.extension().is_some_and(|extension| extension == "parquet"))
}

/// Whether the bin lies under tissue, from the number that stands for it.
fn in_tissue(value: i64, wrong: impl FnOnce() -> TableError) -> Result<bool, TableError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(wrong()),
    }
}

/// Something that Parquet can be read from, which outlives a panic in the library.
trait Source: ChunkReader + 'static {}
impl<T: ChunkReader + 'static> Source for T {}
