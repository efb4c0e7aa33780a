//! What an AnnData file says about the scale of a library, under `uns/spatial/<library>`.

use anyhow::Result;
use magnet_core::anndata::{AnnDataFile, Annotation};

use super::frame::CoordinateFrame;
use crate::dataset::scalefactors::Scalefactors;
use crate::dataset::space_ranger;
use crate::dataset::validate::Frame;

/// What `uns/spatial/<library>` says about scale.
pub(super) struct LibraryScale {
    /// Where the scale factors stand.
    pub path: String,
    factors: Option<Annotation>,
    /// Whether the library's metadata names the chemistry of Visium.
    pub is_visium: bool,
}

impl LibraryScale {
    /// Reads it; of the only or first library where none is named.
    pub(super) fn read(data: &AnnDataFile<'_>, library: Option<&str>) -> Result<Self> {
        let known = data.members("uns/spatial")?;
        let library = library.filter(|name| known.iter().any(|other| other == name));
        let Some(library) = library.or(known.first().map(String::as_str)) else {
            return Ok(Self { path: "uns/spatial".to_owned(), factors: None, is_visium: false });
        };
        let path = format!("uns/spatial/{library}/scalefactors");
        let factors = data.annotation(&path)?;
        let chemistry = data.annotation(&format!("uns/spatial/{library}/metadata/chemistry_description"))?;
        let is_visium = match chemistry {
            Some(Annotation::Text(text)) => {
                (text.contains("Spatial") || text.contains("Visium")) && !text.contains("HD")
            }
            _ => false,
        };
        Ok(Self { path, factors, is_visium })
    }

    /// A positive scale factor.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let Some(Annotation::Group(factors)) = &self.factors else { return None };
        number(factors.get(name)?).filter(|value| value.is_finite() && *value > 0.0)
    }

    /// Pixels of an image per full-resolution pixel, where the file says it.
    pub(super) fn factor(&self, frame: CoordinateFrame) -> Option<f64> {
        match frame {
            CoordinateFrame::Full => Some(1.0),
            CoordinateFrame::Hires => self.number("tissue_hires_scalef"),
            CoordinateFrame::Lowres => self.number("tissue_lowres_scalef"),
        }
    }

    /// The smaller images whose scale is stated.
    pub(super) fn frames(&self) -> Vec<Frame> {
        space_ranger::frames(&Scalefactors {
            spot_diameter_fullres: f64::NAN,
            bin_size_um: None,
            microns_per_pixel: None,
            tissue_hires_scalef: self.number("tissue_hires_scalef"),
            tissue_lowres_scalef: self.number("tissue_lowres_scalef"),
            fiducial_diameter_fullres: None,
        })
    }
}

/// A number, whichever way it is stored.
pub(super) fn number(value: &Annotation) -> Option<f64> {
    match value {
        Annotation::Number(number) => Some(*number),
        Annotation::Integer(integer) => Some(*integer as f64),
        Annotation::Numbers(numbers) => match numbers.as_slice() {
            [number] => Some(*number),
            _ => None,
        },
        _ => None,
    }
}
