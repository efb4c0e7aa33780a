//! What goes in: the image, the model, the device.

use web_sys::{HtmlButtonElement, HtmlElement, HtmlInputElement, HtmlOptionElement, HtmlSelectElement};

use super::dom::{button, clear, el, icon_button, label, set_attr, show};
use crate::page::session::state::{CatalogueState, State};
use crate::protocol::DeviceChoice;

const MOON: &str = "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z";
/// The choice that stands for a bundle from elsewhere.
const FROM_FILE: &str = "";

/// The row above the map.
#[derive(Debug)]
pub struct Topbar {
    /// All of it.
    pub root: HtmlElement,
    /// The buttons that open an image; they stand in the middle of the stage while there is none.
    pub open_actions: HtmlElement,
    /// Opens the file dialog for an image.
    pub open_image: HtmlButtonElement,
    /// The image's file dialog.
    pub image_file: HtmlInputElement,
    /// Opens the sample.
    pub sample: HtmlButtonElement,
    /// The catalogue.
    pub model: HtmlSelectElement,
    /// Opens the file dialog for a model.
    pub open_model: HtmlButtonElement,
    /// The model's file dialog.
    pub model_file: HtmlInputElement,
    /// The device choice.
    pub device: HtmlSelectElement,
    /// Dark or light.
    pub theme: HtmlButtonElement,
    slot: HtmlElement,
}

impl Topbar {
    /// Builds the row.
    pub fn new() -> Self {
        let open_image: HtmlButtonElement = button("Open image", "button primary").done();
        let sample: HtmlButtonElement = button("Try the sample", "button").done();
        let open_actions: HtmlElement =
            el("div").class("open-actions").with(&open_image).with(&sample).done();
        let image_file = file_input(
            "image-file",
            "Image file",
            ".png,.jpg,.jpeg,.tif,.tiff,.btf,.svs,image/png,image/jpeg,image/tiff",
        );
        let model_file = file_input("model-file", "Model file", ".safetensors");
        let model: HtmlSelectElement = el("select").attr("id", "model").done();
        let open_model: HtmlButtonElement = button("Open model file", "button").done();
        let device: HtmlSelectElement = el("select").attr("id", "device").done();
        for (choice, text) in DEVICES {
            let _ = device.append_child(&option(choice, text));
        }
        let theme: HtmlButtonElement = icon_button("Dark theme", MOON, "icon-button theme").done();
        let slot: HtmlElement = el("div").class("open-slot").done();
        let root: HtmlElement = el("div")
            .class("topbar")
            .with(&slot)
            .with(
                el("div")
                    .class("field model-field")
                    .with(label("Model", "model"))
                    .with(el("div").class("joined").with(&model).with(&open_model)),
            )
            .with(el("div").class("field").with(label("Device", "device")).with(&device))
            .with(&theme)
            .with(&image_file)
            .with(&model_file)
            .done();
        Self {
            root,
            open_actions,
            open_image,
            image_file,
            sample,
            model,
            open_model,
            model_file,
            device,
            theme,
            slot,
        }
    }

    /// Shows the state.
    pub fn refresh(&self, state: &State) {
        show(&self.sample, state.has_samples());
        let offered = state.sample_entry().is_some();
        self.sample.set_disabled(!offered);
        let why = (!offered)
            .then_some("This model comes without a sample: the other models' samples are other tissue");
        set_attr(&self.sample, "title", why);
        self.refresh_models(state);
        let choice = device_name(state.device_choice);
        if self.device.value() != choice {
            self.device.set_value(choice);
        }
    }

    /// Puts the buttons that open an image into the row (`None`) or elsewhere, and keeps the focus on them.
    pub fn place_open_actions(&self, elsewhere: Option<&HtmlElement>, focused: Option<&web_sys::Element>) {
        let place = elsewhere.unwrap_or(&self.slot);
        if self.open_actions.parent_element().is_some_and(|parent| parent == **place) {
            return;
        }
        // Without an image this is the one next step.
        set_attr(
            &self.open_image,
            "class",
            Some(if elsewhere.is_some() { "button primary" } else { "button" }),
        );
        let refocus = focused.filter(|element| self.open_actions.contains(Some(element))).cloned();
        let _ = place.append_child(&self.open_actions);
        if let Some(element) =
            refocus.and_then(|element| wasm_bindgen::JsCast::dyn_into::<HtmlElement>(element).ok())
        {
            let _ = element.focus();
        }
    }

    fn refresh_models(&self, state: &State) {
        let mut wanted: Vec<(String, String)> = Vec::new();
        let mut hint = String::new();
        match &state.catalogue {
            CatalogueState::Ready(models) => {
                wanted.extend(models.iter().map(|model| (model.id.clone(), model.name.clone())));
            }
            CatalogueState::Loading => hint = "Loading the list of models…".to_owned(),
            CatalogueState::None => {}
            CatalogueState::Failed(why) => hint = why.clone(),
        }
        let chosen = state.chosen_model.clone().unwrap_or_default();
        if chosen == FROM_FILE {
            let name = match &state.model {
                Some(model) => model.name.clone(),
                None if wanted.is_empty() && !hint.is_empty() => "No list of models".to_owned(),
                None => "Choose a model".to_owned(),
            };
            wanted.insert(0, (FROM_FILE.to_owned(), name));
        }
        set_attr(&self.model, "title", (!hint.is_empty()).then_some(hint.as_str()));
        let key: String = wanted.iter().map(|(id, title)| format!("{id}\u{1f}{title}\u{1e}")).collect();
        if self.model.get_attribute("data-key").as_deref() != Some(&key) {
            set_attr(&self.model, "data-key", Some(&key));
            clear(&self.model);
            for (id, title) in &wanted {
                let _ = self.model.append_child(&option(id, title));
            }
        }
        if self.model.value() != chosen {
            self.model.set_value(&chosen);
        }
    }
}

const DEVICES: [(&str, &str); 3] = [("auto", "Automatic"), ("gpu", "GPU (WebGPU)"), ("cpu", "CPU")];

/// A device choice's name in the markup.
pub fn device_name(choice: DeviceChoice) -> &'static str {
    match choice {
        DeviceChoice::Auto => "auto",
        DeviceChoice::Gpu => "gpu",
        DeviceChoice::Cpu => "cpu",
    }
}

/// The device choice of a name; automatic for any other.
pub fn device_choice(name: &str) -> DeviceChoice {
    match name {
        "gpu" => DeviceChoice::Gpu,
        "cpu" => DeviceChoice::Cpu,
        _ => DeviceChoice::Auto,
    }
}

fn option(value: &str, text: &str) -> HtmlOptionElement {
    el("option").attr("value", value).text(text).done()
}

/// A file dialog that a button opens; out of sight and out of the tab order, because the button is in it.
fn file_input(id: &str, name: &str, accept: &str) -> HtmlInputElement {
    el("input")
        .attr("type", "file")
        .attr("id", id)
        .attr("aria-label", name)
        .attr("accept", accept)
        .attr("tabindex", "-1")
        .class("unseen")
        .done()
}
