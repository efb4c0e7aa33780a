//! What the custom element calls. Names in JavaScript are in camel case. Values of JavaScript are taken over, not
//! lent: see [`magnet_web::page`]'s listener for why.

use std::rc::Rc;

use magnet_web::page::view;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, File, ShadowRoot};

/// A viewer on a page.
#[wasm_bindgen]
pub struct Viewer(Rc<view::Viewer>);

/// Builds a viewer in a shadow root. `options` has the fields that [`view::mount`] names.
///
/// # Errors
/// If an option that is needed is missing.
#[wasm_bindgen]
pub fn mount(root: ShadowRoot, options: JsValue) -> Result<Viewer, JsValue> {
    view::mount(&root, &options).map(Viewer)
}

#[wasm_bindgen]
impl Viewer {
    /// Opens an image: a file, a blob or an address. `um_per_px` overrides what the file says.
    ///
    /// # Errors
    /// If `source` is something else.
    pub fn open(&self, source: JsValue, name: Option<String>, um_per_px: Option<f64>) -> Result<(), JsValue> {
        let session = self.0.session();
        if let Some(url) = source.as_string() {
            session.open_image_url(&url, um_per_px);
        } else if let Some(blob) = source.dyn_ref::<Blob>() {
            let name = name.or_else(|| source.dyn_ref().map(File::name)).unwrap_or_else(|| "image".into());
            session.open_image_blob(blob.clone(), name, um_per_px);
        } else {
            return Err(type_error("open: expected a File, a Blob or an address"));
        }
        Ok(())
    }

    /// Opens a bundle: a file, a blob, or an id of the catalogue.
    ///
    /// # Errors
    /// If `source` is something else.
    #[wasm_bindgen(js_name = openModel)]
    pub fn open_model(&self, source: JsValue, name: Option<String>) -> Result<(), JsValue> {
        let session = self.0.session();
        if let Some(model) = source.as_string() {
            session.open_model(&model);
        } else if let Some(blob) = source.dyn_ref::<Blob>() {
            let name = name.or_else(|| source.dyn_ref().map(File::name)).unwrap_or_else(|| "model".into());
            session.open_model_blob(blob.clone(), name);
        } else {
            return Err(type_error(
                "openModel: expected a File, a Blob, an address or an id of the catalogue",
            ));
        }
        Ok(())
    }

    /// Says how large the image's pixels are, in µm.
    #[wasm_bindgen(js_name = setPixelSize)]
    pub fn set_pixel_size(&self, um_per_px: f64) {
        self.0.session().set_pixel_size(um_per_px);
    }

    /// Takes an attribute of the element over.
    #[wasm_bindgen(js_name = setAttribute)]
    pub fn set_attribute(&self, name: &str, value: Option<String>) {
        self.0.set_attribute(name, value.as_deref());
    }

    /// Predicts.
    pub fn predict(&self) {
        self.0.session().predict();
    }

    /// Ends the run; what it has done stays.
    pub fn cancel(&self) {
        self.0.session().cancel();
    }

    /// The values of a gene at a level, as a `Float32Array`.
    ///
    /// # Errors
    /// If there is no such level or gene, or no prediction.
    pub async fn values(&self, level: String, gene: String) -> Result<JsValue, JsValue> {
        self.0.values(&level, &gene).await
    }

    /// Ends the viewer and its engine, and gives their memory back.
    pub fn dispose(&self) {
        self.0.dispose();
    }
}

fn type_error(text: &str) -> JsValue {
    js_sys::TypeError::new(text).into()
}
