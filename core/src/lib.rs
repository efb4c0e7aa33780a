//! MagNet, the multi-level attention graph network of Zhu et al. (MIDL 2025, arXiv 2502.21011), which predicts
//! gene expression at high resolution from an H&E image.
//!
//! The figure in words: the tissue is read at three levels at once. A **bin** (8 or 16 µm, or a 55-100 µm spot) is
//! encoded by a trainable ResNet; it attends to the **spot** tile and the **region** tile that hold it and to their
//! neighbours; every level is mixed over its spatial graph; a transformer reads the graph's layers in depth; one head
//! per level predicts the genes, and a consistency term ties the levels together.
//!
//! Everything that must be identical on a workstation GPU, on a CPU and in a browser tab lives here. The crate has no
//! file system, network, clock, global random numbers or threads, and it never chooses a device.
//!
//! # Shape alphabet
//! `B` bins · `S` spots · `R` regions · `N` nodes of one level · `D` feature width · `F` width of frozen features ·
//! `K` graph neighbours · `T` graph depth · `H` attention heads · `G` genes · `P` patch side in pixels.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod anndata;
#[cfg(feature = "model")]
pub mod batch;
#[cfg(feature = "model")]
pub mod bundle;
#[cfg(feature = "comparators")]
pub mod comparator;
pub mod coordinates;
pub mod digest;
pub mod expression;
pub mod gene_panel;
pub mod hdf5;
pub mod heatmap;
pub mod layout;
pub mod level;
#[cfg(feature = "model")]
pub mod loss;
#[cfg(feature = "model")]
pub mod map;
pub mod metrics;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "model")]
pub mod module_path;
pub mod neighbor_graph;
#[cfg(feature = "model")]
pub mod predict;
pub mod random;
pub mod slide;
pub mod tiff;
#[cfg(feature = "model")]
pub mod weights;

#[cfg(feature = "model")]
pub use batch::MagNetBatch;
#[cfg(feature = "model")]
pub use bundle::Bundle;
pub use gene_panel::GenePanel;
pub use level::{Level, LevelGeometry, PerLevel};
#[cfg(feature = "model")]
pub use model::{ExpressionModel, MagNet, MagNetConfig, Model};
