//! The shape of a residual network, whatever its convolutions are made of.

use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

/// A residual network up to its last map. Between the stem and the first block lies a max pooling of 3×3 with
/// stride 2.
#[derive(Debug)]
pub struct Network<C> {
    /// 7×7, stride 2.
    pub stem: C,
    /// In order.
    pub blocks: Vec<Block<C>>,
}

/// One residual block.
#[derive(Debug)]
pub struct Block<C> {
    /// ReLU follows each but the last; the shortcut is added to the last, and then comes its ReLU.
    pub path: Vec<C>,
    /// What the block's input goes through on its way around the path; none where it is unchanged.
    pub shortcut: Option<C>,
}

impl<C> Network<C> {
    /// All convolutions.
    #[cfg(not(target_family = "wasm"))]
    pub fn layers(&self) -> impl Iterator<Item = &C> {
        let blocks = self.blocks.iter().flat_map(|block| block.path.iter().chain(&block.shortcut));
        std::iter::once(&self.stem).chain(blocks)
    }

    /// The same network with every convolution made into another form of itself.
    pub fn map<T>(self, make: impl Fn(C) -> T) -> Network<T> {
        let blocks = self.blocks.into_iter().map(|block| Block {
            path: block.path.into_iter().map(&make).collect(),
            shortcut: block.shortcut.map(&make),
        });
        Network { stem: make(self.stem), blocks: blocks.collect() }
    }
}

/// A convolution with the batch norm that follows it folded in. Padding is half the kernel.
#[derive(Debug)]
pub struct Folded {
    /// `[C_out,C_in,k,k]`
    pub weight: Tensor<4>,
    /// `[C_out]`
    pub bias: Tensor<1>,
    /// Stride along both axes.
    pub stride: usize,
}

impl Folded {
    /// `γ·(w∗x − mean)/σ + β` as one convolution: `w·γ/σ`, and `β − mean·γ/σ`.
    pub fn new(convolution: &Conv2d, norm: &BatchNorm) -> Self {
        let device = convolution.weight.val().device();
        let mean = norm.running_mean.value().to_device(&device);
        let variance = norm.running_var.value().to_device(&device);
        let scale = norm.gamma.val().detach() / (variance + norm.epsilon).sqrt();
        let bias = norm.beta.val().detach() - mean * scale.clone();
        let channels = scale.dims()[0];
        let weight = convolution.weight.val().detach() * scale.reshape([channels, 1, 1, 1]);
        Self { weight, bias, stride: convolution.stride[0] }
    }
}
