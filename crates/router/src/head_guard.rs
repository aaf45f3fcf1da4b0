//! Watches the bytes of a client connection for what hyper accepts though two parsers may read it differently.
//!
//! hyper takes `Content-Length` beside `Transfer-Encoding` (dropping the former), lines that end in a bare line feed,
//! targets with a fragment (dropping it), and chunk sizes with space around them. To refuse them, the guard follows
//! the framing of the requests on the connection: head lines, bodies by length, chunks. It answers nothing. A fault in
//! a head: it says at which request, and that is refused when hyper has parsed it. A fault in a body: it says where,
//! and hyper gets no byte from there on. Faults that hyper finds itself are left to hyper. Pure.

/// Kept of each line: enough for the two header names and a length with some space around it.
const LINE_PREFIX_BYTES: usize = 64;

/// What came of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarded {
    Sound,
    Head(GuardFault),
    /// Only this many of the bytes belong to a sound body.
    Body {
        sound_bytes: usize,
    },
}

/// The first fault on a connection. Everything from that request on is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardFault {
    /// 0 for the first request of the connection.
    pub(crate) request: u64,
    pub(crate) cause: &'static str,
}

#[derive(Debug)]
pub(crate) struct HeadGuard {
    state: State,
    /// Requests whose heads are complete.
    requests: u64,
    line: Line,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The head of a request, and the empty lines that may come before it.
    Head,
    /// Bytes of a body, or of a chunk with the line end behind it.
    Body {
        left: u64,
        then: Then,
    },
    ChunkSize,
    Trailers,
    /// After a fault of either kind there is nothing more to follow.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Head,
    ChunkSize,
}

/// The line that is being read.
#[derive(Debug)]
struct Line {
    prefix: [u8; LINE_PREFIX_BYTES],
    /// May be more than the prefix holds.
    bytes: usize,
    last: u8,
    has_number_sign: bool,
    /// Something that no line of a body may hold.
    has_control: bool,
}

/// Why a line is not accepted.
enum LineFault {
    Head(&'static str),
    Body,
    /// hyper finds it by itself.
    Known,
}

/// What the lines of the present head said.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    has_length: bool,
    /// More than one length, be they equal: hyper makes one of them.
    has_lengths: bool,
    chunked: bool,
}

impl HeadGuard {
    pub(crate) fn new() -> Self {
        Self { state: State::Head, requests: 0, line: Line::new(), head: Head::default() }
    }

    /// Whether some of a head has come and more must.
    pub(crate) fn is_within_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || self.line.bytes > 0)
    }

    /// Takes the next bytes from the client; tells of the fault that is in them, once.
    pub(crate) fn push(&mut self, all: &[u8]) -> Guarded {
        let mut bytes = all;
        while !bytes.is_empty() {
            match self.state {
                State::Off => return Guarded::Sound,
                State::Body { left, then } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    self.state = match (left - taken as u64, then) {
                        (0, Then::Head) => State::Head,
                        (0, Then::ChunkSize) => State::ChunkSize,
                        (left, then) => State::Body { left, then },
                    };
                }
                State::Head | State::ChunkSize | State::Trailers => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let piece = &bytes[..end.unwrap_or(bytes.len())];
                    self.line.push(piece);
                    let sound_bytes = all.len() - bytes.len();
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    if end.is_none() {
                        continue;
                    }
                    let Err(fault) = self.end_line() else { continue };
                    self.state = State::Off;
                    return match fault {
                        LineFault::Head(cause) => Guarded::Head(GuardFault { request: self.requests, cause }),
                        LineFault::Body => Guarded::Body { sound_bytes },
                        LineFault::Known => Guarded::Sound,
                    };
                }
            }
        }
        Guarded::Sound
    }

    fn end_line(&mut self) -> Result<(), LineFault> {
        let bare = self.line.last != b'\r';
        let empty = self.line.bytes <= 1;
        match self.state {
            State::Head if bare => return Err(LineFault::Head("bare line feed")),
            State::Head if !empty => {
                // hyper would drop the fragment, and the dyno see another target than whoever is in front.
                if !self.head.begun && self.line.has_number_sign {
                    return Err(LineFault::Head("bad target"));
                }
                self.head.read(&self.line);
                self.head.begun = true;
            }
            State::Head if self.head.begun => self.state = self.end_head()?,
            State::ChunkSize => self.state = chunk(&self.line).ok_or(LineFault::Body)?,
            State::Trailers if bare || self.line.has_control => return Err(LineFault::Body),
            State::Trailers if empty => self.state = State::Head,
            State::Head | State::Trailers | State::Body { .. } | State::Off => {}
        }
        self.line = Line::new();
        Ok(())
    }

    fn end_head(&mut self) -> Result<State, LineFault> {
        let head = std::mem::take(&mut self.head);
        if head.has_length && head.chunked {
            return Err(LineFault::Head("content length beside transfer encoding"));
        }
        if head.has_lengths {
            return Err(LineFault::Head("bad content length"));
        }
        self.requests += 1;
        Ok(match head.length {
            _ if head.chunked => State::ChunkSize,
            None if head.has_length => return Err(LineFault::Known),
            None | Some(0) => State::Head,
            Some(left) => State::Body { left, then: Then::Head },
        })
    }
}

impl Line {
    const fn new() -> Self {
        Self { prefix: [0; LINE_PREFIX_BYTES], bytes: 0, last: 0, has_number_sign: false, has_control: false }
    }

    fn push(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        self.has_number_sign |= piece.contains(&b'#');
        // A carriage return is sound as the last byte only; whether it is, the next piece or the line's end tells.
        let (end, before) = piece.split_last().map_or((0, piece), |(&end, before)| (end, before));
        let control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
        self.has_control |= self.last == b'\r' || before.iter().any(control) || (end != b'\r' && control(&end));
        let room = self.prefix.get_mut(self.bytes..).unwrap_or_default();
        let kept = room.len().min(piece.len());
        room[..kept].copy_from_slice(&piece[..kept]);
        self.bytes += piece.len();
        self.last = piece.last().copied().unwrap_or(self.last);
    }

    /// Without the carriage return; `None` if the line is longer than what was kept of it.
    fn whole(&self) -> Option<&[u8]> {
        let line = self.prefix.get(..self.bytes)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn kept(&self) -> &[u8] {
        &self.prefix[..self.bytes.min(LINE_PREFIX_BYTES)]
    }
}

impl Head {
    fn read(&mut self, line: &Line) {
        let Some(colon) = line.kept().iter().position(|&byte| byte == b':') else { return };
        let name = &line.kept()[..colon];
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.has_lengths |= self.has_length;
            self.has_length = true;
            let value = line.whole().and_then(|line| std::str::from_utf8(&line[colon + 1..]).ok());
            self.length = value.and_then(|value| value.trim_matches([' ', '\t']).parse().ok());
        }
    }
}

/// What follows a chunk's size line; `None` if it is no such line.
fn chunk(line: &Line) -> Option<State> {
    let digits = line.kept().iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = u64::from_str_radix(std::str::from_utf8(&line.kept()[..digits]).ok()?, 16).ok()?;
    // The data is followed by CR LF, which hyper checks.
    (line.last == b'\r' && !line.has_control).then_some(())?;
    // An extension, which means nothing here and goes no further; nothing else may stand behind the size.
    let after = line.kept().get(digits);
    matches!(after, Some(b'\r' | b';')).then_some(())?;
    Some(match size {
        0 => State::Trailers,
        size => State::Body { left: size.checked_add(2)?, then: Then::ChunkSize },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first fault, and the bytes that hyper would get.
    fn guarded(bytes: &[u8], cut: usize) -> (Option<(u64, &'static str)>, usize) {
        let mut guard = HeadGuard::new();
        let mut passed = 0;
        for piece in bytes.chunks(cut) {
            match guard.push(piece) {
                Guarded::Sound => passed += piece.len(),
                Guarded::Head(fault) => return (Some((fault.request, fault.cause)), bytes.len()),
                Guarded::Body { sound_bytes } => return (None, passed + sound_bytes),
            }
        }
        (None, passed)
    }

    fn check(text: &str, expect: Option<(u64, &'static str)>) {
        for cut in 1..=text.len() {
            assert_eq!(guarded(text.as_bytes(), cut), (expect, text.len()), "{text:?} in pieces of {cut}");
        }
    }

    /// The bad line begins at `at`, or is passed on in part: hyper waits for its end, which never comes.
    fn check_body(text: &str, at: usize) {
        for cut in 1..=text.len() {
            let (fault, passed) = guarded(text.as_bytes(), cut);
            assert_eq!(fault, None);
            let line = text[at..].find('\n').unwrap();
            assert!((at..=at + line).contains(&passed), "{text:?} in pieces of {cut}: {passed}");
        }
    }

    const LENGTH: &str = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\nb\n";
    const CHUNKS: &str =
        "POST / HTTP/1.1\r\nTE: x\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nx: y\r\n\r\n";
    const PLAIN: &str = "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\ncontent-length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn sound_requests_pass_in_any_order() {
        check(&format!("{LENGTH}{CHUNKS}{PLAIN}{PLAIN}{CHUNKS}{LENGTH}"), None);
    }

    #[test]
    fn a_fault_is_found_at_its_request() {
        check(BOTH, Some((0, "content length beside transfer encoding")));
        check(&format!("{LENGTH}{CHUNKS}{PLAIN}{BOTH}"), Some((3, "content length beside transfer encoding")));
        check(&format!("{CHUNKS}GET / HTTP/1.1\nhost: a\n\n"), Some((1, "bare line feed")));
        check("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", Some((0, "bare line feed")));
        check("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", Some((0, "bad target")));
        check("GET /a HTTP/1.1\r\nhost: a\r\nx: #\r\n\r\n", None);
    }

    #[test]
    fn nothing_is_passed_on_from_a_fault_in_a_body() {
        let at = CHUNKED.len();
        for line in ["3 \r\n", "3\t;x\r\n", " 3\r\n", "0x3\r\n", "3\n", "3;a\rb\r\n", "3;\x01\r\n", "-3\r\n", "\r\n"] {
            check_body(&format!("{CHUNKED}{line}abc\r\n0\r\n\r\n"), at);
        }
        let sound = format!("{CHUNKED}3\r\nabc\r\n");
        check_body(&format!("{sound}fffffffffffffffff\r\nabc"), sound.len());
        let trailers = format!("{sound}0\r\n");
        check_body(&format!("{trailers}x: y\nz: a\r\n\r\n"), trailers.len());
        check_body(&format!("{trailers}x: a\rb\r\n\r\n"), trailers.len());
    }

    #[test]
    fn a_head_lasts_from_its_first_byte_to_its_last() {
        for text in [LENGTH, CHUNKS, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut guard = HeadGuard::new();
            let end = text.find("\r\n\r\n").unwrap() + 4;
            for (at, byte) in text.bytes().enumerate() {
                assert_eq!(guard.is_within_head(), (1..end).contains(&at), "{text:?} at {at}");
                guard.push(&[byte]);
            }
            assert!(!guard.is_within_head());
        }
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        check(
            "POST / HTTP/1.1\r\ncontent-length: 52\r\n\r\ncontent-length: 1\ntransfer-encoding: chunked\n\n1234567",
            None,
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_guard_panic_and_cuts_change_nothing(
            text in "(POST / HTTP/1.1|content-length: [0-9]{1,20}|transfer-encoding: chunked|[0-9a-f]{1,17}|\r\n|\n|x){0,40}",
            cut in 1_usize..20,
        ) {
            prop_assert_eq!(guarded(text.as_bytes(), cut).0, guarded(text.as_bytes(), text.len().max(1)).0);
        }
    }
}
