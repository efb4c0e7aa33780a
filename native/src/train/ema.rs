//! Exponential moving average of the weights.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use magnet_core::model::{WeightTensor, WeightsError};
use magnet_core::module_path::ModulePath;
use magnet_core::weights::Weights;

/// `average = decay · average + (1 − decay) · weights` after every step, running statistics included.
pub struct MovingAverage {
    decay: f64,
    arrays: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
}

impl MovingAverage {
    /// Starts at given weights.
    pub fn new(decay: f64, weights: &Weights, device: &Device) -> Self {
        let arrays = weights.arrays.iter().map(|(name, array)| {
            let data = TensorData::new(array.values.clone(), [array.values.len()]);
            (name.clone(), (array.shape.clone(), Tensor::from_data(data, device)))
        });
        Self { decay, arrays: arrays.collect() }
    }

    /// Takes in the weights after step `step`, counted from 0. Early steps count for more, so that the random start
    /// is forgotten: the decay is at most `(1 + step) / (10 + step)`.
    pub fn update<M: Module>(&mut self, module: &M, step: usize) {
        struct Update<'a> {
            path: ModulePath,
            decay: f64,
            arrays: &'a mut BTreeMap<String, (Vec<usize>, Tensor<1>)>,
        }
        impl ModuleVisitor for Update<'_> {
            fn enter_module(&mut self, name: &str, container_type: &str) {
                self.path.enter(name, container_type);
            }
            fn exit_module(&mut self, _name: &str, container_type: &str) {
                self.path.leave(container_type);
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some((_, average)) = self.arrays.get_mut(&self.path.name()) {
                    let value = param.transform_for_save().val();
                    let length = value.shape().num_elements();
                    let value = value.reshape([length]).mul_scalar(1.0 - self.decay);
                    *average = average.clone().mul_scalar(self.decay) + value;
                }
            }
        }
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        module.valid().visit(&mut Update { path: ModulePath::default(), decay, arrays: &mut self.arrays });
    }

    /// The averages.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&self) -> Result<Weights, WeightsError> {
        let mut weights = Weights::default();
        for (name, (shape, average)) in &self.arrays {
            let values = average
                .clone()
                .try_into_vec_as::<f32>()
                .map_err(|error| WeightsError::Unreadable(format!("{name}: {error}")))?;
            weights.arrays.insert(name.clone(), WeightTensor { shape: shape.clone(), values });
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;

    #[test]
    fn the_average_follows_the_weights_and_forgets_its_start() {
        let device = Device::flex();
        let weights = |value: f32| Weights {
            arrays: [("weight".to_string(), WeightTensor { shape: vec![1, 1], values: vec![value] })].into(),
        };
        let config = LinearConfig::new(1, 1).with_bias(false);
        let module = weights(1.0).load_into(config.init(&device)).unwrap();
        let mut average = MovingAverage::new(0.9, &weights(11.0), &device);
        let value = |average: &MovingAverage| average.weights().unwrap().arrays["weight"].values[0];
        average.update(&module, 0);
        assert!((value(&average) - (0.1 * 11.0 + 0.9)).abs() < 1e-6);
        average.update(&module, 1000);
        assert!((value(&average) - (0.9 * 2.0 + 0.1)).abs() < 1e-6);
        assert_eq!(average.weights().unwrap().arrays["weight"].shape, [1, 1]);
    }
}
