//! Moving the maps: with the mouse, with fingers, with the keyboard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use wasm_bindgen::JsCast;
use web_sys::{Element, Event, HtmlElement, KeyboardEvent, MouseEvent, PointerEvent, WheelEvent};

use super::camera::{Camera, Point};
use super::dom::closest;
use super::viewer::Viewer;

/// Pointer travel in CSS pixels below which a press is a tap.
const TAP: f64 = 4.0;
/// Magnification of one step by button, key or double click.
const STEP: f64 = 1.5;
/// CSS pixels that an arrow key moves the crosshair by.
const KEY_STEP: f64 = 48.0;
/// Magnification for each pixel of a wheel's travel, as a power of e.
const WHEEL: f64 = 0.0016;
/// Pixels of a line, where a wheel counts lines.
const LINE: f64 = 18.0;

/// Pointers that are down, and whether they have moved.
#[derive(Debug, Default)]
struct Pressed {
    at: BTreeMap<i32, Point>,
    moved: f64,
}

impl Pressed {
    /// The middle of all pointers and their distance from it.
    fn spread(&self) -> Option<(Point, f64)> {
        let count = self.at.len() as f64;
        if count == 0.0 {
            return None;
        }
        let sum =
            self.at.values().fold(Point::default(), |sum, at| Point { x: sum.x + at.x, y: sum.y + at.y });
        let middle = Point { x: sum.x / count, y: sum.y / count };
        let distance =
            self.at.values().map(|at| (at.x - middle.x).hypot(at.y - middle.y)).sum::<f64>() / count;
        Some((middle, distance))
    }
}

impl Viewer {
    /// Connects the maps and the zoom buttons.
    pub(super) fn wire_map(self: &Rc<Self>) {
        let zoom = |viewer: &Rc<Viewer>, factor: f64| {
            let panel = viewer.panel_css();
            let anchor = Point { x: panel.width / 2.0, y: panel.height / 2.0 };
            viewer.move_camera(|camera, image, panel| camera.zoomed(factor, anchor, image, panel));
        };
        self.on(&self.stage.zoom_in, "click", move |viewer, _| zoom(viewer, STEP));
        self.on(&self.stage.zoom_out, "click", move |viewer, _| zoom(viewer, 1.0 / STEP));
        self.on(&self.stage.fit, "click", |viewer, _| {
            viewer.move_camera(|_, image, panel| Camera::fit(image, panel));
        });
        self.on(&self.stage.panels_box, "click", |viewer, event| {
            let close = closest(event, "[data-close]").and_then(|button| button.get_attribute("data-close"));
            let panel = closest(event, "[data-panel]").and_then(|panel| panel.get_attribute("data-panel"));
            let place = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
            if let Some(place) = place(close) {
                viewer.change_look(|look| {
                    if let Some(&gene) = look.genes.get(place) {
                        look.remove(gene);
                    }
                });
            } else if let Some(place) = place(panel) {
                viewer.activate(place);
            }
        });
        let pressed: Rc<RefCell<Pressed>> = Rc::default();
        for (place, panel) in self.stage.panels.iter().enumerate() {
            self.wire_pointer(&panel.map, &pressed);
            self.on(&panel.map, "wheel", |viewer, event| viewer.wheel(event));
            self.on(&panel.map, "dblclick", |viewer, event| {
                let Some(mouse) = event.dyn_ref::<MouseEvent>() else { return };
                let anchor = offset(mouse);
                viewer.move_camera(|camera, image, panel| camera.zoomed(STEP * STEP, anchor, image, panel));
            });
            self.on(&panel.map, "keydown", |viewer, event| viewer.map_key(event));
            self.wire_minimap(panel);
            self.on(&panel.map, "focus", move |viewer, _| viewer.activate(place));
        }
    }

    fn activate(self: &Rc<Self>, place: usize) {
        let changes = {
            let look = self.look.borrow();
            place < look.genes.len() && look.active != place
        };
        if changes {
            self.change_look(|look| look.active = place);
        }
    }

    fn wire_pointer(self: &Rc<Self>, map: &HtmlElement, pressed: &Rc<RefCell<Pressed>>) {
        let down = pressed.clone();
        self.on(map, "pointerdown", move |viewer, event| {
            let Some(pointer) = event.dyn_ref::<PointerEvent>().filter(|pointer| pointer.button() == 0)
            else {
                return;
            };
            if let Some(target) = event.current_target().and_then(|target| target.dyn_into::<Element>().ok())
            {
                // Without capture a fast drag leaves the map; it then only ends early.
                let _ = target.set_pointer_capture(pointer.pointer_id());
            }
            let fingers = {
                let mut pressed = down.borrow_mut();
                if pressed.at.is_empty() {
                    pressed.moved = 0.0;
                }
                pressed.at.insert(pointer.pointer_id(), offset(pointer));
                pressed.at.len()
            };
            viewer.begin_region_drag(offset(pointer), pointer.pointer_type() == "touch", fingers);
        });
        let moving = pressed.clone();
        self.on(map, "pointermove", move |viewer, event| {
            let Some(pointer) = event.dyn_ref::<PointerEvent>() else { return };
            let held = moving.borrow().at.contains_key(&pointer.pointer_id());
            if held && viewer.drag_region(offset(pointer)) {
                moving.borrow_mut().at.insert(pointer.pointer_id(), offset(pointer));
            } else if held {
                viewer.drag(&moving, pointer);
            } else if pointer.pointer_type() != "touch" {
                viewer.point_at(offset(pointer));
            }
        });
        let up = pressed.clone();
        self.on(map, "pointerup", move |viewer, event| {
            let Some(pointer) = event.dyn_ref::<PointerEvent>() else { return };
            let tapped = {
                let mut pressed = up.borrow_mut();
                pressed.at.remove(&pointer.pointer_id()).is_some() && pressed.moved < TAP
            };
            if !viewer.end_region_drag() && tapped {
                viewer.point_at(offset(pointer));
            }
        });
        let ended = pressed.clone();
        self.on(map, "pointercancel", move |viewer, event| {
            viewer.end_region_drag();
            if let Some(pointer) = event.dyn_ref::<PointerEvent>() {
                ended.borrow_mut().at.remove(&pointer.pointer_id());
            }
        });
        self.on(map, "pointerleave", |viewer, event| {
            if event.dyn_ref::<PointerEvent>().is_some_and(|pointer| pointer.pointer_type() == "mouse") {
                viewer.set_cursor(None, false);
            }
        });
    }

    /// One pointer pans; two pan and zoom.
    fn drag(self: &Rc<Self>, pressed: &Rc<RefCell<Pressed>>, pointer: &PointerEvent) {
        let (before, after) = {
            let mut pressed = pressed.borrow_mut();
            let before = pressed.spread();
            pressed.at.insert(pointer.pointer_id(), offset(pointer));
            (before, pressed.spread())
        };
        let (Some((from, from_spread)), Some((to, to_spread))) = (before, after) else { return };
        let by = Point { x: to.x - from.x, y: to.y - from.y };
        let moved = {
            let mut pressed = pressed.borrow_mut();
            pressed.moved += by.x.hypot(by.y) + (to_spread - from_spread).abs();
            pressed.moved
        };
        if moved < TAP {
            return;
        }
        let factor = if from_spread > 0.0 && to_spread > 0.0 { to_spread / from_spread } else { 1.0 };
        self.move_camera(|camera, image, panel| {
            camera.panned(by, image, panel).zoomed(factor, to, image, panel)
        });
    }

    fn point_at(self: &Rc<Self>, at_css: Point) {
        self.show_grip(at_css);
        let place = self.camera().px_from_css(at_css, self.panel_css());
        self.set_cursor(Some(place), false);
    }

    fn wheel(self: &Rc<Self>, event: &Event) {
        let Some(wheel) = event.dyn_ref::<WheelEvent>() else { return };
        let travel = match wheel.delta_mode() {
            WheelEvent::DOM_DELTA_PIXEL => wheel.delta_y(),
            _ => wheel.delta_y() * LINE,
        };
        // A pinch on a touchpad comes as a wheel with Ctrl and small steps.
        let travel = if wheel.ctrl_key() { travel * 5.0 } else { travel };
        let zoomed = self.look.borrow().camera.is_some();
        if travel < 0.0 || zoomed || wheel.ctrl_key() {
            event.prevent_default();
        }
        let anchor = offset(wheel);
        self.move_camera(|camera, image, panel| camera.zoomed((-travel * WHEEL).exp(), anchor, image, panel));
    }

    fn map_key(self: &Rc<Self>, event: &Event) {
        let Some(pressed) = event.dyn_ref::<KeyboardEvent>() else { return };
        if pressed.ctrl_key() || pressed.meta_key() || pressed.alt_key() {
            return;
        }
        if self.region_key(pressed) {
            event.prevent_default();
            return;
        }
        let panel = self.panel_css();
        let middle = Point { x: panel.width / 2.0, y: panel.height / 2.0 };
        let anchor = self.look.borrow().cursor_px.map_or(middle, |at| self.camera().css_from_px(at, panel));
        match pressed.key().as_str() {
            "+" | "=" => self.move_camera(|camera, image, panel| camera.zoomed(STEP, anchor, image, panel)),
            "-" | "_" => {
                self.move_camera(|camera, image, panel| camera.zoomed(1.0 / STEP, anchor, image, panel))
            }
            "0" => self.move_camera(|_, image, panel| Camera::fit(image, panel)),
            "ArrowLeft" => self.step_cursor(-1.0, 0.0, pressed.shift_key()),
            "ArrowRight" => self.step_cursor(1.0, 0.0, pressed.shift_key()),
            "ArrowUp" => self.step_cursor(0.0, -1.0, pressed.shift_key()),
            "ArrowDown" => self.step_cursor(0.0, 1.0, pressed.shift_key()),
            "Escape" => self.set_cursor(None, true),
            _ => return,
        }
        event.prevent_default();
    }

    /// Moves the crosshair, by one tile or by a step on screen; a magnified map follows it.
    fn step_cursor(self: &Rc<Self>, right: f64, down: f64, by_tile: bool) {
        let (camera, image) = (self.camera(), self.image_px());
        let on_screen = KEY_STEP / camera.scale;
        let step = if by_tile { self.tile_px().unwrap_or(on_screen) } else { on_screen };
        let from = self.look.borrow().cursor_px.unwrap_or(camera.center_px);
        let to = Point {
            x: (from.x + right * step).clamp(0.0, image.width),
            y: (from.y + down * step).clamp(0.0, image.height),
        };
        self.set_cursor(Some(to), true);
        if by_tile {
            self.move_camera(|camera, image, panel| camera.revealing(to, image, panel));
        } else {
            self.move_camera(|camera, image, panel| Camera { center_px: to, ..camera }.held(image, panel));
        }
    }
}

/// Where a mouse, a wheel or a finger is on the map.
pub(super) fn offset(event: &MouseEvent) -> Point {
    Point { x: f64::from(event.offset_x()), y: f64::from(event.offset_y()) }
}
