//! What the folders of all Space Ranger runs have in common.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::expression::CountMatrix;

use super::matrix_market::read_matrix_folder;
use super::positions::BinPosition;
use super::prepare::Dropped;
use super::scalefactors::Scalefactors;
use super::tenx_matrix::{GENE_EXPRESSION, TenxMatrix, read_tenx_matrix};
use super::validate::Frame;
use super::{gene_panel, image_extension};
use crate::error::InputError;

/// The `outs` folder: the one given, or the one in it.
pub(super) fn outs(input: &Path) -> PathBuf {
    let inner = input.join("outs");
    if inner.is_dir() { inner } else { input.to_path_buf() }
}

/// The name of a slide: the one given, or the folder's (for a folder called `outs`, its parent's).
pub(super) fn slide_id(given: Option<&str>, input: &Path) -> Result<String> {
    if let Some(id) = given {
        return Ok(id.to_owned());
    }
    let folder =
        input.canonicalize().with_context(|| format!("cannot open the folder {}", input.display()))?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let id = match name(&folder) {
        Some(outs) if outs == "outs" => folder.parent().and_then(name),
        other => other,
    };
    id.ok_or_else(|| InputError::in_flag("--id", "value", "a name for the slide", "none").into())
}

/// The full-resolution image: the one given, or the only image directly in the folder.
pub(super) fn full_image(given: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    if let Some(image) = given {
        return Ok(image.to_path_buf());
    }
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut images = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if image_extension(&path).is_some() {
            images.push(path);
        }
    }
    let count = images.len();
    match (images.pop(), count) {
        (Some(image), 1) => Ok(image),
        _ => {
            let expected = "the full-resolution image that Space Ranger was given (or --image)";
            Err(InputError::in_file(folder, "images", expected, format!("{count} images")).into())
        }
    }
}

/// Whether the folder holds a matrix of this kind, `filtered` or `raw`, under its usual name.
pub(super) fn has_matrix(folder: &Path, kind: &str) -> bool {
    let stem = format!("{kind}_feature_bc_matrix");
    folder.join(format!("{stem}.h5")).is_file() || folder.join(stem).is_dir()
}

/// The counts of a folder, from the HDF5 file or else the folder of text files, and the files that were read. `kind` is
/// `filtered` or `raw`.
pub(super) fn read_matrix(folder: &Path, kind: &str) -> Result<(TenxMatrix, Vec<PathBuf>)> {
    let stem = format!("{kind}_feature_bc_matrix");
    let file = folder.join(format!("{stem}.h5"));
    if file.is_file() {
        return Ok((read_tenx_matrix(&file)?, vec![file]));
    }
    if folder.join(&stem).is_dir() {
        return read_matrix_folder(&folder.join(stem));
    }
    // Archives put the sample's name before the file's.
    let ending = format!("{stem}.h5");
    let named = fs::read_dir(folder).ok().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut named = named.filter(|path| path.to_string_lossy().ends_with(&ending));
    match (named.next(), named.next()) {
        (Some(file), None) => Ok((read_tenx_matrix(&file)?, vec![file])),
        _ => {
            let expected = format!("{stem}.h5 or the folder {stem}");
            Err(InputError::in_file(folder, "counts", expected, "neither").into())
        }
    }
}

/// Keeps the genes among the features of a matrix, and tells what else there was.
pub(super) fn take_genes(matrix: &mut TenxMatrix, path: &Path) -> Result<(GenePanel, Option<Dropped>)> {
    let mut others: Vec<String> = Vec::new();
    for feature in &matrix.features {
        if feature.feature_type != GENE_EXPRESSION && !others.contains(&feature.feature_type) {
            others.push(feature.feature_type.clone());
        }
    }
    let count = matrix.retain_genes();
    let what = format!("features that are not {GENE_EXPRESSION}");
    let dropped = (count > 0).then_some(Dropped { what, count, examples: others });
    let features = std::mem::take(&mut matrix.features);
    let (ids, symbols) = features.into_iter().map(|feature| (feature.id, feature.name)).unzip();
    let genes = gene_panel(Some(ids), symbols)
        .map_err(|error| InputError::in_file(path, "features", "an id and a name each", error))?;
    Ok((genes, dropped))
}

/// The smaller images that a run holds.
pub(super) fn frames(scale: &Scalefactors) -> Vec<Frame> {
    let known = [("tissue_hires", scale.tissue_hires_scalef), ("tissue_lowres", scale.tissue_lowres_scalef)];
    let positive = |scale: &f64| scale.is_finite() && *scale > 0.0;
    known
        .into_iter()
        .filter_map(|(name, scale)| Some(Frame { name, scale: scale.filter(positive)? }))
        .collect()
}

/// Counts and positions of the spots that have both, in the matrix's order.
pub(super) struct Joined {
    pub counts: CountMatrix,
    pub positions: Vec<BinPosition>,
    pub dropped: Vec<Dropped>,
}

/// Brings counts and positions together by barcode. Spots off tissue are left out unless `off_tissue` keeps them.
pub(super) fn join(
    matrix_path: &Path,
    positions_path: &Path,
    matrix: &TenxMatrix,
    positions: Vec<BinPosition>,
    off_tissue: bool,
) -> Result<Joined, InputError> {
    let mut by_barcode: HashMap<String, BinPosition> = HashMap::with_capacity(positions.len());
    for position in positions {
        if let Some(first) = by_barcode.insert(position.barcode.clone(), position) {
            let found = format!("{} twice", first.barcode);
            return Err(InputError::in_file(positions_path, "barcode", "each spot once", found));
        }
    }
    let mut rows = Vec::new();
    let mut kept = Vec::new();
    let (mut off, mut without_position) = (Vec::new(), Vec::new());
    for (row, barcode) in matrix.barcodes.iter().enumerate() {
        // Taken out, so that a barcode that repeats in the matrix has no position the second time.
        match by_barcode.remove(barcode) {
            None => without_position.push(barcode),
            Some(position) if !position.in_tissue && !off_tissue => off.push(barcode.clone()),
            Some(position) => {
                rows.push(row);
                kept.push(position);
            }
        }
    }
    if let Some(barcode) = without_position.first() {
        let expected = format!("a position in {} for each barcode", positions_path.display());
        let found =
            format!("{} barcodes without one or repeated (such as {barcode})", without_position.len());
        return Err(InputError::in_file(matrix_path, "matrix/barcodes", expected, found));
    }
    let mut without_counts: Vec<String> = by_barcode
        .into_values()
        .filter(|position| position.in_tissue)
        .map(|position| position.barcode)
        .collect();
    without_counts.sort();
    let dropped = [
        Dropped::of("spots with counts off tissue", &off),
        Dropped::of("spots on tissue without counts", &without_counts),
    ];
    let counts = matrix.counts.select_rows(&rows);
    Ok(Joined { counts, positions: kept, dropped: dropped.into_iter().flatten().collect() })
}
