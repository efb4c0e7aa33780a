//! One encoder alone, timed beside other runtimes by `tests/bench/browser`. Behind the feature `bench`, so in no engine
//! that visitors load.

use magnet_core::batch::{LevelInput, patches_from_rgb};
use magnet_core::model::FrozenEncoder;
use magnet_core::predict::PredictError;
use magnet_core::{ExpressionModel, Level};

use super::device::EngineDevice;
use super::error::EngineError;
use super::model::OpenModel;
use crate::protocol::DeviceChoice;

/// An encoder on a device, as a run opens it.
#[derive(Debug)]
pub struct BenchEncoder {
    device: EngineDevice,
    network: Network,
}

#[derive(Debug)]
enum Network {
    /// The bin encoder of a bundle.
    Bundle(Box<OpenModel>),
    /// The encoder of the wide levels.
    Frozen(FrozenEncoder),
}

impl BenchEncoder {
    /// Opens a device and an encoder on it: a bundle's, or where `frozen` is set that of a torchvision file.
    ///
    /// # Errors
    /// If the device does not open, or the bytes are no such weights.
    pub async fn open(choice: DeviceChoice, weights: Vec<u8>, frozen: bool) -> Result<Self, EngineError> {
        let device = EngineDevice::choose(choice, |_| ()).await?;
        let network = if frozen {
            let encoder = FrozenEncoder::from_safetensors(weights, device.burn());
            Network::Frozen(encoder.map_err(|error| EngineError::input(error.to_string()))?)
        } else {
            Network::Bundle(Box::new(OpenModel::read(&weights, "model".into(), &device)?))
        };
        Ok(Self { device, network })
    }

    /// Reads patches as a step of a run does, and brings the vectors back.
    ///
    /// # Shapes
    /// - `rgb`: `[N,P,P,3]`, `P` being `side_px`
    /// - output: `[N,D]`, or `[N,F]` of a frozen encoder
    ///
    /// # Errors
    /// If the patches are not of that side, or the device fails.
    pub async fn encode(&self, rgb: &[u8], side_px: usize) -> Result<Vec<f32>, EngineError> {
        let patches = rgb.len() / (3 * side_px * side_px).max(1);
        self.device
            .guarded(async {
                let patches = patches_from_rgb(rgb, patches, side_px, self.device.burn())
                    .map_err(PredictError::from)?;
                let vectors = match &self.network {
                    Network::Bundle(open) => open
                        .model
                        .encode(Level::Bin, &LevelInput::Patches(patches))
                        .map_err(PredictError::from)?,
                    Network::Frozen(encoder) => encoder.features(patches),
                };
                let unread = |error: String| EngineError::internal(error);
                let data = vectors.into_data_async().await.map_err(|error| unread(error.to_string()))?;
                data.try_into_vec_as::<f32>().map_err(|error| unread(format!("{error:?}")))
            })
            .await
    }
}
