//! The terms of the hybrid loss as numbers.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::tensor::Tensor;
use magnet_core::level::PerLevel;
use magnet_core::loss::HybridLoss;
use serde::{Deserialize, Serialize};

/// The terms of the hybrid loss, unweighted, and their weighted sum.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LossTerms {
    /// What training minimises.
    pub total: f64,
    /// Mean squared error of each level, in the loss's units.
    pub mse: PerLevel<f64>,
    /// `1 − Pearson` over the genes, of each level.
    pub pcc: PerLevel<f64>,
    /// Disagreement between adjacent levels.
    pub consistency: f64,
}

impl LossTerms {
    /// Reads the terms from the device, in one transfer.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(loss: &HybridLoss) -> Result<Self> {
        let terms = [
            &loss.total,
            &loss.mse.bin,
            &loss.mse.spot,
            &loss.mse.region,
            &loss.pcc.bin,
            &loss.pcc.spot,
            &loss.pcc.region,
            &loss.consistency,
        ];
        let terms = terms.into_iter().map(|term| term.clone().detach().inner()).collect();
        let values = Tensor::cat(terms, 0).try_into_vec_as::<f32>().map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Self::from_values(|index| values.get(index).copied().unwrap_or(f32::NAN).into()))
    }

    fn from_values(value: impl Fn(usize) -> f64) -> Self {
        Self {
            total: value(0),
            mse: PerLevel { bin: value(1), spot: value(2), region: value(3) },
            pcc: PerLevel { bin: value(4), spot: value(5), region: value(6) },
            consistency: value(7),
        }
    }

    fn values(&self) -> [f64; 8] {
        let (mse, pcc) = (&self.mse, &self.pcc);
        [self.total, mse.bin, mse.spot, mse.region, pcc.bin, pcc.spot, pcc.region, self.consistency]
    }

    /// Adds `weight` times other terms.
    pub fn add(&mut self, other: &Self, weight: f64) {
        let (own, other) = (self.values(), other.values());
        *self = Self::from_values(|index| own[index] + weight * other[index]);
    }

    /// All terms divided by a number; unchanged for 0.
    pub fn divided(&self, by: f64) -> Self {
        let own = self.values();
        let by = if by == 0.0 { 1.0 } else { by };
        Self::from_values(|index| own[index] / by)
    }

    /// The terms by name, to store.
    pub fn to_map(&self) -> BTreeMap<String, f64> {
        NAMES.iter().map(|name| name.to_string()).zip(self.values()).collect()
    }

    /// The terms from a map of [`LossTerms::to_map`]; what is missing is 0.
    pub fn from_map(map: &BTreeMap<String, f64>) -> Self {
        Self::from_values(|index| {
            NAMES.get(index).and_then(|name| map.get(*name)).copied().unwrap_or_default()
        })
    }
}

const NAMES: [&str; 8] =
    ["total", "mse_bin", "mse_spot", "mse_region", "pcc_bin", "pcc_spot", "pcc_region", "consistency"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_their_map_and_average() {
        let terms = LossTerms::from_values(|index| index as f64 + 0.1);
        assert_eq!(LossTerms::from_map(&terms.to_map()), terms);
        let mut sum = LossTerms::default();
        sum.add(&terms, 1.0);
        sum.add(&terms, 3.0);
        let mean = sum.divided(4.0).values();
        assert!(mean.iter().zip(terms.values()).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
