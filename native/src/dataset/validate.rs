//! What must hold of every slide, whichever format it came from.

use std::collections::HashMap;
use std::path::Path;

use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, ValueKind, is_count};
use rayon::prelude::*;

use crate::error::InputError;

/// Names that must differ.
///
/// # Errors
/// Names the first one that repeats and both its places, counted from 0.
pub(super) fn unique(file: &Path, field: &str, names: &[String]) -> Result<(), InputError> {
    // Most files list them in order.
    if names.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    let mut first_places: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        if let Some(first) = first_places.insert(name, place) {
            let found = format!("{name:?} at {first} and {place}");
            return Err(InputError::in_file(file, field, "names that do not repeat", found));
        }
    }
    Ok(())
}

/// Counts that are whole numbers and not negative, or normalised values that are numbers: of log-normalised and scaled
/// values some are negative.
///
/// # Errors
/// Names the first spot and gene whose value is something else.
pub(super) fn values(
    file: &Path,
    kind: ValueKind,
    counts: &CountMatrix,
    barcodes: &[String],
    genes: &[String],
) -> Result<(), InputError> {
    // All of a part at once, which a processor does for many values with one instruction.
    let good = |part: &[f32]| match kind {
        ValueKind::Counts => part.iter().fold(true, |good, &value| good & is_count(value)),
        ValueKind::Normalized => part.iter().fold(true, |good, &value| good & value.is_finite()),
    };
    if counts.values.par_chunks(VALUES_AT_ONCE).all(good) {
        return Ok(());
    }
    let place = counts.values.iter().position(|value| !good(std::slice::from_ref(value))).unwrap_or_default();
    let value = counts.values.get(place).copied().unwrap_or_default();
    let row = counts.row_offsets.partition_point(|&offset| offset <= place).saturating_sub(1);
    let barcode = barcodes.get(row).map_or("", String::as_str);
    let column = counts.columns.get(place).copied().unwrap_or_default() as usize;
    let gene = genes.get(column).map_or("", String::as_str);
    let hint = if value > 0.0 && value.is_finite() { " (is X normalised already?)" } else { "" };
    let found = format!("{value} for spot {barcode}, gene {gene}{hint}");
    let expected = match kind {
        ValueKind::Counts => "raw counts (whole numbers from 0)",
        ValueKind::Normalized => "normalised values, all of them finite",
    };
    Err(InputError::in_file(file, "X", expected, found))
}

/// Values that a thread looks at in one go.
const VALUES_AT_ONCE: usize = 1 << 16;

/// A smaller image of the slide that positions are sometimes mixed up with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    /// What it is called, such as `tissue_hires`.
    pub name: &'static str,
    /// Its pixels per full-resolution pixel.
    pub scale: f64,
}

/// Bin centres inside the image. `frames` are the smaller images that the source knows.
///
/// # Errors
/// Names the first bin whose centre lies outside, and the smaller image that was given instead, if it is one.
pub(super) fn inside_image(
    file: &Path,
    centers: &[SlidePx],
    barcodes: &[String],
    image: &Path,
    (width, height): (u32, u32),
    frames: &[Frame],
) -> Result<(), InputError> {
    let (width, height) = (f64::from(width), f64::from(height));
    let inside = |point: &SlidePx, scale: f64| {
        let (x, y) = (point.x * scale, point.y * scale);
        x >= 0.0 && x < width && y >= 0.0 && y < height
    };
    let Some(place) = centers.iter().position(|point| !inside(point, 1.0)) else { return Ok(()) };
    let fits = |frame: &&Frame| {
        let reach = centers.iter().map(|point| point.x / width + point.y / height).fold(0.0, f64::max);
        // Inside, and not in one corner of it.
        centers.iter().all(|point| inside(point, frame.scale)) && reach * frame.scale > 0.5
    };
    if let Some(Frame { name, scale }) = frames.iter().filter(|frame| frame.scale < 1.0).find(fits) {
        let expected = format!(
            "the full-resolution image, about {:.0} × {:.0} px, whose pixels the positions of {} count",
            width / scale,
            height / scale,
            file.display()
        );
        let found =
            format!("{width} × {height} px, which is the frame of {name}_image ({name}_scalef {scale:.6})");
        return Err(InputError::in_file(image, "image size", expected, found));
    }
    let outside = centers.iter().filter(|point| !inside(point, 1.0)).count();
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

/// Bins that do not overlap: neighbours lie at least about a bin's side apart. Positions in the pixels of a smaller
/// image, or a wrong pixel size, show here.
///
/// # Errors
/// Names the distance and, where one explains it, the smaller image whose pixels the positions count.
pub(super) fn spacing(
    file: &Path,
    centers: &[SlidePx],
    bin_um: f64,
    um_per_px: f64,
    frames: &[Frame],
) -> Result<(), InputError> {
    let Some(distance_px) = median_neighbor_px(centers) else { return Ok(()) };
    let distance_um = distance_px * um_per_px;
    if distance_um >= LEAST_SPACING * bin_um {
        return Ok(());
    }
    let expected = format!("neighbours at least {bin_um} µm apart, the size of a spot");
    let mut found = format!("{distance_um:.3} µm ({distance_px:.2} px of {um_per_px:.4} µm)");
    let explains = |frame: &&Frame| (LEAST_SPACING..4.0).contains(&(distance_um / frame.scale / bin_um));
    match frames.iter().filter(|frame| frame.scale < 1.0).find(explains) {
        Some(Frame { name, scale }) => found.push_str(&format!(
            "; the positions count pixels of {name}_image ({name}_scalef {scale:.6}), not of the full-resolution image"
        )),
        None => found.push_str(" (are the positions in full-resolution pixels, and is the pixel size right?)"),
    }
    Err(InputError::in_file(file, "positions", expected, found))
}

/// Least distance of neighbours, in bins; hand-placed spots come this close.
const LEAST_SPACING: f64 = 0.7;
/// Bins whose nearest neighbour is looked for.
const SPACING_SAMPLES: usize = 16;

/// The median distance of some bins to their nearest neighbour, in pixels; `None` for fewer than two bins.
fn median_neighbor_px(centers: &[SlidePx]) -> Option<f64> {
    let step = centers.len().div_ceil(SPACING_SAMPLES).max(1);
    let nearest = |at: usize| {
        let from = centers.get(at)?;
        let (before, rest) = centers.split_at_checked(at)?;
        let others = before.iter().chain(rest.iter().skip(1));
        let squared = others.map(|to| (to.x - from.x).powi(2) + (to.y - from.y).powi(2));
        squared.min_by(f64::total_cmp).map(f64::sqrt)
    };
    let mut distances: Vec<f64> = (0..centers.len()).step_by(step).filter_map(nearest).collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied()
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
        let raw_counts =
            |counts: &CountMatrix| values(Path::new("f"), ValueKind::Counts, counts, &barcodes, &genes);
        for value in [0.0, 7.0, 8_388_607.0, 8_388_609.0, 3e9, 4.3e9, 1e30] {
            assert!(raw_counts(&with(value)).is_ok(), "{value}");
        }
        for (value, found) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (0.5, "0.5")] {
            let error = raw_counts(&with(value)).unwrap_err().to_string();
            assert!(error.contains(&format!("found {found} for spot s2, gene B")), "{error}");
            assert_eq!(error.ends_with("(is X normalised already?)"), value == 0.5);
            let normalized = values(Path::new("f"), ValueKind::Normalized, &with(value), &barcodes, &genes);
            assert_eq!(normalized.is_ok(), value.is_finite(), "{normalized:?}");
        }
    }

    #[test]
    fn a_centre_outside_the_image_is_named() {
        let barcodes = ["s0", "s1"].map(str::to_owned);
        let check = |x, y| {
            let centers = [SlidePx { x: 0.0, y: 19.9 }, SlidePx { x, y }];
            inside_image(Path::new("f"), &centers, &barcodes, Path::new("i.png"), (10, 20), &[])
        };
        assert!(check(9.5, 0.0).is_ok());
        for (x, y) in [(10.0, 0.0), (-0.1, 0.0), (0.0, 20.0), (0.0, -1.0)] {
            let error = check(x, y).unwrap_err().to_string();
            assert!(error.contains("spot s1") && error.contains("i.png (10 × 20 px)"), "{error}");
            assert!(error.contains("1 of 2 spots"), "{error}");
        }
    }

    #[test]
    fn a_smaller_image_of_the_slide_is_recognised() {
        let frames =
            [Frame { name: "tissue_hires", scale: 0.1 }, Frame { name: "tissue_lowres", scale: 0.02 }];
        let centers = [SlidePx { x: 5.0, y: 8.0 }, SlidePx { x: 980.0, y: 1500.0 }];
        let check = |size| {
            let barcodes = ["a", "b"].map(str::to_owned);
            inside_image(Path::new("p.csv"), &centers, &barcodes, Path::new("i.png"), size, &frames)
        };
        assert!(check((1000, 2000)).is_ok());
        let error = check((100, 200)).unwrap_err().to_string();
        assert!(
            error.contains("about 1000 × 2000 px") && error.contains("frame of tissue_hires_image"),
            "{error}"
        );
        let error = check((20, 40)).unwrap_err().to_string();
        assert!(error.contains("frame of tissue_lowres_image"), "{error}");
        assert!(check((500, 500)).unwrap_err().to_string().contains("lie outside"));
    }

    #[test]
    fn positions_in_the_pixels_of_a_smaller_image_are_recognised() {
        let frames = [Frame { name: "tissue_hires", scale: 0.1 }];
        let grid = |pitch: f64| -> Vec<SlidePx> {
            (0..100)
                .map(|at| SlidePx { x: f64::from(at % 10) * pitch, y: f64::from(at / 10) * pitch })
                .collect()
        };
        let check = |pitch, um_per_px| spacing(Path::new("f"), &grid(pitch), 55.0, um_per_px, &frames);
        assert!(check(200.0, 0.5).is_ok());
        let error = check(20.0, 0.5).unwrap_err().to_string();
        assert!(error.contains("10.000 µm") && error.contains("pixels of tissue_hires_image"), "{error}");
        let error = check(200.0, 0.001).unwrap_err().to_string();
        assert!(error.contains("is the pixel size right?"), "{error}");
        assert!(spacing(Path::new("f"), &grid(200.0)[..1], 55.0, 0.5, &[]).is_ok());
    }
}
