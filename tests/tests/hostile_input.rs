//! Input that is wrong or hostile: each kind is refused with the file, the field, what was expected and what was found,
//! with the exit code of bad input, and without leaving half an output behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use magnet_core::anndata::{AnnData, Values};
use magnet_tests::fixture::{copy_folder, fixture, train_arguments};
use magnet_tests::source::{IMAGE_PX, StSource};
use magnet_tests::{run, tree};
use tempfile::TempDir;

/// What a case works in: copies of the good files, to be spoilt.
struct Work {
    folder: TempDir,
}

impl Work {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Changes a text file of the source.
    fn edit(&self, name: &str, edit: impl FnOnce(String) -> String) {
        let path = self.path(name);
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Changes a file's bytes.
    fn edit_bytes(&self, name: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.path(name);
        fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    }

    /// Changes the matrix of slide A in the dataset.
    fn edit_h5ad(&self, edit: impl FnOnce(&mut AnnData)) {
        self.edit_bytes("dataset/st/A.h5ad", |bytes| {
            let mut data = AnnData::read(bytes).unwrap();
            edit(&mut data);
            data.write().unwrap()
        });
    }

    fn prepare(&self) -> Vec<String> {
        words(&["prepare", "st", "--input", &self.text("source"), "--out", &self.text("out")])
    }

    fn train(&self) -> Vec<String> {
        train_arguments(fixture(), &self.text("dataset"), &self.text("out"))
    }

    fn train_on(&self, train: &str, valid: &str) -> Vec<String> {
        let config = fixture().config().display().to_string();
        words(&[
            "train",
            "--data",
            &self.text("dataset"),
            "--train",
            train,
            "--valid",
            valid,
            "--config",
            &config,
            "--out",
            &self.text("out"),
            "--device",
            "cpu",
        ])
    }

    fn evaluate(&self, model: &Path, slide: &str) -> Vec<String> {
        let model = model.display().to_string();
        words(&[
            "evaluate",
            "--model",
            &model,
            "--data",
            &self.text("dataset"),
            "--slides",
            slide,
            "--out",
            &self.text("out"),
            "--device",
            "cpu",
        ])
    }

    fn predict(&self, image: &str, more: &[&str]) -> Vec<String> {
        let model = fixture().model().display().to_string();
        let mut line = words(&[
            "predict",
            "--model",
            &model,
            "--image",
            &self.text(image),
            "--out",
            &self.text("out"),
            "--device",
            "cpu",
        ]);
        line.extend(words(more));
        line
    }
}

fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// A kind of bad input.
struct Case {
    name: &'static str,
    /// Spoils the copies and gives the command line that meets them.
    spoil: fn(&Work) -> Vec<String>,
    /// What the error must say: file, field, expected, found.
    says: &'static [&'static str],
}

/// Makes the JPEG's frame header declare another size.
fn declare(mut jpeg: Vec<u8>, side: u16) -> Vec<u8> {
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).expect("a baseline JPEG");
    jpeg[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    jpeg
}

/// A PNG that declares 100,000 × 100,000 pixels and holds a few bytes.
fn huge_png() -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(100_000u32.to_be_bytes());
    header.extend(100_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::default());
    pixels.write_all(&[0; 64]).unwrap();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", header), (b"IDAT", pixels.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(&content);
        png.extend((content.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(content);
        png.extend(crc.sum().to_be_bytes());
    }
    png
}

/// The slide of a source as a TIFF file whose directory comes first, as far as a copy of `percent` of it goes.
fn cut_off(jpeg: &[u8], percent: usize) -> Vec<u8> {
    const ROWS: u32 = 10;
    let pixels = image::load_from_memory(jpeg).unwrap().into_rgb8();
    let (width, height) = pixels.dimensions();
    let strips = height.div_ceil(ROWS);
    let bytes_of = |strip: u32| width * 3 * ROWS.min(height - strip * ROWS);
    // Nine entries of 12 bytes behind header and count, then the next directory's place, then what does not fit.
    let bits = 8 + 2 + 9 * 12 + 4;
    let (offsets, counts) = (bits + 6, bits + 6 + 4 * strips);
    let data = counts + 4 * strips;
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, strips, offsets),
        (277, 3, 1, 3),
        (278, 4, 1, ROWS),
        (279, 4, strips, counts),
    ];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0, 0, 0, 0, 8, 0, 8, 0, 8, 0]);
    file.extend((0..strips).flat_map(|strip| (data + strip * width * 3 * ROWS).to_le_bytes()));
    file.extend((0..strips).flat_map(|strip| bytes_of(strip).to_le_bytes()));
    file.extend(pixels.into_raw());
    file.truncate(file.len() * percent / 100);
    file
}

/// Replaces the first count of a spot's row.
fn with_count(text: String, spot: &str, count: &str) -> String {
    let start = text.find(&format!("\n{spot}\t")).unwrap() + spot.len() + 2;
    let end = start + text[start..].find('\t').unwrap();
    format!("{}{count}{}", &text[..start], &text[end..])
}

/// One stored count of a matrix, to be changed.
fn first_count(data: &mut AnnData) -> &mut f32 {
    match &mut data.x {
        Values::Sparse(matrix) => &mut matrix.values[0],
        Values::Dense(matrix) => &mut matrix.values[0],
    }
}

const CASES: &[Case] = &[
    Case {
        name: "a truncated table",
        spoil: |work| {
            work.edit("source/A.tsv", |text| {
                text[..text.len() / 2].trim_end_matches(char::is_numeric).to_owned()
            });
            work.prepare()
        },
        says: &["A.tsv", "line", "expected", "found"],
    },
    Case {
        name: "a truncated archive",
        spoil: |work| {
            let text = fs::read(work.path("source/A.tsv")).unwrap();
            fs::remove_file(work.path("source/A.tsv")).unwrap();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&text).unwrap();
            let bytes = encoder.finish().unwrap();
            fs::write(work.path("source/A.tsv.gz"), &bytes[..bytes.len() / 2]).unwrap();
            work.prepare()
        },
        says: &["A.tsv.gz"],
    },
    Case {
        name: "a word where a count should be",
        spoil: |work| {
            work.edit("source/A.tsv", |text| with_count(text, "1x1", "many"));
            work.prepare()
        },
        says: &["A.tsv", "GENE0", "expected", "many"],
    },
    Case {
        name: "a NaN count",
        spoil: |work| {
            work.edit("source/A.tsv", |text| with_count(text, "2x1", "NaN"));
            work.prepare()
        },
        says: &["A.tsv", "line 3", "GENE0", "expected", "NaN"],
    },
    Case {
        name: "a negative count",
        spoil: |work| {
            work.edit("source/A.tsv", |text| with_count(text, "1x1", "-7"));
            work.prepare()
        },
        says: &["A.tsv", "line 2", "GENE0", "expected", "-7"],
    },
    Case {
        name: "counts with no matching spot",
        spoil: |work| {
            work.edit("source/A.tsv", |text| text.replace('x', "0x"));
            work.prepare()
        },
        says: &["A.tsv", "spots", "expected", "1x1", "found", "10x1"],
    },
    Case {
        name: "a spot far from the array's grid",
        spoil: |work| {
            work.edit("source/A_selection.tsv", |text| text.replacen("\t50\t50\t1", "\t5000\t50\t1", 1));
            work.prepare()
        },
        says: &["A_selection.tsv", "pixel size", "expected", "--mpp", "found"],
    },
    Case {
        name: "a spot outside the image",
        spoil: |work| {
            work.edit("source/A_selection.tsv", |text| text.replacen("\t50\t50\t1", "\t5000\t50\t1", 1));
            [work.prepare(), words(&["--mpp", "4"])].concat()
        },
        says: &["A", "1x1", "expected", "450", "5000"],
    },
    Case {
        name: "a selection without its pixel columns",
        spoil: |work| {
            work.edit("source/A_selection.tsv", |text| text.replacen("pixel_x", "px", 1));
            work.prepare()
        },
        says: &["A_selection.tsv", "pixel_x", "expected", "found"],
    },
    Case {
        name: "an image that is not one",
        spoil: |work| {
            fs::write(work.path("source/A.jpg"), "not an image at all").unwrap();
            work.prepare()
        },
        says: &["A.jpg", "expected", "image"],
    },
    Case {
        name: "a dataset without obsm/spatial",
        spoil: |work| {
            work.edit_h5ad(|data| data.spatial = None);
            work.train()
        },
        says: &["A.h5ad", "obsm/spatial", "expected", "found none"],
    },
    Case {
        name: "a spot of the dataset outside the image",
        spoil: |work| {
            work.edit_h5ad(|data| data.spatial.as_mut().unwrap()[3].x = 1e6);
            work.train()
        },
        says: &["A.h5ad", "4x1", "expected", "450", "1000000"],
    },
    Case {
        name: "NaN counts in the dataset",
        spoil: |work| {
            work.edit_h5ad(|data| *first_count(data) = f32::NAN);
            work.train()
        },
        says: &["A.h5ad", "expected", "NaN"],
    },
    Case {
        name: "negative counts in the dataset",
        spoil: |work| {
            work.edit_h5ad(|data| *first_count(data) = -3.0);
            work.train()
        },
        says: &["A.h5ad", "expected", "-3"],
    },
    Case {
        name: "counts that were normalised",
        spoil: |work| {
            work.edit_h5ad(|data| *first_count(data) = 1.25);
            work.train()
        },
        says: &["A.h5ad", "expected", "1.25"],
    },
    Case {
        name: "a truncated matrix",
        spoil: |work| {
            work.edit_bytes("dataset/st/A.h5ad", |bytes| bytes[..bytes.len() / 3].to_vec());
            work.train()
        },
        says: &["A.h5ad"],
    },
    Case {
        name: "a matrix that is a text file",
        spoil: |work| {
            fs::write(work.path("dataset/st/A.h5ad"), "gene,count\n").unwrap();
            work.train()
        },
        says: &["A.h5ad", "HDF5"],
    },
    Case {
        name: "metadata without a pixel size",
        spoil: |work| {
            fs::write(work.path("dataset/metadata/A.json"), "{\"bin_um\": 100}").unwrap();
            work.train()
        },
        says: &["A.json", "pixel_size_um", "expected", "found none"],
    },
    Case {
        name: "a damaged slide image of the dataset",
        spoil: |work| {
            work.edit_bytes("dataset/wsis/A.jpg", |bytes| bytes[..bytes.len() / 2].to_vec());
            work.train()
        },
        says: &["A.jpg", "truncated"],
    },
    Case {
        name: "an empty training list",
        spoil: |work| work.train_on("", "B"),
        says: &["--train", "expected", "found"],
    },
    Case {
        name: "a slide in both training and validation",
        spoil: |work| work.train_on("A,B", "B"),
        says: &["--valid", "B", "expected", "found"],
    },
    Case {
        name: "a slide that the dataset lacks",
        spoil: |work| work.train_on("A,Z", "B"),
        says: &["--train", "expected", "perhaps A", "found Z"],
    },
    Case {
        name: "a bundle whose genes are not the dataset's",
        spoil: |work| {
            for id in ["A", "B", "C"] {
                work.edit_bytes(&format!("dataset/st/{id}.h5ad"), |bytes| {
                    let mut data = AnnData::read(bytes).unwrap();
                    data.var.names.iter_mut().for_each(|name| *name = name.replace("GENE", "MOUSE"));
                    data.var.columns.clear();
                    data.write().unwrap()
                });
            }
            work.evaluate(&fixture().model(), "C")
        },
        says: &["model.safetensors", "dataset", "genes", "expected", "GENE"],
    },
    Case {
        name: "a slide that the model was trained on",
        spoil: |work| work.evaluate(&fixture().model(), "A"),
        says: &["--slides", "A", "trained on", "--allow-training-slides"],
    },
    Case {
        name: "a truncated bundle",
        spoil: |work| {
            let bytes = fs::read(fixture().model()).unwrap();
            fs::write(work.path("half.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            work.evaluate(&work.path("half.safetensors"), "C")
        },
        says: &["half.safetensors", "bundle", "expected"],
    },
    Case {
        name: "a bundle with a flipped bit",
        spoil: |work| {
            let mut bytes = fs::read(fixture().model()).unwrap();
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
            fs::write(work.path("flipped.safetensors"), &bytes).unwrap();
            work.evaluate(&work.path("flipped.safetensors"), "C")
        },
        says: &["flipped.safetensors", "SHA-256", "expected", "found"],
    },
    Case {
        name: "a bundle that is something else",
        spoil: |work| work.evaluate(&work.path("dataset/st/A.h5ad"), "C"),
        says: &["A.h5ad", "bundle", "expected"],
    },
    Case {
        name: "a slide to predict that is no image",
        spoil: |work| work.predict("dataset/metadata/A.json", &["--mpp", "4"]),
        says: &["A.json", "expected", "PNG, JPEG or TIFF"],
    },
    Case {
        name: "a huge declared PNG",
        spoil: |work| {
            fs::write(work.path("huge.png"), huge_png()).unwrap();
            work.predict("huge.png", &["--mpp", "0.5"])
        },
        says: &["huge.png", "100000", "limit"],
    },
    Case {
        name: "a JPEG that declares more than it holds",
        spoil: |work| {
            fs::write(work.path("huge.jpg"), declare(StSource::new(0).image, 65_000)).unwrap();
            work.predict("huge.jpg", &["--mpp", "0.5"])
        },
        says: &["huge.jpg", "65000", "limit"],
    },
    Case {
        name: "a slide to prepare that was cut off",
        spoil: |work| {
            let jpeg = fs::read(work.path("source/A.jpg")).unwrap();
            fs::remove_file(work.path("source/A.jpg")).unwrap();
            fs::write(work.path("source/A.tif"), cut_off(&jpeg, 60)).unwrap();
            work.prepare()
        },
        says: &[
            "A.tif",
            "image 0, strip",
            "expected a file of at least",
            "of the slide's 45 tiles lie past its end",
        ],
    },
    Case {
        name: "a slide to predict that was cut off",
        spoil: |work| {
            fs::write(work.path("C.tif"), cut_off(&fs::read(work.path("source/C.jpg")).unwrap(), 50))
                .unwrap();
            work.predict("C.tif", &["--mpp", "4"])
        },
        says: &[
            "C.tif",
            "% of the slide's tiles cannot be read: 23 of 45 lie past the end",
            "--region or --positions",
        ],
    },
    Case {
        name: "a slide without a pixel size",
        spoil: |work| work.predict("source/C.jpg", &[]),
        says: &["C.jpg", "pixel size", "--mpp"],
    },
    Case {
        name: "a pixel size of zero",
        spoil: |work| work.predict("source/C.jpg", &["--mpp", "0"]),
        says: &["--mpp", "expected", "0"],
    },
    Case {
        name: "positions beyond the image",
        spoil: |work| {
            fs::write(work.path("places.csv"), format!("x,y\n10,10\n20,{}\n", IMAGE_PX + 1)).unwrap();
            work.predict("source/C.jpg", &["--mpp", "4", "--positions", &work.text("places.csv")])
        },
        says: &["places.csv", "line 3, column y", "expected", "451"],
    },
    Case {
        name: "a gene that the model does not predict",
        spoil: |work| work.predict("source/C.jpg", &["--mpp", "4", "--genes", "GENE99"]),
        says: &["--genes", "GENE99", "nearest", "GENE"],
    },
    Case {
        name: "an output that is there already",
        spoil: |work| {
            fs::create_dir(work.path("out")).unwrap();
            fs::write(work.path("out/precious.txt"), "keep me").unwrap();
            work.predict("source/C.jpg", &["--mpp", "4"])
        },
        says: &["out", "exists", "--overwrite"],
    },
];

#[test]
fn bad_input_is_named_and_leaves_nothing_behind() {
    let mut failures = Vec::new();
    for case in CASES {
        let work = Work { folder: TempDir::new().unwrap() };
        copy_folder(&fixture().source(), &work.path("source")).unwrap();
        copy_folder(&fixture().dataset(), &work.path("dataset")).unwrap();
        let line = (case.spoil)(&work);
        let before = tree(work.folder.path());
        let run = run(&line);
        let after = tree(work.folder.path());
        let mut wrong = Vec::new();
        if run.code != Some(3) {
            wrong.push(format!("exit code {:?}", run.code));
        }
        if !run.stdout.is_empty() {
            wrong.push("something on stdout".to_owned());
        }
        if run.stderr.contains("panicked") {
            wrong.push("a panic".to_owned());
        }
        wrong.extend(
            case.says.iter().filter(|part| !run.stderr.contains(**part)).map(|part| format!("no {part:?}")),
        );
        if before != after {
            let left: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
            wrong.push(format!("left behind {left:?}"));
        }
        if !wrong.is_empty() {
            failures.push(format!("{}: {}\n  stderr: {}", case.name, wrong.join("; "), run.stderr.trim()));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}

#[test]
fn the_good_files_are_good() {
    let work = Work { folder: TempDir::new().unwrap() };
    copy_folder(&fixture().source(), &work.path("source")).unwrap();
    copy_folder(&fixture().dataset(), &work.path("dataset")).unwrap();
    run(work.prepare()).success();
    fs::remove_dir_all(work.path("out")).unwrap();
    run(work.evaluate(&fixture().model(), "C")).success();
    fs::remove_dir_all(work.path("out")).unwrap();
    run(work.predict("source/C.jpg", &["--mpp", "4"])).success();
}

#[test]
fn a_slide_that_lacks_its_last_rows_is_predicted_and_the_loss_is_told() {
    let work = Work { folder: TempDir::new().unwrap() };
    let jpeg = fs::read(fixture().source().join("C.jpg")).unwrap();
    fs::write(work.path("C.tif"), cut_off(&jpeg, 97)).unwrap();
    let short = run(work.predict("C.tif", &["--mpp", "4", "--json"])).success();
    let cut = &short.json()["cut_off"];
    assert_eq!((&cut["tiles"], &cut["beyond_end"]), (&45.into(), &2.into()), "{cut}");
    assert!(short.stderr.contains("4.4 % of the slide's tiles cannot be read"), "{}", short.stderr);
    fs::write(work.path("C.tif"), cut_off(&jpeg, 100)).unwrap();
    let whole = run(work.predict("C.tif", &["--mpp", "4", "--json", "--overwrite"])).success();
    assert!(
        whole.json()["cut_off"].is_null() && !whole.stderr.contains("cannot be read"),
        "{}",
        whole.stderr
    );
}
