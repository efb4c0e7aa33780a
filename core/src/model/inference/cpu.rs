//! A residual network on the CPU: a few images at a time go through all of it, so that what one convolution writes is
//! still in the cache when the next one reads it. Natively the groups share the threads of rayon's pool.

use burn::tensor::{Tensor, TensorData};
#[cfg(not(target_family = "wasm"))]
use rayon::prelude::*;

use super::network::{Block, Folded, Network};
use crate::model::convolution::{Band, Convolution, Finish, Map, max_pool, pooled_sizes};

/// Pixels of the images that go through the network together, about: 4 of 112 px.
const GROUP_PIXELS: usize = 4 * 112 * 112;

/// The network and how it lays out its maps.
#[derive(Debug)]
pub(super) struct Executor {
    network: Network<Convolution>,
    /// Margin of the maps between blocks: what the first convolution of a block reads beyond the edge.
    margin: usize,
}

/// Memory of maps that nobody reads any more.
#[derive(Debug, Default)]
struct Scratch(Vec<Vec<f32>>);

impl Scratch {
    fn take(&mut self) -> Vec<f32> {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, map: Map) {
        self.0.push(map.values);
    }
}

impl Executor {
    pub(super) fn new(network: Network<Folded>) -> Self {
        let network = network.map(packed);
        let first = network.blocks.first().and_then(|block| block.path.first());
        let margin = first.map_or(0, Convolution::margin);
        Self { network, margin }
    }

    /// The network's last map.
    ///
    /// # Shapes
    /// - `input`: `[N,3,P,P]`, normalised
    /// - output: `[N,C,h,w]`
    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let device = input.device();
        let [images, channels, height, width] = input.dims();
        let pixels = input.into_data().convert::<f32>();
        let pixels = pixels.as_slice::<f32>().unwrap_or_default();
        let group = group_size(images, height * width);
        let group_pixels = (group * channels * height * width).max(1);
        let stem = self.network.stem.margin();
        let read = |scratch: &mut Scratch, pixels: &[f32]| {
            let input = Map::from_channels_first(scratch.take(), pixels, [channels, height, width], stem);
            self.run(scratch, input)
        };
        #[cfg(not(target_family = "wasm"))]
        let maps: Vec<Map> =
            pixels.par_chunks(group_pixels).with_min_len(2).map_init(Scratch::default, read).collect();
        #[cfg(target_family = "wasm")]
        let maps: Vec<Map> = {
            let mut scratch = Scratch::default();
            pixels.chunks(group_pixels).map(|pixels| read(&mut scratch, pixels)).collect()
        };
        let sizes = maps.first().map_or([0; 3], |map| [map.channels, map.height, map.width]);
        let [channels, rows, columns] = sizes;
        let mut values = vec![0.0; images * channels * rows * columns];
        let mut rest = values.as_mut_slice();
        for map in &maps {
            let (own, others) = rest.split_at_mut(map.images * channels * rows * columns);
            map.view().read_channels_first(own);
            rest = others;
        }
        Tensor::from_data(TensorData::new(values, [images, channels, rows, columns]), &device)
    }

    fn run(&self, scratch: &mut Scratch, input: Map) -> Map {
        let finish = Finish { shortcut: None, relu: true, margin: 1 };
        let stem = self.network.stem.forward(input.view(), finish, scratch.take());
        scratch.give(input);
        let mut pooled = Map::over(scratch.take(), pooled_sizes(&stem), self.margin);
        let band = Band::whole(&pooled);
        max_pool(stem.view(), &band, pooled.view_mut().values);
        scratch.give(stem);
        self.network.blocks.iter().fold(pooled, |map, block| self.block(scratch, block, map))
    }

    fn block(&self, scratch: &mut Scratch, block: &Block<Convolution>, input: Map) -> Map {
        let shortcut = block.shortcut.as_ref().map(|convolution| {
            let finish = Finish { shortcut: None, relu: false, margin: self.margin };
            convolution.forward(input.view(), finish, scratch.take())
        });
        let mut within: Option<Map> = None;
        for (index, convolution) in block.path.iter().enumerate() {
            let next = block.path.get(index + 1);
            let finish = Finish {
                shortcut: next.is_none().then(|| shortcut.as_ref().unwrap_or(&input).view().values),
                relu: true,
                margin: next.map_or(self.margin, Convolution::margin),
            };
            let map = convolution.forward(within.as_ref().unwrap_or(&input).view(), finish, scratch.take());
            if let Some(read) = within.replace(map) {
                scratch.give(read);
            }
        }
        if let Some(shortcut) = shortcut {
            scratch.give(shortcut);
        }
        match within {
            Some(map) => {
                scratch.give(input);
                map
            }
            None => input,
        }
    }
}

/// Images that go through the network together: few enough that every thread has some.
fn group_size(images: usize, pixels: usize) -> usize {
    #[cfg(not(target_family = "wasm"))]
    let threads = rayon::current_num_threads();
    #[cfg(target_family = "wasm")]
    let threads = 1;
    (GROUP_PIXELS / pixels.max(1)).min(images.div_ceil(threads.max(1))).max(1)
}

fn packed(folded: Folded) -> Convolution {
    let [_, channels_in, kernel, _] = folded.weight.dims();
    Convolution::new(&values(folded.weight), values(folded.bias), channels_in, kernel, folded.stride)
}

/// Values of a tensor in memory.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap_or_default()
}
