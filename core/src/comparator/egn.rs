//! EGN (Yang et al., "Exemplar Guided Deep Neural Network for Spatial Transcriptomics Analysis of Gene Expression
//! Prediction", WACV 2023): a vision transformer reads the patch, and after every second layer an exemplar bridging block
//! revises what it holds by training bins that look alike and whose expression is known.
//!
//! As in the paper: exemplars are the `comparator.nearest` training bins (the paper: 9) at the least Euclidean distance
//! in a space that was made without labels; the patch's place in that space, its global view, is the bridge between
//! exemplars and tokens ([`ExemplarBridge`]); the genes are read from the final view beside the tokens pooled by attention.
//!
//! In training the paper takes exemplars from other patients only, because a bin's neighbours on the slide look and
//! express alike, which nobody has of a new slide. Here a training bin takes none from its own slide; where there is one
//! training slide alone, it does not take itself ([`MagNetBatch::own_references`]).
//!
//! Of the paper itself the abstract was at hand; its equations and sizes are given as others describe them.
//!
//! What differs: the space is not that of a StyleGAN encoder trained on the windows but the standardised colour and
//! texture statistics that ridge reads, so that nothing has to be trained before. They are read from the patch as it
//! is augmented. The transformer is as wide and deep as `width` and `depth` say (the paper: 1024 and 8), with tokens of
//! a quarter of the patch's side, 32 px at most (the paper: 32 px). The loss is the configured one (the paper: squared error
//! and a correlation term of equal weight).

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::exemplar_bridge::{ExemplarBridge, Guidance, Perceptron};
use super::model::BinModel;
use super::patch_features::{PATCH_FEATURES, patch_features};
use super::references::{References, host_matrix};
use super::ridge::Scaling;
use crate::batch::MagNetBatch;
use crate::model::{GeneHead, GeneStatistics, MagNetConfig, TrainingSet, TrainingSetError, standardized};

/// Transformer layers before each bridge.
const LAYERS_PER_BRIDGE: usize = 2;

/// Most pixels along the side of a token.
const MAX_TOKEN_PX: usize = 32;

/// Nearness of what must not be an exemplar; below that of any bin that may.
const NOT_AN_EXEMPLAR: f32 = -1e30;

/// A vision transformer with bridges to training bins.
#[derive(Module, Debug)]
pub struct Egn {
    tokens: Conv2d,
    /// `[L,D]`
    positions: Param<Tensor<2>>,
    /// `[F]`
    statistics_mean: Param<Tensor<1>>,
    /// `[F]`, 0 for a statistic that does not vary.
    statistics_scale: Param<Tensor<1>>,
    /// By their standardised statistics.
    references: References,
    /// Statistics to a global view.
    view: Linear,
    /// Global view and expression of an exemplar to its view.
    exemplar_view: Linear,
    /// Standardised expression of an exemplar.
    expression: Perceptron,
    stages: Vec<Stage>,
    /// A token's score in the pooling.
    pooling: Linear,
    gene_head: GeneHead,
    #[module(skip)]
    config: MagNetConfig,
}

/// Transformer layers and the bridge that follows them.
#[derive(Module, Debug)]
struct Stage {
    transformer: TransformerEncoder,
    bridge: ExemplarBridge,
}

/// Pixels along the side of a token of a patch, and tokens along the side of the patch.
fn token_grid(patch_px: usize) -> (usize, usize) {
    let token_px = (patch_px / 4).clamp(1, MAX_TOKEN_PX);
    (token_px, (patch_px / token_px).max(1))
}

impl Egn {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let (width, genes, depth) = (config.width, config.genes, &config.depth);
        let (token_px, side) = token_grid(config.levels.bin.patch_px);
        let fixed = |values: Tensor<1>| Param::from_tensor(values).set_require_grad(false);
        let stages = (0..depth.layers).step_by(LAYERS_PER_BRIDGE).map(|first| Stage {
            transformer: TransformerEncoderConfig::new(
                width,
                depth.feed_forward * width,
                depth.heads,
                LAYERS_PER_BRIDGE.min(depth.layers - first),
            )
            .with_dropout(depth.dropout)
            .with_norm_first(true)
            .init(device),
            bridge: ExemplarBridge::new(width, device),
        });
        Self {
            tokens: Conv2dConfig::new([3, width], [token_px; 2]).with_stride([token_px; 2]).init(device),
            positions: Initializer::Normal { mean: 0.0, std: 0.02 }.init([side * side, width], device),
            statistics_mean: fixed(Tensor::zeros([PATCH_FEATURES], device)),
            statistics_scale: fixed(Tensor::ones([PATCH_FEATURES], device)),
            references: References::new(config, PATCH_FEATURES, device),
            view: LinearConfig::new(PATCH_FEATURES, width).init(device),
            exemplar_view: LinearConfig::new(2 * width, width).init(device),
            expression: Perceptron::new(genes, width, device),
            stages: stages.collect(),
            pooling: LinearConfig::new(width, 1).init(device),
            gene_head: GeneHead::new(2 * width, genes, config.head_dropout, device),
            config: config.clone(),
        }
    }

    pub(super) fn with_statistics(self, statistics: &(Vec<f32>, Vec<f32>)) -> Self {
        Self { gene_head: standardized(self.gene_head, statistics), ..self }
    }

    /// The model with these bins to take exemplars from.
    pub(super) fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        let statistics = host_matrix(&set.encoded.clone().narrow(1, 0, PATCH_FEATURES))?;
        let Scaling { mean, inverse_sd } = Scaling::of(&statistics);
        let onto = |param: Param<Tensor<1>>, values: Vec<f64>| {
            let data = TensorData::new(values, [PATCH_FEATURES]).convert::<f32>();
            param.map(|old| Tensor::from_data(data, &old.device()))
        };
        let with_scaling = Self {
            statistics_mean: onto(self.statistics_mean, mean),
            statistics_scale: onto(self.statistics_scale, inverse_sd),
            ..self
        };
        let device = with_scaling.statistics_mean.val().device();
        let data = TensorData::new(statistics.values, [statistics.rows, statistics.cols]);
        let keys = with_scaling.standardized(Tensor::from_data(data, &device));
        Ok(Self { references: with_scaling.references.with(&keys, &set.labels)?, ..with_scaling })
    }

    /// # Shapes
    /// - both `[N,F]`
    fn standardized(&self, statistics: Tensor<2>) -> Tensor<2> {
        (statistics - self.statistics_mean.val().unsqueeze()) * self.statistics_scale.val().unsqueeze()
    }

    /// The rows of each bin's exemplars, nearest first, and whether each may be read: 1 or 0. There are bins without so
    /// many only while training on few.
    ///
    /// # Shapes
    /// - `places`: `[N,F]` standardised statistics
    /// - `own`: `[N,2]`; see [`MagNetBatch::own_references`]
    /// - output: `[N,K]` each
    fn exemplars(&self, places: Tensor<2>, own: Option<&Tensor<2, Int>>) -> (Tensor<2, Int>, Tensor<2>) {
        let mut nearness = self.references.nearness(places);
        let [_, references] = nearness.dims();
        let count = self.config.comparator.nearest;
        let Some(own) = own else {
            let rows = References::greatest(nearness, count);
            let may = Tensor::ones(rows.dims(), &rows.device());
            return (rows, may);
        };
        let all = Tensor::<1, Int>::arange(0..references as i64, &own.device()).unsqueeze::<2>(); // [1,M]
        nearness = nearness.mask_fill(within(all, own), NOT_AN_EXEMPLAR);
        let rows = References::greatest(nearness, count);
        let may = within(rows.clone(), own).bool_not().float();
        (rows, may)
    }
}

/// Whether rows lie in each bin's own range.
///
/// # Shapes
/// - `rows`: `[N,K]` or `[1,K]`
/// - `own`: `[N,2]`
/// - output: `[N,K]`
fn within(rows: Tensor<2, Int>, own: &Tensor<2, Int>) -> Tensor<2, Bool> {
    let ([_, k], [n, _]) = (rows.dims(), own.dims());
    let bound = |column| own.clone().narrow(1, column, 1).expand([n, k]);
    let rows = rows.expand([n, k]);
    rows.clone().greater_equal(bound(0)).bool_and(rows.lower(bound(1)))
}

impl BinModel for Egn {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    /// The statistics and, behind them, the patch as tokens without their positions.
    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        let [count, ..] = patches.dims();
        let statistics = patch_features(patches.clone());
        let tokens = self.tokens.forward(patches).flatten::<3>(2, 3).swap_dims(1, 2); // [N,L,D]
        Tensor::cat(vec![statistics, tokens.reshape([count, self.width() - PATCH_FEATURES])], 1)
    }

    fn width(&self) -> usize {
        let (_, side) = token_grid(self.config.levels.bin.patch_px);
        PATCH_FEATURES + side * side * self.config.width
    }

    fn patch_px(&self) -> Option<usize> {
        Some(self.config.levels.bin.patch_px)
    }

    fn predict(&self, bins: Tensor<2>, batch: &MagNetBatch) -> Tensor<2> {
        let ([count, columns], width) = (bins.dims(), self.config.width);
        let places = self.standardized(bins.clone().narrow(1, 0, PATCH_FEATURES));
        let (rows, may) = self.exemplars(places.clone(), batch.own_references.as_ref());

        let labels = self.gene_head.statistics();
        let expression = (self.references.labels(rows.clone()) - labels.mean.unsqueeze::<3>())
            / labels.sd.unsqueeze::<3>();
        let expression = self.expression.forward(expression); // [N,K,D]
        let views = self.view.forward(self.references.keys(rows)); // [N,K,D]
        let mut guidance = Guidance {
            view: self.view.forward(places),
            exemplars: self.exemplar_view.forward(Tensor::cat(vec![views, expression.clone()], 2)),
            expression,
            shares: (may.clone() / may.sum_dim(1).clamp_min(1.0)).unsqueeze_dim(2),
        };
        let length = columns - PATCH_FEATURES;
        let tokens = bins.narrow(1, PATCH_FEATURES, length).reshape([count, length / width, width]); // [N,L,D]
        let mut tokens = tokens + self.positions.val().unsqueeze();
        for stage in &self.stages {
            tokens = stage.transformer.forward(TransformerEncoderInput::new(tokens));
            (tokens, guidance) = stage.bridge.forward(tokens, guidance);
        }
        let attention = softmax(self.pooling.forward(tokens.clone()), 1); // [N,L,1]
        let pooled = (tokens * attention).sum_dim(1).squeeze_dim(1); // [N,D]
        self.gene_head.forward(Tensor::cat(vec![guidance.view, pooled], 1))
    }

    fn statistics(&self) -> Option<GeneStatistics> {
        Some(self.gene_head.statistics())
    }

    fn wanted_training_bins(&self) -> usize {
        self.config.comparator.references
    }

    fn steps_read_training_set(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::LevelInput;
    use crate::comparator::ComparatorModel;
    use crate::comparator::testing::{PATCH_PX, batch_of, small_config};
    use crate::level::Level;
    use crate::model::testing::{filled, noise, pseudo_random, values};
    use crate::model::{Architecture, ComparatorConfig, ExpressionModel, Model};
    use crate::weights::Weights;

    const BINS: usize = 6;

    fn config(nearest: usize) -> MagNetConfig {
        MagNetConfig {
            comparator: ComparatorConfig { references: BINS, nearest, ..ComparatorConfig::default() },
            ..small_config(Architecture::Egn)
        }
    }

    /// Ranges of one row each: bin `i` must not see reference `i`.
    fn own_rows(device: &Device) -> Tensor<2, Int> {
        let ranges: Vec<i32> = (0..BINS as i32).flat_map(|row| [row, row + 1]).collect();
        Tensor::from_data(TensorData::new(ranges, [BINS, 2]), device)
    }

    /// A batch of whose bins the model's references are made, with these labels.
    fn model_of(batch: &MagNetBatch, nearest: usize, labels: Tensor<2>) -> Egn {
        let model = filled(Egn::new(&config(nearest), &labels.device()), |name, index| match name {
            name if name.ends_with("gamma") || name.ends_with("scale") => 1.0,
            name if name.starts_with("references") => 0.0,
            name => 0.5 * pseudo_random(name, index) as f32,
        });
        let LevelInput::Patches(patches) = &batch.inputs.bin else { unreachable!() };
        let encoded = model.encode(patches.clone());
        model.with_training_set(&TrainingSet { encoded, labels }).unwrap()
    }

    fn predicted(model: &Egn, batch: &MagNetBatch) -> Vec<f32> {
        let model = Model::Comparator(ComparatorModel::Egn(model.clone()));
        values(&model.forward(batch).unwrap().bin)
    }

    /// Labels of the batch, and the same with those of the third bin changed.
    fn two_labellings(batch: &MagNetBatch) -> [Tensor<2>; 2] {
        let labels = batch.labels.as_ref().unwrap().bin.clone();
        let other = labels.clone().narrow(0, 2, 1) * 3.0 + 2.0;
        let changed =
            Tensor::cat(vec![labels.clone().narrow(0, 0, 2), other, labels.clone().narrow(0, 3, 3)], 0);
        [labels, changed]
    }

    #[test]
    fn a_bin_finds_itself_first_and_in_training_not_at_all() {
        let device = Device::flex();
        let batch = batch_of(BINS, &device);
        let model = model_of(&batch, 3, batch.labels.as_ref().unwrap().bin.clone());
        let LevelInput::Patches(patches) = &batch.inputs.bin else { unreachable!() };
        let bins = model.encode(patches.clone());
        let places = model.standardized(bins.narrow(1, 0, PATCH_FEATURES));
        let rows = |own: Option<&Tensor<2, Int>>| {
            let (rows, may) = model.exemplars(places.clone(), own);
            assert!(values(&may).iter().all(|&may| may == 1.0));
            rows.to_data().iter::<i64>().collect::<Vec<_>>()
        };
        let free = rows(None);
        assert!((0..BINS).all(|bin| free[3 * bin] == bin as i64), "{free:?}");
        let held = rows(Some(&own_rows(&device)));
        assert!((0..BINS).all(|bin| !held[3 * bin..3 * bin + 3].contains(&(bin as i64))), "{held:?}");
    }

    #[test]
    fn what_a_bin_must_not_see_does_not_change_its_prediction() {
        let device = Device::flex();
        let batch = batch_of(BINS, &device);
        let [labels, changed] = two_labellings(&batch);
        let (one, other) = (model_of(&batch, 3, labels), model_of(&batch, 3, changed));
        let third = |model: &Egn, batch: &MagNetBatch| predicted(model, batch)[2 * 5..3 * 5].to_vec();
        assert_ne!(third(&one, &batch), third(&other, &batch));
        let step = MagNetBatch { own_references: Some(own_rows(&device)), ..batch };
        assert_eq!(third(&one, &step), third(&other, &step));
        // It may be an exemplar of another.
        assert_ne!(predicted(&one, &step), predicted(&other, &step));
    }

    #[test]
    fn a_bin_that_may_see_nothing_is_read_without_exemplars() {
        let device = Device::flex();
        let batch = batch_of(BINS, &device);
        let [labels, changed] = two_labellings(&batch);
        let all: Vec<i32> = (0..BINS).flat_map(|_| [0, BINS as i32]).collect();
        let all = Tensor::from_data(TensorData::new(all, [BINS, 2]), &device);
        let batch = MagNetBatch { own_references: Some(all), ..batch };
        let found = predicted(&model_of(&batch, 3, labels), &batch);
        assert!(found.iter().all(|value| value.is_finite()));
        assert_eq!(found, predicted(&model_of(&batch, 3, changed), &batch));
    }

    #[test]
    fn fewer_references_than_exemplars_are_all_exemplars() {
        let device = Device::flex();
        let batch = batch_of(BINS, &device);
        let labels = batch.labels.as_ref().unwrap().bin.clone();
        assert_eq!(predicted(&model_of(&batch, 50, labels.clone()), &batch), {
            predicted(&model_of(&batch, BINS, labels), &batch)
        });
    }

    #[test]
    fn the_references_come_back_with_the_weights_and_the_prediction_with_them() {
        let device = Device::flex();
        let batch = batch_of(BINS, &device);
        let own = model_of(&batch, 3, batch.labels.as_ref().unwrap().bin.clone());
        let model = Model::Comparator(ComparatorModel::Egn(own));
        let back = Weights::of(&model).unwrap().load_into(config(3).build(&device).unwrap()).unwrap();
        let predicted = |model: &Model| values(&model.forward(&batch).unwrap().bin);
        assert_eq!(predicted(&model), predicted(&back));
    }

    #[test]
    fn every_part_learns_and_the_references_do_not() {
        let device = Device::flex().autodiff();
        let batch = batch_of(BINS, &device);
        let model = model_of(&batch, 3, batch.labels.as_ref().unwrap().bin.clone()).valid().train();
        let bins = BinModel::encode(
            &model,
            noise("patches", [BINS, 3 * PATCH_PX * PATCH_PX], &device).reshape([BINS, 3, PATCH_PX, PATCH_PX]),
        );
        let gradients = model.predict(bins, &batch).square().sum().backward();
        let moved = |gradient: Option<Tensor<2>>| {
            gradient.is_some_and(|gradient| values(&gradient).iter().any(|value| value.abs() > 0.0))
        };
        assert!(moved(model.positions.val().grad(&gradients)));
        assert!(moved(model.view.weight.val().grad(&gradients)));
        assert!(moved(model.exemplar_view.weight.val().grad(&gradients)));
        assert!(moved(model.pooling.weight.val().grad(&gradients)));
        assert!(model.tokens.weight.val().grad(&gradients).is_some());
        assert!(model.statistics_mean.val().grad(&gradients).is_none());
        assert!(model.references.keys(Tensor::zeros([1, 1], &device)).grad(&gradients).is_none());
    }

    #[test]
    fn patches_of_another_size_are_refused() {
        let device = Device::flex();
        let model = Model::Comparator(ComparatorModel::new(&config(3), &device).unwrap());
        let patches = LevelInput::Patches(Tensor::zeros([1, 3, 8, 8], &device));
        let error = model.encode(Level::Bin, &patches).unwrap_err().to_string();
        assert!(error.contains("[N, 3, 16, 16]") && error.contains("[1, 3, 8, 8]"), "{error}");
    }

    #[test]
    fn a_token_is_a_quarter_of_the_patch_and_32_px_at_most() {
        assert_eq!(token_grid(64), (16, 4));
        assert_eq!(token_grid(112), (28, 4));
        assert_eq!(token_grid(224), (32, 7));
        assert_eq!(token_grid(3), (1, 3));
    }
}
