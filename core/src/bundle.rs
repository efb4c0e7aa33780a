//! The model file: one `.safetensors` with everything a prediction needs.

/// A trained model with its configuration, genes, normalisation, held-out scores and provenance.
#[derive(Debug)]
pub struct Bundle;
