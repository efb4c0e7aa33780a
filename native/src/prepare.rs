//! The `prepare` commands: arguments to dataset, summary to the user.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::{
    FrameArg, PrepareAutoArgs, PrepareCommand, PrepareH5adArgs, PrepareStArgs, PrepareVisiumArgs,
    PrepareVisiumHdArgs,
};
use crate::console::Console;
use crate::dataset::detect::{Source, detect};
use crate::dataset::h5ad::{CoordinateFrame, H5adOptions};
use crate::dataset::hest::HestOptions;
use crate::dataset::prepare::Summary;
use crate::dataset::st::StOptions;
use crate::dataset::visium::VisiumOptions;
use crate::dataset::visium_hd::VisiumHdOptions;
use crate::error::InputError;
use crate::files::Overwrite;

/// Prepares the slides of a source.
///
/// # Errors
/// If a source file is wrong, a slide is there already, or the dataset cannot be written.
pub fn run(command: &PrepareCommand, console: &Console) -> Result<()> {
    match command {
        PrepareCommand::St(args) => tell(&st(args).run()?, &args.dataset.out, console),
        PrepareCommand::Visium(args) => tell(&visium(args).run()?, &args.dataset.out, console),
        PrepareCommand::VisiumHd(args) => tell(&visium_hd(args).run()?, &args.dataset.out, console),
        PrepareCommand::H5ad(args) => tell(&h5ad(args).run()?, &args.dataset.out, console),
        PrepareCommand::Hest(args) => hest(args.input.clone(), args.samples.clone(), console),
        PrepareCommand::Auto(args) => auto(args, console),
    }
}

fn tell(summary: &Summary, out: &Path, console: &Console) -> Result<()> {
    let mut text = String::new();
    for slide in &summary.slides {
        text.push_str(&format!("{slide}\n"));
    }
    text.push_str(&format!("→ {}", out.display()));
    console.result(&text, &serde_json::to_value(summary)?)?;
    Ok(())
}

fn hest(input: PathBuf, samples: Vec<String>, console: &Console) -> Result<()> {
    let shown = input.display().to_string();
    let report = HestOptions { input, samples }.run()?;
    let text = format!("{report}\n→ --data {shown}");
    console.result(&text, &serde_json::to_value(&report)?)?;
    Ok(())
}

/// Prepares what a path holds with what the user said, and the defaults for the rest.
fn auto(args: &PrepareAutoArgs, console: &Console) -> Result<()> {
    let found = detect(&args.input)?;
    console.say(format_args!("found: {found}"));
    let overwrite = Overwrite::from(args.overwrite);
    let (input, image, id) = (found.path.clone(), args.image.clone(), args.id.clone());
    let unused = |flag: &str, given: bool| {
        if given {
            console.warn(format_args!("{flag} means nothing to {}", found.source.command()));
        }
    };
    let out = || {
        let wanted = "the folder of the prepared dataset";
        args.out.clone().ok_or_else(|| InputError::in_flag("--out", "value", wanted, "nothing"))
    };
    if !matches!(found.source, Source::H5ad) {
        unused("--library", args.library.is_some());
        unused("--layer", args.layer.is_some());
    }
    let summary = match found.source {
        Source::Hest => {
            let given =
                [("--image", image.is_some()), ("--mpp", args.mpp.is_some()), ("--out", args.out.is_some())];
            given.into_iter().for_each(|(flag, given)| unused(flag, given));
            return hest(input, Vec::new(), console);
        }
        Source::St => {
            unused("--image", image.is_some());
            let samples = id.into_iter().collect();
            StOptions { input, out: out()?, samples, pixel_size_um: args.mpp, overwrite }.run()?
        }
        Source::Visium => {
            unused("--bin-um", args.bin_um.is_some());
            let (out, pixel_size_um) = (out()?, args.mpp);
            VisiumOptions { input, image, out, id, pixel_size_um, off_tissue: false, overwrite }.run()?
        }
        Source::VisiumHd => {
            unused("--mpp", args.mpp.is_some());
            let (out, bin_um) = (out()?, args.bin_um.unwrap_or(8.0));
            VisiumHdOptions { input, image, out, bin_um, id, off_tissue: false, overwrite }.run()?
        }
        Source::H5ad => {
            let image = image.ok_or_else(|| {
                InputError::in_flag("--image", "value", "the full-resolution image", "nothing")
            })?;
            let (pixel_size_um, bin_um) = (args.mpp, args.bin_um);
            let mut options = H5adOptions {
                id,
                pixel_size_um,
                bin_um,
                library: args.library.clone(),
                overwrite,
                ..H5adOptions::new(input, image, out()?)
            };
            if let Some(layer) = &args.layer {
                options.layer.clone_from(layer);
            }
            options.run()?
        }
    };
    tell(&summary, &out()?, console)
}

fn st(args: &PrepareStArgs) -> StOptions {
    StOptions {
        input: args.input.clone(),
        out: args.dataset.out.clone(),
        samples: args.samples.clone(),
        pixel_size_um: args.mpp,
        overwrite: Overwrite::from(args.dataset.overwrite),
    }
}

fn visium(args: &PrepareVisiumArgs) -> VisiumOptions {
    VisiumOptions {
        input: args.input.clone(),
        image: args.image.clone(),
        out: args.dataset.out.clone(),
        id: args.id.clone(),
        pixel_size_um: args.mpp,
        off_tissue: args.keep_off_tissue,
        overwrite: Overwrite::from(args.dataset.overwrite),
    }
}

fn visium_hd(args: &PrepareVisiumHdArgs) -> VisiumHdOptions {
    VisiumHdOptions {
        input: args.input.clone(),
        image: args.image.clone(),
        out: args.dataset.out.clone(),
        bin_um: args.bin_um,
        id: args.id.clone(),
        off_tissue: args.keep_off_tissue,
        overwrite: Overwrite::from(args.dataset.overwrite),
    }
}

fn h5ad(args: &PrepareH5adArgs) -> H5adOptions {
    H5adOptions {
        id: args.id.clone(),
        pixel_size_um: args.mpp,
        bin_um: args.bin_um,
        layer: args.layer.clone(),
        spatial_key: args.spatial_key.clone(),
        frame: match args.spatial_frame {
            FrameArg::Full => CoordinateFrame::Full,
            FrameArg::Hires => CoordinateFrame::Hires,
            FrameArg::Lowres => CoordinateFrame::Lowres,
        },
        library: args.library.clone(),
        library_key: args.library_key.clone(),
        allow_normalized: args.allow_normalized,
        off_tissue: args.keep_off_tissue,
        overwrite: Overwrite::from(args.dataset.overwrite),
        ..H5adOptions::new(args.input.clone(), args.image.clone(), args.dataset.out.clone())
    }
}
