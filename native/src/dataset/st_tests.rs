use std::io::Write;

use super::*;
use crate::dataset::Dataset;

/// A section `A1` of 3 × 3 spots, 100 px apart, with two genes; each test changes one file.
struct Section {
    folder: tempfile::TempDir,
}

impl Section {
    fn new() -> Self {
        let section = Self { folder: tempfile::tempdir().unwrap() };
        let mut selection = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n".to_owned();
        let mut counts = "\tACTB\tERBB2\n".to_owned();
        for (x, y) in (1..4).flat_map(|x| (1..4).map(move |y| (x, y))) {
            let (px, py) = (x * 100 + 7, y * 100 - 20);
            selection += &format!("{x}\t{y}\t{x}.01\t{y}.02\t{px}.5\t{py}.25\t1\n");
            counts += &format!("{x}x{y}\t{}\t{}\n", x * y, x - 1);
        }
        section.write("A1_selection.tsv", selection.as_bytes());
        section.write("A1.tsv", counts.as_bytes());
        image::RgbImage::new(420, 400).save(section.input().join("A1.png")).unwrap();
        section
    }

    fn input(&self) -> PathBuf {
        let input = self.folder.path().join("in");
        fs::create_dir_all(&input).unwrap();
        input
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.input().join(name), bytes).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.input().join(name)).unwrap()
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from));
        self.write(name, text.replacen(from, to, 1).as_bytes());
    }

    fn options(&self) -> StOptions {
        StOptions {
            input: self.input(),
            out: self.folder.path().join("out"),
            samples: Vec::new(),
            pixel_size_um: None,
            overwrite: Overwrite::No,
        }
    }

    /// The message of a preparation that must fail and leave nothing.
    fn error(&self) -> String {
        let error = format!("{:#}", self.options().run().expect_err("the input must be refused"));
        for folder in ["st", "wsis", "metadata"] {
            let left = fs::read_dir(self.options().out.join(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{folder} holds files after: {error}");
        }
        error
    }
}

#[test]
fn a_section_becomes_a_slide() {
    let section = Section::new();
    let summary = section.options().run().unwrap();
    let slide = summary.slides.first().unwrap();
    assert_eq!((slide.spots, slide.genes, slide.bin_um), (9, 2, 100.0));
    assert!((slide.pixel_size_um - 2.0).abs() < 1e-9, "{slide}");
    assert!(slide.pixel_size_origin.contains("100.00 px"), "{slide}");
    assert!(slide.dropped.is_empty());

    let dataset = Dataset::open(&section.options().out).unwrap();
    assert_eq!(dataset.ids(), ["A1"]);
    let slide = dataset.slide("A1").unwrap();
    assert_eq!(slide.patient.as_deref(), Some("A"));
    assert_eq!(slide.genes.symbols, ["ACTB", "ERBB2"]);
    assert_eq!(slide.barcodes.get(5).map(String::as_str), Some("2x3"));
    assert_eq!(slide.centers_px.get(5), Some(&SlidePx { x: 207.5, y: 280.25 }));
    let row = slide.counts.row_offsets[5]..slide.counts.row_offsets[6];
    assert_eq!(&slide.counts.values[row], [6.0, 1.0]);
    // The first column of spots has no ERBB2.
    assert_eq!(slide.counts.values.len(), 15);
    assert_eq!(slide.um_per_px, 2.0);
    assert_eq!(slide.image_sha256, crate::files::sha256_file(&section.input().join("A1.png")).unwrap());
}

#[test]
fn gzipped_counts_give_the_same_slide() {
    let plain = Section::new();
    plain.options().run().unwrap();
    let gzipped = Section::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(gzipped.text("A1.tsv").as_bytes()).unwrap();
    fs::remove_file(gzipped.input().join("A1.tsv")).unwrap();
    gzipped.write("A1.tsv.gz", &encoder.finish().unwrap());
    gzipped.options().run().unwrap();
    let counts = |section: &Section| fs::read(section.options().out.join("st/A1.h5ad")).unwrap();
    assert_eq!(counts(&plain), counts(&gzipped));
}

#[test]
fn what_lies_off_tissue_or_has_no_counts_is_left_out_and_reported() {
    let section = Section::new();
    section.replace("A1_selection.tsv", "180.25\t1\n", "180.25\t0\n");
    section.replace("A1.tsv", "3x3\t9\t2\n", "9x9\t1\t1\n");
    let summary = section.options().run().unwrap();
    let slide = summary.slides.first().unwrap();
    assert_eq!(slide.spots, 7);
    let off = Dropped::of("spots with counts that are not selected", &["1x2".into(), "9x9".into()]).unwrap();
    let without = Dropped::of("selected spots without counts", &["3x3".into()]).unwrap();
    assert_eq!(slide.dropped, [off, without]);
    assert!(slide.to_string().contains("left out: 1 selected spots without counts (3x3)"), "{slide}");
}

#[test]
fn the_pixel_size_ignores_rotation_and_reflection() {
    let place = |x: i64, y: i64, mirror: f64| {
        let (sin, cos) = 0.3_f64.sin_cos();
        let (gx, gy) = (290.0 * x as f64, 290.0 * y as f64 * mirror);
        ((x, y), SlidePx { x: cos * gx - sin * gy + 5000.0, y: sin * gx + cos * gy - 13.0 })
    };
    for mirror in [1.0, -1.0] {
        let spots: Selection = (0..4).flat_map(|x| (0..5).map(move |y| place(x, y, mirror))).collect();
        let (um, _) = pixel_size(Path::new("f"), &spots).unwrap();
        assert!((um - 200.0 / 290.0).abs() < 1e-12, "{um}");
    }
    let shuffled: Selection =
        (0..20).map(|k| ((k, k * 7 % 5), place(k * 11 % 20, k * 3 % 7, 1.0).1)).collect();
    assert!(
        pixel_size(Path::new("f"), &shuffled).unwrap_err().to_string().contains("follow the array's grid")
    );
    assert!(pixel_size(Path::new("f"), &vec![((1, 1), SlidePx { x: 3.0, y: 4.0 })]).is_err());
}

#[test]
fn a_given_pixel_size_goes_before_the_derived_one() {
    let section = Section::new();
    let options = StOptions { pixel_size_um: Some(1.9), ..section.options() };
    let summary = options.run().unwrap();
    assert_eq!(summary.slides[0].pixel_size_um, 1.9);
    assert_eq!(summary.slides[0].pixel_size_origin, "given with --mpp");
    let options = StOptions { pixel_size_um: Some(-1.0), ..section.options() };
    assert!(options.run().unwrap_err().to_string().contains("found -1"));
}

#[test]
fn existing_slides_are_replaced_only_when_asked() {
    let section = Section::new();
    section.options().run().unwrap();
    let error = section.options().run().unwrap_err().to_string();
    assert!(error.contains("found A1 already there") && error.contains("--overwrite"), "{error}");
    section.replace("A1.tsv", "1x1\t1\t0", "1x1\t5\t0");
    StOptions { overwrite: Overwrite::Yes, ..section.options() }.run().unwrap();
    let slide = Dataset::open(&section.options().out).unwrap().slide("A1").unwrap();
    assert_eq!(slide.counts.values.first(), Some(&5.0));
}

#[test]
fn each_bad_input_is_named_and_leaves_nothing() {
    type Change = fn(&Section);
    let cases: [(Change, &str); 16] = [
        (
            |s| s.replace("A1.tsv", "1x2\t2", "1x2\t-2"),
            "A1.tsv, line 3, column ACTB: expected a whole number from 0, found -2",
        ),
        (
            |s| s.replace("A1.tsv", "1x2\t2", "1x2\tNaN"),
            "line 3, column ACTB: expected a whole number from 0, found NaN",
        ),
        (|s| s.replace("A1.tsv", "1x2\t2", "1x2\t2.5"), "found 2.5"),
        (|s| s.replace("A1.tsv", "1x2\t2", "1x2\ttwo"), "found two"),
        (
            |s| s.replace("A1.tsv", "1x2\t2", "1x2\t"),
            "line 3, column ACTB: expected a whole number from 0, found an empty cell",
        ),
        (|s| s.replace("A1.tsv", "1x2\t2\t0", "1x2\t2"), "A1.tsv, line 3: expected 3 columns, found 2"),
        (
            |s| s.replace("A1.tsv", "1x2\t", "spot7\t"),
            "line 3, column 1: expected a spot named <x>x<y>, such as 10x21, found spot7",
        ),
        (|s| s.replace("A1.tsv", "1x2\t", "1x1\t"), "A1.tsv: spots: expected each once, found 1x1 and 1x1"),
        (
            |s| s.write("A1.tsv", b"\tACTB\n70x70\t1\n"),
            "expected counts for some of the 9 selected spots (such as 1x1), found 1 other spots (such as 70x70)",
        ),
        (|s| s.write("A1.tsv", b""), "A1.tsv, header"),
        (
            |s| s.replace("A1_selection.tsv", "pixel_x", "px"),
            "A1_selection.tsv, header: expected a column pixel_x, found x, y, new_x, new_y, px",
        ),
        (
            |s| s.replace("A1_selection.tsv", "107.5", "far"),
            "A1_selection.tsv, line 2, column pixel_x: expected a finite number of pixels, found far",
        ),
        (
            |s| s.replace("A1_selection.tsv", "80.25\t1\n", "80.25\tyes\n"),
            "line 2, column selected: expected 0 or 1, found yes",
        ),
        (
            |s| image::RgbImage::new(420, 270).save(s.input().join("A1.png")).unwrap(),
            "A1_selection.tsv: spot 1x3: expected a centre inside",
        ),
        (|s| s.write("A1.png", b"<html>"), "A1.png: image: expected a PNG, JPEG or TIFF image"),
        (
            |s| fs::remove_file(s.input().join("A1.png")).unwrap(),
            "image: expected A1 with one of the endings",
        ),
    ];
    for (change, expected) in cases {
        let section = Section::new();
        change(&section);
        let error = section.error();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn an_unknown_section_and_an_empty_folder_are_named() {
    let section = Section::new();
    let options = StOptions { samples: vec!["Z9".into()], ..section.options() };
    let error = options.run().unwrap_err().to_string();
    assert!(
        error.contains("--samples: value: expected some of A1") && error.ends_with("found Z9"),
        "{error}"
    );
    let options = StOptions { input: section.folder.path().join("none"), ..section.options() };
    assert!(options.run().unwrap_err().to_string().contains("cannot read the folder"));
    fs::remove_file(section.input().join("A1_selection.tsv")).unwrap();
    assert!(section.error().contains("sections: expected files <id>_selection.tsv, found none"));
}

/// The real sections lie outside the repository; where they are absent this says so and checks nothing.
#[test]
fn the_real_sections_are_read() {
    let shared = std::env::var_os("MAGNET_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from("../../shared"));
    let input = shared.join("data/her2st");
    if !input.is_dir() {
        eprintln!(
            "skipped: {} is absent (set MAGNET_SHARED to the folder that holds data/her2st)",
            input.display()
        );
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let samples = vec!["C2".to_owned(), "B4".to_owned()];
    let options = StOptions {
        input,
        out: out.path().to_owned(),
        samples,
        pixel_size_um: None,
        overwrite: Overwrite::No,
    };
    let summary = options.run().unwrap();
    let dataset = Dataset::open(out.path()).unwrap();
    for slide in &summary.slides {
        // 290 px between neighbouring spots, to within one per cent.
        assert!((slide.pixel_size_um - 0.690).abs() < 0.0069, "{slide}");
        let data = dataset.slide(&slide.id).unwrap();
        assert_eq!(data.barcodes.len(), slide.spots);
        assert!(slide.spots > 150 && slide.genes > 14_000, "{slide}");
        let total: f64 = data.counts.values.iter().map(|&count| f64::from(count)).sum();
        assert!(total / slide.spots as f64 > 500.0, "{slide}: {total} counts");
    }
}
