//! A module's parameters as named `f32` arrays: what bundles and checkpoints store, compare and digest.
//!
//! A name is the path of the module's fields, joined by dots (`patch_encoder.stem.weight`). Running statistics of
//! normalisation layers are among them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::model::{WeightLayout, WeightMap, WeightTensor, WeightsError, load_weights};
use crate::module_path::ModulePath;

/// Arrays by name, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// The arrays.
    pub arrays: WeightMap,
}

/// Number format of stored weights, and of what a patch encoder calculates with on a graphics adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats. Stored: bit for bit what training ended with.
    #[default]
    Single,
    /// 16-bit floats for matrices and kernels, and on an adapter for maps; vectors (biases, normalisation statistics)
    /// stay 32-bit, as do sums.
    Half,
}

impl Weights {
    /// Reads all parameters and running statistics of `module` from its device.
    ///
    /// Reads synchronously, which a browser's GPU cannot do; browsers only load.
    ///
    /// # Errors
    /// [`WeightsError::Unreadable`] if the device fails.
    pub fn of<M: Module>(module: &M) -> Result<Self, WeightsError> {
        struct Reader {
            path: ModulePath,
            weights: Weights,
            error: Option<WeightsError>,
        }
        impl ModuleVisitor for Reader {
            fn enter_module(&mut self, name: &str, container_type: &str) {
                self.path.enter(name, container_type);
            }
            fn exit_module(&mut self, _name: &str, container_type: &str) {
                self.path.leave(container_type);
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let name = self.path.name();
                let tensor = param.transform_for_save().val();
                let shape = tensor.dims().to_vec();
                match tensor.try_into_vec_as::<f32>() {
                    Ok(values) => {
                        self.weights.arrays.insert(name, WeightTensor { shape, values });
                    }
                    Err(error) => {
                        self.error.get_or_insert(WeightsError::Unreadable(format!("{name}: {error}")));
                    }
                }
            }
        }
        let mut reader = Reader { path: ModulePath::default(), weights: Weights::default(), error: None };
        // `valid` also folds the latest update into the running statistics, which a plain visit would miss.
        module.valid().visit(&mut reader);
        match reader.error {
            Some(error) => Err(error),
            None => Ok(reader.weights),
        }
    }

    /// Puts the arrays into `module`, on the device of each parameter.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with every name that is missing, not expected or misshapen, before anything is
    /// allocated; [`WeightsError::BadValues`] for a value that is not finite.
    pub fn load_into<M: Module>(&self, module: M) -> Result<M, WeightsError> {
        load_weights(module, self.arrays.clone(), WeightLayout::Burn)
    }

    /// Total number of values.
    pub fn len(&self) -> usize {
        self.arrays.values().map(|array| array.values.len()).sum()
    }

    /// Whether there is no array.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// Checks that every value is a finite number.
    ///
    /// # Errors
    /// [`WeightsError::BadValues`] for the first that is not.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        for (name, array) in &self.arrays {
            if let Some((index, value)) =
                array.values.iter().enumerate().find(|(_, value)| !value.is_finite())
            {
                let (expected, found) = ("finite values".to_string(), format!("{value} at position {index}"));
                return Err(WeightsError::BadValues { name: name.clone(), expected, found });
            }
        }
        Ok(())
    }

    /// SHA-256 over names, shapes and values, lower-case hexadecimal. Equal digests mean bit-identical weights.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, array) in &self.arrays {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((array.shape.len() as u64).to_le_bytes());
            for &extent in &array.shape {
                hash.update((extent as u64).to_le_bytes());
            }
            let bytes: Vec<u8> = array.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        hex(&hash.finalize())
    }

    /// The values as `precision` would store them.
    pub fn rounded(&self, precision: Precision) -> Self {
        let mut rounded = self.clone();
        for array in rounded.arrays.values_mut() {
            if stored_half(precision, array) {
                for value in &mut array.values {
                    *value = half::f16::from_f32(*value).to_f32();
                }
            }
        }
        rounded
    }

    /// The arrays as safetensors entries, each name preceded by `prefix`.
    pub fn to_entries(&self, prefix: &str, precision: Precision) -> Vec<StoredArray> {
        self.arrays
            .iter()
            .map(|(name, array)| {
                let half = stored_half(precision, array);
                let bytes = if half {
                    array.values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
                } else {
                    array.values.iter().flat_map(|v| v.to_le_bytes()).collect()
                };
                let dtype = if half { Dtype::F16 } else { Dtype::F32 };
                StoredArray { name: format!("{prefix}{name}"), shape: array.shape.clone(), dtype, bytes }
            })
            .collect()
    }

    /// The arrays of a safetensors file whose names begin with `prefix`, without it.
    ///
    /// # Errors
    /// [`WeightsError::NotFloat`] if an array is neither f32 nor f16.
    pub fn from_safetensors(file: &SafeTensors<'_>, prefix: &str) -> Result<Self, WeightsError> {
        let mut weights = Weights::default();
        for (name, view) in file.iter() {
            if let Some(name) = name.strip_prefix(prefix) {
                weights.arrays.insert(name.to_string(), array_from_view(name, &view)?);
            }
        }
        Ok(weights)
    }
}

fn stored_half(precision: Precision, array: &WeightTensor) -> bool {
    precision == Precision::Half && array.shape.len() > 1
}

fn array_from_view(name: &str, view: &TensorView<'_>) -> Result<WeightTensor, WeightsError> {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect(),
        Dtype::F16 => {
            bytes.as_chunks::<2>().0.iter().map(|&chunk| half::f16::from_le_bytes(chunk).to_f32()).collect()
        }
        other => {
            return Err(WeightsError::NotFloat { name: name.to_string(), found: format!("{other:?}") });
        }
    };
    Ok(WeightTensor { shape: view.shape().to_vec(), values })
}

/// One array as it lies in a safetensors file.
#[derive(Debug, Clone)]
pub struct StoredArray {
    /// Name in the file.
    pub name: String,
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Little-endian elements, row-major.
    pub bytes: Vec<u8>,
}

/// Writes entries and one metadata string under `key` as a safetensors file. The same input gives the same bytes.
///
/// # Errors
/// What safetensors says, if the header would be too large.
pub fn safetensors_bytes(
    entries: &[StoredArray],
    key: &str,
    metadata: String,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut views = Vec::with_capacity(entries.len());
    for entry in entries {
        views.push((entry.name.as_str(), TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes)?));
    }
    // One key only: with several, a hash map would order them differently from run to run.
    safetensors::serialize(views, Some(std::collections::HashMap::from([(key.to_string(), metadata)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::Device;

    fn weights() -> Weights {
        let arrays = [
            ("bias".to_string(), WeightTensor { shape: vec![2], values: vec![0.1, -0.3] }),
            (
                "weight".to_string(),
                WeightTensor { shape: vec![3, 2], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 0.1] },
            ),
        ];
        Weights { arrays: arrays.into() }
    }

    #[test]
    fn a_module_gives_back_what_was_put_in() {
        let module = LinearConfig::new(3, 2).init(&Device::flex());
        let loaded = weights().load_into(module).unwrap();
        assert_eq!(Weights::of(&loaded).unwrap(), weights());
    }

    #[test]
    fn every_mismatch_is_listed_at_once() {
        let module = LinearConfig::new(3, 2).init(&Device::flex());
        let mut wrong = weights();
        wrong.arrays.remove("bias");
        wrong.arrays.insert("gamma".into(), WeightTensor { shape: vec![1], values: vec![0.0] });
        wrong.arrays.get_mut("weight").unwrap().shape = vec![2, 3];
        let message = wrong.load_into(module).unwrap_err().to_string();
        for part in ["1 missing (bias)", "1 unexpected (gamma)", "weight: expected [3, 2], found [2, 3]"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_latest_update_of_running_statistics_is_read() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        let input = Tensor::<3>::full([4, 1, 2], 10.0, &device);
        norm.forward(input);
        let read = Weights::of(&norm).unwrap();
        // Momentum 0.1: 0.9 · 0 + 0.1 · 10.
        let mean = read.arrays.get("running_mean").unwrap().values[0];
        assert!((mean - 1.0).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn a_digest_sees_one_changed_bit_and_a_moved_boundary() {
        let base = weights().digest();
        assert_eq!(base, weights().digest());
        let mut changed = weights();
        changed.arrays.get_mut("bias").unwrap().values[0] = f32::from_bits(0.1f32.to_bits() + 1);
        assert_ne!(base, changed.digest());
        let mut reshaped = weights();
        reshaped.arrays.get_mut("weight").unwrap().shape = vec![2, 3];
        assert_ne!(base, reshaped.digest());
    }

    #[test]
    fn half_precision_halves_matrices_and_keeps_vectors() {
        let entries = weights().to_entries("m.", Precision::Half);
        assert_eq!((entries[0].name.as_str(), entries[0].bytes.len()), ("m.bias", 8));
        assert_eq!((entries[1].name.as_str(), entries[1].bytes.len()), ("m.weight", 12));
        let bytes = safetensors_bytes(&entries, "k", "v".into()).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(Weights::from_safetensors(&file, "m.").unwrap(), weights().rounded(Precision::Half));
    }

    #[test]
    fn not_a_number_is_named() {
        let mut wrong = weights();
        wrong.arrays.get_mut("weight").unwrap().values[4] = f32::NAN;
        let message = wrong.check_finite().unwrap_err().to_string();
        assert!(message.contains("`weight`") && message.contains("NaN at position 4"), "{message}");
    }
}
