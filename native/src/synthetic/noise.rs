//! Gradient noise on the plane: the source of every smooth irregularity of the tissue.

/// Seeded two-dimensional gradient noise (Perlin 2002): zero on the integer lattice, smooth, roughly in -1..1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    seed: u32,
}

const DIAGONAL: f32 = std::f32::consts::FRAC_1_SQRT_2;
const GRADIENTS: [(f32, f32); 8] = [
    (1.0, 0.0),
    (DIAGONAL, DIAGONAL),
    (0.0, 1.0),
    (-DIAGONAL, DIAGONAL),
    (-1.0, 0.0),
    (-DIAGONAL, -DIAGONAL),
    (0.0, -1.0),
    (DIAGONAL, -DIAGONAL),
];
/// Brings the largest value (1/√2 at a cell's centre) close to 1.
const GAIN: f32 = 1.4;

impl Noise {
    /// Noise of one seed; only differing seeds give differing noise.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed: (seed ^ (seed >> 32)) as u32 }
    }

    /// The value at a point given in units of the noise's wavelength.
    #[inline]
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let (cell_x, cell_y) = (x.floor(), y.floor());
        let (dx, dy) = (x - cell_x, y - cell_y);
        let (column, row) = (cell_x as i32, cell_y as i32);
        let corner = |right: i32, down: i32| {
            let hash = hash2(column.wrapping_add(right), row.wrapping_add(down), self.seed);
            let (gx, gy) = GRADIENTS[(hash >> 29) as usize];
            gx * (dx - right as f32) + gy * (dy - down as f32)
        };
        let (u, v) = (fade(dx), fade(dy));
        let top = lerp(corner(0, 0), corner(1, 0), u);
        let bottom = lerp(corner(0, 1), corner(1, 1), u);
        GAIN * lerp(top, bottom, v)
    }

    /// A sum of octaves, each at half the wavelength and half the strength of the one before.
    pub(super) fn fractal(&self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut strength, mut frequency) = (0.0, 1.0, 1.0);
        for octave in 0..octaves {
            let offset = 17.3 * octave as f32;
            sum += strength * self.at(x * frequency + offset, y * frequency - offset);
            strength *= 0.5;
            frequency *= 2.0;
        }
        sum
    }
}

/// Mixes two lattice coordinates and a seed into 32 bits.
#[inline]
pub(super) fn hash2(x: i32, y: i32, seed: u32) -> u32 {
    let mut hash = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D);
    hash = (hash ^ (hash >> 12)).wrapping_mul(0x297A_2D39);
    hash ^ (hash >> 15)
}

#[inline]
fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// From `a` at 0 to `b` at 1.
#[inline]
pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, smooth between.
#[inline]
pub(super) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_vanishes_on_the_lattice_stays_in_range_and_follows_its_seed() {
        let (noise, other) = (Noise::new(3), Noise::new(4));
        let mut differs = false;
        for step in 0..2000 {
            let (x, y) = (step as f32 * 0.137 - 90.0, step as f32 * 0.071 - 40.0);
            let value = noise.at(x, y);
            assert!(value.abs() <= 1.0 + 1e-5, "{value}");
            differs |= (value - other.at(x, y)).abs() > 0.1;
        }
        assert!(differs);
        assert_eq!(noise.at(5.0, -7.0), 0.0);
    }
}
