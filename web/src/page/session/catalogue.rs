//! The catalogue: which models lie beside the page.

use serde::Deserialize;

use super::problem::Problem;

/// The version of the format that is read here.
const VERSION: u32 = 1;
/// The largest bundle that a catalogue may name; a browser tab has no room for more.
const LARGEST_BUNDLE_BYTES: u64 = 1 << 30;

/// An image to try a model on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Its address, relative to the catalogue.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// Its pixel size, where the file does not hold one.
    #[serde(default)]
    pub um_per_px: Option<f64>,
    /// Who made it, and under which licence it is given.
    #[serde(default)]
    pub credit: Option<String>,
    /// The file's size, to be checked.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// The file's SHA-256, to be checked.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CatalogueModel {
    /// Names it in addresses and attributes.
    pub id: String,
    /// Names it for people.
    pub name: String,
    /// The tissue that it knows.
    #[serde(default)]
    pub tissue: String,
    /// What it was trained on, in a sentence or two.
    #[serde(default)]
    pub description: String,
    /// Its address, relative to the catalogue.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, hexadecimal.
    pub sha256: String,
    /// An image to try it on.
    #[serde(default)]
    pub sample: Option<Sample>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Catalogue {
    version: u32,
    models: Vec<CatalogueModel>,
}

impl Catalogue {
    /// The models, once the file has been found to make sense.
    ///
    /// # Errors
    /// If the version is another one, an id stands twice, a digest is none, or a size is out of the question.
    pub fn into_models(mut self) -> Result<Vec<CatalogueModel>, Problem> {
        let refuse = |text: String| Problem::input(format!("The model catalogue is wrong: {text}"));
        if self.version != VERSION {
            return Err(refuse(format!("version {} is not {VERSION}", self.version)));
        }
        for place in 0..self.models.len() {
            let (before, rest) = self.models.split_at_mut(place);
            let Some(model) = rest.first_mut() else { break };
            if before.iter().any(|other| other.id == model.id) {
                return Err(refuse(format!("the id \"{}\" stands twice", model.id)));
            }
            model.sha256.make_ascii_lowercase();
            if !is_digest(&model.sha256) {
                return Err(refuse(format!("the sha256 of \"{}\" is not 64 hexadecimal digits", model.id)));
            }
            if model.bytes == 0 || model.bytes > LARGEST_BUNDLE_BYTES {
                return Err(refuse(format!(
                    "\"{}\" has {} bytes; 1 to {LARGEST_BUNDLE_BYTES} are possible",
                    model.id, model.bytes
                )));
            }
            if let Some(digest) = model.sample.as_mut().and_then(|sample| sample.sha256.as_mut()) {
                digest.make_ascii_lowercase();
                if !is_digest(digest) {
                    return Err(refuse(format!(
                        "the sample's sha256 of \"{}\" is not 64 hexadecimal digits",
                        model.id
                    )));
                }
            }
        }
        Ok(self.models)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
        let mut model = serde_json::json!({
            "id": id, "name": "Breast", "file": "breast.safetensors", "bytes": 12, "sha256": "AB".repeat(32),
            "license": "read by nobody here",
        });
        change(&mut model);
        model
    }

    fn read(version: u32, models: Vec<serde_json::Value>) -> Result<Vec<CatalogueModel>, String> {
        let json = serde_json::json!({ "version": version, "models": models });
        let catalogue: Catalogue = serde_json::from_value(json).map_err(|error| error.to_string())?;
        catalogue.into_models().map_err(|problem| problem.text)
    }

    #[test]
    fn a_catalogue_is_read() {
        let models = read(
            1,
            vec![
                model("a", |_| ()),
                model("b", |model| {
                    model["sample"] = serde_json::json!({ "file": "b.jpg", "name": "B", "umPerPx": 0.5 });
                }),
            ],
        )
        .unwrap();
        assert_eq!(models[0].sha256, "ab".repeat(32));
        assert_eq!(models[0].sample, None);
        assert_eq!(models[1].sample.as_ref().unwrap().um_per_px, Some(0.5));
    }

    #[test]
    fn a_wrong_one_is_refused_in_words() {
        let cases = [
            (read(2, vec![]), "version 2 is not 1"),
            (read(1, vec![model("a", |_| ()), model("a", |_| ())]), "\"a\" stands twice"),
            (read(1, vec![model("a", |model| model["sha256"] = "xyz".into())]), "64 hexadecimal digits"),
            (read(1, vec![model("a", |model| model["bytes"] = 0.into())]), "has 0 bytes"),
            (read(1, vec![model("a", |model| model["file"] = serde_json::Value::Null)]), "null"),
        ];
        for (found, expected) in cases {
            let text = found.unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
