//! Which model a run trains: MagNet, the released code, or one that they are compared with.

use magnet_core::comparator::RIDGE_PATCH_PX;
use magnet_core::model::{Architecture, ConsistencyTarget, LossConfig, LossUnits};

use super::RunConfig;
use crate::error::InputError;

/// Names of the models with what each is. The first is the default.
pub const MODELS: [(&str, &str); 9] = [
    ("magnet", "MagNet, as in the paper's Figure 2"),
    ("published", "MagNet as its authors' released code runs it"),
    ("mean", "the training mean of each gene"),
    ("ridge", "ridge regression on colour and texture statistics of the patch"),
    ("stnet", "ST-Net: a convolutional network and a linear map"),
    ("bleep", "BLEEP: contrastive learning of image and expression, and retrieval"),
    ("egn", "EGN: a vision transformer that training bins of alike tissue guide"),
    ("histogene", "HisToGene: a transformer over the spots of a block"),
    ("hist2st", "Hist2ST: a Convmixer, a transformer over the spots of a block, and a graph network"),
];

/// The architecture behind a name.
fn architecture(name: &str) -> Result<Architecture, InputError> {
    if let Some((magnet, _)) = MODELS.first()
        && *magnet == name
    {
        return Ok(Architecture::Figure2);
    }
    let known =
        |architecture: &&Architecture| **architecture != Architecture::Figure2 && architecture.name() == name;
    Architecture::ALL.iter().find(known).copied().ok_or_else(|| {
        let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
        InputError::in_flag("--model", "model", format!("one of {}", names.join(", ")), name)
    })
}

/// The name of an architecture in tables and on the command line.
pub fn model_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Figure2 => "magnet",
        other => other.name(),
    }
}

impl RunConfig {
    /// The configuration for another model: the same data, labels, genes and schedule, and of the model's own settings
    /// those that it cannot be without.
    ///
    /// # Errors
    /// If there is no model of this name.
    pub fn with_model(mut self, name: &str) -> Result<Self, InputError> {
        let model = &mut self.model;
        model.architecture = architecture(name)?;
        match model.architecture {
            Architecture::Figure2 => {}
            Architecture::Published => {
                // One transformer reads as many tokens as it has layers.
                model.depth.layers = model.graph.layers;
                model.loss = LossConfig {
                    mse_wide: 0.0,
                    consistency_with: ConsistencyTarget::BinLabels,
                    units: LossUnits::Label,
                    ..model.loss.clone()
                };
            }
            _ => {
                model.wide_levels = false;
                model.loss = LossConfig {
                    mse_bin: 1.0,
                    pcc_bin: 0.0,
                    mse_wide: 0.0,
                    pcc_wide: 0.0,
                    consistency: 0.0,
                    ..model.loss.clone()
                };
            }
        }
        if model.architecture == Architecture::Ridge {
            model.levels.bin.patch_um = model.levels.spot.patch_um;
            model.levels.bin.patch_px = RIDGE_PATCH_PX;
        }
        if model.architecture == Architecture::Egn {
            // Two bridges at the least: one layer would leave nothing for exemplars to revise.
            model.depth.layers = model.depth.layers.max(4);
            model.comparator.nearest = 9;
        }
        Ok(self)
    }
}
