//! The native program: files in and out, training, whole slides, reports. The model itself is `magnet-core`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod console;
pub mod dataset;
pub mod deflate;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod error;
pub mod evaluate;
pub mod exchange;
pub mod features;
pub mod file_range;
pub mod files;
pub mod interrupt;
pub mod model_file;
pub mod predict;
pub mod prepare;
pub mod protocol;
pub mod read_ahead;
pub mod report;
pub mod slide_file;
pub mod synthetic;
pub mod train;
pub mod weight_file;
