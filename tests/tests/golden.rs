//! The published preset beside the released code's own tensors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use burn::tensor::Device;
use magnet_core::model::pytorch::state_dict_shapes;
use magnet_core::{MagNetConfig, model::Architecture};
use magnet_tests::golden::{CPU, GPU, compare};
use magnet_tests::pytorch;

const SMALL: &[u8] = include_bytes!("../fixtures/golden/published_small.safetensors");
const SHAPES: &str = include_str!("../fixtures/golden/published_small_state_dict_shapes.json");

#[track_caller]
fn assert_all_pass(deviations: &[magnet_tests::golden::Deviation]) {
    let failed: Vec<String> =
        deviations.iter().filter(|own| !own.passes()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_stage_the_loss_and_every_gradient_are_those_of_the_released_code() {
    let deviations = compare(SMALL, &Device::flex(), CPU, true).unwrap();
    assert!(deviations.len() > 200, "{}", deviations.len());
    assert_all_pass(&deviations);
}

#[test]
fn a_model_of_full_size_is_that_of_pytorch() {
    let Some(mut write) = pytorch("write_golden.py") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (small, full) = (folder.path().join("small.safetensors"), folder.path().join("full.safetensors"));
    // The script itself first: what it computes must be what the released code computed.
    std::fs::write(&small, SMALL).unwrap();
    let again = folder.path().join("again.safetensors");
    let sizes = ["B=9", "S=4", "R=3", "P=64", "dim=64", "genes=20"];
    let output = write.args(sizes).args([&again, &small]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let sizes = ["B=64", "S=16", "R=9", "P=112", "dim=1024", "genes=250"];
    let output = pytorch("write_golden.py").unwrap().args(sizes).arg(&full).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let deviations = compare(&std::fs::read(&full).unwrap(), &Device::flex(), CPU, true).unwrap();
    assert!(deviations.len() > 200, "{}", deviations.len());
    assert_all_pass(&deviations);
}

#[test]
fn the_state_dict_has_the_released_names_and_shapes() {
    let released: BTreeMap<String, Vec<usize>> = serde_json::from_str(SHAPES).unwrap();
    let released: BTreeMap<_, _> =
        released.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    let config = MagNetConfig {
        architecture: Architecture::Published,
        width: 64,
        genes: 20,
        ..MagNetConfig::default()
    };
    let ours = state_dict_shapes(&config, &Device::flex()).unwrap();
    let differing: Vec<_> = released
        .iter()
        .filter(|(name, shape)| ours.get(*name) != Some(shape))
        .chain(ours.iter().filter(|(name, _)| !released.contains_key(*name)))
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
}

#[test]
fn a_tensor_that_is_elsewhere_is_found_out() {
    let mut bytes = SMALL.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    let deviations = compare(&bytes, &Device::flex(), CPU, false).unwrap();
    let gradients = compare(&bytes, &Device::flex(), CPU, true);
    assert!(deviations.iter().chain(&gradients.unwrap()).any(|own| !own.passes()));
}

#[test]
fn the_forward_pass_on_an_adapter_is_that_of_the_released_code() {
    use magnet_native::console::Console;
    use magnet_native::device::{DeviceRequest, adapters, choose};
    let Some(adapter) = adapters().first() else {
        eprintln!("SKIPPED: no graphics adapter (Debian: apt-get install mesa-vulkan-drivers libvulkan1)");
        return;
    };
    let chosen = choose(DeviceRequest::Adapter(adapter.index), &Console::quiet()).unwrap();
    assert_all_pass(&compare(SMALL, &chosen.device, GPU, false).unwrap());
}
