//! ST-Net (He et al., "Integrating spatial gene expression and breast tumour morphology via deep learning", Nature
//! Biomedical Engineering 2020): a convolutional network on the patch of a spot, and a linear map to the genes.
//!
//! The paper's network is a DenseNet-121; here it is the ResNet of [`PatchEncoderConfig`](crate::model::PatchEncoderConfig), the same as MagNet's, so
//! that what differs is what the rest of MagNet adds. As in the paper, the map's bias starts at the training mean.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::model::BinModel;
use crate::batch::MagNetBatch;
use crate::model::{
    GeneHead, GeneStatistics, MagNetConfig, PatchEncoder, WeightMap, WeightsError, standardized,
};
use crate::weights::Precision;

/// ResNet → linear to `D` → linear to the genes.
#[derive(Module, Debug)]
pub struct StNet {
    patch_encoder: PatchEncoder,
    gene_head: GeneHead,
    #[module(skip)]
    config: MagNetConfig,
}

impl StNet {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        Self {
            patch_encoder: config.patch_encoder.init(config.width, device),
            gene_head: GeneHead::linear(config.width, config.genes, device),
            config: config.clone(),
        }
    }

    pub(super) fn with_statistics(self, statistics: &(Vec<f32>, Vec<f32>)) -> Self {
        Self { gene_head: standardized(self.gene_head, statistics), ..self }
    }

    pub(super) fn for_inference(self, precision: Precision) -> Self {
        Self { patch_encoder: self.patch_encoder.for_inference(precision), ..self }
    }

    pub(super) fn with_pretrained_encoder(self, weights: WeightMap) -> Result<Self, WeightsError> {
        Ok(Self { patch_encoder: self.patch_encoder.load_torchvision(weights)?, ..self })
    }
}

impl BinModel for StNet {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        self.patch_encoder.forward(patches)
    }

    fn width(&self) -> usize {
        self.config.width
    }

    fn predict(&self, bins: Tensor<2>, _batch: &MagNetBatch) -> Tensor<2> {
        self.gene_head.forward(bins)
    }

    fn statistics(&self) -> Option<GeneStatistics> {
        Some(self.gene_head.statistics())
    }
}
