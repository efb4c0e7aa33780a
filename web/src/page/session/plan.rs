//! What to ask of an engine next, so that it comes to hold what is wanted.
//!
//! The session writes down what it wants; this says which request brings an engine closer to it. A new engine holds
//! nothing, so that replacing a lost one needs no path of its own: the same steps lead back to where it was.

/// Names one choice of the user: each model, image, pixel size, run and engine that is wanted gets a new one.
pub type Revision = u32;

/// A run that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WantedRun {
    /// Which.
    pub revision: Revision,
    /// Whether it is to end after its current step.
    pub halt: bool,
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wanted {
    /// The engine, on the device that was chosen with it.
    pub engine: Revision,
    /// The model.
    pub model: Option<Revision>,
    /// The image.
    pub image: Option<Revision>,
    /// Its pixel size as the user gave it, in µm per pixel.
    pub um_per_px: Option<f64>,
    /// The run, which waits until everything for it is there.
    pub run: Option<WantedRun>,
}

/// What an engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Held {
    /// Which engine it is, once it has a device.
    pub engine: Option<Revision>,
    /// The model that it has read.
    pub model: Option<Revision>,
    /// The image that it has read.
    pub image: Option<Revision>,
    /// The pixel size that the user gave with it.
    pub um_per_px: Option<f64>,
    /// Whether the image's pixel size is known, from the user or from the file.
    pub has_pixel_size: bool,
    /// The run that has ended in it.
    pub run: Option<Revision>,
}

/// A request to an engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Choose a device.
    Start,
    /// Read the model.
    OpenModel(Revision),
    /// Read the image.
    OpenImage(Revision),
    /// Take the user's pixel size.
    SetPixelSize(f64),
    /// Run, from what earlier runs left.
    Predict(WantedRun),
    /// Nothing: all that can be had is there.
    Rest,
}

/// The next request that brings an engine closer to what is wanted.
pub fn next_step(wanted: &Wanted, held: &Held) -> Step {
    if held.engine != Some(wanted.engine) {
        return Step::Start;
    }
    if let Some(model) = wanted.model
        && held.model != Some(model)
    {
        return Step::OpenModel(model);
    }
    if let Some(image) = wanted.image {
        if held.image != Some(image) {
            return Step::OpenImage(image);
        }
        if let Some(um_per_px) = wanted.um_per_px
            && held.um_per_px != Some(um_per_px)
        {
            return Step::SetPixelSize(um_per_px);
        }
    }
    match wanted.run {
        Some(run)
            if wanted.model.is_some()
                && wanted.image.is_some()
                && held.has_pixel_size
                && held.run != Some(run.revision) =>
        {
            Step::Predict(run)
        }
        _ => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: WantedRun = WantedRun { revision: 9, halt: false };

    /// Does what a step asks for, as an engine that knows nothing of earlier ones would.
    fn take(held: &mut Held, wanted: &Wanted, step: Step, embedded: bool) {
        match step {
            Step::Start => *held = Held { engine: Some(wanted.engine), ..Held::default() },
            Step::OpenModel(model) => held.model = Some(model),
            Step::OpenImage(image) => {
                held.image = Some(image);
                held.um_per_px = wanted.um_per_px;
                held.has_pixel_size = embedded || wanted.um_per_px.is_some();
            }
            Step::SetPixelSize(um_per_px) => {
                held.um_per_px = Some(um_per_px);
                held.has_pixel_size = true;
            }
            Step::Predict(run) => held.run = Some(run.revision),
            Step::Rest => {}
        }
    }

    fn steps(wanted: &Wanted, held: &mut Held, embedded: bool) -> Vec<Step> {
        let mut taken = Vec::new();
        loop {
            let step = next_step(wanted, held);
            if step == Step::Rest {
                return taken;
            }
            take(held, wanted, step, embedded);
            taken.push(step);
            assert!(taken.len() < 10, "{taken:?}");
        }
    }

    #[test]
    fn a_run_waits_for_what_it_needs() {
        let mut held = Held::default();
        let mut wanted = Wanted { engine: 1, run: Some(RUN), ..Wanted::default() };
        assert_eq!(steps(&wanted, &mut held, false), [Step::Start]);
        wanted.image = Some(2);
        assert_eq!(steps(&wanted, &mut held, false), [Step::OpenImage(2)]);
        wanted.model = Some(3);
        assert_eq!(steps(&wanted, &mut held, false), [Step::OpenModel(3)]);
        wanted.um_per_px = Some(0.5);
        assert_eq!(steps(&wanted, &mut held, false), [Step::SetPixelSize(0.5), Step::Predict(RUN)]);
        assert_eq!(steps(&wanted, &mut held, false), []);
    }

    #[test]
    fn a_new_engine_comes_to_hold_all_again() {
        let wanted =
            Wanted { engine: 1, model: Some(2), image: Some(3), um_per_px: Some(0.5), run: Some(RUN) };
        let all = [Step::Start, Step::OpenModel(2), Step::OpenImage(3), Step::Predict(RUN)];
        let mut held = Held::default();
        assert_eq!(steps(&wanted, &mut held, false), all);
        // A lost engine, and one that the user replaces.
        assert_eq!(steps(&wanted, &mut Held::default(), false), all);
        assert_eq!(steps(&Wanted { engine: 7, ..wanted }, &mut held, false), all);
    }

    #[test]
    fn only_what_changed_is_asked_for() {
        let wanted = Wanted { engine: 1, model: Some(2), image: Some(3), um_per_px: None, run: None };
        let mut held = Held::default();
        steps(&wanted, &mut held, true);
        let again = WantedRun { revision: 10, halt: false };
        let wanted = Wanted { model: Some(4), run: Some(again), ..wanted };
        assert_eq!(steps(&wanted, &mut held, true), [Step::OpenModel(4), Step::Predict(again)]);
    }
}
