//! One stream of a connection: a request that is under way. Pure but for the wakers.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::BytesMut;
use tokio::time::Instant;

use super::frame::{MAX_31_BITS, PAYLOAD_BYTES_MAX};
use super::header_list::HeaderList;

/// Lives as long as its request is worked on, also where the client has taken that back: so many streams are so much
/// work, whatever the frames say.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) head: HeaderList,
    /// Reset by either side: nothing is sent any more.
    pub(super) gone: bool,
    /// The client has sent everything.
    pub(super) received_all: bool,
    /// So has the router.
    pub(super) sent_all: bool,
    /// What the client sent and nobody has taken.
    pub(super) inbound: VecDeque<BytesMut>,
    pub(super) trailers: Option<HeaderList>,
    content_length: Option<u64>,
    received: u64,
    /// What the client may still send, and what it is not told yet that it may.
    pub(super) receive_window: i64,
    pub(super) unannounced: u32,
    /// What the router may send; a change of settings can make it negative.
    pub(super) send_window: i64,
    /// Of the request's exchange, while that waits.
    pub(super) waker: Option<Waker>,
    /// Of whoever sends the body on.
    pub(super) body_waker: Option<Waker>,
    /// When the exchange wants to be woken anyway.
    pub(super) deadline: Option<Instant>,
    /// It stands in the line of those who wait to send.
    pub(super) in_line: bool,
    /// At which call of that line it sent something last.
    pub(super) served_at: u64,
}

/// The body is not as long as the head said (RFC 9113, 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongLength;

/// The window has become larger than one can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

impl Stream {
    pub(super) fn new(
        id: u32,
        head: HeaderList,
        content_length: Option<u64>,
        receive_window: u32,
        send_window: i64,
    ) -> Self {
        Self {
            id,
            head,
            gone: false,
            received_all: false,
            sent_all: false,
            inbound: VecDeque::new(),
            trailers: None,
            content_length,
            received: 0,
            receive_window: i64::from(receive_window),
            unannounced: 0,
            send_window,
            waker: None,
            body_waker: None,
            deadline: None,
            in_line: false,
            served_at: 0,
        }
    }

    /// Takes the next piece of the body, and its end.
    ///
    /// # Errors
    /// It is not as long as was said; then it is not kept.
    pub(super) fn receive(&mut self, data: &[u8], end: bool) -> Result<(), WrongLength> {
        self.received += data.len() as u64;
        self.received_all = end;
        if let Some(length) = self.content_length
            && (self.received > length || (end && self.received < length))
        {
            return Err(WrongLength);
        }
        match self.inbound.back_mut() {
            _ if data.is_empty() => {}
            // Single bytes would each hold many times what the window says.
            Some(last) if last.len() + data.len() <= PAYLOAD_BYTES_MAX => last.extend_from_slice(data),
            Some(_) | None => self.inbound.push_back(BytesMut::from(data)),
        }
        Ok(())
    }

    /// How much of the body has not been taken, if the client has said that.
    pub(super) fn bytes_left(&self) -> Option<u64> {
        let waiting: u64 = self.inbound.iter().map(|piece| piece.len() as u64).sum();
        match self.content_length {
            _ if self.received_all => Some(waiting),
            length => length.map(|length| length.saturating_sub(self.received) + waiting),
        }
    }

    pub(super) fn grow_send_window(&mut self, by: i64) -> Result<(), Overflow> {
        self.send_window += by;
        if self.send_window > i64::from(MAX_31_BITS) { Err(Overflow) } else { Ok(()) }
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.waker.take(), self.body_waker.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}
