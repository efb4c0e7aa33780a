//! The engine: holds the device, the model, the image and the run, and knows neither page nor screen.
//!
//! [`Engine`] is the whole of it. One door leads to it: [`worker`] speaks the protocol of [`crate::protocol`], with our own
//! page and with `engine.js`, the class for pages of others.

mod adapter;
#[cfg(feature = "bench")]
mod bench;
mod device;
mod error;
mod export;
mod faults;
mod image;
mod model;
mod rates;
mod run;
mod signal;
pub mod worker;

use std::sync::Arc;

use magnet_core::Level;
use magnet_core::predict::Piece;

#[cfg(feature = "bench")]
pub use bench::BenchEncoder;
pub use device::EngineDevice;
pub use error::EngineError;
pub use export::{ExportOptions, ExportedFile};
pub use faults::FaultHandler;
pub use image::{OpenImage, Preview};
pub use model::OpenModel;
pub use run::{Finished, GeneValues, Plan, Step};

use crate::protocol::{
    BatchLimits, DeviceChoice, DeviceReport, ImageSummary, ModelSummary, RegionFrame, RunProgress,
};
use rates::Rates;
use run::{Ground, Run};

/// A model, an image and a run on one device.
#[derive(Debug)]
pub struct Engine {
    device: EngineDevice,
    model: Option<OpenModel>,
    image: Option<OpenImage>,
    /// Where the nodes lie for this model on this image, once that has been looked for.
    ground: Option<Arc<Ground>>,
    /// How fast this model is on this device, once that has been measured.
    rates: Option<Rates>,
    /// Pieces of an earlier run, which the next one begins with.
    restored: Vec<Piece>,
    /// The run that goes on, or the last one.
    run: Option<Run>,
}

impl Engine {
    /// Chooses and opens a device. `on_fault` hears of a device that is lost or out of memory, also between calls.
    ///
    /// # Errors
    /// [`crate::protocol::ErrorCode::NoDevice`] where a GPU was insisted on and none can be used.
    pub async fn start(choice: DeviceChoice, on_fault: FaultHandler) -> Result<Self, EngineError> {
        let device = EngineDevice::choose(choice, on_fault).await?;
        Ok(Self {
            device,
            model: None,
            image: None,
            ground: None,
            rates: None,
            restored: Vec::new(),
            run: None,
        })
    }

    /// Which device computes, and why.
    pub fn device(&self) -> &DeviceReport {
        self.device.report()
    }

    /// Reads a bundle and puts its model on the device. The model that was open before and its results are gone, also
    /// where the new one is refused.
    ///
    /// # Errors
    /// If the bytes are no bundle of this version, or the device has no room for it.
    pub async fn open_model(&mut self, bytes: &[u8], name: String) -> Result<&ModelSummary, EngineError> {
        self.forget_run();
        (self.model, self.rates) = (None, None);
        self.device.free_unused();
        let model = self.device.guarded(async { OpenModel::read(bytes, name, &self.device) }).await?;
        Ok(&self.model.insert(model).summary)
    }

    /// Decodes an image. The image that was open before and its results are gone, also where the new one is refused.
    ///
    /// # Errors
    /// If the bytes are no image that is read here, or one beyond the limits.
    pub fn open_image(
        &mut self,
        bytes: Vec<u8>,
        name: String,
        um_per_px: Option<f64>,
    ) -> Result<(ImageSummary, Preview), EngineError> {
        self.close_image();
        let image = OpenImage::read(&bytes, name, um_per_px)?;
        // The preview needs room of its own.
        drop(bytes);
        let preview = image.preview()?;
        let summary = image.summary((preview.width_px, preview.height_px));
        self.image = Some(image);
        Ok((summary, preview))
    }

    /// Gives the open image's memory back.
    pub fn close_image(&mut self) {
        self.forget_run();
        self.image = None;
    }

    /// Takes a region of a slide as the image. What was open before is gone, also where this is refused.
    ///
    /// # Errors
    /// If there are not as many pixels as the sides need.
    pub fn open_pixels(
        &mut self,
        rgb: Vec<u8>,
        name: String,
        size_px: (u32, u32),
        um_per_px: f64,
        frame: RegionFrame,
    ) -> Result<ImageSummary, EngineError> {
        self.close_image();
        let image = self.image.insert(OpenImage::from_pixels(rgb, name, size_px, um_per_px, frame)?);
        Ok(image.summary((0, 0)))
    }

    /// Settles the pixel size of the open image, in µm; results that rest on another one are gone.
    ///
    /// # Errors
    /// If no image is open, or no microscope image has pixels of that size.
    pub fn set_pixel_size(&mut self, um_per_px: f64) -> Result<ImageSummary, EngineError> {
        self.forget_run();
        let image = self.image.as_mut().ok_or_else(|| EngineError::state("an open image", "none"))?;
        image.set_pixel_size(um_per_px)?;
        Ok(image.summary((0, 0)))
    }

    /// Takes a piece of an earlier run over into the next one.
    ///
    /// # Errors
    /// If the bytes are no piece.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.restored.push(Piece::from_bytes(bytes)?);
        Ok(())
    }

    /// Lays a run out and takes the restored pieces over. The future may be dropped; then there is no run.
    ///
    /// # Errors
    /// If the model or the image is missing, or there is no tissue on the image.
    pub async fn plan(&mut self, limits: BatchLimits) -> Result<Plan, EngineError> {
        self.run = None;
        let restored = std::mem::take(&mut self.restored);
        let model = self.model.as_ref().ok_or_else(|| EngineError::state("an open model", "none"))?;
        let image = self.image.as_ref().ok_or_else(|| EngineError::state("an open image", "none"))?;
        let ground = match &self.ground {
            Some(ground) => Arc::clone(ground),
            None => Arc::clone(self.ground.insert(Arc::new(Ground::find(model, image).await?))),
        };
        let plan = ground.plan(image.region());
        self.run = Some(Run::new(model, image, ground, &self.device, limits, restored)?);
        Ok(plan)
    }

    /// How many seconds are left of the planned run. The first time for a model this measures the device, and sizes
    /// the batches after it. The future may be dropped; then the batches have their largest size.
    ///
    /// # Errors
    /// If nothing is planned, or the device fails.
    pub async fn estimate(&mut self) -> Result<f64, EngineError> {
        let (Some(model), Some(image), Some(run)) = (&self.model, &self.image, &mut self.run) else {
            return Err(EngineError::state("a planned run", "none"));
        };
        if run.is_complete() {
            return Ok(0.0);
        }
        let rates = match self.rates {
            Some(rates) => rates,
            None => {
                let layout = &run.ground.layout;
                let rates = Rates::measure(model, image.slide()?, layout, &self.device, run.limits()).await?;
                *self.rates.insert(rates)
            }
        };
        Ok(run.use_rates(model, &self.device, &rates))
    }

    /// Does one piece of the planned run's work. The future may be dropped; then that piece is not done.
    ///
    /// # Errors
    /// If nothing is planned, or the device fails. What a failing device made of the run cannot be trusted, so the run
    /// is gone then; its pieces are good.
    pub async fn step(&mut self) -> Result<Step, EngineError> {
        let (Some(model), Some(run)) = (&self.model, &mut self.run) else {
            return Err(EngineError::state("a planned run", "none"));
        };
        let step = run.step(model, &self.device).await;
        if step.is_err() {
            self.run = None;
        }
        step
    }

    /// How far the run has come; nothing without a run.
    pub fn progress(&self) -> RunProgress {
        self.run.as_ref().map(Run::progress).unwrap_or_default()
    }

    /// Whether there is a run, and nothing of it is left to do.
    pub fn is_complete(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_complete)
    }

    /// What the run has come to.
    ///
    /// # Errors
    /// If nothing was planned.
    pub fn finish(&self) -> Result<Finished, EngineError> {
        self.device.free_unused();
        let run = self.run.as_ref().ok_or_else(|| EngineError::state("a planned run", "none"))?;
        Ok(run.finished())
    }

    /// The values of one gene, as far as the run has come.
    ///
    /// # Errors
    /// If there is no run, or the model has no such level or gene.
    pub fn values(&self, level: Level, gene: usize) -> Result<GeneValues, EngineError> {
        let (Some(model), Some(run)) = (&self.model, &self.run) else {
            return Err(EngineError::state("a prediction", "none"));
        };
        run.values(model, level, gene)
    }

    /// Makes a file of the prediction, as far as it has come.
    ///
    /// # Errors
    /// If there is no run, the model has no such level or gene, or the file cannot be made.
    pub fn export(&self, options: &ExportOptions) -> Result<ExportedFile, EngineError> {
        match (&self.model, &self.image, &self.run) {
            (Some(model), Some(image), Some(run)) => export::export(model, image, run, options),
            _ => Err(EngineError::state("a prediction", "none")),
        }
    }

    fn forget_run(&mut self) {
        self.run = None;
        self.ground = None;
        self.restored.clear();
    }
}
