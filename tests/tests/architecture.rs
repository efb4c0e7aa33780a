//! The architecture earns its keep: genes that follow the neighbourhood of a bin are predicted better with the graph and
//! the wide levels than by the same model without them.
//!
//! Both models train on two synthetic slides and are scored on a third; the program that made the counts is known, so a
//! gene's group says whether its bin's own patch can show what drives it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use magnet_tests::run;

/// Genes whose driver lies in the bin's own patch.
const OWN: [&str; 3] = ["TUM", "STR", "EPI"];
/// Genes whose driver, the density of tumour cells, lies around the bin; the patch is 32 µm wide.
const AROUND: [&str; 1] = ["NEARTUM"];

/// What both models share: small enough for a minute on two cores.
const SHARED: &str = r#"
preset = "demo"

[data]
gene_selection = "file"

[train]
epochs = 12
batch_bins = 128
validate_every = 12
checkpoint_every = 12

[model.levels.bin]
patch_px = 16
"#;

/// What the model without the architecture lacks.
const SINGLE_LEVEL: [&str; 3] =
    ["model.graph.enabled=false", "model.wide_levels=false", "model.cross_level.enabled=false"];

#[test]
fn genes_driven_from_around_a_bin_are_predicted_better_with_graph_and_wide_levels() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    run([
        "synthesize",
        "--out",
        &at("tissue"),
        "--slides",
        "3",
        "--size-um",
        "640",
        "--mpp",
        "1",
        "--seed",
        "5",
    ])
    .success();
    for slide in ["synthetic_1", "synthetic_2", "synthetic_3"] {
        let input = at(&format!("tissue/{slide}"));
        run(["prepare", "visium-hd", "--input", &input, "--bin-um", "16", "--out", &at("dataset")]).success();
    }
    let genes: Vec<String> = OWN
        .iter()
        .chain(&AROUND)
        .flat_map(|group| (1..=5).map(move |number| format!("{group}{number}")))
        .collect();
    std::fs::write(place.path().join("genes.txt"), genes.join("\n")).unwrap();
    std::fs::write(place.path().join("config.toml"), SHARED).unwrap();

    let scores = |name: &str, settings: &[&str]| {
        let (config, data, out) = (at("config.toml"), at("dataset"), at(name));
        let genes = format!("data.gene_file='{}'", at("genes.txt"));
        let mut words = vec!["train", "--config", &config, "--data", &data, "--out", &out, "--seed", "1"];
        words.extend(["--train", "synthetic_1,synthetic_2", "--device", "cpu", "--set", &genes]);
        words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        run(words).success();
        let (model, scores) = (format!("{out}/model.safetensors"), format!("{out}-scores"));
        let words =
            ["evaluate", "--model", &model, "--data", &data, "--slides", "synthetic_3", "--out", &scores];
        run(words.into_iter().chain(["--device", "cpu"])).success();
        [mean_pcc(&scores, &OWN), mean_pcc(&scores, &AROUND)]
    };
    let [own, around] = scores("whole", &[]);
    let [own_alone, around_alone] = scores("single-level", &SINGLE_LEVEL);
    println!("own patch: {own:.3} against {own_alone:.3}; around: {around:.3} against {around_alone:.3}");
    assert!(around > around_alone + 0.10, "genes driven from around: {around:.3} against {around_alone:.3}");
    assert!(own > own_alone - 0.05, "genes driven by the bin itself: {own:.3} against {own_alone:.3}");
    assert!(own_alone > 0.3, "the comparison is with a model that learnt something: {own_alone:.3}");
}

/// Mean over the genes of some groups of Pearson over the bins.
fn mean_pcc(scores: &str, groups: &[&str]) -> f64 {
    let mut table = csv::Reader::from_path(Path::new(scores).join("genes.csv")).unwrap();
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|cell| cell == name).unwrap();
    let (level, gene, pcc) = (column("level"), column("gene"), column("pcc"));
    let values: Vec<f64> = table
        .records()
        .map(Result::unwrap)
        .filter(|row| &row[level] == "bin")
        .filter(|row| groups.contains(&row[gene].trim_end_matches(|c: char| c.is_ascii_digit())))
        .map(|row| row[pcc].parse().unwrap_or(0.0))
        .collect();
    assert_eq!(values.len(), 5 * groups.len());
    values.iter().sum::<f64>() / values.len() as f64
}
