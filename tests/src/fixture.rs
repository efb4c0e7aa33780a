//! Prepared datasets and trained models of the made-up slides, made once per test program through the command line.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::source::StSource;
use crate::{command, run};

/// Configuration of a model that trains in seconds.
pub const TINY_CONFIG: &str = r#"
preset = "st-small"

[data]
genes = 8

[train]
epochs = 2
batch_bins = 24
learning_rate = 0.003

[model]
width = 16
neighbors = 4

[model.levels.bin]
tile_um = 100.0
patch_um = 160.0
patch_px = 16

[model.levels.spot]
tile_um = 400.0
patch_um = 400.0
patch_px = 16

[model.levels.region]
tile_um = 800.0
patch_um = 800.0
patch_px = 16

[model.patch_encoder]
width_multiplier = 0.125
stages = 2

[model.cross_level]
heads = 2

[model.graph]
heads = 2

[model.depth]
heads = 2
"#;

/// [`TINY_CONFIG`] for bins of 16 µm side by side.
pub fn tiny_lawn_config() -> String {
    TINY_CONFIG
        .replace("tile_um = 100.0\npatch_um = 160.0", "tile_um = 16.0\npatch_um = 32.0")
        .replace("400.0", "64.0")
        .replace("800.0", "128.0")
}

/// A folder with everything that a test may want to copy and spoil.
#[derive(Debug)]
pub struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// Folder of source files: the slides A, B and C.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// The prepared dataset of A, B and C.
    pub fn dataset(&self) -> PathBuf {
        self.folder.path().join("dataset")
    }

    /// The configuration of [`TINY_CONFIG`] as a file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("tiny.toml")
    }

    /// A model trained on A, validated on B.
    pub fn model(&self) -> PathBuf {
        self.folder.path().join("run/model.safetensors")
    }
}

/// The fixture of this test program.
///
/// # Panics
/// If the program under test fails to make it.
#[allow(clippy::panic)]
pub fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| match make() {
        Ok(fixture) => fixture,
        Err(error) => panic!("the fixture could not be made: {error}"),
    })
}

fn make() -> std::io::Result<Fixture> {
    let fixture = Fixture { folder: TempDir::new()? };
    for (variant, id) in ["A", "B", "C"].into_iter().enumerate() {
        StSource::new(variant).write(&fixture.source(), id)?;
    }
    std::fs::write(fixture.config(), TINY_CONFIG)?;
    let path = |path: PathBuf| path.display().to_string();
    let (source, dataset) = (path(fixture.source()), path(fixture.dataset()));
    run(["prepare", "st", "--input", &source, "--out", &dataset]).success();
    let out = path(fixture.folder.path().join("run"));
    run(train_arguments(&fixture, &dataset, &out)).success();
    Ok(fixture)
}

/// `train` on A, validated on B, with [`TINY_CONFIG`].
pub fn train_arguments(fixture: &Fixture, dataset: &str, out: &str) -> Vec<String> {
    let config = fixture.config().display().to_string();
    ["train", "--data", dataset, "--train", "A", "--valid", "B", "--config", &config, "--out", out]
        .into_iter()
        .chain(["--device", "cpu", "--seed", "5"])
        .map(str::to_owned)
        .collect()
}

/// Copies a folder with everything in it.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Starts the program without waiting for it.
///
/// # Errors
/// If it does not start.
pub fn spawn(arguments: &[String]) -> std::io::Result<std::process::Child> {
    command(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()
}
