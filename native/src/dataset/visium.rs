//! Space Ranger's `outs` folder of a Visium run (1.x to 4.x).

use std::path::{Path, PathBuf};

use anyhow::Result;
use magnet_core::anndata::Column;
use magnet_core::coordinates::{SlidePx, SlideUm};
use magnet_core::expression::ValueKind;

use super::array_fit;
use super::positions::{BinPosition, read_positions};
use super::prepare::{NewSlide, Summary, check_id, check_mpp, refuse_existing_ids};
use super::scalefactors::{Scalefactors, read_scalefactors};
use super::space_ranger::{self, Joined};
use crate::error::InputError;
use crate::files::Overwrite;

/// Diameter of a spot, in µm.
pub(super) const SPOT_UM: f64 = 55.0;
/// Distance between neighbouring spots of the array, in µm, in each direction of its hexagons.
const PITCH_UM: f64 = 100.0;
/// Space Ranger's `spot_diameter_fullres` is the diameter of a theoretical spot of 65 µm; in files that other tools
/// wrote it may be the spot's own.
pub(super) const STATED_SPOT_UM: f64 = 65.0;
/// Relative difference up to which two ways to the pixel size agree.
const AGREEMENT: f64 = 0.05;
/// The positions table, by age.
const POSITIONS: [&str; 3] =
    ["tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet"];

/// `prepare visium`.
#[derive(Debug, Clone)]
pub struct VisiumOptions {
    /// Space Ranger's `outs` folder, or the folder that holds it.
    pub input: PathBuf,
    /// The full-resolution image; the only image directly in `input` when `None`.
    pub image: Option<PathBuf>,
    /// The prepared dataset, which may hold other slides already.
    pub out: PathBuf,
    /// Name of the slide; the folder's name when `None` (for a folder called `outs`, its parent's).
    pub id: Option<String>,
    /// Size of a pixel in µm; derived from the array's pitch when `None`.
    pub pixel_size_um: Option<f64>,
    /// Whether spots off tissue are kept, with `in_tissue` 0.
    pub off_tissue: bool,
    /// Whether a slide that the dataset holds already is replaced.
    pub overwrite: Overwrite,
}

impl VisiumOptions {
    /// Prepares the slide, whole or not at all.
    ///
    /// # Errors
    /// When a file is absent or damaged, the files contradict each other, or the slide exists already; the message
    /// names file, field, expected and found.
    pub fn run(&self) -> Result<Summary> {
        check_mpp(self.pixel_size_um)?;
        let id = space_ranger::slide_id(self.id.as_deref(), &self.input)?;
        check_id(&id)?;
        refuse_existing_ids(&self.out, std::slice::from_ref(&id), self.overwrite)?;
        let slide = self.read(id)?.write(&self.out, self.overwrite)?;
        Ok(Summary { slides: vec![slide] })
    }

    fn read(&self, id: String) -> Result<NewSlide> {
        let outs = space_ranger::outs(&self.input);
        if outs.join("binned_outputs").is_dir() {
            let expected = "a Visium run";
            let found = "one of Visium HD (binned_outputs): use prepare visium-hd";
            return Err(InputError::in_file(&outs, "folder", expected, found).into());
        }
        let spatial = outs.join("spatial");
        let positions_path = positions_file(&spatial)?;
        let positions = read_positions(&positions_path)?;
        let scale_path = spatial.join("scalefactors_json.json");
        let scale = read_scalefactors(&scale_path)?;
        let image = space_ranger::full_image(self.image.as_deref(), &outs)?;
        // Without the raw counts, spots off tissue have none.
        let raw = self.off_tissue && space_ranger::has_matrix(&outs, "raw");
        let (mut matrix, mut sources) =
            space_ranger::read_matrix(&outs, if raw { "raw" } else { "filtered" })?;
        let matrix_path = sources.first().cloned().unwrap_or_default();
        let (genes, other_features) = space_ranger::take_genes(&mut matrix, &matrix_path)?;
        let mut notes = Vec::new();
        let (um_per_px, um_per_px_origin) =
            pixel_size(&positions_path, &positions, self.pixel_size_um, &scale, &mut notes)?;
        if self.off_tissue && !raw {
            notes.push("no raw matrix: only spots of the filtered one".to_owned());
        }
        let Joined { counts, positions, mut dropped } =
            space_ranger::join(&matrix_path, &positions_path, &matrix, positions, self.off_tissue)?;
        dropped.extend(other_features);
        sources.splice(1..1, [positions_path, scale_path]);
        let column = |value: fn(&BinPosition) -> i32| {
            Column::Integers(positions.iter().map(|position| i64::from(value(position))).collect())
        };
        Ok(NewSlide {
            id,
            technology: "Visium".to_owned(),
            patient: None,
            genes,
            counts,
            columns: vec![
                ("in_tissue".to_owned(), column(|position| position.in_tissue.into())),
                ("array_row".to_owned(), column(|position| position.array_row)),
                ("array_col".to_owned(), column(|position| position.array_col)),
            ],
            centers_px: positions.iter().map(|position| position.center_px).collect(),
            barcodes: positions.into_iter().map(|position| position.barcode).collect(),
            um_per_px,
            um_per_px_origin,
            bin_um: SPOT_UM,
            image,
            sources,
            dropped,
            notes,
            frames: space_ranger::frames(&scale),
            values: ValueKind::Counts,
            off_tissue: self.off_tissue,
        })
    }
}

/// The positions table of a `spatial` folder.
pub(super) fn positions_file(spatial: &Path) -> Result<PathBuf, InputError> {
    let found = POSITIONS.iter().map(|name| spatial.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| InputError::in_file(spatial, "positions", POSITIONS.join(" or "), "none of them"))
}

/// Where a spot of the array lies, in µm: rows are half a pitch apart along `x`, and columns are counted in half
/// pitches.
fn array_um(row: i32, column: i32) -> SlideUm {
    let row_um = PITCH_UM * 3.0_f64.sqrt() / 2.0;
    SlideUm { x: f64::from(column) * PITCH_UM / 2.0, y: f64::from(row) * row_um }
}

/// µm per pixel and where it comes from: the pitch of the array, of spots given by row, column and place.
///
/// # Errors
/// When the spots do not follow the array.
pub(super) fn pixel_size_of_array(
    file: &Path,
    spots: impl Iterator<Item = (i32, i32, SlidePx)>,
) -> Result<(f64, String), InputError> {
    let points: Vec<_> = spots.map(|(row, column, center)| (array_um(row, column), center)).collect();
    array_fit::pixel_size(file, &points, PITCH_UM, "spots")
}

/// µm per pixel and where it comes from: the one given, or the one of the array's pitch. All statements must agree.
fn pixel_size(
    path: &Path,
    positions: &[BinPosition],
    given: Option<f64>,
    scale: &Scalefactors,
    notes: &mut Vec<String>,
) -> Result<(f64, String), InputError> {
    let spots = positions.iter().map(|spot| (spot.array_row, spot.array_col, spot.center_px));
    let fitted = pixel_size_of_array(path, spots);
    let agree = |a: f64, b: f64| (a / b - 1.0).abs() <= AGREEMENT;
    let (um_per_px, origin) = match (given, fitted) {
        (None, fitted) => fitted?,
        (Some(um), Ok((fitted_um, origin))) if !agree(um, fitted_um) => {
            let expected = format!("about {fitted_um:.4} µm ({origin})");
            return Err(InputError::in_flag("--mpp", "value", expected, um));
        }
        (Some(um), _) => (um, "given with --mpp".to_owned()),
    };
    let stated = [STATED_SPOT_UM, SPOT_UM].map(|spot_um| spot_um / scale.spot_diameter_fullres);
    if !stated.iter().any(|&stated| agree(stated, um_per_px)) {
        notes.push(format!(
            "spot_diameter_fullres {:.2} px would be a spot of {:.0} µm, not the 65 (or 55) µm expected of Space Ranger",
            scale.spot_diameter_fullres,
            scale.spot_diameter_fullres * um_per_px
        ));
    }
    Ok((um_per_px, origin))
}

#[cfg(test)]
#[path = "visium_tests.rs"]
mod tests;
