//! The table of a protocol, as Markdown.

use std::fmt::Write;

use magnet_core::Level;

use super::results::{FULL, MEAN_PREDICTOR, Protocol, Results, Spread, SummaryRow};

/// The results as Markdown: the bins, the wider levels, and what the numbers are. `notes` are added to what is said there.
pub fn markdown(results: &Results, notes: &[String]) -> String {
    let summary = results.summary();
    let (bins, wide): (Vec<_>, Vec<_>) = summary.iter().partition(|row| row.level == Level::Bin);
    let title = match results.command {
        Protocol::CrossValidate => "Cross-validation",
        Protocol::Ablate => "Ablations",
    };
    let mut text = format!("# {title} of {}\n\n", results.dataset);
    table(&mut text, results.command, &bins, false);
    if !wide.is_empty() {
        text.push_str("\n## Wider levels\n\n");
        table(&mut text, results.command, &wide, true);
    }
    text.push('\n');
    let basic = [
        format!(
            "Mean ± sample standard deviation (n − 1) over the folds; each of the {} folds counts the same and holds \
             out whole {}s (seed {}).",
            results.folds, results.group, results.seed
        ),
        format!(
            "MSE and MAE in units of {}. Pearson per spot is over the genes at one place, per gene over the places of \
             a slide.",
            results.units
        ),
        "Nothing of a held-out slide is seen in training: no validation slides, and a fixed number of epochs."
            .to_owned(),
    ];
    for note in basic.iter().chain(notes) {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn table(text: &mut String, command: Protocol, rows: &[&SummaryRow], with_level: bool) {
    let (level, line) = if with_level { (" level |", " --- |") } else { ("", "") };
    let what = match command {
        Protocol::CrossValidate => "model",
        Protocol::Ablate => "variant",
    };
    let _ = writeln!(
        text,
        "| bins |{level} {what} | MSE | MAE | Pearson per spot | Pearson per gene | folds |\n\
         | ---: |{line} --- | ---: | ---: | ---: | ---: | ---: |"
    );
    for row in rows {
        let level = if with_level { format!(" {} |", row.level) } else { String::new() };
        let _ = writeln!(
            text,
            "| {} µm |{level} {} | {} | {} | {} | {} | {} |",
            row.bin_um,
            label(command, row),
            number(&row.mse),
            number(&row.mae),
            number(&row.pcc_spot),
            number(&row.pcc_gene),
            row.folds
        );
    }
}

/// What a row is called in a table.
fn label(command: Protocol, row: &SummaryRow) -> &str {
    match (command, row.model.as_str(), row.variant.as_str()) {
        (_, MEAN_PREDICTOR, _) => "training mean",
        (Protocol::CrossValidate, model, _) => model,
        (Protocol::Ablate, _, FULL) => "full model",
        (Protocol::Ablate, _, variant) => variant,
    }
}

/// `0.412 ± 0.021`; without the deviation where there is none, and a dash where the score is nowhere defined.
fn number(spread: &Spread) -> String {
    match (spread.mean.is_nan(), spread.sd.is_nan()) {
        (true, _) => "–".to_owned(),
        (false, true) => format!("{:.3}", spread.mean),
        (false, false) => format!("{:.3} ± {:.3}", spread.mean, spread.sd),
    }
}

#[cfg(test)]
mod tests {
    use magnet_core::metrics::LevelScores;

    use super::super::results::{Group, ResultRow};
    use super::*;

    fn row(variant: &str, level: Level, fold: usize, mse: f64) -> ResultRow {
        let scores = |mse, pcc_gene_mean, mean_predictor| LevelScores {
            mse,
            mae: 0.25,
            pcc_spot: 0.5,
            pcc_gene_mean,
            pcc_gene_median: 0.0,
            n: 3,
            mean_predictor,
        };
        ResultRow {
            model: "magnet".into(),
            variant: variant.into(),
            bin_um: 16.0,
            level,
            fold,
            held_out: vec!["A".into()],
            scores: scores(mse, f64::NAN, Some(Box::new(scores(1.0, 0.0, None)))),
            run: "r".into(),
        }
    }

    #[test]
    fn numbers_are_those_that_a_hand_computes() {
        let mut results =
            Results::new(Protocol::Ablate, "data".into(), Group::Slide, 3, 7, "log1p CP10K".into());
        results.rows = vec![
            row(FULL, Level::Bin, 0, 0.5),
            row(FULL, Level::Bin, 1, 0.7),
            row(FULL, Level::Spot, 0, 0.4),
            row("without graph", Level::Bin, 0, 0.9),
        ];
        let text = markdown(&results, &["Genes: a file.".into()]);
        // 0.5 and 0.7: mean 0.6, and √(0.01 + 0.01) over one degree of freedom.
        assert!(
            text.contains("| 16 µm | full model | 0.600 ± 0.141 | 0.250 ± 0.000 | 0.500 ± 0.000 | – | 2 |")
        );
        assert!(text.contains("| 16 µm | training mean | 1.000 ± 0.000 |"), "{text}");
        assert!(text.contains("| 16 µm | without graph | 0.900 | 0.250 | 0.500 | – | 1 |"), "{text}");
        let (bins, wide) = text.split_once("## Wider levels").unwrap();
        assert!(!bins.contains("| spot |") && wide.contains("| 16 µm | spot | full model | 0.400 |"));
        assert!(text.ends_with("- Genes: a file.\n") && text.contains("whole slides (seed 7)"), "{text}");
    }
}
