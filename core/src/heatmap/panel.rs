//! The marks of a map at their physical size, over the slide or over plain white.

use super::HeatmapError;
use super::canvas::Canvas;
use super::color_map::ColorMap;
use super::scale::ValueRange;
use crate::coordinates::SlideUm;
use crate::slide::{PatchReader, PxWindow, SlideImage};

/// Bins up to this size are drawn as squares.
const LARGEST_SQUARE_BIN_UM: f64 = 20.0;

/// The shape of a mark and its size in µm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mark {
    /// A square with this side: a bin or a tile.
    Square {
        /// Side, in µm.
        side_um: f64,
    },
    /// A disc with this diameter: a spot of an array.
    Disc {
        /// Diameter, in µm.
        diameter_um: f64,
    },
}

impl Mark {
    /// A measured place of this size: the spots of Visium and Spatial Transcriptomics are round and lie apart, the bins
    /// of Visium HD are squares that touch.
    pub fn of_bin(size_um: f64) -> Self {
        if size_um > LARGEST_SQUARE_BIN_UM {
            Mark::Disc { diameter_um: size_um }
        } else {
            Mark::Square { side_um: size_um }
        }
    }

    /// Side or diameter, in µm.
    pub fn size_um(self) -> f64 {
        match self {
            Mark::Square { side_um } => side_um,
            Mark::Disc { diameter_um } => diameter_um,
        }
    }
}

/// The part of the slide that is shown, in µm from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Left edge.
    pub left_um: f64,
    /// Top edge.
    pub top_um: f64,
    /// Width.
    pub width_um: f64,
    /// Height.
    pub height_um: f64,
}

impl View {
    /// All of a slide.
    pub fn of_slide(slide: &dyn PatchReader) -> Self {
        Self {
            left_um: 0.0,
            top_um: 0.0,
            width_um: f64::from(slide.width_px()) * slide.um_per_px(),
            height_um: f64::from(slide.height_px()) * slide.um_per_px(),
        }
    }

    /// The smallest view that holds all marks, with a margin of 3 % around; `None` without a finite place.
    pub fn of_marks(centers: &[SlideUm], mark: Mark) -> Option<Self> {
        let mut bounds: Option<(f64, f64, f64, f64)> = None;
        for center in centers.iter().filter(|center| center.x.is_finite() && center.y.is_finite()) {
            let (x0, y0, x1, y1) = bounds.unwrap_or((center.x, center.y, center.x, center.y));
            bounds = Some((x0.min(center.x), y0.min(center.y), x1.max(center.x), y1.max(center.y)));
        }
        let (x0, y0, x1, y1) = bounds?;
        let margin = mark.size_um() / 2.0 + 0.03 * ((x1 - x0).max(y1 - y0) + mark.size_um());
        Some(Self {
            left_um: x0 - margin,
            top_um: y0 - margin,
            width_um: x1 - x0 + 2.0 * margin,
            height_um: y1 - y0 + 2.0 * margin,
        })
    }
}

/// The slide behind the marks.
#[derive(Debug, Clone, Copy)]
pub struct Backdrop<'a> {
    /// The whole slide at any size, with its own pixel size. For many maps of one slide a thumbnail saves time.
    pub slide: &'a SlideImage,
    /// How much of its colour is kept: 0 is grey, 1 as it is.
    pub saturation: f32,
    /// How far it is faded to white: 0 is not at all, 1 is white.
    pub fade: f32,
}

impl<'a> Backdrop<'a> {
    /// The slide as it is.
    pub fn plain(slide: &'a SlideImage) -> Self {
        Self { slide, saturation: 1.0, fade: 0.0 }
    }

    /// The slide with little colour and paler, so that it does not compete with the marks.
    pub fn muted(slide: &'a SlideImage) -> Self {
        Self { slide, saturation: 0.3, fade: 0.35 }
    }
}

/// What a panel shows.
#[derive(Debug, Clone)]
pub struct PanelConfig<'a> {
    /// Centres of the marks.
    pub centers: &'a [SlideUm],
    /// One value for each mark; one that is not finite is drawn in grey.
    pub values: &'a [f32],
    /// Shape and size of the marks.
    pub mark: Mark,
    /// What the ends of the colour map stand for.
    pub range: ValueRange,
    /// The colour map.
    pub color_map: ColorMap,
    /// How opaque the marks are: 0 is invisible, 1 hides what is behind.
    pub opacity: f32,
    /// The part of the slide that is shown.
    pub view: View,
    /// The slide behind the marks, if any.
    pub backdrop: Option<Backdrop<'a>>,
    /// Longer side of the panel, in pixels (16 to 8192).
    pub max_side_px: u32,
}

/// A panel that has been drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// The picture.
    pub canvas: Canvas,
    /// µm per pixel of the picture.
    pub um_per_px: f64,
}

impl Panel {
    /// Draws a panel.
    ///
    /// # Errors
    /// [`HeatmapError::Lengths`] when there are not as many values as places, [`HeatmapError::Setting`] when the view,
    /// the mark or the panel's side is out of range, [`HeatmapError::Backdrop`] when the slide cannot be resampled.
    pub fn draw(config: &PanelConfig<'_>) -> Result<Self, HeatmapError> {
        if config.centers.len() != config.values.len() {
            return Err(HeatmapError::Lengths { centers: config.centers.len(), values: config.values.len() });
        }
        let size_um = config.mark.size_um();
        if !(size_um.is_finite() && size_um > 0.0) {
            return Err(setting("mark", "a size above 0 µm", size_um));
        }
        let (mut canvas, um_per_px) = empty_panel(config.view, config.max_side_px)?;
        if let Some(backdrop) = config.backdrop {
            draw_backdrop(&mut canvas, backdrop, config.view, um_per_px)?;
        }
        let opacity = if config.opacity.is_finite() { config.opacity.clamp(0.0, 1.0) } else { 1.0 };
        match config.mark {
            Mark::Square { side_um } => {
                draw_squares(&mut canvas, config, side_um / um_per_px, um_per_px, opacity)
            }
            Mark::Disc { diameter_um } => {
                // A disc that would vanish between pixels is drawn at the size of one.
                let radius = (diameter_um / um_per_px / 2.0).max(0.6);
                for (center, &value) in config.centers.iter().zip(config.values) {
                    let x = (center.x - config.view.left_um) / um_per_px;
                    let y = (center.y - config.view.top_um) / um_per_px;
                    let color = config.color_map.color(config.range.fraction(known(value)));
                    canvas.fill_disc(x, y, radius, color, opacity);
                }
            }
        }
        Ok(Self { canvas, um_per_px })
    }

    /// Draws the slide alone.
    ///
    /// # Errors
    /// As [`Panel::draw`].
    pub fn of_slide(backdrop: Backdrop<'_>, view: View, max_side_px: u32) -> Result<Self, HeatmapError> {
        let (mut canvas, um_per_px) = empty_panel(view, max_side_px)?;
        draw_backdrop(&mut canvas, backdrop, view, um_per_px)?;
        Ok(Self { canvas, um_per_px })
    }
}

fn empty_panel(view: View, max_side_px: u32) -> Result<(Canvas, f64), HeatmapError> {
    if !(16..=8192).contains(&max_side_px) {
        return Err(setting("max_side_px", "16 to 8192", max_side_px));
    }
    let sides_fit = view.width_um > 0.0 && view.height_um > 0.0;
    let all_finite =
        [view.left_um, view.top_um, view.width_um, view.height_um].iter().all(|um| um.is_finite());
    if !(sides_fit && all_finite) {
        return Err(setting("view", "finite sides above 0 µm", format!("{view:?}")));
    }
    let um_per_px = view.width_um.max(view.height_um) / f64::from(max_side_px);
    let side = |um: f64| (um / um_per_px - 1e-9).ceil().max(1.0) as u32;
    Ok((Canvas::new(side(view.width_um), side(view.height_um), [255; 3]), um_per_px))
}

fn draw_backdrop(
    canvas: &mut Canvas,
    backdrop: Backdrop<'_>,
    view: View,
    um_per_px: f64,
) -> Result<(), HeatmapError> {
    let (width, height) = (canvas.width(), canvas.height());
    // A full-resolution slide is brought near the panel's scale first; its windows would be too large to resample.
    let longest = f64::from(backdrop.slide.width_px().max(backdrop.slide.height_px()));
    let wanted = (2.0 * longest * backdrop.slide.um_per_px() / um_per_px).ceil();
    let reduced = if wanted < longest { Some(backdrop.slide.thumbnail(wanted as u32)?) } else { None };
    let slide = reduced.as_ref().unwrap_or(backdrop.slide);
    let scale = um_per_px / slide.um_per_px();
    let window = PxWindow {
        left: view.left_um / slide.um_per_px(),
        top: view.top_um / slide.um_per_px(),
        width: f64::from(width) * scale,
        height: f64::from(height) * scale,
    };
    slide.resample(window, width as usize, height as usize, canvas.rgb_mut())?;
    let (saturation, fade) = (backdrop.saturation.clamp(0.0, 1.0), backdrop.fade.clamp(0.0, 1.0));
    for pixel in canvas.rgb_mut().as_chunks_mut::<3>().0 {
        let grey = 0.2126 * f32::from(pixel[0]) + 0.7152 * f32::from(pixel[1]) + 0.0722 * f32::from(pixel[2]);
        for channel in pixel {
            let muted = grey + (f32::from(*channel) - grey) * saturation;
            *channel = (muted + (255.0 - muted) * fade).round() as u8;
        }
    }
    Ok(())
}

fn draw_squares(canvas: &mut Canvas, config: &PanelConfig<'_>, side_px: f64, um_per_px: f64, opacity: f32) {
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    let places = config.centers.iter().zip(config.values).map(|(center, &value)| {
        let x = (center.x - config.view.left_um) / um_per_px;
        let y = (center.y - config.view.top_um) / um_per_px;
        (x, y, value)
    });
    for (pixel, mean) in square_means((width, height), (side_px, side_px), places).enumerate() {
        if let Some(mean) = mean {
            let color = config.color_map.color(config.range.fraction(mean));
            canvas.blend((pixel % width) as i64, (pixel / width) as i64, color, opacity);
        }
    }
}

/// What each pixel of a picture of `(width, height)` shows of squares with the given centres and values, rows from the
/// top; `None` where no square is, NaN where one is not known.
///
/// Squares take every pixel whose middle they cover, so that neighbours meet without seam or overlap. Where several
/// fall on one pixel, it shows their mean.
pub(crate) fn square_means(
    (width, height): (usize, usize),
    side_px: (f64, f64),
    places: impl Iterator<Item = (f64, f64, f32)>,
) -> impl Iterator<Item = Option<f64>> {
    let mut sums = vec![0.0f64; width * height];
    let mut counts = vec![0u32; width * height];
    let span = |center: f64, side_px: f64, limit: usize| {
        let low = (center - side_px / 2.0 + 0.5).floor();
        let high = (center + side_px / 2.0 + 0.5).floor();
        // A square that covers no pixel's middle still shows: on the pixel that holds its own.
        let (low, high) = if high > low { (low, high) } else { (center.floor(), center.floor() + 1.0) };
        low.clamp(0.0, limit as f64) as usize..high.clamp(0.0, limit as f64) as usize
    };
    for (x, y, value) in places {
        let columns = span(x, side_px.0, width);
        for row in span(y, side_px.1, height) {
            for pixel in row * width + columns.start..row * width + columns.end {
                sums[pixel] += known(value);
                counts[pixel] += 1;
            }
        }
    }
    sums.into_iter().zip(counts).map(|(sum, count)| (count > 0).then(|| sum / f64::from(count)))
}

/// The value as `f64`; infinities count as not known.
fn known(value: f32) -> f64 {
    if value.is_finite() { f64::from(value) } else { f64::NAN }
}

fn setting(field: &'static str, expected: &'static str, found: impl ToString) -> HeatmapError {
    HeatmapError::Setting { field, expected, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::color_map::MISSING;
    use super::*;

    fn grid(columns: usize, rows: usize, pitch_um: f64) -> Vec<SlideUm> {
        (0..rows)
            .flat_map(|row| {
                (0..columns).map(move |column| SlideUm {
                    x: (column as f64 + 0.5) * pitch_um,
                    y: (row as f64 + 0.5) * pitch_um,
                })
            })
            .collect()
    }

    fn config<'a>(centers: &'a [SlideUm], values: &'a [f32], side_um: f64, side: f64) -> PanelConfig<'a> {
        PanelConfig {
            centers,
            values,
            mark: Mark::Square { side_um },
            range: ValueRange::new(0.0, 1.0).unwrap(),
            color_map: ColorMap::Viridis,
            opacity: 1.0,
            view: View { left_um: 0.0, top_um: 0.0, width_um: side, height_um: side },
            backdrop: None,
            max_side_px: 100,
        }
    }

    #[test]
    fn bins_meet_without_seams_at_any_scale() {
        // 7 bins on 100 pixels: edges fall between pixels.
        for columns in [7, 13, 33, 100, 250] {
            let centers = grid(columns, columns, 8.0);
            let values = vec![0.5; centers.len()];
            let panel = Panel::draw(&config(&centers, &values, 8.0, columns as f64 * 8.0)).unwrap();
            let color = ColorMap::Viridis.color(0.5);
            let bare = panel.canvas.rgb().as_chunks::<3>().0.iter().filter(|pixel| **pixel != color).count();
            assert_eq!(bare, 0, "{columns} bins");
        }
    }

    #[test]
    fn a_mark_lies_where_its_tissue_is() {
        let centers = [SlideUm { x: 30.0, y: 70.0 }];
        let panel = Panel::draw(&config(&centers, &[1.0], 20.0, 100.0)).unwrap();
        assert_eq!(panel.um_per_px, 1.0);
        for (x, y, inside) in [
            (20, 60, true),
            (39, 79, true),
            (19, 60, false),
            (40, 79, false),
            (30, 59, false),
            (30, 80, false),
        ] {
            let expected = if inside { ColorMap::Viridis.color(1.0) } else { [255; 3] };
            assert_eq!(panel.canvas.pixel(x, y), Some(expected), "({x}, {y})");
        }
    }

    #[test]
    fn bins_that_share_a_pixel_show_their_mean() {
        let centers = grid(200, 200, 1.0);
        let values: Vec<f32> = (0..centers.len()).map(|index| (index % 2) as f32).collect();
        let panel = Panel::draw(&config(&centers, &values, 1.0, 200.0)).unwrap();
        assert_eq!(panel.canvas.pixel(50, 50), Some(ColorMap::Viridis.color(0.5)));
    }

    #[test]
    fn unknown_values_are_grey() {
        let centers = grid(2, 1, 50.0);
        let panel = Panel::draw(&config(&centers, &[f32::NAN, f32::INFINITY], 50.0, 100.0)).unwrap();
        assert_eq!(panel.canvas.pixel(25, 25), Some(MISSING));
        assert_eq!(panel.canvas.pixel(75, 25), Some(MISSING));
    }

    #[test]
    fn the_backdrop_is_the_slide_at_the_same_place() {
        // Black for x below 50 µm, at 2 µm per pixel.
        let rgb = (0..100 * 100).flat_map(|index| [if index % 100 < 25 { 0 } else { 255 }; 3]).collect();
        let slide = SlideImage::new(100, 100, rgb, 2.0).unwrap();
        let mut config = config(&[], &[], 8.0, 100.0);
        config.backdrop = Some(Backdrop::plain(&slide));
        let panel = Panel::draw(&config).unwrap();
        assert_eq!(panel.canvas.pixel(40, 50), Some([0; 3]));
        assert_eq!(panel.canvas.pixel(60, 50), Some([255; 3]));
        // The same slide at ten times the resolution gives the same panel, but for the edge.
        let fine = (0..1000 * 1000).flat_map(|index| [if index % 1000 < 250 { 0 } else { 255 }; 3]).collect();
        let fine = SlideImage::new(1000, 1000, fine, 0.2).unwrap();
        config.backdrop = Some(Backdrop::plain(&fine));
        let panel = Panel::draw(&config).unwrap();
        assert_eq!((panel.canvas.pixel(45, 50), panel.canvas.pixel(54, 50)), (Some([0; 3]), Some([255; 3])));
        config.backdrop = Some(Backdrop { fade: 0.5, ..Backdrop::plain(&slide) });
        assert_eq!(Panel::draw(&config).unwrap().canvas.pixel(40, 50), Some([128; 3]));
    }

    #[test]
    fn views_hold_their_marks() {
        let mark = Mark::Disc { diameter_um: 100.0 };
        let view = View::of_marks(&grid(4, 2, 200.0), mark).unwrap();
        assert!(view.left_um < 50.0 && view.top_um < 50.0);
        assert!(view.left_um + view.width_um > 750.0 && view.top_um + view.height_um > 350.0);
        assert_eq!(View::of_marks(&[], mark), None);
        assert_eq!(View::of_marks(&[SlideUm { x: f64::NAN, y: 0.0 }], mark), None);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let centers = grid(2, 2, 8.0);
        assert!(matches!(
            Panel::draw(&config(&centers, &[0.0; 3], 8.0, 16.0)),
            Err(HeatmapError::Lengths { centers: 4, values: 3 })
        ));
        assert!(Panel::draw(&config(&centers, &[0.0; 4], f64::NAN, 16.0)).is_err());
        assert!(Panel::draw(&config(&centers, &[0.0; 4], 8.0, f64::INFINITY)).is_err());
        let huge = PanelConfig { max_side_px: 1 << 30, ..config(&centers, &[0.0; 4], 8.0, 16.0) };
        assert!(Panel::draw(&huge).is_err());
        // Places far away are not in the picture and cost nothing.
        let far = [SlideUm { x: 1e300, y: -1e300 }, SlideUm { x: f64::NAN, y: 0.0 }];
        assert!(Panel::draw(&config(&far, &[0.0; 2], 8.0, 16.0)).is_ok());
    }
}
