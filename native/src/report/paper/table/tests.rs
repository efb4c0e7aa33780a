use magnet_core::metrics::LevelScores;

use super::*;
use crate::cli::LevelArg;
use crate::error::{exit, exit_code};
use crate::protocol::results::{Group, Protocol, ResultRow};

fn scores(mse: f64, pcc: f64) -> LevelScores {
    LevelScores {
        mse,
        mae: mse / 2.0,
        pcc_spot: pcc,
        pcc_gene_mean: pcc - 0.5,
        pcc_gene_median: 0.0,
        n: 10,
        mean_predictor: None,
    }
}

/// One fold of a model, beside a training mean whose squared error is 0.9.
fn row(model: &str, bin_um: f64, fold: usize, mse: f64, pcc: f64) -> ResultRow {
    let mean = LevelScores { pcc_gene_mean: 0.0, ..scores(0.9, 0.4) };
    ResultRow {
        model: model.into(),
        variant: FULL.into(),
        bin_um,
        level: Level::Bin,
        fold,
        held_out: vec!["A".into()],
        scores: LevelScores { mean_predictor: Some(Box::new(mean)), ..scores(mse, pcc) },
        run: format!("{model}/{bin_um}/{fold}"),
    }
}

fn results(dataset: &str, rows: Vec<ResultRow>) -> Results {
    let units = "log1p CP10K".into();
    let mut results = Results::new(Protocol::CrossValidate, dataset.into(), Group::Slide, 2, 7, units);
    results.rows = rows;
    results
}

/// `magnet` 0.5 ± 0.1414 and `ridge` 0.7 ± 0 at 16 µm.
fn two_models() -> Vec<ResultRow> {
    vec![
        row("magnet", 16.0, 0, 0.4, 0.8),
        row("magnet", 16.0, 1, 0.6, 0.6),
        row("ridge", 16.0, 0, 0.7, 0.7),
        row("ridge", 16.0, 1, 0.7, 0.7),
    ]
}

fn args(results: Vec<PathBuf>) -> ReportTableArgs {
    ReportTableArgs {
        results,
        format: TableFormat::Markdown,
        level: LevelArg::Bin,
        paper: false,
        out: None,
        overwrite: false,
    }
}

fn written(folder: &Path, name: &str, results: &Results) -> PathBuf {
    let path = folder.join(name);
    results.write(&path).unwrap();
    path
}

fn tables_of(results: &[Results]) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = results
        .iter()
        .enumerate()
        .map(|(index, results)| written(folder.path(), &format!("{index}.json"), results))
        .collect();
    measured(&read(&paths, Level::Bin).unwrap(), Level::Bin)
}

#[test]
fn the_table_has_the_means_and_deviations_over_the_folds() {
    let text = markdown::write(&[tables_of(&[results("data/her2st", two_models())])]);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec![
                "Resolution",
                "Model",
                "her2st MSE ↓",
                "her2st MAE ↓",
                "her2st PCC per spot ↑",
                "her2st PCC per gene ↑"
            ],
            vec![
                "----------",
                "----------------",
                "-----------------------:",
                "-----------------------:",
                "-----------------------:",
                "-----------------------:"
            ],
            vec![
                "16 µm",
                "Training mean",
                "0.900 ± 0.000",
                "0.450 ± 0.000",
                "<ins>0.400 ± 0.000</ins>",
                "<ins>0.000 ± 0.000</ins>"
            ],
            // √((0.1² + 0.1²) / 1) = 0.1414; half of it for the absolute error.
            vec![
                "",
                "MagNet",
                "**0.500 ± 0.141**",
                "**0.250 ± 0.071**",
                "**0.700 ± 0.141**",
                "**0.200 ± 0.141**"
            ],
            vec![
                "",
                "Ridge regression",
                "<ins>0.700 ± 0.000</ins>",
                "<ins>0.350 ± 0.000</ins>",
                "**0.700 ± 0.000**",
                "**0.200 ± 0.000**"
            ],
        ]
    );
    // Aligned: all lines of the table are equally wide.
    let widths: Vec<usize> =
        text.lines().filter(|line| line.starts_with('|')).map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    assert!(text.contains("her2st: 2 folds by slide, seed 7; errors in log1p CP10K."));
}

#[test]
fn resolutions_and_datasets_stand_side_by_side_with_gaps_left_open() {
    let fine = results("a/x", vec![row("magnet", 8.0, 0, 0.4, 0.8)]);
    let coarse = results("b/x", two_models());
    let table = tables_of(&[fine, coarse]);
    // The last part of the path would not tell them apart.
    assert_eq!(table.datasets, ["a/x", "b/x"]);
    let names: Vec<&str> = table.blocks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["8 µm", "16 µm"]);
    let (_, rows) = &table.blocks[0];
    assert_eq!(rows.iter().map(|row| row.model.as_str()).collect::<Vec<_>>(), ["Training mean", "MagNet"]);
    assert_eq!(rows[1].cells[0][0], Cell { mean: "0.400".into(), sd: String::new(), place: Place::Best });
    assert_eq!(rows[1].cells[1], vec![Cell::default(); 4]);
    let fewer = table.notes.last().unwrap();
    assert!(fewer.contains("MagNet at 8 µm on a/x (1 of 2)") && !fewer.contains("b/x"), "{fewer}");
    assert!(markdown::write(&[table]).contains(" – |"));
}

#[test]
fn what_reads_the_same_ranks_the_same_and_one_row_is_not_the_best() {
    let row = |mean: &str| Row {
        model: String::new(),
        cells: vec![vec![Cell { mean: mean.into(), ..Cell::default() }]],
    };
    let places = |means: &[&str], score: Score| {
        let mut rows: Vec<Row> = means.iter().map(|mean| row(mean)).collect();
        mark_places(&mut rows, &[score]);
        rows.iter().map(|row| row.cells[0][0].place).collect::<Vec<_>>()
    };
    use Place::{Best, Other, Second};
    assert_eq!(places(&["0.3", "0.1", "0.1", "", "0.2"], SCORES[0]), [Other, Best, Best, Other, Second]);
    assert_eq!(places(&["-0.3", "0.1", "0.2"], SCORES[3]), [Other, Second, Best]);
    assert_eq!(places(&["0.3", ""], SCORES[0]), [Other, Other]);
}

#[test]
fn latex_is_balanced_and_every_row_has_all_its_cells() {
    let mut rows = two_models();
    rows.push(ResultRow { variant: "no_graph & 50%".into(), ..row("magnet", 16.0, 0, 0.8, 0.2) });
    let text =
        latex::write(&[tables_of(&[results("d/a_b", rows.clone()), results("c", rows)]), published::table()]);
    for environment in ["table", "tabular"] {
        let count = |what: &str| text.matches(&format!("\\{what}{{{environment}}}")).count();
        assert_eq!((count("begin"), count("end")), (2, 2), "{environment}");
    }
    let bare = text.replace("\\{", "").replace("\\}", "");
    assert_eq!(bare.matches('{').count(), bare.matches('}').count());
    assert_eq!(text.matches('$').count() % 2, 0);
    let cells = |line: &str| line.replace("\\&", "").matches('&').count() + 1;
    let widths: Vec<usize> = text
        .lines()
        .filter(|line| line.ends_with("\\\\") && !line.contains("multicolumn"))
        .map(cells)
        .collect();
    // The head and four rows of 2 + 2 · 4 cells, then those of the paper: 2 + 2 · 3.
    assert_eq!(widths, [vec![10; 5], vec![8; 15]].concat(), "{text}");
    assert!(
        text.contains("\\begin{tabular}{llrrrrrrrr}")
            && text.contains("\\cmidrule(lr){3-6}\\cmidrule(lr){7-10}")
    );
    assert!(text.contains("MagNet (no\\_graph \\& 50\\%)") && text.contains("{a\\_b}"));
    assert!(text.contains("\\textbf{0.500 $\\pm$ 0.141}"));
}

#[test]
fn the_papers_numbers_are_marked_and_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = args(vec![written(folder.path(), "results.json", &results("her2st", two_models()))]);
    args.paper = true;
    args.out = Some(folder.path().join("table.md"));
    run(&args, &Console::quiet()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("table.md")).unwrap();
    let (own, paper) = text.split_once("**Published by the paper's authors, not measured here**").unwrap();
    assert!(!own.contains("published") && !own.contains("VUMC") && own.contains("her2st"));
    assert!(paper.contains("arXiv 2502.21011") && paper.contains("**0.109**") && !paper.contains("her2st"));
    // Each of its rows says so.
    let rows = paper.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| --")).skip(1);
    assert_eq!(rows.clone().count(), 14);
    assert!(rows.into_iter().all(|row| row.contains("(published)")));
    assert!(run(&args, &Console::quiet()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn files_that_contradict_each_other_are_refused_and_those_that_agree_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = written(folder.path(), "a.json", &results("d", two_models()));
    let said = |second: &Results| {
        let second = written(folder.path(), "b.json", second);
        let error = run(&args(vec![first.clone(), second]), &Console::quiet()).unwrap_err();
        assert_eq!(exit_code(&error), exit::BAD_INPUT);
        error.to_string()
    };
    let with = |change: &dyn Fn(&mut Results)| {
        let mut other = results("d", two_models());
        change(&mut other);
        said(&other)
    };
    assert!(
        with(&|other| other.units = "log proportion".into()).contains("b.json: units: expected log1p CP10K")
    );
    assert!(with(&|other| other.seed = 8).contains("seed: expected 7, as in"));
    assert!(with(&|other| other.folds = 4).contains("folds: expected 2"));
    assert!(
        with(&|other| other.rows[0].scores.mse = 0.1)
            .contains("rows: expected the scores of MagNet at 16 µm")
    );
    assert!(with(&|other| other.rows.clear()).contains("rows: expected scores of the bin level, found none"));

    let mut ablated = two_models();
    ablated.push(ResultRow { variant: "no graph".into(), ..row("magnet", 16.0, 0, 0.8, 0.2) });
    let table = tables_of(&[results("d", two_models()), results("d", ablated)]);
    let models: Vec<&str> = table.blocks[0].1.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(models, ["Training mean", "MagNet", "Ridge regression", "MagNet (no graph)"]);
}
