//! The first step of a run, for whoever wants to know what a step costs before there is a run.

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use magnet_core::layout::Block;
use magnet_core::level::PerLevel;
use magnet_core::{ExpressionModel, Model};

use super::TrainOptions;
use super::batches::{Augmentation, PreparedBlock, epoch_blocks};
use super::loss_terms::LossTerms;
use super::optimizer::Updater;
use super::setup::Setup;
use super::trainer::{initial_model, step};
use super::training_set::TrainingRows;
use crate::config::TrainConfig;

/// A run that is set up and takes its first step, as often as it is asked to. Nothing is written.
pub struct Rehearsal<'a> {
    /// Steps of the first epoch; none for a model that learns otherwise.
    pub steps_per_epoch: usize,
    /// Nodes of the largest batch of the first epoch, halo included.
    pub largest_batch: PerLevel<usize>,
    setup: &'a Setup,
    config: &'a TrainConfig,
    device: Device,
    model: Model,
    training_rows: TrainingRows,
    updater: Updater,
    slide: usize,
    block: Block,
}

impl<'a> Rehearsal<'a> {
    /// The untrained model and the first block of the first epoch.
    ///
    /// # Errors
    /// If the model cannot be built, or there is no bin to train on.
    pub fn new(options: &'a TrainOptions<'_>, setup: &'a Setup) -> Result<Self> {
        let config = &options.config.train;
        let device = Setup::training_device(&options.device);
        let (model, training_rows) = initial_model(setup, config, &device)?;
        let hops = setup.model.halo_hops();
        let blocks = epoch_blocks(&setup.training, config.batch_bins, hops, config.seed, 0);
        let steps_per_epoch = if model.learns_by_steps() { blocks.len() } else { 0 };
        let largest_batch = PerLevel::from_fn(|level| {
            blocks.iter().map(|(_, block)| block.nodes.get(level).len()).max().unwrap_or_default()
        });
        let (slide, block) = blocks.into_iter().next().context("the training slides have no bins")?;
        let updater = Updater::new(config);
        Ok(Self {
            steps_per_epoch,
            largest_batch,
            setup,
            config,
            device,
            model,
            training_rows,
            updater,
            slide,
            block,
        })
    }

    /// Parameters and constants of the model.
    pub fn parameters(&self) -> usize {
        self.model.num_params()
    }

    /// The block of the step.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Patches, forward pass, loss, backward pass and update. A model that does not learn by steps only takes the loss.
    ///
    /// # Errors
    /// If a patch cannot be read or the device fails.
    pub fn step(&mut self) -> Result<LossTerms> {
        let (setup, config, device) = (self.setup, self.config, &self.device);
        let augmentation = Augmentation::new(config.augmentation, config.seed, 0, 0);
        let prepared =
            PreparedBlock::read(&setup.training, self.slide, self.block.clone(), Some(augmentation))?;
        if !self.model.learns_by_steps() {
            return LossTerms::read(&self.model.objective(&prepared.to_batch(&setup.training, device)?)?);
        }
        let (model, rate) = (self.model.clone(), config.learning_rate);
        let (model, terms) =
            step(model, &mut self.updater, rate, &prepared, setup, &self.training_rows, device)?;
        self.model = model;
        Ok(terms)
    }
}
