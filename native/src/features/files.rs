//! Feature matrices made elsewhere.
//!
//! For slide `C2` and level `spot` the folder holds one of `C2.spot.h5`, `C2.spot.npy`, or, for both levels, `C2.h5`,
//! `C2.npy`.
//! - `.h5` as TRIDENT writes it: `features` `[N,F]`, `coords` `[N,2]` (x, y of the patches' top left corners in
//!   full-resolution pixels) with the attribute `patch_size_level0` (side in those pixels).
//! - `.npy`: `[N,F]` numbers, with the patches' centres `[N,2]` (x, y in full-resolution pixels) in `C2.spot.coords.npy` or
//!   `C2.coords.npy`.
//!
//! A tile takes the row of the patch whose centre is nearest to its own; farther away than the tile's side is an error.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::MagNetConfig;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::Matrix;
use magnet_core::hdf5::{Attribute, Hdf5File, Limits};
use magnet_core::layout::SlideLayout;
use magnet_core::level::Level;

use super::{SlideName, tile_centers_px};
use crate::error::InputError;

/// A folder of feature matrices.
#[derive(Debug, Clone)]
pub struct FeatureFiles {
    /// The folder's name, which stands for the encoder in a bundle.
    pub name: String,
    folder: PathBuf,
}

impl FeatureFiles {
    /// The matrices in this folder.
    ///
    /// # Errors
    /// If it is no folder.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(InputError::in_file(folder, "--features", "a folder", "none").into());
        }
        let name = folder.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, folder: folder.to_path_buf() })
    }

    /// Width `F` of a slide's features.
    ///
    /// # Errors
    /// If there is no file for the slide or it has no such matrix.
    pub fn width(&self, slide: &str) -> Result<usize> {
        let path = self.find(slide, Level::Spot)?;
        let shape = if is_hdf5(&path) {
            open_hdf5(&path)?.shape("features").with_context(|| path.display().to_string())?
        } else {
            npy_shape(&path)?
        };
        Ok(matrix_shape(&path, "features", &shape)?.1)
    }

    /// Features of a level's tiles, one row each.
    ///
    /// # Errors
    /// If the files are missing, malformed, of another width than `width`, or leave a tile without a patch near it.
    pub fn features(
        &self,
        slide: SlideName<'_>,
        level: Level,
        layout: &SlideLayout,
        model: &MagNetConfig,
        width: usize,
    ) -> Result<Matrix> {
        let path = self.find(slide.id, level)?;
        let (features, centers) =
            if is_hdf5(&path) { read_hdf5(&path)? } else { self.read_npy(&path, slide.id, level)? };
        if features.cols != width {
            return Err(
                InputError::in_file(&path, "features", format!("width {width}"), features.cols).into()
            );
        }
        if centers.len() != features.rows {
            let expected = format!("{} rows, one for each row of features", features.rows);
            return Err(InputError::in_file(&path, "coords", expected, centers.len()).into());
        }
        if let Some(position) = features.values.iter().position(|value| !value.is_finite()) {
            let field = format!("features, row {}", position / width.max(1));
            return Err(InputError::in_file(&path, field, "finite numbers", "one that is not").into());
        }
        let reach_px = model.levels.get(level).tile_um / slide.um_per_px;
        let tiles = tile_centers_px(layout, level, slide.um_per_px);
        let rows = nearest(&centers, &tiles, reach_px).map_err(|tile| {
            let at = tiles.get(tile).copied().unwrap_or(SlidePx { x: f64::NAN, y: f64::NAN });
            let expected =
                format!("a patch within {reach_px:.0} px of the {level} tile at ({:.0}, {:.0})", at.x, at.y);
            InputError::in_file(&path, "coords", expected, "none")
        })?;
        let values = rows.iter().flat_map(|&row| features.row(row).iter().copied()).collect();
        Ok(Matrix { rows: rows.len(), cols: width, values })
    }

    fn find(&self, slide: &str, level: Level) -> Result<PathBuf> {
        let names = [
            format!("{slide}.{level}.h5"),
            format!("{slide}.{level}.npy"),
            format!("{slide}.h5"),
            format!("{slide}.npy"),
        ];
        let found = names.iter().map(|name| self.folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let expected = format!("one of {}", names.join(", "));
            InputError::in_file(&self.folder, format!("slide {slide}"), expected, "none of them").into()
        })
    }

    fn read_npy(&self, path: &Path, slide: &str, level: Level) -> Result<(Matrix, Vec<SlidePx>)> {
        let names = [format!("{slide}.{level}.coords.npy"), format!("{slide}.coords.npy")];
        let coords =
            names.iter().map(|name| self.folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
                InputError::in_file(path, "coords", format!("{} beside it", names.join(" or ")), "neither")
            })?;
        let (shape, values) = npy_numbers(path)?;
        let (rows, cols) = matrix_shape(path, "features", &shape)?;
        let (shape, places) = npy_numbers(&coords)?;
        let centers = points(&coords, &shape, &places, 0.0)?;
        Ok((Matrix { rows, cols, values: values.into_iter().map(|value| value as f32).collect() }, centers))
    }
}

fn is_hdf5(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "h5")
}

fn open_hdf5(path: &Path) -> Result<Hdf5File> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Hdf5File::from_reader(BufReader::new(file), Limits::default()).with_context(|| path.display().to_string())
}

fn read_hdf5(path: &Path) -> Result<(Matrix, Vec<SlidePx>)> {
    let named = || path.display().to_string();
    let file = open_hdf5(path)?;
    let (rows, cols) = matrix_shape(path, "features", &file.shape("features").with_context(named)?)?;
    let values = file.read_f32("features").with_context(named)?;
    let side = file.attributes("coords").with_context(named)?.remove("patch_size_level0");
    let side_px = match side {
        Some(Attribute::Integers(values)) => values.first().map(|&side| side as f64),
        Some(Attribute::Numbers(values)) => values.first().copied(),
        _ => None,
    };
    let Some(side_px) = side_px.filter(|side| side.is_finite() && *side > 0.0) else {
        let expected = "the attribute patch_size_level0, a number above 0";
        return Err(InputError::in_file(path, "coords", expected, "none").into());
    };
    let shape = file.shape("coords").with_context(named)?;
    let places = file.read_f64("coords").with_context(named)?;
    Ok((Matrix { rows, cols, values }, points(path, &shape, &places, side_px / 2.0)?))
}

/// Rows and columns of `[N,F]`; a leading axis of length 1, which some writers add, is ignored.
fn matrix_shape(path: &Path, field: &str, shape: &[usize]) -> Result<(usize, usize), InputError> {
    match *shape {
        [rows, cols] | [1, rows, cols] if cols > 0 => Ok((rows, cols)),
        _ => Err(InputError::in_file(path, field, "shape [N, F]", format!("{shape:?}"))),
    }
}

fn points(path: &Path, shape: &[usize], places: &[f64], shift: f64) -> Result<Vec<SlidePx>, InputError> {
    let (_, cols) = matrix_shape(path, "coords", shape)?;
    if cols != 2 || places.iter().any(|place| !place.is_finite()) {
        return Err(InputError::in_file(
            path,
            "coords",
            "finite numbers, shape [N, 2]",
            format!("{shape:?}"),
        ));
    }
    Ok(places.as_chunks::<2>().0.iter().map(|&[x, y]| SlidePx { x: x + shift, y: y + shift }).collect())
}

fn npy_shape(path: &Path) -> Result<Vec<usize>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let header = npyz::NpyHeader::from_reader(BufReader::new(file))
        .map_err(|error| InputError::in_file(path, "header", "a .npy file", error))?;
    Ok(header.shape().iter().map(|&side| usize::try_from(side).unwrap_or(usize::MAX)).collect())
}

/// Shape and values of a row-major `.npy` file of numbers.
fn npy_numbers(path: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let wrong =
        |field: &str, expected: &str, found: String| InputError::in_file(path, field, expected, found);
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let npy = npyz::NpyFile::new(BufReader::new(file))
        .map_err(|error| wrong("header", "a .npy file", error.to_string()))?;
    if npy.order() != npyz::Order::C {
        return Err(wrong("header", "row-major order", "Fortran order".into()).into());
    }
    // The header must not promise more than the file holds, before anything is allocated for it.
    let promised = npy.shape().iter().try_fold(1_u64, |product, &side| product.checked_mul(side));
    if promised.is_none_or(|numbers| numbers > size) {
        let found = format!("{size} bytes for shape {:?}", npy.shape());
        return Err(wrong("data", "as many numbers as the shape says", found).into());
    }
    let shape = npy.shape().iter().map(|&side| usize::try_from(side).unwrap_or(usize::MAX)).collect();
    let kind = npy.dtype().descr();
    let truncated =
        |error: std::io::Error| wrong("data", "as many numbers as the shape says", error.to_string());
    macro_rules! read_as {
        ($type:ty) => {
            npy.into_vec::<$type>().map_err(truncated)?.into_iter().map(|value| value as f64).collect()
        };
    }
    let values = match kind.trim_matches(['\'', '"']).trim_start_matches(['<', '>', '=', '|']) {
        "f4" => read_as!(f32),
        "f8" => read_as!(f64),
        "i4" => read_as!(i32),
        "i8" => read_as!(i64),
        "u4" => read_as!(u32),
        "u8" => read_as!(u64),
        _ => return Err(wrong("header", "f4, f8, i4, i8, u4 or u8", kind).into()),
    };
    Ok((shape, values))
}

/// For each tile the nearest of `centers` within `reach`, or the first tile that has none.
fn nearest(centers: &[SlidePx], tiles: &[SlidePx], reach: f64) -> Result<Vec<usize>, usize> {
    // Cells as wide as the reach: the nearest centre lies in the tile's own cell or one beside it.
    let cell = |point: SlidePx| ((point.x / reach).floor() as i64, (point.y / reach).floor() as i64);
    let mut cells: HashMap<(i64, i64), Vec<usize>> = HashMap::new();
    for (row, &center) in centers.iter().enumerate() {
        cells.entry(cell(center)).or_default().push(row);
    }
    tiles
        .iter()
        .enumerate()
        .map(|(tile, &at)| {
            let (x, y) = cell(at);
            (-1..=1)
                .flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy)))
                .filter_map(|key| cells.get(&key))
                .flatten()
                .filter_map(|&row| {
                    let center = centers.get(row)?;
                    let distance = (center.x - at.x).hypot(center.y - at.y);
                    (distance <= reach).then_some((distance, row))
                })
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
                .map(|(_, row)| row)
                .ok_or(tile)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;

    fn at(x: f64, y: f64) -> SlidePx {
        SlidePx { x, y }
    }

    fn write_npy(path: &Path, shape: &[u64], values: &[f64]) {
        let mut writer = npyz::WriteOptions::new()
            .default_dtype()
            .shape(shape)
            .writer(File::create(path).unwrap())
            .begin_nd()
            .unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn a_tile_takes_the_nearest_patch_within_its_side() {
        let centers = [at(0.0, 0.0), at(9.0, 0.0), at(95.0, -3.0)];
        let tiles = [at(4.0, 1.0), at(6.0, 1.0), at(104.0, -3.0)];
        assert_eq!(nearest(&centers, &tiles, 10.0), Ok(vec![0, 1, 2]));
        assert_eq!(nearest(&centers, &tiles, 8.0), Err(2));
    }

    #[test]
    fn npy_matrices_are_read_and_false_shapes_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("C2.npy");
        write_npy(&path, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(npy_numbers(&path).unwrap(), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let files = FeatureFiles::open(folder.path()).unwrap();
        assert_eq!(files.width("C2").unwrap(), 3);
        let message = files.width("C3").unwrap_err().to_string();
        assert!(message.contains("C3.spot.h5") && message.contains("C3.npy"), "{message}");
        let message = files.read_npy(&path, "C2", Level::Spot).unwrap_err().to_string();
        assert!(message.contains("C2.coords.npy"), "{message}");

        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(npy_numbers(&path).unwrap_err().to_string().contains("data"));
        std::fs::write(&path, b"not numpy").unwrap();
        assert!(npy_numbers(&path).unwrap_err().to_string().contains("a .npy file"));
    }
}
