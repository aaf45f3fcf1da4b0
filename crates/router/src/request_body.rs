//! The body of a request as it comes from the client, whichever protocol that speaks.

use std::cell::Cell;
use std::convert::identity;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use crate::express::http2::StreamBody;
use crate::forward;
use crate::places::Hold;

/// So much is read of a body before anybody wants it, about.
const AHEAD_BYTES_MAX: usize = 32 * 1024;

/// The client left before the body was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RequestBodyError {
    #[error("client left before the body was whole")]
    Left,
    #[error("client sent a broken chunk")]
    Malformed,
    #[error("body is longer than the app takes")]
    TooLarge,
}

#[derive(Debug)]
pub(crate) struct RequestBody {
    source: Source,
    /// How much of it may still come.
    bytes_left: u64,
    /// How much of it has come.
    bytes: Rc<Cell<u64>>,
    /// Room in memory for what of it has come and is not wanted yet; until all has.
    held: Option<Hold>,
    /// What came before anybody wanted it, and what is behind that.
    ahead: BytesMut,
    behind: Option<Result<HeaderMap, RequestBodyError>>,
}

#[derive(Debug)]
enum Source {
    Http1(Incoming),
    Http2(StreamBody),
}

impl RequestBody {
    pub(crate) fn http1(incoming: Incoming) -> Self {
        Self::of(Source::Http1(incoming))
    }

    pub(crate) fn http2(body: StreamBody) -> Self {
        Self::of(Source::Http2(body))
    }

    fn of(source: Source) -> Self {
        let (ahead, behind) = (BytesMut::new(), None);
        Self { source, bytes_left: u64::MAX, bytes: Rc::default(), held: None, ahead, behind }
    }

    pub(crate) fn hold(&mut self, held: Option<Hold>) {
        self.held = held;
    }

    /// Says at any time how many bytes have come.
    pub(crate) fn counter(&self) -> Rc<Cell<u64>> {
        self.bytes.clone()
    }

    /// Sets a limit. `false` if the body is known to be longer.
    pub(crate) fn limit(&mut self, bytes_max: u64) -> bool {
        self.bytes_left = bytes_max;
        self.size_hint().lower() <= bytes_max
    }
}

impl RequestBody {
    /// While nobody wants the body: ready once the client has left. That shows only where its socket is read, so some of
    /// the body is; over HTTP/2 it shows anyway.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        let Source::Http1(incoming) = &mut self.source else { return Poll::Pending };
        while self.ahead.len() < AHEAD_BYTES_MAX && self.behind.is_none() {
            match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.ahead.extend_from_slice(&data),
                    Err(other) => self.behind = other.into_trailers().ok().map(Ok),
                },
                Some(Err(error)) => match fault(&error) {
                    RequestBodyError::Left => return Poll::Ready(Left),
                    fault => self.behind = Some(Err(fault)),
                },
                None => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.ahead.split().freeze()))));
        }
        if let Some(behind) = self.behind.take() {
            return Poll::Ready(Some(behind.map(Frame::trailers)));
        }
        match &mut self.source {
            Source::Http1(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|error| fault(&error))))
            }
            Source::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = match ready!(self.poll_source(cx)) {
            Some(Ok(frame)) => frame,
            other => {
                self.held = None;
                return Poll::Ready(other);
            }
        };
        let frame = frame.into_trailers().map_or_else(identity, |mut trailers| {
            forward::prepare_trailers(&mut trailers);
            Frame::trailers(trailers)
        });
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.bytes.update(|before| before + bytes);
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
        };
        self.bytes_left = left;
        if self.is_end_stream() {
            self.held = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let is_read = match &self.source {
            Source::Http1(incoming) => incoming.is_end_stream(),
            Source::Http2(body) => body.is_end_stream(),
        };
        is_read && self.ahead.is_empty() && self.behind.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let unread = match &self.source {
            Source::Http1(incoming) => incoming.size_hint(),
            Source::Http2(body) => body.size_hint(),
        };
        unread.exact().map_or(unread, |bytes| SizeHint::with_exact(bytes + self.ahead.len() as u64))
    }
}

fn fault(error: &hyper::Error) -> RequestBodyError {
    if is_malformed(error) { RequestBodyError::Malformed } else { RequestBodyError::Left }
}

/// Whether a body ended because its framing was wrong.
pub(crate) fn is_malformed(error: &hyper::Error) -> bool {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}
