use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::testing::{Page, write};
use super::*;
use crate::tiff::read::ByteOrder;

/// Pixels in which every place differs from its neighbours.
pub(super) fn pattern(width: u32, height: u32, samples: u16) -> Vec<u8> {
    let value = |x: u32, y: u32, channel: u32| match channel {
        0 => x.wrapping_mul(7).wrapping_add(y * 13),
        1 => x.wrapping_mul(x).wrapping_add(y * 3),
        2 => (x ^ y).wrapping_mul(5),
        _ => x + 2 * y,
    } as u8;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    pixels.flat_map(|(x, y)| (0..u32::from(samples)).map(move |channel| value(x, y, channel))).collect()
}

pub(super) fn page(width: u32, height: u32) -> Page {
    Page::rgb(width, height, pattern(width, height, 3))
}

pub(super) fn classic(pages: &[Page]) -> Vec<u8> {
    write(pages, false, ByteOrder::Little)
}

pub(super) fn open(bytes: Vec<u8>) -> Result<SlidePyramid<Vec<u8>>, SlideError> {
    SlidePyramid::open(bytes, PyramidOptions::default())
}

pub(super) fn whole<R: RangeRead>(slide: &SlidePyramid<R>, level: usize) -> Result<Vec<u8>, SlideError> {
    let PyramidLevel { width_px, height_px, .. } = slide.levels()[level];
    slide.read_region(level, 0, 0, width_px, height_px)
}

/// Whether two pictures differ by at most `most` anywhere and by `mean` on average.
pub(super) fn assert_near(found: &[u8], expected: &[u8], most: u8, mean: f64) {
    assert_eq!(found.len(), expected.len());
    let differences = || found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let average = differences().map(f64::from).sum::<f64>() / found.len() as f64;
    let worst = differences().max().unwrap_or(0);
    assert!(worst <= most && average <= mean, "worst {worst}, mean {average}");
}

/// A source that counts what is read of it.
struct Counting(Vec<u8>, AtomicU64, AtomicU64);

impl RangeRead for Counting {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.2.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.0.read_at(offset, out)
    }
}

#[derive(Debug, Clone)]
struct Layout {
    page: Page,
    big: bool,
    order: ByteOrder,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let sides = (1u32..70, 1u32..70);
    let cut = (any::<bool>(), 1u32..40, 1u32..40);
    let coding = (prop::sample::select(vec![1u16, 5, 8, 32_946, 32_773]), any::<bool>(), any::<bool>());
    let file = (any::<bool>(), any::<bool>(), any::<bool>());
    (sides, cut, coding, file, 1u16..=4).prop_map(
        |((width, height), (tiled, a, b), (compression, predictor, planar), (big, little, deep), samples)| {
            let page = Page {
                pixels: pattern(width, height, samples),
                samples,
                photometric: if samples < 3 { 1 } else { 2 },
                bits: if deep { 16 } else { 8 },
                tile: tiled.then_some((a, b)),
                rows_per_strip: b,
                compression,
                predictor,
                planar: planar && samples > 1,
                ..page(width, height)
            };
            Layout { page, big, order: if little { ByteOrder::Little } else { ByteOrder::Big } }
        },
    )
}

/// What a page of 1 to 4 samples is as RGB.
fn expected_rgb(page: &Page) -> Vec<u8> {
    let pixels = page.pixels.chunks_exact(usize::from(page.samples));
    pixels
        .flat_map(|pixel| if pixel.len() < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] })
        .collect()
}

/// The page at half the size, every second pixel of every second row.
fn halved(page: &Page) -> Option<Page> {
    let (width, height) = (page.width / 2, page.height / 2);
    let samples = usize::from(page.samples);
    let at = |x: u32, y: u32| (2 * y as usize * page.width as usize + 2 * x as usize) * samples;
    let pixels = (0..height)
        .flat_map(|y| (0..width).map(move |x| at(x, y)))
        .flat_map(|start| page.pixels[start..start + samples].to_vec())
        .collect();
    (width > 1 && height > 1).then(|| Page {
        width,
        height,
        pixels,
        subfile: 1,
        rows_per_strip: page.rows_per_strip.min(height),
        ..page.clone()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(layout in layouts(), in_sub_image in any::<bool>()) {
        let Layout { page, big, order } = layout;
        let half = halved(&page);
        let pages = match &half {
            Some(half) if in_sub_image => vec![Page { sub_pages: vec![half.clone()], ..page.clone() }],
            Some(half) => vec![page.clone(), half.clone()],
            None => vec![page.clone()],
        };
        let slide = open(write(&pages, big, order)).unwrap();
        prop_assert_eq!(slide.levels().len(), pages.len().max(1 + pages[0].sub_pages.len()));
        for (level, expected) in [Some(&page), half.as_ref()].into_iter().flatten().enumerate() {
            prop_assert_eq!(whole(&slide, level).unwrap(), expected_rgb(expected));
        }
    }

    #[test]
    fn patches_are_those_of_the_image_in_memory(
        layout in layouts(),
        place in (-20.0f64..90.0, -20.0f64..90.0),
        side_um in 0.5f64..60.0,
        out_px in 1usize..24,
        cache_bytes in prop::sample::select(vec![0usize, 3000, 1 << 20]),
    ) {
        let Layout { page, big, order } = layout;
        let image = SlideImage::new(page.width, page.height, expected_rgb(&page), 0.5).unwrap();
        let options = PyramidOptions { cache_bytes, ..PyramidOptions::default() };
        let mut slide = SlidePyramid::open(write(&[page], big, order), options).unwrap();
        slide.set_um_per_px(0.5).unwrap();
        let center = SlidePx { x: place.0, y: place.1 };
        prop_assert_eq!(
            slide.read_patches(&[center, center], side_um, out_px),
            image.read_patches(&[center, center], side_um, out_px)
        );
        prop_assert_eq!(slide.thumbnail(20), image.thumbnail(20));
        prop_assert_eq!(slide.thumbnail(100), image.thumbnail(100));
    }

    #[test]
    fn a_region_is_the_whole_with_white_around_it(
        layout in layouts(),
        (left, top) in (-50i64..90, -50i64..90),
        (width, height) in (0u32..80, 0u32..80),
    ) {
        let Layout { page, big, order } = layout;
        let slide = open(write(std::slice::from_ref(&page), big, order)).unwrap();
        let rgb = expected_rgb(&page);
        let mut expected = Vec::new();
        for y in top..top + i64::from(height) {
            for x in left..left + i64::from(width) {
                let inside = (0..i64::from(page.width)).contains(&x) && (0..i64::from(page.height)).contains(&y);
                let at = (y * i64::from(page.width) + x) * 3;
                expected.extend(if inside { rgb[at as usize..at as usize + 3].to_vec() } else { vec![255; 3] });
            }
        }
        prop_assert_eq!(slide.read_region(0, left, top, width, height).unwrap(), expected);
    }
}

#[test]
fn the_level_that_fits_the_output_is_read() {
    // Each level has a colour of its own, so a patch says where it comes from.
    let flat = |side: u32, value: u8| Page {
        subfile: u32::from(value != 10),
        ..Page::rgb(side, side, vec![value; (side * side * 3) as usize]).tiled(16, 16)
    };
    let mut slide = open(classic(&[flat(160, 10), flat(80, 20), flat(40, 30)])).unwrap();
    slide.set_um_per_px(0.5).unwrap();
    let downsamples: Vec<f64> = slide.levels().iter().map(|level| level.downsample).collect();
    assert_eq!(downsamples, [1.0, 2.0, 4.0]);
    let center = SlidePx { x: 80.0, y: 80.0 };
    for (side_um, color) in [(8.0, 10), (15.0, 10), (16.0, 20), (31.0, 20), (32.0, 30), (60.0, 30)] {
        let patch = slide.read_patches(&[center], side_um, 16).unwrap();
        assert!(patch.iter().all(|&value| value == color), "{side_um} µm: {:?}", &patch[..3]);
    }
    assert_eq!(slide.thumbnail(40).unwrap().rgb()[0], 30);
    assert_eq!(slide.thumbnail(41).unwrap().rgb()[0], 20);
    assert_eq!(slide.thumbnail(160).unwrap().rgb()[0], 10);
    assert_eq!(slide.thumbnail(40).unwrap().um_per_px(), 2.0);
}

#[test]
fn a_level_shows_the_same_place_as_the_slide() {
    // A ramp that is linear in x and y is the same at every resolution.
    let ramp = |side: u32, step: f64| -> Vec<u8> {
        let value = |at: u32| ((f64::from(at) + 0.5) * step) as u8;
        (0..side).flat_map(|y| (0..side).flat_map(move |x| [value(x), value(y), 0])).collect()
    };
    let pages = [
        Page::rgb(240, 240, ramp(240, 1.0)).tiled(32, 32),
        Page { subfile: 1, ..Page::rgb(60, 60, ramp(60, 4.0)).tiled(32, 32) },
    ];
    let mut slide = open(classic(&pages)).unwrap();
    slide.set_um_per_px(1.0).unwrap();
    let center = SlidePx { x: 100.0, y: 140.0 };
    let fine = slide.read_patches(&[center], 38.0, 11).unwrap();
    let coarse = slide.read_patches(&[center], 44.0, 11).unwrap();
    assert!(fine[60 * 3].abs_diff(100) <= 1 && fine[60 * 3 + 1].abs_diff(140) <= 1);
    assert!(coarse[60 * 3].abs_diff(100) <= 1 && coarse[60 * 3 + 1].abs_diff(140) <= 1);
}

#[test]
fn pictures_that_are_no_levels_are_left_out() {
    let base = page(160, 120).tiled(32, 32);
    let half = page(80, 60).tiled(32, 32);
    let said = |text: &str| Some(format!("Aperio Image Library\r\n{text} 80x60"));
    for (other, is_level) in [
        (half.clone(), true),
        (Page { subfile: 1, ..half.clone() }, true),
        (page(80, 61).tiled(32, 32), true),
        (page(80, 63).tiled(32, 32), false),
        (page(160, 120).tiled(32, 32), false),
        (page(80, 60), false),
        (Page { subfile: 9, ..half.clone() }, false),
        (Page { description: said("label"), ..half.clone() }, false),
        (Page { description: said("macro"), ..half.clone() }, false),
        (Page { compression: 50_000, ..half.clone() }, false),
    ] {
        let levels = open(classic(&[base.clone(), other.clone()])).unwrap().levels().len();
        assert_eq!(levels == 2, is_level, "{} x {}, {:?}", other.width, other.height, other.description);
        // Wherever the slide itself stands.
        assert_eq!(open(classic(&[other, base.clone()])).unwrap().levels().len(), levels);
    }
    // Levels padded to whole tiles, as Philips writes them: the slide covers 80 x 60 pixels of 96 x 64.
    let padded = Page { subfile: 1, ..page(96, 64).tiled(32, 32) };
    let slide = open(classic(&[base, padded])).unwrap();
    let PyramidLevel { width_px, height_px, downsample, .. } = slide.levels()[1];
    assert_eq!((width_px, height_px, downsample), (80, 60, 2.0));
}

#[test]
fn other_samples_become_rgb() {
    let base = page(3, 1);
    let read = |page: Page| whole(&open(classic(&[page])).unwrap(), 0).unwrap();
    let grey = Page { samples: 1, photometric: 0, pixels: vec![0, 100, 255], ..base.clone() };
    assert_eq!(read(grey.clone()), [255, 255, 255, 155, 155, 155, 0, 0, 0]);
    let two_bits = Page { bits: 2, photometric: 1, pixels: vec![0, 1, 3], ..grey.clone() };
    assert_eq!(read(two_bits), [0, 0, 0, 85, 85, 85, 255, 255, 255]);
    let one_bit = Page { bits: 1, photometric: 1, pixels: vec![0, 1, 1], ..grey.clone() };
    assert_eq!(read(one_bit), [0, 0, 0, 255, 255, 255, 255, 255, 255]);
    let palette = Page { bits: 4, photometric: 3, pixels: vec![0, 3, 15], ..grey };
    assert_eq!(read(palette), [0, 255, 0, 3, 252, 6, 15, 240, 30]);
    let clear = |extra| Page { width: 1, samples: 4, extra, pixels: vec![0, 100, 200, 51], ..base.clone() };
    assert_eq!(read(clear(Some(2))), [204, 224, 244]);
    assert_eq!(read(clear(Some(1))), [204, 255, 255]);
    assert_eq!(read(clear(Some(0))), [0, 100, 200]);
    let cmyk = Page { width: 1, samples: 4, photometric: 5, pixels: vec![0, 255, 51, 0], ..base };
    assert_eq!(read(cmyk), [255, 0, 204]);
}

#[test]
fn tiles_that_are_left_out_are_white() {
    let sparse = Page { missing: vec![1], ..page(40, 20).tiled(20, 20) };
    let slide = open(classic(std::slice::from_ref(&sparse))).unwrap();
    let rgb = whole(&slide, 0).unwrap();
    for (index, pixel) in rgb.chunks_exact(3).enumerate() {
        let expected = if index % 40 < 20 { &sparse.pixels[index * 3..index * 3 + 3] } else { &[255; 3] };
        assert_eq!(pixel, expected);
    }
}

#[test]
fn a_slide_is_opened_with_a_few_reads_and_read_tile_by_tile() {
    // 62,500 tiles; their offsets and lengths alone are 500 kB.
    let missing = (0..62_500).filter(|tile| *tile != 31_000).collect();
    let large = Page { missing, ..Page::rgb(1000, 1000, vec![90; 3_000_000]).tiled(4, 4) };
    let source = Counting(classic(&[large]), AtomicU64::new(0), AtomicU64::new(0));
    let slide = SlidePyramid::open(source, PyramidOptions::default()).unwrap();
    let read = || (slide.source().1.swap(0, Ordering::Relaxed), slide.source().2.swap(0, Ordering::Relaxed));
    let (reads, bytes) = read();
    assert!(reads <= 4 && bytes <= 64 << 10, "{reads} reads of {bytes} bytes to open");
    // Tile 31,000 is the first of row 124.
    let region = slide.read_region(0, 0, 496, 5, 4).unwrap();
    assert_eq!((&region[..3], &region[12..15]), (&[90; 3][..], &[255; 3][..]));
    let (reads, bytes) = read();
    assert!(reads <= 3 && bytes <= 20_000, "{reads} reads of {bytes} bytes for two tiles");
    slide.read_region(0, 0, 496, 5, 4).unwrap();
    assert_eq!(read(), (0, 0));
}

#[test]
fn a_tall_uncompressed_strip_is_read_in_parts() {
    let strip = page(700, 3000);
    let source = Counting(classic(std::slice::from_ref(&strip)), AtomicU64::new(0), AtomicU64::new(0));
    let slide = SlidePyramid::open(source, PyramidOptions::default()).unwrap();
    let row = slide.read_region(0, 0, 1500, 700, 1).unwrap();
    assert_eq!(row, strip.pixels[1500 * 2100..1501 * 2100]);
    assert!(slide.source().2.load(Ordering::Relaxed) < 2 << 20);
    assert_eq!(whole(&slide, 0).unwrap(), strip.pixels);
    let strips = Page { rows_per_strip: 1001, ..strip.clone() };
    assert_eq!(whole(&open(classic(&[strips])).unwrap(), 0).unwrap(), strip.pixels);
}

#[test]
fn a_large_flat_slide_has_the_thumbnail_of_the_image_in_memory() {
    let smooth = |x: u32, y: u32| [(x / 24) as u8, (y / 20) as u8, ((x + y) / 48) as u8];
    let (width, height) = (5003, 4801);
    let pixels: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| smooth(x, y))).collect();
    let image = SlideImage::new(width, height, pixels.clone(), 0.5).unwrap();
    let options = PyramidOptions { cache_bytes: 4 << 20, ..PyramidOptions::default() };
    let flat = Page::rgb(width, height, pixels).tiled(512, 512);
    let mut slide = SlidePyramid::open(classic(&[flat]), options).unwrap();
    slide.set_um_per_px(0.5).unwrap();
    let (found, expected) = (slide.thumbnail(177).unwrap(), image.thumbnail(177).unwrap());
    assert_eq!((found.width_px(), found.um_per_px()), (expected.width_px(), expected.um_per_px()));
    assert_near(found.rgb(), expected.rgb(), 1, 0.1);
}

#[test]
fn the_pixel_size_is_the_best_claim_that_is_plausible() {
    let claim = |description: Option<&str>, resolution| {
        let page = Page { description: description.map(String::from), resolution, ..page(4, 4) };
        open(classic(&[page])).unwrap().embedded_pixel_size().map(|size| (size.um_per_px, size.origin))
    };
    let per_cm = Some(((40_000, 1), 3));
    assert_eq!(claim(None, per_cm), Some((0.25, PixelSizeOrigin::Resolution)));
    assert_eq!(claim(None, Some(((50_800, 1), 2))), Some((0.5, PixelSizeOrigin::Resolution)));
    assert_eq!(claim(None, Some(((72, 1), 2))), None);
    assert_eq!(claim(None, Some(((40_000, 0), 3))), None);
    assert_eq!(claim(None, Some(((40_000, 1), 1))), None);
    let aperio = "Aperio Image Library\r\n4x4|AppMag = 20|MPP = 0.4990";
    assert_eq!(claim(Some(aperio), per_cm), Some((0.499, PixelSizeOrigin::Aperio)));
    assert_eq!(claim(Some("Aperio|MPP = 0"), per_cm), Some((0.25, PixelSizeOrigin::Resolution)));
    let ome = r#"<OME><Image><Pixels SizeX="4" SizeY="4" PhysicalSizeX="274" PhysicalSizeXUnit="nm"/></Image></OME>"#;
    assert_eq!(claim(Some(ome), per_cm), Some((0.274, PixelSizeOrigin::Ome)));
}

#[test]
fn without_a_pixel_size_there_are_regions_but_no_patches() {
    let mut slide = open(classic(&[page(8, 8)])).unwrap();
    assert!(slide.um_per_px().is_nan());
    assert!(whole(&slide, 0).is_ok());
    let center = SlidePx { x: 4.0, y: 4.0 };
    for error in [slide.read_patches(&[center], 4.0, 4).unwrap_err(), slide.thumbnail(4).unwrap_err()] {
        assert!(matches!(error, SlideError::PixelSize { .. }), "{error}");
    }
    assert!(slide.set_um_per_px(0.0).is_err() && slide.set_um_per_px(f64::NAN).is_err());
    slide.set_um_per_px(0.5).unwrap();
    assert!(slide.read_patches(&[center], 4.0, 4).is_ok());
}

#[test]
fn impossible_regions_are_refused_or_white() {
    let slide = open(classic(&[page(8, 8)])).unwrap();
    assert!(matches!(slide.read_region(1, 0, 0, 1, 1), Err(SlideError::Setting { .. })));
    assert!(matches!(slide.read_region(0, 0, 0, u32::MAX, u32::MAX), Err(SlideError::Window { .. })));
    for (left, top) in [(i64::MIN, 0), (i64::MAX, i64::MAX), (0, i64::MIN), (8, 8), (-2, 0)] {
        assert_eq!(slide.read_region(0, left, top, 2, 2).unwrap(), [255; 12], "{left} {top}");
    }
}

#[test]
fn the_tiff_crate_writes_what_is_read_here() {
    use image::{DynamicImage, RgbImage};
    let rgb = RgbImage::from_raw(37, 23, pattern(37, 23, 3)).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(rgb.clone()).write_to(&mut bytes, image::ImageFormat::Tiff).unwrap();
    assert_eq!(whole(&open(bytes.into_inner()).unwrap(), 0).unwrap(), rgb.into_raw());
}

#[test]
fn pyramids_that_are_written_here_are_read_here() {
    use crate::tiff::write::{PyramidImage, PyramidWriter, TileCompression};
    let (width, height) = (150u32, 110u32);
    let ramps = |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, 128];
    let pixels: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| ramps(x, y))).collect();
    for (compression, most) in [(TileCompression::Deflate, 0), (TileCompression::Jpeg(90), 12)] {
        let image = PyramidImage {
            width_px: width,
            height_px: height,
            tile_px: 32,
            compression,
            um_per_px: Some(0.274),
            description: "",
        };
        let mut out = Cursor::new(Vec::new());
        let fill = |region: crate::tiff::write::TileRegion, tile: &mut [[u8; 3]]| {
            for (y, row) in tile.chunks_mut(region.stride_px as usize).enumerate() {
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel = ramps(region.left_px + x as u32, region.top_px + y as u32);
                }
            }
            Ok(())
        };
        PyramidWriter::new(&mut out).unwrap().write_image(&image, fill).unwrap();
        let slide = open(out.into_inner()).unwrap();
        assert!((slide.embedded_pixel_size().unwrap().um_per_px - 0.274).abs() < 1e-5);
        assert!(slide.levels().len() > 1 && slide.levels()[1].downsample == 2.0, "{:?}", slide.levels());
        assert_near(&whole(&slide, 0).unwrap(), &pixels, most, 1.0);
    }
}

#[test]
fn several_threads_read_one_slide() {
    let base = Page { compression: 5, ..page(120, 120).tiled(16, 16) };
    let image = SlideImage::new(120, 120, base.pixels.clone(), 1.0).unwrap();
    // Room for two tiles, so that threads drop each other's.
    let options = PyramidOptions { cache_bytes: 2000, ..PyramidOptions::default() };
    let mut slide = SlidePyramid::open(classic(&[base]), options).unwrap();
    slide.set_um_per_px(1.0).unwrap();
    let centers: Vec<SlidePx> = (0..64)
        .map(|index| SlidePx { x: f64::from(index * 37 % 120), y: f64::from(index * 53 % 120) })
        .collect();
    let expected = image.read_patches(&centers, 20.0, 10).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| slide.read_patches(&centers, 20.0, 10).unwrap())).collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), expected);
        }
    });
}
