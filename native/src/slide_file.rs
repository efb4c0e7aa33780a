//! Slides as files: what is small is decoded to memory, what is large stays on the disk and is read by range.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use magnet_core::coordinates::SlidePx;
use magnet_core::slide::pyramid::{CutOff, PyramidOptions, SlidePyramid};
use magnet_core::slide::{
    BACKGROUND, DecodeLimits, DecodedImage, PatchReader, RangeRead, SlideError, SlideImage, decode,
};

use crate::console::Console;
use crate::error::InputError;
use crate::file_range::FileRange;
use crate::files::{read_limited, sha256_file_with};
use crate::read_ahead::{is_damage, read_patches};

/// Pixel sizes that slide images have, in µm: from an oil immersion lens to an overview.
const PLAUSIBLE_UM_PER_PX: std::ops::RangeInclusive<f64> = 0.02..=20.0;
/// Largest image file that is decoded in memory, in bytes.
const MAX_DECODED_FILE_BYTES: u64 = 2 << 30;
/// Most pixels of a TIFF picture that is decoded in memory; a larger one is read as it is needed.
const MAX_DECODED_PIXELS: u64 = 100_000_000;
/// How TIFF and BigTIFF files begin, in either byte order.
const TIFF_STARTS: [[u8; 4]; 4] = [*b"II*\0", *b"MM\0*", *b"II+\0", *b"MM\0+"];
/// Side of the parts of a small picture that is put together.
const PART_PX: usize = 64;
/// Digests of files that are smaller are made without a word.
const LONG_FILE_BYTES: u64 = 1 << 30;

/// A slide that several threads read.
pub type SharedSlide = Arc<dyn PatchReader + Send>;

/// A slide with its pixel size.
pub struct OpenedSlide {
    /// The pixels.
    pub reader: SharedSlide,
    /// Side of a full-resolution pixel, in µm.
    pub um_per_px: f64,
    /// The file.
    pub path: PathBuf,
    /// What lies past the file's end, of a slide that is read as it is needed.
    pub cut_off: Option<CutOff>,
}

/// Opens a slide and settles its pixel size: `mpp`, else the file's own, which is said; never a guess.
///
/// # Errors
/// If the file is no image, is too large for its format, or nothing tells its pixel size.
pub fn open_slide(path: &Path, mpp: Option<f64>, console: &Console) -> Result<OpenedSlide> {
    if let Some(mpp) = mpp
        && !PLAUSIBLE_UM_PER_PX.contains(&mpp)
    {
        let expected = format!(
            "µm per pixel of a microscope's image, {} to {}",
            PLAUSIBLE_UM_PER_PX.start(),
            PLAUSIBLE_UM_PER_PX.end()
        );
        return Err(InputError::in_flag("--mpp", "pixel size", expected, mpp).into());
    }
    let named = || path.display().to_string();
    let path_buf = path.to_path_buf();
    let pyramid = open_pyramid(path)?;
    let stays_on_disk = |slide: &SlidePyramid<FileRange>| {
        let pixels = u64::from(slide.width_px()) * u64::from(slide.height_px());
        slide.levels().len() > 1 || pixels > MAX_DECODED_PIXELS
    };
    let mut slide = match pyramid {
        Some(Ok(slide)) if stays_on_disk(&slide) => slide,
        pyramid => match (decode_file(path), pyramid) {
            (Ok(decoded), pyramid) => {
                let described = pyramid.and_then(Result::ok).and_then(|slide| slide.embedded_pixel_size());
                let embedded = described.map(|size| size.um_per_px).or(decoded.embedded_um_per_px);
                let um_per_px = pixel_size(path, mpp, embedded, console)?;
                let slide = decoded.into_slide(um_per_px).with_context(named)?;
                return Ok(OpenedSlide { reader: Arc::new(slide), um_per_px, path: path_buf, cut_off: None });
            }
            // What the picture decoder does not know the pyramid reader may.
            (Err(_), Some(Ok(slide))) => slide,
            (Err(_), Some(Err(error))) => return Err(no_slide(path, &error).into()),
            (Err(error), None) => return Err(error),
        },
    };
    let embedded = slide.embedded_pixel_size().map(|size| size.um_per_px);
    let um_per_px = pixel_size(path, mpp, embedded, console)?;
    slide.set_um_per_px(um_per_px).with_context(named)?;
    let cut_off = slide.cut_off().with_context(named)?;
    Ok(OpenedSlide { reader: Arc::new(SlideOnDisk(slide)), um_per_px, path: path_buf, cut_off })
}

/// Refuses a TIFF slide whose tiles do not all lie in its file, as in a copy that broke off.
///
/// # Errors
/// [`InputError`] with the length that the file should have, and if it cannot be read.
pub fn check_complete(path: &Path) -> Result<()> {
    let Some(Ok(slide)) = open_pyramid(path)? else { return Ok(()) };
    let Some(cut) = slide.cut_off().with_context(|| path.display().to_string())? else { return Ok(()) };
    let expected = format!("a file of at least {} bytes", cut.expected_bytes);
    let found = format!(
        "{} bytes: {} of the slide's {} tiles lie past its end (is the copy complete?)",
        cut.file_bytes, cut.beyond_end, cut.tiles
    );
    Err(InputError::in_file(path, cut.first, expected, found).into())
}

/// Width and height of a slide, from its header.
///
/// # Errors
/// If the file cannot be opened or is no PNG, JPEG or TIFF.
pub fn size_px(path: &Path) -> Result<(u32, u32)> {
    if let Some(Ok(slide)) = open_pyramid(path)? {
        return Ok((slide.width_px(), slide.height_px()));
    }
    let reader = image::ImageReader::open(path).and_then(image::ImageReader::with_guessed_format);
    let reader = reader.with_context(|| format!("cannot open {}", path.display()))?;
    reader.into_dimensions().map_err(|error| {
        InputError::in_file(path, "image", "a PNG, JPEG or TIFF image", format!("something else ({error})"))
            .into()
    })
}

/// The directories of a TIFF file; `None` for a file of another kind.
fn open_pyramid(path: &Path) -> Result<Option<Result<SlidePyramid<FileRange>, SlideError>>> {
    let file = FileRange::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut start = [0; 4];
    let is_tiff = file.read_at(0, &mut start).is_ok() && TIFF_STARTS.contains(&start);
    Ok(is_tiff.then(|| SlidePyramid::open(file, PyramidOptions::default())))
}

fn decode_file(path: &Path) -> Result<DecodedImage> {
    decode(&read_limited(path, MAX_DECODED_FILE_BYTES)?, &DecodeLimits::default())
        .map_err(|error| no_slide(path, &error).into())
}

/// A slide that stays on the disk. Where it is damaged, its small picture is glass.
#[derive(Debug)]
struct SlideOnDisk(SlidePyramid<FileRange>);

impl PatchReader for SlideOnDisk {
    fn width_px(&self) -> u32 {
        self.0.width_px()
    }

    fn height_px(&self) -> u32 {
        self.0.height_px()
    }

    fn um_per_px(&self) -> f64 {
        PatchReader::um_per_px(&self.0)
    }

    fn read_patch(&self, at: SlidePx, side_um: f64, px: usize, out: &mut [u8]) -> Result<(), SlideError> {
        self.0.read_patch(at, side_um, px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        match self.0.thumbnail(max_side_px) {
            Err(error) if is_damage(&error) => thumbnail_in_parts(&self.0, max_side_px),
            other => other,
        }
    }
}

/// The small picture of a slide, put together from parts so that only the damaged ones are missing.
fn thumbnail_in_parts(slide: &dyn PatchReader, max_side_px: u32) -> Result<SlideImage, SlideError> {
    let longest = slide.width_px().max(slide.height_px());
    let scale = (f64::from(longest) / f64::from(max_side_px.max(1))).max(1.0);
    let side = |px: u32| ((f64::from(px) / scale).floor() as usize).max(1);
    let (width, height) = (side(slide.width_px()), side(slide.height_px()));
    let um_per_px = slide.um_per_px() * scale;
    let mut rgb = vec![BACKGROUND; width * height * 3];
    for top in (0..height).step_by(PART_PX) {
        let middle = |start: usize| (start as f64 + PART_PX as f64 / 2.0) * scale;
        let lefts: Vec<usize> = (0..width).step_by(PART_PX).collect();
        let centers: Vec<_> = lefts.iter().map(|&left| SlidePx { x: middle(left), y: middle(top) }).collect();
        let parts = read_patches(slide, &centers, PART_PX as f64 * um_per_px, PART_PX, Some(&|_, _| {}))?;
        for (left, part) in lefts.into_iter().zip(parts.chunks_exact(PART_PX * PART_PX * 3)) {
            let columns = PART_PX.min(width - left) * 3;
            for (y, line) in (top..height).zip(part.chunks_exact(PART_PX * 3)) {
                let start = (y * width + left) * 3;
                if let (Some(to), Some(from)) = (rgb.get_mut(start..start + columns), line.get(..columns)) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
    SlideImage::new(width as u32, height as u32, rgb, um_per_px)
}

fn no_slide(path: &Path, error: &SlideError) -> InputError {
    InputError::in_file(path, "image", "a PNG, JPEG or TIFF slide image", error)
}

fn pixel_size(path: &Path, mpp: Option<f64>, embedded: Option<f64>, console: &Console) -> Result<f64> {
    match (mpp, embedded) {
        (Some(given), Some(embedded)) if (given / embedded - 1.0).abs() > 0.05 => {
            console.warn(format_args!(
                "{} says {embedded:.4} µm per pixel, --mpp says {given}: taking --mpp",
                path.display()
            ));
            Ok(given)
        }
        (Some(given), _) => Ok(given),
        (None, Some(embedded)) => {
            console.say(format_args!("pixel size {embedded:.4} µm, as {} says", path.display()));
            Ok(embedded)
        }
        (None, None) => Err(InputError::in_file(
            path,
            "pixel size",
            "--mpp UM_PER_PX (scanner's protocol, or the slide viewer's properties: 20x is often about 0.5, 40x \
             about 0.25; `prepare visium` works it out from the array)",
            "no pixel size in the image",
        )
        .into()),
    }
}

/// The SHA-256 of a file, made on a thread of its own: a slide of 10 GB takes half a minute.
#[derive(Debug)]
pub struct FileDigest {
    path: PathBuf,
    bytes: u64,
    read: Arc<AtomicU64>,
    state: Mutex<DigestState>,
}

#[derive(Debug)]
enum DigestState {
    Running(Option<JoinHandle<Result<String>>>),
    Done(String),
}

impl FileDigest {
    /// Begins to read the file.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn start(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot open {}", path.display());
        let bytes = std::fs::metadata(path).with_context(cannot)?.len();
        let read = Arc::new(AtomicU64::new(0));
        let (own, counter) = (path.to_path_buf(), Arc::clone(&read));
        let thread = std::thread::spawn(move || {
            sha256_file_with(&own, |bytes| {
                counter.fetch_add(bytes as u64, Ordering::Relaxed);
            })
        });
        let state = Mutex::new(DigestState::Running(Some(thread)));
        Ok(Self { path: path.to_path_buf(), bytes, read, state })
    }

    /// Whether [`FileDigest::wait`] returns at once.
    pub fn is_ready(&self) -> bool {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            DigestState::Running(thread) => thread.as_ref().is_none_or(JoinHandle::is_finished),
            DigestState::Done(_) => true,
        }
    }

    /// The digest, lower-case hexadecimal. A long wait has a progress bar.
    ///
    /// # Errors
    /// If the file could not be read.
    pub fn wait(&self, console: &Console) -> Result<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match &mut *state {
            DigestState::Done(digest) => return Ok(digest.clone()),
            DigestState::Running(thread) => thread.take(),
        };
        let thread = thread.with_context(|| format!("{}: no digest", self.path.display()))?;
        if self.bytes >= LONG_FILE_BYTES && !thread.is_finished() {
            let bar = console.bar(self.bytes >> 20, "digest of the image", "MiB");
            while !thread.is_finished() {
                bar.set_position(self.read.load(Ordering::Relaxed) >> 20);
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        }
        let digest = thread.join().map_err(|_| anyhow::anyhow!("{}: no digest", self.path.display()))??;
        *state = DigestState::Done(digest.clone());
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_made_beside_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        let digest = FileDigest::start(&path).unwrap();
        let expected = crate::files::sha256_file(&path).unwrap();
        assert_eq!(digest.wait(&Console::quiet()).unwrap(), expected);
        assert!(digest.is_ready());
        assert_eq!(digest.wait(&Console::quiet()).unwrap(), expected);
        assert!(FileDigest::start(&folder.path().join("none")).is_err());
    }
}
