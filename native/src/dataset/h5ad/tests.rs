use std::fs;

use magnet_core::anndata::{AnnData, Annotation, Values};
use magnet_core::expression::Matrix;

use super::*;
use crate::dataset::Dataset;
use crate::error::{exit, exit_code};

/// A file of four spots, 200 px apart, and three features, with an image of 1000 × 600 px.
struct Example {
    folder: tempfile::TempDir,
    data: AnnData,
}

const X: [f32; 12] = [0.0, 2.0, 1.0, 0.0, 5.0, 6.0, 0.0, 0.0, 3.0, 7.0, 0.0, 0.0];

impl Example {
    fn new() -> Self {
        let obs = AxisTable::from_names(["s0", "s1", "s2", "s3"].map(str::to_owned).to_vec());
        let mut var = AxisTable::from_names(["TBCE", "TBCE", "CD3"].map(str::to_owned).to_vec());
        let texts = |texts: [&str; 3]| Column::Texts(texts.map(str::to_owned).to_vec());
        var.columns.push(("gene_ids".into(), texts(["ENSG1", "ENSG2", "AB1"])));
        let mut data = AnnData::new(Values::Dense(Matrix::new(4, 3, X.to_vec()).unwrap()), obs, var);
        data.spatial =
            Some((0..4).map(|at| SlidePx { x: 100.0 + 200.0 * f64::from(at), y: 300.0 }).collect());
        Self { folder: tempfile::tempdir().unwrap(), data }
    }

    fn scaled(mut self, name: &str, value: f64) -> Self {
        self.data.set_annotation(&format!("spatial/L1/scalefactors/{name}"), Annotation::Number(value));
        self
    }

    fn options(&self) -> H5adOptions {
        let at = |name: &str| self.folder.path().join(name);
        H5adOptions {
            id: Some("S1".into()),
            pixel_size_um: Some(0.5),
            bin_um: Some(55.0),
            overwrite: Overwrite::Yes,
            ..H5adOptions::new(at("a.h5ad"), at("i.png"), at("dataset"))
        }
    }

    fn run(&self, options: &H5adOptions) -> Result<Summary> {
        fs::write(&options.input, self.data.write().unwrap()).unwrap();
        image::RgbImage::new(1000, 600).save(&options.image).unwrap();
        options.run()
    }

    fn error(&self, options: &H5adOptions) -> String {
        let error = self.run(options).expect_err("must be refused");
        assert_eq!(exit_code(&error), exit::BAD_INPUT, "{error:#}");
        assert!(!options.out.exists());
        format!("{error:#}")
    }

    fn slide(&self) -> crate::dataset::SlideData {
        Dataset::open(&self.options().out).unwrap().slide("S1").unwrap()
    }
}

#[test]
fn a_file_with_coordinates_becomes_a_slide() {
    let example = Example::new();
    let summary = example.run(&example.options()).unwrap();
    assert_eq!((summary.slides[0].spots, summary.slides[0].genes), (4, 3));
    let slide = example.slide();
    assert_eq!(slide.genes.ids, ["ENSG1", "ENSG2", "AB1"]);
    assert_eq!(slide.genes.symbols, ["TBCE", "TBCE-1", "CD3"]);
    assert_eq!(slide.counts.row(1), (&[1, 2][..], &[5.0, 6.0][..]));
    assert_eq!((slide.um_per_px, slide.bin_um), (0.5, 55.0));
}

#[test]
fn layers_and_control_features_are_told_apart() {
    let mut example = Example::new();
    let counts = example.data.x.clone();
    let halves = X.iter().map(|value| value / 2.0).collect();
    example.data.x = Values::Dense(Matrix::new(4, 3, halves).unwrap());
    example.data.layers.insert("counts".into(), Values::Sparse(counts.into_sparse()));
    let kinds = ["Gene Expression", "Gene Expression", "Antibody Capture"].map(str::to_owned).to_vec();
    example.data.var.columns.push(("feature_types".into(), Column::Texts(kinds)));
    let error = example.error(&example.options());
    for part in ["a.h5ad: X: expected raw counts", "2.5 for spot s1", "log-normalised", "layers/counts"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    let summary = example.run(&H5adOptions { layer: "counts".into(), ..example.options() }).unwrap();
    assert!(summary.slides[0].to_string().contains("1 features that are not Gene Expression (CD3)"));
    let slide = example.slide();
    assert_eq!(slide.counts.row(1), (&[1][..], &[5.0][..]));
    let error = H5adOptions { layer: "raw".into(), ..example.options() }.run().unwrap_err().to_string();
    assert!(error.contains("--layer: value: expected one of X, layers/counts, found raw"), "{error}");
}

#[test]
fn normalised_values_are_taken_only_when_told_and_marked() {
    let mut example = Example::new();
    example.data.x = Values::Dense(Matrix::new(4, 3, X.iter().map(|value| value - 0.5).collect()).unwrap());
    let error = example.error(&example.options());
    assert!(error.contains("scaled to zero mean") && error.contains("no other matrix"), "{error}");
    let options = H5adOptions { allow_normalized: true, ..example.options() };
    let summary = example.run(&options).unwrap();
    let note = &summary.slides[0].notes[0];
    assert!(note.contains("become labels as they are") && note.contains("the mean of their bins"), "{note}");
    let dataset = Dataset::open(&options.out).unwrap();
    assert_eq!(dataset.metadata("S1").unwrap().values, ValueKind::Normalized);
    assert_eq!(example.slide().counts.row(0).1, [-0.5, 1.5, 0.5]);

    let mut example = Example::new();
    example.data.x = Values::Dense(Matrix::new(4, 3, X.map(|value| value / 0.0 * 0.5).to_vec()).unwrap());
    let error = example.error(&H5adOptions { allow_normalized: true, ..example.options() });
    assert!(error.contains("a.h5ad: X: expected normalised values, all of them finite"), "{error}");
}

#[test]
fn scale_factors_of_the_file_give_the_pixel_size() {
    let none = |example: &Example| H5adOptions { pixel_size_um: None, ..example.options() };
    let hd = Example::new().scaled("microns_per_pixel", 0.4).scaled("bin_size_um", 16.0);
    let summary = hd.run(&H5adOptions { bin_um: None, ..none(&hd) }).unwrap();
    assert_eq!((summary.slides[0].pixel_size_um, summary.slides[0].bin_um), (0.4, 16.0));
    assert!(summary.slides[0].pixel_size_origin.contains("uns/spatial/L1/scalefactors/microns_per_pixel"));

    // Space Ranger's spot diameter is that of 65 µm.
    let mut visium = Example::new().scaled("spot_diameter_fullres", 130.0);
    let chemistry = Annotation::Text("Spatial 3' v1".into());
    visium.data.set_annotation("spatial/L1/metadata/chemistry_description", chemistry);
    let summary = visium.run(&H5adOptions { bin_um: None, ..none(&visium) }).unwrap();
    assert_eq!((summary.slides[0].pixel_size_um, summary.slides[0].bin_um), (0.5, 55.0));

    // The pitch of the array goes before it, in whatever unit a file has it.
    let mut array = Example::new().scaled("spot_diameter_fullres", 130.0);
    let places: Vec<(i64, i64)> =
        (0..4).flat_map(|row| (0..4).map(move |col| (row, 2 * col + row % 2))).collect();
    let spots = places.len();
    array.data.x = Values::Dense(Matrix::new(spots, 2, vec![1.0; 2 * spots]).unwrap());
    array.data.var = AxisTable::from_names(vec!["A".into(), "B".into()]);
    array.data.layers.clear();
    array.data.obs = AxisTable::from_names((0..spots).map(|spot| format!("spot-{spot}")).collect());
    let columns = [
        ("array_row", places.iter().map(|place| place.0).collect::<Vec<_>>()),
        ("array_col", places.iter().map(|place| place.1).collect()),
    ];
    array.data.obs.columns = columns.map(|(name, values)| (name.to_owned(), Column::Integers(values))).into();
    let (half, row) = (4.0, 4.0 * 3.0_f64.sqrt());
    let center = |&(r, c): &(i64, i64)| SlidePx { x: 4.0 + c as f64 * half, y: 4.0 + r as f64 * row };
    array.data.spatial = Some(places.iter().map(center).collect());
    let summary = array.run(&H5adOptions { bin_um: Some(55.0), ..none(&array) }).unwrap();
    assert!((summary.slides[0].pixel_size_um - 12.5).abs() < 1e-9, "{}", summary.slides[0]);
    assert!(summary.slides[0].pixel_size_origin.contains("pitch"), "{}", summary.slides[0]);

    let bare = Example::new();
    assert!(bare.error(&none(&bare)).contains("--mpp: value: expected the size of a full-resolution pixel"));
    assert!(bare.error(&H5adOptions { bin_um: None, ..bare.options() }).contains("--bin-um: value"));
}

#[test]
fn coordinates_of_a_smaller_image_are_recognised_and_can_be_brought_up() {
    let mut example = Example::new().scaled("tissue_hires_scalef", 0.1);
    for point in example.data.spatial.as_mut().unwrap() {
        *point = SlidePx { x: point.x * 0.1, y: point.y * 0.1 };
    }
    let error = example.error(&example.options());
    assert!(error.contains("the positions count pixels of tissue_hires_image"), "{error}");
    example.run(&H5adOptions { frame: CoordinateFrame::Hires, ..example.options() }).unwrap();
    assert!((example.slide().centers_px[3].x - 700.0).abs() < 1e-9);
    let error = H5adOptions { frame: CoordinateFrame::Lowres, ..example.options() }.run().unwrap_err();
    assert!(error.to_string().contains("tissue_lowres_scalef"), "{error}");
    assert!(error.to_string().contains("--spatial-frame lowres"), "{error}");
}

#[test]
fn a_wrong_frame_is_named_with_what_each_frame_would_give() {
    let mut example = Example::new().scaled("tissue_hires_scalef", 0.1).scaled("tissue_lowres_scalef", 0.05);
    let reaches = "full 700 × 300 px, hires 7000 × 3000 px, lowres 14000 × 6000 px";
    for frame in [CoordinateFrame::Hires, CoordinateFrame::Lowres] {
        let error = example.error(&H5adOptions { frame, ..example.options() });
        assert!(error.starts_with("--spatial-frame: value: expected the image whose pixels"), "{error}");
        assert!(error.contains("of 1000 × 600 px") && error.contains(reaches), "{error}");
        assert!(error.contains(&format!("found {}: ", frame.name())), "{error}");
    }
    // The right one is found for who says nothing, too; positions that no frame explains are complained about as such.
    for point in example.data.spatial.as_mut().unwrap() {
        *point = SlidePx { x: point.x * 0.1, y: point.y * 0.1 };
    }
    let error = example.error(&example.options());
    assert!(error.starts_with("--spatial-frame") && error.contains("hires 700 × 300 px"), "{error}");
    example.data.spatial.as_mut().unwrap()[0].x = -5.0;
    let error = example.error(&example.options());
    assert!(error.contains("spot s0: expected a centre inside"), "{error}");
}

#[test]
fn one_sample_of_several_and_tissue_alone_are_taken() {
    let mut example = Example::new();
    let library = Column::Categorical {
        codes: vec![Some(0), Some(1), Some(1), Some(1)],
        categories: ["A", "B"].map(str::to_owned).to_vec(),
    };
    example.data.obs.columns.push(("library_id".into(), library));
    example.data.obs.columns.push(("in_tissue".into(), Column::Integers(vec![1, 1, 0, 1])));
    let error = example.error(&example.options());
    assert!(error.contains("--library: value: expected one of the 2 samples: A, B"), "{error}");
    let options = H5adOptions { library: Some("B".into()), ..example.options() };
    let text = example.run(&options).unwrap().slides[0].to_string();
    assert!(text.contains("1 observations of other samples") && text.contains("off tissue (s2)"), "{text}");
    assert_eq!(example.slide().barcodes, ["s1", "s3"]);
    assert_eq!(example.slide().counts.row(1), (&[0][..], &[7.0][..]));
    example.run(&H5adOptions { off_tissue: true, ..options }).unwrap();
    assert_eq!(example.slide().barcodes, ["s1", "s2", "s3"]);
}

#[test]
fn what_is_missing_is_named() {
    let mut example = Example::new();
    example.data.spatial = None;
    let error = example.error(&example.options());
    assert!(error.contains("a.h5ad: obsm: expected spatial or X_spatial"), "{error}");
    let example = Example::new();
    let error = example.error(&H5adOptions { spatial_key: Some("xy".into()), ..example.options() });
    assert!(error.contains("found spatial (--spatial-key)"), "{error}");
    let error = example.error(&H5adOptions { library: Some("Z".into()), ..example.options() });
    assert!(error.contains("--library: value"), "{error}");
    let options = example.options();
    fs::write(&options.input, "x,y\n").unwrap();
    assert!(format!("{:#}", options.run().unwrap_err()).contains("a.h5ad: expected an HDF5 file"));
}
