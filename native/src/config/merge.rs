//! Layers of configuration: each overrides some keys of the one below, and none adds a key.

use std::path::Path;

use anyhow::Context;
use toml::{Table, Value};

use super::{OptimizerConfig, RunConfig, ScheduleConfig, Setting, presets};
use crate::error::InputError;

/// Keys that the program fills in itself, with what decides them.
const DERIVED: [(&str, &str); 2] = [
    ("model.genes", "no such key: it follows data.genes"),
    ("model.wide_features", "no such key: it follows --encoder and --features"),
];

/// Tables whose keys depend on the value of one of them.
const TAG: &str = "kind";

pub(super) fn load(
    preset: Option<&str>,
    model: Option<&str>,
    file: Option<&Path>,
    settings: &[Setting],
) -> anyhow::Result<RunConfig> {
    let from_file = match file {
        Some(path) => Some((path, read(path)?)),
        None => None,
    };
    let named_in_file = match &from_file {
        Some((path, table)) => match table.get("preset") {
            Some(Value::String(name)) => Some(name.clone()),
            Some(other) => {
                return Err(InputError::in_file(path, "preset", "a string", describe(other)).into());
            }
            None => None,
        },
        None => None,
    };
    let name = preset.or(named_in_file.as_deref()).unwrap_or(presets::DEFAULT);
    let config = match model {
        Some(model) => presets::by_name(name)?.with_model(model)?,
        None => presets::by_name(name)?,
    };
    let mut table = table_of(&config)?;
    remove_derived(&mut table);

    let mut layers = vec![(format!("preset {name}"), table.clone())];
    if let Some((path, mut over)) = from_file {
        over.remove("preset");
        layers.push((path.display().to_string(), over));
    }
    for Setting { written, assignment } in settings {
        layers.push((written.clone(), parse_assignment(assignment)?));
    }
    let mut merged = read_values(&table, &config, &layers[0].0)?;
    for (source, over) in layers.iter().skip(1) {
        merge(&mut table, over.clone(), "", source)?;
        merged = read_values(&table, &config, source)?;
    }
    // Ranges only now: two settings may need each other. To blame is the layer that has set the key.
    merged.validate("configuration").map_err(|wrong| {
        match layers.iter().rev().find(|(_, table)| holds(table, &wrong.field)) {
            Some((source, _)) => InputError { file: source.into(), ..wrong },
            None => wrong,
        }
    })?;
    Ok(merged)
}

/// Whether a table has a dotted key.
fn holds(table: &Table, key: &str) -> bool {
    match key.split_once('.') {
        Some((first, rest)) => {
            table.get(first).and_then(Value::as_table).is_some_and(|inner| holds(inner, rest))
        }
        None => table.contains_key(key),
    }
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
    text.parse::<Table>().map_err(|error| {
        InputError::in_file(path, "configuration", "TOML", error.to_string().trim_end()).into()
    })
}

/// `a.b=value` as nested tables. The value is TOML; what is no TOML value is taken as a string.
fn parse_assignment(text: &str) -> Result<Table, InputError> {
    let wrong = |found: &str| InputError::in_flag("--set", text, "key=value", found);
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("no `=`"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
        return Err(wrong("an empty key"));
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
    let mut value =
        parsed.and_then(|mut t| t.remove("value")).unwrap_or_else(|| Value::String(value.to_string()));
    for part in key.rsplit('.') {
        value = Value::Table(Table::from_iter([(part.trim().to_string(), value)]));
    }
    match value {
        Value::Table(table) => Ok(table),
        _ => Err(wrong("an empty key")),
    }
}

fn merge(base: &mut Table, over: Table, prefix: &str, source: &str) -> Result<(), InputError> {
    if let Some(Value::String(kind)) = over.get(TAG)
        && base.get(TAG).and_then(Value::as_str).is_some_and(|current| current != kind)
    {
        let variants = variants_of(prefix);
        let Some(variant) = variants.iter().find(|v| v.get(TAG).and_then(Value::as_str) == Some(kind)) else {
            let kinds: Vec<&str> = variants.iter().filter_map(|v| v.get(TAG)?.as_str()).collect();
            return Err(error(
                source,
                &join(prefix, TAG),
                format!("one of {}", kinds.join(", ")),
                kind.clone(),
            ));
        };
        *base = variant.clone();
    }
    for (key, value) in over {
        let path = join(prefix, &key);
        if let Some((_, reason)) = DERIVED.iter().find(|(derived, _)| *derived == path) {
            return Err(error(source, &path, (*reason).into(), "it".into()));
        }
        let Some(slot) = base.get_mut(&key) else {
            let nearest = nearest_key(&path);
            return Err(error(
                source,
                &path,
                format!("a known key, perhaps `{nearest}`"),
                "an unknown one".into(),
            ));
        };
        match (slot, value) {
            (Value::Table(inner), Value::Table(over)) => merge(inner, over, &path, source)?,
            (slot @ Value::Float(_), Value::Integer(integer)) => *slot = Value::Float(integer as f64),
            (slot, value) if slot.same_type(&value) => *slot = value,
            (slot, value) => return Err(error(source, &path, kind_of(slot).into(), describe(&value))),
        }
    }
    Ok(())
}

/// The configuration that a table means.
fn read_values(table: &Table, base: &RunConfig, source: &str) -> Result<RunConfig, InputError> {
    let mut table = table.clone();
    if let (Some(model), Ok(base)) = (table.get_mut("model").and_then(Value::as_table_mut), table_of(base)) {
        for (path, _) in DERIVED {
            let key = path.trim_start_matches("model.");
            if let Some(value) = base.get("model").and_then(|model| model.get(key)) {
                model.insert(key.to_string(), value.clone());
            }
        }
    }
    let mut config: RunConfig = Value::Table(table).try_into().map_err(|e: toml::de::Error| {
        error(
            source,
            "value",
            "one that the configuration takes".into(),
            e.to_string().trim().replace('\n', " "),
        )
    })?;
    config.model.genes = config.data.genes;
    Ok(config)
}

pub(super) fn table_of(config: &RunConfig) -> Result<Table, InputError> {
    Table::try_from(config)
        .map_err(|e| error("configuration", "value", "one that TOML can hold".into(), e.to_string()))
}

pub(super) fn remove_derived(table: &mut Table) {
    if let Some(Value::Table(model)) = table.get_mut("model") {
        for (path, _) in DERIVED {
            model.remove(path.trim_start_matches("model."));
        }
    }
}

/// The forms of a tagged table, with default values for the keys that a change of kind brings in.
fn variants_of(path: &str) -> Vec<Table> {
    let tables = match path {
        "train.optimizer" => vec![
            Table::try_from(OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }),
            Table::try_from(OptimizerConfig::Adamw {
                beta_1: 0.9,
                beta_2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.01,
            }),
        ],
        "train.schedule" => vec![
            Table::try_from(ScheduleConfig::Polynomial { power: 0.9, warmup_epochs: 0.0 }),
            Table::try_from(ScheduleConfig::Cosine { warmup_epochs: 1.0, floor: 0.0 }),
            Table::try_from(ScheduleConfig::Constant { warmup_epochs: 0.0 }),
        ],
        _ => Vec::new(),
    };
    tables.into_iter().flatten().collect()
}

/// Every key of every preset and variant, dotted.
fn known_keys() -> Vec<String> {
    fn collect(table: &Table, prefix: &str, keys: &mut Vec<String>) {
        for (key, value) in table {
            let path = join(prefix, key);
            if let Value::Table(inner) = value {
                collect(inner, &path, keys);
            }
            keys.push(path);
        }
    }
    let mut keys = Vec::new();
    for (name, _) in presets::PRESETS {
        if let Ok(mut table) = presets::by_name(name).and_then(|config| table_of(&config)) {
            remove_derived(&mut table);
            collect(&table, "", &mut keys);
        }
    }
    for path in ["train.optimizer", "train.schedule"] {
        variants_of(path).iter().for_each(|variant| collect(variant, path, &mut keys));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The known key that looks most like `path`: compared whole, and by its last part for a key in the wrong table.
fn nearest_key(path: &str) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    known_keys()
        .into_iter()
        .min_by_key(|known| {
            let whole = strsim::damerau_levenshtein(path, known);
            whole.min(strsim::damerau_levenshtein(&last(path), &last(known)) + 1)
        })
        .unwrap_or_default()
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".into(),
        other => format!("{other} ({})", kind_of(other)),
    }
}

fn error(source: &str, key: &str, expected: String, found: String) -> InputError {
    InputError { file: source.into(), field: key.into(), expected, found }
}
