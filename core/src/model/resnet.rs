//! ResNet (He et al. 2016) in torchvision's form, so that its weights load by name.
//!
//! | torchvision | here |
//! | --- | --- |
//! | `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.bn1`, … | the same |
//! | `layerN.M.downsample.0`, `layerN.M.downsample.1` | `layerN.M.downsample.conv`, `layerN.M.downsample.bn` |
//! | batch norm's `weight`, `bias` | `gamma`, `beta` |
//! | `fc`, `*.num_batches_tracked` | not part of this network; dropped on load |

use burn::module::{Initializer, Module};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
#[cfg(not(target_family = "wasm"))]
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::config::{PatchEncoderConfig, Pooling, ResNetDepth};
#[cfg(not(target_family = "wasm"))]
use super::convolution::Memory;
use super::inference::{Block, Folded, FoldedResNet, Network};
#[cfg(not(target_family = "wasm"))]
use super::training::{self, Normalized};
use super::weights::{WeightLayout, WeightMap, WeightsError, load_weights};
use crate::weights::Precision;

/// Channels of the four stages at width 1.
const STAGE_CHANNELS: [usize; 4] = [64, 128, 256, 512];
/// Channel means of ImageNet, RGB in 0..1.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of ImageNet.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Added to the variance before the root when pooling the standard deviation.
const POOLING_EPSILON: f64 = 1e-6;

/// Patches with the mean and standard deviation of ImageNet's channels taken out.
///
/// # Shapes
/// - `patches`: `[N,3,P,P]` RGB in 0..1
/// - output: `[N,3,P,P]`
pub(crate) fn normalized(patches: Tensor<4>) -> Tensor<4> {
    let device = patches.device();
    let mean = Tensor::<1>::from_floats(IMAGENET_MEAN, &device).reshape([1, 3, 1, 1]);
    let std = Tensor::<1>::from_floats(IMAGENET_STD, &device).reshape([1, 3, 1, 1]);
    (patches - mean) / std
}

impl ResNetDepth {
    /// Number of blocks in each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            ResNetDepth::ResNet18 => [2, 2, 2, 2],
            ResNetDepth::ResNet34 | ResNetDepth::ResNet50 => [3, 4, 6, 3],
            ResNetDepth::ResNet101 => [3, 4, 23, 3],
            ResNetDepth::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Output channels of a block as a multiple of its inner channels: 1 for basic blocks, 4 for bottlenecks.
    pub fn expansion(self) -> usize {
        match self {
            ResNetDepth::ResNet18 | ResNetDepth::ResNet34 => 1,
            ResNetDepth::ResNet50 | ResNetDepth::ResNet101 | ResNetDepth::ResNet152 => 4,
        }
    }
}

/// One residual block: basic (two 3×3 convolutions) or bottleneck (1×1, 3×3, 1×1).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    downsample: Option<Downsample>,
}

/// Brings the block's input to the shape of its output.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
    bn: BatchNorm,
}

impl ResidualBlock {
    fn new(channels_in: usize, inner: usize, expansion: usize, stride: usize, device: &Device) -> Self {
        let channels_out = inner * expansion;
        let bottleneck = expansion > 1;
        // As in torchvision, a bottleneck strides in its 3×3 convolution.
        let (conv1, conv2) = if bottleneck {
            (convolution(channels_in, inner, 1, 1, device), convolution(inner, inner, 3, stride, device))
        } else {
            (convolution(channels_in, inner, 3, stride, device), convolution(inner, inner, 3, 1, device))
        };
        let downsample = (stride != 1 || channels_in != channels_out).then(|| Downsample {
            conv: convolution(channels_in, channels_out, 1, stride, device),
            bn: BatchNormConfig::new(channels_out).init(device),
        });
        Self {
            conv1,
            bn1: BatchNormConfig::new(inner).init(device),
            conv2,
            bn2: BatchNormConfig::new(inner).init(device),
            conv3: bottleneck.then(|| convolution(inner, channels_out, 1, 1, device)),
            bn3: bottleneck.then(|| BatchNormConfig::new(channels_out).init(device)),
            downsample,
        }
    }

    #[cfg(not(target_family = "wasm"))]
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.bn.forward(downsample.conv.forward(input.clone())),
            None => input.clone(),
        };
        let hidden = relu(self.bn1.forward(self.conv1.forward(input)));
        let hidden = self.bn2.forward(self.conv2.forward(hidden));
        let hidden = match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => bn3.forward(conv3.forward(relu(hidden))),
            _ => hidden,
        };
        relu(hidden + shortcut)
    }

    fn layers<'a, T>(&'a self, make: impl Fn(&'a Conv2d, &'a BatchNorm) -> T) -> Block<T> {
        let mut path = vec![make(&self.conv1, &self.bn1), make(&self.conv2, &self.bn2)];
        path.extend(self.conv3.iter().zip(&self.bn3).map(|(conv, bn)| make(conv, bn)));
        let shortcut = self.downsample.as_ref().map(|shortcut| make(&shortcut.conv, &shortcut.bn));
        Block { path, shortcut }
    }
}

/// A ResNet without its classifier: RGB patches to one pooled vector each.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    maxpool: MaxPool2d,
    layer1: Vec<ResidualBlock>,
    layer2: Vec<ResidualBlock>,
    layer3: Vec<ResidualBlock>,
    layer4: Vec<ResidualBlock>,
    #[module(skip)]
    pooling: Pooling,
    features: usize,
    #[module(skip)]
    folded: Option<FoldedResNet>,
    /// What a step of training on the CPU leaves for the next one.
    #[cfg(not(target_family = "wasm"))]
    #[module(skip)]
    memory: Memory,
}

impl ResNet {
    /// Builds the network with He initialisation; parameters are drawn when first used.
    ///
    /// `width_multiplier` scales the channels of every convolution; `stages` keeps the first stages only.
    pub fn new(config: &PatchEncoderConfig, device: &Device) -> Self {
        let scale = |channels: usize| ((channels as f64 * config.width_multiplier).round() as usize).max(1);
        let expansion = config.depth.expansion();
        let stem = scale(STAGE_CHANNELS[0]);
        let mut channels = stem;
        let mut stages =
            STAGE_CHANNELS.iter().zip(config.depth.blocks()).enumerate().map(|(stage, (&inner, blocks))| {
                if stage >= config.stages {
                    return Vec::new();
                }
                let inner = scale(inner);
                (0..blocks)
                    .map(|block| {
                        let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                        let built = ResidualBlock::new(channels, inner, expansion, stride, device);
                        channels = inner * expansion;
                        built
                    })
                    .collect()
            });
        let [layer1, layer2, layer3, layer4] = std::array::from_fn(|_| stages.next().unwrap_or_default());
        drop(stages);
        Self {
            conv1: convolution(3, stem, 7, 2, device),
            bn1: BatchNormConfig::new(stem).init(device),
            maxpool: stem_pooling(),
            layer1,
            layer2,
            layer3,
            layer4,
            pooling: config.pooling,
            features: match config.pooling {
                Pooling::Mean => channels,
                Pooling::MeanStd => 2 * channels,
            },
            folded: None,
            #[cfg(not(target_family = "wasm"))]
            memory: Memory::default(),
        }
    }

    /// The network in the form in which it runs fastest and learns nothing: it keeps its weights, but from here on
    /// [`forward`](Self::forward) reads what they are now, wherever they may be taken or changed to later.
    pub(super) fn for_inference(self, precision: Precision) -> Self {
        Self { folded: Some(FoldedResNet::new(self.layers(Folded::new), precision)), ..self }
    }

    /// Its convolutions, each with the batch norm that follows it.
    fn layers<'a, T>(&'a self, make: impl Fn(&'a Conv2d, &'a BatchNorm) -> T) -> Network<T> {
        let blocks = self.blocks().map(|block| block.layers(&make)).collect();
        Network { stem: make(&self.conv1, &self.bn1), blocks }
    }

    fn blocks(&self) -> impl Iterator<Item = &ResidualBlock> {
        self.layer1.iter().chain(&self.layer2).chain(&self.layer3).chain(&self.layer4)
    }

    /// Width of the pooled vector.
    pub fn feature_width(&self) -> usize {
        self.features
    }

    /// Normalises the patches as ImageNet's were and reads them.
    ///
    /// # Shapes
    /// - `patches`: `[N,3,P,P]` RGB in 0..1
    /// - output: `[N,F]`
    pub fn forward(&self, patches: Tensor<4>) -> Tensor<2> {
        self.forward_normalized(normalized(patches))
    }

    /// Reads patches that are normalised already.
    ///
    /// # Shapes
    /// - `input`: `[N,3,P,P]`
    /// - output: `[N,F]`
    fn forward_normalized(&self, input: Tensor<4>) -> Tensor<2> {
        let map = match &self.folded {
            Some(folded) => folded.forward(input),
            #[cfg(not(target_family = "wasm"))]
            None => training::forward(&self.layers(Normalized::new), &self.memory, &input)
                .unwrap_or_else(|| self.forward_by_modules(input)),
            // Nothing is trained in a browser: its engine holds no layer of batch norm.
            #[cfg(target_family = "wasm")]
            None => FoldedResNet::new(self.layers(Folded::new), Precision::Single).forward(input),
        };
        pool(map, self.pooling)
    }

    #[cfg(not(target_family = "wasm"))]
    fn forward_by_modules(&self, input: Tensor<4>) -> Tensor<4> {
        let stem = relu(self.bn1.forward(self.conv1.forward(input)));
        self.blocks().fold(self.maxpool.forward(stem), |map, block| block.forward(map))
    }

    /// The network with weights in torchvision's names; see the module's table. Stages that this network does not
    /// have are dropped like `fc`.
    ///
    /// # Errors
    /// Every tensor that is missing, unexpected or of another shape, in one error.
    pub fn load_torchvision(self, mut weights: WeightMap) -> Result<Self, WeightsError> {
        let absent: Vec<&str> = [
            ("layer1.", &self.layer1),
            ("layer2.", &self.layer2),
            ("layer3.", &self.layer3),
            ("layer4.", &self.layer4),
        ]
        .into_iter()
        .filter(|(_, blocks)| blocks.is_empty())
        .map(|(name, _)| name)
        .collect();
        weights.retain(|name, _| {
            !name.starts_with("fc.") && !absent.iter().any(|prefix| name.starts_with(prefix))
        });
        let weights = weights
            .into_iter()
            .map(|(name, tensor)| {
                let ours = name.replace(".downsample.0.", ".downsample.conv.");
                (ours.replace(".downsample.1.", ".downsample.bn."), tensor)
            })
            .collect();
        load_weights(self, weights, WeightLayout::PyTorch)
    }
}

/// From map to vector.
///
/// # Shapes
/// - `map`: `[N,C,h,w]`
/// - output: `[N,C]`, or `[N,2·C]` with the standard deviations after the means
fn pool(map: Tensor<4>, pooling: Pooling) -> Tensor<2> {
    let [nodes, channels, height, width] = map.dims();
    let map = map.reshape([nodes, channels, height * width]); // [N,C,h·w]
    let mean = map.clone().mean_dim(2); // [N,C,1]
    match pooling {
        Pooling::Mean => mean.reshape([nodes, channels]),
        Pooling::MeanStd => {
            let centred = map - mean.clone(); // [N,C,h·w]
            let variance = (centred.clone() * centred).mean_dim(2); // [N,C,1]
            let std = (variance + POOLING_EPSILON).sqrt();
            Tensor::cat(vec![mean, std], 1).reshape([nodes, 2 * channels])
        }
    }
}

/// What lies between the stem and the first block.
pub(super) fn stem_pooling() -> MaxPool2d {
    MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init()
}

fn convolution(
    channels_in: usize,
    channels_out: usize,
    kernel: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([channels_in, channels_out], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal { gain: std::f64::consts::SQRT_2, fan_out_only: true })
        .init(device)
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Gradients;

    use super::*;
    use crate::model::half_is_there;
    use crate::model::testing::{
        adapter, assert_close, assert_values, filled, name_hash, noise, pseudo_random, pseudo_random_at,
        shared_file, values, weight_map,
    };
    use crate::model::weights::{WeightTensor, expected_shapes, read_safetensors};

    fn config(depth: ResNetDepth) -> PatchEncoderConfig {
        PatchEncoderConfig { depth, ..PatchEncoderConfig::default() }
    }

    /// Trainable parameters: everything but the running statistics of batch norm.
    fn parameters(network: &ResNet) -> usize {
        expected_shapes(network, WeightLayout::Burn)
            .iter()
            .filter(|(name, _)| !name.contains("running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// A weight map of torchvision's names: `values(name, shape)`.
    fn torchvision(network: &ResNet, values: impl Fn(&str, &[usize]) -> Vec<f32>) -> WeightMap {
        let name = |ours: &str| {
            ours.replace("downsample.conv", "downsample.0").replace("downsample.bn", "downsample.1")
        };
        weight_map(network, WeightLayout::PyTorch, |ours, shape| values(&name(ours), shape))
            .into_iter()
            .map(|(ours, tensor)| (name(&ours), tensor))
            .collect()
    }

    #[test]
    fn parameter_counts_are_torchvisions_without_the_classifier() {
        for (depth, count) in [
            (ResNetDepth::ResNet18, 11_176_512),
            (ResNetDepth::ResNet34, 21_284_672),
            (ResNetDepth::ResNet50, 23_508_032),
            (ResNetDepth::ResNet101, 42_500_160),
            (ResNetDepth::ResNet152, 58_143_808),
        ] {
            assert_eq!(parameters(&ResNet::new(&config(depth), &Device::flex())), count, "{depth:?}");
        }
    }

    #[test]
    fn feature_width_follows_depth_multiplier_stages_and_pooling() {
        let device = Device::flex();
        let patches = noise("patches", [2, 3 * 32 * 32], &device).reshape([2, 3, 32, 32]);
        for (config, width) in [
            (PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet18) }, 64),
            (PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet50) }, 256),
            (PatchEncoderConfig { width_multiplier: 0.25, stages: 2, ..config(ResNetDepth::ResNet18) }, 32),
            (
                PatchEncoderConfig {
                    width_multiplier: 0.125,
                    stages: 3,
                    pooling: Pooling::MeanStd,
                    ..config(ResNetDepth::ResNet18)
                },
                64,
            ),
        ] {
            let network = ResNet::new(&config, &device);
            assert_eq!(network.feature_width(), width);
            assert_eq!(network.forward(patches.clone()).dims(), [2, width]);
        }
    }

    #[test]
    fn pooling_gives_the_mean_and_then_the_standard_deviation() {
        let device = Device::flex();
        let map = Tensor::<4>::from_floats([[[[1.0, 3.0], [1.0, 3.0]], [[5.0, 5.0], [5.0, 5.0]]]], &device);
        assert_values(&values(&pool(map.clone(), Pooling::Mean)), &[2.0, 5.0], 1e-6);
        assert_values(&values(&pool(map, Pooling::MeanStd)), &[2.0, 5.0, 1.0, 0.001], 1e-4);
    }

    #[test]
    fn imagenet_normalisation_happens_inside() {
        let device = Device::flex();
        let config = PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet18) };
        let network = ResNet::new(&config, &device);
        let mean =
            Tensor::<1>::from_floats(IMAGENET_MEAN, &device).reshape([1, 3, 1, 1]).expand([1, 3, 32, 32]);
        let zero = Tensor::zeros([1, 3, 32, 32], &device);
        assert_values(&values(&network.forward(mean)), &values(&network.forward_normalized(zero)), 1e-6);
    }

    #[test]
    fn folded_networks_agree_with_their_layers() {
        let device = Device::flex();
        for (config, side) in [
            (PatchEncoderConfig { width_multiplier: 0.25, ..config(ResNetDepth::ResNet18) }, 45),
            (PatchEncoderConfig { width_multiplier: 0.2, ..config(ResNetDepth::ResNet50) }, 32),
            (PatchEncoderConfig { width_multiplier: 0.5, stages: 1, ..config(ResNetDepth::ResNet18) }, 7),
            (PatchEncoderConfig { width_multiplier: 1.0, stages: 2, ..config(ResNetDepth::ResNet34) }, 50),
        ] {
            let layers = filled(ResNet::new(&config, &device), |name, index| {
                let noise = pseudo_random(name, index) as f32;
                if name.contains("running_var") { 1.0 + 0.5 * noise } else { 0.2 * noise }
            });
            let none = Tensor::zeros([0, 3, side, side], &device);
            assert_eq!(
                layers.clone().for_inference(Precision::Single).forward(none).dims(),
                [0, layers.feature_width()]
            );
            for images in [1, 5, 19] {
                let patches = noise("patches", [images, 3 * side * side], &device);
                let patches = patches.reshape([images, 3, side, side]);
                let expected = layers.forward_normalized(patches.clone());
                let on_cpu =
                    layers.clone().for_inference(Precision::Single).forward_normalized(patches.clone());
                assert_close(&on_cpu, &expected, 1e-5);
            }
        }
    }

    #[test]
    fn networks_on_an_adapter_agree_with_the_cpu() {
        let Some(adapter) = adapter() else { return };
        for (config, side) in [
            (PatchEncoderConfig { width_multiplier: 0.25, ..config(ResNetDepth::ResNet18) }, 45),
            (PatchEncoderConfig { width_multiplier: 0.2, stages: 3, ..config(ResNetDepth::ResNet50) }, 32),
        ] {
            let layers = filled(ResNet::new(&config, &Device::flex()), |name, index| {
                let noise = pseudo_random(name, index) as f32;
                if name.contains("running_var") { 1.0 + 0.5 * noise } else { 0.2 * noise }
            });
            let patches = noise("patches", [3, 3 * side * side], &Device::flex()).reshape([3, 3, side, side]);
            let expected = layers.forward_normalized(patches.clone());
            let there = layers.to_device(&adapter);
            let none = Tensor::zeros([0, 3, side, side], &adapter);
            assert_eq!(
                there.clone().for_inference(Precision::Single).forward(none).dims(),
                [0, there.feature_width()]
            );
            let features = |precision| {
                let network = there.clone().for_inference(precision);
                network.forward_normalized(patches.clone().to_device(&adapter)).to_device(&Device::flex())
            };
            let single = features(Precision::Single);
            assert_close(&single, &expected, 1e-5);
            let half = features(Precision::Half);
            assert_close(&half, &expected, 1e-2);
            assert_eq!(values(&half) != values(&single), half_is_there(&adapter));
        }
    }

    /// What a step of training gives.
    struct Trained {
        features: Vec<f32>,
        /// Of the input.
        gradient: Vec<f32>,
        /// Of what the network learns.
        gradients: Vec<Option<Vec<f32>>>,
        /// Running statistics of all norms afterwards.
        statistics: Vec<Vec<f32>>,
    }

    struct GradientsOf<'a>(&'a Gradients, Vec<Option<Vec<f32>>>);

    impl ModuleVisitor for GradientsOf<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(param.val().grad(self.0).map(|gradient| values(&gradient)));
        }
    }

    fn trained(
        network: ResNet,
        sizes: [usize; 4],
        forward: impl Fn(&ResNet, Tensor<4>) -> Tensor<2>,
    ) -> Trained {
        let device = Device::flex().autodiff();
        let count = sizes.iter().skip(1).product();
        let input = noise("patches", [sizes[0], count], &device).reshape(sizes).require_grad();
        let features = forward(&network, input.clone());
        let slope = noise("slope", features.dims(), &device);
        let gradients = (features.clone() * slope).sum().backward();
        let mut visitor = GradientsOf(&gradients, Vec::new());
        network.visit(&mut visitor);
        Trained {
            features: values(&features),
            gradient: values(&input.grad(&gradients).unwrap()),
            gradients: visitor.1,
            statistics: statistics(&network),
        }
    }

    fn statistics(network: &ResNet) -> Vec<Vec<f32>> {
        let network = network.layers(Normalized::new);
        let norms = network.layers().flat_map(|layer| [&layer.norm.running_mean, &layer.norm.running_var]);
        norms.map(|running| values(&running.value_sync())).collect()
    }

    fn learning(config: &PatchEncoderConfig) -> ResNet {
        filled(ResNet::new(config, &Device::flex().autodiff()), |name, index| {
            let noise = pseudo_random(name, index) as f32;
            match name {
                _ if name.ends_with("gamma") || name.contains("running_var") => 1.0 + 0.5 * noise,
                _ => 0.2 * noise,
            }
        })
    }

    /// Within a tolerance of the largest.
    #[track_caller]
    fn assert_alike(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
        let largest = expected.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
        assert_eq!(actual.len(), expected.len(), "{what}");
        for (actual, expected) in actual.iter().zip(expected) {
            assert!(
                (actual - expected).abs() <= tolerance * largest,
                "{what}: {actual} is not {expected} of {largest}"
            );
        }
    }

    #[test]
    fn a_step_of_training_is_that_of_burns_modules() {
        for (config, images, side) in [
            (PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet18) }, 3, 45),
            (PatchEncoderConfig { width_multiplier: 0.1, stages: 3, ..config(ResNetDepth::ResNet50) }, 5, 38),
            (PatchEncoderConfig { width_multiplier: 0.5, stages: 1, ..config(ResNetDepth::ResNet18) }, 1, 13),
            (PatchEncoderConfig { width_multiplier: 0.6, stages: 2, ..config(ResNetDepth::ResNet50) }, 2, 16),
        ] {
            let sizes = [images, 3, side, side];
            let own = trained(learning(&config), sizes, |network, input| {
                pool(
                    training::forward(&network.layers(Normalized::new), &network.memory, &input).unwrap(),
                    config.pooling,
                )
            });
            let burns = trained(learning(&config), sizes, |network, input| {
                pool(network.forward_by_modules(input), config.pooling)
            });
            assert_alike(&own.features, &burns.features, 1e-4, "features");
            assert_alike(&own.gradient, &burns.gradient, 1e-3, "gradient of the input");
            assert_eq!(own.gradients.len(), burns.gradients.len());
            for (index, pair) in own.gradients.iter().zip(&burns.gradients).enumerate() {
                match pair {
                    (Some(own), Some(burns)) => assert_alike(own, burns, 1e-3, &format!("gradient {index}")),
                    (None, None) => {}
                    (own, burns) => panic!("gradient {index}: {own:?} is not {burns:?}"),
                }
            }
            for (index, (own, burns)) in own.statistics.iter().zip(&burns.statistics).enumerate() {
                assert_alike(own, burns, 1e-4, &format!("statistics {index}"));
            }
        }
    }

    #[test]
    fn a_step_of_training_gives_the_same_bits_with_any_number_of_threads() {
        let config = PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet50) };
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(learning(&config), [7, 3, 33, 33], ResNet::forward_normalized))
        });
        assert_eq!(one.features, three.features);
        assert_eq!(one.gradients, three.gradients);
        assert_eq!(one.gradient, three.gradient);
    }

    #[test]
    fn what_is_frozen_learns_nothing_and_keeps_its_statistics() {
        let config =
            PatchEncoderConfig { width_multiplier: 0.125, stages: 2, ..config(ResNetDepth::ResNet18) };
        let frozen = trained(learning(&config).freeze(), [2, 3, 20, 20], ResNet::forward_normalized);
        assert!(frozen.gradients.iter().all(Option::is_none));
        assert_eq!(frozen.statistics, statistics(&learning(&config)));
        // A stem that is frozen in its weights alone.
        let mut network = learning(&config);
        network.conv1 = network.conv1.freeze();
        let partly = trained(network, [2, 3, 20, 20], ResNet::forward_normalized);
        let all = trained(learning(&config), [2, 3, 20, 20], ResNet::forward_normalized);
        let learnt = |step: &Trained| step.gradients.iter().flatten().count();
        assert_eq!(learnt(&partly), learnt(&all) - 1);
        assert_ne!(partly.statistics, frozen.statistics);
    }

    #[test]
    fn torchvision_weights_load_by_name_without_classifier_and_counters() {
        let device = Device::flex();
        let config = PatchEncoderConfig { width_multiplier: 0.125, ..config(ResNetDepth::ResNet50) };
        let value = |name: &str, index: usize| {
            if name.contains("running_var") { 1.0 } else { 0.1 * pseudo_random(name, index) as f32 }
        };
        let network = ResNet::new(&config, &device);
        let mut weights = torchvision(&network, |name, shape| {
            (0..shape.iter().product()).map(|index| value(name, index)).collect()
        });
        assert!(weights.contains_key("layer1.0.downsample.0.weight"));
        assert!(weights.contains_key("layer4.2.bn3.bias"));
        let extra = WeightTensor { shape: vec![1], values: vec![0.0] };
        for name in ["fc.weight", "fc.bias", "bn1.num_batches_tracked"] {
            weights.insert(name.to_owned(), extra.clone());
        }
        let loaded = network.clone().load_torchvision(weights.clone()).unwrap();
        let patches = noise("patches", [1, 3 * 32 * 32], &device).reshape([1, 3, 32, 32]);
        let ours = filled(network.clone(), |name, index| {
            let name = name
                .replace("downsample.conv", "downsample.0")
                .replace("downsample.bn", "downsample.1")
                .replace("gamma", "weight")
                .replace("beta", "bias");
            value(&name, index)
        });
        assert_eq!(values(&loaded.forward(patches.clone())), values(&ours.forward(patches)));

        // A network of fewer stages takes the same file.
        let shallow = ResNet::new(&PatchEncoderConfig { stages: 2, ..config }, &device);
        shallow.load_torchvision(weights.clone()).unwrap();

        // Whatever is wrong is said at once.
        weights.remove("conv1.weight");
        weights.insert("layer1.7.conv1.weight".to_owned(), extra.clone());
        weights.insert("bn1.weight".to_owned(), extra);
        let error = network.load_torchvision(weights).unwrap_err().to_string();
        for part in [
            "missing (conv1.weight)",
            "unexpected (layer1.7.conv1.weight)",
            "bn1.weight: expected [8], found [1]",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    /// The reference computed by PyTorch with weights filled by a formula.
    #[test]
    fn resnet50_agrees_with_pytorch_on_formula_weights() {
        let Some(golden) = shared_file("golden/published_small.safetensors") else { return };
        let expected = &read_safetensors(golden).unwrap()["encoder"];
        let device = Device::flex();
        let fill = |name: &str, shape: &[usize]| -> Vec<f32> {
            let hash = name_hash(&format!("encoder.{name}"));
            let size = shape.iter().product::<usize>();
            let limit = (3.0 / (size / shape[0]) as f64).sqrt();
            let value = |s: f64| match name {
                _ if name.ends_with("running_var") => 1.0 + 0.25 * (s + 1.0),
                _ if shape.len() > 1 => s * limit,
                _ if name.ends_with("weight") => 1.0 + 0.1 * s,
                _ => 0.1 * s,
            };
            (0..size).map(|index| value(pseudo_random_at(hash, index)) as f32).collect()
        };
        let network = ResNet::new(&config(ResNetDepth::ResNet50), &device);
        let weights = torchvision(&network, fill);
        let network = network.load_torchvision(weights).unwrap();

        let input: Vec<f32> =
            (0..9 * 3 * 64 * 64).map(|index| pseudo_random("input.bin", index) as f32).collect();
        let input = Tensor::<1>::from_floats(input.as_slice(), &device).reshape([9, 3, 64, 64]);
        let fc = Tensor::<1>::from_floats(fill("fc.weight", &[64, 2048]).as_slice(), &device);
        let bias = Tensor::<1>::from_floats(fill("fc.bias", &[64]).as_slice(), &device);
        let features = network.forward_normalized(input);
        let out = features.matmul(fc.reshape([64, 2048]).transpose()) + bias.unsqueeze();
        let largest = expected.values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert_eq!(expected.shape, [9, 64]);
        assert_values(&values(&out), &expected.values, 1e-4 * largest);
    }
}
