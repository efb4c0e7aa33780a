//! Figure 2, right: a transformer over the outputs of the graph layers of one node.

use burn::module::{Initializer, Module, Param};
use burn::nn::activation::ActivationConfig;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::tensor::{Device, Tensor};

use super::config::DepthConfig;

/// Learned positions, a transformer encoder, and the mean over the sequence.
#[derive(Module, Debug)]
pub struct DepthTransformer {
    /// `[L,D]`, one vector per place in the sequence.
    pub(super) positions: Param<Tensor<2>>,
    encoder: TransformerEncoder,
}

impl DepthConfig {
    /// Builds the transformer for sequences of `tokens` vectors of width `width`, which `heads` must divide.
    pub fn init(&self, tokens: usize, width: usize, device: &Device) -> DepthTransformer {
        let encoder =
            TransformerEncoderConfig::new(width, self.feed_forward * width, self.heads, self.layers)
                .with_dropout(self.dropout)
                .with_norm_first(false)
                .with_activation(ActivationConfig::Relu)
                .init(device);
        let positions = Initializer::Normal { mean: 0.0, std: 0.02 }.init([tokens, width], device);
        DepthTransformer { positions, encoder }
    }
}

impl DepthTransformer {
    /// One vector per node.
    ///
    /// # Shapes
    /// - `tokens`: `[N,L,D]`
    /// - output: `[N,D]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        let placed = tokens + self.positions.val().unsqueeze();
        mean_over_tokens(self.encoder.forward(TransformerEncoderInput::new(placed)))
    }
}

/// # Shapes
/// - `tokens`: `[N,L,D]`
/// - output: `[N,D]`
pub(super) fn mean_over_tokens(tokens: Tensor<3>) -> Tensor<2> {
    tokens.mean_dim(1).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{assert_close, filled, indices, noise, pseudo_random, values};

    fn transformer(with_positions: bool, device: &Device) -> DepthTransformer {
        let config =
            DepthConfig { layers: 2, heads: 2, feed_forward: 2, dropout: 0.0, ..DepthConfig::default() };
        filled(config.init(3, 8, device), |name, index| match name {
            "positions" if !with_positions => 0.0,
            _ => pseudo_random(name, index) as f32,
        })
    }

    #[test]
    fn the_order_of_the_tokens_matters_only_through_the_positions() {
        let device = Device::flex();
        let tokens = noise("tokens", [2, 24], &device).reshape([2, 3, 8]);
        let turned = tokens.clone().select(1, indices(&[2, 0, 1], &device));
        let without = transformer(false, &device);
        assert_close(&without.forward(tokens.clone()), &without.forward(turned.clone()), 1e-5);
        let with = transformer(true, &device);
        assert_ne!(values(&with.forward(tokens)), values(&with.forward(turned)));
    }

    #[test]
    fn nodes_are_read_one_by_one() {
        let device = Device::flex();
        let tokens = noise("tokens", [3, 24], &device).reshape([3, 3, 8]);
        let transformer = transformer(true, &device);
        let together = transformer.forward(tokens.clone());
        let alone = transformer.forward(tokens.narrow(0, 1, 1));
        assert_close(&together.narrow(0, 1, 1), &alone, 1e-5);
    }

    #[test]
    fn the_mean_runs_over_the_tokens() {
        let device = Device::flex();
        let tokens = Tensor::<3>::from_floats([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [4.0, 2.0]]], &device);
        assert_eq!(values(&mean_over_tokens(tokens)), [2.0, 4.0, 2.0, 1.0]);
    }
}
