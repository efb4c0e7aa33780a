//! What the paper itself reports: Table 1 of Zhu et al., MIDL 2025. Other data, other genes and other folds than any
//! results here, so it is a table of its own.

use super::{Cell, Row, SCORES, Table, mark_places};

/// A model, then MSE, MAE and PCC on VUMC kidney and on CRC, as printed.
type Published = (&'static str, [&'static str; 6]);

const AT_8_UM: [Published; 6] = [
    ("ST-Net", ["0.193", "0.388", "0.226", "0.292", "0.402", "0.527"]),
    ("EGN", ["0.048", "0.134", "0.157", "0.409", "0.508", "0.511"]),
    ("HisToGene", ["0.105", "0.241", "0.109", "0.311", "0.419", "0.451"]),
    ("BLEEP", ["0.063", "0.163", "0.199", "0.348", "0.440", "0.475"]),
    ("Hist2ST", ["0.140", "0.358", "0.175", "0.287", "0.404", "0.537"]),
    ("MagNet", ["0.048", "0.109", "0.278", "0.271", "0.375", "0.541"]),
];

const AT_16_UM: [Published; 6] = [
    ("ST-Net", ["0.288", "0.420", "0.364", "0.661", "0.632", "0.560"]),
    ("EGN", ["0.149", "0.302", "0.308", "0.740", "0.677", "0.552"]),
    ("HisToGene", ["0.204", "0.380", "0.243", "0.660", "0.637", "0.522"]),
    ("BLEEP", ["0.174", "0.290", "0.317", "0.673", "0.625", "0.504"]),
    ("Hist2ST", ["0.224", "0.427", "0.330", "0.610", "0.611", "0.562"]),
    ("MagNet", ["0.127", "0.228", "0.378", "0.564", "0.581", "0.574"]),
];

const AT_55_UM: [Published; 2] = [
    ("best of the five others", ["0.327", "0.459", "0.609", "0.702", "0.622", "0.674"]),
    ("MagNet", ["0.324", "0.458", "0.611", "0.688", "0.612", "0.670"]),
];

/// The paper's table.
pub(super) fn table() -> Table {
    let scores = SCORES.get(..3).unwrap_or_default().to_vec();
    let mut blocks = Vec::new();
    for (resolution, published) in
        [("8 µm", AT_8_UM.as_slice()), ("16 µm", AT_16_UM.as_slice()), ("55 µm", AT_55_UM.as_slice())]
    {
        let mut rows: Vec<Row> = published.iter().map(row).collect();
        mark_places(&mut rows, &scores);
        blocks.push((resolution.to_owned(), rows));
    }
    Table {
        title: "Published by the paper's authors, not measured here".into(),
        datasets: vec!["VUMC kidney (published)".into(), "CRC (published)".into()],
        scores,
        blocks,
        notes: vec![
            "Source: Zhu et al., MagNet, MIDL 2025 (PMLR 301:1943-1955, arXiv 2502.21011), Table 1: means over four folds of \
             the authors' own data, genes, labels and runs. The numbers say nothing about other datasets and are not to be \
             compared with other tables."
                .into(),
        ],
    }
}

fn row((model, numbers): &Published) -> Row {
    let cells = |numbers: &[&str]| {
        numbers.iter().map(|mean| Cell { mean: (*mean).to_owned(), ..Cell::default() }).collect()
    };
    Row { model: format!("{model} (published)"), cells: numbers.chunks(3).map(cells).collect() }
}
