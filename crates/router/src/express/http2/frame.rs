//! Frames of HTTP/2 as they stand on the wire (RFC 9113, 4 and 6). Pure.

pub(super) const HEADER_BYTES: usize = 9;

/// Where in the header the kind stands.
pub(super) const KIND_AT: usize = 3;

/// What both sides may rely on without asking, and all that the router takes or sends.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16_384;

pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The highest stream, and the largest window.
pub(super) const MAX_31_BITS: u32 = 0x7fff_ffff;

pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 1;
    pub(in super::super) const END_STREAM: u8 = 1;
    pub(in super::super) const END_HEADERS: u8 = 4;
    pub(in super::super) const PADDED: u8 = 8;
    pub(in super::super) const PRIORITY: u8 = 32;
}

pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    NoError = 0,
    ProtocolError = 1,
    InternalError = 2,
    FlowControlError = 3,
    StreamClosed = 5,
    FrameSizeError = 6,
    RefusedStream = 7,
    Cancel = 8,
    CompressionError = 9,
    EnhanceYourCalm = 11,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Connection(Reason),
    Stream(u32, Reason),
}

const PROTOCOL: Fault = Fault::Connection(Reason::ProtocolError);
const SIZE: Fault = Fault::Connection(Reason::FrameSizeError);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// `flow_bytes` is what counts against the windows: the padding, too.
    Data {
        stream: u32,
        data: &'a [u8],
        flow_bytes: u32,
        end: bool,
    },
    Headers {
        stream: u32,
        block: &'a [u8],
        end: bool,
        whole: bool,
    },
    Continuation {
        stream: u32,
        block: &'a [u8],
        whole: bool,
    },
    Reset {
        stream: u32,
    },
    /// Six bytes each.
    Settings(&'a [u8]),
    Ping([u8; 8]),
    PingAck([u8; 8]),
    GoAway,
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    /// Nothing that the router does anything about: priorities, acknowledged settings, kinds that it does not know.
    Other,
}

impl FrameHead {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [high, middle, low, kind, flags, s0, s1, s2, s3] = *bytes;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        Self { length, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31_BITS }
    }

    const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Makes a frame of its header and payload.
///
/// # Errors
/// What RFC 9113 says follows from one that cannot be.
pub(super) fn parse(head: FrameHead, payload: &[u8]) -> Result<Frame<'_>, Fault> {
    let FrameHead { kind, stream, .. } = head;
    let of_stream = match kind {
        kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => Some(true),
        kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
        _ => None,
    };
    if of_stream.is_some_and(|of_stream| of_stream != (stream != 0)) {
        return Err(PROTOCOL);
    }
    Ok(match kind {
        kind::DATA => {
            let flow_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            Frame::Data { stream, data: unpadded(head, payload)?, flow_bytes, end: head.has(flag::END_STREAM) }
        }
        kind::HEADERS => {
            let mut block = unpadded(head, payload)?;
            if head.has(flag::PRIORITY) {
                block = block.get(5..).ok_or(SIZE)?;
            }
            Frame::Headers { stream, block, end: head.has(flag::END_STREAM), whole: head.has(flag::END_HEADERS) }
        }
        kind::CONTINUATION => Frame::Continuation { stream, block: payload, whole: head.has(flag::END_HEADERS) },
        kind::PRIORITY if payload.len() != 5 => return Err(Fault::Stream(stream, Reason::FrameSizeError)),
        kind::RST_STREAM if payload.len() != 4 => return Err(SIZE),
        kind::RST_STREAM => Frame::Reset { stream },
        kind::SETTINGS if head.has(flag::ACK) && !payload.is_empty() => return Err(SIZE),
        kind::SETTINGS if head.has(flag::ACK) => Frame::Other,
        kind::SETTINGS if !payload.len().is_multiple_of(6) => return Err(SIZE),
        kind::SETTINGS => Frame::Settings(payload),
        kind::PUSH_PROMISE => return Err(PROTOCOL),
        kind::PING => {
            let opaque = <[u8; 8]>::try_from(payload).ok().ok_or(SIZE)?;
            if head.has(flag::ACK) { Frame::PingAck(opaque) } else { Frame::Ping(opaque) }
        }
        kind::GOAWAY if payload.len() < 8 => return Err(SIZE),
        kind::GOAWAY => Frame::GoAway,
        kind::WINDOW_UPDATE => {
            let increment = <[u8; 4]>::try_from(payload).ok().ok_or(SIZE)?;
            match u32::from_be_bytes(increment) & MAX_31_BITS {
                0 if stream == 0 => return Err(PROTOCOL),
                0 => return Err(Fault::Stream(stream, Reason::ProtocolError)),
                increment => Frame::WindowUpdate { stream, increment },
            }
        }
        _priority_or_unknown => Frame::Other,
    })
}

fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(SIZE)?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(PROTOCOL)?;
    Ok(&rest[..length])
}

/// The pairs of a `SETTINGS` frame.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).map(|pair| {
        let (name, value) = (u16::from_be_bytes([pair[0], pair[1]]), &pair[2..]);
        (name, u32::from_be_bytes([value[0], value[1], value[2], value[3]]))
    })
}

/// Writes a frame's header.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags, s0, s1, s2, s3]);
}

pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

pub(super) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn write_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    write(out, kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

pub(super) fn write_go_away(out: &mut Vec<u8>, last_stream: u32, reason: Reason) {
    head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(reason as u32).to_be_bytes());
}

pub(super) fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    write(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// Writes a header block as one frame, or as several if it is long.
pub(super) fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: bool) {
    let end = if end { flag::END_STREAM } else { 0 };
    let (first, mut rest) = block.split_at(block.len().min(PAYLOAD_BYTES_MAX));
    let whole = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
    write(out, kind::HEADERS, end | whole(rest), stream, first);
    while !rest.is_empty() {
        let (next, behind) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
        write(out, kind::CONTINUATION, whole(behind), stream, next);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame<'_>, Fault> {
        parse(FrameHead { length: payload.len(), kind, flags, stream }, payload)
    }

    #[test]
    fn padding_and_priorities_are_taken_off() {
        let data = parsed(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x02abc\0\0");
        assert_eq!(data, Ok(Frame::Data { stream: 1, data: b"abc", flow_bytes: 6, end: true }));
        let flags = flag::PADDED | flag::PRIORITY | flag::END_HEADERS;
        let headers = parsed(kind::HEADERS, flags, 3, b"\x01\0\0\0\0\x10\x82\0");
        assert_eq!(headers, Ok(Frame::Headers { stream: 3, block: b"\x82", end: false, whole: true }));
        assert_eq!(
            parsed(kind::DATA, flag::PADDED, 1, b"\x00"),
            Ok(Frame::Data { stream: 1, data: b"", flow_bytes: 1, end: false })
        );
    }

    #[test]
    fn frames_that_cannot_be_are_faults() {
        let check = |kind, flags, stream, payload: &[u8], fault| {
            assert_eq!(parsed(kind, flags, stream, payload), Err(fault), "{kind} {flags} {stream} {payload:?}");
        };
        for kind in [kind::DATA, kind::HEADERS, kind::PRIORITY, kind::RST_STREAM, kind::CONTINUATION] {
            check(kind, 0, 0, b"12345", PROTOCOL);
        }
        for kind in [kind::SETTINGS, kind::PING, kind::GOAWAY] {
            check(kind, 0, 1, b"12345678", PROTOCOL);
        }
        check(kind::DATA, flag::PADDED, 1, b"", SIZE);
        check(kind::DATA, flag::PADDED, 1, b"\x04abc", PROTOCOL);
        check(kind::HEADERS, flag::PRIORITY, 1, b"abcd", SIZE);
        check(kind::PRIORITY, 0, 5, b"abcd", Fault::Stream(5, Reason::FrameSizeError));
        check(kind::RST_STREAM, 0, 1, b"abc", SIZE);
        check(kind::SETTINGS, flag::ACK, 0, b"123456", SIZE);
        check(kind::SETTINGS, 0, 0, b"12345", SIZE);
        check(kind::PUSH_PROMISE, 0, 1, b"1234", PROTOCOL);
        check(kind::PING, 0, 0, b"1234567", SIZE);
        check(kind::GOAWAY, 0, 0, b"1234567", SIZE);
        check(kind::WINDOW_UPDATE, 0, 1, b"123", SIZE);
        check(kind::WINDOW_UPDATE, 0, 0, b"\0\0\0\0", PROTOCOL);
        check(kind::WINDOW_UPDATE, 0, 7, b"\x80\0\0\0", Fault::Stream(7, Reason::ProtocolError));
    }

    #[test]
    fn a_long_header_block_is_continued() {
        let mut out = Vec::new();
        write_headers(&mut out, 1, &vec![7; PAYLOAD_BYTES_MAX * 2 + 1], true);
        let (mut at, mut frames) = (0, Vec::new());
        while at < out.len() {
            let head = FrameHead::parse(out[at..at + HEADER_BYTES].try_into().unwrap());
            frames.push((head.kind, head.flags, head.length));
            at += HEADER_BYTES + head.length;
        }
        let expect = [
            (kind::HEADERS, flag::END_STREAM, PAYLOAD_BYTES_MAX),
            (kind::CONTINUATION, 0, PAYLOAD_BYTES_MAX),
            (kind::CONTINUATION, flag::END_HEADERS, 1),
        ];
        assert_eq!(frames, expect);
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(kind: u8, flags: u8, stream: u32, payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            parsed(kind, flags, stream & MAX_31_BITS, &payload).map(|_frame| ()).unwrap_or_default();
        }
    }
}
