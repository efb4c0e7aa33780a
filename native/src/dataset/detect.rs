//! What a path holds, when nobody says.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::hdf5::{Hdf5File, Limits};

use super::space_ranger::has_matrix;
use crate::error::InputError;

/// Subfolders that are looked into for what could have been meant.
const MOST_SUBFOLDERS: usize = 1000;

/// A source of spatial counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Spatial Transcriptomics arrays.
    St,
    /// Space Ranger's Visium folder.
    Visium,
    /// Space Ranger's Visium HD folder.
    VisiumHd,
    /// An AnnData file.
    H5ad,
    /// A HEST-1k folder, or another prepared dataset.
    Hest,
}

impl Source {
    /// The command that prepares it.
    pub fn command(self) -> &'static str {
        match self {
            Source::St => "prepare st",
            Source::Visium => "prepare visium",
            Source::VisiumHd => "prepare visium-hd",
            Source::H5ad => "prepare h5ad",
            Source::Hest => "prepare hest",
        }
    }
}

/// What was found, where, and why it is taken for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub source: Source,
    /// The `--input` of its command.
    pub path: PathBuf,
    /// Why.
    pub because: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} --input {} ({})", self.source.command(), self.path.display(), self.because)
    }
}

/// Tells what `path` holds.
///
/// # Errors
/// When nothing is recognised, or more than one source; the message lists what there is.
pub fn detect(path: &Path) -> Result<Found> {
    let expected = "one source of spatial counts: an AnnData file, or a folder of Space Ranger, of ST arrays or of HEST-1k";
    if path.is_file() {
        return match in_file(path)? {
            Some(found) => Ok(found),
            None => Err(InputError::in_file(path, "file", expected, "another file").into()),
        };
    }
    let mut found = in_folder(path)?;
    if found.is_empty() {
        // Not taken without asking: a folder of runs holds several, and which one is meant is for the user to say.
        for folder in subfolders(path)? {
            found.extend(in_folder(&folder)?);
        }
        let list: Vec<String> = found.iter().map(|candidate| format!("\n  {candidate}")).collect();
        let found = match list.len() {
            0 => "nothing that is known".to_owned(),
            1.. => format!("nothing directly in it, but below it{}", list.concat()),
        };
        return Err(InputError::in_file(path, "folder", expected, found).into());
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let list: Vec<String> =
                found.iter().chain(&last).map(|candidate| format!("\n  {candidate}")).collect();
            Err(InputError::in_file(path, "folder", expected, format!("several:{}", list.concat())).into())
        }
    }
}

fn in_file(path: &Path) -> Result<Option<Found>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let named_so = path.extension().is_some_and(|extension| extension == "h5ad" || extension == "h5");
    let file = match Hdf5File::from_reader(file, Limits::default()) {
        Ok(file) => file,
        Err(error) if named_so => return Err(error).with_context(|| path.display().to_string()),
        Err(_) => return Ok(None),
    };
    let has = |object: &str| matches!(file.kind(object), Ok(Some(_)));
    if has("matrix/barcodes") {
        let expected = "a folder with positions and scale factors beside the counts";
        let found = "a 10x matrix alone (give the folder that holds it and `spatial`)";
        return Err(InputError::in_file(path, "file", expected, found).into());
    }
    let found = Found {
        source: Source::H5ad,
        path: path.to_path_buf(),
        because: "an HDF5 file with X, obs and var".to_owned(),
    };
    Ok((has("X") && has("obs") && has("var")).then_some(found))
}

fn in_folder(folder: &Path) -> Result<Vec<Found>> {
    let mut candidates = Vec::new();
    let mut add = |source, path: &Path, because: String| {
        candidates.push(Found { source, path: path.to_path_buf(), because });
    };
    for place in [folder.to_path_buf(), folder.join("outs")] {
        if place.join("binned_outputs").is_dir() {
            add(Source::VisiumHd, &place, "it holds binned_outputs".to_owned());
        } else if place.join("spatial").is_dir() && has_matrix(&place, "filtered") {
            add(Source::Visium, &place, "it holds spatial and filtered_feature_bc_matrix".to_owned());
        }
    }
    if ["st", "wsis", "metadata"].iter().all(|name| folder.join(name).is_dir()) {
        add(Source::Hest, folder, "it holds st, wsis and metadata".to_owned());
    }
    let (mut sections, mut anndata) = (0, Vec::new());
    let cannot = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with("_selection.tsv") {
            sections += 1;
        } else if name.ends_with(".h5ad") && !name.starts_with('.') && path.is_file() {
            anndata.push(path.clone());
        }
    }
    if sections > 0 {
        add(Source::St, folder, format!("it holds {sections} files <id>_selection.tsv"));
    }
    anndata.sort();
    for path in anndata {
        add(Source::H5ad, &path, "an AnnData file by its name".to_owned());
    }
    Ok(candidates)
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut folders: Vec<PathBuf> = folders.take(MOST_SUBFOLDERS).collect();
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use magnet_core::anndata::{AnnData, AxisTable, Values};
    use magnet_core::expression::Matrix;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, bytes: &[u8]) -> &Self {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            self
        }

        fn detect(&self, name: &str) -> Result<Found> {
            detect(&self.0.path().join(name))
        }
    }

    fn anndata() -> Vec<u8> {
        let table = |name: &str| AxisTable::from_names(vec![name.to_owned()]);
        let x = Values::Dense(Matrix::new(1, 1, vec![1.0]).unwrap());
        AnnData::new(x, table("spot"), table("gene")).write().unwrap()
    }

    #[test]
    fn each_source_is_recognised_and_says_why() {
        let place = Place::new();
        place
            .file("visium/outs/spatial/tissue_positions.csv", b"")
            .file("visium/outs/filtered_feature_bc_matrix.h5", b"")
            .file("hd/binned_outputs/square_008um/x", b"")
            .file("st/A_selection.tsv", b"")
            .file("hest/st/a.h5ad", b"")
            .file("hest/wsis/a.tif", b"")
            .file("hest/metadata/a.json", b"")
            .file("one/a.h5ad", b"")
            .file("b.h5ad", &anndata());
        for (name, source, because) in [
            ("visium", Source::Visium, "spatial and filtered_feature_bc_matrix"),
            ("visium/outs", Source::Visium, "spatial"),
            ("hd", Source::VisiumHd, "binned_outputs"),
            ("st", Source::St, "1 files <id>_selection.tsv"),
            ("hest", Source::Hest, "st, wsis and metadata"),
            ("one", Source::H5ad, "by its name"),
            ("b.h5ad", Source::H5ad, "X, obs and var"),
        ] {
            let found = place.detect(name).unwrap();
            assert_eq!(found.source, source, "{name}");
            assert!(found.because.contains(because), "{name}: {found}");
        }
        assert!(place.detect("visium").unwrap().path.ends_with("visium/outs"));
    }

    #[test]
    fn what_is_unknown_or_ambiguous_is_listed() {
        let place = Place::new();
        place.file("runs/a/A_selection.tsv", b"").file("runs/b/binned_outputs/x", b"");
        let error = place.detect("runs").unwrap_err().to_string();
        assert!(
            error.contains("below it\n  prepare st --input") && error.contains("prepare visium-hd"),
            "{error}"
        );
        place.file("both/A_selection.tsv", b"").file("both/b.h5ad", b"");
        let error = place.detect("both").unwrap_err().to_string();
        assert!(error.contains("several:\n  prepare st") && error.contains("prepare h5ad"), "{error}");
        place.file("none/readme", b"").file("a.txt", b"x");
        assert!(place.detect("none").unwrap_err().to_string().contains("nothing that is known"));
        assert!(place.detect("a.txt").unwrap_err().to_string().contains("found another file"));
        place.file("m.h5ad", b"x");
        assert!(format!("{:#}", place.detect("m.h5ad").unwrap_err()).contains("expected an HDF5 file"));
        assert!(place.detect("absent").is_err());
    }
}
