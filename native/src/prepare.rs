//! The `prepare` commands: arguments to dataset, summary to the user.

use crate::cli::PrepareCommand;
use crate::console::Console;
use crate::dataset::st::StOptions;
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
        PrepareCommand::VisiumHd(args) => {
            let options = VisiumHdOptions {
                input: args.input.clone(),
                image: args.image.clone(),
                out: args.out.clone(),
                bin_um: args.bin_um,
                id: args.id.clone(),
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
