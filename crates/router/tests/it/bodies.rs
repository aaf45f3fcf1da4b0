//! Bodies both ways: streamed, chunked, with trailers, with none, and never buffered whole.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    HOST, PATIENCE, TestDyno, TestRouter, app, header, ok, read_chunked, read_head, read_request, wait_until,
};

const LARGE_BYTES: usize = 96 << 20;
/// What router and kernel may hold of a transfer whose receiver has stopped: socket buffers and two of the router's.
const HELD_BYTES_MAX: usize = 32 << 20;

/// Waits until a counter stands still, which it does when both ends' buffers are full.
fn standstill(counter: &AtomicUsize) -> usize {
    let mut last = (0, 0);
    wait_until(
        || {
            thread::sleep(Duration::from_millis(20));
            let now = counter.load(Ordering::SeqCst);
            last = if now == last.0 && now > 0 { (now, last.1 + 1) } else { (now, 0) };
            last.1 >= 10
        },
        "a standstill",
    );
    last.0
}

#[test]
fn a_large_download_waits_for_its_reader_and_arrives_whole() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n").as_bytes()).unwrap();
        let piece: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        while counter.load(Ordering::SeqCst) < LARGE_BYTES {
            stream.write_all(&piece).unwrap();
            counter.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    client.head();
    assert!(standstill(&sent) < HELD_BYTES_MAX);
    let mut piece = vec![0; 1 << 16];
    for _piece in 0..LARGE_BYTES >> 16 {
        client.stream.read_exact(&mut piece).unwrap();
        assert!(piece.iter().enumerate().step_by(251).all(|(at, &byte)| usize::from(byte) == at % 256));
    }
    assert!(router.next_log_line().contains(&format!(" status=200 bytes={LARGE_BYTES} ")));
    router.drain();
}

#[test]
fn a_large_upload_waits_for_its_reader_and_arrives_whole() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let dyno = TestDyno::start(move |mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert_eq!(header(&head, "content-length"), Some(LARGE_BYTES.to_string().as_str()));
        wait.lock().unwrap().recv().unwrap();
        let mut body = (&mut stream).take(LARGE_BYTES as u64);
        let count = std::io::copy(&mut body, &mut std::io::sink()).unwrap();
        stream.write_all(ok(&count.to_string()).as_bytes()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {LARGE_BYTES}\r\n\r\n"));
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = {
        let (mut stream, sent) = (client.stream.try_clone().unwrap(), sent.clone());
        thread::spawn(move || {
            let piece = vec![7; 1 << 16];
            while sent.load(Ordering::SeqCst) < LARGE_BYTES {
                stream.write_all(&piece).unwrap();
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        })
    };
    assert!(standstill(&sent) < HELD_BYTES_MAX);
    go.send(()).unwrap();
    assert_eq!(client.response().body, LARGE_BYTES.to_string());
    sender.join().unwrap();
    router.drain();
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let dyno = TestDyno::start(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert_eq!(header(&head, "te"), Some("trailers"));
        assert_eq!(header(&head, "content-length"), None);
        let (body, trailers) = read_chunked(&mut stream);
        assert_eq!((body.as_slice(), trailers.as_str()), (&b"hello"[..], "x-sum: 5\r\n\r\n"));
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
                      2\r\nby\r\n1\r\ne\r\n0\r\nx-end: yes\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        drop(read_head(&mut stream));
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum, x-forwarded-for, x_forwarded_proto, connection\r\n\r\n\
         3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_proto: https\r\nconnection: x\r\n\
         x-sum: 5\r\n\r\n"
    ));
    client.head();
    let (body, trailers) = read_chunked(&mut client.stream);
    assert_eq!((body.as_slice(), trailers.as_str()), (&b"bye"[..], "x-end: yes\r\n\r\n"));
    router.drain();
}

#[test]
fn a_head_waits_for_a_body_of_known_length_and_for_no_other() {
    const KNOWN: &str = "content-length: 4";
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let dyno = TestDyno::start(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            let (framing, body) =
                if request.path() == "/known" { (KNOWN, "body") } else { ("transfer-encoding: chunked", "0\r\n\r\n") };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET /unknown HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(header(&client.head(), "transfer-encoding"), Some("chunked"));
    go.send(()).unwrap();
    assert_eq!(read_chunked(&mut client.stream).0, b"");

    client.send(&format!("GET /known HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    client.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = [0; 1024];
    let early = client.stream.read(&mut bytes).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    go.send(()).unwrap();
    // Both in one packet.
    let count = client.stream.read(&mut bytes).unwrap();
    let answer = String::from_utf8_lossy(&bytes[..count]);
    assert!(answer.contains(KNOWN) && answer.ends_with("\r\n\r\nbody"), "{answer}");
    router.drain();
}

#[test]
fn a_get_with_a_chunked_body_keeps_it() {
    let dyno = TestDyno::http(|request| ok(&String::from_utf8(request.body.clone()).unwrap()));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
    assert_eq!(client.response().body, "hi");
    router.drain();
}

#[test]
fn responses_without_a_body_leave_the_connection_in_step() {
    let dyno = TestDyno::http(|request| match request.path() {
        "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_owned(),
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".to_owned(),
        "/hints" => format!("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}", ok("after hints")),
        path => ok(path),
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("HEAD /head HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(header(&client.head(), "content-length"), Some("1234"));
    assert_eq!(client.get("/204").status(), 204);
    let not_modified = client.get("/304");
    assert_eq!((not_modified.status(), not_modified.header("etag")), (304, Some("\"x\"")));
    assert_eq!(client.get("/hints").body, "after hints");
    assert_eq!(client.get("/next").body, "/next");
    assert_eq!(dyno.connections.load(Ordering::SeqCst), 1);
    router.drain();
}

#[test]
fn a_response_that_ends_with_its_connection_is_passed_on_to_any_client() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nold style").unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    assert_eq!(router.get("/").body, "old style");
    let mut old = router.connect();
    old.send(&format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
    let head = old.head();
    assert_eq!(header(&head, "transfer-encoding"), None);
    assert_eq!(old.expect_end(), b"old style");
    router.drain();
}

#[test]
fn the_body_of_an_expecting_client_is_asked_for_by_the_dyno() {
    let dyno = TestDyno::start(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            assert_eq!(header(&head, "expect"), Some("100-continue"));
            if head.starts_with("POST /refuse") {
                stream.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").unwrap();
                continue;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            let mut body = [0; 5];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(ok(std::str::from_utf8(&body).unwrap()).as_bytes()).unwrap();
        }
    });
    // Only the dyno's word can open the gate in this test.
    let continue_wait = Duration::from_secs(3600);
    let mut router = TestRouter::start_with(router::Bounds { continue_wait, ..crate::harness::bounds() });
    router.route(app(&[&dyno]));
    let expecting =
        |path| format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let mut client = router.connect();
    client.send(&expecting("/take"));
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    client.send("hello");
    assert_eq!(client.response().body, "hello");

    let mut client = router.connect();
    client.send(&expecting("/refuse"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 413 "), "without a 100 before it: {head}");
    client.expect_end();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn an_idle_connection_to_a_dyno_is_closed_after_its_time() {
    let (closed, ended) = std::sync::mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        let answered_at = std::time::Instant::now();
        stream.write_all(ok("x").as_bytes()).unwrap();
        assert!(read_head(&mut stream).is_none());
        closed.lock().unwrap().send(answered_at.elapsed()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    assert_eq!(router.get("/").body, "x");
    let idle = ended.recv_timeout(crate::harness::PATIENCE).unwrap();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&idle), "{idle:?}");
    router.drain();
}

#[test]
fn an_answer_in_the_middle_of_an_upload_frees_the_slot_and_ends_both_connections() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert!(read_head(&mut stream).is_none(), "the rest does not come");
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"));
    let response = client.response();
    assert_eq!((response.status(), response.body.as_str()), (403, "no"));
    router.wait_for_in_flight(dyno.id, 0);
    client.expect_end();
    assert!(router.next_log_line().contains(" status=403 bytes=2 "));
    router.drain();
}
