//! Colour and texture of a patch in a few numbers: features for ridge regression.

use super::ComparatorError;

/// Quantiles of each channel.
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Numbers per channel: mean, standard deviation, quantiles.
const PER_CHANNEL: usize = 2 + QUANTILES.len();

/// Numbers per patch: those of three channels, and mean and standard deviation of the gradient's magnitude.
pub const PATCH_STATISTICS: usize = 3 * PER_CHANNEL + 2;

/// Mean, standard deviation and five quantiles (5, 25, 50, 75, 95 %) of each channel, and mean and standard deviation
/// of the magnitude of the grey image's gradient, of one patch. Channels are in 0..1, the gradient is per pixel.
///
/// `rgb` is `[P,P,3]`, flat, with `P = side_px`.
///
/// # Errors
/// When the patch is empty or has not `3·P·P` bytes.
pub fn patch_statistics(rgb: &[u8], side_px: usize) -> Result<[f32; PATCH_STATISTICS], ComparatorError> {
    let expected = side_px.saturating_mul(side_px).saturating_mul(3);
    if rgb.len() != expected {
        return Err(ComparatorError::Size { what: "bytes of the patch", expected, found: rgb.len() });
    }
    if rgb.is_empty() {
        return Err(ComparatorError::Empty { what: "pixels of the patch" });
    }
    let mut statistics = [0.0; PATCH_STATISTICS];
    for (channel, out) in statistics.chunks_exact_mut(PER_CHANNEL).enumerate() {
        let mut histogram = [0_u64; 256];
        for &value in rgb.iter().skip(channel).step_by(3) {
            histogram[usize::from(value)] += 1;
        }
        let (mean, sd) = mean_and_sd(&histogram);
        out[0] = mean;
        out[1] = sd;
        for (out, quantile) in out[2..].iter_mut().zip(QUANTILES) {
            *out = quantile_of(&histogram, quantile);
        }
    }
    let [mean, sd] = gradient_statistics(rgb, side_px);
    statistics[PATCH_STATISTICS - 2] = mean;
    statistics[PATCH_STATISTICS - 1] = sd;
    Ok(statistics)
}

/// Names of the statistics, in order.
pub fn patch_statistics_names() -> Vec<String> {
    let of_channel = |channel: &str| {
        let quantiles = QUANTILES.map(|quantile| format!("{channel}_q{:02.0}", quantile * 100.0));
        [vec![format!("{channel}_mean"), format!("{channel}_sd")], quantiles.to_vec()].concat()
    };
    let mut names: Vec<String> = ["red", "green", "blue"].into_iter().flat_map(of_channel).collect();
    names.extend(["gradient_mean".into(), "gradient_sd".into()]);
    names
}

/// Mean and population standard deviation of 8-bit values, in 0..1.
fn mean_and_sd(histogram: &[u64; 256]) -> (f32, f32) {
    // Integer sums: exact, whatever the size of the patch.
    let (mut count, mut sum, mut squares) = (0_u64, 0_u64, 0_u64);
    for (value, &times) in (0_u64..).zip(histogram) {
        count += times;
        sum += value * times;
        squares += value * value * times;
    }
    let count = count.max(1) as f64;
    let mean = sum as f64 / count;
    let variance = (squares as f64 / count - mean * mean).max(0.0);
    ((mean / 255.0) as f32, (variance.sqrt() / 255.0) as f32)
}

/// The quantile by linear interpolation between order statistics, in 0..1.
fn quantile_of(histogram: &[u64; 256], quantile: f64) -> f32 {
    let count: u64 = histogram.iter().sum();
    let place = quantile * count.saturating_sub(1) as f64;
    let value_at = |rank: u64| {
        let mut before = 0;
        let reached = histogram.iter().position(|&times| {
            before += times;
            before > rank
        });
        reached.unwrap_or(255) as f64
    };
    let (low, part) = (place.floor(), place.fract());
    let (below, above) = (value_at(low as u64), value_at(place.ceil() as u64));
    ((below + (above - below) * part) / 255.0) as f32
}

/// Mean and population standard deviation of the magnitude of the grey image's gradient, by central differences (one
/// sided at the edges), in grey levels of 0..1 per pixel.
fn gradient_statistics(rgb: &[u8], side_px: usize) -> [f32; 2] {
    let grey: Vec<f32> = rgb
        .chunks_exact(3)
        .map(|pixel| pixel.iter().map(|&value| f32::from(value)).sum::<f32>() / (3.0 * 255.0))
        .collect();
    let at = |row: usize, col: usize| grey.get(row * side_px + col).copied().unwrap_or_default();
    let last = side_px - 1;
    let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
    for row in 0..side_px {
        let (above, below) = (row.saturating_sub(1), (row + 1).min(last));
        for col in 0..side_px {
            let (left, right) = (col.saturating_sub(1), (col + 1).min(last));
            let dx = (at(row, right) - at(row, left)) / (right - left).max(1) as f32;
            let dy = (at(below, col) - at(above, col)) / (below - above).max(1) as f32;
            let squared = f64::from(dx * dx + dy * dy);
            sum += squared.sqrt();
            squares += squared;
        }
    }
    let count = grey.len().max(1) as f64;
    let mean = sum / count;
    [mean as f32, (squares / count - mean * mean).max(0.0).sqrt() as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(statistics: &[f32], name: &str) -> f32 {
        statistics[patch_statistics_names().iter().position(|own| own == name).unwrap()]
    }

    fn close(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
    }

    #[test]
    fn a_flat_patch_has_its_colour_and_no_texture() {
        let flat = patch_statistics(&[255, 51, 0].repeat(16), 4).unwrap();
        assert_eq!(patch_statistics_names().len(), PATCH_STATISTICS);
        for (channel, value) in [("red", 1.0), ("green", 0.2), ("blue", 0.0)] {
            close(named(&flat, &format!("{channel}_mean")), value);
            close(named(&flat, &format!("{channel}_sd")), 0.0);
            for quantile in ["q05", "q25", "q50", "q75", "q95"] {
                close(named(&flat, &format!("{channel}_{quantile}")), value);
            }
        }
        close(named(&flat, "gradient_mean"), 0.0);
        close(named(&flat, "gradient_sd"), 0.0);
    }

    #[test]
    fn channel_statistics_match_a_calculation_by_hand() {
        // Red of the four pixels: 0, 51, 102, 255.
        let rgb = [0, 0, 0, 51, 0, 0, 102, 0, 0, 255, 0, 0];
        let found = patch_statistics(&rgb, 2).unwrap();
        close(named(&found, "red_mean"), 0.4);
        // Squares about the mean: .16 + .04 + 0 + .36.
        close(named(&found, "red_sd"), (0.56_f32 / 4.0).sqrt());
        close(named(&found, "red_q50"), 0.3);
        close(named(&found, "red_q25"), 0.15);
        close(named(&found, "red_q95"), 0.4 + 0.6 * 0.85);
    }

    #[test]
    fn a_ramp_has_one_gradient_everywhere() {
        // Grey rises by 10 per column and 0 per row.
        let ramp: Vec<u8> = (0..25).flat_map(|pixel| [10 * (pixel % 5) as u8; 3]).collect();
        let found = patch_statistics(&ramp, 5).unwrap();
        close(named(&found, "gradient_mean"), 10.0 / 255.0);
        // The root of a difference of equal numbers: only rounding is left.
        assert!(named(&found, "gradient_sd") < 1e-4);
    }

    #[test]
    fn turning_a_patch_changes_nothing() {
        let side = 6;
        let pixel = |row: usize, col: usize| [(row * 40) as u8, (col * 17) as u8, (row * col * 7) as u8];
        let upright: Vec<u8> = (0..side * side).flat_map(|i| pixel(i / side, i % side)).collect();
        let turned: Vec<u8> = (0..side * side).flat_map(|i| pixel(i % side, side - 1 - i / side)).collect();
        let (upright, turned) =
            (patch_statistics(&upright, side).unwrap(), patch_statistics(&turned, side).unwrap());
        upright.iter().zip(turned).for_each(|(&a, b)| close(a, b));
    }

    #[test]
    fn a_patch_of_the_wrong_size_is_refused() {
        let error = patch_statistics(&[0; 11], 2).unwrap_err();
        assert_eq!(error, ComparatorError::Size { what: "bytes of the patch", expected: 12, found: 11 });
        assert!(patch_statistics(&[], 0).is_err());
    }
}
