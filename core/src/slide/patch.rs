//! Square patches around points of a slide, whatever holds its pixels.

use std::sync::Arc;

use super::error::SlideError;
use super::slide_image::SlideImage;
use crate::coordinates::SlidePx;

/// Farthest coordinate that is still told apart to a thousandth of a pixel.
const MAX_COORDINATE_PX: f64 = 1e12;

/// A rectangle in slide pixels; it may reach beyond the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PxWindow {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Width, in pixels.
    pub width: f64,
    /// Height, in pixels.
    pub height: f64,
}

impl PxWindow {
    /// The square of a side, in pixels, around a point.
    pub fn around(center: SlidePx, side_px: f64) -> Self {
        let half = side_px / 2.0;
        Self { left: center.x - half, top: center.y - half, width: side_px, height: side_px }
    }

    /// Refuses a window that is empty, not finite, or longer than `max_side_px` on a side.
    pub(super) fn check(&self, max_side_px: f64) -> Result<(), SlideError> {
        let reachable = |value: f64| value.is_finite() && value.abs() <= MAX_COORDINATE_PX;
        let readable = |side: f64| side.is_finite() && side > 0.0 && side <= max_side_px;
        if reachable(self.left) && reachable(self.top) && readable(self.width) && readable(self.height) {
            return Ok(());
        }
        Err(SlideError::Window {
            expected: format!("a finite place and sides above 0 and up to {max_side_px} slide pixels"),
            found: format!("{} x {} pixels at ({}, {})", self.width, self.height, self.left, self.top),
        })
    }
}

/// What gives patches of a slide: an image in memory, or a reader of image pyramids. `Sync`, so that several threads
/// may read one slide.
pub trait PatchReader: Sync {
    /// Width of the slide at full resolution, in pixels.
    fn width_px(&self) -> u32;

    /// Height of the slide at full resolution, in pixels.
    fn height_px(&self) -> u32;

    /// Side of a full-resolution pixel, in µm.
    fn um_per_px(&self) -> f64;

    /// Reads the square of side `side_um` around `center`, resampled to `out_px` × `out_px`, into the interleaved RGB
    /// bytes `out`. Every source pixel of the square has its say when it is shrunk; what lies beyond the slide is
    /// white.
    ///
    /// # Errors
    /// [`SlideError::Window`] when the square cannot be read, or when `out` is not `out_px · out_px · 3` bytes long.
    fn read_patch(
        &self,
        center: SlidePx,
        side_um: f64,
        out_px: usize,
        out: &mut [u8],
    ) -> Result<(), SlideError>;

    /// The whole slide at a size whose longer side is at most `max_side_px`, with its own pixel size. It shares the
    /// slide's top left corner. A slide that is small enough comes back as it is.
    ///
    /// # Errors
    /// Whatever reading the slide gives.
    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError>;

    /// Reads the patches around `centers` one after the other: `centers.len() · out_px · out_px · 3` bytes.
    ///
    /// # Errors
    /// As [`PatchReader::read_patch`].
    fn read_patches(&self, centers: &[SlidePx], side_um: f64, out_px: usize) -> Result<Vec<u8>, SlideError> {
        let patch_len = out_px.saturating_mul(out_px).saturating_mul(3);
        if patch_len == 0 || centers.is_empty() {
            return Ok(Vec::new());
        }
        let total = patch_len.checked_mul(centers.len()).filter(|&bytes| isize::try_from(bytes).is_ok());
        let Some(total) = total else {
            return Err(SlideError::Window {
                expected: "patches that fit in memory".into(),
                found: format!("{} patches of {out_px} x {out_px} pixels", centers.len()),
            });
        };
        let mut patches = vec![0; total];
        for (&center, patch) in centers.iter().zip(patches.chunks_exact_mut(patch_len)) {
            self.read_patch(center, side_um, out_px, patch)?;
        }
        Ok(patches)
    }
}

/// What points at a slide reads as the slide does.
macro_rules! read_through {
    () => {
        fn width_px(&self) -> u32 {
            (**self).width_px()
        }

        fn height_px(&self) -> u32 {
            (**self).height_px()
        }

        fn um_per_px(&self) -> f64 {
            (**self).um_per_px()
        }

        fn read_patch(
            &self,
            center: SlidePx,
            side_um: f64,
            out_px: usize,
            out: &mut [u8],
        ) -> Result<(), SlideError> {
            (**self).read_patch(center, side_um, out_px, out)
        }

        fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
            (**self).thumbnail(max_side_px)
        }

        fn read_patches(
            &self,
            centers: &[SlidePx],
            side_um: f64,
            out_px: usize,
        ) -> Result<Vec<u8>, SlideError> {
            (**self).read_patches(centers, side_um, out_px)
        }
    };
}

impl<R: PatchReader + ?Sized> PatchReader for &R {
    read_through!();
}

/// One slide in the hands of several owners.
impl<R: PatchReader + Send + ?Sized> PatchReader for Arc<R> {
    read_through!();
}

#[cfg(test)]
mod tests {
    use super::super::slide_image::BACKGROUND;
    use super::*;

    /// Red rises by 2 per column, green by 1 per row.
    fn ramp(width: u32, height: u32, um_per_px: f64) -> SlideImage {
        let rgb =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 2) as u8, y as u8, 7])).collect();
        SlideImage::new(width, height, rgb, um_per_px).unwrap()
    }

    fn patch(image: &SlideImage, x: f64, y: f64, side_um: f64, out_px: usize) -> Vec<[u8; 3]> {
        let mut out = vec![0; out_px * out_px * 3];
        image.read_patch(SlidePx { x, y }, side_um, out_px, &mut out).unwrap();
        out.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    #[test]
    fn a_patch_at_the_image_scale_is_the_image_itself() {
        let image = ramp(100, 100, 0.5);
        // 10 px wide around (30, 40): columns 25..35, rows 35..45.
        let read = patch(&image, 30.0, 40.0, 5.0, 10);
        for (index, pixel) in read.iter().enumerate() {
            let (row, column) = (index / 10, index % 10);
            assert_eq!(*pixel, [(25 + column) as u8 * 2, (35 + row) as u8, 7]);
        }
    }

    #[test]
    fn the_middle_of_an_odd_patch_is_the_ramp_at_the_centre() {
        let image = ramp(100, 100, 1.0);
        for (side, out_px) in [(5.0, 5), (15.0, 5), (20.0, 5), (33.0, 11), (2.5, 5)] {
            let read = patch(&image, 50.5, 40.5, side, out_px);
            let middle = read[out_px * out_px / 2];
            // Pixel (50, 40) has its middle at (50.5, 40.5).
            assert_eq!(middle, [100, 40, 7], "side {side}, {out_px} px");
        }
    }

    #[test]
    fn enlarging_interpolates_between_pixels() {
        let image = ramp(100, 100, 1.0);
        // Two columns on four pixels: positions 49.75, 50.25, … fall half-way between the pixels' middles.
        let read = patch(&image, 50.0, 50.0, 2.0, 4);
        let reds: Vec<u8> = read[..4].iter().map(|pixel| pixel[0]).collect();
        // Middles at 49.25, 49.75, 50.25, 50.75 → ramp 2·(x − 0.5) = 97.5, 98.5, 99.5, 100.5, rounded either way.
        for (red, exact) in reds.iter().zip([97.5, 98.5, 99.5, 100.5]) {
            assert!((f64::from(*red) - exact).abs() <= 0.5, "{red} against {exact}");
        }
    }

    #[test]
    fn shrinking_by_four_averages_what_it_covers() {
        // A one-pixel checkerboard: any method that skips pixels gives black or white, the mean is grey.
        let rgb = (0..64u32)
            .flat_map(|y| (0..64u32).flat_map(move |x| [if (x + y) % 2 == 0 { 0 } else { 200 }; 3]))
            .collect();
        let image = SlideImage::new(64, 64, rgb, 0.25).unwrap();
        for pixel in patch(&image, 32.0, 32.0, 8.0, 8) {
            assert!(pixel.iter().all(|&value| value.abs_diff(100) <= 1), "{pixel:?}");
        }
    }

    #[test]
    fn physical_size_decides_what_is_seen() {
        // The same tissue at two resolutions gives the same patch.
        let fine = ramp(120, 120, 0.5);
        let coarse = fine.thumbnail(60).unwrap();
        assert_eq!((coarse.width_px(), coarse.um_per_px()), (60, 1.0));
        let from_fine = patch(&fine, 60.0, 60.0, 20.0, 10);
        let from_coarse = patch(&coarse, 30.0, 30.0, 20.0, 10);
        for (a, b) in from_fine.iter().zip(&from_coarse) {
            assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1), "{a:?} {b:?}");
        }
    }

    #[test]
    fn beyond_the_border_is_white() {
        let image = SlideImage::new(8, 8, vec![0; 8 * 8 * 3], 1.0).unwrap();
        let read = patch(&image, 0.0, 0.0, 8.0, 8);
        for (index, pixel) in read.iter().enumerate() {
            let inside = index / 8 >= 4 && index % 8 >= 4;
            assert_eq!(*pixel, if inside { [0; 3] } else { [BACKGROUND; 3] }, "pixel {index}");
        }
        let outside = patch(&image, -100.0, 400.0, 8.0, 4);
        assert!(outside.iter().all(|pixel| *pixel == [BACKGROUND; 3]));
    }

    #[test]
    fn a_border_patch_agrees_with_a_padded_image() {
        let image = ramp(40, 40, 1.0);
        let mut padded = vec![BACKGROUND; 80 * 80 * 3];
        for row in 0..40 {
            let start = ((row + 20) * 80 + 20) * 3;
            padded[start..start + 120].copy_from_slice(&image.rgb()[row * 120..(row + 1) * 120]);
        }
        let padded = SlideImage::new(80, 80, padded, 1.0).unwrap();
        for (x, y) in [(2.25, 3.5), (38.0, 1.75), (20.0, 20.0), (39.9, 39.9)] {
            assert_eq!(patch(&image, x, y, 17.3, 9), patch(&padded, x + 20.0, y + 20.0, 17.3, 9));
        }
    }

    #[test]
    fn patches_in_a_row_are_the_single_patches() {
        let image = ramp(50, 50, 0.7);
        let centers = [SlidePx { x: 10.0, y: 12.0 }, SlidePx { x: 33.3, y: 40.1 }];
        let all = image.read_patches(&centers, 9.0, 6).unwrap();
        let single: Vec<u8> =
            centers.iter().flat_map(|c| patch(&image, c.x, c.y, 9.0, 6).into_iter().flatten()).collect();
        assert_eq!(all, single);
    }

    #[test]
    fn a_shared_slide_reads_as_the_slide_itself() {
        let image = ramp(50, 40, 0.7);
        let shared = Arc::new(image.clone());
        let center = [SlidePx { x: 12.5, y: 30.0 }];
        assert_eq!(
            (shared.width_px(), shared.height_px(), PatchReader::um_per_px(&shared)),
            (image.width_px(), image.height_px(), image.um_per_px())
        );
        let reader: &dyn PatchReader = &shared;
        assert_eq!(reader.read_patches(&center, 9.0, 6), image.read_patches(&center, 9.0, 6));
        assert_eq!(reader.thumbnail(20), image.thumbnail(20));
    }

    #[test]
    fn impossible_windows_are_refused() {
        let image = ramp(10, 10, 1.0);
        let mut out = vec![0; 4 * 4 * 3];
        let center = SlidePx { x: 5.0, y: 5.0 };
        for (center, side) in [
            (SlidePx { x: f64::NAN, y: 0.0 }, 4.0),
            (SlidePx { x: f64::INFINITY, y: 0.0 }, 4.0),
            (SlidePx { x: 1e300, y: 0.0 }, 4.0),
            (center, 0.0),
            (center, -3.0),
            (center, f64::NAN),
            (center, 1e9),
        ] {
            let error = image.read_patch(center, side, 4, &mut out).unwrap_err();
            assert!(matches!(error, SlideError::Window { .. }), "{error}");
        }
        // The filter's margin counts too: 8000 px on one pixel reach 8000 px further on each side.
        assert!(image.read_patch(center, 8000.0, 1, &mut [0; 3]).is_err());
        assert!(image.read_patch(center, 4.0, 5, &mut out).is_err());
        assert!(image.read_patch(center, 4.0, 0, &mut []).is_err());
    }

    #[test]
    fn thumbnails_keep_one_scale_on_both_axes() {
        let image = ramp(101, 67, 0.5);
        let small = image.thumbnail(25).unwrap();
        assert_eq!((small.width_px(), small.height_px()), (25, 16));
        assert!((small.um_per_px() - 0.5 * 101.0 / 25.0).abs() < 1e-12);
        // The ramp at the thumbnail's pixel (10, 8).
        let scale = 101.0 / 25.0;
        let [red, green, _] = small.pixel(10, 8).unwrap();
        assert!((f64::from(red) - 2.0 * (10.5 * scale - 0.5)).abs() <= 1.0);
        assert!((f64::from(green) - (8.5 * scale - 0.5)).abs() <= 1.0);
    }
}
