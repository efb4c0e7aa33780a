//! Where the spots lie, and which image's pixels their coordinates count.

use anyhow::{Context, Result};
use magnet_core::anndata::AnnDataFile;
use magnet_core::coordinates::SlidePx;

use super::H5adOptions;
use super::library_scale::LibraryScale;
use crate::dataset::{image_size_px, validate};
use crate::error::InputError;

/// Where coordinates are looked for in `obsm` when none are named, in order.
const SPATIAL_KEYS: [&str; 3] = ["spatial", "X_spatial", "spatial_fullres"];

/// Which image's pixels the coordinates of a file count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoordinateFrame {
    /// The full-resolution image.
    #[default]
    Full,
    /// `tissue_hires_image.png`.
    Hires,
    /// `tissue_lowres_image.png`.
    Lowres,
}

impl CoordinateFrame {
    const ALL: [Self; 3] = [Self::Full, Self::Hires, Self::Lowres];

    /// As `--spatial-frame` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hires => "hires",
            Self::Lowres => "lowres",
        }
    }
}

impl H5adOptions {
    pub(super) fn coordinates(&self, data: &AnnDataFile<'_>, observations: usize) -> Result<Vec<SlidePx>> {
        let named = || self.input.display().to_string();
        let keys: Vec<&str> = match &self.spatial_key {
            Some(key) => vec![key],
            None => SPATIAL_KEYS.to_vec(),
        };
        for key in &keys {
            if let Some(points) = data.coordinates(key, observations).with_context(named)? {
                return Ok(points);
            }
        }
        let there = data.coordinate_keys().with_context(named)?.join(", ");
        let found = if there.is_empty() { "nothing".to_owned() } else { format!("{there} (--spatial-key)") };
        let expected = format!("{}: the centre of each spot in full-resolution pixels", keys.join(" or "));
        Err(InputError::in_file(&self.input, "obsm", expected, found).into())
    }

    pub(super) fn to_full_resolution(
        &self,
        centers: &mut [SlidePx],
        scale: &LibraryScale,
    ) -> Result<(), InputError> {
        let Some(factor) = scale.factor(self.frame) else {
            let expected = format!(
                "tissue_{name}_scalef, to bring the coordinates to full resolution (--spatial-frame {name})",
                name = self.frame.name()
            );
            return Err(InputError::in_file(&self.input, &scale.path, expected, "nothing"));
        };
        for point in centers {
            *point = SlidePx { x: point.x / factor, y: point.y / factor };
        }
        Ok(())
    }

    /// Positions that do not lie on the image as they should, where another frame was asked for or would put them right.
    ///
    /// # Errors
    /// Names the option, and where each frame of the file would put the positions.
    pub(super) fn check_frame(
        &self,
        centers_px: &[SlidePx],
        barcodes: &[String],
        scale: &LibraryScale,
        bin_um: f64,
        um_per_px: f64,
    ) -> Result<()> {
        let (width, height) = image_size_px(&self.image)?;
        let frames = scale.frames();
        let inside = |centers: &[SlidePx]| {
            validate::inside_image(&self.input, centers, barcodes, &self.image, (width, height), &frames)
        };
        let fits = inside(centers_px)
            .and_then(|()| validate::spacing(&self.input, centers_px, bin_um, um_per_px, &frames));
        let Err(error) = fits else { return Ok(()) };
        let applied = scale.factor(self.frame).unwrap_or(1.0);
        let (mut reaches, mut explained) = (Vec::new(), false);
        for frame in CoordinateFrame::ALL {
            let Some(factor) = scale.factor(frame).map(|factor| factor / applied) else { continue };
            let points: Vec<SlidePx> =
                centers_px.iter().map(|point| SlidePx { x: point.x / factor, y: point.y / factor }).collect();
            let (x, y) =
                points.iter().fold((0.0_f64, 0.0_f64), |(x, y), point| (x.max(point.x), y.max(point.y)));
            reaches.push(format!("{} {x:.0} × {y:.0} px", frame.name()));
            // On the image, and not in one corner of it.
            let spread = x / f64::from(width) + y / f64::from(height) > 0.5;
            explained |= frame != self.frame && spread && inside(&points).is_ok();
        }
        if self.frame == CoordinateFrame::Full && !explained {
            return Err(error.into());
        }
        let expected = format!(
            "the image whose pixels the positions count; they would reach, of {width} × {height} px: {}",
            reaches.join(", ")
        );
        let found = format!("{}: {}", self.frame.name(), error.found);
        Err(InputError::in_flag("--spatial-frame", "value", expected, found).into())
    }
}
