//! The pixel size that a slide claims, and who says so.

use std::fmt;

use super::ome;
use super::tiff_image::TiffImage;
use crate::slide::RangeRead;
use crate::slide::pixel_size::{resolution_um_per_px, sensible_mean};
use crate::tiff::TiffError;
use crate::tiff::read::{Directory, TiffReader};

/// The pixel size that a slide's file claims.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddedPixelSize {
    /// µm per pixel at full resolution.
    pub um_per_px: f64,
    /// Who says so.
    pub origin: PixelSizeOrigin,
}

/// Where a file says how large its pixels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelSizeOrigin {
    /// `MPP` in Aperio's description.
    Aperio,
    /// `PhysicalSizeX` and `PhysicalSizeY` of OME-XML.
    Ome,
    /// TIFF's XResolution, YResolution and ResolutionUnit.
    Resolution,
}

impl fmt::Display for PixelSizeOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PixelSizeOrigin::Aperio => "MPP in the Aperio description",
            PixelSizeOrigin::Ome => "PhysicalSizeX in the OME-XML",
            PixelSizeOrigin::Resolution => "the TIFF resolution tags",
        })
    }
}

/// The first of the three claims that names a size which a microscope image can have.
pub(super) fn embedded_pixel_size<R: RangeRead + ?Sized>(
    reader: &mut TiffReader<'_, R>,
    directory: &Directory,
    description: &str,
    base: &TiffImage,
) -> Result<Option<EmbeddedPixelSize>, TiffError> {
    let claims = [
        (PixelSizeOrigin::Aperio, aperio_um_per_px(description).map(|um| (um, um))),
        (PixelSizeOrigin::Ome, ome::um_per_px(description, base.width, base.height)),
        (PixelSizeOrigin::Resolution, resolution_um_per_px(reader, directory)?),
    ];
    let sensible = |(origin, claim): (PixelSizeOrigin, Option<(f64, f64)>)| {
        Some(EmbeddedPixelSize { um_per_px: sensible_mean(claim?)?, origin })
    };
    Ok(claims.into_iter().find_map(sensible))
}

/// `Aperio Image Library v11.2.1 … |AppMag = 20|MPP = 0.4990|…`
fn aperio_um_per_px(description: &str) -> Option<f64> {
    if !description.starts_with("Aperio") {
        return None;
    }
    let mut pairs = description.split('|').filter_map(|part| part.split_once('='));
    pairs.find(|(key, _)| key.trim() == "MPP").and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aperio_says_it_in_its_description() {
        let said = "Aperio Image Library v11.2.1 \r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB \
                    Q=30|AppMag = 20|StripeWidth = 2040|MPP = 0.4990|Left = 25.691574";
        assert_eq!(aperio_um_per_px(said), Some(0.499));
        assert_eq!(aperio_um_per_px("Aperio|AppMag = 20"), None);
        assert_eq!(aperio_um_per_px("Aperio|MPP = wide"), None);
        assert_eq!(aperio_um_per_px("Scanner|MPP = 0.5"), None);
    }
}
