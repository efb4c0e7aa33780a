//! Space Ranger's `outs` folder of a Visium HD run.

use std::path::PathBuf;

use anyhow::Result;
use magnet_core::anndata::Column;

use super::metadata::ValueKind;
use super::positions::{BinPosition, read_positions};
use super::prepare::{NewSlide, Summary, check_id, refuse_existing_ids};
use super::scalefactors::read_scalefactors;
use super::space_ranger;
use crate::error::InputError;
use crate::files::Overwrite;

/// `prepare visium-hd`.
#[derive(Debug, Clone)]
pub struct VisiumHdOptions {
    /// Space Ranger's `outs` folder, which holds `binned_outputs`.
    pub input: PathBuf,
    /// The full-resolution image; the only image directly in `input` when `None`.
    pub image: Option<PathBuf>,
    /// The prepared dataset, which may hold other slides already.
    pub out: PathBuf,
    /// Side of the bins to take, in µm.
    pub bin_um: u32,
    /// Name of the slide; the folder's name when `None` (for a folder called `outs`, its parent's).
    pub id: Option<String>,
    /// Whether a slide that the dataset holds already is replaced.
    pub overwrite: Overwrite,
}

impl VisiumHdOptions {
    /// Prepares the slide, whole or not at all. Bins off tissue and features that are no genes are left out.
    ///
    /// # Errors
    /// When a file is absent or damaged, the files contradict each other, or the slide exists already; the message
    /// names file, field, expected and found.
    pub fn run(&self) -> Result<Summary> {
        let id = space_ranger::slide_id(self.id.as_deref(), &self.input)?;
        check_id(&id)?;
        refuse_existing_ids(&self.out, std::slice::from_ref(&id), self.overwrite)?;
        let slide = self.read(id)?.write(&self.out, self.overwrite)?;
        Ok(Summary { slides: vec![slide] })
    }

    fn read(&self, id: String) -> Result<NewSlide> {
        let outs = space_ranger::outs(&self.input);
        let outputs = outs.join("binned_outputs").join(format!("square_{:03}um", self.bin_um));
        if !outputs.is_dir() {
            let field = format!("bins of {} µm", self.bin_um);
            return Err(InputError::in_file(&outputs, field, "a folder of Space Ranger's", "nothing").into());
        }
        let image = space_ranger::full_image(self.image.as_deref(), &outs)?;
        let scale_path = outputs.join("spatial/scalefactors_json.json");
        let scale = read_scalefactors(&scale_path)?;
        let (bin_um, um_per_px) = scale
            .bin_and_pixel_um()
            .map_err(|error| InputError { file: scale_path.display().to_string(), ..error })?;
        if bin_um != f64::from(self.bin_um) {
            return Err(InputError::in_file(&scale_path, "bin_size_um", self.bin_um, bin_um).into());
        }
        let positions_path = outputs.join("spatial/tissue_positions.parquet");
        let positions = read_positions(&positions_path)?;
        let (mut matrix, mut sources) = space_ranger::read_matrix(&outputs, "filtered")?;
        let matrix_path = sources.first().cloned().unwrap_or_default();
        let (genes, other_features) = space_ranger::take_genes(&mut matrix, &matrix_path)?;
        let joined = space_ranger::join(&matrix_path, &positions_path, &matrix, positions, false)?;
        let mut dropped = joined.dropped;
        dropped.extend(other_features);
        sources.splice(1..1, [positions_path, scale_path]);
        let positions = joined.positions;
        let column = |value: fn(&BinPosition) -> i32| {
            Column::Integers(positions.iter().map(|position| i64::from(value(position))).collect())
        };
        Ok(NewSlide {
            id,
            technology: "Visium HD",
            patient: None,
            genes,
            counts: joined.counts,
            columns: vec![
                ("array_row".to_owned(), column(|position| position.array_row)),
                ("array_col".to_owned(), column(|position| position.array_col)),
            ],
            centers_px: positions.iter().map(|position| position.center_px).collect(),
            barcodes: positions.into_iter().map(|position| position.barcode).collect(),
            um_per_px,
            um_per_px_origin: "microns_per_pixel of Space Ranger".to_owned(),
            bin_um,
            image,
            sources,
            dropped,
            notes: Vec::new(),
            frames: space_ranger::frames(&scale),
            values: ValueKind::Counts,
            off_tissue: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use magnet_core::coordinates::SlidePx;
    use magnet_core::expression::CountMatrix;

    use super::*;
    use crate::dataset::Dataset;
    use crate::dataset::positions::write_positions_parquet;
    use crate::dataset::scalefactors::{Scalefactors, write_scalefactors};
    use crate::dataset::tenx_matrix::{Feature, GENE_EXPRESSION, TenxMatrix, write_tenx_matrix};

    /// A run with five bins of 16 µm: four with counts, of which one is off tissue; one feature is an antibody.
    struct Run {
        folder: tempfile::TempDir,
        matrix: TenxMatrix,
        positions: Vec<BinPosition>,
        scale: Scalefactors,
    }

    fn barcode(index: i32) -> String {
        format!("s_016um_00000_{index:05}-1")
    }

    impl Run {
        fn new() -> Self {
            let feature = |id: &str, name: &str, feature_type: &str| Feature {
                id: id.into(),
                name: name.into(),
                feature_type: feature_type.into(),
                genome: "GRCh38".into(),
            };
            let features = vec![
                feature("ENSG1", "TBCE", GENE_EXPRESSION),
                feature("AB1", "CD3", "Antibody Capture"),
                feature("ENSG2", "TBCE", GENE_EXPRESSION),
            ];
            let counts = CountMatrix {
                genes: 3,
                row_offsets: vec![0, 2, 3, 5, 6],
                columns: vec![0, 1, 2, 1, 2, 0],
                values: vec![1.0, 50.0, 2.0, 60.0, 3.0, 4.0],
            };
            let position = |index: i32| BinPosition {
                barcode: barcode(index),
                in_tissue: index != 1,
                array_row: 0,
                array_col: index,
                center_px: SlidePx { x: 16.0 + 32.0 * f64::from(index), y: 10.0 },
            };
            let scale = Scalefactors {
                spot_diameter_fullres: 32.0,
                bin_size_um: Some(16.0),
                microns_per_pixel: Some(0.5),
                tissue_hires_scalef: None,
                tissue_lowres_scalef: None,
                fiducial_diameter_fullres: None,
            };
            let matrix = TenxMatrix { barcodes: (0..4).map(barcode).collect(), features, counts };
            Self {
                folder: tempfile::tempdir().unwrap(),
                matrix,
                positions: (0..5).rev().map(position).collect(),
                scale,
            }
        }

        fn options(&self) -> VisiumHdOptions {
            VisiumHdOptions {
                input: self.folder.path().join("S1/outs"),
                image: None,
                out: self.folder.path().join("dataset"),
                bin_um: 16,
                id: None,
                overwrite: Overwrite::No,
            }
        }

        fn prepare(&self) -> Result<Summary> {
            let outputs = self.options().input.join("binned_outputs/square_016um");
            write_tenx_matrix(&outputs.join("filtered_feature_bc_matrix.h5"), &self.matrix, Overwrite::No)?;
            let spatial = outputs.join("spatial");
            write_positions_parquet(
                &spatial.join("tissue_positions.parquet"),
                &self.positions,
                Overwrite::No,
            )?;
            write_scalefactors(&spatial.join("scalefactors_json.json"), &self.scale, Overwrite::No)?;
            image::RgbImage::new(160, 20).save(self.options().input.join("slide.tif"))?;
            self.options().run()
        }
    }

    #[test]
    fn a_run_becomes_a_slide() {
        let run = Run::new();
        let summary = run.prepare().unwrap();
        let text = summary.slides[0].to_string();
        assert!(text.contains("1 spots with counts off tissue (s_016um_00000_00001-1)"), "{text}");
        assert!(text.contains("1 spots on tissue without counts (s_016um_00000_00004-1)"), "{text}");
        assert!(text.contains("1 features that are not Gene Expression"), "{text}");

        let slide = Dataset::open(&run.options().out).unwrap().slide("S1").unwrap();
        assert_eq!(slide.barcodes, [barcode(0), barcode(2), barcode(3)]);
        assert_eq!(slide.genes.ids, ["ENSG1", "ENSG2"]);
        assert_eq!(slide.genes.symbols, ["TBCE", "TBCE-1"]);
        assert_eq!(slide.counts.row_offsets, [0, 1, 2, 3]);
        assert_eq!(slide.counts.columns, [0, 1, 0]);
        assert_eq!(slide.counts.values, [1.0, 3.0, 4.0]);
        assert_eq!(slide.centers_px[1], SlidePx { x: 80.0, y: 10.0 });
        assert_eq!((slide.um_per_px, slide.bin_um), (0.5, 16.0));
        let metadata = Dataset::open(&run.options().out).unwrap().metadata("S1").unwrap();
        assert_eq!(metadata.sources.len(), 4);
        assert_eq!(metadata.technology.as_deref(), Some("Visium HD"));
    }

    #[test]
    fn contradictions_are_named_and_leave_nothing() {
        type Change = fn(&mut Run);
        let cases: [(Change, &str); 6] = [
            (
                |run| run.matrix.barcodes[2] = "s_016um_09999_00000-1".into(),
                "1 barcodes without one or repeated (such as s_016um_09999",
            ),
            (
                |run| run.matrix.barcodes[2] = barcode(0),
                "without one or repeated (such as s_016um_00000_00000-1)",
            ),
            (
                |run| run.positions[0].barcode = barcode(0),
                "tissue_positions.parquet: barcode: expected each spot once",
            ),
            (
                |run| run.scale.microns_per_pixel = Some(0.6),
                "scalefactors_json.json: microns_per_pixel: expected",
            ),
            (
                |run| {
                    run.scale =
                        Scalefactors { bin_size_um: Some(8.0), microns_per_pixel: Some(0.25), ..run.scale }
                },
                "bin_size_um: expected 16, found 8",
            ),
            (
                |run| run.positions[4].center_px.y = 20.0,
                "spot s_016um_00000_00000-1: expected a centre inside",
            ),
        ];
        for (change, expected) in cases {
            let mut run = Run::new();
            change(&mut run);
            let error = format!("{:#}", run.prepare().unwrap_err());
            assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
            assert!(!run.options().out.exists());
        }
    }

    #[test]
    fn missing_bins_and_an_ambiguous_image_are_named() {
        let run = Run::new();
        run.prepare().unwrap();
        let options = VisiumHdOptions { overwrite: Overwrite::Yes, ..run.options() };
        let error = VisiumHdOptions { bin_um: 8, ..options.clone() }.run().unwrap_err().to_string();
        assert!(error.contains("square_008um: bins of 8 µm"), "{error}");
        fs::write(run.options().input.join("other.png"), b"").unwrap();
        let error = options.run().unwrap_err().to_string();
        assert!(error.contains("(or --image), found 2 images"), "{error}");
    }
}
