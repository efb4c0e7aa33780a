//! What a choice of genes is made of: mean, spread and detection of every gene of a dataset at one resolution.

use std::borrow::Cow;

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::expression::{
    CommonGenes, CountMatrix, GeneMoments, GeneSelection, ValueKind, gene_moments,
};

use crate::dataset::{Dataset, SlideData, tile_side_um, tile_values};
use crate::error::InputError;

/// Genes that the paper chooses.
const PAPER_GENES: usize = 250;

/// The two rules by which genes are chosen, with their names in the figure and in the tables.
pub(super) const RULES: [(GeneSelection, &str, &str); 2] = [
    (GeneSelection::HighestMean, "highest mean", "highest_mean"),
    (GeneSelection::MostVariable, "most variable", "most_variable"),
];

/// Every gene of a dataset at one resolution, and which are chosen.
#[derive(Debug)]
pub(super) struct Selection {
    /// The dataset's name.
    pub(super) dataset: String,
    /// Side of a bin, in µm.
    pub(super) bin_um: f64,
    pub(super) slides: usize,
    /// Bins of all slides.
    pub(super) bins: usize,
    /// What the values are.
    pub(super) values: ValueKind,
    /// The genes that all slides measured.
    pub(super) genes: GenePanel,
    /// Of each gene.
    pub(super) moments: Vec<GeneMoments>,
    /// Positions of all genes, best first, by each of [`RULES`].
    pub(super) ranked: [Vec<usize>; RULES.len()],
    /// Number of genes that are chosen.
    pub(super) chosen: usize,
}

impl Selection {
    /// Scores the genes that all of `slides` measured.
    ///
    /// # Errors
    /// When fewer than `chosen` are common to all slides; without it, [`PAPER_GENES`] or all that are common are chosen.
    pub(super) fn of(
        dataset: String,
        bin_um: f64,
        slides: &[Slide<'_>],
        values: ValueKind,
        chosen: Option<usize>,
    ) -> Result<Self> {
        let panels: Vec<&GenePanel> = slides.iter().map(|slide| slide.1).collect();
        let common = CommonGenes::of(&panels);
        let chosen = chosen.unwrap_or(PAPER_GENES.min(common.len().max(1)));
        if chosen == 0 || common.len() < chosen {
            let expected = format!("1 to {}, the genes common to all slides of {dataset}", common.len());
            return Err(InputError::in_flag("--genes", "number", expected, chosen).into());
        }
        let bins: usize = slides.iter().map(|slide| slide.0.rows()).sum();
        if bins == 0 {
            let field = format!("{dataset} at {bin_um} µm");
            return Err(InputError::in_flag("--bin-um", field, "tiles on the tissue", "none").into());
        }
        let counts: Vec<(&CountMatrix, &GenePanel)> =
            slides.iter().map(|slide| (slide.0.as_ref(), slide.1)).collect();
        let moments = gene_moments(&counts, values, &common);
        let first = panels.first().copied().context("no slide")?;
        let columns = common.columns.first().map(Vec::as_slice).unwrap_or_default();
        let names = |of: &[String]| {
            columns.iter().filter_map(|&column| of.get(column as usize).cloned()).collect::<Vec<_>>()
        };
        let genes = GenePanel::new(names(&first.ids), names(&first.symbols))?;
        let ranked = RULES.map(|(rule, _, _)| rule.rank(&moments));
        Ok(Self { dataset, bin_um, slides: slides.len(), bins, values, genes, moments, ranked, chosen })
    }

    /// The genes chosen by a rule, best first.
    pub(super) fn panel(&self, rule: usize) -> &[usize] {
        self.ranked.get(rule).and_then(|ranked| ranked.get(..self.chosen)).unwrap_or_default()
    }

    /// The names of the genes chosen by a rule.
    pub(super) fn names(&self, rule: usize) -> Result<GenePanel> {
        let names =
            |of: &[String]| self.panel(rule).iter().filter_map(|&gene| of.get(gene).cloned()).collect();
        Ok(GenePanel::new(names(&self.genes.ids), names(&self.genes.symbols))?)
    }

    /// The dataset and resolution in words.
    pub(super) fn title(&self) -> String {
        format!("{}, {} µm", self.dataset, self.bin_um)
    }

    /// For each gene its rank from 1 by a rule.
    pub(super) fn ranks(&self, rule: usize) -> Vec<usize> {
        let mut ranks = vec![0; self.moments.len()];
        for (rank, &gene) in self.ranked.get(rule).into_iter().flatten().enumerate() {
            if let Some(place) = ranks.get_mut(gene) {
                *place = rank + 1;
            }
        }
        ranks
    }
}

/// How many genes two panels share; matched as slides are, by stable id where both have ids, else by symbol.
pub(super) fn shared(a: &GenePanel, b: &GenePanel) -> usize {
    CommonGenes::of(&[a, b]).len()
}

/// Shared genes as a part of all genes that are in either panel.
pub(super) fn jaccard(shared: usize, a: usize, b: usize) -> f64 {
    let either = (a + b).saturating_sub(shared);
    if either == 0 { 0.0 } else { shared as f64 / either as f64 }
}

/// A slide's values at a resolution, with its genes.
type Slide<'a> = (Cow<'a, CountMatrix>, &'a GenePanel);

/// The slides of a dataset at one resolution: bins brought together to tiles near `asked_um`, or as they are. Also the
/// side of the bins, in µm.
///
/// # Errors
/// When the slides would have bins of several sizes, or bins of one make no tiles of this size.
pub(super) fn at_resolution<'a>(
    dataset: &Dataset,
    slides: &'a [SlideData],
    asked_um: Option<f64>,
) -> Result<(f64, Vec<Slide<'a>>)> {
    let mut size: Option<(&str, f64)> = None;
    let mut at_size = Vec::with_capacity(slides.len());
    for slide in slides {
        let bin_um = match asked_um {
            Some(asked_um) => tile_side_um(&dataset.metadata(&slide.id)?, asked_um)?,
            None => slide.bin_um,
        };
        let (first, first_um) = *size.get_or_insert((slide.id.as_str(), bin_um));
        if bin_um != first_um {
            let expected = format!("{first_um} µm, as slide {first} (--bin-um brings bins together)");
            let field = format!("bin_um of slide {}", slide.id);
            return Err(InputError::in_file(dataset.root(), field, expected, bin_um).into());
        }
        let counts = match bin_um == slide.bin_um {
            true => Cow::Borrowed(&slide.counts),
            false => Cow::Owned(tile_values(slide, bin_um)?),
        };
        at_size.push((counts, &slide.genes));
    }
    Ok((size.map_or(0.0, |(_, bin_um)| bin_um), at_size))
}
