//! Reading and decoding while the device computes: patches in parallel, the next ones ahead, a bounded number of them.

use std::sync::mpsc::{Receiver, sync_channel};

use magnet_core::coordinates::SlidePx;
use magnet_core::slide::{PatchReader, SlideError};
use rayon::prelude::*;

/// Results that wait for whoever takes them. One more is being made and one more in use; a larger number would only
/// hold memory.
const AHEAD: usize = 2;

/// Most parts into which a side is cut when a patch is read piecemeal.
const MAX_PARTS: usize = 16;

/// Gives `take` the results of `make` for every item in order, while the next ones are made on another thread. It ends
/// early when `take` drops the receiver.
pub fn read_ahead<I, T, R>(
    items: impl Iterator<Item = I> + Send,
    make: impl Fn(I) -> T + Send,
    take: impl FnOnce(Receiver<T>) -> R,
) -> R
where
    T: Send,
{
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for item in items {
                if sender.send(make(item)).is_err() {
                    break;
                }
            }
        });
        take(receiver)
    })
}

/// Hears of a patch that cannot be read whole: its number and the error.
pub type Unreadable<'a> = dyn Fn(usize, &SlideError) + Sync + 'a;

/// The patches around `centers`, read in parallel: `centers.len() · out_px · out_px · 3` bytes. A patch that damage keeps
/// from being read whole goes to `unreadable` with its number and the error, and shows glass where it is damaged; where
/// `unreadable` is `None`, that is an error.
///
/// # Errors
/// [`SlideError`] of the first patch that is none of a slide, or that cannot be read.
pub fn read_patches(
    slide: &dyn PatchReader,
    centers: &[SlidePx],
    side_um: f64,
    out_px: usize,
    unreadable: Option<&Unreadable<'_>>,
) -> Result<Vec<u8>, SlideError> {
    let size = out_px.saturating_mul(out_px).saturating_mul(3);
    if size == 0 || centers.is_empty() {
        return Ok(Vec::new());
    }
    let total = size.checked_mul(centers.len()).filter(|&bytes| isize::try_from(bytes).is_ok());
    let mut patches = vec![
        0;
        total.ok_or_else(|| SlideError::Window {
            expected: "patches that fit in memory".into(),
            found: format!("{} patches of {out_px} x {out_px} pixels", centers.len()),
        })?
    ];
    patches.par_chunks_exact_mut(size).zip(centers).enumerate().try_for_each(
        |(number, (patch, &center))| match (slide.read_patch(center, side_um, out_px, patch), unreadable) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(unreadable)) if is_damage(&error) => {
                unreadable(number, &error);
                read_piecemeal(slide, center, side_um, out_px, patch)
            }
            (Err(error), _) => Err(error),
        },
    )?;
    Ok(patches)
}

/// Whether the error says something about the slide's bytes, not about what was asked for.
pub fn is_damage(error: &SlideError) -> bool {
    !matches!(
        error,
        SlideError::Window { .. }
            | SlideError::Setting { .. }
            | SlideError::PixelBuffer { .. }
            | SlideError::PixelSize { .. }
    )
}

/// Reads a patch in parts, so that only the damaged ones are missing; those are white.
fn read_piecemeal(
    slide: &dyn PatchReader,
    center: SlidePx,
    side_um: f64,
    out_px: usize,
    patch: &mut [u8],
) -> Result<(), SlideError> {
    let parts = (1..=MAX_PARTS.min(out_px)).rev().find(|parts| out_px.is_multiple_of(*parts)).unwrap_or(1);
    let part_px = out_px / parts;
    let (part_um, step) = (side_um / parts as f64, side_um / slide.um_per_px() / parts as f64);
    let mut part = vec![0; part_px * part_px * 3];
    patch.fill(magnet_core::slide::BACKGROUND);
    for (row, column) in (0..parts).flat_map(|row| (0..parts).map(move |column| (row, column))) {
        let from_center = |index: usize| (index as f64 + 0.5 - parts as f64 / 2.0) * step;
        let at = SlidePx { x: center.x + from_center(column), y: center.y + from_center(row) };
        match slide.read_patch(at, part_um, part_px, &mut part) {
            Err(error) if is_damage(&error) => continue,
            other => other?,
        }
        let lines = patch.chunks_exact_mut(out_px * 3).skip(row * part_px);
        for (line, from) in lines.zip(part.chunks_exact(part_px * 3)) {
            if let Some(to) = line.get_mut(column * part_px * 3..(column + 1) * part_px * 3) {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use magnet_core::slide::{ImageFormat, SlideImage};

    use super::*;

    /// A slide of which everything right of `x_px` is damaged.
    struct Damaged {
        slide: SlideImage,
        x_px: f64,
    }

    impl PatchReader for Damaged {
        fn width_px(&self) -> u32 {
            self.slide.width_px()
        }

        fn height_px(&self) -> u32 {
            self.slide.height_px()
        }

        fn um_per_px(&self) -> f64 {
            self.slide.um_per_px()
        }

        fn read_patch(&self, at: SlidePx, side_um: f64, px: usize, out: &mut [u8]) -> Result<(), SlideError> {
            if at.x + side_um / self.um_per_px() / 2.0 > self.x_px {
                let (format, detail) = (ImageFormat::Tiff, "tile 3".into());
                return Err(SlideError::Undecodable { format, detail });
            }
            self.slide.read_patch(at, side_um, px, out)
        }

        fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
            self.slide.thumbnail(max_side_px)
        }
    }

    #[test]
    fn no_more_is_made_ahead_than_the_queue_holds() {
        let made = AtomicUsize::new(0);
        let most = read_ahead(
            0..50,
            |item| {
                made.fetch_add(1, Ordering::SeqCst);
                item
            },
            |results| {
                let mut most = 0;
                for (taken, item) in results.into_iter().enumerate() {
                    assert_eq!(item, taken);
                    std::thread::sleep(Duration::from_millis(2));
                    most = most.max(made.load(Ordering::SeqCst) - taken);
                }
                most
            },
        );
        assert_eq!(made.into_inner(), 50);
        // In use, waiting, and being made.
        assert!((2..=AHEAD + 2).contains(&most), "{most}");
    }

    #[test]
    fn whoever_stops_taking_stops_the_making() {
        let made = AtomicUsize::new(0);
        let make = |_| made.fetch_add(1, Ordering::SeqCst);
        read_ahead(0..1000, make, |results| results.recv().is_ok());
        assert!(made.into_inner() <= AHEAD + 2);
    }

    #[test]
    fn a_damaged_patch_is_named_and_white_where_it_is_damaged() {
        let rgb = vec![90; 100 * 100 * 3];
        let slide = Damaged { slide: SlideImage::new(100, 100, rgb, 1.0).unwrap(), x_px: 60.0 };
        let centers = [20.0, 60.0, 90.0].map(|x| SlidePx { x, y: 50.0 });
        let named = Mutex::new(Vec::new());
        let note = |number: usize, _: &SlideError| named.lock().unwrap().push(number);
        let read = read_patches(&slide, &centers, 16.0, 8, Some(&note)).unwrap();
        let mut found = std::mem::take(&mut *named.lock().unwrap());
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
        let patches: Vec<&[u8]> = read.chunks_exact(8 * 8 * 3).collect();
        assert!(patches[0].iter().all(|&value| value == 90));
        let white = |pixel: &[u8]| pixel == [255; 3];
        for row in patches[1].chunks_exact(8 * 3) {
            let columns: Vec<bool> = row.chunks_exact(3).map(white).collect();
            assert_eq!(columns, [false, false, false, false, true, true, true, true]);
        }
        assert!(patches[2].chunks_exact(3).all(white));
        assert!(read_patches(&slide, &centers, 16.0, 8, None).is_err());
        // What cannot be asked of any slide is no damage.
        assert!(read_patches(&slide, &centers, -1.0, 8, Some(&note)).is_err());
    }
}
