//! Changes to a patch that leave its tissue what it is: flips, quarter turns, and the strength of the stains.

use rand::{Rng, RngExt};

use super::error::SlideError;

/// One of the eight symmetries of the square.
///
/// A patch is first transposed (rows become columns) if `transpose`, then mirrored left to right if `flip_x`, then
/// upside down if `flip_y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dihedral {
    transpose: bool,
    flip_x: bool,
    flip_y: bool,
}

impl Dihedral {
    /// Leaves a patch as it is.
    pub const IDENTITY: Dihedral = Dihedral { transpose: false, flip_x: false, flip_y: false };

    /// All eight, the identity first.
    pub const ALL: [Dihedral; 8] = {
        let mut all = [Dihedral::IDENTITY; 8];
        let mut index = 0;
        while index < 8 {
            all[index] =
                Dihedral { transpose: index & 4 != 0, flip_x: index & 1 != 0, flip_y: index & 2 != 0 };
            index += 1;
        }
        all
    };

    /// One of the eight, each as likely as the others.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let bits = rng.next_u32() >> 29; // The high bits are the good ones of any generator.
        Dihedral { transpose: bits & 4 != 0, flip_x: bits & 1 != 0, flip_y: bits & 2 != 0 }
    }

    /// The transform that does `self`, then `next`.
    pub fn then(self, next: Dihedral) -> Dihedral {
        // Moving `next`'s transposition in front of `self`'s flips swaps their axes.
        let (flip_x, flip_y) =
            if next.transpose { (self.flip_y, self.flip_x) } else { (self.flip_x, self.flip_y) };
        Dihedral {
            transpose: self.transpose ^ next.transpose,
            flip_x: flip_x ^ next.flip_x,
            flip_y: flip_y ^ next.flip_y,
        }
    }

    /// The transform that undoes `self`.
    pub fn inverse(self) -> Dihedral {
        if self.transpose { Dihedral { flip_x: self.flip_y, flip_y: self.flip_x, ..self } } else { self }
    }

    /// Transforms a square patch of `side_px` × `side_px` interleaved RGB pixels in place.
    ///
    /// # Errors
    /// [`SlideError::PixelBuffer`] when `rgb` has another length.
    pub fn apply(self, rgb: &mut [u8], side_px: usize) -> Result<(), SlideError> {
        let expected = (side_px as u64).saturating_mul(side_px as u64).saturating_mul(3);
        if rgb.len() as u64 != expected {
            let side = u32::try_from(side_px).unwrap_or(u32::MAX);
            return Err(SlideError::PixelBuffer {
                width_px: side,
                height_px: side,
                expected,
                found: rgb.len() as u64,
            });
        }
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        if self.transpose {
            for row in 0..side_px {
                for column in row + 1..side_px {
                    pixels.swap(row * side_px + column, column * side_px + row);
                }
            }
        }
        match (self.flip_x, self.flip_y) {
            (true, true) => pixels.reverse(),
            (true, false) => pixels.chunks_exact_mut(side_px.max(1)).for_each(<[_]>::reverse),
            (false, true) => {
                for row in 0..side_px / 2 {
                    let (above, below) = pixels.split_at_mut((side_px - 1 - row) * side_px);
                    above[row * side_px..(row + 1) * side_px].swap_with_slice(&mut below[..side_px]);
                }
            }
            (false, false) => {}
        }
        Ok(())
    }
}

/// Optical density of the stains haematoxylin, eosin and DAB per channel, rows of unit length (Ruifrok and Johnston
/// 2001).
const STAIN_OD: [[f32; 3]; 3] =
    [[0.651_038, 0.701_185, 0.290_494], [0.070_368, 0.991_082, 0.112_999], [0.268_166, 0.570_315, 0.776_427]];

/// How far stains vary: the scanner, the lab and the section's thickness, not the tissue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StainJitter {
    /// Each stain's amount is multiplied by a factor drawn from `1 ± scale`.
    pub scale: f32,
    /// Each stain's amount is moved by an offset drawn from `± shift`, in optical density (natural logarithm).
    pub shift: f32,
}

impl StainJitter {
    /// Draws one change of the stains. A strength of 0 gives the identity.
    pub fn draw(&self, rng: &mut impl Rng) -> StainChange {
        let mut symmetric = |strength: f32| {
            let unit: f32 = rng.random();
            if strength.is_finite() { (2.0 * unit - 1.0) * strength } else { 0.0 }
        };
        let scales = std::array::from_fn(|_| 1.0 + symmetric(self.scale));
        let shifts = std::array::from_fn(|_| symmetric(self.shift));
        StainChange::new(scales, shifts)
    }
}

/// A change of the amounts of haematoxylin, eosin and the remaining colour of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StainChange {
    /// Optical density → optical density; `None` is the identity, kept apart so that it is exact.
    map: Option<([[f32; 3]; 3], [f32; 3])>,
}

impl StainChange {
    /// Multiplies each stain's amount by its scale, then adds its shift (optical density, natural logarithm). The
    /// order is haematoxylin, eosin, remainder.
    pub fn new(scales: [f32; 3], shifts: [f32; 3]) -> Self {
        if scales == [1.0; 3] && shifts == [0.0; 3] {
            return Self { map: None };
        }
        // amounts = OD · S⁻¹, OD' = (amounts · diag(scales) + shifts) · S.
        let unmix = inverse(&STAIN_OD);
        let mut matrix = [[0.0; 3]; 3];
        let mut offset = [0.0; 3];
        for channel in 0..3 {
            for from in 0..3 {
                matrix[from][channel] =
                    (0..3).map(|stain| unmix[from][stain] * scales[stain] * STAIN_OD[stain][channel]).sum();
            }
            offset[channel] = (0..3).map(|stain| shifts[stain] * STAIN_OD[stain][channel]).sum();
        }
        Self { map: Some((matrix, offset)) }
    }

    /// Applies the change to interleaved RGB pixels.
    pub fn apply(&self, rgb: &mut [u8]) {
        let Some((matrix, offset)) = &self.map else { return };
        let density: [f32; 256] = std::array::from_fn(|value| -((value as f32 + 1.0) / 256.0).ln());
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        for pixel in pixels {
            let od = pixel.map(|value| density[usize::from(value)]);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let changed =
                    od[0] * matrix[0][channel] + od[1] * matrix[1][channel] + od[2] * matrix[2][channel];
                // The cast saturates, so light beyond white stays white.
                *value = (256.0 * (-changed - offset[channel]).exp() - 1.0).round() as u8;
            }
        }
    }
}

fn inverse(m: &[[f32; 3]; 3]) -> [[f32; 3]; 3] {
    let minor = |r0: usize, c0: usize, r1: usize, c1: usize| m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0];
    let determinant = m[0][0] * minor(1, 1, 2, 2) - m[0][1] * minor(1, 0, 2, 2) + m[0][2] * minor(1, 0, 2, 1);
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            // The cofactor of (column, row), by cyclic indices so that its sign is right.
            let (r0, r1) = ((column + 1) % 3, (column + 2) % 3);
            let (c0, c1) = ((row + 1) % 3, (row + 2) % 3);
            minor(r0, c0, r1, c1) / determinant
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    fn square(side: usize) -> Vec<u8> {
        (0..side * side).flat_map(|index| [index as u8, (index * 3) as u8, 255 - index as u8]).collect()
    }

    fn applied(transform: Dihedral, patch: &[u8], side: usize) -> Vec<u8> {
        let mut patch = patch.to_vec();
        transform.apply(&mut patch, side).unwrap();
        patch
    }

    #[test]
    fn the_eight_transforms_differ_and_form_a_group() {
        for side in [4, 5] {
            let patch = square(side);
            let images: Vec<_> =
                Dihedral::ALL.iter().map(|&transform| applied(transform, &patch, side)).collect();
            for (index, image) in images.iter().enumerate() {
                assert!(!images[..index].contains(image), "transform {index} repeats another");
            }
            for first in Dihedral::ALL {
                assert_eq!(applied(first.inverse(), &applied(first, &patch, side), side), patch);
                assert_eq!(first.then(first.inverse()), Dihedral::IDENTITY);
                for second in Dihedral::ALL {
                    let in_turn = applied(second, &applied(first, &patch, side), side);
                    assert_eq!(in_turn, applied(first.then(second), &patch, side), "{first:?} {second:?}");
                }
            }
        }
    }

    #[test]
    fn transforms_do_what_they_say() {
        // 0 1
        // 2 3
        let patch: Vec<u8> = (0..4).flat_map(|value| [value; 3]).collect();
        let corners =
            |transform| -> Vec<u8> { applied(transform, &patch, 2).iter().step_by(3).copied().collect() };
        assert_eq!(corners(Dihedral { flip_x: true, ..Dihedral::IDENTITY }), [1, 0, 3, 2]);
        assert_eq!(corners(Dihedral { flip_y: true, ..Dihedral::IDENTITY }), [2, 3, 0, 1]);
        assert_eq!(corners(Dihedral { transpose: true, ..Dihedral::IDENTITY }), [0, 2, 1, 3]);
        assert!(Dihedral::IDENTITY.apply(&mut [0; 11], 2).is_err());
    }

    #[test]
    fn all_transforms_are_drawn_equally_often() {
        let mut rng = stream(3, "augment", &[]);
        let mut counts = [0; 8];
        for _ in 0..8000 {
            let drawn = Dihedral::draw(&mut rng);
            counts[Dihedral::ALL.iter().position(|&transform| transform == drawn).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn no_strength_changes_nothing() {
        let mut patch = square(16);
        let none = StainJitter { scale: 0.0, shift: 0.0 };
        none.draw(&mut stream(1, "stain", &[])).apply(&mut patch);
        assert_eq!(patch, square(16));
    }

    #[test]
    fn the_way_to_stains_and_back_is_exact() {
        // A shift too small to move a byte takes the whole way through the stains.
        let change = StainChange::new([1.0; 3], [1e-7, 0.0, 0.0]);
        let mut patch = square(16);
        change.apply(&mut patch);
        assert_eq!(patch, square(16));
    }

    #[test]
    fn each_stain_is_changed_by_itself() {
        // Light through amounts (haematoxylin, eosin) of 1.0 and 0.5.
        let through = |amounts: [f32; 3]| -> [u8; 3] {
            std::array::from_fn(|channel| {
                let od: f32 = (0..3).map(|stain| amounts[stain] * STAIN_OD[stain][channel]).sum();
                (256.0 * (-od).exp() - 1.0).round() as u8
            })
        };
        let mut pixel = through([1.0, 0.5, 0.0]);
        StainChange::new([1.2, 1.0, 1.0], [0.0, 0.1, 0.0]).apply(&mut pixel);
        for (found, expected) in pixel.iter().zip(through([1.2, 0.6, 0.0])) {
            assert!(found.abs_diff(expected) <= 1, "{pixel:?}");
        }
    }

    #[test]
    fn more_stain_is_darker_and_white_cannot_overflow() {
        let mut patch = [200, 150, 180];
        StainChange::new([1.3; 3], [0.0; 3]).apply(&mut patch);
        assert!(patch[0] < 200 && patch[1] < 150 && patch[2] < 180, "{patch:?}");
        let mut white = [255; 3];
        StainChange::new([1.0; 3], [-0.5; 3]).apply(&mut white);
        assert_eq!(white, [255; 3]);
    }

    #[test]
    fn the_stream_alone_decides_the_jitter() {
        let jitter = StainJitter { scale: 0.2, shift: 0.05 };
        let draw = |counter| jitter.draw(&mut stream(5, "stain", &[counter]));
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }
}
