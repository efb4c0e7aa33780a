//! The engine as a JavaScript class, for a page or worker that has no use for ours. It computes in the thread that it
//! is created in: on the CPU that thread is busy between the steps of a run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Float32Array, Function, Promise, Reflect, Uint8Array};
use magnet_web::engine::{Engine, EngineError, ExportOptions, now_ms, report_panics, yield_to_events};
use magnet_web::magnet_core::{Level, PerLevel};
use magnet_web::protocol::{
    BatchLimits, DeviceChoice, DrawStyle, ExportKind, ImageSummary, ModelSummary, RunProgress,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;
use web_sys::AbortSignal;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct EngineOptions {
    device: DeviceChoice,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressReport {
    done: usize,
    total: usize,
    bins_done: usize,
    bins_total: usize,
    estimated_s: f64,
}

#[derive(Serialize)]
struct RunResult {
    complete: bool,
    seconds: f64,
    nodes: PerLevel<usize>,
    deviation: PerLevel<Vec<f32>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct FileOptions {
    level: Option<Level>,
    genes: Vec<usize>,
    style: Option<DrawStyle>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    name: String,
    media_type: &'static str,
}

/// Predicts gene expression from an H&E image, on this machine alone.
#[wasm_bindgen]
pub struct MagnetEngine {
    shared: Rc<Shared>,
}

struct Shared {
    /// Taken out while a promise of this engine is at work on it; gone for good after `free`.
    engine: RefCell<Option<Engine>>,
    closed: Cell<bool>,
}

#[wasm_bindgen]
impl MagnetEngine {
    /// Chooses and opens a device.
    #[wasm_bindgen(unchecked_return_type = "Promise<MagnetEngine>")]
    pub fn create(
        #[wasm_bindgen(unchecked_param_type = "EngineOptions | undefined")] options: JsValue,
    ) -> Promise {
        report_panics();
        future_to_promise(async move {
            let options: EngineOptions = read_or_default(&options, "create")?;
            // A fault between calls is the error of the next call.
            let engine = Engine::start(options.device, |_| ()).await.map_err(to_js)?;
            let shared = Rc::new(Shared { engine: RefCell::new(Some(engine)), closed: Cell::new(false) });
            Ok(Self { shared }.into())
        })
    }

    /// Which device computes, and why.
    #[wasm_bindgen(getter, unchecked_return_type = "DeviceReport")]
    pub fn device(&self) -> Result<JsValue, JsValue> {
        self.shared.look(|engine| write(engine.device()))
    }

    /// Opens a bundle that `magnet-native train` wrote.
    #[wasm_bindgen(js_name = openModel, unchecked_return_type = "Promise<ModelSummary>")]
    pub fn open_model(&self, bytes: Uint8Array, name: String) -> Promise {
        self.shared.work(async move |engine| {
            let summary: &ModelSummary = engine.open_model(&bytes.to_vec(), name).await.map_err(to_js)?;
            write(summary)
        })
    }

    /// Opens a PNG, JPEG or TIFF. `umPerPx` goes before the pixel size that the file gives.
    #[wasm_bindgen(js_name = openImage, unchecked_return_type = "Promise<ImageSummary>")]
    pub fn open_image(
        &self,
        bytes: Uint8Array,
        name: String,
        #[wasm_bindgen(js_name = umPerPx)] um_per_px: Option<f64>,
    ) -> Promise {
        self.shared.work(async move |engine| {
            let (summary, preview): (ImageSummary, _) =
                engine.open_image(bytes.to_vec(), name, um_per_px).map_err(to_js)?;
            with_field(write(&summary)?, "preview", Uint8Array::from(preview.rgba.as_slice()).into())
        })
    }

    /// Settles the pixel size of the open image, in µm.
    #[wasm_bindgen(js_name = setPixelSize, unchecked_return_type = "Promise<ImageSummary>")]
    pub fn set_pixel_size(&self, #[wasm_bindgen(js_name = umPerPx)] um_per_px: f64) -> Promise {
        self.shared.work(async move |engine| write(&engine.set_pixel_size(um_per_px).map_err(to_js)?))
    }

    /// Predicts the open image with the open model.
    #[wasm_bindgen(unchecked_return_type = "Promise<PredictResult>")]
    pub fn predict(
        &self,
        #[wasm_bindgen(unchecked_param_type = "PredictOptions | undefined")] options: JsValue,
    ) -> Promise {
        let shared = Rc::clone(&self.shared);
        future_to_promise(async move { predict(&shared, &PredictOptions::read(&options)?).await })
    }

    /// The values of a gene at a level, in the order of `centersPx`; NaN where nothing is predicted.
    pub fn values(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Level")] level: JsValue,
        gene: usize,
    ) -> Result<Float32Array, JsValue> {
        let level: Level = read(&level, "level")?;
        self.shared.look(|engine| {
            let found = engine.values(level, gene).map_err(to_js)?;
            Ok(Float32Array::from(found.values.as_slice()))
        })
    }

    /// Makes a file of the prediction.
    #[wasm_bindgen(unchecked_return_type = "ExportedFile")]
    pub fn export(
        &self,
        #[wasm_bindgen(unchecked_param_type = "ExportKind")] kind: JsValue,
        #[wasm_bindgen(unchecked_param_type = "ExportOptions | undefined")] options: JsValue,
    ) -> Result<JsValue, JsValue> {
        let kind: ExportKind = read(&kind, "kind")?;
        let FileOptions { level, mut genes, style } = read_or_default(&options, "export")?;
        if genes.is_empty() && kind != ExportKind::Geojson {
            genes.push(0);
        }
        let options = ExportOptions { kind, level: level.unwrap_or(Level::Bin), genes, style };
        self.shared.look(|engine| {
            let file = engine.export(&options).map_err(to_js)?;
            let report = write(&FileReport { name: file.name, media_type: file.media_type })?;
            with_field(report, "bytes", Uint8Array::from(file.bytes.as_slice()).into())
        })
    }
}

impl Drop for MagnetEngine {
    /// `free()` of JavaScript: gives the device and its memory back, after what is at work on it.
    fn drop(&mut self) {
        self.shared.closed.set(true);
        if let Some(engine) = self.shared.engine.take() {
            engine.close();
        }
    }
}

impl Shared {
    /// Looks at the engine between other work.
    fn look<T>(&self, look: impl FnOnce(&Engine) -> Result<T, JsValue>) -> Result<T, JsValue> {
        match &*self.engine.borrow() {
            Some(engine) => look(engine),
            None => Err(self.away()),
        }
    }

    /// Works on the engine; meanwhile nobody else can.
    fn work(
        self: &Rc<Self>,
        work: impl AsyncFnOnce(&mut Engine) -> Result<JsValue, JsValue> + 'static,
    ) -> Promise {
        let shared = Rc::clone(self);
        future_to_promise(async move { shared.lend(work).await })
    }

    async fn lend<T>(&self, work: impl AsyncFnOnce(&mut Engine) -> Result<T, JsValue>) -> Result<T, JsValue> {
        let Some(mut engine) = self.engine.take() else { return Err(self.away()) };
        let result = work(&mut engine).await;
        if self.closed.get() {
            engine.close();
        } else {
            self.engine.replace(Some(engine));
        }
        result
    }

    fn away(&self) -> JsValue {
        let found =
            if self.closed.get() { "one that was freed" } else { "one that is at work on another call" };
        to_js(EngineError::state("an engine that waits", found))
    }
}

/// What `predict` is given. Functions and signals are not data, so they are read by hand.
struct PredictOptions {
    on_progress: Option<Function>,
    signal: Option<AbortSignal>,
    limits: BatchLimits,
}

impl PredictOptions {
    fn read(options: &JsValue) -> Result<Self, JsValue> {
        let field = |name: &str| Reflect::get(options, &name.into()).unwrap_or(JsValue::UNDEFINED);
        let number = |name: &str| read_or_default::<Option<usize>>(&field(name), name);
        let defaults = BatchLimits::default();
        Ok(Self {
            on_progress: field("onProgress").dyn_into().ok(),
            signal: field("signal").dyn_into().ok(),
            limits: BatchLimits {
                block_bins: number("blockBins")?.unwrap_or(defaults.block_bins),
                chunk_pixels: number("chunkPixels")?.unwrap_or(defaults.chunk_pixels),
            },
        })
    }

    fn aborted(&self) -> bool {
        self.signal.as_ref().is_some_and(AbortSignal::aborted)
    }
}

async fn predict(shared: &Shared, options: &PredictOptions) -> Result<JsValue, JsValue> {
    let began = now_ms();
    let plan = shared.lend(async |engine| engine.plan(options.limits).await.map_err(to_js)).await?;
    let estimated_s = shared.lend(async |engine| engine.estimate().await.map_err(to_js)).await?;
    let mut complete = false;
    while !complete && !options.aborted() {
        let step = shared.lend(async |engine| engine.step().await.map_err(to_js)).await?;
        complete = step.complete;
        if let Some(on_progress) = &options.on_progress {
            let RunProgress { done, total, bins_done, bins_total } = step.progress;
            let report = ProgressReport { done, total, bins_done, bins_total, estimated_s };
            on_progress.call1(&JsValue::UNDEFINED, &write(&report)?)?;
        }
        yield_to_events().await;
    }
    let finished = shared.look(|engine| engine.finish().map_err(to_js))?;
    let result = RunResult {
        complete: finished.complete,
        seconds: (now_ms() - began) / 1000.0,
        nodes: plan.nodes,
        deviation: finished.deviation,
    };
    with_field(write(&result)?, "centersPx", Float32Array::from(plan.centers_px.as_slice()).into())
}

fn write(value: &impl Serialize) -> Result<JsValue, JsValue> {
    Ok(serde_wasm_bindgen::to_value(value)?)
}

/// An argument.
fn read<T: DeserializeOwned>(value: &JsValue, name: &str) -> Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value.clone())
        .map_err(|error| to_js(EngineError::input(format!("{name}: {error}"))))
}

/// An argument that may be left out.
fn read_or_default<T: DeserializeOwned + Default>(value: &JsValue, name: &str) -> Result<T, JsValue> {
    if value.is_undefined() || value.is_null() { Ok(T::default()) } else { read(value, name) }
}

fn with_field(object: JsValue, name: &str, value: JsValue) -> Result<JsValue, JsValue> {
    Reflect::set(&object, &name.into(), &value)?;
    Ok(object)
}

fn to_js(error: EngineError) -> JsValue {
    let object = js_sys::Error::new(&error.message);
    object.set_name("MagnetError");
    let code = serde_wasm_bindgen::to_value(&error.code).unwrap_or(JsValue::UNDEFINED);
    // A field of a fresh object can be set.
    let _ = Reflect::set(&object, &"code".into(), &code);
    object.into()
}
