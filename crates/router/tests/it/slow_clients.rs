//! Clients that take their time: some are on a bad line, some mean it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use router::client::TableUpdate;
use router::{Bounds, ClientPace};
use wire::routes::{AppRoute, FrontPolicy, FrontRoute, RequestLimits};

use crate::harness::{
    Client, HOST, PATIENCE, Stop, TestDyno, TestRouter, app, bounds, limits, ok, read_request, wait_until,
};
use crate::http2_peer::{plain, request, send, whole};
use crate::tls_client::{Authority, open_over};

/// What both ways through the router get: the lane's own requests, and those that it hands over.
const EXPRESS: &str = "";
const FULL: &str = "te: trailers\r\n";

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => panic!("an answer to half a request"),
    }
}

/// Sends a byte of a head that never ends now and then, and says after how long the router closed.
fn drip_head(router: &TestRouter, way: &str, before: &str) -> Duration {
    let mut client = router.connect();
    // The full path is taken for good by a first request that is not for the lane.
    if !way.is_empty() {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    let begun = Instant::now();
    client.send(before);
    while !is_closed(&mut client.stream) {
        assert!(begun.elapsed() < PATIENCE, "nobody minds");
        // It may be closed in this very moment.
        client.stream.write_all(b"a").ok();
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn a_head_has_a_limit_as_a_whole_on_both_ways() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let head = Duration::from_secs(1);
    let mut router = TestRouter::start_with(Bounds { head, ..bounds() });
    router.route(app(&[&dyno]));
    for way in [EXPRESS, FULL] {
        for before in ["G", "GET / HTTP/1.1\r\nhost: shop.example\r\nx: "] {
            let took = drip_head(&router, way, before);
            assert!(took >= head, "{way:?} {before:?}: {took:?}");
        }
    }
    // Idle is something else, and so is a head that comes in two pieces.
    let mut client = router.connect();
    for way in [EXPRESS, FULL] {
        thread::sleep(head * 2);
        client.send("GET /slowly HTTP/1.1\r\nhost: ");
        thread::sleep(head / 10);
        client.send(&format!("{HOST}\r\n{way}\r\n"));
        assert_eq!(client.response().body, "/slowly");
    }
    router.drain();
}

#[test]
fn over_http2_a_head_has_the_same_limit_and_neither_bodies_nor_idleness_count() {
    let dyno = TestDyno::http(|request| ok(&request.body.len().to_string()));
    let head = Duration::from_millis(400);
    let mut router = TestRouter::start_with(Bounds { head, ..bounds() });
    router.route(app(&[&dyno]));
    let settings = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let cut = |at: usize| settings[..at].to_vec();
    // A request's block without its end: more is to come in CONTINUATION frames.
    let block = [&settings[..], &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat();
    let frame = [&settings[..], &[0, 0, 9, 1, 4, 0, 0, 0, 1, 0x82]].concat();
    for begun in [cut(20), cut(24), block, frame] {
        let mut client = router.connect();
        let started = Instant::now();
        client.stream.write_all(&begun).unwrap();
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The router's own settings, and then the end.
        client.stream.read_to_end(&mut Vec::new()).ok();
        assert!((head..PATIENCE).contains(&started.elapsed()), "{begun:?}: {:?}", started.elapsed());
    }
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        tokio::time::sleep(head * 2).await;
        let (response, mut upload) = send(&client, request("POST", "/"), false).await;
        for last in [false, false, true] {
            tokio::time::sleep(head).await;
            upload.send_data(Bytes::from_static(b"piece"), last).unwrap();
        }
        assert_eq!(whole(response.await.unwrap()).await.text(), "15");
    });
    router.drain();
}

#[test]
fn one_address_has_only_so_many_slow_heads_and_others_are_not_touched() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start_with(Bounds { client_slow_heads_max: 3, ..bounds() });
    router.route(app(&[&dyno]));
    // Addresses that are not this machine's: those are not limited.
    let front = FrontRoute {
        name: "test".to_owned(),
        networks: vec!["127.0.0.0/8".to_owned()],
        proxy_protocol: true,
        ..FrontRoute::default()
    };
    let fronts = Some(FrontPolicy { fronts: vec![front], only: false, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    let begin = |address: &str, way: &str| {
        let mut client = router.connect();
        client.send(&format!("PROXY TCP4 {address} 5.6.7.8 1234 80\r\n"));
        if !way.is_empty() {
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            assert_eq!(client.response().status(), 200);
        }
        client.send("GET / HTTP/1.1\r\nhost: ");
        client
    };
    let mut slow: Vec<Client> =
        [EXPRESS, FULL, EXPRESS, FULL, EXPRESS].iter().map(|way| begin("9.9.9.9", way)).collect();
    let mut open = 0;
    let settled = |slow: &mut [Client]| {
        open = slow.iter_mut().filter_map(|client| (!is_closed(&mut client.stream)).then_some(())).count();
        open == 3
    };
    let mut settled = settled;
    wait_until(|| settled(&mut slow), "all but three slow heads to be closed");
    // Another address is served all the same, slow or not.
    let mut other = begin("8.8.8.8", EXPRESS);
    thread::sleep(Duration::from_millis(1_500));
    other.send(&format!("{HOST}\r\n\r\n"));
    assert_eq!(other.response().status(), 200);
    // And so are those that were let in.
    let mut served = 0;
    for client in &mut slow {
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if client.stream.write_all(format!("{HOST}\r\n\r\n").as_bytes()).is_ok()
            && crate::harness::read_head(&mut client.stream).is_some_and(|head| head.starts_with("HTTP/1.1 200 "))
        {
            served += 1;
        }
    }
    assert_eq!(served, 3);
    router.drain();
}

#[test]
fn slow_heads_that_come_through_a_front_are_those_of_many_clients() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start_with(Bounds { client_slow_heads_max: 1, ..bounds() });
    router.route(app(&[&dyno]));
    let of = |network: &str, proxy_protocol| {
        let networks = vec![network.to_owned()];
        FrontRoute { name: "test".to_owned(), networks, proxy_protocol, ..FrontRoute::default() }
    };
    let fronts = FrontPolicy { fronts: vec![of("127.0.0.0/8", true), of("9.9.9.9", false)], ..FrontPolicy::default() };
    router.update(TableUpdate { fronts: Some(fronts), ..TableUpdate::default() });
    let begin = |way: &&str| {
        let mut client = router.connect();
        client.send("PROXY TCP4 9.9.9.9 5.6.7.8 1234 80\r\n");
        if *way == FULL {
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            assert_eq!(client.response().status(), 200);
        }
        client.send("GET / HTTP/1.1\r\nhost: ");
        client
    };
    let mut slow: Vec<Client> = [EXPRESS, FULL, EXPRESS, FULL].iter().map(begin).collect();
    // By then a stranger's would be closed.
    thread::sleep(Duration::from_millis(1_500));
    for client in &mut slow {
        client.send(&format!("{HOST}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    router.drain();
}

fn pace(bytes: u64) -> Bounds {
    Bounds { client_pace: ClientPace { window: Duration::from_millis(500), bytes }, ..bounds() }
}

/// Reads slowly from the start: the kernel's buffers are small, so the router notices.
fn slow_reader(address: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client { stream }
}

#[test]
fn an_upload_that_drips_is_given_up_and_one_that_is_only_slow_is_not() {
    let dyno = TestDyno::http(|request| ok(&request.body.len().to_string()));
    let mut router = TestRouter::start_with(pace(100));
    router.route(app(&[&dyno]));
    let address = router.address;
    let upload = |bytes: usize, piece: usize, kind: &str| {
        let mut client = Client::connect(address);
        client.send(&format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {kind}\r\ncontent-length: {bytes}\r\n\r\n"
        ));
        let mut left = bytes;
        while left > 0 && client.stream.write_all(&vec![b'x'; piece.min(left)]).is_ok() {
            left -= piece.min(left);
            thread::sleep(Duration::from_millis(50));
        }
        client.response()
    };
    // Twenty bytes a second, where two hundred are asked for.
    let dripped = upload(1_000, 1, "text/plain");
    assert_eq!((dripped.status(), dripped.header("connection")), (408, Some("close")));
    let line = router.next_log_line();
    assert!(line.starts_with("sock=client at=warning code=H28 ") && line.contains(" status=499 "), "{line}");
    // Slow, and enough in every half of a second, also where the machine has other work.
    let slow = upload(3_000, 200, "text/plain");
    assert_eq!((slow.status(), slow.body.as_str()), (200, "3000"));
    // A client of gRPC says something when it has something to say.
    let streamed = upload(40, 1, "application/grpc");
    assert_eq!((streamed.status(), streamed.body.as_str()), (200, "40"));
    router.drain();
}

#[test]
fn an_answer_that_is_taken_drop_by_drop_is_given_up_on_both_ways() {
    const BYTES: usize = 32 << 20;
    let dyno = TestDyno::start(|mut stream| {
        while read_request(&mut stream).is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            let body = vec![b'x'; BYTES];
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                return;
            }
        }
    });
    let mut router = TestRouter::start_with(pace(1 << 20));
    router.route(app(&[&dyno]));
    for way in [EXPRESS, FULL] {
        let mut client = slow_reader(router.address);
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        // Far less than a megabyte in half a second, until somebody minds.
        let over = AtomicBool::new(false);
        let line = thread::scope(|scope| {
            scope.spawn(|| {
                let mut piece = vec![0; 8 * 1024];
                while !over.load(Ordering::SeqCst) && client.stream.read(&mut piece).is_ok_and(|count| count > 0) {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let _over = Stop(&over);
            router.next_log_line()
        });
        assert!(line.starts_with("sock=client at=warning code=H28 "), "{way:?}: {line}");
    }
    router.drain();
}

#[test]
fn a_client_that_listens_to_events_is_never_slow() {
    let dyno = TestDyno::start(|mut stream| {
        while read_request(&mut stream).is_some() {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).unwrap();
            for _event in 0..10 {
                stream.write_all(b"9\r\ndata: x\n\n\r\n").unwrap();
                thread::sleep(Duration::from_millis(200));
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    });
    let mut router = TestRouter::start_with(pace(1 << 20));
    router.route(app(&[&dyno]));
    for way in [EXPRESS, FULL] {
        let mut client = slow_reader(router.address);
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        assert_eq!(client.response().body, "data: x\n\n".repeat(10));
    }
    router.drain();
}

#[test]
fn the_end_of_an_answer_over_tls_is_waited_for_no_longer_than_the_rest() {
    const STEP: usize = 16 * 1024;
    let dyno = TestDyno::http(|request| ok(&"x".repeat(request.path()[1..].parse().unwrap())));
    let mut router = TestRouter::start();
    let authority = Authority::new();
    router.certify(vec![authority.certify(1, &[HOST])]);
    router.route(AppRoute { limits: RequestLimits { idle_ms: 300, ..limits() }, ..app(&[&dyno]) });
    let config = authority.client(&[&rustls::version::TLS13]);
    let (address, line_of_h28) = (router.https_address, "sock=client at=warning code=H28 ");
    let ask = |bytes: usize| {
        let mut client = open_over(slow_reader(address).stream, HOST, &config).unwrap();
        client.send(&format!("GET /{bytes} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        client
    };
    // How much kernel and router take for a client that takes nothing.
    let _first = ask(32 << 20);
    let line = router.next_log_line();
    assert!(line.starts_with(line_of_h28), "{line}");
    let all: usize = line.split_once(" bytes=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    // Of some of these the last bytes wait in the router's records, which hold 64 KiB, behind a kernel that is full.
    let _clients: Vec<_> = (1..=16).map(|step| ask(all - step * STEP)).collect();
    let lines = router.next_log_lines(16);
    let ended = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    let (whole, given_up) = (ended("at=info "), ended(line_of_h28));
    assert!(whole > 0 && given_up > 0 && whole + given_up == 16, "{lines:?}");
    router.drain();
}
