//! Tiled pyramids: an image and its halves, quarters, …, each level in tiles, as BigTIFF.
//!
//! Tiles are made in the order of a quadtree: four tiles, then the one above them. So a level is the mean of the level
//! below, every tile is asked for once, and no more than four tiles of each level are in memory at a time, however
//! large the image is. The smaller levels stand in the SubIFDs of the full image's directory, where OME-TIFF has them.

use std::io::{self, Error, ErrorKind, Seek, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use tiff::TiffError;
use tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKindBig};
use tiff::tags::Tag;

/// Sides that tiles may have; TIFF wants multiples of 16.
const TILE_SIDES_PX: std::ops::RangeInclusive<u32> = 16..=4096;
/// Most tiles of one level: their table is held in memory.
const MOST_TILES: u64 = 16 << 20;
/// Deflate's middle road.
const DEFLATE_LEVEL: u32 = 6;
/// YCbCrSubSampling, which the library does not name.
const YCBCR_SUBSAMPLING: Tag = Tag::Unknown(530);

/// How the tiles of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileCompression {
    /// Zlib: nothing is lost, every reader has it.
    Deflate,
    /// Baseline JPEG with full chroma, for RGB; quality 1 to 100.
    Jpeg(u8),
}

/// An image to be written, but for its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PyramidImage<'a> {
    /// Width at full resolution, in pixels.
    pub width_px: u32,
    /// Height at full resolution, in pixels.
    pub height_px: u32,
    /// Side of a tile, in pixels: a multiple of 16.
    pub tile_px: u32,
    /// How tiles are compressed.
    pub compression: TileCompression,
    /// Side of a pixel, in µm, for the resolution tags.
    pub um_per_px: Option<f64>,
    /// ImageDescription, ASCII: OME-XML in the first image of an OME-TIFF; left out where empty.
    pub description: &'a str,
}

/// A tile of the full resolution that is asked for: the part of it that lies on the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileRegion {
    /// Its left edge, in pixels.
    pub left_px: u32,
    /// Its top edge, in pixels.
    pub top_px: u32,
    /// Pixels of a row that lie on the image.
    pub width_px: u32,
    /// Rows that lie on the image.
    pub height_px: u32,
    /// Pixels from one row of the tile to the next.
    pub stride_px: u32,
}

/// What a pixel of a pyramid is: `[u8; 3]` (RGB) or `f32` (one grey value; NaN where there is none).
pub trait PyramidPixel: Copy + Default {
    /// Bits of each sample.
    const BITS: &'static [u16];
    /// TIFF's SampleFormat: 1 unsigned, 3 floating point.
    const SAMPLE_FORMAT: u16;
    /// TIFF's PhotometricInterpretation.
    const PHOTOMETRIC: u16;

    /// The pixel of the next level for four of this one.
    fn mean(of: [Self; 4]) -> Self;

    /// The samples as bytes, in the machine's order.
    fn bytes(pixels: &[Self]) -> Vec<u8>;
}

impl PyramidPixel for [u8; 3] {
    const BITS: &'static [u16] = &[8, 8, 8];
    const SAMPLE_FORMAT: u16 = 1;
    const PHOTOMETRIC: u16 = 2;

    fn mean(of: [Self; 4]) -> Self {
        let [a, b, c, d] = of.map(|pixel| pixel.map(u16::from));
        std::array::from_fn(|channel| ((a[channel] + b[channel] + c[channel] + d[channel] + 2) / 4) as u8)
    }

    fn bytes(pixels: &[Self]) -> Vec<u8> {
        pixels.as_flattened().to_vec()
    }
}

impl PyramidPixel for f32 {
    const BITS: &'static [u16] = &[32];
    const SAMPLE_FORMAT: u16 = 3;
    const PHOTOMETRIC: u16 = 1;

    /// Of those that are known.
    fn mean(of: [Self; 4]) -> Self {
        let known = of.iter().filter(|value| !value.is_nan());
        known.clone().sum::<f32>() / known.count() as f32
    }

    fn bytes(pixels: &[Self]) -> Vec<u8> {
        pixels.iter().flat_map(|value| value.to_ne_bytes()).collect()
    }
}

/// A BigTIFF file of tiled pyramids, image after image.
pub struct PyramidWriter<W: Write + Seek> {
    encoder: TiffEncoder<W, TiffKindBig>,
}

impl<W: Write + Seek> PyramidWriter<W> {
    /// Begins a file at the start of `out`.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W) -> io::Result<Self> {
        Ok(Self { encoder: TiffEncoder::new_big(out).map_err(io_error)? })
    }

    /// Appends an image with its pyramid. `fill` is called once for each tile of the full resolution and sets the
    /// part of it that lies on the image, rows from the top; what lies beyond need not be set.
    ///
    /// # Shapes
    /// - `fill`'s tile: `tile_px × tile_px` pixels
    ///
    /// # Errors
    /// When a side is out of range, `fill` fails, or the file cannot be written.
    pub fn write_image<P: PyramidPixel>(
        &mut self,
        image: &PyramidImage<'_>,
        mut fill: impl FnMut(TileRegion, &mut [P]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut levels = levels(image)?;
        if P::PHOTOMETRIC != <[u8; 3]>::PHOTOMETRIC && image.compression != TileCompression::Deflate {
            return Err(refused("JPEG holds RGB pixels only".to_owned()));
        }
        let top = levels.len() - 1;
        let mut smaller = Vec::new();
        {
            // One directory must be open for data to be written; the smallest level's can be finished first.
            let mut directory = self.directory(top)?;
            let mut maker =
                TileMaker { image, fill: &mut fill, directory: &mut directory, levels: &mut levels };
            let (cols, rows) = maker.levels.get(top).map_or((0, 0), |level| (level.cols, level.rows));
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                maker.make(top, col, row)?;
            }
            finish::<P, W>(directory, image, &levels, top, &mut smaller)?;
        }
        for index in (0..top).rev() {
            finish::<P, W>(self.directory(index)?, image, &levels, index, &mut smaller)?;
        }
        Ok(())
    }

    /// The directory of a level: in the chain of images for the full resolution, to be pointed at for the others.
    fn directory(&mut self, index: usize) -> io::Result<DirectoryEncoder<'_, W, TiffKindBig>> {
        match index {
            0 => self.encoder.image_directory(),
            _ => self.encoder.extra_directory(),
        }
        .map_err(io_error)
    }
}

/// Writes the tags of a level. `smaller` holds where the levels after it lie, from the largest to the smallest.
fn finish<P: PyramidPixel, W: Write + Seek>(
    mut directory: DirectoryEncoder<'_, W, TiffKindBig>,
    image: &PyramidImage<'_>,
    levels: &[Level],
    index: usize,
    smaller: &mut Vec<u64>,
) -> io::Result<()> {
    let Some(level) = levels.get(index) else { return Ok(()) };
    write_tags::<P, W>(&mut directory, image, level, index).map_err(io_error)?;
    if index == 0 && !smaller.is_empty() {
        directory.write_tag(Tag::SubIfd, smaller.as_slice()).map_err(io_error)?;
    }
    smaller.insert(0, directory.finish_with_offsets().map_err(io_error)?.pointer.0);
    Ok(())
}

/// One level under construction.
struct Level {
    width_px: u32,
    height_px: u32,
    cols: u32,
    rows: u32,
    /// Where each tile lies in the file, row after row.
    offsets: Vec<u64>,
    byte_counts: Vec<u64>,
}

/// The full resolution and each half of it, down to one that fits a tile.
fn levels(image: &PyramidImage<'_>) -> io::Result<Vec<Level>> {
    let tile_px = image.tile_px;
    if !TILE_SIDES_PX.contains(&tile_px) || !tile_px.is_multiple_of(16) {
        return Err(refused(format!("tiles of {tile_px} px; expected a multiple of 16 from 16 to 4096")));
    }
    let (mut width_px, mut height_px) = (image.width_px, image.height_px);
    let mut levels = Vec::new();
    loop {
        let (cols, rows) = (width_px.div_ceil(tile_px), height_px.div_ceil(tile_px));
        let tiles = u64::from(cols) * u64::from(rows);
        if tiles == 0 || tiles > MOST_TILES {
            let found = format!("{width_px} × {height_px} px in tiles of {tile_px} px");
            return Err(refused(format!("{found}; expected 1 to {MOST_TILES} tiles")));
        }
        let table = vec![0; tiles as usize];
        levels.push(Level { width_px, height_px, cols, rows, offsets: table.clone(), byte_counts: table });
        if width_px.max(height_px) <= tile_px {
            return Ok(levels);
        }
        (width_px, height_px) = (width_px.div_ceil(2), height_px.div_ceil(2));
    }
}

/// Makes tiles and writes them.
struct TileMaker<'a, 'd, P, W: Write + Seek> {
    image: &'a PyramidImage<'a>,
    fill: &'a mut dyn FnMut(TileRegion, &mut [P]) -> io::Result<()>,
    directory: &'a mut DirectoryEncoder<'d, W, TiffKindBig>,
    levels: &'a mut [Level],
}

impl<P: PyramidPixel, W: Write + Seek> TileMaker<'_, '_, P, W> {
    /// Makes and writes a tile and all below it, and returns its pixels; `None` beyond the level's edge.
    fn make(&mut self, index: usize, col: u32, row: u32) -> io::Result<Option<Vec<P>>> {
        let tile_px = self.image.tile_px;
        let Some(level) = self.levels.get(index) else { return Ok(None) };
        if col >= level.cols || row >= level.rows {
            return Ok(None);
        }
        let place = row as usize * level.cols as usize + col as usize;
        let region = TileRegion {
            left_px: col * tile_px,
            top_px: row * tile_px,
            width_px: tile_px.min(level.width_px - col * tile_px),
            height_px: tile_px.min(level.height_px - row * tile_px),
            stride_px: tile_px,
        };
        let side = tile_px as usize;
        let mut pixels = vec![P::default(); side * side];
        match index.checked_sub(1) {
            None => (self.fill)(region, &mut pixels)?,
            Some(below) => {
                for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    if let Some(child) = self.make(below, 2 * col + right, 2 * row + down)? {
                        let corner = (down as usize * side + right as usize) * (side / 2);
                        halve(&child, side, pixels.get_mut(corner..).unwrap_or_default());
                    }
                }
            }
        }
        extend_edges(&mut pixels, region);
        let bytes = self.compress(&pixels)?;
        let offset = self.directory.write_data(bytes.as_slice()).map_err(io_error)?;
        if let Some(level) = self.levels.get_mut(index)
            && let (Some(at), Some(count)) = (level.offsets.get_mut(place), level.byte_counts.get_mut(place))
        {
            (*at, *count) = (offset, bytes.len() as u64);
        }
        Ok(Some(pixels))
    }

    fn compress(&self, pixels: &[P]) -> io::Result<Vec<u8>> {
        let bytes = P::bytes(pixels);
        match self.image.compression {
            TileCompression::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(DEFLATE_LEVEL));
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            TileCompression::Jpeg(quality) => {
                let (side, mut out) = (self.image.tile_px, Vec::new());
                JpegEncoder::new_with_quality(&mut out, quality)
                    .encode(&bytes, side, side, ExtendedColorType::Rgb8)
                    .map_err(Error::other)?;
                Ok(out)
            }
        }
    }
}

/// Puts a tile at half its size into the part of another one that begins at `out`.
fn halve<P: PyramidPixel>(tile: &[P], side: usize, out: &mut [P]) {
    for (pair, line) in tile.chunks_exact(2 * side).zip(out.chunks_mut(side)) {
        let (upper, lower) = pair.split_at(side);
        let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
        for (pixel, (&[a, b], &[c, d])) in line.iter_mut().zip(pairs) {
            *pixel = P::mean([a, b, c, d]);
        }
    }
}

/// Repeats the last column and the last row of a tile's part on the image, so that what lies beyond neither shows in
/// the smaller levels nor rings in a JPEG.
fn extend_edges<P: PyramidPixel>(pixels: &mut [P], region: TileRegion) {
    let (side, width, height) =
        (region.stride_px as usize, region.width_px as usize, region.height_px as usize);
    if width < side {
        for line in pixels.chunks_exact_mut(side).take(height) {
            let last = line.get(width - 1).copied().unwrap_or_default();
            line.iter_mut().skip(width).for_each(|pixel| *pixel = last);
        }
    }
    for line in height..side {
        pixels.copy_within((height - 1) * side..height * side, line * side);
    }
}

fn write_tags<P: PyramidPixel, W: Write + Seek>(
    directory: &mut DirectoryEncoder<'_, W, TiffKindBig>,
    image: &PyramidImage<'_>,
    level: &Level,
    index: usize,
) -> Result<(), TiffError> {
    let samples = P::BITS.len();
    directory.write_tag(Tag::NewSubfileType, u32::from(index > 0))?;
    directory.write_tag(Tag::ImageWidth, level.width_px)?;
    directory.write_tag(Tag::ImageLength, level.height_px)?;
    directory.write_tag(Tag::BitsPerSample, P::BITS)?;
    directory.write_tag(Tag::SampleFormat, vec![P::SAMPLE_FORMAT; samples].as_slice())?;
    directory.write_tag(Tag::SamplesPerPixel, samples as u16)?;
    directory.write_tag(Tag::PlanarConfiguration, 1_u16)?;
    let (compression, photometric) = match image.compression {
        TileCompression::Deflate => (8_u16, P::PHOTOMETRIC),
        TileCompression::Jpeg(_) => (7, 6),
    };
    directory.write_tag(Tag::Compression, compression)?;
    directory.write_tag(Tag::PhotometricInterpretation, photometric)?;
    if matches!(image.compression, TileCompression::Jpeg(_)) {
        directory.write_tag(YCBCR_SUBSAMPLING, [1_u16, 1].as_slice())?;
    }
    directory.write_tag(Tag::TileWidth, image.tile_px)?;
    directory.write_tag(Tag::TileLength, image.tile_px)?;
    directory.write_tag(Tag::TileOffsets, level.offsets.as_slice())?;
    directory.write_tag(Tag::TileByteCounts, level.byte_counts.as_slice())?;
    if let Some(um_per_px) = image.um_per_px.filter(|size| size.is_finite() && *size > 0.0) {
        // The levels are halves of each other but for a rounded pixel at the edge.
        let um_per_px = um_per_px * 2.0_f64.powi(i32::try_from(index).unwrap_or(0));
        let per_cm = |_| Rational { n: 1_000_000_000, d: (um_per_px * 100_000.0).round().max(1.0) as u32 };
        directory.write_tag(Tag::XResolution, per_cm(()))?;
        directory.write_tag(Tag::YResolution, per_cm(()))?;
        directory.write_tag(Tag::ResolutionUnit, 3_u16)?;
    }
    if index == 0 && !image.description.is_empty() {
        directory.write_tag(Tag::ImageDescription, image.description)?;
    }
    Ok(())
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("pyramid: {reason}"))
}

/// The library's error; one of the file below stays what it is.
fn io_error(error: TiffError) -> Error {
    match error {
        TiffError::IoError(error) => error,
        other => Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tiff::decoder::{Decoder, DecodingResult};

    use super::*;

    fn image(width_px: u32, height_px: u32, compression: TileCompression) -> PyramidImage<'static> {
        PyramidImage {
            width_px,
            height_px,
            tile_px: 16,
            compression,
            um_per_px: Some(0.25),
            description: "about",
        }
    }

    fn written<P: PyramidPixel>(image: &PyramidImage<'_>, pixel: impl Fn(u32, u32) -> P) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let mut asked = std::collections::BTreeSet::new();
        PyramidWriter::new(&mut out)
            .unwrap()
            .write_image(image, |region, tile| {
                assert!(asked.insert((region.left_px, region.top_px)), "asked twice for {region:?}");
                for y in 0..region.height_px {
                    for x in 0..region.width_px {
                        tile[(y * region.stride_px + x) as usize] =
                            pixel(region.left_px + x, region.top_px + y);
                    }
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(asked.len() as u32, image.width_px.div_ceil(16) * image.height_px.div_ceil(16));
        out.into_inner()
    }

    /// Every level: its size and its samples.
    fn read(bytes: &[u8]) -> Vec<(u32, u32, DecodingResult)> {
        let mut decoder = Decoder::new(Cursor::new(bytes)).unwrap();
        let smaller =
            decoder.find_tag(Tag::SubIfd).unwrap().map_or(Vec::new(), |value| value.into_u64_vec().unwrap());
        let size = decoder.dimensions().unwrap();
        let mut levels = vec![(size.0, size.1, decoder.read_image().unwrap())];
        for offset in smaller {
            // The library follows the chain only: a header of its own, whose first directory is the level's.
            let mut bytes = bytes.to_vec();
            bytes[8..16].copy_from_slice(&offset.to_ne_bytes());
            let mut decoder = Decoder::new(Cursor::new(bytes)).unwrap();
            let size = decoder.dimensions().unwrap();
            levels.push((size.0, size.1, decoder.read_image().unwrap()));
        }
        levels
    }

    #[test]
    fn every_level_is_the_mean_of_the_one_below() {
        let (width, height) = (37, 70);
        let pixel = |x: u32, y: u32| [(x * 3) as u8, (y * 2) as u8, (x ^ y) as u8];
        let levels = read(&written(&image(width, height, TileCompression::Deflate), pixel));
        let sizes: Vec<_> = levels.iter().map(|(width, height, _)| (*width, *height)).collect();
        assert_eq!(sizes, [(37, 70), (19, 35), (10, 18), (5, 9)]);
        let mut expected: Vec<[u8; 3]> =
            (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        let mut expected_size = (width as usize, height as usize);
        for (width, height, found) in &levels {
            let DecodingResult::U8(found) = found else { panic!("{found:?}") };
            assert_eq!(found, expected.as_flattened());
            let (half_width, half_height) = (width.div_ceil(2) as usize, height.div_ceil(2) as usize);
            let at = |x: usize, y: usize| {
                expected[y.min(expected_size.1 - 1) * expected_size.0 + x.min(expected_size.0 - 1)]
            };
            let half = (0..half_height)
                .flat_map(|y| (0..half_width).map(move |x| (2 * x, 2 * y)))
                .map(|(x, y)| PyramidPixel::mean([at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)]))
                .collect();
            (expected, expected_size) = (half, (half_width, half_height));
        }
    }

    #[test]
    fn grey_values_stay_and_means_leave_out_what_is_not_known() {
        let pixel = |x: u32, y: u32| if x.is_multiple_of(2) { f32::NAN } else { x as f32 + y as f32 / 8.0 };
        let bytes = written(&image(20, 4, TileCompression::Deflate), pixel);
        let levels = read(&bytes);
        let [(20, 4, DecodingResult::F32(full)), (10, 2, DecodingResult::F32(half))] = levels.as_slice()
        else {
            panic!("{levels:?}")
        };
        assert!((0..80).all(|at| full[at as usize].to_bits() == pixel(at % 20, at / 20).to_bits()));
        assert_eq!(half[..3], [1.0625, 3.0625, 5.0625]);
        let mut decoder = Decoder::new(Cursor::new(&bytes)).unwrap();
        assert_eq!(decoder.get_tag(Tag::ImageDescription).unwrap().into_string().unwrap(), "about");
        assert_eq!(decoder.get_tag_u32(Tag::ResolutionUnit).unwrap(), 3);
        assert!(f32::mean([f32::NAN; 4]).is_nan());
    }

    #[test]
    fn a_jpeg_pyramid_looks_like_its_source() {
        let pixel = |x: u32, y: u32| [200, (x * 4) as u8, (y * 4) as u8];
        let levels = read(&written(&image(40, 33, TileCompression::Jpeg(90)), pixel));
        assert_eq!(levels.len(), 3);
        let (_, _, DecodingResult::U8(full)) = &levels[0] else { panic!("eight bits") };
        // The library hands out what the tags say: luma and two differences of colour.
        for (at, found) in full.as_chunks::<3>().0.iter().enumerate() {
            let [red, green, blue] = pixel(at as u32 % 40, at as u32 / 40).map(f64::from);
            let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
            let expected = [luma, 128.0 + (blue - luma) / 1.772, 128.0 + (red - luma) / 1.402];
            let near = found
                .iter()
                .zip(expected)
                .all(|(&found, expected)| (f64::from(found) - expected).abs() < 6.0);
            assert!(near, "{at}: {found:?} is not {expected:?}");
        }
    }

    #[test]
    fn images_follow_each_other_in_one_file() {
        let mut out = Cursor::new(Vec::new());
        let mut writer = PyramidWriter::new(&mut out).unwrap();
        for value in [1.0_f32, 2.0] {
            let image = PyramidImage { description: "", ..image(17, 5, TileCompression::Deflate) };
            let fill = |_: TileRegion, tile: &mut [f32]| {
                tile.fill(value);
                Ok(())
            };
            writer.write_image(&image, fill).unwrap();
        }
        let mut decoder = Decoder::new(Cursor::new(out.into_inner())).unwrap();
        assert!(matches!(decoder.read_image().unwrap(), DecodingResult::F32(values) if values == [1.0; 85]));
        decoder.next_image().unwrap();
        assert!(matches!(decoder.read_image().unwrap(), DecodingResult::F32(values) if values == [2.0; 85]));
        assert!(!decoder.more_images());
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let write = |image: PyramidImage<'_>| {
            let mut writer = PyramidWriter::new(Cursor::new(Vec::new())).unwrap();
            writer
                .write_image(&image, |_, _: &mut [f32]| Err(Error::other("no pixels")))
                .unwrap_err()
                .to_string()
        };
        let good = image(20, 20, TileCompression::Deflate);
        assert_eq!(write(good), "no pixels");
        assert!(write(PyramidImage { tile_px: 40, ..good }).contains("multiple of 16"));
        assert!(write(PyramidImage { width_px: 0, ..good }).contains("0 × 20 px"));
        assert!(write(PyramidImage { width_px: u32::MAX, height_px: u32::MAX, ..good }).contains("tiles"));
        assert!(write(PyramidImage { compression: TileCompression::Jpeg(80), ..good }).contains("RGB"));
    }
}
