//! What a request and a response look like on the other side.

use std::io::Write as _;
use std::sync::atomic::Ordering;

use crate::harness::{Client, HOST, Request, TestDyno, TestRouter, app, ok, read_request};

#[test]
fn a_request_reaches_the_dyno_with_herokus_headers_and_is_logged() {
    let dyno = TestDyno::http(|request| ok(&request.head));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(
        "GET http://Shop.EXAMPLE:80/x?y=%22 HTTP/1.1\r\nhost: other\r\nx-forwarded-for: 9.9.9.9\r\n\
         x-request-id: 8601b555-6a83-4c12-8269-97c8e32cdb22\r\nconnection: x-secret\r\nx-secret: 1\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("via"), Some("1.1 berth"));
    let seen = crate::harness::Request { head: response.body, body: Vec::new() };
    assert!(seen.head.starts_with("GET /x?y=%22 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some("Shop.EXAMPLE:80"));
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-port"), Some(router.address.port().to_string().as_str()));
    assert_eq!(seen.header("x-request-id"), Some("8601b555-6a83-4c12-8269-97c8e32cdb22"));
    assert_eq!(seen.header("via"), Some("1.1 berth"));
    assert!(seen.header("x-request-start").unwrap().parse::<u64>().unwrap() > 1_600_000_000_000);
    assert_eq!(seen.header("x-secret"), None);
    let line = router.next_log_line();
    let expect = "at=info method=GET path=\"/x?y=%22\" host=shop.example \
                  request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd=\"9.9.9.9, 127.0.0.1\" dyno=web.1 connect=";
    assert!(line.starts_with(expect), "{line}");
    let bytes = seen.head.len();
    assert!(line.contains(&format!(" status=200 bytes={bytes} protocol=http queue=")), "{line}");
    router.drain();
}

#[test]
fn clients_and_dynos_may_have_addresses_of_either_kind() {
    let dynos = ["127.0.0.1:0", "[::1]:0"].map(|address| {
        TestDyno::start_at(address.parse().unwrap(), |mut stream| {
            while let Some(request) = read_request(&mut stream) {
                stream.write_all(ok(&request.head).as_bytes()).unwrap();
            }
        })
    });
    let mut router = TestRouter::start_for_all();
    let port = router.address.port();
    for dyno in &dynos {
        router.route(app(&[dyno]));
        for (address, fwd) in [(format!("127.0.0.1:{port}"), "127.0.0.1"), (format!("[::1]:{port}"), "::1")] {
            let mut client = Client::connect(address.parse().unwrap());
            let seen = Request { head: client.get("/").body, body: Vec::new() };
            assert_eq!(seen.header("x-forwarded-for"), Some(fwd), "by {}", dyno.address);
            let line = router.next_log_line();
            assert!(line.contains(&format!(" fwd=\"{fwd}\" ")), "{line}");
        }
    }
    router.drain();
}

#[test]
fn connections_are_kept_on_both_sides_and_pipelined_requests_answered_in_order() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    let pipelined: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).collect();
    client.send(&pipelined);
    for n in 0..20 {
        assert_eq!(client.response().body, format!("/{n}"));
    }
    assert_eq!(dyno.connections.load(Ordering::SeqCst), 1);
    router.drain();
}
