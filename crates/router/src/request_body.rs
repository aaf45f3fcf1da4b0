//! The body of a request as it comes from the client, whichever protocol that speaks.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

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
    incoming: Incoming,
    http2: bool,
    /// How much of it may still come.
    bytes_left: u64,
    /// How much of it has come.
    bytes: Rc<Cell<u64>>,
}

impl RequestBody {
    pub(crate) fn http1(incoming: Incoming) -> Self {
        Self { incoming, http2: false, bytes_left: u64::MAX, bytes: Rc::default() }
    }

    pub(crate) fn http2(incoming: Incoming) -> Self {
        Self { http2: true, ..Self::http1(incoming) }
    }

    /// Says at any time how many bytes have come.
    pub(crate) fn counter(&self) -> Rc<Cell<u64>> {
        self.bytes.clone()
    }

    /// Sets a limit. `false` if the body is known to be longer.
    pub(crate) fn limit(&mut self, bytes_max: u64) -> bool {
        self.bytes_left = bytes_max;
        self.incoming.size_hint().lower() <= bytes_max
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.bytes.update(|before| before + bytes);
                match self.bytes_left.checked_sub(bytes) {
                    Some(left) => {
                        self.bytes_left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(RequestBodyError::TooLarge)),
                }
            }
            Some(Err(error)) => Some(Err(fault(&error))),
            // hyper ends the body of a cancelled HTTP/2 stream as if it were whole. Passed on, the dyno would take a
            // part of an upload for all of it.
            None if self.http2 && !self.incoming.is_end_stream() => Some(Err(RequestBodyError::Left)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn fault(error: &hyper::Error) -> RequestBodyError {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => RequestBodyError::Malformed,
        _ => RequestBodyError::Left,
    }
}
