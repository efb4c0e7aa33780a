//! `import` and `export`: model files from and for PyTorch.

use std::path::Path;

use anyhow::{Context, Result};
use magnet_core::bundle::{Bundle, BundleMetadata, Provenance, WideEncoderIdentity};
use magnet_core::expression::GeneStatistics;
use magnet_core::model::pytorch::{from_pytorch, to_pytorch, without_prefix};
use magnet_core::model::{Misshapen, WeightMap, WeightsError, WideFeatures};
use magnet_core::weights::{Precision, Weights, safetensors_bytes};
use magnet_core::{ExpressionModel, GenePanel, MagNetConfig, PerLevel};
use serde_json::json;

use crate::cli::{ExportArgs, ExportFormat, ImportArgs};
use crate::config::{RunConfig, Setting};
use crate::console::Console;
use crate::device;
use crate::error::InputError;
use crate::files::{Overwrite, read_limited, write_atomic};
use crate::model_file::{ModelFile, command_line};
use crate::train::drawn_model;
use crate::weight_file;

/// What `--preset` may also be called here: the default model.
const DEFAULT: (&str, &str) = ("default", "paper");
/// Largest accepted gene file, in bytes.
const MAX_GENES_BYTES: u64 = 16 << 20;

/// Runs `import`.
///
/// # Errors
/// If a file cannot be read, a tensor is missing, unexpected or of another shape (all of them in one error), or the
/// bundle cannot be written.
pub fn import(args: &ImportArgs, console: &Console) -> Result<()> {
    let panel = read_genes(&args.genes)?;
    let mut settings: Vec<Setting> = args.set.iter().map(|set| Setting::set(set)).collect();
    settings.push(Setting::flag("--genes", args.genes.display(), format!("data.genes={}", panel.len())));
    let preset = if args.preset == DEFAULT.0 { DEFAULT.1 } else { &args.preset };
    let run = RunConfig::load(Some(preset), None, args.config.as_deref(), &settings)?;
    let state = without_prefix(weight_file::read(&args.from)?);
    let file_name = args.from.file_name().unwrap_or_default().to_string_lossy().into_owned();

    let mut config = run.model.clone();
    let wide_encoder = features_of(&state).map(|width| {
        config.wide_features = WideFeatures::File { width };
        WideEncoderIdentity { name: format!("the encoder behind {file_name}"), sha256: String::new(), width }
    });
    config.validate().context("configuration")?;
    let weights = weights_of(args, &config, &run, state, console)?;
    let model = weights.load_into(config.build(&device::processor())?)?;
    let statistics = model.gene_statistics();
    let gene_statistics = PerLevel::try_from_fn(|level| -> Result<GeneStatistics> {
        let of = statistics.get(level);
        let read = |tensor: &burn::tensor::Tensor<1>| {
            tensor.clone().try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error}"))
        };
        Ok(GeneStatistics { mean: read(&of.mean)?, sd: read(&of.sd)? })
    })?;
    let bundle = Bundle {
        metadata: BundleMetadata {
            code_version: env!("CARGO_PKG_VERSION").into(),
            config,
            panel,
            normalization: run.data.normalization,
            gene_statistics,
            held_out: None,
            wide_encoder,
            provenance: Provenance {
                seed: run.train.seed,
                run_config: run.to_toml()?,
                command_line: command_line(),
                device: format!("imported from {file_name}"),
                ..Provenance::default()
            },
        },
        weights,
        frozen: None,
    };
    let precision = if args.half { Precision::Half } else { Precision::Single };
    write_atomic(&args.out, &bundle.to_bytes(precision)?, Overwrite::from(args.overwrite))?;
    let parameters = bundle.weights.len();
    console.result(
        &format!("{}\n{parameters} values of {}", args.out.display(), args.from.display()),
        &json!({ "model": args.out, "values": parameters, "sha256": bundle.weights_sha256() }),
    )?;
    Ok(())
}

/// The weights of the configured model from a state dict of its own, or of a ResNet for its patch encoder.
fn weights_of(
    args: &ImportArgs,
    config: &MagNetConfig,
    run: &RunConfig,
    state: WeightMap,
    console: &Console,
) -> Result<Weights> {
    let model = drawn_model(config, run.train.seed, &device::processor())?;
    let wrong = |error| {
        list_all(&error, console);
        let expected =
            format!("the weights of a model of preset {} (or of a torchvision ResNet)", args.preset);
        InputError::in_file(&args.from, "weights", expected, error)
    };
    if state.contains_key("layer1.0.conv1.weight") {
        console.warn(
            "only the patch encoder is in this file, all other weights are random: `train --init` makes a model of it",
        );
        return Ok(Weights::of(&model.with_pretrained_encoder(state).map_err(wrong)?)?);
    }
    let initial = Weights::of(&model)?.arrays;
    let taken = from_pytorch(config, &model, state, &initial).map_err(wrong)?;
    if !taken.never_read.is_empty() {
        console.say(format_args!(
            "{} tensors that the released code never reads were left out",
            taken.never_read.len()
        ));
    }
    if !taken.kept.is_empty() {
        console.detail(format_args!("not in the file, and so as drawn: {}", taken.kept.join(", ")));
    }
    if config.wide_features == WideFeatures::Shared && config.wide_levels {
        console.say("the file has no map of wide features: the patch encoder will read spots and regions");
    }
    Ok(Weights { arrays: taken.weights })
}

/// Says every tensor that does not fit: the error itself names the first of each kind only.
fn list_all(error: &WeightsError, console: &Console) {
    let WeightsError::Mismatch { missing, unexpected, misshapen } = error else { return };
    for name in missing {
        console.say(format_args!("missing: {name}"));
    }
    for name in unexpected {
        console.say(format_args!("unexpected: {name}"));
    }
    for Misshapen { name, expected, found } in misshapen {
        console.say(format_args!("of another shape: {name}, expected {expected:?}, found {found:?}"));
    }
}

/// Width of the wide levels' features, where the state dict has a map of them.
fn features_of(state: &WeightMap) -> Option<usize> {
    state.get("wide_features.spot.weight").and_then(|map| map.shape.get(1)).copied()
}

fn read_genes(path: &Path) -> Result<GenePanel> {
    let text = String::from_utf8(read_limited(path, MAX_GENES_BYTES)?)
        .map_err(|error| InputError::in_file(path, "genes", "UTF-8 text", error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (ids, symbols): (Vec<String>, Vec<String>) = lines
        .map(|line| {
            let (id, symbol) = line.split_once('\t').unwrap_or((line, line));
            (id.trim().to_owned(), symbol.trim().to_owned())
        })
        .unzip();
    if ids.is_empty() {
        return Err(InputError::in_file(path, "genes", "one gene per line", "none").into());
    }
    GenePanel::new(ids, symbols)
        .map_err(|error| InputError::in_file(path, "genes", "each gene once", error).into())
}

/// Runs `export`.
///
/// # Errors
/// If the bundle cannot be read or the file cannot be written.
pub fn export(args: &ExportArgs, console: &Console) -> Result<()> {
    let ExportFormat::Pytorch = args.to;
    let ModelFile { bundle, model, .. } =
        ModelFile::load(&args.model, &device::processor(), Precision::Single)?;
    let config = &bundle.metadata.config;
    if bundle.frozen.is_some() {
        console.warn("the frozen encoder of the wide levels is not written: it is a file of its own");
    }
    let state = to_pytorch(config, &model, &bundle.weights.arrays);
    let tensors = state.len();
    let entries = Weights { arrays: state }.to_entries("", Precision::Single);
    let file = safetensors_bytes(&entries, "format", "pt".into())?;
    write_atomic(&args.out, &file, Overwrite::from(args.overwrite))?;
    console.result(
        &format!("{}\n{tensors} tensors with PyTorch's names and layouts", args.out.display()),
        &json!({ "file": args.out, "tensors": tensors, "bytes": file.len() }),
    )?;
    Ok(())
}
