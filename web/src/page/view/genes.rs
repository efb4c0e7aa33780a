//! Which genes the list shows, and in which order.

use std::cmp::Ordering;

/// What the gene list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeneSort {
    /// Best predicted on the held-out slides first.
    #[default]
    HeldOut,
    /// Most varied on this image first.
    Variance,
    /// By symbol.
    Symbol,
}

impl GeneSort {
    /// All orders, as the page offers them.
    pub const ALL: [GeneSort; 3] = [GeneSort::HeldOut, GeneSort::Variance, GeneSort::Symbol];

    /// The order's name in the page's markup.
    pub fn name(self) -> &'static str {
        match self {
            GeneSort::HeldOut => "score",
            GeneSort::Variance => "variance",
            GeneSort::Symbol => "symbol",
        }
    }

    /// The order of a name, or the first one.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|sort| sort.name() == name).unwrap_or_default()
    }

    /// The order for people.
    pub fn label(self) -> &'static str {
        match self {
            GeneSort::HeldOut => "Held-out Pearson",
            GeneSort::Variance => "Predicted variance",
            GeneSort::Symbol => "Symbol",
        }
    }
}

/// Held-out Pearson below which a gene's map says next to nothing; the command line warns of the same genes.
pub const WEAK_PEARSON: f32 = 0.1;

/// Whether a gene was predicted so badly on held-out slides that its map says next to nothing.
pub fn is_weak(pearson: Option<f32>) -> bool {
    pearson.is_some_and(|pearson| pearson < WEAK_PEARSON)
}

/// The panel and what is known about each of its genes. Lists may be shorter than the panel: then nothing is known
/// about the rest.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// Symbols.
    pub symbols: &'a [String],
    /// Ids.
    pub ids: &'a [String],
    /// Held-out Pearson.
    pub pearson: &'a [Option<f32>],
    /// Standard deviation of the predicted values on this image.
    pub deviation: &'a [f32],
}

impl Panel<'_> {
    /// Held-out Pearson of a gene, where it is known.
    pub fn pearson(&self, gene: usize) -> Option<f32> {
        self.pearson.get(gene).copied().flatten().filter(|score| score.is_finite())
    }

    /// Predicted standard deviation of a gene, where it is known.
    pub fn deviation(&self, gene: usize) -> Option<f32> {
        self.deviation.get(gene).copied().filter(|deviation| deviation.is_finite())
    }

    /// Genes whose symbol (or id) holds `query`, in any case of letters: whole match first, then those that begin
    /// with it, then the rest; each group in the order that is asked for.
    pub fn find(&self, query: &str, sort: GeneSort) -> Vec<usize> {
        let query = query.trim().to_ascii_uppercase();
        let mut found: Vec<(u8, usize)> =
            (0..self.symbols.len()).filter_map(|gene| Some((self.rank(gene, &query)?, gene))).collect();
        found.sort_by(|&(rank_a, a), &(rank_b, b)| {
            let by_value = match sort {
                GeneSort::HeldOut => descending(self.pearson(a), self.pearson(b)),
                GeneSort::Variance => descending(self.deviation(a), self.deviation(b)),
                GeneSort::Symbol => Ordering::Equal,
            };
            rank_a.cmp(&rank_b).then(by_value).then_with(|| self.symbols[a].cmp(&self.symbols[b]))
        });
        found.into_iter().map(|(_, gene)| gene).collect()
    }

    /// The gene with a symbol or id, in any case of letters.
    pub fn position(&self, name: &str) -> Option<usize> {
        let name = name.trim();
        let among = |list: &[String]| list.iter().position(|known| known.eq_ignore_ascii_case(name));
        among(self.symbols).or_else(|| among(self.ids))
    }

    fn rank(&self, gene: usize, query: &str) -> Option<u8> {
        if query.is_empty() {
            return Some(0);
        }
        let symbol = self.symbols.get(gene)?.to_ascii_uppercase();
        let id = self.ids.get(gene).map(|id| id.to_ascii_uppercase()).unwrap_or_default();
        if symbol == query || id == query {
            Some(0)
        } else if symbol.starts_with(query) {
            Some(1)
        } else if symbol.contains(query) {
            Some(2)
        } else if query.len() >= 4 && id.contains(query) {
            Some(3)
        } else {
            None
        }
    }
}

/// Larger first, unknown last.
fn descending(a: Option<f32>, b: Option<f32>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn with_panel<T>(check: impl FnOnce(Panel<'_>) -> T) -> T {
        let symbols = strings(&["ERBB2", "ESR1", "GATA3", "ERBB3", "MYH11"]);
        let ids =
            strings(&["ENSG00000141736", "ENSG00000091831", "ENSG00000107485", "ENSG00000065361", "ENSG9"]);
        let pearson = [Some(0.3), None, Some(0.7), Some(f32::NAN), Some(-0.1)];
        check(Panel { symbols: &symbols, ids: &ids, pearson: &pearson, deviation: &[0.1, 0.9, 0.5] })
    }

    fn found(query: &str, sort: GeneSort) -> Vec<String> {
        with_panel(|panel| {
            panel.find(query, sort).into_iter().map(|gene| panel.symbols[gene].clone()).collect()
        })
    }

    #[test]
    fn scores_come_first_and_unknown_ones_last() {
        assert_eq!(found("", GeneSort::HeldOut), ["GATA3", "ERBB2", "MYH11", "ERBB3", "ESR1"]);
        assert_eq!(found("", GeneSort::Variance), ["ESR1", "GATA3", "ERBB2", "ERBB3", "MYH11"]);
        assert_eq!(found("", GeneSort::Symbol), ["ERBB2", "ERBB3", "ESR1", "GATA3", "MYH11"]);
    }

    #[test]
    fn a_query_is_a_part_of_the_symbol_or_an_id() {
        assert_eq!(found(" erbb", GeneSort::HeldOut), ["ERBB2", "ERBB3"]);
        assert_eq!(found("erbb3", GeneSort::HeldOut), ["ERBB3"]);
        assert_eq!(found("R1", GeneSort::HeldOut), ["ESR1"]);
        assert_eq!(found("3", GeneSort::HeldOut), ["GATA3", "ERBB3"]);
        assert_eq!(found("ENSG00000107485", GeneSort::Symbol), ["GATA3"]);
        assert!(found("ACTB", GeneSort::HeldOut).is_empty());
        assert_eq!(with_panel(|panel| panel.position("esr1 ")), Some(1));
        assert_eq!(with_panel(|panel| panel.position("ENSG00000107485")), Some(2));
        assert_eq!(with_panel(|panel| panel.position("")), None);
    }
}
