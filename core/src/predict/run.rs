//! A prediction in steps, which can be left and continued elsewhere.

mod encoded;
mod restore;
mod tiles;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use sha2::{Digest, Sha256};

use super::ahead::PatchesAhead;
use super::piece::{Part, Piece, RunId};
use super::sums::{Plan, Sums};
use super::{PredictError, PredictOptions, Progress, SlidePrediction, WideSource, check_wide, encode};
use crate::batch::{LevelInput, MagNetBatch, rows_tensor};
use crate::digest::hex;
use crate::expression::Matrix;
use crate::layout::{Block, SlideLayout};
use crate::level::{Level, PerLevel};
use crate::model::{ExpressionModel, MagNetConfig, WideFeatures};
use crate::slide::augment::Dihedral;
use crate::slide::{NormalizedSlide, PatchReader};
use tiles::Tiles;

pub(super) use encoded::EncodedBins;
pub(super) use tiles::TileQueue;

/// The prediction of one slide, step by step.
///
/// What a step finishes comes out as a [`Piece`]. A run that is given the pieces of another one continues from them,
/// in whatever order they come, and ends with the same values to the last bit. That holds for the same weights on the
/// same device; pieces of another device fit as well and differ by its rounding.
///
/// `L` is the layout or a reference to it.
pub struct PredictRun<R, L = SlideLayout> {
    config: MagNetConfig,
    slide: NormalizedSlide<R>,
    layout: L,
    options: PredictOptions,
    id: RunId,
    plan: Arc<Plan>,
    /// The turns and flips of the patches, one pass over the slide each.
    transforms: &'static [Dihedral],
    /// Whether all passes read the same wide vectors.
    wide_once: bool,
    /// The wide vectors of each pass that is not over.
    tiles: Vec<Option<Tiles>>,
    /// Whether each block of each pass is done: pass by pass.
    done: Vec<bool>,
    /// Blocks of each pass that are not done.
    left: Vec<usize>,
    /// No block before this one, counted over the passes, is left.
    next: usize,
    /// Passes of each block that are in the sums.
    summed: Vec<u8>,
    /// Restored passes of a block whose earlier passes are not done: sums are taken in the order of the passes.
    early: BTreeMap<(usize, u8), PerLevel<Vec<f32>>>,
    sums: Sums,
    bins_done: usize,
    /// Bins of the pass under way that its blocks to come read again.
    encoded: EncodedBins,
    underway: Option<Underway>,
}

/// The block whose bins are being encoded.
struct Underway {
    pass: usize,
    index: usize,
    block: Block,
    /// Those of its bins that no block before has encoded.
    fresh: Vec<u32>,
    /// Vectors of the first of them, on the device.
    vectors: Vec<Tensor<2>>,
    encoded: usize,
}

impl<R: PatchReader, L: Borrow<SlideLayout>> PredictRun<R, L> {
    /// Plans the prediction of every node of `layout` by a model with the given configuration. Stain normalisation
    /// looks at the slide here, once.
    ///
    /// # Errors
    /// [`PredictError::Slide`] when the slide cannot be read.
    pub fn new(
        config: &MagNetConfig,
        slide: R,
        layout: L,
        options: PredictOptions,
    ) -> Result<Self, PredictError> {
        let slide = NormalizedSlide::new(slide, config.stain_normalization)?;
        let plan = Arc::new(Plan::new(layout.borrow(), options.block_bins, config.halo_hops()));
        let transforms: &'static [Dihedral] =
            if options.dihedral_average { &Dihedral::ALL } else { &[Dihedral::IDENTITY] };
        let blocks = plan.cores.len();
        Ok(Self {
            id: identity(config, &slide, layout.borrow(), options),
            sums: Sums::new(config, layout.borrow(), options.keep_values),
            wide_once: matches!(config.wide_features, WideFeatures::File { .. }),
            tiles: transforms.iter().map(|_| None).collect(),
            done: vec![false; blocks * transforms.len()],
            left: vec![blocks; transforms.len()],
            next: 0,
            summed: vec![0; blocks],
            early: BTreeMap::new(),
            bins_done: 0,
            encoded: EncodedBins::default(),
            underway: None,
            config: config.clone(),
            slide,
            layout,
            options,
            plan,
            transforms,
        })
    }

    /// What a piece must carry to fit this run.
    #[cfg(test)]
    pub(super) fn id(&self) -> RunId {
        self.id
    }

    /// What two runs share when the pieces of one fit the other, lower-case hexadecimal: the model's configuration, the
    /// image's size, the positions and the options that shape the blocks. Weights and pixels are not in it.
    pub fn identity(&self) -> String {
        hex(&self.id)
    }

    /// Number of blocks of a pass.
    pub fn blocks(&self) -> usize {
        self.plan.cores.len()
    }

    /// Number of passes over the slide.
    pub fn passes(&self) -> usize {
        self.transforms.len()
    }

    /// The rows of a block's piece whose predictions count at a level, with their nodes. A tile that several blocks
    /// share counts in one of them.
    pub fn rows_of_block(&self, block: usize, level: Level) -> Vec<(u32, u32)> {
        let nodes = (0..).zip(self.plan.core_nodes(self.layout.borrow(), block, level));
        nodes.filter(|&(_, node)| self.plan.owns(block, level, node)).collect()
    }

    /// The nodes that are predicted.
    pub fn layout(&self) -> &SlideLayout {
        self.layout.borrow()
    }

    /// How far the run has come.
    pub fn progress(&self) -> Progress {
        let tiles = self.tile_count();
        let sets = if self.wide_once { 1 } else { self.transforms.len() };
        // Tiles that no block needs any more count as done.
        let tiles_done = |set: usize| match self.tiles.get(set) {
            _ if self.is_over(set) => tiles,
            Some(Some(own)) => own.count,
            _ => 0,
        };
        let blocks_left: usize = self.left.iter().sum();
        Progress {
            tiles_done: (0..sets).map(tiles_done).sum(),
            tiles_total: tiles * sets,
            blocks_done: self.done.len() - blocks_left,
            blocks_total: self.done.len(),
            bins_done: self.bins_done,
            bins_total: self.layout().centers.bin.len() * self.transforms.len(),
            bins_underway: self.underway.as_ref().map_or(0, |underway| {
                underway.block.core.bin * underway.encoded / underway.fresh.len().max(1)
            }),
        }
    }

    /// Whether every node is predicted.
    pub fn is_complete(&self) -> bool {
        self.left.iter().all(|&left| left == 0)
    }

    /// Changes how many pixels pass an encoder together from the next step on.
    pub fn set_chunk_pixels(&mut self, chunk_pixels: usize) {
        self.options.chunk_pixels = chunk_pixels;
    }

    /// Does one piece of work: a chunk of patches through an encoder, or the mixing of a block. A piece comes out when
    /// something is finished that need not be done again; a run that is complete does nothing.
    ///
    /// `device` is the model's. A future that is dropped before its end leaves the run as it was.
    ///
    /// # Errors
    /// [`PredictError`]: an image that cannot be read, features that do not fit, a device that fails.
    pub async fn step(
        &mut self,
        model: &dyn ExpressionModel,
        wide: WideSource<'_>,
        device: &Device,
    ) -> Result<Option<Piece>, PredictError> {
        self.use_source(model, wide)?;
        let Some((pass, index)) = self.next_block() else { return Ok(None) };
        if let Some((level, tiles)) = self.next_tiles(pass) {
            return self.encode_tiles(model, wide, device, pass, level, tiles).await.map(Some);
        }
        let underway = match self.underway.take() {
            Some(underway) if (underway.pass, underway.index) == (pass, index) => underway,
            _ => self.begin_block(pass, index),
        };
        let underway = self.underway.insert(underway);
        let nodes = &underway.fresh;
        if underway.encoded < nodes.len() {
            let chunk = encode::chunk_patches(&self.config, Level::Bin, self.options.chunk_pixels);
            let end = underway.encoded.saturating_add(chunk).min(nodes.len());
            let slide = encode::Slide {
                model,
                reader: &self.slide,
                layout: self.layout.borrow(),
                transform: transform(self.transforms, pass),
                device,
            };
            underway.vectors.push(slide.bins(nodes.get(underway.encoded..end).unwrap_or_default())?);
            underway.encoded = end;
            return Ok(None);
        }
        let encoded = self.underway_bins();
        let values = self.mix(&encoded, model, device).await?;
        self.encoded = encoded.keep(|bin| self.plan.is_read_after(index, bin), device);
        self.underway = None;
        self.finish_block(pass, index, &values);
        let cols = self.config.genes as u32;
        Ok(Some(Piece { run: self.id, pass: pass as u8, part: Part::Block(index as u32), cols, values }))
    }

    /// The prediction so far.
    pub fn prediction(&self) -> SlidePrediction {
        self.sums.finish(self.is_complete())
    }

    /// The prediction so far, without a copy.
    pub fn into_prediction(self) -> SlidePrediction {
        let complete = self.is_complete();
        self.sums.into_prediction(complete)
    }

    /// One gene of a level so far, in the layout's order; NaN where it is not predicted. Empty for a level or a gene
    /// that the model does not predict.
    pub fn gene_values(&self, level: Level, gene: usize) -> Vec<f32> {
        self.sums.gene(level, gene)
    }

    /// What the steps from here on read, in their order, for a program that reads ahead. It stays right as long as nothing
    /// is restored and the size of the chunks is not changed.
    ///
    /// # Errors
    /// [`PredictError`] for another model or features that do not fit.
    pub fn patches_ahead(
        &mut self,
        model: &dyn ExpressionModel,
        wide: WideSource<'_>,
    ) -> Result<PatchesAhead<L>, PredictError>
    where
        L: Clone,
    {
        self.use_source(model, wide)?;
        let reads_tiles = self.config.wide_levels && !matches!(wide, WideSource::Features { .. });
        let next = self.next_block();
        let underway = self.underway.as_ref().filter(|own| Some((own.pass, own.index)) == next);
        let encoded = underway.map_or(0, |underway| underway.encoded);
        let queues = self.tiles.iter().map(|tiles| match tiles {
            Some(tiles) => tiles.queue.clone(),
            None => TileQueue::new(self.layout.borrow()),
        });
        Ok(PatchesAhead::new(
            self.config.clone(),
            self.layout.clone(),
            self.slide.um_per_px(),
            self.options.chunk_pixels,
            self.plan.clone(),
            self.done.clone(),
            if reads_tiles { queues.collect() } else { Vec::new() },
            &self.encoded,
            encoded,
        ))
    }

    /// Settles where the wide features come from, which decides how much there is to do.
    pub(super) fn use_source(
        &mut self,
        model: &dyn ExpressionModel,
        wide: WideSource<'_>,
    ) -> Result<(), PredictError> {
        if *model.config() != self.config {
            return Err(PredictError::OtherModel);
        }
        check_wide(&self.config, self.layout.borrow(), wide)?;
        // Features of a file are the same in every pass.
        self.wide_once = matches!(wide, WideSource::Features { .. });
        Ok(())
    }

    fn tile_count(&self) -> usize {
        let tiles = &self.layout().centers;
        if self.config.wide_levels { tiles.spot.len() + tiles.region.len() } else { 0 }
    }

    /// Which set of wide vectors a pass reads.
    fn set_of(&self, pass: usize) -> usize {
        if self.wide_once { 0 } else { pass }
    }

    /// Whether no pass that reads this set of wide vectors has a block left.
    fn is_over(&self, set: usize) -> bool {
        self.left.iter().enumerate().all(|(pass, &left)| self.set_of(pass) != set || left == 0)
    }

    /// The first block that is not done.
    fn next_block(&mut self) -> Option<(usize, usize)> {
        while *self.done.get(self.next)? {
            self.next += 1;
        }
        let blocks = self.plan.cores.len();
        Some((self.next / blocks, self.next % blocks))
    }

    /// The next chunk of tiles that the blocks of a pass wait for.
    fn next_tiles(&mut self, pass: usize) -> Option<(Level, Range<usize>)> {
        if !self.config.wide_levels {
            return None;
        }
        let set = self.set_of(pass);
        let (config, pixels) = (&self.config, self.options.chunk_pixels);
        let layout = self.layout.borrow();
        let tiles = self.tiles.get_mut(set)?.get_or_insert_with(|| Tiles::new(config.width, layout));
        tiles.queue.next(|level| encode::chunk_patches(config, level, pixels))
    }

    async fn encode_tiles(
        &mut self,
        model: &dyn ExpressionModel,
        wide: WideSource<'_>,
        device: &Device,
        pass: usize,
        level: Level,
        tiles: Range<usize>,
    ) -> Result<Piece, PredictError> {
        let first = tiles.start;
        let nodes: Vec<u32> = tiles.map(|tile| tile as u32).collect();
        let slide = encode::Slide {
            model,
            reader: &self.slide,
            layout: self.layout.borrow(),
            transform: transform(self.transforms, pass),
            device,
        };
        let vectors = slide.tiles(level, wide, &nodes)?;
        // Reading back after every chunk keeps a GPU's queue short and gives the caller its turn.
        let vectors = encode::values(vectors).await?;
        let set = self.set_of(pass);
        if let Some(Some(tiles)) = self.tiles.get_mut(set) {
            tiles.fill(level, first, &vectors);
        }
        let mut values = PerLevel::<Vec<f32>>::default();
        *values.get_mut(level) = vectors;
        let part = Part::Tiles(level, first as u32);
        Ok(Piece { run: self.id, pass: set as u8, part, cols: self.config.width as u32, values })
    }

    fn begin_block(&self, pass: usize, index: usize) -> Underway {
        let core = self.plan.cores.get(index).cloned().unwrap_or_default();
        let block = self.layout().block(core, self.config.halo_hops());
        let fresh = self.encoded.missing(pass, &block.nodes.bin);
        Underway { pass, index, block, fresh, vectors: Vec::new(), encoded: 0 }
    }

    /// The vectors of all bins of the block under way, and of those kept for others.
    fn underway_bins(&self) -> EncodedBins {
        match &self.underway {
            Some(underway) => self.encoded.with(underway.pass, &underway.fresh, &underway.vectors),
            None => EncodedBins::default(),
        }
    }

    /// The predictions of the core nodes of the block under way, row-major per level.
    async fn mix(
        &self,
        encoded: &EncodedBins,
        model: &dyn ExpressionModel,
        device: &Device,
    ) -> Result<PerLevel<Vec<f32>>, PredictError> {
        let bins = self
            .underway
            .as_ref()
            .and_then(|underway| Some((underway, encoded.select(&underway.block.nodes.bin, device)?)));
        let Some((underway, bins)) = bins else {
            return Err(crate::batch::BatchError::Empty { what: "bins of the block" }.into());
        };
        let block = &underway.block;
        let set = self.tiles.get(self.set_of(underway.pass)).and_then(Option::as_ref);
        let inputs = PerLevel {
            bin: LevelInput::Encoded(bins),
            spot: self.wide_rows(block, set, Level::Spot, device)?,
            region: self.wide_rows(block, set, Level::Region, device)?,
        };
        let batch = MagNetBatch::from_block(block, inputs, None, device)?;
        let PerLevel { bin, spot, region } = model.forward(&batch)?;
        Ok(PerLevel {
            bin: encode::values(bin).await?,
            spot: encode::values(spot).await?,
            region: encode::values(region).await?,
        })
    }

    /// The vectors of a block's tiles. The single-level model reads none, but a batch has its rows.
    fn wide_rows(
        &self,
        block: &Block,
        tiles: Option<&Tiles>,
        level: Level,
        device: &Device,
    ) -> Result<LevelInput, PredictError> {
        let nodes = block.nodes.get(level);
        if !self.config.wide_levels {
            return Ok(LevelInput::Encoded(Tensor::zeros([nodes.len(), self.config.width], device)));
        }
        let none = Matrix::default();
        let vectors = tiles.map_or(&none, |tiles| tiles.vectors.get(level));
        Ok(LevelInput::Encoded(rows_tensor(vectors, nodes, level, device)?))
    }

    /// Notes that a block of a pass is done, with its values.
    fn finish_block(&mut self, pass: usize, index: usize, values: &PerLevel<Vec<f32>>) {
        let blocks = self.plan.cores.len();
        let (Some(done), Some(left), Some(summed)) =
            (self.done.get_mut(pass * blocks + index), self.left.get_mut(pass), self.summed.get_mut(index))
        else {
            return;
        };
        *done = true;
        *left -= 1;
        self.bins_done += self.plan.cores.get(index).map_or(0, Vec::len);
        if !self.options.keep_values {
            // Whoever takes the pieces has them.
        } else if usize::from(*summed) == pass {
            self.sums.add(&self.plan, self.layout.borrow(), index, values);
            *summed += 1;
            while let Some(values) = self.early.remove(&(index, *summed)) {
                self.sums.add(&self.plan, self.layout.borrow(), index, &values);
                *summed += 1;
            }
        } else {
            self.early.insert((index, pass as u8), values.clone());
        }
        let set = self.set_of(pass);
        if self.is_over(set)
            && let Some(tiles) = self.tiles.get_mut(set)
        {
            *tiles = None;
        }
    }
}

fn transform(transforms: &[Dihedral], pass: usize) -> Dihedral {
    transforms.get(pass).copied().unwrap_or(Dihedral::IDENTITY)
}

/// What two runs must share for the pieces of one to fit the other, but for weights and pixels.
fn identity(
    config: &MagNetConfig,
    slide: &dyn PatchReader,
    layout: &SlideLayout,
    options: PredictOptions,
) -> RunId {
    let mut hash = Sha256::new();
    hash.update(format!("{} {config:?}", env!("CARGO_PKG_VERSION")));
    hash.update(format!(
        "{} {} {:x} {} {}",
        slide.width_px(),
        slide.height_px(),
        slide.um_per_px().to_bits(),
        options.block_bins,
        options.dihedral_average
    ));
    for center in &layout.centers.bin {
        hash.update(center.x.to_le_bytes());
        hash.update(center.y.to_le_bytes());
    }
    hash.finalize().into()
}
