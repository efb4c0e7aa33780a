//! The segments of a JPEG before its first scan.

/// Where the first scan of a JPEG begins: the offset of its start-of-scan marker.
pub(super) fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut segments = JpegSegments::new(bytes);
    while segments.next().is_some() {}
    let marker = bytes.get(segments.offset..segments.offset + 2)?;
    (marker == [0xFF, 0xDA]).then_some(segments.offset)
}

/// Whether an end-of-image marker follows the first scan. Entropy-coded data cannot hold one, so a file that was cut
/// off has none; a thumbnail's own marker lies before the first scan.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let end = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xD9]);
    matches!((first_scan(bytes), end), (Some(scan), Some(end)) if end > scan)
}

/// The segments of a JPEG before its first scan, as (marker, content).
pub(super) struct JpegSegments<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> JpegSegments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 2 }
    }
}

impl<'a> Iterator for JpegSegments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Fill bytes may stand before a marker.
        while self.bytes.get(self.offset) == Some(&0xFF) && self.bytes.get(self.offset + 1) == Some(&0xFF) {
            self.offset += 1;
        }
        let &[0xFF, marker, high, low] = self.bytes.get(self.offset..self.offset + 4)? else { return None };
        if matches!(marker, 0xDA | 0xD9) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let data = self.bytes.get(self.offset + 4..(self.offset + 2).checked_add(length)?)?;
        self.offset += 2 + length;
        Some((marker, data))
    }
}
