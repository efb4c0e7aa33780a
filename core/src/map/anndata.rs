//! All values as AnnData, ready for scanpy and squidpy.

use std::collections::BTreeMap;
use std::io;

use super::PredictedMap;
use crate::anndata::{AnnDataRows, Annotation, AxisTable, Column, RgbImage, annotate};
use crate::slide::{PatchReader, SlideImage};

/// Longer side of the image that tools draw spots on, in pixels, as Space Ranger makes it.
pub const HIRES_SIDE_PX: u32 = 2000;
/// Longer side of the small image, in pixels.
pub const LOWRES_SIDE_PX: u32 = 600;

impl PredictedMap<'_> {
    /// The values as AnnData, whose rows are read when it is written.
    ///
    /// `obs` has a row per place with its level, its centre in µm and, where all names tell it, its row and column of
    /// the array; `var` has gene ids and held-out scores; `obsm/spatial` has centres in full-resolution pixels.
    /// `uns/spatial/<slide>` is what Space Ranger's readers make: `images`, the slide at smaller sizes by name (`hires`,
    /// `lowres`), `scalefactors` and `metadata`. `uns/magnet` is the provenance.
    ///
    /// # Errors
    /// When the values of an unfinished map cannot be read.
    pub fn anndata(&self, images: &[(&str, &SlideImage)]) -> io::Result<AnnDataRows<'_>> {
        let panel = &self.bundle.metadata.panel;
        let mut var = AxisTable::from_names(panel.symbols.clone());
        var.columns.push(("gene_ids".into(), Column::Texts(panel.ids.clone())));
        let pearson = |gene| self.bundle.held_out_pearson(self.level, gene);
        if (0..panel.symbols.len()).any(|gene| pearson(gene).is_some()) {
            let score = |gene| pearson(gene).map_or(f64::NAN, f64::from);
            let scores = (0..panel.symbols.len()).map(score).collect();
            var.columns.push(("held_out_pearson".into(), Column::Numbers(scores)));
        }
        let mut uns = BTreeMap::new();
        let model = super::provenance(self.bundle, self.model_sha256, self.program);
        for (key, value) in model.into_iter().chain(self.run_provenance()) {
            annotate(&mut uns, &format!("magnet/{key}"), value);
        }
        if !self.complete {
            annotate(&mut uns, "magnet/complete", Annotation::Flag(false));
            let rows = i64::try_from(self.values.rows_known()?).unwrap_or(i64::MAX);
            annotate(&mut uns, "magnet/rows_predicted", Annotation::Integer(rows));
        }
        self.annotate_spatial(&mut uns, images);
        let (x, layers, spatial) = (self.values, BTreeMap::new(), Some(self.centers_px.to_vec()));
        Ok(AnnDataRows { x, layers, obs: self.places(), var, spatial, uns })
    }

    /// The table of the places.
    fn places(&self) -> AxisTable {
        let rows = self.names.len();
        let mut obs = AxisTable::from_names(self.names.to_vec());
        let mut add = |name: &str, column| obs.columns.push((name.to_owned(), column));
        add("in_tissue", Column::Integers(vec![1; rows]));
        let on_array: Option<Vec<_>> = self.names.iter().map(|name| array_place(name)).collect();
        if let Some(on_array) = on_array {
            add("array_row", Column::Integers(on_array.iter().map(|place| place.0).collect()));
            add("array_col", Column::Integers(on_array.iter().map(|place| place.1).collect()));
        }
        add("x_um", Column::Numbers(self.centers_um.iter().map(|center| center.x).collect()));
        add("y_um", Column::Numbers(self.centers_um.iter().map(|center| center.y).collect()));
        let (codes, categories) = (vec![Some(0); rows], vec![self.level.to_string()]);
        add("level", Column::Categorical { codes, categories });
        obs
    }

    fn annotate_spatial(&self, uns: &mut BTreeMap<String, Annotation>, images: &[(&str, &SlideImage)]) {
        // A slash would end the name.
        let library = format!("spatial/{}", self.slide_name.replace('/', "_"));
        let mut add = |path: &str, value| annotate(uns, &format!("{library}/{path}"), value);
        let diameter_px = self.tile_um() / self.um_per_px;
        add("scalefactors/spot_diameter_fullres", Annotation::Number(diameter_px));
        // There are no fiducial marks. Readers ask for their size and do nothing with it.
        add("scalefactors/fiducial_diameter_fullres", Annotation::Number(diameter_px));
        for (name, image) in images {
            let scale = self.um_per_px / image.um_per_px();
            add(&format!("scalefactors/tissue_{name}_scalef"), Annotation::Number(scale));
            let (height, width) = (image.height_px() as usize, image.width_px() as usize);
            let pixels = RgbImage { height, width, pixels: image.rgb().to_vec() };
            add(&format!("images/{name}"), Annotation::Image(pixels));
        }
        add("metadata/software_version", Annotation::Text(self.program.to_owned()));
        add("metadata/chemistry_description", Annotation::Text("predicted from H&E by MagNet".into()));
    }
}

/// Row and column of the array that a name tells: `r3c5` of a grid over the tissue, `s_008um_00003_00005-1` of Visium
/// HD, `5x3` (column, row) of Spatial Transcriptomics.
fn array_place(name: &str) -> Option<(i64, i64)> {
    let pair = |row: &str, col: &str| Some((row.parse().ok()?, col.parse().ok()?));
    if let Some((row, col)) = name.strip_prefix('r').and_then(|rest| rest.split_once('c')) {
        return pair(row, col);
    }
    if let Some((col, row)) = name.split_once('x') {
        return pair(row, col);
    }
    let mut parts = name.strip_prefix("s_")?.split('_');
    let (_bin, row, col) = (parts.next()?, parts.next()?, parts.next()?);
    pair(row, col.split_once('-').map_or(col, |(col, _)| col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_places_on_the_array() {
        assert_eq!(array_place("r3c15"), Some((3, 15)));
        assert_eq!(array_place("s_008um_00269_00526-1"), Some((269, 526)));
        assert_eq!(array_place("10x13"), Some((13, 10)));
        for name in ["ACGTACGT-1", "bin-7", "region-3", "", "rc", "s_008um_1", "axb"] {
            assert_eq!(array_place(name), None, "{name}");
        }
    }
}
