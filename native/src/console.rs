//! How the program talks: results on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::OutputArgs;

/// The two streams and what may go to them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Console {
    json: bool,
    quiet: bool,
    verbose: u8,
    nested: bool,
}

impl From<OutputArgs> for Console {
    fn from(args: OutputArgs) -> Self {
        Self { json: args.json, quiet: args.quiet, verbose: args.verbose, nested: false }
    }
}

impl Console {
    /// A console that only prints results: for commands that run others.
    pub fn quiet() -> Self {
        Self { json: false, quiet: true, verbose: 0, nested: false }
    }

    /// The console of a command that this one runs: its result is talk.
    pub fn nested(&self) -> Self {
        Self { nested: true, ..*self }
    }

    /// Whether results are printed as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line of talk on stderr, unless `--quiet`.
    pub fn say(&self, line: impl Display) {
        if !self.quiet {
            self.print_line(line);
        }
    }

    /// A line of talk on stderr that only `-v` shows.
    pub fn detail(&self, line: impl Display) {
        if self.verbose > 0 {
            self.print_line(line);
        }
    }

    /// A warning on stderr; `--quiet` does not silence it.
    pub fn warn(&self, line: impl Display) {
        self.print_line(format_args!("warning: {line}"));
    }

    /// The one error that ends the program, its causes one per line.
    pub fn error(&self, error: &anyhow::Error) {
        self.print_line(format_args!("error: {error}"));
        let mut said = error.to_string();
        for cause in error.chain().skip(1) {
            let text = cause.to_string();
            // Some errors repeat their source in their own text.
            if !said.contains(&text) {
                self.print_line(format_args!("  because: {text}"));
                said = text;
            }
        }
    }

    /// The command's result on stdout: `value` under `--json`, else `text` (nothing if it is empty).
    ///
    /// # Errors
    /// If stdout cannot be written; a closed pipe is [`std::io::ErrorKind::BrokenPipe`].
    pub fn result(&self, text: &str, value: &serde_json::Value) -> std::io::Result<()> {
        if self.nested {
            self.say(text.trim_end());
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut stdout, value).map_err(std::io::Error::from)?;
            writeln!(stdout)?;
        } else if !text.is_empty() {
            writeln!(stdout, "{}", text.trim_end())?;
        }
        stdout.flush()
    }

    /// Whether a progress bar may be drawn: stderr is a terminal and nobody asked for quiet.
    pub fn draws_bars(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// A progress bar of `len` steps on stderr with rate and time left; hidden where bars are not drawn.
    pub fn bar(&self, len: u64, what: &str, unit: &str) -> ProgressBar {
        let target = match self.draws_bars() {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        let template =
            format!("{{msg}} [{{bar:28}}] {{pos}}/{{len}} {unit} {{per_sec}} {{eta}} left {{prefix}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    }

    fn print_line(self, line: impl Display) {
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
