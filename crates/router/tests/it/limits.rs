//! What one client, one app or one request may take, and the pages that say so.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use bytes::Bytes;
use router::Bounds;
use router::client::TableUpdate;
use wire::routes::{AppRoute, Availability, EdgeSettings, FrontPolicy, FrontRoute, Page};

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, bounds, ok, read_head, read_request, wait_until};
use crate::http2_peer::{ask, plain, request};

fn with_edge(dyno: &TestDyno, edge: EdgeSettings) -> AppRoute {
    AppRoute { edge, ..app(&[dyno]) }
}

#[test]
fn a_client_has_so_many_connections_and_others_are_not_touched() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let router = behind_a_balancer(Bounds { client_connections_max: 3, ..bounds() }, &dyno);
    let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let connect = |address: &str| client_from(&router, address, &get);
    let mut kept: Vec<_> = (0..3).map(|_n| connect("192.0.2.1")).collect();
    for client in &mut kept {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(connect("192.0.2.1").expect_end(), b"");
    assert_eq!(connect("192.0.2.2").response().status(), 200);
    kept.pop();
    wait_until(|| read_head(&mut connect("192.0.2.1").stream).is_some(), "a place that was given back");
    router.drain();
}

/// A router to which a load balancer on this machine says who its clients are: those are not of this machine, whose
/// connections are not limited.
pub(crate) fn behind_a_balancer(bounds: Bounds, dyno: &TestDyno) -> TestRouter {
    let mut router = TestRouter::start_with(bounds);
    router.route(app(&[dyno]));
    let networks = vec!["127.0.0.0/8".to_owned()];
    let balancer = FrontRoute { networks, proxy_protocol: true, ..FrontRoute::default() };
    let fronts = Some(FrontPolicy { fronts: vec![balancer], only: false, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    router
}

/// A client that says this.
pub(crate) fn client_from(router: &TestRouter, address: &str, text: &str) -> Client {
    let mut client = router.connect();
    client.send(&format!("PROXY TCP4 {address} 5.6.7.8 1 80\r\n{text}"));
    client
}

#[test]
fn a_connection_counts_for_its_client_from_the_first_moment_to_the_last() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let router = behind_a_balancer(Bounds { client_connections_max: 3, ..bounds() }, &dyno);
    let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let is_served = |address: &str| read_head(&mut client_from(&router, address, &get).stream).is_some();
    // Those that say nothing are the cheapest to hold.
    let mut silent = Vec::new();
    let one_more_is_refused = || {
        silent.push(client_from(&router, "192.0.2.1", ""));
        !is_served("192.0.2.1")
    };
    wait_until(one_more_is_refused, "silent connections to count");
    assert!(is_served("192.0.2.2"));
    drop(silent);
    wait_until(|| is_served("192.0.2.1"), "a place that was given back");
    // A client that does not close holds its socket for as long as the router waits for that.
    let closing = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let mut ended = Vec::new();
    let one_more_is_refused = || {
        let mut client = client_from(&router, "192.0.2.3", &closing);
        let is_refused = read_head(&mut client.stream).is_none();
        ended.push(client);
        is_refused
    };
    wait_until(one_more_is_refused, "connections that have ended to count");
    wait_until(|| is_served("192.0.2.3"), "the router to close by itself");
    drop(ended);
    router.drain();
}

#[test]
fn an_app_has_so_many_requests_and_h22_is_for_the_rest() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().unwrap();
        ok("done")
    });
    let other = TestDyno::http(|_request| ok("other"));
    let mut router = TestRouter::start_with(Bounds { app_requests_max: 2, ..bounds() });
    let other_app =
        AppRoute { app: uuid::Uuid::from_u128(8), hosts: vec!["other.example".to_owned()], ..app(&[&other]) };
    router.push(vec![app(&[&dyno]), other_app], Vec::new());
    let mut clients = [router.connect(), router.connect()];
    for client in &mut clients {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    router.wait_for_in_flight(dyno.id, 2);
    let response = router.get("/");
    assert_eq!(response.status(), 503);
    assert!(response.body.contains("H22"), "{}", response.body);
    let line = router.next_log_line();
    assert!(line.starts_with("at=error code=H22 desc=\"Connection limit reached\" "), "{line}");
    let mut client = router.connect();
    client.send("GET / HTTP/1.1\r\nhost: other.example\r\n\r\n");
    assert_eq!(client.response().body, "other");
    for _request in 0..3 {
        go.send(()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }
    wait_until(|| router.get("/").status() == 200, "a place that was given back");
    router.drain();
}

#[test]
fn a_body_beyond_the_apps_limit_is_refused_however_it_comes() {
    let dyno = TestDyno::start(|mut stream| {
        while let Some(request) = read_request(&mut stream) {
            std::io::Write::write_all(&mut stream, ok(&request.body.len().to_string()).as_bytes()).unwrap();
        }
    });
    let mut router = TestRouter::start();
    router.route(with_edge(&dyno, EdgeSettings { request_bytes_max: Some(10), ..EdgeSettings::default() }));
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    let mut client = router.connect();
    client.send(&format!("{post}content-length: 10\r\n\r\n0123456789"));
    assert_eq!(client.response().body, "10");
    client.send(&format!("{post}transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"));
    assert_eq!(client.response().body, "10");
    for body in
        ["content-length: 11\r\n\r\n0123456789a", "transfer-encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n"]
    {
        let mut client = router.connect();
        client.send(&format!("{post}{body}"));
        let response = client.response();
        assert_eq!(response.status(), 413);
        assert!(response.body.contains("longer than the app takes"), "{}", response.body);
        client.expect_end();
    }
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        assert_eq!(ask(&client, request("POST", "/"), Some(Bytes::from_static(b"0123456789"))).await.text(), "10");
        assert_eq!(ask(&client, request("POST", "/"), Some(Bytes::from_static(b"0123456789a"))).await.status, 413);
    });
    let lines = router.next_log_lines(6);
    let refused = lines
        .iter()
        .filter(|line| line.starts_with("at=error code=H26 desc=\"Request Error\" cause=\"body too large\""));
    assert_eq!(refused.count(), 3, "{lines:?}");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn an_app_may_have_its_own_pages() {
    let dyno = TestDyno::start(drop);
    let mut router = TestRouter::start();
    let page = |text: &str| Some(Page::Html(text.to_owned()));
    let edge =
        EdgeSettings { maintenance_page: page("back soon"), error_page: page("oops"), ..EdgeSettings::default() };
    router.route(with_edge(&dyno, edge.clone()));
    let response = router.get("/");
    assert_eq!((response.status(), response.body.as_str()), (503, "oops"));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(response.header("x-request-id").is_some());
    router.route(AppRoute { availability: Availability::Maintenance, ..with_edge(&dyno, edge) });
    assert_eq!(router.get("/").body, "back soon");
    router.drain();
}
