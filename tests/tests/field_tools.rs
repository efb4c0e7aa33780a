//! The field's own tools as judges: what anndata, h5py, scanpy, pandas and pyarrow write is read here with identical
//! values, and what is written here opens in them with identical values.
//!
//! `MAGNET_PYTHON` names the interpreter of the environment that `scripts/python-env` makes; `tests/run` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, RgbImage, Values};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, Matrix};
use magnet_core::slide::{PyramidOptions, SlideError, SlidePyramid};
use magnet_native::dataset::positions::{BinPosition, read_positions, write_positions_parquet};
use magnet_native::dataset::tenx_matrix::{Feature, TenxMatrix, read_tenx_matrix, write_tenx_matrix};
use magnet_native::files::Overwrite;
use magnet_tests::fixture::fixture;
use magnet_tests::run;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The interpreter; `None` where there is none, which is said.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("MAGNET_PYTHON").map(PathBuf::from);
    if named.is_none() {
        eprintln!("skipped: MAGNET_PYTHON is not set (eval \"$(scripts/python-env)\" sets it)");
    }
    named
}

/// Runs a script of `tests/python`; it ends well or the test fails with what it said.
fn run_python(python: &Path, script: &str, arguments: &[&Path]) -> String {
    // From the package, where tests run.
    let output = Command::new(python).arg(Path::new("python").join(script)).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// A number that travels as text, so that no digit is lost on the way.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
struct Exact(f64);

impl TryFrom<String> for Exact {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Exact)
    }
}

/// Equal to the last bit, NaN to NaN.
fn identical(expected: &[Exact], found: &[f64]) -> bool {
    let same =
        |(expected, found): (&Exact, &f64)| expected.0 == *found || (expected.0.is_nan() && found.is_nan());
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

/// What a matrix holds, as the tool that wrote it reads it back.
#[derive(Deserialize)]
struct ExpectedMatrix {
    rows: usize,
    cols: usize,
    values: Vec<Exact>,
}

impl ExpectedMatrix {
    fn compare(&self, what: &str, found: Values, wrong: &mut Vec<String>) {
        let found = found.into_dense();
        if (found.rows, found.cols) != (self.rows, self.cols) {
            wrong.push(format!("{what}: {} × {}, not {} × {}", found.rows, found.cols, self.rows, self.cols));
            return;
        }
        let differing =
            self.values.iter().zip(&found.values).position(|(expected, found)| expected.0 as f32 != *found);
        if let Some(place) = differing {
            let (expected, found) = (self.values[place].0, found.values[place]);
            wrong.push(format!(
                "{what}: row {}, column {}: {found}, not {expected}",
                place / self.cols,
                place % self.cols
            ));
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ExpectedColumn {
    Texts { values: Vec<String> },
    Numbers { values: Vec<Exact> },
    Integers { values: Vec<i64> },
    Flags { values: Vec<bool> },
    Categorical { values: Vec<Option<String>>, categories: Vec<String> },
}

impl ExpectedColumn {
    fn holds(&self, found: &Column) -> bool {
        match (self, found) {
            (ExpectedColumn::Texts { values }, Column::Texts(found)) => values == found,
            (ExpectedColumn::Numbers { values }, Column::Numbers(found)) => identical(values, found),
            (ExpectedColumn::Integers { values }, Column::Integers(found)) => values == found,
            (ExpectedColumn::Flags { values }, Column::Flags(found)) => values == found,
            (
                ExpectedColumn::Categorical { values, categories },
                Column::Categorical { codes, categories: found },
            ) => {
                let text = |code: &Option<u32>| code.map(|code| found[code as usize].clone());
                categories == found && *values == codes.iter().map(text).collect::<Vec<_>>()
            }
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct ExpectedTable {
    names: Vec<String>,
    columns: BTreeMap<String, ExpectedColumn>,
}

impl ExpectedTable {
    fn compare(&self, what: &str, found: &AxisTable, wrong: &mut Vec<String>) {
        if self.names != found.names {
            wrong.push(format!("{what}: other names"));
        }
        let mut columns: Vec<&str> = found.columns.iter().map(|(name, _)| name.as_str()).collect();
        columns.sort_unstable();
        if columns != self.columns.keys().collect::<Vec<_>>() {
            wrong.push(format!("{what}: the columns {columns:?}"));
        }
        for (name, expected) in &self.columns {
            if let Some(found) = found.column(name)
                && !expected.holds(found)
            {
                wrong.push(format!("{what}/{name}: {:.300}", format!("{found:?}")));
            }
        }
    }
}

#[derive(Deserialize)]
struct ExpectedAnnData {
    file: String,
    sparse: bool,
    x: ExpectedMatrix,
    layers: BTreeMap<String, ExpectedMatrix>,
    obs: ExpectedTable,
    var: ExpectedTable,
    spatial: Option<Vec<Exact>>,
    ignored: Vec<String>,
}

impl ExpectedAnnData {
    fn compare(&self, found: AnnData, wrong: &mut Vec<String>) {
        if matches!(found.x, Values::Sparse(_)) != self.sparse {
            wrong.push(format!("X: {}sparse", if self.sparse { "not " } else { "" }));
        }
        self.x.compare("X", found.x, wrong);
        let mut layers = found.layers;
        for (name, expected) in &self.layers {
            match layers.remove(name) {
                Some(found) => expected.compare(&format!("layers/{name}"), found, wrong),
                None => wrong.push(format!("layers/{name}: absent")),
            }
        }
        if !layers.is_empty() {
            wrong.push(format!("further layers {:?}", layers.keys()));
        }
        self.obs.compare("obs", &found.obs, wrong);
        self.var.compare("var", &found.var, wrong);
        let spatial: Option<Vec<f64>> =
            found.spatial.map(|points| points.iter().flat_map(|point| [point.x, point.y]).collect());
        let same = match (&self.spatial, &spatial) {
            (Some(expected), Some(found)) => identical(expected, found),
            (None, None) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("obsm/spatial: {:.300}", format!("{spatial:?}")));
        }
        let mut ignored = found.ignored;
        ignored.sort_unstable();
        if ignored != self.ignored {
            wrong.push(format!("ignored: {ignored:?}"));
        }
    }
}

#[derive(Deserialize)]
struct ExpectedTenx {
    file: String,
    barcodes: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
    types: Vec<String>,
    genomes: Vec<String>,
    x: ExpectedMatrix,
}

#[derive(Deserialize)]
struct ExpectedPositions {
    file: String,
    barcode: Vec<String>,
    in_tissue: Vec<bool>,
    array_row: Vec<i32>,
    array_col: Vec<i32>,
    x: Vec<Exact>,
    y: Vec<Exact>,
}

#[derive(Deserialize)]
struct Expected {
    h5ad: Vec<ExpectedAnnData>,
    tenx: Vec<ExpectedTenx>,
    positions: Vec<ExpectedPositions>,
}

/// The files that the tools wrote, with what each holds; written once for the tests of this program.
fn inputs(python: &Path) -> &'static (TempDir, Expected) {
    static INPUTS: OnceLock<(TempDir, Expected)> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        run_python(python, "write_inputs.py", &[folder.path()]);
        let text = std::fs::read_to_string(folder.path().join("expected.json")).unwrap();
        let expected = serde_json::from_str(&text).unwrap();
        (folder, expected)
    })
}

/// Fails with every file that was read otherwise than its writer reads it.
fn report(failures: &[(String, Vec<String>)], files: usize) {
    assert!(files > 0, "no files were compared");
    let wrong: Vec<String> = failures
        .iter()
        .filter(|(_, wrong)| !wrong.is_empty())
        .map(|(file, wrong)| format!("{file}: {}", wrong.join("; ")))
        .collect();
    assert!(wrong.is_empty(), "{} of {files} files:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_anndata_writes_is_read_with_identical_values() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedAnnData| {
        let mut wrong = Vec::new();
        match AnnData::read(std::fs::read(folder.path().join(&expected.file)).unwrap()) {
            Ok(found) => expected.compare(found, &mut wrong),
            Err(error) => wrong.push(error.to_string()),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.h5ad.iter().map(compare).collect::<Vec<_>>(), expected.h5ad.len());
}

#[test]
fn a_10x_matrix_is_read_as_scanpy_reads_it() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedTenx| {
        let mut wrong = Vec::new();
        match read_tenx_matrix(&folder.path().join(&expected.file)) {
            Ok(found) => {
                let fields: [(&str, Vec<&String>, &[String]); 5] = [
                    ("barcodes", found.barcodes.iter().collect(), &expected.barcodes),
                    ("ids", found.features.iter().map(|feature| &feature.id).collect(), &expected.ids),
                    ("names", found.features.iter().map(|feature| &feature.name).collect(), &expected.names),
                    (
                        "types",
                        found.features.iter().map(|feature| &feature.feature_type).collect(),
                        &expected.types,
                    ),
                    (
                        "genomes",
                        found.features.iter().map(|feature| &feature.genome).collect(),
                        &expected.genomes,
                    ),
                ];
                for (name, found, expected) in fields {
                    if found != expected.iter().collect::<Vec<_>>() {
                        wrong.push(format!("{name}: {found:?}"));
                    }
                }
                expected.x.compare("matrix", Values::Sparse(found.counts), &mut wrong);
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.tenx.iter().map(compare).collect::<Vec<_>>(), expected.tenx.len());
}

#[test]
fn positions_are_read_as_pandas_reads_them() {
    let Some(python) = python() else { return };
    let (folder, expected) = inputs(&python);
    let compare = |expected: &ExpectedPositions| {
        let mut wrong = Vec::new();
        match read_positions(&folder.path().join(&expected.file)) {
            Ok(found) => {
                let centers = |field: fn(&SlidePx) -> f64| -> Vec<f64> {
                    found.iter().map(|row| field(&row.center_px)).collect()
                };
                let same = [
                    ("rows", found.len() == expected.barcode.len()),
                    ("barcode", found.iter().map(|row| &row.barcode).eq(&expected.barcode)),
                    ("in_tissue", found.iter().map(|row| &row.in_tissue).eq(&expected.in_tissue)),
                    ("array_row", found.iter().map(|row| &row.array_row).eq(&expected.array_row)),
                    ("array_col", found.iter().map(|row| &row.array_col).eq(&expected.array_col)),
                    ("x", identical(&expected.x, &centers(|center| center.x))),
                    ("y", identical(&expected.y, &centers(|center| center.y))),
                ];
                let differing = same.iter().filter(|(_, same)| !same);
                wrong.extend(differing.map(|(name, _)| format!("{name} differs")));
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
        (expected.file.clone(), wrong)
    };
    report(&expected.positions.iter().map(compare).collect::<Vec<_>>(), expected.positions.len());
}

/// What an object holds, as `tests/python/contents.py` describes it.
fn contents_of(data: &AnnData) -> Value {
    let layers: BTreeMap<_, _> =
        data.layers.iter().map(|(name, values)| (name.clone(), matrix_of(values))).collect();
    json!({
        "sparse": matches!(data.x, Values::Sparse(_)),
        "x": matrix_of(&data.x),
        "layers": layers,
        "obs": table_of(&data.obs),
        "var": table_of(&data.var),
        "spatial": data.spatial.as_ref().map(|points| {
            exact(points.iter().flat_map(|point| [point.x, point.y]))
        }),
    })
}

/// Numbers as text; Rust prints as many digits as tell them apart.
fn exact(values: impl IntoIterator<Item = f64>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn matrix_of(values: &Values) -> Value {
    let dense = values.clone().into_dense();
    let values = exact(dense.values.iter().map(|&value| f64::from(value)));
    json!({ "rows": dense.rows, "cols": dense.cols, "values": values })
}

fn table_of(table: &AxisTable) -> Value {
    let column = |column: &Column| match column {
        Column::Texts(values) => json!({ "kind": "texts", "values": values }),
        Column::Numbers(values) => json!({ "kind": "numbers", "values": exact(values.iter().copied()) }),
        Column::Integers(values) => json!({ "kind": "integers", "values": values }),
        Column::Flags(values) => json!({ "kind": "flags", "values": values }),
        Column::Categorical { codes, categories } => {
            let text = |code: &Option<u32>| code.map(|code| &categories[code as usize]);
            let values: Vec<_> = codes.iter().map(text).collect();
            json!({ "kind": "categorical", "values": values, "categories": categories })
        }
    };
    let columns: BTreeMap<_, _> =
        table.columns.iter().map(|(name, values)| (name.clone(), column(values))).collect();
    json!({ "names": table.names, "columns": columns })
}

/// `uns` as Python sees it.
fn annotation_of(annotation: &Annotation) -> Value {
    match annotation {
        Annotation::Text(text) => json!(text),
        Annotation::Number(number) => json!(number.to_string()),
        Annotation::Integer(integer) => json!(integer),
        Annotation::Flag(flag) => json!(flag),
        Annotation::Texts(texts) => json!(texts),
        Annotation::Numbers(numbers) => json!(exact(numbers.iter().copied())),
        Annotation::Image(image) => {
            let rows: Vec<Vec<&[u8]>> =
                image.pixels.chunks(image.width * 3).map(|row| row.chunks(3).collect()).collect();
            json!(rows)
        }
        Annotation::Group(children) => group_of(children),
    }
}

fn group_of(children: &BTreeMap<String, Annotation>) -> Value {
    Value::Object(children.iter().map(|(key, value)| (key.clone(), annotation_of(value))).collect())
}

/// An object with columns, layers and annotations of every kind; `rows` decides whether it is stored in chunks.
fn example(rows: usize, cols: usize, sparse: bool) -> AnnData {
    let value = |row: usize, col: usize| match (row * 31 + col * 17) % 5 {
        0 => ((row * 7 + col) % 97) as f32 + 0.25,
        _ => 0.0,
    };
    let values = (0..rows).flat_map(|row| (0..cols).map(move |col| value(row, col))).collect();
    let dense = Values::Dense(Matrix { rows, cols, values });
    let x = if sparse { Values::Sparse(dense.clone().into_sparse()) } else { dense.clone() };
    let mut obs = AxisTable::from_names((0..rows).map(|row| format!("s_008um_{row:05}_00000-1")).collect());
    let categories = ["tumour", "stroma", "Ödem"].map(str::to_owned).to_vec();
    let code = |row: usize| (row % 4 < 3).then_some(row as u32 % 3);
    obs.columns = vec![
        ("note".into(), Column::Texts((0..rows).map(|row| format!("naïve {row} 細胞")).collect())),
        ("score".into(), Column::Numbers((0..rows).map(|row| (row as f64 / 3.0).sqrt()).collect())),
        (
            "gap".into(),
            Column::Numbers((0..rows).map(|row| if row % 2 == 0 { f64::NAN } else { 0.1 }).collect()),
        ),
        ("array_row".into(), Column::Integers((0..rows).map(|row| row as i64 - (1 << 40)).collect())),
        ("in_tissue".into(), Column::Flags((0..rows).map(|row| row % 3 == 0).collect())),
        ("cluster".into(), Column::Categorical { codes: (0..rows).map(code).collect(), categories }),
    ];
    let mut var = AxisTable::from_names((0..cols).map(|col| format!("HLA-{col}")).collect());
    var.columns =
        vec![("gene_ids".into(), Column::Texts((0..cols).map(|col| format!("ENSG{col:011}")).collect()))];
    let mut data = AnnData::new(x, obs, var);
    data.layers.insert("measured".into(), dense.clone());
    data.layers.insert("counts".into(), Values::Sparse(dense.into_sparse()));
    let center = |row: usize| SlidePx { x: row as f64 * 29.3 + 0.1, y: (row % 7) as f64 * 29.3 };
    data.spatial = Some((0..rows).map(center).collect());
    let image = RgbImage { height: 4, width: 5, pixels: (0..60).collect() };
    for (path, value) in [
        ("spatial/lib/images/hires", Annotation::Image(image)),
        ("spatial/lib/scalefactors/spot_diameter_fullres", Annotation::Number(89.43)),
        ("magnet/program", Annotation::Text("magnet".into())),
        ("magnet/seed", Annotation::Integer(7)),
        ("magnet/complete", Annotation::Flag(true)),
        ("magnet/genes", Annotation::Texts(vec!["A".into(), "Ä".into()])),
        ("magnet/curve", Annotation::Numbers(vec![1.0, 0.1, 1e-30])),
    ] {
        data.set_annotation(path, value);
    }
    data
}

#[test]
fn what_is_written_opens_in_the_fields_tools_with_identical_values() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    let mut expected = json!({ "h5ad": {}, "tenx": {}, "positions": {} });
    let empty = AnnData::new(
        Values::Dense(Matrix { rows: 1, cols: 1, values: vec![f32::NAN] }),
        AxisTable::from_names(vec!["a".into()]),
        AxisTable::from_names(vec!["b".into()]),
    );
    for (name, data) in [
        ("sparse.h5ad", example(60, 11, true)),
        ("dense.h5ad", example(60, 11, false)),
        ("sparse-chunks.h5ad", example(5000, 80, true)),
        ("dense-chunks.h5ad", example(5000, 80, false)),
        ("empty.h5ad", empty),
    ] {
        std::fs::write(folder.path().join(name), data.write().unwrap()).unwrap();
        expected["h5ad"][name] = json!({ "contents": contents_of(&data), "uns": group_of(&data.uns) });
    }

    let (features, barcodes) = (40, 3000);
    let counts = CountMatrix {
        genes: features,
        row_offsets: (0..=barcodes).map(|row| row * 3).collect(),
        columns: (0..barcodes as u32 * 3).map(|place| place % 3 * 13 + place / 3 % 13).collect(),
        values: (0..barcodes * 3).map(|place| (place % 400) as f32).collect(),
    };
    let feature = |index: usize| Feature {
        id: format!("ENSG{index:011}"),
        name: format!("GENE{index}"),
        feature_type: "Gene Expression".into(),
        genome: "GRCh38".into(),
    };
    let matrix = TenxMatrix {
        barcodes: (0..barcodes).map(|index| format!("s_008um_{index:05}_00000-1")).collect(),
        features: (0..features).map(feature).collect(),
        counts,
    };
    write_tenx_matrix(&folder.path().join("matrix.h5"), &matrix, Overwrite::No).unwrap();
    let column = |field: fn(&Feature) -> &String| matrix.features.iter().map(field).collect::<Vec<_>>();
    expected["tenx"]["matrix.h5"] = json!({
        "barcodes": matrix.barcodes,
        "names": column(|feature| &feature.name),
        "ids": column(|feature| &feature.id),
        "types": column(|feature| &feature.feature_type),
        "genomes": column(|feature| &feature.genome),
        "x": matrix_of(&Values::Sparse(matrix.counts.clone())),
    });

    let position = |index: i32| BinPosition {
        barcode: format!("s_008um_{index:05}_00000-1"),
        in_tissue: index % 3 == 0,
        array_row: index,
        array_col: -index,
        center_px: SlidePx { x: f64::from(index) * 29.27, y: f64::from(index) / 3.0 },
    };
    let positions: Vec<BinPosition> = (0..3000).map(position).collect();
    write_positions_parquet(&folder.path().join("positions.parquet"), &positions, Overwrite::No).unwrap();
    expected["positions"]["positions.parquet"] = json!({
        "barcode": positions.iter().map(|row| &row.barcode).collect::<Vec<_>>(),
        "in_tissue": positions.iter().map(|row| row.in_tissue).collect::<Vec<_>>(),
        "array_row": positions.iter().map(|row| row.array_row).collect::<Vec<_>>(),
        "array_col": positions.iter().map(|row| row.array_col).collect::<Vec<_>>(),
        "x": exact(positions.iter().map(|row| row.center_px.x)),
        "y": exact(positions.iter().map(|row| row.center_px.y)),
    });
    std::fs::write(folder.path().join("expected.json"), expected.to_string()).unwrap();
    let said = run_python(&python, "check_written.py", &[folder.path()]);
    assert!(said.contains("7 files"), "{said}");
}

#[test]
fn every_file_of_a_prediction_holds_the_same_values_and_squidpy_draws_it() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("maps");
    let text = |path: &Path| path.display().to_string();
    let (model, image) = (text(&fixture().model()), text(&fixture().source().join("C.jpg")));
    run([
        "predict",
        "--model",
        &model,
        "--image",
        &image,
        "--mpp",
        "4",
        "--out",
        &text(&out),
        "--formats",
        "h5ad,csv,parquet,geojson,ome-tiff",
        "--device",
        "cpu",
    ])
    .success();
    let written = AnnData::read(std::fs::read(out.join("predictions.h5ad")).unwrap()).unwrap();
    std::fs::write(folder.path().join("expected.json"), contents_of(&written).to_string()).unwrap();
    // Kept where a person can look at it.
    let plot = std::env::var_os("MAGNET_PLOT").map_or_else(|| folder.path().join("plot.png"), PathBuf::from);
    run_python(&python, "check_predictions.py", &[&out, &plot]);
    assert!(std::fs::metadata(&plot).unwrap().len() > 5000);
}

#[derive(Deserialize)]
struct ExpectedLevel {
    width: u32,
    height: u32,
    /// File of the pixels, raw RGB.
    rgb: String,
}

/// How far a decoder of a lossy codec may be from another, in steps of 255.
#[derive(Deserialize)]
struct Tolerance {
    max: u8,
    mean: f64,
}

#[derive(Deserialize)]
struct ExpectedSlide {
    file: String,
    levels: Vec<ExpectedLevel>,
    tolerance: Tolerance,
    um_per_px: Option<f64>,
}

impl ExpectedSlide {
    fn compare(&self, folder: &Path) -> Result<Vec<String>, SlideError> {
        let mut wrong = Vec::new();
        let slide =
            SlidePyramid::open(std::fs::read(folder.join(&self.file)).unwrap(), PyramidOptions::default())?;
        let found_sizes: Vec<(u32, u32)> =
            slide.levels().iter().map(|level| (level.width_px, level.height_px)).collect();
        let sizes: Vec<(u32, u32)> = self.levels.iter().map(|level| (level.width, level.height)).collect();
        if found_sizes != sizes {
            wrong.push(format!("levels {found_sizes:?}, not {sizes:?}"));
            return Ok(wrong);
        }
        match (self.um_per_px, slide.embedded_pixel_size()) {
            (Some(expected), Some(found)) if (expected / found.um_per_px - 1.0).abs() < 1e-6 => {}
            (None, None) => {}
            (expected, found) => wrong.push(format!("pixel size {found:?}, not {expected:?}")),
        }
        for (index, level) in self.levels.iter().enumerate() {
            let pixels = std::fs::read(folder.join(&level.rgb)).unwrap();
            let whole = slide.read_region(index, 0, 0, level.width, level.height)?;
            let differences: Vec<u8> =
                pixels.iter().zip(&whole).map(|(expected, found)| expected.abs_diff(*found)).collect();
            let max = differences.iter().copied().max().unwrap_or_default();
            let mean =
                differences.iter().map(|&step| f64::from(step)).sum::<f64>() / differences.len() as f64;
            if pixels.len() != whole.len() || max > self.tolerance.max || mean > self.tolerance.mean {
                wrong.push(format!("level {index}: differs by up to {max}, {mean:.3} on average"));
            }
            // A piece across tiles is that piece of the whole.
            let (left, top, width, height) =
                (level.width / 3, level.height / 4, level.width / 2, level.height / 2);
            let piece = slide.read_region(index, i64::from(left), i64::from(top), width, height)?;
            let rows = (top..top + height).map(|row| ((row * level.width + left) * 3) as usize);
            let cut: Vec<u8> = rows.flat_map(|at| &whole[at..at + width as usize * 3]).copied().collect();
            if piece != cut {
                wrong.push(format!("level {index}: a region is not that part of the whole"));
            }
        }
        Ok(wrong)
    }
}

#[test]
fn slides_of_tifffile_decode_to_its_pixels() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    run_python(&python, "write_slides.py", &[folder.path()]);
    let text = std::fs::read_to_string(folder.path().join("slides.json")).unwrap();
    let slides: Vec<ExpectedSlide> = serde_json::from_str(&text).unwrap();
    let compare = |slide: &ExpectedSlide| {
        let wrong = slide.compare(folder.path()).unwrap_or_else(|error| vec![error.to_string()]);
        (slide.file.clone(), wrong)
    };
    report(&slides.iter().map(compare).collect::<Vec<_>>(), slides.len());
}
