//! `metadata/<id>.json`: what the counts and the image do not say themselves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use magnet_core::expression::ValueKind;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::InputError;
use crate::files::read_limited;

/// HEST-1k's files have a few kilobytes.
const MOST_BYTES: u64 = 16 << 20;
/// Keys of the pixel size in order of trust: ours; HEST-1k's estimate from the spots; what the image's file says.
const PIXEL_SIZE_KEYS: [&str; 3] = ["pixel_size_um", "pixel_size_um_estimated", "pixel_size_um_embedded"];
/// Keys of the bin size: ours, then HEST-1k's.
const BIN_KEYS: [&str; 2] = ["bin_um", "spot_diameter"];
/// Spot diameters in µm of technologies whose name settles them.
const KNOWN_SPOTS: [(&str, f64); 2] = [("Spatial Transcriptomics", 100.0), ("Visium", 55.0)];

/// What a slide's metadata file says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    /// Name of the slide.
    pub id: String,
    /// How the counts were measured.
    pub technology: Option<String>,
    /// Patient or block.
    pub patient: Option<String>,
    /// Size of a full-resolution pixel, in µm.
    pub pixel_size_um: f64,
    /// Where the pixel size comes from.
    pub pixel_size_origin: String,
    /// Side (or diameter) of a measured bin, in µm.
    pub bin_um: f64,
    /// SHA-256 of the files that the slide was made from, by name.
    pub sources: BTreeMap<String, String>,
    /// Program and version that prepared the slide.
    pub prepared_by: Option<String>,
    /// What the numbers of the matrix are.
    pub values: ValueKind,
    /// Whether bins off tissue (`obs/in_tissue` 0) are meant to be there; else they are left out.
    pub off_tissue: bool,
}

/// Diameter from which a measured place is a spot of an array rather than a bin of a lawn, in µm.
const SPOT_UM: f64 = 50.0;

/// What the measured places of a slide are called: `spots` or `bins`.
pub(super) fn places_noun(technology: Option<&str>, bin_um: f64) -> &'static str {
    match technology {
        Some("Visium HD") => "bins",
        _ if bin_um < SPOT_UM => "bins",
        _ => "spots",
    }
}

/// Whether the measured places lie side by side, so that a tile of any whole number of them is full.
pub(super) fn lies_on_grid(slide: &Metadata) -> bool {
    places_noun(slide.technology.as_deref(), slide.bin_um) == "bins"
}

impl Metadata {
    /// Reads the file of a prepared or a HEST-1k slide.
    ///
    /// # Errors
    /// When it is absent, no JSON object, or lacks the pixel size or the bin size.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MOST_BYTES)?;
        let fields: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| InputError::in_file(path, "JSON", "an object with a slide's metadata", error))?;
        Ok(Self::from_fields(path, &fields)?)
    }

    fn from_fields(path: &Path, fields: &Map<String, Value>) -> Result<Self, InputError> {
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let technology = text("technology").or_else(|| text("st_technology"));
        let Some((key, pixel_size_um)) = first_size(path, fields, &PIXEL_SIZE_KEYS)? else {
            let found = format!("none of {}", PIXEL_SIZE_KEYS.join(", "));
            let expected = "the size of a full-resolution pixel in µm";
            return Err(InputError::in_file(path, "pixel_size_um", expected, found));
        };
        let known = |name: &String| KNOWN_SPOTS.iter().find(|(known, _)| known == name).map(|(_, um)| *um);
        let bin_um = match first_size(path, fields, &BIN_KEYS)? {
            Some((_, bin_um)) => bin_um,
            None => match technology.as_ref().and_then(known) {
                Some(bin_um) => bin_um,
                None => {
                    let named = technology.as_deref().unwrap_or("not named");
                    let found = format!("none of {} and the technology {named}", BIN_KEYS.join(", "));
                    let expected = "the side or diameter of a measured bin in µm";
                    return Err(InputError::in_file(path, "bin_um", expected, found));
                }
            },
        };
        let values = match fields.get("values") {
            None | Some(Value::Null) => ValueKind::Counts,
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| InputError::in_file(path, "values", "counts or normalized", value))?,
        };
        let sources = fields.get("sources").and_then(Value::as_object).into_iter().flatten();
        let sources = sources.filter_map(|(name, digest)| Some((name.clone(), digest.as_str()?.to_owned())));
        Ok(Self {
            id,
            technology,
            patient: text("patient").filter(|patient| !patient.is_empty()),
            pixel_size_um,
            pixel_size_origin: text("pixel_size_origin").unwrap_or_else(|| format!("metadata key {key}")),
            bin_um,
            sources: sources.collect(),
            prepared_by: text("prepared_by"),
            values,
            off_tissue: fields.get("off_tissue").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// The first of `keys` that is present and not null, which must be a positive number.
fn first_size<'a>(
    path: &Path,
    fields: &Map<String, Value>,
    keys: &[&'a str],
) -> Result<Option<(&'a str, f64)>, InputError> {
    for key in keys {
        match fields.get(*key) {
            None | Some(Value::Null) => continue,
            Some(value) => match value.as_f64() {
                Some(size) if size.is_finite() && size > 0.0 => return Ok(Some((key, size))),
                _ => return Err(InputError::in_file(path, key, "a positive number of µm", value)),
            },
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Metadata> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("S1.json");
        std::fs::write(&path, json).unwrap();
        Metadata::read(&path)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let metadata = Metadata {
            id: "S1".into(),
            technology: Some("Visium HD".into()),
            patient: None,
            pixel_size_um: 0.25,
            pixel_size_origin: "microns_per_pixel".into(),
            bin_um: 8.0,
            sources: BTreeMap::from([("image.tif".into(), "ab".into())]),
            prepared_by: Some("magnet-native".into()),
            values: ValueKind::Normalized,
            off_tissue: true,
        };
        assert_eq!(read(&serde_json::to_string(&metadata).unwrap()).unwrap(), metadata);
    }

    #[test]
    fn the_estimated_pixel_size_of_hest_goes_before_the_embedded_one() {
        let json = r#"{"pixel_size_um_embedded": 0.5, "pixel_size_um_estimated": 0.45, "st_technology": "Visium",
                       "patient": "Patient 1", "subseries": null}"#;
        let metadata = read(json).unwrap();
        assert_eq!((metadata.pixel_size_um, metadata.bin_um), (0.45, 55.0));
        assert_eq!(metadata.patient.as_deref(), Some("Patient 1"));
        let json =
            r#"{"pixel_size_um_embedded": 0.5, "pixel_size_um_estimated": null, "spot_diameter": 100.0}"#;
        let metadata = read(json).unwrap();
        assert_eq!((metadata.pixel_size_um, metadata.bin_um), (0.5, 100.0));
        assert_eq!(metadata.pixel_size_origin, "metadata key pixel_size_um_embedded");
    }

    #[test]
    fn a_missing_or_impossible_size_is_named() {
        let error = |json| format!("{:#}", read(json).unwrap_err());
        assert!(error(r#"{"bin_um": 8}"#).contains("S1.json: pixel_size_um: expected"));
        assert!(
            error(r#"{"pixel_size_um": 0, "bin_um": 8}"#)
                .contains("expected a positive number of µm, found 0")
        );
        assert!(error(r#"{"pixel_size_um": "0.5"}"#).contains(r#"found "0.5""#));
        assert!(
            error(r#"{"pixel_size_um": 0.5, "st_technology": "Xenium"}"#).contains("the technology Xenium")
        );
        assert!(error("[]").contains("JSON: expected an object"));
        assert!(error("{").contains("JSON: expected an object"));
    }
}
