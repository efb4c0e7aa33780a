//! A forward pass of a small fixed model, whose values are known.

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use magnet_core::batch::{LevelInput, MagNetBatch};
use magnet_core::coordinates::SlideUm;
use magnet_core::layout::SlideLayout;
use magnet_core::model::{
    CrossLevelConfig, DepthConfig, GraphConfig, MagNet, MagNetConfig, PatchEncoderConfig, ResNetDepth,
};
use magnet_core::weights::{Precision, Weights};
use magnet_core::{ExpressionModel, Level, LevelGeometry, Model, PerLevel};

/// Bins per side of the made-up tissue. Every bin has a spot tile and a region tile of its own: a driver compiles a
/// kernel for each shape, which takes a software adapter seconds, so all levels have the same shapes.
const SIDE: usize = 4;
/// Distance of the bins and side of all tiles, µm.
const TILE_UM: f64 = 32.0;
/// Side of every patch, in pixels; one size for all levels keeps the number of kernels small.
const PATCH_PX: usize = 16;
/// Genes of the model.
pub const GENES: usize = 16;

/// Largest difference from the stored values that floating-point arithmetic explains, relative to the largest value.
pub const TOLERANCE: f64 = 1e-3;

/// Rows of each level whose values are stored below.
const STORED_ROWS: [usize; 2] = [1, 14];

/// Their values, computed once on the CPU.
const STORED: PerLevel<[[f32; GENES]; 2]> = PerLevel {
    bin: [
        [
            0.004232138,
            0.0004952438,
            0.1138477,
            0.1061085,
            -0.01832813,
            -0.01553267,
            0.1525382,
            0.2284447,
            0.09604505,
            -0.02252938,
            0.04480897,
            0.1337789,
            0.05864098,
            -0.04339551,
            0.04194223,
            0.2081309,
        ],
        [
            0.01822356,
            0.07180811,
            0.1528573,
            0.08065316,
            -0.02573598,
            0.04551545,
            0.2106772,
            0.2174844,
            0.07271326,
            0.02050233,
            0.1148877,
            0.1434753,
            0.02793746,
            -0.02265074,
            0.1144642,
            0.2406545,
        ],
    ],
    spot: [
        [
            0.0142646,
            0.1925205,
            0.1864682,
            0.008902702,
            -0.05298175,
            0.06614164,
            0.1163353,
            -0.003614578,
            -0.06007472,
            0.08950928,
            0.2215621,
            0.1224209,
            -0.04241375,
            -0.0171465,
            0.1083609,
            0.08133201,
        ],
        [
            -0.007818282,
            0.1712611,
            0.1824942,
            0.007927706,
            -0.07057894,
            0.04186959,
            0.1072094,
            -0.002716241,
            -0.07210575,
            0.06459481,
            0.206728,
            0.1226994,
            -0.04887363,
            -0.04020909,
            0.08836511,
            0.07861716,
        ],
    ],
    region: [
        [
            0.02814212,
            -0.07002032,
            -0.09001671,
            0.04899219,
            0.1322592,
            0.01487706,
            -0.1220895,
            -0.07955398,
            0.02815381,
            -0.003629873,
            -0.09917498,
            -0.04685174,
            0.1031732,
            0.1063075,
            -0.05272673,
            -0.1277709,
        ],
        [
            0.0147549,
            -0.06954371,
            -0.1137369,
            0.006057248,
            0.109272,
            0.01551577,
            -0.1361739,
            -0.1205202,
            -0.004033905,
            -0.006994532,
            -0.1049442,
            -0.08197573,
            0.0639622,
            0.09554751,
            -0.05310807,
            -0.1543082,
        ],
    ],
};

/// What the model gave: the rows of each level, `GENES` values each.
#[derive(Debug, Clone)]
pub struct Forward {
    /// `[16,16]` per level, row-major.
    pub values: PerLevel<Vec<f32>>,
    /// Largest difference from the stored values, relative to the largest of them.
    pub difference: f64,
}

/// Runs the model on `device` as a prediction does.
///
/// # Errors
/// If the model cannot be built, or the device fails.
pub fn run(device: &Device) -> anyhow::Result<Forward> {
    let model = Model::Figure2(model(device)?).for_inference(Precision::Single);
    let output = model.forward(&batch(device)?)?;
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
        for (row, stored) in STORED_ROWS.iter().zip(STORED.get(level)) {
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
    let level = LevelGeometry { tile_um: TILE_UM, patch_um: TILE_UM, patch_px: PATCH_PX };
    MagNetConfig {
        levels: PerLevel { bin: level, spot: level, region: level },
        genes: GENES,
        width: 16,
        neighbors: 4,
        patch_encoder: PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.25,
            stages: 1,
            ..PatchEncoderConfig::default()
        },
        cross_level: CrossLevelConfig { heads: 4, ..CrossLevelConfig::default() },
        graph: GraphConfig { heads: 4, layers: 2, ..GraphConfig::default() },
        depth: DepthConfig { heads: 4, layers: 1, feed_forward: 1, ..DepthConfig::default() },
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
    let center = |index: usize| (index as f64 + 0.5) * TILE_UM;
    let bins: Vec<_> =
        (0..SIDE * SIDE).map(|i| SlideUm { x: center(i % SIDE), y: center(i / SIDE) }).collect();
    let layout = SlideLayout::new(&bins, &config.levels, config.neighbors)?;
    let mut blocks = layout.blocks(bins.len(), config.halo_hops(), None);
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
        assert!(forward.difference < 1e-4, "{}", forward.difference);
    }

    #[test]
    fn a_value_that_is_off_or_no_number_shows() {
        let mut values = run(&Device::flex()).unwrap().values;
        let stored = STORED_ROWS[0] * GENES;
        values.bin[stored] += 0.1;
        assert!(difference_from_stored(&values) > TOLERANCE);
        values.bin[stored] = f32::NAN;
        assert_eq!(difference_from_stored(&values), f64::INFINITY);
    }
}
