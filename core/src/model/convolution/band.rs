//! What one thread takes of a map at a time. How a map is cut hangs on its sizes alone, so that sums which are taken
//! band by band come out the same with any number of threads.

use std::ops::Range;

use super::Map;

/// Pixels of a band, about.
#[cfg(not(target_family = "wasm"))]
const PIXELS: usize = 512;

/// Some rows of an image with the margin beside them, above the first and below the last row of the image; or all rows
/// of several images.
#[derive(Debug, Clone)]
pub(in crate::model) struct Band {
    map: Map<()>,
    pub images: Range<usize>,
    pub rows: Range<usize>,
}

impl Band {
    /// All of a map.
    pub fn whole<V>(map: &Map<V>) -> Self {
        Self { map: map.with(()), images: 0..map.images, rows: 0..map.height }
    }

    /// Where its values lie in those of the map.
    pub fn values(&self) -> Range<usize> {
        let Map { height, margin, .. } = self.map;
        let first = if self.rows.start == 0 { 0 } else { self.rows.start + margin };
        let end = if self.rows.end == height { height + 2 * margin } else { self.rows.end + margin };
        let last_image = self.images.end.saturating_sub(1);
        self.map.place(self.images.start, first, 0)..self.map.place(last_image, end, 0)
    }

    /// Image and number of each row, and where it lies in the band's values without the margin beside it.
    pub fn rows_inside(&self) -> impl Iterator<Item = (usize, usize, Range<usize>)> + use<> {
        let (map, begin, rows) = (self.map, self.values().start, self.rows.clone());
        self.images.clone().flat_map(move |image| {
            rows.clone().map(move |y| {
                let inside = map.row_inside(image, y);
                (image, y, inside.start - begin..inside.end - begin)
            })
        })
    }

    /// The band image by image, each with the part of its values.
    #[cfg(not(target_family = "wasm"))]
    pub fn by_image<'a>(
        &self,
        values: &'a mut [f32],
    ) -> impl Iterator<Item = (Self, &'a mut [f32])> + use<'a> {
        let size = (values.len() / self.images.len().max(1)).max(1);
        let band = self.clone();
        self.images
            .clone()
            .zip(values.chunks_exact_mut(size))
            .map(move |(image, values)| (Self { images: image..image + 1, ..band.clone() }, values))
    }
}

#[cfg(not(target_family = "wasm"))]
impl<V> Map<V> {
    /// The bands of the map in their order: parts of images that are larger than one, or up to `together` images.
    pub fn bands(&self, together: usize) -> Vec<Band> {
        let map = self.with(());
        let parts = ((self.height * self.width + PIXELS / 2) / PIXELS).clamp(1, self.height.max(1));
        let rows = self.height.div_ceil(parts).max(1);
        let together = if parts > 1 { 1 } else { together.max(1) };
        let images = (0..self.images).step_by(together);
        images
            .flat_map(|first| {
                let images = first..self.images.min(first + together);
                let starts = (0..map.height).step_by(rows);
                starts.map(move |y| Band { map, images: images.clone(), rows: y..map.height.min(y + rows) })
            })
            .collect()
    }

    /// Images of this size that fill a band, at most so many.
    pub fn images_of_a_band(&self, most: usize) -> usize {
        (PIXELS / (self.height * self.width).max(1)).min(most).max(1)
    }
}

#[cfg(not(target_family = "wasm"))]
impl<'a> Map<&'a mut [f32]> {
    /// As [`bands`](Map::bands), each with its values.
    pub fn cut(self, together: usize) -> Vec<(Band, &'a mut [f32])> {
        let bands = self.bands(together);
        let mut rest = self.values;
        let cut = bands.into_iter().map(|band| {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(band.values().len());
            rest = others;
            (band, own)
        });
        cut.collect()
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[test]
    fn bands_are_all_of_a_map_and_every_row_is_in_one() {
        for (images, height, width, margin, together) in
            [(1, 1, 1, 0, 1), (5, 4, 4, 1, 2), (2, 56, 56, 1, 3), (1, 256, 256, 3, 1), (3, 1, 2000, 1, 2)]
        {
            let sizes = Map { values: (), images, height, width, channels: 2, margin };
            let mut values = vec![0.0; sizes.image() * images];
            let bands = sizes.with(values.as_mut_slice()).cut(together);
            let mut next = 0;
            for (band, values) in bands {
                assert_eq!(band.values(), next..next + values.len());
                next += values.len();
                assert!(band.images.len() <= together);
                assert!(band.rows.len() * width <= 2 * PIXELS.max(width), "{band:?}");
                for (image, y, inside) in band.rows_inside() {
                    let from = band.values().start;
                    assert_eq!(sizes.row_inside(image, y), inside.start + from..inside.end + from);
                    values[inside].fill(1.0);
                }
                let images: usize = band.by_image(values).map(|(_, values)| values.len()).sum();
                assert_eq!(images, band.values().len());
            }
            assert_eq!(next, values.len());
            assert_eq!(values.iter().sum::<f32>() as usize, images * height * width * 2);
        }
    }

    #[test]
    fn only_small_images_lie_in_a_band_together() {
        let map = |side| Map { values: (), images: 7, height: side, width: side, channels: 1, margin: 0 };
        assert_eq!(map(7).bands(3).len(), 3);
        assert_eq!(map(7).images_of_a_band(100), 10);
        assert_eq!(map(28).bands(3).len(), 14);
        assert_eq!(map(28).images_of_a_band(100), 1);
    }
}
