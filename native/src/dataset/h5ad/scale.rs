//! How large a pixel and a bin are.

use anyhow::Result;
use magnet_core::anndata::{AnnDataFile, AxisTable, Column};
use magnet_core::coordinates::SlidePx;

use super::H5adOptions;
use super::library_scale::{LibraryScale, number};
use crate::dataset::visium::{SPOT_UM, pixel_size_of_array};
use crate::error::InputError;

/// Fewest spots whose places tell the pitch of the array.
const FEWEST_FITTED: usize = 7;

impl H5adOptions {
    pub(super) fn bin_um(
        &self,
        data: &AnnDataFile<'_>,
        scale: &LibraryScale,
        notes: &mut Vec<String>,
    ) -> Result<f64> {
        if let Some(um) = self.bin_um {
            return Ok(um);
        }
        let ours = data.annotation("uns/magnet/bin_um").ok().flatten().as_ref().and_then(number);
        if let Some(um) = ours.or_else(|| scale.number("bin_size_um")).filter(|um| *um > 0.0) {
            return Ok(um);
        }
        if scale.is_visium {
            notes.push(format!("spots of {SPOT_UM} µm, because {} says Visium", scale.path));
            return Ok(SPOT_UM);
        }
        let expected = "the side or diameter of a measured bin in µm (55 for Visium, 100 for ST arrays)";
        Err(InputError::in_flag("--bin-um", "value", expected, "nothing, and the file does not say").into())
    }

    /// µm per pixel by the pitch of Visium's array, where the file says which spots these are and they follow it.
    pub(super) fn pitch(
        &self,
        obs: &AxisTable,
        rows: &[usize],
        centers_px: &[SlidePx],
    ) -> Option<(f64, String)> {
        let (Some(Column::Integers(array_rows)), Some(Column::Integers(array_cols))) =
            (obs.column("array_row"), obs.column("array_col"))
        else {
            return None;
        };
        let spot = |&row: &usize| {
            let place = |values: &[i64]| i32::try_from(*values.get(row)?).ok();
            Some((place(array_rows)?, place(array_cols)?, *centers_px.get(row)?))
        };
        let spots: Vec<_> = rows.iter().filter_map(spot).collect();
        if spots.len() < FEWEST_FITTED {
            return None;
        }
        pixel_size_of_array(&self.input, spots.into_iter()).ok()
    }

    /// `stated_spot_um` is what `spot_diameter_fullres` measures.
    pub(super) fn pixel_size(
        &self,
        data: &AnnDataFile<'_>,
        scale: &LibraryScale,
        pitch: Option<(f64, String)>,
        stated_spot_um: f64,
        notes: &mut Vec<String>,
    ) -> Result<(f64, String)> {
        let ours = data.annotation("uns/magnet/pixel_size_um").ok().flatten().as_ref().and_then(number);
        let stated = ours
            .map(|um| (um, "uns/magnet/pixel_size_um".to_owned()))
            .or_else(|| {
                Some((scale.number("microns_per_pixel")?, format!("{}/microns_per_pixel", scale.path)))
            })
            .or(pitch)
            .or_else(|| {
                let diameter_px = scale.number("spot_diameter_fullres")?;
                let origin = format!("{}/spot_diameter_fullres as {stated_spot_um} µm", scale.path);
                Some((stated_spot_um / diameter_px, origin))
            });
        match (self.pixel_size_um, stated) {
            (Some(um), stated) => {
                if let Some((stated_um, origin)) = stated
                    && (stated_um / um - 1.0).abs() > 0.05
                {
                    notes.push(format!(
                        "{origin} would be {stated_um:.4} µm per pixel, not the {um} of --mpp"
                    ));
                }
                Ok((um, "given with --mpp".to_owned()))
            }
            (None, Some(stated)) => Ok(stated),
            (None, None) => {
                let expected = "the size of a full-resolution pixel in µm";
                let found = "nothing, and the file has no scale factors";
                Err(InputError::in_flag("--mpp", "value", expected, found).into())
            }
        }
    }
}
