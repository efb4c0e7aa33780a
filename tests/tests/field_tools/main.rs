//! The field's own tools as judges: what anndata, h5py, scanpy, pandas and pyarrow write is read here with identical
//! values, and what is written here opens in them with identical values.
//!
//! `MAGNET_PYTHON` names the interpreter of the environment that `scripts/python-env` makes; `tests/run` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contents;
mod expected;
mod python;
mod reading;
mod slides;
mod writing;
