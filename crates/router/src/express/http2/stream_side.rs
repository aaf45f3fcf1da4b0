//! The client's end of one stream, as an answer is given to it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use domain::error_code::ErrorCode;
use http::HeaderMap;
use http::response::Parts;
use tokio::time::Instant;

use super::frame::Reason;
use super::hpack;
use super::session::Session;
use crate::express::recipient::{Left, Recipient};
use crate::express::response_head::{ResponseHead, is_hop_by_hop};
use crate::express::trailers;
use crate::pace::Pace;
use crate::worker::Worker;

#[derive(Debug)]
pub(super) struct StreamSide<'a> {
    pub(super) session: &'a Rc<RefCell<Session>>,
    pub(super) worker: &'a Rc<Worker>,
    pub(super) id: u32,
    /// The block of a head that nothing has followed yet, and whether nothing will.
    head: Vec<u8>,
    is_whole: bool,
    /// It does not wait for the body any more, only for the client.
    head_leaves: bool,
    /// What of the body the client has no room for.
    unsent: Vec<u8>,
    /// The body ends with that.
    ends: bool,
    /// Behind that.
    trailers: Vec<u8>,
    pace: Pace,
}

impl<'a> StreamSide<'a> {
    pub(super) fn new(session: &'a Rc<RefCell<Session>>, worker: &'a Rc<Worker>, id: u32) -> Self {
        Self {
            session,
            worker,
            id,
            head: Vec::new(),
            is_whole: false,
            head_leaves: false,
            unsent: Vec::new(),
            ends: false,
            trailers: Vec::new(),
            pace: Pace::default(),
        }
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.session.borrow_mut().reset(self.id, reason);
    }

    /// Begins an answer that did not come as bytes.
    pub(super) fn head_of(&mut self, parts: &Parts, ends: bool) {
        let mut block = self.worker.buffers.take();
        hpack::write_status(&mut block, parts.status.as_u16());
        for (name, value) in &parts.headers {
            if !is_hop_by_hop(name.as_str()) {
                hpack::write_field(&mut block, name.as_str().as_bytes(), value.as_bytes().trim_ascii());
            }
        }
        if !parts.headers.contains_key(http::header::DATE) {
            hpack::write_field(&mut block, b"date", self.worker.date.now().as_bytes());
        }
        (self.head, self.is_whole) = (block, ends);
    }

    /// Sends the head, if it waits, and as much of `bytes` as the client has room for.
    pub(super) fn send(&mut self, bytes: &[u8], ends: bool) -> Result<(), Left> {
        let mut session = self.session.borrow_mut();
        self.head_leaves |= !self.head.is_empty();
        self.send_head(&mut session);
        if self.is_whole {
            return Ok(());
        }
        if session.is_gone(self.id) {
            return Err(Left);
        }
        let waits = self.head_leaves || !self.unsent.is_empty();
        let taken = if waits { 0 } else { session.send_data(self.id, bytes, ends) };
        if waits || taken < bytes.len() {
            self.unsent.extend_from_slice(&bytes[taken..]);
            self.ends |= ends;
        }
        Ok(())
    }

    /// Sends the head if it is to leave and there is room for it. How many bytes that were.
    fn send_head(&mut self, session: &mut Session) -> usize {
        if !self.head_leaves || !session.send_headers(self.id, &self.head, self.is_whole) {
            return 0;
        }
        self.head_leaves = false;
        let bytes = self.head.len();
        self.worker.buffers.put(std::mem::take(&mut self.head));
        bytes
    }

    /// Sends what waits, in its order, as far as there is room for it. How many bytes that were.
    fn send_waiting(&mut self, session: &mut Session) -> usize {
        let mut bytes = self.send_head(session);
        if self.head_leaves {
            return bytes;
        }
        let ends = self.ends && self.trailers.is_empty();
        if ends || !self.unsent.is_empty() {
            let taken = session.send_data(self.id, &self.unsent, ends);
            self.unsent.drain(..taken);
            bytes += taken;
        }
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            self.ends = self.ends && !ends && !session.send_headers(self.id, &self.trailers, true);
        }
        bytes
    }

    fn waits(&self) -> bool {
        self.head_leaves || !self.unsent.is_empty() || self.ends
    }

    fn end(&mut self) {
        self.ends = true;
        let mut session = self.session.borrow_mut();
        self.send_waiting(&mut session);
    }

    /// Ends the body with these fields.
    pub(super) fn end_with(&mut self, trailers: &HeaderMap) {
        for (name, value) in trailers {
            self.add_trailer(name.as_str(), value.as_bytes());
        }
        self.end();
    }

    fn add_trailer(&mut self, name: &str, value: &[u8]) {
        if trailers::may_follow(name) {
            hpack::write_field(&mut self.trailers, name.as_bytes(), value.trim_ascii());
        }
    }
}

impl Recipient for StreamSide<'_> {
    const TAKES_CHUNKS: bool = false;

    fn poll_left(&mut self, cx: &mut Context<'_>, _scratch: &mut [u8]) -> Poll<Left> {
        self.session.borrow_mut().poll_left(self.id, cx)
    }

    fn poll_deadline(&mut self, _cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.session.borrow_mut().poll_deadline(self.id, deadline)
    }

    fn head(&mut self, head: &ResponseHead<'_, '_>, ends: bool) {
        let mut block = self.worker.buffers.take();
        hpack::write_status(&mut block, head.status);
        for (name, value) in head.fields() {
            hpack::write_field(&mut block, name.as_bytes(), value.trim_ascii());
        }
        if !head.has_date {
            hpack::write_field(&mut block, b"date", self.worker.date.now().as_bytes());
        }
        hpack::write_field(&mut block, b"via", b"1.1 berth");
        (self.head, self.is_whole) = (block, ends);
    }

    fn take_back_head(&mut self) -> bool {
        (self.is_whole, self.head_leaves) = (false, false);
        !std::mem::take(&mut self.head).is_empty()
    }

    fn pass(&mut self, _cx: &mut Context<'_>, bytes: &[u8], ends: bool) -> Result<(), Left> {
        self.send(bytes, ends)
    }

    fn pass_unbounded(&mut self, _cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Left> {
        self.send(bytes, false)
    }

    fn end_unbounded(&mut self) {
        self.end();
    }

    fn end_unchunked(&mut self, trailers: &[u8]) {
        trailers::each(trailers, |name, value| self.add_trailer(name, value));
        self.end();
    }

    fn push(&mut self, _cx: &mut Context<'_>) -> Result<(), Left> {
        // The connection's task sends what waits.
        Ok(())
    }

    fn waiting_bytes(&self) -> usize {
        self.head.len() + self.unsent.len() + self.trailers.len()
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>> {
        if !self.waits() {
            return Poll::Ready(Ok(()));
        }
        let mut session = self.session.borrow_mut();
        let taken = self.send_waiting(&mut session);
        if taken > 0 {
            let least = self.worker.shared.bounds.client_pace;
            if self.pace.moved(taken as u64, Instant::now(), least).is_err() {
                return Poll::Ready(Err(ErrorCode::H28));
            }
        }
        if !self.waits() {
            return Poll::Ready(Ok(()));
        }
        if session.poll_left(self.id, cx).is_ready() {
            return Poll::Ready(Err(ErrorCode::H27));
        }
        // Heads and trailers stand in line already.
        if !self.head_leaves && !self.unsent.is_empty() {
            session.stand_in_line(self.id);
        }
        let since = self.pace.wait(Instant::now());
        ready!(session.poll_deadline(self.id, since + idle));
        Poll::Ready(Err(ErrorCode::H28))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, _idle: Duration) -> Poll<Result<(), ErrorCode>> {
        // The connection's task sends what waits.
        Poll::Ready(Ok(()))
    }
}
