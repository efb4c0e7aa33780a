//! Figure 2, the wide levels: a frozen pretrained encoder that turns spot and region patches into features.
//!
//! Its features are computed once and cached by whoever holds the slide; the model itself begins at the features.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::{PatchEncoderConfig, ResNetDepth};
use super::mobilenet::MobileNetV1;
use super::resnet::ResNet;
use super::weights::{WeightMap, WeightsError, read_safetensors};
use crate::weights::Precision;

/// A pretrained encoder that is never trained.
#[derive(Debug, Clone)]
pub enum FrozenEncoder {
    /// A torchvision ResNet; the feature is the pooled vector before `fc` (2048 wide for ResNet-50).
    ResNet(Box<ResNet>),
    /// MobileNetV1 with batch norm folded; the feature is the mean of the last map (1024 wide).
    MobileNetV1(Box<MobileNetV1>),
}

impl FrozenEncoder {
    /// Reads a `.safetensors` file from memory and takes the encoder that its tensor names belong to.
    ///
    /// # Errors
    /// Bytes that are not such a file, names of no known encoder, and tensors that do not fit the encoder.
    pub fn from_safetensors(bytes: Vec<u8>, device: &Device) -> Result<Self, WeightsError> {
        Self::from_weights(read_safetensors(bytes)?, device)
    }

    /// Takes the encoder that the tensor names belong to: torchvision's ResNet 18 to 152, or MobileNetV1.
    ///
    /// # Errors
    /// Names of no known encoder, and tensors that do not fit the encoder.
    pub fn from_weights(weights: WeightMap, device: &Device) -> Result<Self, WeightsError> {
        // Frozen modules take no batch statistics and drop nothing out, on whatever device they stand.
        if weights.contains_key("stem.weight") {
            let encoder = MobileNetV1::new(device).load(weights)?;
            return Ok(Self::MobileNetV1(Box::new(encoder.freeze())));
        }
        let depth = resnet_depth(&weights)?;
        let config = PatchEncoderConfig { depth, ..PatchEncoderConfig::default() };
        let encoder = ResNet::new(&config, device).load_torchvision(weights)?;
        Ok(Self::ResNet(Box::new(encoder.freeze().for_inference(Precision::Single))))
    }

    /// Width `F` of the features.
    pub fn feature_width(&self) -> usize {
        match self {
            FrozenEncoder::ResNet(encoder) => encoder.feature_width(),
            FrozenEncoder::MobileNetV1(encoder) => encoder.feature_width(),
        }
    }

    /// Normalises the patches as the encoder's training did and reads them; no gradient flows back.
    ///
    /// # Shapes
    /// - `patches`: `[N,3,P,P]` RGB in 0..1
    /// - output: `[N,F]`
    pub fn features(&self, patches: Tensor<4>) -> Tensor<2> {
        match self {
            FrozenEncoder::ResNet(encoder) => encoder.forward(patches),
            FrozenEncoder::MobileNetV1(encoder) => encoder.features(patches),
        }
        .detach()
    }
}

/// The ResNet whose block counts and block type the names show.
fn resnet_depth(weights: &WeightMap) -> Result<ResNetDepth, WeightsError> {
    let bottleneck = weights.contains_key("layer1.0.conv3.weight");
    let blocks: [usize; 4] = std::array::from_fn(|stage| {
        (0..)
            .take_while(|block| weights.contains_key(&format!("layer{}.{block}.conv1.weight", stage + 1)))
            .count()
    });
    [
        ResNetDepth::ResNet18,
        ResNetDepth::ResNet34,
        ResNetDepth::ResNet50,
        ResNetDepth::ResNet101,
        ResNetDepth::ResNet152,
    ]
    .into_iter()
    .find(|depth| depth.blocks() == blocks && (depth.expansion() > 1) == bottleneck)
    .ok_or_else(|| {
        let names: Vec<&str> = weights.keys().take(6).map(String::as_str).collect();
        WeightsError::UnknownEncoder {
            expected: "a torchvision ResNet (`conv1.weight`, `layer1.0.conv1.weight`, …) or MobileNetV1 \
                       (`stem.weight`, `block1.depthwise.weight`, …)"
                .to_owned(),
            found: if names.is_empty() {
                "no tensor".to_owned()
            } else {
                format!("`{}`, …", names.join("`, `"))
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{noise, values, weight_map};
    use crate::model::weights::{WeightLayout, WeightTensor};

    fn resnet18() -> WeightMap {
        let config = PatchEncoderConfig { depth: ResNetDepth::ResNet18, ..PatchEncoderConfig::default() };
        weight_map(&ResNet::new(&config, &Device::flex()), WeightLayout::PyTorch, |name, shape| {
            vec![if name.contains("running_var") { 1.0 } else { 0.01 }; shape.iter().product()]
        })
        .into_iter()
        .map(|(name, tensor)| {
            (name.replace("downsample.conv", "downsample.0").replace("downsample.bn", "downsample.1"), tensor)
        })
        .collect()
    }

    #[test]
    fn the_encoder_is_told_by_its_tensor_names() {
        let device = Device::flex();
        let resnet = FrozenEncoder::from_weights(resnet18(), &device).unwrap();
        assert!(matches!(resnet, FrozenEncoder::ResNet(_)));
        assert_eq!(resnet.feature_width(), 512);

        let mobilenet = weight_map(&MobileNetV1::new(&device), WeightLayout::Burn, |_, shape| {
            vec![0.01; shape.iter().product()]
        })
        .into_iter()
        .map(|(name, tensor)| {
            let name = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
                Some((index, rest)) => format!("block{}.{rest}", index.parse::<usize>().unwrap() + 1),
                None => name,
            };
            (name, tensor)
        })
        .collect();
        let mobilenet = FrozenEncoder::from_weights(mobilenet, &device).unwrap();
        assert!(matches!(mobilenet, FrozenEncoder::MobileNetV1(_)));
        assert_eq!(mobilenet.feature_width(), 1024);
    }

    #[test]
    fn unknown_names_and_bytes_that_are_no_file_are_refused() {
        let device = Device::flex();
        let other = WeightMap::from([(
            "vit.patch_embed.weight".to_owned(),
            WeightTensor { shape: vec![1], values: vec![0.0] },
        )]);
        let error = FrozenEncoder::from_weights(other, &device).unwrap_err();
        assert!(error.to_string().contains("found `vit.patch_embed.weight`"), "{error}");
        assert!(matches!(
            FrozenEncoder::from_weights(WeightMap::new(), &device),
            Err(WeightsError::UnknownEncoder { .. })
        ));
        assert!(matches!(
            FrozenEncoder::from_safetensors(b"not a weight file".to_vec(), &device),
            Err(WeightsError::Unreadable(_))
        ));
    }

    #[test]
    fn features_are_the_same_on_a_training_device_and_carry_no_gradient() {
        let plain = FrozenEncoder::from_weights(resnet18(), &Device::flex()).unwrap();
        let training = FrozenEncoder::from_weights(resnet18(), &Device::flex().autodiff()).unwrap();
        let patches = |device: &Device| noise("patches", [2, 3 * 32 * 32], device).reshape([2, 3, 32, 32]);
        let expected = plain.features(patches(&Device::flex()));
        for _ in 0..2 {
            let features = training.features(patches(&Device::flex().autodiff()));
            assert_eq!(values(&features), values(&expected));
            assert!(!features.is_require_grad());
        }
    }
}
