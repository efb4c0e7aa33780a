//! Any AnnData file with spatial coordinates.

mod frame;
mod library_scale;
mod matrix;
mod sample;
mod scale;

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use magnet_core::anndata::{AnnDataFile, AxisTable, Column};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::ValueKind;
use magnet_core::hdf5::{Hdf5File, Limits};

use self::library_scale::LibraryScale;
use self::matrix::other_features;
use self::sample::Library;
use super::prepare::{NewSlide, Summary, check_id, check_mpp, refuse_existing_ids};
use super::visium::{SPOT_UM, STATED_SPOT_UM};
use super::{genes_of, validate};
use crate::error::InputError;
use crate::files::Overwrite;

pub use self::frame::CoordinateFrame;

/// `prepare h5ad`.
#[derive(Debug, Clone)]
pub struct H5adOptions {
    /// The AnnData file.
    pub input: PathBuf,
    /// The full-resolution image.
    pub image: PathBuf,
    /// The prepared dataset, which may hold other slides already.
    pub out: PathBuf,
    /// Name of the slide; the sample's or the file's when `None`.
    pub id: Option<String>,
    /// Size of a pixel in µm; from the array's pitch or the file's scale factors when `None`.
    pub pixel_size_um: Option<f64>,
    /// Side or diameter of a measured bin in µm; from the file when `None`.
    pub bin_um: Option<f64>,
    /// The matrix: `X`, `raw/X`, or the name of a layer.
    pub layer: String,
    /// The key of the coordinates in `obsm`; the usual ones are tried when `None`.
    pub spatial_key: Option<String>,
    /// Which image's pixels the coordinates count.
    pub frame: CoordinateFrame,
    /// The sample to take from a file of several.
    pub library: Option<String>,
    /// The column of `obs` that names the samples; the usual ones are tried when `None`.
    pub library_key: Option<String>,
    /// Whether values that are no counts are taken as they are; numbers they must be.
    pub allow_normalized: bool,
    /// Whether observations off tissue are kept.
    pub off_tissue: bool,
    /// Whether a slide that the dataset holds already is replaced.
    pub overwrite: Overwrite,
}

impl H5adOptions {
    /// The counts in `X` of a file of one sample, which says all else itself.
    pub fn new(input: PathBuf, image: PathBuf, out: PathBuf) -> Self {
        Self {
            input,
            image,
            out,
            id: None,
            pixel_size_um: None,
            bin_um: None,
            layer: "X".to_owned(),
            spatial_key: None,
            frame: CoordinateFrame::Full,
            library: None,
            library_key: None,
            allow_normalized: false,
            off_tissue: false,
            overwrite: Overwrite::No,
        }
    }

    /// Prepares the slide, whole or not at all.
    ///
    /// # Errors
    /// When the file is no AnnData file, has no coordinates, its values are no counts, something that is needed is not
    /// said, or the slide exists already; the message names file, object, expected and found.
    pub fn run(&self) -> Result<Summary> {
        check_mpp(self.pixel_size_um)?;
        if let Some(um) = self.bin_um
            && !(um.is_finite() && um > 0.0)
        {
            return Err(InputError::in_flag("--bin-um", "value", "a positive number of µm", um).into());
        }
        let file =
            File::open(&self.input).with_context(|| format!("cannot open {}", self.input.display()))?;
        let named = || self.input.display().to_string();
        let file = Hdf5File::from_reader(file, Limits::default()).with_context(named)?;
        let slide = self.read(&AnnDataFile::new(&file).with_context(named)?)?;
        check_id(&slide.id)?;
        refuse_existing_ids(&self.out, std::slice::from_ref(&slide.id), self.overwrite)?;
        Ok(Summary { slides: vec![slide.write(&self.out, self.overwrite)?] })
    }

    fn read(&self, data: &AnnDataFile<'_>) -> Result<NewSlide> {
        let named = || self.input.display().to_string();
        let obs = data.obs().with_context(named)?;
        let observations = obs.names.len();
        let path = self.matrix_path(data)?;
        let var = data.var_of(&path).with_context(named)?;
        let library = self.library(data, &obs)?;
        let scale = LibraryScale::read(data, library.name.as_deref()).with_context(named)?;
        let mut notes = Vec::new();
        let bin_um = self.bin_um(data, &scale, &mut notes)?;
        let mut centers_px = self.coordinates(data, observations)?;
        self.to_full_resolution(&mut centers_px, &scale)?;

        let (rows, mut dropped) = self.rows(&obs, &library);
        let is_visium = scale.is_visium || bin_um == SPOT_UM;
        let pitch = if is_visium { self.pitch(&obs, &rows, &centers_px) } else { None };
        let (um_per_px, um_per_px_origin) = self.pixel_size(
            data,
            &scale,
            pitch,
            if is_visium { STATED_SPOT_UM } else { bin_um },
            &mut notes,
        )?;
        let counts = data.matrix(&path, (observations, var.names.len())).with_context(named)?.into_sparse();
        let counts = if rows.len() == observations { counts } else { counts.select_rows(&rows) };
        let (var, counts) = match other_features(&var) {
            None => (var, counts),
            Some((genes, other)) => {
                dropped.push(other);
                let columns: Vec<u32> = genes.iter().map(|&gene| gene as u32).collect();
                (var.select(&genes), counts.select_columns(&columns)?)
            }
        };
        let genes =
            genes_of(var).map_err(|error| InputError { file: self.input.display().to_string(), ..error })?;
        let obs = obs.select(&rows);
        let barcodes = obs.names.clone();
        let centers_px: Vec<SlidePx> = rows.iter().filter_map(|&row| centers_px.get(row).copied()).collect();
        self.check_frame(&centers_px, &barcodes, &scale, bin_um, um_per_px)?;
        let check = |kind| {
            validate::values(&self.input, kind, &counts, &barcodes, &genes.symbols)
                .map_err(|error| InputError { field: path.clone(), ..error })
        };
        let values = match check(ValueKind::Counts) {
            Ok(()) => ValueKind::Counts,
            Err(_) if self.allow_normalized => {
                check(ValueKind::Normalized)?;
                notes.push(format!(
                    "{path} holds normalised values, which become labels as they are (no library size, no \
                     logarithm; wider tiles take the mean of their bins)"
                ));
                ValueKind::Normalized
            }
            Err(error) => return Err(self.not_counts(error, data, &path, &counts.values)),
        };
        Ok(NewSlide {
            id: self.id(&library),
            technology: "AnnData".to_owned(),
            patient: None,
            genes,
            counts,
            columns: carried_columns(&obs),
            barcodes,
            centers_px,
            um_per_px,
            um_per_px_origin,
            bin_um,
            image: self.image.clone(),
            sources: vec![self.input.clone()],
            dropped,
            notes,
            frames: scale.frames(),
            values,
            off_tissue: self.off_tissue,
        })
    }

    fn id(&self, library: &Library<'_>) -> String {
        let stem = || self.input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.id.clone().or_else(|| self.library.as_ref().and(library.name.clone())).unwrap_or_else(stem)
    }
}

/// The columns of `obs` that a prepared slide keeps: where the spot lies on its array.
fn carried_columns(obs: &AxisTable) -> Vec<(String, Column)> {
    let whole = |column: &Column| match column {
        Column::Integers(values) => Some(Column::Integers(values.clone())),
        Column::Flags(flags) => Some(Column::Integers(flags.iter().map(|&flag| flag.into()).collect())),
        _ => None,
    };
    let kept = ["in_tissue", "array_row", "array_col"];
    kept.into_iter().filter_map(|name| Some((name.to_owned(), whole(obs.column(name)?)?))).collect()
}

#[cfg(test)]
mod tests;
