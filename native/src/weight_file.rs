//! Weight files of other programs: safetensors, and what PyTorch's `torch.save` writes, read without running any of it.

use std::path::Path;

use burn_store::PytorchStore;
use magnet_core::model::{WeightMap, WeightsError, read_safetensors, weights_from_store};

use crate::error::InputError;
use crate::files::read_limited;

/// Largest accepted weight file: a ResNet-152 has 0.24 GB, the released model 0.5 GB.
pub const LIMIT_BYTES: u64 = 4 << 30;

/// Under which a checkpoint keeps its state dict beside other things.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Reads the floating-point tensors of a `.safetensors`, `.pth` or `.pt` file as `f32`, under their own names. A state
/// dict that lies in a checkpoint (`state_dict`, `model_state_dict`, `model`) is taken out of it.
///
/// # Errors
/// If the file cannot be read, is larger than [`LIMIT_BYTES`], or holds something else.
pub fn read(path: &Path) -> anyhow::Result<WeightMap> {
    let wrong = |error: WeightsError| InputError::in_file(path, "weights", "tensors by name", error);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Ok(read_safetensors(read_limited(path, LIMIT_BYTES)?).map_err(wrong)?),
        Some("pth" | "pt") => Ok(read_pytorch(path)?),
        other => {
            let found = other.map_or("no extension".into(), |extension| format!(".{extension}"));
            let expected = ".safetensors, .pth or .pt";
            Err(InputError::in_file(path, "file name", expected, found).into())
        }
    }
}

fn read_pytorch(path: &Path) -> Result<WeightMap, InputError> {
    let size = std::fs::metadata(path).map(|file| file.len());
    match size {
        Ok(size) if size <= LIMIT_BYTES => {}
        Ok(size) => {
            let expected = format!("at most {LIMIT_BYTES} bytes");
            return Err(InputError::in_file(path, "size", expected, format!("{size} bytes")));
        }
        Err(error) => return Err(InputError::in_file(path, "weights", "a readable file", error)),
    }
    // Indices of layers stay as they are: a name must be the file's own.
    let store = || PytorchStore::from_file(path).map_indices_contiguous(false);
    for key in NESTED {
        if let Ok(weights) = weights_from_store(&mut store().with_top_level_key(key))
            && !weights.is_empty()
        {
            return Ok(weights);
        }
    }
    weights_from_store(&mut store())
        .map_err(|error| InputError::in_file(path, "weights", "a state dict saved by PyTorch", error))
}
