//! Slides that tifffile writes decode to its pixels.

use std::path::Path;

use magnet_core::slide::{PyramidOptions, SlideError, SlidePyramid};
use serde::Deserialize;
use tempfile::TempDir;

use crate::python::{python, report, run_python};

#[derive(Deserialize)]
struct ExpectedLevel {
    width: u32,
    height: u32,
    /// File of the pixels, raw RGB.
    rgb: String,
}

/// How far a decoder of a lossy codec may be from another, in steps of 255.
#[derive(Deserialize)]
struct Tolerance {
    max: u8,
    mean: f64,
}

#[derive(Deserialize)]
struct ExpectedSlide {
    file: String,
    levels: Vec<ExpectedLevel>,
    tolerance: Tolerance,
    um_per_px: Option<f64>,
}

impl ExpectedSlide {
    fn compare(&self, folder: &Path) -> Result<Vec<String>, SlideError> {
        let mut wrong = Vec::new();
        let slide =
            SlidePyramid::open(std::fs::read(folder.join(&self.file)).unwrap(), PyramidOptions::default())?;
        let found_sizes: Vec<(u32, u32)> =
            slide.levels().iter().map(|level| (level.width_px, level.height_px)).collect();
        let sizes: Vec<(u32, u32)> = self.levels.iter().map(|level| (level.width, level.height)).collect();
        if found_sizes != sizes {
            wrong.push(format!("levels {found_sizes:?}, not {sizes:?}"));
            return Ok(wrong);
        }
        match (self.um_per_px, slide.embedded_pixel_size()) {
            (Some(expected), Some(found)) if (expected / found.um_per_px - 1.0).abs() < 1e-6 => {}
            (None, None) => {}
            (expected, found) => wrong.push(format!("pixel size {found:?}, not {expected:?}")),
        }
        for (index, level) in self.levels.iter().enumerate() {
            let pixels = std::fs::read(folder.join(&level.rgb)).unwrap();
            let whole = slide.read_region(index, 0, 0, level.width, level.height)?;
            let differences: Vec<u8> =
                pixels.iter().zip(&whole).map(|(expected, found)| expected.abs_diff(*found)).collect();
            let max = differences.iter().copied().max().unwrap_or_default();
            let mean =
                differences.iter().map(|&step| f64::from(step)).sum::<f64>() / differences.len() as f64;
            if pixels.len() != whole.len() || max > self.tolerance.max || mean > self.tolerance.mean {
                wrong.push(format!("level {index}: differs by up to {max}, {mean:.3} on average"));
            }
            // A piece across tiles is that piece of the whole.
            let (left, top, width, height) =
                (level.width / 3, level.height / 4, level.width / 2, level.height / 2);
            let piece = slide.read_region(index, i64::from(left), i64::from(top), width, height)?;
            let rows = (top..top + height).map(|row| ((row * level.width + left) * 3) as usize);
            let cut: Vec<u8> = rows.flat_map(|at| &whole[at..at + width as usize * 3]).copied().collect();
            if piece != cut {
                wrong.push(format!("level {index}: a region is not that part of the whole"));
            }
        }
        Ok(wrong)
    }
}

#[test]
fn slides_of_tifffile_decode_to_its_pixels() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    run_python(&python, "write_slides.py", &[folder.path()]);
    let text = std::fs::read_to_string(folder.path().join("slides.json")).unwrap();
    let slides: Vec<ExpectedSlide> = serde_json::from_str(&text).unwrap();
    let compare = |slide: &ExpectedSlide| {
        let wrong = slide.compare(folder.path()).unwrap_or_else(|error| vec![error.to_string()]);
        (slide.file.clone(), wrong)
    };
    report(&slides.iter().map(compare).collect::<Vec<_>>(), slides.len());
}
