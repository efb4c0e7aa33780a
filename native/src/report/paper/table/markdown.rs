//! Tables as Markdown, their columns aligned for who reads the source.

use super::{Cell, Place, Table};

pub(super) fn write(tables: &[Table]) -> String {
    let texts: Vec<String> = tables.iter().map(table).collect();
    texts.join("\n")
}

fn table(table: &Table) -> String {
    let mut head = vec!["Resolution".to_owned(), "Model".to_owned()];
    for dataset in &table.datasets {
        head.extend(table.scores.iter().map(|score| {
            let arrow = if score.lower_is_better { '↓' } else { '↑' };
            format!("{} {} {arrow}", escape(dataset), score.name)
        }));
    }
    let mut lines = vec![head];
    for (resolution, rows) in &table.blocks {
        for (index, row) in rows.iter().enumerate() {
            let name = if index == 0 { escape(resolution) } else { String::new() };
            let mut line = vec![name, escape(&row.model)];
            line.extend(row.cells.iter().flatten().map(cell));
            lines.push(line);
        }
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|text| text.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut out = format!("**{}**\n\n", escape(&table.title));
    for (index, line) in lines.iter().enumerate() {
        for (column, (text, &width)) in line.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(width.saturating_sub(text.chars().count()));
            // Names to the left, numbers to the right.
            out += &if column < 2 { format!("| {text}{fill} ") } else { format!("| {fill}{text} ") };
        }
        out += "|\n";
        if index == 0 {
            for (column, &width) in widths.iter().enumerate() {
                out += &if column < 2 {
                    format!("| {} ", "-".repeat(width))
                } else {
                    format!("| {}: ", "-".repeat(width - 1))
                };
            }
            out += "|\n";
        }
    }
    for note in &table.notes {
        out += &format!("\n{}\n", escape(note));
    }
    out
}

fn cell(cell: &Cell) -> String {
    if cell.mean.is_empty() {
        return "–".into();
    }
    let text = match cell.sd.as_str() {
        "" => cell.mean.clone(),
        sd => format!("{} ± {sd}", cell.mean),
    };
    match cell.place {
        Place::Best => format!("**{text}**"),
        // Markdown has no underline of its own.
        Place::Second => format!("<ins>{text}</ins>"),
        Place::Other => text,
    }
}

/// Takes away what Markdown gives a meaning.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', character]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A line break would end the row.
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_cell() {
        assert_eq!(escape("a|b_c\n<x> & *d*"), "a\\|b\\_c &lt;x&gt; &amp; \\*d\\*");
    }
}
