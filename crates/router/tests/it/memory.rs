//! One app's flood and the router's memory: bounded by what the settings say, whatever its clients do, and another app
//! is served all the time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use router::client::RouterClient;
use router::{Bounds, Listen};
use tokio::runtime::Runtime;
use wire::routes::{AppRoute, EdgeSettings, RouteTable};
use wire::segment::SegmentReader;

use crate::harness::{
    Client, HOST, INSTANCE, Stop, TestDyno, app, bounds, config, ok, read_head, reserved_address, wait_until,
};

/// When set, this test binary is a router with this data directory.
const ROUTER_DIR: &str = "ROUTER_MEMORY_TEST_DIR";
const ROUTER_ADDRESS: &str = "ROUTER_MEMORY_TEST_ADDRESS";

const MIB: usize = 1 << 20;
const HELD_BYTES_MAX: usize = 16 * MIB;

/// Requests wait for as long as the test lasts.
fn of_the_flood() -> Bounds {
    let minute = Duration::from_secs(60);
    Bounds { held_bytes_max: HELD_BYTES_MAX, queue_wait: minute, app_requests_max: 2_000, ..bounds() }
}

/// Not a test of its own: the process whose memory the tests below look at.
#[test]
fn router_process() {
    let Some(dir) = std::env::var_os(ROUTER_DIR) else { return };
    let address = std::env::var(ROUTER_ADDRESS).unwrap().parse().unwrap();
    router::run(config(std::path::Path::new(&dir), vec![Listen::Address(address)], of_the_flood())).unwrap();
}

struct Flooded {
    process: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
    runtime: Runtime,
    server: RouterClient,
    /// Of the resident memory before anything happened.
    before: usize,
    _reserved: socket2::Socket,
}

impl Flooded {
    fn start(apps: Vec<AppRoute>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, reserved) = reserved_address();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "memory::router_process"]).env(ROUTER_DIR, dir.path());
        command.env(ROUTER_ADDRESS, address.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut server = None;
        wait_until(
            || {
                server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).ok();
                server.is_some()
            },
            "the router process",
        );
        let mut server = server.unwrap();
        runtime.block_on(server.replace(RouteTable { generation: 1, apps, ..RouteTable::default() })).unwrap();
        let before = peak(&process);
        Self { process, address, dir, runtime, server, before, _reserved: reserved }
    }

    fn received(&mut self) -> u64 {
        self.runtime.block_on(self.server.status()).unwrap().requests_total
    }

    /// How much more memory it has ever had than at first.
    fn grown(&self) -> usize {
        peak(&self.process) - self.before
    }

    /// The lines of the request log with this in them.
    fn logged(&self, what: &str) -> usize {
        let mut log = SegmentReader::new(&self.dir.path().join("router/log"), 0);
        let mut count = 0;
        loop {
            let records = log.read().unwrap().records;
            if records.is_empty() {
                return count;
            }
            count += records.iter().filter(|line| String::from_utf8_lossy(&line.text).contains(what)).count();
        }
    }
}

impl Drop for Flooded {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The most that was resident of a process, in bytes.
fn peak(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// A connection of whose bytes the router's side of the kernel holds little.
fn connect(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

/// Sends as much as the router takes.
fn push(mut stream: &TcpStream, bytes: &[u8]) {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(count) => sent += count,
            Err(_full_or_closed) => return,
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// The head of a request over HTTP/2 with an indexed method.
fn head(stream: u32, method: u8, ends: bool) -> Vec<u8> {
    head_to(HOST, stream, method, ends)
}

fn head_to(host: &str, stream: u32, method: u8, ends: bool) -> Vec<u8> {
    let block = [&[method, 0x84, 0x86, 0x41, u8::try_from(host.len()).unwrap()][..], host.as_bytes()].concat();
    let length = u8::try_from(block.len()).unwrap();
    [&[0, 0, length, 1, 4 + u8::from(ends)][..], &stream.to_be_bytes(), &block].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// Calls `begin` for each of so many connections, from several threads, and keeps them.
fn flood(address: SocketAddr, count: usize, begin: impl Fn(&TcpStream) + Sync) -> Vec<TcpStream> {
    const THREADS: usize = 16;
    let begin = &begin;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let of_thread = (thread..count).step_by(THREADS).map(|_connection| {
                        let stream = connect(address);
                        begin(&stream);
                        stream
                    });
                    of_thread.collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Answers with more than anybody takes, and takes no uploads.
fn generous() -> TestDyno {
    let mut dyno = TestDyno::start(|mut stream| {
        let piece = vec![b'x'; 1 << 16];
        while let Some(head) = read_head(&mut stream) {
            if !head.starts_with("GET ") {
                return thread::sleep(crate::harness::PATIENCE);
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", piece.len() * 64);
            let mut written = stream.write_all(head.as_bytes());
            for _piece in 0..64 {
                written = written.and_then(|()| stream.write_all(&piece));
            }
            if written.is_err() {
                return;
            }
        }
    });
    dyno.concurrency = Some(1_000);
    dyno
}

#[test]
fn a_flood_of_one_app_takes_no_more_memory_than_the_settings_say_and_the_other_is_served() {
    let (flooded, of_other) = (generous(), TestDyno::http(|_request| ok("other")));
    let other_app = AppRoute {
        app: uuid::Uuid::from_u128(8),
        name: "other".to_owned(),
        hosts: vec!["other.example".to_owned()],
        ..app(&[&of_other])
    };
    let mut router = Flooded::start(vec![app(&[&flooded]), other_app]);
    let address = router.address;
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let connections = thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = Client::connect(address);
            while !stop.load(Ordering::SeqCst) {
                for client in [&mut Client::connect(address), &mut kept] {
                    client.send("GET / HTTP/1.1\r\nhost: other.example\r\n\r\n");
                    assert_eq!(client.response().body, "other");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let _stop = Stop(&stop);
        let slow_readers = |way: &'static str| {
            let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n");
            flood(address, 150, move |stream| push(stream, get.as_bytes()))
        };
        let uploads = || {
            let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100000000\r\n\r\n");
            let post = [post.as_bytes(), &vec![b'x'; 8 * MIB]].concat();
            flood(address, 100, move |stream| push(stream, &post))
        };
        let half_heads = || {
            let half = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}", "x".repeat(60_000));
            flood(address, 100, move |stream| push(stream, half.as_bytes()))
        };
        let streams_that_drip = || {
            // One byte of a body at a time: a frame of ten bytes each.
            let dripped = |stream: u32| [&[0, 0, 1, 0, 0][..], &stream.to_be_bytes(), b"x"].concat();
            let ids = || (0..100).map(|n| 2 * n + 1);
            let bytes = ids().fold(PREFACE.to_vec(), |all, id| [all, head(id, POST, false)].concat());
            let bytes = ids().fold(bytes, |all, id| [all, dripped(id).repeat(5_000)].concat());
            flood(address, 20, move |stream| push(stream, &bytes))
        };
        let streams_that_are_not_read = || {
            let bytes = (0..100).fold(PREFACE.to_vec(), |all, n| [all, head(2 * n + 1, GET, true)].concat());
            flood(address, 20, move |stream| push(stream, &bytes))
        };
        let mut connections = Vec::new();
        connections.extend(slow_readers(""));
        connections.extend(slow_readers("te: trailers\r\n"));
        connections.extend(uploads());
        connections.extend(half_heads());
        connections.extend(streams_that_drip());
        connections.extend(streams_that_are_not_read());
        // Those that were let in first are cut off by none that came later.
        let before = served.load(Ordering::SeqCst);
        wait_until(|| served.load(Ordering::SeqCst) > before + 20, "the other app");
        connections
    });
    assert!(router.received() > 4_000);
    // A head that is not complete, or what waits for a socket that takes nothing, twice over: memory grows in steps.
    let of_connections = connections.len() * 2 * bounds().buffer_bytes_max;
    let most = of_connections + HELD_BYTES_MAX;
    let grown = router.grown();
    assert!(grown < most, "{} MiB, where {} MiB are allowed", grown / MIB, most / MIB);
    let refused = router.logged("code=H22 desc=\"Connection limit reached\" cause=\"memory\"");
    let broken_off = router.logged("code=H28");
    assert!(refused > 0 && broken_off > 0, "{refused} uploads refused, {broken_off} answers broken off");
}

/// An answer without a body: no window holds it back.
const LARGE_HEAD_BYTES: usize = 60_000;

/// Answers with such heads, and counts them.
fn with_large_heads() -> (TestDyno, Arc<AtomicUsize>) {
    let large = format!("HTTP/1.1 304 Not Modified\r\netag: \"{}\"\r\n\r\n", "x".repeat(LARGE_HEAD_BYTES));
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = answered.clone();
    let mut dyno = TestDyno::http(move |_request| {
        counter.fetch_add(1, Ordering::SeqCst);
        large.clone()
    });
    dyno.concurrency = Some(100);
    (dyno, answered)
}

/// All at once, over one HTTP/2 connection.
pub(crate) fn hundred_requests(host: &str) -> Vec<u8> {
    (0..100).fold(PREFACE.to_vec(), |all, n| [all, head_to(host, 2 * n + 1, GET, true)].concat())
}

#[test]
fn heads_that_nobody_reads_count_as_memory_like_bodies() {
    const CONNECTIONS: usize = 20;
    let (dyno, answered) = with_large_heads();
    let router = Flooded::start(vec![app(&[&dyno])]);
    let mut connections = Vec::new();
    for before in 0..CONNECTIONS {
        let stream = connect(router.address);
        push(&stream, &hundred_requests(HOST));
        connections.push(stream);
        wait_until(|| answered.load(Ordering::SeqCst) == 100 * (before + 1), "all answers");
    }
    let most = CONNECTIONS * 2 * bounds().buffer_bytes_max + HELD_BYTES_MAX;
    let grown = router.grown();
    assert!(grown < most, "{} MiB, where {} MiB are allowed", grown / MIB, most / MIB);
    wait_until(|| router.logged("code=H28") > 0, "an answer for which there is no room");
}

#[test]
fn heads_that_dynos_do_not_finish_count_as_memory() {
    const CONNECTIONS: usize = 20;
    let settings_of_its_own = EdgeSettings { request_bytes_max: Some(1 << 20), ..EdgeSettings::default() };
    // A whole head whose body does not come, and half a head, by the express lane and by the full path. There the whole
    // head goes on at once, and each request holds a little anyway.
    let cases = [
        ("\r\n\r\n", EdgeSettings::default(), 0),
        ("", EdgeSettings::default(), 0),
        ("", settings_of_its_own, 48 * 1024),
    ];
    for (end, edge, of_request) in cases {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: {}{end}", "x".repeat(LARGE_HEAD_BYTES));
        let mut dyno = TestDyno::start(move |mut stream| {
            if read_head(&mut stream).is_none() {
                return;
            }
            // The router may close before it has read it.
            stream.write_all(large.as_bytes()).ok();
            counter.fetch_add(1, Ordering::SeqCst);
            read_head(&mut stream);
        });
        dyno.concurrency = Some(10_000);
        let router = Flooded::start(vec![AppRoute { edge, ..app(&[&dyno]) }]);
        let mut connections = Vec::new();
        for before in 0..CONNECTIONS {
            let stream = connect(router.address);
            push(&stream, &hundred_requests(HOST));
            connections.push(stream);
            wait_until(|| asked.load(Ordering::SeqCst) >= 50 * (before + 1), "requests to reach the dyno");
        }
        let of_connections = CONNECTIONS * 2 * bounds().buffer_bytes_max;
        let most = of_connections + asked.load(Ordering::SeqCst) * of_request + HELD_BYTES_MAX;
        let grown = router.grown();
        assert!(grown < most, "{} MiB, where {} MiB are allowed", grown / MIB, most / MIB);
        wait_until(|| router.logged("code=H25 desc=\"HTTP Restriction\" cause=\"memory\"") > 0, "a refused head");
    }
}

#[test]
fn heads_that_had_to_wait_arrive_once_their_client_reads() {
    let (dyno, answered) = with_large_heads();
    let router = Flooded::start(vec![app(&[&dyno])]);
    let mut stream = connect(router.address);
    push(&stream, &hundred_requests(HOST));
    wait_until(|| answered.load(Ordering::SeqCst) == 100, "all answers");
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let (mut ended, mut bytes) = (0, 0);
    while ended < 100 {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        let [_, high, low, kind, flags, ..] = frame;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).unwrap();
        assert_ne!(kind, 3, "a stream was reset");
        // The head's first frame says that nothing follows.
        ended += usize::from(kind == 1 && flags & 1 == 1);
        bytes += if matches!(kind, 1 | 9) { payload.len() } else { 0 };
    }
    // Of the last one only the beginning was read.
    assert!(bytes > 99 * LARGE_HEAD_BYTES, "{bytes}");
}
