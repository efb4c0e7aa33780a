//! Weights by name: read from a store, checked against a module as a whole, then loaded.
//!
//! Burn's own loading leaves a module half changed when a tensor does not fit. Here every name and shape is compared
//! first, without initialising a parameter, and nothing is loaded unless all agree.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::TensorData;
use burn_store::{
    ModuleAdapter, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter, SafetensorsStore, bridge,
};

use crate::module_path::for_each_shape;

/// One tensor of a weight file.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightTensor {
    /// Sizes of the axes, outermost first.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: Vec<f32>,
}

/// Tensors by name.
pub type WeightMap = BTreeMap<String, WeightTensor>;

/// Whose conventions the names and axes of a [`WeightMap`] follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// Burn's: linear weights `[in,out]`, normalisation `gamma` and `beta`.
    Burn,
    /// PyTorch's: linear weights `[out,in]`, normalisation `weight` and `bias`; `num_batches_tracked` is dropped.
    PyTorch,
}

/// A tensor whose shape is not the module's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// The tensor's name.
    pub name: String,
    /// The module's shape.
    pub expected: Vec<usize>,
    /// The file's shape.
    pub found: Vec<usize>,
}

/// Why weights were not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// The bytes are not a weight file.
    #[error("cannot read the weights: {0}")]
    Unreadable(String),
    /// A tensor is not of a floating-point type.
    #[error("tensor `{name}`: expected floating-point values, found {found}")]
    NotFloat {
        /// The tensor's name.
        name: String,
        /// Its element type.
        found: String,
    },
    /// A tensor's values do not fill its shape, or are not finite.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    BadValues {
        /// The tensor's name.
        name: String,
        /// What the values must be.
        expected: String,
        /// What they are.
        found: String,
    },
    /// The tensors are not those of the module.
    #[error("the weights do not fit the model: {}", mismatch(missing, unexpected, misshapen))]
    Mismatch {
        /// Tensors of the module that the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that the module lacks.
        unexpected: Vec<String>,
        /// Tensors of another shape.
        misshapen: Vec<Misshapen>,
    },
    /// The tensor names are those of no encoder that is known.
    #[error("cannot tell which encoder the weights belong to: expected {expected}, found {found}")]
    UnknownEncoder {
        /// The names that would tell.
        expected: String,
        /// The first names of the file.
        found: String,
    },
}

/// How many names of each kind an error message lists.
const LISTED: usize = 12;

fn mismatch(missing: &[String], unexpected: &[String], misshapen: &[Misshapen]) -> String {
    fn list(what: &str, names: Vec<String>) -> Option<String> {
        let more = names.len().saturating_sub(LISTED);
        let mut text = format!("{} {what} (", names.len());
        text += &names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            text += &format!(", and {more} more");
        }
        (!names.is_empty()).then(|| text + ")")
    }
    let shapes = misshapen
        .iter()
        .map(|tensor| format!("{}: expected {:?}, found {:?}", tensor.name, tensor.expected, tensor.found));
    [
        list("missing", missing.to_vec()),
        list("unexpected", unexpected.to_vec()),
        list("of another shape", shapes.collect()),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ")
}

/// Reads all floating-point tensors of a Burn store (safetensors, PyTorch, …) as `f32`. PyTorch's batch counters
/// (`num_batches_tracked`) are left out.
///
/// # Errors
/// A store that cannot be read, or a tensor of another type.
pub fn weights_from_store<S: ModuleStore>(store: &mut S) -> Result<WeightMap, WeightsError> {
    let tensors = store.get_all_tensors().map_err(|error| WeightsError::Unreadable(error.to_string()))?;
    let mut weights = WeightMap::new();
    for (name, tensor) in tensors {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        if !tensor.dtype.is_float() {
            return Err(WeightsError::NotFloat { name: name.clone(), found: format!("{:?}", tensor.dtype) });
        }
        let unreadable = |error: String| WeightsError::Unreadable(format!("tensor `{name}`: {error}"));
        let data = bridge::to_data(tensor).map_err(|error| unreadable(error.to_string()))?.convert::<f32>();
        let shape = data.shape().iter().copied().collect();
        let values = data.try_into_vec::<f32>().map_err(|error| unreadable(error.to_string()))?;
        weights.insert(name.clone(), WeightTensor { shape, values });
    }
    Ok(weights)
}

/// Reads a `.safetensors` file from memory.
///
/// # Errors
/// Bytes that are not one, or a tensor that is not floating point.
pub fn read_safetensors(bytes: Vec<u8>) -> Result<WeightMap, WeightsError> {
    weights_from_store(&mut SafetensorsStore::from_bytes(Some(bytes)))
}

/// The module with `weights`, which must be exactly its own: no tensor missing, unexpected or of another shape.
///
/// # Errors
/// All differences at once. Nothing is loaded then.
pub fn load_weights<M: Module>(
    mut module: M,
    mut weights: WeightMap,
    layout: WeightLayout,
) -> Result<M, WeightsError> {
    if layout == WeightLayout::PyTorch {
        weights.retain(|name, _| !name.ends_with("num_batches_tracked"));
    }
    check_shapes(&expected_shapes(&module, layout), &weights)?;

    let mut tensors = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        check_values(&name, &tensor)?;
        let WeightTensor { shape, values } = tensor;
        tensors.push(bridge::from_data(TensorData::new(values, shape), name, None));
    }
    let adapter: Option<Box<dyn ModuleAdapter>> = match layout {
        WeightLayout::Burn => None,
        WeightLayout::PyTorch => Some(Box::new(PyTorchToBurnAdapter)),
    };
    let result = module.apply(tensors, None, adapter, true);
    match result.errors.first() {
        None => Ok(module),
        Some(error) => Err(WeightsError::Unreadable(error.to_string())),
    }
}

/// Holds tensors against the names and shapes that are expected.
///
/// # Errors
/// [`WeightsError::Mismatch`] with every tensor that is missing, unexpected or of another shape.
pub(super) fn check_shapes(
    expected: &BTreeMap<String, Vec<usize>>,
    weights: &WeightMap,
) -> Result<(), WeightsError> {
    let missing: Vec<String> = expected.keys().filter(|name| !weights.contains_key(*name)).cloned().collect();
    let unexpected: Vec<String> =
        weights.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    let misshapen: Vec<Misshapen> = weights
        .iter()
        .filter_map(|(name, tensor)| {
            let expected = expected.get(name).filter(|expected| **expected != tensor.shape)?;
            Some(Misshapen { name: name.clone(), expected: expected.clone(), found: tensor.shape.clone() })
        })
        .collect();
    if missing.is_empty() && unexpected.is_empty() && misshapen.is_empty() {
        return Ok(());
    }
    Err(WeightsError::Mismatch { missing, unexpected, misshapen })
}

/// Refuses a tensor whose values do not fill its shape or are not finite.
pub(super) fn check_values(name: &str, tensor: &WeightTensor) -> Result<(), WeightsError> {
    let WeightTensor { shape, values } = tensor;
    let wrong = |expected, found| WeightsError::BadValues { name: name.to_owned(), expected, found };
    let size: usize = shape.iter().product();
    if values.len() != size {
        return Err(wrong(format!("{size} values for shape {shape:?}"), values.len().to_string()));
    }
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(wrong("finite values".to_owned(), value.to_string())),
        None => Ok(()),
    }
}

/// Names and shapes of a module's tensors under `layout`, without initialising any.
pub fn expected_shapes<M: Module>(module: &M, layout: WeightLayout) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for_each_shape(module, |path, mut shape| {
        let mut name = path.name();
        if layout == WeightLayout::PyTorch {
            let renamed = match path.owner() {
                "Linear" if name.ends_with("weight") => {
                    shape.reverse();
                    None
                }
                "BatchNorm" | "LayerNorm" => [("gamma", "weight"), ("beta", "bias")]
                    .iter()
                    .find_map(|(ours, theirs)| Some(format!("{}{theirs}", name.strip_suffix(ours)?))),
                _ => None,
            };
            name = renamed.unwrap_or(name);
        }
        shapes.insert(name, shape);
    });
    shapes
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{DType, Device};

    use super::*;

    fn linear() -> Linear {
        LinearConfig::new(2, 3).init(&Device::flex())
    }

    fn tensor(shape: &[usize], values: &[f32]) -> WeightTensor {
        WeightTensor { shape: shape.to_vec(), values: values.to_vec() }
    }

    fn map(entries: &[(&str, WeightTensor)]) -> WeightMap {
        entries.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
    }

    #[test]
    fn pytorch_linear_weights_are_transposed() {
        let bias = ("bias", tensor(&[3], &[0.0; 3]));
        let burns = map(&[("weight", tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), bias.clone()]);
        let pytorch = map(&[("weight", tensor(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])), bias]);
        let a = load_weights(linear(), burns, WeightLayout::Burn).unwrap();
        let b = load_weights(linear(), pytorch, WeightLayout::PyTorch).unwrap();
        assert_eq!(a.weight.val().to_data(), b.weight.val().to_data());
    }

    #[test]
    fn all_differences_are_reported_and_nothing_is_loaded() {
        let weights = map(&[("weight", tensor(&[3, 3], &[0.0; 9])), ("gain", tensor(&[1], &[0.0]))]);
        let error = load_weights(linear(), weights, WeightLayout::Burn).unwrap_err();
        assert_eq!(
            error,
            WeightsError::Mismatch {
                missing: vec!["bias".to_owned()],
                unexpected: vec!["gain".to_owned()],
                misshapen: vec![Misshapen {
                    name: "weight".to_owned(),
                    expected: vec![2, 3],
                    found: vec![3, 3]
                }],
            }
        );
        assert_eq!(
            error.to_string(),
            "the weights do not fit the model: 1 missing (bias); 1 unexpected (gain); \
             1 of another shape (weight: expected [2, 3], found [3, 3])"
        );
    }

    #[test]
    fn values_must_be_finite_and_fill_the_shape() {
        let bias = ("bias", tensor(&[3], &[0.0, f32::NAN, 0.0]));
        let weights = map(&[("weight", tensor(&[2, 3], &[0.0; 6])), bias]);
        let error = load_weights(linear(), weights, WeightLayout::Burn).unwrap_err();
        assert_eq!(error.to_string(), "tensor `bias`: expected finite values, found NaN");
        let weights = map(&[("weight", tensor(&[2, 3], &[0.0; 5])), ("bias", tensor(&[3], &[0.0; 3]))]);
        let error = load_weights(linear(), weights, WeightLayout::Burn).unwrap_err();
        assert_eq!(error.to_string(), "tensor `weight`: expected 6 values for shape [2, 3], found 5");
    }

    #[test]
    fn safetensors_of_half_precision_read_as_f32_and_other_types_are_refused() {
        let file = |dtype: safetensors::Dtype, bytes: &[u8]| {
            let view = safetensors::tensor::TensorView::new(dtype, vec![2], bytes).unwrap();
            safetensors::serialize([("x", view)], None).unwrap()
        };
        let halves: Vec<u8> =
            [1.5, -2.0].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let read = read_safetensors(file(safetensors::Dtype::F16, &halves)).unwrap();
        assert_eq!(read["x"], tensor(&[2], &[1.5, -2.0]));
        let error = read_safetensors(file(safetensors::Dtype::U8, &[1, 2])).unwrap_err();
        assert_eq!(error, WeightsError::NotFloat { name: "x".to_owned(), found: format!("{:?}", DType::U8) });
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("x", view)], None).unwrap();
        for length in 0..bytes.len() {
            assert!(read_safetensors(bytes[..length].to_vec()).is_err(), "{length} bytes");
        }
    }
}
