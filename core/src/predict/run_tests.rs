//! Runs that are left and continued.

use std::sync::Arc;

use rand::RngExt;

use super::tests::{assert_close, bins, config, ready, slide};
use super::*;
use crate::model::MagNet;
use crate::random;
use crate::slide::{SlideImage, StainNormalization};

type Run = PredictRun<Arc<SlideImage>>;

const OPTIONS: PredictOptions =
    PredictOptions { block_bins: 30, chunk_pixels: 700, dihedral_average: false, keep_values: true };

fn model(config: &MagNetConfig) -> MagNet {
    config.init(&Device::flex()).unwrap()
}

fn run_of(config: &MagNetConfig, options: PredictOptions) -> Run {
    let layout = layout_of_bins(&bins(), 1.0, config).unwrap();
    PredictRun::new(config, Arc::new(slide()), layout, options).unwrap()
}

fn step(run: &mut Run, model: &MagNet) -> Option<Piece> {
    ready(run.step(model, WideSource::Patches, &Device::flex())).unwrap()
}

/// Runs to the end; all pieces, as bytes.
fn finish(run: &mut Run, model: &MagNet) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !run.is_complete() {
        pieces.extend(step(run, model).map(|piece| piece.to_bytes()));
    }
    pieces
}

fn restore(run: &mut Run, bytes: &[u8]) {
    run.restore(Piece::from_bytes(bytes).unwrap()).unwrap();
}

/// Every bit of a prediction.
fn bits(prediction: &SlidePrediction) -> Vec<u32> {
    prediction
        .values
        .iter()
        .flat_map(|(_, matrix)| matrix.values.iter().map(|value| value.to_bits()))
        .collect()
}

#[test]
fn a_run_is_the_plain_loop_in_steps() {
    let (config, device) = (config(), Device::flex());
    let model = model(&config);
    let layout = layout_of_bins(&bins(), 1.0, &config).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let image = slide();
    let plain =
        ready(predict_slide(&model, &image, &layout, WideSource::Patches, OPTIONS, &device, go_on)).unwrap();
    let mut run = run_of(&config, OPTIONS);
    finish(&mut run, &model);
    assert_eq!(bits(&run.prediction()), bits(&plain));
    for level in Level::ALL {
        for gene in 0..3 {
            assert_eq!(run.gene_values(level, gene), plain.values.get(level).column(gene));
        }
    }
    assert!(run.gene_values(Level::Bin, 3).is_empty());
    assert!(step(&mut run, &model).is_none());
    let at = run.progress();
    assert_eq!((at.tiles_done, at.bins_done, at.bins_underway), (20, 144, 0));
    assert_eq!(run.into_prediction(), plain);
}

#[test]
fn progress_never_falls_and_counts_the_work_within_a_block() {
    let config = config();
    let model = model(&config);
    let mut run = run_of(&config, OPTIONS);
    let work = |at: Progress| at.tiles_done + at.bins_done + at.bins_underway;
    let (mut last, mut underway) = (0, 0);
    while !run.is_complete() {
        step(&mut run, &model);
        let at = run.progress();
        assert!(work(at) >= last, "{at:?} after {last}");
        (last, underway) = (work(at), underway.max(at.bins_underway));
    }
    assert_eq!(last, 144 + 20);
    assert!((1..=30).contains(&underway), "{underway}");
}

#[test]
fn predictions_do_not_depend_on_the_size_of_the_chunks() {
    let config = config();
    let model = model(&config);
    let whole = {
        let mut run = run_of(&config, OPTIONS);
        finish(&mut run, &model);
        run.into_prediction()
    };
    for chunk_pixels in [0, 64, 1000, 1 << 40] {
        let mut run = run_of(&config, PredictOptions { chunk_pixels, ..OPTIONS });
        finish(&mut run, &model);
        let chunked = run.into_prediction();
        for level in Level::ALL {
            assert_close(whole.values.get(level), chunked.values.get(level));
        }
    }
}

#[test]
fn an_interrupted_run_continues_to_the_same_bits() {
    let normalized = MagNetConfig { stain_normalization: StainNormalization::Slide, ..config() };
    let single = MagNetConfig { wide_levels: false, ..config() };
    for (case, config) in [config(), normalized, single].into_iter().enumerate() {
        for dihedral_average in [false, true] {
            let options = PredictOptions { dihedral_average, ..OPTIONS };
            let model = model(&config);
            let mut whole = run_of(&config, options);
            let all = finish(&mut whole, &model);
            let expected = bits(&whole.prediction());
            let mut rng = random::stream(5, "interruption", &[case as u64, u64::from(dihedral_average)]);
            for _ in 0..4 {
                // Some steps, then lost; what is left of the pieces goes on in any order, some of them twice.
                let mut first = run_of(&config, options);
                let mut pieces = Vec::new();
                for _ in 0..rng.random_range(0..2 * all.len()) {
                    pieces.extend(step(&mut first, &model).map(|piece| piece.to_bytes()));
                }
                let mut second = run_of(&config, options);
                pieces.retain(|_| rng.random_range(0..4) > 0);
                pieces.sort_by_cached_key(|_| rng.random::<u32>());
                let repeated: Vec<_> = pieces.iter().take(2).cloned().collect();
                for piece in pieces.iter().chain(&repeated) {
                    restore(&mut second, piece);
                }
                let at = second.progress();
                finish(&mut second, &model);
                assert!(second.progress().blocks_done >= at.blocks_done);
                assert_eq!(bits(&second.prediction()), expected);
            }
            // All pieces backwards: nothing is left to do.
            let mut restored = run_of(&config, options);
            for piece in all.iter().rev() {
                restore(&mut restored, piece);
            }
            assert!(restored.is_complete());
            assert_eq!(restored.progress(), whole.progress());
            assert_eq!(bits(&restored.prediction()), expected);
            assert!(step(&mut restored, &model).is_none());
            for piece in &all {
                restore(&mut restored, piece);
            }
            assert_eq!(bits(&restored.prediction()), expected);
        }
    }
}

#[test]
fn what_is_restored_is_not_done_again() {
    let config = config();
    let model = model(&config);
    let mut whole = run_of(&config, OPTIONS);
    let all = finish(&mut whole, &model);
    let (last, others) = all.split_last().unwrap();
    let mut run = run_of(&config, OPTIONS);
    for piece in others {
        restore(&mut run, piece);
    }
    let at = run.progress();
    assert_eq!((at.tiles_done, at.blocks_done), (at.tiles_total, at.blocks_total - 1));
    assert!(!run.prediction().complete);
    let missing = run.gene_values(Level::Bin, 0).iter().filter(|value| value.is_nan()).count();
    assert!((1..=30).contains(&missing), "{missing}");
    assert_eq!(finish(&mut run, &model), std::slice::from_ref(last));
}

#[test]
fn pieces_fit_a_run_with_other_chunks_and_come_in_the_middle_of_a_block() {
    let config = config();
    let model = model(&config);
    let mut whole = run_of(&config, OPTIONS);
    let pieces = finish(&mut whole, &model);
    let mut run = run_of(&config, PredictOptions { chunk_pixels: 300, ..OPTIONS });
    while run.progress().bins_underway == 0 {
        step(&mut run, &model);
    }
    run.set_chunk_pixels(450);
    for piece in pieces.iter().skip(1).step_by(2) {
        restore(&mut run, piece);
    }
    finish(&mut run, &model);
    for level in Level::ALL {
        assert_close(run.prediction().values.get(level), whole.prediction().values.get(level));
    }
}

#[test]
fn features_of_a_file_are_read_once_and_restored() {
    let config = MagNetConfig { wide_features: WideFeatures::File { width: 5 }, ..config() };
    let model = model(&config);
    let matrix = |rows: usize| Matrix {
        rows,
        cols: 5,
        values: (0..rows * 5).map(|index| (index % 7) as f32 / 7.0).collect(),
    };
    let (spot, region) = (matrix(16), matrix(4));
    let wide = WideSource::Features { spot: &spot, region: &region };
    let options = PredictOptions { dihedral_average: true, block_bins: 60, ..OPTIONS };
    let mut whole = run_of(&config, options);
    assert_eq!(whole.progress().tiles_total, 20);
    let mut pieces = Vec::new();
    while !whole.is_complete() {
        pieces.extend(ready(whole.step(&model, wide, &Device::flex())).unwrap());
    }
    let mut run = run_of(&config, options);
    for piece in pieces.iter().rev().skip(5) {
        run.restore(piece.clone()).unwrap();
    }
    assert_eq!(run.progress().tiles_done, 20);
    while !run.is_complete() {
        ready(run.step(&model, wide, &Device::flex())).unwrap();
    }
    assert_eq!(bits(&run.prediction()), bits(&whole.prediction()));
}

#[test]
fn pieces_of_another_run_are_refused() {
    let config = config();
    let model = model(&config);
    let mut run = run_of(&config, OPTIONS);
    let pieces: Vec<Piece> =
        finish(&mut run, &model).iter().map(|bytes| Piece::from_bytes(bytes).unwrap()).collect();
    let others = [
        run_of(&MagNetConfig { genes: 4, ..config.clone() }, OPTIONS),
        run_of(&MagNetConfig { width: 16, ..config.clone() }, OPTIONS),
        run_of(&config, PredictOptions { block_bins: 31, ..OPTIONS }),
        run_of(&config, PredictOptions { dihedral_average: true, ..OPTIONS }),
        {
            let layout = layout_of_bins(&bins()[1..], 1.0, &config).unwrap();
            PredictRun::new(&config, Arc::new(slide()), layout, OPTIONS).unwrap()
        },
    ];
    for mut other in others {
        for piece in &pieces {
            let error = other.restore(piece.clone()).unwrap_err();
            assert!(matches!(error, PieceError::OtherRun { .. }), "{error}");
        }
        assert_eq!(other.progress().blocks_done, 0);
    }
    let other = MagNetConfig { genes: 4, ..config }.init(&Device::flex()).unwrap();
    let error = ready(run.step(&other, WideSource::Patches, &Device::flex())).unwrap_err();
    assert_eq!(error, PredictError::OtherModel);
}

#[test]
fn pieces_that_lie_about_their_place_are_refused() {
    use super::piece::Part;
    let config = config();
    let model = model(&config);
    let mut run = run_of(&config, OPTIONS);
    let pieces: Vec<Piece> =
        finish(&mut run, &model).iter().map(|bytes| Piece::from_bytes(bytes).unwrap()).collect();
    let tiles = pieces.iter().find(|piece| matches!(piece.part, Part::Tiles(..))).unwrap();
    let block = pieces.iter().find(|piece| matches!(piece.part, Part::Block(_))).unwrap();
    let shorter = |piece: &Piece| {
        let mut values = piece.values.clone();
        values.spot.truncate(values.spot.len() - piece.cols as usize);
        values
    };
    let lies = [
        Piece { pass: 1, ..tiles.clone() },
        Piece { pass: 255, ..block.clone() },
        Piece { part: Part::Tiles(Level::Spot, u32::MAX), ..tiles.clone() },
        Piece { part: Part::Tiles(Level::Region, 0), ..tiles.clone() },
        Piece { part: Part::Tiles(Level::Spot, 0), ..block.clone() },
        Piece { part: Part::Block(0), ..tiles.clone() },
        Piece { part: Part::Block(u32::MAX), ..block.clone() },
        Piece { cols: 7, ..tiles.clone() },
        Piece { cols: 0, values: PerLevel::default(), ..tiles.clone() },
        Piece { values: PerLevel::default(), ..tiles.clone() },
        Piece { values: PerLevel::default(), ..block.clone() },
        Piece { values: shorter(block), ..block.clone() },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        // The bytes are in order, so only the run can tell.
        let mut fresh = run_of(&config, OPTIONS);
        let result = Piece::from_bytes(&lie.to_bytes()).map(|piece| fresh.restore(piece));
        let refused = match &result {
            Ok(Err(PieceError::Shape { .. })) => true,
            // Values that do not fill their columns are not even written.
            Err(PieceError::Length { .. }) => true,
            _ => false,
        };
        assert!(refused, "{number}: {result:?}");
        assert_eq!(fresh.progress().blocks_done + fresh.progress().tiles_done, 0);
    }
    let single = MagNetConfig { wide_levels: false, ..config };
    let mut run = run_of(&single, OPTIONS);
    let lie = Piece { run: run.id(), ..tiles.clone() };
    assert!(matches!(run.restore(lie), Err(PieceError::Shape { field: "part", .. })));
}

#[test]
fn damaged_bytes_are_refused_without_a_panic() {
    let config = config();
    let model = model(&config);
    let mut run = run_of(&config, OPTIONS);
    let bytes = finish(&mut run, &model).pop().unwrap();
    assert_eq!(Piece::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    for end in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        assert!(Piece::from_bytes(&bytes[..end]).is_err(), "{end} bytes");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(Piece::from_bytes(&longer), Err(PieceError::Length { .. })));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Piece::from_bytes(&damaged).is_err(), "byte {at}");
    }
    // A header that claims the largest matrices there are.
    let mut huge = bytes.clone();
    huge[46..62].fill(255);
    let error = Piece::from_bytes(&huge).unwrap_err();
    assert!(matches!(error, PieceError::Length { .. }), "{error}");
    assert!(matches!(Piece::from_bytes(b"{\"a\":1}"), Err(PieceError::NotAPiece { .. })));
    let mut rng = random::stream(6, "noise", &[]);
    for _ in 0..2000 {
        let mut noise: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        let _ = Piece::from_bytes(&noise);
        noise.splice(0..0, *b"MAGNETP1");
        assert!(Piece::from_bytes(&noise).is_err());
    }
}

/// A slide that notes what is read of it.
struct Noting<'a> {
    slide: &'a SlideImage,
    read: std::sync::Mutex<Vec<(Vec<SlidePx>, f64, usize)>>,
}

impl PatchReader for Noting<'_> {
    fn width_px(&self) -> u32 {
        self.slide.width_px()
    }

    fn height_px(&self) -> u32 {
        self.slide.height_px()
    }

    fn um_per_px(&self) -> f64 {
        self.slide.um_per_px()
    }

    fn read_patch(&self, at: SlidePx, side_um: f64, out_px: usize, out: &mut [u8]) -> Result<(), SlideError> {
        self.slide.read_patch(at, side_um, out_px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        self.slide.thumbnail(max_side_px)
    }

    fn read_patches(&self, centers: &[SlidePx], side_um: f64, out_px: usize) -> Result<Vec<u8>, SlideError> {
        self.read.lock().unwrap().push((centers.to_vec(), side_um, out_px));
        self.slide.read_patches(centers, side_um, out_px)
    }
}

#[test]
fn what_lies_ahead_is_what_the_steps_read() {
    let normalized = MagNetConfig { stain_normalization: StainNormalization::Slide, ..config() };
    let single = MagNetConfig { wide_levels: false, ..config() };
    let image = slide();
    for config in [config(), normalized, single] {
        for dihedral_average in [false, true] {
            let options = PredictOptions { dihedral_average, ..OPTIONS };
            let model = model(&config);
            let mut first = run_of(&config, options);
            let mut pieces = finish(&mut first, &model);
            pieces.sort_by_cached_key(|piece| piece.iter().map(|&byte| u64::from(byte)).sum::<u64>() % 97);
            // A run that is new, one that continues in the middle of a block, and one with holes.
            for (restored, steps) in [(0, 0), (0, 9), (pieces.len() / 2, 0), (pieces.len() / 3, 5)] {
                let noting = Noting { slide: &image, read: Default::default() };
                let layout = layout_of_bins(&bins(), 1.0, &config).unwrap();
                let mut run = PredictRun::new(&config, &noting, &layout, options).unwrap();
                pieces
                    .iter()
                    .take(restored)
                    .for_each(|piece| run.restore(Piece::from_bytes(piece).unwrap()).unwrap());
                let device = Device::flex();
                for _ in 0..steps {
                    ready(run.step(&model, WideSource::Patches, &device)).unwrap();
                }
                let ahead = run.patches_ahead(&model, WideSource::Patches).unwrap();
                noting.read.lock().unwrap().clear();
                while !run.is_complete() {
                    ready(run.step(&model, WideSource::Patches, &device)).unwrap();
                }
                let expected: Vec<_> =
                    ahead.map(|ask| (ask.centers_px, ask.patch_um, ask.patch_px)).collect();
                let read = std::mem::take(&mut *noting.read.lock().unwrap());
                assert_eq!(read.len(), expected.len());
                assert!(read == expected && !read.is_empty());
            }
        }
    }
}

#[test]
fn each_bin_is_read_once_in_a_pass_however_many_halos_hold_it() {
    let image = slide();
    let config = config();
    let model = model(&config);
    assert!(config.halo_hops() > 0);
    let layout = layout_of_bins(&bins(), 1.0, &config).unwrap();
    let bin_um = config.levels.bin.patch_um;
    for (block_bins, passes) in [(7, 1), (30, 1), (30, 8), (1000, 1)] {
        let options = PredictOptions { block_bins, dihedral_average: passes > 1, ..OPTIONS };
        let noting = Noting { slide: &image, read: Default::default() };
        let mut run = PredictRun::new(&config, &noting, &layout, options).unwrap();
        while !run.is_complete() {
            ready(run.step(&model, WideSource::Patches, &Device::flex())).unwrap();
        }
        let read = std::mem::take(&mut *noting.read.lock().unwrap());
        let bins =
            read.into_iter().filter(|(_, side_um, _)| *side_um == bin_um).flat_map(|(centers, ..)| centers);
        let mut times = std::collections::HashMap::new();
        bins.for_each(|at| *times.entry((at.x.to_bits(), at.y.to_bits())).or_insert(0) += 1);
        assert_eq!(times.len(), layout.centers.bin.len());
        assert!(times.values().all(|&times| times == passes), "{block_bins} bins a block: {times:?}");
    }
}

#[test]
fn a_run_that_keeps_nothing_hands_out_the_same_pieces() {
    let config = config();
    let model = model(&config);
    let mut keeping = run_of(&config, OPTIONS);
    let mut handing = run_of(&config, PredictOptions { keep_values: false, ..OPTIONS });
    let pieces = finish(&mut keeping, &model);
    assert_eq!(finish(&mut handing, &model), pieces);
    assert_eq!(handing.identity(), keeping.identity());
    assert_eq!(handing.prediction().values.bin.rows, 0);
    // The rows of the pieces, put at their nodes, are the prediction.
    let expected = keeping.into_prediction();
    for level in Level::ALL {
        let mut found = Matrix {
            values: vec![f32::NAN; expected.values.get(level).values.len()],
            ..*expected.values.get(level)
        };
        for bytes in &pieces {
            let piece = Piece::from_bytes(bytes).unwrap();
            let Some((0, block)) = piece.block() else { continue };
            for (row, node) in handing.rows_of_block(block, level) {
                let at = piece.level_offset(level) + row as usize * 3 * 4;
                let values =
                    bytes[at..at + 12].as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value));
                let node = node as usize * 3;
                found.values[node..node + 3].copy_from_slice(&values.collect::<Vec<_>>());
            }
        }
        assert_eq!(&found, expected.values.get(level));
    }
}

#[test]
fn tissue_is_found_and_named() {
    let side = 200_u32;
    let tissue = |x: u32, y: u32| (40..160).contains(&x) && (80..120).contains(&y);
    let rgb = (0..side * side)
        .flat_map(|index| {
            let (x, y) = (index % side, index / side);
            if tissue(x, y) { [150 + (x + y) as u8 % 30, 60, 140] } else { [245; 3] }
        })
        .collect();
    let image = SlideImage::new(side, side, rgb, 4.0).unwrap();
    let level = |tile_um| crate::LevelGeometry { tile_um, patch_um: tile_um, patch_px: 8 };
    let config = MagNetConfig {
        levels: PerLevel { bin: level(80.0), spot: level(160.0), region: level(480.0) },
        neighbors: 4,
        ..config()
    };
    let places = tissue_places(&image, &config).unwrap();
    // Tiles of 20 px: columns 2 to 7, rows 4 and 5.
    assert_eq!(places.names.len(), 12);
    assert_eq!((places.names[0].as_str(), places.names[11].as_str()), ("r4c2", "r5c7"));
    assert_eq!(places.centers_px[0], SlidePx { x: 50.0, y: 90.0 });
    let layout = layout_of_bins(&places.centers_px, 4.0, &config).unwrap();
    assert_eq!(places.level_names(&layout, Level::Bin), places.names);
    assert_eq!(places.level_names(&layout, Level::Spot), ["spot-0", "spot-1", "spot-2"]);
    let glass = SlideImage::new(side, side, vec![245; (side * side * 3) as usize], 4.0).unwrap();
    let error = tissue_places(&glass, &config).unwrap_err();
    assert_eq!(error, TissueError::NoTissue { tile_um: 80.0, width_um: 800.0, height_um: 800.0 });
    assert!(error.to_string().contains("80 µm") && error.to_string().contains("800 × 800 µm"), "{error}");
}
