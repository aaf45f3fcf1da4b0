//! Clients that leave while a dyno is at work for them: for how long their slots are kept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use socket2::{Domain, Socket, Type};
use wire::routes::{AppRoute, DynoProtocol, EdgeSettings, RequestLimits};

use crate::harness::{HOST, PATIENCE, TestDyno, TestRouter, app, limits, read_head};
use crate::http2_peer::{dyno, plain, request, send};

/// By the express lane, and by the full path.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

#[test]
fn a_dyno_is_told_that_the_rest_of_a_request_will_not_come() {
    // Its socket takes so little that a request of 60 kB does not leave the router as long as the dyno does not read.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(100).unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    let listener: TcpListener = socket.into();
    let dyno = TestDyno::elsewhere(listener.local_addr().unwrap());
    let (go, gone) = channel::<()>();
    let (report, heard) = channel();
    let serving = thread::spawn(move || {
        let (mut stream, _peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        read_head(&mut stream).unwrap();
        gone.recv().unwrap();
        let mut part = Vec::new();
        let read = stream.read_to_end(&mut part);
        report.send((read.is_ok(), part.len())).unwrap();
        stream
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    let body = "x".repeat(60_000);
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    router.wait_for_in_flight(dyno.id, 1);
    drop(client);
    assert!(router.next_log_line().contains(" code=H27 "));
    go.send(()).unwrap();
    let (ended, part) = heard.recv().unwrap();
    assert!(ended, "the dyno waits for what does not come");
    assert!(part < body.len(), "all of it has left: {part}");
    assert_eq!(router.in_flight(dyno.id), 1, "it has not answered yet");
    drop(serving.join().unwrap());
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

/// A dyno that begins an answer of this type, reports that its client has left, and goes on when it is told to.
fn half_answering(content_type: &'static str) -> (TestDyno, Receiver<()>, Sender<()>) {
    let ((report, left), (go, wait)) = (channel(), channel::<()>());
    let channels = Mutex::new((report, wait));
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: 100\r\n\r\nhalf");
        stream.write_all(head.as_bytes()).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0)), "the end of what the router sends");
        let channels = channels.lock().unwrap();
        channels.0.send(()).unwrap();
        channels.1.recv().unwrap_err();
        // It finds out by writing that nobody reads any more.
        while stream.write_all(b"more").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        channels.0.send(()).unwrap();
    });
    (dyno, left, go)
}

fn leave_in_the_middle(router: &mut TestRouter, dyno: &TestDyno, way: &str) {
    router.route(app(&[dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
    client.head();
    client.stream.read_exact(&mut [0; 4]).unwrap();
    drop(client);
    let line = router.next_log_line();
    assert!(line.contains(" code=H27 "), "{line}");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_frees_no_worker_that_is_still_at_it() {
    for way in WAYS {
        let (dyno, left, go) = half_answering("text/plain");
        let mut router = TestRouter::start();
        leave_in_the_middle(&mut router, &dyno, way);
        left.recv_timeout(PATIENCE).unwrap();
        assert_eq!(router.in_flight(dyno.id), 1, "{way:?}");
        drop(go);
        router.wait_for_in_flight(dyno.id, 0);
        left.recv_timeout(PATIENCE).unwrap();
        router.drain();
    }
}

#[test]
fn a_dyno_that_stays_silent_about_an_unwanted_answer_is_waited_for_as_long_as_for_a_wanted_one() {
    for way in WAYS {
        let (dyno, left, go) = half_answering("text/plain");
        let mut router = TestRouter::start();
        let limits = RequestLimits { idle_ms: 200, ..limits() };
        let begun = Instant::now();
        let mut client = {
            router.route(AppRoute { limits, ..app(&[&dyno]) });
            router.connect()
        };
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        client.head();
        drop(client);
        left.recv_timeout(PATIENCE).unwrap();
        router.wait_for_in_flight(dyno.id, 0);
        let took = begun.elapsed();
        assert!((Duration::from_millis(200)..Duration::from_millis(1_900)).contains(&took), "{way:?} {took:?}");
        drop(go);
        router.drain();
    }
}

#[test]
fn a_client_that_leaves_a_stream_of_events_ends_it() {
    for way in WAYS {
        let (dyno, left, go) = half_answering("text/event-stream");
        let mut router = TestRouter::start();
        leave_in_the_middle(&mut router, &dyno, way);
        left.recv_timeout(PATIENCE).unwrap();
        router.wait_for_in_flight(dyno.id, 0);
        drop(go);
        router.drain();
    }
}

#[test]
fn an_upload_that_is_taken_back_frees_its_place_on_an_http2_dyno() {
    let mut router = TestRouter::start();
    let (report, heard) = channel();
    let mut dyno =
        dyno(&router, move |request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let report = report.clone();
            async move {
                let mut body = request.into_body();
                while let Some(Ok(_part)) = body.data().await {
                    report.send(()).unwrap();
                }
                if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                    stream.send_data(Bytes::from_static(b"served"), true).unwrap();
                }
            }
        });
    dyno.concurrency = Some(1);
    let edge = EdgeSettings { dyno_protocol: DynoProtocol::H2c, ..EdgeSettings::default() };
    router.route(AppRoute { edge, ..app(&[&dyno]) });
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        for _upload in 0..3 {
            let (_response, mut stream) = send(&client, request("POST", "/"), false).await;
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
            heard.recv_timeout(PATIENCE).expect("there is a place for it");
            stream.send_reset(Reason::CANCEL);
        }
    });
    // Long before its connection is given up, which is that of others, too.
    router.wait_for_in_flight(dyno.id, 0);
    assert_eq!(router.get("/").body, "served");
    router.drain();
}
