//! HTTP/2 with clients and with dynos.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request, Response};
use router::Bounds;
use rustls::version::TLS13;
use wire::routes::{AppRoute, DynoProtocol, DynoRoute, EdgeSettings, RequestLimits};

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, bounds, limits, ok, read_head};
use crate::http2_peer::{ask, dyno, next, plain, request, secure, send, whole, with};
use crate::tls_client::Authority;

pub(crate) fn h2c(dyno: &TestDyno) -> AppRoute {
    let edge = EdgeSettings { dyno_protocol: DynoProtocol::H2c, ..EdgeSettings::default() };
    AppRoute { edge, ..app(&[dyno]) }
}

fn seen(text: &str) -> crate::harness::Request {
    crate::harness::Request { head: text.to_owned(), body: Vec::new() }
}

#[test]
fn requests_over_http2_reach_an_http1_dyno_like_any_other() {
    let dyno = TestDyno::http(|request| match request.body.len() {
        0 => ok(&request.head),
        count => ok(&count.to_string()),
    });
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    router.runtime.block_on(async {
        let client = secure(router.https_address, HOST, &authority.client(&[&TLS13])).await;
        let mut get = request("GET", "/x?y");
        get.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
        get.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        let answer = ask(&client, get, None).await;
        assert_eq!(answer.status, 200);
        let head = seen(answer.text());
        assert!(head.head.starts_with("GET /x?y HTTP/1.1\r\n"), "{}", head.head);
        assert_eq!(head.header("host"), Some(HOST));
        assert_eq!(head.header("cookie"), Some("a=1; b=2"));
        assert_eq!(head.header("x-forwarded-proto"), Some("https"));
        assert_eq!((head.header("transfer-encoding"), head.header("content-length")), (None, None));
        let answer = ask(&client, request("POST", "/"), Some(Bytes::from(vec![7; 200_000]))).await;
        assert_eq!(answer.text(), "200000");
        let answer = ask(&client, request("HEAD", "/"), None).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    });
    let lines = router.next_log_lines(3);
    assert!(lines[0].contains(" protocol=https tls_version=tls1.3 queue="), "{}", lines[0]);
    router.drain();
}

#[test]
fn many_requests_share_one_client_connection_and_each_gets_its_own_answer() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let asked: Vec<_> = (0..500)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client, request("GET", &format!("/{n}")), None).await })
            })
            .collect();
        for (n, answer) in asked.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap().text(), format!("/{n}"));
        }
    });
    router.drain();
}

/// What gRPC needs: messages both ways while the call is open, trailers after the last one.
async fn grpc(client: &h2::client::SendRequest<Bytes>) {
    let mut call = request("POST", "/shop.Orders/Follow");
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let (response, mut stream) = send(client, call, false).await;
    stream.send_data(Bytes::from_static(b"one"), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap(), "echo one");
    stream.send_data(Bytes::from_static(b"two"), false).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), "echo two");
    let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("6"))]);
    stream.send_trailers(sum).unwrap();
    assert_eq!(next(&mut body).await, None);
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!((&trailers["grpc-status"], &trailers["x-sum-was"]), (&"0".parse().unwrap(), &"6".parse().unwrap()));
}

async fn grpc_server(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    assert_eq!(request.uri().to_string(), format!("http://{HOST}/shop.Orders/Follow"));
    assert_eq!(request.headers()["te"], "trailers");
    assert!(!request.headers().contains_key("host"));
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    let mut body = request.into_body();
    while let Some(message) = next(&mut body).await {
        stream.send_data(Bytes::from([b"echo ", &message[..]].concat()), false).unwrap();
    }
    let sum = body.trailers().await.unwrap().unwrap()["x-sum"].clone();
    let status = HeaderValue::from_static("0");
    let trailers = [("grpc-status".parse().unwrap(), status), ("x-sum-was".parse().unwrap(), sum)];
    stream.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
}

#[test]
fn grpc_works_end_to_end_with_and_without_tls() {
    let authority = Authority::new();
    let mut router = TestRouter::start();
    let dyno = dyno(&router, grpc_server);
    router.route(h2c(&dyno));
    router.certify(vec![authority.certify(1, &[HOST])]);
    router.runtime.block_on(async {
        grpc(&plain(router.address).await).await;
        let client = secure(router.https_address, HOST, &authority.client(&[&TLS13])).await;
        for _call in 0..3 {
            grpc(&client).await;
        }
    });
    router.wait_for_in_flight(dyno.id, 0);
    // One per worker thread that had something to ask.
    assert!(dyno.connections.load(Ordering::SeqCst) <= 2);
    assert_eq!(router.next_log_lines(4).iter().filter(|line| line.contains(" status=200 ")).count(), 4);
    router.drain();
}

#[test]
fn an_http1_client_is_served_by_an_http2_dyno() {
    let mut router = TestRouter::start();
    let dyno = dyno(&router, async |request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
        let (parts, mut body) = request.into_parts();
        assert!(!parts.headers.contains_key("transfer-encoding") && !parts.headers.contains_key("expect"));
        let mut count = 0;
        while let Some(data) = next(&mut body).await {
            count += data.len();
        }
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from(format!("{} {count}", parts.uri.path())), true).unwrap();
    });
    router.route(h2c(&dyno));
    let mut client = router.connect();
    assert_eq!(client.get("/a").body, "/a 0");
    client.send(&format!("POST /b HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    client.send("hello");
    assert_eq!(client.response().body, "/b 5");
    client
        .send(&format!("POST /c HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    assert_eq!(client.response().body, "/c 3");
    assert_eq!(dyno.connections.load(Ordering::SeqCst), 1);
    router.drain();
}

#[test]
fn dynos_of_an_app_that_changes_its_protocol_are_each_spoken_to_in_their_own() {
    let first = TestDyno::http(|_request| ok("1"));
    let mut router = TestRouter::start();
    let second =
        dyno(&router, async |_request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"2"), true).unwrap();
        });
    let mut client = router.connect();
    router.route(app(&[&first]));
    assert_eq!(client.get("/").body, "1");
    let of_old = DynoRoute { protocol: Some(DynoProtocol::Http1), ..first.route() };
    router.route(AppRoute { dynos: vec![of_old.clone()], ..h2c(&second) });
    assert_eq!(client.get("/").body, "1");
    router.route(AppRoute { dynos: vec![of_old, second.route()], ..h2c(&second) });
    let answers: Vec<String> = (0..20).map(|_request| client.get("/").body).collect();
    assert!(answers.contains(&"1".to_owned()) && answers.contains(&"2".to_owned()), "{answers:?}");
    assert!(answers.iter().all(|answer| answer == "1" || answer == "2"), "{answers:?}");
    router.route(h2c(&second));
    assert_eq!(client.get("/").body, "2");
    router.drain();
}

#[test]
fn a_stream_that_the_dyno_refuses_is_sent_again() {
    let mut router = TestRouter::start();
    let refused = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = refused.clone();
    let dyno = dyno(&router, move |_request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
        let counter = counter.clone();
        async move {
            if counter.fetch_add(1, Ordering::SeqCst) == 1 {
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"served"), true).unwrap();
        }
    });
    router.route(h2c(&dyno));
    let mut client = router.connect();
    assert_eq!(client.get("/1").body, "served");
    assert_eq!(client.get("/2").body, "served");
    assert_eq!(refused.load(Ordering::SeqCst), 3);
    router.drain();
}

#[test]
fn a_dyno_may_end_its_connections_as_often_as_it_likes() {
    // As gRPC servers do with connections that have become old: each is told to end after a few requests.
    const REQUESTS: usize = 3;
    let mut router = TestRouter::start();
    let listener = router.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let mut dyno = TestDyno::elsewhere(listener.local_addr().unwrap());
    dyno.concurrency = Some(100);
    let connections = dyno.connections.clone();
    router.runtime.spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut taken = 0;
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    taken += 1;
                    if taken == REQUESTS {
                        connection.graceful_shutdown();
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"served"), true).unwrap();
                }
            });
        }
    });
    router.route(h2c(&dyno));
    let address = router.address;
    let clients: Vec<_> = (0..4)
        .map(|_client| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _request in 0..60 {
                    assert_eq!(client.get("/").body, "served");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(dyno.connections.load(Ordering::SeqCst) > 20);
    router.drain();
}

#[test]
fn an_upload_that_is_taken_back_is_not_taken_for_whole() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let (report, heard) = std::sync::mpsc::channel();
        let report = std::sync::Mutex::new(report);
        let dyno = TestDyno::start(move |mut stream| {
            read_head(&mut stream).unwrap();
            let mut part = [0; 9];
            stream.read_exact(&mut part).unwrap();
            report.lock().unwrap().send(part.to_vec()).unwrap();
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest));
            report.lock().unwrap().send(rest).unwrap();
        });
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            let (_response, mut stream) = send(&client, request("POST", "/"), false).await;
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
            assert_eq!(heard.recv_timeout(crate::harness::PATIENCE).unwrap(), b"4\r\npart\r\n");
            stream.send_reset(reason);
            let rest = heard.recv_timeout(crate::harness::PATIENCE).unwrap();
            assert_eq!(rest, b"", "no last chunk after {reason:?}");
        });
        assert!(router.next_log_line().starts_with("sock=client at=warning code=H27 "));
        router.wait_for_in_flight(dyno.id, 0);
        router.drain();
    }
}

#[test]
fn a_response_that_the_dyno_breaks_off_is_not_taken_for_whole() {
    let mut router = TestRouter::start();
    let dyno =
        dyno(&router, async |_request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(Reason::NO_ERROR);
        });
    router.route(h2c(&dyno));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    client.head();
    let rest = client.expect_end();
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "{rest:?}");
    assert!(router.next_log_line().starts_with("sock=backend at=error code=H18 "));
    router.drain();
}

#[test]
fn a_stream_that_its_client_does_not_read_ends_and_the_others_go_on() {
    let dyno = TestDyno::http(|request| match request.path() {
        "/large" => ok(&"x".repeat(4 << 20)),
        path => ok(path),
    });
    let mut router = TestRouter::start();
    let limits = RequestLimits { idle_ms: 300, ..limits() };
    router.route(AppRoute { limits, ..app(&[&dyno]) });
    router.runtime.block_on(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1_000);
        let client = with(router.address, builder).await;
        let (response, _stream) = send(&client, request("GET", "/large"), true).await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap().len(), 1_000);
        // Nothing is released, so nothing more may come.
        let ended = tokio::time::timeout(crate::harness::PATIENCE, body.data()).await.unwrap();
        let error = ended.unwrap().unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(ask(&client, request("GET", "/small"), None).await.text(), "/small");
    });
    let lines = router.next_log_lines(2);
    assert!(lines[0].starts_with("sock=client at=warning code=H28 "), "{}", lines[0]);
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn an_upload_waits_for_its_dyno_at_the_size_of_the_windows() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    const BYTES: usize = 64 << 20;
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        wait.lock().unwrap().recv().unwrap();
        let count = std::io::copy(&mut (&mut stream).take(BYTES as u64), &mut std::io::sink()).unwrap();
        stream.write_all(ok(&count.to_string()).as_bytes()).unwrap();
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let mut post = request("POST", "/");
        post.headers_mut().insert("content-length", HeaderValue::from(BYTES));
        let (response, mut stream) = send(&client, post, false).await;
        let mut sent = 0;
        let mut go = Some(go);
        while sent < BYTES {
            stream.reserve_capacity(1 << 20);
            let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx));
            match tokio::time::timeout(Duration::from_millis(500), capacity).await {
                Ok(capacity) => {
                    let count = capacity.unwrap().unwrap().min(BYTES - sent);
                    sent += count;
                    stream.send_data(Bytes::from(vec![1; count]), sent == BYTES).unwrap();
                }
                Err(_waiting) => {
                    if let Some(go) = go.take() {
                        assert!(sent < 24 << 20, "{sent} bytes were taken for a dyno that reads none");
                        go.send(()).unwrap();
                    }
                }
            }
        }
        assert_eq!(whole(response.await.unwrap()).await.text(), BYTES.to_string());
        assert!(go.is_none(), "the upload never waited");
    });
    router.drain();
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let dyno = TestDyno::http(|_request| ok("must not be seen"));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let check = async |request: Request<()>, status: u16| {
            assert_eq!(ask(&client, request, None).await.status, status);
        };
        let mut two_hosts = request("GET", "/");
        two_hosts.headers_mut().insert("host", HeaderValue::from_static("other.example"));
        check(two_hosts, 400).await;
        let mut many = request("GET", "/");
        for n in 0..200 {
            many.headers_mut().insert(http::HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from(n));
        }
        check(many, 431).await;
        let mut tea = request("GET", "/");
        tea.headers_mut().insert("expect", HeaderValue::from_static("tea"));
        check(tea, 417).await;
    });
    assert_eq!(dyno.connections.load(Ordering::SeqCst), 0);
    router.drain();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

#[test]
fn floods_end_the_connection() {
    let ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678".to_vec();
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    let rapid_reset: Vec<Vec<u8>> = (0..1_000_u32)
        .map(|n| {
            let id = (n * 2 + 1).to_be_bytes();
            // GET / with an indexed method, path and scheme, and an authority.
            let block = [&[0x82, 0x84, 0x86, 0x41, 12][..], HOST.as_bytes()].concat();
            let length = u8::try_from(block.len()).unwrap();
            [&[0, 0, length, 1, 5][..], &id, &block, &[0, 0, 4, 3, 0], &id, &[0, 0, 0, 8]].concat()
        })
        .collect();
    let continuation = {
        let head = b"\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82".to_vec();
        let more = b"\x00\x00\x00\x09\x00\x00\x00\x00\x01".to_vec();
        [vec![head], vec![more; 5_000]].concat()
    };
    for frames in [vec![ping; 2_000], vec![settings; 2_000], rapid_reset, continuation] {
        let dyno = TestDyno::http(|request| ok(request.path()));
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        let mut client = Client::connect(router.address);
        client.stream.write_all(PREFACE).unwrap();
        // The router may close in the middle.
        drop(client.stream.write_all(&frames.concat()));
        client.expect_end();
        assert_eq!(router.get("/").body, "/", "others are served");
        router.drain();
    }
}

#[test]
fn an_idle_connection_is_closed_and_one_with_a_request_is_not() {
    let dyno = TestDyno::http(|request| {
        if request.path() == "/slow" {
            std::thread::sleep(Duration::from_secs(3));
        }
        ok(request.path())
    });
    let mut router = TestRouter::start_with(Bounds { client_idle: Duration::from_secs(1), ..bounds() });
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        assert_eq!(ask(&client, request("GET", "/slow"), None).await.text(), "/slow");
    });
    let mut silent = Client::connect(router.address);
    silent.stream.write_all(PREFACE).unwrap();
    silent.expect_end();
    router.drain();
}

#[test]
fn a_drain_lets_requests_finish_and_tells_the_client_to_go_elsewhere() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let dyno = TestDyno::http(move |request| {
        wait.lock().unwrap().recv().unwrap();
        ok(request.path())
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let address = router.address;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, response) = runtime.block_on(async {
        let client = plain(address).await;
        let (response, _stream) = send(&client, request("GET", "/last"), true).await;
        (client, response)
    });
    router.wait_for_in_flight(dyno.id, 1);
    let drained = router.begin_drain();
    runtime.block_on(async {
        let refused = async {
            while client
                .clone()
                .ready()
                .await
                .is_ok_and(|mut client| client.send_request(request("GET", "/x"), true).is_ok())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::harness::PATIENCE, refused).await.unwrap();
        for _request in 0..1_000 {
            go.send(()).unwrap_or_default();
        }
        assert_eq!(whole(response.await.unwrap()).await.text(), "/last");
    });
    drained.join().unwrap();
}
