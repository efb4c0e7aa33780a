//! Slides through a tiny model: streamed, interrupted, damaged.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;

use burn::tensor::Device;
use cubecl::future::block_on;
use magnet_core::bundle::{BundleMetadata, Provenance};
use magnet_core::expression::{GeneStatistics, Matrix, Normalization};
use magnet_core::layout::SlideLayout;
use magnet_core::model::{
    CrossLevelConfig, DepthConfig, GraphConfig, MagNetConfig, PatchEncoderConfig, ResNetDepth,
};
use magnet_core::predict::{PredictError, predict_slide};
use magnet_core::slide::{SlideError, SlideImage};
use magnet_core::tiff::write::{PyramidImage, PyramidWriter, TileCompression, TileRegion};
use magnet_core::weights::Weights;
use magnet_core::{Bundle, GenePanel, LevelGeometry};
use tempfile::TempDir;

use super::*;
use crate::slide_file::SharedSlide;

const GENES: usize = 3;
/// Side of the slide in pixels of 1 µm, and of the tiles of its file.
const SIDE_PX: u32 = 256;
const TILE_PX: u32 = 64;
/// Bins of 8 µm on a side of the slide.
const BINS: usize = 32;
const OPTIONS: PredictOptions =
    PredictOptions { block_bins: 90, chunk_pixels: 2000, dihedral_average: false, keep_values: false };

fn config() -> MagNetConfig {
    let level = |tile_um, patch_px| LevelGeometry { tile_um, patch_um: tile_um, patch_px };
    MagNetConfig {
        levels: PerLevel { bin: level(8.0, 8), spot: level(24.0, 12), region: level(48.0, 16) },
        genes: GENES,
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

fn model() -> ModelFile {
    let config = config();
    let model = config.init(&Device::flex()).unwrap();
    let names = |prefix: &str| (0..GENES).map(|gene| format!("{prefix}{gene}")).collect::<Vec<_>>();
    let statistics = GeneStatistics { mean: vec![0.1; GENES], sd: vec![1.0; GENES] };
    let metadata = BundleMetadata {
        code_version: "0".into(),
        config,
        panel: GenePanel::new(names("id"), names("gene")).unwrap(),
        normalization: Normalization::Log1pCp10k,
        gene_statistics: PerLevel::from_fn(|_| statistics.clone()),
        held_out: None,
        wide_encoder: None,
        provenance: Provenance::default(),
    };
    let bundle = Bundle { metadata, weights: Weights::of(&model).unwrap(), frozen: None };
    ModelFile {
        path: "m.safetensors".into(),
        sha256: "a".repeat(64),
        bundle,
        model: magnet_core::Model::Figure2(model),
        frozen: None,
    }
}

fn pixel(x: u32, y: u32) -> [u8; 3] {
    [(x * 3 % 251) as u8, (y * 5 % 241) as u8, (x * y % 239) as u8]
}

fn image() -> SlideImage {
    let rgb = (0..SIDE_PX).flat_map(|y| (0..SIDE_PX).flat_map(move |x| pixel(x, y))).collect();
    SlideImage::new(SIDE_PX, SIDE_PX, rgb, 1.0).unwrap()
}

fn layout() -> SlideLayout {
    let center = |at: usize| at as f64 * 8.0 + 4.0;
    let bins: Vec<_> =
        (0..BINS * BINS).map(|bin| SlidePx { x: center(bin % BINS), y: center(bin / BINS) }).collect();
    layout_of_bins(&bins, 1.0, &config()).unwrap()
}

fn key(run: String) -> RunKey {
    let empty = String::new;
    RunKey {
        model_sha256: "m".repeat(64),
        image_sha256: "i".repeat(64),
        features_sha256: empty(),
        run,
        half: false,
    }
}

/// A slide, a model and places, from which jobs are made.
struct Setting {
    model: ModelFile,
    slide: SharedSlide,
    layout: SlideLayout,
    device: Device,
    console: Console,
}

impl Setting {
    fn new(slide: SharedSlide) -> Self {
        let (model, layout, device) = (model(), layout(), Device::flex());
        Self { model, slide, layout, device, console: Console::quiet() }
    }

    fn job(&self, options: PredictOptions) -> Job<'_> {
        let Self { model, slide, layout, device, console } = self;
        Job { model, slide, layout, features: None, options, device, console }
    }

    /// All predictions of the bins, through a spool in `folder`.
    fn to_disk(&self, options: PredictOptions, folder: &Path) -> (Vec<f32>, Faults) {
        let mut stream = Stream::new(self.job(options)).unwrap();
        let key = key(stream.run.identity());
        let mut spool = match Spool::exists(folder) {
            true => Spool::resume(folder, key, &mut stream.run).unwrap(),
            false => Spool::begin(folder, key, &stream.run).unwrap(),
        };
        let faults = spool.faults().unwrap();
        stream.drive(Some(&faults), |piece| spool.append(piece)).unwrap();
        (bins(&spool, &stream, &faults), faults)
    }
}

fn bins(spool: &Spool, stream: &Stream<'_>, faults: &Faults) -> Vec<f32> {
    whole(&spool.rows(&stream.run, Level::Bin, GENES, faults).unwrap()).unwrap().values
}

fn whole(rows: &SpoolRows) -> Result<Matrix> {
    let mut values = vec![0.0; rows.rows() * rows.cols()];
    rows.read_rows(0..rows.rows(), &mut values)?;
    Ok(Matrix { rows: rows.rows(), cols: rows.cols(), values })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_streamed_slide_is_the_plain_loop_bit_by_bit() {
    let setting = Setting::new(std::sync::Arc::new(image()));
    for dihedral_average in [false, true] {
        let options = PredictOptions { dihedral_average, keep_values: true, ..OPTIONS };
        let go_on = |_| ControlFlow::Continue(());
        let Setting { model, slide, layout, device, .. } = &setting;
        let wide = model.wide_source(None).unwrap();
        let plain =
            block_on(predict_slide(&model.model, slide, layout, wide, options, device, go_on)).unwrap();
        let kept = predict_whole(setting.job(options)).unwrap();
        for level in Level::ALL {
            assert_eq!(bits(&kept.values.get(level).values), bits(&plain.values.get(level).values));
        }
        let folder = TempDir::new().unwrap();
        let mut stream = Stream::new(setting.job(PredictOptions { keep_values: false, ..options })).unwrap();
        let mut spool = Spool::begin(folder.path(), key(stream.run.identity()), &stream.run).unwrap();
        let faults = spool.faults().unwrap();
        stream.drive(Some(&faults), |piece| spool.append(piece)).unwrap();
        for level in Level::ALL {
            let rows = spool.rows(&stream.run, level, GENES, &faults).unwrap();
            let expected = plain.values.get(level);
            assert_eq!(bits(&whole(&rows).unwrap().values), bits(&expected.values));
            // Some of the rows, from anywhere.
            let (from, to) = (expected.rows / 3, expected.rows / 3 + 11);
            let mut some = vec![0.0; 11 * GENES];
            rows.read_rows(from..to, &mut some).unwrap();
            assert_eq!(bits(&some), bits(&expected.values[from * GENES..to * GENES]));
            assert!(rows.read_rows(0..expected.rows + 1, &mut some).is_err());
        }
    }
}

#[test]
fn a_run_that_was_cut_off_anywhere_ends_with_the_same_bits() {
    let setting = Setting::new(std::sync::Arc::new(image()));
    let options = PredictOptions { dihedral_average: true, ..OPTIONS };
    let folder = TempDir::new().unwrap();
    let partial = folder.path().join("whole.partial");
    let (expected, _) = setting.to_disk(options, &partial);
    assert!(expected.iter().all(|value| value.is_finite()));
    let pieces = fs::read(partial.join("pieces")).unwrap();
    // The last bytes of a piece, a piece's length, the middle of one; and a byte that the disk changed.
    for (cut, flipped) in
        [(pieces.len() - 1, None), (pieces.len() / 2, None), (5, None), (pieces.len(), Some(3))]
    {
        let mut left = pieces[..cut].to_vec();
        if let Some(part) = flipped {
            let at = left.len() / part;
            left[at] ^= 4;
        }
        fs::write(partial.join("pieces"), left).unwrap();
        let (resumed, _) = setting.to_disk(options, &partial);
        assert_eq!(bits(&resumed), bits(&expected));
        assert_eq!(fs::metadata(partial.join("pieces")).unwrap().len(), pieces.len() as u64);
    }
}

#[test]
fn what_another_run_left_is_refused_with_both_sides_named() {
    let setting = Setting::new(std::sync::Arc::new(image()));
    let folder = TempDir::new().unwrap();
    let mut stream = Stream::new(setting.job(OPTIONS)).unwrap();
    let own = key(stream.run.identity());
    drop(Spool::begin(folder.path(), own.clone(), &stream.run).unwrap());
    for (field, other) in [
        ("model", RunKey { model_sha256: "x".repeat(64), ..own.clone() }),
        ("image", RunKey { image_sha256: "x".repeat(64), ..own.clone() }),
        ("positions", RunKey { run: "x".repeat(64), ..own.clone() }),
    ] {
        let text = Spool::resume(folder.path(), other, &mut stream.run).unwrap_err().to_string();
        assert!(text.contains(field) && text.contains("xxxxxxxxxxxx…"), "{text}");
    }
    let half = RunKey { half: true, ..own.clone() };
    let text = Spool::resume(folder.path(), half, &mut stream.run).unwrap_err().to_string();
    assert!(text.contains("precision") && text.contains("16-bit") && text.contains("found 32-bit"), "{text}");
    assert!(Spool::can_be_continued(folder.path()).unwrap());
    // Two programs on one run would mix their pieces.
    let first = Spool::resume(folder.path(), own.clone(), &mut stream.run).unwrap();
    let text = Spool::resume(folder.path(), own.clone(), &mut stream.run).unwrap_err().to_string();
    assert!(text.contains("another program"), "{text}");
    first.remove().unwrap();
    assert!(!folder.path().exists() && !Spool::can_be_continued(folder.path()).unwrap());
    // A run that was killed before its image was read to the end cannot be told from one of another image.
    drop(Spool::begin(folder.path(), RunKey { image_sha256: String::new(), ..own }, &stream.run).unwrap());
    assert!(!Spool::can_be_continued(folder.path()).unwrap());
}

/// The slide as a pyramid on the disk, one tile of its full resolution damaged.
fn damaged_pyramid(folder: &Path, tile: usize) -> SharedSlide {
    let path = folder.join("slide.tif");
    let description = PyramidImage {
        width_px: SIDE_PX,
        height_px: SIDE_PX,
        tile_px: TILE_PX,
        compression: TileCompression::Deflate,
        um_per_px: Some(1.0),
        description: "",
    };
    let fill = |region: TileRegion, pixels: &mut [[u8; 3]]| {
        for (row, line) in (region.top_px..).zip(pixels.chunks_mut(region.stride_px as usize)) {
            (region.left_px..).zip(line).for_each(|(column, place)| *place = pixel(column, row));
        }
        Ok(())
    };
    let mut file = fs::File::create(&path).unwrap();
    PyramidWriter::new(&mut file).unwrap().write_image::<[u8; 3]>(&description, fill).unwrap();
    drop(file);
    let mut decoder = tiff::decoder::Decoder::new(fs::File::open(&path).unwrap()).unwrap();
    let offsets = decoder.get_tag_u64_vec(tiff::tags::Tag::TileOffsets).unwrap();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(offsets[tile])).unwrap();
    file.write_all(&[0; 64]).unwrap();
    drop(file);
    open_slide(&path, None, &Console::quiet()).unwrap().reader
}

#[test]
fn a_damaged_tile_costs_the_bins_that_touch_it_and_no_other() {
    let folder = TempDir::new().unwrap();
    // The tile in the second row and column of four: pixels 64 to 128.
    let damaged = Setting::new(damaged_pyramid(folder.path(), 5));
    let (values, faults) = damaged.to_disk(OPTIONS, &folder.path().join("a.partial"));
    // A patch of 8 px at full resolution reads 2 px more on every side.
    let touches = |at: usize| (at * 8 + 10 > 64) && (at * 8) < 128 + 2;
    let failed = |bin: usize| touches(bin % BINS) && touches(bin / BINS);
    for (bin, row) in values.chunks_exact(GENES).enumerate() {
        assert!(row.iter().all(|value| value.is_nan() == failed(bin)), "bin {bin}: {row:?}");
    }
    let expected: std::collections::BTreeSet<u32> = (0..1024).filter(|&bin| failed(bin as usize)).collect();
    assert_eq!(faults.nodes(Level::Bin), expected);
    let regions = faults.regions();
    assert_eq!((regions.len(), regions[0].patches), (1, 100));
    assert_eq!(regions[0].centers_px, [60.0, 60.0, 132.0, 132.0]);
    // What was noted is still known after a restart.
    let (again, faults) = damaged.to_disk(OPTIONS, &folder.path().join("a.partial"));
    assert_eq!((bits(&again), faults.count(Level::Bin)), (bits(&values), 100));
    let error = predict_whole(damaged.job(PredictOptions { keep_values: true, ..OPTIONS })).unwrap_err();
    assert!(error.chain().any(|cause| cause.is::<PredictError>() || cause.is::<SlideError>()), "{error:#}");
    // The small picture of a damaged slide is there all the same.
    let small = damaged.slide.thumbnail(200).unwrap();
    assert_eq!((small.width_px(), small.height_px()), (200, 200));
    assert!(small.pixel(10, 10) != Some([255; 3]) && small.pixel(75, 75) == Some([255; 3]));
}

#[test]
fn too_much_damage_ends_the_run() {
    let faults = Faults::default();
    let note = |node| faults.note(Level::Bin, node, SlidePx { x: 1.0, y: 1.0 }, &"no tile");
    (0..10).for_each(note);
    assert!(check_faults(&faults, 100, Path::new("a.svs")).is_ok());
    note(10);
    let text = check_faults(&faults, 100, Path::new("a.svs")).unwrap_err().to_string();
    assert!(text.contains("11 of 100") && text.contains("no tile") && text.contains("a.svs"), "{text}");
}
