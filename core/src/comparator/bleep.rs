//! BLEEP (Xie et al., "Spatially Resolved Gene Expression Prediction from H&E Histology Images via Bi-modal Contrastive
//! Learning", NeurIPS 2023): images and expression are brought into one space in which what belongs together lies
//! together; a patch is predicted by the expression of the training bins that lie nearest to it.
//!
//! As in the paper: both sides end in a projection head (linear → GELU → linear → dropout → + → LayerNorm); the loss is the
//! mean of the cross entropies in both directions against targets that are softened by how alike images and expressions
//! are among themselves, and gradients also flow through these targets; a prediction is the plain average over the
//! `comparator.nearest` training bins of greatest cosine similarity. The bins of a block are one batch.
//!
//! What differs: the image encoder is the ResNet of [`PatchEncoderConfig`](crate::model::PatchEncoderConfig), the same as
//! MagNet's, not a pretrained ResNet-50, so that what differs between the models is the method. Its linear map is
//! the first of the image's projection head. Training bins beyond `comparator.references` are left out of what is
//! retrieved from. Where `loss.units` is `standardized`, the expression encoder reads labels after subtracting each gene's
//! training mean and dividing by its standard deviation: the paper reads them as they are, with the batches integrated
//! beforehand, which without that integration leaves every bin pointing the way of the genes with the highest mean.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::model::BinModel;
use super::references::References;
use crate::batch::MagNetBatch;
use crate::model::{
    GeneStatistics, LossUnits, MagNetConfig, PatchEncoder, TrainingSet, TrainingSetError, WeightMap,
    WeightsError, usable_sd,
};
use crate::weights::Precision;

/// Added under the root of a vector's length.
const LENGTH_EPSILON: f64 = 1e-12;

/// Two encoders into one space, and the training bins in it.
#[derive(Module, Debug)]
pub struct Bleep {
    patch_encoder: PatchEncoder,
    image_head: ProjectionHead,
    /// `[G]` → `[D]`
    expression_encoder: Linear,
    expression_head: ProjectionHead,
    /// `[G]`
    mean: Param<Tensor<1>>,
    /// `[G]`
    sd: Param<Tensor<1>>,
    /// By their expression's place in the common space, as vectors of length 1.
    references: References,
    #[module(skip)]
    config: MagNetConfig,
}

/// A projection head after its first linear map.
#[derive(Module, Debug)]
struct ProjectionHead {
    gelu: Gelu,
    linear: Linear,
    dropout: Dropout,
    norm: LayerNorm,
}

impl ProjectionHead {
    fn new(width: usize, dropout: f64, device: &Device) -> Self {
        Self {
            gelu: Gelu::new(),
            linear: LinearConfig::new(width, width).init(device),
            dropout: DropoutConfig::new(dropout).init(),
            norm: LayerNormConfig::new(width).init(device),
        }
    }

    /// # Shapes
    /// - `projected`, output: `[N,D]`
    fn forward(&self, projected: Tensor<2>) -> Tensor<2> {
        let refined = self.linear.forward(self.gelu.forward(projected.clone()));
        self.norm.forward(self.dropout.forward(refined) + projected)
    }
}

impl Bleep {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let (width, genes) = (config.width, config.genes);
        let fixed = |values: Tensor<1>| Param::from_tensor(values).set_require_grad(false);
        Self {
            patch_encoder: config.patch_encoder.init(width, device),
            image_head: ProjectionHead::new(width, config.head_dropout, device),
            expression_encoder: LinearConfig::new(genes, width).init(device),
            expression_head: ProjectionHead::new(width, config.head_dropout, device),
            mean: fixed(Tensor::zeros([genes], device)),
            sd: fixed(Tensor::ones([genes], device)),
            references: References::new(config, width, device),
            config: config.clone(),
        }
    }

    /// The model with the training mean and standard deviation of every gene; the caller has checked them.
    pub(super) fn with_statistics(self, (mean, sd): &(Vec<f32>, Vec<f32>)) -> Self {
        let onto = |param: Param<Tensor<1>>, values: Vec<f32>| {
            let data = TensorData::new(values, [self.config.genes]);
            param.map(|old| Tensor::from_data(data, &old.device()))
        };
        Self { mean: onto(self.mean, mean.clone()), sd: onto(self.sd, usable_sd(sd)), ..self }
    }

    /// The model with these bins to retrieve from. What its image encoder makes of them is not read.
    pub(super) fn with_training_set(self, set: &TrainingSet) -> Result<Self, TrainingSetError> {
        // Without dropout, and without a record of how the places came about.
        let keys = unit(self.valid().encode_expression(set.labels.clone().inner()));
        Ok(Self { references: self.references.with(&keys, &set.labels)?, ..self })
    }

    pub(super) fn for_inference(self, precision: Precision) -> Self {
        Self { patch_encoder: self.patch_encoder.for_inference(precision), ..self }
    }

    pub(super) fn with_pretrained_encoder(self, weights: WeightMap) -> Result<Self, WeightsError> {
        Ok(Self { patch_encoder: self.patch_encoder.load_torchvision(weights)?, ..self })
    }

    /// Where expression lies in the common space.
    ///
    /// # Shapes
    /// - `labels`: `[N,G]`
    /// - output: `[N,D]`
    fn encode_expression(&self, labels: Tensor<2>) -> Tensor<2> {
        let labels = match self.config.loss.units {
            LossUnits::Label => labels,
            LossUnits::Standardized => (labels - self.mean.val().unsqueeze()) / self.sd.val().unsqueeze(),
        };
        self.expression_head.forward(self.expression_encoder.forward(labels))
    }
}

impl BinModel for Bleep {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        self.image_head.forward(self.patch_encoder.forward(patches))
    }

    fn width(&self) -> usize {
        self.config.width
    }

    fn predict(&self, bins: Tensor<2>, _batch: &MagNetBatch) -> Tensor<2> {
        let nearness = self.references.nearness(unit(bins));
        let nearest = References::greatest(nearness, self.config.comparator.nearest);
        self.references.labels(nearest).mean_dim(1).squeeze_dim(1)
    }

    fn statistics(&self) -> Option<GeneStatistics> {
        Some(GeneStatistics { mean: self.mean.val(), sd: self.sd.val() })
    }

    fn own_objective(&self, bins: &Tensor<2>, labels: &Tensor<2>) -> Option<Tensor<1>> {
        let [core, _] = labels.dims();
        let images = bins.clone().narrow(0, 0, core);
        let expression = self.encode_expression(labels.clone());
        Some(contrastive_loss(images, expression, self.config.comparator.temperature))
    }

    fn wanted_training_bins(&self) -> usize {
        self.config.comparator.references
    }
}

/// Mean of the cross entropies in both directions between pairs, row by row, with targets softened by how alike the rows
/// of each side are among themselves. All similarities are divided by `temperature`.
///
/// # Shapes
/// - `images`, `expression`: `[N,D]`
/// - output: `[1]`
fn contrastive_loss(images: Tensor<2>, expression: Tensor<2>, temperature: f64) -> Tensor<1> {
    let similarity = |a: &Tensor<2>, b: &Tensor<2>| a.clone().matmul(b.clone().transpose()) / temperature;
    let logits = similarity(&expression, &images); // [N,N]
    let alike = (similarity(&images, &images) + similarity(&expression, &expression)) / 2.0;
    let targets = softmax(alike, 1); // [N,N]
    let of_expression = cross_entropy(logits.clone(), targets.clone());
    let of_images = cross_entropy(logits.transpose(), targets.transpose());
    (of_expression + of_images) / 2.0
}

/// # Shapes
/// - `logits`, `targets`: `[N,C]`
/// - output: `[1]`, mean over the rows
fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    -(targets * log_softmax(logits, 1)).sum_dim(1).mean()
}

/// Rows divided by their lengths.
///
/// # Shapes
/// - both `[N,D]`
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let lengths = (rows.clone().square().sum_dim(1) + LENGTH_EPSILON).sqrt(); // [N,1]
    rows / lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparator::ComparatorModel;
    use crate::comparator::testing::{batch_of, small_config};
    use crate::level::PerLevel;
    use crate::model::testing::{
        assert_close, assert_gradient, assert_values, filled, noise, pseudo_random, values,
    };
    use crate::model::{Architecture, ComparatorConfig, ExpressionModel, LossConfig, Model};
    use crate::weights::Weights;

    const BINS: usize = 12;

    fn config(nearest: usize) -> MagNetConfig {
        MagNetConfig {
            comparator: ComparatorConfig { references: BINS, nearest, ..ComparatorConfig::default() },
            ..small_config(Architecture::Bleep)
        }
    }

    fn labels(device: &Device) -> Tensor<2> {
        noise("labels", [BINS, 5], device)
    }

    /// A model whose references are the bins of `labels`.
    fn model(nearest: usize) -> Bleep {
        let device = Device::flex();
        let model = filled(Bleep::new(&config(nearest), &device), |name, index| match name {
            name if name.contains("running_var") || name.ends_with("gamma") || name == "sd" => 1.0,
            name if name.starts_with("references") || name == "mean" => 0.0,
            name => pseudo_random(name, index) as f32,
        });
        let labels = labels(&device);
        let encoded = Tensor::zeros([BINS, 8], &device);
        model.with_training_set(&TrainingSet { encoded, labels }).unwrap()
    }

    #[test]
    fn an_image_that_lies_where_an_expression_lies_is_given_that_expression() {
        let device = Device::flex();
        let model = model(1);
        // Three times as far out: only the direction counts.
        let queries = model.encode_expression(labels(&device)) * 3.0;
        assert_close(&model.predict(queries, &batch_of(BINS, &device)), &labels(&device), 1e-6);
    }

    #[test]
    fn with_more_neighbours_than_references_all_are_averaged() {
        let device = Device::flex();
        let queries = noise("queries", [2, 8], &device);
        let mean = labels(&device).mean_dim(0).expand([2, 5]);
        assert_close(&model(50).predict(queries, &batch_of(2, &device)), &mean, 1e-6);
    }

    #[test]
    fn neighbours_are_averaged_by_cosine_similarity() {
        let device = Device::flex();
        let model = model(3);
        let keys = unit(model.encode_expression(labels(&device)));
        let query = noise("query", [1, 8], &device);
        let cosines = values(&unit(query.clone()).matmul(keys.transpose()));
        let mut order: Vec<usize> = (0..BINS).collect();
        order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
        let measured = values(&labels(&device));
        let expected: Vec<f32> = (0..5)
            .map(|gene| order[..3].iter().map(|row| measured[row * 5 + gene]).sum::<f32>() / 3.0)
            .collect();
        assert_values(&values(&model.predict(query, &batch_of(1, &device))), &expected, 1e-6);
    }

    #[test]
    fn pairs_that_match_cost_less_than_shuffled_ones() {
        let device = Device::flex();
        let images = noise("images", [6, 8], &device) * 3.0;
        let near = images.clone() + noise("apart", [6, 8], &device) * 0.1;
        let turned = Tensor::cat(vec![near.clone().narrow(0, 1, 5), near.clone().narrow(0, 0, 1)], 0);
        let loss = |expression: Tensor<2>| values(&contrastive_loss(images.clone(), expression, 1.0))[0];
        assert!(loss(near.clone()) < 0.5 * loss(turned.clone()), "{} {}", loss(near), loss(turned));
    }

    #[test]
    fn the_loss_of_two_pairs_is_the_one_by_hand() {
        let device = Device::flex();
        // Orthogonal unit vectors: every similarity is 1 on the diagonal and 0 elsewhere, at temperature ½ 2 and 0. Target
        // and prediction are both p = e² / (e² + 1) on the diagonal, so the loss is the entropy of p.
        let rows = || Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let p = 2_f32.exp() / (2_f32.exp() + 1.0);
        let entropy = -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
        assert_values(&values(&contrastive_loss(rows(), rows(), 0.5)), &[entropy], 1e-6);
    }

    #[test]
    fn the_gradient_of_the_loss_is_the_slope() {
        let device = Device::flex();
        let other = noise("other", [4, 3], &device);
        let here = |x: &Tensor<2>| Tensor::from_data(other.to_data(), &x.device());
        let at = noise("at", [4, 3], &device);
        assert_gradient(&at, 1e-2, 2e-3, |images| {
            let expression = here(&images);
            contrastive_loss(images, expression, 1.0)
        });
        assert_gradient(&at, 1e-2, 2e-3, |expression| {
            let images = here(&expression);
            contrastive_loss(images, expression, 1.0)
        });
    }

    #[test]
    fn the_references_come_back_with_the_weights_and_the_prediction_with_them() {
        let device = Device::flex();
        let model = Model::Comparator(ComparatorModel::Bleep(model(3)));
        let back = Weights::of(&model).unwrap().load_into(config(3).build(&device).unwrap()).unwrap();
        let batch = batch_of(4, &device);
        let predicted = |model: &Model| values(&model.forward(&batch).unwrap().bin);
        assert_eq!(predicted(&model), predicted(&back));
        let spread = predicted(&model);
        assert!(spread.iter().any(|value| value.abs() > 1e-3), "{spread:?}");
    }

    #[test]
    fn a_training_set_of_another_size_than_the_references_is_refused() {
        let device = Device::flex();
        let set =
            TrainingSet { encoded: Tensor::zeros([3, 8], &device), labels: noise("few", [3, 5], &device) };
        assert!(model(3).with_training_set(&set).is_err());
    }

    #[test]
    fn every_gene_weighs_alike_where_the_loss_is_standardized() {
        let device = Device::flex();
        let config = MagNetConfig {
            loss: LossConfig { units: LossUnits::Standardized, ..Default::default() },
            ..config(3)
        };
        let (mean, sd) = (vec![100.0, 0.0, 0.0, 0.0, 0.0], vec![50.0, 1.0, 1.0, 1.0, 1.0]);
        let statistics = PerLevel::from_fn(|_| (mean.clone(), sd.clone()));
        let model = config.build(&device).unwrap().with_gene_statistics(&statistics).unwrap();
        let Model::Comparator(ComparatorModel::Bleep(model)) = model else { unreachable!() };
        let plain = labels(&device);
        let scale = Tensor::<1>::from_floats([50.0, 1.0, 1.0, 1.0, 1.0], &device).unsqueeze();
        let shift = Tensor::<1>::from_floats([100.0, 0.0, 0.0, 0.0, 0.0], &device).unsqueeze();
        let own = model.encode_expression(plain.clone() * scale + shift);
        let raw = model.expression_head.forward(model.expression_encoder.forward(plain));
        assert_close(&own, &raw, 1e-4);
        assert_values(&values(&model.statistics().unwrap().sd), &sd, 0.0);
    }
}
