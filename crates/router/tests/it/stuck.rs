//! Requests that a dyno never answers: what the server is told of them.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use router::Bounds;
use wire::routes::{AppRoute, RequestLimits};

use crate::harness::{HOST, TestDyno, TestRouter, app, bounds, limits, ok, read_head, wait_until};
use crate::http2_peer::{ask, plain, request};

/// Answers nobody until the sender is dropped.
fn hanging() -> (TestDyno, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().unwrap_err();
        ok("at last")
    });
    (dyno, go)
}

fn hurried(dyno: &TestDyno) -> AppRoute {
    let mut app = AppRoute { limits: RequestLimits { first_byte_ms: 100, ..limits() }, ..app(&[dyno]) };
    app.dynos[0].concurrency = Some(4);
    app
}

#[test]
fn requests_without_answer_and_client_are_told_by_path_until_the_dyno_answers() {
    let (dyno, go) = hanging();
    let mut router = TestRouter::start();
    router.route(hurried(&dyno));
    assert_eq!(router.stuck(), []);
    // By the express lane, by the full path (a body of unknown length), over HTTP/2, and one whose client leaves.
    assert_eq!(router.get("/export?token=secret").status(), 503);
    let mut client = router.connect();
    client.send(&format!(
        "POST /import HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response().status(), 503);
    let status = router.runtime.block_on(async {
        let client = plain(router.address).await;
        ask(&client, request("GET", "/http2"), None).await.status
    });
    assert_eq!(status, 503);
    let mut client = router.connect();
    client.send(&format!("GET /left HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 4);
    drop(client);
    wait_until(|| router.stuck().iter().any(|stuck| stuck.held == 4), "all four are told");
    let stuck = router.stuck().remove(0);
    assert_eq!(stuck.dyno, dyno.id);
    let told: Vec<_> = stuck.requests.iter().map(|request| (&*request.method, &*request.path)).collect();
    assert_eq!(told, [("GET", "/export"), ("POST", "/import"), ("GET", "/http2"), ("GET", "/left")]);
    drop(go);
    wait_until(|| router.stuck().is_empty(), "all are answered");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn a_client_that_still_waits_is_no_sign_of_a_stuck_dyno() {
    let (dyno, go) = hanging();
    let mut router = TestRouter::start();
    router.route(hurried(&dyno));
    assert_eq!(router.get("/first").status(), 503);
    let mut client = router.connect();
    // The rest of the upload never comes: it waits for its client, for as long as that may take.
    client.send(&format!("POST /upload HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"));
    router.wait_for_in_flight(dyno.id, 2);
    wait_until(|| !router.stuck().is_empty(), "the first is told");
    assert_eq!(router.stuck()[0].held, 1);
    drop(go);
    drop(client);
    router.drain();
}

#[test]
fn an_upload_whose_client_left_is_told_and_counts_until_the_dyno_closes() {
    let ((report, heard), (go, wait)) = (channel(), channel::<()>());
    let channels = Mutex::new((report, wait));
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        let channels = channels.lock().unwrap();
        channels.0.send(()).unwrap();
        channels.1.recv().unwrap_err();
    });
    let mut router = TestRouter::start_with(Bounds { app_requests_max: 1, ..bounds() });
    router.route(hurried(&dyno));
    let mut client = router.connect();
    client.send(&format!("POST /upload?a=b HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"));
    heard.recv().unwrap();
    drop(client);
    wait_until(|| !router.stuck().is_empty(), "the upload is told");
    let stuck = router.stuck().remove(0);
    let told: Vec<_> = stuck.requests.iter().map(|request| (&*request.method, &*request.path)).collect();
    assert_eq!((stuck.held, told), (1, vec![("POST", "/upload")]));
    assert!(router.get("/").body.contains("H22"), "it holds a connection to the dyno");
    drop(go);
    router.wait_for_in_flight(dyno.id, 0);
    assert_eq!(router.stuck(), []);
    router.drain();
}
