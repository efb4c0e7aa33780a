//! Models and images that have to be fetched.

use std::rc::Rc;

use wasm_bindgen_futures::spawn_local;
use web_sys::AbortSignal;

use super::actions::{LARGEST_BUNDLE_BYTES, LARGEST_IMAGE_BYTES};
use super::catalogue::{CatalogueModel, Sample};
use super::handle::{Session, resolve};
use super::problem::{Problem, Subject};
use super::slide::starts_as_tiff;
use super::state::{CatalogueState, Change};
use super::store::{Download, Expected, Stopped, can_keep, fetch_catalogue, fetch_file, fetch_start};
use super::work::Source;

impl Session {
    /// Fetches the catalogue and the first model.
    pub(super) fn load_first(self: &Rc<Self>, catalogue: Option<String>, model: Option<String>) {
        let (id, url) = match model {
            Some(model) if is_address(&model) => (None, Some(model)),
            id => (id, None),
        };
        let has_url = url.is_some();
        if let Some(url) = url {
            self.open_model_url(&url);
        }
        let Some(catalogue) = catalogue else {
            if let Some(id) = id {
                self.problem(Problem::input(format!("There is no catalogue to find the model \"{id}\" in.")));
            }
            return;
        };
        let (url, download) = match self.resolve(&catalogue).and_then(|url| Ok((url, Download::new()?))) {
            Ok(found) => found,
            Err(problem) => {
                return self.change(Change::Catalogue, |state| {
                    state.catalogue = CatalogueState::Failed(problem.text);
                });
            }
        };
        let signal = download.signal();
        self.work.borrow_mut().catalogue_download = Some(download);
        self.change(Change::Catalogue, |state| state.catalogue = CatalogueState::Loading);
        let session = self.clone();
        spawn_local(async move {
            let found = fetch_catalogue(&url, &signal).await;
            session.work.borrow_mut().catalogue_download = None;
            let models = match found {
                Ok(models) => {
                    Ok(Rc::new(models.into_iter().map(|model| with_addresses(model, &url)).collect()))
                }
                Err(Stopped::Problem(problem)) => Err(problem.text),
                Err(Stopped::Aborted) => return,
            };
            session.change(Change::Catalogue, |state| {
                state.catalogue = match models {
                    Ok(models) => CatalogueState::Ready(models),
                    Err(text) => CatalogueState::Failed(text),
                };
            });
            // Not over what the user chose meanwhile.
            let is_free = {
                let work = session.work.borrow();
                work.wanted.model.is_none() && work.model_download.is_none() && !has_url
            };
            let first = match (&session.state().catalogue, id) {
                (CatalogueState::Ready(models), None) => models.first().map(|model| model.id.clone()),
                (_, id) => id,
            };
            match first {
                Some(id) if is_free => session.choose_model(&id),
                _ => session.refresh_phase(),
            }
        });
    }

    /// Opens a model by its id in the catalogue or its address, whichever it looks like.
    pub fn open_model(&self, model: &str) {
        if is_address(model) {
            self.open_model_url(model);
        } else {
            self.choose_model(model);
        }
    }

    /// Fetches a model of the catalogue and opens it.
    pub fn choose_model(&self, id: &str) {
        self.begin_action();
        let found = match &self.state().catalogue {
            CatalogueState::Ready(models) => models.iter().find(|model| model.id == id).cloned(),
            _ => None,
        };
        let Some(model) = found else {
            let text = format!("The catalogue has no model \"{id}\".");
            return self.problem(Problem::input(text).about(Subject::Model));
        };
        let expected = Expected {
            bytes: Some(model.bytes as f64),
            most_bytes: model.bytes as f64,
            sha256: Some(model.sha256.clone()),
        };
        self.prepare_sample(model.sample.as_ref());
        self.fetch_model(model.file.clone(), file_name(&model.file), expected, Some(model.id));
    }

    /// Fetches a bundle, at an address relative to the document, and opens it.
    pub fn open_model_url(&self, url: &str) {
        self.begin_action();
        match in_document(url) {
            Ok(url) => {
                let expected = Expected { most_bytes: LARGEST_BUNDLE_BYTES, ..Expected::default() };
                let name = file_name(&url);
                self.fetch_model(url, name, expected, None);
            }
            Err(problem) => self.problem(problem),
        }
    }

    fn fetch_model(&self, url: String, name: String, expected: Expected, id: Option<String>) {
        let Some(session) = self.this.upgrade() else { return };
        let download = match Download::new() {
            Ok(download) => download,
            Err(problem) => return self.problem(problem),
        };
        let signal = download.signal();
        {
            let mut work = self.work.borrow_mut();
            // A download that goes on ends here.
            work.model_download = Some(download);
            work.model_bytes = (0.0, expected.bytes.unwrap_or(0.0));
        }
        // The run with the model before ends now, not when this one has come.
        self.keep_open();
        {
            let mut work = self.work.borrow_mut();
            (work.wanted.model, work.model) = (None, None);
        }
        self.begin_anew();
        self.change(Change::Chosen, |state| state.chosen_model = id.clone());
        self.refresh_phase();
        self.wake();
        spawn_local(async move {
            let progress = {
                let session = session.clone();
                move |bytes| {
                    session.work.borrow_mut().model_bytes.0 = bytes;
                    session.refresh_phase();
                }
            };
            // Only what can be told apart from later versions is kept.
            let keep = expected.sha256.is_some();
            match fetch_file(&url, &expected, keep, &signal, progress).await {
                Ok(blob) if !signal.aborted() => session.take_model(Source { name, blob }, id),
                Err(Stopped::Problem(problem)) if !signal.aborted() => {
                    session.work.borrow_mut().model_download = None;
                    session.change(Change::Chosen, |state| state.chosen_model = None);
                    session.restore_kept();
                    session.problem(problem.about(Subject::Model));
                    session.refresh_phase();
                }
                _ => {}
            }
        });
    }

    /// Opens the image that came with the chosen model, or the catalogue's first; then its model is chosen as well.
    pub fn open_sample(&self) {
        self.begin_action();
        let entry = self.state().sample_entry().cloned();
        let Some((entry, sample)) =
            entry.and_then(|entry| entry.sample.clone().map(|sample| (entry, sample)))
        else {
            return self.problem(Problem::state("The catalogue has no sample."));
        };
        let chosen = self.state().chosen_model.clone();
        if chosen.as_ref() != Some(&entry.id) {
            self.choose_model(&entry.id);
        }
        self.fetch_image(sample.file.clone(), expected_of(&sample), true, sample.um_per_px);
    }

    /// Opens an image at an address relative to the document: a slide where it lies, if its server answers ranges,
    /// everything else fetched whole.
    pub fn open_image_url(&self, url: &str, um_per_px: Option<f64>) {
        self.begin_action();
        let url = match in_document(url) {
            Ok(url) => url,
            Err(problem) => return self.problem(problem.about(Subject::Image)),
        };
        let Some((session, signal)) = self.begin_image_download() else { return };
        spawn_local(async move {
            let start = fetch_start(&url, &signal).await;
            if signal.aborted() {
                return;
            }
            if start.is_some_and(|bytes| starts_as_tiff(&bytes)) {
                session.work.borrow_mut().image_download = None;
                let name = file_name(&url);
                session.open_address(url, name, um_per_px);
            } else {
                session.fetch_whole_image(url, um_per_px);
            }
        });
    }

    /// Fetches an image and opens it.
    pub(super) fn fetch_whole_image(&self, url: String, um_per_px: Option<f64>) {
        let expected = Expected { most_bytes: LARGEST_IMAGE_BYTES, ..Expected::default() };
        self.fetch_image(url, expected, false, um_per_px);
    }

    fn fetch_image(&self, url: String, expected: Expected, keep: bool, um_per_px: Option<f64>) {
        let Some((session, signal)) = self.begin_image_download() else { return };
        spawn_local(async move {
            match fetch_file(&url, &expected, keep, &signal, |_| ()).await {
                Ok(blob) if !signal.aborted() => {
                    session.work.borrow_mut().image_download = None;
                    session.open_image_blob(blob, file_name(&url), um_per_px);
                }
                Err(Stopped::Problem(problem)) if !signal.aborted() => {
                    session.work.borrow_mut().image_download = None;
                    session.problem(problem.about(Subject::Image));
                }
                _ => return,
            }
            session.refresh_phase();
        });
    }

    fn begin_image_download(&self) -> Option<(Rc<Self>, AbortSignal)> {
        let session = self.this.upgrade()?;
        let download = match Download::new() {
            Ok(download) => download,
            Err(problem) => {
                self.problem(problem);
                return None;
            }
        };
        let signal = download.signal();
        {
            let mut work = self.work.borrow_mut();
            (work.image_download, work.sample_download) = (Some(download), None);
        }
        self.refresh_phase();
        Some((session, signal))
    }

    /// Puts a sample into the cache together with its model, so that it opens without the network.
    fn prepare_sample(&self, sample: Option<&Sample>) {
        if !can_keep() {
            return;
        }
        let (Some(sample), Ok(download)) = (sample.cloned(), Download::new()) else { return };
        let signal = download.signal();
        self.work.borrow_mut().sample_download = Some(download);
        spawn_local(async move {
            // Whoever opens the sample hears what is wrong with it; nobody has asked yet.
            let _ = fetch_file(&sample.file, &expected_of(&sample), true, &signal, |_| ()).await;
        });
    }
}

fn expected_of(sample: &Sample) -> Expected {
    Expected {
        bytes: sample.bytes.map(|bytes| bytes as f64),
        most_bytes: LARGEST_IMAGE_BYTES,
        sha256: sample.sha256.clone(),
    }
}

/// The model with whole addresses. Addresses in a catalogue are relative to it.
fn with_addresses(mut model: CatalogueModel, catalogue_url: &str) -> CatalogueModel {
    let whole = |file: &mut String| {
        // What is no address is said when somebody asks for it.
        if let Ok(url) = resolve(file, catalogue_url) {
            *file = url;
        }
    };
    whole(&mut model.file);
    if let Some(sample) = &mut model.sample {
        whole(&mut sample.file);
    }
    model
}

/// What has a path or an ending is an address; an id of the catalogue has neither.
fn is_address(model: &str) -> bool {
    model.contains(['/', '.', ':'])
}

fn in_document(url: &str) -> Result<String, Problem> {
    let document = gloo::utils::document().base_uri().ok().flatten().unwrap_or_default();
    resolve(url, &document)
}

/// The last part of an address's path.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(url);
    js_sys::decode_uri_component(name).map_or_else(|_| name.to_owned(), String::from)
}
