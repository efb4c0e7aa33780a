//! The operations of the tape: the stem, and a residual block.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::layer::{BandSums, Layer, LayerGradient, Parameters};
use super::{Normalized, map_tensor, tensor, values};
use crate::model::convolution::{Loan, Map, Memory, max_pool, max_pool_gradient, pooled_sizes};

/// An operation after its forward pass.
pub(super) trait Step: std::fmt::Debug + Send + Sync {
    /// The gradients of the parents that want one, in their order: the input, then weight, γ and β of each layer.
    fn backward(&self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>>;
}

/// Parameters of a layer, its stride, and the ε of its norm.
pub(super) type Learned = (Parameters, usize, f64);

/// The first convolution, with ReLU and pooling.
#[derive(Debug)]
pub(super) struct Stem {
    input: Map<Loan>,
    pub layer: Layer,
    /// After ReLU, in the margin that pooling reads.
    output: Map<Loan>,
    memory: Memory,
}

impl Stem {
    /// # Shapes
    /// - `pixels`: `[N,3,P,P]`
    pub fn new(
        parameters: &Parameters,
        layer: &Normalized<'_>,
        pixels: &FlexTensor,
        memory: &Memory,
    ) -> Self {
        let [images, channels, height, width] = [0, 1, 2, 3].map(|axis| pixels.layout().shape()[axis]);
        let margin = layer.convolution.kernel_size[0] / 2;
        let mut input = memory.map([images, height, width, channels], margin);
        let one = Map { images: 1, ..input.with(()) };
        let maps = input.view_mut().values.par_chunks_exact_mut(one.image());
        let pixels = values(pixels).par_chunks_exact(channels * height * width);
        maps.zip(pixels).for_each(|(map, pixels)| one.with(map).write_channels_first(pixels));
        let layer =
            Layer::new(parameters, layer.convolution.stride[0], layer.norm.epsilon, input.view(), memory);
        let output = layer.output(None, true, 1);
        Self { input, layer, output, memory: memory.clone() }
    }

    /// The pooled map.
    pub fn output(&self, margin: usize) -> Map<Loan> {
        let mut pooled = self.memory.map(pooled_sizes(&self.output), margin);
        let bands = pooled.view_mut().cut(1).into_par_iter();
        bands.for_each(|(band, pooled)| max_pool(self.output.view(), &band, pooled));
        pooled
    }
}

impl Step for Stem {
    fn backward(&self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let [images, height, width, channels] = pooled_sizes(&self.output);
        // The margin of the pooled map is not noted: it is what the gradient is larger by.
        let margin = gradient.layout().shape()[1].saturating_sub(height) / 2;
        let to = Map { values: (), images: 1, height, width, channels, margin };
        let mut before = self.memory.zeros([images, self.output.height, self.output.width, channels], 1);
        let from = Map { images: 1, ..self.output.with(()) };
        let maps = self.output.view().values.par_chunks_exact(from.image());
        let gradients = values(&gradient).par_chunks_exact(to.image());
        before
            .view_mut()
            .values
            .par_chunks_exact_mut(from.image())
            .zip(maps.zip(gradients))
            .for_each(|(out, (map, gradient))| max_pool_gradient(from.with(map), to.with(gradient), out));
        let sums = self.layer.gate(&mut before, Some(self.output.view()));
        let LayerGradient { raw, gamma, beta } = self.layer.through_norm(&before, &sums);
        let weight = wants(wanted, 1).then(|| self.layer.weight_gradient(self.input.view(), &raw));
        let input = wants(wanted, 0).then(|| {
            let map = self.layer.input_gradient(&self.input, raw, None);
            let mut pixels = vec![0.0; map.images * map.channels * map.height * map.width];
            map.view().read_channels_first(&mut pixels);
            tensor(pixels, [map.images, map.channels, map.height, map.width])
        });
        vec![input, weight, Some(gamma), Some(beta)]
    }
}

/// A residual block.
#[derive(Debug)]
pub(super) struct Residual {
    input: Map<FlexTensor>,
    path: Vec<Layer>,
    /// The outputs of all layers of the path but the last.
    within: Vec<Map<Loan>>,
    shortcut: Option<Layer>,
    output: Map<FlexTensor>,
    memory: Memory,
}

impl Residual {
    /// Runs the block; with the sizes of its output.
    pub fn new(
        input: Map<FlexTensor>,
        path: &[Learned],
        shortcut: Option<&Learned>,
        memory: &Memory,
    ) -> (Self, Map<()>) {
        let run = |(parameters, stride, epsilon): &Learned, input: Map<&[f32]>| {
            Layer::new(parameters, *stride, *epsilon, input, memory)
        };
        let own = input.with(values(&input.values));
        let shortcut = shortcut.map(|learned| run(learned, own));
        let around = shortcut.as_ref().map(|layer| layer.output(None, false, input.margin));
        let around = around.as_ref().map_or(own.values, |map| map.view().values);
        let (mut layers, mut within, mut output) = (Vec::new(), Vec::<Map<Loan>>::new(), None);
        for (index, learned) in path.iter().enumerate() {
            let layer = run(learned, within.last().map_or(own, Map::view));
            match path.get(index + 1) {
                Some((next, ..)) => {
                    let kernel = next.weight.layout().shape()[2];
                    within.push(layer.output(None, true, kernel / 2));
                }
                None => output = Some(layer.output(Some(around), true, input.margin)),
            }
            layers.push(layer);
        }
        // A path has a layer; without one its output would be its input.
        let output = match output {
            Some(output) => output.with(()).with(map_tensor(output)),
            None => input.clone(),
        };
        let sizes = output.with(());
        (Self { input, path: layers, within, shortcut, output, memory: memory.clone() }, sizes)
    }

    /// The layers of the path, then that of the shortcut.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.path.iter().chain(&self.shortcut)
    }

    /// `[N,H + 2·margin,W + 2·margin,C]`
    pub fn output(&self) -> FlexTensor {
        self.output.values.clone()
    }
}

impl Step for Residual {
    fn backward(&self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let input = self.input.with(values(&self.input.values));
        let mut gradients: Vec<Option<FlexTensor>> = vec![None; 1 + 3 * self.layers().count()];
        let mut put = |layer: usize, of: Option<FlexTensor>, gamma, beta| {
            for (slot, gradient) in
                gradients.iter_mut().skip(1 + 3 * layer).zip([of, Some(gamma), Some(beta)])
            {
                *slot = gradient;
            }
        };
        let weight = |at: usize, layer: &Layer, input: Map<&[f32]>, raw: &Map<Loan>| {
            wants(wanted, 1 + 3 * at).then(|| layer.weight_gradient(input, raw))
        };
        // ReLU's gate stays in this gradient, which is the shortcut's too.
        let mut outer = self.memory.adopt(self.output.with(owned(gradient)));
        let gate = self.output.with(values(&self.output.values));
        let mut of_path: Option<(Map<Loan>, Vec<BandSums>)> = None;
        let mut last = None;
        for (at, layer) in self.path.iter().enumerate().rev() {
            let LayerGradient { raw, gamma, beta } = match of_path.take() {
                Some((gradient, sums)) => layer.through_norm(&gradient, &sums),
                None => {
                    let sums = layer.gate(&mut outer, Some(gate));
                    layer.through_norm(&outer, &sums)
                }
            };
            let before =
                at.checked_sub(1).and_then(|at| Some((self.path.get(at)?, self.within.get(at)?.view())));
            put(at, weight(at, layer, before.map_or(input, |(_, map)| map), &raw), gamma, beta);
            match before {
                Some((before, map)) => of_path = Some(layer.gated_gradient(before, map, raw)),
                None => last = Some((layer, raw)),
            }
        }
        let mut around = None;
        if let Some(layer) = &self.shortcut {
            let sums = layer.gate(&mut outer, None);
            let LayerGradient { raw, gamma, beta } = layer.through_norm(&outer, &sums);
            put(self.path.len(), weight(self.path.len(), layer, input, &raw), gamma, beta);
            around = wants(wanted, 0).then(|| layer.input_gradient(&input, raw, None));
        }
        if let (true, Some((layer, raw))) = (wants(wanted, 0), last) {
            let around = around.as_ref().unwrap_or(&outer).view();
            let gradient = layer.input_gradient(&input, raw, Some(around.values));
            gradients[0] = Some(map_tensor(gradient));
        }
        gradients
    }
}

fn wants(wanted: &[bool], parent: usize) -> bool {
    wanted.get(parent).copied().unwrap_or(false)
}

/// The values of a tensor, without a copy where nobody else holds them.
fn owned(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap_or_default()
}
