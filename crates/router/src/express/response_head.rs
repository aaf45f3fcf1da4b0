//! The head of a dyno's response: what it says about its body, and how it goes on to the client. Pure.

use std::mem::MaybeUninit;

use domain::error_code::ErrorCode;
use http::StatusCode;
use httparse::Header;

use super::request_head::HEADERS_MAX;
use crate::forward;
use crate::reply::Problem;

/// A response may have more lines than a request that the lane takes: the full path's bound.
const RESPONSE_HEADERS_MAX: usize = 128;
const _: () = assert!(RESPONSE_HEADERS_MAX > HEADERS_MAX, "a response is not refused for what a request may have");

pub(super) type HeaderSpace<'bytes> = [MaybeUninit<Header<'bytes>>; RESPONSE_HEADERS_MAX];

pub(super) const fn header_space<'bytes>() -> HeaderSpace<'bytes> {
    [const { MaybeUninit::uninit() }; RESPONSE_HEADERS_MAX]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
pub(super) struct ResponseHead<'head, 'bytes> {
    pub(super) status: u16,
    reason: &'bytes str,
    headers: &'head [Header<'bytes>],
    pub(super) head_bytes: usize,
    pub(super) framing: Framing,
    /// The dyno will take another request on this connection.
    pub(super) keep_alive: bool,
    pub(super) has_date: bool,
    /// There is a `Connection`, which may name headers that concern the connection only.
    has_connection: bool,
}

impl ResponseHead<'_, '_> {
    /// `100 Continue` and the like: another head follows.
    pub(super) const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != StatusCode::SWITCHING_PROTOCOLS.as_u16()
    }
}

/// `None` if the head is not complete.
///
/// # Errors
/// The problem that the client is told: what is no HTTP, or could be read in two ways, is not passed on.
pub(super) fn parse<'head, 'bytes>(
    bytes: &'bytes [u8],
    space: &'head mut HeaderSpace<'bytes>,
    head_only: bool,
) -> Result<Option<ResponseHead<'head, 'bytes>>, Problem> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, space);
    let head_bytes = match parsed {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Problem { cause: Some("oversized header"), ..Problem::code(ErrorCode::H25) });
        }
        Err(_fault) => return Err(Problem::code(ErrorCode::H17)),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(Problem::code(ErrorCode::H17));
    };
    let headers: &'head [Header<'bytes>] = response.headers;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut keep_alive = version == 1;
    let mut closes = false;
    let mut has_date = false;
    let mut has_connection = false;
    for Header { name, value } in headers {
        match name.len() {
            4 if name.eq_ignore_ascii_case("date") => has_date = true,
            10 if name.eq_ignore_ascii_case("connection") => {
                let says = |word: &[u8]| options(value).any(|option| option.eq_ignore_ascii_case(word));
                closes |= says(b"close");
                keep_alive |= says(b"keep-alive");
                has_connection = true;
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let value = digits.and_then(|digits| digits.parse().ok()).ok_or(Problem::code(ErrorCode::H17))?;
                if length.replace(value).is_some_and(|before| before != value) {
                    return Err(Problem::code(ErrorCode::H17));
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Problem::code(ErrorCode::H17));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if chunked && length.is_some() {
        return Err(Problem::code(ErrorCode::H17));
    }
    let bodyless = head_only || status < 200 || matches!(status, 204 | 304);
    let framing = match (bodyless, chunked, length) {
        (true, _, _) => Framing::None,
        (false, true, _) => Framing::Chunked,
        (false, false, Some(0)) => Framing::None,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    };
    keep_alive &= !closes && framing != Framing::UntilClose;
    let reason = response.reason.unwrap_or_default();
    Ok(Some(ResponseHead { status, reason, headers, head_bytes, framing, keep_alive, has_date, has_connection }))
}

/// Writes the head for the client, whose connection closes after this answer if `close` says so.
///
/// A body without a length goes on in chunks, so that its end can be told from a broken connection.
pub(super) fn write(head: &ResponseHead<'_, '_>, close: bool, date: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.fields() {
        line(out, name.as_bytes(), value);
    }
    if matches!(head.framing, Framing::Chunked | Framing::UntilClose) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if !head.has_date {
        line(out, b"date", date.as_bytes());
    }
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"via: 1.1 berth\r\n\r\n");
}

impl ResponseHead<'_, '_> {
    /// The fields that are the client's, too.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // RFC 9110, 8.6: an answer that can have no body says no length. A client might wait for it.
        let mut length_given = self.status == StatusCode::NO_CONTENT.as_u16();
        self.headers.iter().filter_map(move |Header { name, value }| {
            let repeated = name.eq_ignore_ascii_case("content-length") && std::mem::replace(&mut length_given, true);
            (!repeated && !is_hop_by_hop(name) && !self.nominates(name)).then_some((*name, *value))
        })
    }

    /// As on the full path.
    pub(super) fn is_event_stream(&self) -> bool {
        let mut types = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-type"));
        types.next().is_some_and(|header| forward::is_event_stream_type(header.value))
    }

    /// Whether `Connection` names this header. What frames the message stays whatever it says.
    fn nominates(&self, name: &str) -> bool {
        if !self.has_connection || name.eq_ignore_ascii_case("content-length") {
            return false;
        }
        let connection = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        let mut named = connection.flat_map(|header| options(header.value));
        named.any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

pub(super) fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case("te"),
        6 => name.eq_ignore_ascii_case("expect"),
        7 => name.eq_ignore_ascii_case("upgrade"),
        10 => name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("keep-alive"),
        14 => name.eq_ignore_ascii_case("http2-settings"),
        16 => name.eq_ignore_ascii_case("proxy-connection"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A status has three digits: anything else is no HTTP, and httparse refuses it.
fn digits(status: u16) -> [u8; 3] {
    let digit = |number: u16| b"0123456789"[usize::from(number % 10)];
    [digit(status / 100), digit(status / 10), digit(status)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str, close: bool) -> Result<String, Option<ErrorCode>> {
        let mut space = header_space();
        let head = parse(text.as_bytes(), &mut space, false).map_err(|problem| problem.code)?.ok_or(None)?;
        let mut out = Vec::new();
        write(&head, close, "now", &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_response_goes_on_without_what_concerned_its_connection() {
        let text = "HTTP/1.1 200 OK\r\nConnection: x-private, close\r\nX-Private: 1\r\nKeep-Alive: 5\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\n\r\n";
        let expect = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\ndate: now\r\nvia: 1.1 berth\r\n\r\n";
        assert_eq!(rewritten(text, false).unwrap(), expect);
    }

    #[test]
    fn an_answer_that_has_no_body_says_no_length_and_one_to_head_does() {
        let expect = "HTTP/1.1 204 No Content\r\nX: y\r\ndate: now\r\nvia: 1.1 berth\r\n\r\n";
        assert_eq!(rewritten("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX: y\r\n\r\n", false).unwrap(), expect);
        let unchanged = rewritten("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false).unwrap();
        assert!(unchanged.contains("Content-Length: 5\r\n"), "{unchanged}");
    }

    #[test]
    fn a_body_of_unknown_length_goes_on_in_chunks() {
        let expect =
            "HTTP/1.1 200 \r\nDate: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\nvia: 1.1 berth\r\n\r\n";
        assert_eq!(rewritten("HTTP/1.0 200 \r\nDate: x\r\n\r\n", true).unwrap(), expect);
    }

    #[test]
    fn the_framing_is_what_the_head_says() {
        let check = |text: &str, head_only: bool, framing: Framing, keep_alive: bool| {
            let mut space = header_space();
            let head = parse(text.as_bytes(), &mut space, head_only).unwrap().unwrap();
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), true);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), true);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Framing::None, true);
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false, Framing::None, true);
        check("HTTP/1.1 204 No Content\r\n\r\n", false, Framing::None, true);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framing::Chunked, true);
        check("HTTP/1.1 200 OK\r\n\r\n", false, Framing::UntilClose, false);
        check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), false);
        check(
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
            false,
            Framing::Length(3),
            true,
        );
        check("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), false);
        let several = "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n";
        check(several, false, Framing::Length(3), false);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_passed_on() {
        let check = |text: &str, code: ErrorCode| assert_eq!(rewritten(text, false), Err(Some(code)), "{text:?}");
        check("nonsense\r\n\r\n", ErrorCode::H17);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", ErrorCode::H17);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ErrorCode::H17);
        check("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", ErrorCode::H17);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ErrorCode::H17);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrorCode::H17);
    }
}
