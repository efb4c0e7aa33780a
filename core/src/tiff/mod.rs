//! TIFF and BigTIFF as a container: directories of tags, whatever their images mean.

mod error;
pub mod read;
pub mod tags;
pub mod write;

pub use error::TiffError;
