//! The assembled model on a small slide: ten bins in a row, two to a spot and three to a region, each level's nodes
//! neighbours of the next.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_store::{ModuleSnapshot, SafetensorsStore};

use super::testing::{assert_close, filled, indices, matrix, noise, pseudo_random, table, values};
use super::*;
use crate::loss::hybrid_loss;

const BINS: u32 = 10;
const SPOTS: u32 = 5;
const REGIONS: u32 = 4;

fn config() -> MagNetConfig {
    let mut config = MagNetConfig {
        genes: 5,
        width: 8,
        neighbors: 2,
        patch_encoder: PatchEncoderConfig {
            depth: ResNetDepth::ResNet18,
            width_multiplier: 0.125,
            stages: 1,
            ..PatchEncoderConfig::default()
        },
        cross_level: CrossLevelConfig { heads: 2, dropout: 0.0, ..CrossLevelConfig::default() },
        graph: GraphConfig { layers: 2, heads: 2, ..GraphConfig::default() },
        depth: DepthConfig { layers: 1, heads: 2, feed_forward: 2, dropout: 0.0, ..DepthConfig::default() },
        ..MagNetConfig::default()
    };
    config.levels.bin.patch_px = 8;
    config
}

fn model(config: &MagNetConfig, device: &Device) -> MagNet {
    filled(config.init(device).unwrap(), |name, index| {
        let noise = 0.5 * pseudo_random(name, index) as f32;
        if name.ends_with("running_var") || name.ends_with("gamma") || name.ends_with("scale") {
            1.0 + 0.4 * noise
        } else {
            noise
        }
    })
}

/// Which nodes of the slide a batch holds, in which order, and how many of them are core.
#[derive(Clone)]
struct Selection {
    nodes: PerLevel<Vec<u32>>,
    core: PerLevel<usize>,
}

impl Selection {
    fn everything() -> Self {
        Self::all_core(PerLevel {
            bin: (0..BINS).collect(),
            spot: (0..SPOTS).collect(),
            region: (0..REGIONS).collect(),
        })
    }

    fn all_core(nodes: PerLevel<Vec<u32>>) -> Self {
        let core = PerLevel { bin: nodes.bin.len(), spot: nodes.spot.len(), region: nodes.region.len() };
        Self { nodes, core }
    }

    fn local(&self, level: Level, node: u32) -> Option<u32> {
        self.nodes.get(level).iter().position(|&other| other == node).map(|place| place as u32)
    }

    /// The nodes before and after a node of the slide, in local indices.
    fn neighbors(&self, level: Level, node: u32) -> [Option<u32>; 2] {
        [node.checked_sub(1), node.checked_add(1)].map(|node| node.and_then(|node| self.local(level, node)))
    }

    fn batch(&self, device: &Device) -> MagNetBatch {
        let pick = |name: &str, count: u32, width: usize, level: Level, rows: usize| {
            noise(name, [count as usize, width], device)
                .select(0, indices(&self.nodes.get(level)[..rows], device))
        };
        let width = config().width;
        let count = PerLevel { bin: BINS, spot: SPOTS, region: REGIONS };
        let context = |level: Level, divisor: u32| {
            let rows: Vec<Vec<Option<u32>>> = self
                .nodes
                .bin
                .iter()
                .map(|bin| {
                    let parent = bin / divisor;
                    let mut row = vec![Some(self.local(level, parent).unwrap())];
                    row.extend(self.neighbors(level, parent));
                    row
                })
                .collect();
            table(&rows, device)
        };
        let parents = |level: Level, divisor: u32| {
            let bins = &self.nodes.bin[..self.core.bin];
            bins.iter().map(|bin| self.local(level, bin / divisor).unwrap()).collect::<Vec<_>>()
        };
        let mean = |level: Level, divisor: u32| {
            let bins = &self.nodes.bin[..self.core.bin];
            let rows: Vec<Vec<f32>> = self.nodes.get(level)[..*self.core.get(level)]
                .iter()
                .map(|tile| {
                    let inside = bins.iter().filter(|&bin| bin / divisor == *tile).count().max(1) as f32;
                    bins.iter().map(|bin| f32::from(u8::from(bin / divisor == *tile)) / inside).collect()
                })
                .collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            if rows.is_empty() { Tensor::zeros([0, bins.len()], device) } else { matrix(&rows, device) }
        };
        MagNetBatch {
            inputs: PerLevel::from_fn(|level| {
                let rows = self.nodes.get(level).len();
                LevelInput::Encoded(pick(level.name(), *count.get(level), width, level, rows))
            }),
            graphs: PerLevel::from_fn(|level| {
                let rows: Vec<Vec<Option<u32>>> =
                    self.nodes.get(level).iter().map(|&node| self.neighbors(level, node).to_vec()).collect();
                table(&rows, device)
            }),
            spot_context: context(Level::Spot, 2),
            region_context: context(Level::Region, 3),
            parent_spot: indices(&parents(Level::Spot, 2), device),
            parent_region: indices(&parents(Level::Region, 3), device),
            places: Tensor::zeros([self.nodes.bin.len(), 2], device),
            core: self.core,
            spot_mean: mean(Level::Spot, 2),
            region_mean: mean(Level::Region, 3),
            labels: Some(PerLevel::from_fn(|level| {
                pick(
                    &format!("label.{level}"),
                    *count.get(level),
                    config().genes,
                    level,
                    *self.core.get(level),
                )
            })),
            own_references: None,
        }
    }
}

fn patches(count: u32, device: &Device) -> LevelInput {
    let count = count as usize;
    LevelInput::Patches(noise("patches", [count, 3 * 64], device).reshape([count, 3, 8, 8]))
}

#[test]
fn each_level_predicts_its_core_nodes() {
    let device = Device::flex();
    let mut selection = Selection::everything();
    selection.core = PerLevel { bin: 7, spot: 3, region: 1 };
    let model = model(&config(), &device);
    let predictions = model.forward(&selection.batch(&device)).unwrap();
    assert_eq!(predictions.bin.dims(), [7, 5]);
    assert_eq!(predictions.spot.dims(), [3, 5]);
    assert_eq!(predictions.region.dims(), [1, 5]);
    let embedded = model.embed(&selection.batch(&device)).unwrap();
    assert_eq!(embedded.bin.dims(), [7, 8]);
    assert_close(&model.predict_genes(embedded).spot, &predictions.spot, 0.0);
}

#[test]
fn the_bins_sequence_holds_the_tokens_of_its_parents() {
    let device = Device::flex();
    let positions = |config: &MagNetConfig| {
        let shapes = expected_shapes(&config.init(&device).unwrap(), WeightLayout::Burn);
        PerLevel::from_fn(|level| {
            shapes.get(&format!("depth_transformer.{level}.positions")).map(|shape| shape[0])
        })
    };
    let paper = config();
    assert_eq!(positions(&paper), PerLevel { bin: Some(6), spot: Some(2), region: Some(2) });
    let own =
        MagNetConfig { depth: DepthConfig { wide_tokens: false, ..paper.depth.clone() }, ..paper.clone() };
    assert_eq!(positions(&own).bin, Some(2));
    let single = MagNetConfig { wide_levels: false, ..paper };
    assert_eq!(positions(&single), PerLevel { bin: Some(2), spot: None, region: None });
}

#[test]
fn a_prediction_does_not_depend_on_what_else_is_in_the_batch_given_its_halo() {
    let device = Device::flex();
    for attention in [GraphAttentionKind::Gat, GraphAttentionKind::Gatv2] {
        let config = MagNetConfig { graph: GraphConfig { attention, ..config().graph }, ..config() };
        let model = model(&config, &device);
        let whole = model.forward(&Selection::everything().batch(&device)).unwrap();
        // Two layers reach two hops; the parents of the bins in reach have neighbours of their own.
        let mut block =
            Selection::all_core(PerLevel { bin: vec![0, 1, 2], spot: vec![0, 1, 2], region: vec![0, 1, 2] });
        block.core = PerLevel { bin: 1, spot: 1, region: 1 };
        let alone = model.forward(&block.batch(&device)).unwrap();
        for level in Level::ALL {
            assert_close(alone.get(level), &whole.get(level).clone().narrow(0, 0, 1), 1e-5);
        }
        // Without the outer ring of the halo the bin is another one.
        block.nodes.bin.pop();
        let cut = model.forward(&block.batch(&device)).unwrap();
        let apart = (cut.bin - alone.bin).abs().max();
        assert!(values(&apart)[0] > 1e-4);
    }
}

#[test]
fn renumbering_the_nodes_of_every_level_permutes_the_outputs() {
    let device = Device::flex();
    let model = model(&config(), &device);
    let plain = model.forward(&Selection::everything().batch(&device)).unwrap();
    let order = PerLevel {
        bin: vec![3, 9, 0, 5, 1, 8, 2, 7, 4, 6],
        spot: vec![4, 0, 3, 1, 2],
        region: vec![2, 3, 0, 1],
    };
    let permuted = model.forward(&Selection::all_core(order.clone()).batch(&device)).unwrap();
    for level in Level::ALL {
        let expected = plain.get(level).clone().select(0, indices(order.get(level), &device));
        assert_close(permuted.get(level), &expected, 1e-5);
    }
}

#[test]
fn levels_encoded_beforehand_give_the_same_prediction() {
    let device = Device::flex();
    let mut batch = Selection::everything().batch(&device);
    batch.inputs = PerLevel {
        bin: patches(BINS, &device),
        spot: patches(SPOTS, &device),
        region: patches(REGIONS, &device),
    };
    let shared = model(&config(), &device);
    let direct = shared.forward(&batch).unwrap();
    let mut encoded = batch.clone();
    encoded.inputs =
        PerLevel::try_from_fn(|level| shared.encode(level, batch.inputs.get(level)).map(LevelInput::Encoded))
            .unwrap();
    let later = shared.forward(&encoded).unwrap();
    for level in Level::ALL {
        assert_close(later.get(level), direct.get(level), 1e-5);
    }

    let frozen = MagNetConfig { wide_features: WideFeatures::Frozen { width: 3 }, ..config() };
    let frozen = model(&frozen, &device);
    let features = |count: u32| LevelInput::Features(noise("features", [count as usize, 3], &device));
    batch.inputs.spot = features(SPOTS);
    batch.inputs.region = features(REGIONS);
    let direct = frozen.forward(&batch).unwrap();
    batch.inputs.region = LevelInput::Encoded(frozen.encode(Level::Region, &features(REGIONS)).unwrap());
    assert_close(&frozen.forward(&batch).unwrap().bin, &direct.bin, 1e-5);
}

#[test]
fn without_wide_levels_only_bins_are_predicted_and_trained() {
    let device = Device::flex().autodiff();
    let config = MagNetConfig { wide_levels: false, ..config() };
    let model = model(&config, &device);
    let batch = Selection::everything().batch(&device);
    let predictions = model.forward(&batch).unwrap();
    assert_eq!(predictions.bin.dims(), [10, 5]);
    assert_eq!(predictions.spot.dims(), [0, 5]);
    assert_eq!(predictions.region.dims(), [0, 5]);
    assert_eq!(config.predicted_levels(), [Level::Bin]);
    assert!(!expected_shapes(&model, WeightLayout::Burn).keys().any(|name| name.contains("spot")));
    let loss = hybrid_loss(&config.loss, &predictions, &batch, &model.gene_statistics()).unwrap();
    let bins = loss.mse.bin * 0.75 + loss.pcc.bin * 0.1;
    assert_close(&loss.total, &bins, 1e-6);
    loss.total.backward();
}

#[test]
fn a_level_without_core_nodes_predicts_no_rows() {
    let device = Device::flex();
    let mut selection = Selection::everything();
    selection.core.region = 0;
    let model = model(&config(), &device);
    let batch = selection.batch(&device);
    let predictions = model.forward(&batch).unwrap();
    assert_eq!(predictions.region.dims(), [0, 5]);
    let loss = hybrid_loss(&config().loss, &predictions, &batch, &model.gene_statistics()).unwrap();
    assert!(values(&loss.total)[0].is_finite());
}

#[test]
fn every_switch_changes_the_prediction_of_a_bin() {
    let device = Device::flex();
    let predict = |config: MagNetConfig| {
        let batch = Selection::everything().batch(&device);
        values(&model(&config, &device).forward(&batch).unwrap().bin)
    };
    let paper = predict(config());
    let base = config();
    for (name, config) in [
        ("wide levels", MagNetConfig { wide_levels: false, ..config() }),
        (
            "cross-level attention",
            MagNetConfig {
                cross_level: CrossLevelConfig { enabled: false, ..base.cross_level.clone() },
                ..config()
            },
        ),
        (
            "neighbours in the context",
            MagNetConfig {
                cross_level: CrossLevelConfig { neighbors: false, ..base.cross_level.clone() },
                ..config()
            },
        ),
        ("graph", MagNetConfig { graph: GraphConfig { enabled: false, ..base.graph.clone() }, ..config() }),
        ("depth", MagNetConfig { depth: DepthConfig { enabled: false, ..base.depth.clone() }, ..config() }),
        (
            "parents' tokens",
            MagNetConfig { depth: DepthConfig { wide_tokens: false, ..base.depth.clone() }, ..config() },
        ),
    ] {
        let ablated = predict(config);
        assert!(ablated.iter().all(|value| value.is_finite()), "{name}");
        assert_ne!(ablated, paper, "{name}");
    }
}

#[test]
fn dropout_acts_in_training_only() {
    let training = Device::flex().autodiff();
    let dropping = MagNetConfig {
        cross_level: CrossLevelConfig { dropout: 0.5, ..config().cross_level },
        graph: GraphConfig { dropout: 0.5, ..config().graph },
        depth: DepthConfig { dropout: 0.5, ..config().depth },
        head_dropout: 0.5,
        ..config()
    };
    let batch = Selection::everything().batch(&training);
    let predict = |model: &MagNet, batch: &MagNetBatch| values(&model.forward(batch).unwrap().bin);
    let with = model(&dropping, &training);
    assert_ne!(predict(&with, &batch), predict(&with, &batch));

    let plain = Selection::everything().batch(&Device::flex());
    let evaluated = predict(&with.valid(), &plain);
    assert_eq!(evaluated, predict(&with.valid(), &plain));
    assert_eq!(evaluated, predict(&model(&config(), &Device::flex()), &plain));
    // Rate 0 in training is evaluation.
    let trained = predict(&model(&config(), &training), &batch);
    super::testing::assert_values(&trained, &evaluated, 1e-5);
}

/// Names of the trainable parameters without a gradient.
struct Ungraded<'a> {
    gradients: &'a burn::tensor::Gradients,
    path: Vec<String>,
    found: Vec<String>,
    graded: usize,
}

impl ModuleVisitor for Ungraded<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return;
        }
        match tensor.grad(self.gradients) {
            Some(gradient) if values(&gradient).iter().all(|value| value.is_finite()) => self.graded += 1,
            _ => self.found.push(self.path.join(".")),
        }
    }
}

#[test]
fn the_loss_reaches_every_parameter() {
    let device = Device::flex().autodiff();
    for (attention, from) in [
        (GraphAttentionKind::Gat, WideFeatures::Shared),
        (GraphAttentionKind::Gatv2, WideFeatures::File { width: 3 }),
    ] {
        let config = MagNetConfig {
            graph: GraphConfig { attention, ..config().graph },
            wide_features: from.clone(),
            ..config()
        };
        let model = model(&config, &device);
        let mut batch = Selection::everything().batch(&device);
        batch.inputs.bin = patches(BINS, &device);
        if from != WideFeatures::Shared {
            batch.inputs.spot = LevelInput::Features(noise("spots", [SPOTS as usize, 3], &device));
            batch.inputs.region = LevelInput::Features(noise("regions", [REGIONS as usize, 3], &device));
        }
        let predictions = model.forward(&batch).unwrap();
        let loss = hybrid_loss(&config.loss, &predictions, &batch, &model.gene_statistics()).unwrap();
        let gradients = loss.total.backward();
        let mut visitor = Ungraded { gradients: &gradients, path: Vec::new(), found: Vec::new(), graded: 0 };
        model.visit(&mut visitor);
        assert_eq!(visitor.found, Vec::<String>::new());
        assert!(visitor.graded > 50);
    }
}

#[test]
fn weights_survive_a_file() {
    let device = Device::flex();
    let original = model(&config(), &device)
        .with_gene_statistics(&PerLevel::from_fn(|_| (vec![1.0; 5], vec![2.0; 5])))
        .unwrap();
    let mut store = SafetensorsStore::from_bytes(None);
    original.save_into(&mut store).unwrap();
    let weights = read_safetensors(store.get_bytes().unwrap()).unwrap();
    let restored = load_weights(config().init(&device).unwrap(), weights, WeightLayout::Burn).unwrap();
    let batch = Selection::everything().batch(&device);
    let (a, b) = (original.forward(&batch).unwrap(), restored.forward(&batch).unwrap());
    for level in Level::ALL {
        assert_eq!(values(a.get(level)), values(b.get(level)));
    }
}

#[test]
fn parameter_names_are_those_that_saved_models_use() {
    let config = MagNetConfig { wide_features: WideFeatures::Frozen { width: 3 }, ..config() };
    let names = expected_shapes(&config.init(&Device::flex()).unwrap(), WeightLayout::Burn);
    for name in [
        "patch_encoder.resnet.conv1.weight",
        "patch_encoder.resnet.layer1.1.bn2.running_var",
        "patch_encoder.fc.weight",
        "wide_features.spot.weight",
        "cross_level_attention.region.query.bias",
        "graph_attention.bin.layers.1.message.weight",
        "graph_attention.spot.layers.0.score_neighbor",
        "depth_transformer.bin.positions",
        "depth_transformer.region.encoder.layers.0.mha.query.weight",
        "gene_head.bin.norm.gamma",
        "gene_head.spot.linear.weight",
        "gene_head.region.shift",
        "gene_head.region.scale",
    ] {
        assert!(names.contains_key(name), "{name} is not among {:?}", names.keys());
    }
}

#[test]
fn gene_statistics_scale_and_shift_each_level() {
    let device = Device::flex();
    let batch = Selection::everything().batch(&device);
    let plain = config().init(&device).unwrap();
    let before = plain.forward(&batch).unwrap();
    let statistics = PerLevel {
        bin: (vec![0.0; 5], vec![1.0; 5]),
        spot: (vec![3.0; 5], vec![2.0; 5]),
        // A gene that does not vary keeps scale 1.
        region: (vec![0.0; 5], vec![0.0; 5]),
    };
    let scaled = plain.clone().with_gene_statistics(&statistics).unwrap();
    let after = scaled.forward(&batch).unwrap();
    assert_close(&after.bin, &before.bin, 0.0);
    assert_close(&after.spot, &(before.spot * 2.0 + 3.0), 1e-5);
    assert_close(&after.region, &before.region, 0.0);
    assert_eq!(values(&scaled.gene_statistics().spot.sd), [2.0; 5]);

    let refused = |mean: Vec<f32>, sd: Vec<f32>| {
        let statistics = PerLevel { spot: (mean, sd), ..statistics.clone() };
        plain.clone().with_gene_statistics(&statistics).unwrap_err().to_string()
    };
    assert_eq!(refused(vec![0.0; 4], vec![1.0; 5]), "spot gene statistics, mean: expected 5 genes, found 4");
    assert_eq!(
        refused(vec![0.0; 5], vec![f32::NAN; 5]),
        "spot gene statistics, sd: expected finite values, found NaN"
    );
    assert_eq!(
        refused(vec![0.0; 5], vec![-1.0; 5]),
        "spot gene statistics, sd: expected values of at least 0, found -1"
    );
}

#[test]
fn a_batch_that_does_not_fit_is_refused_by_field() {
    let device = Device::flex();
    let model = model(&config(), &device);
    let refused = |change: &dyn Fn(&mut MagNetBatch)| {
        let mut batch = Selection::everything().batch(&device);
        change(&mut batch);
        model.forward(&batch).unwrap_err().to_string()
    };
    let features = || LevelInput::Features(noise("features", [5, 3], &device));
    assert_eq!(
        refused(&|batch| batch.inputs.spot = features()),
        "batch field `inputs.spot`: expected patches [N, 3, P, P] or encoded nodes [N, 8], found features [5, 3]"
    );
    assert_eq!(
        refused(&|batch| batch.inputs.bin = LevelInput::Encoded(noise("nodes", [10, 7], &device))),
        "batch field `inputs.bin`: expected patches [N, 3, P, P] or encoded nodes [N, 8], found encoded nodes [10, 7]"
    );
    assert_eq!(
        refused(&|batch| batch.graphs.spot = batch.graphs.region.clone()),
        "batch field `graphs.spot`: expected 5 rows, found 4"
    );
    assert_eq!(
        refused(&|batch| batch.core.bin = 11),
        "batch field `core.bin`: expected at most 10 nodes, found 11"
    );
    assert_eq!(
        refused(&|batch| batch.parent_spot = indices(&[0, 1], &device)),
        "batch field `parent_spot`: expected 10 rows, found 2"
    );
    assert_eq!(
        refused(&|batch| batch.region_context = batch.graphs.spot.clone()),
        "batch field `region_context`: expected 10 rows, found 5"
    );
}

#[test]
fn a_configuration_that_cannot_be_built_is_refused() {
    let config = MagNetConfig { width: 9, ..config() };
    let error = config.init(&Device::flex()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration field `cross_level.heads`: expected a divisor of `width` 9, found 2"
    );
}
