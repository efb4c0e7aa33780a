//! What ridge reads of a patch and EGN finds its exemplars by: the statistics of the patch and of its centre.

use burn::tensor::{Tensor, TensorData};

use super::image_statistics::{PATCH_STATISTICS, patch_statistics};

/// Sides of the centred squares whose statistics are read, as parts of the patch: at 512 px, the three patches of
/// MagNet's paper (512, 224 and 112 px).
const CROPS: [f64; 3] = [1.0, 224.0 / 512.0, 112.0 / 512.0];

/// Numbers `F` of each patch.
pub(super) const PATCH_FEATURES: usize = CROPS.len() * PATCH_STATISTICS;

/// The statistics of patches and their centres. Reads the patches back from the device, because the statistics are the
/// host's; no gradient goes through.
///
/// # Shapes
/// - `patches`: `[N,3,P,P]` RGB in 0..1
/// - output: `[N,F]`
pub(super) fn patch_features(patches: Tensor<4>) -> Tensor<2> {
    let [count, _, side, width] = patches.dims();
    let device = patches.device();
    let pixels = patches.permute([0, 2, 3, 1]).into_data().convert::<f32>();
    // A device that fails gives no pixels: zeros here, and an error from whoever reads what comes of them.
    let pixels = pixels.try_into_vec::<f32>().unwrap_or_default();
    let mut values = Vec::with_capacity(count * PATCH_FEATURES);
    for patch in pixels.chunks_exact((3 * side * width).max(1)) {
        let rgb: Vec<u8> = patch.iter().map(|value| (value * 255.0).round() as u8).collect();
        for part in CROPS {
            let crop = centre(&rgb, side, ((side as f64 * part).round() as usize).max(1));
            let own = patch_statistics(&crop.0, crop.1).unwrap_or([0.0; PATCH_STATISTICS]);
            values.extend(own);
        }
    }
    values.resize(count * PATCH_FEATURES, 0.0);
    Tensor::from_data(TensorData::new(values, [count, PATCH_FEATURES]), &device)
}

/// The centred square of `wanted` pixels (or one fewer, so that it has a centre in common) of a square RGB patch, and
/// its side.
fn centre(rgb: &[u8], side: usize, wanted: usize) -> (Vec<u8>, usize) {
    let wanted = wanted.min(side);
    let edge = (side - wanted) / 2;
    let own = side - 2 * edge;
    let mut crop = Vec::with_capacity(own * own * 3);
    for row in edge..edge + own {
        let start = (row * side + edge) * 3;
        crop.extend_from_slice(rgb.get(start..start + own * 3).unwrap_or_default());
    }
    (crop, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_of_a_patch_is_its_middle() {
        let rgb: Vec<u8> = (0..25).flat_map(|pixel| [pixel; 3]).collect();
        let (crop, side) = centre(&rgb, 5, 3);
        assert_eq!(side, 3);
        assert_eq!(crop.iter().step_by(3).copied().collect::<Vec<_>>(), [6, 7, 8, 11, 12, 13, 16, 17, 18]);
        // Four of five pixels have no centre in common with them: all five.
        assert_eq!(centre(&rgb, 5, 4), (rgb.clone(), 5));
        assert_eq!(centre(&rgb, 5, 9), (rgb, 5));
    }
}
