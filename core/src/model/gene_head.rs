//! Figure 2, far right: from a node's vector to the expression of every gene.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

/// LayerNorm (where there is one) → dropout → linear → each gene's own scale and shift.
///
/// Scale and shift hold the standard deviation and mean of each gene's training labels, so that the linear map works
/// in units in which every gene is alike. They are saved with the weights and never trained.
#[derive(Module, Debug)]
pub struct GeneHead {
    norm: Option<LayerNorm>,
    dropout: Dropout,
    linear: Linear,
    /// `[G]`
    shift: Param<Tensor<1>>,
    /// `[G]`
    scale: Param<Tensor<1>>,
}

/// Mean and standard deviation of every gene's training labels at one level.
#[derive(Debug, Clone)]
pub struct GeneStatistics {
    /// `[G]`
    pub mean: Tensor<1>,
    /// `[G]`, above 0.
    pub sd: Tensor<1>,
}

impl GeneHead {
    /// Builds a head for vectors of width `width` and `genes` genes, with shift 0 and scale 1.
    pub fn new(width: usize, genes: usize, dropout: f64, device: &Device) -> Self {
        Self {
            norm: Some(LayerNormConfig::new(width).init(device)),
            dropout: DropoutConfig::new(dropout).init(),
            linear: LinearConfig::new(width, genes).init(device),
            shift: Param::from_tensor(Tensor::zeros([genes], device)).set_require_grad(false),
            scale: Param::from_tensor(Tensor::ones([genes], device)).set_require_grad(false),
        }
    }

    /// A head without LayerNorm and dropout: the linear map alone.
    #[cfg(feature = "comparators")]
    pub fn linear(width: usize, genes: usize, device: &Device) -> Self {
        Self { norm: None, ..Self::new(width, genes, 0.0, device) }
    }

    /// Expression in label units.
    ///
    /// # Shapes
    /// - `nodes`: `[N,D]`
    /// - output: `[N,G]`
    pub fn forward(&self, nodes: Tensor<2>) -> Tensor<2> {
        let nodes = match &self.norm {
            Some(norm) => norm.forward(nodes),
            None => nodes,
        };
        let standardized = self.linear.forward(self.dropout.forward(nodes));
        standardized * self.scale.val().unsqueeze() + self.shift.val().unsqueeze()
    }

    /// The statistics that the head holds.
    ///
    /// # Shapes
    /// - output: `[G]` each
    pub fn statistics(&self) -> GeneStatistics {
        GeneStatistics { mean: self.shift.val(), sd: self.scale.val() }
    }

    /// The head with these statistics, `G` values each; the caller has checked them.
    pub(crate) fn with_statistics(mut self, mean: &[f32], sd: &[f32]) -> Self {
        let replace = |param: Param<Tensor<1>>, values: &[f32]| {
            param
                .map(|old| Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &old.device()))
        };
        self.shift = replace(self.shift, mean);
        self.scale = replace(self.scale, sd);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{assert_values, filled, matrix, values};

    #[test]
    fn the_head_normalises_maps_scales_and_shifts() {
        let device = Device::flex();
        let head = filled(GeneHead::new(2, 1, 0.0, &device), |name, index| match name {
            "norm.gamma" | "scale" => 1.0,
            "linear.weight" => [1.0, 3.0][index],
            "linear.bias" => 0.5,
            _ => 0.0,
        });
        let nodes = matrix(&[&[1.0, 3.0]], &device);
        // LayerNorm of (1, 3) is (−1, 1): −1 + 3 + 0.5.
        assert_values(&values(&head.forward(nodes.clone())), &[2.5], 1e-4);
        let head = head.with_statistics(&[10.0], &[2.0]);
        assert_values(&values(&head.forward(nodes)), &[15.0], 1e-4);
    }

    #[test]
    fn the_statistics_are_not_trained() {
        let device = Device::flex().autodiff();
        let head = GeneHead::new(2, 1, 0.0, &device).with_statistics(&[1.0], &[2.0]);
        let head = head.valid().train();
        let gradients = head.forward(matrix(&[&[1.0, 3.0]], &device)).sum().backward();
        assert!(head.shift.val().grad(&gradients).is_none());
        assert!(head.scale.val().grad(&gradients).is_none());
        assert!(head.linear.weight.val().grad(&gradients).is_some());
    }
}
