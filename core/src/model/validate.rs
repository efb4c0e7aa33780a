//! Refuses a configuration that cannot be built, with the field, what it must be and what it is.

use super::config::{Architecture, LossUnits, MagNetConfig, WideFeatures};
use crate::level::Level;

/// A configuration value that the model cannot be built with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration field `{field}`: expected {expected}, found {found}")]
pub struct ConfigError {
    /// Path of the field, as it stands in a configuration file.
    pub field: String,
    /// What the field must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

// A configuration also arrives inside model files, which may be hostile: the upper bounds keep the memory that a
// model asks for finite. They are far above any model that has been trained.
const MAX_WIDTH: usize = 16_384;
const MAX_GENES: usize = 100_000;
const MAX_LAYERS: usize = 64;
const MAX_HEADS: usize = 256;
const MAX_NEIGHBORS: usize = 256;
const MAX_FEATURES: usize = 1 << 20;
const MAX_PATCH_PX: usize = 4096;
const MAX_REFERENCES: usize = 1 << 20;
/// Of patches whose every pixel has weights of its own.
const MAX_FLATTENED_PATCH_PX: usize = 512;

impl MagNetConfig {
    /// Checks every field that the model is built from.
    ///
    /// # Errors
    /// The first field whose value is out of range, or that does not fit another field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_levels()?;
        whole("genes", self.genes, 1, MAX_GENES)?;
        whole("width", self.width, 1, MAX_WIDTH)?;
        whole("neighbors", self.neighbors, 1, MAX_NEIGHBORS)?;
        probability("head_dropout", self.head_dropout)?;

        let encoder = &self.patch_encoder;
        whole("patch_encoder.stages", encoder.stages, 1, 4)?;
        positive("patch_encoder.width_multiplier", encoder.width_multiplier, 16.0)?;
        probability("patch_encoder.dropout", encoder.dropout)?;
        match self.wide_features {
            WideFeatures::Shared => {}
            WideFeatures::Frozen { width } | WideFeatures::File { width } => {
                whole("wide_features.width", width, 1, MAX_FEATURES)?;
            }
        }

        heads("cross_level.heads", self.cross_level.heads, self.width)?;
        probability("cross_level.dropout", self.cross_level.dropout)?;
        whole("graph.layers", self.graph.layers, 1, MAX_LAYERS)?;
        heads("graph.heads", self.graph.heads, self.width)?;
        probability("graph.dropout", self.graph.dropout)?;
        whole("depth.layers", self.depth.layers, 1, MAX_LAYERS)?;
        heads("depth.heads", self.depth.heads, self.width)?;
        whole("depth.feed_forward", self.depth.feed_forward, 1, 64)?;
        probability("depth.dropout", self.depth.dropout)?;

        if self.architecture == Architecture::Published {
            self.validate_published()?;
        }
        if matches!(self.architecture, Architecture::HisToGene | Architecture::Hist2St) {
            whole("levels.bin.patch_px", self.levels.bin.patch_px, 1, MAX_FLATTENED_PATCH_PX)?;
        }
        let comparator = &self.comparator;
        positive("comparator.penalty", comparator.penalty, f64::MAX)?;
        whole("comparator.references", comparator.references, 1, MAX_REFERENCES)?;
        whole("comparator.nearest", comparator.nearest, 1, MAX_REFERENCES)?;
        positive("comparator.temperature", comparator.temperature, f64::MAX)?;
        if self.architecture.is_comparator() && self.wide_levels {
            let expected = format!("false, for architecture `{}`", self.architecture.name());
            return Err(refuse("wide_levels", expected, true));
        }

        let loss = &self.loss;
        for (field, weight) in [
            ("loss.mse_bin", loss.mse_bin),
            ("loss.pcc_bin", loss.pcc_bin),
            ("loss.mse_wide", loss.mse_wide),
            ("loss.pcc_wide", loss.pcc_wide),
            ("loss.consistency", loss.consistency),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(refuse(field, "a finite weight of at least 0", weight));
            }
        }
        Ok(())
    }

    /// What the released code cannot be without.
    fn validate_published(&self) -> Result<(), ConfigError> {
        for (field, enabled) in [
            ("wide_levels", self.wide_levels),
            ("cross_level.enabled", self.cross_level.enabled),
            ("graph.enabled", self.graph.enabled),
            ("depth.enabled", self.depth.enabled),
        ] {
            if !enabled {
                return Err(refuse(field, "true, for architecture `published`", enabled));
            }
        }
        // Its positional code is sized by the transformer's depth and added to one token per graph layer.
        if self.graph.layers != self.depth.layers {
            let expected = format!("graph.layers ({}), for architecture `published`", self.graph.layers);
            return Err(refuse("depth.layers", expected, self.depth.layers));
        }
        if self.loss.units != LossUnits::Label {
            return Err(refuse("loss.units", "`label`, for architecture `published`", "`standardized`"));
        }
        Ok(())
    }

    fn validate_levels(&self) -> Result<(), ConfigError> {
        for level in Level::ALL {
            let geometry = self.levels.get(level);
            positive(&format!("levels.{level}.tile_um"), geometry.tile_um, 1e6)?;
            positive(&format!("levels.{level}.patch_um"), geometry.patch_um, 1e6)?;
            whole(&format!("levels.{level}.patch_px"), geometry.patch_px, 1, MAX_PATCH_PX)?;
        }
        Ok(())
    }
}

fn refuse(field: &str, expected: impl Into<String>, found: impl ToString) -> ConfigError {
    ConfigError { field: field.to_owned(), expected: expected.into(), found: found.to_string() }
}

fn whole(field: &str, value: usize, low: usize, high: usize) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(refuse(field, format!("a whole number from {low} to {high}"), value))
    }
}

fn positive(field: &str, value: f64, high: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 && value <= high {
        Ok(())
    } else {
        Err(refuse(field, format!("a number above 0 and at most {high}"), value))
    }
}

fn probability(field: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(refuse(field, "a probability of at least 0 and below 1", value))
    }
}

fn heads(field: &str, heads: usize, width: usize) -> Result<(), ConfigError> {
    whole(field, heads, 1, MAX_HEADS)?;
    if width.is_multiple_of(heads) {
        Ok(())
    } else {
        Err(refuse(field, format!("a divisor of `width` {width}"), heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut MagNetConfig)) -> ConfigError {
        let mut config = MagNetConfig::default();
        change(&mut config);
        config.validate().expect_err("the configuration is wrong")
    }

    #[test]
    fn the_default_configuration_is_valid() {
        assert_eq!(MagNetConfig::default().validate(), Ok(()));
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused_by_name() {
        let error = refused(|config| config.graph.heads = 7);
        assert_eq!(
            error.to_string(),
            "configuration field `graph.heads`: expected a divisor of `width` 1024, found 7"
        );
        assert_eq!(refused(|config| config.cross_level.heads = 3).field, "cross_level.heads");
        assert_eq!(refused(|config| config.depth.heads = 0).field, "depth.heads");
    }

    #[test]
    fn zero_sizes_are_refused_by_name() {
        assert_eq!(refused(|config| config.genes = 0).field, "genes");
        assert_eq!(refused(|config| config.width = 0).field, "width");
        assert_eq!(refused(|config| config.neighbors = 0).field, "neighbors");
        assert_eq!(refused(|config| config.graph.layers = 0).field, "graph.layers");
        assert_eq!(refused(|config| config.depth.layers = 0).field, "depth.layers");
        assert_eq!(refused(|config| config.depth.feed_forward = 0).field, "depth.feed_forward");
        assert_eq!(refused(|config| config.levels.spot.patch_px = 0).field, "levels.spot.patch_px");
        assert_eq!(
            refused(|config| config.wide_features = WideFeatures::Frozen { width: 0 }).field,
            "wide_features.width"
        );
    }

    #[test]
    fn sizes_that_would_exhaust_memory_are_refused() {
        assert_eq!(refused(|config| config.width = 1 << 40).field, "width");
        assert_eq!(refused(|config| config.graph.layers = usize::MAX).field, "graph.layers");
        assert_eq!(
            refused(|config| config.patch_encoder.width_multiplier = 1e9).field,
            "patch_encoder.width_multiplier"
        );
    }

    #[test]
    fn patches_that_are_flattened_are_bounded_more_closely() {
        for architecture in [Architecture::HisToGene, Architecture::Hist2St] {
            let error = refused(|config| {
                (config.architecture, config.wide_levels) = (architecture, false);
                config.levels.bin.patch_px = 1024;
            });
            assert_eq!((error.field.as_str(), error.found.as_str()), ("levels.bin.patch_px", "1024"));
        }
    }

    #[test]
    fn probabilities_and_weights_must_be_in_range_and_numbers() {
        assert_eq!(refused(|config| config.cross_level.dropout = 1.0).field, "cross_level.dropout");
        assert_eq!(refused(|config| config.head_dropout = f64::NAN).field, "head_dropout");
        assert_eq!(refused(|config| config.loss.mse_bin = -1.0).field, "loss.mse_bin");
        assert_eq!(refused(|config| config.loss.consistency = f64::INFINITY).field, "loss.consistency");
        assert_eq!(refused(|config| config.levels.bin.tile_um = f64::NAN).field, "levels.bin.tile_um");
        assert_eq!(refused(|config| config.patch_encoder.stages = 5).field, "patch_encoder.stages");
    }
}
