//! A tiny writer of TIFF files, for tests: both byte orders, classic and BigTIFF, tiles and strips.

use std::io::Write;

use crate::tiff::read::ByteOrder;
use crate::tiff::tags;

/// One image to be written.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Interleaved samples, one byte each; with 16 bits, each is written as `257 · value`.
    pub(super) pixels: Vec<u8>,
    pub(super) samples: u16,
    pub(super) bits: u16,
    pub(super) photometric: u16,
    pub(super) extra: Option<u16>,
    /// Tile sides, or `None` for strips.
    pub(super) tile: Option<(u32, u32)>,
    pub(super) rows_per_strip: u32,
    pub(super) compression: u16,
    pub(super) predictor: bool,
    pub(super) planar: bool,
    pub(super) subfile: u32,
    pub(super) description: Option<String>,
    /// Pixels per unit (as a fraction) and the unit.
    pub(super) resolution: Option<((u32, u32), u16)>,
    /// Chunks that the file leaves out.
    pub(super) missing: Vec<usize>,
    pub(super) sub_pages: Vec<Page>,
}

impl Page {
    /// An RGB image of one uncompressed strip.
    pub(super) fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), width as usize * height as usize * 3);
        Self {
            width,
            height,
            pixels,
            samples: 3,
            bits: 8,
            photometric: 2,
            extra: None,
            tile: None,
            rows_per_strip: height,
            compression: 1,
            predictor: false,
            planar: false,
            subfile: 0,
            description: None,
            resolution: None,
            missing: Vec::new(),
            sub_pages: Vec::new(),
        }
    }

    pub(super) fn tiled(self, width: u32, height: u32) -> Self {
        Self { tile: Some((width, height)), ..self }
    }

    /// Samples of a chunk as they are before compression: its plane, its rows padded to the tile.
    fn chunk(
        &self,
        left: u32,
        top: u32,
        width: u32,
        height: u32,
        plane: Option<u16>,
        order: ByteOrder,
    ) -> Vec<u8> {
        let channels: Vec<u16> = plane.map_or_else(|| (0..self.samples).collect(), |plane| vec![plane]);
        let mut bytes = Vec::new();
        for y in top..top + height {
            let mut row: Vec<u16> = Vec::new();
            for x in left..left + width {
                for &channel in &channels {
                    let inside = x < self.width && y < self.height;
                    let at = (y as usize * self.width as usize + x as usize) * usize::from(self.samples);
                    row.push(if inside { u16::from(self.pixels[at + usize::from(channel)]) } else { 0xAB });
                }
            }
            let scale = if self.bits == 16 { 257 } else { 1 };
            row.iter_mut().for_each(|value| *value *= scale);
            if self.predictor {
                for index in (channels.len()..row.len()).rev() {
                    row[index] = row[index].wrapping_sub(row[index - channels.len()]);
                }
            }
            match (self.bits, order) {
                (16, ByteOrder::Little) => bytes.extend(row.iter().flat_map(|value| value.to_le_bytes())),
                (16, ByteOrder::Big) => bytes.extend(row.iter().flat_map(|value| value.to_be_bytes())),
                (8, _) => bytes.extend(row.iter().map(|&value| value as u8)),
                (bits, _) => {
                    let per_byte = usize::from(8 / bits);
                    bytes.extend(row.chunks(per_byte).map(|values| {
                        let pack = |byte, (index, value): (usize, &u16)| {
                            byte | (*value as u8) << (8 - usize::from(bits) * (index + 1))
                        };
                        values.iter().enumerate().fold(0u8, pack)
                    }));
                }
            }
        }
        bytes
    }

    fn chunks(&self, order: ByteOrder) -> Vec<Vec<u8>> {
        let (width, height) = self.tile.unwrap_or((self.width, self.rows_per_strip));
        let planes: Vec<Option<u16>> =
            if self.planar { (0..self.samples).map(Some).collect() } else { vec![None] };
        let mut chunks = Vec::new();
        for plane in planes {
            for top in (0..self.height).step_by(height as usize) {
                for left in (0..self.width).step_by(width as usize) {
                    let rows = if self.tile.is_some() { height } else { height.min(self.height - top) };
                    chunks
                        .push(compress(self.compression, &self.chunk(left, top, width, rows, plane, order)));
                }
            }
        }
        chunks
    }
}

pub(super) fn compress(compression: u16, bytes: &[u8]) -> Vec<u8> {
    match compression {
        5 => weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8).encode(bytes).unwrap(),
        8 | 32_946 => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        32_773 => {
            let mut packed = Vec::new();
            let mut rest = bytes;
            while let Some(&first) = rest.first() {
                let run = rest.iter().take(128).take_while(|&&byte| byte == first).count();
                if run > 2 {
                    packed.extend([(1 - run as i16) as u8, first]);
                    rest = &rest[run..];
                } else {
                    let literal = rest.len().min(5);
                    packed.push(literal as u8 - 1);
                    packed.extend(&rest[..literal]);
                    rest = &rest[literal..];
                }
            }
            packed
        }
        _ => bytes.to_vec(),
    }
}

/// Writes pages as a file.
pub(super) fn write(pages: &[Page], big: bool, order: ByteOrder) -> Vec<u8> {
    let mut writer = Writer { bytes: Vec::new(), big, order };
    writer.bytes.extend(if order == ByteOrder::Little { b"II" } else { b"MM" });
    if big {
        writer.number(43, 2);
        writer.number(8, 2);
        writer.number(0, 2);
    } else {
        writer.number(42, 2);
    }
    let mut link = writer.bytes.len();
    writer.number(0, writer.word());
    for page in pages {
        let (offset, next) = writer.page(page);
        writer.patch(link, offset);
        link = next;
    }
    writer.bytes
}

struct Writer {
    bytes: Vec<u8>,
    big: bool,
    order: ByteOrder,
}

impl Writer {
    fn word(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn encoded(&self, value: u64, width: usize) -> Vec<u8> {
        match self.order {
            ByteOrder::Little => value.to_le_bytes()[..width].to_vec(),
            ByteOrder::Big => value.to_be_bytes()[8 - width..].to_vec(),
        }
    }

    fn number(&mut self, value: u64, width: usize) {
        self.bytes.extend(self.encoded(value, width));
    }

    fn patch(&mut self, at: usize, value: usize) {
        let word = self.word();
        let encoded = self.encoded(value as u64, word);
        self.bytes[at..at + word].copy_from_slice(&encoded);
    }

    /// Writes a page and what belongs to it; gives the offset of its directory and where its link to the next stands.
    fn page(&mut self, page: &Page) -> (usize, usize) {
        let sub_offsets: Vec<u64> = page.sub_pages.iter().map(|sub| self.page(sub).0 as u64).collect();
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for (index, chunk) in page.chunks(self.order).into_iter().enumerate() {
            let missing = page.missing.contains(&index);
            offsets.push(if missing { 0 } else { self.bytes.len() as u64 });
            lengths.push(if missing { 0 } else { chunk.len() as u64 });
            if !missing {
                self.bytes.extend(chunk);
            }
        }
        let short =
            |values: &[u16]| (3u16, values.iter().map(|&value| u64::from(value)).collect::<Vec<u64>>());
        let long = |value: u32| (4u16, vec![u64::from(value)]);
        let offset_type = if self.big { 16 } else { 4 };
        let mut entries = vec![
            (tags::NEW_SUBFILE_TYPE, long(page.subfile)),
            (tags::IMAGE_WIDTH, long(page.width)),
            (tags::IMAGE_LENGTH, long(page.height)),
            (tags::BITS_PER_SAMPLE, short(&vec![page.bits; usize::from(page.samples)])),
            (tags::COMPRESSION, short(&[page.compression])),
            (tags::PHOTOMETRIC, short(&[page.photometric])),
            (tags::SAMPLES_PER_PIXEL, short(&[page.samples])),
            (tags::PLANAR_CONFIGURATION, short(&[if page.planar { 2 } else { 1 }])),
            (tags::PREDICTOR, short(&[if page.predictor { 2 } else { 1 }])),
        ];
        if let Some((width, height)) = page.tile {
            entries.push((tags::TILE_WIDTH, long(width)));
            entries.push((tags::TILE_LENGTH, long(height)));
            entries.push((tags::TILE_OFFSETS, (offset_type, offsets)));
            entries.push((tags::TILE_BYTE_COUNTS, (4, lengths)));
        } else {
            entries.push((tags::ROWS_PER_STRIP, long(page.rows_per_strip)));
            entries.push((tags::STRIP_OFFSETS, (offset_type, offsets)));
            entries.push((tags::STRIP_BYTE_COUNTS, (4, lengths)));
        }
        if let Some(extra) = page.extra {
            entries.push((tags::EXTRA_SAMPLES, short(&[extra])));
        }
        if page.photometric == 3 {
            // A palette whose colour i is (i, 255 - i, 2 i).
            let colors = 1u16 << page.bits;
            let channel = |value: fn(u16) -> u16| (0..colors).map(move |index| value(index) << 8);
            let red = channel(|index| index);
            let values: Vec<u16> =
                red.chain(channel(|index| 255 - index)).chain(channel(|index| (2 * index) & 255)).collect();
            entries.push((tags::COLOR_MAP, short(&values)));
        }
        if let Some(text) = &page.description {
            entries.push((tags::IMAGE_DESCRIPTION, (2, text.bytes().chain([0]).map(u64::from).collect())));
        }
        if !sub_offsets.is_empty() {
            entries.push((tags::SUB_IFDS, (if self.big { 18 } else { 13 }, sub_offsets)));
        }
        if let Some(((numerator, denominator), unit)) = page.resolution {
            let fraction = (5u16, vec![u64::from(numerator), u64::from(denominator)]);
            entries.push((tags::X_RESOLUTION, fraction.clone()));
            entries.push((tags::Y_RESOLUTION, fraction));
            entries.push((tags::RESOLUTION_UNIT, short(&[unit])));
        }
        entries.sort_by_key(|(tag, _)| *tag);
        self.directory(&entries)
    }

    fn directory(&mut self, entries: &[(u16, (u16, Vec<u64>))]) -> (usize, usize) {
        let word = self.word();
        let placed: Vec<(u16, u16, u64, Vec<u8>)> = entries
            .iter()
            .map(|(tag, (field_type, values))| {
                let width = match field_type {
                    2 => 1,
                    3 => 2,
                    16 | 18 => 8,
                    _ => 4,
                };
                let count = if *field_type == 5 { 1 } else { values.len() as u64 };
                let mut bytes: Vec<u8> =
                    values.iter().flat_map(|&value| self.encoded(value, width)).collect();
                if bytes.len() > word {
                    let at = self.bytes.len() as u64;
                    self.bytes.extend(bytes);
                    bytes = self.encoded(at, word);
                }
                bytes.resize(word, 0);
                (*tag, *field_type, count, bytes)
            })
            .collect();
        let offset = self.bytes.len();
        self.number(placed.len() as u64, if self.big { 8 } else { 2 });
        for (tag, field_type, count, bytes) in placed {
            self.number(u64::from(tag), 2);
            self.number(u64::from(field_type), 2);
            self.number(count, word);
            self.bytes.extend(bytes);
        }
        let next = self.bytes.len();
        self.number(0, word);
        (offset, next)
    }
}
