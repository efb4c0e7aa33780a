//! Numbers that TIFF 6.0, its supplements and its users gave to tags.

#![allow(missing_docs, reason = "the names are the standard's own")]

pub const NEW_SUBFILE_TYPE: u16 = 254;
pub const IMAGE_WIDTH: u16 = 256;
pub const IMAGE_LENGTH: u16 = 257;
pub const BITS_PER_SAMPLE: u16 = 258;
pub const COMPRESSION: u16 = 259;
pub const PHOTOMETRIC: u16 = 262;
pub const FILL_ORDER: u16 = 266;
pub const IMAGE_DESCRIPTION: u16 = 270;
pub const STRIP_OFFSETS: u16 = 273;
pub const SAMPLES_PER_PIXEL: u16 = 277;
pub const ROWS_PER_STRIP: u16 = 278;
pub const STRIP_BYTE_COUNTS: u16 = 279;
pub const X_RESOLUTION: u16 = 282;
pub const Y_RESOLUTION: u16 = 283;
pub const PLANAR_CONFIGURATION: u16 = 284;
pub const RESOLUTION_UNIT: u16 = 296;
pub const PREDICTOR: u16 = 317;
pub const COLOR_MAP: u16 = 320;
pub const TILE_WIDTH: u16 = 322;
pub const TILE_LENGTH: u16 = 323;
pub const TILE_OFFSETS: u16 = 324;
pub const TILE_BYTE_COUNTS: u16 = 325;
pub const SUB_IFDS: u16 = 330;
pub const EXTRA_SAMPLES: u16 = 338;
pub const SAMPLE_FORMAT: u16 = 339;
pub const JPEG_TABLES: u16 = 347;

/// Every tag above, by number, with the standard's name: what messages say and what a reader keeps of a directory.
const NAMES: [(u16, &str); 26] = [
    (NEW_SUBFILE_TYPE, "NewSubfileType"),
    (IMAGE_WIDTH, "ImageWidth"),
    (IMAGE_LENGTH, "ImageLength"),
    (BITS_PER_SAMPLE, "BitsPerSample"),
    (COMPRESSION, "Compression"),
    (PHOTOMETRIC, "PhotometricInterpretation"),
    (FILL_ORDER, "FillOrder"),
    (IMAGE_DESCRIPTION, "ImageDescription"),
    (STRIP_OFFSETS, "StripOffsets"),
    (SAMPLES_PER_PIXEL, "SamplesPerPixel"),
    (ROWS_PER_STRIP, "RowsPerStrip"),
    (STRIP_BYTE_COUNTS, "StripByteCounts"),
    (X_RESOLUTION, "XResolution"),
    (Y_RESOLUTION, "YResolution"),
    (PLANAR_CONFIGURATION, "PlanarConfiguration"),
    (RESOLUTION_UNIT, "ResolutionUnit"),
    (PREDICTOR, "Predictor"),
    (COLOR_MAP, "ColorMap"),
    (TILE_WIDTH, "TileWidth"),
    (TILE_LENGTH, "TileLength"),
    (TILE_OFFSETS, "TileOffsets"),
    (TILE_BYTE_COUNTS, "TileByteCounts"),
    (SUB_IFDS, "SubIFDs"),
    (EXTRA_SAMPLES, "ExtraSamples"),
    (SAMPLE_FORMAT, "SampleFormat"),
    (JPEG_TABLES, "JPEGTables"),
];

/// The standard's name of a tag in the list above.
pub fn name(tag: u16) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == tag).map(|(_, name)| *name)
}
