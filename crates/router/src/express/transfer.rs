//! One exchange of the express lane: a whole request to a dyno, its answer to the client, byte by byte as it comes.
//!
//! Written as one poll function, because what is read into the worker's scratch space is written on before anything
//! else runs: a connection holds memory only for what the other side has not taken.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use domain::error_code::ErrorCode;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use wire::routes::RequestLimits;

use super::carry::Fault;
use super::chunks::Chunks;
use super::dyno_stream::DynoStream;
use super::outgoing::Outgoing;
use super::recipient::{Left, Recipient};
use super::response_head::{self, Framing};
use super::trailers;
use crate::dyno::Slot;
use crate::dyno_io::Unwanted;
use crate::places::{Hold, LITTLE_BYTES, TooMuchHeld};
use crate::reply::Problem;
use crate::worker::{SCRATCH_BYTES, Worker};

/// How far an answer has come.
#[derive(Debug)]
enum Stage {
    Sending { sent: usize },
    Head,
    Body(Body),
    Done,
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

#[derive(Debug)]
pub(super) struct Transfer<'a, R> {
    worker: &'a Rc<Worker>,
    client: &'a mut R,
    /// `None` once it was given back.
    dyno: Option<TcpStream>,
    /// It has carried a request before.
    reused: bool,
    outgoing: &'a Outgoing,
    limits: RequestLimits,
    stage: Stage,
    /// Of the request's end, then of the last byte of the answer.
    moved_at: Instant,
    /// When the answer began.
    began_at: Instant,
    is_event_stream: bool,
    /// An incomplete head.
    partial: Vec<u8>,
    pub(super) status: u16,
    /// Of the body, as the dyno sent it.
    pub(super) bytes: u64,
    /// The dyno takes another request on this connection.
    pub(super) keep_dyno: bool,
    /// When the dyno's last byte had come.
    pub(super) answered_at: Option<Instant>,
    /// While the client does not take what there is.
    held: Option<Hold>,
    /// Of a large head that has not come whole, or waits for its body.
    head_held: Option<Hold>,
}

impl<'a, R: Recipient> Transfer<'a, R> {
    pub(super) fn new(
        worker: &'a Rc<Worker>,
        client: &'a mut R,
        dyno: DynoStream,
        outgoing: &'a Outgoing,
        limits: RequestLimits,
    ) -> Self {
        Self {
            worker,
            client,
            dyno: Some(dyno.stream),
            reused: dyno.reused,
            outgoing,
            limits,
            stage: Stage::Sending { sent: 0 },
            moved_at: Instant::now(),
            began_at: Instant::now(),
            is_event_stream: false,
            partial: Vec::new(),
            status: 0,
            bytes: 0,
            keep_dyno: false,
            answered_at: None,
            held: None,
            head_held: None,
        }
    }

    pub(super) fn take_stream(&mut self) -> Option<TcpStream> {
        self.dyno.take()
    }

    /// Whether the dyno has all of the request, as far as it took it.
    pub(super) fn is_sent(&self) -> bool {
        !matches!(self.stage, Stage::Sending { .. })
    }

    /// Whether the answer, which is still on its way, is a stream by now.
    pub(super) fn is_conversation(&self) -> bool {
        let is_long = || self.began_at.elapsed() >= Slot::CONVERSATION;
        matches!(self.stage, Stage::Body(_)) && (self.is_event_stream || is_long())
    }

    /// What to do about the dyno if nobody wants the rest.
    pub(super) fn unwanted(&self) -> Unwanted {
        Unwanted { began: self.began_at, ends: self.moved_at + Duration::from_millis(self.limits.idle_ms) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let idle = Duration::from_millis(self.limits.idle_ms);
        loop {
            ready!(self.poll_taken(cx, idle))?;
            match self.stage {
                Stage::Sending { sent } => ready!(self.poll_send(cx, sent))?,
                Stage::Head | Stage::Body(_) => ready!(self.poll_receive(cx))?,
                Stage::Done => return self.client.poll_flush(cx, idle).map_err(Fault::BrokenOff),
            }
        }
    }

    /// Waits for the client, as long as the app has room in memory for what waits.
    fn poll_taken(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), Fault>> {
        let taken = self.client.poll_taken(cx, idle).map_err(Fault::BrokenOff);
        if taken.is_ready() {
            self.held = None;
        } else if self.held.is_none() {
            // A large head may wait together with the first of its body.
            match self.outgoing.app.places.hold(self.client.waiting_bytes().max(SCRATCH_BYTES)) {
                Ok(held) => self.held = held,
                Err(TooMuchHeld) => return Poll::Ready(Err(Fault::BrokenOff(ErrorCode::H28))),
            }
        }
        taken
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, sent: usize) -> Poll<Result<(), Fault>> {
        let rest = self.outgoing.bytes.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            self.stage = Stage::Head;
            self.moved_at = Instant::now();
            return Poll::Ready(Ok(()));
        }
        let Some(dyno) = &mut self.dyno else { return Poll::Ready(Err(self.lost(false))) };
        match Pin::new(dyno).poll_write(cx, rest) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.stage = Stage::Sending { sent: sent + count };
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_) | Err(_)) if self.reused && sent == 0 => Poll::Ready(Err(self.lost(true))),
            Poll::Ready(Ok(_) | Err(_)) => {
                // It may have answered and closed before it had read everything.
                self.stage = Stage::Head;
                self.moved_at = Instant::now();
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.poll_waiting(cx, self.limits.idle_ms, ErrorCode::H12),
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let worker = self.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        let Some(dyno) = &mut self.dyno else { return Poll::Ready(Err(self.lost(false))) };
        match Pin::new(dyno).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                if count == 0 {
                    return Poll::Ready(self.dyno_closed());
                }
                // An answer has begun when its head is whole: interim ones, and pieces, are none.
                if matches!(self.stage, Stage::Body(_)) {
                    self.moved_at = Instant::now();
                }
                Poll::Ready(self.received(cx, scratch.get(..count).unwrap_or_default()))
            }
            Poll::Ready(Err(_broken)) => Poll::Ready(Err(self.lost(false))),
            Poll::Pending => {
                drop(scratch);
                match &self.stage {
                    Stage::Head => self.poll_waiting(cx, self.limits.first_byte_ms, ErrorCode::H12),
                    _body => self.poll_silence(cx),
                }
            }
        }
    }

    /// Before the answer: the client may leave, and the dyno may take too long.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, limit_ms: u64, code: ErrorCode) -> Poll<Result<(), Fault>> {
        let worker = self.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        if self.client.poll_left(cx, &mut scratch).is_ready() {
            return Poll::Ready(Err(Fault::Left));
        }
        let deadline = self.moved_at + Duration::from_millis(limit_ms);
        self.client.poll_deadline(cx, deadline).map(|()| Err(Fault::Problem(Problem::code(code))))
    }

    /// In the middle of the answer: a client that leaves is noticed even while there is nothing to write.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let worker = self.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        if self.client.push(cx).is_err() || self.client.poll_left(cx, &mut scratch).is_ready() {
            return Poll::Ready(Err(Fault::BrokenOff(ErrorCode::H27)));
        }
        let end = self.moved_at + Duration::from_millis(self.limits.idle_ms);
        if !self.is_conversation() {
            // Whoever polls looks at that, too, and must not sleep until the end.
            let long_at = self.began_at + Slot::CONVERSATION;
            ready!(self.client.poll_deadline(cx, end.min(long_at)));
        }
        self.client.poll_deadline(cx, end).map(|()| Err(self.broken(ErrorCode::H15)))
    }

    fn received(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.stage {
            Stage::Head if self.partial.is_empty() => self.head(cx, bytes),
            Stage::Head => {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(bytes);
                self.head(cx, &whole)
            }
            Stage::Body(_) => self.body(cx, bytes),
            Stage::Sending { .. } | Stage::Done => Ok(()),
        }
    }

    fn head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        loop {
            let mut space = response_head::header_space();
            let parsed = response_head::parse(rest, &mut space, self.outgoing.head_only).map_err(Fault::Problem)?;
            let Some(head) = parsed else {
                if rest.len() > self.worker.shared.bounds.buffer_bytes_max {
                    let oversized = Problem { cause: Some("oversized header"), ..Problem::code(ErrorCode::H25) };
                    return Err(Fault::Problem(oversized));
                }
                self.hold_head(rest.len())?;
                self.partial = rest.to_vec();
                return Ok(());
            };
            if head.is_interim() {
                // Nobody asked for it, and not every client expects one.
                rest = rest.get(head.head_bytes..).unwrap_or_default();
                if rest.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if head.status < 200 {
                return Err(Fault::Problem(Problem::code(ErrorCode::H17)));
            }
            self.status = head.status;
            self.moved_at = Instant::now();
            self.began_at = self.moved_at;
            self.is_event_stream = head.is_event_stream();
            self.keep_dyno = head.keep_alive;
            // Most servers write head and body one after the other; one packet costs all who handle it half of what two
            // cost. A body of unknown length may begin late, as a stream of events does, so there the head goes at once.
            let waits = rest.len() == head.head_bytes && matches!(head.framing, Framing::Length(_));
            if waits {
                self.hold_head(head.head_bytes)?;
            }
            self.client.head(&head, head.framing == Framing::None);
            self.stage = match head.framing {
                Framing::None => Stage::Done,
                Framing::Length(length) => Stage::Body(Body::Length(length)),
                Framing::Chunked => Stage::Body(Body::Chunked(Chunks::new())),
                Framing::UntilClose => Stage::Body(Body::UntilClose),
            };
            let rest = rest.get(head.head_bytes..).unwrap_or_default();
            return if waits { Ok(()) } else { self.body(cx, rest) };
        }
    }

    /// Room in memory for so much of a head. Whoever lets heads wait by the thousand has only so much of it.
    fn hold_head(&mut self, bytes: usize) -> Result<(), Fault> {
        self.head_held = None;
        if bytes > LITTLE_BYTES {
            let held = self.outgoing.app.places.hold(bytes);
            self.head_held = held.map_err(|TooMuchHeld| Fault::Problem(Problem::NO_ROOM_FOR_HEAD))?;
        }
        Ok(())
    }

    /// Passes on what belongs to the body.
    fn body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let left = |Left| Fault::BrokenOff(ErrorCode::H27);
        self.head_held = None;
        match &mut self.stage {
            Stage::Body(Body::Length(length_left)) => {
                let taken = usize::try_from(*length_left).unwrap_or(usize::MAX).min(bytes.len());
                *length_left -= taken as u64;
                let done = *length_left == 0;
                let own = self.take(bytes, taken, done);
                self.client.pass(cx, own, done).map_err(left)
            }
            Stage::Body(Body::Chunked(chunks)) if R::TAKES_CHUNKS => {
                let before = chunks.trailers().len();
                let Ok(taken) = chunks.push(bytes) else { return Err(self.broken(ErrorCode::H17)) };
                let (done, trailers) = (chunks.is_done(), chunks.trailers());
                let of_trailers = trailers.len() - before;
                if of_trailers == 0 || (done && before == 0 && trailers == b"\r\n") {
                    let own = self.take(bytes, taken, done);
                    return self.client.pass(cx, own, done).map_err(left);
                }
                // Trailers go on once they are whole, as far as they may.
                let trailers = if done { trailers::sound(trailers) } else { Ok(Vec::new()) };
                let Ok(trailers) = trailers else { return Err(self.broken(ErrorCode::H17)) };
                let own = self.take(bytes, taken, done);
                let passed = [own.get(..taken - of_trailers).unwrap_or_default(), &trailers].concat();
                self.client.pass(cx, &passed, done).map_err(left)
            }
            Stage::Body(Body::Chunked(chunks)) => {
                let mut data = self.worker.buffers.take();
                let Ok(taken) = chunks.decode(bytes, &mut data) else { return Err(self.broken(ErrorCode::H17)) };
                let done = chunks.is_done();
                let trailers = if done { trailers::sound(chunks.trailers()) } else { Ok(Vec::new()) };
                let Ok(trailers) = trailers else { return Err(self.broken(ErrorCode::H17)) };
                self.take(bytes, taken, done);
                let passed = self.client.pass(cx, &data, false);
                self.worker.buffers.put(data);
                if done {
                    self.client.end_unchunked(&trailers);
                }
                passed.map_err(left)
            }
            Stage::Body(Body::UntilClose) => {
                self.bytes += bytes.len() as u64;
                self.client.pass_unbounded(cx, bytes).map_err(left)
            }
            Stage::Sending { .. } | Stage::Head | Stage::Done => {
                self.take(bytes, 0, true);
                self.client.pass(cx, &[], true).map_err(left)
            }
        }
    }

    /// Counts `taken` bytes as the body's and gives them. Bytes behind an answer belong to nothing: a connection with
    /// such is of no more use.
    fn take<'b>(&mut self, bytes: &'b [u8], taken: usize, done: bool) -> &'b [u8] {
        let (own, surplus) = bytes.split_at(taken);
        self.bytes += taken as u64;
        self.keep_dyno &= surplus.is_empty();
        if done {
            self.finish();
        }
        own
    }

    /// The answer cannot go on. Where nothing of it has left, the client is told why.
    fn broken(&mut self, code: ErrorCode) -> Fault {
        if self.client.take_back_head() { Fault::Problem(Problem::code(code)) } else { Fault::BrokenOff(code) }
    }

    fn finish(&mut self) {
        self.stage = Stage::Done;
        self.answered_at = Some(self.moved_at);
    }

    /// The dyno has closed its side.
    fn dyno_closed(&mut self) -> Result<(), Fault> {
        match &self.stage {
            Stage::Body(Body::UntilClose) => {
                self.client.end_unbounded();
                self.keep_dyno = false;
                self.finish();
                Ok(())
            }
            _unfinished => Err(self.lost(false)),
        }
    }

    /// The connection to the dyno is gone; `unsent` says that it took not a byte of the request.
    fn lost(&mut self, unsent: bool) -> Fault {
        match &self.stage {
            Stage::Body(_) | Stage::Done => self.broken(ErrorCode::H18),
            Stage::Sending { .. } | Stage::Head if !self.partial.is_empty() => {
                Fault::Problem(Problem::code(ErrorCode::H18))
            }
            Stage::Sending { .. } | Stage::Head => {
                if self.reused && (unsent || self.outgoing.idempotent) {
                    Fault::Stale
                } else {
                    Fault::Problem(Problem::code(ErrorCode::H13))
                }
            }
        }
    }
}
