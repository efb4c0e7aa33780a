//! The paper's figures and table, from what the other commands wrote: `report`.

mod evaluation;
mod genes;
mod maps;
mod parts;
mod plot;
mod scale;
mod table;

use std::path::Path;

use anyhow::Result;

use super::drawing::{Drawing, MAX_SIDE};
use super::page::document;
use crate::cli::ReportCommand;
use crate::console::Console;
use crate::error::InputError;
use crate::files::{Overwrite, write_atomic};

pub use scale::{ScaleFigure, ScaleSeries};

/// Runs a subcommand of `report`.
///
/// # Errors
/// When an input is wrong, what is asked for cannot be drawn, or the output cannot be written.
pub fn run(command: &ReportCommand, console: &Console) -> Result<()> {
    match command {
        ReportCommand::Genes(args) => genes::run(args, console),
        ReportCommand::Maps(args) => maps::run(args, console),
        ReportCommand::Table(args) => table::run(args, console),
    }
}

/// The forms in which a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Png,
    Svg,
    Html,
}

impl Form {
    /// The form that the ending of a flag's file asks for.
    fn of(flag: &str, path: &Path) -> Result<Self, InputError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "svg" => Ok(Self::Svg),
            "html" | "htm" => Ok(Self::Html),
            _ => Err(InputError::in_flag(flag, "ending", ".png, .svg or .html", path.display())),
        }
    }
}

/// The only style of a page that holds a figure alone.
const FIGURE_STYLE: &str = "
body { margin: 0; padding: 16px; background: #ffffff; }
svg { display: block; margin: 0 auto; max-width: 100%; height: auto; }
";

/// Writes a figure, whole or not at all.
fn write(drawing: &Drawing, title: &str, form: Form, path: &Path, overwrite: Overwrite) -> Result<()> {
    let bytes = match form {
        Form::Png => drawing.to_png()?,
        Form::Svg => drawing.to_svg()?.into_bytes(),
        Form::Html => document(title, FIGURE_STYLE, drawing.svg()?).into_bytes(),
    };
    write_atomic(path, &bytes, overwrite)
}

/// Refuses a figure that would be too large to paint.
fn check_size(drawing: &Drawing, flag: &str) -> Result<(), InputError> {
    if drawing.width().max(drawing.height()) <= MAX_SIDE {
        return Ok(());
    }
    let expected = format!("so few that the figure has sides of at most {MAX_SIDE} px");
    let found = format!("{} × {} px", drawing.width(), drawing.height());
    Err(InputError::in_flag(flag, "number", expected, found))
}

/// Names of datasets: the last part of each path, or all of it where that would not tell two apart.
fn short_names(paths: &[&Path]) -> Vec<String> {
    let short = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        name.unwrap_or_else(|| path.display().to_string())
    };
    let all: Vec<String> = paths.iter().map(|path| short(path)).collect();
    let shared = |name: &String| all.iter().filter(|other| *other == name).count() > 1;
    let name = |(path, name): (&&Path, &String)| {
        if shared(name) { path.display().to_string() } else { name.clone() }
    };
    paths.iter().zip(&all).map(name).collect()
}
