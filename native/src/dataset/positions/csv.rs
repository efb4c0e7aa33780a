use std::io::Read;
use std::path::Path;

use anyhow::Result;
use magnet_core::coordinates::SlidePx;

use super::{COLUMNS, PositionRow, in_tissue};
use crate::dataset::table::{Row, Table, TableError};

/// Reads a table with a header (Space Ranger 2.0 and later) or without one.
pub(super) fn visit(
    source: impl Read + 'static,
    path: &Path,
    take: &mut dyn FnMut(PositionRow<'_>) -> Result<()>,
) -> Result<()> {
    let mut table = Table::from_reader(source, path, b',')?;
    let first = table.header().first().map(String::as_str).unwrap_or_default();
    // Older files begin with the first spot. Its tissue flag is a number, a header's is a name.
    let flag = table.header().get(1).map(String::as_str).unwrap_or_default();
    if first != "barcode" && matches!(flag, "0" | "1") && table.header().len() == COLUMNS.len() {
        table = table.without_header(&COLUMNS);
    }
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        *place = table.column(name)?;
    }
    let [barcode, tissue, array_row, array_col, pxl_row, pxl_col] = places;
    while let Some(row) = table.next_row()? {
        let flag = in_tissue(row.parse(tissue, "0 or 1")?, || row.wrong(tissue, "0 or 1"))?;
        if row.text(barcode).is_empty() {
            return Err(row.wrong(barcode, "the name of a spot").into());
        }
        take(PositionRow {
            barcode: row.text(barcode),
            in_tissue: flag,
            array_row: row.parse(array_row, "an integer")?,
            array_col: row.parse(array_col, "an integer")?,
            center_px: SlidePx { x: pixels(&row, pxl_col)?, y: pixels(&row, pxl_row)? },
        })?;
    }
    Ok(())
}

fn pixels(row: &Row<'_>, column: usize) -> Result<f64, TableError> {
    let expected = "a finite number of pixels";
    let value: f64 = row.parse(column, expected)?;
    if value.is_finite() { Ok(value) } else { Err(row.wrong(column, expected)) }
}

#[cfg(test)]
mod tests {
    use super::super::read_positions_bytes;
    use super::*;

    const ROWS: &str = "AAAC-1,1,0,16,120,340\nAAAG-1,0,77,127,9000,11000.5\n";

    fn read(text: &str) -> Result<Vec<super::super::BinPosition>> {
        read_positions_bytes(text.as_bytes().to_vec(), Path::new("tissue_positions.csv"))
    }

    #[test]
    fn tables_with_and_without_a_header_read_alike() {
        let header = COLUMNS.join(",");
        let positions = read(&format!("{header}\n{ROWS}")).unwrap();
        assert_eq!(positions, read(ROWS).unwrap());
        assert_eq!(positions.len(), 2);
        assert_eq!((positions[0].barcode.as_str(), positions[0].in_tissue), ("AAAC-1", true));
        assert_eq!((positions[1].array_row, positions[1].array_col), (77, 127));
        // The row in the image is y.
        assert_eq!(positions[1].center_px, SlidePx { x: 11000.5, y: 9000.0 });
    }

    #[test]
    fn wrong_cells_and_headers_are_named() {
        for (text, says) in [
            ("barcode,in_tissue\nA,1\n", "header: expected a column array_row, found barcode, in_tissue"),
            ("A,2,0,0,0,0\n", "expected a column barcode"),
            ("A,1,0,0,0,0\nB,2,0,0,0,0\n", "line 2, column in_tissue: expected 0 or 1, found 2"),
            ("A,1,0,0,inf,0\n", "line 1, column pxl_row_in_fullres: expected a finite number of pixels"),
            ("A,1,0,x,0,0\n", "column array_col: expected an integer, found x"),
            (",1,0,0,0,0\n", "column barcode: expected the name of a spot, found an empty cell"),
            ("A,1,0,0,0,0\nB,1,0\n", "line 2: expected 6 columns, found 3"),
            ("", "found no columns"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
    }
}
