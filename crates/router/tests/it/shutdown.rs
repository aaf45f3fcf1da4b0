//! The end of a router.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use router::client::RouterClient;
use router::{Bounds, Listen};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

use crate::harness::{
    Client, HOST, INSTANCE, TestDyno, TestRouter, app, bounds, config, ok, reserved_address, wait_until,
};

#[test]
fn a_drain_ends_at_its_limit_whatever_a_dyno_does() {
    let dyno = TestDyno::start(|mut stream| while crate::harness::read_head(&mut stream).is_some() {});
    let drain = std::time::Duration::from_millis(200);
    let mut router = TestRouter::start_with(Bounds { drain, ..bounds() });
    router.route(app(&[&dyno]));
    let mut waiting = router.connect();
    waiting.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);
    let left = router.connect();
    left.stream.try_clone().unwrap().write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    router.wait_for_in_flight(dyno.id, 2);
    drop(left);
    assert!(router.next_log_line().contains("code=H27"));
    let dir = router.drain();
    assert_eq!(waiting.expect_end(), b"");
    let mut log = wire::segment::SegmentReader::new(&dir.path().join("router/log"), 1);
    let lines = log.read().unwrap().records;
    assert_eq!(lines.len(), 1, "the request that was cut off has its line");
    let line = String::from_utf8(lines[0].text.clone()).unwrap();
    assert!(line.starts_with("at=error code=H24 desc=\"Forced close\"") && line.contains(" status=503 "), "{line}");
}

/// When set, this test binary is a router with this data directory.
const ROUTER_DIR: &str = "ROUTER_TEST_DATA_DIR";
const ROUTER_ADDRESS: &str = "ROUTER_TEST_ADDRESS";
const ROUTER_DESCRIPTORS: &str = "ROUTER_TEST_DESCRIPTORS";
const ANY_ADDRESS: &str = "127.0.0.1:0";
const DESCRIPTORS: u64 = 64;

#[test]
fn a_drain_finishes_requests_answers_health_with_503_and_closes() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let dyno = TestDyno::http(move |request| {
        if request.path() == "/slow" {
            wait.lock().unwrap().recv().unwrap();
        }
        ok("finished")
    });
    let lame_duck = std::time::Duration::from_secs(3);
    let mut router = TestRouter::start_with(Bounds { lame_duck, ..bounds() });
    router.route(app(&[&dyno]));
    let mut slow = router.connect();
    slow.send(&format!("GET /slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);
    let mut health = router.connect();
    let mut kept = router.connect();
    assert_eq!(health.get("/.well-known/berth/health").status(), 200);
    assert_eq!(kept.get("/").body, "finished");
    let address = router.address;
    let drained = router.begin_drain();
    // The test's own duplicate of the listening socket was given to the router, so refusal means that it closed it.
    wait_until(|| TcpStream::connect(address).is_err(), "the listener to close");
    let answer = health.get("/.well-known/berth/health");
    assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
    let last = kept.get("/");
    assert_eq!((last.body.as_str(), last.header("connection")), ("finished", Some("close")));
    kept.expect_end();
    go.send(()).unwrap();
    // It was under way before, and its client must not take the connection for one that goes on.
    let slow = slow.response();
    assert_eq!((slow.body.as_str(), slow.header("connection")), ("finished", Some("close")));
    drained.join().unwrap();
}

/// Not a test of its own: the process that the tests below send signals to.
#[test]
fn router_process() {
    let Some(dir) = std::env::var_os(ROUTER_DIR) else { return };
    let http = vec![Listen::Address("127.0.0.1:0".parse().unwrap())];
    // Few enough descriptors for a test to exhaust.
    let count = std::env::var(ROUTER_DESCRIPTORS).unwrap().parse().ok();
    let few = Rlimit { current: count, maximum: count };
    setrlimit(Resource::Nofile, few).unwrap();
    let bounds = Bounds { drain: std::time::Duration::from_secs(3600), ..bounds() };
    let inherited = std::env::var(ROUTER_ADDRESS).ok().map(|address| Listen::Address(address.parse().unwrap()));
    router::run(config(std::path::Path::new(&dir), http.into_iter().chain(inherited).collect(), bounds)).unwrap();
}

fn start_process(dir: &std::path::Path, address: &str) -> std::process::Child {
    start_process_with(DESCRIPTORS, dir, address)
}

/// A router that may have so many descriptors.
pub(crate) fn start_process_with(descriptors: u64, dir: &std::path::Path, address: &str) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "shutdown::router_process"]).env(ROUTER_DIR, dir).env(ROUTER_ADDRESS, address);
    command.env(ROUTER_DESCRIPTORS, descriptors.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn terminate(process: &std::process::Child) {
    kill_process(Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
}

pub(crate) fn wait_for_server(runtime: &tokio::runtime::Runtime, dir: &std::path::Path, pid: u32) {
    let answers = || {
        let mut server = runtime.block_on(RouterClient::connect(dir, INSTANCE)).ok()?;
        runtime.block_on(server.status()).ok().filter(|status| status.pid == pid)
    };
    wait_until(|| answers().is_some(), "the router process");
}

#[test]
fn sigterm_ends_a_router_process_with_0_and_a_killed_one_comes_back_with_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut process = start_process(dir.path(), ANY_ADDRESS);
    wait_for_server(&runtime, dir.path(), process.id());
    let mut server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).unwrap();
    let table = wire::routes::RouteTable { generation: 9, apps: vec![app(&[])], ..Default::default() };
    runtime.block_on(server.replace(table)).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();

    let mut process = start_process(dir.path(), ANY_ADDRESS);
    wait_for_server(&runtime, dir.path(), process.id());
    let server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).unwrap();
    assert_eq!(server.generation_at_connect(), 9);
    terminate(&process);
    assert!(process.wait().unwrap().success());
}

#[test]
fn every_thread_accepts_where_addresses_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let (free, _reserved) = reserved_address();
    let http = vec![Listen::Address(free)];
    let mut router = router::Router::start(config(dir.path(), http, bounds())).unwrap();
    for _connection in 0..32 {
        assert_eq!(Client::connect(free).get("/.well-known/berth/health").status(), 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(router.drain());
}

#[test]
fn a_router_without_descriptors_left_goes_on_when_there_are_some_and_a_second_sigterm_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, _reserved) = reserved_address();
    let mut process = start_process(dir.path(), &address.to_string());
    wait_for_server(&runtime, dir.path(), process.id());
    let mut server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).unwrap();
    let crowd: Vec<_> = (0..2 * DESCRIPTORS).map(|_client| Client::connect(address)).collect();
    let accepted = |server: &mut RouterClient| runtime.block_on(server.status()).unwrap().connections;
    let mut most = 0;
    wait_until(
        || {
            let now = accepted(&mut server);
            most = most.max(now);
            now > DESCRIPTORS / 4
        },
        "connections up to the limit",
    );
    drop(crowd);
    assert_eq!(Client::connect(address).get("/.well-known/berth/health").status(), 200);
    assert!(most < DESCRIPTORS);

    let dyno = TestDyno::start(|mut stream| while crate::harness::read_head(&mut stream).is_some() {});
    let table = wire::routes::RouteTable { generation: 1, apps: vec![app(&[&dyno])], ..Default::default() };
    runtime.block_on(server.replace(table)).unwrap();
    let mut held = Client::connect(address);
    held.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let in_flight = |server: &mut RouterClient| runtime.block_on(server.in_flight()).unwrap() == [(dyno.id, 1)];
    wait_until(|| in_flight(&mut server), "the request to reach the dyno");
    terminate(&process);
    wait_until(|| TcpStream::connect(address).is_err(), "the listener to close");
    assert!(process.try_wait().unwrap().is_none(), "it waits for the request");
    terminate(&process);
    assert!(process.wait().unwrap().success());
}
