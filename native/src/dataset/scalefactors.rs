//! `scalefactors_json.json`: the scale of a Space Ranger run.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::InputError;
use crate::files::{Overwrite, read_limited, write_atomic};

/// The file's name in a Space Ranger run.
const FILE_NAME: &str = "scalefactors_json.json";
/// A real file has a few hundred bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Relative difference up to which two statements of the pixel size agree; the files give about six digits.
const AGREEMENT: f64 = 1e-3;

/// The scale of a Space Ranger run. Fields that a version does not write are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scalefactors {
    /// Side of a bin (or diameter of a spot) in full-resolution pixels.
    pub spot_diameter_fullres: f64,
    /// Side of a bin in µm; Visium HD only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin_size_um: Option<f64>,
    /// Size of a full-resolution pixel in µm; Visium HD only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microns_per_pixel: Option<f64>,
    /// Pixels of `tissue_hires_image.png` per full-resolution pixel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tissue_hires_scalef: Option<f64>,
    /// Pixels of `tissue_lowres_image.png` per full-resolution pixel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tissue_lowres_scalef: Option<f64>,
    /// Diameter of a fiducial in full-resolution pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiducial_diameter_fullres: Option<f64>,
}

impl Scalefactors {
    /// The bin size and the pixel size in µm, which the file states twice and must state alike.
    ///
    /// # Errors
    /// When a value is absent, not positive, or the two pixel sizes differ.
    pub fn bin_and_pixel_um(&self) -> Result<(f64, f64), InputError> {
        let file = Path::new(FILE_NAME);
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(InputError::in_file(file, name, "a positive number", value)),
            None => {
                let found = "no such key (is this a Visium HD run?)";
                Err(InputError::in_file(file, name, "a positive number", found))
            }
        };
        let side_px = positive("spot_diameter_fullres", Some(self.spot_diameter_fullres))?;
        let bin_um = positive("bin_size_um", self.bin_size_um)?;
        let um_per_px = positive("microns_per_pixel", self.microns_per_pixel)?;
        let implied = bin_um / side_px;
        if ((implied - um_per_px) / um_per_px).abs() > AGREEMENT {
            let expected =
                format!("bin_size_um / spot_diameter_fullres = {bin_um} / {side_px} = {implied:.6}");
            return Err(InputError::in_file(file, "microns_per_pixel", expected, um_per_px));
        }
        Ok((bin_um, um_per_px))
    }
}

/// Reads the file.
///
/// # Errors
/// When it cannot be read or is not JSON with the expected keys.
pub fn read_scalefactors(path: &Path) -> Result<Scalefactors> {
    let bytes = read_limited(path, MOST_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        InputError::in_file(path, "JSON", "the scale factors of a Space Ranger run", error).into()
    })
}

/// Writes the file.
///
/// # Errors
/// When it exists and may not be replaced, or cannot be written.
pub fn write_scalefactors(path: &Path, scalefactors: &Scalefactors, overwrite: Overwrite) -> Result<()> {
    write_atomic(path, &serde_json::to_vec_pretty(scalefactors)?, overwrite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hd() -> Scalefactors {
        Scalefactors {
            spot_diameter_fullres: 29.23,
            bin_size_um: Some(8.0),
            microns_per_pixel: Some(8.0 / 29.23),
            tissue_hires_scalef: Some(0.1),
            tissue_lowres_scalef: None,
            fiducial_diameter_fullres: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_unknown_keys_are_let_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scalefactors_json.json");
        write_scalefactors(&path, &hd(), Overwrite::No).unwrap();
        assert_eq!(read_scalefactors(&path).unwrap(), hd());
        let (bin_um, um_per_px) = hd().bin_and_pixel_um().unwrap();
        assert_eq!(bin_um, 8.0);
        assert!((um_per_px - 0.273_691).abs() < 1e-6);
        let text = r#"{"spot_diameter_fullres": 100.0, "regist_target_img_scalef": 0.5}"#;
        std::fs::write(&path, text).unwrap();
        let error = read_scalefactors(&path).unwrap().bin_and_pixel_um().unwrap_err().to_string();
        assert!(error.starts_with("scalefactors_json.json: bin_size_um: expected"), "{error}");
    }

    #[test]
    fn two_pixel_sizes_that_differ_are_refused_with_both() {
        let error =
            Scalefactors { microns_per_pixel: Some(0.5), ..hd() }.bin_and_pixel_um().unwrap_err().to_string();
        assert!(error.contains("0.273691") && error.ends_with("found 0.5"), "{error}");
        let error =
            Scalefactors { bin_size_um: Some(-8.0), ..hd() }.bin_and_pixel_um().unwrap_err().to_string();
        assert_eq!(error, "scalefactors_json.json: bin_size_um: expected a positive number, found -8");
    }
}
