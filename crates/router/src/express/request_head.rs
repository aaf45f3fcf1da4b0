//! The head of a request, if it is one that the express lane takes. Pure.
//!
//! The lane takes what has one meaning only: an origin-form target, one plain host, no framing but a plain length.
//! Everything else (upgrades, expectations, chunked bodies, faults) is [`Parsed::Other`], and hyper with its guards
//! answers it.

use std::mem::MaybeUninit;

use httparse::Header;

/// Heads with more lines than this are not for the lane.
pub(super) const HEADERS_MAX: usize = 48;

/// As on the full path.
const METHOD_BYTES_MAX: usize = 32;

pub(super) type HeaderSpace<'bytes> = [MaybeUninit<Header<'bytes>>; HEADERS_MAX];

#[derive(Debug)]
pub(super) enum Parsed<'head, 'bytes> {
    Partial,
    Whole(RequestHead<'head, 'bytes>),
    Other,
}

#[derive(Debug)]
pub(super) struct RequestHead<'head, 'bytes> {
    pub(super) method: &'bytes str,
    /// Begins with a slash.
    pub(super) target: &'bytes str,
    /// As the client wrote it: lower case, maybe with a port.
    pub(super) authority: &'bytes str,
    pub(super) headers: &'head [Header<'bytes>],
    pub(super) head_bytes: usize,
    pub(super) body_bytes: usize,
    /// The client wants the connection closed after the answer.
    pub(super) close: bool,
}

impl<'bytes> RequestHead<'_, 'bytes> {
    /// Without the port.
    pub(super) fn host(&self) -> &'bytes str {
        self.authority.split_once(':').map_or(self.authority, |(host, _port)| host)
    }
}

pub(super) fn parse<'head, 'bytes>(
    bytes: &'bytes [u8],
    space: &'head mut HeaderSpace<'bytes>,
) -> Parsed<'head, 'bytes> {
    let mut request = httparse::Request::new(&mut []);
    let head_bytes =
        match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, space) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_fault) => return Parsed::Other,
        };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Parsed::Other;
    };
    let headers: &'head [Header<'bytes>] = request.headers;
    // An empty line before the head shows here, too. Methods are case-sensitive, and all known ones are upper case.
    if !bytes.starts_with(method.as_bytes())
        || !is_plain_method(method)
        || !is_plain_target(target)
        || has_bare_line_feed(&bytes[..head_bytes])
    {
        return Parsed::Other;
    }
    let mut authority = None;
    let mut length = None;
    let mut close = false;
    let mut repeated = false;
    for Header { name, value } in headers {
        match name.len() {
            2 if name.eq_ignore_ascii_case("te") => return Parsed::Other,
            4 if name.eq_ignore_ascii_case("host") => repeated |= authority.replace(plain_authority(value)).is_some(),
            6 if name.eq_ignore_ascii_case("expect") => return Parsed::Other,
            7 if name.eq_ignore_ascii_case("upgrade") || name.eq_ignore_ascii_case("trailer") => return Parsed::Other,
            10 if name.eq_ignore_ascii_case("connection") => match *value {
                value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                value if value.eq_ignore_ascii_case(b"close") => close = true,
                _ => return Parsed::Other,
            },
            14 if name.eq_ignore_ascii_case("content-length") => {
                repeated |= length.replace(plain_length(value)).is_some();
            }
            14 if name.eq_ignore_ascii_case("http2-settings") => return Parsed::Other,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => return Parsed::Other,
            // To CGI, `X_Forwarded_Proto` and `X-Forwarded-Proto` are one: the full path looks whether it is one of ours.
            _ if name.as_bytes().contains(&b'_') => return Parsed::Other,
            _ => {}
        }
    }
    let (Some(Some(authority)), Some(body_bytes), false) = (authority, length.unwrap_or(Some(0)), repeated) else {
        return Parsed::Other;
    };
    Parsed::Whole(RequestHead { method, target, authority, headers, head_bytes, body_bytes, close })
}

/// One that needs no further thought.
pub(super) fn is_plain_method(method: &str) -> bool {
    let upper = method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    upper && method.len() <= METHOD_BYTES_MAX && !method.is_empty() && !matches!(method, "CONNECT" | "TRACE")
}

/// A path of an address, which needs no further thought.
pub(super) fn is_plain_target(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// httparse takes lines that end in a bare line feed, which others do not.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// `shop.example` or `shop.example:8080` in lower case, which needs no further thought.
pub(super) fn plain_authority(value: &[u8]) -> Option<&str> {
    let authority = std::str::from_utf8(value).ok()?;
    let (host, port) = authority.split_once(':').unwrap_or((authority, "1"));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let sound = !host.is_empty() && !host.ends_with('.') && host.bytes().all(plain);
    let sound_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (sound && sound_port).then_some(authority)
}

/// Digits only, no more than a length can have, and none that would make it octal to some.
fn plain_length(value: &[u8]) -> Option<usize> {
    if value.len() > 1 && value.starts_with(b"0") {
        return None;
    }
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_for_the_lane(text: &str) -> Option<(String, usize, bool)> {
        let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        match parse(text.as_bytes(), &mut space) {
            Parsed::Whole(head) => Some((head.host().to_owned(), head.body_bytes, head.close)),
            Parsed::Partial | Parsed::Other => None,
        }
    }

    #[test]
    fn ordinary_requests_are_for_the_lane() {
        let check = |text: &str, expect: (&str, usize, bool)| {
            assert_eq!(is_for_the_lane(text), Some((expect.0.to_owned(), expect.1, expect.2)), "{text:?}");
        };
        check("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", ("shop.example", 0, false));
        check("GET /a?b=c HTTP/1.1\r\nhost: shop.example:8080\r\nConnection: Close\r\n\r\n", ("shop.example", 0, true));
        check("POST /a HTTP/1.1\r\nHost: a-1.b\r\nContent-Length: 3\r\nX: é\r\n\r\nabc", ("a-1.b", 3, false));
    }

    #[test]
    fn everything_else_is_left_to_the_full_path() {
        for text in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: A\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_Proto: https\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        ] {
            assert_eq!(is_for_the_lane(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text in "(GET / HTTP/1.1|host: a|content-length: [0-9]{0,20}|connection: close|\r\n|\n|.){0,12}") {
            drop(is_for_the_lane(&text));
        }
    }
}
