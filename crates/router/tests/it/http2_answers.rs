//! What HTTP/2 clients get from dynos that speak HTTP/1: bodies of every framing, broken answers, answers that nobody
//! waits for.

use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderValue, Request, Response};
use wire::routes::{AppRoute, Availability, RequestLimits};

use crate::harness::{HOST, PATIENCE, TestDyno, TestRouter, app, limits, ok, read_head, read_request};
use crate::http2::h2c;
use crate::http2_peer::{ask, dyno, next, plain, request, send, whole};
use crate::smuggling_http2::{block, frame};

/// A dyno that answers each request with these bytes and closes.
fn raw(answer: impl Into<Vec<u8>>) -> TestDyno {
    let answer = answer.into();
    TestDyno::start(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(&answer).unwrap_or_default();
    })
}

#[test]
fn an_ordinary_request_reaches_the_dyno_as_over_http1() {
    let dyno = TestDyno::http(|request| ok(&format!("{}{}", request.head, String::from_utf8_lossy(&request.body))));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let mut post = request("POST", "/x?y");
        for (name, value) in [
            ("x-request-id", "8601b555-6a83-4c12-8269-97c8e32cdb22"),
            ("x-forwarded-for", "9.9.9.9"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ] {
            post.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let answer = ask(&client, post, Some(Bytes::from_static(b"body"))).await;
        let text = answer.text();
        assert!(text.starts_with("POST /x?y HTTP/1.1\r\n"), "{text}");
        // In any order: a body that comes in a packet of its own takes the request to the full path.
        for line in [
            &format!("host: {HOST}"),
            "cookie: a=1; b=2",
            "x-request-id: 8601b555-6a83-4c12-8269-97c8e32cdb22",
            "x-forwarded-for: 9.9.9.9, 127.0.0.1",
            "x-forwarded-proto: http",
            "via: 1.1 berth",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in {text}");
        }
        assert!(text.ends_with("\r\n\r\nbody"), "{text}");
        let (response, _stream) = send(&client, request("GET", "/"), true).await;
        let response = response.await.unwrap();
        assert_eq!(response.headers()["via"], "1.1 berth");
        assert!(response.headers().contains_key("date"));
        let length = response.headers()["content-length"].clone();
        assert_eq!(length, whole(response).await.body.len().to_string());
    });
    let lines = router.next_log_lines(2);
    let line = "at=info method=POST path=\"/x?y\" host=shop.example request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 \
                fwd=\"9.9.9.9, 127.0.0.1\" dyno=web.1 connect=";
    assert!(lines[0].starts_with(line), "{}", lines[0]);
    assert!(lines[0].contains(" status=200 bytes=") && lines[0].contains(" protocol=http queue="), "{}", lines[0]);
    router.drain();
}

#[test]
fn bodies_of_every_framing_arrive_whole() {
    let large: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let chunks: Vec<u8> = large
        .chunks(70_001)
        .flat_map(|piece| [format!("{:X};x=y\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .collect();
    let with = |head: &str, body: &[&[u8]]| raw([head.as_bytes(), &body.concat()].concat());
    let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len());
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n";
    let dynos = [
        (with(&length, &[&large]), None),
        (with("HTTP/1.0 200 OK\r\n\r\n", &[&large]), None),
        (with(chunked, &[&chunks, b"0\r\n\r\n"]), None),
        (with(chunked, &[&chunks, b"0\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n"]), Some("7")),
    ];
    for (dyno, sum) in dynos {
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            let (response, _stream) = send(&client, request("GET", "/"), true).await;
            let response: Response<_> = response.await.unwrap();
            assert!(!response.headers().contains_key("x-own") && !response.headers().contains_key("transfer-encoding"));
            let mut body = response.into_body();
            let mut bytes = Vec::new();
            while let Some(data) = next(&mut body).await {
                bytes.extend_from_slice(&data);
            }
            assert!(bytes == large, "{} bytes", bytes.len());
            let trailers = body.trailers().await.unwrap();
            let trailers: Vec<_> =
                trailers.iter().flatten().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            assert_eq!(trailers, sum.map(|sum| ("x-sum", sum)).into_iter().collect::<Vec<_>>());
        });
        assert!(router.next_log_line().contains(" status=200 bytes="));
        router.wait_for_in_flight(dyno.id, 0);
        router.drain();
    }
}

#[test]
fn answers_without_a_body_have_none() {
    for (answer, method, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", 204),
        ("HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 7\r\n\r\n", "GET", 304),
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", "HEAD", 200),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "GET", 200),
    ] {
        let dyno = raw(answer);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.runtime.block_on(async {
            let answer = ask(&plain(router.address).await, request(method, "/"), None).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{method}");
        });
        router.drain();
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    for (answer, code) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart", "H18"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "H18"),
    ] {
        let dyno = raw(answer);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            let (response, _stream) = send(&client, request("GET", "/"), true).await;
            let mut body = response.await.unwrap().into_body();
            assert_eq!(next(&mut body).await.unwrap(), "part");
            let error = body.data().await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        });
        assert!(router.next_log_line().starts_with(&format!("sock=backend at=error code={code} ")));
        router.drain();
    }
}

#[test]
fn a_problem_is_told_in_the_form_that_the_client_wants() {
    let check = |route: AppRoute, code: &str, status: u16| {
        let mut router = TestRouter::start();
        router.route(route);
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            let mut get = request("GET", "/");
            get.headers_mut().insert("accept", HeaderValue::from_static("application/json"));
            let answer = ask(&client, get, None).await;
            assert_eq!(answer.status, status);
            assert!(answer.text().starts_with(&format!("{{\"id\":\"{code}\"")), "{}", answer.text());
            let answer = ask(&client, request("HEAD", "/"), None).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        });
        for line in router.next_log_lines(2) {
            assert!(line.contains(&format!("code={code} ")) && line.contains(&format!(" status={status} ")), "{line}");
        }
        router.drain();
    };
    check(AppRoute { availability: Availability::Stopped, ..app(&[]) }, "H14", 503);
    check(app(&[&TestDyno::refusing()]), "H21", 503);
    check(app(&[&raw("")]), "H13", 503);
    check(app(&[&raw("nonsense\r\n\r\n")]), "H17", 503);
}

#[test]
fn a_broken_answer_is_told_if_nothing_of_it_has_left() {
    for (answer, line_start) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n", "at=error code=H17 "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "sock=backend at=error code=H18 "),
    ] {
        let dyno = raw(answer);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.runtime.block_on(async {
            let answer = ask(&plain(router.address).await, request("GET", "/"), None).await;
            assert_eq!(answer.status, 503);
        });
        let line = router.next_log_line();
        assert!(line.starts_with(line_start), "{line}");
        router.drain();
    }
}

/// Of a dyno that speaks HTTP/2, over a connection that has carried an answer before.
#[test]
fn an_answer_that_never_began_is_not_said_to_have_broken_off() {
    let mut router = TestRouter::start();
    let resets = dyno(&router, async |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        match request.uri().path() {
            "/" => drop(respond.send_response(Response::new(()), true).unwrap()),
            _other => respond.send_reset(Reason::INTERNAL_ERROR),
        }
    });
    router.route(h2c(&resets));
    let mut client = router.connect();
    assert_eq!(client.get("/").status(), 200);
    let answer = client.get("/broken");
    assert!(answer.body.contains("H13"), "{}", answer.body);
    let no_http2 = TestDyno::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    });
    router.route(h2c(&no_http2));
    let answer = router.get("/");
    assert!(answer.body.contains("H17"), "{}", answer.body);
    router.drain();
}

/// Answers when it is told to.
fn gated() -> (TestDyno, impl FnOnce()) {
    let (go, wait) = channel::<()>();
    let wait: Mutex<Receiver<()>> = Mutex::new(wait);
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        wait.lock().unwrap().recv().unwrap_or_default();
        stream.write_all(ok("late").as_bytes()).unwrap_or_default();
        // Until the router has closed.
        drop(stream.read(&mut [0]));
    });
    (dyno, move || go.send(()).unwrap())
}

#[test]
fn a_request_that_is_taken_back_keeps_its_dyno_busy_until_that_has_answered() {
    let (dyno, go) = gated();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let client = router.runtime.block_on(plain(router.address));
    let (response, mut stream) = router.runtime.block_on(send(&client, request("GET", "/"), true));
    router.wait_for_in_flight(dyno.id, 1);
    stream.send_reset(Reason::CANCEL);
    drop(response);
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H27 ") && line.contains(" status=499 "), "{line}");
    assert_eq!(router.in_flight(dyno.id), 1);
    go();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn a_client_that_closes_takes_all_its_requests_back() {
    let (dyno, go) = gated();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = router.address;
    let held = runtime.block_on(async {
        let client = plain(address).await;
        (send(&client, request("GET", "/"), true).await, client)
    });
    router.wait_for_in_flight(dyno.id, 1);
    drop(held);
    runtime.shutdown_background();
    assert!(router.next_log_line().starts_with("sock=client at=warning code=H27 "));
    assert_eq!(router.in_flight(dyno.id), 1);
    go();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn a_dyno_that_takes_too_long_is_given_up_and_stays_busy() {
    let (dyno, go) = gated();
    let mut router = TestRouter::start();
    let limits = RequestLimits { first_byte_ms: 200, ..limits() };
    router.route(AppRoute { limits, ..app(&[&dyno]) });
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let answer = tokio::time::timeout(PATIENCE, ask(&client, request("GET", "/"), None)).await.unwrap();
        assert_eq!(answer.status, 503);
    });
    assert!(router.next_log_line().starts_with("at=error code=H12 "));
    assert_eq!(router.in_flight(dyno.id), 1);
    go();
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn a_dyno_that_has_closed_its_kept_connection_is_asked_on_a_new_one() {
    // Answers once on each connection and then closes it, without having said so.
    let dyno = raw(ok("served"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        for _request in 0..50 {
            assert_eq!(ask(&client, request("GET", "/"), None).await.text(), "served");
        }
    });
    router.drain();
}

#[test]
fn a_large_answer_does_not_hold_up_the_others_on_its_connection() {
    const MIB: usize = 1 << 20;
    const LARGE_BYTES: usize = 256 * MIB;
    const SMALL_BYTES: usize = MIB;
    let (small_begins, begun) = channel();
    let begun = Mutex::new(begun);
    let mut dyno = TestDyno::start(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            let is_large = request.path() == "/large";
            let bytes = if is_large { LARGE_BYTES } else { SMALL_BYTES };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            for piece in 0..bytes / MIB {
                // From here on there are two, however long the other one takes to begin.
                match (is_large, piece) {
                    (true, 4) => drop(begun.lock().unwrap().recv()),
                    (false, _) => small_begins.send(()).unwrap(),
                    _ => {}
                }
                if stream.write_all(&vec![b'x'; MIB]).is_err() {
                    return;
                }
            }
        }
    });
    dyno.concurrency = Some(10);
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut stream = router.connect().stream;
    // Windows that nothing waits for.
    let windows = [&[0, 4][..], &(u32::MAX >> 1).to_be_bytes()].concat();
    let more = ((u32::MAX >> 1) - 65_535).to_be_bytes();
    let get = |stream: u32, path| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", HOST)];
        frame(1, 5, stream, &block(fields))
    };
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&[frame(4, 0, 0, &windows), frame(8, 0, 0, &more), get(1, "/large")].concat()).unwrap();
    let (mut of_large, mut of_small) = (0, 0);
    let mut has_asked = false;
    while of_small < SMALL_BYTES {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let [_, high, low, kind, _flags, .., id] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).unwrap();
        match (kind, id) {
            (0, 1) => of_large += payload.len(),
            (0, _) => of_small += payload.len(),
            _ => {}
        }
        if of_large > SMALL_BYTES && !std::mem::replace(&mut has_asked, true) {
            stream.write_all(&get(3, "/small")).unwrap();
        }
    }
    // Both got about the same meanwhile, besides what sockets held already.
    assert!(of_large < LARGE_BYTES / 4, "{of_large} bytes of the large one came first");
    drop(stream);
    router.drain();
}
