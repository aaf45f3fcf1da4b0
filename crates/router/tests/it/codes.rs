//! Every error code, provoked: what the client gets, and what stands in the log.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use router::Bounds;
use wire::routes::{AppRoute, Availability, RequestLimits};

use crate::harness::{
    HOST, TestDyno, TestRouter, app, bounds, full_backlog, limits, ok, read_head, read_request, wait_until,
};

/// For dynos that make the router wait. One that answers, however wrongly, may need a moment for it.
fn short(dynos: &[&TestDyno]) -> AppRoute {
    let limits =
        RequestLimits { first_byte_ms: 150, idle_ms: 150, connect_ms: 150, boot_wait_ms: 150, silence_ms: None };
    AppRoute { limits, ..app(dynos) }
}

/// For dynos that begin an answer and say no more.
fn quiet(dynos: &[&TestDyno]) -> AppRoute {
    AppRoute { limits: RequestLimits { idle_ms: 150, ..limits() }, ..app(dynos) }
}

/// One GET must fail with this code, in the answer and in the log.
fn check(route: AppRoute, code: &str, log_start: &str) -> (TestRouter, String) {
    let mut router = TestRouter::start();
    router.route(route);
    let response = router.get("/");
    assert_eq!(response.status(), 503);
    assert!(response.body.contains(code), "{}", response.body);
    let line = router.next_log_line();
    assert!(line.starts_with(log_start), "{line}");
    assert!(line.contains(" status=503 "), "{line}");
    assert!(response.body.contains(response.header("x-request-id").unwrap()));
    assert!(line.contains(response.header("x-request-id").unwrap()));
    (router, line)
}

#[test]
fn an_app_without_dynos_is_refused_with_the_reason() {
    for (availability, code, log_start) in [
        (Availability::Crashed, "H10", "at=error code=H10 desc=\"App crashed\" method=GET path=\"/\""),
        (Availability::Stopped, "H14", "at=error code=H14 desc=\"No web processes running\" method=GET"),
        (Availability::Maintenance, "H80", "at=info code=H80 desc=\"Maintenance mode\" method=GET"),
        (Availability::Blank, "H81", "at=info code=H81 desc=\"Blank app\" method=GET"),
    ] {
        let (router, _line) = check(AppRoute { availability, ..app(&[]) }, code, log_start);
        router.drain();
    }
}

#[test]
fn h20_after_waiting_for_a_dyno_that_does_not_start() {
    for boot_wait_ms in [150, 0] {
        let limits = RequestLimits { boot_wait_ms, ..limits() };
        let route = AppRoute { limits, ..app(&[]) };
        let (router, line) = check(route, "H20", "at=error code=H20 desc=\"App boot timeout\"");
        let queue: u64 = line.rsplit_once("queue=").unwrap().1.trim_end_matches("ms").parse().unwrap();
        assert!((boot_wait_ms..2_000).contains(&queue), "{line}");
        router.drain();
    }
}

#[test]
fn a_request_that_waits_for_a_start_is_served_when_a_dyno_comes_and_refused_when_it_crashes() {
    let dyno = TestDyno::http(|_request| ok("up"));
    let mut router = TestRouter::start();
    router.route(app(&[]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.route(app(&[&dyno]));
    assert_eq!(client.response().body, "up");

    router.route(app(&[]));
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.route(AppRoute { availability: Availability::Crashed, ..app(&[]) });
    assert!(client.response().body.contains("H10"));
    router.drain();
}

#[test]
fn h11_when_the_queue_is_full_and_when_the_wait_was_too_long() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let mut dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().unwrap();
        ok("done")
    });
    dyno.concurrency = Some(1);
    let queue_wait = Duration::from_millis(500);
    let mut router = TestRouter::start_with(router::Bounds { queue_requests_max: 1, queue_wait, ..bounds() });
    router.route(app(&[&dyno]));
    let mut served = router.connect();
    served.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);

    let mut queued = router.connect();
    let queued_at = Instant::now();
    queued.send(&format!("GET /queued HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let mut refused = None;
    wait_until(
        || {
            let response = router.get("/newest");
            refused = response.body.contains("H11").then_some(response);
            refused.is_some()
        },
        "a refusal",
    );
    assert_eq!(refused.unwrap().header("retry-after"), Some("1"));
    let response = queued.response();
    assert!(response.body.contains("H11"), "{response:?}");
    assert!(queued_at.elapsed() >= queue_wait);
    assert_eq!(router.in_flight(dyno.id), 1);
    go.send(()).unwrap();
    assert_eq!(served.response().body, "done");
    router.drain();
}

#[test]
fn h12_and_the_slot_stays_until_the_dyno_answers() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().unwrap();
        ok("too late")
    });
    let (mut router, _line) = check(short(&[&dyno]), "H12", "at=error code=H12 desc=\"Request timeout\"");
    assert_eq!(router.in_flight(dyno.id), 1);
    go.send(()).unwrap();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn h13_when_the_dyno_closes_without_an_answer() {
    let dyno = TestDyno::start(|mut stream| drop(read_head(&mut stream)));
    let log_start = "sock=backend at=error code=H13 desc=\"Connection closed without response\"";
    check(app(&[&dyno]), "H13", log_start).0.drain();
}

#[test]
fn h17_when_the_answer_is_not_http() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"220 smtp.example ESMTP\r\n\r\n").unwrap();
    });
    check(app(&[&dyno]), "H17", "at=error code=H17 desc=\"Poorly formatted HTTP response\"").0.drain();
}

#[test]
fn h18_when_the_dyno_dies_in_the_middle_of_its_answer() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(client.expect_end(), b"half");
    let line = router.next_log_line();
    assert!(line.starts_with("sock=backend at=error code=H18 desc=\"Server Request Interrupted\""), "{line}");
    assert!(line.contains(" status=503 bytes=4 "), "{line}");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn h15_when_the_dyno_stalls_in_the_middle_of_its_answer() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
        drop(read_head(&mut stream));
    });
    let mut router = TestRouter::start();
    router.route(quiet(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    client.head();
    assert_eq!(client.expect_end(), b"half");
    let line = router.next_log_line();
    assert!(line.starts_with("at=error code=H15 desc=\"Idle connection\""), "{line}");
    router.drain();
}

#[test]
fn a_dyno_that_says_nothing_behind_its_head_gets_a_page_for_its_client() {
    let head_only = |stays: bool| {
        TestDyno::start(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").unwrap();
            if stays {
                drop(read_head(&mut stream));
            }
        })
    };
    let (dies, stalls) = (head_only(false), head_only(true));
    for (route, code) in [(app(&[&dies]), "H18"), (quiet(&[&stalls]), "H15")] {
        let mut router = TestRouter::start();
        router.route(route);
        for way in WAYS {
            let (status, line) = ask(&mut router, way);
            assert_eq!(status, 503, "{way:?}: {line}");
            assert!(line.contains(&format!(" code={code} ")) && line.contains(" status=503 "), "{way:?}: {line}");
        }
        router.drain();
    }
}

#[test]
fn h19_when_the_dyno_does_not_take_the_connection() {
    let (_listener, _held, dyno) = full_backlog();
    check(short(&[&dyno]), "H19", "at=error code=H19 desc=\"Backend connection timeout\"").0.drain();
}

#[test]
fn h21_when_the_dyno_refuses_and_h34_when_all_have_refused_before() {
    let (first, second) = (TestDyno::refusing(), TestDyno::refusing());
    let log_start = "at=error code=H21 desc=\"Backend connection refused\"";
    let (mut router, _line) = check(app(&[&first, &second]), "H21", log_start);
    assert!(router.get("/").body.contains("H34"));
    let line = router.next_log_line();
    assert!(line.starts_with("at=error code=H34 desc=\"All up dynos are quarantined\""), "{line}");
    router.drain();

    let (router, _line) = check(app(&[&first]), "H21", log_start);
    assert!(router.get("/").body.contains("H21"), "the last dyno is never ejected");
    router.drain();
}

#[test]
fn a_request_goes_to_another_dyno_when_one_refuses() {
    let (dead, alive) = (TestDyno::refusing(), TestDyno::http(|_request| ok("alive")));
    let mut router = TestRouter::start();
    router.route(app(&[&dead, &alive]));
    for _request in 0..50 {
        assert_eq!(router.get("/").body, "alive");
    }
    router.drain();
}

#[test]
fn h27_when_the_client_leaves_and_the_slot_stays_until_the_dyno_answers() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (arrived, arrival) = std::sync::mpsc::channel::<()>();
    let channels = std::sync::Mutex::new((arrived, wait));
    let dyno = TestDyno::http(move |_request| {
        let channels = channels.lock().unwrap();
        channels.0.send(()).unwrap();
        channels.1.recv().unwrap();
        ok("nobody listens")
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    // In flight from the choice of the dyno on; before it has the request, leaving frees the slot at once.
    arrival.recv().unwrap();
    drop(client);
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H27 desc=\"Client Request Interrupted\""), "{line}");
    assert!(line.contains(" status=499 "), "{line}");
    assert_eq!(router.in_flight(dyno.id), 1);
    go.send(()).unwrap();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn h27_when_the_client_leaves_in_an_upload_and_the_slot_stays_until_the_dyno_closes() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let dyno = TestDyno::start(move |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"part"), "the upload was cancelled");
        wait.lock().unwrap().recv().unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"));
    router.wait_for_in_flight(dyno.id, 1);
    drop(client);
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H27 ") && line.contains(" status=499 "), "{line}");
    assert_eq!(router.in_flight(dyno.id), 1);
    go.send(()).unwrap();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn h28_when_the_client_stalls_in_its_upload() {
    let dyno = TestDyno::start(|mut stream| drop(read_request(&mut stream)));
    let mut router = TestRouter::start();
    router.route(short(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"));
    assert_eq!(client.response().status(), 408);
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H28 desc=\"Client Connection Idle\""), "{line}");
    assert!(line.contains(" status=499 "), "{line}");
    router.drain();
}

#[test]
fn h28_when_the_client_does_not_read() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").unwrap();
        let piece = vec![b'x'; 1 << 20];
        while stream.write_all(&piece).is_ok() {}
    });
    let mut router = TestRouter::start();
    router.route(quiet(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H28 "), "{line}");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn h99_when_this_machine_has_no_way_to_the_dyno() {
    let mut dyno = TestDyno::refusing();
    // A link-local address without an interface: the kernel refuses before anything is sent.
    dyno.address = "[fe80::1]:80".parse().unwrap();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    assert!(router.get("/").body.contains("H99"));
    assert!(router.next_log_line().starts_with("at=error code=H99 desc=\"Platform error\""));
    router.drain();
}

#[test]
fn an_unknown_host_gets_a_page_and_health_answers_for_any() {
    let router = TestRouter::start();
    let response = router.get("/");
    assert_eq!((response.status(), response.body.contains("No such app")), (404, true));
    let health = router.get("/.well-known/berth/health");
    assert_eq!((health.status(), health.body.as_str()), (200, "ok\n"));
    let mut client = router.connect();
    client.send("GET / HTTP/1.1\r\nhost: nowhere\r\naccept: application/json\r\n\r\n");
    let json = client.response();
    assert!(json.body.starts_with("{\"id\":\"not_found\",\"message\":\"No such app"), "{}", json.body);
    client.stream.shutdown(Shutdown::Both).unwrap();
    router.drain();
}

#[test]
fn a_request_that_dies_on_a_reused_connection_is_sent_again_once_if_that_is_safe() {
    // Answers one request per connection, then closes when the second one arrives.
    let dyno = TestDyno::start(|mut stream| {
        let request = read_request(&mut stream).unwrap();
        stream.write_all(ok(&request.head[..4]).as_bytes()).unwrap();
        drop(read_head(&mut stream));
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    assert_eq!(client.get("/").body, "GET ");
    assert_eq!(client.get("/").body, "GET ", "replayed on a new connection");
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\nhi"));
    let post = client.response();
    assert!(post.body.contains("H13"), "a POST that may have been executed is not repeated: {}", post.body);
    router.drain();
}

#[test]
fn a_request_whose_dyno_dies_under_a_kept_connection_is_served_by_another_one() {
    for way in WAYS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dying = TestDyno::elsewhere(listener.local_addr().unwrap());
        let (died, death) = std::sync::mpsc::channel();
        let life = std::thread::spawn(move || {
            let (mut stream, _peer) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream.write_all(ok("alive").as_bytes()).unwrap();
            read_head(&mut stream).unwrap();
            drop((listener, stream));
            died.send(()).unwrap();
        });
        let other = TestDyno::http(|_request| ok("other"));
        let mut router = TestRouter::start();
        router.route(app(&[&dying]));
        let mut client = router.connect();
        let mut get = || {
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            client.response().body
        };
        assert_eq!(get(), "alive");
        router.route(app(&[&dying, &other]));
        // By chance it is asked again soon, and long before its connection is given up.
        wait_until(
            || {
                assert_eq!(get(), "other", "{way:?}");
                death.try_recv().is_ok()
            },
            "the death of a dyno",
        );
        life.join().unwrap();
        router.drain();
    }
}

#[test]
fn a_post_never_goes_down_with_a_connection_that_the_dyno_has_closed_before_it() {
    let (closed, ended) = std::sync::mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let dyno = TestDyno::start(move |mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(ok("once").as_bytes()).unwrap();
        drop(stream);
        closed.lock().unwrap().send(()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    for _request in 0..50 {
        client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\nhi"));
        assert_eq!(client.response().body, "once");
        ended.recv().unwrap();
    }
    router.drain();
}

#[test]
fn h25_when_the_head_of_the_answer_is_too_large() {
    let long = format!("HTTP/1.1 200 OK\r\nset-cookie: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(200 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(1_000));
    let reason = format!("HTTP/1.1 200 {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(200 * 1024));
    for answer in [long, many, reason] {
        let dyno = TestDyno::start(move |mut stream| {
            read_head(&mut stream);
            // The router may have closed by then.
            stream.write_all(answer.as_bytes()).ok();
            std::io::Read::read(&mut stream, &mut [0]).ok();
        });
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        for way in WAYS {
            let (status, line) = ask(&mut router, way);
            assert_eq!(status, 502, "{way:?}: {line}");
            assert!(
                line.starts_with("at=error code=H25 desc=\"HTTP Restriction\" cause=\"oversized header\""),
                "{line}"
            );
        }
        router.drain();
    }
}

/// Requests that take the express lane, and those that take the full path.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

/// The status of one GET, and its line in the log.
fn ask(router: &mut TestRouter, way: &str) -> (u16, String) {
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
    let status = client.response().status();
    (status, router.next_log_line())
}

#[test]
fn codes_do_not_depend_on_the_way() {
    let closes = TestDyno::start(|mut stream| drop(read_head(&mut stream)));
    let nonsense = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"220 smtp.example ESMTP\r\n\r\n").unwrap();
    });
    let mut silent = TestDyno::start(|mut stream| while read_head(&mut stream).is_some() {});
    // The first request keeps its place.
    silent.concurrency = Some(10);
    let refuses = TestDyno::refusing();
    let (full, _waiting, backlog) = full_backlog();
    let without = |availability| AppRoute { availability, ..short(&[]) };
    let cases = [
        (without(Availability::Crashed), "H10"),
        (without(Availability::Stopped), "H14"),
        (without(Availability::Starting), "H20"),
        (without(Availability::Maintenance), "H80"),
        (without(Availability::Blank), "H81"),
        (app(&[&closes]), "H13"),
        (app(&[&nonsense]), "H17"),
        (short(&[&silent]), "H12"),
        (app(&[&refuses]), "H21"),
        (short(&[&backlog]), "H19"),
    ];
    for (route, code) in cases {
        let mut router = TestRouter::start_with(Bounds { queue_wait: Duration::from_millis(150), ..bounds() });
        router.route(route);
        for way in WAYS {
            let (status, line) = ask(&mut router, way);
            assert_eq!(status, 503, "{code} {way:?}: {line}");
            assert!(line.contains(&format!(" code={code} ")) && line.contains(" status=503 bytes=0 "), "{line}");
        }
        router.drain();
    }
    drop(full);
}
