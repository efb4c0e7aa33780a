//! The size of a pixel from where an array's spots lie in the image: their pitch in µm is known.

use std::path::Path;

use magnet_core::coordinates::{SlidePx, SlideUm};

use crate::error::InputError;

/// Root mean square distance between spots and the fitted array, in pitches, beyond which the positions do not follow
/// the array. Hand-placed spots reach about 0.1.
const WORST_FIT: f64 = 0.3;

/// µm per pixel, and how it came about.
///
/// Array coordinates are mapped to pixels by the rotation, reflection, shift and scale of least squares; the scale is
/// the pitch in pixels. `pitch_um` is the distance between neighbours, `spots` says in the message what was fitted.
///
/// # Errors
/// When the spots lie in one place or do not follow the array. `file` is where the positions come from.
pub(super) fn pixel_size(
    file: &Path,
    points: &[(SlideUm, SlidePx)],
    pitch_um: f64,
    spots: &str,
) -> Result<(f64, String), InputError> {
    let count = points.len() as f64;
    let mean = |value: fn(&(SlideUm, SlidePx)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0.x), mean(|point| point.0.y));
    let (mean_px, mean_py) = (mean(|point| point.1.x), mean(|point| point.1.y));
    // Points as complex numbers: a rotation with scale is a product, a reflection conjugates first.
    let (mut array_square, mut pixel_square) = (0.0, 0.0);
    let (mut turned, mut mirrored) = ((0.0, 0.0), (0.0, 0.0));
    for (place, center) in points {
        let (gx, gy) = (place.x - mean_x, place.y - mean_y);
        let (px, py) = (center.x - mean_px, center.y - mean_py);
        array_square += gx * gx + gy * gy;
        pixel_square += px * px + py * py;
        turned = (turned.0 + gx * px + gy * py, turned.1 + gx * py - gy * px);
        mirrored = (mirrored.0 + gx * px - gy * py, mirrored.1 + gx * py + gy * px);
    }
    if points.is_empty() || array_square == 0.0 || pixel_square == 0.0 {
        let expected = format!("at least two {spots} at different places (or --mpp)");
        return Err(InputError::in_file(file, "pixel size", expected, points.len()));
    }
    let length = |(a, b): (f64, f64)| a.hypot(b);
    let px_per_um = length(turned).max(length(mirrored)) / array_square;
    let residual = (pixel_square - px_per_um * px_per_um * array_square).max(0.0) / count;
    let misfit = residual.sqrt() / (px_per_um * pitch_um).max(f64::MIN_POSITIVE);
    if misfit.is_nan() || misfit > WORST_FIT {
        let expected = format!(
            "pixel positions that follow the array's grid within {WORST_FIT} of its pitch (or --mpp)"
        );
        return Err(InputError::in_file(file, "pixel size", expected, format!("{misfit:.2}")));
    }
    let pitch_px = px_per_um * pitch_um;
    let origin = format!(
        "array pitch of {pitch_um} µm = {pitch_px:.2} px, least squares over {} {spots}",
        points.len()
    );
    Ok((1.0 / px_per_um, origin))
}
