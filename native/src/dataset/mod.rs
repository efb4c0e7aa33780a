//! Every input becomes the prepared dataset; every command reads that.
//!
//! ```text
//! DATASET/
//!   st/<id>.h5ad            raw counts, obsm/spatial in full-resolution pixels
//!   wsis/<id>.tif|png|jpg   the full-resolution image
//!   metadata/<id>.json      pixel_size_um, bin_um, technology, patient, digests of the sources
//! ```
//! HEST-1k has this layout and is read as it is.

pub mod metadata;
pub mod positions;
pub mod prepare;
pub mod scalefactors;
pub mod st;
pub mod table;
pub mod tenx_matrix;
mod validate;
pub mod visium_hd;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::anndata::{AnnData, Column, ReadOptions};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;
use magnet_core::hdf5::Hdf5File;

use self::metadata::Metadata;
use crate::error::InputError;
use crate::files::sha256_file;

/// Endings of the images that a dataset may hold.
pub const IMAGE_EXTENSIONS: [&str; 5] = ["tif", "tiff", "png", "jpg", "jpeg"];
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
    /// Raw counts, one row per bin.
    pub counts: CountMatrix,
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

    /// Reads a slide and checks it: raw counts, unique names, every bin inside the image.
    ///
    /// # Errors
    /// When a file is absent or damaged, counts are not raw, or parts contradict each other; the message names file,
    /// field, expected and found.
    pub fn slide(&self, id: &str) -> Result<SlideData> {
        let metadata = self.metadata(id)?;
        let image_path = self.image_path(id)?;
        let counts_path = self.root.join("st").join(format!("{id}.h5ad"));
        let data = read_counts(&counts_path).with_context(|| counts_path.display().to_string())?;

        let Some(centers_px) = data.spatial else {
            let expected = "the centre of each spot in full-resolution pixels";
            return Err(InputError::in_file(&counts_path, "obsm/spatial", expected, "none").into());
        };
        let barcodes = data.obs.names;
        validate::unique(&counts_path, "obs", &barcodes)?;
        let id_column = GENE_ID_COLUMNS.iter().find_map(|name| data.var.column(name)).and_then(Column::texts);
        let symbols = data.var.names;
        let genes = gene_panel(id_column.unwrap_or_else(|| symbols.clone()), symbols);
        let counts = data.x.into_sparse();
        validate::raw_counts(&counts_path, &counts, &barcodes, &genes.symbols)?;
        let size_px = image_size_px(&image_path)?;
        validate::inside_image(&counts_path, &centers_px, &barcodes, &image_path, size_px)?;
        Ok(SlideData {
            id: id.to_owned(),
            patient: metadata.patient,
            genes,
            counts,
            barcodes,
            centers_px,
            um_per_px: metadata.pixel_size_um,
            bin_um: metadata.bin_um,
            image_sha256: sha256_file(&image_path)?,
            counts_sha256: sha256_file(&counts_path)?,
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

fn read_counts(path: &Path) -> Result<AnnData> {
    let file = File::open(path).context("cannot be opened")?;
    let options = ReadOptions { layers: false, uns: false, ..ReadOptions::default() };
    Ok(AnnData::read_from(&Hdf5File::from_reader(file, options.limits)?, options)?)
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
    let reader = image::ImageReader::open(path).and_then(image::ImageReader::with_guessed_format);
    let reader = reader.with_context(|| format!("cannot open {}", path.display()))?;
    reader.into_dimensions().map_err(|error| {
        InputError::in_file(path, "image", "a PNG, JPEG or TIFF image", format!("something else ({error})"))
            .into()
    })
}

/// A gene list whose symbols are unique: a symbol that repeats gets `-1`, `-2`, … from its second place on.
pub fn gene_panel(ids: Vec<String>, symbols: Vec<String>) -> GenePanel {
    let mut used: std::collections::HashSet<String> = symbols.iter().cloned().collect();
    let mut seen = std::collections::HashMap::new();
    let mut unique = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        let times: &mut usize = seen.entry(symbol.clone()).or_default();
        let mut name = symbol.clone();
        while *times > 0 {
            name = format!("{symbol}-{times}");
            if used.insert(name.clone()) {
                break;
            }
            *times += 1;
        }
        *times += 1;
        unique.push(name);
    }
    GenePanel { ids, symbols: unique }
}

#[cfg(test)]
mod tests;
