//! Where to predict: a table of positions in full-resolution pixels.

use std::path::Path;

use magnet_core::coordinates::SlidePx;
use magnet_core::predict::Places;

use crate::dataset::positions::{is_parquet, visit_positions};
use crate::error::InputError;

/// Most positions that a table may name; a slide of 2 µm bins has about 11 million.
const MAX_POSITIONS: usize = 20_000_000;

/// Which columns hold what.
struct Columns {
    x: usize,
    y: usize,
    name: Option<usize>,
    in_tissue: Option<usize>,
}

/// Reads a CSV with a header that names `x,y` (and perhaps `barcode`), or Space Ranger's `tissue_positions.csv`
/// (with its header), `tissue_positions_list.csv` (without) or `tissue_positions.parquet`. Of Space Ranger's rows those
/// with `in_tissue` 1 are taken.
///
/// # Errors
/// [`InputError`] naming the row and column of the first value that is not a position on the image.
pub fn read(path: &Path, width_px: u32, height_px: u32) -> anyhow::Result<Places> {
    if is_parquet(path)? {
        return read_parquet(path, width_px, height_px);
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(parse(path, &bytes, width_px, height_px)?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> InputError {
    InputError::in_file(path, "file", "a readable CSV or Parquet table", error)
}

/// Space Ranger's table of Visium HD: its columns are fixed.
fn read_parquet(path: &Path, width_px: u32, height_px: u32) -> anyhow::Result<Places> {
    let mut places = Places::default();
    let mut row = 0_usize;
    visit_positions(path, &mut |position| {
        row += 1;
        if !position.in_tissue {
            return Ok(());
        }
        let center = position.center_px;
        for (axis, value, side_px) in [("x", center.x, width_px), ("y", center.y, height_px)] {
            on_image(path, || format!("row {row}, {axis}"), value, f64::from(side_px))?;
        }
        places.names.push(position.barcode.to_owned());
        places.centers_px.push(center);
        Ok(few_enough(path, &places)?)
    })?;
    Ok(some(path, places)?)
}

fn parse(path: &Path, bytes: &[u8], width_px: u32, height_px: u32) -> Result<Places, InputError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut record = csv::StringRecord::new();
    let bad_table =
        |error: csv::Error| InputError::in_file(path, "table", "comma-separated UTF-8 text", error);
    if !reader.read_record(&mut record).map_err(bad_table)? {
        return Err(InputError::in_file(path, "table", "a header with the columns x,y", "an empty file"));
    }
    let header: Vec<String> =
        record.iter().map(|cell| cell.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    // Space Ranger's older list has six columns and no header: its first row is data.
    let headless = header.len() == 6 && header.iter().skip(1).all(|cell| cell.parse::<f64>().is_ok());
    let columns = if headless {
        Columns { x: 5, y: 4, name: Some(0), in_tissue: Some(1) }
    } else {
        columns_of(path, &header)?
    };
    let mut positions = Places::default();
    let mut line = 1usize;
    let mut have_record = headless || reader.read_record(&mut record).map_err(bad_table)?;
    if !headless {
        line += 1;
    }
    while have_record {
        if columns.in_tissue.is_none_or(|column| record.get(column).map(str::trim) != Some("0")) {
            let x = number(path, &record, columns.x, "x", line, f64::from(width_px))?;
            let y = number(path, &record, columns.y, "y", line, f64::from(height_px))?;
            let name = columns.name.and_then(|column| record.get(column)).map(str::trim).unwrap_or_default();
            positions.names.push(match name {
                "" => format!("bin-{}", positions.centers_px.len()),
                name => name.to_owned(),
            });
            positions.centers_px.push(SlidePx { x, y });
        }
        few_enough(path, &positions)?;
        have_record = reader.read_record(&mut record).map_err(bad_table)?;
        line += 1;
    }
    some(path, positions)
}

fn few_enough(path: &Path, positions: &Places) -> Result<(), InputError> {
    if positions.centers_px.len() <= MAX_POSITIONS {
        return Ok(());
    }
    let expected = format!("at most {MAX_POSITIONS} positions");
    Err(InputError::in_file(path, "rows", expected, format!("more than {MAX_POSITIONS}")))
}

fn some(path: &Path, positions: Places) -> Result<Places, InputError> {
    if positions.centers_px.is_empty() {
        return Err(InputError::in_file(path, "rows", "at least one position in tissue", "none"));
    }
    Ok(positions)
}

/// Checks one coordinate.
fn on_image(path: &Path, field: impl FnOnce() -> String, value: f64, limit: f64) -> Result<(), InputError> {
    if (0.0..=limit).contains(&value) {
        return Ok(());
    }
    let expected = format!("a pixel of the image, 0 to {limit} (are these coordinates of a smaller image?)");
    Err(InputError::in_file(path, field(), expected, value))
}

fn columns_of(path: &Path, header: &[String]) -> Result<Columns, InputError> {
    let column = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.as_str()));
    let name = column(&["barcode", "name", "id"]);
    let in_tissue = column(&["in_tissue"]);
    let x = column(&["x", "x_px", "pxl_col_in_fullres", "pixel_x"]);
    let y = column(&["y", "y_px", "pxl_row_in_fullres", "pixel_y"]);
    match (x, y) {
        (Some(x), Some(y)) => Ok(Columns { x, y, name, in_tissue }),
        _ => Err(InputError::in_file(
            path,
            "header",
            "the columns x,y in full-resolution pixels, or Space Ranger's pxl_col_in_fullres and pxl_row_in_fullres",
            format!("{:?}", header.iter().take(8).collect::<Vec<_>>()),
        )),
    }
}

fn number(
    path: &Path,
    record: &csv::StringRecord,
    column: usize,
    axis: &str,
    line: usize,
    limit: f64,
) -> Result<f64, InputError> {
    let field = format!("line {line}, column {axis}");
    let Some(text) = record.get(column).map(str::trim) else {
        let found = format!("a row of {} columns", record.len());
        return Err(InputError::in_file(path, field, "a number", found));
    };
    match text.parse::<f64>() {
        Ok(value) => on_image(path, || field, value, limit).map(|()| value),
        Err(_) => Err(InputError::in_file(path, field, "a number", format!("{text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::positions::{BinPosition, write_positions_parquet};
    use crate::files::Overwrite;

    fn parsed(text: &str) -> Result<Places, InputError> {
        parse(Path::new("p.csv"), text.as_bytes(), 1000, 500)
    }

    #[test]
    fn plain_tables_and_both_space_ranger_forms_agree() {
        let plain = parsed("x,y,barcode\n10.5,20,A-1\n30,40,B-1\n").unwrap();
        let header = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n";
        let rows = "A-1,1,0,0,20,10.5\nC-1,0,0,1,900,900\nB-1,1,1,0,40,30\n";
        assert_eq!(parsed(&format!("{header}{rows}")).unwrap(), plain);
        assert_eq!(parsed(rows).unwrap(), plain);
        assert_eq!(plain.centers_px[0], SlidePx { x: 10.5, y: 20.0 });
        assert_eq!(parsed("y,x\n1,2\n").unwrap().names, ["bin-0"]);
    }

    #[test]
    fn a_parquet_table_gives_the_places_of_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tissue_positions.parquet");
        let bin = |name: &str, in_tissue, x, y| BinPosition {
            barcode: name.into(),
            in_tissue,
            array_row: 0,
            array_col: 0,
            center_px: SlidePx { x, y },
        };
        let bins =
            [bin("A-1", true, 10.5, 20.0), bin("C-1", false, 900.0, 900.0), bin("B-1", true, 30.0, 40.0)];
        write_positions_parquet(&path, &bins, Overwrite::No).unwrap();
        let text = parsed("x,y,barcode\n10.5,20,A-1\n30,40,B-1\n").unwrap();
        assert_eq!(read(&path, 1000, 500).unwrap(), text);
        // Known by what is in it, not by its name.
        let renamed = folder.path().join("positions.csv");
        std::fs::copy(&path, &renamed).unwrap();
        assert_eq!(read(&renamed, 1000, 500).unwrap(), text);
        let error = read(&path, 20, 500).unwrap_err().to_string();
        assert!(error.contains("row 3, x: expected a pixel of the image, 0 to 20"), "{error}");
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, parts) in [
            ("", ["empty file", "x,y"]),
            ("a,b\n1,2\n", ["pxl_col_in_fullres", "\"a\""]),
            ("x,y\n1,2\n3,left\n", ["line 3, column y", "\"left\""]),
            ("x,y\n1,2\n3\n", ["line 3, column y", "1 columns"]),
            ("x,y\n1001,2\n", ["line 2, column x", "0 to 1000"]),
            ("x,y\nNaN,2\n", ["line 2, column x", "NaN"]),
            ("x,y\n-1,2\n", ["line 2, column x", "-1"]),
            ("x,y\n", ["at least one position", "none"]),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with("p.csv: "), "{error}");
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }
}
