//! The slide image: decoded within limits that a 32-bit memory can hold, and a small picture of it for the page.

use std::sync::Arc;

use magnet_core::digest::sha256_hex;
use magnet_core::slide::{DecodeLimits, PatchReader, SlideImage, decode};

use super::error::EngineError;
use crate::protocol::{ImageSummary, RegionFrame};

/// 30,000 px on a side and 150 million pixels in all, of which 112 million may have 16 bits in four channels. Module
/// memory ends at 4 GiB, and while an image is decoded it holds the file, the samples and the RGB values together.
const LIMITS: DecodeLimits = DecodeLimits {
    max_width_px: 30_000,
    max_height_px: 30_000,
    max_pixels: 150_000_000,
    max_bytes: 900_000_000,
};
/// Longer side of the preview, in pixels. Canvases of this size work everywhere.
const PREVIEW_SIDE_PX: u32 = 4096;
/// Pixel sizes that a microscope image can have, in µm.
const PIXEL_SIZES_UM: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// Stands in for a pixel size that nobody has given yet; nothing is predicted with it.
const UNKNOWN_UM_PER_PX: f64 = 1.0;

/// An image that is open.
#[derive(Debug)]
pub struct OpenImage {
    name: String,
    sha256: String,
    slide: Arc<SlideImage>,
    um_per_px: Option<f64>,
    embedded_um_per_px: Option<f64>,
    /// Where the pixels lie on a slide, where they are a region of one; `sha256` is of the pixels then.
    region: Option<RegionFrame>,
}

/// A small picture of an image.
#[derive(Debug)]
pub struct Preview {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Interleaved RGBA, opaque, rows from the top.
    pub rgba: Vec<u8>,
}

impl OpenImage {
    /// Decodes a PNG, JPEG or TIFF file. The given pixel size, in µm, goes before the file's own.
    ///
    /// # Errors
    /// If the bytes are no such image, one beyond the limits, or the pixel size is none.
    pub fn read(bytes: &[u8], name: String, um_per_px: Option<f64>) -> Result<Self, EngineError> {
        if let Some(um_per_px) = um_per_px {
            check_pixel_size(um_per_px)?;
        }
        let decoded = decode(bytes, &LIMITS).map_err(|error| EngineError::from(error).in_file(&name))?;
        let embedded_um_per_px = decoded.embedded_um_per_px;
        let um_per_px = um_per_px.or(embedded_um_per_px);
        let slide = decoded
            .into_slide(um_per_px.unwrap_or(UNKNOWN_UM_PER_PX))
            .map_err(|error| EngineError::from(error).in_file(&name))?;
        Ok(Self {
            sha256: sha256_hex(bytes),
            slide: Arc::new(slide),
            name,
            um_per_px,
            embedded_um_per_px,
            region: None,
        })
    }

    /// Takes a region of a slide: `width_px` × `height_px` interleaved RGB pixels of `um_per_px` µm.
    ///
    /// # Errors
    /// If the pixels are not as many as that, or the pixel size is none.
    pub fn from_pixels(
        rgb: Vec<u8>,
        name: String,
        (width_px, height_px): (u32, u32),
        um_per_px: f64,
        region: RegionFrame,
    ) -> Result<Self, EngineError> {
        check_pixel_size(um_per_px)?;
        let sha256 = sha256_hex(&rgb);
        let slide = SlideImage::new(width_px, height_px, rgb, um_per_px)
            .map_err(|error| EngineError::from(error).in_file(&name))?;
        let um_per_px = Some(um_per_px);
        Ok(Self {
            name,
            sha256,
            slide: Arc::new(slide),
            um_per_px,
            embedded_um_per_px: None,
            region: Some(region),
        })
    }

    /// Settles the pixel size, in µm.
    ///
    /// # Errors
    /// If it is none that a microscope image can have.
    pub fn set_pixel_size(&mut self, um_per_px: f64) -> Result<(), EngineError> {
        check_pixel_size(um_per_px)?;
        if self.um_per_px != Some(um_per_px) {
            let slide = &self.slide;
            let rgb = slide.rgb().to_vec();
            self.slide = Arc::new(SlideImage::new(slide.width_px(), slide.height_px(), rgb, um_per_px)?);
            self.um_per_px = Some(um_per_px);
        }
        Ok(())
    }

    /// The pixels, with their size.
    ///
    /// # Errors
    /// If nobody has given the pixel size.
    pub fn slide(&self) -> Result<&Arc<SlideImage>, EngineError> {
        if self.um_per_px.is_none() {
            return Err(EngineError::state(
                "the image's pixel size in µm",
                "none, neither given nor in the file",
            ));
        }
        Ok(&self.slide)
    }

    /// File name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// File name without its extension.
    pub fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem)
    }

    /// What names of files made from this begin with: the name without its extension, and which region it is.
    pub fn file_stem(&self) -> String {
        match &self.region {
            None => self.stem().to_owned(),
            Some(frame) => {
                let side = |px: u32| (f64::from(px) * frame.scale).round();
                let (width, height) = (side(self.slide.width_px()), side(self.slide.height_px()));
                let (left, top) = (frame.left_px, frame.top_px);
                format!("{}_x{left}_y{top}_w{width}_h{height}", self.stem())
            }
        }
    }

    /// Where on which slide the pixels lie, where they are a region of one.
    pub fn region(&self) -> Option<&RegionFrame> {
        self.region.as_ref()
    }

    /// SHA-256 of the file, lower-case hexadecimal; of the RGB values where this is a region of a slide.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The image at a size whose longer side is at most 4096 px.
    ///
    /// # Errors
    /// If the image cannot be resampled.
    pub fn preview(&self) -> Result<Preview, EngineError> {
        if self.slide.width_px().max(self.slide.height_px()) <= PREVIEW_SIDE_PX {
            return Ok(Preview::of(&self.slide));
        }
        Ok(Preview::of(&self.slide.thumbnail(PREVIEW_SIDE_PX)?))
    }

    /// What the image is, for people.
    pub fn summary(&self, preview_px: (u32, u32)) -> ImageSummary {
        ImageSummary {
            name: self.name.clone(),
            width_px: self.slide.width_px(),
            height_px: self.slide.height_px(),
            um_per_px: self.um_per_px,
            embedded_um_per_px: self.embedded_um_per_px,
            sha256: self.region.is_none().then(|| self.sha256.clone()),
            preview_px,
        }
    }
}

impl Preview {
    fn of(image: &SlideImage) -> Self {
        let mut rgba = Vec::with_capacity(image.rgb().len() / 3 * 4);
        for &[red, green, blue] in image.rgb().as_chunks::<3>().0 {
            rgba.extend([red, green, blue, u8::MAX]);
        }
        Self { width_px: image.width_px(), height_px: image.height_px(), rgba }
    }
}

fn check_pixel_size(um_per_px: f64) -> Result<(), EngineError> {
    if PIXEL_SIZES_UM.contains(&um_per_px) {
        return Ok(());
    }
    let (least, most) = (PIXEL_SIZES_UM.start(), PIXEL_SIZES_UM.end());
    Err(EngineError::input(format!("pixel size: expected {least} to {most} µm per pixel, found {um_per_px}")))
}
