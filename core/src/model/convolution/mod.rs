//! Convolutions on the CPU, for inference and for training.
//!
//! Maps lie channels last, each image in a margin of zeros ([`Map`]), so that a row of a kernel's window is one run of
//! numbers: the kernel's width times the channels. Products are taken in tiles that stay in registers
//! ([`Convolution`], [`weight_gradient`]); no matrix of windows is ever written.

mod band;
mod kernel;
mod map;
#[cfg(not(target_family = "wasm"))]
mod memory;
mod pooling;
#[cfg(not(target_family = "wasm"))]
mod weight_gradient;

pub(super) use band::Band;
pub(super) use kernel::{Convolution, Finish, output_side};
pub(super) use map::Map;
#[cfg(not(target_family = "wasm"))]
pub(super) use memory::{Loan, Memory};
#[cfg(not(target_family = "wasm"))]
pub(super) use pooling::max_pool_gradient;
pub(super) use pooling::{max_pool, pooled_sizes};
#[cfg(not(target_family = "wasm"))]
pub(super) use weight_gradient::weight_gradient;

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    /// Sizes of a convolution, and where each of its products comes from.
    struct Plain {
        images: usize,
        sides: [usize; 2],
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
    }

    impl Plain {
        fn output_sides(&self) -> [usize; 2] {
            self.sides.map(|side| output_side(side, self.stride))
        }

        fn counts(&self) -> (usize, usize, usize) {
            let ([height, width], [rows, columns]) = (self.sides, self.output_sides());
            let [channels_in, channels_out] = self.channels;
            let weights = channels_out * channels_in * self.kernel * self.kernel;
            (self.images * channels_in * height * width, weights, self.images * channels_out * rows * columns)
        }

        /// Indices of input, weight and output of each product, channels first.
        fn products(&self) -> impl Iterator<Item = (usize, usize, usize)> {
            let ([height, width], [rows, columns]) = (self.sides, self.output_sides());
            let ([channels_in, channels_out], kernel) = (self.channels, self.kernel);
            let places = channels_in * kernel * kernel;
            (0..self.images * channels_out * rows * columns * places).filter_map(move |index| {
                let (output, weight) = (index / places, index % places);
                let (x, y, plane) = (output % columns, output / columns % rows, output / (rows * columns));
                let (image, channel_out) = (plane / channels_out, plane % channels_out);
                let (right, down, channel_in) =
                    (weight % kernel, weight / kernel % kernel, weight / (kernel * kernel));
                let inside = |at: usize, place: usize, side: usize| {
                    (at * self.stride + place).checked_sub(kernel / 2).filter(|at| *at < side)
                };
                let (y, x) = (inside(y, down, height)?, inside(x, right, width)?);
                let input = ((image * channels_in + channel_in) * height + y) * width + x;
                Some((input, channel_out * places + weight, output))
            })
        }
    }

    /// Small whole numbers, whose sums of products have no rounding.
    fn whole_numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7 + index / 5 * 3 + seed) % 11) as f32 - 5.0).collect()
    }

    fn channels_first(map: Map<&[f32]>) -> Vec<f32> {
        let mut out = vec![0.0; map.images * map.height * map.width * map.channels];
        map.read_channels_first(&mut out);
        out
    }

    /// What `convolution` makes of a map, band by band.
    fn written(convolution: &Convolution, input: &Map, sizes: [usize; 4], finish: Finish<'_>) -> Vec<f32> {
        let mut out = Map::over(Vec::new(), sizes, finish.margin);
        out.values.fill(f32::NAN);
        for (band, out) in out.view_mut().cut(2) {
            let shortcut = finish.shortcut.map(|shortcut| &shortcut[band.values()]);
            convolution.write(input.view(), Finish { shortcut, ..finish }, &band, out);
        }
        channels_first(out.view())
    }

    #[test]
    fn products_are_those_of_plain_loops_whatever_the_sizes() {
        let channels = [[1, 1], [3, 5], [2, 16], [4, 17], [33, 7], [5, 40], [19, 64]];
        for (index, channels) in channels.into_iter().enumerate() {
            for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (3, 3), (5, 3), (7, 2)] {
                let sides = [[1, 1], [5, 3], [9, 8], [2, 23]][(index + kernel) % 4];
                let plain = Plain { images: 1 + index % 3, sides, channels, kernel, stride };
                agrees(&plain);
            }
        }
        agrees(&Plain { images: 1, sides: [40, 37], channels: [2, 3], kernel: 3, stride: 1 });
    }

    fn agrees(plain: &Plain) {
        let Plain { images, sides: [height, width], channels: [channels_in, channels_out], kernel, stride } =
            *plain;
        let case = format!(
            "{images} of {height} × {width}, {channels_in} to {channels_out} channels, {kernel} by {stride}"
        );
        let (inputs, weights, outputs) = plain.counts();
        let [rows, columns] = plain.output_sides();
        let (pixels, weights) = (whole_numbers(inputs, 1), whole_numbers(weights, 2));
        let gradient = whole_numbers(outputs, 3);
        let (mut output, mut of_input) = (vec![0.0; outputs], whole_numbers(inputs, 4));
        let mut of_weights = vec![0.0; weights.len()];
        for (input, weight, out) in plain.products() {
            output[out] += pixels[input] * weights[weight];
            of_input[input] += gradient[out] * weights[weight];
            of_weights[weight] += pixels[input] * gradient[out];
        }

        let margin = kernel / 2;
        let input = Map::from_channels_first(Vec::new(), &pixels, [channels_in, height, width], margin);
        let plainly = Finish { shortcut: None, relu: false, margin: 1 };
        let convolution = Convolution::new(&weights, vec![0.0; channels_out], channels_in, kernel, stride);
        let sizes = [images, rows, columns, channels_out];
        assert_eq!(convolution.output_sizes(&input), sizes, "{case}");
        assert_eq!(written(&convolution, &input, sizes, plainly), output, "{case}");

        // What comes back to the input is added to what another path brought.
        let gradient = Map::from_channels_first(Vec::new(), &gradient, [channels_out, rows, columns], margin);
        let others = whole_numbers(inputs, 4);
        let others = Map::from_channels_first(Vec::new(), &others, [channels_in, height, width], 1);
        let add = Finish { shortcut: Some(&others.values), ..plainly };
        let back = Convolution::transposed(&weights, [channels_in, channels_out], kernel, stride);
        let sizes = [images, height, width, channels_in];
        assert_eq!(written(&back, &gradient, sizes, add), of_input, "{case}: input");

        assert_eq!(
            weight_gradient(input.view(), gradient.view(), kernel, stride),
            of_weights,
            "{case}: weights"
        );
    }
}
