//! How time and memory grow with a slide.

use std::path::Path;

use anyhow::Result;
use magnet_core::heatmap::figure::{INK, SOFT_INK};

use super::super::drawing::{Anchor, Drawing, Font, Rgb, Ruler};
use super::parts::{ACCENT, SECOND, SMALL, SMALL_LINE, TITLE as TITLE_FONT, lines};
use super::plot::{Axis, Plot};
use super::{Form, write};
use crate::error::InputError;
use crate::files::Overwrite;

/// The heading of the figure.
const TITLE: &str = "Time and memory by the size of the slide";
const MARGIN: f64 = 24.0;
const PLOT_WIDTH: f64 = 300.0;
const PLOT_HEIGHT: f64 = 230.0;
/// Room for the numbers of an upright axis.
const AXIS_ROOM: f64 = 46.0;
const PLOT_STEP: f64 = PLOT_WIDTH + 40.0 + AXIS_ROOM;
const WIDTH: f64 = 2.0 * MARGIN + AXIS_ROOM + PLOT_STEP + PLOT_WIDTH;
/// Above the plots: title, key, names of the upright axes.
const HEAD: f64 = 88.0;
/// Below them: numbers and name of the level axis.
const FOOT: f64 = 52.0;
/// Side of a point's mark.
const MARK: f64 = 6.0;
/// Colours of the series in turn.
const COLORS: [Rgb; 3] = [ACCENT, SECOND, [92, 122, 62]];

/// A figure of what was measured at several numbers of bins.
#[derive(Debug, Clone)]
pub struct ScaleFigure {
    /// What was measured.
    pub series: Vec<ScaleSeries>,
    /// On which device, with which model.
    pub note: String,
}

/// One thing that was measured at several numbers of bins, ascending.
#[derive(Debug, Clone)]
pub struct ScaleSeries {
    /// Its name.
    pub name: String,
    /// Numbers of bins and seconds.
    pub seconds: Vec<(f64, f64)>,
    /// Numbers of bins and peak memory in MB, where it is known.
    pub peak_mb: Vec<(f64, f64)>,
}

impl ScaleFigure {
    /// Refuses a file whose ending no figure is written for, before anything is measured.
    ///
    /// # Errors
    /// Names the flag and the endings.
    pub fn check_ending(flag: &str, path: &Path) -> Result<(), InputError> {
        Form::of(flag, path).map(drop)
    }

    /// Writes the figure, in the form of the file's ending.
    ///
    /// # Errors
    /// If the figure cannot be drawn or the file not be written.
    pub fn write(&self, flag: &str, path: &Path, overwrite: Overwrite) -> Result<()> {
        write(&self.draw()?, TITLE, Form::of(flag, path)?, path, overwrite)
    }

    fn draw(&self) -> Result<Drawing> {
        let ruler = Ruler::new()?;
        let note =
            format!("Dashed: times in proportion to the number of bins, from the smallest on. {}", self.note);
        let note = ruler.wrap(&note, SMALL, WIDTH - 2.0 * MARGIN);
        let height = MARGIN + HEAD + PLOT_HEIGHT + FOOT + note.len() as f64 * SMALL_LINE + MARGIN;
        let mut drawing = Drawing::new(WIDTH, height, self.label());
        drawing.text(MARGIN, MARGIN + TITLE_FONT.size * 0.8, Anchor::Start, TITLE_FONT, TITLE);
        self.draw_key(&mut drawing, &ruler, MARGIN + 44.0);
        let times = self.draw_plot(&mut drawing, 0, "seconds", |series| &series.seconds);
        self.draw_proportions(&mut drawing, &times);
        self.draw_plot(&mut drawing, 1, "peak memory, MB", |series| &series.peak_mb);
        lines(&mut drawing, MARGIN, MARGIN + HEAD + PLOT_HEIGHT + FOOT + SMALL_LINE, SMALL, &note);
        Ok(drawing)
    }

    fn colored(&self) -> impl Iterator<Item = (&ScaleSeries, Rgb)> {
        self.series.iter().zip(COLORS.into_iter().cycle())
    }

    fn draw_key(&self, drawing: &mut Drawing, ruler: &Ruler, baseline: f64) {
        let font = Font::plain(12.0, INK);
        let mut x = MARGIN;
        for (series, color) in self.colored() {
            drawing.rect(x, baseline - 9.0, 10.0, 10.0, color);
            drawing.text(x + 16.0, baseline, Anchor::Start, font, series.name.clone());
            x += 16.0 + ruler.width(&series.name, font) + 22.0;
        }
    }

    fn draw_plot(
        &self,
        drawing: &mut Drawing,
        column: usize,
        name: &'static str,
        points: impl Fn(&ScaleSeries) -> &[(f64, f64)],
    ) -> Plot {
        let all = || self.series.iter().flat_map(&points);
        let plot = Plot {
            left: MARGIN + AXIS_ROOM + column as f64 * PLOT_STEP,
            top: MARGIN + HEAD,
            width: PLOT_WIDTH,
            height: PLOT_HEIGHT,
            x: Axis::of_powers(all().map(|point| point.0), "bins"),
            y: Axis::of_powers(all().map(|point| point.1), name),
        };
        plot.draw_axes(drawing);
        for (series, color) in self.colored() {
            let points = points(series);
            plot.draw_line(drawing, points, 2.0, color);
            for &(bins, value) in points {
                let (x, y) = (plot.x_at(bins), plot.y_at(value));
                drawing.rect(x - MARK / 2.0, y - MARK / 2.0, MARK, MARK, color);
            }
        }
        plot
    }

    /// How the times would grow in proportion. Memory does not begin at 0, so there is no such line for it.
    fn draw_proportions(&self, drawing: &mut Drawing, plot: &Plot) {
        for series in &self.series {
            if let (Some(first), Some(last)) = (series.seconds.first(), series.seconds.last()) {
                let from = (plot.x_at(first.0), plot.y_at(first.1));
                let to = (plot.x_at(last.0), plot.y_at(first.1 * last.0 / first.0));
                drawing.dashes(from, to, 1.0, SOFT_INK);
            }
        }
    }

    /// The figure in words.
    fn label(&self) -> String {
        let series = self.series.iter().map(|series| {
            let points =
                series.seconds.iter().map(|(bins, seconds)| format!("{seconds:.3} s for {bins} bins"));
            format!("{}: {}", series.name, points.collect::<Vec<_>>().join(", "))
        });
        format!("{TITLE}. {}", series.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_names_every_series_and_says_its_numbers() {
        let series = |name: &str, peak_mb: Vec<(f64, f64)>| ScaleSeries {
            name: name.into(),
            seconds: vec![(1e4, 0.01), (1e5, 0.1), (6.6e5, 0.7)],
            peak_mb,
        };
        let figure = ScaleFigure {
            series: vec![series("graph", vec![(1e4, 30.0), (6.6e5, 200.0)]), series("slide", Vec::new())],
            note: "On a CPU.".into(),
        };
        let svg = figure.draw().unwrap().to_svg().unwrap();
        for part in ["graph", "slide", "0.700 s for 660000 bins", "On a CPU.", "peak memory, MB", "1,000,000"]
        {
            assert!(svg.contains(part), "{part}");
        }
        let empty = ScaleFigure { series: Vec::new(), note: String::new() };
        assert!(empty.draw().unwrap().to_svg().unwrap().contains("bins"));
    }

    #[test]
    fn a_file_of_another_ending_is_refused_by_its_flag() {
        let error = ScaleFigure::check_ending("--plot", Path::new("scale.pdf")).unwrap_err().to_string();
        assert!(error.contains("--plot") && error.contains(".svg"), "{error}");
    }
}
