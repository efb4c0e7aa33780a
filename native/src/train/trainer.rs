//! The loop: steps, validation, early stopping, checkpoints.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use indicatif::ProgressBar;
use magnet_core::level::PerLevel;
use magnet_core::model::ConfigError;
use magnet_core::random::derived_seed;
use magnet_core::weights::{Precision, Weights};
use magnet_core::{ExpressionModel, MagNetConfig, Model};

use super::batches::{Augmentation, PreparedBlock, epoch_blocks, for_each_prepared};
use super::ema::MovingAverage;
use super::loss_terms::LossTerms;
use super::optimizer::Updater;
use super::output::{EpochRow, RunFolder};
use super::schedule::Schedule;
use super::setup::Setup;
use super::training_set::{TrainingRows, with_training_set};
use super::validate::{Validation, bin_pcc_gene_mean, validate};
use super::{TrainOptions, output};
use crate::checkpoint::{self, Generation, Position, Progress};
use crate::config::{KeptEpoch, MonitoredMetric, TrainConfig};
use crate::error::Interrupted;

/// A run in progress.
pub struct Trainer<'a> {
    options: &'a TrainOptions<'a>,
    config: &'a TrainConfig,
    setup: &'a Setup,
    folder: &'a RunFolder,
    device: Device,
    schedule: Schedule,
    model: Model,
    /// The training bins that the model is given.
    training_rows: TrainingRows,
    updater: Updater,
    /// Gradients of the update that is under way.
    gathered: GradientsAccumulator<Model>,
    average: Option<MovingAverage>,
    best: Option<Weights>,
    position: Position,
    rows: Vec<EpochRow>,
    /// Learning rate of the latest step.
    rate: f64,
    /// When the latest checkpoint was written, or the run began.
    saved: Instant,
    /// Epochs done and the validation that was made then, for the weights that would be kept now.
    kept_validation: Option<(usize, Validation)>,
    bar: ProgressBar,
}

/// What the loop leaves.
pub struct Trained {
    /// The kept weights.
    pub weights: Weights,
    /// Epoch whose weights were kept, counted from 1.
    pub kept_epoch: usize,
    /// Where the loop ended.
    pub position: Position,
    /// Whether it ended for lack of improvement.
    pub stopped_early: bool,
    /// Scores of the kept weights, if there are validation slides.
    pub validation: Option<Validation>,
    /// Trainable parameters.
    pub parameters: usize,
    /// One row per epoch.
    pub rows: Vec<EpochRow>,
}

/// The model that a run starts with, on a device with autodiff, and the training bins that it is given: a function of the
/// seed and of the weights that the run starts from.
pub fn initial_model(setup: &Setup, config: &TrainConfig, device: &Device) -> Result<(Model, TrainingRows)> {
    let statistics = PerLevel::from_fn(|level| {
        let statistics = setup.statistics.get(level);
        (statistics.mean.clone(), statistics.sd.clone())
    });
    let drawn = drawn_model(&setup.model, config.seed, device)?;
    let model = match &setup.initial {
        Some(initial) => initial.put_into(drawn)?,
        None => drawn,
    };
    let mut model = model.with_gene_statistics(&statistics)?;
    let rows = TrainingRows::choose(&model, &setup.training, config);
    if model.steps_read_training_set() {
        model = with_training_set(model, &setup.training, &rows, config.batch_bins, device)?;
    }
    Ok((model, rows))
}

/// A model with random weights: a function of the seed.
///
/// # Errors
/// A configuration that no model can be built with.
pub fn drawn_model(config: &MagNetConfig, seed: u64, device: &Device) -> Result<Model, ConfigError> {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // Parameters are drawn when first read; reading them in the module's order fixes which draw is whose.
            param.val();
        }
    }
    device.seed(derived_seed(seed, "initial weights", &[]));
    let model = config.build(device)?;
    model.visit(&mut Draw);
    Ok(model)
}

/// One step: the loss before it, and the model after it.
pub fn step(
    model: Model,
    updater: &mut Updater,
    rate: f64,
    prepared: &PreparedBlock,
    setup: &Setup,
    training_rows: &TrainingRows,
    device: &Device,
) -> Result<(Model, LossTerms)> {
    let (gradients, terms) = gradients(&model, 1.0, prepared, setup, training_rows, device)?;
    Ok((updater.step(rate, model, gradients), terms))
}

/// The loss of a block, and `share` of its gradients.
pub fn gradients(
    model: &Model,
    share: f64,
    prepared: &PreparedBlock,
    setup: &Setup,
    training_rows: &TrainingRows,
    device: &Device,
) -> Result<(GradientsParams, LossTerms)> {
    let mut batch = prepared.to_batch(&setup.training, device)?;
    if model.steps_read_training_set() {
        batch.own_references = Some(training_rows.own(prepared, device));
    }
    let loss = model.objective(&batch)?;
    let terms = LossTerms::read(&loss)?;
    let total = if share < 1.0 { loss.total * share } else { loss.total };
    Ok((GradientsParams::from_grads(total.backward(), model), terms))
}

/// Which blocks of an epoch make up its updates.
struct Updates {
    /// Of each block: its part of the update's gradient.
    shares: Vec<f64>,
    steps: usize,
}

impl Updates {
    /// `bins`: the core bins of each block.
    fn new(bins: &[usize], steps: usize) -> Self {
        let shares = bins.chunks(steps.max(1)).flat_map(|update| {
            let all: usize = update.iter().sum();
            update.iter().map(move |&bins| bins as f64 / all.max(1) as f64)
        });
        Self { shares: shares.collect(), steps: steps.max(1) }
    }

    fn share(&self, block: usize) -> f64 {
        self.shares.get(block).copied().unwrap_or(1.0)
    }

    /// Whether a block is the last of its update.
    fn ends_with(&self, block: usize) -> bool {
        (block + 1).is_multiple_of(self.steps) || block + 1 >= self.shares.len()
    }
}

impl<'a> Trainer<'a> {
    /// A new run, or the newest checkpoint of an old one.
    ///
    /// # Errors
    /// If the model cannot be built or the checkpoint is of another run.
    pub fn start(options: &'a TrainOptions<'a>, setup: &'a Setup, folder: &'a RunFolder) -> Result<Self> {
        let config = &options.config.train;
        let device = Setup::training_device(&options.device);
        let (model, training_rows) = initial_model(setup, config, &device)?;
        let average = match config.ema_decay > 0.0 {
            true => Some(MovingAverage::new(config.ema_decay, &Weights::of(&model)?, &options.device)),
            false => None,
        };
        let bins: usize = setup.training.iter().map(|slide| slide.layout.nodes().bin).sum();
        let mut trainer = Self {
            options,
            config,
            setup,
            folder,
            device,
            schedule: Schedule::new(config.schedule, config.learning_rate, config.epochs),
            model,
            training_rows,
            updater: Updater::new(config),
            gathered: GradientsAccumulator::new(),
            average,
            best: None,
            position: Position {
                run_digest: setup.run_digest.clone(),
                steps: 0,
                epoch: 0,
                steps_in_epoch: 0,
                epoch_sums: LossTerms::default().to_map(),
                seconds: 0.0,
                progress: Progress::default(),
            },
            rows: Vec::new(),
            rate: 0.0,
            saved: Instant::now(),
            kept_validation: None,
            bar: options.console.bar((bins * config.epochs) as u64, "training", "bins"),
        };
        if options.resume
            && let Some(generation) =
                checkpoint::load_latest(&options.out, |warning| options.console.warn(warning))?
        {
            trainer.restore(generation)?;
        }
        trainer.bar.set_position((bins * trainer.position.epoch) as u64);
        Ok(trainer)
    }

    fn restore(&mut self, generation: Generation) -> Result<()> {
        let options = self.options;
        let position = generation.position;
        if position.run_digest != self.setup.run_digest {
            bail!(
                "{}: the checkpoint is of another run: expected digest {} (configuration, slides, encoder), found {}",
                options.out.display(),
                self.setup.run_digest,
                position.run_digest
            );
        }
        let named = || format!("{}: checkpoint", options.out.display());
        self.model = generation.model.load_into(self.model.clone()).with_context(named)?;
        self.updater
            .restore(&self.model, &generation.optimizer)
            .map_err(anyhow::Error::msg)
            .with_context(named)?;
        if let (Some(_), Some(average)) = (&self.average, &generation.average) {
            self.average = Some(MovingAverage::new(self.config.ema_decay, average, &options.device));
        }
        self.best = generation.best;
        self.rows = output::read_metrics(&options.out)?;
        self.rows.retain(|row| row.epoch <= position.epoch);
        if position.epoch < self.config.epochs && !position.progress.finished {
            options.console.say(format_args!(
                "resuming after step {} (epoch {} of {})",
                position.steps,
                position.epoch + 1,
                self.config.epochs
            ));
        } else {
            options.console.say(format_args!("the run had finished: all {} epochs are done", position.epoch));
        }
        self.position = position;
        Ok(())
    }

    /// Runs all epochs that are left.
    ///
    /// # Errors
    /// See [`super::run`].
    pub fn train(mut self) -> Result<Trained> {
        while self.model.learns_by_steps()
            && self.position.epoch < self.config.epochs
            && !self.position.progress.finished
        {
            let started = Instant::now();
            let seconds_before = self.position.seconds;
            self.run_epoch(started)?;
            self.end_epoch()?;
            self.position.seconds = seconds_before + started.elapsed().as_secs_f64();
            self.finish_row(started)?;
            let last = self.position.epoch == self.config.epochs || self.position.progress.finished;
            if last || self.position.epoch.is_multiple_of(self.config.checkpoint_every) {
                self.save()?;
            }
        }
        self.bar.finish_and_clear();
        self.into_trained()
    }

    fn run_epoch(&mut self, started: Instant) -> Result<()> {
        let (config, setup, epoch) = (self.config, self.setup, self.position.epoch);
        let hops = setup.model.halo_hops();
        let blocks = epoch_blocks(&setup.training, config.batch_bins, hops, config.seed, epoch);
        let steps = blocks.len();
        let bins: Vec<usize> = blocks.iter().map(|(_, block)| block.core.bin).collect();
        let updates = Updates::new(&bins, config.accumulate_steps);
        let augmentation = config.augmentation;
        let augment = move |step| Some(Augmentation::new(augmentation, config.seed, epoch, step));
        let seconds_before = self.position.seconds;
        for_each_prepared(
            &setup.training,
            blocks,
            augment,
            self.position.steps_in_epoch,
            |index, prepared| {
                let rate = self.schedule.at(epoch, index, steps);
                self.rate = rate;
                self.device.seed(derived_seed(config.seed, "dropout", &[epoch as u64, index as u64]));
                let (rows, share) = (&self.training_rows, updates.share(index));
                let (gradients, terms) = gradients(&self.model, share, &prepared, setup, rows, &self.device)?;
                if !terms.total.is_finite() {
                    bail!(
                        "epoch {}, step {index}: the loss is {}; a lower train.learning_rate or a train.clip_norm helps",
                        epoch + 1,
                        terms.total
                    );
                }
                self.gathered.accumulate(&self.model, gradients);
                let updated = updates.ends_with(index);
                if updated {
                    self.model = self.updater.step(rate, self.model.clone(), self.gathered.grads());
                    if let Some(average) = &mut self.average {
                        average.update(&self.model, self.position.steps);
                    }
                }
                let mut sums = LossTerms::from_map(&self.position.epoch_sums);
                sums.add(&terms, prepared.block.core.bin as f64);
                self.position.epoch_sums = sums.to_map();
                self.position.steps += 1;
                self.position.steps_in_epoch += 1;
                self.bar.inc(prepared.block.core.bin as u64);
                self.bar.set_message(format!("epoch {}/{}", epoch + 1, config.epochs));
                self.bar.set_prefix(format!("loss {:.4} rate {rate:.2e}", terms.total));
                if !updated {
                    return Ok(true); // gradients that wait are not saved
                }
                let minutes = self.saved.elapsed().as_secs_f64() / 60.0;
                if config.checkpoint_minutes > 0.0 && minutes >= config.checkpoint_minutes {
                    self.position.seconds = seconds_before + started.elapsed().as_secs_f64();
                    self.save()?;
                }
                if (self.options.stop)(self.position.steps) {
                    self.position.seconds = seconds_before + started.elapsed().as_secs_f64();
                    self.save()?;
                    self.bar.finish_and_clear();
                    let done = self.position.steps;
                    let out = self.options.out.display();
                    return Err(
                        Interrupted(format!("{done} steps are saved in {out}; --resume goes on")).into()
                    );
                }
                Ok(true)
            },
        )
    }

    /// Closes the epoch: its row without times, validation, early stopping.
    fn end_epoch(&mut self) -> Result<()> {
        let config = self.config;
        let bins: usize = self.setup.training.iter().map(|slide| slide.layout.nodes().bin).sum();
        let train = LossTerms::from_map(&self.position.epoch_sums).divided(bins as f64);
        let rate = self.rate;
        self.position.epoch += 1;
        self.position.steps_in_epoch = 0;
        self.position.epoch_sums = LossTerms::default().to_map();
        let epoch = self.position.epoch;

        let due = epoch.is_multiple_of(config.validate_every) || epoch == config.epochs;
        let validation = match due && !self.setup.validation.is_empty() {
            true => Some(self.validate(&self.current_weights()?)?),
            false => None,
        };
        self.rows.push(EpochRow::new(epoch, self.position.steps, rate, train, validation.as_ref()));
        let Some(validation) = validation else { return Ok(()) };

        let (value, improved) = match config.early_stopping.metric {
            MonitoredMetric::PccGeneMean => {
                let value = bin_pcc_gene_mean(&validation).unwrap_or(f64::NAN);
                (value, self.position.progress.best.is_none_or(|best| value > best))
            }
            MonitoredMetric::Loss => {
                let value = validation.loss.total;
                (value, self.position.progress.best.is_none_or(|best| value < best))
            }
        };
        let progress = &mut self.position.progress;
        if improved && value.is_finite() {
            *progress = Progress { best: Some(value), best_epoch: epoch, ..Progress::default() };
        } else {
            progress.without_improvement += 1;
            let patience = config.early_stopping.patience;
            progress.finished = patience > 0 && progress.without_improvement >= patience;
        }
        let keep_best = config.early_stopping.keep == KeptEpoch::Best;
        if keep_best && self.position.progress.best_epoch == epoch {
            self.best = Some(self.current_weights()?);
        }
        if !keep_best || self.position.progress.best_epoch == epoch {
            self.kept_validation = Some((epoch, validation));
        }
        Ok(())
    }

    /// Puts times on the epoch's row, writes the metrics, and says the row.
    fn finish_row(&mut self, started: Instant) -> Result<()> {
        let epochs = self.config.epochs;
        let bins: usize = self.setup.training.iter().map(|slide| slide.layout.nodes().bin).sum();
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        row.seconds = started.elapsed().as_secs_f64();
        row.bins_per_second = bins as f64 / row.seconds.max(1e-9);
        let line = row.line(epochs);
        if self.options.console.draws_bars() {
            self.bar.println(line);
        } else {
            self.options.console.say(line);
        }
        self.folder.write_metrics(&self.rows)
    }

    /// The weights that are validated and kept: the moving average where there is one, and what the model learns from
    /// all training bins at once.
    fn current_weights(&self) -> Result<Weights> {
        let weights = match &self.average {
            Some(average) => average.weights()?,
            None => Weights::of(&self.model)?,
        };
        if self.model.wanted_training_bins() == 0 {
            return Ok(weights);
        }
        let model = weights.load_into(self.model.valid())?.for_inference(Precision::Single);
        let (slides, rows) = (&self.setup.training, &self.training_rows);
        let device = &self.options.device;
        Ok(Weights::of(&with_training_set(model, slides, rows, self.config.batch_bins, device)?)?)
    }

    fn validate(&self, weights: &Weights) -> Result<Validation> {
        let model = weights.load_into(self.model.valid())?.for_inference(Precision::Single);
        let (slides, statistics) = (&self.setup.validation, &self.setup.statistics);
        validate(&model, slides, statistics, self.config.batch_bins, &self.options.device)
    }

    fn save(&mut self) -> Result<()> {
        let generation = Generation {
            position: self.position.clone(),
            model: Weights::of(&self.model)?,
            optimizer: self.updater.state(),
            average: self.average.as_ref().map(MovingAverage::weights).transpose()?,
            best: self.best.clone(),
        };
        checkpoint::save(&self.options.out, &generation, self.config.keep_checkpoints)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn into_trained(self) -> Result<Trained> {
        let (weights, kept_epoch) = match &self.best {
            Some(best) => (best.clone(), self.position.progress.best_epoch),
            None => (self.current_weights()?, self.position.epoch),
        };
        let validation = match (self.setup.validation.is_empty(), &self.kept_validation) {
            (true, _) => None,
            (false, Some((epoch, _))) if *epoch == kept_epoch => None,
            // A resumed run has the weights but not the scores.
            (false, _) => Some(self.validate(&weights)?),
        };
        let validation = validation.or_else(|| self.kept_validation.map(|(_, validation)| validation));
        Ok(Trained {
            weights,
            kept_epoch,
            stopped_early: self.position.progress.finished && self.position.epoch < self.config.epochs,
            position: self.position,
            validation: validation.filter(|_| !self.setup.validation.is_empty()),
            parameters: self.model.num_params(),
            rows: self.rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_takes_blocks_by_their_bins_and_an_epoch_leaves_none() {
        let updates = Updates::new(&[10, 30, 20, 20, 5], 2);
        assert_eq!(updates.shares, [0.25, 0.75, 0.5, 0.5, 1.0]);
        let ends = [0, 1, 2, 3, 4].map(|block| updates.ends_with(block));
        assert_eq!(ends, [false, true, false, true, true]);
        let each = Updates::new(&[7, 9], 1);
        assert!(each.shares == [1.0, 1.0] && each.ends_with(0) && each.ends_with(1));
    }
}
