//! The published preset beside tensors that PyTorch computed with the authors' released code.
//!
//! A golden file holds outputs only: weights and inputs follow from a formula over the tensors' names, and the sizes
//! stand in the file's metadata, so a file of any size can be compared.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, anyhow};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use magnet_core::batch::{LevelInput, MagNetBatch, NeighborIndices};
use magnet_core::loss::{hybrid_loss, pearson_rows};
use magnet_core::model::pytorch::{from_pytorch, state_dict_shapes, to_pytorch};
use magnet_core::model::{
    Architecture, ConsistencyTarget, DepthConfig, ExpressionModel, LossConfig, Model, WeightMap, WeightTensor,
};
use magnet_core::module_path::ModulePath;
use magnet_core::weights::Weights;
use magnet_core::{Level, MagNetConfig, PerLevel};
use safetensors::SafeTensors;

/// Channel means and deviations of ImageNet: golden patches are normalised already, the model's inputs are not.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Neighbours of a node, at most.
const NEIGHBORS: usize = 8;
/// Gradients below this are rounding: those of the released graph layers' score vectors are 0 but for it.
const LEAST_GRADIENT: f64 = 1e-6;
/// Prefix of the gradients' lengths.
const GRADIENT: &str = "grad_l2.";

/// What may differ, by kind of tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest difference of a tensor's values, relative to its largest value.
    pub forward: f64,
    /// Largest difference of the loss and the scores.
    pub scalar: f64,
    /// Largest difference of a gradient's length, relative to it.
    pub gradient: f64,
}

/// On the CPU.
pub const CPU: Tolerance = Tolerance { forward: 1e-4, scalar: 1e-5, gradient: 1e-3 };
/// On a graphics adapter.
pub const GPU: Tolerance = Tolerance { forward: 1e-3, scalar: 1e-3, gradient: 1e-3 };

/// One tensor of a golden file beside ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// Its name in the file.
    pub name: String,
    /// How far ours is from it; infinite where ours is missing, of another shape, or not finite.
    pub deviation: f64,
    /// How far it may be.
    pub allowed: f64,
    /// Whether both are gradients too small to be more than rounding, which have no meaningful ratio.
    pub is_rounding: bool,
}

impl Deviation {
    /// Whether ours is near enough.
    pub fn passes(&self) -> bool {
        self.deviation <= self.allowed
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_rounding {
            return write!(f, "{:<80} both below {LEAST_GRADIENT:.0e}: rounding", self.name);
        }
        let verdict = if self.passes() { "ok" } else { "TOO FAR" };
        write!(f, "{:<80} {:.2e} (at most {:.0e}) {verdict}", self.name, self.deviation, self.allowed)
    }
}

/// Sizes of a golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Nodes of each level.
    pub nodes: PerLevel<usize>,
    /// Side of the bin patches.
    pub patch_px: usize,
    /// Feature width.
    pub width: usize,
    /// Genes.
    pub genes: usize,
}

impl Sizes {
    fn read(metadata: &std::collections::HashMap<String, String>) -> anyhow::Result<Self> {
        let size = |key: &str| -> anyhow::Result<usize> {
            let text = metadata.get(key).with_context(|| format!("metadata: no `{key}`"))?;
            let size = text.parse().with_context(|| format!("metadata `{key}`: {text:?} is no size"))?;
            if size == 0 { Err(anyhow!("metadata `{key}`: expected at least 1, found 0")) } else { Ok(size) }
        };
        Ok(Self {
            nodes: PerLevel { bin: size("B")?, spot: size("S")?, region: size("R")? },
            patch_px: size("P")?,
            width: size("dim")?,
            genes: size("genes")?,
        })
    }
}

/// The released model's configuration for a feature width and a number of genes, without dropout.
pub fn released_config(width: usize, genes: usize) -> MagNetConfig {
    MagNetConfig {
        architecture: Architecture::Published,
        genes,
        width,
        depth: DepthConfig { dropout: 0.0, ..DepthConfig::default() },
        loss: LossConfig { consistency_with: ConsistencyTarget::BinLabels, ..LossConfig::default() },
        ..MagNetConfig::default()
    }
}

/// The formula's state dict of a configured model, batch counters aside.
///
/// # Errors
/// A configuration that no model can be built with.
pub fn formula_state(config: &MagNetConfig) -> anyhow::Result<WeightMap> {
    let shapes = state_dict_shapes(config, &Device::flex())?;
    Ok(shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = weight(&name, &shape);
            (name, WeightTensor { shape, values })
        })
        .collect())
}

/// Compares every tensor of a golden file. Gradients need a backward pass, which can be left out.
///
/// # Errors
/// A file that is none, sizes that no model has, or a device that fails.
pub fn compare(
    file: &[u8],
    device: &Device,
    tolerance: Tolerance,
    gradients: bool,
) -> anyhow::Result<Vec<Deviation>> {
    let golden = SafeTensors::deserialize(file).context("not a safetensors file")?;
    let (_, header) = SafeTensors::read_metadata(file)?;
    let sizes = Sizes::read(header.metadata().as_ref().context("no metadata")?)?;
    let ours = compute(&sizes, device, gradients)?;

    let mut deviations = Vec::new();
    for (name, view) in golden.iter() {
        if !gradients && name.starts_with(GRADIENT) {
            continue;
        }
        let expected: Vec<f64> =
            view.data().as_chunks::<4>().0.iter().map(|&v| f64::from(f32::from_le_bytes(v))).collect();
        let found = ours.get(name).filter(|tensor| tensor.shape == view.shape());
        deviations.push(deviation(name, &expected, found.map(|tensor| tensor.values.as_slice()), tolerance));
    }
    deviations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(deviations)
}

fn deviation(name: &str, expected: &[f64], found: Option<&[f32]>, tolerance: Tolerance) -> Deviation {
    let is_gradient = name.starts_with(GRADIENT);
    let allowed = match name {
        _ if is_gradient => tolerance.gradient,
        "loss" | "mse" | "mae" | "pcc" => tolerance.scalar,
        _ => tolerance.forward,
    };
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        // Not `max`, which overlooks NaN.
        values.fold(0.0f64, |largest, value| if value <= largest { largest } else { value })
    };
    let (mut deviation, mut is_rounding) = (f64::INFINITY, false);
    if let Some(found) = found {
        let pairs = expected.iter().zip(found.iter().map(|&value| f64::from(value)));
        let apart = largest(&mut pairs.map(|(expected, found)| (expected - found).abs()));
        let size = largest(&mut expected.iter().map(|value| value.abs()));
        is_rounding = is_gradient && apart.max(size) <= LEAST_GRADIENT;
        deviation = match name {
            _ if is_rounding => 0.0,
            "loss" | "mse" | "mae" | "pcc" => apart,
            _ => apart / size.max(f64::MIN_POSITIVE),
        };
    }
    if deviation.is_nan() {
        deviation = f64::INFINITY;
    }
    Deviation { name: name.to_owned(), deviation, allowed, is_rounding }
}

/// The published model of the given sizes with the formula's weights, on `device`.
///
/// # Errors
/// Sizes that no model has.
pub fn model(sizes: &Sizes, device: &Device) -> anyhow::Result<Model> {
    let config = released_config(sizes.width, sizes.genes);
    let state = formula_state(&config)?;
    let model = config.build(device)?;
    let taken = from_pytorch(&config, &model, state, &WeightMap::new())?;
    Ok(Weights { arrays: taken.weights }.load_into(model)?)
}

/// Every tensor of a golden file, computed here.
fn compute(sizes: &Sizes, device: &Device, gradients: bool) -> anyhow::Result<WeightMap> {
    let device = if gradients { device.clone().autodiff() } else { device.clone() };
    // Batch norm as in evaluation, also where gradients are taken.
    let model = model(sizes, &device)?.freeze();
    let model = if gradients { model.set_require_grad(true) } else { model };
    let batch = batch(sizes, &device);
    let Model::Published(published) = &model else { anyhow::bail!("not the published model") };
    let trace = published.trace(&batch)?;
    let labels = batch.labels.as_ref().context("no labels")?;
    let loss = hybrid_loss(&model.config().loss, &trace.output, &batch, &model.gene_statistics())?;

    let error = trace.output.bin.clone() - labels.bin.clone();
    let layer = |index: usize| trace.graph.bin.get(index).cloned().context("a graph layer is missing");
    let mut found = WeightMap::new();
    for (name, tensor) in [
        ("encoder", trace.encoder.clone()),
        ("cross_attention_region", trace.cross_attention_region.clone()),
        ("cross_attention_spot", trace.cross_attention_spot.clone()),
        ("graph_bin_0", layer(0)?),
        ("graph_bin_2", layer(2)?),
        ("depth_bin", trace.depth.bin.clone()),
        ("depth_spot", trace.depth.spot.clone()),
        ("depth_region", trace.depth.region.clone()),
        ("out_bin", trace.output.bin.clone()),
        ("out_spot", trace.output.spot.clone()),
        ("out_region", trace.output.region.clone()),
    ] {
        found.insert(name.to_owned(), read(tensor)?);
    }
    for (name, value) in [
        ("loss", loss.total.clone()),
        ("mse", loss.mse.bin),
        ("mae", error.abs().mean()),
        ("pcc", pearson_rows(trace.output.bin.clone(), labels.bin.clone()).mean()),
    ] {
        found.insert(name.to_owned(), read(value)?);
    }
    if gradients {
        let gradients = GradientsParams::from_grads(loss.total.backward(), &model);
        let state = to_pytorch(model.config(), &model, &gradient_map(&model, &gradients)?);
        for (name, tensor) in state {
            let squares: f64 = tensor.values.iter().map(|&value| f64::from(value).powi(2)).sum();
            found.insert(
                format!("{GRADIENT}{name}"),
                WeightTensor { shape: vec![1], values: vec![squares.sqrt() as f32] },
            );
        }
    }
    Ok(found)
}

/// The gradient of every parameter by the parameter's name; zeros where no gradient reaches it.
fn gradient_map(model: &Model, gradients: &GradientsParams) -> anyhow::Result<WeightMap> {
    struct Reader<'a> {
        gradients: &'a GradientsParams,
        path: ModulePath,
        map: BTreeMap<String, Result<WeightTensor, String>>,
    }
    impl ModuleVisitor for Reader<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.leave(container_type);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape: Vec<usize> = param.lazy_shape().iter().copied().collect();
            let values = match self.gradients.get::<D>(param.id) {
                Some(gradient) => gradient.try_into_vec_as::<f32>().map_err(|error| error.to_string()),
                None => Ok(vec![0.0; shape.iter().product()]),
            };
            self.map.insert(self.path.name(), values.map(|values| WeightTensor { shape, values }));
        }
    }
    let mut reader = Reader { gradients, path: ModulePath::default(), map: BTreeMap::new() };
    model.visit(&mut reader);
    reader.map.into_iter().map(|(name, tensor)| Ok((name, tensor.map_err(|error| anyhow!(error))?))).collect()
}

fn read<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<WeightTensor> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_into_vec_as::<f32>().map_err(|error| anyhow!("{error}"))?;
    Ok(WeightTensor { shape, values })
}

/// The formula's inputs, labels and geometry.
fn batch(sizes: &Sizes, device: &Device) -> MagNetBatch {
    let PerLevel { bin, spot, region } = sizes.nodes;
    let (width, genes, side) = (sizes.width, sizes.genes, sizes.patch_px);
    let matrix = |name: &str, rows: usize, cols: usize, label: bool| -> Tensor<2> {
        let values: Vec<f32> =
            signed(name, rows * cols).map(|value| if label { value.abs() } else { value } as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), device)
    };
    let (mean, deviation) = IMAGENET;
    let channel = |of: [f32; 3]| Tensor::<1>::from_floats(of, device).reshape([1, 3, 1, 1]);
    let normalized = matrix("input.bin", bin, 3 * side * side, false).reshape([bin, 3, side, side]);
    let patches = normalized * channel(deviation) + channel(mean);

    let columns = (1..).find(|columns| columns * columns >= bin).unwrap_or(1);
    let grid = |count: usize, columns: usize| -> Vec<(i64, i64)> {
        (0..count).map(|node| ((node / columns) as i64, (node % columns) as i64)).collect()
    };
    let graph = |places: Vec<(i64, i64)>, symmetric: bool| table(&nearest(&places, symmetric), device);
    let parents = |tiles: usize| -> Vec<usize> { (0..bin).map(|node| node % tiles).collect() };
    let context = |tiles: usize| {
        table(&parents(tiles).into_iter().map(|parent| vec![parent]).collect::<Vec<_>>(), device)
    };
    let index = |tiles: usize| -> Tensor<1, Int> {
        let values: Vec<i32> = parents(tiles).into_iter().map(|parent| parent as i32).collect();
        Tensor::from_data(TensorData::new(values, [bin]), device)
    };
    let mean_of = |tiles: usize| -> Tensor<2> {
        let parents = parents(tiles);
        let mut values = vec![0.0f32; tiles * bin];
        for (node, &parent) in parents.iter().enumerate() {
            let count = parents.iter().filter(|&&other| other == parent).count();
            if let Some(value) = values.get_mut(parent * bin + node) {
                *value = 1.0 / count as f32;
            }
        }
        Tensor::from_data(TensorData::new(values, [tiles, bin]), device)
    };
    MagNetBatch {
        inputs: PerLevel {
            bin: LevelInput::Patches(patches),
            spot: LevelInput::Encoded(matrix("input.spot", spot, width, false)),
            region: LevelInput::Encoded(matrix("input.region", region, width, false)),
        },
        graphs: PerLevel {
            bin: graph(grid(bin, columns), false),
            spot: graph(grid(spot, 2), true),
            region: graph(grid(region, region), true),
        },
        spot_context: context(spot),
        region_context: context(region),
        parent_spot: index(spot),
        parent_region: index(region),
        places: Tensor::zeros([bin, 2], device),
        core: sizes.nodes,
        spot_mean: mean_of(spot),
        region_mean: mean_of(region),
        labels: Some(PerLevel::from_fn(|level| {
            let name = match level {
                Level::Bin => "label.bin",
                Level::Spot => "label.spot",
                Level::Region => "label.region",
            };
            matrix(name, *sizes.nodes.get(level), genes, true)
        })),
        own_references: None,
    }
}

/// The nearest nodes of each node, without itself, ties to the lower index; `symmetric` adds who has it among theirs.
fn nearest(places: &[(i64, i64)], symmetric: bool) -> Vec<Vec<usize>> {
    let count = NEIGHBORS.min(places.len().saturating_sub(1));
    let mut lists: Vec<Vec<usize>> = places
        .iter()
        .enumerate()
        .map(|(node, &(row, col))| {
            let mut others: Vec<usize> = (0..places.len()).filter(|&other| other != node).collect();
            let distance = |other: &usize| {
                places.get(*other).map(|&(r, c)| (r - row).pow(2) + (c - col).pow(2)).unwrap_or(i64::MAX)
            };
            others.sort_by_key(|other| (distance(other), *other));
            others.truncate(count);
            others
        })
        .collect();
    if symmetric {
        let pairs: Vec<(usize, usize)> = lists
            .iter()
            .enumerate()
            .flat_map(|(node, others)| others.iter().map(move |&other| (other, node)))
            .collect();
        for (node, other) in pairs {
            if let Some(list) = lists.get_mut(node)
                && !list.contains(&other)
            {
                list.push(other);
            }
        }
    }
    lists
}

/// A gather table as wide as the longest list.
fn table(lists: &[Vec<usize>], device: &Device) -> NeighborIndices {
    let width = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let slots = || lists.iter().flat_map(|list| (0..width).map(|slot| list.get(slot)));
    let index: Vec<i32> = slots().map(|slot| slot.map_or(0, |&node| node as i32)).collect();
    let valid: Vec<bool> = slots().map(|slot| slot.is_some()).collect();
    let shape = [lists.len(), width];
    NeighborIndices {
        index: Tensor::from_data(TensorData::new(index, shape), device),
        valid: Tensor::from_data(TensorData::new(valid, shape), device),
    }
}

/// The formula's weight of a name of the state dict.
fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let size: usize = shape.iter().product();
    let rows = shape.first().copied().unwrap_or(1).max(1);
    let scale = (3.0 / (size / rows).max(1) as f64).sqrt();
    let of = |value: fn(f64, f64) -> f64| signed(name, size).map(|s| value(s, scale) as f32).collect();
    match shape.len() {
        _ if name.ends_with("running_var") => of(|s, _| 1.0 + 0.25 * (s + 1.0)),
        _ if name.ends_with("running_mean") => of(|s, _| 0.1 * s),
        2.. => of(|s, scale| s * scale),
        _ if name.ends_with("weight") => of(|s, _| 1.0 + 0.1 * s),
        _ => of(|s, _| 0.1 * s),
    }
}

/// The formula's numbers in −1..1 for a name: SplitMix64 from the name's FNV-1a hash.
fn signed(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (0..count as u64).map(move |index| {
        let mut z = hash.wrapping_add(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        2.0 * ((z >> 40) as f64 / f64::from(1 << 24)) - 1.0
    })
}
