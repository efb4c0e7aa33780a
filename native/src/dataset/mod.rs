//! Every input becomes the prepared dataset; every command reads that.
//!
//! ```text
//! DATASET/
//!   st/<id>.h5ad            raw counts (or, marked as such, normalised values), obsm/spatial in full-resolution pixels
//!   wsis/<id>.tif|png|jpg   the full-resolution image
//!   metadata/<id>.json      pixel_size_um, bin_um, technology, patient, digests of the sources
//! ```
//! HEST-1k has this layout and is read as it is.

mod array_fit;
mod bins;
pub mod detect;
pub mod h5ad;
pub mod hest;
pub mod matrix_market;
pub mod metadata;
pub mod positions;
pub mod prepare;
mod rebin;
pub mod scalefactors;
mod space_ranger;
pub mod st;
mod stored_integers;
pub mod table;
pub mod tenx_matrix;
mod text;
mod validate;
pub mod visium;
pub mod visium_hd;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::anndata::{AnnDataFile, AxisTable, Column};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, ValueKind};
use magnet_core::gene_panel::GenePanelError;
use magnet_core::hdf5::{Hdf5File, Limits};

use self::metadata::Metadata;
pub use self::rebin::{rebin, tile_side_um, tile_values};
use crate::error::InputError;
use crate::files::sha256_file;

/// Endings of the images that a dataset may hold.
pub const IMAGE_EXTENSIONS: [&str; 7] = ["tif", "tiff", "btf", "svs", "png", "jpg", "jpeg"];
/// Columns of `var` in which stable gene ids are looked for, in order.
const GENE_ID_COLUMNS: [&str; 4] = ["gene_ids", "gene_id", "ensembl_id", "ensemblID"];

/// One slide of a prepared dataset, its counts in memory, its image still on disk.
#[derive(Debug, Clone)]
pub struct SlideData {
    /// Name of the slide: the stem of its files.
    pub id: String,
    /// Patient or block that the slide comes from, where known.
    pub patient: Option<String>,
    /// All measured genes, in column order of `counts`.
    pub genes: GenePanel,
    /// Raw counts, or what `values` says, one row per bin.
    pub counts: CountMatrix,
    /// What the numbers in `counts` are.
    pub values: ValueKind,
    /// Barcode or spot name of each bin.
    pub barcodes: Vec<String>,
    /// Bin centres in full-resolution pixels.
    pub centers_px: Vec<SlidePx>,
    /// Size of a full-resolution pixel, in µm.
    pub um_per_px: f64,
    /// Side (or diameter) of a measured bin, in µm.
    pub bin_um: f64,
    /// The slide's image.
    pub image_path: PathBuf,
    /// SHA-256 of the image file, lower-case hexadecimal.
    pub image_sha256: String,
    /// SHA-256 of the counts file, lower-case hexadecimal.
    pub counts_sha256: String,
}

/// A prepared dataset on disk.
#[derive(Debug, Clone)]
pub struct Dataset {
    root: PathBuf,
    ids: Vec<String>,
}

impl Dataset {
    /// Opens the dataset in the folder `root` and lists its slides.
    ///
    /// # Errors
    /// When the folder or one of `st`, `wsis` and `metadata` is absent, or there is no slide.
    pub fn open(root: &Path) -> Result<Self> {
        for folder in [root.to_path_buf(), root.join("st"), root.join("wsis"), root.join("metadata")] {
            if !folder.is_dir() {
                let found = if folder.exists() { "a file" } else { "nothing" };
                let expected = "a folder of a prepared dataset (st, wsis, metadata; `prepare` makes one)";
                return Err(InputError::in_file(&folder, "dataset", expected, found).into());
            }
        }
        let folder = root.join("st");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "h5ad")
                && let Some(id) = path.file_stem().and_then(|stem| stem.to_str())
                && !id.starts_with('.')
            {
                ids.push(id.to_owned());
            }
        }
        if ids.is_empty() {
            return Err(InputError::in_file(&folder, "slides", "files <id>.h5ad", "none").into());
        }
        ids.sort();
        Ok(Self { root: root.to_path_buf(), ids })
    }

    /// The dataset's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the slides, in alphabetical order.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The metadata of a slide.
    ///
    /// # Errors
    /// When there is no such slide, or its metadata is absent or incomplete.
    pub fn metadata(&self, id: &str) -> Result<Metadata> {
        self.check_id(id)?;
        Metadata::read(&self.root.join("metadata").join(format!("{id}.json")))
    }

    /// The image of a slide.
    ///
    /// # Errors
    /// When there is no such slide or no image for it.
    pub fn image_path(&self, id: &str) -> Result<PathBuf> {
        self.check_id(id)?;
        find_image(&self.root.join("wsis"), id)
    }

    /// What the values of the slides `ids` are: labels of one model come from one kind.
    ///
    /// # Errors
    /// When there is no such slide, its metadata cannot be read, or some slides hold counts and others normalised
    /// values; the message names one of each.
    pub fn value_kind<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> Result<ValueKind> {
        let mut first: Option<(&String, ValueKind)> = None;
        for id in ids {
            let values = self.metadata(id)?.values;
            let (first_id, first_values) = *first.get_or_insert((id, values));
            if values != first_values {
                let expected = "slides of raw counts alone, or of normalised values alone";
                let found = format!("{first_values} of {first_id}, {values} of {id}");
                return Err(InputError::in_file(&self.root, "values", expected, found).into());
            }
        }
        Ok(first.map(|(_, values)| values).unwrap_or_default())
    }

    /// Reads a slide and checks it: raw counts or finite values, unique names, every bin inside the image.
    ///
    /// # Errors
    /// When a file is absent or damaged, values are not what the metadata says, or parts contradict each other; the
    /// message names file, field, expected and found.
    pub fn slide(&self, id: &str) -> Result<SlideData> {
        let slide = self.undigested_slide(id)?;
        Ok(SlideData {
            image_sha256: sha256_file(&slide.image_path)?,
            counts_sha256: sha256_file(&self.counts_path(id))?,
            ..slide
        })
    }

    /// The counts of a slide.
    fn counts_path(&self, id: &str) -> PathBuf {
        self.root.join("st").join(format!("{id}.h5ad"))
    }

    /// SHA-256 of the counts of a slide, lower-case hexadecimal.
    ///
    /// # Errors
    /// When there is no such slide or its counts cannot be read.
    pub fn counts_sha256(&self, id: &str) -> Result<String> {
        self.check_id(id)?;
        sha256_file(&self.counts_path(id))
    }

    /// [`Dataset::slide`] with empty digests, for who only looks.
    pub(crate) fn undigested_slide(&self, id: &str) -> Result<SlideData> {
        let metadata = self.metadata(id)?;
        let image_path = self.image_path(id)?;
        let counts_path = self.counts_path(id);
        let parts = read_counts(&counts_path, metadata.off_tissue)
            .with_context(|| counts_path.display().to_string())?;
        let Counts { barcodes, genes, counts, centers_px } = parts;
        let Some(centers_px) = centers_px else {
            let expected = "the centre of each spot in full-resolution pixels";
            return Err(InputError::in_file(&counts_path, "obsm/spatial", expected, "none").into());
        };
        validate::unique(&counts_path, "obs", &barcodes)?;
        validate::values(&counts_path, metadata.values, &counts, &barcodes, &genes.symbols)?;
        let size_px = image_size_px(&image_path)?;
        validate::inside_image(&counts_path, &centers_px, &barcodes, &image_path, size_px, &[])?;
        Ok(SlideData {
            id: id.to_owned(),
            patient: metadata.patient,
            genes,
            counts,
            values: metadata.values,
            barcodes,
            centers_px,
            um_per_px: metadata.pixel_size_um,
            bin_um: metadata.bin_um,
            image_sha256: String::new(),
            counts_sha256: String::new(),
            image_path,
        })
    }

    fn check_id(&self, id: &str) -> Result<()> {
        if self.ids.iter().any(|known| known == id) {
            return Ok(());
        }
        let expected = format!("one of {}", self.ids.join(", "));
        Err(InputError::in_file(&self.root, "slide", expected, id).into())
    }
}

/// What the `.h5ad` file of a slide holds.
struct Counts {
    barcodes: Vec<String>,
    genes: GenePanel,
    counts: CountMatrix,
    centers_px: Option<Vec<SlidePx>>,
}

/// Reads the parts that a slide needs, and leaves out what lies off tissue unless it is meant to be there.
fn read_counts(path: &Path, off_tissue: bool) -> Result<Counts> {
    let file = File::open(path).context("cannot be opened")?;
    let file = Hdf5File::from_reader(file, Limits::default())?;
    let data = AnnDataFile::new(&file)?;
    let (obs, var) = (data.obs()?, data.var_of("X")?);
    let counts = data.matrix("X", (obs.names.len(), var.names.len()))?.into_sparse();
    let centers_px = data.coordinates("spatial", obs.names.len())?;
    let kept = if off_tissue { None } else { rows_on_tissue(&obs) };
    let all = Counts { genes: genes_of(var)?, barcodes: obs.names, counts, centers_px };
    Ok(match kept {
        None => all,
        Some(rows) => all.select(&rows),
    })
}

impl Counts {
    fn select(self, rows: &[usize]) -> Self {
        let barcodes = rows.iter().filter_map(|&row| self.barcodes.get(row).cloned()).collect();
        let centers_px =
            self.centers_px.map(|all| rows.iter().filter_map(|&row| all.get(row).copied()).collect());
        Self { barcodes, counts: self.counts.select_rows(rows), centers_px, ..self }
    }
}

/// The rows whose `in_tissue` is not 0, or `None` when all are on tissue or the table does not say.
fn rows_on_tissue(obs: &AxisTable) -> Option<Vec<usize>> {
    let on_tissue: Vec<bool> = match obs.column("in_tissue")? {
        Column::Flags(flags) => flags.clone(),
        Column::Integers(values) => values.iter().map(|&value| value != 0).collect(),
        Column::Numbers(values) => values.iter().map(|&value| value != 0.0).collect(),
        column => column.texts()?.iter().map(|text| !matches!(*text, "0" | "False" | "false")).collect(),
    };
    let off = on_tissue.iter().any(|on| !on);
    off.then(|| on_tissue.iter().enumerate().filter(|(_, on)| **on).map(|(row, _)| row).collect())
}

/// The genes of a table of variables, with the stable ids that it has.
fn genes_of(var: AxisTable) -> Result<GenePanel, InputError> {
    let ids = GENE_ID_COLUMNS.iter().find_map(|name| var.column(name)).and_then(Column::texts);
    let ids = ids.map(|ids| ids.into_iter().map(str::to_owned).collect());
    gene_panel(ids, var.names)
        .map_err(|error| InputError::in_file(Path::new("var"), "genes", "a name each", error))
}

/// The image called `id` in a folder.
fn find_image(folder: &Path, id: &str) -> Result<PathBuf> {
    let candidates = IMAGE_EXTENSIONS.iter().map(|extension| folder.join(format!("{id}.{extension}")));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let expected = format!("{id} with one of the endings {}", IMAGE_EXTENSIONS.join(", "));
        InputError::in_file(folder, "image", expected, "none").into()
    })
}

/// Width and height from the image's header; no pixel is decoded.
///
/// # Errors
/// When the file cannot be opened or is no PNG, JPEG or TIFF.
pub fn image_size_px(path: &Path) -> Result<(u32, u32)> {
    crate::slide_file::size_px(path)
}

/// A gene list whose symbols are unique: a symbol that repeats gets `-1`, `-2`, … from its second place on. Where there
/// are no stable ids, or an id is empty, the unique symbol is the id.
fn gene_panel(ids: Option<Vec<String>>, symbols: Vec<String>) -> Result<GenePanel, GenePanelError> {
    let unique = |names: Vec<String>| {
        let numbers = (0..names.len()).map(|number| number.to_string()).collect();
        GenePanel::new(numbers, names).map(|panel| panel.symbols)
    };
    let symbols = unique(symbols)?;
    let ids = match ids {
        None => symbols.clone(),
        Some(ids) => {
            let or_symbol = |(id, symbol): (String, &String)| if id.is_empty() { symbol.clone() } else { id };
            unique(ids.into_iter().zip(&symbols).map(or_symbol).collect())?
        }
    };
    GenePanel::new(ids, symbols)
}

/// The ending under which the dataset keeps an image with this file name; `None` for what is no image.
fn image_extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    // Visium HD images come as .btf, which is BigTIFF.
    let kept = if extension == "btf" { "tif" } else { extension.as_str() };
    IMAGE_EXTENSIONS.into_iter().find(|known| *known == kept)
}

#[cfg(test)]
mod tests;
