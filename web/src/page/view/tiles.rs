//! Pieces of a slide that have come, within a bound of memory, and how they are drawn.

use std::collections::HashMap;
use std::rc::Rc;

use web_sys::{CanvasRenderingContext2d, ImageBitmap};

use super::deep_zoom::{Sight, tile_corners};
use crate::slide::messages::{SlideSummary, TileKey};

/// Most pieces that are kept; each has 1 MB.
const KEPT: usize = 192;
/// Coarser levels that stand in for pieces that have not come yet.
const STAND_INS: usize = 3;

/// A piece, or that it cannot be had.
#[derive(Debug)]
struct Piece {
    bitmap: Option<ImageBitmap>,
    used: u64,
}

impl Drop for Piece {
    fn drop(&mut self) {
        // The browser would free it only when it collects garbage, and does not know how large it is.
        if let Some(bitmap) = &self.bitmap {
            bitmap.close();
        }
    }
}

/// The pieces of one slide.
#[derive(Debug, Default)]
pub struct Tiles {
    slide: Option<Rc<SlideSummary>>,
    pieces: HashMap<TileKey, Piece>,
    /// What was asked for last and has not come.
    asked: Vec<TileKey>,
    clock: u64,
}

impl Tiles {
    /// Shows another slide, or none.
    pub fn set_slide(&mut self, slide: Option<&Rc<SlideSummary>>) {
        let same = match (&self.slide, slide) {
            (Some(shown), Some(slide)) => Rc::ptr_eq(shown, slide),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *self = Self { slide: slide.cloned(), ..Self::default() };
        }
    }

    /// Whether there is a slide to show.
    pub fn has_slide(&self) -> bool {
        self.slide.is_some()
    }

    /// Takes a piece over.
    pub fn insert(&mut self, tile: TileKey, bitmap: Option<ImageBitmap>) {
        self.clock += 1;
        self.asked.retain(|asked| *asked != tile);
        self.pieces.insert(tile, Piece { bitmap, used: self.clock });
        if self.pieces.len() > KEPT {
            let oldest = self.pieces.iter().min_by_key(|(_, piece)| piece.used).map(|(&tile, _)| tile);
            oldest.and_then(|tile| self.pieces.remove(&tile));
        }
    }

    /// What is to be asked for so that this can be seen; `None` where that was asked already. `overview_px` is the width
    /// of the slide in little, which serves where it is fine enough.
    pub fn missing_from(&mut self, sight: &Sight, overview_px: u32) -> Option<Vec<TileKey>> {
        let slide = self.slide.as_ref()?;
        let level = sight.level(&slide.levels)?;
        let overview = f64::from(slide.width_px) / f64::from(overview_px.max(1));
        let needed = slide.levels.get(level).is_some_and(|size| size.downsample * 1.05 < overview);
        let mut tiles = if needed { sight.tiles(&slide.levels, level) } else { Vec::new() };
        tiles.retain(|tile| !self.pieces.contains_key(tile));
        if tiles == self.asked {
            return None;
        }
        self.asked.clone_from(&tiles);
        Some(tiles)
    }

    /// Asks for everything anew: whoever was asked is gone.
    pub fn forget_asked(&mut self) {
        self.asked.clear();
    }

    /// Whether pieces in sight are still to come.
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Draws what is there, coarse pieces below fine ones. The context counts in CSS pixels.
    pub fn draw(&mut self, context: &CanvasRenderingContext2d, sight: &Sight) {
        let Some(slide) = self.slide.clone() else { return };
        let Some(finest) = sight.level(&slide.levels) else { return };
        self.clock += 1;
        let seen = sight.tiles(&slide.levels, finest);
        let is_whole = seen.iter().all(|tile| self.pieces.contains_key(tile));
        let coarsest = if is_whole { finest } else { (finest + STAND_INS).min(slide.levels.len() - 1) };
        context.set_image_smoothing_enabled(sight.camera.scale * sight.pixel_ratio < 3.0);
        for level in (finest..=coarsest).rev() {
            for tile in sight.tiles(&slide.levels, level) {
                let Some(piece) = self.pieces.get_mut(&tile) else { continue };
                piece.used = self.clock;
                let (Some(bitmap), Some((low, high))) = (&piece.bitmap, tile_corners(&slide.levels, tile))
                else {
                    continue;
                };
                // On whole screen pixels, so that no seam shows between pieces.
                let snap = |css: f64| (css * sight.pixel_ratio).round() / sight.pixel_ratio;
                let (low, high) = (
                    sight.camera.css_from_px(low, sight.panel_css),
                    sight.camera.css_from_px(high, sight.panel_css),
                );
                let (left, top) = (snap(low.x), snap(low.y));
                let (width, height) = (snap(high.x) - left, snap(high.y) - top);
                let _ = context.draw_image_with_image_bitmap_and_dw_and_dh(bitmap, left, top, width, height);
            }
        }
    }
}
