//! The body of a response on its way from the dyno to the client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use domain::error_code::ErrorCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::Instant;

use crate::client_io::ClientLine;
use crate::dyno::Slot;
use crate::dyno_io::{DynoConnection, Unwanted};
use crate::reply::Problem;
use crate::request_body::is_malformed;
use crate::request_log::Record;
use crate::timer::Timer;
use crate::upload::{Phase, Progress};
use crate::worker::Worker;

#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    #[error("dyno closed in the middle of its response")]
    Interrupted(#[source] hyper::Error),
    #[error("dyno's response is no HTTP")]
    Malformed(#[source] hyper::Error),
    #[error("dyno ended its response before it was whole")]
    Cut,
    #[error("cannot compress a response")]
    Encode(#[source] io::Error),
    #[error("dyno sent nothing for too long")]
    Idle,
}

#[derive(Debug)]
pub(crate) struct Download {
    body: Incoming,
    /// What came of it before anything was passed on.
    first: Option<Frame<Bytes>>,
    began: Instant,
    http2: bool,
    idle: Duration,
    timer: Timer,
    /// When the dyno was first found silent since its last bytes.
    silent_since: Option<Instant>,
    progress: Rc<Progress>,
    client: Arc<ClientLine>,
    worker: Rc<Worker>,
    /// `None` once the dyno has answered or failed; then the slot is gone, too.
    held: Option<(DynoConnection, Arc<Slot>)>,
    record: Record,
}

impl Download {
    #[expect(clippy::too_many_arguments, reason = "one call site; every part of an exchange ends up here")]
    pub(crate) fn new(
        body: Incoming,
        idle: Duration,
        progress: Rc<Progress>,
        client: Arc<ClientLine>,
        worker: Rc<Worker>,
        connection: DynoConnection,
        slot: Arc<Slot>,
        record: Record,
    ) -> Self {
        let http2 = connection.is_http2();
        let held = Some((connection, slot));
        let mut download = Self {
            body,
            first: None,
            began: Instant::now(),
            http2,
            idle,
            timer: Timer::default(),
            silent_since: None,
            progress,
            client,
            worker,
            held,
            record,
        };
        if download.body.is_end_stream() {
            download.finish();
        }
        download
    }

    /// Waits for the first of a body whose length is known: until it is there, the client can be told what goes wrong, and
    /// then it leaves together with the head.
    ///
    /// # Errors
    /// Nothing came.
    pub(crate) async fn begin(&mut self) -> Result<(), Problem> {
        let line = self.held.as_ref().map(|(connection, _slot)| connection.line.clone());
        let is_known = self.body.size_hint().exact().is_some_and(|length| length > 0);
        let first = if is_known { poll_fn(|cx| self.poll_next(cx)).await.transpose() } else { Ok(None) };
        // As long as the head waits, it takes room.
        let is_refused = line.is_some_and(|line| line.head_room.end());
        let code = match first {
            Ok(first) => {
                self.first = first;
                return Ok(());
            }
            Err(_broken) if is_refused => {
                let Problem { status, cause, .. } = Problem::NO_ROOM_FOR_HEAD;
                self.record.refuse(ErrorCode::H25, status.as_u16(), cause);
                return Err(Problem::NO_ROOM_FOR_HEAD);
            }
            Err(DownloadError::Idle) => ErrorCode::H15,
            Err(DownloadError::Malformed(_)) => ErrorCode::H17,
            Err(_broken) => ErrorCode::H18,
        };
        Err(Problem::code(code))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        self.note_conversation();
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silent_since = None;
                self.record.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                // Nothing follows trailers, and not everybody asks whether anything does.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // As with a request's body, hyper takes a stream that was reset without an error for one that is whole.
            Poll::Ready(None) if self.http2 && !self.body.is_end_stream() => {
                self.held = None;
                self.record.fail(ErrorCode::H18);
                Poll::Ready(Some(Err(DownloadError::Cut)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) if is_malformed(&error) => {
                self.held = None;
                self.record.fail(ErrorCode::H17);
                Poll::Ready(Some(Err(DownloadError::Malformed(error))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.held = None;
                self.record.fail(ErrorCode::H18);
                Poll::Ready(Some(Err(DownloadError::Interrupted(error))))
            }
            Poll::Pending if self.poll_idle(cx).is_ready() => {
                self.held = None;
                self.record.fail(ErrorCode::H15);
                Poll::Ready(Some(Err(DownloadError::Idle)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The dyno has answered: its connection may carry the next request, and its slot is free.
    fn finish(&mut self) {
        self.record.dyno_finished();
        if let Some((connection, slot)) = self.held.take() {
            connection.line.head_room.end();
            // A dyno that answered early is still being sent the rest of the body: that connection is of no more use.
            if self.progress.phase() != Phase::Done {
                self.progress.give_up();
            } else {
                self.worker.pool.put(slot.dyno.serial, connection, &self.worker.shared.bounds);
            }
        }
    }

    /// Ready once the dyno has been silent for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.silent_since.get_or_insert_with(Instant::now) + self.idle;
        let long_at = self.began + Slot::CONVERSATION;
        if Instant::now() < long_at {
            ready!(self.timer.poll(cx, end.min(long_at)));
        }
        self.note_conversation();
        self.timer.poll(cx, end)
    }

    fn note_conversation(&self) {
        if let Some((_connection, slot)) = &self.held
            && self.began.elapsed() >= Slot::CONVERSATION
        {
            slot.begin_conversation();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.body.size_hint();
        rest.exact().map_or(rest, |rest| SizeHint::with_exact(first + rest))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.progress.give_up();
        self.note_conversation();
        // Dropped while the dyno was still sending: hyper gave the client up.
        let Some((connection, slot)) = self.held.take() else { return };
        self.record.fail(if self.client.stalled() { ErrorCode::H28 } else { ErrorCode::H27 });
        // A stream ends with its client, and one of many over HTTP/2 is reset.
        if !self.http2 && !slot.is_conversation() {
            let silent_since = self.silent_since.unwrap_or_else(Instant::now);
            let unwanted = Unwanted { began: self.began, ends: silent_since + self.idle };
            connection.line.hear_out(slot, unwanted);
        }
    }
}
