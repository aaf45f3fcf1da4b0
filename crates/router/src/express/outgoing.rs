//! A request of the express lane on its way to a dyno: the bytes to send, and where in them the facts for the log are.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use httparse::Header;
use uuid::{Builder, Uuid};

use super::request_head::RequestHead;
use super::response_head::line;
use crate::app::App;
use crate::front::{Came, Fronts};
use crate::places::{AppPlace, Hold};
use crate::{forward, random};

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) app: Arc<App>,
    /// Head and body.
    pub(super) bytes: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    host: Range<usize>,
    request_id: Range<usize>,
    forwarded_for: Range<usize>,
    /// What the client would like to read, should the router answer by itself.
    accept: Option<Range<usize>>,
    pub(super) body_bytes: u64,
    /// The answer has no body, whatever its head says.
    pub(super) head_only: bool,
    /// It may be sent twice (RFC 9110, 9.2.2).
    pub(super) idempotent: bool,
    /// The client wants the connection closed after the answer.
    pub(super) close: bool,
    /// The client came over TLS, be it to a front.
    pub(super) https: bool,
    /// Its share of what the app may hold.
    _place: AppPlace,
    /// Of memory, if it is more than little.
    pub(super) held: Option<Hold>,
}

/// Where a request came from, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) came: &'a Came,
    pub(super) fronts: &'a Fronts,
    pub(super) unix_ms: u64,
}

impl Outgoing {
    /// Turns a client's request into one for a dyno of `app`, as `forward::prepare_request` does on the full path.
    ///
    /// `bytes` is an empty buffer. `body` is whole.
    pub(super) fn new(
        app: Arc<App>,
        head: &RequestHead<'_, '_>,
        body: &[u8],
        source: Source<'_>,
        place: AppPlace,
        mut bytes: Vec<u8>,
    ) -> Self {
        let method = push(&mut bytes, head.method.as_bytes());
        bytes.push(b' ');
        let target = push(&mut bytes, head.target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        let authority = push(&mut bytes, head.authority.as_bytes());
        let host = authority.start..authority.start + head.host().len();
        bytes.extend_from_slice(b"\r\n");
        let mut accept = None;
        let mut given_id = None;
        let Source { came, fronts, unix_ms } = source;
        for Header { name, value } in head.headers {
            match treatment(name) {
                Treatment::Pass if fronts.withholds(name, came.through_front) => {}
                Treatment::Pass => line(&mut bytes, name.as_bytes(), value),
                Treatment::Accept => {
                    bytes.extend_from_slice(b"accept: ");
                    accept = Some(push(&mut bytes, value));
                    bytes.extend_from_slice(b"\r\n");
                }
                Treatment::RequestId => given_id = given_id.or_else(|| std::str::from_utf8(value).ok()),
                Treatment::Drop => {}
            }
        }
        bytes.extend_from_slice(b"x-request-id: ");
        let request_id = match given_id.filter(|id| forward::is_sane_request_id(id)) {
            Some(id) => push(&mut bytes, id.as_bytes()),
            None => push(&mut bytes, new_id().as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes()),
        };
        bytes.extend_from_slice(b"\r\nx-forwarded-for: ");
        let forwarded_for = push(&mut bytes, came.forwarded_for.as_bytes());
        let proto = if came.https { "https" } else { "http" };
        write!(
            AsText(&mut bytes),
            "\r\nx-forwarded-proto: {proto}\r\nx-forwarded-port: {}\r\nx-request-start: {unix_ms}\r\nvia: 1.1 berth\r\n\r\n",
            came.port,
        )
        .unwrap_or_default();
        bytes.extend_from_slice(body);
        Self {
            app,
            method,
            target,
            host,
            request_id,
            forwarded_for,
            accept,
            body_bytes: body.len() as u64,
            head_only: head.method == "HEAD",
            idempotent: matches!(head.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS"),
            close: head.close,
            https: came.https,
            _place: place,
            held: None,
            bytes,
        }
    }

    pub(super) fn method(&self) -> &str {
        self.text(&self.method)
    }

    pub(super) fn target(&self) -> &str {
        self.text(&self.target)
    }

    pub(super) fn host(&self) -> &str {
        self.text(&self.host)
    }

    pub(super) fn request_id(&self) -> &str {
        self.text(&self.request_id)
    }

    pub(super) fn forwarded_for(&self) -> &str {
        self.text(&self.forwarded_for)
    }

    pub(super) fn accept(&self) -> Option<&[u8]> {
        self.bytes.get(self.accept.clone()?)
    }

    /// Each of these was checked to be ASCII.
    fn text(&self, range: &Range<usize>) -> &str {
        self.bytes.get(range.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// Writing to it does not fail.
struct AsText<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for AsText<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn push(bytes: &mut Vec<u8>, value: &[u8]) -> Range<usize> {
    let begin = bytes.len();
    bytes.extend_from_slice(value);
    begin..bytes.len()
}

/// Unique, not secret: two words of the thread's generator instead of a system call for each request.
fn new_id() -> Uuid {
    let random = u128::from(random::next()) << 64 | u128::from(random::next());
    Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}

enum Treatment {
    Pass,
    Accept,
    RequestId,
    Drop,
}

fn treatment(name: &str) -> Treatment {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        4 if is("host") => Treatment::Drop,
        6 if is("accept") => Treatment::Accept,
        10 if is("connection") || is("keep-alive") => Treatment::Drop,
        12 if is("x-request-id") => Treatment::RequestId,
        15 if is("x-forwarded-for") || is("x-request-start") => Treatment::Drop,
        16 if is("proxy-connection") || is("x-forwarded-port") => Treatment::Drop,
        17 if is("x-forwarded-proto") => Treatment::Drop,
        _ => Treatment::Pass,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use wire::routes::{EdgeSettings, RequestLimits};

    use super::super::request_head::{HEADERS_MAX, Parsed, parse};
    use super::*;
    use crate::app::AppView;
    use crate::worker::Origin;

    fn outgoing(text: &str) -> Outgoing {
        let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let Parsed::Whole(head) = parse(text.as_bytes(), &mut space) else { panic!("{text}") };
        let view = AppView {
            availability: None,
            dynos: Vec::new(),
            limits: RequestLimits::default(),
            edge: EdgeSettings::default(),
            admission: wire::routes::AdmissionSettings::default(),
        };
        let fronts = Arc::new(Fronts::default());
        let (peer, local) = ("[::ffff:1.2.3.4]:5".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let came = fronts.judge(&Origin::new(peer, local, fronts.clone()), head.headers).unwrap();
        let source = Source { came: &came, fronts: &fronts, unix_ms: 5 };
        let body = &text.as_bytes()[head.head_bytes..];
        let place = Arc::new(crate::places::AppPlaces::new(Arc::default())).enter(1).unwrap();
        Outgoing::new(
            Arc::new(App::new(Uuid::nil(), Uuid::nil(), view, Arc::default())),
            &head,
            body,
            source,
            place,
            Vec::new(),
        )
    }

    #[test]
    fn a_dyno_gets_what_heroku_gives_it() {
        let request = outgoing(
            "POST /a?b HTTP/1.1\r\nHost: shop.example:81\r\nVia: 1.0 cdn\r\nX-Forwarded-Proto: https\r\nCookie: a=b\r\n\
             Connection: keep-alive\r\nKeep-Alive: 5\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n\
             X-Request-ID: 8601b555-6a83-4c12-8269-97c8e32cdb22\r\nAccept: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        );
        assert_eq!(
            String::from_utf8_lossy(&request.bytes),
            "POST /a?b HTTP/1.1\r\nhost: shop.example:81\r\nVia: 1.0 cdn\r\nCookie: a=b\r\naccept: text/plain\r\n\
             Content-Length: 3\r\nx-request-id: 8601b555-6a83-4c12-8269-97c8e32cdb22\r\n\
             x-forwarded-for: 9.9.9.9, 8.8.8.8, 1.2.3.4\r\nx-forwarded-proto: http\r\nx-forwarded-port: 80\r\n\
             x-request-start: 5\r\nvia: 1.1 berth\r\n\r\nabc"
        );
        assert_eq!((request.method(), request.target(), request.host()), ("POST", "/a?b", "shop.example"));
        assert_eq!(request.forwarded_for(), "9.9.9.9, 8.8.8.8, 1.2.3.4");
        assert_eq!(request.accept(), Some(&b"text/plain"[..]));
        assert!(!request.idempotent && !request.head_only && !request.close);
    }

    #[test]
    fn an_id_that_is_missing_or_not_sane_is_made() {
        let made = outgoing("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: x at=error\r\n\r\n");
        assert!(Uuid::parse_str(made.request_id()).is_ok(), "{}", made.request_id());
        let other = outgoing("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_ne!(made.request_id(), other.request_id());
    }
}
