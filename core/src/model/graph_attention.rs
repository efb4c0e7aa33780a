//! Figure 2, right of the middle: graph attention over the spatial neighbours of one level, `T` layers deep.
//!
//! Each layer is the graph attention network of Veličković et al. (2018), or GATv2 of Brody et al. (2022): a linear
//! map per head, an additive score with LeakyReLU(0.2), softmax over the valid neighbours and the node itself, ELU,
//! and a residual. Neighbours are an `[N,K]` table, so the cost grows with `N·K`.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::MASKED_SCORE;
use super::config::{GraphAttentionKind, GraphConfig};
use crate::batch::NeighborIndices;

/// Slope of the LeakyReLU for negative scores.
const NEGATIVE_SLOPE: f64 = 0.2;

/// `T` stacked graph attention layers of one level.
#[derive(Module, Debug)]
pub struct GraphAttention {
    layers: Vec<GraphAttentionLayer>,
    enabled: bool,
}

impl GraphConfig {
    /// Builds the layers for feature width `width`, which `heads` must divide.
    pub fn init(&self, width: usize, device: &Device) -> GraphAttention {
        let layers = (0..self.layers).map(|_| GraphAttentionLayer::new(self, width, device)).collect();
        GraphAttention { layers, enabled: self.enabled }
    }
}

impl GraphAttention {
    /// Runs the layers one after the other and keeps every output. With the graph switched off each layer sees the
    /// node alone.
    ///
    /// # Shapes
    /// - `nodes`: `[N,D]`
    /// - `neighbors`: `[N,K]`, without the node itself
    /// - output: `T` tensors `[N,D]`, the first layer's first
    pub fn forward(&self, nodes: Tensor<2>, neighbors: &NeighborIndices) -> Vec<Tensor<2>> {
        let neighborhood = Neighborhood::new(&nodes, self.enabled.then_some(neighbors));
        let mut state = nodes;
        self.layers
            .iter()
            .map(|layer| {
                state = layer.forward(state.clone(), &neighborhood);
                state.clone()
            })
            .collect()
    }
}

/// Each node's neighbours with the node itself in slot 0.
struct Neighborhood {
    /// `[N·(1+K)]` rows.
    rows: Tensor<1, Int>,
    /// `[N,1+K,1]`, true where the slot holds nothing.
    absent: Tensor<3, Bool>,
    slots: usize,
}

impl Neighborhood {
    fn new(nodes: &Tensor<2>, neighbors: Option<&NeighborIndices>) -> Self {
        let [count, _] = nodes.dims();
        let own = Tensor::<1, Int>::arange(0..count as i64, &nodes.device()).reshape([count, 1]);
        let present = Tensor::<2, Int>::ones([count, 1], &nodes.device()).bool();
        let (index, valid) = match neighbors {
            None => (own, present),
            Some(neighbors) => {
                // An absent neighbour is replaced by the node itself, so that nothing of another node is even read.
                let [_, slots] = neighbors.index.dims();
                let absent = neighbors.valid.clone().bool_not();
                let index = neighbors.index.clone().mask_where(absent, own.clone().repeat_dim(1, slots));
                (Tensor::cat(vec![own, index], 1), Tensor::cat(vec![present, neighbors.valid.clone()], 1))
            }
        };
        let [_, slots] = index.dims();
        Self {
            rows: index.reshape([count * slots]),
            absent: valid.bool_not().reshape([count, slots, 1]),
            slots,
        }
    }
}

/// One graph attention layer; the heads' outputs lie side by side, `D/H` wide each.
#[derive(Module, Debug)]
pub struct GraphAttentionLayer {
    /// What a node says to others: `W x` of the paper.
    message: Linear,
    /// GATv2 only: what a node looks for.
    query: Option<Linear>,
    /// GAT only, `[H,D/H]`: the half of the score vector that reads the node.
    score_node: Option<Param<Tensor<2>>>,
    /// `[H,D/H]`: the half that reads the neighbour (GATv2: the whole score vector).
    score_neighbor: Param<Tensor<2>>,
    /// `[D]`, added after the neighbours are summed.
    bias: Param<Tensor<1>>,
    dropout: Dropout,
}

impl GraphAttentionLayer {
    fn new(config: &GraphConfig, width: usize, device: &Device) -> Self {
        let head_width = width / config.heads;
        let glorot = Initializer::XavierUniform { gain: 1.0 };
        let linear =
            || LinearConfig::new(width, width).with_bias(false).with_initializer(glorot.clone()).init(device);
        let score = || glorot.init_with([config.heads, head_width], Some(head_width), Some(1), device);
        let v2 = config.attention == GraphAttentionKind::Gatv2;
        Self {
            message: linear(),
            query: v2.then(linear),
            score_node: (!v2).then(score),
            score_neighbor: score(),
            bias: Initializer::Zeros.init([width], device),
            dropout: DropoutConfig::new(config.dropout).init(),
        }
    }

    /// # Shapes
    /// - `nodes`: `[N,D]`
    /// - output: `[N,D]`
    fn forward(&self, nodes: Tensor<2>, neighborhood: &Neighborhood) -> Tensor<2> {
        let [count, width] = nodes.dims();
        let [heads, head_width] = self.score_neighbor.dims();
        let slots = neighborhood.slots;

        let messages = self.message.forward(nodes.clone()); // [N,D]
        let gathered =
            messages.clone().select(0, neighborhood.rows.clone()).reshape([count, slots, heads, head_width]); // [N,1+K,H,D/H]

        let scores = match (&self.query, &self.score_node) {
            (Some(query), _) => {
                let sought = query.forward(nodes.clone()).reshape([count, 1, heads, head_width]);
                project(leaky_relu(gathered.clone() + sought), &self.score_neighbor)
            }
            (None, score_node) => {
                let messages = messages.reshape([count, 1, heads, head_width]);
                // The neighbour's term depends on the neighbour alone: once per node, then gathered.
                let neighbor = project(messages.clone(), &self.score_neighbor)
                    .reshape([count, heads])
                    .select(0, neighborhood.rows.clone())
                    .reshape([count, slots, heads]);
                let sum = match score_node {
                    Some(score_node) => project(messages, score_node) + neighbor,
                    None => neighbor,
                };
                leaky_relu(sum)
            }
        }; // [N,1+K,H]

        let weights = softmax(scores.mask_fill(neighborhood.absent.clone(), MASKED_SCORE), 1);
        let weights = self.dropout.forward(weights).unsqueeze_dim::<4>(3); // [N,1+K,H,1]
        let mixed = (gathered * weights).sum_dim(1).reshape([count, width]);
        nodes + elu(mixed + self.bias.val().unsqueeze())
    }
}

/// Inner product with a head's score vector.
///
/// # Shapes
/// - `features`: `[N,slots,H,D/H]`
/// - output: `[N,slots,H]`
fn project(features: Tensor<4>, score: &Param<Tensor<2>>) -> Tensor<3> {
    let [count, slots, heads, head_width] = features.dims();
    (features * score.val().reshape([1, 1, heads, head_width])).sum_dim(3).reshape([count, slots, heads])
}

/// LeakyReLU from two plain maps: Burn's goes through a mask, which costs several times as much on the CPU.
fn leaky_relu<const RANK: usize>(x: Tensor<RANK>) -> Tensor<RANK> {
    relu(x.clone()) * (1.0 - NEGATIVE_SLOPE) + x * NEGATIVE_SLOPE
}

/// ELU whose gradient stays finite for any input: the exponential never sees a positive number.
fn elu(x: Tensor<2>) -> Tensor<2> {
    relu(x.clone()) + (x.clamp_max(0.0).exp() - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{
        assert_close, assert_gradient, assert_values, filled, indices, matrix, noise, pseudo_random, table,
        values,
    };

    fn config(attention: GraphAttentionKind, layers: usize, heads: usize) -> GraphConfig {
        GraphConfig { enabled: true, layers, heads, attention, dropout: 0.0 }
    }

    fn random(config: &GraphConfig, width: usize, device: &Device) -> GraphAttention {
        filled(config.init(width, device), |name, index| 0.7 * pseudo_random(name, index) as f32)
    }

    const BOTH: [GraphAttentionKind; 2] = [GraphAttentionKind::Gat, GraphAttentionKind::Gatv2];

    /// A path 0 – 1 – 2 – 3.
    fn path(device: &Device) -> NeighborIndices {
        table(
            &[vec![Some(1), None], vec![Some(0), Some(2)], vec![Some(1), Some(3)], vec![Some(2), None]],
            device,
        )
    }

    #[test]
    fn equal_scores_average_the_node_and_its_valid_neighbours() {
        let device = Device::flex();
        let graph = filled(config(GraphAttentionKind::Gat, 1, 1).init(2, &device), |name, index| {
            // Message is the 2×2 identity, scores and bias are 0.
            if name.ends_with("message.weight") && (index == 0 || index == 3) { 1.0 } else { 0.0 }
        });
        let nodes = matrix(&[&[1.0, 0.0], &[3.0, 4.0]], &device);
        let neighbors = table(&[vec![Some(1), None], vec![None, None]], &device);
        let [out] = graph.forward(nodes, &neighbors).try_into().unwrap();
        // Node 0: residual + mean of both nodes; node 1: residual + itself.
        assert_values(&values(&out), &[1.0 + 2.0, 0.0 + 2.0, 6.0, 8.0], 1e-6);
    }

    #[test]
    fn gat_scores_are_the_sum_of_a_node_term_and_a_neighbour_term() {
        let device = Device::flex();
        let graph = filled(config(GraphAttentionKind::Gat, 1, 1).init(1, &device), |name, _| {
            if name.ends_with("message.weight") || name.ends_with("score_node") {
                1.0
            } else if name.ends_with("score_neighbor") {
                2.0
            } else {
                0.0
            }
        });
        let nodes = matrix(&[&[1.0], &[-1.0]], &device);
        let neighbors = table(&[vec![Some(1)], vec![None]], &device);
        let [out] = graph.forward(nodes, &neighbors).try_into().unwrap();
        // Node 0 scores itself 1 + 2 = 3 and its neighbour LeakyReLU(1 − 2) = −0.2.
        let (own, other) = (3.0_f32.exp(), (-0.2_f32).exp());
        let mixed = (own - other) / (own + other);
        // Node 1 has itself alone: ELU(−1) = e⁻¹ − 1.
        assert_values(&values(&out), &[1.0 + mixed, -1.0 + ((-1.0_f32).exp() - 1.0)], 1e-6);
    }

    #[test]
    fn gatv2_scores_apply_the_non_linearity_before_the_score_vector() {
        let device = Device::flex();
        let graph = filled(config(GraphAttentionKind::Gatv2, 1, 1).init(1, &device), |name, _| {
            if name.ends_with("score_neighbor") {
                2.0
            } else if name.ends_with("weight") {
                1.0
            } else {
                0.0
            }
        });
        let nodes = matrix(&[&[1.0], &[-3.0]], &device);
        let neighbors = table(&[vec![Some(1)], vec![None]], &device);
        let [out] = graph.forward(nodes, &neighbors).try_into().unwrap();
        // 2·LeakyReLU(1 + 1) = 4 for itself, 2·LeakyReLU(1 − 3) = −0.8 for the neighbour.
        let (own, other) = (4.0_f32.exp(), (-0.8_f32).exp());
        let mixed = (own - 3.0 * other) / (own + other);
        assert_values(&values(&out)[..1], &[1.0 + mixed], 1e-6);
    }

    #[test]
    fn each_head_attends_by_its_own_scores_and_heads_lie_side_by_side() {
        let device = Device::flex();
        let graph = filled(config(GraphAttentionKind::Gat, 1, 2).init(2, &device), |name, index| {
            let identity = name.ends_with("message.weight") && (index == 0 || index == 3);
            // Only the second head prefers large neighbours.
            let prefers = name.ends_with("score_neighbor") && index == 1;
            if identity || prefers { 1.0 } else { 0.0 }
        });
        let nodes = matrix(&[&[0.0, 0.0], &[2.0, 2.0]], &device);
        let neighbors = table(&[vec![Some(1)], vec![None]], &device);
        let [out] = graph.forward(nodes, &neighbors).try_into().unwrap();
        let e2 = 2.0_f32.exp();
        assert_values(&values(&out)[..2], &[1.0, 2.0 * e2 / (1.0 + e2)], 1e-5);
    }

    #[test]
    fn an_absent_neighbour_contributes_exactly_nothing() {
        let device = Device::flex();
        for kind in BOTH {
            let graph = random(&config(kind, 2, 2), 4, &device);
            let nodes = noise("nodes", [3, 4], &device);
            let far = nodes.clone() * matrix(&[&[1.0], &[1.0], &[1e6]], &device);
            let without_2 = |slot: u32| {
                let mut neighbors =
                    table(&[vec![Some(1), None], vec![Some(0), None], vec![None, None]], &device);
                neighbors.index = neighbors.index.clone() + neighbors_absent(&neighbors) * i64::from(slot);
                neighbors
            };
            let plain = graph.forward(nodes.clone(), &without_2(0)).pop().unwrap();
            for changed in [graph.forward(far, &without_2(0)), graph.forward(nodes, &without_2(2))] {
                let changed = changed.last().unwrap().clone();
                assert_eq!(values(&plain.clone().narrow(0, 0, 2)), values(&changed.narrow(0, 0, 2)));
            }
        }
    }

    /// 1 where a slot is absent.
    fn neighbors_absent(neighbors: &NeighborIndices) -> Tensor<2, Int> {
        neighbors.valid.clone().bool_not().int()
    }

    #[test]
    fn each_layer_reaches_one_hop_further() {
        let device = Device::flex();
        for kind in BOTH {
            let graph = random(&config(kind, 3, 2), 4, &device);
            let nodes = noise("nodes", [4, 4], &device);
            let moved = nodes.clone() + matrix(&[&[0.0], &[0.0], &[0.0], &[1.0]], &device);
            let before = graph.forward(nodes, &path(&device));
            let after = graph.forward(moved, &path(&device));
            let first_node_changed: Vec<bool> =
                before.iter().zip(&after).map(|(a, b)| values(a)[..4] != values(b)[..4]).collect();
            assert_eq!(first_node_changed, [false, false, true]);
        }
    }

    #[test]
    fn switched_off_each_layer_sees_the_node_alone() {
        let device = Device::flex();
        for kind in BOTH {
            let on = config(kind, 2, 2);
            let off = GraphConfig { enabled: false, ..on.clone() };
            let nodes = noise("nodes", [4, 4], &device);
            let nobody = table(&vec![vec![None, None]; 4], &device);
            let alone = random(&off, 4, &device).forward(nodes.clone(), &path(&device));
            let masked = random(&on, 4, &device).forward(nodes, &nobody);
            for (alone, masked) in alone.iter().zip(&masked) {
                assert_close(alone, masked, 1e-6);
            }
        }
    }

    #[test]
    fn renumbering_the_nodes_permutes_the_outputs() {
        let device = Device::flex();
        // New node i is old node order[i].
        let order = [2_u32, 0, 3, 1];
        let renumbered = |old: u32| order.iter().position(|&other| other == old).unwrap() as u32;
        let slots: [[Option<u32>; 2]; 4] =
            [[Some(1), None], [Some(0), Some(2)], [Some(1), Some(3)], [Some(2), None]];
        let rows: Vec<Vec<Option<u32>>> = order
            .iter()
            .map(|&old| slots[old as usize].iter().map(|slot| slot.map(renumbered)).collect())
            .collect();
        for kind in BOTH {
            let graph = random(&config(kind, 2, 2), 4, &device);
            let nodes = noise("nodes", [4, 4], &device);
            let pick = indices(&order, &device);
            let expected =
                graph.forward(nodes.clone(), &path(&device)).pop().unwrap().select(0, pick.clone());
            let actual = graph.forward(nodes.select(0, pick), &table(&rows, &device)).pop().unwrap();
            assert_close(&actual, &expected, 1e-6);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let device = Device::flex().autodiff();
        for kind in BOTH {
            let config = config(kind, 2, 2);
            let neighbors = path(&device);
            let project = noise("project", [4, 4], &device);
            let value = |name: &str, index: usize| 0.7 * pseudo_random(name, index) as f32;
            let graph = filled(config.init(4, &device), value);
            let nodes = noise("nodes", [4, 4], &device);
            assert_gradient(&nodes, 5e-3, 5e-3, |nodes| {
                let out = graph.forward(nodes, &neighbors).pop().unwrap();
                (out * project.clone()).sum()
            });
            // Every parameter of the first layer, as a [1,n] row.
            let shapes = crate::model::expected_shapes(&graph, crate::model::WeightLayout::Burn);
            for (name, shape) in shapes.iter().filter(|(name, _)| name.starts_with("layers.0.")) {
                let size: usize = shape.iter().product();
                let start: Vec<f32> = (0..size).map(|index| value(name, index)).collect();
                assert_gradient(&matrix(&[&start], &device), 5e-3, 5e-3, |row| {
                    let mut graph = graph.clone();
                    let layer = &mut graph.layers[0];
                    let as_matrix =
                        |row: Tensor<2>| row.reshape([shape[0], shape.get(1).copied().unwrap_or(1)]);
                    match name.as_str() {
                        "layers.0.message.weight" => replace(&mut layer.message.weight, as_matrix(row)),
                        "layers.0.query.weight" => {
                            replace(&mut layer.query.as_mut().unwrap().weight, as_matrix(row));
                        }
                        "layers.0.score_node" => replace(layer.score_node.as_mut().unwrap(), as_matrix(row)),
                        "layers.0.score_neighbor" => replace(&mut layer.score_neighbor, as_matrix(row)),
                        "layers.0.bias" => {
                            layer.bias = Param::initialized(layer.bias.id, row.reshape([size]));
                        }
                        other => panic!("no check for {other}"),
                    }
                    let out = graph.forward(nodes.clone(), &neighbors).pop().unwrap();
                    (out * project.clone()).sum()
                });
            }
        }
    }

    fn replace(param: &mut Param<Tensor<2>>, value: Tensor<2>) {
        *param = Param::initialized(param.id, value);
    }

    #[test]
    fn elu_and_its_gradient_stay_finite_for_large_inputs() {
        let device = Device::flex().autodiff();
        let x = matrix(&[&[-1e4, -1.0, 0.5, 1e4]], &device).require_grad();
        let y = elu(x.clone());
        assert_values(&values(&y), &[-1.0, (-1.0_f32).exp() - 1.0, 0.5, 1e4], 1e-6);
        let gradient = x.grad(&y.sum().backward()).unwrap();
        assert_values(&values(&gradient), &[0.0, (-1.0_f32).exp(), 1.0, 1.0], 1e-6);
    }
}
