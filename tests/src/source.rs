//! A made-up slide in the Spatial Transcriptomics layout: spots 200 µm (50 px) apart on an image whose darkness at a
//! spot drives half of the genes up and half down.

use std::fmt::Write;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// Spots per side.
pub const SIDE: usize = 8;
/// Distance of spots, pixels.
pub const PITCH_PX: usize = 50;
/// Side of the image, pixels.
pub const IMAGE_PX: usize = (SIDE + 1) * PITCH_PX;
/// Genes `GENE0` … .
pub const GENES: usize = 12;

/// The three files of one slide, before they are written.
#[derive(Debug, Clone)]
pub struct StSource {
    /// Text of `<id>.tsv`.
    pub counts: String,
    /// Text of `<id>_selection.tsv`.
    pub selection: String,
    /// Bytes of `<id>.jpg`.
    pub image: Vec<u8>,
}

impl StSource {
    /// A slide; another `variant` has its dark tissue elsewhere.
    pub fn new(variant: usize) -> Self {
        let mut counts = String::new();
        for gene in 0..GENES {
            let _ = write!(counts, "\tGENE{gene}");
        }
        let mut selection = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n".to_owned();
        for y in 1..=SIDE {
            for x in 1..=SIDE {
                let _ = write!(counts, "\n{x}x{y}");
                let darkness = darkness(x * PITCH_PX, y * PITCH_PX, variant);
                for gene in 0..GENES {
                    let trend = if gene % 2 == 0 { darkness } else { 1.0 - darkness };
                    let count = (4.0 + 40.0 * trend * (1.0 + gene as f64 / 6.0)).round();
                    let _ = write!(counts, "\t{count}");
                }
                let (px, py) = (x * PITCH_PX, y * PITCH_PX);
                let _ = writeln!(selection, "{x}\t{y}\t{x}.01\t{y}.02\t{px}\t{py}\t1");
            }
        }
        counts.push('\n');
        Self { counts, selection, image: image(variant) }
    }

    /// Writes the slide's files into `folder`.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, folder: &Path, id: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{id}.tsv")), &self.counts)?;
        std::fs::write(folder.join(format!("{id}_selection.tsv")), &self.selection)?;
        std::fs::write(folder.join(format!("{id}.jpg")), &self.image)
    }
}

/// 0 (pale) to 1 (dark): a smooth pattern over the slide.
fn darkness(x: usize, y: usize, variant: usize) -> f64 {
    let phase = variant as f64;
    let wave = (x as f64 / 70.0 + phase).sin() * (y as f64 / 90.0 + 0.7 * phase).cos();
    0.5 + 0.5 * wave
}

fn image(variant: usize) -> Vec<u8> {
    let picture = RgbImage::from_fn(IMAGE_PX as u32, IMAGE_PX as u32, |x, y| {
        let dark = darkness(x as usize, y as usize, variant);
        // A fine chequer keeps the tissue from looking like an empty background.
        let grain = if (x / 3 + y / 3) % 2 == 0 { 12.0 } else { -12.0 };
        let channel = |pale: f64, deep: f64| (pale + (deep - pale) * dark + grain).clamp(0.0, 255.0) as u8;
        Rgb([channel(225.0, 110.0), channel(165.0, 60.0), channel(205.0, 140.0)])
    });
    let mut bytes = Vec::new();
    // Encoding into memory fails only for sizes that JPEG cannot hold.
    let _ = JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture);
    bytes
}
