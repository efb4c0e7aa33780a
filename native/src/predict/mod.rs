//! Slide and bundle to map files.
//!
//! Patches are read and decoded ahead of the device (`stream`), what is finished goes to the disk (`spool`), what cannot be
//! read costs its own bins (`faults`); the writers read rows from the disk. Memory holds a few small numbers for each bin.

mod faults;
mod meter;
pub mod positions;
mod spool;
mod stream;
#[cfg(test)]
mod tests;
mod wide_features;
mod write;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::RowSource;
use magnet_core::map::PredictedMap;
use magnet_core::predict::{
    Places, PredictOptions, SlidePrediction, TissueError, centers_px, layout_of_bins, tissue_places,
};
use magnet_core::slide::PatchReader;
use magnet_core::slide::pyramid::CutOff;
use magnet_core::{Level, PerLevel};
use serde_json::{Value, json};

use crate::cli::PredictArgs;
use crate::console::Console;
use crate::device;
use crate::error::{InputError, Interrupted};
use crate::files::{OutputFolder, Overwrite};
use crate::model_file::{ModelFile, PROGRAM};
use crate::slide_file::{FileDigest, OpenedSlide, open_slide};
use faults::{CutOffOf, Faults};
use spool::{RunKey, Spool, SpoolRows};
use stream::Stream;
use wide_features::{Read, wide_features};

pub use stream::Job;

/// Held-out Pearson below which a gene's map says little.
const WEAK_PEARSON: f32 = 0.1;
/// Maps drawn when no gene is named.
const DEFAULT_MAPS: usize = 4;
/// Part of the bins that may fail before a run is given up.
const MAX_FAILED: f64 = 0.1;

/// Predicts the slide of `--image` and writes maps and values.
///
/// # Errors
/// If an input is wrong, too much of the slide cannot be read, the device fails, or the output cannot be written.
pub fn run(args: &PredictArgs, console: &Console) -> Result<()> {
    let level = Level::from(args.level);
    // Asked first, so that an output that may not be replaced is refused before the work.
    drop(OutputFolder::create(&args.out, Overwrite::from(args.overwrite))?);
    let partial = Spool::folder_of(&args.out);
    if Spool::exists(&partial) && !args.resume && !args.overwrite {
        let expected = "no unfinished run (--resume continues it, --overwrite begins anew)";
        return Err(InputError::in_file(&partial, "output", expected, "one").into());
    }
    let chosen = device::choose(args.device.device, console)?;
    let precision = chosen.precision(args.half)?;
    let model = ModelFile::load(&args.model, &chosen.device, precision)?;
    model.check_level(level)?;
    let architecture = model.model.config().architecture;
    if args.half && !architecture.has_resnet() {
        let expected = "a model with a ResNet, which is what calculates with 16-bit floats";
        return Err(InputError::in_file(&args.model, "--half", expected, architecture.name()).into());
    }
    let genes = if args.genes.is_empty() {
        model.best_genes(level, DEFAULT_MAPS)
    } else {
        model.genes(&args.genes)?
    };
    let slide = open_slide(&args.image, args.mpp, console)?;
    if let Some(cut) = &slide.cut_off {
        console.warn(CutOffOf(&args.image, cut));
        // The mask takes what is missing for glass: nobody would notice the tissue that was there.
        if args.positions.is_none() && args.region.is_none() && cut.beyond_end > cut.tiles / 10 {
            let expected =
                "at least nine tenths of its tiles (--region or --positions predict a part that is there)";
            let found = format!("{} of {} past the end of the file", cut.beyond_end, cut.tiles);
            return Err(InputError::in_file(&args.image, "slide", expected, found).into());
        }
    }
    let digest = FileDigest::start(&args.image)?;
    let places = places(args, &slide, &model, console)?;
    let config = model.model.config();
    let layout = layout_of_bins(&places.centers_px, slide.um_per_px, config)?;
    console.say(format_args!(
        "{} bins, {} spot and {} region tiles",
        layout.centers.bin.len(),
        layout.centers.spot.len(),
        layout.centers.region.len()
    ));
    let read = wide_features(args, &model, &slide, &layout, &digest, &chosen.device, console)?;
    let features = read.as_ref().map(|read| (&read.spot, &read.region));
    let options = to_disk(args.augment);
    let job = Job {
        model: &model,
        slide: &slide.reader,
        layout: &layout,
        features,
        options,
        device: &chosen.device,
        console,
    };
    let began = Instant::now();
    let (spool, predicted) = predict_to_disk(job, args, &partial, &digest, read.as_ref())?;
    let seconds = began.elapsed().as_secs_f64();
    let image_sha256 = digest.wait(console)?;
    let map = PredictedMap {
        bundle: &model.bundle,
        model_sha256: &model.sha256,
        program: PROGRAM,
        slide_name: &slide_name(&args.image),
        image_sha256: &image_sha256,
        region: None,
        um_per_px: slide.um_per_px,
        level,
        names: &places.level_names(&layout, level),
        centers_um: layout.centers.get(level),
        centers_px: &centers_px(&layout, level, slide.um_per_px),
        values: &predicted.rows,
        complete: predicted.faults.count(level) == 0,
        precision,
    };
    let channels = if args.genes.is_empty() { &[] } else { genes.as_slice() };
    let wanted = write::Wanted { formats: &args.formats, genes: &genes, channels };
    let write = || -> Result<Vec<String>> {
        let output = OutputFolder::create(&args.out, Overwrite::from(args.overwrite))?;
        let written = write::write(&map, &slide.reader, output.path(), wanted, console)?;
        output.commit()?;
        Ok(written)
    };
    let written = write().inspect_err(|_| advise(&spool, console))?;
    spool.remove()?;
    warn_of_weak_genes(&model, level, &genes, console);
    let region = args.region.map(|region| {
        let on_slide = region.on_slide(slide.reader.width_px(), slide.reader.height_px());
        json!({
            "asked_px": region.to_string(),
            "predicted_px": on_slide.to_string(),
            "beyond_slide": on_slide != region,
        })
    });
    report(
        args,
        console,
        &model,
        &genes,
        &predicted,
        &Done { seconds, written, region, cut_off: slide.cut_off },
    )
}

/// How a slide is gone through, with predictions that go to the disk.
pub fn to_disk(dihedral_average: bool) -> PredictOptions {
    PredictOptions { dihedral_average, keep_values: false, ..PredictOptions::default() }
}

fn slide_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A prediction that lies on the disk.
struct OnDisk {
    rows: SpoolRows,
    faults: Faults,
    /// Bins that this run predicted itself, over all passes.
    new_bins: usize,
    bins: usize,
}

/// Predicts into the spool, from where an earlier run left it.
fn predict_to_disk(
    job: Job<'_>,
    args: &PredictArgs,
    partial: &Path,
    digest: &FileDigest,
    features: Option<&Read>,
) -> Result<(Spool, OnDisk)> {
    let console = job.console;
    let mut stream = Stream::new(job)?;
    let resume = args.resume && Spool::can_be_continued(partial)?;
    let known_image = resume || digest.is_ready();
    let key = RunKey {
        model_sha256: job.model.sha256.clone(),
        image_sha256: if known_image { digest.wait(console)? } else { String::new() },
        features_sha256: features.map_or_else(String::new, Read::sha256),
        run: stream.run.identity(),
        half: args.half,
    };
    let mut spool = if resume {
        Spool::resume(partial, key, &mut stream.run)?
    } else {
        if args.resume {
            console.say(format_args!("{}: nothing to resume, beginning", partial.display()));
        }
        Spool::begin(partial, key, &stream.run)?
    };
    let faults = spool.faults()?;
    if let Some(read) = features {
        read.note_in(&faults);
    }
    let before = stream.run.progress().bins_done;
    if before > 0 {
        let all = stream.run.progress().bins_total;
        console.say(format_args!("resuming: {before} of {all} bins are done"));
    }
    let bins = job.layout.centers.bin.len();
    let done = stream.drive(Some(&faults), |piece| {
        spool.append(piece)?;
        if !spool.knows_image() && digest.is_ready() {
            spool.set_image(&digest.wait(console)?)?;
        }
        check_faults(&faults, bins, &args.image)
    });
    let done = done.and_then(|()| faults.sync()).and_then(|()| spool.sync());
    if let Err(error) = done {
        return Err(left_behind(error, spool, digest, console));
    }
    let level = Level::from(args.level);
    let rows = spool.rows(&stream.run, level, job.model.model.config().genes, &faults)?;
    let new_bins = stream.run.progress().bins_done - before;
    Ok((spool, OnDisk { rows, faults, new_bins, bins }))
}

/// The error of a run with a word on what is left of it. A run that has finished nothing leaves nothing.
fn left_behind(
    error: anyhow::Error,
    mut spool: Spool,
    digest: &FileDigest,
    console: &Console,
) -> anyhow::Error {
    let interrupted = error.is::<Interrupted>();
    // With bad input nothing is worth continuing.
    if spool.is_empty() || error.is::<InputError>() {
        let removed = spool.remove();
        return match (interrupted, removed) {
            (true, Ok(())) => Interrupted("nothing was written".into()).into(),
            _ => error,
        };
    }
    let kept = (|| -> Result<()> {
        spool.sync()?;
        spool.set_image(&digest.wait(console)?)
    })();
    if kept.is_ok() {
        advise(&spool, console);
    }
    error
}

/// Says how what is predicted is not lost.
fn advise(spool: &Spool, console: &Console) {
    console.warn(format_args!(
        "what is predicted lies in {}; the same command with --resume continues from there",
        spool.folder().display()
    ));
}

/// Gives a run up of which too much cannot be read.
fn check_faults(faults: &Faults, bins: usize, image: &Path) -> Result<()> {
    let failed = faults.count(Level::Bin);
    if failed as f64 <= bins as f64 * MAX_FAILED {
        return Ok(());
    }
    let regions: Vec<_> = faults.regions().iter().take(3).map(|region| region.error.clone()).collect();
    let expected = format!("a slide of which at most {:.0} % of the bins cannot be read", MAX_FAILED * 100.0);
    let found = format!("{failed} of {bins} that cannot: {}", regions.join("; "));
    Err(InputError::in_file(image, "image", expected, found).into())
}

/// Predicts every node into memory, for slides that are measured too.
///
/// # Errors
/// If the slide cannot be read or the device fails, and [`Interrupted`].
pub fn predict_whole(job: Job<'_>) -> Result<SlidePrediction> {
    let mut stream = Stream::new(job)?;
    stream.drive(None, |_| Ok(())).map_err(|error| match error.is::<Interrupted>() {
        true => Interrupted("nothing was written".into()).into(),
        false => error,
    })?;
    Ok(stream.into_prediction())
}

/// Where to predict: the given places or the tissue, within the region.
fn places(args: &PredictArgs, slide: &OpenedSlide, model: &ModelFile, console: &Console) -> Result<Places> {
    let mut places = match &args.positions {
        Some(path) => positions::read(path, slide.reader.width_px(), slide.reader.height_px())?,
        None => places_on_tissue(slide, model)?,
    };
    if let Some(region) = &args.region {
        let inside = |center: &SlidePx| region.contains(*center);
        let kept: Vec<bool> = places.centers_px.iter().map(inside).collect();
        let mut keep = kept.iter();
        places.names.retain(|_| keep.next() == Some(&true));
        let mut keep = kept.iter();
        places.centers_px.retain(|_| keep.next() == Some(&true));
        if places.centers_px.is_empty() {
            let (width, height) = (slide.reader.width_px(), slide.reader.height_px());
            let expected = format!("bins within it (the slide has {width} × {height} px)");
            return Err(InputError::in_flag("--region", region, expected, "none").into());
        }
        let on_slide = region.on_slide(slide.reader.width_px(), slide.reader.height_px());
        if on_slide != *region {
            console.warn(format_args!(
                "--region {region} reaches beyond the slide: {on_slide} of it is predicted"
            ));
        }
    }
    Ok(places)
}

/// The tiles of the model's bin size that lie on tissue.
fn places_on_tissue(slide: &OpenedSlide, model: &ModelFile) -> Result<Places> {
    tissue_places(&slide.reader, model.model.config()).map_err(|error| match error {
        TissueError::NoTissue { tile_um, width_um, height_um } => InputError::in_file(
            &slide.path,
            "tissue",
            format!("stained tissue on tiles of {tile_um} µm (or places to predict, as --positions)"),
            format!("none on {width_um:.0} × {height_um:.0} µm; is the pixel size right?"),
        )
        .into(),
        TissueError::Slide(error) => anyhow::Error::from(error).context(slide.path.display().to_string()),
    })
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

/// What a run took and left.
struct Done {
    seconds: f64,
    /// Names of the files.
    written: Vec<String>,
    /// What `--region` came to.
    region: Option<Value>,
    /// What lies past the end of the slide's file.
    cut_off: Option<CutOff>,
}

/// What was done, for people and for programs.
fn report(
    args: &PredictArgs,
    console: &Console,
    model: &ModelFile,
    genes: &[usize],
    predicted: &OnDisk,
    done: &Done,
) -> Result<()> {
    let Done { seconds, written, region, cut_off } = done;
    let symbols = &model.bundle.metadata.panel.symbols;
    let drawn: Vec<_> = genes.iter().filter_map(|&gene| symbols.get(gene)).collect();
    let rate = predicted.new_bins as f64 / seconds.max(1e-9);
    let (rows, cols) = (predicted.rows.rows(), predicted.rows.cols());
    let text = format!(
        "{rows} {} values of {cols} genes in {seconds:.1} s ({rate:.0} bins/s) → {}\n  {}",
        Level::from(args.level),
        args.out.display(),
        written.join("\n  ")
    );
    let faults = &predicted.faults;
    let failed = PerLevel::from_fn(|level| faults.count(level));
    let regions = faults.regions();
    for region in &regions {
        let [left, top, right, bottom] = region.centers_px;
        console.warn(format_args!(
            "{} patches around ({left:.0}, {top:.0}) to ({right:.0}, {bottom:.0}) px could not be read whole: {}",
            region.patches, region.error
        ));
    }
    if let Some(cut) = cut_off {
        console.warn(CutOffOf(&args.image, cut));
    }
    if !regions.is_empty() {
        console.warn(format_args!(
            "not predicted: {} of {} bins, {} spot and {} region tiles; they are empty in the tables",
            failed.bin, predicted.bins, failed.spot, failed.region
        ));
    }
    let value = json!({
        "out": args.out,
        "files": written,
        "level": Level::from(args.level),
        "region": region,
        "observations": rows,
        "genes": cols,
        "drawn": drawn,
        "seconds": seconds,
        "bins": predicted.bins,
        "bins_per_second": rate,
        "failed": failed,
        "unread": regions,
        "cut_off": cut_off.as_ref().map(|cut| json!({
            "tiles": cut.tiles,
            "beyond_end": cut.beyond_end,
            "file_bytes": cut.file_bytes,
            "expected_bytes": cut.expected_bytes,
        })),
    });
    console.result(&text, &value)?;
    Ok(())
}
