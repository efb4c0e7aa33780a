//! Which pieces of a slide a view needs: of the level that the screen can show, nearest to the middle first.

use super::camera::{Camera, Point, Size};
use crate::slide::messages::{LevelSize, TILE_PX, TileKey};

/// Screen pixels that a pixel of a level may be stretched over before a finer level is read.
const MOST_STRETCH: f64 = 1.25;
/// Most pieces that are wanted at once; more than a large screen shows.
const MOST_WANTED: usize = 256;

/// What is seen of a slide.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Where.
    pub camera: Camera,
    /// How large the panel is.
    pub panel_css: Size,
    /// Screen pixels for each CSS pixel.
    pub pixel_ratio: f64,
}

impl Sight {
    /// The coarsest level that still shows all that the screen can.
    pub fn level(&self, levels: &[LevelSize]) -> Option<usize> {
        let per_px = self.camera.scale * self.pixel_ratio;
        let fine = levels.iter().rposition(|level| level.downsample * per_px <= MOST_STRETCH);
        fine.or((!levels.is_empty()).then_some(0))
    }

    /// The part of the slide in sight: its two corners, in full-resolution pixels.
    pub fn corners_px(&self) -> (Point, Point) {
        let whole = Point { x: self.panel_css.width, y: self.panel_css.height };
        (
            self.camera.px_from_css(Point::default(), self.panel_css),
            self.camera.px_from_css(whole, self.panel_css),
        )
    }

    /// The pieces of a level that are in sight, nearest to the middle first.
    pub fn tiles(&self, levels: &[LevelSize], level: usize) -> Vec<TileKey> {
        let Some(size) = levels.get(level) else { return Vec::new() };
        let side = f64::from(TILE_PX) * size.downsample;
        let (low, high) = self.corners_px();
        let span = |low: f64, high: f64, pixels: u32| {
            let last = pixels.div_ceil(TILE_PX).max(1) - 1;
            let place = |at: f64| (at / side).floor().clamp(0.0, f64::from(last)) as u32;
            (high > 0.0 && low < f64::from(last + 1) * side).then(|| place(low)..=place(high))
        };
        let (Some(columns), Some(rows)) =
            (span(low.x, high.x, size.width_px), span(low.y, high.y, size.height_px))
        else {
            return Vec::new();
        };
        if (columns.clone().count()).saturating_mul(rows.clone().count()) > 16 * MOST_WANTED {
            return Vec::new(); // no screen: the level is far too fine
        }
        let middle = self.camera.center_px;
        let distance = |tile: &TileKey| {
            let x = (f64::from(tile.column) + 0.5) * side - middle.x;
            let y = (f64::from(tile.row) + 0.5) * side - middle.y;
            x.hypot(y)
        };
        let mut tiles: Vec<TileKey> = rows
            .flat_map(|row| columns.clone().map(move |column| TileKey { level: level as u32, column, row }))
            .collect();
        tiles.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)));
        tiles.truncate(MOST_WANTED);
        tiles
    }
}

/// A piece's corners on the slide, in full-resolution pixels.
pub fn tile_corners(levels: &[LevelSize], tile: TileKey) -> Option<(Point, Point)> {
    let size = levels.get(tile.level as usize)?;
    let at = |place: u32, pixels: u32| {
        let low = f64::from(place) * f64::from(TILE_PX);
        (low * size.downsample, (low + f64::from(TILE_PX)).min(f64::from(pixels)) * size.downsample)
    };
    let (left, right) = at(tile.column, size.width_px);
    let (top, bottom) = at(tile.row, size.height_px);
    Some((Point { x: left, y: top }, Point { x: right, y: bottom }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<LevelSize> {
        [1.0, 2.0, 4.0, 8.0, 16.0]
            .map(|downsample| LevelSize {
                downsample,
                width_px: (100_000.0 / downsample) as u32,
                height_px: (80_000.0 / downsample) as u32,
            })
            .to_vec()
    }

    fn sight(scale: f64, x: f64, y: f64) -> Sight {
        let camera = Camera { center_px: Point { x, y }, scale };
        Sight { camera, panel_css: Size { width: 1000.0, height: 700.0 }, pixel_ratio: 1.0 }
    }

    #[test]
    fn the_level_is_as_fine_as_the_screen() {
        let levels = levels();
        for (scale, level) in [(8.0, 0), (1.0, 0), (0.7, 0), (0.6, 1), (0.26, 2), (0.07, 4), (0.001, 4)] {
            assert_eq!(sight(scale, 0.0, 0.0).level(&levels), Some(level), "{scale}");
        }
        let sharp = Sight { pixel_ratio: 2.0, ..sight(0.5, 0.0, 0.0) };
        assert_eq!(sharp.level(&levels), Some(0));
        assert_eq!(sharp.level(&[]), None);
    }

    #[test]
    fn pieces_in_sight_come_from_the_middle_outwards() {
        let levels = levels();
        let sight = sight(1.0, 50_000.0, 40_000.0);
        let tiles = sight.tiles(&levels, 0);
        assert_eq!(tiles[0], TileKey { level: 0, column: 97, row: 78 });
        let (low, high) = sight.corners_px();
        for tile in &tiles {
            let (from, to) = tile_corners(&levels, *tile).unwrap();
            assert!(to.x > low.x && from.x <= high.x && to.y > low.y && from.y <= high.y, "{tile:?}");
        }
        assert_eq!(tiles.len(), 3 * 2);
    }

    #[test]
    fn nothing_beyond_the_slide_is_wanted() {
        let levels = levels();
        let tiles = sight(0.25, 100_000.0, 80_000.0).tiles(&levels, 2);
        assert!(
            !tiles.is_empty() && tiles.iter().all(|tile| tile.column <= 48 && tile.row <= 39),
            "{tiles:?}"
        );
        assert_eq!(sight(1.0, -5000.0, 0.0).tiles(&levels, 0), []);
        // A level that no screen could show at this magnification.
        assert_eq!(sight(0.0001, 50_000.0, 40_000.0).tiles(&levels, 0), []);
        let last = tile_corners(&levels, TileKey { level: 0, column: 195, row: 156 }).unwrap().1;
        assert_eq!((last.x, last.y), (100_000.0, 80_000.0));
    }
}
