use std::fs;
use std::path::PathBuf;

use magnet_core::anndata::{AnnData, AxisTable, Values};
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::Matrix;

use super::*;
use crate::error::{exit, exit_code};

/// A dataset of slides of two spots each, with these genes and counts.
fn dataset(root: &Path, slides: &[(&str, &[&str], [f32; 6])]) -> PathBuf {
    for name in ["st", "wsis", "metadata"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for (id, genes, counts) in slides {
        let values = Matrix { rows: 2, cols: 3, values: counts.to_vec() };
        let obs = AxisTable::from_names(["s0", "s1"].map(str::to_owned).to_vec());
        let var = AxisTable::from_names(genes.iter().map(|gene| (*gene).to_owned()).collect());
        let mut data = AnnData::new(Values::Dense(values), obs, var);
        data.spatial = Some(vec![SlidePx { x: 5.0, y: 5.0 }, SlidePx { x: 15.0, y: 5.0 }]);
        fs::write(root.join(format!("st/{id}.h5ad")), data.write().unwrap()).unwrap();
        let metadata = r#"{"pixel_size_um": 2.0, "bin_um": 55, "patient": "P1"}"#;
        fs::write(root.join(format!("metadata/{id}.json")), metadata).unwrap();
        image::RgbImage::new(200, 80).save(root.join(format!("wsis/{id}.png"))).unwrap();
    }
    root.to_path_buf()
}

/// Everywhere half of the counts, everywhere a quarter, and in one place of two all of the rest.
const COUNTS: [f32; 6] = [50.0, 25.0, 25.0, 60.0, 30.0, 0.0];

fn args(data: Vec<PathBuf>, out: PathBuf) -> ReportGenesArgs {
    ReportGenesArgs { data, bin_um: Vec::new(), genes: Some(1), out, overwrite: false }
}

#[test]
fn figure_and_tables_hold_every_gene_and_every_choice() {
    let root = tempfile::tempdir().unwrap();
    let genes = ["COMMON", "A&B", "PATCHY"];
    let first = dataset(&root.path().join("first"), &[("S1", &genes, COUNTS), ("S2", &genes, COUNTS)]);
    let second = dataset(&root.path().join("second"), &[("T1", &["COMMON", "OTHER", "PATCHY"], COUNTS)]);
    let out = root.path().join("out");
    let args = args(vec![first, second], out.clone());
    run(&args, &Console::quiet()).unwrap();

    let svg = fs::read_to_string(out.join("genes.svg")).unwrap();
    for part in [
        "first, 55 µm",
        "second, 55 µm",
        "highest mean: COMMON",
        "most variable: PATCHY",
        "cut at 1",
        "rank by mean",
        "share of bins in which the gene is seen",
        "log1p CP10K",
        "Genes that two choices share",
        "shared part (Jaccard)",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(svg.matches("<image").count(), 2 * 2);
    assert!(fs::read(out.join("genes.png")).unwrap().starts_with(b"\x89PNG"));

    let table = fs::read_to_string(out.join("genes.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 3 + 3);
    assert_eq!(rows[0][..4], ["dataset", "bin_um", "gene", "id"]);
    assert_eq!(
        rows[0][8..],
        ["highest_mean_rank", "highest_mean_chosen", "most_variable_rank", "most_variable_chosen"]
    );
    let of = |gene: &str| rows.iter().find(|row| row[0] == "first" && row[2] == gene).unwrap();
    assert_eq!((of("COMMON")[7], &of("COMMON")[8..]), ("1.000000", &["1", "1", "2", "0"][..]));
    assert_eq!((of("PATCHY")[7], &of("PATCHY")[8..]), ("0.500000", &["3", "0", "1", "1"][..]));
    // log1p of 2,500 of 10,000 in one of two bins.
    assert_eq!(of("PATCHY")[4], format!("{:.6}", 2501.0_f64.ln() / 2.0));

    let overlap = fs::read_to_string(out.join("overlap.csv")).unwrap();
    assert!(
        overlap.contains("\"first, 55 µm, highest mean\",\"second, 55 µm, highest mean\",1,1,1,1.000000")
    );
    assert!(
        overlap.contains("\"first, 55 µm, highest mean\",\"first, 55 µm, most variable\",1,1,0,0.000000")
    );
    assert_eq!(overlap.lines().count(), 1 + 6);
    assert!(run(&args, &Console::quiet()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn bins_are_brought_together_before_genes_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    let genes = ["COMMON", "A&B", "PATCHY"];
    // The spots lie 20 µm apart, so both are in one tile of 110 µm.
    let data = dataset(&root.path().join("data"), &[("S1", &genes, COUNTS)]);
    let out = root.path().join("out");
    let mut args = args(vec![data], out.clone());
    args.bin_um = vec![55.0, 110.0];
    run(&args, &Console::quiet()).unwrap();
    let table = fs::read_to_string(out.join("genes.csv")).unwrap();
    let row =
        |size: &str| table.lines().find(|line| line.starts_with(&format!("data,{size},PATCHY,"))).unwrap();
    // 25 of 190 counts in the one tile, where it is seen.
    let mean = (1.0 + 10_000.0 * 25.0 / 190.0_f64).ln();
    assert!(row("110").contains(&format!(",{mean:.6},0.000000,0.000000,1.000000,")), "{}", row("110"));
    assert!(row("55").contains(",0.500000,"));
    let overlap = fs::read_to_string(out.join("overlap.csv")).unwrap();
    assert!(overlap.contains("\"data, 55 µm, highest mean\",\"data, 110 µm, highest mean\",1,1,1,1.000000"));
}

#[test]
fn without_a_number_all_genes_of_a_small_panel_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    let data = dataset(&root.path().join("data"), &[("S1", &["A", "B", "C"], COUNTS)]);
    let out = root.path().join("out");
    run(&ReportGenesArgs { genes: None, ..args(vec![data], out.clone()) }, &Console::quiet()).unwrap();
    assert!(fs::read_to_string(out.join("genes.svg")).unwrap().contains("cut at 3"));
}

#[test]
fn what_cannot_be_chosen_is_refused_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let slides = [("S1", &["A", "B", "C"][..], COUNTS), ("S2", &["A", "C", "D"][..], COUNTS)];
    let data = dataset(&root.path().join("data"), &slides);
    let said = |change: &dyn Fn(&mut ReportGenesArgs)| {
        let mut args = args(vec![data.clone()], root.path().join("out"));
        change(&mut args);
        let error = run(&args, &Console::quiet()).unwrap_err();
        assert_eq!(exit_code(&error), exit::BAD_INPUT, "{error:?}");
        assert!(!args.out.exists());
        format!("{error:#}")
    };
    assert!(
        said(&|args| args.genes = Some(3))
            .contains("--genes: number: expected 1 to 2, the genes common to all slides")
    );
    assert!(said(&|args| args.genes = Some(0)).contains("found 0"));
    assert!(said(&|args| args.data[0] = "nowhere".into()).contains("nowhere"));
    assert!(
        said(&|args| args.bin_um = vec![8.0]).contains("--bin-um: slide S1 at 8 µm: expected finer bins")
    );
    assert!(
        said(&|args| args.bin_um = vec![900.0])
            .contains("at 900 µm: expected tiles on the tissue, found none")
    );
    assert!(said(&|args| args.bin_um = vec![55.0, 55.0]).contains("found 55 µm twice"));
    fs::write(data.join("metadata/S2.json"), r#"{"pixel_size_um": 2.0, "bin_um": 100}"#).unwrap();
    assert!(said(&|_| {}).contains("bin_um of slide S2: expected 55 µm, as slide S1"));
}
