//! The `prepare` commands: arguments to dataset, summary to the user.

use crate::cli::{FrameArg, PrepareCommand, PrepareH5adArgs};
use crate::console::Console;
use crate::dataset::h5ad::{CoordinateFrame, H5adOptions};
use crate::dataset::st::StOptions;
use crate::dataset::visium::VisiumOptions;
use crate::dataset::visium_hd::VisiumHdOptions;
use crate::files::Overwrite;

/// Prepares the slides of a source.
///
/// # Errors
/// If a source file is wrong, a slide is there already, or the dataset cannot be written.
pub fn run(command: &PrepareCommand, console: &Console) -> anyhow::Result<()> {
    let (summary, out) = match command {
        PrepareCommand::St(args) => {
            let options = StOptions {
                input: args.input.clone(),
                out: args.out.clone(),
                samples: args.samples.clone(),
                pixel_size_um: args.mpp,
                overwrite: Overwrite::from(args.overwrite),
            };
            (options.run()?, &args.out)
        }
        PrepareCommand::Visium(args) => {
            let options = VisiumOptions {
                input: args.input.clone(),
                image: args.image.clone(),
                out: args.out.clone(),
                id: args.id.clone(),
                pixel_size_um: args.mpp,
                off_tissue: args.keep_off_tissue,
                overwrite: Overwrite::from(args.overwrite),
            };
            (options.run()?, &args.out)
        }
        PrepareCommand::H5ad(args) => (h5ad(args).run()?, &args.out),
        PrepareCommand::VisiumHd(args) => {
            let options = VisiumHdOptions {
                input: args.input.clone(),
                image: args.image.clone(),
                out: args.out.clone(),
                bin_um: args.bin_um,
                id: args.id.clone(),
                off_tissue: args.keep_off_tissue,
                overwrite: Overwrite::from(args.overwrite),
            };
            (options.run()?, &args.out)
        }
    };
    let mut text = String::new();
    for slide in &summary.slides {
        text.push_str(&format!("{slide}\n"));
    }
    text.push_str(&format!("→ {}", out.display()));
    console.result(&text, &serde_json::to_value(&summary)?)?;
    Ok(())
}

fn h5ad(args: &PrepareH5adArgs) -> H5adOptions {
    H5adOptions {
        input: args.input.clone(),
        image: args.image.clone(),
        out: args.out.clone(),
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
        overwrite: Overwrite::from(args.overwrite),
    }
}
