//! What the paper takes away from MagNet to see what each part gives.

use clap::ValueEnum;

use super::results::FULL;
use crate::config::RunConfig;

/// MagNet, whole or without one of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Variant {
    /// Everything
    Full,
    /// Without attention of bins over the wider tiles
    NoCrossLevel,
    /// Without graph attention among neighbours
    NoGraph,
    /// Without the transformer over the graph's layers
    NoDepth,
    /// Without the loss term that holds levels to each other
    NoConsistency,
    /// Bins alone, without the wider levels
    SingleLevel,
}

impl Variant {
    /// The variant in words, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Full => FULL,
            Variant::NoCrossLevel => "without cross-level attention",
            Variant::NoGraph => "without graph",
            Variant::NoDepth => "without depth transformer",
            Variant::NoConsistency => "without consistency",
            Variant::SingleLevel => "single level",
        }
    }

    /// The variant as it stands on the command line and in the names of folders.
    pub fn slug(self) -> &'static str {
        match self {
            Variant::Full => "full",
            Variant::NoCrossLevel => "no-cross-level",
            Variant::NoGraph => "no-graph",
            Variant::NoDepth => "no-depth",
            Variant::NoConsistency => "no-consistency",
            Variant::SingleLevel => "single-level",
        }
    }

    /// The configuration without the part.
    pub fn of(self, mut config: RunConfig) -> RunConfig {
        let model = &mut config.model;
        match self {
            Variant::Full => {}
            Variant::NoCrossLevel => model.cross_level.enabled = false,
            Variant::NoGraph => model.graph.enabled = false,
            Variant::NoDepth => model.depth.enabled = false,
            Variant::NoConsistency => model.loss.consistency = 0.0,
            Variant::SingleLevel => model.wide_levels = false,
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variant_is_a_configuration_of_its_own_that_can_be_built() {
        let full = RunConfig::preset("paper").unwrap();
        let mut seen = Vec::new();
        for variant in Variant::value_variants() {
            let config = variant.of(full.clone());
            config.model.validate().unwrap();
            assert_eq!(config == full, *variant == Variant::Full);
            assert!(!seen.contains(&config.to_toml().unwrap()), "{variant:?}");
            seen.push(config.to_toml().unwrap());
            assert_eq!(variant.to_possible_value().unwrap().get_name(), variant.slug());
        }
    }
}
