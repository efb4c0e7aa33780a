use std::fs;

use magnet_core::anndata::{AnnData, Annotation, AxisTable, Values};
use magnet_core::expression::{CountMatrix, Matrix};

use super::*;
use crate::error::{exit, exit_code};

/// A dataset with the slide `S1` of three spots and two genes, as another program could have written it.
struct Example {
    folder: tempfile::TempDir,
    data: AnnData,
    metadata: &'static str,
}

impl Example {
    fn new() -> Self {
        let counts = Matrix { rows: 3, cols: 2, values: vec![0.0, 2.0, 1.0, 0.0, 5.0, 6.0] };
        let obs = AxisTable::from_names(["s0", "s1", "s2"].map(str::to_owned).to_vec());
        let var = AxisTable::from_names(["ACTB", "ERBB2"].map(str::to_owned).to_vec());
        let mut data = AnnData::new(Values::Dense(counts), obs, var);
        let center = |x: f64| SlidePx { x, y: 3.5 };
        data.spatial = Some(vec![center(0.0), center(10.0), center(19.5)]);
        data.set_annotation("anything", Annotation::Number(1.0));
        let metadata = r#"{"pixel_size_um": 0.5, "bin_um": 55, "patient": "P1"}"#;
        Self { folder: tempfile::tempdir().unwrap(), data, metadata }
    }

    fn write(&self) -> PathBuf {
        let root = self.folder.path().join("dataset");
        for name in ["st", "wsis", "metadata"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("st/S1.h5ad"), self.data.write().unwrap()).unwrap();
        fs::write(root.join("metadata/S1.json"), self.metadata).unwrap();
        image::RgbImage::new(20, 8).save(root.join("wsis/S1.png")).unwrap();
        root
    }

    fn error(&self) -> String {
        error_of(&self.write())
    }
}

/// The message of a slide that must be refused as bad input.
fn error_of(root: &Path) -> String {
    let error = Dataset::open(root).and_then(|dataset| dataset.slide("S1")).expect_err("must be refused");
    assert_eq!(exit_code(&error), exit::BAD_INPUT, "{error:#}");
    format!("{error:#}")
}

fn sparse(data: &mut AnnData) -> &mut CountMatrix {
    data.x = Values::Sparse(data.x.clone().into_sparse());
    match &mut data.x {
        Values::Sparse(counts) => counts,
        Values::Dense(_) => unreachable!(),
    }
}

#[test]
fn a_slide_of_another_program_is_read() {
    let example = Example::new();
    let dataset = Dataset::open(&example.write()).unwrap();
    assert_eq!(dataset.ids(), ["S1"]);
    let slide = dataset.slide("S1").unwrap();
    assert_eq!(slide.counts.row_offsets, [0, 1, 2, 4]);
    assert_eq!(slide.counts.columns, [1, 0, 0, 1]);
    assert_eq!(slide.counts.values, [2.0, 1.0, 5.0, 6.0]);
    // No ids in the file: the symbols again.
    assert_eq!(slide.genes.ids, slide.genes.symbols);
    assert_eq!((slide.um_per_px, slide.bin_um), (0.5, 55.0));
    assert_eq!(slide.patient.as_deref(), Some("P1"));
    assert!(slide.image_path.ends_with("wsis/S1.png"));
    assert_eq!(slide.counts_sha256, sha256_file(&dataset.root().join("st/S1.h5ad")).unwrap());
}

#[test]
fn spots_off_tissue_are_left_out_unless_the_metadata_keeps_them() {
    let mut example = Example::new();
    example.data.obs.columns.push(("in_tissue".into(), Column::Integers(vec![1, 0, 1])));
    let slide = Dataset::open(&example.write()).unwrap().slide("S1").unwrap();
    assert_eq!(slide.barcodes, ["s0", "s2"]);
    assert_eq!(slide.counts.values, [2.0, 5.0, 6.0]);
    assert_eq!(slide.centers_px[1].x, 19.5);
    example.metadata = r#"{"pixel_size_um": 0.5, "bin_um": 55, "off_tissue": true}"#;
    let slide = Dataset::open(&example.write()).unwrap().slide("S1").unwrap();
    assert_eq!(slide.barcodes.len(), 3);
}

#[test]
fn normalised_values_are_read_as_such_and_never_beside_counts() {
    let mut example = Example::new();
    example.metadata = r#"{"pixel_size_um": 0.5, "bin_um": 55, "values": "normalized"}"#;
    sparse(&mut example.data).values[0] = -0.5;
    let root = example.write();
    let dataset = Dataset::open(&root).unwrap();
    let slide = dataset.slide("S1").unwrap();
    assert_eq!((slide.values, slide.counts.values[0]), (ValueKind::Normalized, -0.5));
    let ids = ["S1", "S2"].map(str::to_owned);
    assert_eq!(dataset.value_kind(&ids[..1]).unwrap(), ValueKind::Normalized);

    fs::copy(root.join("st/S1.h5ad"), root.join("st/S2.h5ad")).unwrap();
    fs::write(root.join("metadata/S2.json"), r#"{"pixel_size_um": 0.5, "bin_um": 55}"#).unwrap();
    let error = Dataset::open(&root).unwrap().value_kind(&ids).unwrap_err();
    assert_eq!(exit_code(&error), exit::BAD_INPUT);
    let error = error.to_string();
    assert!(error.contains("found normalised values of S1, raw counts of S2"), "{error}");

    sparse(&mut example.data).values[1] = f32::INFINITY;
    let error = example.error();
    assert!(
        error.contains("X: expected normalised values, all of them finite, found inf for spot s1"),
        "{error}"
    );
}

#[test]
fn each_bad_slide_is_named() {
    type Change = fn(&mut Example);
    let cases: [(Change, &str); 9] = [
        (|e| e.data.spatial = None, "S1.h5ad: obsm/spatial: expected the centre of each spot"),
        (
            |e| e.data.obs.names[2] = "s0".into(),
            "S1.h5ad: obs: expected names that do not repeat, found \"s0\" at 0 and 2",
        ),
        (
            |e| sparse(&mut e.data).values[2] = -5.0,
            "S1.h5ad: X: expected raw counts (whole numbers from 0), found -5 for spot s2, gene ACTB",
        ),
        (|e| sparse(&mut e.data).values[0] = f32::NAN, "found NaN for spot s0, gene ERBB2"),
        (
            |e| sparse(&mut e.data).values[1] = 0.7,
            "found 0.7 for spot s1, gene ACTB (is X normalised already?)",
        ),
        (|e| e.data.spatial.as_mut().unwrap()[1].x = 20.0, "S1.h5ad: spot s1: expected a centre inside"),
        (|e| e.metadata = r#"{"bin_um": 55}"#, "S1.json: pixel_size_um: expected"),
        (|e| e.metadata = r#"{"pixel_size_um": -1, "bin_um": 55}"#, "found -1"),
        (|e| e.metadata = "pixel", "S1.json: JSON: expected an object"),
    ];
    for (change, expected) in cases {
        let mut example = Example::new();
        change(&mut example);
        let error = example.error();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn each_missing_or_foreign_file_is_named() {
    type Change = fn(&Path);
    let cases: [(Change, &str); 8] = [
        (|root| fs::remove_dir_all(root).unwrap(), "dataset: expected a folder of a prepared dataset"),
        (|root| fs::remove_dir_all(root.join("wsis")).unwrap(), "wsis: dataset: expected a folder"),
        (
            |root| fs::remove_file(root.join("st/S1.h5ad")).unwrap(),
            "slides: expected files <id>.h5ad, found none",
        ),
        (
            |root| fs::rename(root.join("st/S1.h5ad"), root.join("st/S2.h5ad")).unwrap(),
            "slide: expected one of S2, found S1",
        ),
        (
            |root| fs::remove_file(root.join("wsis/S1.png")).unwrap(),
            "image: expected S1 with one of the endings",
        ),
        (|root| fs::remove_file(root.join("metadata/S1.json")).unwrap(), "S1.json"),
        (
            |root| fs::write(root.join("wsis/S1.png"), "GIF").unwrap(),
            "S1.png: image: expected a PNG, JPEG or TIFF image",
        ),
        (|root| fs::write(root.join("st/S1.h5ad"), "x,y\n").unwrap(), "S1.h5ad: expected an HDF5 file"),
    ];
    for (change, expected) in cases {
        let root = Example::new();
        let path = root.write();
        change(&path);
        let error = error_of(&path);
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn repeated_symbols_become_unique_and_keep_their_ids() {
    let symbols = ["A", "B", "A", "A-1", "A", "A"].map(str::to_owned).to_vec();
    let ids = (0..6).map(|id| format!("E{id}")).collect();
    let panel = gene_panel(Some(ids), symbols.clone()).unwrap();
    assert_eq!(panel.symbols, ["A", "B", "A-2", "A-1", "A-3", "A-4"]);
    assert_eq!(panel.ids[5], "E5");
    // Without ids, the unique symbols are what slides are matched by.
    let panel = gene_panel(None, symbols).unwrap();
    assert_eq!(panel.ids, panel.symbols);
    let ids = ["E0", "", "E0"].map(str::to_owned).to_vec();
    let panel = gene_panel(Some(ids), ["A", "B", "C"].map(str::to_owned).to_vec()).unwrap();
    assert_eq!(panel.ids, ["E0", "B", "E0-1"]);
}
