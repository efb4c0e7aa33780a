//! The hybrid loss: squared error, correlation over the genes, and consistency between adjacent levels.
//!
//! Every term stays a tensor on the device; nothing is read back.

use burn::tensor::Tensor;

use crate::batch::MagNetBatch;
use crate::level::{Level, PerLevel};
use crate::model::{ConsistencyTarget, GeneStatistics, LossConfig, LossUnits};

/// Added under the root of the correlation's denominator, so that a constant row gives 0 and a finite gradient.
const PEARSON_EPSILON: f64 = 1e-8;

/// The terms of the hybrid loss, unweighted, and their weighted sum; `[1]` each. A term of a level without rows is 0.
#[derive(Debug, Clone)]
pub struct HybridLoss {
    /// What training minimises.
    pub total: Tensor<1>,
    /// Mean squared error of each level.
    pub mse: PerLevel<Tensor<1>>,
    /// `1 − mean Pearson` of each level.
    pub pcc: PerLevel<Tensor<1>>,
    /// Disagreement between a tile's prediction and the mean prediction of its bins, spots and regions summed.
    pub consistency: Tensor<1>,
}

impl HybridLoss {
    /// Another objective in the hybrid loss's place: it has no terms.
    ///
    /// # Shapes
    /// - `total`: `[1]`
    pub fn of_total(total: Tensor<1>) -> Self {
        let none = Tensor::zeros([1], &total.device());
        let terms = PerLevel::from_fn(|_| none.clone());
        Self { total, mse: terms.clone(), pcc: terms, consistency: none }
    }
}

/// A loss that cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("loss, `{field}`: expected {expected}, found {found}")]
pub struct LossError {
    /// The batch field at fault.
    pub field: String,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// The hybrid loss of Figure 2 for the core nodes of a batch:
/// `mse_bin·MSE(bin) + pcc_bin·PCC(bin) + mse_wide·(MSE(spot) + MSE(region)) + pcc_wide·(PCC(spot) + PCC(region)) +
/// consistency·(PCC(mean of the bins in a spot, spot) + PCC(mean of the bins in a region, region))`,
/// each level against its own labels. Consistency is taken over the tiles that hold at least one core bin, or, where
/// the configuration says so, over the core bins: each bin's label against its parent's prediction.
///
/// # Shapes
/// - `predictions`: `[Bc,G]`, `[Sc,G]`, `[Rc,G]`, in label units; a level may have no rows
/// - output: `[1]` each
///
/// # Errors
/// A batch without labels, or labels and means whose shapes are not those of the predictions.
pub fn hybrid_loss(
    config: &LossConfig,
    predictions: &PerLevel<Tensor<2>>,
    batch: &MagNetBatch,
    statistics: &PerLevel<GeneStatistics>,
) -> Result<HybridLoss, LossError> {
    let Some(labels) = &batch.labels else {
        return Err(refuse("labels", "labels of every level", "none"));
    };
    check(predictions, labels, batch)?;

    let predictions = PerLevel::from_fn(|level| in_units(config.units, level, predictions, statistics));
    let labels = PerLevel::from_fn(|level| in_units(config.units, level, labels, statistics));

    let mse = PerLevel::from_fn(|level| mean_squared_error(predictions.get(level), labels.get(level)));
    let pcc = PerLevel::from_fn(|level| pcc_loss(predictions.get(level).clone(), labels.get(level).clone()));
    let consistent = |tiles: &Tensor<2>, mean: &Tensor<2>| match config.consistency_with {
        ConsistencyTarget::Predictions => tile_consistency(&predictions.bin, tiles, mean),
        ConsistencyTarget::BinLabels => label_consistency(&labels.bin, tiles, mean),
    };
    let consistency =
        consistent(&predictions.spot, &batch.spot_mean) + consistent(&predictions.region, &batch.region_mean);

    let weighted = [
        (config.mse_bin, mse.bin.clone()),
        (config.pcc_bin, pcc.bin.clone()),
        (config.mse_wide, mse.spot.clone() + mse.region.clone()),
        (config.pcc_wide, pcc.spot.clone() + pcc.region.clone()),
        (config.consistency, consistency.clone()),
    ];
    // A term of weight 0 stays out of the graph: it costs no backward pass.
    let total = weighted
        .into_iter()
        .filter(|(weight, _)| *weight != 0.0)
        .fold(Tensor::zeros([1], &predictions.bin.device()), |sum, (weight, term)| sum + term * weight);
    Ok(HybridLoss { total, mse, pcc, consistency })
}

/// `1 − mean over rows of Pearson(a_row, b_row)`; 0 without rows.
///
/// # Shapes
/// - `a`, `b`: `[N,G]`
/// - output: `[1]`
pub fn pcc_loss(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    if a.dims()[0] == 0 {
        return Tensor::zeros([1], &a.device());
    }
    -pearson_rows(a, b).mean() + 1.0
}

/// Pearson correlation of each row of `a` with the same row of `b`, with 1e-8 under the root.
///
/// # Shapes
/// - `a`, `b`: `[N,G]`
/// - output: `[N]`
pub fn pearson_rows(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let centre = |x: Tensor<2>| x.clone() - x.mean_dim(1);
    let (a, b) = (centre(a), centre(b));
    let covariance = (a.clone() * b.clone()).sum_dim(1); // [N,1]
    let variances = a.square().sum_dim(1) * b.square().sum_dim(1); // [N,1]
    (covariance / (variances + PEARSON_EPSILON).sqrt()).squeeze_dim(1)
}

fn mean_squared_error(prediction: &Tensor<2>, label: &Tensor<2>) -> Tensor<1> {
    if prediction.dims()[0] == 0 {
        return Tensor::zeros([1], &prediction.device());
    }
    (prediction.clone() - label.clone()).square().mean()
}

/// `1 − mean Pearson` between the mean of a tile's bins and the tile, over the tiles that hold a bin.
///
/// # Shapes
/// - `bins`: `[Bc,G]`
/// - `tiles`: `[Sc,G]`
/// - `mean`: `[Sc,Bc]`, a row of zeros for a tile without bins
/// - output: `[1]`
fn tile_consistency(bins: &Tensor<2>, tiles: &Tensor<2>, mean: &Tensor<2>) -> Tensor<1> {
    let [tile_count, _] = tiles.dims();
    if tile_count == 0 || bins.dims()[0] == 0 {
        return Tensor::zeros([1], &bins.device());
    }
    let occupied = mean.clone().sum_dim(1).greater_elem(0.0).float().reshape([tile_count]); // [Sc]
    let disagreement = -pearson_rows(mean.clone().matmul(bins.clone()), tiles.clone()) + 1.0; // [Sc]
    (disagreement * occupied.clone()).sum() / occupied.sum().clamp_min(1.0)
}

/// `1 − mean Pearson` between each bin's label and its parent tile's prediction.
///
/// # Shapes
/// - `labels`: `[Bc,G]`
/// - `tiles`: `[Sc,G]`
/// - `mean`: `[Sc,Bc]`, positive where the bin lies in the tile
/// - output: `[1]`
fn label_consistency(labels: &Tensor<2>, tiles: &Tensor<2>, mean: &Tensor<2>) -> Tensor<1> {
    if tiles.dims()[0] == 0 || labels.dims()[0] == 0 {
        return Tensor::zeros([1], &labels.device());
    }
    // Each bin has one parent: a row with a single 1 picks it, and the backward pass scatters nothing.
    let parent = mean.clone().greater_elem(0.0).float().transpose(); // [Bc,Sc]
    pcc_loss(parent.matmul(tiles.clone()), labels.clone())
}

fn in_units(
    units: LossUnits,
    level: Level,
    values: &PerLevel<Tensor<2>>,
    statistics: &PerLevel<GeneStatistics>,
) -> Tensor<2> {
    let values = values.get(level).clone();
    if units == LossUnits::Label || values.dims()[0] == 0 {
        return values;
    }
    let GeneStatistics { mean, sd } = statistics.get(level).clone();
    (values - mean.unsqueeze()) / sd.unsqueeze()
}

fn check(
    predictions: &PerLevel<Tensor<2>>,
    labels: &PerLevel<Tensor<2>>,
    batch: &MagNetBatch,
) -> Result<(), LossError> {
    let [bins, _] = predictions.bin.dims();
    for level in Level::ALL {
        let expected = predictions.get(level).dims();
        if expected[0] == 0 {
            continue;
        }
        let found = labels.get(level).dims();
        if found != expected {
            return Err(refuse(&format!("labels.{level}"), format!("{expected:?}"), format!("{found:?}")));
        }
        let mean = match level {
            Level::Bin => continue,
            Level::Spot => &batch.spot_mean,
            Level::Region => &batch.region_mean,
        };
        let (expected, found) = ([expected[0], bins], mean.dims());
        if found != expected {
            return Err(refuse(&format!("{level}_mean"), format!("{expected:?}"), format!("{found:?}")));
        }
    }
    Ok(())
}

fn refuse(field: &str, expected: impl Into<String>, found: impl Into<String>) -> LossError {
    LossError { field: field.to_owned(), expected: expected.into(), found: found.into() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Bool, Device, Int};

    use super::*;
    use crate::batch::{LevelInput, NeighborIndices};
    use crate::model::testing::{assert_gradient, assert_values, indices, matrix, noise, values};

    /// A batch of which only labels and means matter: `bins` core bins, two tiles of each kind.
    fn batch(labels: PerLevel<Tensor<2>>, spot_mean: Tensor<2>, region_mean: Tensor<2>) -> MagNetBatch {
        let device = labels.bin.device();
        let table = || NeighborIndices {
            index: Tensor::<2, Int>::zeros([1, 1], &device),
            valid: Tensor::<2, Int>::zeros([1, 1], &device).bool() as Tensor<2, Bool>,
        };
        let core = PerLevel {
            bin: labels.bin.dims()[0],
            spot: labels.spot.dims()[0],
            region: labels.region.dims()[0],
        };
        MagNetBatch {
            inputs: PerLevel::from_fn(|_| LevelInput::Encoded(Tensor::zeros([1, 1], &device))),
            graphs: PerLevel::from_fn(|_| table()),
            spot_context: table(),
            region_context: table(),
            parent_spot: indices(&[0], &device),
            parent_region: indices(&[0], &device),
            places: Tensor::<2, Int>::zeros([1, 2], &device),
            core,
            spot_mean,
            region_mean,
            labels: Some(labels),
            own_references: None,
        }
    }

    fn statistics(mean: f32, sd: f32, genes: usize, device: &Device) -> PerLevel<GeneStatistics> {
        PerLevel::from_fn(|_| GeneStatistics {
            mean: Tensor::zeros([genes], device) + mean,
            sd: Tensor::zeros([genes], device) + sd,
        })
    }

    #[test]
    fn pearson_of_rows_is_one_minus_one_and_zero_where_it_must_be() {
        let device = Device::flex();
        let a = matrix(&[&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0], &[1.0, 0.0, 0.0]], &device);
        let b = matrix(&[&[2.0, 4.0, 6.0], &[3.0, 2.0, 1.0], &[1.0, 2.0, 3.0], &[1.0, 1.0, 0.0]], &device);
        // The last row: covariance 1/3 over √(2/3 · 2/3).
        assert_values(&values(&pearson_rows(a.clone(), b.clone())), &[1.0, -1.0, 0.0, 0.5], 1e-6);
        assert_values(&values(&pcc_loss(a, b)), &[1.0 - 0.5 / 4.0], 1e-6);
    }

    #[test]
    fn a_constant_row_has_a_finite_gradient() {
        let device = Device::flex().autodiff();
        let a = matrix(&[&[2.0, 2.0, 2.0]], &device).require_grad();
        let loss = pcc_loss(a.clone(), matrix(&[&[1.0, 2.0, 3.0]], &device));
        let gradient = a.grad(&loss.backward()).unwrap();
        assert!(values(&gradient).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn the_gradient_of_the_pearson_loss_agrees_with_finite_differences() {
        let device = Device::flex().autodiff();
        let target = noise("target", [3, 6], &device);
        assert_gradient(&noise("prediction", [3, 6], &device), 5e-3, 2e-3, |a| pcc_loss(a, target.clone()));
    }

    /// Two bins in spot 0, none in spot 1; both bins in the one region.
    fn example(device: &Device) -> (PerLevel<Tensor<2>>, MagNetBatch) {
        let predictions = PerLevel {
            bin: matrix(&[&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]], device),
            spot: matrix(&[&[0.0, 1.0, 0.0], &[9.0, 1.0, 4.0]], device),
            region: matrix(&[&[1.0, 0.0, 2.0]], device),
        };
        let labels = PerLevel {
            bin: matrix(&[&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0]], device),
            spot: matrix(&[&[0.0, 2.0, 0.0], &[9.0, 1.0, 4.0]], device),
            region: matrix(&[&[1.0, 0.0, 0.0]], device),
        };
        let spot_mean = matrix(&[&[1.0, 0.0], &[0.0, 0.0]], device);
        let region_mean = matrix(&[&[0.75, 0.25]], device);
        (predictions, batch(labels, spot_mean, region_mean))
    }

    #[test]
    fn the_hybrid_loss_is_the_weighted_sum_of_its_terms() {
        let device = Device::flex();
        let (predictions, batch) = example(&device);
        let config = LossConfig { mse_wide: 0.2, ..LossConfig::default() };
        let loss = hybrid_loss(&config, &predictions, &batch, &statistics(0.0, 1.0, 3, &device)).unwrap();

        // Squared errors: (0,0,4) and (4,0,4) over 6; (0,1,0) over 6; (0,0,4) over 3.
        assert_values(&values(&loss.mse.bin), &[2.0], 1e-6);
        assert_values(&values(&loss.mse.spot), &[1.0 / 6.0], 1e-6);
        assert_values(&values(&loss.mse.region), &[4.0 / 3.0], 1e-6);
        // Bin 0: (−1,0,1)·(−5/3,−2/3,7/3) = 4 over √(2·26/3); bin 1: −1.
        let bin = 1.0 - (4.0 / (2.0_f32 * 26.0 / 3.0).sqrt() - 1.0) / 2.0;
        assert_values(&values(&loss.pcc.bin), &[bin], 1e-6);
        assert_values(&values(&loss.pcc.spot), &[0.0], 1e-6);
        // Region: (0,−1,1)·(2/3,−1/3,−1/3) = 0.
        assert_values(&values(&loss.pcc.region), &[1.0], 1e-6);
        // Spot 0 against bin 0: (−1,0,1)·(−1/3,2/3,−1/3) = 0; spot 1 holds no bin and is left out.
        // Region: the bins' mean is (1.5,2,2.5): (−.5,0,.5)·(0,−1,1) = 0.5 over √(0.5·2).
        assert_values(&values(&loss.consistency), &[1.0 + 0.5], 1e-6);
        let total = 0.75 * 2.0 + 0.1 * bin + 0.2 * (1.0 / 6.0 + 4.0 / 3.0) + 0.05 * 1.0 + 0.05 * 1.5;
        assert_values(&values(&loss.total), &[total], 1e-6);
    }

    #[test]
    fn standardised_units_divide_by_the_training_deviation() {
        let device = Device::flex();
        let (predictions, batch) = example(&device);
        let config = LossConfig { units: LossUnits::Standardized, ..LossConfig::default() };
        let loss = hybrid_loss(&config, &predictions, &batch, &statistics(7.0, 2.0, 3, &device)).unwrap();
        assert_values(&values(&loss.mse.bin), &[0.5], 1e-6);

        // Where genes differ in spread, correlation over genes changes too.
        let mut uneven = statistics(0.0, 1.0, 3, &device);
        uneven.bin.sd = Tensor::from_floats([1.0, 1.0, 4.0], &device);
        let uneven = hybrid_loss(&config, &predictions, &batch, &uneven).unwrap();
        assert_ne!(values(&uneven.pcc.bin), values(&loss.pcc.bin));
    }

    #[test]
    fn the_gradient_of_the_hybrid_loss_agrees_with_finite_differences() {
        let device = Device::flex().autodiff();
        for units in [LossUnits::Label, LossUnits::Standardized] {
            let config =
                LossConfig { mse_wide: 0.3, pcc_wide: 0.4, consistency: 0.5, units, ..LossConfig::default() };
            let labels = PerLevel::from_fn(|level| {
                noise(&format!("label.{level}"), [if level == Level::Bin { 3 } else { 2 }, 4], &device)
            });
            let spot_mean = matrix(&[&[0.5, 0.5, 0.0], &[0.0, 0.0, 1.0]], &device);
            let region_mean = matrix(&[&[0.0, 0.0, 0.0], &[0.3, 0.3, 0.4]], &device);
            let batch = batch(labels, spot_mean, region_mean);
            let statistics = statistics(0.2, 0.5, 4, &device);
            // Rows 0-2 are bins, 3-4 spots, 5-6 regions.
            assert_gradient(&noise("predictions", [7, 4], &device), 5e-3, 5e-3, |rows| {
                let predictions = PerLevel {
                    bin: rows.clone().narrow(0, 0, 3),
                    spot: rows.clone().narrow(0, 3, 2),
                    region: rows.narrow(0, 5, 2),
                };
                hybrid_loss(&config, &predictions, &batch, &statistics).unwrap().total
            });
        }
    }

    #[test]
    fn missing_and_misshapen_labels_are_refused_by_field() {
        let device = Device::flex();
        let (predictions, batch) = example(&device);
        let config = LossConfig::default();
        let statistics = statistics(0.0, 1.0, 3, &device);
        let refused = |batch: &MagNetBatch| {
            hybrid_loss(&config, &predictions, batch, &statistics).unwrap_err().to_string()
        };
        let unlabelled = MagNetBatch { labels: None, ..batch.clone() };
        assert_eq!(refused(&unlabelled), "loss, `labels`: expected labels of every level, found none");
        let mut short = batch.clone();
        short.labels.as_mut().unwrap().spot = matrix(&[&[1.0, 2.0, 3.0]], &device);
        assert_eq!(refused(&short), "loss, `labels.spot`: expected [2, 3], found [1, 3]");
        let mut uneven = batch;
        uneven.region_mean = Tensor::zeros([1, 5], &device);
        assert_eq!(refused(&uneven), "loss, `region_mean`: expected [1, 2], found [1, 5]");
    }
}
