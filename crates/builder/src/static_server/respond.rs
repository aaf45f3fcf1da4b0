//! One request for a file, answered.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

use super::{Site, media_type};

/// Read and sent at once; at most two pieces of a response wait in memory.
const CHUNK_BYTES: usize = 64 * 1024;

/// Files of the platform's and of package managers that stand in the root of many a site.
const PRIVATE: [&str; 4] = ["Procfile", "app.json", "static.json", "package-lock.json"];

type Body = BoxBody<Bytes, io::Error>;

pub(super) async fn respond(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Some(path) = relative(request.uri().path()) else { return not_found(site, request) };
    match find(site, &path, request.uri().path().ends_with('/')) {
        Found::File(file, path) => send(request, file, &path, StatusCode::OK),
        Found::Directory => {
            let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
            // Relative, so that no host of ours is named; `//` would make it one of somebody else's.
            let location = format!("/{}/{query}", request.uri().path().trim_matches('/'));
            let mut response = text(StatusCode::MOVED_PERMANENTLY, "moved\n");
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Found::Nothing => match &site.config.fallback {
            Some(page) => match open(site, Path::new(page)) {
                Some(file) => send(request, file, Path::new(page), StatusCode::OK),
                None => not_found(site, request),
            },
            None => not_found(site, request),
        },
    }
}

enum Found {
    File(File, PathBuf),
    /// A directory with an index, asked for without the final slash.
    Directory,
    Nothing,
}

fn find(site: &Site, path: &Path, slash: bool) -> Found {
    let index = path.join("index.html");
    if slash || path.as_os_str().is_empty() {
        return open(site, &index).map_or(Found::Nothing, |file| Found::File(file, index));
    }
    if let Some(file) = open(site, path) {
        return Found::File(file, path.to_owned());
    }
    if site.config.clean_urls {
        let mut page = path.as_os_str().to_owned();
        page.push(".html");
        if let Some(file) = open(site, Path::new(&page)) {
            return Found::File(file, page.into());
        }
    }
    if open(site, &index).is_some() { Found::Directory } else { Found::Nothing }
}

/// A regular file below the root, links followed only within it.
fn open(site: &Site, path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(&site.root, path, flags, Mode::empty(), resolve).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

/// The path of a request as components, decoded; `None` for what is never served.
pub(super) fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let name = decode(part)?;
        let hidden = name.starts_with('.') && name != ".well-known";
        if hidden || name.contains(['/', '\0']) {
            return None;
        }
        relative.push(name);
    }
    let private = relative.to_str().is_some_and(|path| PRIVATE.contains(&path));
    (!private).then_some(relative)
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn send(request: &Request<Incoming>, file: File, path: &Path, status: StatusCode) -> Response<Body> {
    let Ok(data) = file.metadata() else { return text(StatusCode::NOT_FOUND, "not found\n") };
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(data.mtime()).unwrap_or(0));
    let tag = format!("\"{:x}-{:x}\"", data.mtime(), data.len());
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::of(path)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let (Ok(tag), Ok(date)) =
        (HeaderValue::from_str(&tag), HeaderValue::from_str(&httpdate::fmt_http_date(modified)))
    {
        headers.insert(header::ETAG, tag);
        headers.insert(header::LAST_MODIFIED, date);
    }
    if status == StatusCode::OK && unchanged(request, &tag, modified) {
        headers.remove(header::CONTENT_TYPE);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
    if request.method() == Method::GET {
        *response.body_mut() = content(file, data.len());
    }
    response
}

/// RFC 9110, section 13: the tag decides where the request has one, else the date.
fn unchanged(request: &Request<Incoming>, tag: &str, modified: SystemTime) -> bool {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        return tags
            .split(',')
            .map(|known| known.trim().trim_start_matches("W/"))
            .any(|known| known == tag || known == "*");
    }
    let since = text(header::IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok());
    since.is_some_and(|since| modified <= since)
}

/// Reads on a thread of its own: a slow disk holds up one response only, a slow client holds two chunks.
fn content(mut file: File, length: u64) -> Body {
    if length == 0 {
        return empty();
    }
    let (pieces, mut arriving) = mpsc::channel::<io::Result<Bytes>>(1);
    drop(tokio::task::spawn_blocking(move || {
        let mut left = length;
        while left > 0 {
            let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
            let piece = file.read_exact(&mut chunk).map(|()| Bytes::from(chunk));
            left = left.saturating_sub(CHUNK_BYTES as u64);
            let failed = piece.is_err();
            if pieces.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    }));
    let stream = futures_util::stream::poll_fn(move |context| {
        arriving.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    });
    StreamBody::new(stream).boxed()
}

fn not_found(site: &Site, request: &Request<Incoming>) -> Response<Body> {
    let page = site.config.error_page.as_deref().unwrap_or("404.html");
    match open(site, Path::new(page)) {
        Some(file) => send(request, file, Path::new(page), StatusCode::NOT_FOUND),
        None => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}
