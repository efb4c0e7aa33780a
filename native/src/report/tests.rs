//! What every report must hold to.

use super::*;

fn input() -> ReportInput {
    let centers: Vec<SlideUm> =
        (0..30).map(|i| SlideUm { x: 100.0 * f64::from(i % 6), y: 100.0 * f64::from(i / 6) }).collect();
    let values: Vec<f32> = (0..30).map(|i| i as f32 / 10.0).collect();
    let row = |level, predictor: &str, role, pcc| ScoreRow {
        level,
        predictor: predictor.into(),
        role,
        mse: 0.41,
        mae: 0.45,
        pcc_spot: 0.77,
        pcc_gene_mean: pcc,
        pcc_gene_median: pcc,
        n: 30,
    };
    let gene = |symbol: &str, pearson| GeneRow {
        symbol: symbol.into(),
        pearson,
        mse: 0.3,
        mae: 0.4,
        measured_mean: 1.0,
        measured_sd: 0.7,
        predicted_sd: 0.3,
    };
    ReportInput {
        title: "MagNet on <her2st> & \"more\"".into(),
        summary: "Trained on A & B.".into(),
        units: "log1p CP10K".into(),
        scores: vec![
            row(Level::Bin, "MagNet", Role::Model, 0.31),
            row(Level::Bin, "mean predictor", Role::MeanPredictor, f64::NAN),
            row(Level::Region, "MagNet", Role::Model, 0.44),
        ],
        genes: vec![gene("ERBB2", 0.5), gene("<img src=x>", 0.1), gene("FLAT", f64::NAN)],
        training: (0..5)
            .map(|epoch| TrainingRow {
                epoch: f64::from(epoch),
                train_loss: Some(1.0 / f64::from(epoch + 1)),
                valid_loss: Some(0.5),
                valid_pcc_gene: Some(0.1 * f64::from(epoch)),
            })
            .collect(),
        slides: vec![SlideMaps {
            name: "C2 <&>".into(),
            slide: Some(SlideImage::new(60, 50, vec![180; 60 * 50 * 3], 10.0).unwrap()),
            centers,
            mark: Mark::Disc { diameter_um: 100.0 },
            genes: vec![GeneMap {
                symbol: "<script>alert(1)</script>".into(),
                label: "best".into(),
                pearson: 0.5,
                measured: Some(values.clone()),
                predicted: values,
            }],
        }],
        color_map: ColorMap::Viridis,
        details: vec![DetailGroup {
            title: "Data".into(),
            rows: vec![("C2 \"counts\"".into(), "ab".repeat(32)), ("genes".into(), "<3>".into())],
        }],
        notes: vec!["Held out: C2 & C3.".into()],
    }
}

#[test]
fn all_sections_are_there() {
    let html = render(&input()).unwrap();
    for id in ["scores", "maps", "distribution", "training", "genes", "settings", "notes"] {
        assert_eq!(html.matches(&format!("<section id=\"{id}\">")).count(), 1, "{id}");
    }
    assert!(html.starts_with("<!DOCTYPE html>"));
    assert!(html.contains("mean predictor") && html.contains("log1p CP10K") && html.contains("research use"));
    // The image once, then measured and predicted.
    assert_eq!(html.matches("data:image/png;base64,").count(), 3);
}

#[test]
fn nothing_is_loaded_from_anywhere_and_nothing_runs() {
    let html = render(&input()).unwrap();
    for forbidden in ["http:", "https:", "<script", "<link", "url(", "@import", "src=\"/", "href", "onload"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn names_from_data_are_escaped() {
    let html = render(&input()).unwrap();
    for raw in ["<script>alert", "<img src=x>", "<her2st>", "C2 <&>", "<3>", "A & B."] {
        assert!(!html.contains(raw), "{raw}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("&lt;img src=x&gt;"));
}

#[test]
fn pictures_and_charts_have_a_text_alternative() {
    let html = render(&input()).unwrap();
    for tag in html.split('<').filter(|tag| tag.starts_with("img ")) {
        assert!(tag.contains("alt=\""), "{}", &tag[..40]);
    }
    for tag in html.split('<').filter(|tag| tag.starts_with("svg ")) {
        assert!(tag.contains("aria-label=\"") || tag.contains("aria-hidden"), "{tag}");
    }
    assert!(html.contains("scope=\"col\"") && html.contains("scope=\"row\""));
}

#[test]
fn undefined_numbers_are_open_not_nan() {
    let html = render(&input()).unwrap();
    assert!(!html.contains("NaN") && !html.contains(">inf"));
    // FLAT is the last gene of the table.
    let place = |symbol: &str| html.find(&format!(">{symbol}</th>")).unwrap();
    assert!(place("ERBB2") < place("FLAT"));
}

#[test]
fn a_report_of_nothing_is_still_a_report() {
    let empty = ReportInput {
        scores: Vec::new(),
        genes: Vec::new(),
        training: Vec::new(),
        slides: Vec::new(),
        details: Vec::new(),
        ..input()
    };
    let html = render(&empty).unwrap();
    for words in ["No score", "No map", "No gene was scored", "No training record", "No setting"] {
        assert!(html.contains(words), "{words}");
    }
}

#[test]
fn a_map_that_cannot_be_drawn_names_slide_and_gene() {
    let mut wrong = input();
    wrong.slides[0].genes[0].predicted.pop();
    let error = format!("{:#}", render(&wrong).unwrap_err());
    assert!(error.contains("C2 <&>") && error.contains("<script>") && error.contains("29"), "{error}");
}

#[test]
fn scores_bring_their_mean_predictor_along() {
    let mean = LevelScores {
        mse: 0.5,
        mae: 0.6,
        pcc_spot: 0.7,
        pcc_gene_mean: 0.0,
        pcc_gene_median: 0.0,
        n: 9,
        mean_predictor: None,
    };
    let scores = LevelScores { mse: 0.4, mean_predictor: Some(Box::new(mean.clone())), ..mean.clone() };
    let rows = ScoreRow::of_model(Level::Bin, &scores);
    assert_eq!(
        rows.iter().map(|row| (row.role, row.mse)).collect::<Vec<_>>(),
        [(Role::Model, 0.4), (Role::MeanPredictor, 0.5)]
    );
    assert_eq!(ScoreRow::of_model(Level::Bin, &mean).len(), 1);
}

#[test]
fn best_median_and_worst_are_shown_once_and_undefined_ones_never() {
    let pearsons = [0.1, f64::NAN, 0.9, 0.5, -0.2];
    assert_eq!(best_median_worst(&pearsons, 2), [(2, "best"), (3, "best"), (0, "median"), (4, "worst")]);
    assert_eq!(best_median_worst(&pearsons, 1), [(2, "best"), (0, "median"), (4, "worst")]);
    assert_eq!(best_median_worst(&[0.3], 2), [(0, "best")]);
    assert!(best_median_worst(&[f64::NAN], 2).is_empty());
}
