//! A model's tensors under PyTorch's names and layouts, both ways.
//!
//! | here | PyTorch |
//! | --- | --- |
//! | linear `weight` `[in,out]` | `weight` `[out,in]` |
//! | normalisation `gamma`, `beta` | `weight`, `bias` |
//! | `….downsample.conv`, `….downsample.bn` | `….downsample.0`, `….downsample.1` |
//! | transformer layer: `mha.{query,key,value}` | `self_attn.in_proj_weight`, `self_attn.in_proj_bias`, one under the other |
//! | `mha.output`, `pwff.linear_inner`, `pwff.linear_outer`, `norm_1`, `norm_2` | `self_attn.out_proj`, `linear1`, `linear2`, `norm1`, `norm2` |
//!
//! The published model has the names of the released code (`encoder.conv1.weight`, `gat_layer_112.0.weight`, …), the
//! model of Figure 2 the names of its fields.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Device;

use super::weights::{check_shapes, check_values};
use super::{Architecture, ConfigError, MagNetConfig, WeightMap, WeightTensor, WeightsError};
use crate::module_path::{ModulePath, for_each_shape};

/// Names of the released code for the parts of the published model.
const RELEASED: [(&str, &str); 11] = [
    ("patch_encoder.resnet.", "encoder."),
    ("patch_encoder.fc.", "encoder.fc."),
    ("cross_level_attention.spot.", "cross_attention_224."),
    ("cross_level_attention.region.", "cross_attention_512."),
    ("graph.bin.layers.", "gat_layer_112."),
    ("graph.spot.layers.", "gat_layer_224."),
    ("graph.region.layers.", "gat_layer_512."),
    ("depth_transformer.positions", "transformer.positional_encoding"),
    ("depth_transformer.encoder.", "transformer.transformer_encoder."),
    ("gene_head.norm.", "gene_head_250.0."),
    ("gene_head.linear.", "gene_head_250.1."),
];

/// The same for the parts of a cross-level attention.
const RELEASED_ATTENTION: [(&str, &str); 4] =
    [("query.", "query_proj."), ("key.", "key_proj."), ("value.", "value_proj."), ("output.", "out_proj.")];

/// Parts of the released state dict that no forward pass reads.
const NEVER_READ: [&str; 4] = ["lstm_512.", "gene_head_512.", "gene_head_224.", "transformer.encoder_layer."];

/// Where a tensor of a model stands in a PyTorch state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Its name there.
    name: String,
    /// Its shape here.
    shape: Vec<usize>,
    /// Whether its two axes are the other way round there.
    transposed: bool,
    /// Which third of the rows there, for a tensor that PyTorch keeps with two others.
    third: Option<usize>,
}

impl Place {
    /// The shape of the tensor in the state dict.
    fn stored_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        if self.third.is_some()
            && let Some(rows) = shape.first_mut()
        {
            *rows *= 3;
        }
        shape
    }
}

/// The tensors of a model in a state dict, and what was left out.
#[derive(Debug, Clone, PartialEq)]
pub struct FromPytorch {
    /// The tensors under this crate's names, ready for [`crate::weights::Weights::load_into`].
    pub weights: WeightMap,
    /// Names of the state dict that belong to the released code and are never read.
    pub never_read: Vec<String>,
    /// Names of this model that the state dict cannot have; they keep their initial values.
    pub kept: Vec<String>,
}

/// Takes the tensors of the configured model from a PyTorch state dict.
///
/// Batch counters (`num_batches_tracked`) are left out. A released state dict holds no map of the wide levels' features
/// (`wide_features.*`), and one of another program no gene statistics: where these are missing `initial` stands in.
///
/// # Errors
/// [`WeightsError::Mismatch`] with every tensor that is missing, unexpected or of another shape;
/// [`WeightsError::BadValues`] for a tensor whose values do not fill its shape or are not finite.
pub fn from_pytorch<M: Module>(
    config: &MagNetConfig,
    model: &M,
    state: WeightMap,
    initial: &WeightMap,
) -> Result<FromPytorch, WeightsError> {
    let mut state = state;
    state.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let places = places(config.architecture, model);

    let is_optional = |name: &str| {
        name.starts_with("wide_features.") || name.ends_with(".shift") || name.ends_with(".scale")
    };
    let never_read: Vec<String> = state
        .keys()
        .filter(|name| config.architecture == Architecture::Published && is_never_read(name))
        .cloned()
        .collect();
    state.retain(|name, _| !never_read.contains(name));

    let mut expected = BTreeMap::new();
    let mut kept = Vec::new();
    for (own, place) in &places {
        if is_optional(own) && !state.contains_key(&place.name) && initial.contains_key(own) {
            kept.push(own.clone());
        } else {
            expected.insert(place.name.clone(), place.stored_shape());
        }
    }
    check_shapes(&expected, &state)?;

    let mut weights = WeightMap::new();
    for (own, place) in places {
        let tensor = match state.get(&place.name) {
            Some(stored) => taken(&place, stored)?,
            None => match initial.get(&own) {
                Some(tensor) => tensor.clone(),
                None => continue,
            },
        };
        weights.insert(own, tensor);
    }
    Ok(FromPytorch { weights, never_read, kept })
}

/// A model's tensors as a PyTorch state dict. What the released code holds and never reads is added as zeros, so that
/// its `load_state_dict` takes the result as it is.
pub fn to_pytorch<M: Module>(config: &MagNetConfig, model: &M, weights: &WeightMap) -> WeightMap {
    let mut state = WeightMap::new();
    for (own, place) in places(config.architecture, model) {
        let Some(tensor) = weights.get(&own) else { continue };
        let (rows, cols) = (*tensor.shape.first().unwrap_or(&1), *tensor.shape.get(1).unwrap_or(&1));
        let values =
            if place.transposed { transposed(&tensor.values, rows, cols) } else { tensor.values.clone() };
        let stored = state.entry(place.name.clone()).or_insert_with(|| {
            let shape = place.stored_shape();
            let values = vec![0.0; shape.iter().product()];
            WeightTensor { shape, values }
        });
        let start = place.third.unwrap_or(0) * values.len();
        if let Some(part) = stored.values.get_mut(start..start + values.len()) {
            part.copy_from_slice(&values);
        }
    }
    if config.architecture == Architecture::Published {
        for (name, shape) in never_read(config) {
            let values = vec![0.0; shape.iter().product()];
            state.insert(name, WeightTensor { shape, values });
        }
    }
    state
}

/// Names and shapes of what the released state dict holds and no forward pass reads.
fn never_read(config: &MagNetConfig) -> Vec<(String, Vec<usize>)> {
    let (width, genes, inner) = (config.width, config.genes, config.depth.feed_forward * config.width);
    let mut all = Vec::new();
    for head in ["gene_head_512", "gene_head_224"] {
        all.push((format!("{head}.0.weight"), vec![width]));
        all.push((format!("{head}.0.bias"), vec![width]));
        all.push((format!("{head}.1.weight"), vec![genes, width]));
        all.push((format!("{head}.1.bias"), vec![genes]));
    }
    for layer in 0..2 {
        for part in ["ih", "hh"] {
            all.push((format!("lstm_512.0.weight_{part}_l{layer}"), vec![4 * width, width]));
            all.push((format!("lstm_512.0.bias_{part}_l{layer}"), vec![4 * width]));
        }
    }
    for (name, shape) in [
        ("self_attn.in_proj_weight", vec![3 * width, width]),
        ("self_attn.in_proj_bias", vec![3 * width]),
        ("self_attn.out_proj.weight", vec![width, width]),
        ("self_attn.out_proj.bias", vec![width]),
        ("linear1.weight", vec![inner, width]),
        ("linear1.bias", vec![inner]),
        ("linear2.weight", vec![width, inner]),
        ("linear2.bias", vec![width]),
        ("norm1.weight", vec![width]),
        ("norm1.bias", vec![width]),
        ("norm2.weight", vec![width]),
        ("norm2.bias", vec![width]),
    ] {
        all.push((format!("transformer.encoder_layer.{name}"), shape));
    }
    all
}

fn is_never_read(name: &str) -> bool {
    NEVER_READ.iter().any(|part| name.starts_with(part))
}

/// The state dict without the prefixes that every name of it has.
pub fn without_prefix(mut state: WeightMap) -> WeightMap {
    while let Some(prefix) = ["module.", "model.", "state_dict."]
        .into_iter()
        .find(|prefix| !state.is_empty() && state.keys().all(|name| name.starts_with(prefix)))
    {
        state = state
            .into_iter()
            .map(|(name, tensor)| (name.get(prefix.len()..).unwrap_or_default().to_owned(), tensor))
            .collect();
    }
    state
}

/// The part of a stored tensor that belongs to a place, in this crate's layout.
fn taken(place: &Place, stored: &WeightTensor) -> Result<WeightTensor, WeightsError> {
    check_values(&place.name, stored)?;
    let own: usize = place.shape.iter().product();
    let start = place.third.unwrap_or(0) * own;
    let part = stored.values.get(start..start + own).unwrap_or_default();
    let values = match (place.transposed, place.shape.as_slice()) {
        (true, &[rows, cols]) => transposed(part, cols, rows),
        _ => part.to_vec(),
    };
    Ok(WeightTensor { shape: place.shape.clone(), values })
}

/// `[rows,cols]` as `[cols,rows]`.
fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| values.iter().skip(col).step_by(cols.max(1)).take(rows).copied()).collect()
}

/// Where each tensor of `model` stands in a state dict.
fn places<M: Module>(architecture: Architecture, model: &M) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for_each_shape(model, |path, shape| {
        let own = path.name();
        let place = place(architecture, path, &own, shape);
        places.insert(own, place);
    });
    places
}

/// Where the tensor called `own` stands in a state dict.
fn place(architecture: Architecture, path: &ModulePath, own: &str, shape: Vec<usize>) -> Place {
    let owner = path.owner();
    let transposed = owner == "Linear" && own.ends_with(".weight");
    let mut name = own.to_owned();
    if matches!(owner, "BatchNorm" | "LayerNorm") {
        for (ours, theirs) in [(".gamma", ".weight"), (".beta", ".bias")] {
            if let Some(stem) = name.strip_suffix(ours) {
                name = format!("{stem}{theirs}");
            }
        }
    }
    name = name.replace(".downsample.conv.", ".downsample.0.").replace(".downsample.bn.", ".downsample.1.");
    let mut third = None;
    if path.is_within("TransformerEncoderLayer") {
        for (index, part) in ["query", "key", "value"].into_iter().enumerate() {
            for kind in ["weight", "bias"] {
                if let Some(stem) = name.strip_suffix(&format!(".mha.{part}.{kind}")) {
                    name = format!("{stem}.self_attn.in_proj_{kind}");
                    third = Some(index);
                    break;
                }
            }
        }
        for (ours, theirs) in [
            (".mha.output.", ".self_attn.out_proj."),
            (".pwff.linear_inner.", ".linear1."),
            (".pwff.linear_outer.", ".linear2."),
            (".norm_1.", ".norm1."),
            (".norm_2.", ".norm2."),
        ] {
            name = name.replace(ours, theirs);
        }
    }
    if architecture == Architecture::Published {
        name = released(&name);
    }
    Place { name, shape, transposed, third }
}

/// The released code's name for a tensor of the published model.
fn released(name: &str) -> String {
    let rename = |table: &[(&'static str, &'static str)], name: &str| {
        let known = table.iter().find(|(ours, _)| name.starts_with(ours));
        known.map(|&(ours, theirs)| (theirs, name.get(ours.len()..).unwrap_or_default().to_owned()))
    };
    let Some((prefix, rest)) = rename(&RELEASED, name) else { return name.to_owned() };
    if prefix.starts_with("cross_attention") {
        let (part, rest) = rename(&RELEASED_ATTENTION, &rest).unwrap_or(("", rest));
        return format!("{prefix}{part}{rest}");
    }
    let rest = rest.replace(".map.weight", ".weight").replace(".score", ".att_weight");
    format!("{prefix}{rest}")
}

/// Names and shapes of the state dict that the configured model is, as [`to_pytorch`] writes it.
///
/// # Errors
/// A configuration that no model can be built with.
pub fn state_dict_shapes(
    config: &MagNetConfig,
    device: &Device,
) -> Result<BTreeMap<String, Vec<usize>>, ConfigError> {
    let model = config.build(device)?;
    let mut shapes: BTreeMap<String, Vec<usize>> = places(config.architecture, &model)
        .into_values()
        .map(|place| {
            let shape = place.stored_shape();
            (place.name, shape)
        })
        .collect();
    if config.architecture == Architecture::Published {
        shapes.extend(never_read(config));
    }
    Ok(shapes)
}
