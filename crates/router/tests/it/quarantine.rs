//! Dynos that do not take connections: for how long they are left alone, and how it is found out that they are back.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use router::Bounds;
use wire::routes::AppRoute;

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, bounds, full_backlog, ok, read_request, wait_until};

const QUARANTINE: Duration = Duration::from_millis(100);

fn quarantined() -> Bounds {
    Bounds { quarantine: QUARANTINE, queue_wait: Duration::from_secs(1), ..bounds() }
}

fn ask(router: &TestRouter, path: &str) -> Client {
    let mut client = router.connect();
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    client
}

#[test]
fn a_dyno_that_has_refused_is_asked_again_after_a_while_and_serves_when_it_is_back() {
    let quarantine = Duration::from_millis(100);
    let (away, other) = (TestDyno::refusing(), TestDyno::http(|_request| ok("other")));
    let mut router = TestRouter::start_with(Bounds { quarantine, ..bounds() });
    router.route(app(&[&away, &other]));
    // It is asked sooner or later, by chance, and again after each quarantine; nobody notices.
    for _request in 0..50 {
        assert_eq!(router.get("/").body, "other");
    }
    let listener = TcpListener::bind(away.address).unwrap();
    let back = thread::spawn(move || {
        let (mut stream, _peer) = listener.accept().unwrap();
        while crate::harness::read_head(&mut stream).is_some() {
            std::io::Write::write_all(&mut stream, ok("back").as_bytes()).unwrap();
        }
    });
    let mut client = router.connect();
    wait_until(|| client.get("/").body == "back", "the dyno that is back");
    drop(client);
    router.drain();
    back.join().unwrap();
}

/// Answers `name`; `/hold` when it is told to, and upgrades what wants to be until its client leaves.
fn script(name: &'static str, go: Receiver<()>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let go = Arc::new(Mutex::new(go));
    move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            if request.header("upgrade").is_some() {
                let upgraded = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                stream.write_all(upgraded.as_bytes()).unwrap();
                drop(stream.read(&mut [0]));
                return;
            }
            if request.path() == "/hold" {
                go.lock().unwrap().recv().ok();
            }
            if stream.write_all(ok(name).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// What the dyno has not accepted goes down with its socket.
fn wait_for_connection(dyno: &TestDyno) {
    wait_until(|| dyno.connections.load(Ordering::SeqCst) == 1, "a connection");
}

/// A dyno that goes away for as long as it takes to refuse one connection; those that it has go on.
fn refuse_once(router: &TestRouter, dyno: TestDyno) -> SocketAddr {
    let address = dyno.address;
    drop(dyno);
    assert!(router.get("/refused").body.contains("H21"));
    address
}

#[test]
fn an_open_websocket_keeps_no_dyno_in_quarantine() {
    let (_go, held) = channel();
    let mut dyno = TestDyno::start(script("before", held));
    dyno.concurrency = Some(10);
    let mut router = TestRouter::start_with(quarantined());
    router.route(app(&[&dyno]));
    let mut socket = router.connect();
    socket.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"));
    assert!(socket.head().starts_with("HTTP/1.1 101 "));
    let address = refuse_once(&router, dyno);
    thread::sleep(2 * QUARANTINE);
    let (_go, held) = channel();
    let _back = TestDyno::start_at(address, script("back", held));
    assert_eq!(router.get("/").body, "back");
    drop(socket);
    router.drain();
}

#[test]
fn an_answer_over_a_kept_connection_is_no_sign_that_a_dyno_is_back_and_the_first_new_one_is() {
    let (go, held) = channel();
    let mut dyno = TestDyno::start(script("before", held));
    dyno.concurrency = Some(3);
    let mut router = TestRouter::start_with(quarantined());
    router.route(app(&[&dyno]));
    let mut kept = router.connect();
    kept.send(&format!("GET /hold HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    wait_for_connection(&dyno);
    let id = dyno.id;
    let address = refuse_once(&router, dyno);
    let (go_back, held) = channel();
    let back = TestDyno::start_at(address, script("back", held));
    go.send(()).unwrap();
    assert_eq!(kept.response().body, "before");
    thread::sleep(2 * QUARANTINE);
    // Its connection from before is kept, and not taken.
    kept.send(&format!("GET /hold HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    wait_for_connection(&back);
    router.wait_for_in_flight(id, 1);
    // The first one has found out: this one may even go over the connection from before.
    assert_eq!(router.get("/").status(), 200);
    go_back.send(()).unwrap();
    assert_eq!(kept.response().body, "back");
    router.drain();
}

#[test]
fn a_new_connection_for_a_request_whose_kept_one_was_closed_ends_a_quarantine() {
    let (close, closing) = channel::<()>();
    let closing = Mutex::new(closing);
    let dyno = TestDyno::start(move |mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(ok("before").as_bytes()).unwrap();
        read_request(&mut stream).unwrap();
        closing.lock().unwrap().recv().ok();
    });
    let other = TestDyno::http(|_request| ok("other"));
    // Longer than the test.
    let mut router = TestRouter::start_with(Bounds { quarantine: Duration::from_secs(600), ..bounds() });
    router.route(app(&[&dyno]));
    let route = app(&[&dyno, &other]);
    let id = dyno.id;
    let mut kept = router.connect();
    assert_eq!(kept.get("/").body, "before");
    kept.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(id, 1);
    let address = refuse_once(&router, dyno);
    router.route(route);
    for _request in 0..20 {
        assert_eq!(router.get("/").body, "other", "it is quarantined");
    }
    let (_go, held) = channel();
    let _back = TestDyno::start_at(address, script("back", held));
    close.send(()).unwrap();
    assert_eq!(kept.response().body, "back");
    wait_until(|| router.get("/").body == "back", "the dyno to get requests again");
    router.drain();
}

#[test]
fn one_request_finds_out_whether_a_dyno_is_back_and_the_others_wait_for_that() {
    let (listener, waiting, mut dyno) = full_backlog();
    dyno.concurrency = Some(10);
    let mut router = TestRouter::start_with(Bounds { queue_wait: Duration::from_secs(20), ..quarantined() });
    let with = |connect_ms| {
        let route = app(&[&dyno]);
        AppRoute { limits: wire::routes::RequestLimits { connect_ms, ..route.limits }, ..route }
    };
    router.route(with(100));
    assert!(router.get("/").body.contains("H19"));
    thread::sleep(2 * QUARANTINE);
    router.route(with(20_000));
    let mut clients: Vec<Client> = (0..5).map(|_client| ask(&router, "/")).collect();
    let state = |router: &mut TestRouter| {
        let status = router.runtime.block_on(router.server.status()).unwrap();
        status.admission.first().map(|app| (app.in_flight, app.queued))
    };
    wait_until(|| state(&mut router) == Some((1, 4)), "four to wait for the first");
    // Now it takes connections again.
    drop(waiting);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                while read_request(&mut stream).is_some() {
                    stream.write_all(ok("back").as_bytes()).unwrap();
                }
            });
        }
    });
    for client in &mut clients {
        assert_eq!(client.response().body, "back");
    }
    router.drain();
}

#[test]
fn connections_that_fail_at_once_are_one_failure() {
    const AT_ONCE: usize = 8;
    let (away, other) = (TestDyno::refusing(), TestDyno::http(|_request| ok("other")));
    let mut router = TestRouter::start_with(Bounds { quarantine: Duration::from_millis(500), ..bounds() });
    router.route(app(&[&away]));
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_client| ask(&router, "/")).collect();
    for client in &mut clients {
        assert!(client.response().body.contains("H21"));
    }
    let since = Instant::now();
    router.route(app(&[&away, &other]));
    let (_go, held) = channel();
    let _back = TestDyno::start_at(away.address, script("back", held));
    wait_until(|| router.get("/").body == "back", "the dyno to get requests again");
    // Eight failures in a row would be a minute.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    router.drain();
}
