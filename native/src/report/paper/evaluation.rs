//! What `evaluate --out` wrote of one slide at one level, and whether several such folders can stand side by side.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::Level;
use magnet_core::anndata::{AnnDataFile, Annotation};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::Matrix;
use magnet_core::hdf5::{Hdf5File, Limits};
use magnet_core::slide::SlideImage;

use crate::cli::NamedFolder;
use crate::error::InputError;

/// One slide, measured and predicted by one model.
#[derive(Debug)]
pub(super) struct Evaluated {
    /// The model's name, as the user calls it.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Names of the places.
    pub(super) places: Vec<String>,
    /// Their centres.
    pub(super) centers_px: Vec<SlidePx>,
    pub(super) um_per_px: f64,
    /// Side of a place, in µm.
    pub(super) tile_um: f64,
    pub(super) units: String,
    /// Symbols of the genes.
    pub(super) symbols: Vec<String>,
    /// `[N,G]`.
    pub(super) measured: Matrix,
    /// `[N,G]`.
    pub(super) predicted: Matrix,
    /// The slide, small.
    pub(super) image: SlideImage,
}

impl Evaluated {
    /// Reads `<slide>.<level>.h5ad` of a folder.
    ///
    /// # Errors
    /// When the file cannot be read or lacks what `evaluate` writes.
    pub(super) fn read(folder: &NamedFolder, slide: &str, level: Level) -> Result<Self> {
        let path = folder.path.join(format!("{slide}.{level}.h5ad"));
        let read = || -> Result<Self> {
            let file = Hdf5File::from_reader(File::open(&path)?, Limits::default())?;
            Self::of(&file, folder.name.clone(), path.clone(), slide)
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    fn of(file: &Hdf5File, name: String, path: PathBuf, slide: &str) -> Result<Self> {
        let data = AnnDataFile::new(file)?;
        let (places, symbols) = (data.obs()?.names, data.var_of("X")?.names);
        let shape = (places.len(), symbols.len());
        let missing = |field: &str, expected: &str| {
            InputError::in_file(&path, field, expected, "nothing (`evaluate --out` writes it)")
        };
        if !data.matrices()?.iter().any(|matrix| matrix == "layers/measured") {
            return Err(missing("layers/measured", "the measured values").into());
        }
        let text = |field: &str| match data.annotation(field)? {
            Some(Annotation::Text(text)) => Ok(text),
            _ => Err(anyhow::Error::from(missing(field, "a text"))),
        };
        let number = |field: &str| match data.annotation(field)? {
            Some(Annotation::Number(number)) if number.is_finite() && number > 0.0 => Ok(number),
            Some(Annotation::Number(number)) => {
                Err(InputError::in_file(&path, field, "a positive number", number).into())
            }
            _ => Err(anyhow::Error::from(missing(field, "a positive number"))),
        };
        let library = format!("uns/spatial/{}", slide.replace('/', "_"));
        let um_per_px = number("uns/magnet/um_per_px")?;
        let diameter_px = number(&format!("{library}/scalefactors/spot_diameter_fullres"))?;
        let scale = number(&format!("{library}/scalefactors/tissue_hires_scalef"))?;
        let field = format!("{library}/images/hires");
        let Some(Annotation::Image(image)) = data.annotation(&field)? else {
            return Err(missing(&field, "the H&E image").into());
        };
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let image = SlideImage::new(side(image.width), side(image.height), image.pixels, um_per_px / scale)
            .map_err(|error| InputError::in_file(&path, &field, "an image", error))?;
        let centers_px = data
            .coordinates("spatial", places.len())?
            .ok_or_else(|| missing("obsm/spatial", "the centres of the places"))?;
        Ok(Self {
            centers_px,
            um_per_px,
            tile_um: diameter_px * um_per_px,
            units: text("uns/magnet/units")?,
            measured: data.matrix("layers/measured", shape)?.into_dense(),
            predicted: data.matrix("X", shape)?.into_dense(),
            name,
            places,
            symbols,
            image,
            path,
        })
    }

    /// The column of a gene.
    ///
    /// # Errors
    /// When the model does not predict the gene.
    pub(super) fn gene(&self, symbol: &str) -> Result<usize, InputError> {
        self.symbols.iter().position(|known| known == symbol).ok_or_else(|| {
            let expected = format!("{symbol} among the {} genes of {}", self.symbols.len(), self.name);
            InputError::in_file(&self.path, "var", expected, "no such gene")
        })
    }

    /// Whether this can stand beside `first`: the same places of the same slide in the same units.
    ///
    /// # Errors
    /// When it cannot; the message names both and the first difference.
    pub(super) fn check_beside(&self, first: &Self) -> Result<(), InputError> {
        let wrong = |field: &str, expected: String, found: String| {
            let expected = format!("{expected}, as in {}", first.path.display());
            Err(InputError::in_file(&self.path, field, expected, found))
        };
        if self.units != first.units {
            return wrong("uns/magnet/units", first.units.clone(), self.units.clone());
        }
        if self.places.len() != first.places.len() {
            let places = |of: &Self| format!("{} places", of.places.len());
            return wrong("obs", places(first), places(self));
        }
        for (row, (name, expected)) in self.places.iter().zip(&first.places).enumerate() {
            if name != expected {
                return wrong("obs", format!("place {expected} in row {row}"), name.clone());
            }
        }
        let near = |a: &SlidePx, b: &SlidePx| (a.x - b.x).abs() < 0.5 && (a.y - b.y).abs() < 0.5;
        for (row, (center, expected)) in self.centers_px.iter().zip(&first.centers_px).enumerate() {
            if !near(center, expected) {
                let said = |point: &SlidePx| format!("({:.1}, {:.1})", point.x, point.y);
                return wrong("obsm/spatial", format!("{} in row {row}", said(expected)), said(center));
            }
        }
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
        for (field, found, expected) in [
            ("uns/magnet/um_per_px", self.um_per_px, first.um_per_px),
            ("spot_diameter_fullres", self.tile_um, first.tile_um),
        ] {
            if !close(found, expected) {
                return wrong(field, format!("{expected} µm"), format!("{found} µm"));
            }
        }
        Ok(())
    }
}

/// The slide that is shown: that of `--slide`, or the only one that the folder has at this level.
///
/// # Errors
/// When there is none, no such one, or several to choose from.
pub(super) fn slide(folder: &Path, level: Level, wanted: Option<&str>) -> Result<String> {
    let ending = format!(".{level}.h5ad");
    let mut slides = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", folder.display()))?.file_name();
        slides.extend(name.to_str().and_then(|name| name.strip_suffix(&ending)).map(str::to_owned));
    }
    slides.sort();
    let listed = || format!("one of {}", slides.join(", "));
    match (wanted, slides.as_slice()) {
        (_, []) => {
            let expected = format!("files <slide>{ending}, as `evaluate --out` writes them");
            Err(InputError::in_file(folder, "slides", expected, "none").into())
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(InputError::in_flag("--slide", "slide", listed(), "none named").into()),
        (Some(wanted), _) if slides.iter().any(|slide| slide == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(InputError::in_file(folder, "slide", listed(), wanted).into()),
    }
}
