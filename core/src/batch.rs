//! What one forward pass reads, every tensor with its shape.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use thiserror::Error;

use crate::expression::Matrix;
use crate::layout::Block;
use crate::level::{Level, PerLevel};
use crate::neighbor_graph::NeighborTable;

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
    /// `[B,2]` column and row of each local bin; see [`Block::places`].
    pub places: Tensor<2, Int>,
    /// Number of core nodes of each level.
    pub core: PerLevel<usize>,
    /// `[Sc,Bc]`: row `s` averages the core bins that lie in spot `s`.
    pub spot_mean: Tensor<2>,
    /// `[Rc,Bc]`: row `r` averages the core bins that lie in region `r`.
    pub region_mean: Tensor<2>,
    /// `[Bc,G]`, `[Sc,G]`, `[Rc,G]` labels, where known.
    pub labels: Option<PerLevel<Tensor<2>>>,
    /// `[B,2]` first and one past the last row of the model's training set that each local bin must not see, in a step
    /// of a model that reads the set: without this a bin would find itself there. Empty ranges where there is none.
    pub own_references: Option<Tensor<2, Int>>,
}

/// Why a block did not become a batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// An input whose shape does not fit the block.
    #[error("{level} input: shape {found:?}, expected {expected}")]
    Input {
        /// Which level.
        level: Level,
        /// What the block wants.
        expected: String,
        /// What was given.
        found: Vec<usize>,
    },
    /// Labels that end before the slide does.
    #[error("{level} labels: {rows} rows, but the block holds node {node} of the slide")]
    LabelRows {
        /// Which level.
        level: Level,
        /// Rows given.
        rows: usize,
        /// A node beyond them.
        node: usize,
    },
    /// Levels whose labels have different genes.
    #[error("{level} labels: {found} genes, the bin labels have {expected}")]
    LabelGenes {
        /// Which level.
        level: Level,
        /// Genes of the bin labels.
        expected: usize,
        /// Genes found.
        found: usize,
    },
    /// A block or table without rows, which no device takes.
    #[error("{what}: no rows")]
    Empty {
        /// What has no rows.
        what: &'static str,
    },
    /// Pixels that do not make up whole patches.
    #[error(
        "patches: {found} bytes, expected {expected} ({patches} patches of {side_px} × {side_px} px, RGB)"
    )]
    Pixels {
        /// Number of patches.
        patches: usize,
        /// Side of a patch.
        side_px: usize,
        /// Bytes wanted.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

impl LevelInput {
    /// The shape of the tensor.
    fn dims(&self) -> Vec<usize> {
        match self {
            LevelInput::Patches(patches) => patches.dims().to_vec(),
            LevelInput::Features(rows) | LevelInput::Encoded(rows) => rows.dims().to_vec(),
        }
    }

    /// Checks that the input has one row per node, and that patches are square and have three channels.
    fn check(&self, level: Level, nodes: usize) -> Result<(), BatchError> {
        let found = self.dims();
        let (fits, expected) = match (self, found.as_slice()) {
            (LevelInput::Patches(_), &[rows, channels, height, width]) => {
                (rows == nodes && channels == 3 && height == width, format!("[{nodes}, 3, P, P]"))
            }
            (_, shape) => (shape.first() == Some(&nodes), format!("[{nodes}, F]")),
        };
        if fits { Ok(()) } else { Err(BatchError::Input { level, expected, found }) }
    }
}

impl NeighborIndices {
    /// The table on a device.
    ///
    /// # Shapes
    /// - both tensors `[N,K]`
    ///
    /// # Errors
    /// When the table has no rows.
    pub fn from_table(table: &NeighborTable, device: &Device) -> Result<Self, BatchError> {
        if table.is_empty() {
            return Err(BatchError::Empty { what: "neighbour table" });
        }
        let shape = [table.len(), table.k];
        Ok(Self {
            index: Tensor::from_data(TensorData::new(int_values(&table.indices), shape), device),
            valid: Tensor::from_data(TensorData::new(table.valid.clone(), shape), device),
        })
    }
}

impl MagNetBatch {
    /// The tensors of a block.
    ///
    /// `labels` are those of the whole slide, one row per node of each level; the block's core rows are taken from
    /// them. A model without wide levels ignores the spot and region inputs, but they must have a row per node all
    /// the same.
    ///
    /// # Shapes
    /// - inputs `[B,..]`, `[S,..]`, `[R,..]` in the order of `block.nodes`
    ///
    /// # Errors
    /// When an input or the labels do not fit the block.
    pub fn from_block(
        block: &Block,
        inputs: PerLevel<LevelInput>,
        labels: Option<&PerLevel<Matrix>>,
        device: &Device,
    ) -> Result<Self, BatchError> {
        if block.core.bin == 0 {
            return Err(BatchError::Empty { what: "core bins of the block" });
        }
        for (level, input) in inputs.iter() {
            input.check(level, block.nodes.get(level).len())?;
        }
        let labels = match labels {
            Some(labels) => Some(PerLevel::try_from_fn(|level| core_labels(block, labels, level, device))?),
            None => None,
        };
        Ok(Self {
            inputs,
            graphs: PerLevel::try_from_fn(|level| {
                NeighborIndices::from_table(block.graphs.get(level), device)
            })?,
            spot_context: NeighborIndices::from_table(&block.spot_context, device)?,
            region_context: NeighborIndices::from_table(&block.region_context, device)?,
            parent_spot: index_tensor(&block.parent_spot, device),
            parent_region: index_tensor(&block.parent_region, device),
            places: index_tensor(block.places.as_flattened(), device).reshape([block.places.len(), 2]),
            core: block.core,
            spot_mean: mean_over_children(&block.parent_spot, block.core.spot, device),
            region_mean: mean_over_children(&block.parent_region, block.core.region, device),
            labels,
            own_references: None,
        })
    }
}

/// Patches as the encoder reads them, from rows of interleaved 8-bit RGB.
///
/// # Shapes
/// - `rgb`: `[N,P,P,3]`, flat
/// - output `[N,3,P,P]`, in 0..1
///
/// # Errors
/// When the number of bytes is not `N·P·P·3`, or is 0.
pub fn patches_from_rgb(
    rgb: &[u8],
    patches: usize,
    side_px: usize,
    device: &Device,
) -> Result<Tensor<4>, BatchError> {
    let area = side_px.saturating_mul(side_px);
    let expected = area.saturating_mul(3).saturating_mul(patches);
    if rgb.len() != expected {
        return Err(BatchError::Pixels { patches, side_px, expected, found: rgb.len() });
    }
    if expected == 0 {
        return Err(BatchError::Empty { what: "patches" });
    }
    let mut planes = Vec::with_capacity(expected);
    for patch in rgb.chunks_exact(3 * area) {
        for channel in 0..3 {
            planes.extend(patch.iter().skip(channel).step_by(3).map(|&value| f32::from(value) / 255.0));
        }
    }
    Ok(Tensor::from_data(TensorData::new(planes, [patches, 3, side_px, side_px]), device))
}

/// The rows of a matrix with the given numbers, as a tensor.
///
/// # Shapes
/// - output `[rows.len(), cols]`
///
/// # Errors
/// When the matrix has no such row; `level` goes into the error.
pub fn rows_tensor(
    matrix: &Matrix,
    rows: &[u32],
    level: Level,
    device: &Device,
) -> Result<Tensor<2>, BatchError> {
    let mut values = Vec::with_capacity(rows.len() * matrix.cols);
    for &node in rows {
        let node = node as usize;
        if node >= matrix.rows || matrix.row(node).len() != matrix.cols {
            return Err(BatchError::LabelRows { level, rows: matrix.rows, node });
        }
        values.extend_from_slice(matrix.row(node));
    }
    if values.is_empty() {
        return Err(BatchError::Empty { what: "rows of a matrix" });
    }
    Ok(Tensor::from_data(TensorData::new(values, [rows.len(), matrix.cols]), device))
}

/// Labels of the block's core nodes at one level.
fn core_labels(
    block: &Block,
    labels: &PerLevel<Matrix>,
    level: Level,
    device: &Device,
) -> Result<Tensor<2>, BatchError> {
    let (expected, found) = (labels.bin.cols, labels.get(level).cols);
    if expected != found {
        return Err(BatchError::LabelGenes { level, expected, found });
    }
    let nodes = block.nodes.get(level);
    let core = nodes.get(..*block.core.get(level)).unwrap_or(nodes);
    rows_tensor(labels.get(level), core, level, device)
}

/// Indices as devices hold them: no backend has `u32` as its integer type.
fn int_values(indices: &[u32]) -> Vec<i32> {
    indices.iter().map(|&index| index as i32).collect()
}

pub(crate) fn index_tensor(indices: &[u32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(int_values(indices), [indices.len()]), device)
}

/// `[tiles, children]`: row `t` averages over the children whose parent is `t`.
fn mean_over_children(parents: &[u32], tiles: usize, device: &Device) -> Tensor<2> {
    let mut children = vec![0_u32; tiles];
    for &parent in parents {
        if let Some(count) = children.get_mut(parent as usize) {
            *count += 1;
        }
    }
    let mut weights = vec![0.0_f32; tiles * parents.len()];
    for (child, &parent) in parents.iter().enumerate() {
        let parent = parent as usize;
        if let (Some(weight), Some(&count)) =
            (weights.get_mut(parent * parents.len() + child), children.get(parent))
        {
            *weight = 1.0 / count as f32;
        }
    }
    Tensor::from_data(TensorData::new(weights, [tiles, parents.len()]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinates::SlideUm;
    use crate::layout::SlideLayout;
    use crate::level::LevelGeometry;

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
        tensor.to_data().try_to_vec().unwrap()
    }

    fn ints<const D: usize>(tensor: &Tensor<D, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    /// Five bins in a row of spots of two bins and regions of four: spots 0 0 1 1 2, regions 0 0 0 0 1.
    fn layout() -> SlideLayout {
        let bins: Vec<_> = (0..5).map(|i| SlideUm { x: f64::from(i) * 10.0 + 5.0, y: 5.0 }).collect();
        let level = |tile_um| LevelGeometry { tile_um, ..LevelGeometry::default() };
        SlideLayout::new(&bins, &PerLevel { bin: level(10.0), spot: level(20.0), region: level(40.0) }, 2)
            .unwrap()
    }

    /// Features whose only column is the node's slide index.
    fn inputs(block: &Block, device: &Device) -> PerLevel<LevelInput> {
        PerLevel::from_fn(|level| {
            let nodes = block.nodes.get(level);
            let data: Vec<f32> = nodes.iter().map(|&node| node as f32).collect();
            LevelInput::Features(Tensor::from_data(TensorData::new(data, [nodes.len(), 1]), device))
        })
    }

    fn labels() -> PerLevel<Matrix> {
        let matrix = |rows: usize| Matrix::new(rows, 2, (0..2 * rows).map(|i| i as f32).collect()).unwrap();
        PerLevel { bin: matrix(5), spot: matrix(3), region: matrix(2) }
    }

    #[test]
    fn a_block_of_the_whole_slide_has_every_tensor() {
        let device = Device::flex();
        let block = layout().blocks(5, 1, None).next().unwrap();
        let batch =
            MagNetBatch::from_block(&block, inputs(&block, &device), Some(&labels()), &device).unwrap();
        assert_eq!(batch.core, PerLevel { bin: 5, spot: 3, region: 2 });
        assert_eq!(batch.graphs.bin.index.dims(), [5, 2]);
        assert_eq!(batch.spot_context.index.dims(), [5, 3]);
        assert_eq!(ints(&batch.parent_spot), [0, 0, 1, 1, 2]);
        assert_eq!(
            values(&batch.spot_mean),
            [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
        );
        assert_eq!(values(&batch.region_mean), [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(values(&batch.labels.unwrap().spot), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        // The first bin's context of regions: region 0, its neighbour region 1, and no other.
        let valid: Vec<bool> = batch.region_context.valid.to_data().try_to_vec().unwrap();
        assert_eq!(valid[..3], [true, true, false]);
        assert_eq!(ints(&batch.region_context.index)[..3], [0, 1, 0]);
    }

    #[test]
    fn labels_are_those_of_the_core_nodes() {
        let device = Device::flex();
        let blocks: Vec<_> = layout().blocks(1, 1, None).collect();
        let block = blocks.iter().find(|block| block.nodes.bin[0] == 3).unwrap();
        let batch = MagNetBatch::from_block(block, inputs(block, &device), Some(&labels()), &device).unwrap();
        let labels = batch.labels.unwrap();
        assert_eq!(values(&labels.bin), [6.0, 7.0]);
        assert_eq!(values(&labels.spot), [2.0, 3.0]);
        assert_eq!(values(&labels.region), [0.0, 1.0]);
        assert_eq!(values(&batch.spot_mean), [1.0]);
    }

    #[test]
    fn inputs_and_labels_that_do_not_fit_are_refused_by_level() {
        let device = Device::flex();
        let block = layout().blocks(5, 1, None).next().unwrap();
        let with = |change: &dyn Fn(&mut PerLevel<LevelInput>)| {
            let mut inputs = inputs(&block, &device);
            change(&mut inputs);
            MagNetBatch::from_block(&block, inputs, None, &device).unwrap_err().to_string()
        };
        let text = with(&|inputs| inputs.spot = LevelInput::Encoded(Tensor::zeros([4, 7], &device)));
        assert!(text.contains("spot input") && text.contains("[4, 7]") && text.contains("[3, F]"), "{text}");
        let text = with(&|inputs| inputs.bin = LevelInput::Patches(Tensor::zeros([5, 3, 8, 9], &device)));
        assert!(text.contains("bin input") && text.contains("[5, 3, P, P]"), "{text}");

        let labelled = |labels: PerLevel<Matrix>| {
            let inputs = inputs(&block, &device);
            MagNetBatch::from_block(&block, inputs, Some(&labels), &device).unwrap_err()
        };
        let short = PerLevel { region: Matrix::new(1, 2, vec![0.0; 2]).unwrap(), ..labels() };
        assert_eq!(labelled(short), BatchError::LabelRows { level: Level::Region, rows: 1, node: 1 });
        let wide = PerLevel { spot: Matrix::new(3, 1, vec![0.0; 3]).unwrap(), ..labels() };
        assert_eq!(labelled(wide), BatchError::LabelGenes { level: Level::Spot, expected: 2, found: 1 });
    }

    #[test]
    fn pixels_become_planes_between_zero_and_one() {
        let device = Device::flex();
        // Two patches of 1 × 1 and one of 2 × 2 px.
        let two = patches_from_rgb(&[255, 0, 51, 0, 255, 0], 2, 1, &device).unwrap();
        assert_eq!(two.dims(), [2, 3, 1, 1]);
        assert_eq!(values(&two), [1.0, 0.0, 0.2, 0.0, 1.0, 0.0]);
        let one = patches_from_rgb(&[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0], 1, 2, &device).unwrap();
        assert_eq!(values(&one), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let error = patches_from_rgb(&[0; 5], 1, 2, &device).unwrap_err().to_string();
        assert!(error.contains("5 bytes") && error.contains("12"), "{error}");
    }
}
