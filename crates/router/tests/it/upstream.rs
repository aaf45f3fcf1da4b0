//! An app that has not moved in yet: its requests go on to where it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use wire::routes::{AppRoute, Availability, EdgeSettings};

use crate::harness::{Client, HOST, Request, TestDyno, TestRouter, app, bounds, ok, wait_until};
use crate::tls_client::Authority;

fn moved_out(url: String) -> AppRoute {
    let edge = EdgeSettings { upstream: Some(url), ..EdgeSettings::default() };
    AppRoute { edge, availability: Availability::Blank, ..app(&[]) }
}

#[test]
fn requests_go_on_to_the_old_host_as_if_the_router_were_not_there() {
    let old = TestDyno::http(|request| ok(&format!("{}{}", request.head, request.body.len())));
    let mut router = TestRouter::start();
    router.route(moved_out(format!("http://localhost:{}", old.address.port())));
    let mut client = router.connect();
    for _request in 0..3 {
        client.send(&format!("POST /x?y HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhello"));
        let response = client.response();
        let seen = Request { head: response.body, body: Vec::new() };
        assert!(seen.head.starts_with("POST /x?y HTTP/1.1\r\n") && seen.head.ends_with('5'), "{}", seen.head);
        assert_eq!(seen.header("host"), Some(HOST));
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    assert!(old.connections.load(Ordering::SeqCst) <= 2, "connections are kept");
    let lines = router.next_log_lines(3);
    assert!(lines[0].contains(" dyno=upstream ") && lines[0].contains(" status=200 "), "{}", lines[0]);

    router.route(AppRoute { availability: Availability::Maintenance, ..moved_out("http://localhost:1".to_owned()) });
    assert!(router.get("/").body.contains("H80"));
    let here = TestDyno::http(|_request| ok("here"));
    router.route(app(&[&here]));
    assert_eq!(router.get("/").body, "here", "the app has moved in");
    router.drain();
}

#[test]
fn no_request_reaches_the_old_address_once_there_is_another() {
    let old = |name: &'static str| TestDyno::http(move |_request| ok(name));
    let (first, second) = (old("first"), old("second"));
    let url = |dyno: &TestDyno| format!("http://localhost:{}", dyno.address.port());
    let mut router = TestRouter::start();
    router.route(moved_out(url(&first)));
    let (pointed_at, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let address = router.address;
    std::thread::scope(|scope| {
        let visit = || {
            let mut client = Client::connect(address);
            let mut answered = 0;
            while !stop.load(Ordering::SeqCst) {
                let since = pointed_at.load(Ordering::SeqCst);
                client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
                let body = client.response().body;
                // Whatever was asked while the address changed may have gone to either.
                if since == pointed_at.load(Ordering::SeqCst) && since % 2 == 0 {
                    assert_eq!(body, if since % 4 == 0 { "first" } else { "second" });
                }
                answered += 1;
            }
            assert!(answered > 0);
        };
        let visitors: Vec<_> = (0..4).map(|_visitor| scope.spawn(visit)).collect();
        for turn in 1..40 {
            pointed_at.store(2 * turn - 1, Ordering::SeqCst);
            router.route(moved_out(url(if turn % 2 == 0 { &first } else { &second })));
            pointed_at.store(2 * turn, Ordering::SeqCst);
            let body = router.get("/").body;
            assert_eq!(body, if turn % 2 == 0 { "first" } else { "second" });
        }
        stop.store(true, Ordering::SeqCst);
        visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
    });
    router.drain();
}

#[test]
fn who_waits_while_its_host_is_led_elsewhere_does_not_go_where_it_was() {
    // Only the full path follows; a request of the express lane may come again.
    for (way, expect) in [("te: trailers\r\n", "old"), ("", "H11")] {
        let (go, wait) = channel::<()>();
        let (wait, seen) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let requests = seen.clone();
        let mut here = TestDyno::http(move |_request| {
            requests.fetch_add(1, Ordering::SeqCst);
            wait.lock().unwrap().recv().unwrap();
            ok("here")
        });
        here.concurrency = Some(1);
        let old = TestDyno::http(|_request| ok("old"));
        let mut router = TestRouter::start();
        router.route(app(&[&here]));
        let ask = |router: &TestRouter| {
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            client
        };
        let mut served = ask(&router);
        wait_until(|| seen.load(Ordering::SeqCst) == 1, "the dyno to be busy");
        let mut waits = ask(&router);
        let queued = |router: &mut TestRouter| {
            router.runtime.block_on(router.server.status()).unwrap().admission.iter().any(|app| app.queued == 1)
        };
        wait_until(|| queued(&mut router), "a request that waits");
        let own = AppRoute { hosts: vec!["shop.berth.example".to_owned()], ..app(&[&here]) };
        let part = AppRoute { app: uuid::Uuid::from_u128(8), ..moved_out(format!("http://{}", old.address)) };
        router.push(vec![own, part], Vec::new());
        go.send(()).unwrap();
        assert_eq!(served.response().body, "here");
        let answer = waits.response();
        assert!(answer.body.contains(expect), "{way:?}: {}", answer.body);
        assert_eq!(answer.header("retry-after").is_some(), expect == "H11");
        assert_eq!(seen.load(Ordering::SeqCst), 1, "{way:?}");
        router.wait_for_in_flight(here.id, 0);
        router.drain();
    }
}

#[test]
fn the_old_host_is_asked_over_tls_for_the_apps_own_name() {
    let authority = Authority::new();
    // Another router is the old host: it knows the app by its name only.
    let dyno = TestDyno::http(|request| ok(&request.head));
    let mut old = TestRouter::start();
    old.route(app(&[&dyno]));
    old.certify(vec![authority.certify(1, &[HOST])]);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("authorities.pem"), &authority.pem).unwrap();
    let mut router = TestRouter::start_in(dir, bounds());
    router.route(moved_out(format!("https://localhost:{}", old.https_address.port())));
    for _request in 0..2 {
        let seen = Request { head: router.get("/x").body, body: Vec::new() };
        assert_eq!((seen.header("host"), seen.header("x-forwarded-proto")), (Some(HOST), Some("https")));
    }
    // The certificate of an authority that this machine does not trust is none.
    old.certify(vec![Authority::new().certify(1, &[HOST])]);
    let router = TestRouter::start_in(router.drain(), bounds());
    let response = router.get("/");
    assert_eq!(response.status(), 503);
    assert!(response.body.contains("H21"), "{}", response.body);
    let lines = router.drain_and_read_log();
    let cause = "code=H21 desc=\"Backend connection refused\" \
                 cause=\"upstream's certificate is of no authority that this machine trusts\"";
    assert!(lines.iter().any(|line| line.contains(cause)), "{lines:?}");
    old.drain();
}

#[test]
fn an_old_host_that_is_gone_is_reported_as_such() {
    let mut router = TestRouter::start();
    router.route(moved_out(format!("http://{}", TestDyno::refusing().address)));
    assert!(router.get("/").body.contains("H21"));
    router.route(moved_out("http://no-such-host.invalid".to_owned()));
    assert!(router.get("/").body.contains("H21"));
    router.drain();
}

/// Whoever may lead a domain elsewhere must not read what only this machine may.
#[test]
fn an_address_that_is_not_on_the_internet_is_for_the_operator_to_allow() {
    let secret = TestDyno::http(|_request| ok("secret"));
    let start = |networks: &[&str]| {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let mut router = TestRouter::start_changed(|config| config.upstream_networks = networks);
        router.route(moved_out(format!("http://localhost:{}", secret.address.port())));
        router
    };
    let router = start(&["10.0.0.0/8"]);
    let response = router.get("/");
    assert_eq!((response.status(), response.body.contains("H21")), (503, true), "{}", response.body);
    assert_eq!(secret.connections.load(Ordering::SeqCst), 0);
    let lines = router.drain_and_read_log();
    assert!(
        lines[0].contains("code=H21") && lines[0].contains("cause=\"upstream is not on the internet\""),
        "{lines:?}"
    );
    let router = start(&["127.0.0.0/8", "::1"]);
    assert_eq!(router.get("/").body, "secret");
    router.drain();
}

/// By its own address, or a name that somebody led here later.
#[test]
fn a_request_that_comes_back_does_not_go_round_for_ever() {
    let mut router = TestRouter::start();
    router.route(moved_out(format!("http://{}", router.address)));
    let response = router.get("/");
    assert_eq!((response.status(), response.body.contains("H21")), (503, true), "{}", response.body);
    let lines = router.drain_and_read_log();
    assert!((2..10).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("cause=\"upstream leads back here\"")), "{lines:?}");
}
