//! Each reader of what comes from outside, as a function over bytes: the fuzzers call it, and the tests call it again
//! with every input that once went wrong. A reader may refuse the bytes or take them; it may not panic, hang or ask for
//! more memory than the bytes justify.

use std::cell::RefCell;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::Path;

use burn::tensor::Device;
use magnet_core::Bundle;
use magnet_core::anndata::AnnData;
use magnet_core::slide::{PyramidOptions, SlidePyramid};
use magnet_native::config::{RunConfig, Setting};
use magnet_native::dataset::positions::read_positions_bytes;
use magnet_native::dataset::tenx_matrix::read_tenx_matrix_from;
use magnet_native::predict::positions;
use tempfile::NamedTempFile;

/// A reader with its name: that of the fuzz target and of the folder of inputs that once went wrong.
pub type Reader = (&'static str, fn(&[u8]));

/// Every reader.
pub const READERS: [Reader; 5] = [
    ("tiff", tiff),
    ("hdf5_matrix", hdf5_matrix),
    ("positions", positions_table),
    ("bundle", bundle),
    ("config", config),
];

/// A slide: what of it lies past its end; every level opened, a corner and the middle of it read.
pub fn tiff(bytes: &[u8]) {
    let Ok(slide) = SlidePyramid::open(bytes, PyramidOptions::default()) else { return };
    drop(slide.cut_off());
    for (index, level) in slide.levels().iter().enumerate() {
        let (across, down) = (i64::from(level.width_px), i64::from(level.height_px));
        for (left, top) in [(-20, -20), (across / 2, down / 2), (across - 40, down - 40)] {
            drop(slide.read_region(index, left, top, 64, 64));
        }
    }
}

/// An AnnData file and a 10x matrix.
pub fn hdf5_matrix(bytes: &[u8]) {
    drop(AnnData::read(bytes.to_vec()));
    drop(read_tenx_matrix_from(Cursor::new(bytes.to_vec()), Path::new("matrix.h5")));
}

/// Positions: Space Ranger's Parquet, its CSV with and without a header, and a table of `x,y`.
pub fn positions_table(bytes: &[u8]) {
    drop(read_positions_bytes(bytes.to_vec(), Path::new("positions")));
    with_file(bytes, |path| drop(positions::read(path, 1000, 1000)));
}

/// A model file, up to the model that it describes. Bytes that begin with a brace are the JSON document of a file
/// without tensors, since chance does not find a length and a quoted string inside another.
pub fn bundle(bytes: &[u8]) {
    let file = match bytes {
        [b'{', ..] => safetensors_of(&String::from_utf8_lossy(bytes)),
        _ => bytes.to_vec(),
    };
    if let Ok(bundle) = Bundle::from_bytes(&file) {
        let device = Device::flex();
        drop(bundle.model(&device));
        drop(bundle.frozen_encoder(&device));
    }
}

/// A safetensors file with one metadata entry and no tensor.
pub fn safetensors_of(document: &str) -> Vec<u8> {
    let header = serde_json::json!({ "__metadata__": { "magnet": document } }).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file
}

/// A configuration file, then after a NUL byte each `--set` on a line of its own.
pub fn config(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let file = parts.next().unwrap_or_default();
    let sets = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let sets: Vec<Setting> = sets.lines().map(Setting::set).collect();
    with_file(file, |path| {
        drop(RunConfig::load(None, None, Some(path), &sets));
        drop(RunConfig::load(Some("demo"), None, Some(path), &[]));
    });
}

/// Puts the bytes into a file that the thread keeps, for readers that take a path.
fn with_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    thread_local!(static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) });
    FILE.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = NamedTempFile::new().ok();
        }
        let Some(file) = slot else { return };
        let written = file
            .as_file()
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(bytes));
        if written.is_ok() {
            read(file.path());
        }
    });
}
