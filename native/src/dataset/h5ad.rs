//! Any AnnData file with spatial coordinates.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use magnet_core::anndata::{AnnDataFile, AxisTable, Column};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::ValueKind;
use magnet_core::hdf5::{Hdf5File, Limits};

use super::library_scale::{LibraryScale, number};
use super::prepare::{Dropped, NewSlide, Summary, check_id, check_mpp, refuse_existing_ids};
use super::tenx_matrix::GENE_EXPRESSION;
use super::visium::{SPOT_UM, STATED_SPOT_UM, pixel_size_of_array};
use super::{genes_of, image_size_px, rows_on_tissue, validate};
use crate::error::InputError;
use crate::files::Overwrite;

/// Where coordinates are looked for in `obsm` when none are named, in order.
const SPATIAL_KEYS: [&str; 3] = ["spatial", "X_spatial", "spatial_fullres"];
/// Columns of `obs` that name the sample of each observation, in order.
const LIBRARY_COLUMNS: [&str; 4] = ["library_id", "sample_id", "sample", "library"];

/// Fewest spots whose places tell the pitch of the array.
const FEWEST_FITTED: usize = 7;

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
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hires => "hires",
            Self::Lowres => "lowres",
        }
    }
}

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
            technology: "AnnData",
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

    fn id(&self, library: &Library) -> String {
        let stem = || self.input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.id.clone().or_else(|| self.library.as_ref().and(library.name.clone())).unwrap_or_else(stem)
    }

    fn matrix_path(&self, data: &AnnDataFile<'_>) -> Result<String> {
        let known = data.matrices().with_context(|| self.input.display().to_string())?;
        let wanted = [self.layer.clone(), format!("layers/{}", self.layer)];
        let wanted_raw = (self.layer == "raw").then(|| "raw/X".to_owned());
        match known.iter().find(|path| wanted.contains(path) || Some(*path) == wanted_raw.as_ref()) {
            Some(path) => Ok(path.clone()),
            None => {
                let expected = format!("one of {}", known.join(", "));
                Err(InputError::in_flag("--layer", "value", expected, &self.layer).into())
            }
        }
    }

    /// Which sample to take.
    fn library(&self, data: &AnnDataFile<'_>, obs: &AxisTable) -> Result<Library> {
        let of_uns = data.members("uns/spatial").with_context(|| self.input.display().to_string())?;
        let column = match &self.library_key {
            Some(key) => {
                let Some(column) = obs.column(key) else {
                    let found =
                        obs.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                    let expected = format!("a column {key} (--library-key)");
                    return Err(InputError::in_file(&self.input, "obs", expected, found).into());
                };
                Some(column)
            }
            None => LIBRARY_COLUMNS.iter().find_map(|name| obs.column(name)),
        };
        let of_row = column.and_then(Column::texts);
        let mut names: Vec<String> = of_row.clone().unwrap_or_default();
        names.sort();
        names.dedup();
        let several = if names.len() > 1 { &names } else { &of_uns };
        let name = match &self.library {
            Some(wanted) if names.contains(wanted) || of_uns.contains(wanted) => Some(wanted.clone()),
            Some(wanted) => {
                let known = if names.is_empty() { &of_uns } else { &names };
                let expected = format!("one of {}", known.join(", "));
                return Err(InputError::in_flag("--library", "value", expected, wanted).into());
            }
            None if several.len() > 1 => {
                let expected = format!("one of the {} samples: {}", several.len(), several.join(", "));
                return Err(InputError::in_flag("--library", "value", expected, "nothing").into());
            }
            None => of_uns.first().or(names.first()).cloned(),
        };
        // A column with one value says nothing about rows.
        let of_row = of_row.filter(|_| names.len() > 1);
        Ok(Library { name, of_row })
    }

    /// The observations to take, and what is left out.
    fn rows(&self, obs: &AxisTable, library: &Library) -> (Vec<usize>, Vec<Dropped>) {
        let all = 0..obs.names.len();
        let of_sample: Vec<usize> = match (&library.of_row, &library.name) {
            (Some(of_row), Some(name)) => all.filter(|&row| of_row.get(row) == Some(name)).collect(),
            _ => all.collect(),
        };
        let mut dropped = Vec::new();
        let other_samples = obs.names.len() - of_sample.len();
        if other_samples > 0 {
            let what = "observations of other samples".to_owned();
            dropped.push(Dropped { what, count: other_samples, examples: Vec::new() });
        }
        let on_tissue = if self.off_tissue { None } else { rows_on_tissue(obs) };
        let Some(on_tissue) = on_tissue else { return (of_sample, dropped) };
        let (kept, off): (Vec<usize>, Vec<usize>) =
            of_sample.into_iter().partition(|row| on_tissue.binary_search(row).is_ok());
        let names: Vec<String> = off.iter().filter_map(|&row| obs.names.get(row).cloned()).collect();
        dropped.extend(Dropped::of("observations off tissue", &names));
        (kept, dropped)
    }

    fn coordinates(&self, data: &AnnDataFile<'_>, observations: usize) -> Result<Vec<SlidePx>> {
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

    fn to_full_resolution(&self, centers: &mut [SlidePx], scale: &LibraryScale) -> Result<(), InputError> {
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
    fn check_frame(
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

    fn bin_um(&self, data: &AnnDataFile<'_>, scale: &LibraryScale, notes: &mut Vec<String>) -> Result<f64> {
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
    fn pitch(&self, obs: &AxisTable, rows: &[usize], centers_px: &[SlidePx]) -> Option<(f64, String)> {
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
    fn pixel_size(
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

    /// The error of values that are no counts, with what they may be and where counts may stand.
    fn not_counts(
        &self,
        error: InputError,
        data: &AnnDataFile<'_>,
        path: &str,
        values: &[f32],
    ) -> anyhow::Error {
        let largest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
        let looks = if values.iter().any(|value| *value < 0.0) {
            "scaled to zero mean, by their sign"
        } else if largest < 20.0 {
            "log-normalised, by their size"
        } else {
            "normalised"
        };
        let others: Vec<String> =
            data.matrices().unwrap_or_default().into_iter().filter(|other| other != path).collect();
        let hint = match others.as_slice() {
            [] => "the file has no other matrix".to_owned(),
            others => format!("--layer takes another: {}", others.join(", ")),
        };
        let found = format!("{}; the values look {looks}; {hint}", error.found);
        InputError { found, ..error }.into()
    }
}

/// The sample to take.
struct Library {
    /// Its name, where the file names one.
    name: Option<String>,
    /// The sample of each observation, where there are several.
    of_row: Option<Vec<String>>,
}

/// The rows of genes where `var/feature_types` names other features too, and those others.
fn other_features(var: &AxisTable) -> Option<(Vec<usize>, Dropped)> {
    let types = ["feature_types", "feature_type"].iter().find_map(|name| var.column(name)?.texts())?;
    let (genes, others): (Vec<usize>, Vec<usize>) =
        (0..types.len()).partition(|&row| types.get(row).is_some_and(|kind| kind == GENE_EXPRESSION));
    // A table that calls genes otherwise is left as it is.
    let names = var.select(&others).names;
    let dropped = Dropped::of(&format!("features that are not {GENE_EXPRESSION}"), &names)?;
    (!genes.is_empty()).then_some((genes, dropped))
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
#[path = "h5ad_tests.rs"]
mod tests;
