//! The Spatial Transcriptomics layout of 2016: `<id>.tsv[.gz]`, `<id>_selection.tsv` and an image per section.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::anndata::Column;
use magnet_core::coordinates::{SlidePx, SlideUm};
use magnet_core::expression::{CountMatrix, ValueKind, is_count};

use super::array_fit;
use super::prepare::{Dropped, NewSlide, Summary, check_id, check_mpp, refuse_existing_ids};
use super::table::{Row, Table, TableError};
use super::{find_image, gene_panel};
use crate::error::InputError;
use crate::files::Overwrite;

/// Distance between neighbouring spots of the array, in µm.
const PITCH_UM: f64 = 200.0;
/// Diameter of a spot, in µm.
const SPOT_UM: f64 = 100.0;
/// What ends the name of a selection file.
const SELECTION_SUFFIX: &str = "_selection.tsv";

/// `prepare st`.
#[derive(Debug, Clone)]
pub struct StOptions {
    /// Folder with the three files of each section.
    pub input: PathBuf,
    /// The prepared dataset, which may hold other slides already.
    pub out: PathBuf,
    /// Sections to prepare; all that have a selection file when empty.
    pub samples: Vec<String>,
    /// Size of a pixel in µm; derived from the array's pitch when `None`.
    pub pixel_size_um: Option<f64>,
    /// Whether slides that the dataset holds already are replaced.
    pub overwrite: Overwrite,
}

impl StOptions {
    /// Prepares the sections one after the other; each is written whole or not at all. The patient is the leading
    /// letters of a section's name (`B4` is of patient `B`).
    ///
    /// # Errors
    /// When a file is absent or damaged, counts and positions do not fit together, or a slide exists already; the
    /// message names file, line, column, expected and found.
    pub fn run(&self) -> Result<Summary> {
        check_mpp(self.pixel_size_um)?;
        let samples = self.samples()?;
        refuse_existing_ids(&self.out, &samples, self.overwrite)?;
        let mut slides = Vec::with_capacity(samples.len());
        for sample in &samples {
            slides.push(self.read(sample)?.write(&self.out, self.overwrite)?);
        }
        Ok(Summary { slides })
    }

    fn samples(&self) -> Result<Vec<String>> {
        let folder = self.input.display();
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.input).with_context(|| format!("cannot read the folder {folder}"))? {
            let name = entry.with_context(|| format!("cannot read the folder {folder}"))?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(SELECTION_SUFFIX)) {
                found.insert(id.to_owned());
            }
        }
        if found.is_empty() {
            let expected = format!("files <id>{SELECTION_SUFFIX}");
            return Err(InputError::in_file(&self.input, "sections", expected, "none").into());
        }
        if let Some(unknown) = self.samples.iter().find(|sample| !found.contains(*sample)) {
            let known = found.into_iter().collect::<Vec<_>>().join(", ");
            let expected = format!("some of {known} (in {folder})");
            return Err(InputError::in_flag("--samples", "value", expected, unknown).into());
        }
        let samples: Vec<String> = if self.samples.is_empty() {
            found.into_iter().collect()
        } else {
            let mut seen = BTreeSet::new();
            self.samples.iter().filter(|sample| seen.insert(*sample)).cloned().collect()
        };
        samples.iter().try_for_each(|sample| check_id(sample))?;
        Ok(samples)
    }

    fn read(&self, sample: &str) -> Result<NewSlide> {
        let selection_path = self.input.join(format!("{sample}{SELECTION_SUFFIX}"));
        let counts_path = find_counts(&self.input, sample)?;
        let image = find_image(&self.input, sample)?;
        let selection = read_selection(&selection_path)?;
        let counts = read_counts(&counts_path)?;

        let (um_per_px, um_per_px_origin) = match self.pixel_size_um {
            Some(um) => (um, "given with --mpp".to_owned()),
            None => pixel_size(&selection_path, &selection)?,
        };
        let slide = join(&counts_path, counts, &selection)?;
        Ok(NewSlide {
            id: sample.to_owned(),
            technology: "Spatial Transcriptomics".to_owned(),
            patient: patient(sample),
            genes: slide.genes,
            counts: slide.counts,
            barcodes: slide.barcodes,
            columns: vec![
                (
                    "array_row".to_owned(),
                    Column::Integers(slide.places.iter().map(|place| place.1).collect()),
                ),
                (
                    "array_col".to_owned(),
                    Column::Integers(slide.places.iter().map(|place| place.0).collect()),
                ),
            ],
            centers_px: slide.centers_px,
            um_per_px,
            um_per_px_origin,
            bin_um: SPOT_UM,
            image,
            sources: vec![counts_path, selection_path],
            dropped: slide.dropped,
            notes: Vec::new(),
            frames: Vec::new(),
            values: ValueKind::Counts,
            off_tissue: false,
        })
    }
}

/// A place on the array: column `x`, row `y`.
type Place = (i64, i64);

/// Selected spots and their centres, in file order.
type Selection = Vec<(Place, SlidePx)>;

/// The leading letters of a section's name.
fn patient(sample: &str) -> Option<String> {
    let letters: String = sample.chars().take_while(|c| c.is_alphabetic()).collect();
    (!letters.is_empty()).then_some(letters)
}

fn find_counts(folder: &Path, sample: &str) -> Result<PathBuf> {
    let candidates = [folder.join(format!("{sample}.tsv.gz")), folder.join(format!("{sample}.tsv"))];
    let shown = candidates.each_ref().map(|path| path.display().to_string());
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| InputError::in_file(folder, "counts", shown.join(" or "), "neither file").into())
}

fn read_selection(path: &Path) -> Result<Selection> {
    let mut table = Table::open(path, b'\t')?;
    let columns = ["x", "y", "pixel_x", "pixel_y", "selected"];
    let mut places = [0; 5];
    for (place, name) in places.iter_mut().zip(columns) {
        *place = table.column(name)?;
    }
    let [x, y, pixel_x, pixel_y, selected] = places;
    let mut seen = HashMap::new();
    let mut selection = Selection::new();
    while let Some(row) = table.next_row()? {
        match row.text(selected) {
            "1" => {}
            "0" => continue,
            _ => return Err(row.wrong(selected, "0 or 1").into()),
        }
        let place = (row.parse(x, "an array column")?, row.parse(y, "an array row")?);
        let center = SlidePx { x: pixels(&row, pixel_x)?, y: pixels(&row, pixel_y)? };
        if seen.insert(place, ()).is_some() {
            let (x, y) = place;
            return Err(InputError::in_file(path, "spots", "each once", format!("{x}x{y} twice")).into());
        }
        selection.push((place, center));
    }
    if selection.is_empty() {
        return Err(InputError::in_file(path, "selected", "at least one selected spot", "none").into());
    }
    Ok(selection)
}

fn pixels(row: &Row<'_>, column: usize) -> Result<f64, TableError> {
    let expected = "a finite number of pixels";
    let value: f64 = row.parse(column, expected)?;
    if value.is_finite() { Ok(value) } else { Err(row.wrong(column, expected)) }
}

/// A counts table: spots by genes.
struct Counts {
    genes: GenePanel,
    spots: Vec<(Place, String)>,
    matrix: CountMatrix,
}

fn read_counts(path: &Path) -> Result<Counts> {
    let mut table = Table::open(path, b'\t')?;
    let symbols: Vec<String> = table.header().iter().skip(1).cloned().collect();
    if let Some(place) = symbols.iter().position(String::is_empty) {
        return Err(
            TableError::header(path, "name for each gene", &format!("none in column {}", place + 2)).into()
        );
    }
    if symbols.is_empty() {
        return Err(TableError::header(path, "per gene", "only the spots' column").into());
    }
    let genes = symbols.len();
    let mut matrix = CountMatrix { genes, row_offsets: vec![0], ..CountMatrix::default() };
    let mut spots = Vec::new();
    while let Some(row) = table.next_row()? {
        let name = row.text(0).to_owned();
        let place = place_of(&name).ok_or_else(|| row.wrong(0, "a spot named <x>x<y>, such as 10x21"))?;
        for (column, cell) in row.cells().enumerate().skip(1) {
            // Nearly all cells are this one.
            if cell == "0" {
                continue;
            }
            let expected = "a whole number from 0";
            let value: f32 = row.parse(column, expected)?;
            if !is_count(value) {
                return Err(row.wrong(column, expected).into());
            }
            if value > 0.0 {
                matrix.columns.push((column - 1) as u32);
                matrix.values.push(value);
            }
        }
        matrix.row_offsets.push(matrix.values.len());
        spots.push((place, name));
    }
    // These tables name genes by symbol alone.
    let genes = gene_panel(None, symbols)
        .map_err(|error| TableError::header(path, "name for each gene", &error.to_string()))?;
    Ok(Counts { genes, spots, matrix })
}

fn place_of(name: &str) -> Option<Place> {
    let (x, y) = name.split_once('x')?;
    Some((x.parse().ok()?, y.parse().ok()?))
}

/// Counts and positions of the spots that have both.
struct Joined {
    genes: GenePanel,
    counts: CountMatrix,
    barcodes: Vec<String>,
    places: Vec<Place>,
    centers_px: Vec<SlidePx>,
    dropped: Vec<Dropped>,
}

fn join(path: &Path, table: Counts, selection: &Selection) -> Result<Joined, InputError> {
    let mut unmatched: HashMap<Place, SlidePx> = selection.iter().copied().collect();
    let mut joined = Joined {
        counts: CountMatrix { genes: table.matrix.genes, row_offsets: vec![0], ..CountMatrix::default() },
        genes: table.genes,
        barcodes: Vec::new(),
        places: Vec::new(),
        centers_px: Vec::new(),
        dropped: Vec::new(),
    };
    let mut seen = HashMap::new();
    let mut off_tissue = Vec::new();
    for ((place, name), bounds) in table.spots.into_iter().zip(table.matrix.row_offsets.windows(2)) {
        if let Some(first) = seen.insert(place, name.clone()) {
            return Err(InputError::in_file(path, "spots", "each once", format!("{first} and {name}")));
        }
        let Some(center) = unmatched.remove(&place) else {
            off_tissue.push(name);
            continue;
        };
        let &[start, end] = bounds else { continue };
        joined.counts.columns.extend_from_slice(table.matrix.columns.get(start..end).unwrap_or_default());
        joined.counts.values.extend_from_slice(table.matrix.values.get(start..end).unwrap_or_default());
        joined.counts.row_offsets.push(joined.counts.values.len());
        joined.barcodes.push(name);
        joined.places.push(place);
        joined.centers_px.push(center);
    }
    if joined.barcodes.is_empty() {
        let (x, y) = selection.first().map(|spot| spot.0).unwrap_or_default();
        let expected = format!("counts for some of the {} selected spots (such as {x}x{y})", selection.len());
        let such_as = off_tissue.first().map(|name| format!(" (such as {name})")).unwrap_or_default();
        let found = format!("{} other spots{such_as}", off_tissue.len());
        return Err(InputError::in_file(path, "spots", expected, found));
    }
    let without_counts: Vec<String> = selection
        .iter()
        .filter(|(place, _)| unmatched.contains_key(place))
        .map(|((x, y), _)| format!("{x}x{y}"))
        .collect();
    joined.dropped.extend(Dropped::of("spots with counts that are not selected", &off_tissue));
    joined.dropped.extend(Dropped::of("selected spots without counts", &without_counts));
    Ok(joined)
}

/// µm per pixel from the array's pitch, and how it came about.
fn pixel_size(path: &Path, selection: &Selection) -> Result<(f64, String), InputError> {
    let points: Vec<_> = selection
        .iter()
        .map(|&((x, y), center)| (SlideUm { x: x as f64 * PITCH_UM, y: y as f64 * PITCH_UM }, center))
        .collect();
    array_fit::pixel_size(path, &points, PITCH_UM, "selected spots")
}

#[cfg(test)]
#[path = "st_tests.rs"]
mod tests;
