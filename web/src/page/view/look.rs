//! What the user chose to see: level, genes, colours, place. It outlives runs and models.

use std::collections::HashMap;

use magnet_core::Level;
use magnet_core::heatmap::{ColorMap, ValueRange};

use super::camera::{Camera, Point};
use super::genes::GeneSort;

/// Most genes side by side.
pub const MAX_PANELS: usize = 4;

/// What is shown and how.
#[derive(Debug, Clone)]
pub struct Look {
    /// The level.
    pub level: Level,
    /// Genes of the panels, at most [`MAX_PANELS`]; empty before a model is open.
    pub genes: Vec<usize>,
    /// The panel that the range sliders and the gene list act on.
    pub active: usize,
    /// Whether choosing a gene adds a panel instead of changing the active one.
    pub side_by_side: bool,
    /// The colour map.
    pub color_map: ColorMap,
    /// Opacity of the map over the image, 0 to 1.
    pub opacity: f32,
    /// Ranges that the user set, by level and gene; others have their default.
    pub ranges: HashMap<(Level, usize), (f64, f64)>,
    /// Order of the gene list.
    pub sort: GeneSort,
    /// Text in the gene search.
    pub query: String,
    /// What part of the image is shown; `None` shows all of it.
    pub camera: Option<Camera>,
    /// The crosshair on the image, in its pixels.
    pub cursor_px: Option<Point>,
    /// Whether a drag chooses a region of the slide instead of moving it.
    pub choosing: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            level: Level::Bin,
            genes: Vec::new(),
            active: 0,
            side_by_side: false,
            color_map: ColorMap::Viridis,
            opacity: 0.75,
            ranges: HashMap::new(),
            sort: GeneSort::HeldOut,
            query: String::new(),
            camera: None,
            cursor_px: None,
            choosing: false,
        }
    }
}

impl Look {
    /// The gene of the active panel.
    pub fn active_gene(&self) -> Option<usize> {
        self.genes.get(self.active).copied()
    }

    /// Shows a gene in the active panel. One that is shown already becomes active.
    pub fn choose(&mut self, gene: usize) {
        if let Some(place) = self.genes.iter().position(|&shown| shown == gene) {
            self.active = place;
        } else if let Some(slot) = self.genes.get_mut(self.active) {
            *slot = gene;
        } else {
            self.genes = vec![gene];
            self.active = 0;
        }
    }

    /// Shows a gene beside the others, or takes it away where it is shown and not the only one. With all panels
    /// taken, the active one changes.
    pub fn toggle(&mut self, gene: usize) {
        if self.genes.contains(&gene) {
            self.remove(gene);
        } else if self.genes.len() < MAX_PANELS {
            self.genes.push(gene);
            self.active = self.genes.len() - 1;
        } else {
            self.choose(gene);
        }
    }

    /// Takes a gene away, unless it is the only one.
    pub fn remove(&mut self, gene: usize) {
        if self.genes.len() > 1 {
            self.genes.retain(|&shown| shown != gene);
            self.active = self.active.min(self.genes.len() - 1);
        }
    }

    /// Keeps only the active panel.
    pub fn keep_active(&mut self) {
        self.genes = self.active_gene().into_iter().collect();
        self.active = 0;
    }

    /// The range of a gene's colours: the user's, or the default from `low` to `high`.
    pub fn range(&self, level: Level, gene: usize, low: f64, high: f64) -> ValueRange {
        let (low, high) = self.ranges.get(&(level, gene)).copied().unwrap_or((low, high));
        range_from(low, high)
    }
}

/// A range from `low` to `high`, or of width 1 where those make none.
pub fn range_from(low: f64, high: f64) -> ValueRange {
    ValueRange::new(low, high)
        .or_else(|| ValueRange::new(low, low + 1.0))
        .unwrap_or_else(|| ValueRange::of([0.0, 1.0], 0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genes_come_and_go() {
        let mut look = Look::default();
        assert_eq!(look.active_gene(), None);
        look.choose(7);
        look.choose(3);
        assert_eq!((look.genes.clone(), look.active), (vec![3], 0));
        for gene in [4, 5, 6] {
            look.toggle(gene);
        }
        assert_eq!((look.genes.clone(), look.active), (vec![3, 4, 5, 6], 3));
        look.toggle(9); // all taken
        assert_eq!(look.genes, [3, 4, 5, 9]);
        look.choose(4);
        assert_eq!(look.active_gene(), Some(4));
        look.toggle(3);
        assert_eq!((look.genes.clone(), look.active_gene()), (vec![4, 5, 9], Some(5)));
        look.keep_active();
        look.toggle(5); // the only one stays
        assert_eq!(look.genes, [5]);
    }

    #[test]
    fn ranges_are_the_users_or_the_default() {
        let mut look = Look::default();
        look.ranges.insert((Level::Spot, 2), (0.5, 1.5));
        assert_eq!(look.range(Level::Spot, 2, 0.0, 9.0), range_from(0.5, 1.5));
        assert_eq!(look.range(Level::Bin, 2, 0.0, 9.0), range_from(0.0, 9.0));
        assert_eq!((range_from(2.0, 2.0).low(), range_from(2.0, 2.0).high()), (2.0, 3.0));
        assert_eq!(range_from(f64::NAN, 1.0).high(), 1.0);
    }
}
