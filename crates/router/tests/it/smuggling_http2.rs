//! Requests over HTTP/2 that become something else when they are written as HTTP/1. The frames are written by hand,
//! because no library sends such. For each: how the client is answered, and what the dyno received, read by a parser that
//! accepts nothing but the plain form.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, ok};
use crate::smuggling::{parse, recorder};

/// What becomes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The dyno receives this, as `METHOD target body`.
    Served(&'static str),
    Refused(u16),
    /// RFC 9113, 8.1.1: a malformed request is a fault of its stream.
    Reset,
}

use Expect::{Refused, Reset, Served};

/// A field that replaces the one of the same name of a sound GET, or is added to it.
type Field = (&'static str, &'static str);

/// The changed fields of a sound GET for `/a`, a body if there is one, and fields behind it.
#[derive(Debug, Clone, Copy)]
struct Case(&'static [Field], Option<&'static str>, &'static [Field], Expect);

const fn head(fields: &'static [Field], expect: Expect) -> Case {
    Case(fields, None, &[], expect)
}

const fn post(fields: &'static [Field], body: &'static str, expect: Expect) -> Case {
    Case(fields, Some(body), &[], expect)
}

const CORPUS: &[Case] = &[
    // The plain forms, which must pass.
    head(&[], Served("GET /a ")),
    head(&[("x", "a: b")], Served("GET /a ")),
    head(&[("x", "")], Served("GET /a ")),
    head(&[("x", "\u{e9}")], Served("GET /a ")),
    head(&[(":path", "/a?b=%0d%0aX:%20y")], Served("GET /a?b=%0d%0aX:%20y ")),
    head(&[(":path", "//a/../b")], Served("GET //a/../b ")),
    head(&[(":method", "OPTIONS"), (":path", "*")], Served("OPTIONS * ")),
    head(&[("host", HOST)], Served("GET /a ")),
    head(&[("-:authority", ""), ("host", HOST)], Served("GET /a ")),
    head(&[("content-length", "0")], Served("GET /a ")),
    post(&[("content-length", "3")], "abc", Served("POST /a abc")),
    post(&[], "abc", Served("POST /a abc")),
    post(&[], "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", Served("POST /a 0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")),
    post(&[], "", Served("POST /a ")),
    // Line ends and other characters that could end something.
    head(&[(":path", "/a HTTP/1.1\r\nX: y")], Reset),
    head(&[(":path", "/a\r\nX: y")], Reset),
    head(&[(":path", "/a\nX: y")], Reset),
    head(&[(":path", "/a\rb")], Reset),
    head(&[(":path", "/a\0b")], Reset),
    head(&[(":path", "/a b")], Reset),
    head(&[(":path", "/a\tb")], Reset),
    head(&[(":path", "/a\x08b")], Reset),
    head(&[(":path", "/a\x7fb")], Reset),
    head(&[(":path", "/a ")], Reset),
    head(&[(":path", " /a")], Reset),
    head(&[(":method", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET")], Reset),
    head(&[(":method", "GET /b HTTP/1.1")], Reset),
    head(&[(":method", "GET\n")], Reset),
    head(&[(":method", "G\0ET")], Reset),
    head(&[(":scheme", "https\r\nX: y")], Reset),
    head(&[(":scheme", "https://other.example/?")], Reset),
    head(&[(":authority", "shop.example\r\nX: y")], Reset),
    head(&[(":authority", "shop.example\n")], Reset),
    head(&[(":authority", "shop.example x")], Reset),
    head(&[(":authority", "shop\0.example")], Reset),
    head(&[("x", "a\r\nTransfer-Encoding: chunked")], Reset),
    head(&[("x", "a\r\n\r\nGET /x HTTP/1.1")], Reset),
    head(&[("x", "a\nb")], Reset),
    head(&[("x", "a\rb")], Reset),
    head(&[("x", "a\0b")], Reset),
    head(&[("x", "a\x08b")], Reset),
    head(&[("x", "a\x7fb")], Reset),
    head(&[("x", " a")], Reset),
    head(&[("x", "a\t")], Reset),
    head(&[("x", "a\r")], Reset),
    head(&[("cookie", "a=1"), ("cookie", "b\r\nX: y")], Reset),
    head(&[("x: y\r\nz", "a")], Reset),
    head(&[("x\n", "a")], Reset),
    head(&[("x\0", "a")], Reset),
    head(&[("x y", "a")], Reset),
    head(&[(" x", "a")], Reset),
    head(&[("x:", "a")], Reset),
    head(&[("x\u{e9}", "a")], Reset),
    head(&[("", "a")], Reset),
    head(&[("X", "a")], Reset),
    post(&[("Content-Length", "0")], "abc", Reset),
    post(&[("Transfer-Encoding", "chunked")], "0\r\n\r\n", Reset),
    // What HTTP/1 frames a message with, and what concerns its connection.
    post(&[("transfer-encoding", "chunked")], "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", Reset),
    post(&[("transfer-encoding", "identity")], "abc", Reset),
    head(&[("transfer-encoding", "")], Reset),
    head(&[("connection", "close")], Reset),
    head(&[("connection", "host")], Reset),
    head(&[("connection", "upgrade"), ("upgrade", "h2c")], Reset),
    head(&[("upgrade", "websocket")], Reset),
    head(&[("keep-alive", "5")], Reset),
    head(&[("proxy-connection", "close")], Reset),
    head(&[("te", "gzip")], Reset),
    head(&[("te", "trailers, chunked")], Reset),
    post(&[("content-length", "2")], "abc", Reset),
    post(&[("content-length", "4")], "abc", Reset),
    post(&[("content-length", "0")], "abc", Reset),
    head(&[("content-length", "3")], Reset),
    post(&[("content-length", "3"), ("content-length", "3")], "abc", Reset),
    post(&[("content-length", "3, 3")], "abc", Reset),
    post(&[("content-length", "+3")], "abc", Reset),
    post(&[("content-length", "-3")], "abc", Reset),
    post(&[("content-length", "0x3")], "abc", Reset),
    post(&[("content-length", "")], "abc", Reset),
    post(&[("content-length", "99999999999999999999")], "abc", Reset),
    // Octal to some.
    post(&[("content-length", "003")], "abc", Refused(400)),
    // To CGI these are the real ones.
    post(&[("content_length", "0")], "abc", Served("POST /a abc")),
    post(&[("transfer_encoding", "chunked")], "abc", Served("POST /a abc")),
    // Targets, hosts and methods.
    head(&[(":path", "/a#b")], Refused(400)),
    head(&[(":path", "/a?b#")], Refused(400)),
    head(&[(":path", "/#/../b")], Refused(400)),
    head(&[(":path", "#")], Refused(400)),
    head(&[(":path", "a")], Reset),
    head(&[(":path", "")], Reset),
    head(&[(":path", "*")], Refused(400)),
    head(&[(":path", "http://other.example/a")], Reset),
    head(&[(":path", "?a")], Refused(400)),
    head(&[(":path", "/a"), (":path", "/b")], Reset),
    head(&[("-:path", "")], Reset),
    head(&[("-:method", "")], Reset),
    head(&[("-:scheme", "")], Reset),
    head(&[("-:authority", "")], Refused(400)),
    head(&[(":scheme", "ftp")], Refused(400)),
    head(&[(":scheme", "")], Refused(400)),
    head(&[(":authority", "")], Reset),
    head(&[(":authority", "a@shop.example")], Refused(400)),
    head(&[(":authority", "shop.example/x")], Reset),
    head(&[(":authority", "shop.example?x")], Reset),
    head(&[(":authority", "shop.example#x")], Reset),
    head(&[(":authority", "shop.example, b")], Reset),
    head(&[(":authority", "shop.example,b")], Refused(400)),
    head(&[(":authority", "shop.example:x")], Refused(400)),
    head(&[(":authority", "http://shop.example")], Reset),
    head(&[("host", "other.example")], Refused(400)),
    head(&[("-:authority", ""), ("host", "shop.example/x")], Refused(400)),
    head(&[("-:authority", ""), ("host", HOST), ("host", HOST)], Refused(400)),
    head(&[(":method", "get")], Refused(400)),
    head(&[(":method", "")], Reset),
    head(&[(":method", "TRACE")], Refused(405)),
    head(&[(":method", "CONNECT")], Reset),
    head(&[(":method", "CONNECT"), ("-:path", ""), ("-:scheme", "")], Refused(400)),
    head(&[(":protocol", "websocket"), (":method", "CONNECT")], Reset),
    head(&[(":status", "200")], Reset),
    head(&[(":foo", "a")], Reset),
    head(&[("x", "before"), ("+:foo", "a")], Reset),
    head(&[("expect", "tea")], Refused(417)),
    // Fields behind a body. A dyno to which none were announced gets none.
    Case(&[], Some("abc"), &[("x-sum", "1")], Served("POST /a abc")),
    Case(&[("trailer", "content-length, host")], Some("abc"), &[("content-length", "9")], Served("POST /a abc")),
    Case(&[("trailer", "transfer-encoding")], Some("abc"), &[("transfer-encoding", "chunked")], Served("POST /a abc")),
    Case(&[("trailer", "host")], Some("abc"), &[("host", "other.example")], Served("POST /a abc")),
    Case(&[("trailer", "x")], Some("abc"), &[("x", "a\r\n\r\nGET /x HTTP/1.1")], Reset),
    Case(&[], Some("abc"), &[("X", "a")], Reset),
    Case(&[], Some("abc"), &[(":path", "/b")], Reset),
    Case(&[("content-length", "4")], Some("abc"), &[("x-sum", "1")], Reset),
];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Fields as literals without an index, one byte for each character.
pub(crate) fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let text: Vec<u8> = text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect();
            assert!(text.len() < 127);
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend_from_slice(&text);
        }
    }
    bytes
}

/// A client whose frames are written by hand.
struct RawClient {
    client: Client,
    stream: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Status(u16),
    Reset,
    GoAway,
}

impl RawClient {
    fn connect(router: &TestRouter) -> Self {
        let mut client = router.connect();
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { client, stream: 1 }
    }

    fn ask(&mut self, head: &[u8], body: Option<&[u8]>, trailers: &[u8]) -> Answer {
        let id = self.stream;
        self.stream += 2;
        let ends = |last: bool| if last { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | ends(body.is_none()), id, head);
        if let Some(body) = body {
            bytes.extend(frame(DATA, ends(trailers.is_empty()), id, body));
        }
        if !trailers.is_empty() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, trailers));
        }
        self.client.stream.write_all(&bytes).unwrap();
        let mut status = None;
        loop {
            let mut frame = [0; 9];
            self.client.stream.read_exact(&mut frame).unwrap();
            let [_, high, low, kind, flags, stream @ ..] = frame;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            self.client.stream.read_exact(&mut payload).unwrap();
            match kind {
                GO_AWAY => return Answer::GoAway,
                _ if stream != id.to_be_bytes() => continue,
                RESET => return Answer::Reset,
                HEADERS if status.is_none() => status = Some(status_of(&payload)),
                _ => {}
            }
            if flags & END_STREAM != 0
                && let Some(status) = status
            {
                return Answer::Status(status);
            }
        }
    }

    fn ask_in_step(&mut self) -> Answer {
        self.ask(&block(fields(&[(":path", "/in-step")], "GET", false)), None, &[])
    }
}

/// The first field of an answer.
fn status_of(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [_literal, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        _ => panic!("{block:?}"),
    }
}

/// Those of a sound request with these changes: `-` before a name takes it away, `+` puts it behind the others.
fn fields(changes: &[Field], method: &'static str, full: bool) -> Vec<Field> {
    let mut fields = vec![(":method", method), (":scheme", "http"), (":path", "/a"), (":authority", HOST)];
    let mut changed = Vec::new();
    for &(name, value) in changes {
        if let Some(name) = name.strip_prefix('-') {
            fields.retain(|(known, _value)| *known != name);
        } else if let Some(name) = name.strip_prefix('+') {
            fields.push((name, value));
        } else if name.starts_with(':') && !changed.contains(&name) {
            changed.push(name);
            match fields.iter_mut().find(|(known, _value)| *known == name) {
                Some(field) => field.1 = value,
                None => fields.insert(0, (name, value)),
            }
        } else if name.starts_with(':') {
            fields.insert(0, (name, value));
        } else {
            fields.push((name, value));
        }
    }
    if full {
        fields.push(("te", "trailers"));
    }
    fields
}

#[test]
fn no_request_over_http2_becomes_another_one_on_its_way() {
    const THREADS: usize = 8;
    let faults = std::thread::scope(|scope| {
        let threads: Vec<_> = CORPUS
            .chunks(CORPUS.len().div_ceil(THREADS))
            .map(|cases| {
                // By the express lane as far as it takes it, and by the full path.
                let ways = |case| [(case, false), (case, true)];
                scope.spawn(move || cases.iter().flat_map(ways).filter_map(fault).collect::<Vec<String>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<String>>()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What went otherwise than it should.
fn fault((case, full): (&Case, bool)) -> Option<String> {
    let &Case(changes, body, trailers, expect) = case;
    let all = Arc::new(Mutex::new(Vec::new()));
    let dyno = recorder(&all);
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = RawClient::connect(&router);
    let method = if body.is_some() { "POST" } else { "GET" };
    let head = block(fields(changes, method, full));
    let answer = client.ask(&head, body.map(str::as_bytes), &block(trailers.iter().copied()));
    let in_step = client.ask_in_step();
    drop(client);
    router.drain();
    let mut received = Vec::new();
    for connection in all.lock().unwrap().iter() {
        let (requests, _cut_off) = parse(&connection.lock().unwrap());
        received.extend(requests);
    }
    let (expected, served) = match expect {
        Served(served) => (Answer::Status(200), Some(served)),
        Refused(status) => (Answer::Status(status), None),
        Reset => (Answer::Reset, None),
    };
    let sent: Vec<&str> = served.into_iter().chain(["GET /in-step "]).collect();
    let is_as_expected = answer == expected && in_step == Answer::Status(200) && received == sent;
    (!is_as_expected).then(|| format!("{case:?}, full: {full}: {answer:?}, then {in_step:?}; received {received:?}"))
}

/// Over HTTP/1 with this byte in its target, by the express lane or by the full path.
fn ask_over_http1(router: &TestRouter, byte: u8, full: bool) -> Option<u16> {
    let mut client = router.connect();
    let te = if full { "te: trailers\r\n" } else { "" };
    let head = [b"GET /a", &[byte][..], format!("b HTTP/1.1\r\nhost: {HOST}\r\n{te}\r\n").as_bytes()].concat();
    client.stream.write_all(&head).unwrap();
    let head = crate::harness::read_head(&mut client.stream)?;
    head.split(' ').nth(1).unwrap().parse().ok()
}

#[test]
fn a_character_of_a_target_is_taken_over_both_protocols_or_over_none() {
    let dyno = TestDyno::http(|_request| ok("served"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = RawClient::connect(&router);
    let mut taken = Vec::new();
    for byte in 0..=u8::MAX {
        for full in [false, true] {
            let mut target = block(fields(&[(":path", "/a_b")], "GET", full));
            let at = target.windows(4).position(|bytes| bytes == b"/a_b").unwrap();
            target[at + 2] = byte;
            let over_http2 = client.ask(&target, None, &[]) == Answer::Status(200);
            let over_http1 = ask_over_http1(&router, byte, full) == Some(200);
            assert_eq!(over_http1, over_http2, "{byte:#x}, full: {full}");
            if over_http2 {
                taken.push((byte, full));
            }
        }
    }
    assert!(taken.contains(&(b'%', false)) && taken.contains(&(b'%', true)));
    assert!(taken.iter().all(|(byte, _full)| byte.is_ascii_graphic() && *byte != b'#'), "{taken:?}");
    router.drain();
}
