//! Numbers as people read them.

/// What stands where there is no value.
pub const NONE: &str = "–";

/// A correlation with two decimals and a true minus sign; [`NONE`] where there is none.
pub fn pearson(score: Option<f64>) -> String {
    match score {
        Some(score) if score.is_finite() => signed(format!("{score:.2}")),
        _ => NONE.to_owned(),
    }
}

/// An expression value with as many decimals as its size needs; [`NONE`] where there is none.
pub fn value(value: f32) -> String {
    let size = value.abs();
    if !value.is_finite() {
        NONE.to_owned()
    } else if size >= 100.0 {
        signed(format!("{value:.0}"))
    } else if size >= 10.0 {
        signed(format!("{value:.1}"))
    } else if size >= 0.1 || value == 0.0 {
        signed(format!("{value:.2}"))
    } else if size >= 0.001 {
        signed(format!("{value:.4}"))
    } else {
        signed(format!("{value:.1e}"))
    }
}

/// A whole number with its thousands apart.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length in µm, whole, with its thousands apart.
pub fn microns(um: f64) -> String {
    let whole = um.round();
    let text = count(whole.abs().min(1e15) as usize);
    if whole < 0.0 { format!("−{text}") } else { text }
}

/// A duration: seconds below two minutes, minutes below two hours, then hours.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        NONE.to_owned()
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else if seconds < 7170.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

/// A size in bytes: kB and MB are powers of 1000.
pub fn bytes(size: f64) -> String {
    if size < 1e3 {
        format!("{size:.0} B")
    } else if size < 1e6 {
        format!("{:.0} kB", size / 1e3)
    } else if size < 1e9 {
        format!("{:.1} MB", size / 1e6)
    } else {
        format!("{:.1} GB", size / 1e9)
    }
}

/// Tiles per second.
pub fn rate(tiles_per_s: f64) -> String {
    if tiles_per_s < 10.0 { format!("{tiles_per_s:.1} tiles/s") } else { format!("{tiles_per_s:.0} tiles/s") }
}

/// A pixel size without digits that mean nothing.
pub fn pixel_size(um_per_px: f64) -> String {
    let text = format!("{um_per_px:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a positive number as people write it; a decimal comma is fine.
pub fn positive(text: &str) -> Option<f64> {
    let number: f64 = text.trim().replace(',', ".").parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

/// "1 tile", "2 tiles".
pub fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A number that is an estimate: two digits that mean something.
pub fn rounded(number: f64) -> String {
    if !number.is_finite() || number < 0.0 {
        return NONE.to_owned();
    }
    let unit = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    count(((number / unit).round() * unit).min(1e15) as usize)
}

/// Width from which a model's smallest tiles are what Spatial Transcriptomics and Visium call spots, in µm.
const SPOT_UM: f64 = 50.0;

/// Whether a model's smallest tiles are as large as an array's spots.
pub fn is_spot(tile_um: f64) -> bool {
    tile_um >= SPOT_UM
}

/// What a model's smallest tiles are called: bins, or spots where they are as large as an array's.
pub fn bin_noun(tile_um: f64, number: usize) -> &'static str {
    match (is_spot(tile_um), number) {
        (true, 1) => "spot",
        (true, _) => "spots",
        (false, 1) => "bin",
        (false, _) => "bins",
    }
}

/// A minus sign instead of a hyphen, and none before zero.
fn signed(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|digit| matches!(digit, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(pearson(Some(0.456)), "0.46");
        assert_eq!(pearson(Some(-0.123)), "−0.12");
        assert_eq!(pearson(Some(-0.001)), "0.00");
        assert_eq!((pearson(None), pearson(Some(f64::NAN))), (NONE.into(), NONE.into()));
        assert_eq!(value(123.4), "123");
        assert_eq!(value(-12.34), "−12.3");
        assert_eq!(value(1.234), "1.23");
        assert_eq!(value(0.0123), "0.0123");
        assert_eq!(value(0.0), "0.00");
        assert_eq!(value(1.5e-7), "1.5e-7");
        assert_eq!(value(f32::NAN), NONE);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(microns(-1234.4), "−1,234");
        assert_eq!([0.5, 42.0, 300.0, 9000.0].map(duration), ["0.5 s", "42 s", "5 min", "2.5 h"]);
        assert_eq!(duration(f64::INFINITY), NONE);
        assert_eq!([12.0, 4_321.0, 4_321_000.0].map(bytes), ["12 B", "4 kB", "4.3 MB"]);
        assert_eq!([1.26, 310.2].map(rate), ["1.3 tiles/s", "310 tiles/s"]);
        assert_eq!([0.5, 0.25, 1.0, 0.123_45, 10.0].map(pixel_size), ["0.5", "0.25", "1", "0.1235", "10"]);
        assert_eq!([0.0, 7.3, 123.0, 26_249.0, 999.9].map(rounded), ["0", "7", "120", "26,000", "1,000"]);
        assert_eq!((bin_noun(16.0, 1), bin_noun(100.0, 2)), ("bin", "spots"));
        assert_eq!(plural(1, "tile", "tiles"), "1 tile");
        assert_eq!(plural(2000, "tile", "tiles"), "2,000 tiles");
    }

    #[test]
    fn typed_numbers_are_read_or_refused() {
        assert_eq!(positive(" 0,5 "), Some(0.5));
        assert_eq!(positive("1e-1"), Some(0.1));
        for text in ["", "0", "-1", "abc", "inf", "NaN", "1.2.3"] {
            assert_eq!(positive(text), None, "{text}");
        }
    }
}
