//! What is written here opens in the field's tools with identical values.

use std::path::{Path, PathBuf};

use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, RgbImage, Values};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::{CountMatrix, Matrix};
use magnet_native::dataset::positions::{BinPosition, write_positions_parquet};
use magnet_native::dataset::tenx_matrix::{Feature, TenxMatrix, write_tenx_matrix};
use magnet_native::files::Overwrite;
use magnet_tests::fixture::fixture;
use magnet_tests::run;
use serde_json::json;
use tempfile::TempDir;

use crate::contents::{contents_of, exact, group_of, matrix_of};
use crate::python::{python, run_python};

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
