//! Figure 2, middle: a bin attends to its context at a wider level, the parent tile and the parent's neighbours.
//!
//! The keys of a bin are 1 + K rows of the level's tiles. Gathering them per bin and projecting afterwards (what
//! Burn's `MultiHeadAttention` would need) costs `B·(1+K)·D²`; the tiles of one spatial block are few, so here each
//! tile is projected once, every bin is scored against all tiles of the block, and tiles outside a bin's context are
//! masked: `S·D² + B·S·D`, all of it matrix products, with nothing scattered in the backward pass. The result is the
//! same scaled dot-product attention, because a masked score weighs exactly 0.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, IndexingUpdateOp, Tensor};

use super::MASKED_SCORE;
use super::config::CrossLevelConfig;
use crate::batch::NeighborIndices;

/// Multi-head scaled dot-product attention of bins over the tiles of one wider level.
#[derive(Module, Debug)]
pub struct CrossLevelAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    dropout: Dropout,
    heads: usize,
    neighbors: bool,
}

impl CrossLevelConfig {
    /// Builds the attention for feature width `width`, which `heads` must divide.
    pub fn init(&self, width: usize, device: &Device) -> CrossLevelAttention {
        let linear = || LinearConfig::new(width, width).init(device);
        CrossLevelAttention {
            query: linear(),
            key: linear(),
            value: linear(),
            output: linear(),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            neighbors: self.neighbors,
        }
    }
}

impl CrossLevelAttention {
    /// What each bin takes from its context; the caller adds it to the bin.
    ///
    /// # Shapes
    /// - `bins`: `[B,D]`
    /// - `tiles`: `[S,D]`
    /// - `context`: `[B,1+K]` rows of `tiles`, the parent first and valid, no tile twice
    /// - output: `[B,D]`
    pub fn forward(&self, bins: Tensor<2>, tiles: Tensor<2>, context: &NeighborIndices) -> Tensor<2> {
        let [bin_count, width] = bins.dims();
        let [tile_count, _] = tiles.dims();
        let head_width = width / self.heads;
        let split = |tensor: Tensor<2>, rows: usize| {
            tensor.reshape([rows, self.heads, head_width]).swap_dims(0, 1) // [H,rows,D/H]
        };

        let query = split(self.query.forward(bins) / (head_width as f64).sqrt(), bin_count);
        let key = split(self.key.forward(tiles.clone()), tile_count);
        let value = split(self.value.forward(tiles), tile_count);

        let outside = self.outside(context, tile_count).unsqueeze_dim::<3>(0); // [1,B,S]
        let scores = query.matmul(key.swap_dims(1, 2)); // [H,B,S]
        let weights = softmax(scores.mask_fill(outside, MASKED_SCORE), 2);
        let attended = self.dropout.forward(weights).matmul(value); // [H,B,D/H]
        self.output.forward(attended.swap_dims(0, 1).reshape([bin_count, width]))
    }

    /// True where a tile is not in a bin's context.
    ///
    /// # Shapes
    /// - `context`: `[B,1+K]`
    /// - output: `[B,S]`
    fn outside(&self, context: &NeighborIndices, tile_count: usize) -> Tensor<2, Bool> {
        let keys = if self.neighbors { context.index.dims()[1] } else { 1 };
        let [bin_count, _] = context.index.dims();
        let index = context.index.clone().narrow(1, 0, keys);
        let valid = context.valid.clone().narrow(1, 0, keys).int();
        Tensor::zeros([bin_count, tile_count], &index.device())
            .scatter(1, index, valid, IndexingUpdateOp::Add)
            .equal_elem(0)
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig};

    use super::*;
    use crate::model::testing::{
        assert_close, assert_values, filled, matrix, noise, pseudo_random, table, values,
    };

    /// One head of width 1 in which every linear map is the identity.
    fn identity(neighbors: bool, device: &Device) -> CrossLevelAttention {
        let config = CrossLevelConfig { heads: 1, dropout: 0.0, neighbors, enabled: true };
        filled(config.init(1, device), |name, _| if name.ends_with("weight") { 1.0 } else { 0.0 })
    }

    #[test]
    fn attention_is_the_softmax_over_parent_and_neighbours() {
        let device = Device::flex();
        let bins = matrix(&[&[1.0], &[2.0]], &device);
        let tiles = matrix(&[&[0.0], &[1.0], &[5.0]], &device);
        let context = table(&[vec![Some(0), Some(1)], vec![Some(2), None]], &device);
        let attended = identity(true, &device).forward(bins, tiles, &context);
        // Bin 0: scores 0 and 1 over tiles 0 and 1. Bin 1: tile 2 alone.
        let e = std::f32::consts::E;
        assert_values(&values(&attended), &[e / (1.0 + e), 5.0], 1e-6);
    }

    #[test]
    fn with_the_parent_alone_the_bin_cannot_matter() {
        let device = Device::flex();
        let tiles = matrix(&[&[0.25], &[-3.0]], &device);
        let context = table(&[vec![Some(1), Some(0)], vec![Some(1), Some(0)]], &device);
        let attention = identity(false, &device);
        let attended = attention.forward(matrix(&[&[-7.0], &[9.0]], &device), tiles, &context);
        assert_eq!(values(&attended), [-3.0, -3.0]);
    }

    #[test]
    fn tiles_outside_the_context_contribute_exactly_nothing() {
        let device = Device::flex();
        let attention = identity(true, &device);
        let context = table(&[vec![Some(0), Some(1), None]], &device);
        let bins = matrix(&[&[1.5]], &device);
        let attended = |outside: f32| {
            values(&attention.forward(
                bins.clone(),
                matrix(&[&[0.5], &[-1.0], &[outside]], &device),
                &context,
            ))
        };
        assert_eq!(attended(0.0), attended(1e6));
    }

    #[test]
    fn the_result_is_that_of_multi_head_attention_over_the_gathered_context() {
        let device = Device::flex();
        let [bins, tiles, width, keys] = [5, 4, 8, 3];
        let config = CrossLevelConfig { heads: 2, dropout: 0.0, neighbors: true, enabled: true };
        let value = |name: &str, index: usize| pseudo_random(name, index) as f32;
        let ours = filled(config.init(width, &device), value);
        let burns = filled(MultiHeadAttentionConfig::new(width, 2).with_dropout(0.0).init(&device), value);

        let bin_rows = noise("bins", [bins, width], &device);
        let tile_rows = noise("tiles", [tiles, width], &device);
        let context = table(
            &[
                vec![Some(0), Some(1), Some(2)],
                vec![Some(3), None, Some(0)],
                vec![Some(2), None, None],
                vec![Some(1), Some(3), Some(0)],
                vec![Some(2), Some(3), None],
            ],
            &device,
        );
        let gathered = tile_rows
            .clone()
            .select(0, context.index.clone().reshape([bins * keys]))
            .reshape([bins, keys, width]);
        let input = MhaInput::new(bin_rows.clone().unsqueeze_dim(1), gathered.clone(), gathered)
            .mask_pad(context.valid.clone().bool_not());
        let expected = burns.forward(input).context.reshape([bins, width]);
        assert_close(&ours.forward(bin_rows, tile_rows, &context), &expected, 1e-5);
    }
}
