//! Bringing slides of different stain strength to one appearance.
//!
//! The colours of a slide's tissue are moved, channel by channel, to a reference mean and standard deviation (Reinhard
//! et al. 2001, in RGB). It uses the image alone, so it is the same at training and at prediction.

use serde::{Deserialize, Serialize};

use super::error::SlideError;
use super::patch::PatchReader;
use super::slide_image::SlideImage;
use super::tissue_mask::{TissueMask, TissueMaskConfig};
use crate::coordinates::SlidePx;

/// What the tissue looks like after normalisation: an H&E section of ordinary strength, 0..255.
const REFERENCE: [Moments; 3] = [
    Moments { mean: 190.0, deviation: 36.0 },
    Moments { mean: 150.0, deviation: 44.0 },
    Moments { mean: 185.0, deviation: 32.0 },
];

/// Longest side of the picture that the statistics are taken from. All pixels of a larger one add nothing.
const PICTURE_SIDE_PX: u32 = 2048;

/// A channel whose standard deviation is below this is flat, and is moved but not stretched.
const MIN_DEVIATION: f64 = 2.0;

/// Most that a channel is stretched or shrunk.
const MAX_STRETCH: f64 = 3.0;

/// Whether a slide's colours are brought to the reference before a model sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StainNormalization {
    /// The colours stay as scanned, as published.
    #[default]
    None,
    /// Mean and standard deviation of each channel over the slide's tissue become those of the reference.
    Slide,
}

/// Mean and standard deviation of a channel over tissue, 0..255.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moments {
    mean: f64,
    deviation: f64,
}

/// For each channel the new value of each old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColorTransfer {
    channels: [[u8; 256]; 3],
}

impl ColorTransfer {
    /// The transfer from a slide's tissue to the reference. A slide without tissue is left as it is.
    ///
    /// # Errors
    /// Whatever reading the slide gives.
    pub fn to_reference(slide: &dyn PatchReader) -> Result<Self, SlideError> {
        let mask = TissueMask::find(slide, &TissueMaskConfig::default())?;
        let picture = slide.thumbnail(PICTURE_SIDE_PX)?;
        let scale = picture.um_per_px() / slide.um_per_px();
        let width = picture.width_px() as usize;
        let mut count = 0.0;
        let mut sums = [[0.0; 2]; 3];
        for (index, pixel) in picture.rgb().as_chunks::<3>().0.iter().enumerate() {
            let (column, row) = ((index % width) as f64 + 0.5, (index / width) as f64 + 0.5);
            if !mask.contains(SlidePx { x: column * scale, y: row * scale }) {
                continue;
            }
            count += 1.0;
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                let value = f64::from(value);
                *sum = [sum[0] + value, sum[1] + value * value];
            }
        }
        if count == 0.0 {
            return Ok(Self::from_affine([(1.0, 0.0); 3]));
        }
        let mut affine = [(1.0, 0.0); 3];
        for ((target, sum), reference) in affine.iter_mut().zip(sums).zip(REFERENCE) {
            let mean = sum[0] / count;
            let deviation = (sum[1] / count - mean * mean).max(0.0).sqrt();
            let stretch = if deviation < MIN_DEVIATION {
                1.0
            } else {
                (reference.deviation / deviation).clamp(1.0 / MAX_STRETCH, MAX_STRETCH)
            };
            *target = (stretch, reference.mean - mean * stretch);
        }
        Ok(Self::from_affine(affine))
    }

    /// `(scale, offset)` per channel.
    fn from_affine(affine: [(f64, f64); 3]) -> Self {
        // The cast saturates at 0 and 255.
        let table = |(scale, offset): (f64, f64)| {
            std::array::from_fn(|value| (value as f64 * scale + offset).round() as u8)
        };
        Self { channels: affine.map(table) }
    }

    /// Changes interleaved RGB pixels.
    pub fn apply(&self, rgb: &mut [u8]) {
        let [red, green, blue] = &self.channels;
        for pixel in rgb.as_chunks_mut::<3>().0 {
            let [r, g, b] = *pixel;
            *pixel = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
        }
    }
}

/// A slide as a model sees it: the reader's pixels, after the colour transfer where there is one.
#[derive(Debug)]
pub struct NormalizedSlide<R> {
    slide: R,
    transfer: Option<ColorTransfer>,
}

impl<R: PatchReader> NormalizedSlide<R> {
    /// Prepares `slide` as `normalization` says.
    ///
    /// # Errors
    /// Whatever reading the slide gives.
    pub fn new(slide: R, normalization: StainNormalization) -> Result<Self, SlideError> {
        let transfer = match normalization {
            StainNormalization::None => None,
            StainNormalization::Slide => Some(ColorTransfer::to_reference(&slide)?),
        };
        Ok(Self { slide, transfer })
    }

    /// The slide as scanned.
    pub fn scanned(&self) -> &R {
        &self.slide
    }
}

impl<R: PatchReader> PatchReader for NormalizedSlide<R> {
    fn width_px(&self) -> u32 {
        self.slide.width_px()
    }

    fn height_px(&self) -> u32 {
        self.slide.height_px()
    }

    fn um_per_px(&self) -> f64 {
        self.slide.um_per_px()
    }

    fn read_patch(
        &self,
        center: SlidePx,
        side_um: f64,
        out_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError> {
        self.slide.read_patch(center, side_um, out_px, out)?;
        if let Some(transfer) = &self.transfer {
            transfer.apply(out);
        }
        Ok(())
    }

    fn read_patches(&self, centers: &[SlidePx], side_um: f64, out_px: usize) -> Result<Vec<u8>, SlideError> {
        let mut patches = self.slide.read_patches(centers, side_um, out_px)?;
        if let Some(transfer) = &self.transfer {
            transfer.apply(&mut patches);
        }
        Ok(patches)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        let picture = self.slide.thumbnail(max_side_px)?;
        let Some(transfer) = &self.transfer else { return Ok(picture) };
        let mut rgb = picture.rgb().to_vec();
        transfer.apply(&mut rgb);
        SlideImage::new(picture.width_px(), picture.height_px(), rgb, picture.um_per_px())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disc of tissue whose colours alternate around a mean, on glass.
    fn slide(mean: [u8; 3], swing: u8) -> SlideImage {
        let side = 400;
        let rgb = (0..side * side)
            .flat_map(|index: u32| {
                let (x, y) = (f64::from(index % side) - 200.0, f64::from(index / side) - 200.0);
                if x.hypot(y) > 150.0 {
                    return [250; 3];
                }
                if (index % side + index / side).is_multiple_of(2) {
                    mean.map(|value| value - swing)
                } else {
                    mean.map(|value| value + swing)
                }
            })
            .collect();
        SlideImage::new(side, side, rgb, 4.0).unwrap()
    }

    fn tissue_moments(slide: &dyn PatchReader) -> [Moments; 3] {
        // 200 x 200 px within the disc, at the slide's own scale.
        let patch = slide.read_patches(&[SlidePx { x: 200.0, y: 200.0 }], 800.0, 200).unwrap();
        std::array::from_fn(|channel| {
            let values: Vec<f64> =
                patch.iter().skip(channel).step_by(3).map(|&value| f64::from(value)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            Moments { mean, deviation: variance.sqrt() }
        })
    }

    #[test]
    fn slides_of_different_strength_look_alike_afterwards() {
        let pale = NormalizedSlide::new(slide([205, 170, 195], 20), StainNormalization::Slide).unwrap();
        let strong = NormalizedSlide::new(slide([160, 100, 150], 30), StainNormalization::Slide).unwrap();
        for (one, other) in tissue_moments(&pale).into_iter().zip(tissue_moments(&strong)) {
            assert!((one.mean - other.mean).abs() < 4.0, "{one:?} {other:?}");
            assert!((one.deviation - other.deviation).abs() < 4.0, "{one:?} {other:?}");
        }
        for (found, reference) in tissue_moments(&pale).into_iter().zip(REFERENCE) {
            assert!((found.mean - reference.mean).abs() < 5.0, "{found:?} {reference:?}");
        }
    }

    #[test]
    fn without_normalisation_the_pixels_are_the_scanned_ones() {
        let scanned = slide([160, 100, 150], 30);
        let same = NormalizedSlide::new(scanned.clone(), StainNormalization::None).unwrap();
        assert_eq!(tissue_moments(&same), tissue_moments(&scanned));
        assert_eq!(same.thumbnail(100).unwrap(), scanned.thumbnail(100).unwrap());
    }

    #[test]
    fn a_slide_of_glass_is_left_alone() {
        let glass = SlideImage::new(64, 64, vec![244; 64 * 64 * 3], 8.0).unwrap();
        let normalized = NormalizedSlide::new(glass.clone(), StainNormalization::Slide).unwrap();
        assert_eq!(normalized.thumbnail(64).unwrap(), glass);
    }
}
