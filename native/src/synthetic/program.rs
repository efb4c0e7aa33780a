//! The gene programs: which part of the morphology drives each gene, and the counts that follow from it.
//!
//! For a bin with expected library size `L` the expected count of gene `g` is `L · p_g`, and the `p_g` sum to one:
//!
//! - A gene with its own modulation has `p_g = abundance_g · m_g`, where `m_g` depends on the neighbourhood, on the wide
//!   gradient, or on nothing. The abundances of these genes sum to [`MODULATED_SHARE`] but for rounding.
//! - The rest, `1 − Σ p_g`, is divided among the composition genes in proportion to `abundance_g · a_g`, where
//!   `a_g = 0.03 + Σ_kind weight_kind · share_kind + weight_lumen · lumen · share_epithelial`.
//!
//! So a composition gene is fixed by what the bin itself shows, and a modulated gene by what lies around it.

use magnet_core::random::stream;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal};
use serde::{Deserialize, Serialize};

use super::morphology::{BinMorphology, Morphology};
use super::tissue::CellKind;

/// Sum of the abundances of all genes with their own modulation.
pub const MODULATED_SHARE: f64 = 0.45;
/// Activity of a composition gene where nothing drives it.
const BASE_ACTIVITY: f64 = 0.03;
/// The exponent by which the library size follows the bin's content.
const LIBRARY_EXPONENT: f32 = 0.7;

/// Groups of genes with one kind of driver each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneGroup {
    /// Follows the bin's share of gland epithelium.
    Epithelial,
    /// Follows the bin's share of stroma.
    Stromal,
    /// Follows the bin's share of tumour.
    Tumor,
    /// Follows the bin's share of lymphocytes.
    Immune,
    /// Follows the closeness to a lumen, within epithelium.
    Lumen,
    /// Follows the density of lymphocytes around the bin, not in it.
    NearImmune,
    /// Follows the density of tumour nuclei around the bin, not in it.
    NearTumor,
    /// Follows a wide gradient that shows only in how crowded a whole region is with nuclei.
    Region,
    /// The same share everywhere.
    Housekeeping,
    /// The same expected share everywhere, with counts far noisier than Poisson.
    Noise,
}

impl GeneGroup {
    /// All groups, in the order in which they are dealt to genes.
    pub const ALL: [GeneGroup; 10] = [
        GeneGroup::Epithelial,
        GeneGroup::Stromal,
        GeneGroup::Tumor,
        GeneGroup::Immune,
        GeneGroup::Lumen,
        GeneGroup::NearImmune,
        GeneGroup::NearTumor,
        GeneGroup::Region,
        GeneGroup::Housekeeping,
        GeneGroup::Noise,
    ];

    /// What the group's genes follow, in words.
    pub fn describe(self) -> &'static str {
        match self {
            GeneGroup::Epithelial => "gland epithelium in the bin",
            GeneGroup::Stromal => "stroma in the bin",
            GeneGroup::Tumor => "tumour in the bin",
            GeneGroup::Immune => "lymphocytes in the bin",
            GeneGroup::Lumen => "a lumen close by",
            GeneGroup::NearImmune => "lymphocytes 50-150 µm away",
            GeneGroup::NearTumor => "tumour 50-150 µm away",
            GeneGroup::Region => "a wide gradient",
            GeneGroup::Housekeeping => "nothing (same everywhere)",
            GeneGroup::Noise => "nothing (noise)",
        }
    }

    /// Start of the symbols of the group's genes.
    pub fn prefix(self) -> &'static str {
        match self {
            GeneGroup::Epithelial => "EPI",
            GeneGroup::Stromal => "STR",
            GeneGroup::Tumor => "TUM",
            GeneGroup::Immune => "IMM",
            GeneGroup::Lumen => "LUM",
            GeneGroup::NearImmune => "NEARIMM",
            GeneGroup::NearTumor => "NEARTUM",
            GeneGroup::Region => "REGION",
            GeneGroup::Housekeeping => "HOUSE",
            GeneGroup::Noise => "NOISE",
        }
    }
}

/// What a gene's expected share depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Driver {
    /// The bin's own content: `a = 0.03 + Σ weight · share + lumen · closeness · share of epithelium`.
    Composition {
        /// Weight of each kind of cell, in the order of [`CellKind::ALL`].
        weights: [f64; 4],
        /// Weight of the closeness to a lumen.
        lumen: f64,
    },
    /// Nuclei in a ring around the bin: `m = low + (high − low) · d / (d + half)`.
    Neighborhood {
        /// The nuclei counted.
        of: CellKind,
        /// Inner radius of the ring, between bin centres, µm.
        inner_um: f64,
        /// Outer radius, µm.
        outer_um: f64,
        /// Density at which the response is half way, nuclei per µm².
        half_per_um2: f64,
        /// Modulation without any such nucleus.
        low: f64,
        /// Modulation towards infinite density.
        high: f64,
    },
    /// The wide gradient `z` in 0..1: `m = low + (high − low) · z`.
    Gradient {
        /// Modulation at 0.
        low: f64,
        /// Modulation at 1.
        high: f64,
    },
    /// Nothing: `m = 1`.
    Constant,
}

/// One gene and the truth about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneProgram {
    /// Stable id.
    pub id: String,
    /// Symbol: the group's prefix and a number.
    pub symbol: String,
    /// The group.
    pub group: GeneGroup,
    /// What the expected share depends on.
    pub driver: Driver,
    /// Abundance, as the module's definition uses it.
    pub abundance: f64,
    /// Over-dispersion `φ` of the negative binomial: variance `μ + φ·μ²`.
    pub dispersion: f64,
}

/// All genes of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Program {
    /// The genes, in the order of every matrix's columns.
    pub genes: Vec<GeneProgram>,
}

impl Program {
    /// Deals `genes` genes to the groups in turn, with abundances and weights from the seed.
    pub fn new(seed: u64, genes: usize, dispersion: f64) -> Self {
        let mut genes: Vec<GeneProgram> = (0..genes).map(|index| gene(seed, index, dispersion)).collect();
        let modulated = |gene: &GeneProgram| !matches!(gene.driver, Driver::Composition { .. });
        let total: f64 = genes.iter().filter(|gene| modulated(gene)).map(|gene| gene.abundance).sum();
        for gene in genes.iter_mut().filter(|gene| modulated(gene)) {
            gene.abundance = rounded(gene.abundance * MODULATED_SHARE / total.max(f64::MIN_POSITIVE));
        }
        Self { genes }
    }

    /// Expected shares `p` of a slide's small bins on tissue: row-major bins × genes, every row sums to one.
    pub fn shares(&self, morphology: &Morphology) -> Vec<f32> {
        let mut rings: Vec<(CellKind, f64, f64, Vec<f32>)> = Vec::new();
        let mut ring_of_gene = vec![0; self.genes.len()];
        for (gene, slot) in self.genes.iter().zip(&mut ring_of_gene) {
            if let Driver::Neighborhood { of, inner_um, outer_um, .. } = gene.driver {
                let known =
                    rings.iter().position(|ring| (ring.0, ring.1, ring.2) == (of, inner_um, outer_um));
                *slot = known.unwrap_or_else(|| {
                    rings.push((of, inner_um, outer_um, morphology.ring_density(of, inner_um, outer_um)));
                    rings.len() - 1
                });
            }
        }
        let mut shares = Vec::with_capacity(morphology.bins.len() * self.genes.len());
        for (row, bin) in morphology.bins.iter().enumerate() {
            let (mut modulated, mut composition) = (0.0, 0.0);
            let start = shares.len();
            for (gene, &ring) in self.genes.iter().zip(&ring_of_gene) {
                let density =
                    || f64::from(rings.get(ring).and_then(|r| r.3.get(row)).copied().unwrap_or(0.0));
                let raw = gene.abundance * gene.driver.strength(bin, density);
                match gene.driver {
                    Driver::Composition { .. } => composition += raw,
                    _ => modulated += raw,
                }
                shares.push(raw as f32);
            }
            let scale = (1.0 - modulated) / composition;
            for (share, gene) in shares[start..].iter_mut().zip(&self.genes) {
                if matches!(gene.driver, Driver::Composition { .. }) {
                    *share *= scale as f32;
                }
            }
        }
        shares
    }
}

impl Driver {
    /// The gene's activity or modulation; `density` is asked for only by a neighbourhood's driver.
    fn strength(&self, bin: &BinMorphology, density: impl Fn() -> f64) -> f64 {
        match self {
            Driver::Composition { weights, lumen } => {
                let own: f64 = weights.iter().zip(bin.shares).map(|(w, s)| w * f64::from(s)).sum();
                let epithelium = f64::from(bin.shares[CellKind::Epithelial as usize]);
                BASE_ACTIVITY + own + lumen * f64::from(bin.lumen) * epithelium
            }
            Driver::Neighborhood { half_per_um2, low, high, .. } => {
                let density = density();
                low + (high - low) * density / (density + half_per_um2)
            }
            Driver::Gradient { low, high } => low + (high - low) * f64::from(bin.crowding),
            Driver::Constant => 1.0,
        }
    }
}

/// Expected library size of each small bin on tissue, with mean `depth` over the slide.
pub fn library_sizes(morphology: &Morphology, depth: f64) -> Vec<f32> {
    let mut sizes: Vec<f32> =
        morphology.bins.iter().map(|bin| bin.content.powf(LIBRARY_EXPONENT).min(3.0)).collect();
    let mean = sizes.iter().map(|&size| f64::from(size)).sum::<f64>() / sizes.len().max(1) as f64;
    for size in &mut sizes {
        *size *= (depth / mean.max(f64::MIN_POSITIVE)) as f32;
    }
    sizes
}

fn gene(seed: u64, index: usize, dispersion: f64) -> GeneProgram {
    let group = GeneGroup::ALL[index % GeneGroup::ALL.len()];
    let mut rng = stream(seed, "gene", &[index as u64]);
    // Medians are alike in all groups, so that no group is learnt better for its depth alone.
    let abundance = rounded(LogNormal::new(0.0, 0.5).map_or(1.0, |spread| spread.sample(&mut rng)));
    let driver = driver(group, &mut rng);
    let dispersion = match group {
        GeneGroup::Noise => 1.0,
        _ => dispersion,
    };
    GeneProgram {
        id: format!("SYNG{:08}", index + 1),
        symbol: format!("{}{}", group.prefix(), index / GeneGroup::ALL.len() + 1),
        group,
        driver,
        abundance,
        dispersion,
    }
}

/// Few enough digits that the number in `program.json` is the number that was used.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn driver(group: GeneGroup, rng: &mut impl Rng) -> Driver {
    // Some genes of a group rise with their driver and some fall.
    let rises = rng.random_bool(0.7);
    let (low, high) = if rises { (0.25, 1.75) } else { (1.75, 0.25) };
    let mut own = |main: usize| {
        let mut weights: [f64; 4] = std::array::from_fn(|_| rounded(0.10 * rng.random_range(0.0..1.0)));
        weights[main] = rounded(rng.random_range(0.8..1.2));
        Driver::Composition { weights, lumen: 0.0 }
    };
    match group {
        GeneGroup::Epithelial => own(CellKind::Epithelial as usize),
        GeneGroup::Stromal => own(CellKind::Stromal as usize),
        GeneGroup::Tumor => own(CellKind::Tumor as usize),
        GeneGroup::Immune => own(CellKind::Immune as usize),
        GeneGroup::Lumen => Driver::Composition {
            weights: [0.05, 0.02, 0.02, 0.02],
            lumen: rounded(rng.random_range(1.2..1.8)),
        },
        GeneGroup::NearImmune => Driver::Neighborhood {
            of: CellKind::Immune,
            inner_um: 48.0,
            outer_um: 100.0 + 25.0 * f64::from(rng.random_range(0..3u8)),
            half_per_um2: 0.0007,
            low,
            high,
        },
        GeneGroup::NearTumor => Driver::Neighborhood {
            of: CellKind::Tumor,
            inner_um: 48.0,
            outer_um: 100.0 + 25.0 * f64::from(rng.random_range(0..3u8)),
            half_per_um2: 0.0015,
            low,
            high,
        },
        GeneGroup::Region => Driver::Gradient { low, high },
        GeneGroup::Housekeeping | GeneGroup::Noise => Driver::Constant,
    }
}
