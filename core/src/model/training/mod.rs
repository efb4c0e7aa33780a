//! A [`ResNet`](super::ResNet) as the CPU trains it: each residual block is one operation on Burn's tape, and within it
//! maps stay channels last. Batch norm takes the statistics of the batch, as Burn's module does.
//!
//! Statistics and gradients are summed band by band in their order, so that a step gives the same values with any
//! number of threads.

mod layer;
mod step;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Shape, Tensor, TensorData};

use super::convolution::{Loan, Map, Memory};
use super::inference::{Block, Network};
use layer::{Layer, Parameters};
use step::{Residual, Stem, Step};

/// A convolution and the batch norm that follows it.
pub(super) struct Normalized<'a> {
    pub convolution: &'a Conv2d,
    pub norm: &'a BatchNorm,
}

impl<'a> Normalized<'a> {
    pub fn new(convolution: &'a Conv2d, norm: &'a BatchNorm) -> Self {
        Self { convolution, norm }
    }
}

type Taped = FloatTensor<Autodiff<Flex>>;

/// The last map of patches that are normalised already. Nothing where Burn's own modules must make it: without a
/// tape, on another device, with frozen statistics, or of no patch.
///
/// # Shapes
/// - `input`: `[N,3,P,P]`
/// - output: `[N,C,h,w]`
pub(super) fn forward(
    network: &Network<Normalized<'_>>,
    memory: &Memory,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
    let device = input.device();
    if !device.is_autodiff() || device.clone().inner() != Device::flex() || input.dims().contains(&0) {
        return None;
    }
    if !network.layers().all(|layer| layer.norm.training.is_enabled()) {
        return None;
    }
    let margin = network.blocks.first()?.path.first()?.convolution.kernel_size[0] / 2;
    let mut map = stem(&network.stem, input.clone(), margin, memory)?;
    for block in &network.blocks {
        map = residual(block, map, memory)?;
    }
    let Map { values, height, width, .. } = map;
    let map = Tensor::<4>::from_primitive::<Autodiff<Flex>>(values);
    Some(map.narrow(1, margin, height).narrow(2, margin, width).permute([0, 3, 1, 2]))
}

/// The stem with its pooling.
fn stem(layer: &Normalized<'_>, input: Tensor<4>, margin: usize, memory: &Memory) -> Option<Map<Taped>> {
    let input = taped(input)?;
    let (parameters, mut parents) = parameters(layer)?;
    let step = Stem::new(&parameters, layer, &input.primitive().to_contiguous(), memory);
    let pooled = step.output(margin);
    update_statistics(layer.norm, &step.layer);
    parents.insert(0, input);
    let sizes = pooled.with(());
    Some(sizes.with(record(parents, Arc::new(step), map_tensor(pooled))?))
}

fn residual(block: &Block<Normalized<'_>>, input: Map<Taped>, memory: &Memory) -> Option<Map<Taped>> {
    let layers: Vec<&Normalized<'_>> = block.path.iter().chain(&block.shortcut).collect();
    let mut learned = Vec::new();
    let sizes = input.with(());
    let mut parents = vec![input.values];
    for layer in &layers {
        let (own, tensors) = parameters(layer)?;
        parents.extend(tensors);
        learned.push((own, layer.convolution.stride[0], layer.norm.epsilon));
    }
    let values = parents.first()?.primitive().to_contiguous();
    let (path, shortcut) = learned.split_at(block.path.len());
    let (step, sizes) = Residual::new(sizes.with(values), path, shortcut.first(), memory);
    for (layer, own) in layers.iter().zip(step.layers()) {
        update_statistics(layer.norm, own);
    }
    let output = step.output();
    Some(sizes.with(record(parents, Arc::new(step), output)?))
}

/// What a layer learns, and the same on the tape.
fn parameters(layer: &Normalized<'_>) -> Option<(Parameters, Vec<Taped>)> {
    let tensors = vec![
        taped(layer.convolution.weight.val())?,
        taped(layer.norm.gamma.val())?,
        taped(layer.norm.beta.val())?,
    ];
    let [weight, gamma, beta] = [0, 1, 2].map(|index: usize| tensors[index].primitive().to_contiguous());
    Some((Parameters { weight, gamma, beta }, tensors))
}

fn taped<const D: usize>(tensor: Tensor<D>) -> Option<Taped> {
    tensor.try_into_primitive::<Autodiff<Flex>>().ok()
}

/// Moves the running statistics of a norm towards those of the batch, as Burn's module does.
fn update_statistics(norm: &BatchNorm, layer: &Layer) {
    let device = norm.gamma.val().device();
    for (running, batch) in [(&norm.running_mean, &layer.mean), (&norm.running_var, &layer.variance)] {
        let batch = Tensor::<1>::from_floats(batch.as_slice(), &device);
        let old = running.value_sync().to_device(&device);
        running.update((old * (1.0 - norm.momentum) + batch * norm.momentum).detach());
    }
}

/// Puts a step on the tape; nothing for a number of parents that no block has.
fn record(parents: Vec<Taped>, step: Arc<dyn Step>, output: FlexTensor) -> Option<Taped> {
    match parents.len() {
        4 => record_of::<4>(parents, step, output),
        7 => record_of::<7>(parents, step, output),
        10 => record_of::<10>(parents, step, output),
        13 => record_of::<13>(parents, step, output),
        _ => None,
    }
}

fn record_of<const N: usize>(parents: Vec<Taped>, step: Arc<dyn Step>, output: FlexTensor) -> Option<Taped> {
    let parents = <[Taped; N]>::try_from(parents).ok()?;
    let prepared = OnTape.prepare::<NoCheckpointing>(parents.map(|parent| parent.node()));
    Some(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(step, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

#[derive(Debug)]
struct OnTape;

impl<const N: usize> Backward<Flex, N> for OnTape {
    type State = Arc<dyn Step>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let wanted: Vec<bool> = ops.parents.iter().map(Option::is_some).collect();
        let all = ops.state.backward(gradient, &wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(all) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// The values of a tensor that is contiguous.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_default()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

/// A map with its margin: `[N,H + 2·margin,W + 2·margin,C]`.
fn map_tensor(map: Map<Loan>) -> FlexTensor {
    let count = map.image() * map.images;
    let Map { images, height, width, channels, margin, .. } = map;
    tensor(map.values.keep(count), [images, height + 2 * margin, width + 2 * margin, channels])
}
