use serde_json::Value;

use super::*;
use crate::anndata::{AnnData, Column, Values};
use crate::bundle::{BundleMetadata, HeldOut, HeldOutLevel, Provenance, SlideDigests};
use crate::coordinates::um_from_px;
use crate::expression::{GeneStatistics, Matrix, Normalization};
use crate::gene_panel::GenePanel;
use crate::hdf5::InTurn;
use crate::level::{LevelGeometry, PerLevel};
use crate::metrics::LevelScores;
use crate::model::MagNetConfig;
use crate::slide::{DecodeLimits, SlideImage, decode};
use crate::weights::{Precision, Weights};

const UM_PER_PX: f64 = 0.5;

/// What a map borrows.
struct Owned {
    bundle: Bundle,
    names: Vec<String>,
    centers_px: Vec<SlidePx>,
    centers_um: Vec<SlideUm>,
    values: Matrix,
}

/// Three bins of 20 µm (40 px) and two genes; the third bin was not predicted.
fn owned() -> Owned {
    let level = |tile_um| LevelGeometry { tile_um, patch_um: tile_um, patch_px: 8 };
    let config = MagNetConfig {
        levels: PerLevel { bin: level(20.0), spot: level(40.0), region: level(80.0) },
        genes: 2,
        ..MagNetConfig::default()
    };
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    let scores = LevelScores {
        mse: 1.0,
        mae: 1.0,
        pcc_spot: 0.5,
        pcc_gene_mean: 0.5,
        pcc_gene_median: 0.5,
        n: 10,
        mean_predictor: None,
    };
    let held_out = HeldOut {
        slides: vec!["c".into()],
        selected_on_validation: true,
        levels: PerLevel {
            bin: Some(HeldOutLevel { scores, gene_pearson: vec![Some(0.5), None] }),
            spot: None,
            region: None,
        },
    };
    let slide =
        |id: &str| SlideDigests { id: id.into(), image_sha256: "1".into(), counts_sha256: "2".into() };
    let metadata = BundleMetadata {
        code_version: "9.9.9".into(),
        config,
        panel: GenePanel::new(texts(["ENSG1", "ENSG2"]), texts(["HLA-A", "a,\"b\""])).unwrap(),
        normalization: Normalization::Log1pCp10k,
        gene_statistics: PerLevel::from_fn(|_| GeneStatistics { mean: vec![0.0; 2], sd: vec![1.0; 2] }),
        held_out: Some(held_out),
        wide_encoder: None,
        provenance: Provenance {
            seed: 7,
            training_slides: vec![slide("a"), slide("b")],
            ..Provenance::default()
        },
    };
    let centers_px = [(20.0, 30.0), (60.0, 30.0), (100.0, 30.0)].map(|(x, y)| SlidePx { x, y }).to_vec();
    Owned {
        bundle: Bundle { metadata, weights: Weights::default(), frozen: None },
        names: ["r0c0", "odd \"name\",", "r0c2"].map(str::to_owned).to_vec(),
        centers_um: centers_px.iter().map(|&center| um_from_px(center, UM_PER_PX)).collect(),
        centers_px,
        values: Matrix::new(3, 2, vec![0.5, 1.0, -0.25, 12.345_67, f32::NAN, f32::NAN]).unwrap(),
    }
}

impl Owned {
    fn map(&self) -> PredictedMap<'_> {
        PredictedMap {
            bundle: &self.bundle,
            model_sha256: "abc",
            program: "magnet-test 1.2.3",
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
            precision: Precision::Half,
        }
    }
}

fn style(max_side_px: u32) -> MapStyle {
    MapStyle { opacity: 0.6, max_side_px, ..MapStyle::new(ValueRange::new(0.0, 1.0).unwrap()) }
}

#[test]
fn the_table_has_known_cells_and_empty_ones() {
    let owned = owned();
    let expected = "barcode,x_px,y_px,x_um,y_um,HLA-A,\"a,\"\"b\"\"\"\n\
                    r0c0,20.00,30.00,10.00,15.00,0.50000,1.00000\n\
                    \"odd \"\"name\"\",\",60.00,30.00,30.00,15.00,-0.25000,12.34567\n\
                    r0c2,100.00,30.00,50.00,15.00,,\n";
    assert_eq!(csv(&owned.map()), expected);
}

fn csv(map: &PredictedMap<'_>) -> String {
    let mut out = Vec::new();
    map.write_csv(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn geojson(map: &PredictedMap<'_>, genes: &[usize]) -> Value {
    let mut out = Vec::new();
    map.write_geojson(genes, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn anndata_holds_values_places_and_provenance() {
    let owned = owned();
    let map = owned.map();
    let data = reread(&map);
    let Values::Dense(values) = &data.x else { panic!("dense values") };
    assert_eq!(values.values[..4], owned.values.values[..4]);
    assert!(values.row(2).iter().all(|value| value.is_nan()));
    assert_eq!((&data.obs.names, data.spatial.as_ref()), (&owned.names, Some(&owned.centers_px)));
    assert_eq!(data.var.column("gene_ids").unwrap().texts().unwrap(), ["ENSG1", "ENSG2"]);
    let text = |key: &str| match data.annotation(&format!("magnet/{key}")) {
        Some(Annotation::Text(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((text("program"), text("level")), ("magnet-test 1.2.3".into(), "bin".into()));
    assert_eq!((text("model_sha256"), text("image_sha256")), ("abc".into(), "def".into()));
    assert_eq!(data.annotation("magnet/complete"), Some(&Annotation::Flag(false)));
    assert_eq!(data.annotation("magnet/rows_predicted"), Some(&Annotation::Integer(2)));
    // A whole map says nothing more than it always did.
    let whole = reread(&PredictedMap { complete: true, ..map });
    assert_eq!(whole.annotation("magnet/complete"), None);
    assert_eq!(whole.annotation("magnet/rows_predicted"), None);
}

/// A map's AnnData after a trip through its file.
fn reread(map: &PredictedMap<'_>) -> AnnData {
    let image = SlideImage::new(20, 10, (0..600).map(|byte| byte as u8).collect(), 2.0).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    map.anndata(&[("hires", &image)]).unwrap().write(&mut out, &InTurn).unwrap();
    AnnData::read(out.into_inner()).unwrap()
}

#[test]
fn anndata_is_what_spatial_tools_look_for() {
    let owned = owned();
    let names = ["r0c0", "r0c1", "r0c2"].map(str::to_owned);
    let map = PredictedMap { names: &names, slide_name: "a/b", ..owned.map() };
    let data = reread(&map);
    assert_eq!(data.obs.column("in_tissue"), Some(&Column::Integers(vec![1; 3])));
    assert_eq!(data.obs.column("array_col"), Some(&Column::Integers(vec![0, 1, 2])));
    assert_eq!(data.obs.column("x_um"), Some(&Column::Numbers(vec![10.0, 30.0, 50.0])));
    assert_eq!(data.obs.column("level").unwrap().texts().unwrap(), ["bin"; 3]);
    let Some(Column::Numbers(pearson)) = data.var.column("held_out_pearson") else { panic!("scores") };
    assert!(pearson[0] == 0.5 && pearson[1].is_nan());
    let number = |key: &str| match data.annotation(&format!("spatial/a_b/scalefactors/{key}")) {
        Some(Annotation::Number(number)) => *number,
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((number("tissue_hires_scalef"), number("spot_diameter_fullres")), (0.25, 40.0));
    let Some(Annotation::Image(image)) = data.annotation("spatial/a_b/images/hires") else { panic!("image") };
    assert_eq!((image.width, image.height, image.pixels[5]), (20, 10, 5));
    // One name that tells no place, and the array is left out.
    assert_eq!(reread(&owned.map()).obs.column("array_row"), None);
}

#[test]
fn geojson_has_a_square_per_predicted_bin() {
    let owned = owned();
    let parsed = geojson(&owned.map(), &[]);
    assert_eq!(parsed["type"], "FeatureCollection");
    assert_eq!(parsed["magnet"]["rows_predicted"], 2);
    let features = parsed["features"].as_array().unwrap();
    assert_eq!(features.len(), 2);
    let second = &features[1];
    assert_eq!((&second["type"], &second["geometry"]["type"]), (&json!("Feature"), &json!("Polygon")));
    assert_eq!(
        second["geometry"]["coordinates"],
        json!([[[40.0, 10.0], [80.0, 10.0], [80.0, 50.0], [40.0, 50.0], [40.0, 10.0]]])
    );
    let properties = &second["properties"];
    assert_eq!((&properties["objectType"], &properties["name"]), (&json!("tile"), &json!("odd \"name\",")));
    assert_eq!(properties["measurements"], json!({ "HLA-A": -0.25, "a,\"b\"": 12.345_67 }));

    let chosen = geojson(&owned.map(), &[1, 9]);
    assert_eq!(chosen["features"][0]["properties"]["measurements"], json!({ "a,\"b\"": 1.0 }));

    // Nothing predicted: an empty collection.
    let none = Matrix { values: vec![f32::NAN; 6], ..owned.values.clone() };
    let map = PredictedMap { values: &none, ..owned.map() };
    let parsed = geojson(&map, &[]);
    assert_eq!(parsed["features"], json!([]));
}

#[test]
fn the_ome_tiff_lies_on_the_slide() {
    use tiff::decoder::{Decoder, DecodingResult};
    let owned = owned();
    let mut out = std::io::Cursor::new(Vec::new());
    let sharing = owned.map().write_ome_tiff(&[1, 0], (210, 80), &mut out).unwrap();
    assert_eq!(sharing, 0);
    out.set_position(0);
    let mut file = Decoder::new(out).unwrap();
    let description = file.get_tag(tiff::tags::Tag::ImageDescription).unwrap().into_string().unwrap();
    // Bins of 20 µm whose first centre lies at (10 µm, 15 µm): the grid begins 15 µm above the slide.
    for part in [
        "SizeX=\"6\" SizeY=\"3\"",
        "SizeC=\"2\"",
        "PhysicalSizeX=\"20\"",
        "<Channel ID=\"Channel:0:0\" Name=\"a,&quot;b&quot;\"",
        "<Channel ID=\"Channel:0:1\" Name=\"HLA-A\"",
        "TheC=\"1\" TheT=\"0\" PositionX=\"0\" PositionXUnit=\"&#181;m\" PositionY=\"-15\"",
        "&quot;model_sha256&quot;:&quot;abc&quot;",
    ] {
        assert!(description.contains(part), "{part} is not in {description}");
    }
    let mut channels = Vec::new();
    for channel in 0..2 {
        assert_eq!(file.dimensions().unwrap(), (6, 3));
        let DecodingResult::F32(values) = file.read_image().unwrap() else { panic!("floats") };
        channels.push(values);
        if channel == 0 {
            file.next_image().unwrap();
        }
    }
    // The bins lie in the second row.
    assert_eq!(
        (channels[0][6], channels[0][7], channels[1][6], channels[1][7]),
        (1.0, 12.345_67, 0.5, -0.25)
    );
    assert!((0..18).filter(|at| ![6, 7].contains(at)).all(|at| channels[1][at].is_nan()));
}

#[test]
fn places_that_share_a_pixel_of_the_ome_tiff_are_counted() {
    let mut owned = owned();
    // The second place moves to 5 µm from the first, under pixels of 20 µm.
    owned.centers_um[1].x = 15.0;
    let mut out = std::io::Cursor::new(Vec::new());
    assert_eq!(owned.map().write_ome_tiff(&[0], (210, 80), &mut out).unwrap(), 2);
}

#[test]
fn provenance_names_model_image_and_extent() {
    let owned = owned();
    let found = owned.map().provenance().unwrap();
    for (key, expected) in [
        ("program", json!("magnet-test 1.2.3")),
        ("model_sha256", json!("abc")),
        ("weights_sha256", json!(owned.bundle.weights_sha256())),
        ("model_code_version", json!("9.9.9")),
        ("training_slides", json!(["a", "b"])),
        ("seed", json!("7")),
        ("units", json!(Normalization::Log1pCp10k.unit())),
        ("note", json!(PREDICTED_NOTE)),
        ("level", json!("bin")),
        ("image_sha256", json!("def")),
        ("um_per_px", json!(0.5)),
        ("slide", json!("section")),
        ("complete", json!(false)),
        ("rows", json!(3)),
        ("rows_predicted", json!(2)),
        ("encoder_precision", json!("16 bits")),
    ] {
        assert_eq!(found[key], expected, "{key}");
    }
    assert_eq!(found.as_object().unwrap().len(), 16);
    let single = PredictedMap { precision: Precision::Single, ..owned.map() }.provenance().unwrap();
    assert_eq!(single.get("encoder_precision"), None);
}

/// RGBA of a PNG file.
fn rgba(bytes: &[u8]) -> (u32, u32, Vec<[u8; 4]>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgba);
    (info.width, info.height, pixels.as_chunks::<4>().0.to_vec())
}

#[test]
fn the_overlay_covers_predicted_bins_and_nothing_else() {
    let owned = owned();
    // The image itself, and at half its size: bins of 40 px, then of 20 px.
    for (max_side_px, step, width, height) in [(8192, 1, 200, 80), (100, 2, 100, 40)] {
        let bytes = owned.map().overlay(0, &style(max_side_px), 200, 80).unwrap();
        let (found_width, found_height, pixels) = rgba(&bytes);
        assert_eq!((found_width, found_height), (width, height));
        for y in 0..height {
            for x in 0..width {
                let (column, row) = (x * step, y * step);
                let expected = match (column, row) {
                    (0..40, 10..50) => Some(0.5),
                    (40..80, 10..50) => Some(-0.25),
                    _ => None,
                };
                let expected = expected.map_or([0; 4], |value| {
                    let [r, g, b] = ColorMap::Viridis.color(value);
                    [r, g, b, 153]
                });
                assert_eq!(pixels[(y * width + x) as usize], expected, "({x}, {y})");
            }
        }
    }
}

#[test]
fn the_figure_shows_the_map_and_says_that_it_is_partial() {
    let owned = owned();
    let slide = SlideImage::new(200, 80, vec![200; 200 * 80 * 3], UM_PER_PX).unwrap();
    let partial = owned.map().figure(0, &style(400), Some(&slide)).unwrap();
    let whole = PredictedMap { complete: true, ..owned.map() }.figure(0, &style(400), Some(&slide)).unwrap();
    // Only the note differs, below the panel.
    let differing: Vec<usize> = (0..partial.height() as usize)
        .filter(|&row| {
            let line = row * partial.width() as usize * 3..(row + 1) * partial.width() as usize * 3;
            partial.rgb()[line.clone()] != whole.rgb()[line]
        })
        .collect();
    assert!(!differing.is_empty() && differing[0] > partial.height() as usize / 2, "{differing:?}");
    assert!(owned.map().figure(0, &style(400), None).is_ok());
    let decoded = decode(&partial.to_png().unwrap(), &DecodeLimits::default()).unwrap();
    assert_eq!(decoded.rgb, partial.rgb());
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let owned = owned();
    let map = owned.map();
    let text = map.figure(2, &style(400), None).unwrap_err().to_string();
    assert!(text.contains("gene") && text.contains("found 2"), "{text}");
    assert!(map.overlay(2, &style(400), 200, 80).is_err());
    assert!(map.overlay(0, &style(8), 200, 80).is_err());
    assert!(map.overlay(0, &style(100_000), 200, 80).is_err());
    assert!(map.overlay(0, &style(400), 0, 80).is_err());
    assert!(PredictedMap { um_per_px: 0.0, ..map }.overlay(0, &style(400), 200, 80).is_err());
    let short = PredictedMap { centers_px: &owned.centers_px[1..], ..map };
    assert!(short.overlay(0, &style(400), 200, 80).is_err());
    let empty = Matrix::new(0, 2, Vec::new()).unwrap();
    let nothing = PredictedMap { names: &[], centers_um: &[], centers_px: &[], values: &empty, ..map };
    assert!(nothing.figure(0, &style(400), None).is_err());
    assert!(nothing.overlay(0, &style(400), 200, 80).is_ok());
    assert_eq!(csv(&nothing), "barcode,x_px,y_px,x_um,y_um,HLA-A,\"a,\"\"b\"\"\"\n");
}

#[test]
fn gene_names_cannot_leave_the_folder() {
    assert_eq!(gene_file_name("HLA-A"), "HLA-A");
    assert_eq!(gene_file_name("../../etc/x"), "_.._etc_x");
    assert_eq!(gene_file_name("a b/c"), "a_b_c");
}
