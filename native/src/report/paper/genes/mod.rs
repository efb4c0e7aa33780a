//! Which genes are chosen of a dataset at a resolution, and what is chosen (the paper's Figure 4 shows gene selection for
//! each dataset and resolution).

mod figure;
mod overlap;
mod selection;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use self::overlap::Overlap;
use self::selection::Selection;
use super::{Form, check_size, short_names, write};
use crate::cli::ReportGenesArgs;
use crate::console::Console;
use crate::dataset::Dataset;
use crate::error::InputError;
use crate::files::{OutputFolder, Overwrite};

/// Writes `genes.svg`, `genes.png`, `genes.csv` and `overlap.csv`.
///
/// # Errors
/// When a dataset cannot be read, has too few genes or not the resolution, or the output cannot be written.
pub(super) fn run(args: &ReportGenesArgs, console: &Console) -> Result<()> {
    let output = OutputFolder::create(&args.out, Overwrite::from(args.overwrite))?;
    let mut selections = Vec::new();
    let roots: Vec<&Path> = args.data.iter().map(PathBuf::as_path).collect();
    for (root, name) in args.data.iter().zip(short_names(&roots)) {
        selections.extend(select(root, &name, args, console)?);
    }
    let overlap = Overlap::of(&selections)?;
    let drawing = figure::draw(&selections, &overlap)?;
    check_size(&drawing, "--data, --bin-um")?;
    for (name, form) in [("genes.svg", Form::Svg), ("genes.png", Form::Png)] {
        write(&drawing, figure::TITLE, form, &output.path().join(name), Overwrite::No)?;
    }
    tables::write_genes(&output.path().join("genes.csv"), &selections)?;
    tables::write_overlap(&output.path().join("overlap.csv"), &overlap)?;
    output.commit()?;

    let panels: Vec<_> = selections
        .iter()
        .map(|selection| {
            json!({
                "dataset": selection.dataset,
                "bin_um": selection.bin_um,
                "slides": selection.slides,
                "bins": selection.bins,
                "genes": selection.genes.len(),
                "chosen": selection.chosen,
            })
        })
        .collect();
    let files = ["genes.svg", "genes.png", "genes.csv", "overlap.csv"];
    let text = format!("→ {}\n  {}", args.out.display(), files.join("\n  "));
    console.result(&text, &json!({ "out": args.out, "files": files, "panels": panels }))?;
    Ok(())
}

/// The selections of one dataset, one for each resolution.
fn select(root: &Path, name: &str, args: &ReportGenesArgs, console: &Console) -> Result<Vec<Selection>> {
    let dataset = Dataset::open(root)?;
    let values = dataset.value_kind(dataset.ids())?;
    let mut slides = Vec::with_capacity(dataset.ids().len());
    for id in dataset.ids() {
        slides.push(dataset.undigested_slide(id)?);
    }
    let asked: Vec<Option<f64>> = match args.bin_um.is_empty() {
        true => vec![None],
        false => args.bin_um.iter().copied().map(Some).collect(),
    };
    let mut selections: Vec<Selection> = Vec::with_capacity(asked.len());
    for asked_um in asked {
        let (bin_um, slides) = selection::at_resolution(&dataset, &slides, asked_um)?;
        if selections.iter().any(|known| known.bin_um == bin_um) {
            let expected = format!("each bin size of {name} once");
            return Err(
                InputError::in_flag("--bin-um", "value", expected, format!("{bin_um} µm twice")).into()
            );
        }
        let selection = Selection::of(name.to_owned(), bin_um, &slides, values, args.genes)?;
        console.say(format_args!(
            "{}: {} slides, {} bins",
            selection.title(),
            selection.slides,
            selection.bins
        ));
        selections.push(selection);
    }
    Ok(selections)
}

#[cfg(test)]
mod tests;
