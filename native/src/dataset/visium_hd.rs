//! Space Ranger's `outs` folder of a Visium HD run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use magnet_core::anndata::Column;
use magnet_core::expression::{CountMatrix, ValueKind};

use super::bins::{BinPlace, BinPositions, TileBuilder, Tiles, locate};
use super::prepare::{Dropped, NewSlide, Summary, check_id, refuse_existing_ids};
use super::scalefactors::read_scalefactors;
use super::space_ranger;
use crate::error::InputError;
use crate::files::Overwrite;

/// How near to a whole number of bins a tile's side must be to count as one.
const WHOLE: f64 = 1e-9;

/// `prepare visium-hd`.
#[derive(Debug, Clone)]
pub struct VisiumHdOptions {
    /// Space Ranger's `outs` folder, which holds `binned_outputs`, or the folder that holds it.
    pub input: PathBuf,
    /// The full-resolution image; the only image directly in `input` when `None`.
    pub image: Option<PathBuf>,
    /// The prepared dataset, which may hold other slides already.
    pub out: PathBuf,
    /// Side of the bins to take, in µm: one that Space Ranger wrote, or any coarser one.
    pub bin_um: f64,
    /// Name of the slide; the folder's name when `None` (for a folder called `outs`, its parent's).
    pub id: Option<String>,
    /// Whether bins off tissue are kept, with `in_tissue` 0.
    pub off_tissue: bool,
    /// Whether a slide that the dataset holds already is replaced.
    pub overwrite: Overwrite,
}

impl VisiumHdOptions {
    /// Prepares the slide, whole or not at all. Bins off tissue, unless they are asked for, and features that are no
    /// genes are left out.
    ///
    /// # Errors
    /// When a file is absent or damaged, the files contradict each other, or the slide exists already; the message
    /// names file, field, expected and found.
    pub fn run(&self) -> Result<Summary> {
        let id = space_ranger::slide_id(self.id.as_deref(), &self.input)?;
        check_id(&id)?;
        refuse_existing_ids(&self.out, std::slice::from_ref(&id), self.overwrite)?;
        let slide = self.read(id)?.write(&self.out, self.overwrite)?;
        Ok(Summary { slides: vec![slide] })
    }

    fn read(&self, id: String) -> Result<NewSlide> {
        let outs = space_ranger::outs(&self.input);
        let source = BinSize::choose(&outs, self.bin_um)?;
        let image = space_ranger::full_image(self.image.as_deref(), &outs)?;
        let scale_path = source.folder.join("spatial/scalefactors_json.json");
        let scale = read_scalefactors(&scale_path)?;
        let (bin_um, um_per_px) = scale
            .bin_and_pixel_um()
            .map_err(|error| InputError { file: scale_path.display().to_string(), ..error })?;
        if bin_um != source.um {
            return Err(InputError::in_file(&scale_path, "bin_size_um", source.um, bin_um).into());
        }
        let positions_path = source.folder.join("spatial/tissue_positions.parquet");
        // Without the raw counts, bins off tissue have none.
        let raw = self.off_tissue && space_ranger::has_matrix(&source.folder, "raw");
        let kind = if raw { "raw" } else { "filtered" };
        let (mut matrix, mut sources) = space_ranger::read_matrix(&source.folder, kind)?;
        let matrix_path = sources.first().cloned().unwrap_or_default();
        let (genes, other_features) = space_ranger::take_genes(&mut matrix, &matrix_path)?;
        let read = Bins {
            barcodes: std::mem::take(&mut matrix.barcodes),
            counts: std::mem::take(&mut matrix.counts),
            matrix: &matrix_path,
            positions: &positions_path,
            off_tissue: self.off_tissue,
        };
        let mut bins = if source.um == self.bin_um {
            read.each_by_itself()?
        } else {
            read.brought_together(self.bin_um, source.um)?
        };
        bins.dropped.extend(other_features);

        let mut notes = Vec::new();
        if source.um != self.bin_um {
            notes.push(format!("raw counts of {} µm bins summed", source.um));
        }
        if self.off_tissue && !raw {
            notes.push("no raw matrix: only bins of the filtered one".to_owned());
        }
        if outs.join("segmented_outputs").is_dir() {
            notes.push("segmented_outputs (cells) not read".to_owned());
        }
        sources.splice(1..1, [positions_path, scale_path]);
        Ok(NewSlide {
            id,
            technology: "Visium HD".to_owned(),
            patient: None,
            genes,
            counts: bins.counts,
            columns: bins.columns,
            centers_px: bins.centers_px,
            barcodes: bins.barcodes,
            um_per_px,
            um_per_px_origin: "microns_per_pixel of Space Ranger".to_owned(),
            bin_um: self.bin_um,
            image,
            sources,
            dropped: bins.dropped,
            notes,
            frames: space_ranger::frames(&scale),
            values: ValueKind::Counts,
            off_tissue: self.off_tissue,
        })
    }
}

/// A bin size that Space Ranger wrote.
#[derive(Debug, Clone, PartialEq)]
struct BinSize {
    um: f64,
    folder: PathBuf,
}

impl BinSize {
    /// The bins to read for bins of `wanted` µm: these bins where they are there; else the coarsest that divide them,
    /// which hold the same counts as finer ones in fewer rows; else the finest, by their centres.
    fn choose(outs: &Path, wanted: f64) -> Result<Self> {
        let binned = outs.join("binned_outputs");
        let mut sizes: Vec<Self> = fs::read_dir(&binned)
            .map_err(|error| {
                InputError::in_file(&binned, "folder", "binned_outputs of a Visium HD run", error)
            })?
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let um = name.to_str()?.strip_prefix("square_")?.strip_suffix("um")?.parse().ok()?;
                Some(Self { um, folder: entry.path() })
            })
            .filter(|size| size.um > 0.0)
            .collect();
        sizes.sort_by(|a, b| a.um.total_cmp(&b.um));
        let whole = |size: &&Self| {
            let ratio = wanted / size.um;
            ratio >= 1.0 && (ratio - ratio.round()).abs() < WHOLE
        };
        let chosen = sizes.iter().rev().find(whole).or_else(|| sizes.first().filter(|size| size.um < wanted));
        match chosen {
            Some(size) if wanted.is_finite() => Ok(size.clone()),
            _ => {
                let known = sizes.iter().map(|size| size.um.to_string()).collect::<Vec<_>>().join(", ");
                let field = format!("bins of {wanted} µm");
                let expected = "a folder of Space Ranger's, or finer bins to sum";
                Err(InputError::in_file(&binned, field, expected, format!("bins of {known} µm")).into())
            }
        }
    }
}

/// The bins of a matrix, before their places are known.
struct Bins<'a> {
    barcodes: Vec<String>,
    counts: CountMatrix,
    matrix: &'a Path,
    positions: &'a Path,
    off_tissue: bool,
}

/// The bins of a slide.
struct Placed {
    counts: CountMatrix,
    barcodes: Vec<String>,
    centers_px: Vec<magnet_core::coordinates::SlidePx>,
    columns: Vec<(String, Column)>,
    dropped: Vec<Dropped>,
}

impl Bins<'_> {
    fn places(&self) -> Result<Vec<BinPlace>, InputError> {
        let place = |name: &String| {
            BinPlace::from_name(name).ok_or_else(|| {
                let expected = "bins such as s_008um_00269_00526-1";
                InputError::in_file(self.matrix, "matrix/barcodes", expected, name)
            })
        };
        self.barcodes.iter().map(place).collect()
    }

    /// What the positions leave out.
    fn dropped(&self, found: &BinPositions) -> Vec<Dropped> {
        let off = (0..).zip(&found.in_tissue).filter(|(_, on)| !**on && !self.off_tissue);
        let off: Vec<String> =
            off.filter_map(|(row, _): (usize, _)| self.barcodes.get(row).cloned()).collect();
        let (count, examples) = found.without_counts.clone();
        let mut dropped: Vec<Dropped> =
            Dropped::of("bins with counts off tissue", &off).into_iter().collect();
        if count > 0 {
            dropped.push(Dropped { what: "bins on tissue without counts".to_owned(), count, examples });
        }
        dropped
    }

    /// Every bin for itself, in the matrix's order.
    fn each_by_itself(self) -> Result<Placed> {
        let places = self.places()?;
        let found = locate(self.matrix, self.positions, &self.barcodes, &places, &mut |_, _, _| {})?;
        let dropped = self.dropped(&found);
        let kept: Vec<usize> = (0..)
            .zip(&found.in_tissue)
            .filter(|(_, on_tissue)| self.off_tissue || **on_tissue)
            .map(|(row, _)| row)
            .collect();
        let all = kept.len() == places.len();
        let counts = if all { self.counts } else { self.counts.select_rows(&kept) };
        let mut barcodes = self.barcodes;
        if !all {
            barcodes = kept.iter().filter_map(|&row| barcodes.get_mut(row).map(std::mem::take)).collect();
        }
        let flags: Vec<i64> =
            kept.iter().filter_map(|&row| found.in_tissue.get(row)).map(|&flag| flag.into()).collect();
        let own: Vec<BinPlace> = kept.iter().filter_map(|&row| places.get(row).copied()).collect();
        Ok(Placed {
            counts,
            barcodes,
            centers_px: kept.iter().filter_map(|&row| found.centers_px.get(row).copied()).collect(),
            columns: columns(flags, &own),
            dropped,
        })
    }

    /// Tiles of `tile_um` from bins of `bin_um`.
    fn brought_together(self, tile_um: f64, bin_um: f64) -> Result<Placed> {
        let places = self.places()?;
        let mut builder = TileBuilder::new(tile_um / bin_um, &places);
        let found =
            locate(self.matrix, self.positions, &self.barcodes, &places, &mut |place, center, on| {
                builder.take(place, center, on);
            })?;
        let mut dropped = self.dropped(&found);
        let kept: Vec<bool> = found.in_tissue.iter().map(|&on| on || self.off_tissue).collect();
        let tiles: Tiles = builder.finish(&places, &kept, &self.counts)?;
        drop(self.counts);
        let name = |place: &BinPlace| format!("s_{tile_um:03}um_{:05}_{:05}-1", place.row, place.col);
        let whole: Vec<usize> = (0..tiles.places.len())
            .filter(|&tile| {
                let on_tissue = tiles.in_tissue.get(tile).copied().unwrap_or_default();
                let bins = tiles.bins.get(tile).copied().unwrap_or_default();
                bins > 0 && (on_tissue || self.off_tissue)
            })
            .collect();
        let pick = |tile: &usize| tiles.places.get(*tile).copied();
        let own: Vec<BinPlace> = whole.iter().filter_map(pick).collect();
        let edge: Vec<String> = (0..tiles.places.len())
            .filter(|tile| whole.binary_search(tile).is_err())
            .filter_map(|tile| tiles.places.get(tile).map(name))
            .collect();
        dropped.extend(Dropped::of("tiles with less than half of their bins on tissue", &edge));
        let number = |values: &[u32]| -> Vec<i64> {
            whole.iter().filter_map(|&tile| values.get(tile).copied()).map(i64::from).collect()
        };
        let flags =
            whole.iter().filter_map(|&tile| tiles.in_tissue.get(tile)).map(|&flag| flag.into()).collect();
        let mut columns = columns(flags, &own);
        columns.push(("n_bins".to_owned(), Column::Integers(number(&tiles.bins))));
        Ok(Placed {
            barcodes: own.iter().map(name).collect(),
            centers_px: whole.iter().filter_map(|&tile| tiles.centers_px.get(tile).copied()).collect(),
            columns,
            dropped,
            counts: if whole.len() == tiles.places.len() {
                tiles.counts
            } else {
                tiles.counts.select_rows(&whole)
            },
        })
    }
}

/// The columns of `obs`.
fn columns(in_tissue: Vec<i64>, places: &[BinPlace]) -> Vec<(String, Column)> {
    let of = |value: fn(&BinPlace) -> u32| {
        Column::Integers(places.iter().map(|place| i64::from(value(place))).collect())
    };
    vec![
        ("in_tissue".to_owned(), Column::Integers(in_tissue)),
        ("array_row".to_owned(), of(|place| place.row)),
        ("array_col".to_owned(), of(|place| place.col)),
    ]
}

#[cfg(test)]
#[path = "visium_hd_tests.rs"]
mod tests;
