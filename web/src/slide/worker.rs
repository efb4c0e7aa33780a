//! The door: messages in, messages out, one small step after the other.
//!
//! Each turn of the loop does the most urgent step: first pieces of the view, then the slide in little, then the region
//! for the engine. Whatever came meanwhile is read before the next step, so that a view that has moved on is not drawn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::{Array, Reflect, Uint8Array, Uint8ClampedArray};
use magnet_core::slide::SlideError;
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    DedicatedWorkerGlobalScope, ImageBitmap, ImageData, MessageEvent, OffscreenCanvas,
    OffscreenCanvasRenderingContext2d,
};

use super::messages::{MOST_REGION_PIXELS, RegionWindow, SlideEvent, SlideRequest, TileKey};
use super::reading::{OpenSlide, OverviewPlan, Picture};
use super::source::SlideSource;
use crate::clock::yield_to_events;

/// A slide in little that is being read.
struct Overview {
    id: u32,
    plan: OverviewPlan,
    rgba: Vec<u8>,
    rows_done: u32,
    rows_told: u32,
}

/// A region that is being read. Its pixels are outside of the module's memory, which would have to hold them twice.
struct Region {
    id: u32,
    window: RegionWindow,
    pixels: Uint8Array,
    rows_done: u32,
}

/// What is open and what is to be done.
#[derive(Default)]
struct Desk {
    slide: Option<OpenSlide>,
    tiles: VecDeque<TileKey>,
    overview: Option<Overview>,
    region: Option<Region>,
}

struct Worker {
    scope: DedicatedWorkerGlobalScope,
    letters: RefCell<VecDeque<(SlideRequest, JsValue)>>,
    working: Cell<bool>,
}

/// Answers the page from now on; first the messages in `arrived`, which came before.
///
/// # Errors
/// If this is no dedicated worker.
pub fn serve(arrived: &Array) -> Result<(), JsValue> {
    crate::panic::report_panics();
    let scope: DedicatedWorkerGlobalScope = js_sys::global()
        .dyn_into()
        .map_err(|_| js_sys::Error::new("serve: expected a dedicated worker, found another place"))?;
    let worker =
        Rc::new(Worker { scope: scope.clone(), letters: RefCell::default(), working: Cell::new(false) });
    let desk = Rc::new(RefCell::new(Desk::default()));
    let receive = {
        let worker = Rc::clone(&worker);
        move |data: JsValue| {
            worker.receive(&data);
            if !worker.working.replace(true) {
                let (worker, desk) = (Rc::clone(&worker), Rc::clone(&desk));
                wasm_bindgen_futures::spawn_local(async move {
                    // Nobody else works, so nobody else needs the desk.
                    let mut own = desk.take();
                    worker.work(&mut own).await;
                    desk.replace(own);
                    worker.working.set(false);
                });
            }
        }
    };
    arrived.iter().for_each(&receive);
    let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| receive(event.data()));
    scope.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The worker lives as long as its scope.
    on_message.forget();
    Ok(())
}

impl Worker {
    fn receive(&self, data: &JsValue) {
        let parts: &Array = data.unchecked_ref();
        let source = parts.get(1);
        match serde_wasm_bindgen::from_value(parts.get(0)) {
            Ok(request) => self.letters.borrow_mut().push_back((request, source)),
            // The page is built from the same messages: this is a fault of the program.
            Err(error) => wasm_bindgen::throw_val(error.into()),
        }
    }

    /// Works until nothing is left to do.
    async fn work(&self, desk: &mut Desk) {
        loop {
            loop {
                let Some((request, source)) = self.letters.borrow_mut().pop_front() else { break };
                self.take(desk, request, &source);
            }
            if !self.step(desk) {
                return;
            }
            yield_to_events().await;
        }
    }

    fn take(&self, desk: &mut Desk, request: SlideRequest, source: &JsValue) {
        match request {
            SlideRequest::Open { id, name } => self.open(desk, id, name, source),
            SlideRequest::Tiles { tiles } => desk.tiles = tiles.into(),
            SlideRequest::Region { id, window } => {
                desk.region = None;
                match begin_region(id, window) {
                    Ok(region) => desk.region = Some(region),
                    Err(message) => self.post(&SlideEvent::RegionFailed { id, message }),
                }
            }
            SlideRequest::CancelRegion => desk.region = None,
            SlideRequest::Close => *desk = Desk::default(),
        }
    }

    fn open(&self, desk: &mut Desk, id: u32, name: String, source: &JsValue) {
        let opened = SlideSource::open(source).map_err(|error| error.to_string()).and_then(|source| {
            let bytes = magnet_core::slide::RangeRead::len(&source) as f64;
            OpenSlide::open(source).map(|slide| (slide, bytes)).map_err(|error| error.to_string())
        });
        match opened {
            Err(message) => self.post(&SlideEvent::Refused { id, message: format!("{name}: {message}") }),
            Ok((slide, _)) if slide.is_plain(MOST_REGION_PIXELS) => self.post(&SlideEvent::Plain { id }),
            Ok((slide, bytes)) => {
                self.post(&SlideEvent::Opened { id, slide: slide.summary(name, bytes) });
                let plan = slide.overview_plan();
                // White until it is read.
                let rgba = vec![u8::MAX; plan.width as usize * plan.height as usize * 4];
                *desk = Desk {
                    overview: Some(Overview { id, plan, rgba, rows_done: 0, rows_told: 0 }),
                    slide: Some(slide),
                    ..Desk::default()
                };
            }
        }
    }

    /// Does the most urgent step. Whether there was one.
    fn step(&self, desk: &mut Desk) -> bool {
        let Some(slide) = &desk.slide else { return false };
        if let Some(tile) = desk.tiles.pop_front() {
            let sent = slide.tile(tile).map_err(|error| error.to_string()).and_then(|picture| {
                let bitmap = bitmap_of(&picture).ok_or("there is no memory for a part of the view")?;
                self.post_with(&SlideEvent::Tile { tile }, bitmap.as_ref(), bitmap.as_ref());
                Ok(())
            });
            if let Err(message) = sent {
                self.post(&SlideEvent::TileFailed { tile, message });
            }
            return true;
        }
        if let Some(overview) = &mut desk.overview {
            match read_overview(slide, overview) {
                Ok(true) => {
                    self.post_overview(overview);
                    desk.overview = None;
                }
                Ok(false) => {
                    // A slide without small levels takes a while: what is there is shown by eighths.
                    if overview.rows_done - overview.rows_told >= overview.plan.height.div_ceil(8) {
                        overview.rows_told = overview.rows_done;
                        self.post_overview(overview);
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    self.post(&SlideEvent::Refused { id: overview.id, message });
                    desk.overview = None;
                }
            }
            return true;
        }
        if let Some(region) = &mut desk.region {
            match read_region(slide, region) {
                Ok(()) if region.rows_done >= region.window.out_height_px => {
                    let event = SlideEvent::Region { id: region.id };
                    self.post_with(&event, region.pixels.as_ref(), region.pixels.buffer().as_ref());
                    desk.region = None;
                }
                Ok(()) => self.post(&SlideEvent::RegionProgress {
                    id: region.id,
                    done: region.rows_done,
                    total: region.window.out_height_px,
                }),
                Err(error) => {
                    self.post(&SlideEvent::RegionFailed { id: region.id, message: error.to_string() });
                    desk.region = None;
                }
            }
            return true;
        }
        false
    }

    fn post_overview(&self, overview: &Overview) {
        let event = SlideEvent::Overview {
            id: overview.id,
            width_px: overview.plan.width,
            height_px: overview.plan.height,
            rows_done: overview.rows_done,
        };
        let bytes = Uint8Array::from(overview.rgba.as_slice());
        self.post_with(&event, bytes.as_ref(), bytes.buffer().as_ref());
    }

    fn post(&self, event: &SlideEvent) {
        let sent = value_of(event).and_then(|event| self.scope.post_message(&Array::of1(&event)));
        if let Err(error) = sent {
            // The page would wait for ever; as an error of the worker it hears of it.
            wasm_bindgen::throw_val(error);
        }
    }

    /// Sends an event with something that is the page's from then on.
    fn post_with(&self, event: &SlideEvent, content: &JsValue, transferred: &JsValue) {
        let sent = value_of(event).and_then(|event| {
            self.scope.post_message_with_transfer(&Array::of2(&event, content), &Array::of1(transferred))
        });
        if let Err(error) = sent {
            wasm_bindgen::throw_val(error);
        }
    }
}

fn value_of(event: &SlideEvent) -> Result<JsValue, JsValue> {
    event.serialize(&serde_wasm_bindgen::Serializer::new()).map_err(JsValue::from)
}

/// Reads some more rows. Whether these were the last.
fn read_overview(slide: &OpenSlide, overview: &mut Overview) -> Result<bool, SlideError> {
    let plan = overview.plan;
    let rows = plan.step_rows.min(plan.height - overview.rows_done);
    let picture = slide.overview_rows(&plan, overview.rows_done, rows)?;
    let start = overview.rows_done as usize * plan.width as usize * 4;
    let values = overview.rgba.get_mut(start..).unwrap_or_default();
    for (pixel, rgb) in values.as_chunks_mut::<4>().0.iter_mut().zip(picture.rgb.as_chunks::<3>().0) {
        pixel[..3].copy_from_slice(rgb);
    }
    overview.rows_done += rows;
    Ok(overview.rows_done >= plan.height)
}

fn begin_region(id: u32, window: RegionWindow) -> Result<Region, String> {
    let pixels = f64::from(window.out_width_px) * f64::from(window.out_height_px);
    let is_one =
        window.scale.is_finite() && window.scale >= 1.0 && (1.0..=MOST_REGION_PIXELS).contains(&pixels);
    if !is_one {
        return Err(format!("region: expected 1 to {MOST_REGION_PIXELS} pixels, found {window:?}"));
    }
    // A plain `new` would throw through this module where there is no memory.
    let length = Array::of1(&JsValue::from_f64(3.0 * pixels));
    let constructor = Reflect::get(&js_sys::global(), &"Uint8Array".into()).ok();
    constructor
        .and_then(|constructor| constructor.dyn_into::<js_sys::Function>().ok())
        .and_then(|constructor| Reflect::construct(&constructor, &length).ok())
        .and_then(|pixels| pixels.dyn_into().ok())
        .map(|pixels| Region { id, window, pixels, rows_done: 0 })
        .ok_or_else(|| format!("there is no memory for a region of {:.0} megapixels", pixels / 1e6))
}

fn read_region(slide: &OpenSlide, region: &mut Region) -> Result<(), SlideError> {
    let left = region.window.out_height_px - region.rows_done;
    let rows = slide.region_step_rows(&region.window).min(left);
    let rgb = slide.region_rows(&region.window, region.rows_done, rows)?;
    let start = region.rows_done * region.window.out_width_px * 3;
    region.pixels.subarray(start, start + rgb.len() as u32).copy_from(&rgb);
    region.rows_done += rows;
    Ok(())
}

thread_local! {
    /// Where pictures become bitmaps; one is enough, since that is done at once.
    static CANVAS: RefCell<Option<(OffscreenCanvas, OffscreenCanvasRenderingContext2d)>> =
        const { RefCell::new(None) };
}

/// A picture as the page draws it.
fn bitmap_of(picture: &Picture) -> Option<ImageBitmap> {
    let mut rgba = Vec::with_capacity(picture.rgb.len() / 3 * 4);
    for &[red, green, blue] in picture.rgb.as_chunks::<3>().0 {
        rgba.extend([red, green, blue, u8::MAX]);
    }
    let values = Uint8ClampedArray::from(rgba.as_slice());
    let pixels =
        ImageData::new_with_js_u8_clamped_array_and_sh(&values, picture.width, picture.height).ok()?;
    CANVAS.with_borrow_mut(|held| {
        if held.is_none() {
            let canvas = OffscreenCanvas::new(picture.width, picture.height).ok()?;
            let context = canvas.get_context("2d").ok().flatten()?.dyn_into().ok()?;
            *held = Some((canvas, context));
        }
        let (canvas, context) = held.as_ref()?;
        canvas.set_width(picture.width);
        canvas.set_height(picture.height);
        context.put_image_data(&pixels, 0.0, 0.0).ok()?;
        canvas.transfer_to_image_bitmap().ok()
    })
}
