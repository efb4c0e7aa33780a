//! A tree of HTML elements. Text and attribute values are escaped when it is written; there is no way around it.

use std::fmt::Write;

/// An element with its attributes and children.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Element(Element),
    /// The page's own style sheet: a constant of the program, which must not be escaped.
    Style(&'static str),
}

/// An element without attributes or children.
pub(super) fn el(name: &'static str) -> Element {
    Element { name, attributes: Vec::new(), children: Vec::new() }
}

impl Element {
    /// Adds an attribute.
    pub(super) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Adds a class attribute.
    pub(super) fn class(self, value: &'static str) -> Self {
        self.attr("class", value)
    }

    /// Adds an attribute with a coordinate, to a hundredth.
    pub(super) fn at(self, name: &'static str, value: f64) -> Self {
        let rounded = (value * 100.0).round() / 100.0;
        self.attr(name, if rounded.is_finite() { rounded } else { 0.0 })
    }

    /// Adds text.
    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }

    /// Adds a child.
    pub(super) fn child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    /// Adds children.
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Adds a style sheet of the program's own.
    pub(super) fn style(mut self, css: &'static str) -> Self {
        self.children.push(Node::Style(css));
        self
    }

    /// Writes the element.
    pub(super) fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            // Writing to a string cannot fail.
            let _ = write!(out, " {name}=\"");
            escape(value, out);
            out.push('"');
        }
        out.push('>');
        if matches!(self.name, "meta" | "img" | "br") {
            return;
        }
        for child in &self.children {
            match child {
                Node::Text(text) => escape(text, out),
                Node::Element(element) => element.write(out),
                Node::Style(css) => out.push_str(css),
            }
        }
        let _ = write!(out, "</{}>", self.name);
        if matches!(self.name, "section" | "tr" | "p" | "h1" | "h2" | "figure" | "table" | "svg" | "head") {
            out.push('\n');
        }
    }
}

/// Replaces what HTML gives a meaning, in text and in double-quoted attributes alike.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML or XML at all, whatever the escape.
            '\u{FFFE}' | '\u{FFFF}' | '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{7F}' => {
                out.push('\u{FFFD}')
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let element = el("p").attr("title", "\"><script>").text("a < b & 'c'\0");
        let mut out = String::new();
        element.write(&mut out);
        assert_eq!(out, "<p title=\"&quot;&gt;&lt;script&gt;\">a &lt; b &amp; &#39;c&#39;\u{FFFD}</p>\n");
    }

    #[test]
    fn coordinates_are_numbers_whatever_comes() {
        for (value, written) in [(1.23456, "1.23"), (-2.0, "-2"), (f64::NAN, "0"), (f64::INFINITY, "0")] {
            let mut out = String::new();
            el("i").at("x", value).write(&mut out);
            assert_eq!(out, format!("<i x=\"{written}\"></i>"));
        }
    }
}
