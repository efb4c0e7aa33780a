use std::fs;

use magnet_core::coordinates::SlidePx;
use magnet_core::expression::CountMatrix;

use super::*;
use crate::dataset::Dataset;
use crate::dataset::positions::write_positions_parquet;
use crate::dataset::tenx_matrix::{Feature, GENE_EXPRESSION, TenxMatrix, write_tenx_matrix};
use crate::error::{exit, exit_code};

/// Pixels per µm.
const SCALE: f64 = 2.0;

/// A run with 16 spots on a hexagonal array, of which the last is off tissue; one feature is an antibody.
struct Run {
    folder: tempfile::TempDir,
    positions: Vec<BinPosition>,
    matrix: TenxMatrix,
    image_px: (u32, u32),
}

fn barcode(index: usize) -> String {
    format!("SPOT{index:02}-1")
}

impl Run {
    fn new() -> Self {
        let position = |index: usize| {
            let (row, col) = ((index / 4) as i32, 2 * (index % 4) as i32 + (index / 4 % 2) as i32);
            let array = BinPosition {
                barcode: barcode(index),
                in_tissue: index != 15,
                array_row: row,
                array_col: col,
                center_px: SlidePx { x: 0.0, y: 0.0 },
            };
            let um = array_um(array.array_row, array.array_col);
            // The array lies mirrored in the image, as it does when the slide was turned over.
            let center_px = SlidePx { x: 900.0 - um.x * SCALE, y: 100.0 + um.y * SCALE };
            BinPosition { center_px, ..array }
        };
        let feature = |id: &str, name: &str, feature_type: &str| Feature {
            id: id.into(),
            name: name.into(),
            feature_type: feature_type.into(),
            genome: "GRCh38".into(),
        };
        let features = vec![
            feature("ENSG1", "TBCE", GENE_EXPRESSION),
            feature("CD3.1", "CD3", "Antibody Capture"),
            feature("ENSG2", "TBCE", GENE_EXPRESSION),
        ];
        let rows = (0..16).map(|row| vec![(0, row as f32), (1, 90.0), (2, 1.0)]);
        let counts = CountMatrix::from_rows(3, rows).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            positions: (0..16).rev().map(position).collect(),
            matrix: TenxMatrix { barcodes: (0..16).map(barcode).collect(), features, counts },
            image_px: (1000, 800),
        }
    }

    fn outs(&self) -> PathBuf {
        self.folder.path().join("S1/outs")
    }

    fn options(&self) -> VisiumOptions {
        VisiumOptions {
            input: self.folder.path().join("S1"),
            image: Some(self.folder.path().join("full.png")),
            out: self.folder.path().join("dataset"),
            id: Some("S1".into()),
            pixel_size_um: None,
            off_tissue: false,
            overwrite: Overwrite::Yes,
        }
    }

    fn table(&self) -> String {
        let line = |position: &BinPosition| {
            let BinPosition { barcode, in_tissue, array_row, array_col, center_px } = position;
            let SlidePx { x, y } = center_px;
            format!("{barcode},{},{array_row},{array_col},{y},{x}\n", u8::from(*in_tissue))
        };
        self.positions.iter().map(line).collect()
    }

    /// Everything but positions and counts.
    fn write_rest(&self) {
        fs::create_dir_all(self.outs().join("spatial")).unwrap();
        let json =
            r#"{"spot_diameter_fullres": 130.0, "tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.06}"#;
        fs::write(self.outs().join("spatial/scalefactors_json.json"), json).unwrap();
        let (width, height) = self.image_px;
        image::RgbImage::new(width, height).save(self.folder.path().join("full.png")).unwrap();
    }

    fn write(&self) {
        self.write_rest();
        let header = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n";
        let positions = self.outs().join("spatial/tissue_positions.csv");
        fs::write(positions, format!("{header}{}", self.table())).unwrap();
        let matrix = self.outs().join("filtered_feature_bc_matrix.h5");
        write_tenx_matrix(&matrix, &self.matrix, Overwrite::Yes).unwrap();
    }

    fn error(&self, options: &VisiumOptions) -> String {
        let error = options.run().expect_err("must be refused");
        assert_eq!(exit_code(&error), exit::BAD_INPUT, "{error:#}");
        assert!(!options.out.exists());
        format!("{error:#}")
    }
}

#[test]
fn a_run_becomes_a_slide() {
    let run = Run::new();
    run.write();
    let summary = run.options().run().unwrap().slides.remove(0);
    let text = summary.to_string();
    assert!((summary.pixel_size_um - 0.5).abs() < 1e-12, "{text}");
    assert!(summary.pixel_size_origin.contains("100 µm = 200.00 px"), "{text}");
    assert!(text.contains("1 features that are not Gene Expression (Antibody Capture)"), "{text}");
    assert!(text.contains("1 spots with counts off tissue (SPOT15-1)"), "{text}");
    assert!(summary.notes.is_empty(), "{text}");

    let slide = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
    assert_eq!(slide.barcodes, (0..15).map(barcode).collect::<Vec<_>>());
    assert_eq!(slide.genes.ids, ["ENSG1", "ENSG2"]);
    assert_eq!(slide.genes.symbols, ["TBCE", "TBCE-1"]);
    assert_eq!(slide.counts.total(3), 4.0);
    // Space Ranger's row is y.
    assert_eq!(slide.centers_px[1], SlidePx { x: 700.0, y: 100.0 });
    assert_eq!(slide.bin_um, 55.0);
}

#[test]
fn every_age_of_space_ranger_gives_the_same_slide() {
    let run = Run::new();
    run.write();
    run.options().run().unwrap();
    let expected = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();

    // 1.x: no header, and the matrix as text; with the run's name before the file in between.
    fs::remove_file(run.outs().join("spatial/tissue_positions.csv")).unwrap();
    fs::write(run.outs().join("spatial/tissue_positions_list.csv"), run.table()).unwrap();
    let h5 = run.outs().join("filtered_feature_bc_matrix.h5");
    fs::rename(&h5, run.outs().join("GSM1_filtered_feature_bc_matrix.h5")).unwrap();
    run.options().run().unwrap();
    let named = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
    fs::remove_file(run.outs().join("GSM1_filtered_feature_bc_matrix.h5")).unwrap();
    let folder = run.outs().join("filtered_feature_bc_matrix");
    fs::create_dir(&folder).unwrap();
    let entries: Vec<String> = (0..16)
        .flat_map(|row| {
            let (columns, values) = run.matrix.counts.row(row);
            columns
                .iter()
                .zip(values)
                .map(move |(c, v)| format!("{} {} {v}\n", c + 1, row + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    let head = "%%MatrixMarket matrix coordinate integer general\n";
    let matrix = format!("{head}3 16 {}\n{}", entries.len(), entries.concat());
    fs::write(folder.join("matrix.mtx"), matrix).unwrap();
    fs::write(folder.join("barcodes.tsv"), run.matrix.barcodes.join("\n")).unwrap();
    let features =
        "ENSG1\tTBCE\tGene Expression\nCD3.1\tCD3\tAntibody Capture\nENSG2\tTBCE\tGene Expression\n";
    fs::write(folder.join("features.tsv"), features).unwrap();
    run.options().run().unwrap();
    let one = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();

    fs::remove_file(run.outs().join("spatial/tissue_positions_list.csv")).unwrap();
    let parquet = run.outs().join("spatial/tissue_positions.parquet");
    write_positions_parquet(&parquet, &run.positions, Overwrite::No).unwrap();
    run.options().run().unwrap();
    let newest = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
    for slide in [named, one, newest] {
        assert_eq!(slide.counts, expected.counts);
        assert_eq!(slide.genes, expected.genes);
        assert_eq!(slide.centers_px, expected.centers_px);
    }
}

#[test]
fn the_small_images_are_recognised_by_their_frame() {
    for (size, name) in [((200, 160), "tissue_hires"), ((60, 48), "tissue_lowres")] {
        let mut run = Run::new();
        run.image_px = size;
        run.write();
        let error = run.error(&run.options());
        assert!(error.contains("full-resolution image, about 1000 × 800 px"), "{error}");
        assert!(error.contains(&format!("frame of {name}_image")), "{error}");
    }
}

#[test]
fn a_pixel_size_against_the_array_is_refused_and_one_near_it_goes_before_it() {
    let run = Run::new();
    run.write();
    let error = run.error(&VisiumOptions { pixel_size_um: Some(0.6), ..run.options() });
    assert!(error.contains("--mpp: value: expected about 0.5000 µm (array pitch"), "{error}");
    let near = VisiumOptions { pixel_size_um: Some(0.501), ..run.options() };
    assert_eq!(near.run().unwrap().slides[0].pixel_size_um, 0.501);
}

#[test]
fn a_spot_diameter_of_another_scale_is_noted() {
    let run = Run::new();
    run.write();
    let scale = run.outs().join("spatial/scalefactors_json.json");
    for (diameter, noted) in [("130.0", false), ("110.0", false), ("300.0", true)] {
        fs::write(&scale, format!(r#"{{"spot_diameter_fullres": {diameter}}}"#)).unwrap();
        let summary = run.options().run().unwrap();
        assert_eq!(!summary.slides[0].notes.is_empty(), noted, "{diameter}");
    }
}

#[test]
fn spots_off_tissue_are_kept_when_asked() {
    let run = Run::new();
    run.write();
    let text = VisiumOptions { off_tissue: true, ..run.options() }.run().unwrap().slides[0].to_string();
    assert!(text.contains("no raw matrix: only spots of the filtered one"), "{text}");
    assert!(!run.options().run().unwrap().slides[0].to_string().contains("raw matrix"));
    VisiumOptions { off_tissue: true, ..run.options() }.run().unwrap();
    let slide = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
    assert_eq!(slide.barcodes.len(), 16);
}

#[test]
fn contradictions_are_named_and_leave_nothing() {
    type Change = fn(&mut Run);
    let cases: [(Change, &str); 4] = [
        (|run| run.matrix.barcodes[2] = "X-1".into(), "1 barcodes without one or repeated (such as X-1)"),
        (
            |run| run.positions[0].barcode = barcode(3),
            "barcode: expected each spot once, found SPOT03-1 twice",
        ),
        (|run| run.positions[4].center_px.y += 2000.0, "follow the array's grid"),
        (|run| run.positions.iter_mut().for_each(|position| position.center_px.x -= 400.0), "lie outside"),
    ];
    for (change, says) in cases {
        let mut run = Run::new();
        change(&mut run);
        run.write();
        let error = run.error(&run.options());
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    let run = Run::new();
    run.write();
    fs::create_dir(run.outs().join("binned_outputs")).unwrap();
    assert!(run.error(&run.options()).contains("use prepare visium-hd"));
}
