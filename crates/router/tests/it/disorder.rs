//! Dynos and clients that do what they should not, or at a moment when they should not: nobody else gets to feel it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use wire::routes::{AppRoute, RequestLimits};

use crate::harness::{HOST, TestDyno, TestRouter, app, limits, ok, read_head, read_request};

/// Requests that take the express lane, and those that take the full path.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

#[test]
fn an_answer_before_the_end_of_an_upload_arrives_though_its_dyno_closes_at_once() {
    // Bytes that nobody reads: the end of the connection is a reset.
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream).unwrap();
        let head = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\n";
        stream.write_all(format!("{head}much").as_bytes()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    for bytes in [20_000, 3_000_000] {
        for _attempt in 0..20 {
            let mut client = router.connect();
            let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {bytes}\r\n\r\n");
            let upload = [head.as_bytes(), &vec![b'x'; bytes]].concat();
            // The router may end the connection before it has taken everything.
            client.stream.write_all(&upload).ok();
            let response = client.response();
            assert_eq!((response.status(), response.body.as_str()), (413, "much"), "{bytes}");
        }
    }
    router.drain();
}

#[test]
fn a_body_where_none_belongs_is_nobodys_answer() {
    let (go, wait) = channel::<()>();
    let (sent, arrived) = channel::<()>();
    let channels = Mutex::new((wait, sent));
    let dyno = TestDyno::start(move |mut stream| {
        // What is sent late must not wait for the next request to arrive.
        stream.set_nodelay(true).unwrap();
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap();
            let surplus = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong";
            let answer = match path {
                "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 69\r\n\r\n".to_owned(),
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                "/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 69\r\n\r\n".to_owned(),
                "/short" => ok("short"),
                path => {
                    stream.write_all(ok(path).as_bytes()).unwrap();
                    continue;
                }
            };
            if head.contains("x-at-once") {
                stream.write_all(format!("{answer}{surplus}").as_bytes()).unwrap();
            } else {
                stream.write_all(answer.as_bytes()).unwrap();
                let channels = channels.lock().unwrap();
                channels.0.recv().unwrap();
                // The router may have closed by then.
                stream.write_all(surplus.as_bytes()).ok();
                channels.1.send(()).unwrap();
            }
        }
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    for way in WAYS {
        for (method, path, status) in
            [("HEAD", "/head", 200), ("GET", "/204", 204), ("GET", "/304", 304), ("GET", "/short", 200)]
        {
            for when in ["x-at-once: yes\r\n", ""] {
                let mut client = router.connect();
                client.send(&format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{way}{when}\r\n"));
                let head = client.head();
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                if path == "/short" {
                    client.stream.read_exact(&mut [0; 5]).unwrap();
                }
                if when.is_empty() {
                    go.send(()).unwrap();
                    arrived.recv().unwrap();
                }
                for n in 0..3 {
                    client.send(&format!("GET /{n} HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
                    assert_eq!(client.response().body, format!("/{n}"), "{way:?} {path} {when:?}");
                }
            }
        }
    }
    router.drain();
}

#[test]
fn a_client_that_leaves_before_its_upgrade_keeps_its_dyno_busy_until_that_has_answered() {
    let (go, wait) = channel::<()>();
    let (report, heard) = channel();
    let channels = Mutex::new((wait, report));
    let dyno = TestDyno::start(move |mut stream| {
        let channels = channels.lock().unwrap();
        read_head(&mut stream).unwrap();
        channels.1.send(Vec::new()).unwrap();
        channels.0.recv().unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhi").unwrap();
        let mut rest = Vec::new();
        // However it ends, it does.
        stream.read_to_end(&mut rest).ok();
        channels.1.send(rest).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"));
    heard.recv().unwrap();
    drop(client);
    assert!(router.next_log_line().starts_with("sock=client at=warning code=H27 "));
    assert_eq!(router.in_flight(dyno.id), 1);
    go.send(()).unwrap();
    assert_eq!(heard.recv_timeout(crate::harness::PATIENCE).unwrap(), b"");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn any_protocol_may_be_upgraded_to_and_both_sides_may_speak_at_once() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello ")
            .unwrap();
        let mut said = Vec::new();
        // A side that says no more still hears.
        stream.read_to_end(&mut said).unwrap();
        stream.write_all(&said).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    // What comes with the request is for after the upgrade.
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nGET / HTTP"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send("/1.1\n\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.expect_end(), b"hello GET / HTTP/1.1\n\n");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn heads_that_are_too_large_are_refused_on_both_ways() {
    let dyno = TestDyno::http(|_request| ok("served"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(200 * 1024));
    let (target, short) = (format!("/{}", "y".repeat(200 * 1024)), "/".to_owned());
    for way in WAYS {
        for (target, headers) in [(&short, &many), (&short, &long), (&target, &String::new())] {
            let mut client = router.connect();
            let head = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n{way}{headers}\r\n");
            // The refusal may come before the end.
            client.stream.write_all(head.as_bytes()).ok();
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 431 ") || head.starts_with("HTTP/1.1 414 "), "{head}");
            client.expect_end();
        }
        let mut client = router.connect();
        let large = format!("x: {}\r\n", "y".repeat(30 * 1024));
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}{large}\r\n"));
        assert_eq!(client.response().body, "served");
    }
    router.drain();
}

#[test]
fn an_answer_may_name_its_own_headers_in_several_lines() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: x-private\r\nX-Private: 1\r\nConnection: keep-alive, x-other\r\n\
                  X-Other: 2\r\nX-Own: 3\r\nContent-Length: 2\r\n\r\nok";
    let dyno = TestDyno::http(move |_request| answer.to_owned());
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    for way in WAYS {
        let mut client = router.connect();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.body.as_str()), (200, "ok"), "{way:?}");
        assert_eq!((response.header("x-private"), response.header("x-other")), (None, None), "{way:?}");
        assert_eq!(response.header("x-own"), Some("3"));
    }
    router.drain();
}

#[test]
fn a_dyno_that_only_promises_an_answer_takes_too_long_all_the_same() {
    for promise in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", "drip"] {
        let dyno = TestDyno::start(move |mut stream| {
            read_head(&mut stream).unwrap();
            if promise == "drip" {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").unwrap();
            }
            let piece = if promise == "drip" { "x" } else { promise };
            // Until the router has had enough of it.
            while stream.write_all(piece.as_bytes()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        for way in WAYS {
            let mut router = TestRouter::start();
            let limits = RequestLimits { first_byte_ms: 500, ..limits() };
            router.route(AppRoute { limits, ..app(&[&dyno]) });
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            let body = client.response().body;
            assert!(body.contains("H12"), "{promise:?} {way:?}: {body}");
            router.drain();
        }
    }
}

#[test]
fn pipelined_requests_of_both_ways_are_answered_in_order() {
    let dyno = TestDyno::http(|request| ok(&format!("{} {}", request.path(), request.body.len())));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    let bodies = ["content-length: 3\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"];
    let requests = (0..30).map(|n| {
        let (way, body) = (WAYS[n / 10 % 2], bodies[n / 20]);
        format!("POST /{n} HTTP/1.1\r\nhost: {HOST}\r\n{way}{body}")
    });
    client.send(&requests.collect::<String>());
    for n in 0..30 {
        assert_eq!(client.response().body, format!("/{n} 3"));
    }
    router.drain();
}

#[test]
fn a_kept_connection_that_closes_under_an_expectant_upload_is_no_loss_of_it() {
    // Closes after each answer without saying so.
    let (closed, ended) = channel();
    let closed = Mutex::new(closed);
    let dyno = TestDyno::start(move |mut stream: TcpStream| {
        let head = read_head(&mut stream).unwrap();
        if head.contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
        let mut body =
            vec![0; crate::harness::header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(ok(std::str::from_utf8(&body).unwrap()).as_bytes()).unwrap();
        drop(stream);
        closed.lock().unwrap().send(()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    for n in 0..30 {
        client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 100 "), "{n}: {head}");
        client.send("hello");
        assert_eq!(client.response().body, "hello");
        ended.recv().unwrap();
    }
    router.drain();
}

#[test]
fn a_request_that_waits_is_answered_by_what_the_table_says_then() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let mut busy = TestDyno::start(move |mut stream| {
        while read_request(&mut stream).is_some() {
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(ok("busy").as_bytes()).unwrap();
        }
    });
    busy.concurrency = Some(1);
    let fresh = TestDyno::http(|_request| ok("fresh"));
    for way in WAYS {
        let mut router = TestRouter::start();
        router.route(app(&[&busy]));
        let ask = |router: &TestRouter| {
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            client
        };
        let mut served = ask(&router);
        router.wait_for_in_flight(busy.id, 1);
        let mut waits = ask(&router);
        let queued = |router: &mut TestRouter| {
            let admission = router.runtime.block_on(router.server.status()).unwrap().admission;
            admission.first().is_some_and(|app| app.queued == 1)
        };
        crate::harness::wait_until(|| queued(&mut router), "a request that waits");
        // Its dyno leaves, and another comes: neither the one nor the other request notices.
        router.route(app(&[&fresh]));
        assert_eq!(waits.response().body, "fresh");
        let mut waits = ask(&router);
        assert_eq!(waits.response().body, "fresh");
        go.send(()).unwrap();
        assert_eq!(served.response().body, "busy");
        router.wait_for_in_flight(busy.id, 0);
        router.drain();
    }
}
