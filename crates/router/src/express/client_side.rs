//! The client's connection as the express lane holds it: no buffer of its own while nothing is under way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::client_io::ClientStream;
use crate::timer::Timer;

/// What a client may send ahead of an answer. The rest stays in the kernel.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct ClientSide {
    pub(super) stream: ClientStream,
    /// Bytes that came and belong to no request yet.
    pub(super) ahead: Vec<u8>,
    pub(super) timer: Timer,
}

/// The client closed, or its connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left;

impl ClientSide {
    pub(super) fn new(stream: ClientStream) -> Self {
        Self { stream, ahead: Vec::new(), timer: Timer::default() }
    }

    /// Reads once into `scratch`; an empty piece is the end.
    pub(super) fn poll_read<'a>(&mut self, cx: &mut Context<'_>, scratch: &'a mut [u8]) -> Poll<io::Result<&'a [u8]>> {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                Poll::Ready(Ok(scratch.get(..count).unwrap_or_default()))
            }
        }
    }

    /// While an answer is being waited for: keeps what the client sends ahead, and notices when it leaves.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Left> {
        while self.ahead.len() < AHEAD_BYTES_MAX {
            let room = scratch.len().min(AHEAD_BYTES_MAX - self.ahead.len());
            match self.poll_read(cx, &mut scratch[..room]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok([]) | Err(_)) => return Poll::Ready(Left),
                Poll::Ready(Ok(bytes)) => {
                    let bytes = bytes.to_vec();
                    self.ahead.extend_from_slice(&bytes);
                }
            }
        }
        // Whether it leaves is noticed when the answer is written.
        Poll::Pending
    }

    /// Writes as much of `pieces` as the client takes now and says how much that was.
    pub(super) fn write_now(&mut self, cx: &mut Context<'_>, pieces: &[&[u8]]) -> Result<usize, Left> {
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut written = 0;
        while written < all {
            let mut slices = [IoSlice::new(&[]); 4];
            let mut skip = written;
            let mut count = 0;
            for piece in pieces {
                let rest = piece.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(piece.len());
                if !rest.is_empty() && count < slices.len() {
                    slices[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
            let slices = &slices[..count];
            let polled = match slices {
                [single] => Pin::new(&mut self.stream).poll_write(cx, single),
                several => Pin::new(&mut self.stream).poll_write_vectored(cx, several),
            };
            match polled {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Err(Left),
                Poll::Ready(Ok(count)) => written += count,
            }
        }
        Ok(written)
    }

    /// Under TLS, records that were taken may still wait for the client; over plain TCP there is nothing to do.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
        match &mut self.stream {
            ClientStream::Plain(_) => Poll::Ready(Ok(())),
            ClientStream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx).map_err(|_error| Left),
        }
    }
}
