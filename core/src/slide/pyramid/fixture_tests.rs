//! Files that the reference libraries wrote (tests/fixtures/slides/make.py), against the formulas of their pictures.

use super::hostile_tests::with;
use super::tests::{assert_near, open, pattern, whole};
use super::*;
use crate::tiff::tags;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/slides/", $name)).to_vec()
    };
}

/// The picture of ramps.
fn smooth(width: u32, height: u32) -> Vec<u8> {
    let ramps = |x: u32, y: u32| {
        [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)]
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| ramps(x, y).map(|value| value as u8))).collect()
}

/// Every `step`-th pixel of the busy picture.
fn busy(step: u32) -> Vec<u8> {
    let full = pattern(150, 110, 3);
    let at = |x: u32, y: u32| ((y * 150 + x) * 3) as usize;
    let places =
        (0..110).step_by(step as usize).flat_map(|y| (0..150).step_by(step as usize).map(move |x| at(x, y)));
    places.flat_map(|start| full[start..start + 3].to_vec()).collect()
}

fn sizes(slide: &SlidePyramid<Vec<u8>>) -> Vec<(u32, u32, f64)> {
    slide.levels().iter().map(|level| (level.width_px, level.height_px, level.downsample)).collect()
}

#[test]
fn aperio_slides_have_their_levels_and_their_colours() {
    for (name, bytes, most, mean) in [
        ("RGB JPEG", fixture!("aperio_rgb_jpeg.svs"), 24, 1.5),
        ("YCbCr JPEG", fixture!("aperio_ycbcr_jpeg.svs"), 48, 2.5),
        ("YCbCr JPEG 2000", fixture!("aperio_33003.svs"), 24, 2.5),
        ("RGB JPEG 2000", fixture!("aperio_33005.svs"), 24, 2.5),
    ] {
        let slide = open(bytes).unwrap();
        // Not the thumbnail in strips, the label or the macro picture.
        assert_eq!(sizes(&slide), [(150, 110, 1.0), (75, 55, 2.0)], "{name}");
        let size = slide.embedded_pixel_size().unwrap();
        assert_eq!((size.um_per_px, size.origin), (0.499, PixelSizeOrigin::Aperio));
        // Tiles are padded with black, which bleeds into the chroma at the border; a wrong colour space is off everywhere.
        assert_near(&whole(&slide, 0).unwrap(), &smooth(150, 110), most, mean);
        assert_near(&whole(&slide, 1).unwrap(), &smooth(75, 55), most + 24, mean + 0.5);
    }
}

#[test]
fn a_codestream_that_transforms_its_colours_is_not_transformed_twice() {
    let file = fixture!("aperio_33005.svs");
    let expected = whole(&open(file.clone()).unwrap(), 0).unwrap();
    // The same tiles, said to be luma and chroma.
    let said = with(file, tags::COMPRESSION, None, 33_003);
    assert_eq!(whole(&open(said).unwrap(), 0).unwrap(), expected);
}

#[test]
fn jpeg_tables_that_tiles_share_are_used() {
    for (bytes, most, mean) in
        [(fixture!("libtiff_jpeg.tif"), 48, 2.5), (fixture!("libtiff_jpeg_subifd.tif"), 24, 1.5)]
    {
        let slide = open(bytes).unwrap();
        assert_eq!(sizes(&slide), [(150, 110, 1.0), (75, 55, 2.0), (37, 27, 4.0)]);
        assert_near(&whole(&slide, 0).unwrap(), &smooth(150, 110), most, mean);
        let size = slide.embedded_pixel_size().unwrap();
        assert!((size.um_per_px - 0.5).abs() < 1e-6 && size.origin == PixelSizeOrigin::Resolution);
    }
}

#[test]
fn ome_levels_are_in_sub_images() {
    let slide = open(fixture!("subifds.ome.tif")).unwrap();
    assert_eq!(sizes(&slide), [(150, 110, 1.0), (75, 55, 2.0), (38, 28, 4.0)]);
    let size = slide.embedded_pixel_size().unwrap();
    assert_eq!((size.um_per_px, size.origin), (0.274, PixelSizeOrigin::Ome));
    for (level, step) in [(0, 1), (1, 2), (2, 4)] {
        assert_eq!(whole(&slide, level).unwrap(), busy(step), "level {level}");
    }
}

#[test]
fn colours_in_images_of_their_own_are_refused_with_advice() {
    let error = open(fixture!("planes.ome.tif")).unwrap_err().to_string();
    assert!(error.contains("one image per colour") && error.contains("raw2ometiff"), "{error}");
}

#[test]
fn lossless_files_are_exact() {
    let slide = open(fixture!("odd.tif")).unwrap();
    assert_eq!(whole(&slide, 0).unwrap(), pattern(70, 50, 3));
    assert_eq!(slide.embedded_pixel_size().unwrap().um_per_px, 0.4);
    let slide = open(fixture!("jpeg2000.tif")).unwrap();
    assert_eq!(whole(&slide, 0).unwrap(), pattern(75, 55, 3));
}

#[test]
fn damaged_files_are_errors_or_other_pictures() {
    // One byte changed, or the rest of the file cut off, at 400 places of each.
    let files = [
        fixture!("aperio_rgb_jpeg.svs"),
        fixture!("aperio_33003.svs"),
        fixture!("libtiff_jpeg.tif"),
        fixture!("jpeg2000.tif"),
        fixture!("subifds.ome.tif"),
        fixture!("odd.tif"),
    ];
    for file in files {
        let options =
            PyramidOptions { cache_bytes: 1 << 20, max_tile_bytes: 1 << 20, max_region_bytes: 1 << 20 };
        let survive = |bytes: &[u8]| {
            let Ok(slide) = SlidePyramid::open(bytes, options) else { return };
            for level in 0..slide.levels().len() {
                let _ = slide.read_region(level, 0, 0, 70, 40);
            }
        };
        let mut state = 0x9E37_79B9_u32;
        for _ in 0..400 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut damaged = file.clone();
            let place = state as usize % damaged.len();
            damaged[place] = damaged[place].wrapping_add((state >> 24) as u8 | 1);
            survive(&damaged);
            survive(&file[..place]);
        }
    }
}
