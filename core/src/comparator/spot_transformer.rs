//! What HisToGene and Hist2ST share: a transformer over all spots of a window, each of which knows its place.

use burn::module::Module;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};

use crate::model::MagNetConfig;

/// Columns, and rows, that have a vector of their own, as published. The places beyond share the last one.
const PLACES: usize = 64;

/// Learned vectors for a spot's column and row, added to the spot, and a pre-norm transformer over the spots.
///
/// The window is a block, so places count from the block's own edge, and attention is quadratic in the bins of a block
/// and never in those of a slide.
#[derive(Module, Debug)]
pub struct SpotTransformer {
    columns: Embedding,
    rows: Embedding,
    encoder: TransformerEncoder,
}

impl SpotTransformer {
    /// Reads `width` and `depth`: layers, heads, feed-forward width and dropout.
    pub(super) fn new(config: &MagNetConfig, device: &Device) -> Self {
        let (width, depth) = (config.width, &config.depth);
        let places = EmbeddingConfig::new(PLACES, width);
        let encoder =
            TransformerEncoderConfig::new(width, depth.feed_forward * width, depth.heads, depth.layers)
                .with_dropout(depth.dropout)
                .with_norm_first(true);
        Self { columns: places.init(device), rows: places.init(device), encoder: encoder.init(device) }
    }

    /// Every spot in the light of all others.
    ///
    /// # Shapes
    /// - `spots`: `[B,D]`
    /// - `places`: `[B,2]` column and row
    /// - output: `[B,D]`
    pub(super) fn forward(&self, spots: Tensor<2>, places: &Tensor<2, Int>) -> Tensor<2> {
        let places = places.clone().clamp(0, PLACES as i64 - 1);
        let of = |table: &Embedding, axis| -> Tensor<2> {
            table.forward(places.clone().narrow(1, axis, 1)).squeeze_dim(1) // [B,1,D] → [B,D]
        };
        let placed = spots + of(&self.columns, 0) + of(&self.rows, 1);
        self.encoder.forward(TransformerEncoderInput::new(placed.unsqueeze())).squeeze_dim(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GENES, batch_at, model, predicted, row_of, with_bins};
    use super::*;
    use crate::level::PerLevel;
    use crate::model::testing::{assert_close, filled, noise, pseudo_random, values};
    use crate::model::{Architecture, DepthConfig, ExpressionModel};

    fn transformer(with_places: bool, device: &Device) -> SpotTransformer {
        let config = MagNetConfig {
            architecture: Architecture::HisToGene,
            width: 8,
            depth: DepthConfig { layers: 2, heads: 2, feed_forward: 2, ..DepthConfig::default() },
            ..MagNetConfig::default()
        };
        filled(SpotTransformer::new(&config, device), |name, index| match name {
            "columns.weight" | "rows.weight" if !with_places => 0.0,
            _ => pseudo_random(name, index) as f32,
        })
    }

    fn places(at: &[[i64; 2]], device: &Device) -> Tensor<2, Int> {
        Tensor::<1, Int>::from_ints(at.as_flattened(), device).reshape([at.len(), 2])
    }

    #[test]
    fn alike_spots_differ_by_their_column_and_by_their_row() {
        let device = Device::flex();
        let spots = noise("spot", [1, 8], &device).repeat_dim(0, 4);
        let at = places(&[[0, 0], [1, 0], [0, 1], [1, 0]], &device);
        let with: Vec<f32> = values(&transformer(true, &device).forward(spots.clone(), &at));
        let row = |index: usize| &with[index * 8..][..8];
        assert_ne!(row(0), row(1));
        assert_ne!(row(0), row(2));
        assert_ne!(row(1), row(2), "column 1 is not row 1");
        let apart = row(1).iter().zip(row(3)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "one place, one vector");
        let without = transformer(false, &device).forward(spots, &at);
        assert_close(&without.clone().narrow(0, 0, 1).repeat_dim(0, 4), &without, 1e-5);
    }

    #[test]
    fn places_beyond_the_tables_share_the_last_vector() {
        let device = Device::flex();
        let model = transformer(true, &device);
        let spots = noise("spots", [2, 8], &device);
        let inside = model.forward(spots.clone(), &places(&[[63, 2], [3, 63]], &device));
        let beyond = model.forward(spots.clone(), &places(&[[64, 2], [3, 100_000]], &device));
        assert_close(&inside, &beyond, 0.0);
        let before = model.forward(spots.clone(), &places(&[[62, 2], [3, 63]], &device));
        assert_ne!(values(&inside), values(&before));
        // What overflowed on its way to the device.
        let negative = model.forward(spots.clone(), &places(&[[-1, 2], [3, 63]], &device));
        assert_close(&negative, &model.forward(spots, &places(&[[0, 2], [3, 63]], &device)), 0.0);
    }

    /// The models that are built on it.
    const MODELS: [Architecture; 2] = [Architecture::HisToGene, Architecture::Hist2St];

    #[test]
    fn genes_come_in_the_units_of_their_training_labels() {
        let device = Device::flex();
        for architecture in MODELS {
            let plain = model(architecture, &device);
            let batch = with_bins(&batch_at(&row_of(2), &device), noise("bins", [2, 8], &device));
            let expected = predicted(&plain, &batch) * 2.0 + 10.0;
            let statistics = PerLevel::from_fn(|_| (vec![10.0; GENES], vec![2.0; GENES]));
            let scaled = plain.with_gene_statistics(&statistics).unwrap();
            assert_close(&predicted(&scaled, &batch), &expected, 1e-4);
            let own = scaled.gene_statistics().bin;
            assert_eq!((values(&own.mean), values(&own.sd)), (vec![10.0; GENES], vec![2.0; GENES]));
        }
    }

    #[test]
    fn one_spot_alone_and_more_columns_than_the_tables_hold_are_predicted() {
        let device = Device::flex();
        for (architecture, spots) in MODELS.into_iter().flat_map(|own| [(own, 1), (own, 70)]) {
            let model = model(architecture, &device);
            let batch = with_bins(&batch_at(&row_of(spots), &device), noise("bins", [spots, 8], &device));
            let values = values(&predicted(&model, &batch));
            assert_eq!(values.len(), GENES * spots);
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }
}
