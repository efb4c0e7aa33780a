//! The ordered list of genes that a model predicts.

use crate::digest::hex;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// At most so many gene names are spelt out in an error.
const NAMED_IN_ERRORS: usize = 5;

/// Gene ids (Ensembl where known) and symbols, in the order of the model's output columns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "UncheckedPanel")]
pub struct GenePanel {
    /// Stable ids; the symbol again where the source has no id.
    pub ids: Vec<String>,
    /// Symbols as shown to people; unique within the panel.
    pub symbols: Vec<String>,
}

/// A panel as it stands in a file, before [`GenePanel::new`] has looked at it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedPanel {
    ids: Vec<String>,
    symbols: Vec<String>,
}

impl TryFrom<UncheckedPanel> for GenePanel {
    type Error = GenePanelError;

    fn try_from(panel: UncheckedPanel) -> Result<Self, GenePanelError> {
        GenePanel::new(panel.ids, panel.symbols)
    }
}

/// What is wrong with a gene panel, or with two that should agree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenePanelError {
    /// Ids and symbols do not pair up.
    #[error("gene panel: {ids} ids but {symbols} symbols; expected one symbol per id")]
    Lengths {
        /// Number of ids.
        ids: usize,
        /// Number of symbols.
        symbols: usize,
    },
    /// An id that stands for two columns.
    #[error("gene panel: id `{id}` stands at positions {first} and {second}; ids must be unique")]
    RepeatedId {
        /// The id.
        id: String,
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// An id or symbol with no characters.
    #[error("gene panel: the {field} at position {position} is empty")]
    EmptyName {
        /// `id` or `symbol`.
        field: &'static str,
        /// Where.
        position: usize,
    },
    /// Two panels of different length.
    #[error("genes differ: {expected_name} has {expected} genes, {found_name} has {found}")]
    Sizes {
        /// Who sets the order.
        expected_name: String,
        /// Its number of genes.
        expected: usize,
        /// Who was compared with it.
        found_name: String,
        /// Its number of genes.
        found: usize,
    },
    /// Two panels that name different genes in one place.
    #[error(
        "genes differ at position {position}: {expected_name} has `{expected}`, {found_name} has `{found}` \
         ({differing} of {genes} positions differ)"
    )]
    Differ {
        /// First position that differs.
        position: usize,
        /// Who sets the order.
        expected_name: String,
        /// Its gene there.
        expected: String,
        /// Who was compared with it.
        found_name: String,
        /// Its gene there.
        found: String,
        /// Number of positions that differ.
        differing: usize,
        /// Number of positions.
        genes: usize,
    },
    /// Genes of the panel that a slide did not measure.
    #[error("{count} of {genes} genes of the panel are not among the {measured} measured genes: {named}")]
    Missing {
        /// How many.
        count: usize,
        /// Size of the panel.
        genes: usize,
        /// Number of measured genes.
        measured: usize,
        /// The first of them, by symbol.
        named: String,
    },
}

impl GenePanel {
    /// A panel from ids and symbols in column order.
    ///
    /// Symbols repeat in real annotations; the second and later ones get `-1`, `-2`, … appended, as scanpy's
    /// `var_names_make_unique` does.
    ///
    /// # Errors
    /// When the lengths differ, an id repeats or a name is empty.
    pub fn new(ids: Vec<String>, symbols: Vec<String>) -> Result<Self, GenePanelError> {
        if ids.len() != symbols.len() {
            return Err(GenePanelError::Lengths { ids: ids.len(), symbols: symbols.len() });
        }
        for (field, names) in [("id", &ids), ("symbol", &symbols)] {
            if let Some(position) = names.iter().position(|name| name.trim().is_empty()) {
                return Err(GenePanelError::EmptyName { field, position });
            }
        }
        let mut seen = HashMap::with_capacity(ids.len());
        for (second, id) in ids.iter().enumerate() {
            if let Some(first) = seen.insert(id.as_str(), second) {
                return Err(GenePanelError::RepeatedId { id: id.clone(), first, second });
            }
        }
        drop(seen);
        Ok(Self { ids, symbols: made_unique(symbols) })
    }

    /// Number of genes `G`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the panel has no gene.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The position of the gene with this id or, where no id matches, this symbol.
    pub fn position(&self, name: &str) -> Option<usize> {
        let by_id = self.ids.iter().position(|id| id == name);
        by_id.or_else(|| self.symbols.iter().position(|symbol| symbol == name))
    }

    /// SHA-256 over ids and symbols in order, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for names in [&self.ids, &self.symbols] {
            hash.update((names.len() as u64).to_le_bytes());
            for name in names {
                // The length first, so that no two lists run together into the same bytes.
                hash.update((name.len() as u64).to_le_bytes());
                hash.update(name.as_bytes());
            }
        }
        hex(&hash.finalize())
    }

    /// Checks that `found` holds the same genes in the same order; ids decide.
    ///
    /// # Errors
    /// Names both sides and the first difference.
    pub fn ensure_same(
        &self,
        found: &GenePanel,
        expected_name: &str,
        found_name: &str,
    ) -> Result<(), GenePanelError> {
        if self.len() != found.len() {
            return Err(GenePanelError::Sizes {
                expected_name: expected_name.into(),
                expected: self.len(),
                found_name: found_name.into(),
                found: found.len(),
            });
        }
        let mut differences = self.ids.iter().zip(&found.ids).enumerate().filter(|(_, (a, b))| a != b);
        match differences.next() {
            None => Ok(()),
            Some((position, (expected, found_id))) => Err(GenePanelError::Differ {
                position,
                expected_name: expected_name.into(),
                expected: expected.clone(),
                found_name: found_name.into(),
                found: found_id.clone(),
                differing: 1 + differences.count(),
                genes: self.len(),
            }),
        }
    }

    /// For each gene of the panel its column among the `measured` genes of a slide, by id and, where the id is not
    /// there, by symbol.
    ///
    /// # Errors
    /// When genes are missing; the error lists them.
    pub fn columns_in(&self, measured: &GenePanel) -> Result<Vec<u32>, GenePanelError> {
        let by_id = positions(&measured.ids);
        let by_symbol = positions(&measured.symbols);
        let mut columns = Vec::with_capacity(self.len());
        let mut missing = Vec::new();
        for (id, symbol) in self.ids.iter().zip(&self.symbols) {
            match by_id.get(id.as_str()).or_else(|| by_symbol.get(symbol.as_str())) {
                Some(&column) => columns.push(column),
                None => missing.push(symbol.as_str()),
            }
        }
        if missing.is_empty() {
            return Ok(columns);
        }
        Err(GenePanelError::Missing {
            count: missing.len(),
            genes: self.len(),
            measured: measured.len(),
            named: named(&missing),
        })
    }
}

/// The position of each name.
fn positions(names: &[String]) -> HashMap<&str, u32> {
    names.iter().zip(0_u32..).map(|(name, position)| (name.as_str(), position)).collect()
}

/// The first few names, and how many more there are.
fn named(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED_IN_ERRORS).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_IN_ERRORS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Appends `-1`, `-2`, … to names that were there before, skipping names that exist already.
fn made_unique(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    if taken.len() == names.len() {
        return names;
    }
    let mut seen = HashSet::with_capacity(names.len());
    // The last suffix given to a name, so that a name repeated n times costs n steps and not n².
    let mut suffixes: HashMap<String, usize> = HashMap::new();
    names
        .into_iter()
        .map(|name| {
            if seen.insert(name.clone()) {
                return name;
            }
            let suffix = suffixes.entry(name.clone()).or_insert(0);
            loop {
                *suffix += 1;
                let candidate = format!("{name}-{suffix}");
                if taken.insert(candidate.clone()) {
                    return candidate;
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn panel(ids: &[&str]) -> GenePanel {
        GenePanel::new(strings(ids), strings(ids)).unwrap()
    }

    #[test]
    fn repeated_symbols_become_unique_as_scanpy_makes_them() {
        let symbols = strings(&["A", "A", "A-1", "A", "B"]);
        let panel = GenePanel::new(strings(&["1", "2", "3", "4", "5"]), symbols).unwrap();
        assert_eq!(panel.symbols, ["A", "A-2", "A-1", "A-3", "B"]);
    }

    #[test]
    fn malformed_panels_are_refused_by_name() {
        assert_eq!(
            GenePanel::new(strings(&["a"]), vec![]),
            Err(GenePanelError::Lengths { ids: 1, symbols: 0 })
        );
        let repeated = GenePanel::new(strings(&["a", "b", "a"]), strings(&["x", "y", "z"])).unwrap_err();
        assert_eq!(repeated, GenePanelError::RepeatedId { id: "a".into(), first: 0, second: 2 });
        let empty = GenePanel::new(strings(&["a", " "]), strings(&["x", "y"])).unwrap_err();
        assert_eq!(empty, GenePanelError::EmptyName { field: "id", position: 1 });
    }

    #[test]
    fn a_panel_from_json_is_checked_like_any_other() {
        let good = panel(&["a", "b"]);
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<GenePanel>(&json).unwrap(), good);
        let bad = serde_json::from_str::<GenePanel>(r#"{"ids":["a","a"],"symbols":["x","y"]}"#);
        assert!(bad.unwrap_err().to_string().contains("`a`"));
        assert!(serde_json::from_str::<GenePanel>(r#"{"ids":[],"symbols":[],"more":1}"#).is_err());
    }

    #[test]
    fn the_digest_depends_on_order_and_on_where_names_end() {
        let digests = [panel(&["a", "b"]), panel(&["b", "a"]), panel(&["ab"]), panel(&["a", "b", "c"])]
            .map(|panel| panel.digest());
        assert_eq!(digests[0], panel(&["a", "b"]).digest());
        assert_eq!(digests[0].len(), 64);
        let distinct: HashSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn differing_panels_name_both_sides_and_the_first_difference() {
        let bundle = panel(&["a", "b", "c"]);
        assert_eq!(bundle.ensure_same(&bundle.clone(), "x", "y"), Ok(()));
        let text =
            bundle.ensure_same(&panel(&["a", "c", "b"]), "the bundle", "slide C2").unwrap_err().to_string();
        for part in ["position 1", "the bundle has `b`", "slide C2 has `c`", "2 of 3"] {
            assert!(text.contains(part), "{text}");
        }
        let text = bundle.ensure_same(&panel(&["a"]), "the bundle", "slide C2").unwrap_err().to_string();
        assert!(text.contains("the bundle has 3") && text.contains("slide C2 has 1"), "{text}");
    }

    #[test]
    fn columns_are_found_by_id_then_by_symbol() {
        let measured = GenePanel::new(strings(&["E1", "E2", "E3"]), strings(&["X", "Y", "Z"])).unwrap();
        let wanted = GenePanel::new(strings(&["E3", "Y"]), strings(&["renamed", "Y"])).unwrap();
        assert_eq!(wanted.columns_in(&measured).unwrap(), [2, 1]);
        assert_eq!(measured.position("E2"), Some(1));
        assert_eq!(measured.position("Z"), Some(2));
        assert_eq!(measured.position("W"), None);
    }

    #[test]
    fn missing_genes_are_listed() {
        let wanted = panel(&["a", "b", "c", "d", "e", "f", "g"]);
        let error = wanted.columns_in(&panel(&["a"])).unwrap_err().to_string();
        assert!(error.contains("6 of 7") && error.contains("b, c, d, e, f and 1 more"), "{error}");
    }
}
