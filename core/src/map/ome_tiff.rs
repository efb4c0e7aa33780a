//! Genes as channels of one pyramidal OME-TIFF, aligned with the slide.

use std::fmt::Write as _;
use std::io::{self, Seek, Write};

use super::PredictedMap;
use crate::tiff::write::{PyramidImage, PyramidWriter, TileCompression, TileRegion};

/// Side of a tile, in pixels of the map.
const TILE_PX: u32 = 256;
/// Genes whose values are in memory at a time.
const GENES_AT_ONCE: usize = 16;

/// The map as a raster: one pixel per place, so a pixel is as large as what a place predicts.
struct Raster {
    width_px: u32,
    height_px: u32,
    /// Where its corner lies on the slide, in µm: the slide's own corner, or less than a pixel outside it.
    left_um: f64,
    top_um: f64,
    /// The places by tile and by pixel within the tile.
    places: Vec<PlacedRow>,
}

impl Raster {
    /// Places that share their pixel with another.
    fn sharing(&self) -> usize {
        let pixels = self.places.chunk_by(|a, b| (a.tile, a.within) == (b.tile, b.within));
        pixels.map(<[PlacedRow]>::len).filter(|&places| places > 1).sum()
    }
}

/// A place on the raster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PlacedRow {
    tile: u64,
    within: u32,
    row: u32,
}

impl PredictedMap<'_> {
    /// Writes each of `genes` as a channel of 32-bit floating point, NaN where nothing was predicted, from the start of
    /// `out` on. The image has `slide_px` (width, height) pixels at full resolution; the raster covers it all. Where
    /// several places fall on one pixel, it holds the mean of those that are known; how many places share a pixel with
    /// another is returned.
    ///
    /// OME-XML names the channels by gene and says how large a pixel is and, as the planes' position, where the raster
    /// begins; its description is the provenance.
    ///
    /// # Errors
    /// When the values cannot be read, the raster is too large, or `out` cannot be written.
    pub fn write_ome_tiff(
        &self,
        genes: &[usize],
        slide_px: (u32, u32),
        out: &mut (impl Write + Seek),
    ) -> io::Result<usize> {
        let raster = self.raster(slide_px)?;
        let description = self.ome_xml(genes, &raster)?;
        let mut file = PyramidWriter::new(out)?;
        let across = u64::from(raster.width_px.div_ceil(TILE_PX));
        for (batch, genes) in genes.chunks(GENES_AT_ONCE).enumerate() {
            for (index, values) in self.values.read_columns(genes)?.into_iter().enumerate() {
                let image = PyramidImage {
                    width_px: raster.width_px,
                    height_px: raster.height_px,
                    tile_px: TILE_PX,
                    compression: TileCompression::Deflate,
                    um_per_px: Some(self.tile_um()),
                    description: if (batch, index) == (0, 0) { &description } else { "" },
                };
                file.write_image(&image, |region: TileRegion, pixels| {
                    let tile =
                        u64::from(region.top_px / TILE_PX) * across + u64::from(region.left_px / TILE_PX);
                    fill(tile, &raster.places, &values, pixels);
                    Ok(())
                })?;
            }
        }
        Ok(raster.sharing())
    }

    fn raster(&self, (width_px, height_px): (u32, u32)) -> io::Result<Raster> {
        let tile_um = self.tile_um();
        let first = self.centers_um.iter().find(|center| center.x.is_finite() && center.y.is_finite());
        // The places' own grid, begun at the slide's corner or up to a pixel before it.
        let begin_um = |center_um: f64| {
            let phase = ((center_um - tile_um / 2.0) / tile_um).rem_euclid(1.0);
            if (1e-6..=1.0 - 1e-6).contains(&phase) { (phase - 1.0) * tile_um } else { 0.0 }
        };
        let left_um = first.map_or(0.0, |center| begin_um(center.x));
        let top_um = first.map_or(0.0, |center| begin_um(center.y));
        let side = |px: u32, begin_um: f64| {
            let side = ((f64::from(px) * self.um_per_px - begin_um) / tile_um - 1e-6).ceil().max(1.0);
            let too_large = || io::Error::other(format!("the map has {side} pixels on a side"));
            (side <= f64::from(u32::MAX)).then_some(side as u32).ok_or_else(too_large)
        };
        let (width_px, height_px) = (side(width_px, left_um)?, side(height_px, top_um)?);
        let across = u64::from(width_px.div_ceil(TILE_PX));
        let mut places = Vec::with_capacity(self.centers_um.len());
        for (row, center) in self.centers_um.iter().enumerate() {
            let x = ((center.x - left_um) / tile_um).floor();
            let y = ((center.y - top_um) / tile_um).floor();
            let inside = (0.0..f64::from(width_px)).contains(&x) && (0.0..f64::from(height_px)).contains(&y);
            if let (true, Ok(row)) = (inside, u32::try_from(row)) {
                let (x, y) = (x as u32, y as u32);
                let tile = u64::from(y / TILE_PX) * across + u64::from(x / TILE_PX);
                places.push(PlacedRow { tile, within: y % TILE_PX * TILE_PX + x % TILE_PX, row });
            }
        }
        places.sort_unstable();
        Ok(Raster { width_px, height_px, left_um, top_um, places })
    }

    fn ome_xml(&self, genes: &[usize], raster: &Raster) -> io::Result<String> {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        // Writing to a string does not fail.
        let _ = write!(
            xml,
            "<OME xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xsi:schemaLocation=\"http://www.openmicroscopy.org/Schemas/OME/2016-06 \
             http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd\" Creator=\"{}\">\
             <Image ID=\"Image:0\" Name=\"{}\"><Description>{}</Description>\
             <Pixels ID=\"Pixels:0\" DimensionOrder=\"XYCZT\" Type=\"float\" SizeX=\"{}\" SizeY=\"{}\" SizeZ=\"1\" \
             SizeC=\"{}\" SizeT=\"1\" PhysicalSizeX=\"{side}\" PhysicalSizeXUnit=\"&#181;m\" \
             PhysicalSizeY=\"{side}\" PhysicalSizeYUnit=\"&#181;m\">",
            xml_text(self.program),
            xml_text(self.slide_name),
            xml_text(&self.provenance()?.to_string()),
            raster.width_px,
            raster.height_px,
            genes.len(),
            side = self.tile_um(),
        );
        for (channel, &gene) in genes.iter().enumerate() {
            let name = xml_text(self.symbol(gene));
            let _ =
                write!(xml, "<Channel ID=\"Channel:0:{channel}\" Name=\"{name}\" SamplesPerPixel=\"1\"/>");
        }
        for channel in 0..genes.len() {
            let _ = write!(
                xml,
                "<TiffData IFD=\"{channel}\" FirstZ=\"0\" FirstC=\"{channel}\" FirstT=\"0\" PlaneCount=\"1\"/>"
            );
        }
        let (left, top) = (raster.left_um, raster.top_um);
        for channel in 0..genes.len() {
            let _ = write!(
                xml,
                "<Plane TheZ=\"0\" TheC=\"{channel}\" TheT=\"0\" PositionX=\"{left}\" PositionXUnit=\"&#181;m\" \
                 PositionY=\"{top}\" PositionYUnit=\"&#181;m\"/>"
            );
        }
        xml.push_str("</Pixels></Image></OME>");
        Ok(xml)
    }
}

/// Sets the pixels of a tile.
fn fill(tile: u64, places: &[PlacedRow], values: &[f32], pixels: &mut [f32]) {
    pixels.fill(f32::NAN);
    let begin = places.partition_point(|place| place.tile < tile);
    let here = places.get(begin..).unwrap_or_default();
    let here = here.get(..here.partition_point(|place| place.tile == tile)).unwrap_or_default();
    for shared in here.chunk_by(|a, b| a.within == b.within) {
        let known = shared
            .iter()
            .filter_map(|place| values.get(place.row as usize))
            .filter(|value| value.is_finite());
        let (sum, count) =
            known.fold((0.0, 0_u32), |(sum, count), &value| (sum + f64::from(value), count + 1));
        if let (Some(first), true) = (shared.first(), count > 0)
            && let Some(pixel) = pixels.get_mut(first.within as usize)
        {
            *pixel = (sum / f64::from(count)) as f32;
        }
    }
}

/// Text for XML in ASCII, which TIFF wants.
fn xml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            ' '..='~' => out.push(c),
            // XML 1.0 has no form for the other control characters.
            '\t' | '\n' | '\r' | '\u{a0}'.. => {
                let _ = write!(out, "&#{};", c as u32);
            }
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_ascii_and_escaped() {
        assert_eq!(xml_text("a<\"b\"> & µ\u{1}"), "a&lt;&quot;b&quot;&gt; &amp; &#181;?");
    }

    #[test]
    fn places_that_share_a_pixel_are_averaged() {
        let places = [(0, 5, 0), (0, 5, 2), (0, 7, 1), (1, 5, 3)];
        let places = places.map(|(tile, within, row)| PlacedRow { tile, within, row });
        let mut pixels = [0.0; 9];
        fill(0, &places, &[1.0, f32::NAN, 4.0, 9.0], &mut pixels);
        assert_eq!(pixels[5], 2.5);
        assert!(pixels.iter().enumerate().all(|(at, value)| at == 5 || value.is_nan()));
    }
}
