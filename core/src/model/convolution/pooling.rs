//! Max pooling of 3×3 with stride 2 over maps without negative values, whose margin of zeros of one pixel therefore
//! never wins.

use super::{Band, Map, output_side};

/// `[N,h,w,C]` of the pooled map.
pub(in crate::model) fn pooled_sizes<V>(input: &Map<V>) -> [usize; 4] {
    [input.images, output_side(input.height, 2), output_side(input.width, 2), input.channels]
}

/// Pools a map with a margin of one pixel: a band of a map of [`pooled_sizes`].
pub(in crate::model) fn max_pool(input: Map<&[f32]>, band: &Band, out: &mut [f32]) {
    let channels = input.channels;
    for (image, y, inside) in band.rows_inside() {
        for (x, largest) in out[inside].chunks_exact_mut(channels).enumerate() {
            for row in 0..3 {
                let from = input.place(image, 2 * y + row, 2 * x);
                for (column, values) in
                    input.values[from..from + 3 * channels].chunks_exact(channels).enumerate()
                {
                    if row + column == 0 {
                        largest.copy_from_slice(values);
                    } else {
                        for (largest, value) in largest.iter_mut().zip(values) {
                            *largest = if value > largest { *value } else { *largest };
                        }
                    }
                }
            }
        }
    }
}

/// Brings the gradient of a pooled map back to the pixels that won, the first where several are equal; adds to `out`,
/// which is like `input` in every size.
#[cfg(not(target_family = "wasm"))]
pub(in crate::model) fn max_pool_gradient(input: Map<&[f32]>, gradient: Map<&[f32]>, out: &mut [f32]) {
    let channels = input.channels;
    let mut largest = vec![0.0; channels];
    let mut winners = vec![0; channels];
    for image in 0..gradient.images {
        for y in 0..gradient.height {
            for x in 0..gradient.width {
                for row in 0..3 {
                    let from = input.place(image, 2 * y + row, 2 * x);
                    for column in 0..3 {
                        let place = from + column * channels;
                        let values = &input.values[place..place + channels];
                        for ((largest, winner), value) in largest.iter_mut().zip(&mut winners).zip(values) {
                            let wins = row + column == 0 || *value > *largest;
                            (*largest, *winner) = if wins { (*value, place) } else { (*largest, *winner) };
                        }
                    }
                }
                let from = gradient.place(image, y + gradient.margin, x + gradient.margin);
                for (channel, winner) in winners.iter().enumerate() {
                    out[winner + channel] += gradient.values[from + channel];
                }
            }
        }
    }
}
