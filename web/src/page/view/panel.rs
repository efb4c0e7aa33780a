//! One map: a gene over the image, with its legend and scale bar.

use std::cell::RefCell;

use magnet_core::heatmap::{ColorMap, ScaleBar, ValueRange, ticks};
use web_sys::{CanvasRenderingContext2d, HtmlButtonElement, HtmlCanvasElement, HtmlElement};

use super::camera::{Camera, Point, Size};
use super::deep_zoom::Sight;
use super::dom::{clear, el, icon_button, set_attr, set_flag, set_style, set_text, show};
use super::lattice::Lattice;
use super::layers::{context, draw_gradient};
use super::palette::Palette;
use super::tiles::Tiles;
use crate::page::session::region::Region;

/// A cross, to close.
pub const CLOSE: &str = "M4 4l8 8M12 4l-8 8";
/// About how many ticks a legend has.
const LEGEND_TICKS: usize = 4;
/// Width that a tick's number takes, in CSS pixels.
const TICK_CSS: f64 = 36.0;
/// Longest scale bar, as a fraction of the panel.
const LONGEST_BAR: f64 = 0.25;
/// Below this many screen pixels a tile's edges cannot be seen, and smoothing shows more of the map.
const SMOOTH_BELOW: f64 = 1.5;

/// Largest size of the slide in little in the corner, in CSS pixels.
const MINIMAP: Size = Size { width: 168.0, height: 126.0 };
/// The colour of the chosen region, which no stain and no colour map has.
const REGION: &str = "rgb(0, 104, 214)";

/// Below this size on screen, in CSS pixels, a region shows no handles: they would hide it.
const LEAST_HELD: f64 = 36.0;

/// Widths and colours of a line that shows on every ground: light within dark.
const CONTOUR: [(f64, &str); 2] = [(4.0, "rgba(10, 14, 18, 0.75)"), (1.75, "rgb(255, 255, 255)")];

/// What a panel draws.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The image in little.
    pub preview: Option<&'a HtmlCanvasElement>,
    /// Pieces of the slide, with what is in sight of it, where the image is a slide.
    pub tiles: Option<&'a RefCell<Tiles>>,
    /// The chosen region of the slide, and whether it is being chosen.
    pub region: Option<(Region, bool)>,
    /// Whether the slide in little is shown in a corner.
    pub minimap: bool,
    /// The gene's raster and the tiles that it stands for.
    pub map: Option<(&'a HtmlCanvasElement, &'a Lattice)>,
    /// Size of the image.
    pub image_px: Size,
    /// Size of the panel.
    pub panel_css: Size,
    /// What part is shown.
    pub camera: Camera,
    /// Opacity of the map.
    pub opacity: f64,
    /// The crosshair.
    pub cursor_px: Option<Point>,
    /// Screen pixels for each CSS pixel.
    pub pixel_ratio: f64,
}

impl Scene<'_> {
    /// What of the slide is in sight.
    pub fn sight(&self) -> Sight {
        Sight { camera: self.camera, panel_css: self.panel_css, pixel_ratio: self.pixel_ratio }
    }
}

/// What a panel says around its map.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption<'a> {
    /// Symbol of the gene; empty where none is shown.
    pub symbol: &'a str,
    /// What is known about how well it is predicted.
    pub score: String,
    /// Whether that is so little that the map says next to nothing.
    pub weak: bool,
    /// Name of the map for those who do not see it.
    pub name: String,
    /// Whether the sliders act on this panel, and there are others.
    pub active: bool,
    /// Whether the panel can be closed.
    pub closable: bool,
}

/// The elements of one panel.
#[derive(Debug)]
pub struct MapPanel {
    /// All of it.
    pub root: HtmlElement,
    /// The part that holds the map, takes the focus and hears the pointer.
    pub map: HtmlElement,
    title: HtmlElement,
    symbol: HtmlElement,
    score: HtmlElement,
    value: HtmlElement,
    close: HtmlButtonElement,
    canvas: HtmlCanvasElement,
    context: Option<CanvasRenderingContext2d>,
    /// The whole slide in little, in a corner.
    pub minimap: HtmlCanvasElement,
    minimap_context: Option<CanvasRenderingContext2d>,
    badge: HtmlElement,
    legend: HtmlElement,
    unit: HtmlElement,
    gradient: HtmlCanvasElement,
    ticks: HtmlElement,
    scale: HtmlElement,
    scale_bar: HtmlElement,
    scale_label: HtmlElement,
    legend_drawn: RefCell<Option<(ColorMap, ValueRange, usize)>>,
}

impl MapPanel {
    /// Builds the panel at a place in the row of panels.
    pub fn new(place: usize) -> Self {
        let place = place.to_string();
        let symbol: HtmlElement = el("span").class("panel-symbol").done();
        let score: HtmlElement = el("span").class("panel-score").done();
        let value: HtmlElement = el("span").class("panel-value").attr("aria-hidden", "true").done();
        let close: HtmlButtonElement =
            icon_button("Close", CLOSE, "icon-button small").attr("data-close", &place).done();
        let title: HtmlElement =
            el("div").class("panel-head").with(&symbol).with(&score).with(&value).with(&close).done();
        let canvas: HtmlCanvasElement = el("canvas").attr("aria-hidden", "true").done();
        let minimap: HtmlCanvasElement =
            el("canvas").class("minimap").attr("aria-hidden", "true").attr("hidden", "").done();
        let minimap_context = context(&minimap);
        let badge: HtmlElement = el("p").class("badge").attr("hidden", "").done();
        let unit: HtmlElement = el("span").class("legend-unit").done();
        let gradient: HtmlCanvasElement = el("canvas").class("legend-bar").attr("aria-hidden", "true").done();
        let ticks: HtmlElement = el("div").class("legend-ticks").done();
        let colors = el("div").class("legend-colors").with(&gradient).with(&ticks);
        let legend: HtmlElement =
            el("div").class("legend").attr("hidden", "").with(&unit).with(colors).done();
        let scale_bar: HtmlElement = el("div").class("scale-bar").done();
        let scale_label: HtmlElement = el("span").done();
        let scale: HtmlElement =
            el("div").class("scale").attr("hidden", "").with(&scale_bar).with(&scale_label).done();
        let foot = el("div").class("panel-foot").with(&scale).with(&legend);
        let map: HtmlElement = el("div")
            .class("map")
            .attr("tabindex", "0")
            .attr("role", "application")
            .attr("aria-roledescription", "map")
            .attr("aria-describedby", "map-keys")
            .with(&canvas)
            .done();
        let frame = el("div").class("map-frame").with(&map).with(&badge).with(&minimap);
        let root: HtmlElement =
            el("div").class("panel").attr("data-panel", &place).with(&title).with(frame).with(foot).done();
        let context = context(&canvas);
        Self {
            root,
            map,
            title,
            symbol,
            score,
            value,
            close,
            canvas,
            context,
            minimap,
            minimap_context,
            badge,
            legend,
            unit,
            gradient,
            ticks,
            scale,
            scale_bar,
            scale_label,
            legend_drawn: RefCell::new(None),
        }
    }

    /// The size of the map's field.
    pub fn size_css(&self) -> Size {
        Size { width: f64::from(self.map.client_width()), height: f64::from(self.map.client_height()) }
    }

    /// Sets what stands around the map.
    pub fn set_caption(&self, caption: &Caption<'_>) {
        show(&self.title, !caption.symbol.is_empty());
        set_text(&self.symbol, caption.symbol);
        set_text(&self.score, &caption.score);
        set_flag(&self.root, "data-weak", caption.weak);
        set_attr(&self.map, "aria-label", Some(&caption.name));
        set_attr(&self.close, "aria-label", Some(&format!("Close {}", caption.symbol)));
        show(&self.close, caption.closable);
        set_flag(&self.root, "data-active", caption.active);
    }

    /// Sets the value under the crosshair.
    pub fn set_value(&self, value: &str) {
        set_text(&self.value, value);
    }

    /// Marks the map as partial, or not.
    pub fn set_badge(&self, text: Option<&str>) {
        show(&self.badge, text.is_some());
        set_text(&self.badge, text.unwrap_or_default());
    }

    /// Sets or hides the legend. Narrow panels have fewer ticks, so that they stay apart.
    pub fn set_legend(&self, legend: Option<(ColorMap, ValueRange)>, unit: &str) {
        show(&self.legend, legend.is_some());
        set_text(&self.unit, unit);
        let width = f64::from(self.ticks.client_width());
        let most =
            if width > 0.0 { ((width / TICK_CSS) as usize).clamp(2, LEGEND_TICKS) } else { LEGEND_TICKS };
        if *self.legend_drawn.borrow() == legend.map(|(color_map, range)| (color_map, range, most)) {
            return;
        }
        if let Some((color_map, range)) = legend {
            draw_gradient(&self.gradient, &Palette::new(color_map, range));
            clear(&self.ticks);
            let (mut last, apart) = (f64::NEG_INFINITY, TICK_CSS * 0.7);
            for tick in ticks(range, most) {
                let at = range.fraction(tick.value) * width;
                if width > 0.0 && at - last < apart {
                    continue;
                }
                last = at;
                let mark: HtmlElement = el("span").text(&tick.label.replace('-', "−")).done();
                set_style(&mark, "left", &format!("{:.2}%", 100.0 * range.fraction(tick.value)));
                let _ = self.ticks.append_child(&mark);
            }
        }
        *self.legend_drawn.borrow_mut() = legend.map(|(color_map, range)| (color_map, range, most));
    }

    /// Draws the map, and the scale bar for `um_per_px`.
    pub fn draw(&self, scene: &Scene<'_>, um_per_px: Option<f64>) {
        self.draw_scale(scene, um_per_px);
        let Some(context) = &self.context else { return };
        let (width, height) = (scene.panel_css.width, scene.panel_css.height);
        let side = |css: f64| (css * scene.pixel_ratio).round().max(1.0) as u32;
        if (self.canvas.width(), self.canvas.height()) != (side(width), side(height)) {
            self.canvas.set_width(side(width));
            self.canvas.set_height(side(height));
        }
        let ratio = scene.pixel_ratio;
        let _ = context.set_transform(ratio, 0.0, 0.0, ratio, 0.0, 0.0);
        context.clear_rect(0.0, 0.0, width, height);
        let corner = scene.camera.css_from_px(Point::default(), scene.panel_css);
        let scale = scene.camera.scale;
        if let Some(preview) = scene.preview {
            context.set_global_alpha(1.0);
            context.set_image_smoothing_enabled(true);
            let (w, h) = (scene.image_px.width * scale, scene.image_px.height * scale);
            let _ =
                context.draw_image_with_html_canvas_element_and_dw_and_dh(preview, corner.x, corner.y, w, h);
        }
        if let Some(tiles) = scene.tiles {
            tiles.borrow_mut().draw(context, &scene.sight());
        }
        if let Some((canvas, lattice)) = scene.map {
            context.set_global_alpha(scene.opacity.clamp(0.0, 1.0));
            let tile = lattice.pitch_px() * scale;
            context.set_image_smoothing_enabled(tile * ratio < SMOOTH_BELOW);
            let at = scene.camera.css_from_px(lattice.origin_px(), scene.panel_css);
            let (w, h) = (lattice.columns() as f64 * tile, lattice.rows() as f64 * tile);
            let _ = context.draw_image_with_html_canvas_element_and_dw_and_dh(canvas, at.x, at.y, w, h);
            context.set_global_alpha(1.0);
        }
        if let Some((region, choosing)) = scene.region {
            draw_region(context, scene, region, choosing);
        }
        self.draw_minimap(scene);
        if let Some(cursor_px) = scene.cursor_px {
            draw_crosshair(context, scene, cursor_px);
        }
    }

    /// Draws the whole slide in a corner, with what is in sight of it.
    fn draw_minimap(&self, scene: &Scene<'_>) {
        show(&self.minimap, scene.minimap && scene.preview.is_some());
        let (true, Some(preview), Some(context)) = (scene.minimap, scene.preview, &self.minimap_context)
        else {
            return;
        };
        let size = minimap_css(scene.image_px);
        let side = |css: f64| (css * scene.pixel_ratio).round().max(1.0) as u32;
        if (self.minimap.width(), self.minimap.height()) != (side(size.width), side(size.height)) {
            self.minimap.set_width(side(size.width));
            self.minimap.set_height(side(size.height));
            set_style(&self.minimap, "width", &format!("{:.1}px", size.width));
            set_style(&self.minimap, "height", &format!("{:.1}px", size.height));
        }
        let ratio = scene.pixel_ratio;
        let _ = context.set_transform(ratio, 0.0, 0.0, ratio, 0.0, 0.0);
        let _ = context.draw_image_with_html_canvas_element_and_dw_and_dh(
            preview,
            0.0,
            0.0,
            size.width,
            size.height,
        );
        let scale = size.width / scene.image_px.width.max(1.0);
        if let Some((region, _)) = scene.region {
            let side = |px: u32| f64::from(px) * scale;
            context.set_line_width(1.5);
            context.set_stroke_style_str(REGION);
            context.stroke_rect(side(region.left), side(region.top), side(region.width), side(region.height));
        }
        let (low, high) = scene.sight().corners_px();
        let (left, top) = ((low.x * scale).max(0.0), (low.y * scale).max(0.0));
        let (right, bottom) = ((high.x * scale).min(size.width), (high.y * scale).min(size.height));
        for (width, color) in CONTOUR {
            context.set_line_width(width);
            context.set_stroke_style_str(color);
            context.stroke_rect(left, top, (right - left).max(3.0), (bottom - top).max(3.0));
        }
    }

    fn draw_scale(&self, scene: &Scene<'_>, um_per_px: Option<f64>) {
        show(&self.scale, um_per_px.is_some() && scene.preview.is_some());
        if let Some(um_per_px) = um_per_px {
            let bar = ScaleBar::fit(um_per_px / scene.camera.scale, scene.panel_css.width * LONGEST_BAR);
            set_text(&self.scale_label, &bar.label);
            set_style(&self.scale_bar, "width", &format!("{:.1}px", bar.length_px));
        }
    }
}

/// Size of the slide in little in the corner, in CSS pixels.
pub fn minimap_css(image_px: Size) -> Size {
    let scale = (MINIMAP.width / image_px.width.max(1.0)).min(MINIMAP.height / image_px.height.max(1.0));
    Size { width: image_px.width * scale, height: image_px.height * scale }
}

/// Outlines the chosen region; what lies beyond it is dimmed while it is being chosen, and its corners can be held.
fn draw_region(context: &CanvasRenderingContext2d, scene: &Scene<'_>, region: Region, choosing: bool) {
    let (low, high) = region_corners_css(region, scene.camera, scene.panel_css);
    let (width, height) = (high.x - low.x, high.y - low.y);
    let panel = scene.panel_css;
    if choosing {
        context.set_fill_style_str("rgba(10, 14, 18, 0.35)");
        // On whole pixels, so that no seam shows between the parts.
        let within = |at: f64, side: f64| at.clamp(0.0, side).round();
        let (left, right) = (within(low.x, panel.width), within(high.x, panel.width));
        let (top, bottom) = (within(low.y, panel.height), within(high.y, panel.height));
        context.fill_rect(0.0, 0.0, panel.width, top);
        context.fill_rect(0.0, bottom, panel.width, panel.height - bottom);
        context.fill_rect(0.0, top, left, bottom - top);
        context.fill_rect(right, top, panel.width - right, bottom - top);
    }
    for (line, color) in [(4.0, "rgb(255, 255, 255)"), (2.0, REGION)] {
        context.set_line_width(line);
        context.set_stroke_style_str(color);
        context.stroke_rect(low.x, low.y, width, height);
    }
    if choosing && width.min(height) >= LEAST_HELD {
        let middle = Point { x: (low.x + high.x) / 2.0, y: (low.y + high.y) / 2.0 };
        for x in [low.x, middle.x, high.x] {
            for y in [low.y, middle.y, high.y] {
                if (x, y) != (middle.x, middle.y) {
                    context.set_fill_style_str("rgb(255, 255, 255)");
                    context.fill_rect(x - 5.0, y - 5.0, 10.0, 10.0);
                    context.set_fill_style_str(REGION);
                    context.fill_rect(x - 3.5, y - 3.5, 7.0, 7.0);
                }
            }
        }
    }
}

/// The corners of a region on a panel.
pub fn region_corners_css(region: Region, camera: Camera, panel_css: Size) -> (Point, Point) {
    let corner = |x: f64, y: f64| camera.css_from_px(Point { x, y }, panel_css);
    let (left, top) = (f64::from(region.left), f64::from(region.top));
    (corner(left, top), corner(left + f64::from(region.width), top + f64::from(region.height)))
}

/// Draws the cross, and outlines the tile under it.
fn draw_crosshair(context: &CanvasRenderingContext2d, scene: &Scene<'_>, cursor_px: Point) {
    let center = scene.camera.css_from_px(cursor_px, scene.panel_css);
    let (arm, gap) = (13.0, 5.0);
    context.set_image_smoothing_enabled(true);
    for (width, color) in CONTOUR {
        context.set_line_width(width);
        context.set_stroke_style_str(color);
        context.begin_path();
        for (dx, dy) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
            context.move_to(center.x + dx * gap, center.y + dy * gap);
            context.line_to(center.x + dx * arm, center.y + dy * arm);
        }
        context.stroke();
    }
    let Some((_, lattice)) = scene.map else { return };
    let side = lattice.pitch_px() * scene.camera.scale;
    if lattice.tile_at(cursor_px).is_some() && side >= 4.0 {
        let at = scene.camera.css_from_px(lattice.corner_at(cursor_px), scene.panel_css);
        for (width, color) in CONTOUR {
            context.set_line_width(width);
            context.set_stroke_style_str(color);
            context.stroke_rect(at.x, at.y, side, side);
        }
    }
}
