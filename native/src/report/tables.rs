//! The report's tables.

use magnet_core::Level;

use super::charts::inline_bar;
use super::element::{Element, el};
use super::{DetailGroup, GeneRow, Role, ScoreRow};

/// How many genes are shown before the rest is folded away.
const FIRST_GENES: usize = 15;

/// Scores by level and predictor.
pub(super) fn scores(rows: &[ScoreRow]) -> Element {
    let head = [
        ("Level", false),
        ("Predictor", false),
        ("MSE", true),
        ("MAE", true),
        ("Pearson per spot", true),
        ("Pearson per gene, mean", true),
        ("median", true),
        ("Observations", true),
    ];
    let mut table = el("table")
        .child(el("caption").text(
            "Lower is better for errors, higher for Pearson. A score without meaning for a predictor is left open.",
        ))
        .child(header(&head));
    for level in Level::ALL {
        let of_level: Vec<&ScoreRow> = rows.iter().filter(|row| row.level == level).collect();
        let mut body = el("tbody");
        for (index, row) in of_level.iter().enumerate() {
            let mut line = el("tr").class(match row.role {
                Role::Model => "model",
                Role::MeanPredictor => "mean",
                Role::Comparator => "comparator",
            });
            if index == 0 {
                line = line.child(
                    el("th").attr("scope", "rowgroup").attr("rowspan", of_level.len()).text(level.name()),
                );
            }
            line = line.child(el("th").attr("scope", "row").text(row.predictor.clone()));
            for value in [row.mse, row.mae, row.pcc_spot, row.pcc_gene_mean, row.pcc_gene_median] {
                line = line.child(number(value));
            }
            body = body.child(line.child(el("td").class("num").text(row.n.to_string())));
        }
        if !of_level.is_empty() {
            table = table.child(body);
        }
    }
    el("div").class("scroll").child(table)
}

/// Scores of every gene, best first; all but the first are folded away.
pub(super) fn genes(rows: &[GeneRow], units: &str) -> Element {
    let mut sorted: Vec<&GeneRow> = rows.iter().collect();
    // Genes without a Pearson come last.
    let key = |row: &GeneRow| if row.pearson.is_finite() { row.pearson } else { f64::NEG_INFINITY };
    sorted.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.symbol.cmp(&b.symbol)));
    let (first, rest) = sorted.split_at(sorted.len().min(FIRST_GENES));
    let block = el("div").child(gene_table(first, 0, units));
    if rest.is_empty() {
        return block;
    }
    let summary = el("summary").text(format!("The other {} genes", rest.len()));
    block.child(el("details").child(summary).child(gene_table(rest, first.len(), units)))
}

fn gene_table(rows: &[&GeneRow], before: usize, units: &str) -> Element {
    let head = [
        ("Rank", true),
        ("Gene", false),
        ("Pearson", true),
        ("", false),
        ("MSE", true),
        ("MAE", true),
        ("Measured mean", true),
        ("Measured sd", true),
        ("Predicted sd", true),
    ];
    let mut body = el("tbody");
    for (index, row) in rows.iter().enumerate() {
        let bar = if row.pearson.is_finite() {
            el("td").class("bar").child(inline_bar(row.pearson))
        } else {
            el("td")
        };
        let mut line = el("tr")
            .child(el("td").class("num").text((before + index + 1).to_string()))
            .child(el("th").attr("scope", "row").text(row.symbol.clone()))
            .child(number(row.pearson))
            .child(bar);
        for value in [row.mse, row.mae, row.measured_mean, row.measured_sd, row.predicted_sd] {
            line = line.child(number(value));
        }
        body = body.child(line);
    }
    let caption = el("caption").text(format!("Values in {units}."));
    el("div").class("scroll").child(el("table").child(caption).child(header(&head)).child(body))
}

/// One table of names and values per group.
pub(super) fn details(groups: &[DetailGroup]) -> Element {
    let mut block = el("div");
    for group in groups {
        let mut body = el("tbody");
        for (name, value) in &group.rows {
            let is_digest = value.len() >= 32 && value.chars().all(|c| c.is_ascii_hexdigit());
            let cell = if is_digest { el("td").class("digest") } else { el("td") };
            body = body.child(
                el("tr")
                    .child(el("th").attr("scope", "row").text(name.clone()))
                    .child(cell.text(value.clone())),
            );
        }
        block = block.child(
            el("details")
                .child(el("summary").text(format!("{} ({})", group.title, group.rows.len())))
                .child(el("table").class("facts").child(body)),
        );
    }
    block
}

fn header(names: &[(&'static str, bool)]) -> Element {
    let cells = names.iter().map(|&(name, is_number)| {
        let cell = if name.is_empty() { el("td") } else { el("th").attr("scope", "col").text(name) };
        if is_number { cell.class("num") } else { cell }
    });
    el("thead").child(el("tr").children(cells))
}

fn number(value: f64) -> Element {
    el("td").class("num").text(fixed(value))
}

/// Three decimals with a true minus sign; a dash for what is not defined.
pub(super) fn fixed(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let text = format!("{:.3}", value.abs());
    if value < 0.0 && text != "0.000" { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(fixed(0.12345), "0.123");
        assert_eq!(fixed(-0.25), "−0.250");
        assert_eq!(fixed(-0.0001), "0.000");
        assert_eq!(fixed(f64::NAN), "–");
    }
}
