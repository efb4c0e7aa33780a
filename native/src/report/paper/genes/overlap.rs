//! What the chosen genes of datasets, resolutions and rules have in common.

use anyhow::Result;
use magnet_core::GenePanel;

use super::selection::{RULES, Selection, jaccard, shared};

/// Chosen genes, and how many each two choices share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overlap {
    /// The choices in words.
    pub(super) names: Vec<String>,
    /// Number of genes of each.
    pub(super) sizes: Vec<usize>,
    /// For each two choices the number of genes that are in both.
    pub(super) shared: Vec<Vec<usize>>,
}

impl Overlap {
    /// Compares the choices of all selections: first those by one rule, then those by the next.
    ///
    /// # Errors
    /// When gene names repeat, which no selection's do.
    pub(super) fn of(selections: &[Selection]) -> Result<Self> {
        let (mut names, mut panels) = (Vec::new(), Vec::new());
        for (rule, (_, words, _)) in RULES.iter().enumerate() {
            for selection in selections {
                names.push(format!("{}, {words}", selection.title()));
                panels.push(selection.names(rule)?);
            }
        }
        Ok(Self::between(names, &panels))
    }

    fn between(names: Vec<String>, panels: &[GenePanel]) -> Self {
        let row = |a: &GenePanel| panels.iter().map(|b| shared(a, b)).collect();
        Self {
            names,
            sizes: panels.iter().map(GenePanel::len).collect(),
            shared: panels.iter().map(row).collect(),
        }
    }

    /// Shared genes of two choices as a part of the genes that are in either.
    pub(super) fn jaccard(&self, a: usize, b: usize) -> f64 {
        let size = |panel: usize| self.sizes.get(panel).copied().unwrap_or_default();
        let shared = self.shared.get(a).and_then(|row| row.get(b)).copied().unwrap_or_default();
        jaccard(shared, size(a), size(b))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn panel(genes: &[usize]) -> GenePanel {
        let names: Vec<String> = genes.iter().map(|gene| format!("G{gene}")).collect();
        GenePanel::new(names.clone(), names).unwrap()
    }

    #[test]
    fn shared_genes_are_counted_whatever_their_order() {
        let panels = [panel(&[1, 2, 3]), panel(&[3, 9, 1])];
        let overlap = Overlap::between(vec!["a".into(), "b".into()], &panels);
        assert_eq!(overlap.shared, [[3, 2], [2, 3]]);
        assert_eq!((overlap.jaccard(0, 0), overlap.jaccard(0, 1)), (1.0, 0.5));
        assert_eq!(jaccard(0, 0, 0), 0.0);
    }

    proptest! {
        #[test]
        fn overlap_is_symmetric_and_within_its_bounds(
            a in prop::collection::btree_set(0usize..30, 1..20),
            b in prop::collection::btree_set(0usize..30, 1..20),
        ) {
            let both = a.intersection(&b).count();
            let panels = [panel(&Vec::from_iter(a)), panel(&Vec::from_iter(b))];
            let overlap = Overlap::between(vec![String::new(); 2], &panels);
            prop_assert_eq!(overlap.shared[0][1], both);
            prop_assert_eq!(overlap.shared[1][0], both);
            prop_assert_eq!(overlap.shared[0][0], overlap.sizes[0]);
            prop_assert!((0.0..=1.0).contains(&overlap.jaccard(0, 1)));
            prop_assert_eq!(overlap.jaccard(0, 1), overlap.jaccard(1, 0));
        }
    }
}
