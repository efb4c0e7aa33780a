//! Fetches files, checks them, and keeps what a second visit needs.

use js_sys::{Array, JSON, Reflect, Uint8Array};
use magnet_core::digest::hex;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, AbortSignal, Blob, Cache, CacheStorage, Headers, ReadableStreamDefaultReader, Request,
    RequestCache, RequestInit, Response,
};

use super::catalogue::{Catalogue, CatalogueModel};
use super::client::text_of;
use super::problem::{Problem, ProblemKind};

/// Where bundles, samples and the catalogue are kept.
const CACHE_NAME: &str = "magnet-models-1";
/// The query that tells apart versions of one file in the cache.
const DIGEST_QUERY: &str = "sha256=";
/// The status of an answer that is a part of a file.
const PARTIAL: u16 = 206;
/// The largest catalogue.
const LARGEST_CATALOGUE_BYTES: f64 = 1e6;

/// What a file has to be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Its exact size, where it is known.
    pub bytes: Option<f64>,
    /// The most that is read where it is not.
    pub most_bytes: f64,
    /// Its SHA-256, lower-case hexadecimal, where it is known.
    pub sha256: Option<String>,
}

/// Why a file was not fetched.
#[derive(Debug)]
pub enum Stopped {
    /// Nobody wants it any more.
    Aborted,
    /// It cannot be had.
    Problem(Problem),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// A download that ends when this is dropped.
#[derive(Debug)]
pub struct Download(AbortController);

impl Download {
    /// A download that is about to begin.
    ///
    /// # Errors
    /// If the browser has no way to end one.
    pub fn new() -> Result<Self, Problem> {
        AbortController::new().map(Self).map_err(|error| Problem::new(ProblemKind::Internal, text_of(&error)))
    }

    /// What the functions of this module watch.
    pub fn signal(&self) -> AbortSignal {
        self.0.signal()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Fetches a file, from the cache where it is there, and keeps it there where `keep` says so. `on_bytes` hears how
/// many bytes have come.
///
/// # Errors
/// If it cannot be fetched or is not what is expected; then nothing is kept.
pub async fn fetch_file(
    url: &str,
    expected: &Expected,
    keep: bool,
    signal: &AbortSignal,
    mut on_bytes: impl FnMut(f64),
) -> Result<Blob, Stopped> {
    let key = cache_key(url, expected);
    let cache = if keep { open_cache().await } else { None };
    if let Some(cache) = &cache
        && let Some(response) = find(cache, &key).await
    {
        match read(&response, url, expected, signal, &mut on_bytes).await {
            Err(Stopped::Problem(_)) => {
                // The cache holds something else than was put there. The network may do better.
                let _ = JsFuture::from(cache.delete_with_str(&key)).await;
            }
            found_or_aborted => return found_or_aborted,
        }
    }
    let response = fetch(url, signal, RequestCache::Default).await?;
    let blob = read(&response, url, expected, signal, &mut on_bytes).await?;
    if let Some(cache) = &cache {
        put(cache, &key, &blob).await;
        drop_other_versions(cache, url, &key).await;
    }
    Ok(blob)
}

/// Fetches the catalogue: from the network, or the last one that came from there.
///
/// # Errors
/// If neither has it, or it makes no sense.
pub async fn fetch_catalogue(url: &str, signal: &AbortSignal) -> Result<Vec<CatalogueModel>, Stopped> {
    let expected = Expected { most_bytes: LARGEST_CATALOGUE_BYTES, ..Expected::default() };
    let cache = open_cache().await;
    // Revalidated: a new catalogue must not hide behind the browser's own cache.
    let fetched = match fetch(url, signal, RequestCache::NoCache).await {
        Ok(response) => read(&response, url, &expected, signal, &mut |_| ()).await,
        Err(stopped) => Err(stopped),
    };
    let (blob, is_new) = match fetched {
        Ok(blob) => (blob, true),
        Err(Stopped::Problem(problem)) if problem.kind == ProblemKind::Network => {
            let kept = match &cache {
                Some(cache) => find(cache, url).await,
                None => None,
            };
            let Some(response) = kept else { return Err(problem.into()) };
            (read(&response, url, &expected, signal, &mut |_| ()).await?, false)
        }
        Err(stopped) => return Err(stopped),
    };
    let models = parse::<Catalogue>(&blob, url).await?.into_models()?;
    if let (Some(cache), true) = (&cache, is_new) {
        put(cache, url, &blob).await;
    }
    Ok(models)
}

/// All bytes of a blob.
///
/// # Errors
/// If the file behind it changed or went away, or there is no memory for it.
pub async fn bytes_of(blob: &Blob, name: &str) -> Result<Uint8Array, Problem> {
    JsFuture::from(blob.array_buffer()).await.map(|buffer| Uint8Array::new(&buffer)).map_err(|error| {
        Problem::input(format!(
            "{name} cannot be read any more: {}. If the file was changed or moved, open it again.",
            text_of(&error)
        ))
    })
}

async fn parse<T: DeserializeOwned>(blob: &Blob, url: &str) -> Result<T, Problem> {
    let wrong = |error: String| Problem::input(format!("{url} is no model catalogue: {error}"));
    let text = JsFuture::from(blob.text()).await.map_err(|error| wrong(text_of(&error)))?;
    let value = JSON::parse(&text.as_string().unwrap_or_default()).map_err(|error| wrong(text_of(&error)))?;
    serde_wasm_bindgen::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// The first bytes of a file, where its server answers ranges.
pub async fn fetch_start(url: &str, signal: &AbortSignal) -> Option<Vec<u8>> {
    let headers = Headers::new().ok()?;
    headers.set("Range", "bytes=0-15").ok()?;
    let init = RequestInit::new();
    // What goes on is up to the caller; the rest of a file that came whole is not wanted.
    let own = AbortController::new().ok()?;
    init.set_signal(Some(&own.signal()));
    init.set_headers(&headers);
    let response = JsFuture::from(gloo::utils::window().fetch_with_str_and_init(url, &init)).await.ok()?;
    let response: Response = response.unchecked_into();
    if response.status() != PARTIAL || signal.aborted() {
        own.abort();
        return None;
    }
    let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
    Some(Uint8Array::new(&buffer).to_vec())
}

/// Asks the network.
async fn fetch(url: &str, signal: &AbortSignal, cache: RequestCache) -> Result<Response, Stopped> {
    let init = RequestInit::new();
    init.set_signal(Some(signal));
    init.set_cache(cache);
    let network = |text: String| {
        Stopped::Problem(Problem::new(ProblemKind::Network, format!("{url} cannot be fetched: {text}.")))
    };
    match JsFuture::from(gloo::utils::window().fetch_with_str_and_init(url, &init)).await {
        Ok(response) => {
            let response: Response = response.unchecked_into();
            if response.ok() {
                Ok(response)
            } else {
                Err(network(format!("the server answered {} {}", response.status(), response.status_text())))
            }
        }
        Err(_) if signal.aborted() => Err(Stopped::Aborted),
        Err(error) => Err(network(text_of(&error))),
    }
}

/// Reads an answer to its end while it checks it.
async fn read(
    response: &Response,
    url: &str,
    expected: &Expected,
    signal: &AbortSignal,
    on_bytes: &mut dyn FnMut(f64),
) -> Result<Blob, Stopped> {
    let broken = |text: String| {
        Stopped::Problem(Problem::new(ProblemKind::Network, format!("{url} was not received whole: {text}.")))
    };
    let wrong = |text: String| {
        Stopped::Problem(Problem::input(format!("{url} is not the file that was expected: {text}.")))
    };
    let body = response.body().ok_or_else(|| broken("the answer is empty".into()))?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let chunks = Array::new();
    let mut bytes = 0.0;
    let mut hasher = expected.sha256.as_ref().map(|_| Sha256::new());
    let mut buffer = Vec::new();
    loop {
        let turn = JsFuture::from(reader.read()).await;
        if signal.aborted() {
            return Err(Stopped::Aborted);
        }
        let turn = turn.map_err(|error| broken(text_of(&error)))?;
        if Reflect::get(&turn, &"done".into()).is_ok_and(|done| done.is_truthy()) {
            break;
        }
        let chunk: Uint8Array = Reflect::get(&turn, &"value".into())
            .ok()
            .and_then(|value| value.dyn_into().ok())
            .ok_or_else(|| broken("a part of it is no bytes".into()))?;
        bytes += f64::from(chunk.length());
        let most = expected.bytes.unwrap_or(expected.most_bytes);
        if bytes > most {
            // The rest is not wanted; that the server may not hear of it is no matter.
            let _ = reader.cancel();
            return Err(wrong(format!("it has more than {most} bytes")));
        }
        if let Some(hasher) = &mut hasher {
            buffer.resize(chunk.length() as usize, 0);
            chunk.copy_to(&mut buffer);
            hasher.update(&buffer);
        }
        chunks.push(&chunk);
        on_bytes(bytes);
    }
    if let Some(expected) = expected.bytes
        && bytes < expected
    {
        return Err(broken(format!("{bytes} of {expected} bytes came")));
    }
    if let (Some(hasher), Some(digest)) = (hasher, &expected.sha256) {
        let found = hex(&hasher.finalize());
        if found != *digest {
            return Err(wrong(format!("its SHA-256 is {found}, not {digest}")));
        }
    }
    Blob::new_with_u8_array_sequence(&chunks).map_err(|error| broken(text_of(&error)))
}

/// Whether files can be kept at all. There is no cache over plain HTTP.
pub fn can_keep() -> bool {
    cache_storage().is_some()
}

fn cache_storage() -> Option<CacheStorage> {
    Reflect::get(&gloo::utils::window(), &"caches".into()).ok()?.dyn_into().ok()
}

/// The cache, where the browser has one and lets us use it, which not every private window does.
async fn open_cache() -> Option<Cache> {
    JsFuture::from(cache_storage()?.open(CACHE_NAME)).await.ok()?.dyn_into().ok()
}

/// Under which address a file is kept.
fn cache_key(url: &str, expected: &Expected) -> String {
    match &expected.sha256 {
        Some(digest) => {
            let join = if url.contains('?') { '&' } else { '?' };
            format!("{url}{join}{DIGEST_QUERY}{digest}")
        }
        None => url.to_owned(),
    }
}

async fn find(cache: &Cache, key: &str) -> Option<Response> {
    JsFuture::from(cache.match_with_str(key)).await.ok()?.dyn_into().ok()
}

/// Keeps a file. Without room for it the page works as well, only not offline.
async fn put(cache: &Cache, key: &str, blob: &Blob) {
    if let Ok(response) = Response::new_with_opt_blob(Some(blob)) {
        let _ = JsFuture::from(cache.put_with_str(key, &response)).await;
    }
}

/// Gives back the room of a file's earlier versions.
async fn drop_other_versions(cache: &Cache, url: &str, key: &str) {
    let Ok(requests) = JsFuture::from(cache.keys()).await else { return };
    for request in Array::from(&requests).iter().filter_map(|request| request.dyn_into::<Request>().ok()) {
        let held = request.url();
        let is_version = held.strip_prefix(url).and_then(|rest| rest.get(1..));
        if held != key && is_version.is_some_and(|rest| rest.starts_with(DIGEST_QUERY)) {
            let _ = JsFuture::from(cache.delete_with_request(&request)).await;
        }
    }
}
