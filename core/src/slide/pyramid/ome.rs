//! The few facts that OME-XML says about an image: how wide its pixels are and how many channels it has.
//!
//! The XML stands at the start of a description that may be megabytes long and cut off, so it is scanned for the
//! `Pixels` elements and their attributes, no more.

/// Whether a description is OME-XML.
pub(super) fn is_ome(description: &str) -> bool {
    elements(description, "OME").next().is_some()
}

/// µm per pixel in x and y, of the image of this size, else of the first.
pub(super) fn um_per_px(description: &str, width: u32, height: u32) -> Option<(f64, f64)> {
    let pixels = pixels_of(description, width, height)?;
    let axis = |size: &str, unit: &str| {
        let value: f64 = attribute(pixels, size)?.trim().parse().ok()?;
        let um = match attribute(pixels, unit).unwrap_or("µm") {
            // Micro sign, Greek mu, and what is left of either in ASCII.
            "\u{b5}m" | "\u{3bc}m" | "um" | "&#181;m" | "&#xB5;m" | "&#xb5;m" | "micron" => 1.0,
            "nm" => 1e-3,
            "\u{c5}" => 1e-4,
            "pm" => 1e-6,
            "mm" => 1e3,
            "cm" => 1e4,
            "m" => 1e6,
            "in" => 25_400.0,
            _ => return None,
        };
        Some(value * um)
    };
    let x = axis("PhysicalSizeX", "PhysicalSizeXUnit")?;
    Some((x, axis("PhysicalSizeY", "PhysicalSizeYUnit").unwrap_or(x)))
}

/// Number of channels of the image of this size, else of the first.
pub(super) fn channels(description: &str, width: u32, height: u32) -> Option<u32> {
    attribute(pixels_of(description, width, height)?, "SizeC")?.trim().parse().ok()
}

fn pixels_of(description: &str, width: u32, height: u32) -> Option<&str> {
    let is_size = |pixels: &&str| {
        let side = |name| attribute(pixels, name).and_then(|value| value.trim().parse::<u32>().ok());
        side("SizeX") == Some(width) && side("SizeY") == Some(height)
    };
    elements(description, "Pixels").find(is_size).or_else(|| elements(description, "Pixels").next())
}

/// The start tags of elements of this name, whatever their namespace's prefix.
fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    xml.split('<').skip(1).filter(move |tag| {
        let end = tag.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap_or(tag.len());
        let qualified = &tag[..end];
        qualified.rsplit(':').next() == Some(name)
    })
}

/// An attribute of a start tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        let equals = rest.find('=')?;
        let key = rest[..equals].trim_end();
        let key = &key[key.rfind(char::is_whitespace).map_or(0, |space| space + 1)..];
        let value = rest[equals + 1..].trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let value = &value[1..];
        let end = value.find(quote)?;
        if key == name {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_IMAGES: &str = r#"<?xml version="1.0"?><!-- a > b --><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
        <Image ID="Image:0" Name="x=1"><Pixels ID="Pixels:0" SizeX = "100" SizeY='80' SizeC="3"
          PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.000499" PhysicalSizeYUnit="mm"/></Image>
        <Image ID="Image:1"><Pixels ID="Pixels:1" SizeX="10" SizeY="8" PhysicalSizeX="270" PhysicalSizeXUnit="nm">"#;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert!(is_ome(TWO_IMAGES));
        let (x, y) = um_per_px(TWO_IMAGES, 100, 80).unwrap();
        assert!((x - 0.5).abs() < 1e-12 && (y - 0.499).abs() < 1e-12);
        let (x, y) = um_per_px(TWO_IMAGES, 10, 8).unwrap();
        assert!((x - 0.27).abs() < 1e-12 && x == y);
        // No image of this size: the first.
        assert_eq!(um_per_px(TWO_IMAGES, 7, 7), um_per_px(TWO_IMAGES, 100, 80));
        assert_eq!(channels(TWO_IMAGES, 100, 80), Some(3));
        assert_eq!(channels(TWO_IMAGES, 10, 8), None);
        let prefixed = r#"<ome:OME><ome:Pixels PhysicalSizeX="2"/></ome:OME>"#;
        assert!(is_ome(prefixed));
        assert_eq!(um_per_px(prefixed, 1, 1), Some((2.0, 2.0)));
    }

    #[test]
    fn what_is_no_size_is_none() {
        for xml in [
            "",
            "Aperio Image Library",
            "<OME><Image/></OME>",
            "<Pixels PhysicalSizeX=\"abc\">",
            "<Pixels PhysicalSizeX=\"1\" PhysicalSizeXUnit=\"pixel\">",
            "<Pixels PhysicalSizeX=1>",
            "<Pixels PhysicalSizeX=\"1",
            "<Pixels PhysicalSizeX=",
            "<PixelsOther PhysicalSizeX=\"1\">",
            "<",
            "<é=\"µ",
        ] {
            assert_eq!(um_per_px(xml, 1, 1), None, "{xml}");
        }
    }
}
