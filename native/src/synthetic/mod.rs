//! Synthetic H&E tissue whose expression follows a known program.
//!
//! A [`tissue::Tissue`] is grown in µm from a seed; [`render`] draws it as an H&E image, [`morphology`] measures what
//! each bin holds and what lies around it, [`program`] says what every gene makes of that, and [`counts`] draws the
//! counts. Because the program is known, a test can ask whether a model recovers it, gene group by gene group, and how
//! close it comes to the ceiling that the counts' own noise sets.

pub mod counts;
mod fields;
mod generate;
pub mod morphology;
mod noise;
pub mod program;
mod recovery;
pub mod render;
pub mod stain;
pub mod tissue;
pub mod visium_hd_writer;
pub mod whole_slide;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::error::InputError;
use counts::Truth;
use morphology::Morphology;
use program::{GeneGroup, Program};
use stain::Stain;
use tissue::Tissue;

pub use generate::{PROGRAM_FILE, ProgramFile, SlideSummary, Summary, generate, run};
pub use recovery::{GroupRecovery, recovery};

/// Longest side of an image that the generator draws, in pixels.
const MAX_SIDE_PX: f64 = 40_000.0;

/// What to generate. The same configuration gives the same slides, pixel for pixel and count for count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticConfig {
    /// Seed of the tissue, the stains, the program and the counts.
    pub seed: u64,
    /// Number of slides.
    pub slides: usize,
    /// Side of each square slide, µm; the tissue leaves a margin of bare glass.
    pub side_um: f64,
    /// Size of an image pixel, µm.
    pub um_per_px: f64,
    /// Number of genes, dealt in turn to the groups of [`GeneGroup::ALL`].
    pub genes: usize,
    /// Mean number of counts in an 8 µm bin on tissue.
    pub depth: f64,
    /// Over-dispersion `φ` of the counts (variance `μ + φ·μ²`) of all genes but the noise genes.
    pub dispersion: f64,
    /// Differences in stain and light between slides: 0 none, 1 as between laboratories.
    pub stain_variation: f64,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            seed: 7,
            slides: 4,
            side_um: 1024.0,
            um_per_px: 0.5,
            genes: 100,
            depth: 400.0,
            dispersion: 0.05,
            stain_variation: 1.0,
        }
    }
}

impl SyntheticConfig {
    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    /// Names the first value out of range, what was expected and what was found.
    pub fn validate(&self) -> Result<(), InputError> {
        let check = |good: bool, field: &str, expected: String, found: &dyn std::fmt::Display| {
            if good { Ok(()) } else { Err(InputError::in_flag("synthetic tissue", field, expected, found)) }
        };
        let within = |field: &str, value: f64, low: f64, high: f64| {
            check((low..=high).contains(&value), field, format!("a number from {low} to {high}"), &value)
        };
        within("slides", self.slides as f64, 1.0, 1000.0)?;
        within("side_um", self.side_um, 160.0, 20_000.0)?;
        within("um_per_px", self.um_per_px, 0.1, 4.0)?;
        within("genes", self.genes as f64, GeneGroup::ALL.len() as f64, 20_000.0)?;
        within("depth", self.depth, 1.0, 1e6)?;
        within("dispersion", self.dispersion, 0.0, 10.0)?;
        within("stain_variation", self.stain_variation, 0.0, 3.0)?;
        let side_px = self.side_um / self.um_per_px;
        check(
            side_px <= MAX_SIDE_PX,
            "side_um / um_per_px",
            format!("an image of at most {MAX_SIDE_PX} px on a side"),
            &format!("{side_px:.0} px"),
        )
    }

    /// The program that all slides share.
    pub fn program(&self) -> Program {
        Program::new(self.seed, self.genes, self.dispersion)
    }

    /// Name of a slide, counted from 0.
    pub fn slide_id(&self, slide: usize) -> String {
        format!("synthetic_{}", slide + 1)
    }
}

/// One slide of a configuration, grown but not drawn.
#[derive(Debug, Clone)]
pub struct SyntheticSlide {
    /// Name of the slide.
    pub id: String,
    /// The seed that only this slide has.
    pub seed: u64,
    /// What lies where.
    pub tissue: Tissue,
    /// Its stain and light.
    pub stain: Stain,
    um_per_px: f64,
    depth: f64,
}

impl SyntheticSlide {
    /// Grows slide number `slide`, counted from 0.
    pub fn grow(config: &SyntheticConfig, slide: usize) -> Self {
        let seed = stain::slide_seed(config.seed, slide);
        Self {
            id: config.slide_id(slide),
            seed,
            tissue: Tissue::grow(config.side_um, seed),
            stain: Stain::of_slide(seed, config.stain_variation),
            um_per_px: config.um_per_px,
            depth: config.depth,
        }
    }

    /// Draws the slide's image.
    pub fn image(&self) -> RgbImage {
        render::render(&self.tissue, &self.stain, self.seed, self.um_per_px)
    }

    /// The noise-free truth of the 8 µm bins; [`Truth::wide`] gives that of the 16 µm bins.
    pub fn truth(&self, program: &Program) -> Truth {
        Truth::of(program, &Morphology::of(&self.tissue), self.depth)
    }
}

#[cfg(test)]
mod tests;
