//! Files written whole or not at all; digests; reads with a limit.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use magnet_core::digest::hex;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::error::InputError;

/// Whether an existing output may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replace what is there.
    Yes,
    /// Refuse with an error, and leave what is there as it is.
    #[default]
    No,
}

impl From<bool> for Overwrite {
    fn from(overwrite: bool) -> Self {
        if overwrite { Overwrite::Yes } else { Overwrite::No }
    }
}

/// Writes a file whole or not at all: a temporary file in the same folder, fsync, rename, fsync of the folder.
/// Missing parent folders are created.
///
/// # Errors
/// When `path` exists and may not be replaced, when `write` fails, or when the file system does; the previous file, if
/// any, is then untouched.
pub fn write_atomic_with(
    path: &Path,
    overwrite: Overwrite,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    refuse_existing(path, overwrite)?;
    let folder = parent(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let mut temporary = temporary_file(folder)
        .with_context(|| format!("cannot create a temporary file in {}", folder.display()))?;
    {
        let mut out = BufWriter::new(temporary.as_file_mut());
        write(&mut out)?;
        out.flush().with_context(|| format!("cannot write {}", path.display()))?;
    }
    temporary.as_file().sync_all().with_context(|| format!("cannot write {}", path.display()))?;
    match overwrite {
        Overwrite::Yes => temporary.persist(path).map(|_| ()).map_err(|error| error.error),
        // Race-free: a file that appeared in the meantime is not replaced either.
        Overwrite::No => temporary.persist_noclobber(path).map(|_| ()).map_err(|error| error.error),
    }
    .with_context(|| format!("cannot put {} in place", path.display()))?;
    sync_folder(folder)
}

/// [`write_atomic_with`] for bytes at hand.
///
/// # Errors
/// As [`write_atomic_with`].
pub fn write_atomic(path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<()> {
    write_atomic_with(path, overwrite, |out| {
        out.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))
    })
}

/// Puts a copy of `source` at `path`, whole or not at all; a hard link where the file system allows it.
///
/// # Errors
/// When `source` cannot be read, or as [`write_atomic_with`].
pub fn place_atomic(source: &Path, path: &Path, overwrite: Overwrite) -> Result<()> {
    refuse_existing(path, overwrite)?;
    let folder = parent(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    // A link cannot replace a file, so it is made under a temporary name and renamed.
    let spare = TempDir::with_prefix_in(".link-", folder)
        .with_context(|| format!("cannot create a temporary folder in {}", folder.display()))?;
    let link = spare.path().join("link");
    // Linking through a symbolic link would link the link itself.
    let resolved = source.canonicalize().with_context(|| format!("cannot open {}", source.display()))?;
    if fs::hard_link(&resolved, &link).is_ok() {
        // Where `path` is another name of the same file already, the rename does nothing, which is right too.
        fs::rename(&link, path).with_context(|| format!("cannot put {} in place", path.display()))?;
        return sync_folder(folder);
    }
    let mut input = File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
    write_atomic_with(path, overwrite, |out| {
        io::copy(&mut input, out)
            .map(|_| ())
            .with_context(|| format!("cannot copy {} to {}", source.display(), path.display()))
    })
}

/// An output folder that appears under its name only when it is complete.
///
/// Everything is written below [`OutputFolder::path`], a temporary sibling; [`OutputFolder::commit`] renames it. Dropped
/// without a commit, nothing remains.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    temporary: TempDir,
    overwrite: Overwrite,
}

impl OutputFolder {
    /// Begins the folder `target`. An existing empty folder counts as absent.
    ///
    /// # Errors
    /// When `target` exists with something in it and may not be replaced, or nothing can be created beside it.
    pub fn create(target: &Path, overwrite: Overwrite) -> Result<Self> {
        if !is_empty_folder(target) {
            refuse_existing(target, overwrite)?;
        }
        let beside = parent(target);
        fs::create_dir_all(beside)
            .with_context(|| format!("cannot create the folder {}", beside.display()))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = TempDir::with_prefix_in(format!(".{name}-"), beside)
            .with_context(|| format!("cannot create a temporary folder in {}", beside.display()))?;
        share_folder(temporary.path())
            .with_context(|| format!("cannot set the permissions of {}", temporary.path().display()))?;
        Ok(Self { target: target.to_path_buf(), temporary, overwrite })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Flushes every file to the disk and gives the folder its name.
    ///
    /// # Errors
    /// When the target appeared in the meantime and may not be replaced, or the file system fails.
    pub fn commit(self) -> Result<()> {
        let Self { target, temporary, overwrite } = self;
        sync_tree(temporary.path()).with_context(|| format!("cannot write {}", target.display()))?;
        let beside = parent(&target).to_path_buf();
        let cannot = || format!("cannot put {} in place", target.display());
        let mut replaced = None;
        if is_empty_folder(&target) {
            fs::remove_dir(&target).with_context(cannot)?;
        } else if target.exists() {
            refuse_existing(&target, overwrite)?;
            let aside = TempDir::with_prefix_in(".replaced-", &beside).with_context(cannot)?;
            fs::rename(&target, aside.path().join("old")).with_context(cannot)?;
            replaced = Some(aside);
        }
        let complete = temporary.keep();
        if let Err(error) = fs::rename(&complete, &target) {
            if let Some(aside) = &replaced {
                // Put the old one back; if even that fails, the error below tells what happened first.
                fs::rename(aside.path().join("old"), &target).ok();
            }
            fs::remove_dir_all(&complete).ok();
            return Err(error).with_context(cannot);
        }
        sync_folder(&beside)
    }
}

/// SHA-256 of a file's content in lower-case hexadecimal, read in pieces.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    sha256_file_with(path, |_| {})
}

/// [`sha256_file`], told how many bytes each piece had.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file_with(path: &Path, mut read_bytes: impl FnMut(usize)) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
        read_bytes(read);
    }
    Ok(hex(&hasher.finalize()))
}

/// Reads a whole file of at most `max_bytes`.
///
/// # Errors
/// When the file cannot be read or is larger.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of exactly the limit from a larger one, also where the size that the
    // file system reports is not the size of the content.
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > max_bytes {
        let expected = format!("at most {max_bytes} bytes");
        return Err(InputError::in_file(path, "size", expected, "a larger file").into());
    }
    Ok(bytes)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a name that is taken, for who wants to know before the work is done.
///
/// # Errors
/// If something is there and may not be replaced.
pub(crate) fn refuse_existing(path: &Path, overwrite: Overwrite) -> Result<()> {
    // A dangling symbolic link also counts as something there.
    if overwrite == Overwrite::No && path.symlink_metadata().is_ok() {
        let expected = "a name that is not taken (--overwrite replaces what is there)";
        let found = if path.is_dir() { "a folder that exists already" } else { "a file that exists already" };
        return Err(InputError::in_file(path, "output", expected, found).into());
    }
    Ok(())
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Temporary files are private by default; outputs follow the user's umask like any other file.
fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Gives a private temporary folder the permissions that a plain new folder has.
fn share_folder(folder: &Path) -> io::Result<()> {
    let probe = folder.join("permissions");
    fs::create_dir(&probe)?;
    let permissions = fs::metadata(&probe)?.permissions();
    fs::remove_dir(&probe)?;
    fs::set_permissions(folder, permissions)
}

fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix can open a folder to flush it; elsewhere the rename is as durable as the system makes it.
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot flush the folder {}", folder.display()))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file.txt");
        write_atomic(&path, b"first", Overwrite::No).unwrap();
        let error = write_atomic(&path, b"second", Overwrite::No).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_atomic(&path, b"third", Overwrite::Yes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        write_atomic(&path, b"old", Overwrite::No).unwrap();
        let result = write_atomic_with(&path, Overwrite::Yes, |out| {
            out.write_all(b"half")?;
            anyhow::bail!("the source ended")
        });
        assert_eq!(result.unwrap_err().to_string(), "the source ended");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file.txt"]);
    }

    #[test]
    fn a_placed_file_replaces_even_itself() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a");
        let target = folder.path().join("b");
        fs::write(&source, b"content").unwrap();
        place_atomic(&source, &target, Overwrite::No).unwrap();
        assert!(place_atomic(&source, &target, Overwrite::No).is_err());
        place_atomic(&source, &target, Overwrite::Yes).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"content");
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn an_output_folder_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("run");
        let output = OutputFolder::create(&target, Overwrite::No).unwrap();
        fs::write(output.path().join("half"), b"x").unwrap();
        assert!(!target.exists());
        drop(output);
        assert!(names(folder.path()).is_empty());

        let output = OutputFolder::create(&target, Overwrite::No).unwrap();
        fs::create_dir(output.path().join("inner")).unwrap();
        fs::write(output.path().join("inner/file"), b"x").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(target.join("inner/file")).unwrap(), b"x");
        assert!(OutputFolder::create(&target, Overwrite::No).is_err());

        let output = OutputFolder::create(&target, Overwrite::Yes).unwrap();
        fs::write(output.path().join("other"), b"y").unwrap();
        output.commit().unwrap();
        assert_eq!(names(&target), ["other"]);
        assert_eq!(names(folder.path()), ["run"]);
    }

    #[test]
    fn an_empty_folder_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("run");
        fs::create_dir(&target).unwrap();
        OutputFolder::create(&target, Overwrite::No).unwrap().commit().unwrap();
        assert!(target.is_dir());
    }

    #[test]
    fn digests_match_the_published_vector() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        assert_eq!(magnet_core::digest::sha256_hex(b"abc"), expected);
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ten");
        fs::write(&path, [0; 10]).unwrap();
        assert_eq!(read_limited(&path, 10).unwrap().len(), 10);
        assert!(read_limited(&path, 9).unwrap_err().to_string().contains("at most 9 bytes"));
    }
}
