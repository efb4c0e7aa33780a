//! One small forward pass through a graphics adapter against the CPU. Where a machine has no adapter the test is
//! skipped and says so; `mesa-vulkan-drivers` brings a software one that is enough.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use magnet_tests::{Run, run};
use serde_json::Value;

fn doctor(device: &str) -> Run {
    run(["doctor", "--json", "--device", device])
}

fn predictions(report: &Value, level: &str) -> Vec<f64> {
    let values = report["predictions"][level].as_array().unwrap();
    values.iter().map(|value| value.as_f64().expect("a finite prediction")).collect()
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    ab / (aa * bb).sqrt()
}

#[test]
fn every_adapter_agrees_with_the_cpu() {
    let cpu = doctor("cpu").success().json();
    let adapters = cpu["adapters"].as_array().unwrap();
    if adapters.is_empty() {
        eprintln!("SKIPPED: no graphics adapter (Debian: apt-get install mesa-vulkan-drivers libvulkan1)");
        return;
    }
    let genes = cpu["genes"].as_u64().unwrap() as usize;
    for adapter in adapters {
        let name = adapter["name"].as_str().unwrap();
        let began = Instant::now();
        let gpu = doctor(&format!("gpu:{}", adapter["index"])).success().json();
        assert!(gpu["device"].as_str().unwrap().contains(name), "{}", gpu["device"]);
        for level in ["bin", "spot", "region"] {
            let (expected, found) = (predictions(&cpu, level), predictions(&gpu, level));
            assert_eq!(expected.len(), found.len());
            let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
                let difference = (expected - found).abs() / largest;
                assert!(difference <= 1e-3, "{name}, {level} value {index}: {found} against {expected}");
            }
            for gene in 0..genes {
                let column =
                    |values: &[f64]| values.iter().skip(gene).step_by(genes).copied().collect::<Vec<_>>();
                let correlation = pearson(&column(&expected), &column(&found));
                assert!(correlation >= 0.9999, "{name}, {level} gene {gene}: Pearson {correlation}");
            }
        }
        eprintln!("{name}: agrees, {:.1} s", began.elapsed().as_secs_f64());
    }
}
