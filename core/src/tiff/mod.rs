//! TIFF and BigTIFF as a container: directories of tags, whatever their images mean.

pub mod write;
