//! Burn's SGD and AdamW over a whole module, with state that is keyed by parameter path.
//!
//! Burn's own `ModuleOptimizer` restores its state on `Device::default()`, which in this program is a GPU that the
//! machine may not have, and keys it by random ids. So the walk over the parameters is ours and the update rules are
//! Burn's. The walk also clips the norm of the whole gradient, which Burn offers per parameter only.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdamW, AdamWConfig, DynState, GradientsParams, Optimizer, RecordState, Sgd, SgdConfig, StateSink,
    StateSource,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_store::burn_pack::Scalar;
use magnet_core::model::WeightTensor;
use magnet_core::module_path::ModulePath;
use magnet_core::weights::Weights;

use crate::config::{OptimizerConfig, TrainConfig};

/// The path of the parameters that `train.patch_encoder_rate` acts on.
const PATCH_ENCODER: &str = "patch_encoder";

/// The update rule of a run and its state.
pub struct Updater {
    rule: Rule,
    clip_norm: f64,
    patch_encoder_rate: f64,
    states: BTreeMap<String, DynState>,
}

/// Each rule twice: with weight decay for matrices and kernels, without it for vectors.
enum Rule {
    Sgd { decayed: Sgd, plain: Sgd },
    AdamW { decayed: AdamW, plain: AdamW },
}

/// The state of an [`Updater`] as arrays and scalars.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdaterState {
    /// Moments and velocities by parameter path and field.
    pub arrays: Weights,
    /// Counters by parameter path and field.
    pub scalars: BTreeMap<String, Scalar>,
}

impl Updater {
    /// The rule of a configuration, without state.
    pub fn new(config: &TrainConfig) -> Self {
        let rule = match config.optimizer {
            OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
                let base = if momentum > 0.0 {
                    // Burn dampens by 0.1 unless told; the published training (PyTorch's SGD) does not.
                    let momentum = MomentumConfig::new().with_momentum(momentum).with_dampening(0.0);
                    SgdConfig::new().with_momentum(Some(momentum.with_nesterov(nesterov)))
                } else {
                    SgdConfig::new()
                };
                let plain = base.build();
                let penalty = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32));
                Rule::Sgd { decayed: base.with_weight_decay(penalty).build(), plain }
            }
            OptimizerConfig::Adamw { beta_1, beta_2, epsilon, weight_decay } => {
                let base = AdamWConfig::new()
                    .with_beta_1(beta_1 as f32)
                    .with_beta_2(beta_2 as f32)
                    .with_epsilon(epsilon as f32);
                let plain = base.clone().with_weight_decay(0.0).build();
                Rule::AdamW { decayed: base.with_weight_decay(weight_decay as f32).build(), plain }
            }
        };
        Self {
            rule,
            clip_norm: config.clip_norm,
            patch_encoder_rate: config.patch_encoder_rate,
            states: BTreeMap::new(),
        }
    }

    /// One update of `module` at learning rate `rate`.
    pub fn step<M: Module>(&mut self, rate: f64, module: M, gradients: GradientsParams) -> M {
        let scale = (self.clip_norm > 0.0).then(|| self.clip_scale(&module, &gradients)).flatten();
        module.map(&mut Step { path: ModulePath::default(), updater: self, rate, gradients, scale })
    }

    /// `min(1, clip_norm / ‖gradient‖)` as a `[1]` tensor, so that a GPU needs no read-back.
    fn clip_scale<M: Module>(&self, module: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
        struct SquaredNorm<'a> {
            gradients: &'a GradientsParams,
            sum: Option<Tensor<1>>,
        }
        impl ModuleVisitor for SquaredNorm<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
                // Row by row first: a sum over one huge tensor may be split among threads as they come.
                let rows = gradient.dims().first().copied().unwrap_or(1).max(1);
                let length = gradient.shape().num_elements() / rows;
                let squares = gradient.reshape([rows, length]).square().sum_dim(1).sum();
                self.sum = Some(match self.sum.take() {
                    Some(sum) => sum + squares,
                    None => squares,
                });
            }
        }
        let mut norm = SquaredNorm { gradients, sum: None };
        module.visit(&mut norm);
        norm.sum.map(|sum| (sum.sqrt() + 1e-12).recip().mul_scalar(self.clip_norm).clamp_max(1.0))
    }

    /// The state, to store.
    pub fn state(&self) -> UpdaterState {
        let mut state = UpdaterState::default();
        for (path, parameter) in &self.states {
            let mut sink = StateSink::default();
            match &self.rule {
                Rule::Sgd { .. } => flatten::<Sgd>(path, parameter, &mut sink),
                Rule::AdamW { .. } => flatten::<AdamW>(path, parameter, &mut sink),
            }
            for (name, data) in sink.tensors {
                let shape = data.shape().to_vec();
                let values = data.iter::<f32>().collect();
                state.arrays.arrays.insert(name, WeightTensor { shape, values });
            }
            state.scalars.extend(sink.scalars);
        }
        state
    }

    /// Puts a stored state back for the parameters of `module`.
    ///
    /// # Errors
    /// If the state is not one of this rule for this module; the message says what is left over.
    pub fn restore<M: Module>(&mut self, module: &M, stored: &UpdaterState) -> Result<(), String> {
        let mut source = StateSource::new(stored.scalars.clone());
        for (name, array) in &stored.arrays.arrays {
            source.insert_tensor(name.clone(), TensorData::new(array.values.clone(), array.shape.clone()));
        }
        self.states.clear();
        module.visit(&mut Restore { path: ModulePath::default(), updater: self, source });
        let restored = self.state();
        let names = |state: &UpdaterState| -> Vec<String> {
            state.arrays.arrays.keys().chain(state.scalars.keys()).cloned().collect()
        };
        let (expected, found) = (names(stored), names(&restored));
        if expected == found {
            return Ok(());
        }
        let left: Vec<&String> = expected.iter().filter(|name| !found.contains(name)).take(5).collect();
        Err(format!("expected the state of this model's optimizer, found {left:?} besides"))
    }
}

/// Calls `$body` with `$rule` bound to the rule for rank `D`, whatever its type.
macro_rules! with_rule {
    ($updater:expr, $rank:expr, $rule:ident => $body:expr) => {
        match &$updater.rule {
            Rule::Sgd { decayed, plain } => {
                let $rule = if $rank > 1 { decayed } else { plain };
                $body
            }
            Rule::AdamW { decayed, plain } => {
                let $rule = if $rank > 1 { decayed } else { plain };
                $body
            }
        }
    };
}

/// Calls the optimizer's `State<D>` code for the rank that the erased state has.
fn flatten<O: Optimizer>(path: &str, state: &DynState, sink: &mut StateSink) {
    match state.rank() {
        1 => state.downcast_ref::<O::State<1>>().state_flatten(path, sink),
        2 => state.downcast_ref::<O::State<2>>().state_flatten(path, sink),
        3 => state.downcast_ref::<O::State<3>>().state_flatten(path, sink),
        4 => state.downcast_ref::<O::State<4>>().state_flatten(path, sink),
        _ => {}
    }
}

fn update<O: Optimizer, const D: usize>(
    rule: &O,
    rate: f64,
    tensor: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<DynState>,
) -> (Tensor<D>, Option<DynState>) {
    let state = state.map(DynState::downcast::<O::State<D>>);
    let (tensor, state) = rule.step(rate, tensor, gradient, state);
    (tensor, state.map(|state| DynState::create(state, D)))
}

fn unflatten<O: Optimizer, const D: usize>(
    _rule: &O,
    path: &str,
    source: &mut StateSource,
    device: &Device,
) -> Option<DynState> {
    O::State::<D>::state_unflatten(path, source, device).map(|state| DynState::create(state, D))
}

struct Step<'a> {
    path: ModulePath,
    updater: &'a mut Updater,
    rate: f64,
    gradients: GradientsParams,
    scale: Option<Tensor<1>>,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.leave(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mut gradient) = self.gradients.remove::<D>(param.id) else { return param };
        if let Some(scale) = &self.scale {
            gradient = gradient * scale.clone().reshape([1; D]);
        }
        let path = self.path.name();
        let encoder = self.path.first() == Some(PATCH_ENCODER);
        let rate = if encoder { self.rate * self.updater.patch_encoder_rate } else { self.rate };
        let state = self.updater.states.remove(&path);
        let (id, tensor, mapper) = param.consume();
        let require_grad = tensor.is_require_grad();
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let (tensor, state) =
            with_rule!(self.updater, D, rule => update(rule, rate, tensor.inner(), gradient, state));
        if let Some(state) = state {
            self.updater.states.insert(path, state);
        }
        let mut tensor = Tensor::from_inner(tensor);
        if let Some(strategy) = checkpointing {
            tensor = tensor.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, tensor.set_require_grad(require_grad), mapper)
    }
}

struct Restore<'a> {
    path: ModulePath,
    updater: &'a mut Updater,
    source: StateSource,
}

impl ModuleVisitor for Restore<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.leave(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.name();
        if !self.source.has_under(&path) {
            return;
        }
        let device = param.lazy_device().inner();
        let state =
            with_rule!(self.updater, D, rule => unflatten::<_, D>(rule, &path, &mut self.source, &device));
        if let Some(state) = state {
            self.updater.states.insert(path, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RunConfig, Setting};
    use burn::nn::{Linear, LinearConfig};

    fn config(set: &[&str]) -> TrainConfig {
        let set: Vec<Setting> = set.iter().map(|set| Setting::set(set)).collect();
        RunConfig::load(Some("paper"), None, None, &set).unwrap().train
    }

    fn linear(device: &Device) -> Linear {
        let arrays = [
            ("bias".to_string(), WeightTensor { shape: vec![1], values: vec![1.0] }),
            ("weight".to_string(), WeightTensor { shape: vec![2, 1], values: vec![1.0, -1.0] }),
        ];
        Weights { arrays: arrays.into() }.load_into(LinearConfig::new(2, 1).init(device)).unwrap()
    }

    /// Gradient (3, 4) for the weight, 12 for the bias: norm 13.
    fn step(updater: &mut Updater, rate: f64, module: Linear, device: &Device) -> Linear {
        let x = Tensor::<2>::from_floats([[0.25, 1.0 / 3.0]], device).mul_scalar(12.0);
        let loss =
            (x.matmul(module.weight.val()) + module.bias.as_ref().unwrap().val().unsqueeze() * 12.0).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        updater.step(rate, module, gradients)
    }

    fn values(module: &Linear) -> Vec<f32> {
        let weights = Weights::of(module).unwrap();
        weights.arrays.values().flat_map(|array| array.values.clone()).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
            "{found:?}, expected {expected:?}"
        );
    }

    #[test]
    fn momentum_accumulates_undamped_as_published() {
        let device = Device::flex().autodiff();
        let mut updater = Updater::new(&config(&[]));
        let module = step(&mut updater, 0.1, linear(&device), &device);
        assert_close(&values(&module), &[1.0 - 1.2, 1.0 - 0.3, -1.0 - 0.4]);
        let module = step(&mut updater, 0.1, module, &device);
        // velocity = 0.9 · g + g
        assert_close(&values(&module), &[-0.2 - 2.28, 0.7 - 0.57, -1.4 - 0.76]);
    }

    #[test]
    fn clipping_scales_the_whole_gradient() {
        let device = Device::flex().autodiff();
        let mut updater = Updater::new(&config(&["train.clip_norm=1.3"]));
        let module = step(&mut updater, 1.0, linear(&device), &device);
        assert_close(&values(&module), &[1.0 - 1.2, 1.0 - 0.3, -1.0 - 0.4]);
        let mut loose = Updater::new(&config(&["train.clip_norm=14"]));
        let module = step(&mut loose, 0.1, linear(&device), &device);
        assert_close(&values(&module), &[1.0 - 1.2, 1.0 - 0.3, -1.0 - 0.4]);
    }

    #[test]
    fn decay_spares_biases() {
        let device = Device::flex().autodiff();
        let mut updater =
            Updater::new(&config(&["train.optimizer.weight_decay=10", "train.optimizer.momentum=0"]));
        let module = step(&mut updater, 0.01, linear(&device), &device);
        assert_close(&values(&module), &[1.0 - 0.12, 1.0 - 0.03 - 0.1, -1.0 - 0.04 + 0.1]);
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let device = Device::flex().autodiff();
        for set in [&[][..], &["train.optimizer.kind=adamw"], &["train.optimizer.momentum=0"]] {
            let config = config(set);
            let mut updater = Updater::new(&config);
            let module = step(&mut updater, 0.1, linear(&device), &device);
            let module = step(&mut updater, 0.1, module, &device);
            let mut restored = Updater::new(&config);
            restored.restore(&module, &updater.state()).unwrap();
            let expected = step(&mut updater, 0.1, module.clone(), &device);
            let found = step(&mut restored, 0.1, module, &device);
            assert_eq!(Weights::of(&expected).unwrap(), Weights::of(&found).unwrap());
            assert_eq!(updater.state(), restored.state());
        }
    }

    #[test]
    fn a_state_of_another_rule_is_refused() {
        let device = Device::flex().autodiff();
        let mut adam = Updater::new(&config(&["train.optimizer.kind=adamw"]));
        let module = step(&mut adam, 0.1, linear(&device), &device);
        let mut sgd = Updater::new(&config(&[]));
        let message = sgd.restore(&module, &adam.state()).unwrap_err();
        assert!(message.contains("moment_1"), "{message}");
    }
}
