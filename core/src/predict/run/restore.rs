//! Taking over what another run has finished.

use std::borrow::Borrow;

use super::{PredictRun, Tiles};
use crate::digest::hex;
use crate::layout::SlideLayout;
use crate::level::Level;
use crate::predict::piece::{Part, Piece, PieceError, RunId, shape};
use crate::slide::PatchReader;

impl<R: PatchReader, L: Borrow<SlideLayout>> PredictRun<R, L> {
    /// Takes over what another run with the same model, image, positions and options finished; `chunk_pixels` may
    /// differ. What is done already is left as it is. The weights and the pixels are the caller's to compare: a piece
    /// knows the model's configuration and the image's size.
    ///
    /// # Errors
    /// [`PieceError`] when the piece is not of such a run.
    pub fn restore(&mut self, piece: Piece) -> Result<(), PieceError> {
        if piece.run != self.id {
            let name = |id: &RunId| hex(id.get(..6).unwrap_or_default());
            return Err(PieceError::OtherRun { expected: name(&self.id), found: name(&piece.run) });
        }
        let pass = usize::from(piece.pass);
        if pass >= self.transforms.len() {
            return Err(shape("pass", format!("below {}", self.transforms.len()), pass));
        }
        match piece.part {
            Part::Tiles(level, first) => self.restore_tiles(pass, level, first as usize, &piece),
            Part::Block(block) => self.restore_block(pass, block as usize, piece),
        }
    }

    fn restore_tiles(
        &mut self,
        pass: usize,
        level: Level,
        first: usize,
        piece: &Piece,
    ) -> Result<(), PieceError> {
        let width = self.config.width;
        if !self.config.wide_levels {
            return Err(shape("part", "a block (the model has no wide levels)", format!("{level} tiles")));
        }
        check_cols(piece, width)?;
        for other in Level::ALL.into_iter().filter(|&other| other != level) {
            check_rows(piece, other, 0)?;
        }
        let tiles = self.layout().centers.get(level).len();
        let rows = piece.values.get(level).len() / width.max(1);
        if rows == 0 || first.checked_add(rows).is_none_or(|end| end > tiles) {
            let found = format!("{rows} tiles from tile {first} on");
            return Err(shape("tiles", format!("some of the {tiles} {level} tiles"), found));
        }
        // The blocks of the pass may have come first; then nobody reads its tiles.
        if self.left.get(pass).is_some_and(|&left| left > 0) || (self.wide_once && !self.is_complete()) {
            let layout = self.layout.borrow();
            if let Some(set) = self.tiles.get_mut(pass) {
                let set = set.get_or_insert_with(|| Tiles::new(width, layout));
                set.fill(level, first, piece.values.get(level));
            }
        }
        Ok(())
    }

    fn restore_block(&mut self, pass: usize, index: usize, piece: Piece) -> Result<(), PieceError> {
        let blocks = self.plan.cores.len();
        if index >= blocks {
            return Err(shape("block", format!("below {blocks}"), index));
        }
        check_cols(&piece, self.config.genes)?;
        for level in Level::ALL {
            let predicted = self.config.predicted_levels().contains(&level);
            let expected =
                if predicted { self.plan.core_nodes(self.layout.borrow(), index, level).len() } else { 0 };
            check_rows(&piece, level, expected)?;
        }
        if self.done.get(pass * blocks + index) == Some(&false) {
            self.finish_block(pass, index, &piece.values);
            self.underway = self.underway.take().filter(|own| (own.pass, own.index) != (pass, index));
        }
        Ok(())
    }
}

fn check_cols(piece: &Piece, expected: usize) -> Result<(), PieceError> {
    let found = piece.cols as usize;
    if found == expected { Ok(()) } else { Err(shape("columns", expected, found)) }
}

fn check_rows(piece: &Piece, level: Level, expected: usize) -> Result<(), PieceError> {
    let found = piece.values.get(level).len() / (piece.cols as usize).max(1);
    if found == expected {
        return Ok(());
    }
    let field = match level {
        Level::Bin => "bin rows",
        Level::Spot => "spot rows",
        Level::Region => "region rows",
    };
    Err(shape(field, expected, found))
}
