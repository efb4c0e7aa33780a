//! What must hold of every slide, whichever format it came from.

use std::collections::HashMap;
use std::path::Path;

use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;

use crate::error::InputError;

/// Names that must differ.
///
/// # Errors
/// Names the first one that repeats and both its places, counted from 0.
pub(super) fn unique(file: &Path, field: &str, names: &[String]) -> Result<(), InputError> {
    let mut first_places: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        if let Some(first) = first_places.insert(name, place) {
            let found = format!("{name:?} at {first} and {place}");
            return Err(InputError::in_file(file, field, "names that do not repeat", found));
        }
    }
    Ok(())
}

/// Counts that are whole numbers and not negative.
///
/// # Errors
/// Names the first spot and gene whose count is something else.
pub(super) fn raw_counts(
    file: &Path,
    counts: &CountMatrix,
    barcodes: &[String],
    genes: &[String],
) -> Result<(), InputError> {
    let Some(place) = counts.values.iter().position(|&value| !(value >= 0.0 && value.fract() == 0.0)) else {
        return Ok(());
    };
    let value = counts.values.get(place).copied().unwrap_or_default();
    let row = counts.row_offsets.partition_point(|&offset| offset <= place).saturating_sub(1);
    let barcode = barcodes.get(row).map_or("", String::as_str);
    let column = counts.columns.get(place).copied().unwrap_or_default() as usize;
    let gene = genes.get(column).map_or("", String::as_str);
    let hint = if value > 0.0 && value.is_finite() { " (is X normalised already?)" } else { "" };
    let found = format!("{value} for spot {barcode}, gene {gene}{hint}");
    Err(InputError::in_file(file, "X", "raw counts (whole numbers from 0)", found))
}

/// Bin centres inside the image.
///
/// # Errors
/// Names the first bin whose centre lies outside.
pub(super) fn inside_image(
    file: &Path,
    centers: &[SlidePx],
    barcodes: &[String],
    image: &Path,
    (width, height): (u32, u32),
) -> Result<(), InputError> {
    let (width, height) = (f64::from(width), f64::from(height));
    let inside = |point: &SlidePx| point.x >= 0.0 && point.x < width && point.y >= 0.0 && point.y < height;
    let Some(place) = centers.iter().position(|point| !inside(point)) else { return Ok(()) };
    let outside = centers.iter().filter(|point| !inside(point)).count();
    let (x, y) = centers.get(place).map_or((f64::NAN, f64::NAN), |point| (point.x, point.y));
    let field = format!("spot {}", barcodes.get(place).map_or("", String::as_str));
    let expected = format!("a centre inside {} ({width} × {height} px)", image.display());
    let found = format!(
        "x = {x}, y = {y}; {outside} of {} spots lie outside (are the positions in full-resolution pixels of this \
         image?)",
        centers.len()
    );
    Err(InputError::in_file(file, field, expected, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_name_is_named_with_both_places() {
        let names = ["a", "b", "a"].map(str::to_owned);
        let error = unique(Path::new("f"), "obs", &names).unwrap_err().to_string();
        assert_eq!(error, "f: obs: expected names that do not repeat, found \"a\" at 0 and 2");
        assert!(unique(Path::new("f"), "obs", &names[..2]).is_ok());
    }

    #[test]
    fn counts_that_are_not_raw_are_named_with_spot_and_gene() {
        let (barcodes, genes) = (["s0", "s1", "s2"].map(str::to_owned), ["A", "B"].map(str::to_owned));
        let with = |value| CountMatrix {
            genes: 2,
            row_offsets: vec![0, 1, 1, 3],
            columns: vec![0, 0, 1],
            values: vec![3.0, 0.0, value],
        };
        assert!(raw_counts(Path::new("f"), &with(7.0), &barcodes, &genes).is_ok());
        for (value, found) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (0.5, "0.5")] {
            let error = raw_counts(Path::new("f"), &with(value), &barcodes, &genes).unwrap_err().to_string();
            assert!(error.contains(&format!("found {found} for spot s2, gene B")), "{error}");
            assert_eq!(error.ends_with("(is X normalised already?)"), value == 0.5);
        }
    }

    #[test]
    fn a_centre_outside_the_image_is_named() {
        let barcodes = ["s0", "s1"].map(str::to_owned);
        let check = |x, y| {
            let centers = [SlidePx { x: 0.0, y: 19.9 }, SlidePx { x, y }];
            inside_image(Path::new("f"), &centers, &barcodes, Path::new("i.png"), (10, 20))
        };
        assert!(check(9.5, 0.0).is_ok());
        for (x, y) in [(10.0, 0.0), (-0.1, 0.0), (0.0, 20.0), (0.0, -1.0)] {
            let error = check(x, y).unwrap_err().to_string();
            assert!(error.contains("spot s1") && error.contains("i.png (10 × 20 px)"), "{error}");
            assert!(error.contains("1 of 2 spots"), "{error}");
        }
    }
}
