//! Tables as LaTeX with the package `booktabs`.

use super::{Cell, Place, Table};

pub(super) fn write(tables: &[Table]) -> String {
    let texts: Vec<String> = tables.iter().map(table).collect();
    format!("% needs \\usepackage{{booktabs}}\n{}", texts.join("\n"))
}

fn table(table: &Table) -> String {
    let scores = table.scores.len();
    let mut out = String::from("\\begin{table}\n\\centering\n\\small\n\\setlength{\\tabcolsep}{4pt}\n");
    let columns = format!("ll{}", "r".repeat(scores).repeat(table.datasets.len()));
    out += &format!("\\caption{{{}.}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n", escape(&table.title));
    let groups: Vec<String> = table
        .datasets
        .iter()
        .map(|dataset| format!("\\multicolumn{{{scores}}}{{c}}{{{}}}", escape(dataset)))
        .collect();
    out += &format!(" & & {} \\\\\n", groups.join(" & "));
    for dataset in 0..table.datasets.len() {
        let first = 3 + dataset * scores;
        out += &format!("\\cmidrule(lr){{{first}-{}}}", first + scores - 1);
    }
    out += "\nResolution & Model";
    for _ in &table.datasets {
        for score in &table.scores {
            let arrow = if score.lower_is_better { "\\downarrow" } else { "\\uparrow" };
            out += &format!(" & {} ${arrow}$", escape(score.name));
        }
    }
    out += " \\\\\n";
    for (resolution, rows) in &table.blocks {
        out += "\\midrule\n";
        for (index, row) in rows.iter().enumerate() {
            let name = if index == 0 { escape(resolution) } else { String::new() };
            let cells: Vec<String> = row.cells.iter().flatten().map(cell).collect();
            out += &format!("{name} & {} & {} \\\\\n", escape(&row.model), cells.join(" & "));
        }
    }
    out += "\\bottomrule\n\\end{tabular}\n";
    let notes: Vec<String> = table.notes.iter().map(|note| escape(note)).collect();
    if !notes.is_empty() {
        out += &format!("\n\\smallskip\n\\parbox{{\\linewidth}}{{\\footnotesize {}}}\n", notes.join(" "));
    }
    out + "\\end{table}\n"
}

fn cell(cell: &Cell) -> String {
    let number = |text: &str| match text.strip_prefix('-') {
        Some(rest) => format!("$-${rest}"),
        None => text.to_owned(),
    };
    if cell.mean.is_empty() {
        return "--".into();
    }
    let text = match cell.sd.as_str() {
        "" => number(&cell.mean),
        sd => format!("{} $\\pm$ {sd}", number(&cell.mean)),
    };
    match cell.place {
        Place::Best => format!("\\textbf{{{text}}}"),
        Place::Second => format!("\\underline{{{text}}}"),
        Place::Other => text,
    }
}

/// Takes away what LaTeX gives a meaning.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => out.extend(['\\', character]),
            '^' => out.push_str("\\textasciicircum{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            '"' => out.push_str("''"),
            'µ' => out.push_str("$\\mu$"),
            '±' => out.push_str("$\\pm$"),
            '–' => out.push_str("--"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(
            escape(r"50%_a&b#c$d{e}f^g~h\i 8 µm"),
            r"50\%\_a\&b\#c\$d\{e\}f\textasciicircum{}g\textasciitilde{}h\textbackslash{}i 8 $\mu$m"
        );
        // In LaTeX's own font encoding < and > are other characters.
        assert_eq!(escape("\"<a|b>"), "''\\textless{}a\\textbar{}b\\textgreater{}");
    }

    proptest! {
        #[test]
        fn escaped_text_is_balanced_and_holds_no_bare_special(text in r#"[ -~µ±\n]{0,60}"#) {
            let escaped = escape(&text);
            let (mut depth, mut math, mut characters) = (0i32, false, escaped.chars().peekable());
            while let Some(character) = characters.next() {
                match character {
                    '\\' => {
                        // A command or an escaped character: never a line break or an end of the cell.
                        let next = characters.next().unwrap();
                        let known = next.is_ascii_alphabetic() || "{}$&#_%".contains(next);
                        prop_assert!(known);
                    }
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    '$' => math = !math,
                    '&' | '#' | '%' | '^' | '~' | '\n' => prop_assert!(false, "{escaped}"),
                    '_' => prop_assert!(false, "{escaped}"),
                    _ => {}
                }
                prop_assert!(depth >= 0);
            }
            prop_assert!(depth == 0 && !math);
        }
    }
}
