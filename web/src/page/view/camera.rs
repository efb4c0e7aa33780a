//! Which part of the image is on screen, and how large.
//!
//! Two spaces meet here: `px` are full-resolution pixels of the image, `css` are CSS pixels of one map panel, counted
//! from its top left corner. All panels share one camera, so they show the same place.

/// Width and height of something.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Size {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A point, in the space that the name of its variable says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Downwards.
    pub y: f64,
}

/// Largest magnification, in CSS pixels for one pixel of the image.
const MAX_SCALE: f64 = 24.0;
/// Margin around an image that is fitted into a panel, as a fraction of the panel.
const FIT_MARGIN: f64 = 0.02;

/// A rectangle whose longer side is below this, in CSS pixels, is too small to be seen well.
const LEAST_SEEN: f64 = 80.0;
/// A rectangle that is shown takes this part of the panel, so that what lies around it is seen too.
const FITTED_PART: f64 = 0.8;

/// What a panel looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// The place of the image in the middle of the panel.
    pub center_px: Point,
    /// CSS pixels for one pixel of the image.
    pub scale: f64,
}

impl Camera {
    /// Shows the whole image, centred.
    pub fn fit(image_px: Size, panel_css: Size) -> Self {
        let center_px = Point { x: image_px.width / 2.0, y: image_px.height / 2.0 };
        Self { center_px, scale: fit_scale(image_px, panel_css) }
    }

    /// Where a place of the image lies on the panel.
    pub fn css_from_px(&self, place_px: Point, panel_css: Size) -> Point {
        Point {
            x: (place_px.x - self.center_px.x) * self.scale + panel_css.width / 2.0,
            y: (place_px.y - self.center_px.y) * self.scale + panel_css.height / 2.0,
        }
    }

    /// Which place of the image a point of the panel shows.
    pub fn px_from_css(&self, point_css: Point, panel_css: Size) -> Point {
        Point {
            x: (point_css.x - panel_css.width / 2.0) / self.scale + self.center_px.x,
            y: (point_css.y - panel_css.height / 2.0) / self.scale + self.center_px.y,
        }
    }

    /// Moves the image by a distance on the panel.
    pub fn panned(self, by_css: Point, image_px: Size, panel_css: Size) -> Self {
        let center_px = Point {
            x: self.center_px.x - by_css.x / self.scale,
            y: self.center_px.y - by_css.y / self.scale,
        };
        Self { center_px, ..self }.held(image_px, panel_css)
    }

    /// Magnifies by `factor` while the place under `anchor_css` stays where it is.
    pub fn zoomed(self, factor: f64, anchor_css: Point, image_px: Size, panel_css: Size) -> Self {
        let anchor_px = self.px_from_css(anchor_css, panel_css);
        let scale = limited_scale(self.scale * factor, image_px, panel_css);
        let center_px = Point {
            x: anchor_px.x - (anchor_css.x - panel_css.width / 2.0) / scale,
            y: anchor_px.y - (anchor_css.y - panel_css.height / 2.0) / scale,
        };
        Self { center_px, scale }.held(image_px, panel_css)
    }

    /// Moves as little as needed to show a place, a tenth of the panel away from its edge.
    pub fn revealing(self, place_px: Point, image_px: Size, panel_css: Size) -> Self {
        let at = self.css_from_px(place_px, panel_css);
        let shift = |at: f64, length: f64| {
            let margin = length / 10.0;
            (margin - at).max(0.0) + (length - margin - at).min(0.0)
        };
        let by_css = Point { x: shift(at.x, panel_css.width), y: shift(at.y, panel_css.height) };
        if by_css == Point::default() { self } else { self.panned(by_css, image_px, panel_css) }
    }

    /// Shows a rectangle of the image as large as fits, unless it can be seen well as it is.
    pub fn showing(self, low_px: Point, high_px: Point, image_px: Size, panel_css: Size) -> Self {
        let (low, high) = (self.css_from_px(low_px, panel_css), self.css_from_px(high_px, panel_css));
        let inside = low.x >= 0.0 && low.y >= 0.0 && high.x <= panel_css.width && high.y <= panel_css.height;
        if inside && (high.x - low.x).max(high.y - low.y) >= LEAST_SEEN {
            return self;
        }
        let size = Size { width: high_px.x - low_px.x, height: high_px.y - low_px.y };
        let center_px = Point { x: (low_px.x + high_px.x) / 2.0, y: (low_px.y + high_px.y) / 2.0 };
        let scale = fit_scale(size, panel_css) * FITTED_PART;
        Self { center_px, scale }.held(image_px, panel_css)
    }

    /// The same after the panel or the image has changed its size.
    pub fn held(self, image_px: Size, panel_css: Size) -> Self {
        let scale = limited_scale(self.scale, image_px, panel_css);
        // An image smaller than the panel stays centred; a larger one always covers the panel's middle.
        let hold = |center: f64, image: f64, panel: f64| {
            let half = panel / (2.0 * scale);
            if image <= 2.0 * half {
                image / 2.0
            } else {
                center.clamp(half.min(image / 2.0) * 0.2, image - half * 0.2)
            }
        };
        let center_px = Point {
            x: hold(self.center_px.x, image_px.width, panel_css.width),
            y: hold(self.center_px.y, image_px.height, panel_css.height),
        };
        Self { center_px, scale }
    }

    /// Whether this is as small as the image can be shown.
    pub fn is_fitted(&self, image_px: Size, panel_css: Size) -> bool {
        self.scale <= fit_scale(image_px, panel_css) * 1.001
    }
}

fn fit_scale(image_px: Size, panel_css: Size) -> f64 {
    let room = 1.0 - 2.0 * FIT_MARGIN;
    let across = panel_css.width * room / image_px.width.max(1.0);
    let down = panel_css.height * room / image_px.height.max(1.0);
    across.min(down).clamp(1e-6, MAX_SCALE)
}

fn limited_scale(scale: f64, image_px: Size, panel_css: Size) -> f64 {
    let smallest = fit_scale(image_px, panel_css);
    if scale.is_finite() { scale.clamp(smallest, MAX_SCALE.max(smallest)) } else { smallest }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Size = Size { width: 4000.0, height: 2000.0 };
    const PANEL: Size = Size { width: 800.0, height: 600.0 };

    fn near(a: Point, b: Point) -> bool {
        (a.x - b.x).abs() < 1e-6 && (a.y - b.y).abs() < 1e-6
    }

    #[test]
    fn a_fitted_image_is_whole_and_centred() {
        let camera = Camera::fit(IMAGE, PANEL);
        let corner = camera.css_from_px(Point { x: 0.0, y: 0.0 }, PANEL);
        let opposite = camera.css_from_px(Point { x: IMAGE.width, y: IMAGE.height }, PANEL);
        assert!(
            corner.x >= 0.0 && corner.y >= 0.0 && opposite.x <= PANEL.width && opposite.y <= PANEL.height
        );
        assert!((corner.x - (PANEL.width - opposite.x)).abs() < 1e-9);
        assert!(camera.is_fitted(IMAGE, PANEL));
    }

    #[test]
    fn the_two_spaces_are_each_others_inverse() {
        let camera = Camera { center_px: Point { x: 1234.5, y: 777.0 }, scale: 1.7 };
        for place in [Point { x: 0.0, y: 0.0 }, Point { x: 4000.0, y: 3.25 }] {
            assert!(near(camera.px_from_css(camera.css_from_px(place, PANEL), PANEL), place));
        }
    }

    #[test]
    fn zoom_keeps_what_is_under_the_pointer() {
        let anchor = Point { x: 500.0, y: 250.0 };
        let camera = Camera::fit(IMAGE, PANEL).zoomed(6.0, Point { x: 400.0, y: 300.0 }, IMAGE, PANEL);
        let before = camera.px_from_css(anchor, PANEL);
        let after = camera.zoomed(2.0, anchor, IMAGE, PANEL).px_from_css(anchor, PANEL);
        assert!(near(before, after), "{before:?} {after:?}");
    }

    #[test]
    fn nothing_gets_lost_off_screen() {
        let mut camera = Camera::fit(IMAGE, PANEL).zoomed(8.0, Point::default(), IMAGE, PANEL);
        for by in [Point { x: 1e9, y: 1e9 }, Point { x: -1e9, y: 5.0 }, Point { x: f64::MAX, y: 0.0 }] {
            camera = camera.panned(by, IMAGE, PANEL);
            assert!((0.0..=IMAGE.width).contains(&camera.center_px.x), "{camera:?}");
            assert!((0.0..=IMAGE.height).contains(&camera.center_px.y), "{camera:?}");
        }
        assert_eq!(camera.zoomed(0.0, Point::default(), IMAGE, PANEL), Camera::fit(IMAGE, PANEL));
        assert!(camera.zoomed(1e9, Point::default(), IMAGE, PANEL).scale <= MAX_SCALE);
        let empty = Camera::fit(Size::default(), Size::default());
        assert!(
            empty.scale > 0.0 && empty.zoomed(f64::NAN, Point::default(), IMAGE, PANEL).scale.is_finite()
        );
    }

    #[test]
    fn a_rectangle_is_shown_unless_it_is_seen_already() {
        let fitted = Camera::fit(IMAGE, PANEL);
        let (low, high) = (Point { x: 1000.0, y: 500.0 }, Point { x: 3000.0, y: 1500.0 });
        assert_eq!(fitted.showing(low, high, IMAGE, PANEL), fitted);
        let high = Point { x: 1040.0, y: 530.0 };
        let camera = fitted.showing(low, high, IMAGE, PANEL);
        assert_eq!(camera.center_px, Point { x: 1020.0, y: 515.0 });
        let (a, b) = (camera.css_from_px(low, PANEL), camera.css_from_px(high, PANEL));
        assert!(a.x > 0.0 && b.x < PANEL.width && b.x - a.x > 0.5 * PANEL.width);
    }

    #[test]
    fn a_place_outside_comes_into_view() {
        let camera = Camera::fit(IMAGE, PANEL).zoomed(8.0, Point { x: 400.0, y: 300.0 }, IMAGE, PANEL);
        let place = Point { x: 3000.0, y: 1000.0 };
        let at = camera.revealing(place, IMAGE, PANEL).css_from_px(place, PANEL);
        assert!((at.x - 720.0).abs() < 1e-6 && at.y > 0.0 && at.y < 600.0, "{at:?}");
        assert_eq!(camera.revealing(camera.center_px, IMAGE, PANEL), camera);
    }
}
