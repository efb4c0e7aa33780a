use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::level::LevelGeometry;
use crate::model::{CrossLevelConfig, DepthConfig, GraphConfig, MagNet, PatchEncoderConfig, ResNetDepth};
use crate::slide::SlideImage;

/// The CPU device answers at once, so one poll is enough.
pub(super) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the CPU device waited"),
    }
}

pub(super) fn config() -> MagNetConfig {
    let level = |tile_um, patch_px| LevelGeometry { tile_um, patch_um: tile_um, patch_px };
    MagNetConfig {
        levels: PerLevel { bin: level(8.0, 8), spot: level(24.0, 12), region: level(48.0, 16) },
        genes: 3,
        width: 8,
        neighbors: 4,
        patch_encoder: PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 2,
            ..PatchEncoderConfig::default()
        },
        cross_level: CrossLevelConfig { heads: 2, ..CrossLevelConfig::default() },
        graph: GraphConfig { heads: 2, layers: 2, ..GraphConfig::default() },
        depth: DepthConfig { heads: 2, layers: 1, ..DepthConfig::default() },
        ..MagNetConfig::default()
    }
}

pub(super) fn slide() -> SlideImage {
    let rgb = (0..96u32)
        .flat_map(|y| (0..96u32).flat_map(move |x| [(x * 2) as u8, (y * 2) as u8, ((x * y) % 251) as u8]))
        .collect();
    SlideImage::new(96, 96, rgb, 1.0).unwrap()
}

pub(super) fn bins() -> Vec<SlidePx> {
    (0..144).map(|i| SlidePx { x: f64::from(i % 12) * 8.0 + 4.0, y: f64::from(i / 12) * 8.0 + 4.0 }).collect()
}

fn predict(
    model: &MagNet,
    options: PredictOptions,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> SlidePrediction {
    let layout = layout_of_bins(&bins(), 1.0, model.config()).unwrap();
    let device = Device::flex();
    ready(predict_slide(model, &slide(), &layout, WideSource::Patches, options, &device, progress)).unwrap()
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(super) fn assert_close(a: &Matrix, b: &Matrix) {
    assert_eq!((a.rows, a.cols), (b.rows, b.cols));
    for (index, (a, b)) in a.values.iter().zip(&b.values).enumerate() {
        assert!((a - b).abs() < 1e-4, "value {index}: {a} against {b}");
    }
}

#[test]
fn predictions_do_not_depend_on_the_size_of_the_blocks() {
    let model = config().init(&Device::flex()).unwrap();
    let whole = predict(&model, PredictOptions { block_bins: 1000, ..Default::default() }, go_on);
    let cut = predict(&model, PredictOptions { block_bins: 20, ..Default::default() }, go_on);
    assert!(whole.complete && cut.complete);
    for level in Level::ALL {
        assert!(whole.predicted.get(level).iter().all(|&predicted| predicted));
        assert_close(whole.values.get(level), cut.values.get(level));
    }
    // The values differ from bin to bin, so that the comparison says something. The weights are drawn anew each time:
    // two given bins may be alike by chance, all bins are not.
    let values = whole.values.bin.column(0);
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    assert!(high - low > 1e-3, "{low} to {high}");
}

#[test]
fn progress_counts_up_to_its_totals() {
    let model = config().init(&Device::flex()).unwrap();
    let mut steps = Vec::new();
    predict(&model, PredictOptions { block_bins: 40, dihedral_average: true, ..Default::default() }, |at| {
        steps.push(at);
        ControlFlow::Continue(())
    });
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    assert_eq!((first.tiles_done, first.blocks_done, first.bins_done), (0, 0, 0));
    assert_eq!(
        (last.tiles_done, last.blocks_done, last.bins_done),
        (last.tiles_total, last.blocks_total, last.bins_total)
    );
    assert_eq!((last.bins_total, last.tiles_total), (144 * 8, (16 + 4) * 8));
}

#[test]
fn a_cancelled_run_keeps_what_was_done_and_marks_the_rest() {
    let model = config().init(&Device::flex()).unwrap();
    let whole = predict(&model, PredictOptions::default(), go_on);
    let options = PredictOptions { block_bins: 40, ..Default::default() };
    let part = predict(&model, options, |at| {
        if at.blocks_done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(!part.complete);
    let done = part.predicted.bin.iter().filter(|&&predicted| predicted).count();
    assert!(done > 0 && done <= 80, "{done} bins");
    for (row, &predicted) in part.predicted.bin.iter().enumerate() {
        for (value, expected) in part.values.bin.row(row).iter().zip(whole.values.bin.row(row)) {
            assert!(if predicted { (value - expected).abs() < 1e-4 } else { value.is_nan() });
        }
    }
    let none = predict(&model, options, |_| ControlFlow::Break(()));
    assert!(!none.complete && none.predicted.bin.iter().all(|&predicted| !predicted));
}

#[test]
fn the_dihedral_average_does_not_see_how_patches_are_turned() {
    // Patches that overlap the whole slide alike: one bin in the middle of a slide, then of the mirrored slide.
    let model = config().init(&Device::flex()).unwrap();
    let image = slide();
    let mut mirrored = image.rgb().to_vec();
    for row in mirrored.chunks_exact_mut(96 * 3) {
        let pixels: Vec<[u8; 3]> = row.as_chunks::<3>().0.iter().rev().copied().collect();
        row.copy_from_slice(pixels.as_flattened());
    }
    let mirrored = SlideImage::new(96, 96, mirrored, 1.0).unwrap();
    let layout = layout_of_bins(
        &[SlidePx { x: 48.0, y: 48.0 }],
        1.0,
        &MagNetConfig { wide_levels: false, ..config() },
    )
    .unwrap();
    let single = MagNetConfig { wide_levels: false, ..config() }.init(&Device::flex()).unwrap();
    let of = |model: &MagNet, image: &SlideImage, dihedral_average| {
        let options = PredictOptions { dihedral_average, ..Default::default() };
        let device = Device::flex();
        ready(predict_slide(model, image, &layout, WideSource::Patches, options, &device, go_on)).unwrap()
    };
    assert_close(&of(&single, &image, true).values.bin, &of(&single, &mirrored, true).values.bin);
    let (plain, turned) = (of(&single, &image, false), of(&single, &mirrored, false));
    let mut pairs = plain.values.bin.values.iter().zip(&turned.values.bin.values);
    assert!(pairs.any(|(plain, turned)| (plain - turned).abs() > 1e-4));
    assert_eq!((plain.values.spot.rows, plain.values.region.rows), (0, 0));
    drop(model);
}

#[test]
fn features_of_another_kind_or_size_are_refused() {
    let frozen = MagNetConfig { wide_features: WideFeatures::File { width: 5 }, ..config() };
    let model = frozen.init(&Device::flex()).unwrap();
    let layout = layout_of_bins(&bins(), 1.0, &frozen).unwrap();
    let device = Device::flex();
    let with = |wide: WideSource<'_>| {
        ready(predict_slide(&model, &slide(), &layout, wide, PredictOptions::default(), &device, go_on))
    };
    let error = with(WideSource::Patches).unwrap_err();
    assert_eq!(error, PredictError::WideSource { expected: "file", found: "shared" });
    let matrix = |rows, cols| Matrix { rows, cols, values: vec![0.5; rows * cols] };
    let (spot, region) = (matrix(16, 5), matrix(4, 5));
    assert!(with(WideSource::Features { spot: &spot, region: &region }).unwrap().complete);
    let narrow = matrix(4, 4);
    let text = with(WideSource::Features { spot: &spot, region: &narrow }).unwrap_err().to_string();
    assert!(text.contains("region features") && text.contains("4 rows of 5"), "{text}");
}
