//! The training mean of each gene, whatever the image shows.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::model::BinModel;
use crate::batch::MagNetBatch;
use crate::model::MagNetConfig;

/// The mean of each gene's training labels as a model.
#[derive(Module, Debug)]
pub struct MeanModel {
    /// `[G]`
    mean: Param<Tensor<1>>,
    #[module(skip)]
    config: MagNetConfig,
}

impl MeanModel {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let mean = Param::from_tensor(Tensor::zeros([config.genes], device)).set_require_grad(false);
        Self { mean, config: config.clone() }
    }

    /// The model with the means, `G` of them; the caller has checked them.
    pub(super) fn with_mean(self, mean: &[f32]) -> Self {
        let data = TensorData::new(mean.to_vec(), [mean.len()]);
        Self { mean: self.mean.map(|old| Tensor::from_data(data, &old.device())), ..self }
    }
}

impl BinModel for MeanModel {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    /// There is nothing to see: one column, so that there is a row for each bin.
    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        Tensor::zeros([patches.dims()[0], 1], &patches.device())
    }

    fn width(&self) -> usize {
        1
    }

    fn predict(&self, bins: Tensor<2>, _batch: &MagNetBatch) -> Tensor<2> {
        let mean = self.mean.val();
        let [genes] = mean.dims();
        mean.reshape([1, genes]).expand([bins.dims()[0], genes])
    }

    fn learns_by_steps(&self) -> bool {
        false
    }
}
