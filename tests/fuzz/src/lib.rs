//! The readers under test. Those of the command line are mounted from its own source files, as they stand: depending on
//! the package would compile its GPU stack under instrumentation, most of an hour for code that no file reaches. The
//! tests' package compiles this file too, as an example, so that a module that is missing here is missed at once.

// What the mounted files and the shared readers call the package.
extern crate self as magnet_native;

#[path = "../../../native/src/config/mod.rs"]
pub mod config;
#[path = "../../../native/src/error.rs"]
pub mod error;
#[path = "../../../native/src/file_range.rs"]
pub mod file_range;
#[path = "../../../native/src/files.rs"]
pub mod files;
#[path = "../../src/readers.rs"]
pub mod readers;

/// Of the sources of counts, what reads their files.
#[path = "../../../native/src/dataset"]
pub mod dataset {
    pub mod positions;
    pub mod stored_integers;
    pub mod table;
    pub mod tenx_matrix;
    pub mod text;
}

/// Of prediction, only what reads tables of positions.
#[path = "../../../native/src/predict"]
pub mod predict {
    pub mod positions;
}

/// A reader that panics inside and says so in an error is right; libFuzzer's hook would call that a crash. A panic that
/// leaves the reader still ends the run.
pub fn panics_may_be_caught() {
    std::panic::set_hook(Box::new(|_| {}));
}
