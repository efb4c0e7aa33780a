//! Bytes of a slide by range: of a file on disk, or at an address whose server answers ranges.
//!
//! Reading is synchronous, which browsers allow in workers alone. Small reads, such as those of a directory, go through
//! blocks that are kept; pieces of an image come as they are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};

use js_sys::{ArrayBuffer, Uint8Array};
use magnet_core::slide::RangeRead;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

/// Bytes of a block of a file.
const FILE_BLOCK: u64 = 64 << 10;
/// Bytes of a block from the network, where each question takes its time.
const NETWORK_BLOCK: u64 = 256 << 10;
/// Bytes of blocks that are kept.
const KEPT_BYTES: u64 = 16 << 20;
/// Most times that an address is asked again after the network failed.
const TRIES: usize = 3;

// Not among the bindings that the workspace takes from web-sys.
#[wasm_bindgen]
extern "C" {
    type FileReaderSync;

    #[wasm_bindgen(constructor)]
    fn new() -> FileReaderSync;

    #[wasm_bindgen(method, catch, js_name = readAsArrayBuffer)]
    fn read_as_array_buffer(this: &FileReaderSync, blob: &Blob) -> std::result::Result<ArrayBuffer, JsValue>;

    type XMLHttpRequest;

    #[wasm_bindgen(constructor)]
    fn new() -> XMLHttpRequest;

    #[wasm_bindgen(method, catch)]
    fn open(this: &XMLHttpRequest, method: &str, url: &str, wait: bool) -> std::result::Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = setRequestHeader)]
    fn set_request_header(this: &XMLHttpRequest, name: &str, value: &str)
    -> std::result::Result<(), JsValue>;

    #[wasm_bindgen(method, setter, js_name = responseType)]
    fn set_response_type(this: &XMLHttpRequest, kind: &str);

    #[wasm_bindgen(method, catch)]
    fn send(this: &XMLHttpRequest) -> std::result::Result<(), JsValue>;

    #[wasm_bindgen(method, getter)]
    fn status(this: &XMLHttpRequest) -> u16;

    #[wasm_bindgen(method, getter)]
    fn response(this: &XMLHttpRequest) -> JsValue;

    #[wasm_bindgen(method, js_name = getResponseHeader)]
    fn get_response_header(this: &XMLHttpRequest, name: &str) -> Option<String>;
}

/// Where the bytes are.
enum Place {
    File { blob: Blob, reader: FileReaderSync },
    Address { url: String, tag: Option<String> },
}

/// A slide's bytes.
pub struct SlideSource {
    place: Place,
    len: u64,
    block_bytes: u64,
    /// Blocks with their number, least recently used first.
    blocks: RefCell<VecDeque<(u64, Vec<u8>)>>,
}

impl SlideSource {
    /// The bytes of a `Blob`, or of the file at an address.
    ///
    /// # Errors
    /// If it is something else, or the server does not answer ranges.
    pub fn open(source: &JsValue) -> Result<Self> {
        if let Some(blob) = source.dyn_ref::<Blob>() {
            let place = Place::File { blob: blob.clone(), reader: FileReaderSync::new() };
            let len = blob.size() as u64;
            return Ok(Self { place, len, block_bytes: FILE_BLOCK, blocks: RefCell::default() });
        }
        let Some(url) = source.as_string() else {
            return Err(Error::new(ErrorKind::InvalidInput, "expected a Blob or an address"));
        };
        let (first, answer) = ask_range(&url, 0, NETWORK_BLOCK, None)?;
        let range = answer.get_response_header("Content-Range").unwrap_or_default();
        // "bytes 0-262143/5368709120"
        let len = range.rsplit('/').next().and_then(|len| len.trim().parse().ok());
        let len = len.ok_or_else(|| {
            Error::other(format!(
                "expected a server that says how long the file is, found Content-Range {range:?}"
            ))
        })?;
        let tag = entity_tag(&answer);
        let place = Place::Address { url, tag };
        let blocks = RefCell::new(VecDeque::from([(0, first.to_vec())]));
        Ok(Self { place, len, block_bytes: NETWORK_BLOCK, blocks })
    }

    /// `len` bytes from `offset` on, from the place itself.
    fn fetch(&self, offset: u64, len: u64) -> Result<Uint8Array> {
        match &self.place {
            Place::File { blob, reader } => {
                let end = offset + len;
                let part = blob.slice_with_f64_and_f64(offset as f64, end as f64).map_err(broken)?;
                reader.read_as_array_buffer(&part).map(|buffer| Uint8Array::new(&buffer)).map_err(broken)
            }
            Place::Address { url, tag } => {
                let mut tries = 1;
                loop {
                    match ask_range(url, offset, len, tag.as_deref()) {
                        Err(error) if tries < TRIES && error.kind() == ErrorKind::ConnectionAborted => {
                            tries += 1
                        }
                        outcome => return outcome.map(|(bytes, _)| bytes),
                    }
                }
            }
        }
    }

    /// Copies out of a kept block, which is read where it is not there.
    fn copy_from_block(&self, block: u64, from: usize, out: &mut [u8]) -> Result<()> {
        let mut blocks = self.blocks.borrow_mut();
        let place = blocks.iter().position(|(number, _)| *number == block);
        let bytes = match place.and_then(|place| blocks.remove(place)) {
            Some((_, bytes)) => bytes,
            None => {
                let offset = block * self.block_bytes;
                self.fetch(offset, self.block_bytes.min(self.len - offset))?.to_vec()
            }
        };
        let part = bytes.get(from..from + out.len());
        let copied =
            part.map(|part| out.copy_from_slice(part)).ok_or_else(|| ErrorKind::UnexpectedEof.into());
        blocks.push_back((block, bytes));
        while blocks.len() as u64 > KEPT_BYTES / self.block_bytes {
            blocks.pop_front();
        }
        copied
    }
}

impl RangeRead for SlideSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let wanted = out.len() as u64;
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if wanted >= self.block_bytes {
            let bytes = self.fetch(offset, wanted)?;
            if u64::from(bytes.length()) != wanted {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.copy_to(out);
            return Ok(());
        }
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let (block, from) = (at / self.block_bytes, at % self.block_bytes);
            let here = (self.block_bytes - from).min(rest.len() as u64) as usize;
            let (part, after) = rest.split_at_mut(here);
            self.copy_from_block(block, from as usize, part)?;
            at += here as u64;
            rest = after;
        }
        Ok(())
    }
}

/// Asks a server for a range. With `tag` the file has to be the one that had this entity tag.
fn ask_range(url: &str, offset: u64, len: u64, tag: Option<&str>) -> Result<(Uint8Array, XMLHttpRequest)> {
    let request = XMLHttpRequest::new();
    request.open("GET", url, false).map_err(broken)?;
    request.set_response_type("arraybuffer");
    let last = offset + len.saturating_sub(1);
    request.set_request_header("Range", &format!("bytes={offset}-{last}")).map_err(broken)?;
    request
        .send()
        .map_err(|_| Error::new(ErrorKind::ConnectionAborted, format!("{url} cannot be fetched")))?;
    if request.status() != 206 {
        let found = request.status();
        return Err(Error::other(format!("{url}: expected a range (status 206), found status {found}")));
    }
    if tag.is_some_and(|tag| entity_tag(&request).is_some_and(|found| found != tag)) {
        return Err(Error::other(format!("{url} is another file than before; open it again")));
    }
    let bytes = Uint8Array::new(&request.response());
    if u64::from(bytes.length()) > len {
        return Err(Error::other(format!("{url}: expected {len} bytes, found {}", bytes.length())));
    }
    Ok((bytes, request))
}

/// What tells versions of a file apart, where the server says it.
fn entity_tag(answer: &XMLHttpRequest) -> Option<String> {
    answer.get_response_header("ETag").filter(|tag| !tag.starts_with("W/"))
}

fn broken(error: JsValue) -> Error {
    let message =
        js_sys::Reflect::get(&error, &"message".into()).ok().and_then(|message| message.as_string());
    Error::other(message.unwrap_or_else(|| "the file cannot be read any more".into()))
}
