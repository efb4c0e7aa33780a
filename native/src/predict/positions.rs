//! Where to predict: a table of positions in full-resolution pixels.

use std::path::Path;

use magnet_core::coordinates::SlidePx;
use magnet_core::predict::Places;

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
/// (with its header) or `tissue_positions_list.csv` (without). Of Space Ranger's rows those with `in_tissue` 1 are
/// taken.
///
/// # Errors
/// [`InputError`] naming the row and column of the first value that is not a position on the image.
pub fn read(path: &Path, width_px: u32, height_px: u32) -> anyhow::Result<Places> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(parse(path, &bytes, width_px, height_px)?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> InputError {
    InputError::in_file(path, "file", "a readable CSV table", error)
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
        if positions.centers_px.len() > MAX_POSITIONS {
            let found = format!("more than {MAX_POSITIONS}");
            return Err(InputError::in_file(
                path,
                "rows",
                format!("at most {MAX_POSITIONS} positions"),
                found,
            ));
        }
        have_record = reader.read_record(&mut record).map_err(bad_table)?;
        line += 1;
    }
    if positions.centers_px.is_empty() {
        return Err(InputError::in_file(path, "rows", "at least one position in tissue", "none"));
    }
    Ok(positions)
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
        Ok(value) if (0.0..=limit).contains(&value) => Ok(value),
        Ok(value) => {
            let expected =
                format!("a pixel of the image, 0 to {limit} (are these coordinates of a smaller image?)");
            Err(InputError::in_file(path, field, expected, value))
        }
        Err(_) => Err(InputError::in_file(path, field, "a number", format!("{text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
