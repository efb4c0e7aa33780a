use magnet_core::coordinates::{tile_from_um, um_from_px};
use magnet_core::expression::{CountMatrix, Normalization};

use super::counts::wide_counts;
use super::program::Driver;
use super::tissue::CellKind;
use super::*;
use crate::console::Console;
use crate::dataset::positions::read_positions;
use crate::dataset::scalefactors::read_scalefactors;
use crate::dataset::tenx_matrix::read_tenx_matrix;
use crate::files::Overwrite;

fn small() -> SyntheticConfig {
    SyntheticConfig { side_um: 480.0, slides: 2, genes: 30, ..SyntheticConfig::default() }
}

/// Share of the variance of `y` that a linear function of the features explains (modified Gram-Schmidt).
fn explained(features: &[Vec<f32>], y: &[f32]) -> f64 {
    let centered = |values: &[f32]| {
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        values.iter().map(|&v| f64::from(v) - mean).collect::<Vec<_>>()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let y = centered(y);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut explained = 0.0;
    for feature in features {
        let mut rest = centered(feature);
        let before = dot(&rest, &rest);
        for direction in &basis {
            let along = dot(&rest, direction);
            rest.iter_mut().zip(direction).for_each(|(r, d)| *r -= along * d);
        }
        let norm = dot(&rest, &rest).sqrt();
        if norm * norm > 1e-9 * before {
            rest.iter_mut().for_each(|r| *r /= norm);
            explained += dot(&rest, &y).powi(2);
            basis.push(rest);
        }
    }
    explained / dot(&y, &y)
}

fn pearson(a: &[f32], b: &[f32]) -> f64 {
    explained(&[a.to_vec()], b).sqrt()
}

#[test]
fn the_seed_decides_image_and_counts() {
    let config = SyntheticConfig { side_um: 200.0, ..small() };
    let make = |config: &SyntheticConfig, slide: usize| {
        let slide = SyntheticSlide::grow(config, slide);
        let program = config.program();
        (slide.image().into_raw(), slide.truth(&program).draw(&program, slide.seed).unwrap())
    };
    let first = make(&config, 0);
    assert_eq!(first, make(&config, 0));
    let other_slide = make(&config, 1);
    let other_seed = make(&SyntheticConfig { seed: 8, ..config }, 0);
    for other in [other_slide, other_seed] {
        assert_ne!(first.0, other.0);
        assert_ne!(first.1, other.1);
    }
}

#[test]
fn counts_follow_the_program_and_deeper_counts_follow_it_more_closely() {
    let config = SyntheticConfig { depth: 20_000.0, dispersion: 0.0, ..small() };
    let program = config.program();
    let slide = SyntheticSlide::grow(&config, 0);
    let mut mean = [0.0; 2];
    for (depth, mean) in [20_000.0, 200.0].into_iter().zip(&mut mean) {
        let truth = SyntheticSlide { depth, ..slide.clone() }.truth(&program);
        let drawn = truth.draw(&program, slide.seed).unwrap();
        let total: f32 = drawn.values.iter().sum();
        let per_bin = f64::from(total) / truth.expected.rows as f64;
        assert!((per_bin / depth - 1.0).abs() < 0.05, "{per_bin} counts per bin, wanted {depth}");
        let columns: Vec<u32> = (0..config.genes as u32).collect();
        let measured = Normalization::Log1pCp10k.labels(&drawn, &columns).unwrap();
        let expected = truth.labels(Normalization::Log1pCp10k);
        let driven = |gene: &usize| program.genes[*gene].driver != Driver::Constant;
        let genes: Vec<usize> = (0..config.genes).filter(driven).collect();
        *mean =
            genes.iter().map(|&gene| pearson(&expected.column(gene), &measured.column(gene))).sum::<f64>()
                / genes.len() as f64;
    }
    assert!(mean[0] > 0.95, "deep counts correlate {} with the program", mean[0]);
    assert!(mean[1] < mean[0] - 0.1, "shallow counts correlate {}", mean[1]);
}

#[test]
fn expected_shares_are_positive_and_sum_to_one() {
    let config = small();
    let program = config.program();
    let morphology = Morphology::of(&SyntheticSlide::grow(&config, 1).tissue);
    for row in program.shares(&morphology).chunks_exact(config.genes) {
        assert!(row.iter().all(|&share| share > 0.0));
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
    }
}

#[test]
fn what_a_bin_holds_explains_composition_genes_but_not_neighborhood_or_region_genes() {
    let config = SyntheticConfig { side_um: 1000.0, ..small() };
    let program = config.program();
    let slide = SyntheticSlide::grow(&config, 0);
    let morphology = Morphology::of(&slide.tissue);
    let mut own: Vec<Vec<f32>> =
        (0..4).map(|kind| morphology.bins.iter().map(|bin| bin.shares[kind]).collect()).collect();
    own.push(morphology.bins.iter().map(|bin| bin.lumen).collect());
    // What a patch of 32 µm shows as well: all nuclei within 16 µm.
    own.extend(CellKind::ALL.map(|kind| morphology.ring_density(kind, 0.0, 16.0)));
    let truth = slide.truth(&program).labels(Normalization::Log1pCp10k);
    let mean_of = |group: GeneGroup| {
        let genes: Vec<usize> =
            (0..config.genes).filter(|&gene| program.genes[gene].group == group).collect();
        genes.iter().map(|&gene| explained(&own, &truth.column(gene))).sum::<f64>() / genes.len() as f64
    };
    for group in
        [GeneGroup::Epithelial, GeneGroup::Stromal, GeneGroup::Tumor, GeneGroup::Immune, GeneGroup::Lumen]
    {
        assert!(mean_of(group) > 0.85, "{group:?}: {}", mean_of(group));
    }
    for group in [GeneGroup::NearImmune, GeneGroup::NearTumor, GeneGroup::Region] {
        assert!(mean_of(group) < 0.45, "{group:?}: {}", mean_of(group));
    }
}

#[test]
fn constant_genes_have_the_same_expected_label_everywhere() {
    let config = small();
    let program = config.program();
    let truth = SyntheticSlide::grow(&config, 0).truth(&program).labels(Normalization::Log1pCp10k);
    for (gene, _) in program.genes.iter().enumerate().filter(|(_, gene)| gene.driver == Driver::Constant) {
        let column = truth.column(gene);
        assert!(column.iter().all(|value| (value - column[0]).abs() < 1e-3));
    }
}

#[test]
fn wide_bins_are_the_sums_of_four_small_ones() {
    let config = small();
    let program = config.program();
    let slide = SyntheticSlide::grow(&config, 0);
    let truth = slide.truth(&program);
    let counts = truth.draw(&program, slide.seed).unwrap();
    let (wide_bins, wide) = wide_counts(truth.grid, &truth.in_tissue, &counts).unwrap();
    assert_eq!(wide_bins, truth.wide().in_tissue);
    let get = |matrix: &CountMatrix, row: usize, gene: usize| {
        let (columns, values) = matrix.row(row);
        columns.iter().position(|&column| column as usize == gene).map_or(0.0, |at| values[at])
    };
    let side = truth.grid.side;
    for (row, &bin) in wide_bins.iter().enumerate().step_by(17) {
        let (top, left) = (2 * (bin / (side / 2)), 2 * (bin % (side / 2)));
        for gene in 0..config.genes {
            let mut sum = 0.0;
            for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                if let Ok(small_row) = truth.in_tissue.binary_search(&((top + down) * side + left + right)) {
                    sum += get(&counts, small_row, gene);
                }
            }
            assert_eq!(get(&wide, row, gene), sum);
        }
    }
    let total = |matrix: &CountMatrix| matrix.values.iter().sum::<f32>();
    assert_eq!(total(&wide), total(&counts));
}

#[test]
fn the_image_shows_what_the_tissue_holds() {
    let config = SyntheticConfig { side_um: 600.0, stain_variation: 0.0, ..small() };
    let slide = SyntheticSlide::grow(&config, 0);
    let image = slide.image();
    assert_eq!(image.dimensions(), (1200, 1200));
    let at = |point: magnet_core::coordinates::SlideUm| {
        let px = magnet_core::coordinates::px_from_um(point, config.um_per_px);
        image.get_pixel((px.x as u32).min(1199), (px.y as u32).min(1199)).0
    };
    let mean_red = |kind: CellKind| {
        let nuclei: Vec<_> = slide.tissue.nuclei.iter().filter(|nucleus| nucleus.kind == kind).collect();
        nuclei.iter().map(|nucleus| f64::from(at(nucleus.center)[0])).sum::<f64>() / nuclei.len() as f64
    };
    assert!(mean_red(CellKind::Immune) < mean_red(CellKind::Epithelial), "lymphocytes are the darkest");
    for kind in CellKind::ALL {
        assert!(mean_red(kind) < 150.0, "{kind:?} nuclei are dark: {}", mean_red(kind));
    }
    let [red, green, blue] = at(magnet_core::coordinates::SlideUm { x: 1.0, y: 1.0 }).map(f64::from);
    assert!(red.min(green).min(blue) > 225.0, "glass is bright");
    let lumen = at(slide.tissue.glands[0].center);
    assert!(lumen.iter().all(|&channel| channel > 215), "a lumen is empty: {lumen:?}");
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (config, field) in [
        (SyntheticConfig { slides: 0, ..small() }, "slides"),
        (SyntheticConfig { side_um: f64::NAN, ..small() }, "side_um"),
        (SyntheticConfig { um_per_px: 0.0, ..small() }, "um_per_px"),
        (SyntheticConfig { genes: 3, ..small() }, "genes"),
        (SyntheticConfig { depth: -1.0, ..small() }, "depth"),
        (SyntheticConfig { side_um: 20_000.0, um_per_px: 0.1, ..small() }, "side_um / um_per_px"),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field);
    }
    small().validate().unwrap();
}

#[test]
fn written_files_are_read_back_and_agree_with_image_and_truth() {
    let config = SyntheticConfig { slides: 1, ..small() };
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("tissue");
    let summary = generate(&config, &out, Overwrite::No, &Console::quiet()).unwrap();
    let program = config.program();
    let slide = SyntheticSlide::grow(&config, 0);
    let truth = slide.truth(&program);
    let counts = truth.draw(&program, slide.seed).unwrap();
    let (_, wide) = wide_counts(truth.grid, &truth.in_tissue, &counts).unwrap();
    let folder = out.join(&summary.slides[0].id);
    for (bin_um, truth, counts) in [(8.0, truth.clone(), counts), (16.0, truth.wide(), wide)] {
        let outputs = folder.join(format!("binned_outputs/square_{bin_um:03}um"));
        let matrix = read_tenx_matrix(&outputs.join("filtered_feature_bc_matrix.h5")).unwrap();
        assert_eq!(matrix.counts, counts);
        assert_eq!(matrix.features.len(), config.genes);
        let scale = read_scalefactors(&outputs.join("spatial/scalefactors_json.json")).unwrap();
        assert_eq!(scale.bin_and_pixel_um().unwrap(), (bin_um, config.um_per_px));
        let positions = read_positions(&outputs.join("spatial/tissue_positions.parquet")).unwrap();
        assert_eq!(positions.len(), truth.grid.len());
        let on_tissue: Vec<_> = positions.iter().filter(|position| position.in_tissue).collect();
        let barcodes: Vec<&String> = on_tissue.iter().map(|position| &position.barcode).collect();
        assert_eq!(barcodes, matrix.barcodes.iter().collect::<Vec<_>>());
        for (position, &index) in on_tissue.iter().zip(&truth.in_tissue) {
            let center = um_from_px(position.center_px, config.um_per_px);
            let tile = tile_from_um(center, bin_um);
            assert_eq!((tile.row, tile.col), (i64::from(position.array_row), i64::from(position.array_col)));
            assert_eq!(tile, truth.grid.tile(index));
            assert!(center.x + bin_um / 2.0 <= config.side_um && center.y + bin_um / 2.0 <= config.side_um);
        }
    }
    let bytes = std::fs::read(folder.join("synthetic_1.tif")).unwrap();
    let decoded = magnet_core::slide::decode(&bytes, &magnet_core::slide::DecodeLimits::default()).unwrap();
    assert_eq!(decoded.embedded_um_per_px, Some(config.um_per_px));
    assert_eq!(decoded.rgb, slide.image().into_raw());
    let stated: ProgramFile =
        serde_json::from_slice(&std::fs::read(out.join(PROGRAM_FILE)).unwrap()).unwrap();
    assert_eq!((stated.config, stated.genes), (config, program));
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("mine.txt"), "keep").unwrap();
    let config = SyntheticConfig { slides: 1, side_um: 160.0, ..small() };
    generate(&config, place.path(), Overwrite::No, &Console::quiet()).unwrap_err();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn recovery_compares_each_group_with_what_its_noise_allows() {
    let config = SyntheticConfig { slides: 2, ..small() };
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("tissue");
    generate(&config, &out, Overwrite::No, &Console::quiet()).unwrap();
    let scores = [("EPI1", 0.5), ("EPI2", 0.7), ("NOISE1", 0.0), ("unknown", 0.9)];
    let scores = scores.into_iter().map(|(gene, score)| (gene.to_owned(), score)).collect();
    let groups = recovery(&out, "synthetic_2", 16.0, &scores).unwrap();
    let found: Vec<_> = groups.iter().map(|group| (group.group, group.genes, group.model)).collect();
    assert_eq!(found[0], (GeneGroup::Epithelial, 2, 0.6));
    assert_eq!(found[1], (GeneGroup::Noise, 1, 0.0));
    assert_eq!(found.len(), 2);
    assert!(groups[0].ceiling > 0.6 && groups[0].ceiling < 0.95, "{}", groups[0].ceiling);
    assert!(groups[1].ceiling.abs() < 0.1, "{}", groups[1].ceiling);
    let small_bins = recovery(&out, "synthetic_2", 8.0, &scores).unwrap();
    assert!(small_bins[0].ceiling < groups[0].ceiling, "smaller bins are noisier");
    let wrong = recovery(&out, "synthetic_9", 16.0, &scores).unwrap_err().to_string();
    assert!(wrong.contains("synthetic_1, synthetic_2") && wrong.contains("synthetic_9"), "{wrong}");
}
