//! Images as the kernels read and write them.

use std::ops::{Deref, DerefMut, Range};

/// Values that change places together: a cache line of them.
pub(super) const LINE: usize = 16;

/// A stack of images, channels last, each in a margin of zeros.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Map<V = Vec<f32>> {
    /// `[N, H + 2·margin, W + 2·margin, C]`, and what of the memory is left
    pub values: V,
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub margin: usize,
}

impl Map {
    /// A map with a margin of zeros whose inside is still to be written; `memory` is used where it is large enough.
    pub fn over(mut memory: Vec<f32>, [images, height, width, channels]: [usize; 4], margin: usize) -> Self {
        let map = Map { values: (), images, height, width, channels, margin };
        let count = map.image() * images;
        if memory.len() < count {
            memory = vec![0.0; count];
        } else {
            map.with(memory.as_mut_slice()).clear_margin();
        }
        map.with(memory)
    }

    /// Images with their channels first, brought into a map.
    ///
    /// # Shapes
    /// - `pixels`: `[N,C,H,W]`
    pub fn from_channels_first(
        memory: Vec<f32>,
        pixels: &[f32],
        [channels, height, width]: [usize; 3],
        margin: usize,
    ) -> Self {
        let images = pixels.len() / (channels * height * width).max(1);
        let mut map = Self::over(memory, [images, height, width, channels], margin);
        map.view_mut().write_channels_first(pixels);
        map
    }
}

impl<V: Deref<Target = [f32]>> Map<V> {
    /// The values, and not what of the memory is left.
    pub fn view(&self) -> Map<&[f32]> {
        self.with(&self.values[..self.image() * self.images])
    }
}

impl<V: DerefMut<Target = [f32]>> Map<V> {
    /// As [`view`](Self::view).
    pub fn view_mut(&mut self) -> Map<&mut [f32]> {
        let sizes = self.with(());
        sizes.with(&mut self.values[..sizes.image() * sizes.images])
    }
}

impl Map<&mut [f32]> {
    /// Writes images with their channels first.
    ///
    /// # Shapes
    /// - `pixels`: `[N,C,H,W]`
    pub fn write_channels_first(&mut self, pixels: &[f32]) {
        let plane = self.height * self.width;
        for (image, pixels) in pixels.chunks_exact((self.channels * plane).max(1)).enumerate() {
            for first in (0..self.channels).step_by(LINE) {
                let count = LINE.min(self.channels - first);
                for y in 0..self.height {
                    let place = self.place(image, y + self.margin, self.margin) + first;
                    let rows = &pixels[first * plane + y * self.width..];
                    let columns = self.values[place..].chunks_mut(self.channels);
                    for (x, column) in columns.take(self.width).enumerate() {
                        for (channel, value) in column[..count].iter_mut().enumerate() {
                            *value = rows[channel * plane + x];
                        }
                    }
                }
            }
        }
    }

    pub(super) fn clear_margin(&mut self) {
        if self.margin == 0 || self.values.is_empty() {
            return;
        }
        let row = self.row();
        let side = self.margin * self.channels;
        let inside = self.margin..self.margin + self.height;
        for image in self.values.chunks_exact_mut(row * (self.height + 2 * self.margin)).take(self.images) {
            for (y, row) in image.chunks_exact_mut(row).enumerate() {
                if inside.contains(&y) {
                    let end = row.len() - side;
                    row[..side].fill(0.0);
                    row[end..].fill(0.0);
                } else {
                    row.fill(0.0);
                }
            }
        }
    }
}

impl Map<&[f32]> {
    /// The images without their margin, channels first.
    ///
    /// # Shapes
    /// - `out`: `[N,C,H,W]`
    pub fn read_channels_first(&self, out: &mut [f32]) {
        let plane = self.height * self.width;
        for (image, out) in out.chunks_exact_mut((self.channels * plane).max(1)).enumerate() {
            for first in (0..self.channels).step_by(LINE) {
                let count = LINE.min(self.channels - first);
                for y in 0..self.height {
                    let place = self.place(image, y + self.margin, self.margin) + first;
                    let rows = &mut out[first * plane + y * self.width..];
                    let columns = self.values[place..].chunks(self.channels);
                    for (x, column) in columns.take(self.width).enumerate() {
                        for (channel, value) in column[..count].iter().enumerate() {
                            rows[channel * plane + x] = *value;
                        }
                    }
                }
            }
        }
    }
}

impl<V> Map<V> {
    /// A map of the same sizes.
    pub fn with<W>(&self, values: W) -> Map<W> {
        let Self { images, height, width, channels, margin, .. } = *self;
        Map { values, images, height, width, channels, margin }
    }

    /// Values from one image to the next.
    pub fn image(&self) -> usize {
        (self.height + 2 * self.margin) * self.row()
    }

    /// Values from one row to the next.
    pub fn row(&self) -> usize {
        (self.width + 2 * self.margin) * self.channels
    }

    /// The values of a row of an image without its margin.
    pub fn row_inside(&self, image: usize, y: usize) -> Range<usize> {
        let first = self.place(image, y + self.margin, self.margin);
        first..first + self.width * self.channels
    }

    /// Where a pixel begins; `y` and `x` count from the corner of the margin.
    pub fn place(&self, image: usize, y: usize, x: usize) -> usize {
        image * self.image() + y * self.row() + x * self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_out_as_they_went_in_and_the_margin_is_zero() {
        for (images, channels, height, width, margin) in
            [(1, 1, 1, 1, 0), (2, 3, 5, 4, 3), (3, 16, 4, 7, 1), (2, 37, 6, 3, 2)]
        {
            let sizes = [channels, height, width];
            let count = images * channels * height * width;
            let pixels: Vec<f32> = (1..=count).map(|value| value as f32).collect();
            let memory = vec![-1.0; images * channels * (height + 2 * margin) * (width + 2 * margin)];
            let map = Map::from_channels_first(memory, &pixels, sizes, margin);
            assert_eq!(map.values.iter().filter(|value| **value == 0.0).count(), map.values.len() - count);
            assert!(!map.values.contains(&-1.0));
            assert_eq!(
                map.values[map.place(images - 1, margin, margin)],
                pixels[(images - 1) * count / images]
            );
            let mut out = vec![0.0; count];
            map.view().read_channels_first(&mut out);
            assert_eq!(out, pixels);
        }
    }
}
