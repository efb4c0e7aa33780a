//! Whether all tiles of a slide lie in its file. A copy that broke off opens like the whole slide when its directories
//! stand before its pixels, and would be missed tile by tile.

use super::block::read;
use super::codec::Compression;
use super::tiff_image::{Chunk, TiffImage};
use super::{SlideError, SlidePyramid};
use crate::slide::RangeRead;
use crate::tiff::read::Array;

/// Numbers of a table that are read at once.
const PIECE_NUMBERS: u64 = 1 << 16;
/// Most tiles of an image that are looked at: slides have up to a million, and a table may be as long as its file.
const MOST_CHUNKS: u64 = 1 << 24;

/// Tiles that lie past the end of a slide's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// Tiles or strips of all levels that the file claims to hold.
    pub tiles: u64,
    /// How many of them end past the file's end.
    pub beyond_end: u64,
    /// Which is the first: the image and its tile.
    pub first: String,
    /// Bytes of the shortest file that would hold them all.
    pub expected_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl<R: RangeRead> SlidePyramid<R> {
    /// The tiles that lie past the file's end, `None` when none does. Tables of places are read, and no pixel. Tiles
    /// that the file leaves out (neither place nor length) are white and not counted.
    ///
    /// # Errors
    /// [`SlideError::Tiff`] when a table cannot be read.
    pub fn cut_off(&self) -> Result<Option<CutOff>, SlideError> {
        let file_bytes = self.source.len();
        let mut found =
            CutOff { tiles: 0, beyond_end: 0, first: String::new(), expected_bytes: 0, file_bytes };
        for (image, _) in &self.images {
            image.count_beyond_end(&self.source, &mut found)?;
        }
        Ok((found.beyond_end > 0).then_some(found))
    }
}

impl TiffImage {
    fn count_beyond_end<R: RangeRead>(&self, source: &R, found: &mut CutOff) -> Result<(), SlideError> {
        let chunks = self.chunks().min(MOST_CHUNKS);
        let mut first = 0;
        while first < chunks {
            let count = PIECE_NUMBERS.min(chunks - first);
            let offsets = self.numbers(source, self.offsets, first, count)?;
            let lengths = self.numbers(source, self.byte_counts, first, count)?;
            for ((index, offset), length) in (first..).zip(offsets).zip(lengths) {
                if offset == 0 || length == 0 {
                    continue;
                }
                // Of uncompressed chunks only the pixels are read, not what pads them.
                let needed = if self.compression == Compression::None {
                    length.min(self.chunk_bytes(index))
                } else {
                    length
                };
                let end = offset.saturating_add(needed);
                found.tiles += 1;
                found.expected_bytes = found.expected_bytes.max(end);
                if end > found.file_bytes {
                    if found.beyond_end == 0 {
                        found.first = self.field(Chunk { index, skip: 0 });
                    }
                    found.beyond_end += 1;
                }
            }
            first += count;
        }
        Ok(())
    }

    /// `count` numbers of an array in the file, from `first` on.
    fn numbers<R: RangeRead>(
        &self,
        source: &R,
        array: Array,
        first: u64,
        count: u64,
    ) -> Result<Vec<u64>, SlideError> {
        let offset = array.offset.saturating_add(first.saturating_mul(array.value_bytes));
        let field = || format!("{}, where its tiles are", self.label);
        let bytes = read(source, offset, count.saturating_mul(array.value_bytes), &field)?;
        let order = self.samples.order;
        Ok(bytes.chunks_exact(array.value_bytes as usize).map(|number| order.unsigned(number)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hostile_tests::entry;
    use super::super::testing::Page;
    use super::super::tests::{classic, open, page};
    use super::super::{PyramidLevel, SlidePyramid};
    use crate::tiff::tags;

    /// The file with its pixels once more behind all else, where its one image has them now.
    fn directories_first(bytes: &[u8], tag: u16) -> Vec<u8> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let at = entry(bytes, tag);
        let mut moved = [bytes, &bytes[8..]].concat();
        // A single value stands in the entry.
        let (count, table) = if word(at + 4) == 1 { (1, at + 8) } else { (word(at + 4), word(at + 8)) };
        for place in (table..table + 4 * count).step_by(4) {
            if word(place) > 0 {
                let offset = (word(place) + bytes.len() - 8) as u32;
                moved[place..place + 4].copy_from_slice(&offset.to_le_bytes());
            }
        }
        moved
    }

    /// How many blocks of the image can be read.
    fn readable(slide: &SlidePyramid<Vec<u8>>) -> u64 {
        let PyramidLevel { width_px, height_px, tile_width_px, tile_height_px, .. } = slide.levels()[0];
        let lefts = (0..width_px).step_by(tile_width_px as usize);
        let corners =
            lefts.flat_map(|x| (0..height_px).step_by(tile_height_px as usize).map(move |y| (x, y)));
        corners.filter(|&(x, y)| slide.read_region(0, x.into(), y.into(), 1, 1).is_ok()).count() as u64
    }

    #[test]
    fn tiles_past_the_end_are_those_that_cannot_be_read() {
        let tiled = Page { missing: vec![2], ..page(50, 40).tiled(16, 16) };
        for (page, tag, blocks) in [
            (tiled.clone(), tags::TILE_OFFSETS, 12),
            (Page { compression: 8, ..tiled }, tags::TILE_OFFSETS, 12),
            (Page { rows_per_strip: 7, ..page(50, 40) }, tags::STRIP_OFFSETS, 6),
            (Page { rows_per_strip: 7, compression: 5, ..page(50, 40) }, tags::STRIP_OFFSETS, 6),
            (page(50, 40), tags::STRIP_OFFSETS, 1),
        ] {
            let (before, missing) = (classic(std::slice::from_ref(&page)), page.missing.len() as u64);
            let whole = directories_first(&before, tag);
            assert_eq!(open(whole.clone()).unwrap().cut_off().unwrap(), None);
            for end in (before.len()..whole.len()).step_by(211) {
                let slide = open(whole[..end].to_vec()).unwrap();
                let (lost, expected) = (blocks - readable(&slide), slide.cut_off().unwrap());
                let Some(found) = expected else {
                    assert_eq!(lost, 0, "cut at {end}");
                    continue;
                };
                assert_eq!((found.beyond_end, found.tiles), (lost, blocks - missing), "cut at {end}");
                assert_eq!(found.file_bytes, end as u64);
                assert!(
                    open(whole[..found.expected_bytes as usize].to_vec())
                        .unwrap()
                        .cut_off()
                        .unwrap()
                        .is_none()
                );
                assert!(found.first.starts_with("image 0, "), "{}", found.first);
            }
        }
    }

    #[test]
    fn every_level_counts() {
        let half = Page { subfile: 1, ..page(20, 20).tiled(16, 16) };
        let bytes = classic(&[page(40, 40).tiled(16, 16), half]);
        let slide = open(bytes).unwrap();
        assert_eq!((slide.levels().len(), slide.cut_off().unwrap()), (2, None));
        // The places of the first image lie past any end.
        let bytes = classic(&[page(16, 16).tiled(16, 16)]);
        let far = super::super::hostile_tests::with(bytes.clone(), tags::TILE_OFFSETS, None, u32::MAX);
        let found = open(far).unwrap().cut_off().unwrap().unwrap();
        assert_eq!((found.tiles, found.beyond_end, found.first.as_str()), (1, 1, "image 0, tile 0"));
        assert_eq!((found.expected_bytes, found.file_bytes), (u64::from(u32::MAX) + 768, bytes.len() as u64));
    }
}
