//! What one forward pass reads, every tensor with its shape.

use burn::tensor::{Bool, Int, Tensor};

use crate::level::PerLevel;

/// Rows of another tensor, per row: a gather table.
#[derive(Debug, Clone)]
pub struct NeighborIndices {
    /// `[N,K]` row indices, always in bounds.
    pub index: Tensor<2, Int>,
    /// `[N,K]`, true where the neighbour exists.
    pub valid: Tensor<2, Bool>,
}

/// What one level gives the model.
#[derive(Debug, Clone)]
pub enum LevelInput {
    /// `[N,3,P,P]` RGB in 0..1, before the encoder's own normalisation.
    Patches(Tensor<4>),
    /// `[N,F]` features of a frozen encoder or of a file; a trainable linear brings them to `D`.
    Features(Tensor<2>),
    /// `[N,D]` output of the model's own level encoder (and, for wide levels, of its linear), computed earlier.
    Encoded(Tensor<2>),
}

/// One spatial block of one slide.
///
/// `B`, `S`, `R` count the local nodes of each level, core first; `Bc`, `Sc`, `Rc` the core ones.
#[derive(Debug, Clone)]
pub struct MagNetBatch {
    /// Input of the `B`, `S` and `R` local nodes.
    pub inputs: PerLevel<LevelInput>,
    /// Graph tables `[B,K]`, `[S,K]`, `[R,K]`.
    pub graphs: PerLevel<NeighborIndices>,
    /// `[B,1+K]` into the spots: the parent, then its neighbours.
    pub spot_context: NeighborIndices,
    /// `[B,1+K]` into the regions.
    pub region_context: NeighborIndices,
    /// `[Bc]` parent spot of each core bin.
    pub parent_spot: Tensor<1, Int>,
    /// `[Bc]` parent region of each core bin.
    pub parent_region: Tensor<1, Int>,
    /// Number of core nodes of each level.
    pub core: PerLevel<usize>,
    /// `[Sc,Bc]`: row `s` averages the core bins that lie in spot `s`.
    pub spot_mean: Tensor<2>,
    /// `[Rc,Bc]`: row `r` averages the core bins that lie in region `r`.
    pub region_mean: Tensor<2>,
    /// `[Bc,G]`, `[Sc,G]`, `[Rc,G]` labels, where known.
    pub labels: Option<PerLevel<Tensor<2>>>,
}
