//! What every reader of a foreign format ends with: the checked slide, written whole or not at all, and its summary.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use magnet_core::GenePanel;
use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, Values};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, ValueKind};
use serde::Serialize;

use super::metadata::{Metadata, places_noun};
use super::validate::{self, Frame};
use super::{IMAGE_EXTENSIONS, image_extension, image_size_px};
use crate::deflate::AllThreads;
use crate::error::InputError;
use crate::files::{Overwrite, place_atomic, sha256_file, write_atomic, write_atomic_with};
use crate::slide_file::check_complete;

/// What is expected of the name of a new slide.
const NOT_TAKEN: &str = "slides that are not in the dataset yet (--overwrite replaces them)";

/// What a preparation made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// One entry per slide, in the order in which they were prepared.
    pub slides: Vec<SlideSummary>,
}

/// What one slide became.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlideSummary {
    /// Name of the slide.
    pub id: String,
    /// Number of spots or bins kept.
    pub spots: usize,
    /// Number of genes.
    pub genes: usize,
    /// Patient or block, where known.
    pub patient: Option<String>,
    /// Size of a full-resolution pixel, in µm.
    pub pixel_size_um: f64,
    /// Where the pixel size comes from.
    pub pixel_size_origin: String,
    /// Side (or diameter) of a measured bin, in µm.
    pub bin_um: f64,
    /// What was left out, and how much of it.
    pub dropped: Vec<Dropped>,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// What the places are called: spots or bins.
    #[serde(skip)]
    pub places: &'static str,
}

/// Something that was left out of a slide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// What and why.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The first few names.
    pub examples: Vec<String>,
}

impl Dropped {
    /// `None` when nothing was dropped.
    pub(super) fn of(what: &str, names: &[String]) -> Option<Self> {
        let examples = names.iter().take(5).cloned().collect();
        (!names.is_empty()).then(|| Self { what: what.to_owned(), count: names.len(), examples })
    }
}

impl std::fmt::Display for SlideSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} {places} × {} genes, {:.4} µm/px ({}), {places} of {} µm",
            self.id,
            self.spots,
            self.genes,
            self.pixel_size_um,
            self.pixel_size_origin,
            self.bin_um,
            places = self.places
        )?;
        for dropped in &self.dropped {
            write!(f, "; left out: {} {}", dropped.count, dropped.what)?;
            if !dropped.examples.is_empty() {
                let more = if dropped.count > dropped.examples.len() { ", …" } else { "" };
                write!(f, " ({}{more})", dropped.examples.join(", "))?;
            }
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// A slide that a reader has put together, before it is checked and written.
pub(super) struct NewSlide {
    pub id: String,
    pub technology: String,
    pub patient: Option<String>,
    pub genes: GenePanel,
    pub counts: CountMatrix,
    pub barcodes: Vec<String>,
    /// Further columns of `obs`.
    pub columns: Vec<(String, Column)>,
    pub centers_px: Vec<SlidePx>,
    pub um_per_px: f64,
    pub um_per_px_origin: String,
    pub bin_um: f64,
    pub image: PathBuf,
    /// The other files that the slide was made from: counts, positions, and whatever else.
    pub sources: Vec<PathBuf>,
    pub dropped: Vec<Dropped>,
    pub notes: Vec<String>,
    /// Smaller images of the slide that the source knows.
    pub frames: Vec<Frame>,
    pub values: ValueKind,
    /// Whether bins off tissue are among the bins.
    pub off_tissue: bool,
}

impl NewSlide {
    /// Checks the slide and writes its three files. The counts come last: a slide exists once they do.
    pub(super) fn write(self, out: &Path, overwrite: Overwrite) -> Result<SlideSummary> {
        let id = self.id.clone();
        self.check()?;
        let paths = SlidePaths::new(out, &id, &self.image)?;
        paths.refuse_existing(overwrite)?;

        let image = self.image.clone();
        let files: Vec<PathBuf> = self.sources.iter().chain([&image]).cloned().collect();
        let mut metadata = Metadata {
            id: id.clone(),
            technology: Some(self.technology.clone()),
            patient: self.patient.clone(),
            pixel_size_um: self.um_per_px,
            pixel_size_origin: self.um_per_px_origin.clone(),
            bin_um: self.bin_um,
            sources: BTreeMap::new(),
            prepared_by: Some(format!("magnet-native {}", env!("CARGO_PKG_VERSION"))),
            values: self.values,
            off_tissue: self.off_tissue,
        };
        let summary = SlideSummary {
            id: id.clone(),
            spots: self.barcodes.len(),
            genes: self.genes.symbols.len(),
            patient: self.patient.clone(),
            pixel_size_um: self.um_per_px,
            pixel_size_origin: self.um_per_px_origin.clone(),
            bin_um: self.bin_um,
            dropped: self.dropped.clone(),
            notes: self.notes.clone(),
            places: places_noun(Some(&self.technology), self.bin_um),
        };
        let data = self.into_anndata(&metadata);
        thread::scope(|scope| {
            // Threads of their own: those of the pool compress in the meantime.
            let digests: Vec<_> = files.iter().map(|file| scope.spawn(|| sha256_file(file))).collect();
            let write_counts = |out: &mut BufWriter<&mut File>| -> Result<()> {
                data.write_to(out, &AllThreads).with_context(|| format!("slide {id}"))
            };
            let metadata_json = || {
                for (file, digest) in files.iter().zip(digests) {
                    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let digest = digest.join().map_err(|_| anyhow!("{}: no digest", file.display()))??;
                    metadata.sources.insert(name, digest);
                }
                Ok(serde_json::to_vec_pretty(&metadata)?)
            };
            paths.put(&image, metadata_json, write_counts)
        })?;
        Ok(summary)
    }

    fn check(&self) -> Result<()> {
        let counts = self.counts_source();
        if self.barcodes.is_empty() {
            let expected = "at least one spot with counts and a position on tissue";
            return Err(InputError::in_file(counts, "spots", expected, "none").into());
        }
        if self.genes.symbols.is_empty() {
            return Err(InputError::in_file(counts, "genes", "at least one", "none").into());
        }
        validate::unique(counts, "spots", &self.barcodes)?;
        validate::values(counts, self.values, &self.counts, &self.barcodes, &self.genes.symbols)?;
        let size_px = image_size_px(&self.image)?;
        check_complete(&self.image)?;
        validate::inside_image(
            self.positions_source(),
            &self.centers_px,
            &self.barcodes,
            &self.image,
            size_px,
            &self.frames,
        )?;
        let positions = self.positions_source();
        validate::spacing(positions, &self.centers_px, self.bin_um, self.um_per_px, &self.frames)?;
        Ok(())
    }

    fn counts_source(&self) -> &Path {
        self.sources.first().unwrap_or(&self.image)
    }

    fn positions_source(&self) -> &Path {
        self.sources.get(1).unwrap_or(&self.image)
    }

    fn into_anndata(self, metadata: &Metadata) -> AnnData {
        let mut obs = AxisTable::from_names(self.barcodes);
        obs.columns = self.columns;
        let mut var = AxisTable::from_names(self.genes.symbols);
        var.columns.push(("gene_ids".to_owned(), Column::Texts(self.genes.ids)));
        let mut data = AnnData::new(Values::Sparse(self.counts), obs, var);
        data.spatial = Some(self.centers_px);
        let spot_px = Annotation::Number(self.bin_um / self.um_per_px);
        data.set_annotation(&format!("spatial/{}/scalefactors/spot_diameter_fullres", self.id), spot_px);
        data.set_annotation("magnet/technology", Annotation::Text(self.technology));
        data.set_annotation("magnet/pixel_size_um", Annotation::Number(self.um_per_px));
        data.set_annotation("magnet/bin_um", Annotation::Number(self.bin_um));
        if let Some(program) = &metadata.prepared_by {
            data.set_annotation("magnet/prepared_by", Annotation::Text(program.clone()));
        }
        data
    }
}

/// Where a slide's files go.
struct SlidePaths {
    image: PathBuf,
    metadata: PathBuf,
    counts: PathBuf,
    /// Images of this slide with another ending, which `overwrite` must not leave behind.
    other_images: Vec<PathBuf>,
}

impl SlidePaths {
    fn new(out: &Path, id: &str, image: &Path) -> Result<Self> {
        check_id(id)?;
        let Some(extension) = image_extension(image) else {
            let expected = format!("one of {}", IMAGE_EXTENSIONS.join(", "));
            let found = image.extension().unwrap_or_default().to_string_lossy();
            return Err(InputError::in_file(image, "file name ending", expected, found).into());
        };
        let wsis = out.join("wsis");
        let others = IMAGE_EXTENSIONS.iter().filter(|other| **other != extension);
        Ok(Self {
            other_images: others.map(|other| wsis.join(format!("{id}.{other}"))).collect(),
            image: wsis.join(format!("{id}.{extension}")),
            metadata: out.join("metadata").join(format!("{id}.json")),
            counts: out.join("st").join(format!("{id}.h5ad")),
        })
    }

    fn refuse_existing(&self, overwrite: Overwrite) -> Result<()> {
        let mut all = [&self.counts, &self.metadata, &self.image].into_iter().chain(&self.other_images);
        match all.find(|path| path.exists()) {
            Some(path) if overwrite == Overwrite::No => {
                Err(InputError::in_file(path, "output", NOT_TAKEN, "a file that exists already").into())
            }
            _ => Ok(()),
        }
    }

    /// The counts are complete before an old slide goes, and get their name last.
    fn put(
        &self,
        image: &Path,
        metadata: impl FnOnce() -> Result<Vec<u8>>,
        write_counts: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
    ) -> Result<()> {
        let mut begun = false;
        let written = write_atomic_with(&self.counts, Overwrite::Yes, |out| {
            write_counts(out)?;
            out.flush().with_context(|| format!("cannot write {}", self.counts.display()))?;
            let metadata = metadata()?;
            begun = true;
            // The old slide goes first, so that no mixture of old and new files is ever a slide.
            for old in [&self.counts, &self.metadata].into_iter().chain(&self.other_images) {
                if old.exists() {
                    fs::remove_file(old).with_context(|| format!("cannot replace {}", old.display()))?;
                }
            }
            place_atomic(image, &self.image, Overwrite::Yes)?;
            write_atomic(&self.metadata, &metadata, Overwrite::Yes)
        });
        if written.is_err() && begun {
            fs::remove_file(&self.metadata).ok();
            // The source itself may be the dataset's image already.
            if image.canonicalize().ok() != self.image.canonicalize().ok() {
                fs::remove_file(&self.image).ok();
            }
        }
        written
    }
}

/// A pixel size that was given must be one.
pub(super) fn check_mpp(um_per_px: Option<f64>) -> Result<(), InputError> {
    match um_per_px {
        Some(um) if !(um.is_finite() && um > 0.0) => {
            Err(InputError::in_flag("--mpp", "value", "a positive number of µm", um))
        }
        _ => Ok(()),
    }
}

/// A slide's name becomes the name of its files.
pub(super) fn check_id(id: &str) -> Result<(), InputError> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | ' ');
    if id.is_empty() || id.starts_with(['.', ' ']) || !id.chars().all(plain) {
        let expected = "letters, digits, '-', '_', '.'";
        return Err(InputError::in_flag("slide", "name", expected, format!("{id:?}")));
    }
    Ok(())
}

/// Refuses ids that a dataset holds already, before any of them is prepared.
pub(super) fn refuse_existing_ids(
    out: &Path,
    ids: &[String],
    overwrite: Overwrite,
) -> Result<(), InputError> {
    let existing: Vec<&str> = ids
        .iter()
        .filter(|id| out.join("st").join(format!("{id}.h5ad")).exists())
        .map(String::as_str)
        .collect();
    if overwrite == Overwrite::No && !existing.is_empty() {
        let found = format!("{} already there", existing.join(", "));
        return Err(InputError::in_file(out, "slides", NOT_TAKEN, found));
    }
    Ok(())
}
