//! What the tests that cross crates share: running the built program, and a small made-up Spatial Transcriptomics
//! source whose files a test can spoil one at a time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub mod fixture;
pub mod golden;
pub mod readers;
pub mod source;

/// What a run of the program left.
#[derive(Debug)]
pub struct Run {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// The run itself, if it ended well.
    ///
    /// # Panics
    /// With both streams, if it did not.
    #[allow(clippy::panic)]
    pub fn success(self) -> Self {
        if self.code != Some(0) {
            panic!("exit code {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// With the text, if it is none.
    #[allow(clippy::panic)]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("stdout is not one JSON value: {error}\n{}\n{}", self.stdout, self.stderr),
        }
    }
}

/// The built program: cargo puts it beside the folder of the test executables.
///
/// # Panics
/// If it is not there.
#[allow(clippy::panic)]
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = exe
        .parent()
        .and_then(Path::parent)
        .map(|target| target.join(format!("magnet-native{}", std::env::consts::EXE_SUFFIX)))
        .unwrap_or_default();
    if !path.is_file() {
        panic!(
            "{} is not built; `cargo test --release --workspace` builds it with the tests",
            path.display()
        );
    }
    path
}

/// A command of the program, not yet started, with no input and two threads of computation.
pub fn command<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).env("RAYON_NUM_THREADS", "2").env_remove("RUST_BACKTRACE");
    command
}

/// Runs the program to its end.
///
/// # Panics
/// If it cannot be started.
#[allow(clippy::panic)]
pub fn run<I, S>(args: I) -> Run
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    match command(args).output() {
        Ok(output) => Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(error) => panic!("{} does not start: {error}", binary().display()),
    }
}

/// Runs the program with the words of one line; none of them holds a space.
pub fn run_line(line: &str) -> Run {
    run(line.split_whitespace())
}

/// A script of `tests/python` in a Python that has PyTorch; `None` (said on stderr) where `MAGNET_PYTORCH` names none.
pub fn pytorch(script: &str) -> Option<Command> {
    let Some(python) = std::env::var_os("MAGNET_PYTORCH") else {
        eprintln!("SKIPPED: MAGNET_PYTORCH names no Python with PyTorch (tests/run --with-pytorch sets it)");
        return None;
    };
    let mut command = Command::new(python);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script));
    Some(command)
}

/// Every path under `folder`, relative to it, sorted.
pub fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push(path.strip_prefix(folder).map(Path::to_path_buf).unwrap_or(path));
        }
    }
    found.sort();
    found
}
