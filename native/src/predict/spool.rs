//! What a run has finished, on the disk: it need not be in memory, and a run that was ended continues from it.
//!
//! ```text
//! OUT.partial/
//!   run.json     what the run is; another one is refused
//!   pieces       one after the other: length (u64, little-endian), `Piece` with its own SHA-256
//!   unread       what could not be read of the slide
//! ```
//! Pieces are only ever appended, so a program that is killed loses at most the last one.

use std::borrow::Borrow;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use magnet_core::expression::RowSource;
use magnet_core::layout::SlideLayout;
use magnet_core::predict::{Piece, PredictRun};
use magnet_core::slide::{PatchReader, RangeRead};
use magnet_core::{Level, PerLevel};
use serde::{Deserialize, Serialize};

use super::faults::Faults;
use crate::error::InputError;
use crate::file_range::FileRange;
use crate::files::{Overwrite, read_limited, write_atomic};

const PIECES: &str = "pieces";
const RUN: &str = "run.json";
const UNREAD: &str = "unread";
/// Largest piece: a block of 100,000 bins with 2,500 genes.
const MAX_PIECE_BYTES: u64 = 1 << 30;
/// Largest `run.json`.
const MAX_RUN_BYTES: u64 = 1 << 20;
/// How much work a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// What two runs must share for one to continue the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKey {
    /// SHA-256 of the model bundle.
    pub model_sha256: String,
    /// SHA-256 of the image; empty until it is known.
    pub image_sha256: String,
    /// Digest of features that were made elsewhere; empty where the run makes its own.
    pub features_sha256: String,
    /// [`PredictRun::identity`]: configuration, positions, blocks, pixel size.
    pub run: String,
    /// Whether the patch encoder calculates with 16-bit floats.
    #[serde(default)]
    pub half: bool,
}

/// The finished pieces of a run in a folder.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    key: RunKey,
    file: File,
    len: u64,
    passes: usize,
    /// Where the values of each level of each block of each pass begin in the file: pass by pass.
    starts: Vec<Option<PerLevel<u64>>>,
    synced: Instant,
}

impl Spool {
    /// The folder for the unfinished run of an output.
    pub fn folder_of(out: &Path) -> PathBuf {
        let mut name = out.file_name().unwrap_or_default().to_os_string();
        name.push(".partial");
        out.with_file_name(name)
    }

    /// Whether there is something to continue in this folder.
    pub fn exists(folder: &Path) -> bool {
        folder.join(RUN).is_file()
    }

    /// Whether the folder holds a run that another can continue. One that ended before its image was read to the end
    /// does not say which image that was.
    ///
    /// # Errors
    /// If what is there is no such run.
    pub fn can_be_continued(folder: &Path) -> Result<bool> {
        Ok(Self::exists(folder) && !Self::read_key(folder)?.image_sha256.is_empty())
    }

    fn read_key(folder: &Path) -> Result<RunKey> {
        let path = folder.join(RUN);
        let key = serde_json::from_slice(&read_limited(&path, MAX_RUN_BYTES)?)
            .map_err(|error| InputError::in_file(&path, "JSON", "what an unfinished run left", error))?;
        Ok(key)
    }

    /// Begins in an empty folder; what an earlier run left there is removed.
    ///
    /// # Errors
    /// If another program is at work in the folder, or it cannot be written.
    pub fn begin<R: PatchReader, L: Borrow<SlideLayout>>(
        folder: &Path,
        key: RunKey,
        run: &PredictRun<R, L>,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut spool = Self::open(folder, key, run)?;
        // The key goes first and comes back last, so that no other run's pieces ever stand beside it.
        remove_if_there(&folder.join(RUN))?;
        remove_if_there(&folder.join(UNREAD))?;
        spool.truncate(0)?;
        spool.write_key()?;
        Ok(spool)
    }

    /// Takes over what is in the folder: every whole piece goes into `run`. A last piece that was cut off is dropped.
    ///
    /// # Errors
    /// If the folder holds another run, another program is at work in it, or it cannot be read.
    pub fn resume<R: PatchReader, L: Borrow<SlideLayout>>(
        folder: &Path,
        key: RunKey,
        run: &mut PredictRun<R, L>,
    ) -> Result<Self> {
        check_key(&folder.join(RUN), &key, &Self::read_key(folder)?)?;
        let mut spool = Self::open(folder, key, run)?;
        spool.take_over(run)?;
        Ok(spool)
    }

    fn open<R: PatchReader, L: Borrow<SlideLayout>>(
        folder: &Path,
        key: RunKey,
        run: &PredictRun<R, L>,
    ) -> Result<Self> {
        let path = folder.join(PIECES);
        let cannot = || format!("cannot write {}", path.display());
        let file = File::options().read(true).append(true).create(true).open(&path).with_context(cannot)?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            let expected = "a run that nobody is at work on";
            return Err(InputError::in_file(folder, "run", expected, "another program that writes it").into());
        }
        let len = file.metadata().with_context(cannot)?.len();
        let (passes, blocks) = (run.passes(), run.blocks());
        let starts = vec![None; passes * blocks];
        Ok(Self { folder: folder.to_path_buf(), key, file, len, passes, starts, synced: Instant::now() })
    }

    fn take_over<R: PatchReader, L: Borrow<SlideLayout>>(
        &mut self,
        run: &mut PredictRun<R, L>,
    ) -> Result<()> {
        let path = self.folder.join(PIECES);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut end = 0;
        let mut bytes = Vec::new();
        loop {
            let mut length = [0; 8];
            if reader.read_exact(&mut length).is_err() {
                break;
            }
            let length = u64::from_le_bytes(length);
            if length > MAX_PIECE_BYTES.min(self.len - end) {
                break;
            }
            bytes.clear();
            let read = (&mut reader).take(length).read_to_end(&mut bytes);
            if read.ok().is_none_or(|read| read as u64 != length) {
                break;
            }
            // What is damaged is done again, with all that follows.
            let Ok(piece) = Piece::from_bytes(&bytes) else { break };
            self.note(&piece, end + 8);
            run.restore(piece).with_context(|| path.display().to_string())?;
            end += 8 + length;
        }
        self.truncate(end)
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.file.set_len(len).with_context(|| format!("cannot write {}", self.folder.display()))?;
        self.len = len;
        Ok(())
    }

    fn write_key(&self) -> Result<()> {
        write_atomic(&self.folder.join(RUN), &serde_json::to_vec_pretty(&self.key)?, Overwrite::Yes)
    }

    /// Adds the digest of the image, which takes its time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_image(&mut self, sha256: &str) -> Result<()> {
        if self.key.image_sha256 != sha256 {
            self.key.image_sha256 = sha256.to_owned();
            self.write_key()?;
        }
        Ok(())
    }

    /// Whether the digest of the image is known.
    pub fn knows_image(&self) -> bool {
        !self.key.image_sha256.is_empty()
    }

    /// The faults of the run, which are kept beside the pieces.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn faults(&self) -> Result<Faults> {
        Faults::logged(&self.folder.join(UNREAD))
    }

    /// Appends a piece. It is safe from the program's end at once, and from the machine's within half a minute.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, piece: &Piece) -> Result<()> {
        let bytes = piece.to_bytes();
        let mut record = Vec::with_capacity(8 + bytes.len());
        record.extend((bytes.len() as u64).to_le_bytes());
        record.extend(bytes);
        let cannot = || format!("cannot write {}", self.folder.join(PIECES).display());
        self.file.write_all(&record).with_context(cannot)?;
        self.note(piece, self.len + 8);
        self.len += record.len() as u64;
        if self.synced.elapsed() > SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes sure that all pieces are on the disk.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.folder.display()))?;
        self.synced = Instant::now();
        Ok(())
    }

    /// Whether nothing is finished yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn remove(self) -> Result<()> {
        let folder = self.folder;
        drop(self.file);
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    fn note(&mut self, piece: &Piece, at: u64) {
        let Some((pass, block)) = piece.block() else { return };
        let blocks = self.starts.len() / self.passes.max(1);
        if let Some(start) = self.starts.get_mut(pass * blocks + block) {
            *start = Some(PerLevel::from_fn(|level| at + piece.level_offset(level) as u64));
        }
    }

    /// The predictions of a level, `[N,G]` over the slide, read from the file as they are asked for. Rows of nodes in
    /// `faults` and of blocks that are not done are NaN.
    ///
    /// # Errors
    /// If the pieces cannot be opened.
    pub fn rows<R: PatchReader, L: Borrow<SlideLayout>>(
        &self,
        run: &PredictRun<R, L>,
        level: Level,
        genes: usize,
        faults: &Faults,
    ) -> Result<SpoolRows> {
        let path = self.folder.join(PIECES);
        let file = FileRange::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let blocks = run.blocks();
        let mut places = vec![NOWHERE; run.layout().centers.get(level).len()];
        for block in 0..blocks {
            for (row, node) in run.rows_of_block(block, level) {
                if let Some(place) = places.get_mut(node as usize) {
                    *place = Place { block: block as u32, row };
                }
            }
        }
        for node in faults.nodes(level) {
            if let Some(place) = places.get_mut(node as usize) {
                *place = NOWHERE;
            }
        }
        let starts = self.starts.iter().map(|start| start.as_ref().map(|start| *start.get(level))).collect();
        Ok(SpoolRows { file, genes, blocks, passes: self.passes, places, starts })
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn check_key(path: &Path, expected: &RunKey, found: &RunKey) -> Result<()> {
    let pairs = [
        ("model", &expected.model_sha256, &found.model_sha256),
        ("image", &expected.image_sha256, &found.image_sha256),
        ("wide features", &expected.features_sha256, &found.features_sha256),
        ("positions, pixel size or options", &expected.run, &found.run),
    ];
    for (field, expected, found) in pairs {
        if expected != found {
            let short = |digest: &str| match digest.get(..12) {
                Some(start) => format!("{start}…"),
                None => "none".to_owned(),
            };
            let wanted = format!("those of this run ({}); --overwrite begins anew", short(expected));
            return Err(InputError::in_file(path, field, wanted, short(found)).into());
        }
    }
    if expected.half != found.half {
        let floats = |half| if half { "16-bit floats (--half)" } else { "32-bit floats" };
        let wanted = format!("that of this run, {}; --overwrite begins anew", floats(expected.half));
        return Err(InputError::in_file(path, "precision", wanted, floats(found.half)).into());
    }
    Ok(())
}

/// Where a node's values lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: u32,
    row: u32,
}

const NOWHERE: Place = Place { block: u32::MAX, row: u32::MAX };

/// The predictions of one level of a run, in the layout's order, in a file.
#[derive(Debug)]
pub struct SpoolRows {
    file: FileRange,
    genes: usize,
    blocks: usize,
    passes: usize,
    places: Vec<Place>,
    /// Where the level's values of each block of each pass begin.
    starts: Vec<Option<u64>>,
}

impl SpoolRows {
    /// Whether all passes of the node's block are there.
    fn is_known(&self, place: Place) -> bool {
        place != NOWHERE
            && (0..self.passes).all(|pass| {
                matches!(self.starts.get(pass * self.blocks + place.block as usize), Some(Some(_)))
            })
    }

    /// Reads rows that stand one after the other in a block's piece: the mean over the passes, summed in their order.
    fn read_run(&self, first: Place, out: &mut [f32]) -> io::Result<()> {
        let mut bytes = vec![0; out.len() * 4];
        out.fill(0.0);
        for pass in 0..self.passes {
            let start = self.starts.get(pass * self.blocks + first.block as usize).copied().flatten();
            let start = start.ok_or(io::ErrorKind::NotFound)?;
            self.file.read_at(start + first.row as u64 * self.genes as u64 * 4, &mut bytes)?;
            for (sum, value) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += f32::from_le_bytes(*value);
            }
        }
        out.iter_mut().for_each(|sum| *sum /= self.passes as f32);
        Ok(())
    }
}

impl RowSource for SpoolRows {
    fn rows(&self) -> usize {
        self.places.len()
    }

    fn cols(&self) -> usize {
        self.genes
    }

    fn read_rows(&self, range: std::ops::Range<usize>, out: &mut [f32]) -> io::Result<()> {
        let places = self.places.get(range.clone());
        let Some(mut places) = places.filter(|places| places.len() * self.genes == out.len()) else {
            let reason = format!("rows {range:?} of {} do not fill {} values", self.places.len(), out.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let mut out = out;
        while let Some(&first) = places.first() {
            let known = self.is_known(first);
            // Neighbours in the table are mostly neighbours in a block: one read for as many as are.
            let next = |(place, index): (&Place, u32)| match known {
                true => *place == Place { block: first.block, row: first.row.saturating_add(index) },
                false => !self.is_known(*place),
            };
            let count = places.iter().zip(0..).take_while(|&pair| next(pair)).count().max(1);
            let (run, rest) = out.split_at_mut(count * self.genes);
            if known {
                self.read_run(first, run)?
            } else {
                run.fill(f32::NAN)
            }
            (places, out) = (places.get(count..).unwrap_or_default(), rest);
        }
        Ok(())
    }
}
