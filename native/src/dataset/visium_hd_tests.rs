use std::fs;

use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;

use super::*;
use crate::dataset::Dataset;
use crate::dataset::positions::{BinPosition, write_positions_parquet};
use crate::dataset::scalefactors::{Scalefactors, write_scalefactors};
use crate::dataset::tenx_matrix::{Feature, GENE_EXPRESSION, TenxMatrix, write_tenx_matrix};

/// A run with five bins of 16 µm: four with counts, of which one is off tissue; one feature is an antibody.
struct Run {
    folder: tempfile::TempDir,
    matrix: TenxMatrix,
    positions: Vec<BinPosition>,
    scale: Scalefactors,
}

fn barcode(index: i32) -> String {
    format!("s_016um_00000_{index:05}-1")
}

impl Run {
    fn new() -> Self {
        let feature = |id: &str, name: &str, feature_type: &str| Feature {
            id: id.into(),
            name: name.into(),
            feature_type: feature_type.into(),
            genome: "GRCh38".into(),
        };
        let features = vec![
            feature("ENSG1", "TBCE", GENE_EXPRESSION),
            feature("AB1", "CD3", "Antibody Capture"),
            feature("ENSG2", "TBCE", GENE_EXPRESSION),
        ];
        let counts = CountMatrix {
            genes: 3,
            row_offsets: vec![0, 2, 3, 5, 6],
            columns: vec![0, 1, 2, 1, 2, 0],
            values: vec![1.0, 50.0, 2.0, 60.0, 3.0, 4.0],
        };
        let position = |index: i32| BinPosition {
            barcode: barcode(index),
            in_tissue: index != 1,
            array_row: 0,
            array_col: index,
            center_px: SlidePx { x: 16.0 + 32.0 * f64::from(index), y: 10.0 },
        };
        let scale = Scalefactors {
            spot_diameter_fullres: 32.0,
            bin_size_um: Some(16.0),
            microns_per_pixel: Some(0.5),
            tissue_hires_scalef: None,
            tissue_lowres_scalef: None,
            fiducial_diameter_fullres: None,
        };
        let matrix = TenxMatrix { barcodes: (0..4).map(barcode).collect(), features, counts };
        Self {
            folder: tempfile::tempdir().unwrap(),
            matrix,
            positions: (0..5).rev().map(position).collect(),
            scale,
        }
    }

    fn options(&self) -> VisiumHdOptions {
        VisiumHdOptions {
            input: self.folder.path().join("S1/outs"),
            image: None,
            out: self.folder.path().join("dataset"),
            bin_um: 16.0,
            id: None,
            off_tissue: false,
            overwrite: Overwrite::No,
        }
    }

    fn prepare(&self) -> Result<Summary> {
        let outputs = self.options().input.join("binned_outputs/square_016um");
        write_tenx_matrix(&outputs.join("filtered_feature_bc_matrix.h5"), &self.matrix, Overwrite::No)?;
        let spatial = outputs.join("spatial");
        write_positions_parquet(&spatial.join("tissue_positions.parquet"), &self.positions, Overwrite::No)?;
        write_scalefactors(&spatial.join("scalefactors_json.json"), &self.scale, Overwrite::No)?;
        image::RgbImage::new(160, 20).save(self.options().input.join("slide.tif"))?;
        self.options().run()
    }
}

#[test]
fn a_run_becomes_a_slide() {
    let run = Run::new();
    let summary = run.prepare().unwrap();
    let text = summary.slides[0].to_string();
    assert!(text.contains("1 bins with counts off tissue (s_016um_00000_00001-1)"), "{text}");
    assert!(text.contains("1 bins on tissue without counts (s_016um_00000_00004-1)"), "{text}");
    assert!(text.contains("1 features that are not Gene Expression"), "{text}");

    let slide = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
    assert_eq!(slide.barcodes, [barcode(0), barcode(2), barcode(3)]);
    assert_eq!(slide.genes.ids, ["ENSG1", "ENSG2"]);
    assert_eq!(slide.genes.symbols, ["TBCE", "TBCE-1"]);
    assert_eq!(slide.counts.row_offsets, [0, 1, 2, 3]);
    assert_eq!(slide.counts.columns, [0, 1, 0]);
    assert_eq!(slide.counts.values, [1.0, 3.0, 4.0]);
    assert_eq!(slide.centers_px[1], SlidePx { x: 80.0, y: 10.0 });
    assert_eq!((slide.um_per_px, slide.bin_um), (0.5, 16.0));
    let metadata = Dataset::open(&run.options().out).unwrap().metadata("S1").unwrap();
    assert_eq!(metadata.sources.len(), 4);
    assert_eq!(metadata.technology.as_deref(), Some("Visium HD"));
}

#[test]
fn contradictions_are_named_and_leave_nothing() {
    type Change = fn(&mut Run);
    let cases: [(Change, &str); 6] = [
        (
            |run| run.matrix.barcodes[2] = "s_016um_09999_00000-1".into(),
            "1 bins without one (such as s_016um_09999",
        ),
        (
            |run| run.matrix.barcodes[2] = barcode(0),
            "matrix/barcodes: expected each bin once, found s_016um_00000_00000-1 twice",
        ),
        (
            |run| run.positions[0].barcode = barcode(0),
            "tissue_positions.parquet: barcode: expected each bin once",
        ),
        (
            |run| run.scale.microns_per_pixel = Some(0.6),
            "scalefactors_json.json: microns_per_pixel: expected",
        ),
        (
            |run| {
                run.scale =
                    Scalefactors { bin_size_um: Some(8.0), microns_per_pixel: Some(0.25), ..run.scale }
            },
            "bin_size_um: expected 16, found 8",
        ),
        (|run| run.positions[4].center_px.y = 20.0, "spot s_016um_00000_00000-1: expected a centre inside"),
    ];
    for (change, expected) in cases {
        let mut run = Run::new();
        change(&mut run);
        let error = format!("{:#}", run.prepare().unwrap_err());
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
        assert!(!run.options().out.exists());
    }
}

#[test]
fn missing_bins_and_an_ambiguous_image_are_named() {
    let run = Run::new();
    run.prepare().unwrap();
    let options = VisiumHdOptions { overwrite: Overwrite::Yes, ..run.options() };
    let error = VisiumHdOptions { bin_um: 8.0, ..options.clone() }.run().unwrap_err().to_string();
    assert!(
        error.contains("binned_outputs: bins of 8 µm") && error.ends_with("found bins of 16 µm"),
        "{error}"
    );
    fs::write(run.options().input.join("other.png"), b"").unwrap();
    let error = options.run().unwrap_err().to_string();
    assert!(error.contains("(or --image), found 2 images"), "{error}");
}

#[test]
fn coarser_bins_hold_the_sums_of_finer_ones() {
    let run = Run::new();
    run.prepare().unwrap();
    let slide = |options: VisiumHdOptions| {
        let options = VisiumHdOptions { overwrite: Overwrite::Yes, ..options };
        let text = options.run().unwrap().slides[0].to_string();
        (Dataset::open(&options.out).unwrap().slide("S1").unwrap(), text)
    };
    // Two bins of 16 µm on a side. The second is off tissue and the fifth has no counts.
    let (tiles, text) = slide(VisiumHdOptions { bin_um: 32.0, ..run.options() });
    assert_eq!(tiles.barcodes, ["s_032um_00000_00000-1", "s_032um_00000_00001-1"]);
    assert_eq!(tiles.counts.row(0), (&[0][..], &[1.0][..]));
    assert_eq!(tiles.counts.row(1), (&[0, 1][..], &[4.0, 3.0][..]));
    assert_eq!(tiles.centers_px, [SlidePx { x: 32.0, y: 10.0 }, SlidePx { x: 96.0, y: 10.0 }]);
    assert_eq!(tiles.bin_um, 32.0);
    assert!(text.contains("raw counts of 16 µm bins summed"), "{text}");
    // Two and a half: the centres decide, and the fifth bin has its part in the second tile's centre.
    fs::create_dir(run.options().input.join("segmented_outputs")).unwrap();
    let (tiles, text) = slide(VisiumHdOptions { bin_um: 40.0, ..run.options() });
    assert_eq!(tiles.counts.row(1), (&[0, 1][..], &[4.0, 3.0][..]));
    assert_eq!(tiles.centers_px[1].x, 112.0);
    assert!(text.contains("segmented_outputs (cells) not read"), "{text}");
}

#[test]
fn bins_off_tissue_are_kept_when_asked() {
    let run = Run::new();
    run.prepare().unwrap();
    let read = |bin_um| {
        let options =
            VisiumHdOptions { bin_um, off_tissue: true, overwrite: Overwrite::Yes, ..run.options() };
        let text = options.run().unwrap().slides[0].to_string();
        assert!(text.contains("no raw matrix"), "{text}");
        assert!(text.contains(&format!(" bins of {bin_um} µm")) && !text.contains("spots"), "{text}");
        Dataset::open(&options.out).unwrap().slide("S1").unwrap()
    };
    assert_eq!(read(16.0).barcodes, (0..4).map(barcode).collect::<Vec<_>>());
    assert_eq!(read(32.0).counts.row(0), (&[0, 1][..], &[1.0, 2.0][..]));
}

#[test]
fn the_coarsest_bins_that_divide_are_summed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["square_002um", "square_008um", "square_016um", "other"] {
        fs::create_dir_all(folder.path().join("binned_outputs").join(name)).unwrap();
    }
    let chosen = |um| BinSize::choose(folder.path(), um).map(|size| size.um);
    for (wanted, expected) in [(2.0, 2.0), (16.0, 16.0), (24.0, 8.0), (48.0, 16.0), (10.0, 2.0), (55.0, 2.0)]
    {
        assert_eq!(chosen(wanted).unwrap(), expected, "{wanted}");
    }
    for wanted in [1.0, 0.0, -8.0, f64::NAN, f64::INFINITY] {
        let error = chosen(wanted).unwrap_err().to_string();
        assert!(error.contains("found bins of 2, 8, 16 µm"), "{error}");
    }
}
