//! Compression of responses, for apps that ask for it: streamed, and never holding back what the dyno has sent.
//!
//! The encoder is flushed whenever the dyno pauses, so that an event of a server-sent stream leaves at once.

use std::fmt;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame};

use crate::download::{Download, DownloadError};
use crate::places::{AppPlaces, Hold};
use crate::reply::ReplyBody;

/// Shorter ones cost more than they save.
const BODY_BYTES_MIN: u64 = 1_024;
/// What is passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Levels that keep up with a network: more would be paid for by every other app.
const GZIP_LEVEL: u32 = 5;
const BROTLI_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// Windows of 256 KiB: what an encoder holds per response is bounded by them.
const WINDOW_BITS: u32 = 18;
/// About this much.
const ENCODER_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    /// The better first, where a client likes several equally.
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Compresses a response if it gains from that and the client takes it, as long as its app has room in memory for that.
pub(crate) fn compress(
    mut response: Response<ReplyBody>,
    method: &Method,
    asked: &HeaderMap,
    places: &Arc<AppPlaces>,
) -> Response<ReplyBody> {
    if !is_worth_it(&response) || method == Method::HEAD {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    let Some(coding) = accepted(asked) else { return response };
    let Ok(held) = places.hold_spare(ENCODER_BYTES) else { return response };
    let Ok(encoder) = Encoder::new(coding) else { return response };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    if let Some(etag) = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"))
        // It names the bytes of the dyno's answer, and these are others.
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
    response.map(|body| match body {
        ReplyBody::Dyno(download) => {
            let encoder = Some(encoder);
            ReplyBody::Compressed(Box::new(Compressed { download, encoder, unflushed: false, trailers: None, held }))
        }
        other => other,
    })
}

fn is_worth_it(response: &Response<ReplyBody>) -> bool {
    let ReplyBody::Dyno(download) = response.body() else { return false };
    let headers = response.headers();
    let mut rules = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let says_no = rules.any(|value| value.to_ascii_lowercase().contains("no-transform"));
    let whole = response.status().is_success() && response.status() != StatusCode::PARTIAL_CONTENT;
    let long_enough = download.size_hint().exact().is_none_or(|length| length >= BODY_BYTES_MIN);
    whole && long_enough && !says_no && !headers.contains_key(CONTENT_ENCODING) && is_text(headers)
}

/// Pictures, films and archives are compressed already.
fn is_text(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/json", "application/javascript", "application/xml", "application/wasm", "image/svg+xml"];
    kind.starts_with("text/") || known.contains(&kind.as_str()) || kind.ends_with("+json") || kind.ends_with("+xml")
}

/// The best coding that the client takes, by its own preferences first.
fn accepted(asked: &HeaderMap) -> Option<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let mut any = None;
    let values = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.trim().parse::<f64>().ok());
        let weight = weight.unwrap_or(0.0);
        let name = name.trim();
        if name == "*" {
            any = Some(weight);
        }
        for (slot, coding) in weights.iter_mut().zip(Coding::ALL) {
            if name.eq_ignore_ascii_case(coding.name()) {
                *slot = Some(weight);
            }
        }
    }
    let mut best: Option<(f64, Coding)> = None;
    for (weight, coding) in weights.into_iter().zip(Coding::ALL) {
        let weight = weight.or(any).unwrap_or(0.0);
        if weight > 0.0 && best.is_none_or(|(most, _coding)| weight > most) {
            best = Some((weight, coding));
        }
    }
    best.map(|(_weight, coding)| coding)
}

/// A dyno's response on its way through an encoder.
pub(crate) struct Compressed {
    download: Box<Download>,
    /// `None` once it has ended.
    encoder: Option<Encoder>,
    /// Something was put in that may still be inside.
    unflushed: bool,
    trailers: Option<Frame<Bytes>>,
    held: Option<Hold>,
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed").field("download", &self.download).finish_non_exhaustive()
    }
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                Self::Brotli(Box::new(CompressorWriter::new(Vec::new(), PIECE_BYTES, BROTLI_LEVEL, WINDOW_BITS)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_BITS)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Brotli(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let output = self.output();
        (!output.is_empty()).then(|| Bytes::from(std::mem::take(output)))
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Compressed {
    fn put(&mut self, data: &[u8]) -> io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        encoder.write(data)?;
        self.unflushed = true;
        Ok(if encoder.output().len() >= PIECE_BYTES { encoder.take() } else { None })
    }

    fn flush(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = self.encoder.as_mut().filter(|_encoder| self.unflushed) else { return Ok(None) };
        encoder.flush()?;
        self.unflushed = false;
        Ok(encoder.take())
    }

    fn finish(&mut self) -> io::Result<Option<Bytes>> {
        let rest = self.encoder.take().map(Encoder::finish).transpose()?.unwrap_or_default();
        self.held = None;
        Ok((!rest.is_empty()).then(|| Bytes::from(rest)))
    }
}

impl Body for Compressed {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let this = &mut *self;
        loop {
            if this.encoder.is_none() {
                return Poll::Ready(this.trailers.take().map(Ok));
            }
            let polled = Pin::new(&mut *this.download).poll_frame(cx);
            let waiting = polled.is_pending();
            let output = match polled {
                Poll::Pending => this.flush(),
                Poll::Ready(None) => this.finish(),
                Poll::Ready(Some(Err(error))) => {
                    this.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.put(&data),
                    Err(trailers) => {
                        this.trailers = Some(trailers);
                        this.finish()
                    }
                },
            };
            match output {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) if waiting => return Poll::Pending,
                Ok(None) => {}
                Err(error) => {
                    this.encoder = None;
                    return Poll::Ready(Some(Err(DownloadError::Encode(error))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_preferences_decide_and_ours_break_ties() {
        let check = |value: &'static str, expect: Option<Coding>| {
            let asked = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepted(&asked), expect, "{value}");
        };
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip, deflate, br", Some(Coding::Brotli));
        check("br;q=0.5, gzip;q=0.9", Some(Coding::Gzip));
        check("gzip;q=0, *", Some(Coding::Zstd));
        check("GZIP", Some(Coding::Gzip));
        check("gzip;q=0", None);
        check("gzip;q=x", None);
        check("identity", None);
        check("*;q=0", None);
        assert_eq!(accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn only_text_is_worth_it() {
        let check = |value: &'static str, expect: bool| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_text(&headers), expect, "{value}");
        };
        check("text/html; charset=utf-8", true);
        check("text/event-stream", true);
        check("application/vnd.heroku+json; version=3", true);
        check("image/svg+xml", true);
        check("image/png", false);
        check("application/grpc", false);
        check("application/octet-stream", false);
    }
}
