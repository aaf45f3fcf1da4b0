//! The client's connection as the express lane holds it: no buffer of its own while nothing is under way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::error_code::ErrorCode;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::recipient::{Left, Recipient};
use super::response_head::{self, ResponseHead};
use crate::client_io::ClientStream;
use crate::pace::{Pace, TooSlow};
use crate::timer::Timer;
use crate::worker::Worker;

/// What a client may send ahead of an answer. The rest stays in the kernel.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct ClientSide {
    pub(super) stream: ClientStream,
    /// Bytes that came and belong to no request yet.
    pub(super) ahead: Vec<u8>,
    pub(super) timer: Timer,
    /// Of waiting for a dyno.
    dyno_timer: Timer,
    worker: Rc<Worker>,
    /// The connection closes after the present answer.
    pub(super) close: bool,
    /// Of the present answer, until something follows it.
    head: Vec<u8>,
    /// What the client has not taken.
    unsent: Vec<u8>,
    /// Of taking the present answer.
    pace: Pace,
}

impl ClientSide {
    pub(super) fn new(stream: ClientStream, worker: Rc<Worker>) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            timer: Timer::default(),
            dyno_timer: Timer::default(),
            worker,
            close: false,
            head: Vec::new(),
            unsent: Vec::new(),
            pace: Pace::default(),
        }
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

    /// Writes as much of `pieces` as the client takes now and says how much that was.
    fn write_now(&mut self, cx: &mut Context<'_>, pieces: &[&[u8]]) -> Result<usize, Left> {
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

    /// Writes the head, if it waits, and `pieces`, and keeps what the client does not take now.
    fn pass_on(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Result<(), Left> {
        let head = std::mem::take(&mut self.head);
        let [first, second, third] = pieces;
        let pieces = [&head[..], first, second, third];
        let mut skip = self.write_now(cx, &pieces)?;
        for piece in pieces {
            self.unsent.extend_from_slice(piece.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(piece.len());
        }
        if head.capacity() > 0 {
            self.worker.buffers.put(head);
        }
        Ok(())
    }

    /// The client has taken so many bytes.
    fn note_taken(&mut self, count: u64) -> Result<(), ErrorCode> {
        let least = self.worker.shared.bounds.client_pace;
        self.pace.moved(count, Instant::now(), least).map_err(|TooSlow| ErrorCode::H28)
    }

    /// Everything waits for the client: ready once it has taken nothing for `idle`.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>> {
        let since = self.pace.wait(Instant::now());
        self.timer.poll(cx, since + idle).map(|()| Err(ErrorCode::H28))
    }
}

impl Recipient for ClientSide {
    const TAKES_CHUNKS: bool = true;

    fn poll_left(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Left> {
        // What the client sends ahead is kept.
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

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.dyno_timer.poll(cx, deadline)
    }

    fn head(&mut self, head: &ResponseHead<'_, '_>, _ends: bool) {
        // Only now, because the router may have begun to end while the dyno was at work.
        self.close |= self.worker.shared.ends_connections();
        let mut bytes = self.worker.buffers.take();
        response_head::write(head, self.close, &self.worker.date.now(), &mut bytes);
        self.head = bytes;
        self.pace = Pace::default();
    }

    fn take_back_head(&mut self) -> bool {
        !std::mem::take(&mut self.head).is_empty()
    }

    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8], ends: bool) -> Result<(), Left> {
        if ends
            && self.close
            && let ClientStream::Tls(stream) = &mut self.stream
        {
            stream.get_mut().0.keep_until_flush();
        }
        self.pass_on(cx, [bytes, &[], &[]])
    }

    fn pass_unbounded(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Left> {
        if bytes.is_empty() {
            return self.pass_on(cx, [&[]; 3]);
        }
        // In chunks of our own, so that the end can be told from a broken connection.
        self.pass_on(cx, [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"])
    }

    fn end_unbounded(&mut self) {
        self.unsent.extend_from_slice(b"0\r\n\r\n");
    }

    fn end_unchunked(&mut self, _trailers: &[u8]) {}

    /// Under TLS, records that were taken may wait for room in the socket; over plain TCP there is nothing to do.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), Left> {
        match &mut self.stream {
            ClientStream::Tls(stream) if stream.get_ref().1.wants_write() => {
                match Pin::new(&mut **stream).poll_flush(cx) {
                    Poll::Ready(Err(_broken)) => Err(Left),
                    Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
                }
            }
            ClientStream::Tls(_) | ClientStream::Plain(_) => Ok(()),
        }
    }

    fn waiting_bytes(&self) -> usize {
        self.unsent.len()
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let unsent = std::mem::take(&mut self.unsent);
        let written = self.write_now(cx, &[&unsent]).map_err(|Left| ErrorCode::H27)?;
        if written > 0 {
            self.note_taken(written as u64)?;
        }
        if written == unsent.len() {
            // A client that was slow once has a large buffer now; the next answer may be small.
            return Poll::Ready(Ok(()));
        }
        self.unsent = unsent;
        self.unsent.drain(..written);
        self.poll_stalled(cx, idle)
    }

    /// Under TLS, records that were taken may still wait for the client; over plain TCP there is nothing to do.
    fn poll_flush(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>> {
        let ClientStream::Tls(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        if self.close {
            // Said once, however often.
            stream.get_mut().1.send_close_notify();
        }
        let before = stream.get_ref().0.written_total();
        let flushed = Pin::new(&mut **stream).poll_flush(cx);
        let written = stream.get_ref().0.written_total() - before;
        if flushed.is_ready() {
            return flushed.map_err(|_error| ErrorCode::H27);
        }
        if written > 0 {
            self.note_taken(written)?;
        }
        self.poll_stalled(cx, idle)
    }
}
