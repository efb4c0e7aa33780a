//! A forward pass of a small fixed model, whose values are known.

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use magnet_core::batch::{LevelInput, MagNetBatch};
use magnet_core::coordinates::SlideUm;
use magnet_core::layout::SlideLayout;
use magnet_core::model::{
    CrossLevelConfig, DepthConfig, GraphConfig, MagNet, MagNetConfig, PatchEncoderConfig, ResNetDepth,
};
use magnet_core::weights::Weights;
use magnet_core::{Level, LevelGeometry, PerLevel};

/// Bins per side of the made-up tissue.
const SIDE: usize = 8;
/// Side of every patch, in pixels; one size for all levels keeps the number of kernels small.
const PATCH_PX: usize = 16;
/// Genes of the model.
pub const GENES: usize = 6;

/// Largest difference from the stored values that floating-point arithmetic explains, relative to the largest value.
pub const TOLERANCE: f64 = 1e-3;

/// Rows of each level whose values are stored below.
const STORED_ROWS: PerLevel<[usize; 3]> = PerLevel { bin: [0, 27, 63], spot: [0, 6, 15], region: [0, 1, 3] };

/// Their values, computed once on the CPU.
const STORED: PerLevel<[[f32; GENES]; 3]> = PerLevel {
    bin: [
        [0.02322944, -0.01713934, -0.05619814, -0.06100959, -0.03238754, 0.001327521],
        [0.0228556, -0.01290504, -0.04527813, -0.05321924, -0.03197499, 0.003238205],
        [0.02403751, -0.009689733, -0.04745528, -0.05862229, -0.03269895, 0.006774872],
    ],
    spot: [
        [0.01683105, 0.02410621, 0.03037796, 0.02651852, -0.009276683, -0.05809002],
        [0.02022013, 0.02853379, 0.03205502, 0.02654884, -0.006860002, -0.05349889],
        [0.02312027, 0.03091321, 0.03219897, 0.02671915, -0.004448394, -0.05061801],
    ],
    region: [
        [-0.03648868, -0.0148394, 0.03847687, 0.07388636, 0.06093083, 0.02586945],
        [-0.03860363, -0.01319536, 0.04193866, 0.07399113, 0.05847549, 0.02620498],
        [-0.0351413, -0.01609687, 0.03530595, 0.07289715, 0.06233754, 0.02562427],
    ],
};

/// What the model gave: the rows of each level, `GENES` values each.
#[derive(Debug, Clone)]
pub struct Forward {
    /// `[64,6]`, `[16,6]`, `[4,6]`, row-major.
    pub values: PerLevel<Vec<f32>>,
    /// Largest difference from the stored values, relative to the largest of them.
    pub difference: f64,
}

/// Runs the model on `device`.
///
/// # Errors
/// If the model cannot be built, or the device fails.
pub fn run(device: &Device) -> anyhow::Result<Forward> {
    let output = model(device)?.forward(&batch(device)?)?;
    let values = PerLevel::try_from_fn(|level| {
        let data = output.get(level).clone().try_into_vec_as::<f32>();
        data.map_err(|error| anyhow::anyhow!("{level} predictions: {error}"))
    })
    .context("the device did not return the result")?;
    let difference = difference_from_stored(&values);
    Ok(Forward { values, difference })
}

fn difference_from_stored(values: &PerLevel<Vec<f32>>) -> f64 {
    let mut largest = 0.0f64;
    let mut difference = 0.0f64;
    for level in Level::ALL {
        for (row, stored) in STORED_ROWS.get(level).iter().zip(STORED.get(level)) {
            for (gene, &stored) in stored.iter().enumerate() {
                let found = values.get(level).get(row * GENES + gene).copied().unwrap_or(f32::NAN);
                let apart = f64::from((found - stored).abs());
                // A NaN must not vanish in `max`.
                difference = if apart.is_nan() { f64::INFINITY } else { difference.max(apart) };
                largest = largest.max(f64::from(stored.abs()));
            }
        }
    }
    difference / largest.max(f64::MIN_POSITIVE)
}

fn config() -> MagNetConfig {
    let level = |tile_um| LevelGeometry { tile_um, patch_um: tile_um, patch_px: PATCH_PX };
    MagNetConfig {
        levels: PerLevel { bin: level(8.0), spot: level(16.0), region: level(32.0) },
        genes: GENES,
        width: 16,
        neighbors: 4,
        patch_encoder: PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 2,
            ..PatchEncoderConfig::default()
        },
        cross_level: CrossLevelConfig { heads: 4, ..CrossLevelConfig::default() },
        graph: GraphConfig { heads: 4, layers: 2, ..GraphConfig::default() },
        depth: DepthConfig { heads: 4, layers: 1, ..DepthConfig::default() },
        ..MagNetConfig::default()
    }
}

/// The model with weights that follow from their names and places alone.
fn model(device: &Device) -> anyhow::Result<MagNet> {
    let model = config().init(device)?;
    let mut weights = Weights::of(&model)?;
    for (name, array) in &mut weights.arrays {
        let phase = name.bytes().fold(0u32, |sum, byte| (sum * 31 + u32::from(byte)) % 6283);
        let fan_in = array.shape.iter().product::<usize>() / array.shape.first().copied().unwrap_or(1).max(1);
        let (offset, scale) = match array.shape.len() {
            // Factors and variances of normalisation layers stay near 1, biases near 0.
            1 if ["gamma", "var", "sd"].iter().any(|part| name.contains(part)) => (1.0, 0.2),
            1 => (0.0, 0.05),
            _ => (0.0, (4.0 / fan_in.max(1) as f64).sqrt()),
        };
        for (index, value) in array.values.iter_mut().enumerate() {
            *value = (offset + scale * (0.73 * index as f64 + f64::from(phase) / 1000.0).sin()) as f32;
        }
    }
    Ok(weights.load_into(model)?)
}

fn batch(device: &Device) -> anyhow::Result<MagNetBatch> {
    let config = config();
    let center = |index: usize| (index as f64 + 0.5) * 8.0;
    let bins: Vec<_> =
        (0..SIDE * SIDE).map(|i| SlideUm { x: center(i % SIDE), y: center(i / SIDE) }).collect();
    let layout = SlideLayout::new(&bins, &config.levels, config.neighbors)?;
    let mut blocks = layout.blocks(bins.len(), config.graph.layers, None);
    let block = blocks.next().context("the made-up tissue has no block")?;
    let inputs = PerLevel::from_fn(|level| {
        let nodes = block.nodes.get(level);
        let pixels: Vec<f32> = nodes.iter().flat_map(|&node| patch(level, node)).collect();
        let shape = [nodes.len(), 3, PATCH_PX, PATCH_PX];
        LevelInput::Patches(Tensor::from_data(TensorData::new(pixels, shape), device))
    });
    Ok(MagNetBatch::from_block(&block, inputs, None, device)?)
}

/// A patch of waves whose length, direction, colour and contrast follow from the node; neighbours look nothing alike.
fn patch(level: Level, node: u32) -> impl Iterator<Item = f32> {
    let varied = |factor: f64| (f64::from(node + 1) * factor + 0.3 * f64::from(level as u8)).fract();
    let (along, across, contrast) = (1.6 * varied(0.618), 1.6 * varied(0.414), 0.1 + 0.9 * varied(0.732));
    let colour = [varied(0.236), varied(0.873), varied(0.549)];
    (0..3 * PATCH_PX * PATCH_PX).map(move |index| {
        let (channel, row, column) =
            (index / (PATCH_PX * PATCH_PX), index / PATCH_PX % PATCH_PX, index % PATCH_PX);
        let wave = (along * row as f64 - across * column as f64).sin();
        let base = colour.get(channel).copied().unwrap_or_default();
        (0.5 * base + 0.25 + 0.25 * contrast * wave) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_gives_the_stored_values() {
        let forward = run(&Device::flex()).unwrap();
        for level in Level::ALL {
            let values = forward.values.get(level);
            let rows: Vec<Vec<f32>> = STORED_ROWS
                .get(level)
                .iter()
                .map(|row| values[row * GENES..(row + 1) * GENES].to_vec())
                .collect();
            println!("{level}: {rows:?}");
        }
        assert!(forward.difference < 1e-4, "{}", forward.difference);
    }

    #[test]
    fn a_value_that_is_off_or_no_number_shows() {
        let mut values = run(&Device::flex()).unwrap().values;
        values.bin[0] += 0.1 * values.bin[0].abs().max(1.0);
        assert!(difference_from_stored(&values) > TOLERANCE);
        values.bin[0] = f32::NAN;
        assert_eq!(difference_from_stored(&values), f64::INFINITY);
    }
}
