//! The image side of a slide: decoding with limits, pyramids on disk, patches, tissue, augmentation.
//!
//! Slide coordinates are continuous: pixel `(column, row)` covers `column..column+1` by `row..row+1`, so the top left
//! corner of the image is `(0, 0)` and the middle of its first pixel `(0.5, 0.5)`. What lies beyond the border is
//! glass: it reads as white.

pub mod augment;
mod decode;
mod error;
mod jpeg_segments;
mod patch;
mod pixel_size;
pub mod pyramid;
mod range;
mod resample;
mod slide_image;
mod stain;
pub mod tissue_mask;

pub use decode::{DecodeLimits, DecodedImage, ImageFormat, decode};
pub use error::SlideError;
pub use patch::{PatchReader, PxWindow};
pub use pixel_size::SENSIBLE_UM;
pub use pyramid::{EmbeddedPixelSize, PixelSizeOrigin, PyramidLevel, PyramidOptions, SlidePyramid};
pub use range::RangeRead;
pub use slide_image::{BACKGROUND, SlideImage};
pub use stain::{ColorTransfer, NormalizedSlide, StainNormalization};
pub use tissue_mask::{TissueMask, TissueMaskConfig, tissue_grid};
