//! What a run has finished, as bytes that another run takes over.

use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::level::{Level, PerLevel};

/// First bytes of every piece; the digit is the layout's version.
const MAGIC: [u8; 8] = *b"MAGNETP1";
/// Bytes before the values: magic, run, pass, kind, index, columns, rows of each level.
const HEADER: usize = 8 + 32 + 1 + 1 + 4 + 4 + 3 * 4;
/// Bytes of the digest after the values.
const DIGEST: usize = 32;

/// What identifies a run: pieces fit every run with the same one.
pub(super) type RunId = [u8; 32];

/// A finished part of a run: the vectors of some wide tiles, or the values of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub(super) run: RunId,
    pub(super) pass: u8,
    pub(super) part: Part,
    /// Columns of the values: `D` or `G`.
    pub(super) cols: u32,
    /// `[N,D]` of the tiles' level alone, or `[N,G]` of each level.
    pub(super) values: PerLevel<Vec<f32>>,
}

/// Which part of a pass a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Neighbouring tiles of a wide level, from this one on.
    Tiles(Level, u32),
    /// The block with this number.
    Block(u32),
}

/// Why a piece cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Bytes of something else.
    #[error("piece of a prediction: expected bytes that start with \"MAGNETP1\", found {found}")]
    NotAPiece {
        /// What they start with.
        found: String,
    },
    /// Too few or too many bytes.
    #[error("piece of a prediction: expected {expected} bytes, found {found}")]
    Length {
        /// What the header asks for.
        expected: u128,
        /// How many there are.
        found: usize,
    },
    /// Bytes that changed on the way.
    #[error("piece of a prediction: damaged (expected SHA-256 {expected}, found {found})")]
    Damaged {
        /// The digest in the piece, lower-case hexadecimal.
        expected: String,
        /// That of its content.
        found: String,
    },
    /// A piece of a run with another model, image, positions or options.
    #[error(
        "piece of a prediction: expected one of this run ({expected}; same model configuration, image size, positions \
         and block size), found one of another ({found})"
    )]
    OtherRun {
        /// First digits of this run's identity.
        expected: String,
        /// Those of the piece.
        found: String,
    },
    /// A part that this run does not have.
    #[error("piece of a prediction, {field}: expected {expected}, found {found}")]
    Shape {
        /// Which number.
        field: &'static str,
        /// What fits the run.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl Piece {
    /// The piece as bytes: header, values in little-endian order, SHA-256.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values: usize = self.values.iter().map(|(_, values)| values.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER + 4 * values + DIGEST);
        let (kind, index) = match self.part {
            Part::Tiles(Level::Bin, first) => (0, first),
            Part::Tiles(Level::Spot, first) => (1, first),
            Part::Tiles(Level::Region, first) => (2, first),
            Part::Block(block) => (3, block),
        };
        bytes.extend(MAGIC);
        bytes.extend(self.run);
        bytes.extend([self.pass, kind]);
        bytes.extend(index.to_le_bytes());
        bytes.extend(self.cols.to_le_bytes());
        for (_, values) in self.values.iter() {
            let rows = values.len() / (self.cols as usize).max(1);
            bytes.extend((rows as u32).to_le_bytes());
        }
        for (_, values) in self.values.iter() {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// Pass and number of the block whose values these are; `None` for vectors of tiles.
    pub fn block(&self) -> Option<(usize, usize)> {
        match self.part {
            Part::Tiles(..) => None,
            Part::Block(block) => Some((usize::from(self.pass), block as usize)),
        }
    }

    /// Where in [`Piece::to_bytes`] the values of a level begin: little-endian `f32`, row by row.
    pub fn level_offset(&self, level: Level) -> usize {
        let narrower = Level::ALL.into_iter().take_while(|&other| other != level);
        HEADER + 4 * narrower.map(|other| self.values.get(other).len()).sum::<usize>()
    }

    /// Reads what [`Piece::to_bytes`] wrote. Memory stays below the size of `bytes`.
    ///
    /// # Errors
    /// [`PieceError`] when the bytes are none of a piece, too few, too many or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PieceError> {
        if !bytes.starts_with(&MAGIC) {
            let start = bytes.get(..MAGIC.len()).unwrap_or(bytes);
            return Err(PieceError::NotAPiece { found: format!("\"{}\"", start.escape_ascii()) });
        }
        let found = bytes.len();
        let mut header = Fields(bytes);
        let (
            Some(_),
            Some(run),
            Some([pass, kind]),
            Some(index),
            Some(cols),
            Some(bin),
            Some(spot),
            Some(region),
        ) = (
            header.take::<8>(),
            header.take::<32>(),
            header.take::<2>(),
            header.number(),
            header.number(),
            header.number(),
            header.number(),
            header.number(),
        )
        else {
            return Err(PieceError::Length { expected: (HEADER + DIGEST) as u128, found });
        };
        let rows = PerLevel { bin, spot, region };
        let row_count: u128 = rows.iter().map(|(_, &rows)| u128::from(rows)).sum();
        let expected = row_count * u128::from(cols) * 4 + (HEADER + DIGEST) as u128;
        if expected != found as u128 {
            return Err(PieceError::Length { expected, found });
        }
        let (content, digest) = bytes.split_at(found - DIGEST);
        let computed = Sha256::digest(content);
        if computed.as_slice() != digest {
            return Err(PieceError::Damaged { expected: hex(digest), found: hex(&computed) });
        }
        let part = match kind {
            1 => Part::Tiles(Level::Spot, index),
            2 => Part::Tiles(Level::Region, index),
            3 => Part::Block(index),
            other => {
                return Err(shape("kind", "1 (spots), 2 (regions) or 3 (a block)", other.to_string()));
            }
        };
        let mut rest = content.get(HEADER..).unwrap_or_default();
        let values = rows.map(|rows| {
            let (own, others) = rest.split_at((rows as usize * cols as usize * 4).min(rest.len()));
            rest = others;
            own.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
        });
        Ok(Self { run, pass, part, cols, values })
    }
}

/// The bytes of a header that are not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

pub(super) fn shape(field: &'static str, expected: impl ToString, found: impl ToString) -> PieceError {
    PieceError::Shape { field, expected: expected.to_string(), found: found.to_string() }
}
