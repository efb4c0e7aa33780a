//! What can be wrong with an image or with what is asked of it.

use super::decode::ImageFormat;
use crate::tiff::TiffError;

/// What can be wrong with an image or with what is asked of it. The file's name is the caller's to add.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SlideError {
    /// The bytes do not start as any image that is read here.
    #[error("not an image: expected PNG, JPEG or TIFF, found {found}")]
    NotAnImage {
        /// What the bytes look like instead.
        found: String,
    },
    /// The header declares more pixels than the limits allow.
    #[error(
        "image too large: the {format} header declares {width_px} x {height_px} pixels, the limits are \
         {max_width_px} x {max_height_px} and {max_pixels} in all"
    )]
    TooManyPixels {
        /// The image's format.
        format: ImageFormat,
        /// Declared width.
        width_px: u32,
        /// Declared height.
        height_px: u32,
        /// Largest width allowed.
        max_width_px: u32,
        /// Largest height allowed.
        max_height_px: u32,
        /// Largest number of pixels allowed.
        max_pixels: u64,
    },
    /// The decoded samples would take more memory than the limits allow.
    #[error("image too large: decoding the {format} takes {bytes} bytes, the limit is {max_bytes}")]
    TooManyBytes {
        /// The image's format.
        format: ImageFormat,
        /// Bytes of the decoded samples.
        bytes: u64,
        /// Largest number allowed.
        max_bytes: u64,
    },
    /// The file ends before the image does.
    #[error("truncated {format}: {detail}")]
    Truncated {
        /// The image's format.
        format: ImageFormat,
        /// What was still expected.
        detail: String,
    },
    /// The decoder gave up.
    #[error("damaged or unsupported {format}: {detail}")]
    Undecodable {
        /// The image's format.
        format: ImageFormat,
        /// The decoder's own words.
        detail: String,
    },
    /// A TIFF file is damaged, or is none that is read here.
    #[error(transparent)]
    Tiff(#[from] TiffError),
    /// A size that does not agree with the pixels given.
    #[error(
        "pixel buffer: expected {expected} bytes for {width_px} x {height_px} RGB pixels, found {found} (a side must \
         be at least one pixel)"
    )]
    PixelBuffer {
        /// Width claimed.
        width_px: u32,
        /// Height claimed.
        height_px: u32,
        /// Bytes that these sizes need.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A pixel size that is no size.
    #[error("pixel size: expected a number of µm per pixel above 0, found {found}")]
    PixelSize {
        /// The value given.
        found: f64,
    },
    /// A window that cannot be read.
    #[error("patch: expected {expected}, found {found}")]
    Window {
        /// What can be read.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// A setting out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
}
