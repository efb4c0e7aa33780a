//! Writes one slide as Space Ranger writes a Visium HD run, with the full-resolution image beside it.

use std::fs::File;
use std::io::{BufWriter, Cursor};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};
use magnet_core::coordinates::px_from_um;
use magnet_core::expression::CountMatrix;
use tiff::encoder::{Rational, TiffEncoder, colortype};
use tiff::tags::ResolutionUnit;

use super::morphology::BinGrid;
use super::program::Program;
use crate::dataset::positions::{BinPosition, write_positions_parquet};
use crate::dataset::scalefactors::{Scalefactors, write_scalefactors};
use crate::dataset::tenx_matrix::{Feature, GENE_EXPRESSION, TenxMatrix, write_tenx_matrix};
use crate::files::{Overwrite, write_atomic, write_atomic_with};

/// Longest side of `tissue_hires_image.png`, in pixels.
const HIRES_PX: u32 = 1000;
/// Longest side of `tissue_lowres_image.png`, in pixels.
const LOWRES_PX: u32 = 300;

/// The counts of one bin size.
#[derive(Debug, Clone, Copy)]
pub struct BinnedCounts<'a> {
    /// The grid of bins.
    pub grid: BinGrid,
    /// Positions in the grid (row-major) of the bins on tissue, ascending.
    pub in_tissue: &'a [usize],
    /// One row per bin on tissue.
    pub counts: &'a CountMatrix,
}

impl BinnedCounts<'_> {
    /// Name of the bin at a position of the grid, as Space Ranger names it.
    pub fn barcode(&self, index: usize) -> String {
        let tile = self.grid.tile(index);
        format!("s_{:03}um_{:05}_{:05}-1", self.grid.bin_um, tile.row, tile.col)
    }
}

/// Writes `<folder>/<id>.tif`, where `<id>` is the folder's name as given, and returns its path. The pixel size stands
/// in the file as its resolution.
///
/// # Errors
/// When the file cannot be written.
pub fn write_image(folder: &Path, id: &str, image: &RgbImage, um_per_px: f64) -> Result<PathBuf> {
    let path = folder.join(format!("{id}.tif"));
    write_atomic_with(&path, Overwrite::No, |out: &mut BufWriter<&mut File>| {
        let cannot = || format!("cannot write {}", path.display());
        let mut encoder = TiffEncoder::new(out).with_context(cannot)?;
        let mut page =
            encoder.new_image::<colortype::RGB8>(image.width(), image.height()).with_context(cannot)?;
        let px_per_cm = Rational { n: (1e4 / um_per_px * 1000.0).round() as u32, d: 1000 };
        page.resolution(ResolutionUnit::Centimeter, px_per_cm);
        page.write_data(image.as_raw()).with_context(cannot)
    })?;
    Ok(path)
}

/// Writes `<folder>/binned_outputs/square_<size>um` for each bin size: matrix, positions, scale factors and the two
/// small images.
///
/// # Errors
/// When a file cannot be written.
pub fn write_binned_outputs(
    folder: &Path,
    image: &RgbImage,
    um_per_px: f64,
    program: &Program,
    sizes: &[BinnedCounts<'_>],
) -> Result<()> {
    let hires = Thumbnail::of(image, HIRES_PX)?;
    let lowres = Thumbnail::of(image, LOWRES_PX)?;
    for binned in sizes {
        let bin_um = binned.grid.bin_um;
        let outputs = folder.join("binned_outputs").join(format!("square_{bin_um:03}um"));
        write_tenx_matrix(
            &outputs.join("filtered_feature_bc_matrix.h5"),
            &tenx_matrix(binned, program),
            Overwrite::No,
        )?;
        let spatial = outputs.join("spatial");
        write_positions_parquet(
            &spatial.join("tissue_positions.parquet"),
            &positions(binned, um_per_px),
            Overwrite::No,
        )?;
        let scalefactors = Scalefactors {
            spot_diameter_fullres: bin_um / um_per_px,
            bin_size_um: Some(bin_um),
            microns_per_pixel: Some(um_per_px),
            tissue_hires_scalef: Some(hires.scale),
            tissue_lowres_scalef: Some(lowres.scale),
            fiducial_diameter_fullres: None,
        };
        write_scalefactors(&spatial.join("scalefactors_json.json"), &scalefactors, Overwrite::No)?;
        write_atomic(&spatial.join("tissue_hires_image.png"), &hires.png, Overwrite::No)?;
        write_atomic(&spatial.join("tissue_lowres_image.png"), &lowres.png, Overwrite::No)?;
    }
    Ok(())
}

fn tenx_matrix(binned: &BinnedCounts<'_>, program: &Program) -> TenxMatrix {
    let feature = |gene: &super::program::GeneProgram| Feature {
        id: gene.id.clone(),
        name: gene.symbol.clone(),
        feature_type: GENE_EXPRESSION.to_owned(),
        genome: "synthetic".to_owned(),
    };
    TenxMatrix {
        barcodes: binned.in_tissue.iter().map(|&index| binned.barcode(index)).collect(),
        features: program.genes.iter().map(feature).collect(),
        counts: binned.counts.clone(),
    }
}

/// All bins of the grid, on tissue or not, as Space Ranger lists them.
fn positions(binned: &BinnedCounts<'_>, um_per_px: f64) -> Vec<BinPosition> {
    let mut on_tissue = vec![false; binned.grid.len()];
    for &index in binned.in_tissue {
        on_tissue[index] = true;
    }
    let position = |(index, in_tissue): (usize, bool)| {
        let tile = binned.grid.tile(index);
        BinPosition {
            barcode: binned.barcode(index),
            in_tissue,
            array_row: tile.row as i32,
            array_col: tile.col as i32,
            center_px: px_from_um(binned.grid.center(index), um_per_px),
        }
    };
    on_tissue.into_iter().enumerate().map(position).collect()
}

/// A small copy of the slide as a PNG file.
struct Thumbnail {
    png: Vec<u8>,
    /// Its pixels per full-resolution pixel.
    scale: f64,
}

impl Thumbnail {
    fn of(image: &RgbImage, longest_px: u32) -> Result<Self> {
        let longest = image.width().max(image.height());
        let scale = (f64::from(longest_px) / f64::from(longest)).min(1.0);
        let side = |px: u32| ((f64::from(px) * scale).round() as u32).max(1);
        let small = image::imageops::thumbnail(image, side(image.width()), side(image.height()));
        let mut png = Cursor::new(Vec::new());
        small.write_to(&mut png, ImageFormat::Png).context("cannot encode a small image of the slide")?;
        Ok(Self { png: png.into_inner(), scale })
    }
}
