//! Watches the bytes of a client connection for what hyper accepts though two parsers may read it differently.
//!
//! hyper takes `Content-Length` beside `Transfer-Encoding` (dropping the former) and lines that end in a bare line
//! feed. To refuse them, the guard follows the framing of the requests on the connection: head lines, bodies by
//! length, chunks. It changes nothing and answers nothing; it says at which request the first fault was, and the
//! request is refused when hyper has parsed it. Faults that hyper finds itself are left to hyper. Pure.

/// Kept of each line: enough for the two header names and a length with some space around it.
const LINE_PREFIX_BYTES: usize = 64;

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
}

/// What the lines of the present head said.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    has_length: bool,
    chunked: bool,
}

impl HeadGuard {
    pub(crate) fn new() -> Self {
        let line = Line { prefix: [0; LINE_PREFIX_BYTES], bytes: 0, last: 0 };
        Self { state: State::Head, requests: 0, line, head: Head::default() }
    }

    /// Takes the next bytes from the client; gives the fault that is in them, once.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Option<GuardFault> {
        while !bytes.is_empty() {
            match self.state {
                State::Off => return None,
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
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    if end.is_some()
                        && let Err(cause) = self.end_line()
                    {
                        self.state = State::Off;
                        return cause.map(|cause| GuardFault { request: self.requests, cause });
                    }
                }
            }
        }
        None
    }

    /// # Errors
    /// The fault; `None` where hyper finds it by itself.
    fn end_line(&mut self) -> Result<(), Option<&'static str>> {
        let bare = self.line.last != b'\r';
        let empty = self.line.bytes <= 1;
        match self.state {
            State::Head if bare => return Err(Some("bare line feed")),
            State::Head if !empty => {
                self.head.read(&self.line);
                self.head.begun = true;
            }
            State::Head if self.head.begun => self.state = self.end_head()?,
            State::ChunkSize => self.state = chunk(&self.line).ok_or(None)?,
            State::Trailers if bare => return Err(None),
            State::Trailers if empty => self.state = State::Head,
            State::Head | State::Trailers | State::Body { .. } | State::Off => {}
        }
        self.line.bytes = 0;
        self.line.last = 0;
        Ok(())
    }

    fn end_head(&mut self) -> Result<State, Option<&'static str>> {
        let head = std::mem::take(&mut self.head);
        if head.has_length && head.chunked {
            return Err(Some("content length beside transfer encoding"));
        }
        self.requests += 1;
        Ok(match head.length {
            _ if head.chunked => State::ChunkSize,
            None if head.has_length => return Err(None),
            None | Some(0) => State::Head,
            Some(left) => State::Body { left, then: Then::Head },
        })
    }
}

impl Line {
    fn push(&mut self, piece: &[u8]) {
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
    (line.last == b'\r').then_some(())?;
    Some(match size {
        0 => State::Trailers,
        size => State::Body { left: size.checked_add(2)?, then: Then::ChunkSize },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_fault(bytes: &[u8], cut: usize) -> Option<GuardFault> {
        let mut guard = HeadGuard::new();
        bytes.chunks(cut).find_map(|piece| guard.push(piece))
    }

    fn check(text: &str, expect: Option<(u64, &str)>) {
        for cut in 1..=text.len() {
            let fault = first_fault(text.as_bytes(), cut).map(|fault| (fault.request, fault.cause));
            assert_eq!(fault, expect, "{text:?} in pieces of {cut}");
        }
    }

    const LENGTH: &str = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\nb\n";
    const CHUNKS: &str =
        "POST / HTTP/1.1\r\nTE: x\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nx: y\r\n\r\n";
    const PLAIN: &str = "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\ncontent-length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";

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
            prop_assert_eq!(first_fault(text.as_bytes(), cut), first_fault(text.as_bytes(), text.len().max(1)));
        }
    }
}
