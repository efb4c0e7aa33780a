//! Figure 2, left: the trainable ResNet that reads bin patches, and the linear map to the feature width.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::PatchEncoderConfig;
use super::resnet::ResNet;
use super::weights::{WeightMap, WeightsError};
use crate::weights::Precision;

/// RGB patches to vectors of the feature width.
#[derive(Module, Debug)]
pub struct PatchEncoder {
    resnet: ResNet,
    dropout: Dropout,
    fc: Linear,
}

impl PatchEncoderConfig {
    /// Builds the encoder; `width` is the feature width `D`.
    pub fn init(&self, width: usize, device: &Device) -> PatchEncoder {
        let resnet = ResNet::new(self, device);
        let fc = LinearConfig::new(resnet.feature_width(), width).init(device);
        PatchEncoder { resnet, dropout: DropoutConfig::new(self.dropout).init(), fc }
    }
}

impl PatchEncoder {
    /// ResNet → dropout → linear.
    ///
    /// # Shapes
    /// - `patches`: `[N,3,P,P]` RGB in 0..1
    /// - output: `[N,D]`
    pub fn forward(&self, patches: Tensor<4>) -> Tensor<2> {
        self.fc.forward(self.dropout.forward(self.pooled(patches)))
    }

    /// What the ResNet sees, before dropout and the linear map.
    ///
    /// # Shapes
    /// - `patches`: `[N,3,P,P]` RGB in 0..1
    /// - output: `[N,F]`
    pub fn pooled(&self, patches: Tensor<4>) -> Tensor<2> {
        self.resnet.forward(patches)
    }

    /// The encoder with its ResNet as prediction runs it; see [`Model::for_inference`](super::Model::for_inference).
    pub(crate) fn for_inference(self, precision: Precision) -> Self {
        Self { resnet: self.resnet.for_inference(precision), ..self }
    }

    /// The encoder with its ResNet's weights taken from a torchvision file, as a start for training; the linear map
    /// to `D` keeps its own.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn load_torchvision(self, weights: WeightMap) -> Result<Self, WeightsError> {
        let Self { resnet, dropout, fc } = self;
        Ok(Self { resnet: resnet.load_torchvision(weights)?, dropout, fc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResNetDepth;
    use crate::model::testing::{assert_close, filled, noise, pseudo_random};

    #[test]
    fn the_encoder_is_the_linear_map_of_the_pooled_vector() {
        let device = Device::flex();
        let config = PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 1,
            dropout: 0.5,
            ..PatchEncoderConfig::default()
        };
        let encoder = filled(config.init(4, &device), |name, index| match name {
            // fc sums the first two of the eight features into every output.
            "fc.weight" => f32::from(u8::from(index / 4 < 2)),
            "fc.bias" => 1.0,
            name if name.contains("running_var") => 1.0,
            name => 0.3 * pseudo_random(name, index) as f32,
        });
        let patches = noise("patches", [2, 3 * 16 * 16], &device).reshape([2, 3, 16, 16]);
        let pooled = encoder.pooled(patches.clone());
        let sum = pooled.narrow(1, 0, 2).sum_dim(1) + 1.0;
        // No gradient is asked for on this device, so nothing is dropped out.
        assert_close(&encoder.forward(patches), &sum.expand([2, 4]), 1e-5);
    }
}
