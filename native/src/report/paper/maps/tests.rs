use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use magnet_core::anndata::{AnnData, Annotation, AxisTable, RgbImage, Values};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::Matrix;

use super::*;
use crate::cli::{LevelArg, NamedFolder};
use crate::error::{exit, exit_code};

/// What `evaluate --out` writes of one slide, as far as it is read here: 12 places, three genes. The first gene is
/// predicted in full, the second as its reverse, the third by a constant.
fn evaluation() -> AnnData {
    let rows = 12;
    let measured: Vec<f32> = (0..rows).flat_map(|row| [row as f32, row as f32, row as f32 / 2.0]).collect();
    let predicted = (0..rows).flat_map(|row| [row as f32, (rows - row) as f32, 1.0]).collect();
    let matrix = |values| Values::Dense(Matrix { rows, cols: 3, values });
    let obs = AxisTable::from_names((0..rows).map(|row| format!("{row}x1")).collect());
    let var = AxisTable::from_names(["ERBB2", "HLA-A & <co>", "FLAT"].map(String::from).to_vec());
    let mut data = AnnData::new(matrix(predicted), obs, var);
    data.layers = BTreeMap::from([("measured".to_owned(), matrix(measured))]);
    data.spatial = Some(
        (0..rows)
            .map(|row| SlidePx { x: 50.0 * (row % 4 + 1) as f64, y: 50.0 * (row / 4 + 1) as f64 })
            .collect(),
    );
    let image = RgbImage { height: 40, width: 50, pixels: vec![180; 40 * 50 * 3] };
    for (path, value) in [
        ("magnet/units", Annotation::Text("log1p CP10K".into())),
        ("magnet/um_per_px", Annotation::Number(4.0)),
        ("spatial/C2/scalefactors/spot_diameter_fullres", Annotation::Number(25.0)),
        ("spatial/C2/scalefactors/tissue_hires_scalef", Annotation::Number(0.2)),
        ("spatial/C2/images/hires", Annotation::Image(image)),
    ] {
        data.set_annotation(path, value);
    }
    data
}

fn write(folder: &Path, name: &str, data: &AnnData) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), data.write().unwrap()).unwrap();
}

/// Arguments for models `A`, `B`, … in the folders of these names below `root`.
fn args(root: &Path, models: &[&str]) -> ReportMapsArgs {
    let named = |model: &&str| NamedFolder { name: (*model).to_owned(), path: root.join(model) };
    ReportMapsArgs {
        scores: models.iter().map(named).collect(),
        genes: Vec::new(),
        slide: None,
        level: LevelArg::Bin,
        out: root.join("figure.svg"),
        overwrite: false,
    }
}

fn said(args: &ReportMapsArgs) -> String {
    let error = run(args, &Console::quiet()).unwrap_err();
    assert_eq!(exit_code(&error), exit::BAD_INPUT, "{error:?}");
    assert!(!args.out.exists());
    format!("{error:#}")
}

#[test]
fn the_figure_names_genes_models_scores_units_and_what_its_colours_mean() {
    let root = tempfile::tempdir().unwrap();
    for model in ["A", "B"] {
        write(&root.path().join(model), "C2.bin.h5ad", &evaluation());
    }
    let args = args(root.path(), &["A", "B"]);
    run(&args, &Console::quiet()).unwrap();
    let svg = std::fs::read_to_string(&args.out).unwrap();
    for part in
        ["ERBB2", "HLA-A &amp; &lt;co&gt;", "FLAT", ">A<", ">B<", ">Measured<", ">H&amp;E<", "log1p CP10K"]
    {
        assert!(svg.contains(part), "{part}");
    }
    for (part, times) in [
        // One image of the slide; measured and two models for each of three genes.
        ("<image", 1 + 3 * 3),
        (">r = 1.000<", 2),
        (">r = −1.000<", 2),
        (">r = 0.000<", 2),
        // One colour scale for each gene.
        (">log1p CP10K<", 3),
        (">best<", 1),
        (">median<", 1),
        (">worst<", 1),
        (">200 µm<", 1),
    ] {
        assert_eq!(svg.matches(part).count(), times, "{part}");
    }
    for forbidden in ["http:", "https:", "<script", "url(", "<style"] {
        assert!(!svg.replace("http://www.w3.org/2000/svg", "").contains(forbidden), "{forbidden}");
    }
    assert!(run(&args, &Console::quiet()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn one_scale_holds_all_maps_of_a_gene() {
    let root = tempfile::tempdir().unwrap();
    let mut far = evaluation();
    if let Values::Dense(matrix) = &mut far.x {
        matrix.values[0] = 200.0;
    }
    write(&root.path().join("A"), "C2.bin.h5ad", &evaluation());
    write(&root.path().join("B"), "C2.bin.h5ad", &far);
    let mut args = args(root.path(), &["A", "B"]);
    args.genes = vec!["ERBB2".into()];
    let comparison = compare(&args).unwrap();
    let gene = &comparison.genes[0];
    assert_eq!((gene.label, gene.predicted.len()), ("", 2));
    // 36 values, one of them far away: within the range is what all three maps share.
    let range = value_range(gene.values());
    assert!(range.low() == 0.0 && (11.0..200.0).contains(&range.high()));
    assert_eq!(gene.beyond(range), (false, true));
    assert!(notes(&comparison).iter().all(|note| !note.contains("best, median")));
}

#[test]
fn every_form_is_written_whole() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("A"), "C2.bin.h5ad", &evaluation());
    for (name, start) in [("a.png", "\u{89}PNG"), ("a.svg", "<?xml"), ("a.HTML", "<!DOCTYPE html>")] {
        let mut args = args(root.path(), &["A"]);
        args.out = root.path().join(name);
        run(&args, &Console::quiet()).unwrap();
        let bytes = std::fs::read(&args.out).unwrap();
        assert_eq!(
            &bytes[bytes.len().min(1)..3],
            &start.chars().map(|c| c as u8).collect::<Vec<_>>()[1..3],
            "{name}"
        );
    }
    let mut args = args(root.path(), &["A"]);
    args.out = root.path().join("a.jpeg");
    assert!(said(&args).contains(".png, .svg or .html"));
}

#[test]
fn folders_that_do_not_fit_each_other_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("A"), "C2.bin.h5ad", &evaluation());
    let differing = |change: &dyn Fn(&mut AnnData)| {
        let mut other = evaluation();
        change(&mut other);
        write(&root.path().join("B"), "C2.bin.h5ad", &other);
        let said = said(&args(root.path(), &["A", "B"]));
        let file: PathBuf = root.path().join("B").join("C2.bin.h5ad");
        assert!(said.contains(&file.display().to_string()), "{said}");
        said
    };
    let units =
        |data: &mut AnnData| data.set_annotation("magnet/units", Annotation::Text("log proportion".into()));
    assert!(differing(&units).contains("uns/magnet/units: expected log1p CP10K, as in"));
    let place = |data: &mut AnnData| data.obs.names[3] = "elsewhere".into();
    assert!(differing(&place).contains("obs: expected place 3x1 in row 3"));
    let center = |data: &mut AnnData| data.spatial.as_mut().unwrap()[2].x = 7.0;
    assert!(differing(&center).contains("obsm/spatial: expected (150.0, 50.0) in row 2"));
    let gene = |data: &mut AnnData| data.var.names[0] = "KRT19".into();
    assert!(differing(&gene).contains("var: expected ERBB2 among the 3 genes of B"));
    let size = |data: &mut AnnData| {
        data.set_annotation("spatial/C2/scalefactors/spot_diameter_fullres", Annotation::Number(12.5));
    };
    assert!(differing(&size).contains("expected 100 µm"));
    let measured = |data: &mut AnnData| {
        if let Some(Values::Dense(matrix)) = data.layers.get_mut("measured") {
            matrix.values[3] = 5.0;
        }
    };
    assert!(differing(&measured).contains("layers/measured: expected 1 for ERBB2 in row 1"));
    let unmeasured = |data: &mut AnnData| data.layers.clear();
    assert!(differing(&unmeasured).contains("layers/measured: expected the measured values, found nothing"));
}

#[test]
fn what_is_asked_for_must_be_there() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("A");
    write(&folder, "C2.bin.h5ad", &evaluation());
    let with = |change: &dyn Fn(&mut ReportMapsArgs)| {
        let mut args = args(root.path(), &["A"]);
        change(&mut args);
        said(&args)
    };
    assert!(with(&|args| args.genes = vec!["NOPE".into()]).contains("expected NOPE among the 3 genes of A"));
    assert!(with(&|args| args.slide = Some("D1".into())).contains("slide: expected one of C2, found D1"));
    assert!(with(&|args| args.level = LevelArg::Spot).contains("expected files <slide>.spot.h5ad"));
    assert!(
        with(&|args| args.scores.push(args.scores[0].clone())).contains("expected each name once, found A")
    );
    assert!(with(&|args| args.scores[0].path = root.path().join("none")).contains("none"));
    assert!(with(&|args| args.genes = vec!["ERBB2".into(); 40]).contains("sides of at most 5400 px"));
    write(&folder, "C3.bin.h5ad", &evaluation());
    assert!(with(&|_| {}).contains("--slide: slide: expected one of C2, C3, found none named"));
    std::fs::write(folder.join("C2.bin.h5ad"), b"no HDF5").unwrap();
    assert!(with(&|args| args.slide = Some("C2".into())).contains("C2.bin.h5ad"));
}
