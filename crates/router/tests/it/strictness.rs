//! Requests that are not quite HTTP are refused, never guessed at: what two parsers read differently is how requests
//! are smuggled.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, ok, read_head};

/// The raw request gets a 400 (or the given status) and the connection is closed behind it; the dyno sees nothing.
fn check(raw: &str, status: u16) {
    let dyno = TestDyno::http(|_request| ok("must not be seen"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(raw);
    let head = client.head();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{raw:?}: {head}");
    let rest = client.expect_end();
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{raw:?}: a second answer");
    assert_eq!(dyno.connections.load(std::sync::atomic::Ordering::SeqCst), 0, "{raw:?}");
    router.drain();
}

#[test]
fn ambiguous_heads_are_refused() {
    let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n");
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    check(&format!("{get}host: {HOST}\r\n\r\n"), 400);
    check("GET / HTTP/1.1\r\n\r\n", 400);
    check(&format!("{get}x-a: 1\r\n folded\r\n\r\n"), 400);
    check(&format!("{get}x-a : 1\r\n\r\n"), 400);
    check(&format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\nab"), 400);
    check(&format!("{post}content-length: +1\r\n\r\na"), 400);
    check(&format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), 400);
    check(&format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400);
    check(&format!("{get}expect: tea\r\n\r\n"), 417);
}

#[test]
fn a_length_and_chunks_together_are_refused_in_either_order() {
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    let smuggled = format!("0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    check(&format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}"), 400);
    check(&format!("{post}transfer-encoding: chunked\r\nContent-Length: 5\r\n\r\n{smuggled}"), 400);
}

#[test]
fn a_bare_line_feed_ends_no_line() {
    check(&format!("GET / HTTP/1.1\nhost: {HOST}\n\n"), 400);
    check(&format!("GET / HTTP/1.1\r\nhost: {HOST}\nx-a: 1\r\n\r\n"), 400);
}

#[test]
fn the_second_request_of_a_connection_is_checked_like_the_first() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("POST /1 HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\n\r\nabc"));
    client
        .send(&format!("POST /2 HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    client.send(&format!(
        "POST /3 HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response().body, "/1");
    assert_eq!(client.response().body, "/2");
    assert_eq!(client.response().status(), 400);
    client.expect_end();
    router.drain();
}

#[test]
fn a_bad_chunk_is_refused_and_logged_as_h26() {
    for chunks in ["zz\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3;x=\ny\r\nabc\r\n0\r\n\r\n", "3\r\nabcX0\r\n\r\n"]
    {
        let dyno = TestDyno::start(|mut stream| drop(crate::harness::read_head(&mut stream)));
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        let mut client = router.connect();
        client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
        assert_eq!(client.response().status(), 400, "{chunks:?}");
        client.expect_end();
        let line = router.next_log_line();
        assert!(
            line.starts_with("at=error code=H26 desc=\"Request Error\" cause=\"bad chunk\" "),
            "{chunks:?}: {line}"
        );
        router.drain();
    }
}

#[test]
fn an_answer_with_two_lengths_is_not_passed_on() {
    let dyno = TestDyno::http(|_request| {
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned()
    });
    for way in ["", "te: trailers\r\n"] {
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        let mut client = router.connect();
        let id = "8601b555-6a83-4c12-8269-97c8e32cdb22";
        let asked = format!("accept: text/html\r\nx-request-id: {id}\r\n{way}");
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{asked}\r\n"));
        let response = client.response();
        assert_eq!(response.status(), 503);
        assert!(response.body.contains("<html") && response.body.contains(&format!("H17 · {id}")), "{}", response.body);
        let line = router.next_log_line();
        assert!(line.starts_with("at=error code=H17 desc=\"Poorly formatted HTTP response\" "), "{way:?}: {line}");
        router.drain();
    }
}

/// A dyno that answers with this head, and a body in chunks behind it, and one who has asked it in this way.
fn asked(method: &str, head: &'static str, body: &'static str, way: &str) -> (TestDyno, TestRouter, Client) {
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
    (dyno, router, client)
}

#[test]
fn an_answer_whose_length_some_read_otherwise_is_not_passed_on() {
    for (method, head) in [
        ("GET", "transfer-encoding: gzip, chunked"),
        ("GET", "transfer-encoding: gzip"),
        ("GET", "content-length: 2, 2"),
        ("HEAD", "content-length: x"),
        ("HEAD", "content-length: 2\r\ncontent-length: 3"),
    ] {
        for way in ["", "te: trailers\r\n"] {
            let (_dyno, mut router, mut client) = asked(method, head, "2\r\nok\r\n0\r\n\r\n", way);
            let answer = client.head();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{head:?} {way:?}: {answer}");
            let line = router.next_log_line();
            assert!(line.contains(" code=H17 "), "{head:?} {way:?}: {line}");
            router.drain();
        }
    }
}

#[test]
fn an_answer_that_says_the_same_length_twice_says_it_once() {
    for way in ["", "te: trailers\r\n"] {
        let (_dyno, router, mut client) = asked("HEAD", "content-length: 2\r\ncontent-length: 2", "", way);
        let answer = client.head().to_ascii_lowercase();
        assert_eq!(answer.matches("content-length: 2\r\n").count(), 1, "{way:?}: {answer}");
        router.drain();
    }
}

#[test]
fn an_answer_with_a_bad_chunk_is_h17_in_its_middle_too() {
    for way in ["", "te: trailers\r\n"] {
        let (go, begun) = channel::<()>();
        let begun = Mutex::new(begun);
        let dyno = TestDyno::start(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
            begun.lock().unwrap().recv().unwrap();
            stream.write_all(b"zz\r\n").unwrap();
        });
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        let mut client = router.connect();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        client.head();
        go.send(()).unwrap();
        assert_eq!(client.expect_end(), b"3\r\nabc\r\n");
        let line = router.next_log_line();
        assert!(line.contains(" code=H17 "), "{way:?}: {line}");
        router.drain();
    }
}

#[test]
fn a_client_that_still_sends_hears_why_its_connection_ends() {
    let dyno = TestDyno::http(|_request| ok("must not be seen"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    for _attempt in 0..20 {
        let mut client = router.connect();
        client.send(&format!("get / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3000000\r\n\r\n"));
        client.send(&"x".repeat(3_000_000));
        assert_eq!(client.response().status(), 400);
        client.expect_end();
    }
    router.drain();
}

#[test]
fn headers_that_cgi_cannot_tell_from_the_routers_do_not_reach_a_dyno() {
    let dyno = TestDyno::http(|request| ok(&request.head));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nX_Forwarded_Proto: https\r\nx_own: 1\r\n\r\n"));
    let seen = client.response().body.to_ascii_lowercase();
    assert!(!seen.contains("x_forwarded_proto") && seen.contains("x_own: 1\r\n"), "{seen}");
    router.drain();
}
