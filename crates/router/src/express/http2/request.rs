//! The head of a request over HTTP/2: whether it is one (RFC 9113, 8.2 and 8.3), and what it becomes. Pure.

use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use httparse::Header;

use super::header_list::HeaderList;
use crate::express::request_head::{HEADERS_MAX, RequestHead, is_plain_method, is_plain_target, plain_authority};

/// A stream with such a head is reset, and nothing else is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Checks what HTTP/2 says about a request's head, and gives the length of the body if the client says it.
///
/// # Errors
/// It is malformed. What is merely not wanted here is found later, and answered.
pub(super) fn check(list: &HeaderList) -> Result<Option<u64>, Malformed> {
    let pseudo = Pseudo::of(list)?;
    let mut length = None;
    for (name, value) in list.iter().skip(pseudo.count) {
        let concerns_connection = match name.len() {
            2 => name == b"te" && value != b"trailers",
            7 => name == b"upgrade",
            10 => name == b"connection" || name == b"keep-alive",
            16 => name == b"proxy-connection",
            17 => name == b"transfer-encoding",
            _ => false,
        };
        if concerns_connection || !is_name(name) || !is_value(value) {
            return Err(Malformed);
        }
        if name == b"content-length" && length.replace(number(value)?).is_some() {
            return Err(Malformed);
        }
    }
    // What is missing may have been cut off.
    if !list.is_cut {
        pseudo.check()?;
    }
    Ok(length)
}

/// Whether these fields may stand behind a body.
pub(super) fn is_trailer(list: &HeaderList) -> bool {
    !list.is_cut && list.iter().all(|(name, value)| is_name(name) && is_value(value))
}

/// The fields that are not headers. Each may be there once, before all headers.
#[derive(Debug, Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Pseudo<'a> {
    fn of(list: &'a HeaderList) -> Result<Self, Malformed> {
        let mut pseudo = Self::default();
        for (name, value) in list.iter().take_while(|(name, _value)| name.starts_with(b":")) {
            let place = match name {
                b":method" => &mut pseudo.method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                _ => return Err(Malformed),
            };
            if !is_value(value) || place.replace(value).is_some() {
                return Err(Malformed);
            }
            pseudo.count += 1;
        }
        Ok(pseudo)
    }

    fn check(&self) -> Result<(), Malformed> {
        let sound = match (self.method, self.scheme, self.path) {
            (Some(b"CONNECT"), None, None) => self.authority.is_some(),
            (Some(b"CONNECT"), _, _) => false,
            (Some(_method), Some(_scheme), Some(path)) => !path.is_empty(),
            _ => false,
        };
        if sound { Ok(()) } else { Err(Malformed) }
    }
}

/// A name of a header, which has no upper case in HTTP/2.
fn is_name(name: &[u8]) -> bool {
    const ALLOWED: [bool; 256] = {
        let mut allowed = [false; 256];
        let bytes = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
        let mut at = 0;
        while at < bytes.len() {
            allowed[bytes[at] as usize] = true;
            at += 1;
        }
        allowed
    };
    !name.is_empty() && name.iter().all(|byte| ALLOWED[usize::from(*byte)])
}

/// No control characters, and nothing around it that somebody else might take off.
fn is_value(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let sound = value.iter().all(|&byte| (byte >= b' ' && byte != 0x7f) || byte == b'\t');
    sound && !space(value.first()) && !space(value.last())
}

fn number(value: &[u8]) -> Result<u64, Malformed> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed)
}

/// What a request of the express lane needs besides its fields.
#[derive(Debug, Default)]
pub(super) struct Extra {
    cookies: Vec<u8>,
    length: String,
}

impl Extra {
    /// `body_bytes` is the length of the whole body.
    pub(super) fn of(list: &HeaderList, body_bytes: usize) -> Self {
        let mut extra = Self::default();
        let mut cookies = list.iter().filter(|(name, _value)| *name == b"cookie").map(|(_name, value)| value);
        if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
            // RFC 9113, 8.2.3: HTTP/1 has one.
            extra.cookies = cookies.fold([first, second].join(&b"; "[..]), |mut all, next| {
                all.extend_from_slice(b"; ");
                all.extend_from_slice(next);
                all
            });
        }
        if body_bytes > 0 && list.iter().all(|(name, _value)| name != b"content-length") {
            extra.length = body_bytes.to_string();
        }
        extra
    }
}

/// The request, if it is one that the express lane takes: nothing in it needs a second thought.
pub(super) fn for_the_lane<'head, 'bytes>(
    list: &'bytes HeaderList,
    extra: &'bytes Extra,
    body_bytes: usize,
    space: &'head mut [Header<'bytes>; HEADERS_MAX],
) -> Option<RequestHead<'head, 'bytes>> {
    let Pseudo { method, authority, path, scheme, count } = Pseudo::of(list).ok()?;
    let method = std::str::from_utf8(method?).ok().filter(|method| is_plain_method(method))?;
    let target = std::str::from_utf8(path?).ok().filter(|target| is_plain_target(target))?;
    let authority = plain_authority(authority?)?;
    // One for the length, which may be missing.
    if list.is_cut || list.len() - count >= HEADERS_MAX || !matches!(scheme, Some(b"http" | b"https")) {
        return None;
    }
    let mut headers = 0;
    let mut cookies_written = false;
    for (name, value) in list.iter().skip(count) {
        let value = match name {
            b"host" | b"te" | b"expect" | b"trailer" | b"http2-settings" => return None,
            b"content-length" if number(value) != Ok(body_bytes as u64) || (value.len() > 1 && value[0] == b'0') => {
                return None;
            }
            b"cookie" if !extra.cookies.is_empty() => {
                if std::mem::replace(&mut cookies_written, true) {
                    continue;
                }
                &extra.cookies
            }
            _ if name.contains(&b'_') => return None,
            _ => value,
        };
        space[headers] = Header { name: std::str::from_utf8(name).ok()?, value };
        headers += 1;
    }
    if !extra.length.is_empty() {
        space[headers] = Header { name: "content-length", value: extra.length.as_bytes() };
        headers += 1;
    }
    let headers = &space[..headers];
    Some(RequestHead { method, target, authority, headers, head_bytes: 0, body_bytes, close: false })
}

/// The request for the full path.
///
/// # Errors
/// Something in it cannot be written in an address.
pub(super) fn for_the_full_path(list: &HeaderList) -> Result<Request<()>, Malformed> {
    let Pseudo { method, scheme, authority, path, count } = Pseudo::of(list)?;
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = method.and_then(|method| Method::from_bytes(method).ok()).ok_or(Malformed)?;
    let mut parts = http::uri::Parts::default();
    parts.authority = authority.map(Authority::try_from).transpose().ok().ok_or(Malformed)?;
    parts.path_and_query = path.map(PathAndQuery::try_from).transpose().ok().ok_or(Malformed)?;
    // A request that names its host in a header is for a path only.
    if parts.authority.is_some() && parts.path_and_query.is_some() {
        parts.scheme = scheme.map(Scheme::try_from).transpose().ok().ok_or(Malformed)?;
    }
    *request.uri_mut() = Uri::from_parts(parts).ok().ok_or(Malformed)?;
    *request.headers_mut() = header_map(list, count)?;
    Ok(request)
}

/// Whether the target is a path, or `*` for the server as a whole, and nothing else. The request for the full path does
/// not show that: it loses a fragment, and gets a slash where there is none, so that the dyno would see another target
/// than whoever is in front.
pub(super) fn is_sound_target(list: &HeaderList) -> bool {
    let Ok(Pseudo { method, path, .. }) = Pseudo::of(list) else { return false };
    match path {
        Some(b"*") => method == Some(b"OPTIONS"),
        Some(path) => path.starts_with(b"/") && !path.contains(&b'#'),
        // CONNECT has none, and is refused for what it is.
        None => true,
    }
}

/// The fields behind the first `skipped` ones.
///
/// # Errors
/// One of them is none.
pub(super) fn header_map(list: &HeaderList, skipped: usize) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(list.len());
    for (name, value) in list.iter().skip(skipped) {
        let name = HeaderName::from_bytes(name).ok().ok_or(Malformed)?;
        let value = HeaderValue::from_bytes(value).ok().ok_or(Malformed)?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&str, &str)]) -> HeaderList {
        fields.iter().fold(HeaderList::default(), |mut list, (name, value)| {
            list.push(name.as_bytes(), value.as_bytes(), 10_000);
            list
        })
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "shop.example")];

    fn with(more: &[(&str, &str)]) -> HeaderList {
        list(&[&GET[..], more].concat())
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        assert_eq!(check(&with(&[("te", "trailers"), ("content-length", "12")])), Ok(Some(12)));
        assert_eq!(check(&list(&[(":method", "CONNECT"), (":authority", "a:1")])), Ok(None));
        let check = |fields: &[(&str, &str)]| assert_eq!(check(&list(fields)), Err(Malformed), "{fields:?}");
        for missing in 0..3 {
            check(
                &GET.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, field)| *field).collect::<Vec<_>>(),
            );
        }
        check(&[(":method", "GET"), (":scheme", "https"), (":path", "")]);
        check(&[(":method", "CONNECT"), (":scheme", "https"), (":path", "/"), (":authority", "a")]);
        for more in [
            (":path", "/"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("Upper", "case"),
            ("", "empty"),
            ("with space", "x"),
            ("colon:", "x"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("x", "a\r\nb: c"),
            ("x", "a\nb"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
        ] {
            check(&[&GET[..], &[more]].concat());
        }
        check(&[&GET[..], &[("content-length", "1"), ("content-length", "1")]].concat());
        check(&[("x", "before"), GET[0], GET[1], GET[2]]);
        assert!(is_trailer(&list(&[("x-sum", "1")])));
        assert!(!is_trailer(&list(&[(":path", "/")])));
    }

    fn taken(list: &HeaderList, body_bytes: usize) -> Option<String> {
        let extra = Extra::of(list, body_bytes);
        let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let head = for_the_lane(list, &extra, body_bytes, &mut space)?;
        let fields: Vec<String> = head
            .headers
            .iter()
            .map(|field| format!("{}={}", field.name, String::from_utf8_lossy(field.value)))
            .collect();
        Some(format!("{} {} {} {}", head.method, head.authority, head.target, fields.join(" ")))
    }

    #[test]
    fn ordinary_requests_are_for_the_lane() {
        let check = |list: &HeaderList, body_bytes, expect: &str| assert_eq!(taken(list, body_bytes).unwrap(), expect);
        check(&with(&[("accept", "*/*")]), 0, "GET shop.example /a?b accept=*/*");
        let cookies = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
        check(&with(&cookies), 0, "GET shop.example /a?b cookie=a=1; b=2; c=3 x=y");
        check(&with(&[]), 5, "GET shop.example /a?b content-length=5");
        check(&with(&[("content-length", "5")]), 5, "GET shop.example /a?b content-length=5");
    }

    #[test]
    fn everything_else_is_left_to_the_full_path() {
        for more in [
            ("host", "shop.example"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("x_forwarded_proto", "https"),
            ("content-length", "00"),
        ] {
            assert_eq!(taken(&with(&[more]), 0), None, "{more:?}");
        }
        let replaced = |at: usize, value| {
            let mut fields = GET;
            fields[at].1 = value;
            list(&fields)
        };
        for (at, value) in
            [(0, "get"), (0, "TRACE"), (1, "ftp"), (2, "*"), (2, "/a b"), (2, "/#"), (3, "A"), (3, "a@b")]
        {
            assert_eq!(taken(&replaced(at, value), 0), None, "{value:?}");
        }
        assert_eq!(taken(&with(&[("x", "y"); HEADERS_MAX]), 0), None);
        assert_eq!(taken(&list(&GET[..3]), 0), None);
    }

    #[test]
    fn the_full_path_gets_the_same_request() {
        let request = for_the_full_path(&with(&[("host", "other"), ("cookie", "a"), ("cookie", "b")])).unwrap();
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_2));
        assert_eq!(request.uri().to_string(), "https://shop.example/a?b");
        assert_eq!(request.headers().get_all("cookie").iter().count(), 2);
        let by_host = for_the_full_path(&list(&[GET[0], GET[1], GET[2], ("host", "a")])).unwrap();
        assert_eq!((by_host.uri().to_string().as_str(), by_host.uri().authority()), ("/a?b", None));
        let connect = for_the_full_path(&list(&[(":method", "CONNECT"), (":authority", "a:1")])).unwrap();
        assert_eq!(connect.uri().to_string(), "a:1");
        let bad = for_the_full_path(&list(&[GET[0], GET[1], (":path", "/a b"), GET[3]]));
        assert_eq!(bad.err(), Some(Malformed));
    }
}
