//! From a configuration to a folder of slides and the file that states the truth about them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::counts::wide_counts;
use super::morphology::{BIN_UM, WIDE_BIN_UM};
use super::program::{MODULATED_SHARE, Program};
use super::stain::Stain;
use super::visium_hd_writer::{BinnedCounts, write_binned_outputs, write_image};
use super::whole_slide::write_whole_slide;
use super::{SyntheticConfig, SyntheticSlide};
use crate::cli::SynthesizeArgs;
use crate::console::Console;
use crate::files::{OutputFolder, Overwrite, write_atomic};

/// Name of the file that states the truth.
pub const PROGRAM_FILE: &str = "program.json";
/// The first key of that file.
const FORMAT: &str = "magnet synthetic program 1";

/// How an expected count follows from the program, in words, for whoever opens `program.json`.
const DEFINITION: &str = "Expected counts of gene g in an 8 µm bin: library · p_g, where the p_g of a bin sum to one. \
Genes with a driver other than composition: p_g = abundance · m, with m = low + (high - low) · d / (d + half_per_um2) for \
neighborhood (d: nuclei of kind `of` per µm² in the bins whose centres lie at inner_um <= distance < outer_um), m = low + \
(high - low) · z for gradient (z in 0..1: how crowded with nuclei the wider region is), and m = 1 for constant. Their \
abundances sum to modulated_share. The rest of the bin, 1 - Σ p_g, is divided among the composition genes in proportion to \
abundance · (0.03 + Σ weights · share of each kind of cell + lumen · closeness to a lumen · share of epithelium), kinds in \
the order epithelial, stromal, tumor, immune. Counts are negative binomial with variance μ + dispersion · μ²; counts of 16 µm bins \
are sums of four. The noise-free label of a bin is ln(1 + 10,000 · p_g).";

/// `program.json`: the configuration, the genes with their drivers, and the slides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramFile {
    /// Names the format and its version.
    pub format: String,
    /// The definition of an expected count, in words.
    pub definition: String,
    /// What was asked for; the same configuration gives the same slides.
    pub config: SyntheticConfig,
    /// Sum of the abundances of the genes with a driver other than composition.
    pub modulated_share: f64,
    /// The genes, in the order of the matrices.
    pub genes: Program,
    /// The slides.
    pub slides: Vec<SlideSummary>,
}

/// What was written for one slide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlideSummary {
    /// Name of the slide and of its folder.
    pub id: String,
    /// Its own seed.
    pub seed: u64,
    /// Its stain and light.
    pub stain: Stain,
    /// Side of its square image, in pixels.
    pub side_px: u32,
    /// Number of 8 µm bins on tissue.
    pub bins_8um: usize,
    /// Number of 16 µm bins on tissue.
    pub bins_16um: usize,
    /// Counts per 8 µm bin on tissue, mean.
    pub counts_per_bin: f64,
    /// Number of nuclei.
    pub nuclei: usize,
}

/// What [`generate`] wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The folder.
    pub out: PathBuf,
    /// Its slides; slide `id` lies in the folder of that name.
    pub slides: Vec<SlideSummary>,
    /// Number of genes.
    pub genes: usize,
}

/// Writes all slides of a configuration and [`PROGRAM_FILE`] into the folder `out`, which appears only when complete.
/// Each slide is a folder of Space Ranger's Visium HD layout that also holds its image `<id>.tif`.
///
/// # Errors
/// When the configuration is out of range, `out` holds something and may not be replaced, or a file cannot be written.
pub fn generate(
    config: &SyntheticConfig,
    out: &Path,
    overwrite: Overwrite,
    console: &Console,
) -> Result<Summary> {
    config.validate()?;
    let folder = OutputFolder::create(out, overwrite)?;
    let program = config.program();
    let bar = console.bar(config.slides as u64, "drawing", "slides");
    let mut slides = Vec::with_capacity(config.slides);
    for index in 0..config.slides {
        slides.push(write_slide(config, &program, index, folder.path())?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let truth = ProgramFile {
        format: FORMAT.to_owned(),
        definition: DEFINITION.to_owned(),
        config: config.clone(),
        modulated_share: MODULATED_SHARE,
        genes: program,
        slides,
    };
    let json = serde_json::to_vec_pretty(&truth).context("cannot write the program as JSON")?;
    write_atomic(&folder.path().join(PROGRAM_FILE), &json, Overwrite::No)?;
    folder.commit()?;
    Ok(Summary { out: out.to_path_buf(), slides: truth.slides, genes: config.genes })
}

fn write_slide(
    config: &SyntheticConfig,
    program: &Program,
    index: usize,
    out: &Path,
) -> Result<SlideSummary> {
    let slide = SyntheticSlide::grow(config, index);
    let folder = out.join(&slide.id);
    let image = slide.image();
    write_image(&folder, &slide.id, &image, config.um_per_px)?;
    let truth = slide.truth(program);
    let counts = truth.draw(program, slide.seed)?;
    let (wide_in_tissue, wide) = wide_counts(truth.grid, &truth.in_tissue, &counts)?;
    let sizes = [
        BinnedCounts { grid: truth.grid, in_tissue: &truth.in_tissue, counts: &counts },
        BinnedCounts { grid: truth.grid.wide(), in_tissue: &wide_in_tissue, counts: &wide },
    ];
    write_binned_outputs(&folder, &image, config.um_per_px, program, &sizes)?;
    let total: f64 = counts.values.iter().map(|&value| f64::from(value)).sum();
    Ok(SlideSummary {
        seed: slide.seed,
        stain: slide.stain,
        side_px: image.width(),
        bins_8um: truth.in_tissue.len(),
        bins_16um: wide_in_tissue.len(),
        counts_per_bin: total / truth.in_tissue.len().max(1) as f64,
        nuclei: slide.tissue.nuclei.len(),
        id: slide.id,
    })
}

/// The command `synthesize`.
///
/// # Errors
/// As [`generate`], or when stdout cannot be written.
pub fn run(args: &SynthesizeArgs, console: &Console) -> Result<()> {
    let config = SyntheticConfig {
        seed: args.seed,
        slides: args.slides,
        side_um: args.size_um,
        um_per_px: args.mpp,
        ..SyntheticConfig::default()
    };
    if let Some(size_px) = args.whole_slide {
        let folder = OutputFolder::create(&args.out, Overwrite::from(args.overwrite))?;
        let name = write_whole_slide(&config, size_px, folder.path(), console)?;
        folder.commit()?;
        let image = args.out.join(name);
        let value = serde_json::json!({ "image": image, "um_per_px": config.um_per_px });
        console.result(&image.display().to_string(), &value)?;
        return Ok(());
    }
    let summary = generate(&config, &args.out, Overwrite::from(args.overwrite), console)?;
    let mut text = String::new();
    for slide in &summary.slides {
        text += &format!(
            "{}: {} px square, {} bins of {BIN_UM} µm, {} of {WIDE_BIN_UM} µm, {:.0} counts per bin of {BIN_UM} µm\n",
            slide.id, slide.side_px, slide.bins_8um, slide.bins_16um, slide.counts_per_bin
        );
    }
    text +=
        &format!("the truth about the {} genes: {}", summary.genes, args.out.join(PROGRAM_FILE).display());
    console.result(&text, &serde_json::to_value(&summary)?)?;
    Ok(())
}
