//! HisToGene (Pang, Su and Li, "Leveraging information in spatial transcriptomics to predict super-resolution gene
//! expression from histology images in tumors", bioRxiv 2021.11.28.470212): a vision transformer whose tokens are
//! the spots of a section.
//!
//! A spot's patch is flattened and mapped to `D` by one linear map; learned vectors of the spot's column and row are
//! added; a pre-norm transformer lets all spots see each other; LayerNorm and a linear map give the genes. The loss
//! is the squared error.
//!
//! What differs from the paper:
//! - its sizes (patches of 112 px, `D` 1024, 8 layers, 16 heads, dropout 0.1) are whatever the configuration says;
//! - its sequence is a whole section, here it is a block of `train.batch_bins` bins: places count from the block's edge;
//! - pixels have ImageNet's mean and standard deviation taken out, because all models here read them so;
//! - genes are predicted in units of their training mean and standard deviation, as those of the other models are.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::model::BinModel;
use super::spot_transformer::SpotTransformer;
use crate::batch::MagNetBatch;
use crate::model::{GeneHead, GeneStatistics, MagNetConfig, normalized, standardized};

/// Flattened patch → linear to `D` → transformer over the spots → LayerNorm → linear to the genes.
#[derive(Module, Debug)]
pub struct HisToGene {
    embedding: Linear,
    transformer: SpotTransformer,
    gene_head: GeneHead,
    #[module(skip)]
    config: MagNetConfig,
}

impl HisToGene {
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let side = config.levels.bin.patch_px;
        Self {
            embedding: LinearConfig::new(3 * side * side, config.width).init(device),
            transformer: SpotTransformer::new(config, device),
            gene_head: GeneHead::new(config.width, config.genes, 0.0, device),
            config: config.clone(),
        }
    }

    pub(super) fn with_statistics(self, statistics: &(Vec<f32>, Vec<f32>)) -> Self {
        Self { gene_head: standardized(self.gene_head, statistics), ..self }
    }
}

impl BinModel for HisToGene {
    fn config(&self) -> &MagNetConfig {
        &self.config
    }

    fn encode(&self, patches: Tensor<4>) -> Tensor<2> {
        self.embedding.forward(normalized(patches).flatten(1, 3))
    }

    fn width(&self) -> usize {
        self.config.width
    }

    fn patch_px(&self) -> Option<usize> {
        Some(self.config.levels.bin.patch_px)
    }

    fn predict(&self, bins: Tensor<2>, batch: &MagNetBatch) -> Tensor<2> {
        self.gene_head.forward(self.transformer.forward(bins, &batch.places))
    }

    fn statistics(&self) -> Option<GeneStatistics> {
        Some(self.gene_head.statistics())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GENES, batch_at, model, predicted, row_of, with_bins};
    use super::*;
    use crate::level::Level;
    use crate::model::testing::{assert_close, noise, values};
    use crate::model::{Architecture, ExpressionModel};

    const ARCHITECTURE: Architecture = Architecture::HisToGene;

    #[test]
    fn every_spot_of_the_window_sees_every_other() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let batch = batch_at(&row_of(12), &device);
        let bins = noise("bins", [12, 8], &device);
        let last = noise("last", [1, 8], &device);
        let changed = Tensor::cat(vec![bins.clone().narrow(0, 0, 11), last], 0);
        let before = values(&predicted(&model, &with_bins(&batch, bins)));
        let after = values(&predicted(&model, &with_bins(&batch, changed)));
        for (spot, (before, after)) in before.chunks(GENES).zip(after.chunks(GENES)).enumerate() {
            assert_ne!(before, after, "spot {spot}");
        }
    }

    #[test]
    fn places_count_from_the_window_and_not_from_the_slide() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let at = [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0), (10.0, 10.0)];
        let bins = noise("bins", [4, 8], &device);
        let run = |at: &[(f64, f64)]| predicted(&model, &with_bins(&batch_at(at, &device), bins.clone()));
        assert_close(&run(&at), &run(&at.map(|(x, y)| (x + 5000.0, y + 300.0))), 1e-6);
        // The same spots in one row instead of a square.
        assert_ne!(values(&run(&at)), values(&run(&row_of(4))));
    }

    #[test]
    fn a_patch_is_read_pixel_by_pixel_and_of_one_size_only() {
        let device = Device::flex();
        let model = model(ARCHITECTURE, &device);
        let patches = noise("patches", [2, 3 * 16 * 16], &device).reshape([2, 3, 16, 16]);
        let encode =
            |patches: Tensor<4>| model.encode(Level::Bin, &crate::batch::LevelInput::Patches(patches));
        let encoded = encode(patches.clone()).unwrap();
        assert_eq!(encoded.dims(), [2, 8]);
        // The map is not the same for a patch that is turned: place within the patch matters.
        assert_ne!(values(&encoded), values(&encode(patches.clone().flip([3])).unwrap()));
        let text = encode(patches.narrow(2, 0, 8).narrow(3, 0, 8)).unwrap_err().to_string();
        assert!(text.contains("[N, 3, 16, 16]") && text.contains("[2, 3, 8, 8]"), "{text}");
    }
}
