//! Choosing a region of a slide: with the pointer, with the keyboard, by numbers; and the slide in the corner.

use std::rc::Rc;

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Element, KeyboardEvent, PointerEvent};

use super::camera::{Point, Size};
use super::details;
use super::dom::set_style;
use super::panel::{MapPanel, minimap_css, region_corners_css};
use super::region_shape::{Grip, dragged};
use super::viewer::Viewer;
use super::wire_map::offset;
use crate::page::session::region::{Region, scale_for};
use crate::page::session::state::{Phase, Preview, State};

/// How near to a border a pointer holds it, in CSS pixels: a mouse, and a finger.
const REACH: (f64, f64) = (7.0, 18.0);
/// CSS pixels that an arrow key moves or resizes a region by.
const KEY_STEP: f64 = 12.0;
/// A first region has this part of the view's sides.
const FIRST_PART: f64 = 0.5;
/// A pixel of the overview that absorbs less than this is glass.
const LEAST_ABSORPTION: u8 = 36;

/// A region that is being dragged.
#[derive(Debug, Clone, Copy)]
pub struct RegionDrag {
    grip: Grip,
    from_px: Point,
    before: Option<Region>,
    has_moved: bool,
}

impl Viewer {
    /// Connects the row for choosing a region.
    pub(super) fn wire_region(self: &Rc<Self>) {
        let bar = &self.stage.region_bar;
        self.on(&bar.choose, "click", |viewer, _| {
            let on = !viewer.look.borrow().choosing;
            viewer.set_choosing(on);
        });
        self.on(&bar.visible, "click", |viewer, _| {
            if let Some(region) = viewer.part_in_sight(1.0) {
                viewer.choose_region(region);
            }
        });
        self.on(&bar.largest, "click", |viewer, _| {
            let cut = viewer.session.state().region.map(|region| viewer.fitting(region));
            if let Some(region) = cut {
                viewer.choose_region(region);
            }
        });
        for field in &bar.fields {
            self.on(field, "change", |viewer, _| {
                let um_per_px = viewer.session.state().image.as_ref().and_then(|image| image.um_per_px);
                let region = viewer
                    .slide_px()
                    .and_then(|slide_px| viewer.stage.region_bar.region(um_per_px, slide_px));
                viewer.stage.region_bar.mark_wrong(region.is_none());
                if let Some(region) = region {
                    viewer.choose_region(region);
                    viewer.show_region();
                }
            });
            self.on(field, "blur", |viewer, _| viewer.refresh());
        }
    }

    /// Connects the slide in the corner of a panel: a press or a drag on it moves the view there.
    pub(super) fn wire_minimap(self: &Rc<Self>, panel: &MapPanel) {
        for kind in ["pointerdown", "pointermove"] {
            self.on(&panel.minimap, kind, move |viewer, event| {
                let Some(pointer) =
                    event.dyn_ref::<PointerEvent>().filter(|pointer| pointer.buttons() & 1 == 1)
                else {
                    return;
                };
                if let Some(target) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) {
                    // Without capture a fast drag only ends early.
                    let _ = target.set_pointer_capture(pointer.pointer_id());
                }
                event.prevent_default();
                let at = offset(pointer);
                let scale = minimap_css(viewer.image_px()).width / viewer.image_px().width.max(1.0);
                let center_px = Point { x: at.x / scale, y: at.y / scale };
                viewer.move_camera(|camera, image, panel| {
                    super::camera::Camera { center_px, ..camera }.held(image, panel)
                });
            });
        }
    }

    fn slide_px(&self) -> Option<(u32, u32)> {
        self.session.state().slide.as_ref().map(|slide| (slide.width_px, slide.height_px))
    }

    /// Begins or ends choosing. Where there is no region, one in the middle of the view is there to be changed.
    fn set_choosing(self: &Rc<Self>, on: bool) {
        if on
            && self.session.state().region.is_none()
            && let Some(region) = self.part_in_sight(FIRST_PART)
        {
            let region = self.fitting(region);
            self.session.set_region(Some(region));
        }
        self.change_look(|look| look.choosing = on);
        if on && let Some(panel) = self.stage.panels.first() {
            let _ = panel.map.focus();
        }
        self.show_cursor(if on { "crosshair" } else { "" });
    }

    fn choose_region(self: &Rc<Self>, region: Region) {
        self.session.set_region(Some(region));
        self.refresh();
    }

    /// Brings the chosen region into sight.
    pub(super) fn show_region(self: &Rc<Self>) {
        let Some(region) = self.session.state().region else { return };
        let low = Point { x: f64::from(region.left), y: f64::from(region.top) };
        let high = Point { x: low.x + f64::from(region.width), y: low.y + f64::from(region.height) };
        self.move_camera(|camera, image, panel| camera.showing(low, high, image, panel));
    }

    /// The part of the slide in the middle of the view that has this part of its sides.
    fn part_in_sight(&self, part: f64) -> Option<Region> {
        let (panel, slide_px) = (self.panel_css(), self.slide_px()?);
        let camera = self.camera();
        let corner = |side: f64| {
            let at = Point { x: panel.width * (0.5 + side), y: panel.height * (0.5 + side) };
            let at = camera.px_from_css(at, panel);
            (at.x, at.y)
        };
        Some(Region::between(corner(-part / 2.0), corner(part / 2.0), slide_px))
    }

    /// The largest part of a region that can be predicted.
    fn fitting(&self, region: Region) -> Region {
        let state = self.session.state();
        let um_per_px = state.image.as_ref().and_then(|image| image.um_per_px);
        region.largest_at(um_per_px.map_or(1.0, |um_per_px| scale_for(state.model.as_deref(), um_per_px)))
    }

    /// What a point holds of the chosen region.
    fn grip_at(&self, at_css: Point, is_touch: bool) -> Grip {
        let Some(region) = self.session.state().region else { return Grip::Outside };
        let (low, high) = region_corners_css(region, self.camera(), self.panel_css());
        Grip::at(at_css, low, high, if is_touch { REACH.1 } else { REACH.0 })
    }

    /// Shows what a drag would do.
    pub(super) fn show_grip(&self, at_css: Point) {
        if self.look.borrow().choosing {
            self.show_cursor(self.grip_at(at_css, false).cursor());
        }
    }

    fn show_cursor(&self, cursor: &str) {
        for panel in &self.stage.panels {
            set_style(&panel.map, "cursor", cursor);
        }
    }

    /// A pointer is down: while a region is chosen it holds that; a second finger moves the view instead.
    pub(super) fn begin_region_drag(&self, at_css: Point, is_touch: bool, fingers: usize) {
        let busy = matches!(
            self.session.state().phase,
            Phase::ReadingRegion { .. } | Phase::Predicting(_) | Phase::Cancelling(_)
        );
        let held = self.look.borrow().choosing && self.slide_px().is_some() && fingers == 1 && !busy;
        if let (false, Some(drag)) = (held, self.drag.take()) {
            // Two fingers mean the view: what the first one did is undone.
            self.session.set_region(drag.before);
        }
        if held {
            self.drag.set(Some(RegionDrag {
                grip: self.grip_at(at_css, is_touch),
                from_px: self.camera().px_from_css(at_css, self.panel_css()),
                before: self.session.state().region,
                has_moved: false,
            }));
        }
    }

    /// Moves what is held of the region; whether there is anything.
    pub(super) fn drag_region(self: &Rc<Self>, at_css: Point) -> bool {
        let (Some(drag), Some(slide_px)) = (self.drag.get(), self.slide_px()) else { return false };
        let to_px = self.camera().px_from_css(at_css, self.panel_css());
        let travel = (to_px.x - drag.from_px.x).hypot(to_px.y - drag.from_px.y) * self.camera().scale;
        if drag.has_moved || travel >= 3.0 {
            self.drag.set(Some(RegionDrag { has_moved: true, ..drag }));
            self.session.set_region(Some(dragged(drag.before, drag.grip, drag.from_px, to_px, slide_px)));
        }
        true
    }

    /// Lets go of the region; whether it was changed.
    pub(super) fn end_region_drag(self: &Rc<Self>) -> bool {
        let moved = self.drag.take().is_some_and(|drag| drag.has_moved);
        if moved {
            let region = self.session.state().region;
            self.tell_chosen(region);
        }
        moved
    }

    /// A key while a region is chosen: arrows move it, with Shift they resize it; whether the key meant that.
    pub(super) fn region_key(self: &Rc<Self>, pressed: &KeyboardEvent) -> bool {
        let (true, Some(slide_px)) = (self.look.borrow().choosing, self.slide_px()) else { return false };
        let Some(region) = self.session.state().region else { return false };
        let (across, down) = match pressed.key().as_str() {
            "ArrowLeft" => (-1.0, 0.0),
            "ArrowRight" => (1.0, 0.0),
            "ArrowUp" => (0.0, -1.0),
            "ArrowDown" => (0.0, 1.0),
            "Enter" => {
                self.session.predict();
                return true;
            }
            "Escape" => {
                self.set_choosing(false);
                return true;
            }
            _ => return false,
        };
        let step = (KEY_STEP / self.camera().scale).max(1.0);
        let to = Point { x: across * step, y: down * step };
        let grip = if pressed.shift_key() { Grip::Border(1, 1) } else { Grip::Inside };
        let region = dragged(Some(region), grip, Point::default(), to, slide_px);
        self.choose_region(region);
        let far = Point {
            x: f64::from(region.left) + f64::from(region.width) / 2.0,
            y: f64::from(region.top) + f64::from(region.height) / 2.0,
        };
        self.move_camera(|camera, image, panel| camera.revealing(far, image, panel));
        true
    }

    /// Takes over the pieces of the view that have come.
    pub(super) fn take_tiles(self: &Rc<Self>) {
        let pieces = self.session.take_tiles();
        {
            let mut tiles = self.tiles.borrow_mut();
            if pieces.is_empty() {
                tiles.forget_asked();
            }
            for (tile, bitmap) in pieces {
                tiles.insert(tile, bitmap);
            }
        }
        self.redraw();
    }

    /// Finds out which part of the chosen region is tissue, from the slide in little.
    pub(super) fn measure_tissue(&self) {
        let region = self.session.state().region;
        let part = region.and_then(|region| self.absorbing.borrow().part(region, self.image_px()));
        self.tissue.set(part);
    }

    /// Takes the slide in little over, which has come or has more of it.
    pub(super) fn take_overview(&self, state: &State) {
        let absorbing = match (&state.slide, &state.preview) {
            (Some(_), Some(preview)) => Absorbing::of(preview),
            _ => Absorbing::default(),
        };
        *self.absorbing.borrow_mut() = absorbing;
        self.measure_tissue();
    }

    /// Tells the page that holds the element which region is chosen, once it is not being dragged.
    pub(super) fn tell_region(&self, state: &State) {
        if self.drag.get().is_none() && state.slide.is_some() {
            self.tell_chosen(state.region);
        }
    }

    fn tell_chosen(&self, region: Option<Region>) {
        let state = self.session.state().clone();
        let um_per_px = state.image.as_ref().and_then(|image| image.um_per_px);
        let um = |px: u32| um_per_px.map_or(JsValue::NULL, |um_per_px| (f64::from(px) * um_per_px).into());
        let detail = match region {
            None => JsValue::NULL,
            Some(region) => details::object([
                ("x", region.left.into()),
                ("y", region.top.into()),
                ("width", region.width.into()),
                ("height", region.height.into()),
                ("widthUm", um(region.width)),
                ("heightUm", um(region.height)),
            ]),
        };
        self.tell("regionchange", detail);
    }
}

/// Which pixels of the slide in little absorb light.
#[derive(Debug, Clone, Default)]
pub struct Absorbing {
    width: usize,
    height: usize,
    pixels: Vec<bool>,
}

impl Absorbing {
    fn of(preview: &Preview) -> Self {
        let values = preview.pixels.data();
        let absorbs = |pixel: &[u8; 4]| {
            let darkest = pixel.iter().take(3).min().copied().unwrap_or(u8::MAX);
            u8::MAX - darkest > LEAST_ABSORPTION
        };
        let pixels = values.as_chunks::<4>().0.iter().map(absorbs).collect();
        Self { width: preview.width_px as usize, height: preview.height_px as usize, pixels }
    }

    /// The part of a region that absorbs light.
    fn part(&self, region: Region, slide_px: Size) -> Option<f64> {
        let scale = self.width as f64 / slide_px.width.max(1.0);
        let span = |at: u32, length: u32, most: usize| {
            let low = ((f64::from(at) * scale) as usize).min(most.saturating_sub(1));
            let high = ((f64::from(at) + f64::from(length)) * scale).ceil() as usize;
            low..high.clamp(low, most)
        };
        let columns = span(region.left, region.width, self.width);
        let rows = span(region.top, region.height, self.height);
        let all = columns.len() * rows.len();
        let rows = rows.filter_map(|row| {
            self.pixels.get(row * self.width + columns.start..row * self.width + columns.end)
        });
        let tissue: usize = rows.map(|row| row.iter().filter(|&&tissue| tissue).count()).sum();
        (all > 0).then(|| tissue as f64 / all as f64)
    }
}
