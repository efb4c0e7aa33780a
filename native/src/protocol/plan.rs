//! What a protocol will do: decided before anything is trained, stored, and the same for as long as it takes.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use magnet_core::expression::ValueKind;
use magnet_core::model::Architecture;
use serde::Serialize;
use serde_json::Value;

use super::Variant;
use super::difference::difference;
use super::folds::{Member, divide};
use super::resolution::at_resolution;
use super::results::{FULL, Group, Protocol, Results};
use crate::cli::{ProtocolArgs, TrainArgs};
use crate::config::{GeneSelection, RunConfig, model_name, presets_for_bins};
use crate::console::Console;
use crate::dataset::metadata::Metadata;
use crate::dataset::{Dataset, tile_side_um};
use crate::error::InputError;
use crate::files::{Overwrite, read_limited, sha256_file, write_atomic};
use crate::train;

/// The plan's name in the output folder.
pub const PLAN_FILE: &str = "plan.json";
/// A plan takes some kilobytes per run.
const MOST_BYTES: u64 = 64 << 20;

/// Everything that decides the scores.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    format: &'static str,
    version: u32,
    /// What is compared.
    pub command: Protocol,
    /// The prepared dataset.
    pub dataset: PathBuf,
    /// The slides.
    pub slides: Vec<PlannedSlide>,
    /// What a fold holds out.
    pub group: Group,
    /// Seed of the folds and of every run.
    pub seed: u64,
    /// The slides that each fold holds out.
    pub folds: Vec<Vec<String>>,
    /// Units of the labels.
    pub units: &'static str,
    /// SHA-256 of the file of genes, where there is one.
    pub genes_sha256: Option<String>,
    /// The frozen encoder of the wide levels.
    pub encoder: Option<PathBuf>,
    /// Feature matrices of the wide levels.
    pub features: Option<PathBuf>,
    /// What is trained at each resolution.
    pub resolutions: Vec<Resolution>,
}

/// A slide of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedSlide {
    /// Its id.
    pub id: String,
    /// Its patient, where known.
    pub patient: Option<String>,
    /// Side of its measured bins, in µm.
    pub bin_um: f64,
    /// SHA-256 of its counts.
    pub counts_sha256: String,
}

/// One size of bins.
#[derive(Debug, Clone, Serialize)]
pub struct Resolution {
    /// The side that was asked for, in µm.
    pub bin_um: f64,
    /// The side that bins have, in µm.
    pub tile_um: f64,
    /// Whether counts are summed to reach it.
    pub summed: bool,
    /// What is trained in each fold.
    pub arms: Vec<Arm>,
}

/// One of what is compared.
#[derive(Debug, Clone, Serialize)]
pub struct Arm {
    /// The model's name.
    pub model: String,
    /// [`FULL`], or what is taken away.
    pub variant: String,
    /// Folder of its runs.
    pub folder: String,
    /// Every setting.
    pub config: RunConfig,
    /// What is done beyond what was asked for.
    pub notes: Vec<String>,
}

/// What a protocol compares.
pub(super) enum Compared<'a> {
    /// Models, by name.
    Models(&'a [String]),
    /// Variants of MagNet.
    Variants(&'a [Variant]),
}

impl Plan {
    /// Plans a protocol. Only metadata of the dataset is read, and the counts for their digests.
    ///
    /// # Errors
    /// For slides, folds, genes, resolutions and settings that do not fit the dataset or each other.
    pub(super) fn new(args: &ProtocolArgs, compared: &Compared<'_>, console: &Console) -> Result<Self> {
        let dataset = Dataset::open(&args.data)?;
        train::check_known("--slides", &args.slides, dataset.ids())?;
        let ids = if args.slides.is_empty() { dataset.ids().to_vec() } else { sorted_once(&args.slides)? };
        let metadata = ids.iter().map(|id| dataset.metadata(id)).collect::<Result<Vec<_>>>()?;
        let values = dataset.value_kind(&ids)?;
        let arms = arms(args, compared, values, console)?;
        let Some(first) = arms.first() else {
            return Err(InputError::in_flag("--models", "models", "at least one", "none").into());
        };
        let (seed, data) = (first.config.train.seed, first.config.data.clone());
        let members: Vec<Member> = metadata
            .iter()
            .map(|slide| Member { id: slide.id.clone(), patient: slide.patient.clone() })
            .collect();
        let folds = divide(&members, args.group, args.folds, seed)?;

        let asked = match args.bin_um.as_slice() {
            [] => vec![own_resolution(&metadata, &arms)?],
            sizes => ascending_once(sizes)?,
        };
        let mut resolutions = Vec::with_capacity(asked.len());
        for bin_um in asked {
            let sides =
                metadata.iter().map(|slide| tile_side_um(slide, bin_um)).collect::<Result<Vec<f64>, _>>()?;
            let tile_um = sides.first().copied().unwrap_or(bin_um);
            // Slides of one model must have one bin size.
            if let Some((slide, side)) =
                metadata.iter().zip(&sides).find(|(_, side)| (**side / tile_um - 1.0).abs() > SAME_SIZE)
            {
                let expected = format!(
                    "bins of {tile_um} µm, as those of {}",
                    members.first().map_or("the first", |slide| &slide.id)
                );
                let field = format!("slide {}, bin size", slide.id);
                return Err(InputError::in_flag("--bin-um", field, expected, format!("{side} µm")).into());
            }
            let summed = metadata.iter().any(|slide| (slide.bin_um / tile_um - 1.0).abs() > SAME_SIZE);
            let arms = arms.iter().map(|arm| arm.at(tile_um)).collect::<Result<Vec<_>>>()?;
            resolutions.push(Resolution { bin_um, tile_um, summed, arms });
        }
        let slides = metadata
            .into_iter()
            .map(|slide| {
                let counts_sha256 = dataset.counts_sha256(&slide.id)?;
                Ok(PlannedSlide { id: slide.id, patient: slide.patient, bin_um: slide.bin_um, counts_sha256 })
            })
            .collect::<Result<Vec<_>>>()?;
        let genes_sha256 = match data.gene_selection {
            GeneSelection::File => Some(sha256_file(Path::new(&data.gene_file))?),
            GeneSelection::HighestMean | GeneSelection::MostVariable => None,
        };
        Ok(Self {
            format: "magnet-plan",
            version: 1,
            command: match compared {
                Compared::Models(_) => Protocol::CrossValidate,
                Compared::Variants(_) => Protocol::Ablate,
            },
            dataset: args.data.clone(),
            slides,
            group: args.group,
            seed,
            folds,
            units: data.normalization.unit(),
            genes_sha256,
            encoder: args.settings.encoder.clone(),
            features: args.settings.features.clone(),
            resolutions,
        })
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.resolutions.iter().map(|resolution| resolution.arms.len()).sum::<usize>() * self.folds.len()
    }

    /// The slides that a fold trains on.
    pub fn training_slides(&self, fold: usize) -> Vec<String> {
        let held_out = self.folds.get(fold).map(Vec::as_slice).unwrap_or_default();
        self.slides.iter().map(|slide| slide.id.clone()).filter(|id| !held_out.contains(id)).collect()
    }

    /// Results without a row.
    pub fn empty_results(&self) -> Results {
        let dataset = self.dataset.display().to_string();
        Results::new(self.command, dataset, self.group, self.folds.len(), self.seed, self.units.to_owned())
    }

    /// What a table of the results should say about how they came about.
    pub fn notes(&self) -> Vec<String> {
        let Some(first) = self.resolutions.first().and_then(|resolution| resolution.arms.first()) else {
            return Vec::new();
        };
        let data = &first.config.data;
        let mut notes = vec![match data.gene_selection {
            GeneSelection::File => {
                format!("Genes: those of {}, the same in all folds and models.", data.gene_file)
            }
            rule => format!(
                "Genes: {} of {}, chosen in each fold on its training slides alone, so folds may score different genes; \
                 all models of a fold score the same.",
                data.genes,
                if rule == GeneSelection::MostVariable { "highest variance" } else { "highest mean" }
            ),
        }];
        for resolution in &self.resolutions {
            if resolution.summed {
                let (bin_um, tile_um) = (resolution.bin_um, resolution.tile_um);
                notes.push(match bin_um == tile_um {
                    true => format!("{bin_um} µm: finer bins brought together before anything else."),
                    false => {
                        format!("{bin_um} µm: finer bins brought together to tiles of {tile_um} µm before anything else.")
                    }
                });
            }
            for note in resolution.arms.iter().flat_map(|arm| &arm.notes) {
                let note = format!("{} µm: {note}.", resolution.bin_um);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    /// Writes the plan into the output folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomic(&folder.join(PLAN_FILE), &json, Overwrite::No)
    }

    /// Checks that the plan in the output folder is this one.
    ///
    /// # Errors
    /// When it is not, with the first setting that differs, or when it cannot be read.
    pub fn check_stored(&self, folder: &Path) -> Result<()> {
        let path = folder.join(PLAN_FILE);
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
        let stored = read(&read_limited(&path, MOST_BYTES)?)
            .map_err(|error| InputError::in_file(&path, "JSON", "the plan of a protocol", error))?;
        // Through text, as the stored one went.
        let own = read(&serde_json::to_vec(self)?)?;
        match difference(&stored, &own, "") {
            None => Ok(()),
            Some((field, stored, own)) => {
                let expected = format!("{stored}, as in the plan that --resume goes on with");
                Err(InputError::in_file(&path, field, expected, own).into())
            }
        }
    }
}

/// The dataset's own bin size, which must be the preset's too: another one has to be asked for.
fn own_resolution(slides: &[Metadata], arms: &[Arm]) -> Result<f64, InputError> {
    let own = slides.first().map_or(f64::NAN, |slide| slide.bin_um);
    let preset = arms.first().map_or(own, |arm| arm.config.model.levels.bin.tile_um);
    if (own / preset - 1.0).abs() <= SAME_SIZE {
        return Ok(own);
    }
    let presets = presets_for_bins(own);
    let hint =
        if presets.is_empty() { String::new() } else { format!("--preset {}, ", presets.join(" or ")) };
    let expected =
        format!("{preset} µm, for which the preset is ({hint}or --bin-um {own} to fit it to the slides)");
    Err(InputError::in_flag("--data", "bin size", expected, format!("{own} µm")))
}

/// How far bin sizes of one model may differ, as a fraction.
const SAME_SIZE: f64 = 0.01;

impl Arm {
    /// The arm for bins of `tile_um`.
    fn at(&self, tile_um: f64) -> Result<Self> {
        let (config, notes) = at_resolution(self.config.clone(), tile_um);
        config.model.validate().map_err(|error| {
            let field = format!("{} ({}) at {tile_um} µm, model.{}", self.model, self.variant, error.field);
            InputError::in_flag("--set", field, error.expected, error.found)
        })?;
        Ok(Self { config, notes, ..self.clone() })
    }
}

/// What is compared, with its settings at the preset's resolution.
fn arms(
    args: &ProtocolArgs,
    compared: &Compared<'_>,
    values: ValueKind,
    console: &Console,
) -> Result<Vec<Arm>> {
    let arm = |model: &str, variant: &str, folder: &str, config| Arm {
        model: model.into(),
        variant: variant.into(),
        folder: folder.into(),
        config,
        notes: Vec::new(),
    };
    let (flag, mut arms): (_, Vec<Arm>) = match compared {
        Compared::Models(models) => {
            let of_model =
                |name: &String| Ok(arm(name, FULL, name, train::config_from(&train_args(args, Some(name)))?));
            ("--models", models.iter().map(of_model).collect::<Result<_>>()?)
        }
        Compared::Variants(variants) => {
            let whole = train::config_from(&train_args(args, None))?;
            let model = model_name(whole.model.architecture);
            if whole.model.architecture != Architecture::Figure2 {
                let expected = "MagNet, whose parts can be taken away";
                return Err(InputError::in_flag("--preset", "model.architecture", expected, model).into());
            }
            let of_variant =
                |variant: &Variant| arm(model, variant.name(), variant.slug(), variant.of(whole.clone()));
            ("--variants", variants.iter().map(of_variant).collect())
        }
    };
    let mut seen: Vec<String> = Vec::new();
    for arm in &mut arms {
        if seen.contains(&arm.folder) {
            let found = format!("{} twice", arm.folder);
            return Err(InputError::in_flag(flag, "list", "each once", found).into());
        }
        // What has to be said about the values is said once for all.
        let console = if seen.is_empty() { *console } else { Console::quiet() };
        train::fit_to_values(&mut arm.config.data, values, &console)?;
        seen.push(arm.folder.clone());
    }
    Ok(arms)
}

/// The arguments of `train` that say what a protocol's do.
pub(super) fn train_args(args: &ProtocolArgs, model: Option<&str>) -> TrainArgs {
    TrainArgs {
        data: args.data.clone(),
        train: Vec::new(),
        valid: Vec::new(),
        out: args.out.clone(),
        settings: args.settings.clone(),
        model: model.map(str::to_owned),
        init: None,
        resume: false,
        dry_run: false,
        half: false,
        overwrite: false,
        device: args.device.clone(),
    }
}

fn sorted_once(ids: &[String]) -> Result<Vec<String>, InputError> {
    let mut sorted = ids.to_vec();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(InputError::in_flag("--slides", "slides", "each slide once", format!("{} twice", pair[0])))
        }
        None => Ok(sorted),
    }
}

fn ascending_once(sizes: &[f64]) -> Result<Vec<f64>, InputError> {
    let mut sorted = sizes.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(InputError::in_flag("--bin-um", "sizes", "each size once", format!("{} twice", pair[0])))
        }
        None => Ok(sorted),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} folds of whole {}s, seed {}:", self.folds.len(), self.group, self.seed)?;
        for (fold, held_out) in self.folds.iter().enumerate() {
            let training = self.training_slides(fold).join(", ");
            writeln!(f, "  fold {fold}: holds out {}; trains on {training}", held_out.join(", "))?;
        }
        for resolution in &self.resolutions {
            let arms: Vec<&str> = resolution.arms.iter().map(|arm| arm.folder.as_str()).collect();
            writeln!(f, "bins of {} µm: {}", resolution.bin_um, arms.join(", "))?;
        }
        for note in self.notes() {
            writeln!(f, "{note}")?;
        }
        write!(f, "{} runs in all", self.runs())
    }
}

#[cfg(test)]
impl Plan {
    /// A plan of these parts, for tests of what is done with one.
    pub(super) fn of_parts(folds: Vec<Vec<String>>, resolutions: Vec<Resolution>) -> Self {
        let slide = |id: &String| PlannedSlide {
            id: id.clone(),
            patient: None,
            bin_um: 8.0,
            counts_sha256: String::new(),
        };
        Self {
            format: "magnet-plan",
            version: 1,
            command: Protocol::CrossValidate,
            dataset: "data".into(),
            slides: folds.iter().flatten().map(slide).collect(),
            group: Group::Slide,
            seed: 0,
            folds,
            units: "log1p CP10K",
            genes_sha256: None,
            encoder: None,
            features: None,
            resolutions,
        }
    }
}
