//! What the tests of the model share: known weights, tables, and finite differences.

use std::path::PathBuf;
use std::sync::OnceLock;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::weights::{WeightLayout, WeightMap, WeightTensor, expected_shapes, load_weights};
use crate::batch::NeighborIndices;

/// A graphics adapter, a software one at the least; where a machine has none, the test says that it is skipped.
pub(crate) fn adapter() -> Option<Device> {
    // Opened a second time it would be an error.
    static ADAPTER: OnceLock<Option<Device>> = OnceLock::new();
    let open =
        || Device::wgpu_options().init().map_err(|error| eprintln!("no graphics adapter: {error:?}")).ok();
    let adapter = ADAPTER.get_or_init(open).clone();
    if adapter.is_none() {
        eprintln!("SKIPPED: this test needs a graphics adapter");
    }
    adapter
}

/// The module with `value(name, flat index)` in every tensor.
pub(crate) fn filled<M: Module>(module: M, value: impl Fn(&str, usize) -> f32) -> M {
    let weights = weight_map(&module, WeightLayout::Burn, |name, shape| {
        (0..shape.iter().product()).map(|index| value(name, index)).collect()
    });
    load_weights(module, weights, WeightLayout::Burn).unwrap()
}

/// `values(name, shape)` for every tensor of the module.
pub(crate) fn weight_map<M: Module>(
    module: &M,
    layout: WeightLayout,
    values: impl Fn(&str, &[usize]) -> Vec<f32>,
) -> WeightMap {
    expected_shapes(module, layout)
        .into_iter()
        .map(|(name, shape)| {
            let values = values(&name, &shape);
            (name, WeightTensor { shape, values })
        })
        .collect()
}

/// A reproducible number in −1..1 for a name and an index.
pub(crate) fn pseudo_random(name: &str, index: usize) -> f64 {
    pseudo_random_at(name_hash(name), index)
}

/// FNV-1a.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// SplitMix64 of the name's hash and the index.
pub(crate) fn pseudo_random_at(hash: u64, index: usize) -> f64 {
    let mut z = hash.wrapping_add(index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    2.0 * ((z >> 40) as f64 / f64::from(1 << 24)) - 1.0
}

/// A reproducible matrix with entries in −1..1.
pub(crate) fn noise(name: &str, [rows, cols]: [usize; 2], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * cols).map(|index| pseudo_random(name, index) as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}

/// A matrix from its rows.
pub(crate) fn matrix(rows: &[&[f32]], device: &Device) -> Tensor<2> {
    let cols = rows.first().map_or(0, |row| row.len());
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), cols]), device)
}

/// A gather table from its rows; `None` is a slot without a neighbour.
pub(crate) fn table(rows: &[Vec<Option<u32>>], device: &Device) -> NeighborIndices {
    let k = rows.first().map_or(0, Vec::len);
    let index: Vec<i32> = rows.iter().flatten().map(|slot| slot.unwrap_or(0) as i32).collect();
    let valid: Vec<i32> = rows.iter().flatten().map(|slot| i32::from(slot.is_some())).collect();
    NeighborIndices {
        index: Tensor::from_data(TensorData::new(index, [rows.len(), k]), device),
        valid: Tensor::<2, Int>::from_data(TensorData::new(valid, [rows.len(), k]), device).bool(),
    }
}

/// Row indices.
pub(crate) fn indices(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// All values, row-major.
pub(crate) fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_into_vec().unwrap()
}

/// Fails unless both tensors have one shape and agree within `tolerance`.
#[track_caller]
pub(crate) fn assert_close<const D: usize>(actual: &Tensor<D>, expected: &Tensor<D>, tolerance: f32) {
    assert_eq!(actual.dims(), expected.dims());
    assert_values(&values(actual), &values(expected), tolerance);
}

/// Fails unless the values agree within `tolerance`.
#[track_caller]
pub(crate) fn assert_values(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (place, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let apart = (actual - expected).abs();
        assert!(apart <= tolerance, "value {place}: {actual} is not {expected} (± {tolerance})");
    }
}

/// Compares the gradient of `loss` at `at` with central differences.
///
/// # Shapes
/// - `at`: `[N,D]`
/// - `loss`: `[N,D]` → `[1]`
#[track_caller]
pub(crate) fn assert_gradient(
    at: &Tensor<2>,
    step: f32,
    tolerance: f32,
    loss: impl Fn(Tensor<2>) -> Tensor<1>,
) {
    let device = Device::flex().autodiff();
    let shape = at.dims();
    let point = values(at);
    let leaf = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
    let input = leaf(point.clone()).require_grad();
    let gradient = values(&input.grad(&loss(input.clone()).backward()).unwrap());
    for index in 0..point.len() {
        let moved = |by: f32| {
            let mut moved = point.clone();
            moved[index] += by;
            f64::from(values(&loss(leaf(moved)))[0])
        };
        let numeric = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let apart = (numeric - f64::from(gradient[index])).abs();
        assert!(
            apart <= f64::from(tolerance) * (1.0 + numeric.abs()),
            "gradient {index}: {} by differentiation, {numeric} by differences",
            gradient[index]
        );
    }
}

/// A file of the folder of shared reference data, or `None` (said on stderr) where it is not at hand: it is looked for
/// under `MAGNET_SHARED`, then beside the workspace.
pub(crate) fn shared_file(path: &str) -> Option<Vec<u8>> {
    let folder =
        std::env::var_os("MAGNET_SHARED").map_or_else(|| PathBuf::from("../../shared"), PathBuf::from);
    let bytes = std::fs::read(folder.join(path)).ok();
    if bytes.is_none() {
        eprintln!("skipped: no {} (MAGNET_SHARED names the folder)", folder.join(path).display());
    }
    bytes
}
