use std::fs;
use std::io;
use std::ops::Range;
use std::time::Instant;

use magnet_core::anndata::AnnData;
use magnet_core::bundle::{Bundle, BundleMetadata, Provenance};
use magnet_core::coordinates::{SlidePx, SlideUm, px_from_um};
use magnet_core::expression::{GeneStatistics, Normalization, RowSource};
use magnet_core::level::{LevelGeometry, PerLevel};
use magnet_core::map::PredictedMap;
use magnet_core::slide::SlideImage;
use magnet_core::weights::{Precision, Weights};
use magnet_core::{GenePanel, Level, MagNetConfig};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;

use super::*;

const UM_PER_PX: f64 = 0.5;
const BIN_UM: f64 = 8.0;

/// Values that are made when they are asked for.
#[derive(Debug)]
struct Pattern {
    rows: usize,
    cols: usize,
}

impl Pattern {
    fn value(&self, row: usize, col: usize) -> f32 {
        if row.is_multiple_of(11) {
            return f32::NAN;
        }
        let cell = (row * self.cols + col) as u64;
        (cell.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32 * 3.0
    }
}

impl RowSource for Pattern {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn read_rows(&self, range: Range<usize>, out: &mut [f32]) -> io::Result<()> {
        for (row, values) in range.zip(out.chunks_exact_mut(self.cols.max(1))) {
            values.iter_mut().enumerate().for_each(|(col, value)| *value = self.value(row, col));
        }
        Ok(())
    }
}

/// What a map borrows: bins of 8 µm side by side, `across` to a row.
struct Owned {
    bundle: Bundle,
    names: Vec<String>,
    centers_px: Vec<SlidePx>,
    centers_um: Vec<SlideUm>,
    values: Pattern,
}

impl Owned {
    fn new(rows: usize, across: usize, genes: usize) -> Self {
        let level = |tile_um| LevelGeometry { tile_um, patch_um: tile_um, patch_px: 8 };
        let levels = PerLevel { bin: level(BIN_UM), spot: level(40.0), region: level(80.0) };
        let named = |prefix: &str| (0..genes).map(|gene| format!("{prefix}{gene:03}")).collect();
        let statistics = |_| GeneStatistics { mean: vec![0.0; genes], sd: vec![1.0; genes] };
        let metadata = BundleMetadata {
            code_version: "0.0.0".into(),
            config: MagNetConfig { levels, genes, ..MagNetConfig::default() },
            panel: GenePanel::new(named("ENSG"), named("GENE")).unwrap(),
            normalization: Normalization::Log1pCp10k,
            gene_statistics: PerLevel::from_fn(statistics),
            held_out: None,
            wide_encoder: None,
            provenance: Provenance::default(),
        };
        let center = |row: usize| SlideUm {
            x: ((row % across) as f64 + 0.5) * BIN_UM,
            y: ((row / across) as f64 + 0.5) * BIN_UM,
        };
        let centers_um: Vec<SlideUm> = (0..rows).map(center).collect();
        Self {
            bundle: Bundle { metadata, weights: Weights::default(), frozen: None },
            names: (0..rows).map(|row| format!("r{}c{}", row / across, row % across)).collect(),
            centers_px: centers_um.iter().map(|&center| px_from_um(center, UM_PER_PX)).collect(),
            centers_um,
            values: Pattern { rows, cols: genes },
        }
    }

    fn map(&self) -> PredictedMap<'_> {
        PredictedMap {
            bundle: &self.bundle,
            model_sha256: "abc",
            program: "magnet-native test",
            slide_name: "section",
            image_sha256: "def",
            region: None,
            um_per_px: UM_PER_PX,
            level: Level::Bin,
            names: &self.names,
            centers_um: &self.centers_um,
            centers_px: &self.centers_px,
            values: &self.values,
            complete: false,
            precision: Precision::Single,
        }
    }

    /// Writes into `folder`; the slide is a small one at `side_um` on a side.
    fn write(&self, folder: &Path, formats: &[PredictFormat], side_px: u32, um_per_px: f64) -> Vec<String> {
        let pixels = vec![200; side_px as usize * side_px as usize * 3];
        let slide = SlideImage::new(side_px, side_px, pixels, um_per_px).unwrap();
        let wanted = Wanted { formats, genes: &[1, 0], channels: &[] };
        write(&self.map(), &slide, folder, wanted, &Console::quiet()).unwrap()
    }
}

fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_form_holds_the_values(rows in 1_usize..700, across in 1_usize..40, genes in 2_usize..40) {
        let owned = Owned::new(rows, across, genes);
        let folder = tempfile::tempdir().unwrap();
        let written = owned.write(folder.path(), &PredictFormat::ALL, 700, UM_PER_PX);
        prop_assert_eq!(written, [
            "GENE001.png", "GENE000.png", "predictions.h5ad", "predictions.csv", "predictions.parquet",
            "predictions.geojson", "predictions.ome.tif",
        ]);
        let data = AnnData::read(fs::read(folder.path().join("predictions.h5ad")).unwrap()).unwrap();
        let values = data.x.into_dense();
        let equal = |row: usize, gene: usize| same(values.row(row)[gene], owned.values.value(row, gene));
        prop_assert!((0..rows).all(|row| (0..genes).all(|gene| equal(row, gene))));

        let table = SerializedFileReader::new(File::open(folder.path().join("predictions.parquet")).unwrap()).unwrap();
        let metadata = table.metadata().file_metadata().key_value_metadata().unwrap();
        prop_assert!(metadata.iter().any(|pair| pair.key == "magnet"
            && pair.value.as_ref().is_some_and(|value| value.contains("\"model_sha256\":\"abc\""))));
        for (row, record) in table.get_row_iter(None).unwrap().enumerate() {
            let cells: Vec<(String, Field)> =
                record.unwrap().into_columns().into_iter().collect();
            prop_assert_eq!(&cells[0], &("name".to_owned(), Field::Str(owned.names[row].clone())));
            prop_assert_eq!(&cells[4].1, &Field::Double(owned.centers_um[row].y));
            prop_assert_eq!(&cells[5].1, &Field::Str("bin".into()));
            for (gene, (name, field)) in cells[6..].iter().enumerate() {
                prop_assert_eq!(name, &format!("GENE{gene:03}"));
                prop_assert!(matches!(field, Field::Float(value) if same(*value, owned.values.value(row, gene))));
            }
        }

        let text = fs::read_to_string(folder.path().join("predictions.csv")).unwrap();
        prop_assert_eq!(text.lines().count(), rows + 1);
        let tiles: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("predictions.geojson")).unwrap()).unwrap();
        prop_assert_eq!(tiles["features"].as_array().unwrap().len(), rows - rows.div_ceil(11));
    }
}

#[test]
fn a_gene_with_the_name_of_a_column_gets_another() {
    let mut owned = Owned::new(3, 3, 2);
    owned.bundle.metadata.panel.symbols[1] = "level".into();
    let folder = tempfile::tempdir().unwrap();
    owned.write(folder.path(), &[PredictFormat::Parquet], 100, UM_PER_PX);
    let table =
        SerializedFileReader::new(File::open(folder.path().join("predictions.parquet")).unwrap()).unwrap();
    let schema = table.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["name", "x_px", "y_px", "x_um", "y_um", "level", "GENE000", "level_gene"]);
}

#[test]
fn only_what_is_asked_for_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = Owned::new(9, 3, 2).write(folder.path(), &[PredictFormat::Csv], 100, UM_PER_PX);
    assert_eq!(written, ["predictions.csv"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A whole slide: 660,000 bins of 250 genes. The values are made as they are read, so all memory is the writers' and
/// that of names and places. Minutes long: `cargo test --release --workspace --locked --lib -- --ignored --nocapture
/// a_whole_slide`.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes and gigabytes of disk"]
fn a_whole_slide_is_written_in_bounded_memory() {
    let (across, genes) = (1_000, 250);
    let owned = Owned::new(660_000, across, genes);
    peak_mb();
    let before_mb = peak_mb();
    for format in PredictFormat::ALL {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let written = owned.write(folder.path(), &[format], 1_600, across as f64 * BIN_UM / 1_600.0);
        let bytes: u64 =
            written.iter().map(|name| fs::metadata(folder.path().join(name)).unwrap().len()).sum();
        let more_mb = peak_mb() - before_mb;
        println!(
            "{format:?}: {:.1} s, {} MB on disk, at most {more_mb} MB of memory beside the places' {before_mb} MB",
            began.elapsed().as_secs_f64(),
            bytes >> 20
        );
        assert!(more_mb < 300, "{format:?} took {more_mb} MB");
    }
}

/// The most memory that this process had since the last call, in MB.
#[cfg(target_os = "linux")]
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kb: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    // Begin anew from what is held now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    kb >> 10
}
