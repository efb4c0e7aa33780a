//! Inputs that once made a reader panic, hang or ask for memory without bound, found by the fuzz targets and kept in
//! `tests/fixtures/fuzz/<reader>`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use magnet_tests::readers::READERS;

#[test]
fn inputs_that_once_went_wrong_are_refused_or_read() {
    // From the package, where tests run.
    let fixtures = Path::new("fixtures/fuzz");
    let mut slow = Vec::new();
    for (name, read) in READERS {
        for entry in std::fs::read_dir(fixtures.join(name)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let began = Instant::now();
            read(&bytes);
            if began.elapsed() > Duration::from_secs(5) {
                slow.push(path);
            }
        }
    }
    assert!(slow.is_empty(), "slow: {slow:?}");
}

#[test]
fn every_folder_of_inputs_has_a_reader() {
    for entry in std::fs::read_dir("fixtures/fuzz").into_iter().flatten() {
        let name = entry.unwrap().file_name();
        assert!(READERS.iter().any(|(reader, _)| name == *reader), "no reader {}", name.display());
    }
}
