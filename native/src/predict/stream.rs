//! A slide through a model: patches are read and decoded ahead of the device, pieces come out as they are finished.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use burn::tensor::Device;
use cubecl::future::block_on;
use magnet_core::coordinates::SlidePx;
use magnet_core::expression::Matrix;
use magnet_core::layout::SlideLayout;
use magnet_core::predict::{PatchRequest, Piece, PredictOptions, PredictRun, SlidePrediction};
use magnet_core::slide::{PatchReader, SlideError, SlideImage};

use super::faults::Faults;
use super::meter::Meter;
use crate::console::Console;
use crate::error::Interrupted;
use crate::interrupt;
use crate::model_file::ModelFile;
use crate::read_ahead::{Unreadable, read_ahead, read_patches};

/// What is predicted, with what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a ModelFile,
    /// The slide.
    pub slide: &'a (dyn PatchReader + Send),
    /// Where to predict.
    pub layout: &'a SlideLayout,
    /// Features of the spots and regions that were made before, where there are any.
    pub features: Option<(&'a Matrix, &'a Matrix)>,
    /// How to go through the slide.
    pub options: PredictOptions,
    /// The model's device.
    pub device: &'a Device,
    /// Where progress goes.
    pub console: &'a Console,
}

/// A run over a slide whose patches are read ahead.
pub struct Stream<'a> {
    job: Job<'a>,
    slide: Arc<SlideAhead<'a>>,
    /// The run, for whoever restores pieces or asks where they belong.
    pub run: PredictRun<Arc<SlideAhead<'a>>, &'a SlideLayout>,
}

impl<'a> Stream<'a> {
    /// Plans the run.
    ///
    /// # Errors
    /// If the slide cannot be read.
    pub fn new(job: Job<'a>) -> Result<Self> {
        let slide = Arc::new(SlideAhead { slide: job.slide, planned: Mutex::new(None) });
        let config = job.model.model.config();
        let run = PredictRun::new(config, Arc::clone(&slide), job.layout, job.options)?;
        Ok(Self { job, slide, run })
    }

    /// Runs to the end. What is finished goes to `finished`, which may end the run.
    ///
    /// With `faults`, patches that damage keeps from being read are noted there and the run goes on; without, the first
    /// is an error.
    ///
    /// # Errors
    /// What `finished` returns; [`Interrupted`]; a slide that cannot be read, a device that fails.
    pub fn drive(
        &mut self,
        faults: Option<&Faults>,
        mut finished: impl FnMut(&Piece) -> Result<()>,
    ) -> Result<()> {
        interrupt::watch();
        let Self { job, slide, run } = self;
        let wide = job.model.wide_source(job.features)?;
        let plan = run.patches_ahead(&job.model.model, wide)?;
        let mut meter = Meter::new(job, run.progress());
        let read = |request: PatchRequest| {
            let note = |patch: usize, error: &SlideError| {
                if let (Some(faults), Some(&node), Some(&center)) =
                    (faults, request.nodes.get(patch), request.centers_px.get(patch))
                {
                    faults.note(request.level, node, center, error);
                }
            };
            let note = faults.is_some().then_some(&note as &Unreadable<'_>);
            let patches =
                read_patches(job.slide, &request.centers_px, request.patch_um, request.patch_px, note);
            (request, patches)
        };
        let mut step = || -> Result<ControlFlow<()>> {
            if run.is_complete() {
                return Ok(ControlFlow::Break(()));
            }
            if interrupt::requested() {
                return Err(Interrupted("the prediction is not complete".into()).into());
            }
            if let Some(piece) = block_on(run.step(&job.model.model, wide, job.device))? {
                finished(&piece)?;
            }
            meter.show(run.progress());
            Ok(ControlFlow::Continue(()))
        };
        read_ahead(plan, read, |planned| {
            slide.plan(Some(planned));
            // A lost GPU ends in a panic somewhere in the driver; what is finished must not go with it.
            let done = catch_unwind(AssertUnwindSafe(|| {
                while step()?.is_continue() {}
                Ok(())
            }));
            slide.plan(None);
            done.unwrap_or_else(|panic| Err(anyhow!("the device failed: {}", panic_text(&*panic))))
        })
    }

    /// The prediction of a run that keeps its values.
    pub fn into_prediction(self) -> SlidePrediction {
        self.run.into_prediction()
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

type Planned = (PatchRequest, Result<Vec<u8>, SlideError>);

/// A slide whose next patches are on their way.
pub struct SlideAhead<'a> {
    slide: &'a (dyn PatchReader + Send),
    planned: Mutex<Option<Receiver<Planned>>>,
}

impl SlideAhead<'_> {
    fn plan(&self, planned: Option<Receiver<Planned>>) {
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = planned;
    }
}

impl PatchReader for SlideAhead<'_> {
    fn width_px(&self) -> u32 {
        self.slide.width_px()
    }

    fn height_px(&self) -> u32 {
        self.slide.height_px()
    }

    fn um_per_px(&self) -> f64 {
        self.slide.um_per_px()
    }

    fn read_patch(&self, at: SlidePx, side_um: f64, px: usize, out: &mut [u8]) -> Result<(), SlideError> {
        self.slide.read_patch(at, side_um, px, out)
    }

    fn thumbnail(&self, max_side_px: u32) -> Result<SlideImage, SlideError> {
        self.slide.thumbnail(max_side_px)
    }

    fn read_patches(&self, centers: &[SlidePx], side_um: f64, out_px: usize) -> Result<Vec<u8>, SlideError> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.as_ref().and_then(|planned| planned.recv().ok()) {
            Some((request, patches))
                if request.centers_px == centers
                    && request.patch_um == side_um
                    && request.patch_px == out_px =>
            {
                patches
            }
            // Not what was planned: slower, and right all the same.
            _ => read_patches(self.slide, centers, side_um, out_px, None),
        }
    }
}
