//! A router that takes over from another one while that is at work.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use router::client::{Pushed, RouterClient, TableUpdate};
use router::{Bounds, Listen, Router};
use rustls::version::{TLS12, TLS13};
use tokio::runtime::Runtime;
use wire::routes::{AppRoute, RouteTable};

use crate::harness::{
    Client, HOST, INSTANCE, TestDyno, TestRouter, app, bounds, config, header, ok, read_head, wait_until,
};
use crate::tls_client::{Authority, open};

/// A dyno that answers `/hold` only when it is told to.
fn holding() -> (TestDyno, Sender<()>) {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let mut dyno = TestDyno::http(move |request| {
        if request.path().starts_with("/hold") {
            wait.lock().unwrap().recv().unwrap();
        }
        ok(request.path())
    });
    // What is held must not teach the router that there is one worker only.
    dyno.concurrency = Some(10);
    (dyno, go)
}

/// A router that drains by itself once another one has taken over, as its process does.
struct Serving {
    runtime: Runtime,
    ended: Option<thread::JoinHandle<()>>,
}

fn serve(dir: &Path, listener: &TcpListener, bounds: Bounds) -> Serving {
    let mut router = Router::start(config(dir, vec![inherited(listener)], bounds)).unwrap();
    let ended = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            router.retired().await;
            router.drain().await;
        });
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Serving { runtime, ended: Some(ended) }
}

impl Serving {
    fn server(&self, dir: &Path) -> RouterClient {
        self.runtime.block_on(RouterClient::connect(dir, INSTANCE)).unwrap()
    }

    fn wait(mut self) {
        self.ended.take().unwrap().join().unwrap();
    }
}

fn inherited(listener: &TcpListener) -> Listen {
    Listen::Inherited(listener.try_clone().unwrap())
}

/// What is not for the express lane.
const FULL: &str = "te: trailers\r\n";

struct Fixture {
    dir: tempfile::TempDir,
    listener: TcpListener,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn serve(&self) -> Serving {
        self.serve_with(bounds())
    }

    fn serve_with(&self, bounds: Bounds) -> Serving {
        serve(self.dir.path(), &self.listener, bounds)
    }

    fn replace(&self, router: &Serving, generation: u64, apps: Vec<AppRoute>) -> RouterClient {
        let mut server = router.server(self.dir.path());
        router.runtime.block_on(server.replace(RouteTable { generation, apps, ..RouteTable::default() })).unwrap();
        server
    }

    fn connect(&self) -> Client {
        Client::connect(self.listener.local_addr().unwrap())
    }

    fn ask(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        client
    }

    /// The last router is left to the end of the test's process: it waits for a successor.
    fn end(self, last: Serving) {
        drop(last);
    }
}

fn in_flight(router: &Serving, server: &mut RouterClient, dyno: &TestDyno) -> u32 {
    let all = router.runtime.block_on(server.in_flight()).unwrap();
    all.into_iter().find(|(id, _count)| *id == dyno.id).map_or(0, |(_id, count)| count)
}

fn queued(router: &Serving, server: &mut RouterClient) -> u32 {
    let status = router.runtime.block_on(server.status()).unwrap();
    status.admission.iter().map(|app| app.queued).sum()
}

#[test]
fn requests_under_way_finish_in_the_old_router_while_the_new_one_serves() {
    let (dyno, go) = holding();
    let fixture = Fixture::new();
    let old = fixture.serve_with(Bounds { lame_duck: Duration::from_secs(3), ..bounds() });
    let mut server = fixture.replace(&old, 3, vec![app(&[&dyno])]);
    let mut held = fixture.ask("/hold");
    wait_until(|| in_flight(&old, &mut server, &dyno) == 1, "the request to reach the dyno");
    let mut kept = fixture.connect();
    assert_eq!(kept.get("/before").body, "/before");

    let new = fixture.serve();
    // The server is sent to the new one, which has the table and knows what the old one has in flight.
    wait_until(|| old.runtime.block_on(server.status()).is_err(), "the old one to leave its server");
    let mut server = new.server(fixture.dir.path());
    assert_eq!(server.generation_at_connect(), 3);
    assert_eq!(in_flight(&new, &mut server, &dyno), 1);
    // A kept connection gets its answer, and is told that it is the last one.
    let mut connection = None;
    let asks = || {
        kept.send("GET /.well-known/berth/health HTTP/1.1\r\nhost: x\r\n\r\n");
        let health = kept.response();
        connection = health.header("connection").map(str::to_owned);
        health.status() == 503
    };
    wait_until(asks, "the old one to say that it ends");
    assert_eq!(connection.as_deref(), Some("close"));
    kept.expect_end();
    for _request in 0..20 {
        let answer = fixture.ask("/after").response();
        assert_eq!((answer.body.as_str(), answer.header("connection")), ("/after", None));
    }
    go.send(()).unwrap();
    assert_eq!(held.response().body, "/hold");
    old.wait();
    wait_until(|| in_flight(&new, &mut server, &dyno) == 0, "nothing to be in flight");
    // Every request is in one of the logs, once.
    let mut lines = Vec::new();
    for log in ["router/log", "router/log-2"] {
        let records = wire::segment::SegmentReader::new(&fixture.dir.path().join(log), 0).read().unwrap().records;
        lines.extend(records.into_iter().map(|record| String::from_utf8(record.text).unwrap()));
    }
    let of = |path: &str| lines.iter().filter(|line| line.contains(&format!("path=\"{path}\""))).count();
    assert_eq!((of("/hold"), of("/before")), (1, 1), "{lines:?}");
    fixture.end(new);
}

#[test]
fn a_limit_counts_what_the_old_router_has_in_flight() {
    let (mut dyno, go) = holding();
    dyno.concurrency = Some(1);
    let fixture = Fixture::new();
    let old = fixture.serve();
    let mut server = fixture.replace(&old, 1, vec![app(&[&dyno])]);
    let mut held = fixture.ask("/hold");
    wait_until(|| in_flight(&old, &mut server, &dyno) == 1, "the request to reach the dyno");
    let mut kept = fixture.connect();
    assert_eq!(kept.get("/.well-known/berth/health").status(), 200);
    let new = fixture.serve();
    wait_for_handover(&mut kept);
    let mut waiting = fixture.ask("/next");
    let mut server = new.server(fixture.dir.path());
    wait_until(|| queued(&new, &mut server) == 1, "the next request to wait for the dyno's only place");
    assert_eq!(in_flight(&new, &mut server, &dyno), 1);
    go.send(()).unwrap();
    assert_eq!(held.response().body, "/hold");
    assert_eq!(waiting.response().body, "/next");
    old.wait();
    fixture.end(new);
}

/// Waits until connections that are made from now on are the new router's: the old one says so to who has one, and closes
/// it a moment later.
fn wait_for_handover(kept: &mut Client) {
    let ends = || {
        kept.stream.write_all(b"GET /.well-known/berth/health HTTP/1.1\r\nhost: x\r\n\r\n").is_err()
            || is_last_answer(kept)
    };
    wait_until(ends, "the old one to say that it ends");
}

/// Whether the answer that comes now, if one comes, is the last one.
fn is_last_answer(kept: &mut Client) -> bool {
    let Some(head) = read_head(&mut kept.stream) else { return true };
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    kept.stream.read_exact(&mut vec![0; length]).unwrap();
    head.starts_with("HTTP/1.1 503 ")
}

#[test]
fn streams_in_the_old_router_keep_no_dyno_from_the_new_one_while_its_limit_is_learned() {
    let (end, streaming) = channel::<()>();
    let streaming = Mutex::new(streaming);
    // Of unknown limit: to begin with, it gets one request at a time.
    let dyno = TestDyno::start(move |mut stream| {
        let request = crate::harness::read_request(&mut stream).unwrap();
        if let Some(kind) = request.path().strip_prefix("/stream/") {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/{kind}\r\n\r\ndata: 1\n\n");
            stream.write_all(head.as_bytes()).unwrap();
            streaming.lock().unwrap().recv().unwrap_err();
            return;
        }
        stream.write_all(ok(request.path()).as_bytes()).unwrap();
    });
    let fixture = Fixture::new();
    // Longer than a request waits: no stream may be cut off before that.
    let patient = || Bounds { drain: Duration::from_secs(60), ..bounds() };
    let old = fixture.serve_with(patient());
    let mut server = fixture.replace(&old, 1, vec![app(&[&dyno])]);
    let mut kept = fixture.connect();
    assert_eq!(kept.get("/.well-known/berth/health").status(), 200);
    let mut streams: Vec<Client> = Vec::new();
    // Streams of events are such at once; others after a while, without another byte.
    for (count, (kind, way)) in
        (1..).zip([("event-stream", ""), ("event-stream", FULL), ("plain", ""), ("plain", FULL)])
    {
        let mut client = fixture.connect();
        client.send(&format!("GET /stream/{kind} HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        wait_until(|| in_flight(&old, &mut server, &dyno) == count, "the stream to begin");
        streams.push(client);
    }
    let second = fixture.serve_with(patient());
    wait_for_handover(&mut kept);
    assert_eq!(fixture.ask("/second").response().body, "/second");
    // And what that one hears of the first, it tells the third.
    let mut kept = fixture.connect();
    assert_eq!(kept.get("/.well-known/berth/health").status(), 200);
    let third = fixture.serve();
    wait_for_handover(&mut kept);
    assert_eq!(fixture.ask("/third").response().body, "/third");
    drop(end);
    for client in &mut streams {
        client.expect_end();
    }
    old.wait();
    second.wait();
    fixture.end(third);
}

#[test]
fn what_a_dyno_works_on_though_nobody_waits_for_it_counts_until_it_is_done() {
    let (mut dyno, go) = holding();
    dyno.concurrency = Some(2);
    let fixture = Fixture::new();
    let old = fixture.serve();
    drop(fixture.replace(&old, 1, vec![app(&[&dyno])]));
    let mut kept = fixture.connect();
    assert_eq!(kept.get("/.well-known/berth/health").status(), 200);
    // By the express lane, and by the full path.
    for (count, way) in [(1, ""), (2, FULL)] {
        let mut client = fixture.connect();
        client.send(&format!("GET /hold HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        wait_until(|| dyno.connections.load(Ordering::SeqCst) == count, "the request to reach the dyno");
        drop(client);
    }
    let new = fixture.serve();
    wait_for_handover(&mut kept);
    // Its clients are all gone long before this is over.
    kept.expect_end();
    let mut server = new.server(fixture.dir.path());
    let mut waiting = fixture.ask("/next");
    wait_until(|| queued(&new, &mut server) == 1, "the next request to wait for a place");
    thread::sleep(Duration::from_millis(500));
    assert_eq!((queued(&new, &mut server), in_flight(&new, &mut server, &dyno)), (1, 2));
    go.send(()).unwrap();
    assert_eq!(waiting.response().body, "/next");
    go.send(()).unwrap();
    old.wait();
    fixture.end(new);
}

#[test]
fn a_change_is_acknowledged_when_it_is_in_force_in_the_old_router_too() {
    let (mut busy, go) = holding();
    busy.concurrency = Some(1);
    let free = TestDyno::http(|request| ok(&format!("free {}", request.path())));
    let fixture = Fixture::new();
    let old = fixture.serve();
    let mut server = fixture.replace(&old, 1, vec![app(&[&busy])]);
    let mut held = fixture.ask("/hold");
    wait_until(|| in_flight(&old, &mut server, &busy) == 1, "the request to reach the dyno");
    // It waits in the old router, for a place on a dyno that is about to leave.
    let mut waiting = fixture.ask("/hold-no-more");
    wait_until(|| queued(&old, &mut server) == 1, "the second request to wait");
    let new = fixture.serve();
    let mut server = new.server(fixture.dir.path());
    let update = TableUpdate { base: 1, generation: 2, changed: vec![app(&[&free])], ..TableUpdate::default() };
    assert_eq!(new.runtime.block_on(server.push(update)).unwrap(), Pushed::Applied);
    assert_eq!(waiting.response().body, "free /hold-no-more");
    go.send(()).unwrap();
    assert_eq!(held.response().body, "/hold");
    old.wait();
    // And the new one wrote it down.
    let log = std::fs::read(fixture.dir.path().join("router/table.log")).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("\"generation\":2"));
    fixture.end(new);
}

#[test]
fn upgraded_connections_are_closed_in_the_old_router() {
    let dyno = TestDyno::start(|mut stream| {
        crate::harness::read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").unwrap();
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            stream.write_all(&byte).unwrap();
        }
    });
    let fixture = Fixture::new();
    let old = fixture.serve();
    drop(fixture.replace(&old, 1, vec![app(&[&dyno])]));
    let mut client = fixture.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send("a");
    client.stream.read_exact(&mut [0]).unwrap();
    let new = fixture.serve();
    client.expect_end();
    old.wait();
    fixture.end(new);
}

#[test]
fn a_successor_that_fails_changes_nothing() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let fixture = Fixture::new();
    let old = fixture.serve();
    drop(fixture.replace(&old, 1, vec![app(&[&dyno])]));
    // One that is of another instance may not.
    let mut strange = config(fixture.dir.path(), vec![inherited(&fixture.listener)], bounds());
    strange.instance = "another".to_owned();
    let refused = Router::start(strange).unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("does not hand over"), "{cause}");
    // One that fails when it has begun to take over: where its socket should be is a directory that is not empty.
    let socket = fixture.dir.path().join("router/status.sock");
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    std::fs::write(socket.join("x"), "x").unwrap();
    let failed = Router::start(config(fixture.dir.path(), vec![inherited(&fixture.listener)], bounds())).unwrap_err();
    assert!(failed.to_string().contains("status socket"), "{failed}");
    std::fs::remove_dir_all(&socket).unwrap();
    let connects = || old.runtime.block_on(RouterClient::connect(fixture.dir.path(), INSTANCE)).ok();
    wait_until(|| connects().is_some(), "the old one to answer servers again");
    drop(fixture.replace(&old, 2, vec![app(&[&dyno])]));
    assert_eq!(fixture.ask("/").response().body, "/");
    let new = fixture.serve();
    assert_eq!(new.server(fixture.dir.path()).generation_at_connect(), 2);
    old.wait();
    fixture.end(new);
}

#[test]
fn three_routers_in_a_row_take_over_from_each_other() {
    let (dyno, go) = holding();
    let fixture = Fixture::new();
    let first = fixture.serve();
    let mut server = fixture.replace(&first, 1, vec![app(&[&dyno])]);
    let mut held = vec![fixture.ask("/hold-1")];
    wait_until(|| in_flight(&first, &mut server, &dyno) == 1, "one request at the dyno");
    let second = fixture.serve();
    let mut server = second.server(fixture.dir.path());
    held.push(fixture.ask("/hold-2"));
    wait_until(|| in_flight(&second, &mut server, &dyno) == 2, "two requests at the dyno");
    let third = fixture.serve();
    let mut server = third.server(fixture.dir.path());
    assert_eq!(in_flight(&third, &mut server, &dyno), 2);
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(held[0].response().body, "/hold-1");
    assert_eq!(held[1].response().body, "/hold-2");
    first.wait();
    second.wait();
    assert_eq!(fixture.ask("/").response().body, "/");
    fixture.end(third);
}

#[test]
fn a_tls_session_from_before_a_restart_is_resumed_after_it() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.certify(vec![authority.certify(1, &[HOST])]);
        let client = authority.client(&[version]);
        let mut before = open(router.https_address, HOST, &client).unwrap();
        assert_eq!((before.get("/").body.as_str(), before.was_resumed()), ("/", false));
        let router = TestRouter::start_in(router.drain(), bounds());
        let mut after = open(router.https_address, HOST, &client).unwrap();
        assert_eq!((after.get("/").body.as_str(), after.was_resumed()), ("/", true));
        router.drain();
    }
}
