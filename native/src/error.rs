//! Errors that decide the exit code.

use std::fmt::Display;
use std::path::Path;

use magnet_core::anndata::AnnDataError;
use magnet_core::hdf5::Hdf5Error;

use crate::dataset::table::TableError;

/// Something the user gave is wrong: it ends the program with [`exit::BAD_INPUT`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {field}: expected {expected}, found {found}")]
pub struct InputError {
    /// The file, folder or command-line flag.
    pub file: String,
    /// The column, key, tensor or value in it.
    pub field: String,
    /// What it should have been.
    pub expected: String,
    /// What it was.
    pub found: String,
}

impl InputError {
    /// An error about `field` of the file at `path`.
    pub fn in_file(path: &Path, field: impl Display, expected: impl Display, found: impl Display) -> Self {
        Self {
            file: path.display().to_string(),
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// An error about a command-line flag.
    pub fn in_flag(flag: &str, field: impl Display, expected: impl Display, found: impl Display) -> Self {
        Self {
            file: flag.to_owned(),
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// The user interrupted the program; what was done is saved. It ends the program with [`exit::INTERRUPTED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interrupted; {0}")]
pub struct Interrupted(
    /// What is saved and how to go on.
    pub String,
);

/// Exit codes, as `--help` documents them.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Failed for a reason that is not the input's.
    pub const FAILED: u8 = 1;
    /// A file, table, image or bundle is wrong. (2 is clap's: wrong usage.)
    pub const BAD_INPUT: u8 = 3;
    /// Interrupted by the user.
    pub const INTERRUPTED: u8 = 130;
}

/// Whether the error is stdout closed by its reader (`magnet-native … | head`), which is nobody's failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The exit code of an error, decided by the first cause that says anything about it.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    use std::io::ErrorKind;
    for cause in error.chain() {
        if cause.is::<Interrupted>() {
            return exit::INTERRUPTED;
        }
        if cause.is::<InputError>() || cause.is::<TableError>() {
            return exit::BAD_INPUT;
        }
        if cause.is::<AnnDataError>() || cause.is::<Hdf5Error>() {
            return exit::BAD_INPUT;
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::AlreadyExists
                | ErrorKind::IsADirectory
                | ErrorKind::NotADirectory
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::UnexpectedEof => exit::BAD_INPUT,
                _ => exit::FAILED,
            };
        }
    }
    exit::FAILED
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_cause_decides_the_exit_code() {
        let input: anyhow::Error =
            InputError::in_file(Path::new("a.h5ad"), "obsm/spatial", "a [N,2] matrix", "nothing").into();
        assert_eq!(exit_code(&input.context("cannot read the slide A")), exit::BAD_INPUT);
        let missing = std::fs::read("/nonexistent/x").context("cannot read").unwrap_err();
        assert_eq!(exit_code(&missing), exit::BAD_INPUT);
        assert_eq!(exit_code(&Interrupted("saved".into()).into()), exit::INTERRUPTED);
        assert_eq!(exit_code(&anyhow::anyhow!("other")), exit::FAILED);
    }

    #[test]
    fn input_error_names_file_field_expected_and_found() {
        let error = InputError::in_file(Path::new("a.csv"), "column x", "a number", "\"left\"");
        assert_eq!(error.to_string(), "a.csv: column x: expected a number, found \"left\"");
    }
}
