//! One HTTP/2 connection without its socket: the client's bytes in, bytes for the client out. Pure but for the wakers.
//!
//! What RFC 9113 says about frames, streams and windows is here and nowhere else. Requests that have begun are handed
//! out by [`Session::next_opened`]; whoever works on one asks here for its body and gives its answer here. One state
//! machine, and therefore one file.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::allowance::{Allowances, Flood};
use super::frame::{
    self, Fault, Frame, FrameHead, HEADER_BYTES, KIND_AT, MAX_31_BITS, PAYLOAD_BYTES_MAX, PREFACE, Reason, flag, kind,
    setting,
};
use super::header_list::HeaderList;
use super::hpack::{self, Decoder};
use super::outbound::{self, Outbound};
use super::request;
use super::stream::Stream;
use crate::express::recipient::Left;

/// What every window begins with (RFC 9113, 6.9.2).
const WINDOW_BYTES: u32 = 65_535;

/// Streams that the router has ended before their clients had: what still comes for them is no fault.
const FORGOTTEN_MAX: usize = 256;

/// Marks the pings of [`Session::announce_end`].
const END_PING: [u8; 8] = *b"the end.";

#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) streams_max: u32,
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    pub(super) header_bytes_max: usize,
}

#[derive(Debug)]
pub(super) struct Session {
    rules: Rules,
    /// For the client.
    out: Outbound,
    /// A frame that has not come whole.
    partial: Vec<u8>,
    greeted: bool,
    has_settings: bool,
    allowances: Allowances,
    decoder: Decoder,
    /// A header block that has not come whole.
    block: Option<Block>,
    /// By number.
    streams: Vec<Stream>,
    last_stream: u32,
    forgotten: VecDeque<u32>,
    /// Requests that nobody works on yet.
    opened: VecDeque<u32>,
    receive_window: i64,
    unannounced: u32,
    send_window: i64,
    /// Of a stream that begins.
    stream_send_window: i64,
    /// The client has changed the size of the table that it keeps for the router's headers.
    table_changed: bool,
    /// Streams that have something to send and no room for it, in the order in which they get some: those with a head,
    /// which needs no window, then those that got nothing when they were called last, then those that did.
    line_of_heads: VecDeque<u32>,
    line: VecDeque<u32>,
    line_of_served: VecDeque<u32>,
    /// How often they were called.
    calls: u64,
    /// When a stream wants to be woken, or before.
    pub(super) deadline: Option<Instant>,
    end: End,
    /// Of the connection's task.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
}

/// How far the end of the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Open,
    /// The client knows that it will end, but not after which request.
    Announced,
    /// No more requests.
    Last,
    /// Nothing more at all.
    Over,
}

/// Why a frame was not taken.
enum Stop {
    /// It concerns its stream only.
    Stream(u32, Reason),
    Connection(Reason),
    Flood(Flood),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Connection(reason) => Self::Connection(reason),
            Fault::Stream(stream, reason) => Self::Stream(stream, reason),
        }
    }
}

impl From<Flood> for Stop {
    fn from(flood: Flood) -> Self {
        Self::Flood(flood)
    }
}

const PROTOCOL: Stop = Stop::Connection(Reason::ProtocolError);
const CLOSED: Stop = Stop::Connection(Reason::StreamClosed);
const FLOW: Stop = Stop::Connection(Reason::FlowControlError);

/// What a client sends after a request's head.
#[derive(Debug)]
pub(super) enum Inbound {
    Data(Bytes),
    Trailers(HeaderList),
}

impl Session {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        let mut out = Outbound::default();
        let header_bytes_max = u32::try_from(rules.header_bytes_max).unwrap_or(u32::MAX);
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, rules.streams_max),
            (setting::INITIAL_WINDOW_SIZE, rules.stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, header_bytes_max),
        ];
        frame::write_settings(out.end(), &settings);
        let more = rules.connection_window_bytes.saturating_sub(WINDOW_BYTES);
        if more > 0 {
            frame::write_window_update(out.end(), 0, more);
        }
        Self {
            rules,
            out,
            partial: Vec::new(),
            greeted: false,
            has_settings: false,
            allowances: Allowances::new(now),
            decoder: Decoder::new(),
            block: None,
            streams: Vec::new(),
            last_stream: 0,
            forgotten: VecDeque::new(),
            opened: VecDeque::new(),
            receive_window: i64::from(WINDOW_BYTES + more),
            unannounced: 0,
            send_window: i64::from(WINDOW_BYTES),
            stream_send_window: i64::from(WINDOW_BYTES),
            table_changed: false,
            line_of_heads: VecDeque::new(),
            line: VecDeque::new(),
            line_of_served: VecDeque::new(),
            calls: 1,
            deadline: None,
            end: End::Open,
            waker: None,
        }
    }

    // What comes.

    /// Takes the next bytes of the client. If they end the connection, the client is told.
    ///
    /// # Errors
    /// There was too much of something.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Flood> {
        if self.end == End::Over {
            return Ok(());
        }
        let taken = if self.partial.is_empty() {
            let taken = self.take_frames(bytes, now);
            if let Ok(count) = taken {
                self.partial.extend_from_slice(&bytes[count..]);
            }
            taken
        } else {
            let mut held = std::mem::take(&mut self.partial);
            held.extend_from_slice(bytes);
            let taken = self.take_frames(&held, now);
            if let Ok(count) = taken
                && count < held.len()
            {
                held.drain(..count);
                self.partial = held;
            }
            taken
        };
        let (reason, result) = match taken {
            Ok(_count) => return Ok(()),
            Err(Stop::Stream(_, reason) | Stop::Connection(reason)) => (reason, Ok(())),
            Err(Stop::Flood(flood)) => (Reason::EnhanceYourCalm, Err(flood)),
        };
        self.end_with(reason);
        result
    }

    /// Whether some of a head has come and the rest has not: of the beginning of the connection, of a request, or of any
    /// frame that is no piece of a body.
    pub(super) fn is_mid_head(&self) -> bool {
        let mid_frame = !self.partial.is_empty() && self.partial.get(KIND_AT) != Some(&kind::DATA);
        self.block.is_some() || !self.has_settings || mid_frame
    }

    /// Takes whole frames and says how many bytes they had.
    fn take_frames(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Stop> {
        let mut at = 0;
        if !self.greeted {
            let count = bytes.len().min(PREFACE.len());
            if bytes[..count] != PREFACE[..count] {
                return Err(PROTOCOL);
            }
            if count < PREFACE.len() {
                return Ok(0);
            }
            self.greeted = true;
            at = count;
        }
        while let Some(header) = bytes[at..].first_chunk::<HEADER_BYTES>() {
            let head = FrameHead::parse(header);
            if head.length > PAYLOAD_BYTES_MAX {
                return Err(Stop::Connection(Reason::FrameSizeError));
            }
            let begin = at + HEADER_BYTES;
            let Some(payload) = bytes.get(begin..begin + head.length) else { break };
            at = begin + head.length;
            match self.take_frame(head, payload, now) {
                Err(Stop::Stream(stream, reason)) => {
                    // A client that makes the router reset its streams takes requests back like any other.
                    self.allowances.take_provoked_reset(now)?;
                    self.reset(stream, reason);
                }
                taken => taken?,
            }
        }
        Ok(at)
    }

    fn take_frame(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Stop> {
        // RFC 9113, 3.4: settings are first. 6.10: nothing comes between the pieces of a header block.
        let begins = self.has_settings || (head.kind == kind::SETTINGS && head.flags & flag::ACK == 0);
        let continues = head.kind == kind::CONTINUATION;
        let in_order = match &self.block {
            Some(block) => continues && block.stream == head.stream,
            None => !continues,
        };
        if !begins || !in_order {
            return Err(PROTOCOL);
        }
        let frame = frame::parse(head, payload)?;
        self.allowances.take(head, &frame, now)?;
        match frame {
            Frame::Data { stream, data, flow_bytes, end } => self.data(stream, data, flow_bytes, end, now),
            Frame::Headers { stream, block, end, whole: true } => self.headers(stream, block, end, now),
            Frame::Headers { stream, block, end, whole: false } => {
                self.block = Some(Block { stream, end, bytes: block.to_vec() });
                Ok(())
            }
            Frame::Continuation { block: bytes, whole, .. } => self.continuation(bytes, whole, now),
            Frame::Reset { stream } if stream > self.last_stream => Err(PROTOCOL),
            Frame::Reset { stream } => {
                self.abandon(stream);
                Ok(())
            }
            Frame::Settings(payload) => self.settings(payload),
            Frame::Ping(opaque) => {
                frame::write(self.out.end(), kind::PING, flag::ACK, 0, &opaque);
                Ok(())
            }
            Frame::PingAck(END_PING) if self.end == End::Announced => {
                self.end_with_last();
                Ok(())
            }
            Frame::GoAway => {
                self.end_with_last();
                Ok(())
            }
            Frame::WindowUpdate { stream: 0, increment } => {
                self.send_window += i64::from(increment);
                if self.send_window > i64::from(MAX_31_BITS) {
                    return Err(FLOW);
                }
                self.call_line();
                Ok(())
            }
            Frame::WindowUpdate { stream, .. } if stream > self.last_stream => Err(PROTOCOL),
            Frame::WindowUpdate { stream: id, increment } => {
                let Some(stream) = self.stream(id) else { return Ok(()) };
                if stream.grow_send_window(i64::from(increment)).is_err() {
                    return Err(Stop::Stream(id, Reason::FlowControlError));
                }
                if let Some(waker) = stream.waker.take() {
                    waker.wake();
                }
                Ok(())
            }
            Frame::PingAck(_) | Frame::Other => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Stop> {
        self.has_settings = true;
        for (name, value) in frame::settings(payload) {
            match name {
                setting::HEADER_TABLE_SIZE => self.table_changed = true,
                setting::ENABLE_PUSH if value > 1 => return Err(PROTOCOL),
                setting::INITIAL_WINDOW_SIZE => {
                    if value > MAX_31_BITS {
                        return Err(FLOW);
                    }
                    let grown = i64::from(value) - self.stream_send_window;
                    self.stream_send_window = i64::from(value);
                    for stream in &mut self.streams {
                        stream.grow_send_window(grown).map_err(|_overflow| FLOW)?;
                    }
                    self.call_line();
                }
                // The router sends none that is larger than the least that a client may allow.
                setting::MAX_FRAME_SIZE if !(PAYLOAD_BYTES_MAX..1 << 24).contains(&(value as usize)) => {
                    return Err(PROTOCOL);
                }
                _ => {}
            }
        }
        frame::write(self.out.end(), kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn continuation(&mut self, bytes: &[u8], whole: bool, now: Instant) -> Result<(), Stop> {
        let Some(mut block) = self.block.take() else { return Err(PROTOCOL) };
        if block.bytes.len() + bytes.len() > self.rules.header_bytes_max {
            return Err(Stop::Connection(Reason::EnhanceYourCalm));
        }
        block.bytes.extend_from_slice(bytes);
        if whole {
            return self.headers(block.stream, &block.bytes, block.end, now);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole header block: a request, or what follows its body.
    fn headers(&mut self, id: u32, block: &[u8], end: bool, now: Instant) -> Result<(), Stop> {
        let mut list = HeaderList::with_room();
        // Also where nobody wants it: the table must stay the same on both sides.
        let decoded = self.decoder.decode(block, &mut list, self.rules.header_bytes_max);
        decoded.map_err(|_fault| Stop::Connection(Reason::CompressionError))?;
        let malformed = Stop::Stream(id, Reason::ProtocolError);
        if let Some(stream) = self.stream(id) {
            if stream.gone {
                return Ok(());
            }
            if stream.received_all {
                return Err(CLOSED);
            }
            if !end || !request::is_trailer(&list) || stream.receive(&[], true).is_err() {
                return Err(malformed);
            }
            stream.trailers = Some(list);
            if let Some(waker) = stream.body_waker.take() {
                waker.wake();
            }
            return Ok(());
        }
        if id <= self.last_stream {
            return self.stray(id, now);
        }
        if id.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        self.last_stream = id;
        if self.end >= End::Last || self.streams.len() >= self.rules.streams_max as usize {
            self.allowances.take_stray(now)?;
            frame::write_reset(self.out.end(), id, Reason::RefusedStream);
            self.forget(id);
            return Ok(());
        }
        let Ok(content_length) = request::check(&list) else { return Err(malformed) };
        let window = self.rules.stream_window_bytes;
        let mut stream = Stream::new(id, list, content_length, window, self.stream_send_window);
        if end && stream.receive(&[], true).is_err() {
            return Err(malformed);
        }
        self.streams.push(stream);
        self.opened.push_back(id);
        Ok(())
    }

    fn data(&mut self, id: u32, data: &[u8], flow_bytes: u32, end: bool, now: Instant) -> Result<(), Stop> {
        self.receive_window -= i64::from(flow_bytes);
        if self.receive_window < 0 {
            return Err(FLOW);
        }
        let Some(stream) = self.stream(id) else {
            self.release_connection(flow_bytes);
            return if id > self.last_stream { Err(PROTOCOL) } else { self.stray(id, now) };
        };
        if stream.gone {
            self.release_connection(flow_bytes);
            return Ok(());
        }
        if stream.received_all {
            return Err(CLOSED);
        }
        stream.receive_window -= i64::from(flow_bytes);
        let fault = if stream.receive_window < 0 {
            Some(Reason::FlowControlError)
        } else {
            stream.receive(data, end).err().map(|_wrong_length| Reason::ProtocolError)
        };
        if let Some(waker) = stream.body_waker.take() {
            waker.wake();
        }
        if let Some(reason) = fault {
            self.release_connection(flow_bytes);
            return Err(Stop::Stream(id, reason));
        }
        // Padding is nobody's.
        self.release(id, flow_bytes - u32::try_from(data.len()).unwrap_or(flow_bytes));
        Ok(())
    }

    /// A frame for a stream that is over.
    fn stray(&mut self, id: u32, now: Instant) -> Result<(), Stop> {
        if !self.forgotten.contains(&id) {
            return Err(CLOSED);
        }
        Ok(self.allowances.take_stray(now)?)
    }

    // Streams.

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let index = self.streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.streams.get_mut(index)
    }

    fn forget(&mut self, id: u32) {
        if self.forgotten.len() == FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(id);
    }

    /// Nothing goes either way on this stream any more.
    fn abandon(&mut self, id: u32) {
        let Some(stream) = self.stream(id).filter(|stream| !stream.gone) else { return };
        stream.gone = true;
        stream.wake();
        let unread: usize = stream.inbound.drain(..).map(|piece| piece.len()).sum();
        self.release_connection(u32::try_from(unread).unwrap_or(0));
    }

    /// Ends a stream before its time.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        let (gone, open) = self.stream(id).map_or((false, true), |stream| (stream.gone, !stream.received_all));
        if gone {
            return;
        }
        frame::write_reset(self.out.end(), id, reason);
        if open && !self.forgotten.contains(&id) {
            self.forget(id);
        }
        self.abandon(id);
    }

    /// The request of this stream is done with.
    pub(super) fn finish(&mut self, id: u32) {
        let Some(stream) = self.stream(id) else { return };
        match (stream.gone, stream.sent_all, stream.received_all) {
            (true, _, _) | (false, true, true) => {}
            (false, false, _) => self.reset(id, Reason::InternalError),
            // RFC 9113, 8.1: the answer is whole, and the rest of the request not needed.
            (false, true, false) => self.reset(id, Reason::NoError),
        }
        self.abandon(id);
        self.streams.retain(|stream| stream.id != id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A request that nobody works on yet. Whoever takes it calls [`Session::finish`] in the end.
    pub(super) fn next_opened(&mut self) -> Option<u32> {
        while let Some(id) = self.opened.pop_front() {
            if !self.is_gone(id) {
                return Some(id);
            }
            // Taken back before anybody saw it.
            self.finish(id);
        }
        None
    }

    // A request, for whoever works on it.

    pub(super) fn take_head(&mut self, id: u32) -> HeaderList {
        self.stream(id).map(|stream| std::mem::take(&mut stream.head)).unwrap_or_default()
    }

    /// The whole body, if it is all there, has no trailers, and is not longer than `bytes_max`.
    pub(super) fn whole_body(&mut self, id: u32, bytes_max: usize) -> Option<Vec<u8>> {
        let stream = self.stream(id)?;
        let bytes: usize = stream.inbound.iter().map(|piece| piece.len()).sum();
        if stream.gone || !stream.received_all || stream.trailers.is_some() || bytes > bytes_max {
            return None;
        }
        Some(stream.inbound.iter().fold(Vec::new(), |mut body, piece| {
            body.extend_from_slice(piece);
            body
        }))
    }

    /// Takes all of the body that is there.
    pub(super) fn discard_body(&mut self, id: u32) {
        let Some(stream) = self.stream(id) else { return };
        let bytes: usize = stream.inbound.drain(..).map(|piece| piece.len()).sum();
        self.release(id, u32::try_from(bytes).unwrap_or(0));
    }

    pub(super) fn is_gone(&mut self, id: u32) -> bool {
        self.stream(id).is_none_or(|stream| stream.gone)
    }

    /// What comes next of the body. `None` is its end.
    pub(super) fn poll_body(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Inbound, Left>>> {
        let Some(stream) = self.stream(id).filter(|stream| !stream.gone) else {
            return Poll::Ready(Some(Err(Left)));
        };
        if let Some(data) = stream.inbound.pop_front() {
            self.release(id, u32::try_from(data.len()).unwrap_or(0));
            // Whoever takes it is not always the connection's task.
            if self.has_unsent()
                && let Some(waker) = &self.waker
            {
                waker.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Inbound::Data(data.freeze()))));
        }
        if stream.received_all {
            return Poll::Ready(stream.trailers.take().map(|trailers| Ok(Inbound::Trailers(trailers))));
        }
        stream.body_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How long the rest of the body is, if the client has said that.
    pub(super) fn body_bytes_left(&mut self, id: u32) -> Option<u64> {
        self.stream(id).and_then(|stream| stream.bytes_left())
    }

    pub(super) fn is_body_taken(&mut self, id: u32) -> bool {
        self.stream(id).is_some_and(|stream| {
            !stream.gone && stream.received_all && stream.inbound.is_empty() && stream.trailers.is_none()
        })
    }

    /// Ready once the stream was reset.
    pub(super) fn poll_left(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Left> {
        let Some(stream) = self.stream(id).filter(|stream| !stream.gone) else { return Poll::Ready(Left) };
        if !stream.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            stream.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready once `deadline` has passed; the stream must be waiting by [`Session::poll_left`] as well.
    pub(super) fn poll_deadline(&mut self, id: u32, deadline: Instant) -> Poll<()> {
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        if let Some(stream) = self.stream(id) {
            stream.deadline = Some(deadline);
            self.deadline = Some(self.deadline.map_or(deadline, |next| next.min(deadline)));
        }
        Poll::Pending
    }

    /// Wakes the streams whose time has come.
    pub(super) fn wake_due(&mut self, now: Instant) {
        let mut next = None;
        for stream in &mut self.streams {
            match stream.deadline {
                Some(deadline) if deadline <= now => {
                    stream.deadline = None;
                    stream.wake();
                }
                Some(deadline) => next = Some(next.map_or(deadline, |next: Instant| next.min(deadline))),
                None => {}
            }
        }
        self.deadline = next;
    }

    // What goes.

    /// Sends a header block, of an answer's head or of trailers. `false` if it must wait until the client has taken what
    /// waits already: the stream stands in line for that, and must be waiting by [`Session::poll_left`] as well.
    pub(super) fn send_headers(&mut self, id: u32, block: &[u8], end: bool) -> bool {
        if self.is_gone(id) {
            return true;
        }
        if self.out.room() == 0 || !self.line_of_heads.is_empty() {
            if !self.line_of_heads.contains(&id) {
                self.line_of_heads.push_back(id);
            }
            return false;
        }
        if let Some(stream) = self.stream(id) {
            stream.sent_all |= end;
        }
        if std::mem::take(&mut self.table_changed) {
            let mut longer = Vec::with_capacity(block.len() + 1);
            hpack::write_empty_table(&mut longer);
            longer.extend_from_slice(block);
            frame::write_headers(self.out.end(), id, &longer, end);
        } else {
            frame::write_headers(self.out.end(), id, block, end);
        }
        true
    }

    /// Sends as much of `data` as the client takes, and says how much that is.
    pub(super) fn send_data(&mut self, id: u32, data: &[u8], end: bool) -> usize {
        let room = i64::try_from(self.out.room()).unwrap_or(0).min(self.send_window);
        let calls = self.calls;
        let Some(stream) = self.stream(id).filter(|stream| !stream.gone) else { return 0 };
        let room = usize::try_from(room.min(stream.send_window)).unwrap_or(0);
        let taken = room.min(data.len());
        let ends = end && taken == data.len();
        if taken == 0 && !ends {
            return 0;
        }
        stream.send_window -= i64::try_from(taken).unwrap_or(0);
        stream.sent_all |= ends;
        stream.served_at = calls;
        self.send_window -= i64::try_from(taken).unwrap_or(0);
        let mut rest = &data[..taken];
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
            let flags = if ends && behind.is_empty() { flag::END_STREAM } else { 0 };
            frame::write(self.out.end(), kind::DATA, flags, id, piece);
            if behind.is_empty() {
                return taken;
            }
            rest = behind;
        }
    }

    /// Lets a stream be woken when there may be room for what it has to send.
    pub(super) fn stand_in_line(&mut self, id: u32) {
        let calls = self.calls;
        if let Some(stream) = self.stream(id)
            && !std::mem::replace(&mut stream.in_line, true)
        {
            // An answer that goes on and on would else have all the room there ever is.
            let was_served = stream.served_at == calls;
            let line = if was_served { &mut self.line_of_served } else { &mut self.line };
            line.push_back(id);
        }
    }

    fn call_line(&mut self) {
        self.calls += 1;
        let lines = [&mut self.line_of_heads, &mut self.line, &mut self.line_of_served].map(std::mem::take);
        for id in lines.into_iter().flatten() {
            if let Some(stream) = self.stream(id) {
                stream.in_line = false;
                if let Some(waker) = stream.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// What has been taken of a stream's body may be sent again.
    fn release(&mut self, id: u32, bytes: u32) {
        if bytes == 0 {
            return;
        }
        self.release_connection(bytes);
        let window = self.rules.stream_window_bytes;
        let Some(stream) = self.stream(id).filter(|stream| !stream.received_all) else { return };
        stream.unannounced += bytes;
        // Half at a time: an update for each frame would be as many frames again.
        if stream.unannounced >= window / 2 {
            let more = std::mem::take(&mut stream.unannounced);
            stream.receive_window += i64::from(more);
            frame::write_window_update(self.out.end(), id, more);
        }
    }

    fn release_connection(&mut self, bytes: u32) {
        self.unannounced += bytes;
        if self.unannounced >= self.rules.connection_window_bytes.max(WINDOW_BYTES) / 2 {
            let more = std::mem::take(&mut self.unannounced);
            self.receive_window += i64::from(more);
            frame::write_window_update(self.out.end(), 0, more);
        }
    }

    // The connection, for whoever has its socket.

    /// Keeps the waker of the connection's task.
    pub(super) fn set_waker(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// More waits for the socket than answers may: a client that asks on and on and reads nothing is not listened to until
    /// it has.
    pub(super) fn is_congested(&self) -> bool {
        self.out.len() > 2 * outbound::BYTES_MAX
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.out.unsent()
    }

    /// The socket has taken so many bytes.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.out.note_sent(bytes);
        // A connection that is idle holds no memory for what it once had to send.
        if self.streams.is_empty() {
            self.out.shrink();
        }
        let bodies = !self.line.is_empty() || !self.line_of_served.is_empty();
        let somebody = !self.line_of_heads.is_empty() || (bodies && self.send_window > 0);
        if self.out.len() <= outbound::BYTES_MAX / 2 && somebody {
            self.call_line();
        }
    }

    /// Nothing comes, goes, or is worked on any more.
    pub(super) fn is_done(&self) -> bool {
        self.end >= End::Last && self.streams.is_empty() && !self.has_unsent()
    }

    pub(super) const fn end(&self) -> End {
        self.end
    }

    /// Tells the client that no more requests are wanted, but takes what is on its way.
    pub(super) fn announce_end(&mut self) {
        if self.end == End::Open {
            self.end = End::Announced;
            frame::write_go_away(self.out.end(), MAX_31_BITS, Reason::NoError);
            frame::write(self.out.end(), kind::PING, 0, 0, &END_PING);
        }
    }

    /// Takes no more requests.
    pub(super) fn end_with_last(&mut self) {
        if self.end < End::Last {
            self.end = End::Last;
            frame::write_go_away(self.out.end(), self.last_stream, Reason::NoError);
        }
    }

    fn end_with(&mut self, reason: Reason) {
        frame::write_go_away(self.out.end(), self.last_stream, reason);
        self.break_off();
    }

    /// The connection is gone, and with it every request.
    pub(super) fn break_off(&mut self) {
        self.end = End::Over;
        // Nobody works on these, so nobody would be done with them.
        let opened = std::mem::take(&mut self.opened);
        self.streams.retain(|stream| !opened.contains(&stream.id));
        for stream in &mut self.streams {
            stream.gone = true;
            stream.inbound.clear();
            stream.wake();
        }
    }

    /// Asks whether the client is still there.
    pub(super) fn ping(&mut self) {
        frame::write(self.out.end(), kind::PING, 0, 0, b"there? \n");
    }
}

#[cfg(test)]
mod tests;
