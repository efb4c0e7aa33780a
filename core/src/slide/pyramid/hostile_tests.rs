//! Files that are wrong or hostile: a typed error that names the field, bounded memory and time, no panic.

use super::testing::{Page, compress, write};
use super::tests::{classic, open, page, pattern, whole};
use super::*;
use crate::slide::SlideError;
use crate::tiff::TiffError;
use crate::tiff::read::ByteOrder;
use crate::tiff::tags;

/// The field that an error names.
fn field_of(error: &SlideError) -> &str {
    match error {
        SlideError::Tiff(
            TiffError::Field { field, .. } | TiffError::BeyondEnd { field, .. } | TiffError::Io { field, .. },
        ) => field,
        other => panic!("{other}"),
    }
}

/// Where the entry of a tag stands in a little-endian classic file of one image.
pub(super) fn entry(bytes: &[u8], tag: u16) -> usize {
    let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(bytes[directory..directory + 2].try_into().unwrap());
    let mut entries = (0..usize::from(count)).map(|index| directory + 2 + index * 12);
    entries.find(|&at| bytes[at..at + 2] == tag.to_le_bytes()).unwrap()
}

/// The file with the value (or offset) of a tag replaced, and its count where one is given.
pub(super) fn with(mut bytes: Vec<u8>, tag: u16, count: Option<u32>, value: u32) -> Vec<u8> {
    let at = entry(&bytes, tag);
    if let Some(count) = count {
        bytes[at + 4..at + 8].copy_from_slice(&count.to_le_bytes());
    }
    bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn impossible_tags_are_refused_by_name() {
    let tiled = || classic(&[page(40, 40).tiled(20, 20)]);
    let strips = || classic(&[Page { rows_per_strip: 10, ..page(40, 40) }]);
    for (bytes, name) in [
        (with(tiled(), tags::TILE_WIDTH, None, 0), "TileWidth"),
        (with(tiled(), tags::TILE_LENGTH, None, 0), "TileLength"),
        (with(tiled(), tags::TILE_WIDTH, None, u32::MAX), "TileWidth"),
        (with(strips(), tags::ROWS_PER_STRIP, None, 0), "RowsPerStrip"),
        (with(tiled(), tags::IMAGE_WIDTH, None, 0), "ImageWidth"),
        (with(tiled(), tags::IMAGE_WIDTH, None, u32::MAX), "ImageWidth"),
        // 2^32 - 1 tiles, said by the count and asked for by the sides.
        (with(tiled(), tags::TILE_OFFSETS, Some(u32::MAX), 8), "TileOffsets"),
        (with(tiled(), tags::TILE_BYTE_COUNTS, Some(u32::MAX), 8), "TileByteCounts"),
        (with(tiled(), tags::IMAGE_WIDTH, None, i32::MAX as u32), "TileOffsets"),
        (with(tiled(), tags::IMAGE_WIDTH, None, 61), "TileOffsets"),
        (with(tiled(), tags::TILE_OFFSETS, Some(3), 8), "TileOffsets"),
        (with(strips(), tags::STRIP_BYTE_COUNTS, Some(3), 8), "StripByteCounts"),
        (with(tiled(), tags::BITS_PER_SAMPLE, Some(1), 32), "BitsPerSample"),
        (with(tiled(), tags::BITS_PER_SAMPLE, Some(1), 0), "BitsPerSample"),
        (with(tiled(), tags::BITS_PER_SAMPLE, Some(60_000), 0), "BitsPerSample"),
        (with(tiled(), tags::BITS_PER_SAMPLE, None, u32::MAX - 2), "BitsPerSample"),
        (with(tiled(), tags::SAMPLES_PER_PIXEL, None, 0), "SamplesPerPixel"),
        (with(tiled(), tags::SAMPLES_PER_PIXEL, None, 2), "SamplesPerPixel"),
        (with(tiled(), tags::SAMPLES_PER_PIXEL, None, 60_000), "SamplesPerPixel"),
        (with(tiled(), tags::PHOTOMETRIC, None, 6), "PhotometricInterpretation"),
        (with(tiled(), tags::PHOTOMETRIC, None, 99), "PhotometricInterpretation"),
        (with(tiled(), tags::PHOTOMETRIC, None, 3), "ColorMap"),
        (with(tiled(), tags::PLANAR_CONFIGURATION, None, 3), "PlanarConfiguration"),
        (with(tiled(), tags::PLANAR_CONFIGURATION, None, 2), "TileOffsets"),
        (with(tiled(), tags::PREDICTOR, None, 3), "Predictor"),
        (with(tiled(), tags::COMPRESSION, None, 50_000), "Compression"),
    ] {
        let error = open(bytes).unwrap_err();
        assert!(field_of(&error).contains(name), "{name}: {error}");
    }
}

#[test]
fn what_would_give_wrong_colours_is_refused() {
    let ycbcr = Page { compression: 7, photometric: 6, planar: true, ..page(40, 40).tiled(16, 16) };
    assert!(field_of(&open(classic(&[ycbcr])).unwrap_err()).contains("PlanarConfiguration"));
    let four = Page { compression: 7, samples: 4, pixels: pattern(40, 40, 4), ..page(40, 40).tiled(16, 16) };
    assert!(field_of(&open(classic(&[four])).unwrap_err()).contains("SamplesPerPixel"));
}

#[test]
fn a_refusal_says_what_is_read_and_what_was_found() {
    let error = open(with(classic(&[page(8, 8)]), tags::COMPRESSION, None, 50_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "TIFF, image 0, Compression: expected none, LZW, Deflate, PackBits, JPEG or JPEG 2000, found 50000 (Zstandard)"
    );
}

#[test]
fn tiles_larger_than_the_limit_are_refused_when_the_file_is_opened() {
    let bytes = with(classic(&[page(40, 40).tiled(64, 64)]), tags::TILE_WIDTH, None, 1 << 30);
    assert!(field_of(&open(bytes).unwrap_err()).contains("tiles"));
    let limits = PyramidOptions { max_tile_bytes: 20 * 20 * 3 - 1, ..PyramidOptions::default() };
    assert!(SlidePyramid::open(classic(&[page(40, 40).tiled(20, 20)]), limits).is_err());
    let limits = PyramidOptions { max_tile_bytes: 20 * 20 * 3, ..limits };
    assert!(SlidePyramid::open(classic(&[page(40, 40).tiled(20, 20)]), limits).is_ok());
}

#[test]
fn tiles_outside_the_file_are_errors_of_their_own() {
    let one_tile = || classic(&[page(16, 16).tiled(16, 16)]);
    for (bytes, words) in [
        (with(one_tile(), tags::TILE_OFFSETS, None, u32::MAX), "tile 0"),
        (with(one_tile(), tags::TILE_BYTE_COUNTS, None, 10), "10 bytes"),
    ] {
        let slide = open(bytes).unwrap();
        let error = whole(&slide, 0).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("tile 0"), "{error}");
    }
    // Compressed tiles that are longer than they can be.
    for compression in [5, 8, 32_773] {
        let tile = Page { compression, ..page(16, 16).tiled(16, 16) };
        let slide = open(with(classic(&[tile]), tags::TILE_BYTE_COUNTS, None, u32::MAX)).unwrap();
        assert!(whole(&slide, 0).unwrap_err().to_string().contains("compressed bytes"));
    }
}

#[test]
fn a_decompression_bomb_gives_its_tile_and_no_more() {
    // A tile of 16 x 16 pixels whose data expands to 64 MB of zeros.
    for compression in [5, 8] {
        let bomb = compress(compression, &vec![0; 64 << 20]);
        let mut file = classic(&[Page { compression, ..page(16, 16).tiled(16, 16) }]);
        let at = file.len() as u32;
        let length = bomb.len() as u32;
        file.extend(bomb);
        let file = with(with(file, tags::TILE_OFFSETS, None, at), tags::TILE_BYTE_COUNTS, None, length);
        let read = whole(&open(file).unwrap(), 0);
        assert!(read.is_err() || read.unwrap() == [0; 16 * 16 * 3]);
    }
}

#[test]
fn data_that_ends_early_is_an_error() {
    for compression in [1, 5, 8, 32_773] {
        let file = classic(&[Page { compression, ..page(16, 16).tiled(16, 16) }]);
        let slide = open(with(file, tags::TILE_BYTE_COUNTS, None, 40)).unwrap();
        let error = whole(&slide, 0).unwrap_err();
        assert!(field_of(&error).contains("tile 0"), "{error}");
    }
}

#[test]
fn sub_images_may_not_lead_back() {
    let half = Page { subfile: 1, ..page(20, 20) };
    let file = classic(&[Page { sub_pages: vec![half], ..page(40, 40) }]);
    let main = u32::from_le_bytes(file[4..8].try_into().unwrap());
    let error = open(with(file, tags::SUB_IFDS, None, main)).unwrap_err();
    assert!(error.to_string().contains("again"), "{error}");
}

#[test]
fn a_source_that_fails_is_said_with_its_own_words() {
    struct Failing(Vec<u8>, u64);
    impl RangeRead for Failing {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            if offset < self.1 {
                self.0.read_at(offset, out)
            } else {
                Err(std::io::Error::other("disk on fire"))
            }
        }
    }
    let file = classic(&[page(200, 200).tiled(100, 100)]);
    for works_until in [0, 1, 16_384] {
        let slide = SlidePyramid::open(Failing(file.clone(), works_until), PyramidOptions::default());
        let error = slide.and_then(|slide| whole(&slide, 0)).unwrap_err();
        assert!(error.to_string().contains("disk on fire"), "{error}");
    }
}

#[test]
fn random_damage_is_an_error_or_another_picture() {
    let half = Page { subfile: 1, ..Page::rgb(20, 15, pattern(20, 15, 3)).tiled(16, 16) };
    let resolution = Some(((40_000, 1), 3));
    let described = Some("<OME><Pixels PhysicalSizeX='1'/></OME>".to_string());
    let pages = |compression| {
        let base =
            Page { compression, resolution, description: described.clone(), ..page(40, 30).tiled(16, 16) };
        [
            Page { sub_pages: vec![half.clone()], ..base },
            Page { samples: 1, photometric: 1, pixels: pattern(9, 9, 1), ..page(9, 9) },
        ]
    };
    let options = PyramidOptions { cache_bytes: 4096, max_tile_bytes: 1 << 16, max_region_bytes: 1 << 16 };
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    let (mut refused, mut tried) = (0, 0);
    for (compression, big, order) in [
        (1, false, ByteOrder::Little),
        (5, true, ByteOrder::Big),
        (8, true, ByteOrder::Little),
        (32_773, false, ByteOrder::Big),
    ] {
        let file = write(&pages(compression), big, order);
        for _ in 0..1500 {
            let mut damaged = file.clone();
            for _ in 0..1 + random() % 3 {
                let place = random() % damaged.len();
                damaged[place] = [random() as u8, 0, 0xFF, damaged[place] ^ 1][random() % 4];
            }
            if random() % 8 == 0 {
                damaged.truncate(random() % file.len());
            }
            tried += 1;
            let Ok(mut slide) = SlidePyramid::open(damaged, options) else {
                refused += 1;
                continue;
            };
            slide.set_um_per_px(0.5).unwrap();
            for level in 0..slide.levels().len() {
                let _ = slide.read_region(level, -1, -1, 50, 40);
            }
            let _ = slide.read_patches(&[SlidePx { x: 20.0, y: 15.0 }], 20.0, 8);
        }
    }
    assert!(refused > 0 && refused < tried, "{refused} of {tried}");
}
