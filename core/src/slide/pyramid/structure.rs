//! Which images of a TIFF file are the levels of one pyramid.
//!
//! The slide itself is the largest image of the file's chain. Its levels are the same picture at coarser resolutions:
//! images of its SubIFDs (OME-TIFF), and images of the chain that say so (NewSubfileType) or that are tiled as it is
//! (Aperio). A level must have the slide's proportions to within a pixel; labels, macro pictures and thumbnails are no
//! levels.

use super::ome;
use super::pixel_size::{EmbeddedPixelSize, embedded_pixel_size};
use super::tiff_image::{TiffImage, description};
use crate::slide::RangeRead;
use crate::tiff::TiffError;
use crate::tiff::read::{Directory, TiffReader};
use crate::tiff::tags;

/// NewSubfileType: a picture of another at a reduced resolution.
const REDUCED: u64 = 1;

/// Full-resolution pixels per pixel of a level, on each axis, and the part of the level that the slide covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    pub(super) scale_x: f64,
    pub(super) scale_y: f64,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A slide's images from fine to coarse, and what the file says of its pixel size.
pub(super) struct Structure {
    pub(super) levels: Vec<(TiffImage, Fit)>,
    pub(super) pixel_size: Option<EmbeddedPixelSize>,
}

impl Structure {
    pub(super) fn read<R: RangeRead + ?Sized>(source: &R, max_block_bytes: u64) -> Result<Self, TiffError> {
        let mut reader = TiffReader::new(source)?;
        let chain = reader.directories()?;
        let base_index = largest(&mut reader, &chain)?;
        let Some(base_directory) = chain.get(base_index) else {
            return Err(TiffError::field("header", "an image", "none"));
        };
        let base = TiffImage::read(&mut reader, base_directory, max_block_bytes)?;
        let said_first = match chain.first() {
            Some(first) => description(&mut reader, first)?,
            None => String::new(),
        };
        let is_ome = ome::is_ome(&said_first);
        refuse_separate_colors(
            &said_first,
            &base.label,
            base.samples.per_pixel.into(),
            (base.width, base.height),
        )?;
        let pixel_size = embedded_pixel_size(&mut reader, base_directory, &said_first, &base)?;

        let mut levels = vec![(base.clone(), Fit::FULL.of(&base))];
        let mut candidates = reader.sub_directories(base_directory)?;
        let own = candidates.len();
        candidates.extend(
            chain.into_iter().enumerate().filter(|(index, _)| *index != base_index).map(|(_, image)| image),
        );
        for (index, directory) in candidates.iter().enumerate() {
            // What cannot be read here is no level: labels are often stored in ways of their own.
            let Ok(image) = TiffImage::read(&mut reader, directory, max_block_bytes) else { continue };
            let says_so = image.subfile == REDUCED;
            let looks_like_it = !is_ome && base.tiled && image.tiled && image.subfile == 0;
            let is_level = index < own
                || ((says_so || looks_like_it)
                    && (image.tiled || !base.tiled)
                    && !is_extra(&description(&mut reader, directory)?));
            let same_samples = image.samples.ink.channels() == base.samples.ink.channels();
            if is_level
                && same_samples
                && let Some(fit) = Fit::find(&base, &image)
                && !levels.iter().any(|(_, other)| (other.scale_x - fit.scale_x).abs() < 0.05 * other.scale_x)
            {
                levels.push((image, fit));
            }
        }
        levels.sort_by(|(_, a), (_, b)| a.scale_x.total_cmp(&b.scale_x));
        Ok(Self { levels, pixel_size })
    }
}

/// Refuses the first image of a file that holds the three colours of a picture as images of their own: it is one of
/// them, and grey. What else may be wrong with the file is not looked at.
pub(in crate::slide) fn refuse_first_of_colors(bytes: &[u8]) -> Result<(), TiffError> {
    let facts = || {
        let mut reader = TiffReader::new(bytes)?;
        let chain = reader.directories()?;
        let Some(first) = chain.first() else { return Ok(None) };
        let mut value = |tag| reader.unsigned(first, tag).map(|value| value.unwrap_or(1));
        let per_pixel = value(tags::SAMPLES_PER_PIXEL)?;
        let size = (value(tags::IMAGE_WIDTH)? as u32, value(tags::IMAGE_LENGTH)? as u32);
        Ok::<_, TiffError>(Some((
            description(&mut reader, first)?,
            first.label().to_string(),
            per_pixel,
            size,
        )))
    };
    match facts() {
        Ok(Some((said, label, per_pixel, size))) => refuse_separate_colors(&said, &label, per_pixel, size),
        Ok(None) | Err(_) => Ok(()),
    }
}

fn refuse_separate_colors(
    description: &str,
    label: &str,
    samples_per_pixel: u64,
    (width, height): (u32, u32),
) -> Result<(), TiffError> {
    if samples_per_pixel != 1
        || !ome::is_ome(description)
        || ome::channels(description, width, height) != Some(3)
    {
        return Ok(());
    }
    Err(TiffError::field(
        label,
        "the colours of a pixel side by side (bfconvert and raw2ometiff do that with their RGB options)",
        "one image per colour",
    ))
}

/// The index of the image with the most pixels, the first of several.
fn largest<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    chain: &[Directory],
) -> Result<usize, TiffError> {
    let mut best = (0, 0);
    for (index, directory) in chain.iter().enumerate() {
        let mut side = |tag| reader.unsigned(directory, tag).map(|side| side.unwrap_or(0));
        let pixels = side(tags::IMAGE_WIDTH)?.saturating_mul(side(tags::IMAGE_LENGTH)?);
        if pixels > best.1 {
            best = (index, pixels);
        }
    }
    Ok(best.0)
}

/// Whether a description says that its image shows something else than the slide (Aperio's second line, Philips).
fn is_extra(description: &str) -> bool {
    let says = |line: &str| {
        let line = line.trim_start().to_ascii_lowercase();
        ["label", "macro", "thumbnail"].iter().any(|word| line.starts_with(word))
    };
    description.lines().take(2).any(says)
}

impl Fit {
    const FULL: Fit = Fit { scale_x: 1.0, scale_y: 1.0, width: 0, height: 0 };

    fn of(self, image: &TiffImage) -> Self {
        Self { width: image.width, height: image.height, ..self }
    }

    /// How `level` fits onto `base`; `None` when it is no coarser picture of the same field.
    fn find(base: &TiffImage, level: &TiffImage) -> Option<Self> {
        let sides = [(base.width, level.width), (base.height, level.height)];
        let ratios = sides.map(|(full, reduced)| f64::from(full) / f64::from(reduced));
        let longer = if base.width >= base.height { ratios[0] } else { ratios[1] };
        if longer < 1.1 {
            return None;
        }
        // Levels are mostly made by halving, rounding at each step; the exact scale is the whole number.
        let whole = longer.round();
        let rounds_to = |scale: f64, tolerance: f64| {
            sides
                .iter()
                .all(|&(full, reduced)| (f64::from(full) / scale - f64::from(reduced)).abs() <= tolerance)
        };
        if rounds_to(whole, 1.0) {
            return Some(Fit { scale_x: whole, scale_y: whole, ..Self::FULL }.of(level));
        }
        if rounds_to(longer, 1.0) {
            let [scale_x, scale_y] = ratios;
            return Some(Fit { scale_x, scale_y, ..Self::FULL }.of(level));
        }
        // Philips pads every level to whole tiles.
        let padded = |(full, reduced): (u32, u32), block: u32, scale: u32| {
            let content = full.div_ceil(scale);
            (content.checked_next_multiple_of(block) == Some(reduced)).then_some(content)
        };
        (1..16).map(|power| 1u32 << power).find_map(|scale| {
            let width = padded(sides[0], level.block_width, scale)?;
            let height = padded(sides[1], level.block_height, scale)?;
            let exact = f64::from(scale);
            level.tiled.then_some(Fit { scale_x: exact, scale_y: exact, width, height })
        })
    }
}
