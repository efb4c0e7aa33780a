//! The hybrid loss: squared error, correlation over the genes, and consistency between adjacent levels.
//!
//! Every term stays a tensor on the device; nothing is read back.

use burn::tensor::Tensor;

use crate::batch::MagNetBatch;
use crate::level::{Level, PerLevel};
use crate::model::{GeneStatistics, LossConfig, LossUnits};

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
/// each level against its own labels. Consistency is taken over the tiles that hold at least one core bin.
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
    let consistency = tile_consistency(&predictions.bin, &predictions.spot, &batch.spot_mean)
        + tile_consistency(&predictions.bin, &predictions.region, &batch.region_mean);

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

/// Pearson correlation of each row of `a` with the same row of `b`, with [`PEARSON_EPSILON`] under the root.
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
