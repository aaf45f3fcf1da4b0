//! A corpus of requests that two parsers may read differently. For each: what the client is answered, what the request
//! log says the router understood, and what the dyno received, read by a parser that accepts nothing but the plain
//! form. All three must be the same requests.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use crate::harness::{Client, HOST, TestDyno, TestRouter, app};

/// What the dyno must have received of a case, as `METHOD target body`; or the status of the refusal.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Served(&'static [&'static str]),
    /// Sound requests in front of the fault are served.
    Refused(&'static [&'static str], u16),
}

use Expect::{Refused, Served};

/// `@` stands for a sound head's host line, `~` for CR LF, `%%` for `@`.
const CORPUS: &[(&str, &str, Expect)] = &[
    // The plain forms, which must pass.
    ("plain get", "GET /a HTTP/1.1~@~", Served(&["GET /a "])),
    ("two gets", "GET /a HTTP/1.1~@~GET /b HTTP/1.1~@~", Served(&["GET /a ", "GET /b "])),
    ("length", "POST /a HTTP/1.1~@Content-Length: 3~~abc", Served(&["POST /a abc"])),
    ("length zero", "POST /a HTTP/1.1~@Content-Length: 0~~", Served(&["POST /a "])),
    ("chunks", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~~", Served(&["POST /a abc"])),
    (
        "chunk in upper hex",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~A~0123456789~0~~",
        Served(&["POST /a 0123456789"]),
    ),
    (
        "chunk with leading zeros",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~0003~abc~00~~",
        Served(&["POST /a abc"]),
    ),
    ("chunk extension", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3;a=b~abc~0;c~~", Served(&["POST /a abc"])),
    ("trailers", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~X: y~~", Served(&["POST /a abc"])),
    (
        "body that looks like a request",
        "POST /a HTTP/1.1~@Content-Length: 18~~GET /x HTTP/1.1~\n\nGET /b HTTP/1.1~@~",
        Refused(&["POST /a GET /x HTTP/1.1\r\n\n"], 400),
    ),
    ("empty line before a request", "~GET /a HTTP/1.1~@~", Served(&["GET /a "])),
    (
        "get with a body",
        "GET /a HTTP/1.1~@Content-Length: 3~~abcGET /b HTTP/1.1~@~",
        Served(&["GET /a abc", "GET /b "]),
    ),
    ("absolute form", "GET http://shop.example/a HTTP/1.1~@~", Served(&["GET /a "])),
    ("options for all", "OPTIONS * HTTP/1.1~@~", Served(&["OPTIONS * "])),
    ("percent-encoded line end", "GET /a%0d%0aX:%20y HTTP/1.1~@~", Served(&["GET /a%0d%0aX:%20y "])),
    ("latin-1 in a value", "GET /a HTTP/1.1~@X: \u{e9}~~", Served(&["GET /a "])),
    // What a client says about its connection takes nothing away that frames the request or says where it came from.
    ("connection names the host", "GET /a HTTP/1.1~@Connection: host~~", Served(&["GET /a "])),
    (
        "connection names the length",
        "POST /a HTTP/1.1~@Connection: content-length~Content-Length: 3~~abc",
        Served(&["POST /a abc"]),
    ),
    (
        "connection names the length of a body that looks like a request",
        "POST /a HTTP/1.1~@Content-Length: 24~Connection: keep-alive, Content-Length~~GET /x HTTP/1.1~Host: y",
        Served(&["POST /a GET /x HTTP/1.1\r\nHost: y"]),
    ),
    (
        "connection names the coding",
        "POST /a HTTP/1.1~@Connection: Transfer-Encoding~Transfer-Encoding: chunked~~3~abc~0~~",
        Served(&["POST /a abc"]),
    ),
    (
        "connection names where it came from",
        "GET /a HTTP/1.1~@Connection: x-forwarded-for, x-forwarded-proto~X-Forwarded-For: 1.2.3.4~~",
        Served(&["GET /a "]),
    ),
    ("connection names all", "GET /a HTTP/1.1~@Connection: host, x-request-id, via, *~~", Served(&["GET /a "])),
    (
        "connection in two lines",
        "POST /a HTTP/1.1~@Connection: keep-alive~Content-Length: 3~Connection: content-length, host~~abc",
        Served(&["POST /a abc"]),
    ),
    // What stands behind a body frames nothing.
    (
        "length behind a body",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~Content-Length: 30~~",
        Served(&["POST /a abc"]),
    ),
    (
        "announced length behind a body",
        "POST /a HTTP/1.1~@Trailer: content-length~Transfer-Encoding: chunked~~3~abc~0~Content-Length: 30~~",
        Served(&["POST /a abc"]),
    ),
    (
        "announced coding and host behind a body",
        "POST /a HTTP/1.1~@TE: trailers~Trailer: transfer-encoding, host~Transfer-Encoding: chunked~~3~abc~0~\
         Transfer-Encoding: chunked~Host: other.example~~",
        Served(&["POST /a abc"]),
    ),
    ("no field behind a body", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~nonsense~~", Refused(&[], 400)),
    (
        "a request behind a body",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~GET /x HTTP/1.1~Host: y~~",
        Refused(&[], 400),
    ),
    // An upgrade comes alone: with a body, it is none.
    (
        "upgrade with a body",
        "GET /a HTTP/1.1~@Connection: Upgrade~Upgrade: websocket~Content-Length: 3~~abc",
        Served(&["GET /a abc"]),
    ),
    (
        "upgrade with chunks",
        "GET /a HTTP/1.1~@Connection: Upgrade~Upgrade: websocket~Transfer-Encoding: chunked~~3~abc~0~~",
        Served(&["GET /a abc"]),
    ),
    (
        "upgrade to another HTTP",
        "GET /a HTTP/1.1~@Connection: Upgrade, HTTP2-Settings~Upgrade: h2c~HTTP2-Settings: AAMAAABkAAQAAP__~~",
        Served(&["GET /a "]),
    ),
    // Length and chunks at once.
    ("length then chunks", "POST /a HTTP/1.1~@Content-Length: 6~Transfer-Encoding: chunked~~0~~G", Refused(&[], 400)),
    (
        "chunks then length",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~Content-Length: 3~~8~SMUGGLED~0~~",
        Refused(&[], 400),
    ),
    (
        "both behind a sound one",
        "GET /a HTTP/1.1~@~POST /b HTTP/1.1~@Content-Length: 4~Transfer-Encoding: chunked~~5c~",
        Refused(&["GET /a "], 400),
    ),
    ("both, odd case", "POST /a HTTP/1.1~@cOnTeNt-LeNgTh: 6~tRANSFER-ENCODING: CHUNKED~~0~~G", Refused(&[], 400)),
    (
        "both, far apart",
        "POST /a HTTP/1.1~@Content-Length: 6~A: 1~B: 2~C: 3~Transfer-Encoding: chunked~~0~~G",
        Refused(&[], 400),
    ),
    // Lengths.
    ("two different lengths", "POST /a HTTP/1.1~@Content-Length: 3~Content-Length: 4~~abcd", Refused(&[], 400)),
    ("two equal lengths", "POST /a HTTP/1.1~@Content-Length: 3~Content-Length: 3~~abc", Refused(&[], 400)),
    ("list of lengths", "POST /a HTTP/1.1~@Content-Length: 3, 3~~abc", Refused(&[], 400)),
    ("signed length", "POST /a HTTP/1.1~@Content-Length: +3~~abc", Refused(&[], 400)),
    ("negative length", "POST /a HTTP/1.1~@Content-Length: -3~~abc", Refused(&[], 400)),
    ("hex length", "POST /a HTTP/1.1~@Content-Length: 0x3~~abc", Refused(&[], 400)),
    ("octal length", "POST /a HTTP/1.1~@Content-Length: 010~~1234567890", Refused(&[], 400)),
    ("length with a point", "POST /a HTTP/1.1~@Content-Length: 3.0~~abc", Refused(&[], 400)),
    ("length with a space", "POST /a HTTP/1.1~@Content-Length: 1 0~~0123456789", Refused(&[], 400)),
    ("huge length", "POST /a HTTP/1.1~@Content-Length: 99999999999999999999~~abc", Refused(&[], 400)),
    ("empty length", "POST /a HTTP/1.1~@Content-Length:~~", Refused(&[], 400)),
    ("space before the colon", "POST /a HTTP/1.1~@Content-Length : 3~~abc", Refused(&[], 400)),
    ("vertical tab in a length", "POST /a HTTP/1.1~@Content-Length: \x0b3~~abc", Refused(&[], 400)),
    // Transfer codings.
    ("unknown coding", "POST /a HTTP/1.1~@Transfer-Encoding: xchunked~~0~~", Refused(&[], 400)),
    ("coding in quotes", "POST /a HTTP/1.1~@Transfer-Encoding: \"chunked\"~~0~~", Refused(&[], 400)),
    ("gzip inside chunks", "POST /a HTTP/1.1~@Transfer-Encoding: gzip, chunked~~0~~", Refused(&[], 400)),
    ("chunks inside gzip", "POST /a HTTP/1.1~@Transfer-Encoding: chunked, gzip~~0~~", Refused(&[], 400)),
    ("chunked twice", "POST /a HTTP/1.1~@Transfer-Encoding: chunked, chunked~~0~~", Refused(&[], 400)),
    (
        "chunked in two lines",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~",
        Refused(&[], 400),
    ),
    (
        "chunked and identity",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~Transfer-Encoding: identity~~0~~",
        Refused(&[], 400),
    ),
    ("identity", "POST /a HTTP/1.1~@Transfer-Encoding: identity~~", Refused(&[], 400)),
    ("coding with a parameter", "POST /a HTTP/1.1~@Transfer-Encoding: chunked;q=1~~0~~", Refused(&[], 400)),
    ("vertical tab before chunked", "POST /a HTTP/1.1~@Transfer-Encoding: \x0bchunked~~0~~", Refused(&[], 400)),
    ("coding folded", "POST /a HTTP/1.1~@Transfer-Encoding:~ chunked~~0~~", Refused(&[], 400)),
    ("space before the coding's colon", "POST /a HTTP/1.1~@Transfer-Encoding : chunked~~0~~", Refused(&[], 400)),
    ("chunks in HTTP/1.0", "POST /a HTTP/1.0~@Transfer-Encoding: chunked~~0~~", Refused(&[], 400)),
    ("empty coding", "POST /a HTTP/1.1~@Transfer-Encoding:~~0~~", Refused(&[], 400)),
    // Chunks. The dyno has seen the head by then, and never an end of the body.
    ("chunk size with a space", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3 ~abc~0~~", Refused(&[], 400)),
    ("chunk size with a sign", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~+3~abc~0~~", Refused(&[], 400)),
    ("chunk size with 0x", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~0x3~abc~0~~", Refused(&[], 400)),
    ("chunk size with an underscore", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~0_3~abc~0~~", Refused(&[], 400)),
    ("huge chunk size", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~10000000000000003~abc~0~~", Refused(&[], 400)),
    ("empty chunk size", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~~abc~0~~", Refused(&[], 400)),
    ("bare line feed behind a size", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3\nabc~0~~", Refused(&[], 400)),
    (
        "bare line feed in an extension",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3;a\nb~abc~0~~",
        Refused(&[], 400),
    ),
    (
        "bare carriage return in an extension",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3;a\rb~abc~0~~",
        Refused(&[], 400),
    ),
    ("NUL in an extension", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3;a\0~abc~0~~", Refused(&[], 400)),
    ("chunk longer than it says", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abcd~0~~", Refused(&[], 400)),
    ("bare line feed behind a chunk", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc\n0~~~", Refused(&[], 400)),
    (
        "bare line feed in trailers",
        "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~X: y\nZ: a~~",
        Refused(&[], 400),
    ),
    ("bare line feed ends the body", "POST /a HTTP/1.1~@Transfer-Encoding: chunked~~3~abc~0~\n", Refused(&[], 400)),
    // Lines and characters.
    ("bare line feeds", "GET /a HTTP/1.1\nHost: shop.example\n\n", Refused(&[], 400)),
    ("one bare line feed", "GET /a HTTP/1.1~@X: y\nZ: a~~", Refused(&[], 400)),
    ("bare line feed ends the head", "GET /a HTTP/1.1~@X: y~\n", Refused(&[], 400)),
    ("bare carriage return in a value", "GET /a HTTP/1.1~@X: y\rZ: a~~", Refused(&[], 400)),
    ("carriage return twice", "GET /a HTTP/1.1~@X: y\r~~", Refused(&[], 400)),
    ("NUL in a value", "GET /a HTTP/1.1~@X: a\0b~~", Refused(&[], 400)),
    ("NUL in a name", "GET /a HTTP/1.1~@X\0: a~~", Refused(&[], 400)),
    ("control in a value", "GET /a HTTP/1.1~@X: a\x08b~~", Refused(&[], 400)),
    ("delete in a value", "GET /a HTTP/1.1~@X: a\x7fb~~", Refused(&[], 400)),
    ("folded header", "GET /a HTTP/1.1~@X: a~ b~~", Refused(&[], 400)),
    ("folded by a tab", "GET /a HTTP/1.1~@X: a~\tb~~", Refused(&[], 400)),
    ("first header begins with a space", "GET /a HTTP/1.1~ X: a~@~", Refused(&[], 400)),
    ("header without a colon", "GET /a HTTP/1.1~@X~~", Refused(&[], 400)),
    ("header without a name", "GET /a HTTP/1.1~@: a~~", Refused(&[], 400)),
    ("space in a name", "GET /a HTTP/1.1~@X Y: a~~", Refused(&[], 400)),
    // Request lines.
    ("no host", "GET /a HTTP/1.1~~", Refused(&[], 400)),
    ("two hosts", "GET /a HTTP/1.1~@@~", Refused(&[], 400)),
    ("host with a path", "GET /a HTTP/1.1~Host: shop.example/x~~", Refused(&[], 400)),
    ("host with a user", "GET /a HTTP/1.1~Host: a%%shop.example~~", Refused(&[], 400)),
    ("host with a comma", "GET /a HTTP/1.1~Host: shop.example, b~~", Refused(&[], 400)),
    ("target with a user", "GET http://a%%shop.example/a HTTP/1.1~@~", Refused(&[], 400)),
    ("target with a fragment", "GET /a#b HTTP/1.1~@~", Refused(&[], 400)),
    ("target without a slash", "GET a HTTP/1.1~@~", Refused(&[], 400)),
    ("target of another scheme", "GET ftp://shop.example/a HTTP/1.1~@~", Refused(&[], 400)),
    ("star for get", "GET * HTTP/1.1~@~", Refused(&[], 400)),
    ("tab between words", "GET\t/a\tHTTP/1.1~@~", Refused(&[], 400)),
    ("two spaces", "GET  /a HTTP/1.1~@~", Refused(&[], 400)),
    ("space in the target", "GET /a b HTTP/1.1~@~", Refused(&[], 400)),
    ("NUL in the target", "GET /a\0b HTTP/1.1~@~", Refused(&[], 400)),
    ("space behind the version", "GET /a HTTP/1.1 ~@~", Refused(&[], 400)),
    ("lower-case version", "GET /a http/1.1~@~", Refused(&[], 400)),
    ("version 1.2", "GET /a HTTP/1.2~@~", Refused(&[], 400)),
    ("version 2.0", "GET /a HTTP/2.0~@~", Refused(&[], 400)),
    ("no version", "GET /a~~", Refused(&[], 400)),
    ("lower-case method", "get /a HTTP/1.1~@~", Refused(&[], 400)),
    ("connect", "CONNECT shop.example:443 HTTP/1.1~@~", Refused(&[], 400)),
    ("trace", "TRACE /a HTTP/1.1~@~", Refused(&[], 405)),
    ("method with a control", "G\x01T /a HTTP/1.1~@~", Refused(&[], 400)),
    ("unknown expectation", "POST /a HTTP/1.1~@Expect: tea~Content-Length: 3~~abc", Refused(&[], 417)),
    ("no HTTP at all", "SSH-2.0-OpenSSH_9.6~~", Refused(&[], 400)),
];

/// Bytes, with one byte for each character: the corpus has no others.
fn raw(case: &str) -> Vec<u8> {
    let text = case.replace('@', &format!("Host: {HOST}~")).replace("%%", "@").replace('~', "\r\n");
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

/// Everything that one connection to the dyno carried.
pub(crate) type Received = Arc<Mutex<Vec<u8>>>;

/// Records every byte and answers each whole request.
pub(crate) fn recorder(all: &Arc<Mutex<Vec<Received>>>) -> TestDyno {
    let all = all.clone();
    TestDyno::start(move |mut stream| {
        let received = Received::default();
        all.lock().unwrap().push(received.clone());
        let mut bytes = [0; 4096];
        let mut answered = 0;
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let mut record = received.lock().unwrap();
            record.extend_from_slice(&bytes[..count]);
            let whole = parse(&record).0.len();
            drop(record);
            for _request in answered..whole {
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
            answered = whole;
        }
    })
}

/// The whole requests in what was received, as `METHOD target body`, and whether something is left over.
///
/// Panics on anything that is not in the plainest form.
pub(crate) fn parse(mut bytes: &[u8]) -> (Vec<String>, bool) {
    let mut requests = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head: String = bytes[..end].iter().map(|&byte| char::from(byte)).collect();
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head:?}");
        let mut lines = head.split("\r\n");
        let request_line: Vec<&str> = lines.next().unwrap().split(' ').collect();
        assert!(request_line.len() == 3 && request_line[2] == "HTTP/1.1", "{head:?}");
        let headers: Vec<(String, &str)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{line:?}");
                (name.to_ascii_lowercase(), value)
            })
            .collect();
        let all_of = |name: &str| -> Vec<&str> {
            headers.iter().filter(|(header, _value)| header == name).map(|(_header, value)| *value).collect()
        };
        let (lengths, codings) = (all_of("content-length"), all_of("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1 && all_of("host").len() == 1, "{head:?}");
        let [client] = all_of("x-forwarded-for")[..] else { panic!("{head:?}") };
        assert!(client.rsplit(", ").next() == Some("127.0.0.1") && all_of("x-forwarded-proto") == ["http"], "{head:?}");
        assert!(all_of("upgrade").is_empty() && all_of("connection").is_empty(), "{head:?}");
        let rest = &bytes[end + 4..];
        let (body, used) = match (lengths.first(), codings.first()) {
            (Some(length), _) => {
                let length = length.parse().unwrap();
                let Some(body) = rest.get(..length) else { return (requests, true) };
                (body.to_vec(), length)
            }
            (None, Some(coding)) => {
                assert_eq!(*coding, "chunked");
                let Some(parsed) = parse_chunks(rest) else { return (requests, true) };
                parsed
            }
            (None, None) => (Vec::new(), 0),
        };
        let body: String = body.iter().map(|&byte| char::from(byte)).collect();
        requests.push(format!("{} {} {body}", request_line[0], request_line[1]));
        bytes = &rest[used..];
    }
    (requests, !bytes.is_empty())
}

/// The body and the bytes that it took; `None` if it is not whole.
fn parse_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line_end = at + bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[at..line_end]).unwrap();
        assert!(!line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line:?}");
        let size = usize::from_str_radix(line, 16).unwrap();
        at = line_end + 2;
        if size == 0 {
            assert!(bytes.len() < at + 2 || &bytes[at..at + 2] == b"\r\n", "no trailers were announced");
            return (bytes.len() >= at + 2).then_some((body, at + 2));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        assert!(bytes.len() < at + size + 2 || &bytes[at + size..at + size + 2] == b"\r\n");
        at += size + 2;
        bytes.get(at..)?;
    }
}

#[test]
fn what_the_dyno_receives_is_what_the_router_understood() {
    const THREADS: usize = 8;
    assert!(CORPUS.len() >= 100);
    std::thread::scope(|scope| {
        for cases in CORPUS.chunks(CORPUS.len().div_ceil(THREADS)) {
            scope.spawn(move || {
                for (name, case, expect) in cases {
                    // Whole, and cut where it hurts most: at every byte.
                    for piece_bytes in [usize::MAX, 1] {
                        check(name, case, *expect, piece_bytes);
                    }
                }
            });
        }
    });
}

fn check(name: &str, case: &str, expect: Expect, piece_bytes: usize) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let dyno = recorder(&all);
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = Client::connect(router.address);
    for piece in raw(case).chunks(piece_bytes) {
        // A refusal may come before the end of the case.
        if client.stream.write_all(piece).is_err() {
            break;
        }
    }
    let (served, refusal) = match expect {
        Served(served) => (served, None),
        Refused(served, status) => (served, Some(status)),
    };
    for request in served {
        let response = client.response();
        assert_eq!((response.status(), response.body.as_str()), (200, "ok"), "{name}: {request}");
    }
    match refusal {
        Some(status) => {
            let answer = crate::harness::read_head(&mut client.stream).unwrap_or_else(|| panic!("{name}: no answer"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            let rest = client.expect_end();
            assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{name}: a second answer");
        }
        None => {
            let next = client.get("/in-step");
            assert_eq!((next.status(), next.body.as_str()), (200, "ok"), "{name}: the connection is out of step");
        }
    }
    let mut log = router.drain_and_read_log();
    let mut received = Vec::new();
    for connection in all.lock().unwrap().iter() {
        let (requests, _cut_off) = parse(&connection.lock().unwrap());
        received.extend(requests);
    }
    let in_step = refusal.is_none().then_some("GET /in-step ");
    let expected: Vec<&str> = served.iter().copied().chain(in_step).collect();
    assert_eq!(received, expected, "{name}: what the dyno received");
    log.retain(|line| line.starts_with("at=info"));
    let understood: Vec<String> =
        log.iter().map(|line| format!("{} {}", field(line, "method="), field(line, "path="))).collect();
    let sent: Vec<String> =
        expected.iter().map(|request| request.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(understood, sent, "{name}: what the router understood");
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(name).nth(1).unwrap().split(' ').next().unwrap().trim_matches('"')
}
