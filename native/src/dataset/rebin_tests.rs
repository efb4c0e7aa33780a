use std::collections::BTreeMap;

use magnet_core::GenePanel;
use magnet_core::expression::CountMatrix;
use proptest::prelude::*;

use super::*;

fn metadata(technology: &str, bin_um: f64) -> Metadata {
    Metadata {
        id: "S".into(),
        technology: Some(technology.into()),
        patient: Some("P".into()),
        pixel_size_um: 0.5,
        pixel_size_origin: "given".into(),
        bin_um,
        sources: BTreeMap::new(),
        prepared_by: None,
        values: ValueKind::Counts,
        off_tissue: false,
    }
}

/// Bins of 8 µm on a grid that is turned by `angle`, 0.5 µm to the pixel, with the given counts of one gene.
fn slide(places: &[(u32, u32)], counts: &[u32], angle: f64, named: bool) -> SlideData {
    let (sin, cos) = angle.sin_cos();
    let center = |&(row, col): &(u32, u32)| {
        let (x, y) = ((f64::from(col) + 0.5) * 16.0, (f64::from(row) + 0.5) * 16.0);
        SlidePx { x: 500.0 + cos * x - sin * y, y: 400.0 + sin * x + cos * y }
    };
    let name = |&(row, col): &(u32, u32)| match named {
        true => format!("s_008um_{row:05}_{col:05}-1"),
        false => format!("bin{row}x{col}"),
    };
    SlideData {
        id: "S".into(),
        patient: None,
        genes: GenePanel::new(vec!["g".into()], vec!["g".into()]).unwrap(),
        counts: CountMatrix::from_rows(1, counts.iter().map(|&count| vec![(0, count as f32)])).unwrap(),
        values: ValueKind::Counts,
        barcodes: places.iter().map(name).collect(),
        centers_px: places.iter().map(center).collect(),
        um_per_px: 0.5,
        bin_um: 8.0,
        image_path: "a.png".into(),
        image_sha256: String::new(),
        counts_sha256: String::new(),
    }
}

fn lawn(side: u32) -> Vec<(u32, u32)> {
    (0..side * side).map(|at| (at / side, at % side)).collect()
}

#[test]
fn tiles_of_a_grid_are_whole_numbers_of_bins() {
    let side = |bin_um, asked| tile_side_um(&metadata("Visium HD", bin_um), asked);
    assert_eq!(side(8.0, 8.0), Ok(8.0));
    assert_eq!(side(8.0, 16.0), Ok(16.0));
    // Seven of 8 µm and 28 of 2 µm are the nearest to 55 µm.
    assert_eq!((side(8.0, 55.0), side(2.0, 55.0)), (Ok(56.0), Ok(56.0)));
    let error = side(16.0, 55.0).unwrap_err().to_string();
    assert!(error.contains("such as 48 or 64 µm, found bins of 16 µm"), "{error}");
    let error = side(8.0, 2.0).unwrap_err().to_string();
    assert!(error.contains("slide S at 2 µm: expected finer bins"), "{error}");
    for wrong in [0.0, -8.0, f64::NAN, f64::INFINITY] {
        assert!(side(8.0, wrong).is_err(), "{wrong}");
    }
    // Spots of an array leave room between them, so no tile is a whole number of them.
    assert_eq!(tile_side_um(&metadata("Visium", 55.0), 200.0), Ok(200.0));
}

#[test]
fn tiles_follow_a_grid_that_lies_askew() {
    for (named, angle) in [(true, 0.3), (false, 0.0)] {
        let places = lawn(6);
        let slide = slide(&places, &[1; 36], angle, named);
        let tiles = Tiles::of(&slide, 24.0, (2000, 2000)).unwrap();
        assert_eq!((tiles.groups, tiles.kept.len()), (4, 4));
        let sums = slide.counts.aggregate(&tiles.parents, tiles.groups).unwrap();
        assert!((0..4).all(|tile| sums.total(tile) == 9.0));
        // The tile's centre is that of its middle bin.
        for (tile, center) in tiles.places.iter().zip(&tiles.centers_px) {
            let middle = (tile.row * 3 + 1, tile.col * 3 + 1);
            let at = places.iter().position(|place| *place == middle).unwrap();
            let expected = slide.centers_px[at];
            assert!((center.x - expected.x).abs() < 1e-6 && (center.y - expected.y).abs() < 1e-6);
        }
    }
}

#[test]
fn tiles_at_the_edge_of_the_tissue_are_left_out_and_others_keep_their_centre() {
    // Two whole tiles of 4 × 4; of a third, three bins; of a fourth, ten.
    let whole = |left: u32| (0..16_u32).map(move |at| (at / 4, left + at % 4));
    let places: Vec<(u32, u32)> =
        whole(0).chain(whole(4)).chain(whole(8).take(3)).chain(whole(12).take(10)).collect();
    let slide = slide(&places, &vec![2; places.len()], 0.0, true);
    let tiles = Tiles::of(&slide, 32.0, (2000, 2000)).unwrap();
    assert_eq!(tiles.kept, [0, 1, 3]);
    assert_eq!(tiles.left_out, [BinPlace { row: 0, col: 2 }]);
    // Ten of sixteen bins, and still the middle of the whole tile: 14 columns and 2 rows of 16 pixels.
    let last = tiles.centers_px[2];
    assert!((last.x - (500.0 + 14.0 * 16.0)).abs() < 1e-6 && (last.y - (400.0 + 2.0 * 16.0)).abs() < 1e-6);
}

#[test]
fn a_slide_is_written_as_a_dataset_of_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let image = folder.path().join("S.png");
    image::RgbImage::new(800, 800).save(&image).unwrap();
    let fine = slide(&lawn(8), &(0..64).collect::<Vec<_>>(), 0.0, true);
    let new = NewSlide {
        id: "S".into(),
        technology: "Visium HD".into(),
        patient: Some("P".into()),
        genes: fine.genes.clone(),
        counts: fine.counts.clone(),
        barcodes: fine.barcodes.clone(),
        columns: Vec::new(),
        centers_px: fine.centers_px.clone(),
        um_per_px: 0.5,
        um_per_px_origin: "given".into(),
        bin_um: 8.0,
        image,
        sources: Vec::new(),
        dropped: Vec::new(),
        notes: Vec::new(),
        frames: Vec::new(),
        values: ValueKind::Counts,
        off_tissue: false,
    };
    new.write(&from, Overwrite::No).unwrap();
    let summary = rebin(&Dataset::open(&from).unwrap(), "S", 16.0, &to).unwrap();
    assert_eq!((summary.spots, summary.bin_um), (16, 16.0));
    let coarse = Dataset::open(&to).unwrap().slide("S").unwrap();
    assert_eq!((coarse.bin_um, coarse.patient.as_deref()), (16.0, Some("P")));
    assert_eq!(coarse.barcodes[1], "s_016um_00000_00001-1");
    // Bins 2, 3, 10 and 11.
    assert_eq!(coarse.counts.total(1), 26.0);
    let total = |slide: &SlideData| (0..slide.counts.rows()).map(|row| slide.counts.total(row)).sum::<f64>();
    assert_eq!(total(&coarse), total(&fine));
    // What was made can be brought together again.
    let metadata = Dataset::open(&to).unwrap().metadata("S").unwrap();
    assert_eq!(tile_side_um(&metadata, 32.0), Ok(32.0));
}

proptest! {
    #[test]
    fn every_bin_is_counted_once(
        counts in prop::collection::vec(0..9_u32, 1..80),
        per_tile in 1..5_u32,
        angle in 0.0..1.5_f64,
        named: bool,
    ) {
        let places: Vec<(u32, u32)> = lawn(9).into_iter().take(counts.len()).collect();
        let slide = slide(&places, &counts, angle, named);
        let tiles = Tiles::of(&slide, f64::from(per_tile) * 8.0, (4000, 4000)).unwrap();
        prop_assert_eq!(tiles.parents.len(), counts.len());
        prop_assert_eq!(tiles.kept.len() + tiles.left_out.len(), tiles.groups);
        let sums = slide.counts.aggregate(&tiles.parents, tiles.groups).unwrap();
        let total: f64 = (0..tiles.groups).map(|tile| sums.total(tile)).sum();
        prop_assert_eq!(total, counts.iter().map(|&count| f64::from(count)).sum::<f64>());
    }
}
