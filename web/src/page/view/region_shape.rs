//! The chosen region under the pointer: which part of it is held, and what a drag makes of it.

use super::camera::Point;
use crate::page::session::region::Region;

/// What a pointer holds of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grip {
    /// Nothing: a drag draws a new one.
    Outside,
    /// The inside: a drag moves it.
    Inside,
    /// An edge or a corner: −1 is left or upper, 1 right or lower, 0 neither.
    Border(i8, i8),
}

impl Grip {
    /// What a point holds of the rectangle between two corners; borders are held from `reach` away. All on screen.
    pub fn at(point: Point, low: Point, high: Point, reach: f64) -> Self {
        let side = |at: f64, low: f64, high: f64| {
            if at < low - reach || at > high + reach {
                return None;
            }
            let (to_low, to_high) = ((at - low).abs(), (at - high).abs());
            // In a rectangle smaller than the reach both edges are near: the nearer one counts.
            Some(if to_low.min(to_high) > reach {
                0
            } else if to_low <= to_high {
                -1
            } else {
                1
            })
        };
        match (side(point.x, low.x, high.x), side(point.y, low.y, high.y)) {
            (Some(0), Some(0)) => Self::Inside,
            (Some(across), Some(down)) => Self::Border(across, down),
            _ => Self::Outside,
        }
    }

    /// The cursor that says what a drag would do.
    pub fn cursor(self) -> &'static str {
        match self {
            Self::Outside => "crosshair",
            Self::Inside => "move",
            Self::Border(0, _) => "ns-resize",
            Self::Border(_, 0) => "ew-resize",
            Self::Border(across, down) if across == down => "nwse-resize",
            Self::Border(..) => "nesw-resize",
        }
    }
}

/// What a drag from one place of the slide to another makes of a region that is held so.
pub fn dragged(region: Option<Region>, grip: Grip, from: Point, to: Point, slide_px: (u32, u32)) -> Region {
    let (by_x, by_y) = (to.x - from.x, to.y - from.y);
    match (region, grip) {
        (None, _) | (_, Grip::Outside) => Region::between((from.x, from.y), (to.x, to.y), slide_px),
        (Some(region), Grip::Inside) => region.moved((by_x, by_y), slide_px),
        (Some(region), Grip::Border(across, down)) => {
            let side = |at: u32, length: u32, which: i8, by: f64| {
                let (low, high) = (f64::from(at), f64::from(at) + f64::from(length));
                match which {
                    -1 => ((low + by).min(high - 1.0), high),
                    1 => (low, (high + by).max(low + 1.0)),
                    _ => (low, high),
                }
            };
            let (left, right) = side(region.left, region.width, across, by_x);
            let (top, bottom) = side(region.top, region.height, down, by_y);
            Region::between((left, top), (right, bottom), slide_px)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLIDE: (u32, u32) = (10_000, 8000);
    const REGION: Region = Region { left: 1000, top: 1000, width: 500, height: 400 };

    fn point(x: f64, y: f64) -> Point {
        Point { x, y }
    }

    #[test]
    fn borders_and_corners_are_held_within_reach() {
        let (low, high) = (point(100.0, 100.0), point(200.0, 180.0));
        let grip = |x, y| Grip::at(point(x, y), low, high, 8.0);
        assert_eq!(grip(150.0, 140.0), Grip::Inside);
        assert_eq!(grip(95.0, 140.0), Grip::Border(-1, 0));
        assert_eq!(grip(203.0, 176.0), Grip::Border(1, 1));
        assert_eq!(grip(150.0, 92.0), Grip::Border(0, -1));
        assert_eq!(grip(91.0, 140.0), Grip::Outside);
        assert_eq!(Grip::at(point(101.0, 101.0), low, point(102.0, 102.0), 8.0), Grip::Border(-1, -1));
    }

    #[test]
    fn a_drag_does_what_its_grip_says() {
        let (from, to) = (point(0.0, 0.0), point(-100.0, 50.0));
        assert_eq!(
            dragged(Some(REGION), Grip::Inside, from, to, SLIDE),
            Region { left: 900, top: 1050, ..REGION }
        );
        let wider = dragged(Some(REGION), Grip::Border(-1, 1), from, to, SLIDE);
        assert_eq!(wider, Region { left: 900, top: 1000, width: 600, height: 450 });
        let drawn = dragged(Some(REGION), Grip::Outside, point(50.0, 60.0), point(20.0, 100.0), SLIDE);
        assert_eq!(drawn, Region { left: 20, top: 60, width: 30, height: 40 });
        // An edge dragged over the opposite one stops there.
        let thin = dragged(Some(REGION), Grip::Border(1, 0), from, point(-9000.0, 0.0), SLIDE);
        assert_eq!(thin, Region { width: 1, ..REGION });
    }
}
