//! The tiles of one level as a raster with one cell for each tile.
//!
//! The tiles of every level lie on a square grid that starts at the top left corner of the image, or of the region of a
//! slide that was predicted. So a map needs one pixel
//! for each tile, whatever the size of the slide: recolouring touches only those, and the browser's own scaling puts
//! them on screen with sharp edges. The same raster answers which tile lies under the pointer.

use super::camera::Point;
use super::palette::Palette;

/// Most cells of a raster; a slide whose grid is larger is not drawn.
const MAX_CELLS: usize = 1 << 25;
/// Largest side of a raster, below every browser's limit of a canvas.
const MAX_SIDE: usize = 16_384;
/// A cell without a tile.
const EMPTY: u32 = u32::MAX;

/// A level's tiles in rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    pitch_px: f64,
    start_px: Point,
    first_column: i64,
    first_row: i64,
    columns: usize,
    rows: usize,
    tile_of_cell: Vec<u32>,
}

impl Lattice {
    /// Places the tiles with the given centres (x and y in turn, full-resolution pixels) on a grid of `pitch_px` that
    /// starts at `start_px`. `None` without a tile, with a pitch that is not positive, or where the grid would be too large.
    pub fn new(centers_px: &[f32], pitch_px: f64, start_px: Point) -> Option<Self> {
        if !(pitch_px.is_finite() && pitch_px > 0.0) {
            return None;
        }
        let cell = |at: f32, start: f64| {
            let place = ((f64::from(at) - start) / pitch_px).floor();
            (place.abs() < 1e9).then_some(place as i64)
        };
        let cells: Vec<Option<(i64, i64)>> = centers_px
            .chunks_exact(2)
            .map(|at| Some((cell(at[0], start_px.x)?, cell(at[1], start_px.y)?)))
            .collect();
        let (mut low, mut high) = ((i64::MAX, i64::MAX), (i64::MIN, i64::MIN));
        for &(column, row) in cells.iter().flatten() {
            low = (low.0.min(column), low.1.min(row));
            high = (high.0.max(column), high.1.max(row));
        }
        if low.0 > high.0 {
            return None;
        }
        let columns = usize::try_from(high.0 - low.0 + 1).ok().filter(|&side| side <= MAX_SIDE)?;
        let rows = usize::try_from(high.1 - low.1 + 1).ok().filter(|&side| side <= MAX_SIDE)?;
        let count = columns.checked_mul(rows).filter(|&count| count <= MAX_CELLS)?;
        let mut tile_of_cell = vec![EMPTY; count];
        for (tile, cell) in cells.iter().enumerate() {
            if let Some((column, row)) = cell {
                let place = (row - low.1) as usize * columns + (column - low.0) as usize;
                tile_of_cell[place] = tile as u32;
            }
        }
        Some(Self { pitch_px, start_px, first_column: low.0, first_row: low.1, columns, rows, tile_of_cell })
    }

    /// Cells across.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Cells down.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Side of a tile, in full-resolution pixels.
    pub fn pitch_px(&self) -> f64 {
        self.pitch_px
    }

    /// The raster's top left corner on the image.
    pub fn origin_px(&self) -> Point {
        Point {
            x: self.start_px.x + self.first_column as f64 * self.pitch_px,
            y: self.start_px.y + self.first_row as f64 * self.pitch_px,
        }
    }

    /// The top left corner of the cell that covers a place.
    pub fn corner_at(&self, place_px: Point) -> Point {
        let corner = |at: f64, start: f64| start + ((at - start) / self.pitch_px).floor() * self.pitch_px;
        Point { x: corner(place_px.x, self.start_px.x), y: corner(place_px.y, self.start_px.y) }
    }

    /// The tile that covers a place of the image.
    pub fn tile_at(&self, place_px: Point) -> Option<usize> {
        let column = ((place_px.x - self.start_px.x) / self.pitch_px).floor() - self.first_column as f64;
        let row = ((place_px.y - self.start_px.y) / self.pitch_px).floor() - self.first_row as f64;
        let inside = (0.0..self.columns as f64).contains(&column) && (0.0..self.rows as f64).contains(&row);
        let tile = inside.then(|| self.tile_of_cell[row as usize * self.columns + column as usize])?;
        (tile != EMPTY).then_some(tile as usize)
    }

    /// The raster's colours as RGBA, row by row; transparent where there is no tile or no value.
    pub fn rgba(&self, values: &[f32], palette: &Palette) -> Vec<u8> {
        let mut rgba = vec![0; self.tile_of_cell.len() * 4];
        for (pixel, &tile) in rgba.as_chunks_mut::<4>().0.iter_mut().zip(&self.tile_of_cell) {
            if let Some(color) = values.get(tile as usize).and_then(|&value| palette.color(value)) {
                pixel[..3].copy_from_slice(&color);
                pixel[3] = 255;
            }
        }
        rgba
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnet_core::heatmap::{ColorMap, ValueRange};

    fn palette() -> Palette {
        Palette::new(ColorMap::Viridis, ValueRange::new(0.0, 1.0).unwrap())
    }

    // Pitch 16: columns 2, 3, 5 of row 1, and column 2 of row 3.
    const CENTERS: [f32; 8] = [40.0, 24.0, 56.0, 24.0, 88.0, 24.0, 40.0, 56.0];

    #[test]
    fn every_tile_has_its_cell() {
        let lattice = Lattice::new(&CENTERS, 16.0, Point::default()).unwrap();
        assert_eq!((lattice.columns(), lattice.rows()), (4, 3));
        assert_eq!(lattice.origin_px(), Point { x: 32.0, y: 16.0 });
        for (tile, at) in CENTERS.chunks_exact(2).enumerate() {
            for off in [-7.9, 0.0, 7.9] {
                let place = Point { x: f64::from(at[0]) + off, y: f64::from(at[1]) - off };
                assert_eq!(lattice.tile_at(place), Some(tile));
            }
        }
        for (x, y) in
            [(72.0, 24.0), (40.0, 40.0), (31.0, 24.0), (97.0, 24.0), (f64::NAN, 24.0), (1e300, -1e300)]
        {
            assert_eq!(lattice.tile_at(Point { x, y }), None, "({x}, {y})");
        }
    }

    #[test]
    fn a_region_has_its_own_grid() {
        let start = Point { x: 1003.0, y: 507.0 };
        let centers = CENTERS.map(f64::from);
        let moved: Vec<f32> = centers
            .chunks_exact(2)
            .flat_map(|at| [(at[0] + start.x) as f32, (at[1] + start.y) as f32])
            .collect();
        let lattice = Lattice::new(&moved, 16.0, start).unwrap();
        assert_eq!((lattice.columns(), lattice.rows()), (4, 3));
        assert_eq!(lattice.origin_px(), Point { x: 1035.0, y: 523.0 });
        assert_eq!(lattice.tile_at(Point { x: 1043.0, y: 531.0 }), Some(0));
        assert_eq!(lattice.corner_at(Point { x: 1043.0, y: 531.0 }), lattice.origin_px());
    }

    #[test]
    fn unknown_values_are_transparent() {
        let lattice = Lattice::new(&CENTERS, 16.0, Point::default()).unwrap();
        let rgba = lattice.rgba(&[0.0, f32::NAN, 1.0, 2.0], &palette());
        let pixels = rgba.as_chunks::<4>().0;
        assert_eq!(pixels[0], [68, 1, 84, 255]);
        assert_eq!(pixels[1][3], 0); // no number
        assert_eq!(pixels[2][3], 0); // no tile
        assert_eq!(pixels[3], pixels[8]); // beyond the range: its end
        assert_eq!(lattice.rgba(&[], &palette()).iter().filter(|&&byte| byte != 0).count(), 0);
    }

    #[test]
    fn fractional_pitches_keep_every_tile() {
        let pitch = 8.0 / 0.4567;
        let centers: Vec<f32> = (0..300 * 300)
            .flat_map(|tile| [(f64::from(tile % 300) + 0.5) * pitch, (f64::from(tile / 300) + 0.5) * pitch])
            .map(|at| at as f32)
            .collect();
        let lattice = Lattice::new(&centers, pitch, Point::default()).unwrap();
        assert_eq!((lattice.columns(), lattice.rows()), (300, 300));
        assert!(lattice.tile_of_cell.iter().enumerate().all(|(cell, &tile)| cell as u32 == tile));
    }

    #[test]
    fn grids_that_cannot_be_drawn_are_none() {
        assert_eq!(Lattice::new(&[], 8.0, Point::default()), None);
        assert_eq!(Lattice::new(&CENTERS, 0.0, Point::default()), None);
        assert_eq!(Lattice::new(&CENTERS, f64::NAN, Point::default()), None);
        assert_eq!(Lattice::new(&[f32::NAN, 1.0], 8.0, Point::default()), None);
        assert_eq!(Lattice::new(&[0.0, 0.0, 1e8, 1e8], 8.0, Point::default()), None);
    }
}
