//! The body of a request on its way from the client to the dyno.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep};

use crate::config::ClientPace;
use crate::dyno::Slot;
use crate::dyno_io::Line;
use crate::pace::Pace;
use crate::request_body::{RequestBody, RequestBodyError};

#[derive(Debug, Error)]
#[error("request body ended before it was whole")]
pub(crate) struct UploadError;

/// How far the body has come; decides which time limit is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The dyno takes no bytes, or has not said `100 Continue` yet.
    WaitingForDyno,
    WaitingForClient,
    Done,
    /// The client closed its connection.
    Left,
    BadChunk,
    /// More came than the app takes.
    TooLarge,
    /// The client sends next to nothing, over minutes.
    TooSlow,
    /// The dyno has answered without waiting for the rest.
    Unwanted,
}

/// What the exchange knows about the body that hyper is sending.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: Cell<Phase>,
    /// Of the last byte, and of the end.
    moved_at: Cell<Instant>,
    pub(crate) changed: Notify,
    /// The answer has begun.
    pub(crate) answered: Cell<bool>,
    /// Of hyper's task, while the body waits.
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    pub(crate) fn new(done: bool) -> Self {
        let phase = if done { Phase::Done } else { Phase::WaitingForDyno };
        Self {
            phase: Cell::new(phase),
            moved_at: Cell::new(Instant::now()),
            changed: Notify::new(),
            answered: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn moved_at(&self) -> Instant {
        self.moved_at.get()
    }

    /// Ends an upload that the dyno has not waited for: its connection closes, and nothing is held for it any longer.
    pub(crate) fn give_up(&self) {
        if self.phase.get() != Phase::Done {
            self.end(Phase::Unwanted);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    fn end(&self, phase: Phase) {
        self.phase.set(phase);
        self.moved_at.set(Instant::now());
        self.changed.notify_one();
    }
}

#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` for a request without a body.
    body: Option<RequestBody>,
    gate: Option<Gate>,
    progress: Rc<Progress>,
    /// `None` over HTTP/2: there a dyno is told that a request ends early, and its connection is that of others, too.
    keeper: Option<Keeper>,
    pace: Pace,
    least: ClientPace,
}

/// What keeps the slot of a request whose body does not come whole, until its dyno has closed.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) line: Arc<Line>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
}

impl Keeper {
    fn keep(&self) {
        let Self { line, slot, method, uri } = self;
        // Until now the dyno had to wait for the client, not the other way round.
        let orphaned = slot.dyno.orphans.add(method.as_str(), uri.path(), Instant::now());
        line.linger(slot.clone(), orphaned);
    }
}

/// Holds a body back until the dyno asks for it, as the client's `Expect: 100-continue` wanted.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `None` once nobody can open it any more: the final response has come, and no body is needed.
    opened: Option<oneshot::Receiver<()>>,
    /// Not every server sends the interim response, and RFC 9110 forbids waiting for ever.
    patience: Pin<Box<Sleep>>,
}

impl Gate {
    pub(crate) fn new(opened: oneshot::Receiver<()>, patience: Duration) -> Self {
        Self { opened: Some(opened), patience: Box::pin(tokio::time::sleep(patience)) }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(opened) = &mut self.opened else { return Poll::Pending };
        match Pin::new(opened).poll(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(()),
            Poll::Ready(Err(_dropped)) => {
                self.opened = None;
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        self.patience.as_mut().poll(cx)
    }
}

impl Upload {
    pub(crate) fn new(
        body: Option<RequestBody>,
        gate: Option<Gate>,
        progress: Rc<Progress>,
        keeper: Option<Keeper>,
        least: ClientPace,
    ) -> Self {
        Self { body, gate, progress, keeper, pace: Pace::default(), least }
    }

    /// Gives the body back from a request that was never sent.
    pub(crate) fn into_body(self) -> Option<RequestBody> {
        self.body
    }

    fn fail(&self, phase: Phase) -> UploadError {
        if let Some(keeper) = &self.keeper {
            keeper.keep();
        }
        self.progress.end(phase);
        UploadError
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.progress.phase() == Phase::Unwanted {
            return Poll::Ready(Some(Err(UploadError)));
        }
        self.progress.waker.replace(Some(cx.waker().clone()));
        if let Some(gate) = &mut self.gate {
            if gate.poll_open(cx).is_pending() {
                return Poll::Pending;
            }
            self.gate = None;
        }
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => {
                this.pace.wait(Instant::now());
                this.progress.phase.set(Phase::WaitingForClient);
                Poll::Pending
            }
            Poll::Ready(None) => {
                this.progress.end(Phase::Done);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let now = Instant::now();
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                // Once the dyno answers, both may talk for as long as they like.
                if this.pace.moved(bytes, now, this.least).is_err() && !this.progress.answered.get() {
                    return Poll::Ready(Some(Err(this.fail(Phase::TooSlow))));
                }
                this.progress.moved_at.set(now);
                this.progress.phase.set(Phase::WaitingForDyno);
                if body.is_end_stream() {
                    this.progress.end(Phase::Done);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let phase = match error {
                    RequestBodyError::Malformed => Phase::BadChunk,
                    RequestBodyError::Left => Phase::Left,
                    RequestBodyError::TooLarge => Phase::TooLarge,
                };
                Poll::Ready(Some(Err(this.fail(phase))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
