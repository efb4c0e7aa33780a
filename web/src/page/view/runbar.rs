//! What is going on: progress, the device, the outcome, notices and problems.

use web_sys::{HtmlButtonElement, HtmlElement};

use super::dom::{button, clear, el, icon_button, set_attr, set_flag, set_style, set_text, show};
use super::panel::CLOSE;
use super::words;
use crate::page::session::state::{Phase, Running, State, Weight};
use crate::protocol::{DeviceKind, DeviceReport, RunProgress};

/// Spoken progress comes in steps of this many per cent, so that a screen reader is not kept talking.
const SPOKEN_STEP: usize = 10;

/// The rows between what goes in and the map.
#[derive(Debug)]
pub struct Runbar {
    /// All of it.
    pub root: HtmlElement,
    /// Starts or continues a run.
    pub predict: HtmlButtonElement,
    /// Ends a run or a download.
    pub cancel: HtmlButtonElement,
    /// Hides the problem.
    pub dismiss: HtmlButtonElement,
    /// Notices, each with a button whose `data-notice` is its id.
    pub notices: HtmlElement,
    progress: HtmlElement,
    track: HtmlElement,
    bar: HtmlElement,
    spoken: HtmlElement,
    result: HtmlElement,
    device: HtmlElement,
    problem: HtmlElement,
    alert: HtmlElement,
}

impl Runbar {
    /// Builds the rows.
    pub fn new() -> Self {
        let progress = status("Progress", "run-line");
        // The line changes several times a second; what is spoken comes from `spoken`.
        set_attr(&progress, "aria-live", Some("off"));
        let bar: HtmlElement = el("div").class("track-bar").done();
        let track: HtmlElement = el("div")
            .class("track")
            .attr("role", "progressbar")
            .attr("aria-label", "Prediction progress")
            .attr("aria-valuemin", "0")
            .attr("hidden", "")
            .with(&bar)
            .done();
        let spoken: HtmlElement = el("p").class("unseen").attr("aria-live", "polite").done();
        let result = status("Result", "run-line");
        let notices: HtmlElement = el("ul").class("notices").attr("hidden", "").done();
        let predict: HtmlButtonElement = button("Predict", "button primary").done();
        let cancel: HtmlButtonElement = button("Cancel", "button").attr("hidden", "").done();
        let device = status("Device in use", "device-line");
        let alert: HtmlElement = el("div").attr("role", "alert").done();
        let dismiss: HtmlButtonElement = icon_button("Dismiss", CLOSE, "icon-button small").done();
        let problem: HtmlElement =
            el("div").class("problem").attr("hidden", "").with(&alert).with(&dismiss).done();
        let lines = el("div").class("run-lines").with(&progress).with(&result);
        let root: HtmlElement = el("div")
            .class("runbar")
            .with(el("div").class("run").with(&predict).with(&cancel).with(lines).with(&device))
            .with(&spoken)
            .with(&problem)
            .with(&notices)
            .with(&track)
            .done();
        Self {
            root,
            predict,
            cancel,
            dismiss,
            notices,
            progress,
            track,
            bar,
            spoken,
            result,
            device,
            problem,
            alert,
        }
    }

    /// Shows the state. `own_problem` is one that the page itself met; `region_taken` says that the map, if there is one,
    /// is of the region that is chosen.
    pub fn refresh(&self, state: &State, own_problem: Option<&str>, region_taken: bool) {
        self.refresh_progress(state);
        let idle = matches!(state.phase, Phase::Ready | Phase::Done { .. } | Phase::Failed);
        let running = matches!(state.phase, Phase::Predicting(_) | Phase::Cancelling(_));
        let loading = matches!(state.phase, Phase::LoadingModel { .. } | Phase::ReadingRegion { .. });
        let stoppable = running || loading;
        show(&self.predict, !stoppable);
        let chosen = state.slide.is_none() || state.region.is_some();
        self.predict.set_disabled(!(idle && state.model.is_some() && state.image.is_some() && chosen));
        // The one next step stands out: it is not to compute a complete map again.
        let is_slide = state.slide.is_some();
        set_text(&self.predict, if is_slide { "Predict region" } else { "Predict" });
        let another =
            is_slide && state.region.is_some() && !region_taken && matches!(state.phase, Phase::Done { .. });
        let next =
            another || matches!(state.phase, Phase::Ready | Phase::Failed | Phase::Done { complete: false });
        set_attr(&self.predict, "class", Some(if next { "button primary" } else { "button" }));
        show(&self.cancel, stoppable);
        self.cancel.set_disabled(matches!(state.phase, Phase::Cancelling(_)));
        set_text(&self.device, &state.device.as_ref().map(device_line).unwrap_or_default());
        let problem = own_problem.or(state.problem.as_ref().map(|problem| problem.text.as_str()));
        show(&self.problem, problem.is_some());
        set_text(&self.alert, problem.unwrap_or_default());
        self.refresh_notices(state);
    }

    /// Shows how far a run or a download has come, and how it ended.
    pub fn refresh_progress(&self, state: &State) {
        let done = result_line(state);
        // Both lines stay where they are: a live region speaks of changes, not of its own appearance.
        set_text(&self.result, done.as_deref().unwrap_or_default());
        let (line, part) = phase_line(&state.phase);
        set_text(&self.progress, if done.is_none() { &line } else { "" });
        show(&self.track, part.is_some());
        let Some(Part { name, done, total }) = part else {
            set_text(&self.spoken, if matches!(state.phase, Phase::Done { .. }) { "" } else { &line });
            return;
        };
        set_attr(&self.track, "aria-label", Some(name));
        set_attr(&self.track, "aria-valuemax", Some(&format!("{total:.0}")));
        set_attr(&self.track, "aria-valuenow", Some(&format!("{done:.0}")));
        set_attr(&self.track, "aria-valuetext", Some(&line));
        set_flag(&self.track, "data-unknown", total <= 0.0);
        let fraction = if total > 0.0 { (done / total).clamp(0.0, 1.0) } else { 0.0 };
        set_style(&self.bar, "transform", &format!("scaleX({fraction:.4})"));
        let step = (100.0 * fraction) as usize / SPOKEN_STEP * SPOKEN_STEP;
        set_text(&self.spoken, &format!("{name}: {step} %"));
    }

    fn refresh_notices(&self, state: &State) {
        show(&self.notices, !state.notices.is_empty());
        let key = state.notices.iter().map(|notice| notice.id.to_string()).collect::<Vec<_>>().join(" ");
        if self.notices.get_attribute("data-key").as_deref() == Some(&key) {
            return;
        }
        set_attr(&self.notices, "data-key", Some(&key));
        clear(&self.notices);
        for notice in &state.notices {
            let weight = match notice.weight {
                Weight::Info => "info",
                Weight::Warning => "warning",
            };
            let item = el("li")
                .attr("data-weight", weight)
                .with(el("span").attr("role", "status").text(&notice.text))
                .with(
                    icon_button("Dismiss notice", CLOSE, "icon-button small")
                        .attr("data-notice", &notice.id.to_string()),
                )
                .done::<HtmlElement>();
            let _ = self.notices.append_child(&item);
        }
    }
}

fn status(name: &str, class: &str) -> HtmlElement {
    el("p").class(class).attr("role", "status").attr("aria-label", name).done()
}

/// How much of something is done.
struct Part {
    name: &'static str,
    done: f64,
    total: f64,
}

fn phase_line(phase: &Phase) -> (String, Option<Part>) {
    let text = match phase {
        Phase::Starting => "Starting the engine…",
        Phase::NeedsModel => "Choose a model, or open one from a file.",
        Phase::LoadingModel { bytes, total } => {
            let of_total = if *total > 0.0 { format!(" of {}", words::bytes(*total)) } else { String::new() };
            let line = format!("Loading the model: {}{of_total}", words::bytes(*bytes));
            return (line, Some(Part { name: "Model download", done: *bytes, total: *total }));
        }
        Phase::OpeningModel => "Reading the model…",
        Phase::NeedsImage => "Open an H&E image to begin.",
        Phase::OpeningImage => "Reading the image…",
        Phase::NeedsRegion => "Choose a region of the slide to predict.",
        Phase::ReadingRegion { done, total } => {
            let part = Part { name: "Reading the region", done: f64::from(*done), total: f64::from(*total) };
            return ("Reading the region from the slide…".to_owned(), Some(part));
        }
        Phase::NeedsPixelSize => "The image does not say how large a pixel is.",
        Phase::Ready => "Ready to predict.",
        Phase::Predicting(running) => return (running_line(running), Some(run_part(running.progress))),
        Phase::Cancelling(running) => {
            return ("Cancelling; what is done is kept…".to_owned(), Some(run_part(running.progress)));
        }
        Phase::Done { .. } => "",
        Phase::Failed => "The engine has stopped.",
    };
    (text.to_owned(), None)
}

fn run_part(progress: RunProgress) -> Part {
    Part { name: "Prediction progress", done: progress.done as f64, total: progress.total as f64 }
}

fn running_line(running: &Running) -> String {
    let RunProgress { done, total, .. } = running.progress;
    if total == 0 {
        return "Finding tissue and warming up…".to_owned();
    }
    let mut line = format!("{} of {} tiles", words::count(done), words::count(total));
    if running.tiles_per_s > 0.0 {
        line += &format!(" · {}", words::rate(running.tiles_per_s));
    }
    if let Some(seconds) = running.remaining_s {
        line += &format!(" · about {} left", words::duration(seconds));
    }
    line
}

/// One sentence on how the last run ended.
fn result_line(state: &State) -> Option<String> {
    let result = state.result.filter(|_| matches!(state.phase, Phase::Done { .. }))?;
    let RunProgress { bins_done, bins_total, .. } = result.progress;
    let time = words::duration(result.seconds);
    let tile_um = state.model.as_ref().map_or(0.0, |model| model.levels.bin.tile_um);
    let noun = |number| words::bin_noun(tile_um, number);
    Some(if result.complete {
        format!("Map complete: {} {} in {time}.", words::count(bins_total), noun(bins_total))
    } else {
        let (done, total) = (words::count(bins_done), words::count(bins_total));
        format!("Partial map: {done} of {total} {}, {time}. Predict continues from here.", noun(bins_total))
    })
}

/// Which device, and why.
fn device_line(report: &DeviceReport) -> String {
    let kind = match report.device {
        DeviceKind::Gpu if report.software => "GPU (software)",
        DeviceKind::Gpu => "GPU",
        DeviceKind::Cpu => "CPU",
    };
    format!("{kind}: {}. {}", report.name.trim_end_matches('.'), report.reason)
}
