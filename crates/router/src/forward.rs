//! The headers that change between client and dyno, both ways. Pure but for the random request id.

use std::error::Error as _;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use uuid::Uuid;

use crate::express::may_follow;
use crate::front::{self, Came};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const OUR_VIA: &str = "1.1 berth";

/// Hop-by-hop headers (RFC 9110, 7.6.1) besides the ones that `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS];

/// Headers that a client must not make disappear by naming them in `Connection`: ours, and those that frame a message.
const KEPT: [HeaderName; 8] =
    [HOST, CONTENT_LENGTH, X_REQUEST_ID, X_REQUEST_START, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_PORT, VIA];

/// Heroku's rule for an id that a client may choose.
pub(crate) fn is_sane_request_id(id: &str) -> bool {
    (20..=200).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The sane id that came with the request, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_sane_request_id(id));
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// What the router tells the dyno about a request.
#[derive(Debug)]
pub(crate) struct Forwarded<'a> {
    pub(crate) authority: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) came: &'a Came,
    pub(crate) unix_ms: u64,
    /// The client sends a body of a length that it has not told.
    pub(crate) chunked: bool,
}

/// The protocol that the client asks to upgrade to, if the request may be one. `h2c` may not: it would be a way around
/// everything that the router checks.
pub(crate) fn upgrade_asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = connection_options(headers).iter().any(|option| option.eq_ignore_ascii_case("upgrade"));
    let h2c = protocol.to_str().is_ok_and(|protocol| protocol.to_ascii_lowercase().contains("h2c"));
    (asked && !h2c).then(|| protocol.clone())
}

/// The host that a prepared request is for: lower case, without port.
pub(crate) fn host(headers: &HeaderMap) -> String {
    let authority = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether the request has come through routers like this one so often that it goes round in a circle.
pub(crate) fn goes_round(headers: &HeaderMap) -> bool {
    /// Old hosts of old hosts.
    const TURNS_MAX: usize = 4;
    let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter(|hop| hop.trim() == OUR_VIA).count() > TURNS_MAX
}

/// Turns a client's headers into those for the dyno.
pub(crate) fn prepare_request(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>, forwarded: &Forwarded<'_>) {
    let wants_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
    strip_hop_by_hop(headers);
    strip_look_alikes(headers);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    if forwarded.chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut set = |name: HeaderName, value: &str| {
        // Each value is an address, a number, or was a header value before.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(HOST, forwarded.authority);
    set(X_REQUEST_ID, forwarded.request_id);
    set(X_FORWARDED_FOR, &forwarded.came.forwarded_for);
    set(X_FORWARDED_PROTO, if forwarded.came.https { "https" } else { "http" });
    set(X_FORWARDED_PORT, &forwarded.came.port.to_string());
    set(X_REQUEST_START, &forwarded.unix_ms.to_string());
    headers.append(VIA, HeaderValue::from_static(OUR_VIA));
}

/// Lets a response say once how long it is. `false` if it says so in several ways, or in one that not everybody understands:
/// the client might believe another one.
pub(crate) fn settle_length(headers: &mut HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        return codings.next().is_none_or(is_chunked) && codings.next().is_none();
    };
    let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if codings.next().is_some() || !is_number || lengths.any(|other| other != length) {
        return false;
    }
    let length = length.clone();
    headers.insert(CONTENT_LENGTH, length);
    true
}

/// Turns a dyno's headers into those for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    headers.append(VIA, HeaderValue::from_static(OUR_VIA));
}

/// Takes from the fields behind a client's body what may not stand there, and what it must not say in a head either:
/// whoever merges them would believe it.
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) {
    let is_sound = |name: &HeaderName| may_follow(name.as_str()) && !is_ours(&name.as_str().replace('_', "-"));
    let names: Vec<HeaderName> = trailers.keys().filter(|name| !is_sound(name)).cloned().collect();
    names.iter().for_each(|name| drop(trailers.remove(name)));
}

/// Puts a request that was prepared for HTTP/1 into the form that HTTP/2 wants: the host in the target, and nothing
/// about the connection. Trailers stay announced, because gRPC asks for that.
pub(crate) fn turn_to_http2<B>(request: &mut Request<B>) {
    let host = request.headers_mut().remove(HOST);
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, EXPECT] {
        request.headers_mut().remove(name);
    }
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    // A request without a host came over HTTP/1.0; HTTP/2 has no such thing.
    parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    parts.scheme = Some(Scheme::HTTP);
    parts.path_and_query = Some(path);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

/// Whether the dyno said that it has not touched the request (RFC 9113, 8.7), which may then be sent again.
pub(crate) fn is_refused_stream(error: &hyper::Error) -> bool {
    http2_error(error).is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether the dyno said something that HTTP/2 does not allow, HTTP/1 say.
pub(crate) fn is_no_http2(error: &hyper::Error) -> bool {
    http2_error(error).is_some_and(|error| error.is_library())
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Gathers the cookies that HTTP/2 clients may send piece by piece (RFC 9113, 8.2.3) into the one header of HTTP/1.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let joined: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for option in connection_options(headers) {
            match HeaderName::try_from(option) {
                Ok(name) if !KEPT.contains(&name) => drop(headers.remove(name)),
                _ => {}
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes headers that CGI, and so WSGI and Rack, cannot tell from ours or from those that frame a message: there
/// `X_Forwarded_Proto` and `X-Forwarded-Proto` are one variable.
fn strip_look_alikes(headers: &mut HeaderMap) {
    let is_look_alike = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && is_ours(&name.replace('_', "-"))
    };
    let names: Vec<HeaderName> = headers.keys().filter(is_look_alike).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn is_ours(name: &str) -> bool {
    let known = KEPT.iter().chain(&HOP_BY_HOP).any(|kept| kept == name);
    known || front::is_forwarding(name)
}

fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(|option| option.trim().to_owned())).collect()
}

/// What headers take in memory, at least.
pub(crate) fn bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Whether the answer is a stream of events, which ends when somebody leaves.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_event_stream_type(value.as_bytes()))
}

/// The same of a `Content-Type`.
pub(crate) fn is_event_stream_type(value: &[u8]) -> bool {
    value.starts_with(b"text/event-stream")
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn prepared(mut map: HeaderMap, upgrade: Option<&HeaderValue>) -> HeaderMap {
        let forwarded = Forwarded {
            authority: "shop.example",
            request_id: "id",
            came: &Came { forwarded_for: "1.2.3.4".to_owned(), https: false, port: 80, through_front: false },
            unix_ms: 5,
            chunked: false,
        };
        prepare_request(&mut map, upgrade, &forwarded);
        map
    }

    #[test]
    fn a_dyno_gets_what_heroku_gives_it() {
        let map = prepared(headers(&[("via", "1.0 cdn"), ("x-forwarded-proto", "https"), ("cookie", "a=b")]), None);
        assert_eq!(map[X_FORWARDED_FOR], "1.2.3.4");
        assert_eq!(map[X_FORWARDED_PROTO], "http");
        assert_eq!(map[X_FORWARDED_PORT], "80");
        assert_eq!(map[X_REQUEST_START], "5");
        assert_eq!(map["cookie"], "a=b");
        assert_eq!(map.get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 cdn", "1.1 berth"]);
    }

    #[test]
    fn hop_by_hop_headers_stay_on_their_hop() {
        let map = prepared(
            headers(&[
                ("connection", "close, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("upgrade", "websocket"),
                ("te", "trailers, deflate"),
            ]),
            None,
        );
        for name in ["connection", "x-private", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!map.contains_key(name), "{name}");
        }
        assert_eq!(map[TE], "trailers");
    }

    #[test]
    fn a_client_cannot_strip_the_routers_headers() {
        let map = prepared(
            headers(&[("connection", "x-forwarded-for, host, content-length"), ("content-length", "3")]),
            None,
        );
        assert_eq!(map[X_FORWARDED_FOR], "1.2.3.4");
        assert_eq!(map[HOST], "shop.example");
        assert_eq!(map[CONTENT_LENGTH], "3");
    }

    #[test]
    fn headers_that_cgi_takes_for_ours_are_removed() {
        let map = prepared(
            headers(&[
                ("x_forwarded_proto", "https"),
                ("content_length", "5"),
                ("x_forwarded-for", "1"),
                ("x_own", "1"),
            ]),
            None,
        );
        for name in ["x_forwarded_proto", "content_length", "x_forwarded-for"] {
            assert!(!map.contains_key(name), "{name}");
        }
        assert_eq!(map["x_own"], "1");
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_is_never_h2c() {
        let asked = |pairs: &[_]| upgrade_asked(&headers(pairs));
        assert!(asked(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]).is_some());
        assert!(asked(&[("upgrade", "websocket")]).is_none());
        assert!(asked(&[("connection", "Upgrade"), ("upgrade", "h2c")]).is_none());
    }

    #[test]
    fn cookies_in_pieces_become_one() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("x", "y")]);
        join_cookies(&mut map);
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_request_for_http2_has_its_host_in_the_target() {
        let mut request = Request::get("/x?y").header(HOST, "shop.example:80").header(TE, "trailers").body(()).unwrap();
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        turn_to_http2(&mut request);
        assert_eq!(request.uri().to_string(), "http://shop.example:80/x?y");
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), [TE]);
    }

    #[test]
    fn only_a_sane_request_id_is_kept() {
        let kept = |id: &'static str| request_id(&headers(&[("x-request-id", id)])) == id;
        assert!(kept("8601b555-6a83-4c12-8269-97c8e32cdb22"));
        assert!(!kept("short"));
        assert!(!kept("8601b555-6a83-4c12-8269-97c8e32cdb22 at=error"));
    }
}
