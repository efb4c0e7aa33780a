//! Slide and bundle to map files.

mod positions;
mod write;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use cubecl::future::block_on;
use magnet_core::Level;
use magnet_core::digest::sha256_hex;
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::map::PredictedMap;
use magnet_core::predict::{
    Places, PredictOptions, Progress, SlidePrediction, TissueError, centers_px, layout_of_bins,
    predict_slide, tissue_places,
};
use magnet_core::slide::{DecodeLimits, PatchReader, SlideImage, decode};
use serde_json::json;

use crate::cli::PredictArgs;
use crate::console::Console;
use crate::device;
use crate::error::{InputError, Interrupted};
use crate::files::{OutputFolder, Overwrite, read_limited};
use crate::interrupt;
use crate::model_file::{ModelFile, PROGRAM};

/// Pixel sizes that slide images have, in µm: from an oil immersion lens to an overview.
const PLAUSIBLE_UM_PER_PX: std::ops::RangeInclusive<f64> = 0.02..=20.0;
/// Held-out Pearson below which a gene's map says little.
const WEAK_PEARSON: f32 = 0.1;
/// Largest image file that is read, in bytes.
const MAX_IMAGE_BYTES: u64 = 16 << 30;
/// Maps drawn when no gene is named.
const DEFAULT_MAPS: usize = 4;

/// A slide image with what identifies it.
#[derive(Debug)]
pub struct ImageFile {
    /// The pixels.
    pub slide: SlideImage,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
}

/// Predicts the slide of `--image` and writes maps and values.
///
/// # Errors
/// If an input is wrong, the device fails, or the output cannot be written.
pub fn run(args: &PredictArgs, console: &Console) -> anyhow::Result<()> {
    let level = Level::from(args.level);
    // Begun first, so that an output that may not be replaced is refused before the work.
    let output = OutputFolder::create(&args.out, Overwrite::from(args.overwrite))?;
    let chosen = device::choose(args.device.device, console)?;
    let model = ModelFile::load(&args.model, &chosen.device)?;
    model.check_level(level)?;
    let genes = if args.genes.is_empty() {
        model.best_genes(level, DEFAULT_MAPS)
    } else {
        model.genes(&args.genes)?
    };
    let image = read_image(&args.image, args.mpp, console)?;
    let places = match &args.positions {
        Some(path) => positions::read(path, image.slide.width_px(), image.slide.height_px())?,
        None => places_on_tissue(&image.slide, &model, &args.image)?,
    };
    let config = model.model.config();
    let layout = layout_of_bins(&places.centers_px, image.slide.um_per_px(), config)?;
    console.say(format_args!(
        "{} bins, {} spot and {} region tiles",
        layout.centers.bin.len(),
        layout.centers.spot.len(),
        layout.centers.region.len()
    ));
    let options = PredictOptions { dihedral_average: args.augment, ..PredictOptions::default() };
    let began = Instant::now();
    let prediction = predict_with_bar(&model, &image.slide, &layout, None, options, &chosen.device, console)?;
    let seconds = began.elapsed().as_secs_f64();
    let values = prediction.values.get(level);
    let map = PredictedMap {
        bundle: &model.bundle,
        model_sha256: &model.sha256,
        program: PROGRAM,
        slide_name: &args.image.file_stem().unwrap_or_default().to_string_lossy(),
        image_sha256: &image.sha256,
        um_per_px: image.slide.um_per_px(),
        level,
        names: &places.level_names(&layout, level),
        centers_um: layout.centers.get(level),
        centers_px: &centers_px(&layout, level, image.slide.um_per_px()),
        values,
        complete: prediction.complete,
    };
    let written = write::write(&map, &image.slide, output.path(), &genes)?;
    output.commit()?;
    warn_of_weak_genes(&model, level, &genes, console);
    report(args, console, &model, &genes, values, seconds, &written)
}

/// A map always shows some pattern; only the held-out score tells whether to believe it.
fn warn_of_weak_genes(model: &ModelFile, level: Level, genes: &[usize], console: &Console) {
    for &gene in genes {
        if let (Some(pearson), Some(symbol)) =
            (model.bundle.held_out_pearson(level, gene), model.bundle.metadata.panel.symbols.get(gene))
            && pearson < WEAK_PEARSON
        {
            console.warn(format_args!(
                "{symbol}: {} Pearson {pearson:.2}; this model hardly predicts it, whatever the map shows",
                model.bundle.held_out_name()
            ));
        }
    }
}

/// What was done, for people and for programs.
fn report(
    args: &PredictArgs,
    console: &Console,
    model: &ModelFile,
    genes: &[usize],
    values: &Matrix,
    seconds: f64,
    written: &[String],
) -> anyhow::Result<()> {
    let symbols = &model.bundle.metadata.panel.symbols;
    let drawn: Vec<_> = genes.iter().filter_map(|&gene| symbols.get(gene)).collect();
    let rate = values.rows as f64 / seconds.max(1e-9);
    let text = format!(
        "{} {} values of {} genes in {seconds:.1} s ({rate:.0}/s) → {}\n  {}",
        values.rows,
        Level::from(args.level),
        values.cols,
        args.out.display(),
        written.join("\n  ")
    );
    let value = json!({
        "out": args.out,
        "files": written,
        "level": Level::from(args.level),
        "observations": values.rows,
        "genes": values.cols,
        "drawn": drawn,
        "seconds": seconds,
    });
    console.result(&text, &value)?;
    Ok(())
}

/// Reads an image and settles its pixel size: the flag's, else the file's own, which is said; never a guess.
///
/// # Errors
/// If the file is no image, is too large, or nothing tells its pixel size.
pub fn read_image(path: &Path, mpp: Option<f64>, console: &Console) -> anyhow::Result<ImageFile> {
    if let Some(mpp) = mpp
        && !PLAUSIBLE_UM_PER_PX.contains(&mpp)
    {
        let expected = format!(
            "µm per pixel of a microscope's image, {} to {}",
            PLAUSIBLE_UM_PER_PX.start(),
            PLAUSIBLE_UM_PER_PX.end()
        );
        return Err(InputError::in_flag("--mpp", "pixel size", expected, mpp).into());
    }
    let bytes = read_limited(path, MAX_IMAGE_BYTES)?;
    let decoded = decode(&bytes, &DecodeLimits::default())
        .map_err(|error| InputError::in_file(path, "image", "a PNG, JPEG or TIFF slide image", error))?;
    let um_per_px = match (mpp, decoded.embedded_um_per_px) {
        (Some(given), Some(embedded)) if (given / embedded - 1.0).abs() > 0.05 => {
            console.warn(format_args!(
                "{} says {embedded:.4} µm per pixel, --mpp says {given}: taking --mpp",
                path.display()
            ));
            given
        }
        (Some(given), _) => given,
        (None, Some(embedded)) => {
            console.say(format_args!("pixel size {embedded:.4} µm, as {} says", path.display()));
            embedded
        }
        (None, None) => {
            return Err(InputError::in_file(
                path,
                "pixel size",
                "--mpp UM_PER_PX (scanner's protocol, or the slide viewer's properties: 20x is often about 0.5, 40x \
                 about 0.25; for Space Ranger spot_diameter_fullres of scalefactors_json.json is 55 µm)",
                "no pixel size in the image",
            )
            .into());
        }
    };
    let slide = decoded.into_slide(um_per_px).with_context(|| path.display().to_string())?;
    Ok(ImageFile { slide, sha256: sha256_hex(&bytes) })
}

/// The tiles of the model's bin size that lie on tissue.
fn places_on_tissue(slide: &SlideImage, model: &ModelFile, path: &Path) -> anyhow::Result<Places> {
    tissue_places(slide, model.model.config()).map_err(|error| match error {
        TissueError::NoTissue { tile_um, width_um, height_um } => InputError::in_file(
            path,
            "tissue",
            format!("stained tissue on tiles of {tile_um} µm (or places to predict, as --positions)"),
            format!("none on {width_um:.0} × {height_um:.0} µm; is the pixel size right?"),
        )
        .into(),
        TissueError::Slide(error) => error.into(),
    })
}

/// Predicts with a progress bar; Ctrl-C ends it with nothing written.
///
/// # Errors
/// As [`predict_slide`], and [`Interrupted`].
pub fn predict_with_bar(
    model: &ModelFile,
    slide: &SlideImage,
    layout: &SlideLayout,
    features: Option<(&Matrix, &Matrix)>,
    options: PredictOptions,
    device: &burn::tensor::Device,
    console: &Console,
) -> anyhow::Result<SlidePrediction> {
    interrupt::watch();
    let wide = model.wide_source(features)?;
    let bar = console.bar(0, "predict", "patches");
    let step = |at: Progress| {
        bar.set_length((at.tiles_total + at.bins_total) as u64);
        bar.set_position((at.tiles_done + at.bins_done) as u64);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let prediction = block_on(predict_slide(&model.model, slide, layout, wide, options, device, step))?;
    bar.finish_and_clear();
    if !prediction.complete {
        return Err(Interrupted("nothing was written".into()).into());
    }
    Ok(prediction)
}
