//! The platform's own hosts: their requests go to the server, over a socket in the router's directory.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wire::routes::{AppRoute, Availability, EdgeSettings, RequestLimits, SERVER_SOCKET};

use crate::harness::{HOST, PATIENCE, Request, TestRouter, app, limits, ok, read_head, read_request, wait_until};

fn route(limits: RequestLimits) -> AppRoute {
    let edge = EdgeSettings { to_server: true, ..EdgeSettings::default() };
    AppRoute { edge, limits, availability: Availability::Serving, ..app(&[]) }
}

/// A server that runs a script for each of so many connections.
fn server(dir: &Path, connections: usize, script: impl Fn(UnixStream) + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(dir.join(SERVER_SOCKET)).unwrap();
    thread::spawn(move || {
        for _connection in 0..connections {
            let (stream, _peer) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            script(stream);
        }
    })
}

#[test]
fn the_server_is_told_who_the_client_is_whatever_that_says() {
    let mut router = TestRouter::start();
    router.route(route(limits()));
    let serving = server(router.dir.path(), 1, |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            if stream.write_all(ok(&request.head).as_bytes()).is_err() {
                return;
            }
        }
    });
    let mut client = router.connect();
    for _request in 0..2 {
        client.send(&format!(
            "GET /account HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: 9.9.9.9\r\nx_forwarded_for: 9.9.9.9\r\n\
             x-forwarded-proto: https\r\nauthorization: Bearer t\r\n\r\n"
        ));
        let seen = Request { head: client.response().body, body: Vec::new() };
        assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"), "{}", seen.head);
        assert_eq!((seen.header("x_forwarded_for"), seen.header("x-forwarded-proto")), (None, Some("http")));
    }
    drop(client);
    // What is in the paths of the API is nobody's business: there are counts, and no lines.
    assert_eq!(router.drain_and_read_log(), Vec::<String>::new());
    serving.join().unwrap();
}

#[test]
fn a_server_that_is_away_for_a_moment_is_waited_for_and_one_that_is_down_is_told_of() {
    let mut router = TestRouter::start();
    router.route(route(RequestLimits { connect_ms: 300, ..limits() }));
    let begun = Instant::now();
    let mut client = router.connect();
    client.send(&format!("POST /apps HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\n{{}}"));
    let down = client.response();
    assert_eq!((down.status(), down.header("retry-after")), (503, Some("5")));
    assert!(down.body.starts_with("{\"id\":\"service_unavailable\""), "{}", down.body);
    assert!(begun.elapsed() >= Duration::from_millis(300));

    router.route(route(limits()));
    let mut client = router.connect();
    client.send(&format!("POST /apps HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\n{{}}"));
    wait_until(|| router.in_flight(app(&[]).app) == 1, "the request to wait");
    let serving = server(router.dir.path(), 1, |mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(ok("made").as_bytes()).unwrap();
    });
    assert_eq!(client.response().body, "made");
    serving.join().unwrap();
    router.drain();
}

#[test]
fn an_answer_may_pause_for_longer_than_a_client_may() {
    let mut router = TestRouter::start();
    router.route(route(RequestLimits { idle_ms: 200, silence_ms: Some(20_000), ..limits() }));
    let serving = server(router.dir.path(), 2, |mut stream| {
        let head = read_head(&mut stream).unwrap();
        if head.starts_with("PUT") {
            // Until the client has gone.
            assert_eq!(stream.read_to_end(&mut Vec::new()).ok(), Some(0));
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").unwrap();
        thread::sleep(Duration::from_millis(600));
        stream.write_all(b"b").unwrap();
    });
    assert_eq!(router.get("/stream").body, "ab");
    let mut stalled = router.connect();
    stalled.send(&format!("PUT /source HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\n"));
    assert_eq!(stalled.response().status(), 408);
    drop(stalled);
    serving.join().unwrap();
    router.drain();
}
