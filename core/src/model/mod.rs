//! The model, one file per box of the paper's Figure 2.

mod config;

pub use config::{
    CrossLevelConfig, DepthConfig, GraphAttentionKind, GraphConfig, LossConfig, LossUnits, MagNetConfig,
    PatchEncoderConfig, Pooling, ResNetDepth, WideFeatures,
};

/// The model.
#[derive(Debug)]
pub struct MagNet;
