//! Inputs of the fuzz targets, kept in `tests/fixtures/fuzz/<reader>`: small ones that reach far into a reader, and every
//! one that once made it panic, hang or ask for memory without bound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use magnet_tests::readers::READERS;

#[test]
fn inputs_of_the_fuzzers_are_refused_or_read() {
    // From the package, where tests run.
    let fixtures = Path::new("fixtures/fuzz");
    let mut slow = Vec::new();
    for (name, read) in READERS {
        let inputs = std::fs::read_dir(fixtures.join(name));
        for entry in inputs.unwrap_or_else(|error| panic!("no inputs for {name}: {error}")) {
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
    for entry in std::fs::read_dir("fixtures/fuzz").unwrap() {
        let name = entry.unwrap().file_name();
        assert!(READERS.iter().any(|(reader, _)| name == *reader), "no reader {}", name.display());
    }
}
