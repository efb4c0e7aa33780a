//! Slides as training reads them: layout, labels of every level, and where the patches come from.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use magnet_core::GenePanel;
use magnet_core::bundle::SlideDigests;
use magnet_core::coordinates::{SlidePx, px_from_um, um_from_px};
use magnet_core::expression::{self, CommonGenes, GeneStatistics, Matrix, per_gene_statistics};
use magnet_core::layout::SlideLayout;
use magnet_core::level::{Level, LevelGeometry, PerLevel};
use magnet_core::model::{MagNetConfig, WideFeatures};
use magnet_core::slide::{NormalizedSlide, PatchReader, StainNormalization};
use rayon::prelude::*;

use crate::config::{DataConfig, GeneSelection, presets_for_bins};
use crate::console::Console;
use crate::dataset::SlideData;
use crate::error::InputError;
use crate::slide_file::{SharedSlide, open_slide};

/// How far a slide's bin size may be from the configuration's, as a fraction of it.
const BIN_SIZE_TOLERANCE: f64 = 0.01;

/// One slide, ready to be cut into batches.
pub struct TrainingSlide {
    /// The slide's id.
    pub id: String,
    /// Digests of its files.
    pub digests: SlideDigests,
    /// Bins, tiles and neighbour tables.
    pub layout: SlideLayout,
    /// Labels of every node of every level, `[N,G]`.
    pub labels: PerLevel<Matrix>,
    /// Where each level's input comes from.
    pub inputs: PerLevel<LevelSource>,
}

/// Where the input of a level's nodes comes from.
pub enum LevelSource {
    /// Patches of the slide.
    Patches(PatchStore),
    /// One row of features per node.
    Features(Matrix),
    /// The model does not read this level.
    Unused,
}

/// The patches of one level of one slide: all in memory, or read from the slide when needed.
pub struct PatchStore {
    /// Side of a patch in pixels.
    pub side_px: usize,
    centers_px: Vec<SlidePx>,
    side_um: f64,
    kept: Option<Vec<u8>>,
    image: Option<Arc<NormalizedSlide<SharedSlide>>>,
}

impl PatchStore {
    /// The store of a level; keeps all patches if they fit into what is left of `budget_bytes`, and takes its share.
    ///
    /// # Errors
    /// If a patch cannot be read.
    fn new(
        image: &Arc<NormalizedSlide<SharedSlide>>,
        centers_px: Vec<SlidePx>,
        geometry: &LevelGeometry,
        budget_bytes: &mut usize,
    ) -> Result<Self> {
        let mut store = Self {
            side_px: geometry.patch_px,
            centers_px,
            side_um: geometry.patch_um,
            kept: None,
            image: Some(image.clone()),
        };
        let needed = store.patch_bytes().saturating_mul(store.centers_px.len());
        if needed <= *budget_bytes {
            let all: Vec<u32> = (0..store.centers_px.len() as u32).collect();
            store.kept = Some(store.read(&all)?);
            store.image = None;
            *budget_bytes -= needed;
        }
        Ok(store)
    }

    /// Bytes of one patch.
    fn patch_bytes(&self) -> usize {
        self.side_px * self.side_px * 3
    }

    /// Whether the patches are in memory.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Bytes of the patches that are in memory.
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, Vec::len)
    }

    /// Patches of the given nodes, interleaved RGB, one after the other.
    ///
    /// # Errors
    /// If a patch cannot be read.
    pub fn read(&self, nodes: &[u32]) -> Result<Vec<u8>> {
        let size = self.patch_bytes();
        let mut patches = vec![0; size * nodes.len()];
        patches.par_chunks_exact_mut(size).zip(nodes).try_for_each(|(patch, &node)| {
            let node = node as usize;
            match (&self.kept, &self.image) {
                (Some(kept), _) => {
                    let stored = kept.get(node * size..(node + 1) * size).context("no such patch")?;
                    patch.copy_from_slice(stored);
                }
                (None, Some(image)) => {
                    let center = *self.centers_px.get(node).context("no such node")?;
                    image.read_patch(center, self.side_um, self.side_px, patch)?;
                }
                (None, None) => anyhow::bail!("the slide's image is closed"),
            }
            Ok(())
        })?;
        Ok(patches)
    }
}

/// The genes that a run predicts: chosen on its training slides, among those that the validation slides measured too.
///
/// # Errors
/// If a gene of the file was not measured on the first training slide, or there are too few genes.
pub fn choose_panel(
    config: &DataConfig,
    training: &[SlideData],
    validation: &[SlideData],
    console: &Console,
) -> Result<GenePanel> {
    say_common_genes(training, validation, console);
    let rule = match config.gene_selection {
        GeneSelection::HighestMean => expression::GeneSelection::HighestMean,
        GeneSelection::MostVariable => expression::GeneSelection::MostVariable,
        GeneSelection::File => return panel_from_file(Path::new(&config.gene_file), training),
    };
    if training.iter().any(|slide| slide.counts.values.iter().any(|&value| value < 0.0)) {
        console.warn(
            "some values are negative, as those of genes scaled to one mean and variance: then a gene's mean and variance \
             say nothing about it; --genes FILE names genes",
        );
    }
    let slides: Vec<_> = training.iter().map(|slide| (&slide.counts, &slide.genes)).collect();
    let others: Vec<&GenePanel> = validation.iter().map(|slide| &slide.genes).collect();
    rule.select(&slides, config.normalization.values(), &others, config.genes).map_err(|error| {
        InputError::in_flag("--train", "gene panel", format!("{} genes", config.genes), error).into()
    })
}

/// Says how many genes all slides measured, where some lack what others have.
fn say_common_genes(training: &[SlideData], validation: &[SlideData], console: &Console) {
    let slides: Vec<&SlideData> = training.iter().chain(validation).collect();
    let panels: Vec<&GenePanel> = slides.iter().map(|slide| &slide.genes).collect();
    let common = CommonGenes::of(&panels);
    if panels.iter().all(|panel| panel.len() == common.len()) {
        return;
    }
    let sizes: Vec<String> =
        slides.iter().map(|slide| format!("{} of {}", slide.genes.len(), slide.id)).collect();
    let such_as = match common.left_out.split_at_checked(5) {
        Some((some, [])) => format!(" (without {})", some.join(", ")),
        Some((some, more)) => format!(" (without {} and {} more of the first)", some.join(", "), more.len()),
        None if common.left_out.is_empty() => String::new(),
        None => format!(" (without {})", common.left_out.join(", ")),
    };
    console.say(format_args!(
        "{} genes are common to all slides{such_as}: {}",
        common.len(),
        sizes.join(", ")
    ));
}

fn panel_from_file(path: &Path, training: &[SlideData]) -> Result<GenePanel> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot read the gene file", path.display()))?;
    let names: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let Some(slide) = training.first() else { anyhow::bail!("no training slide") };
    let (mut ids, mut symbols) = (Vec::new(), Vec::new());
    let mut unknown = Vec::new();
    for name in &names {
        match slide.genes.position(name) {
            Some(gene) => {
                ids.extend(slide.genes.ids.get(gene).cloned());
                symbols.extend(slide.genes.symbols.get(gene).cloned());
            }
            None => unknown.push(*name),
        }
    }
    if names.is_empty() || !unknown.is_empty() {
        let expected = format!("genes measured on slide {}, one id or symbol per line", slide.id);
        let found = match unknown.len() {
            0 => "no gene".to_string(),
            count => {
                format!("{count} others: {}", unknown.into_iter().take(8).collect::<Vec<_>>().join(", "))
            }
        };
        return Err(InputError::in_file(path, "genes", expected, found).into());
    }
    GenePanel::new(ids, symbols)
        .map_err(|error| InputError::in_file(path, "genes", "each gene once", error).into())
}

/// The slide without the bins that have fewer than `min_counts` counts over all genes.
///
/// # Errors
/// If no bin is left.
pub fn without_shallow_bins(slide: SlideData, min_counts: u64, console: &Console) -> Result<SlideData> {
    let kept: Vec<usize> =
        (0..slide.counts.rows()).filter(|&bin| slide.counts.total(bin) >= min_counts as f64).collect();
    let left_out = slide.counts.rows() - kept.len();
    if left_out == 0 {
        return Ok(slide);
    }
    if kept.is_empty() {
        let field = format!("slide {}, data.min_counts", slide.id);
        let expected = format!("a bin of at least {min_counts} counts");
        return Err(InputError::in_flag("--train", field, expected, "none").into());
    }
    console.say(format_args!("{}: {left_out} bins of fewer than {min_counts} counts left out", slide.id));
    Ok(SlideData {
        counts: slide.counts.select_rows(&kept),
        barcodes: kept.iter().filter_map(|&bin| slide.barcodes.get(bin).cloned()).collect(),
        centers_px: kept.iter().filter_map(|&bin| slide.centers_px.get(bin).copied()).collect(),
        ..slide
    })
}

/// Layout and labels of a slide.
///
/// # Errors
/// If the slide's bins are not of the configured size, a gene of the panel is missing, or no layout can be made.
pub fn lay_out(
    slide: &SlideData,
    panel: &GenePanel,
    data: &DataConfig,
    model: &MagNetConfig,
) -> Result<(SlideLayout, PerLevel<Matrix>)> {
    let expected = model.levels.bin.tile_um;
    if ((slide.bin_um - expected) / expected).abs() > BIN_SIZE_TOLERANCE {
        let field = format!("slide {}, bin size", slide.id);
        let preset = match presets_for_bins(slide.bin_um).as_slice() {
            [] => "another --preset".to_owned(),
            names => format!("--preset {}", names.join(" or ")),
        };
        let expected = format!(
            "{expected} µm (model.levels.bin.tile_um; {preset}, or --set model.levels.bin.tile_um={})",
            slide.bin_um
        );
        return Err(InputError::in_flag("--data", field, expected, format!("{} µm", slide.bin_um)).into());
    }
    let named = || format!("slide {}", slide.id);
    let columns = panel.columns_in(&slide.genes).with_context(named)?;
    let bins: Vec<_> = slide.centers_px.iter().map(|&center| um_from_px(center, slide.um_per_px)).collect();
    let layout = SlideLayout::new(&bins, &model.levels, model.neighbors).with_context(named)?;
    let labels = data.normalization.labels_of_levels(&slide.counts, &columns, &layout).with_context(named)?;
    Ok((layout, labels))
}

/// Mean and standard deviation of the labels of each level over slides.
///
/// # Errors
/// If there is no observation.
pub fn statistics<'a>(
    labels: impl Iterator<Item = &'a PerLevel<Matrix>> + Clone,
) -> Result<PerLevel<GeneStatistics>> {
    PerLevel::try_from_fn(|level| {
        let of_level: Vec<&Matrix> = labels.clone().map(|labels| labels.get(level)).collect();
        per_gene_statistics(&of_level).with_context(|| format!("{level} labels of the training slides"))
    })
}

/// Opens a slide's image, and brings its colours to the reference where the model wants that.
///
/// # Errors
/// If the file cannot be read, is no image, or is larger than the limits.
pub fn open_image(
    slide: &SlideData,
    normalization: StainNormalization,
) -> Result<NormalizedSlide<SharedSlide>> {
    let named = || format!("slide {}: image {}", slide.id, slide.image_path.display());
    let opened =
        open_slide(&slide.image_path, Some(slide.um_per_px), &Console::quiet()).with_context(named)?;
    NormalizedSlide::new(opened.reader, normalization).with_context(named)
}

/// The slide with its inputs. `features` are those of the wide levels where the model reads features.
///
/// # Errors
/// If the image or a patch cannot be read.
pub fn with_inputs(
    slide: &SlideData,
    image: &Arc<NormalizedSlide<SharedSlide>>,
    layout: SlideLayout,
    labels: PerLevel<Matrix>,
    model: &MagNetConfig,
    features: Option<(Matrix, Matrix)>,
    budget_bytes: &mut usize,
) -> Result<TrainingSlide> {
    let centers_px = |level: Level| -> Vec<SlidePx> {
        if level == Level::Bin {
            return slide.centers_px.clone();
        }
        layout.centers.get(level).iter().map(|&center| px_from_um(center, slide.um_per_px)).collect()
    };
    let mut patches = |level: Level| {
        PatchStore::new(image, centers_px(level), model.levels.get(level), budget_bytes)
            .map(LevelSource::Patches)
            .with_context(|| format!("slide {}: {level} patches", slide.id))
    };
    let bin = patches(Level::Bin)?;
    let (spot, region) = match (model.wide_levels, &model.wide_features, features) {
        (false, ..) => (LevelSource::Unused, LevelSource::Unused),
        (true, WideFeatures::Shared, _) => (patches(Level::Spot)?, patches(Level::Region)?),
        (true, _, Some((spot, region))) => (LevelSource::Features(spot), LevelSource::Features(region)),
        (true, _, None) => anyhow::bail!("slide {}: no features for the wide levels", slide.id),
    };
    let digests = SlideDigests {
        id: slide.id.clone(),
        image_sha256: slide.image_sha256.clone(),
        counts_sha256: slide.counts_sha256.clone(),
    };
    let inputs = PerLevel { bin, spot, region };
    Ok(TrainingSlide { id: slide.id.clone(), digests, layout, labels, inputs })
}

#[cfg(test)]
mod tests {
    use magnet_core::expression::{CountMatrix, ValueKind};

    use super::*;

    fn slide(totals: &[f32]) -> SlideData {
        let genes = GenePanel::new(vec!["g".into()], vec!["g".into()]).unwrap();
        SlideData {
            id: "a".into(),
            patient: None,
            genes,
            values: ValueKind::Counts,
            counts: CountMatrix::from_rows(1, totals.iter().map(|&total| vec![(0, total)])).unwrap(),
            barcodes: (0..totals.len()).map(|bin| format!("b{bin}")).collect(),
            centers_px: (0..totals.len()).map(|bin| SlidePx { x: bin as f64, y: 0.0 }).collect(),
            um_per_px: 0.5,
            bin_um: 16.0,
            image_path: "a.png".into(),
            image_sha256: String::new(),
            counts_sha256: String::new(),
        }
    }

    #[test]
    fn shallow_bins_leave_with_their_names_and_places() {
        let kept = without_shallow_bins(slide(&[9.0, 100.0, 10.0]), 10, &Console::quiet()).unwrap();
        assert_eq!(kept.barcodes, ["b1", "b2"]);
        assert_eq!(kept.centers_px, [SlidePx { x: 1.0, y: 0.0 }, SlidePx { x: 2.0, y: 0.0 }]);
        assert_eq!(kept.counts.total(1), 10.0);
        let all = without_shallow_bins(slide(&[9.0, 100.0]), 0, &Console::quiet()).unwrap();
        assert_eq!(all.counts.rows(), 2);
        let error = without_shallow_bins(slide(&[9.0]), 10, &Console::quiet()).unwrap_err();
        assert!(error.to_string().contains("min_counts"), "{error}");
    }
}
