//! A HEST-1k folder is a dataset as it is: what it holds is checked and told, and nothing is copied.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use magnet_core::GenePanel;
use magnet_core::expression::CommonGenes;
use serde::Serialize;

use super::metadata::places_noun;
use super::{Dataset, validate};
use crate::error::InputError;

/// Most names that stand in a report.
const EXAMPLES: usize = 5;

/// `prepare hest`.
#[derive(Debug, Clone)]
pub struct HestOptions {
    /// The folder with `st`, `wsis` and `metadata`.
    pub input: PathBuf,
    /// Slides to check; all when empty.
    pub samples: Vec<String>,
}

/// What the slides of a folder are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HestReport {
    /// Slides that can be used.
    pub slides: Vec<CheckedSlide>,
    /// Slides that cannot, and why.
    pub unusable: Vec<UnusableSlide>,
    /// Genes that all usable slides measured.
    pub common_genes: usize,
}

/// A slide that can be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedSlide {
    /// Name of the slide.
    pub id: String,
    /// How the counts were measured.
    pub technology: Option<String>,
    /// Number of spots on tissue.
    pub spots: usize,
    /// Number of genes.
    pub genes: usize,
    /// Patient, where known.
    pub patient: Option<String>,
    /// Size of a full-resolution pixel, in µm.
    pub pixel_size_um: f64,
    /// Where the pixel size comes from.
    pub pixel_size_origin: String,
    /// Side (or diameter) of a measured bin, in µm.
    pub bin_um: f64,
}

/// A slide that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusableSlide {
    /// Name of the slide.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
}

impl HestOptions {
    /// Reads and checks the slides one after the other.
    ///
    /// # Errors
    /// When the folder is none of HEST-1k, it lacks a slide that was named, or no slide can be used.
    pub fn run(&self) -> Result<HestReport> {
        let dataset = Dataset::open(&self.input)?;
        if let Some(unknown) = self.samples.iter().find(|id| !dataset.ids().contains(id)) {
            let expected = format!("some of the {} slides of {}", dataset.ids().len(), self.input.display());
            return Err(InputError::in_flag("--samples", "value", expected, unknown).into());
        }
        let ids = if self.samples.is_empty() { dataset.ids() } else { &self.samples };
        let mut report = HestReport { slides: Vec::new(), unusable: Vec::new(), common_genes: 0 };
        let mut panels: Vec<GenePanel> = Vec::new();
        for id in ids {
            match check(&dataset, id) {
                Ok((slide, genes)) => {
                    report.slides.push(slide);
                    panels.push(genes);
                }
                Err(error) => {
                    report.unusable.push(UnusableSlide { id: id.clone(), why: format!("{error:#}") })
                }
            }
        }
        if let (true, Some(first)) = (report.slides.is_empty(), report.unusable.first()) {
            let found = format!("none of {}; the first: {}", report.unusable.len(), first.why);
            return Err(
                InputError::in_file(&self.input, "slides", "at least one that can be used", found).into()
            );
        }
        report.common_genes = CommonGenes::of(&panels.iter().collect::<Vec<_>>()).len();
        Ok(report)
    }
}

fn check(dataset: &Dataset, id: &str) -> Result<(CheckedSlide, GenePanel)> {
    let metadata = dataset.metadata(id)?;
    let slide = dataset.undigested_slide(id)?;
    let counts = dataset.counts_path(id);
    validate::spacing(&counts, &slide.centers_px, slide.bin_um, slide.um_per_px, &[])?;
    let checked = CheckedSlide {
        id: id.to_owned(),
        technology: metadata.technology,
        spots: slide.barcodes.len(),
        genes: slide.genes.len(),
        patient: slide.patient,
        pixel_size_um: slide.um_per_px,
        pixel_size_origin: metadata.pixel_size_origin,
        bin_um: slide.bin_um,
    };
    Ok((checked, slide.genes))
}

impl fmt::Display for HestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for slide in &self.slides {
            let technology = slide.technology.as_deref().unwrap_or("technology not named");
            let places = places_noun(slide.technology.as_deref(), slide.bin_um);
            writeln!(
                f,
                "{}: {technology}, {} {places} × {} genes, {:.4} µm/px ({}), {places} of {} µm",
                slide.id,
                slide.spots,
                slide.genes,
                slide.pixel_size_um,
                slide.pixel_size_origin,
                slide.bin_um
            )?;
        }
        for slide in self.unusable.iter().take(EXAMPLES) {
            writeln!(f, "{}: cannot be used: {}", slide.id, slide.why)?;
        }
        if self.unusable.len() > EXAMPLES {
            writeln!(
                f,
                "… and {} others that cannot be used (--json lists them)",
                self.unusable.len() - EXAMPLES
            )?;
        }
        write!(
            f,
            "{} of {} slides can be used; {} genes are common to them",
            self.slides.len(),
            self.slides.len() + self.unusable.len(),
            self.common_genes
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, RgbImage, Values};
    use magnet_core::coordinates::SlidePx;
    use magnet_core::expression::Matrix;

    use super::*;

    /// A slide as HEST-1k stores it: a downscaled image in `uns`, the array in `obs`, repeated symbols, no gene ids.
    fn slide(genes: [&str; 3]) -> AnnData {
        let mut obs = AxisTable::from_names(["000x000", "000x002"].map(str::to_owned).to_vec());
        for (name, values) in [("in_tissue", [1, 1]), ("array_row", [0, 0]), ("array_col", [0, 2])] {
            obs.columns.push((name.to_owned(), Column::Integers(values.to_vec())));
        }
        let var = AxisTable::from_names(genes.map(str::to_owned).to_vec());
        let x = Values::Dense(Matrix::new(2, 3, vec![1.0, 0.0, 2.0, 0.0, 4.0, 0.0]).unwrap());
        let mut data = AnnData::new(x, obs, var);
        data.spatial = Some(vec![SlidePx { x: 100.0, y: 50.0 }, SlidePx { x: 300.0, y: 50.0 }]);
        let image = RgbImage { height: 1, width: 2, pixels: vec![9; 6] };
        data.set_annotation("spatial/ST/images/downscaled_fullres", Annotation::Image(image));
        data
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["st", "wsis", "metadata"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for (id, genes) in [("A1", ["TBCE", "TBCE", "ACTB"]), ("A2", ["ACTB", "KRT8", "TBCE"])] {
            let put = |name: String, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
            put(format!("st/{id}.h5ad"), &slide(genes).write().unwrap());
            let metadata = r#"{"st_technology": "Visium", "pixel_size_um_estimated": 0.5, "patient": "P", "spot_diameter": 55.0}"#;
            put(format!("metadata/{id}.json"), metadata.as_bytes());
            image::RgbImage::new(400, 100).save(folder.path().join(format!("wsis/{id}.tif"))).unwrap();
        }
        folder
    }

    fn tree(folder: &std::path::Path) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for name in ["st", "wsis", "metadata"] {
            paths.extend(fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.sort();
        paths
    }

    #[test]
    fn slides_are_checked_where_they_are() {
        let folder = folder();
        let before = tree(folder.path());
        let options = HestOptions { input: folder.path().to_path_buf(), samples: Vec::new() };
        let report = options.run().unwrap();
        assert_eq!(report.slides.len(), 2);
        assert_eq!((report.slides[0].spots, report.slides[0].genes, report.slides[0].bin_um), (2, 3, 55.0));
        // TBCE and ACTB; the second TBCE of A1 is TBCE-1, which A2 lacks.
        assert_eq!(report.common_genes, 2);
        assert!(
            report.to_string().ends_with("2 of 2 slides can be used; 2 genes are common to them"),
            "{report}"
        );
        assert_eq!(tree(folder.path()), before);
        let slide = Dataset::open(folder.path()).unwrap().slide("A1").unwrap();
        assert_eq!(slide.genes.ids, ["TBCE", "TBCE-1", "ACTB"]);
    }

    #[test]
    fn a_slide_that_cannot_be_used_is_told_and_only_all_of_them_are_an_error() {
        let folder = folder();
        fs::remove_file(folder.path().join("wsis/A2.tif")).unwrap();
        let options = HestOptions { input: folder.path().to_path_buf(), samples: Vec::new() };
        let report = options.run().unwrap();
        assert_eq!(report.unusable[0].id, "A2");
        assert!(report.to_string().contains("A2: cannot be used") && report.to_string().contains("1 of 2"));
        let error =
            HestOptions { samples: vec!["A2".into()], ..options.clone() }.run().unwrap_err().to_string();
        assert!(error.contains("found none of 1; the first:"), "{error}");
        let error = HestOptions { samples: vec!["B".into()], ..options }.run().unwrap_err().to_string();
        assert!(error.contains("--samples: value: expected some of the 2 slides"), "{error}");
    }
}
