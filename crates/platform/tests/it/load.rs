//! Visitors who never try again: whatever goes wrong for them is a failed request.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::http::{Connection, Response};
use crate::platform::TestPlatform;

/// Requests per second that come on new connections, and on kept ones.
const NEW_PER_SECOND: u32 = 60;
const KEPT_PER_SECOND: u32 = 60;
const POSTS_PER_SECOND: u32 = 4;

const POST_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    visitors: Vec<JoinHandle<()>>,
    started: Instant,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    host: String,
    over: AtomicBool,
    requests: AtomicUsize,
    /// WebSocket messages that came back, and connections that the platform closed properly.
    echoes: AtomicUsize,
    closes: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What the visitors saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) per_second: f64,
    pub(crate) echoes: usize,
    pub(crate) closes: usize,
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Every kind of visitor: new and kept connections, uploads, slow requests, a WebSocket.
    pub(crate) fn start(platform: &TestPlatform, app: &str) -> Self {
        Self::with(
            platform,
            app,
            &[Shared::quick_new, Shared::quick_kept, Shared::post, Shared::slow, Shared::websocket],
        )
    }

    /// Only short requests.
    pub(crate) fn quick(platform: &TestPlatform, app: &str) -> Self {
        Self::with(platform, app, &[Shared::quick_new, Shared::quick_kept])
    }

    /// Without WebSockets, for apps that have none.
    pub(crate) fn requests(platform: &TestPlatform, app: &str) -> Self {
        Self::with(platform, app, &[Shared::quick_new, Shared::quick_kept, Shared::post, Shared::slow])
    }

    fn with(platform: &TestPlatform, app: &str, kinds: &[fn(&Shared)]) -> Self {
        let shared = Arc::new(Shared {
            port: platform.http_port,
            host: format!("{app}.localhost"),
            over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            echoes: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
            failures: Mutex::new(Vec::new()),
        });
        let visitors = kinds.iter().map(|&visit| {
            let shared = Arc::clone(&shared);
            spawn(move || visit(&shared))
        });
        Self { visitors: visitors.collect(), shared, started: Instant::now() }
    }

    /// Requests that were answered so far.
    pub(crate) fn requests_so_far(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Lets every visitor finish and gives what they saw.
    pub(crate) fn finish(self) -> Seen {
        let seconds = self.started.elapsed().as_secs_f64();
        self.shared.over.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.join().unwrap();
        }
        let requests = self.shared.requests.load(Ordering::Relaxed);
        Seen {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            per_second: requests as f64 / seconds,
            echoes: self.shared.echoes.load(Ordering::Relaxed),
            closes: self.shared.closes.load(Ordering::Relaxed),
            failures: std::mem::take(&mut self.shared.failures.lock().unwrap()),
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn quick_new(&self) {
        self.paced(NEW_PER_SECOND, || {
            let answer = self.open().and_then(|mut connection| self.get(&mut connection, "/", true));
            self.judge("a request on a new connection", answer, "version=");
        });
    }

    fn quick_kept(&self) {
        let mut kept = None;
        self.paced(KEPT_PER_SECOND, || {
            let connection = match kept.take() {
                Some(connection) => Ok(connection),
                None => self.open(),
            };
            let answer = connection.and_then(|mut connection| {
                let answer = self.get(&mut connection, "/", false)?;
                // A server may say with an answer that it will close: then, and only then, a client opens another one.
                if answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
                    kept = Some(connection);
                }
                Ok(answer)
            });
            self.judge("a request on a kept connection", answer, "version=");
        });
    }

    fn post(&self) {
        let body = vec![b'x'; POST_BYTES];
        self.paced(POSTS_PER_SECOND, || {
            let headers = [("Host", self.host.as_str()), ("Connection", "close")];
            let answer = self.open().and_then(|mut connection| connection.request("POST", "/", &headers, &body));
            self.judge("an upload", answer, "1048576 bytes, sha256 ");
        });
    }

    fn slow(&self) {
        self.paced(1, || {
            let answer = self.open().and_then(|mut connection| self.get(&mut connection, "/slow?seconds=5", true));
            self.judge("a request of 5 s", answer, "slept 5");
        });
    }

    /// Says something every tenth of a second; a connection may end with a close, and with nothing else.
    fn websocket(&self) {
        let mut open: Option<Connection> = None;
        self.paced(10, || {
            let connection = match open.take() {
                Some(connection) => Ok(connection),
                None => self.upgrade(),
            };
            match connection.and_then(|mut connection| Ok((echo(&mut connection)?, connection))) {
                Ok((true, connection)) => {
                    self.echoes.fetch_add(1, Ordering::Relaxed);
                    open = Some(connection);
                }
                Ok((false, _closed)) => {
                    self.closes.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.fail(format!("a WebSocket: {error}")),
            }
        });
    }

    fn upgrade(&self) -> io::Result<Connection> {
        let mut connection = self.open()?;
        let headers = [
            ("Host", self.host.as_str()),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        connection.send("GET", "/ws", &headers, &[])?;
        let (status, _headers) = connection.head()?;
        if status == 101 { Ok(connection) } else { Err(io::Error::other(format!("upgrade answered with {status}"))) }
    }

    fn open(&self) -> io::Result<Connection> {
        Connection::open(self.port)
    }

    fn get(&self, connection: &mut Connection, path: &str, close: bool) -> io::Result<Response> {
        let kept = if close { "close" } else { "keep-alive" };
        connection.request("GET", path, &[("Host", self.host.as_str()), ("Connection", kept)], &[])
    }

    fn judge(&self, what: &str, answer: io::Result<Response>, expect: &str) {
        match answer {
            Ok(answer) if answer.status == 200 && answer.text().starts_with(expect) => {
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => {
                let text: String = answer.text().chars().rev().take(200).collect();
                self.fail(format!("{what}: {} …{}", answer.status, text.chars().rev().collect::<String>()));
            }
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// Does something so often until the load is over; late turns are made up for.
    fn paced(&self, per_second: u32, mut visit: impl FnMut()) {
        let mut next = Instant::now();
        while !self.is_over() {
            visit();
            next = (next + Duration::from_secs(1) / per_second).max(Instant::now() - Duration::from_secs(1));
            sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Sends a text frame and reads until it comes back: true. False if the other end closes in order.
fn echo(connection: &mut Connection) -> io::Result<bool> {
    // FIN and text; masked as RFC 6455 asks of clients, with a mask of zeros.
    let frame = [&[0x81, 0x80 | 4, 0, 0, 0, 0][..], b"ping"].concat();
    let sent = connection.stream.get_mut().write_all(&frame);
    let mut head = [0; 2];
    connection.stream.read_exact(&mut head)?;
    let mut data = vec![0; usize::from(head[1] & 127)];
    connection.stream.read_exact(&mut data)?;
    match head[0] & 15 {
        1 if data == b"ping" => sent.map(|()| true),
        8 => Ok(false),
        other => Err(io::Error::other(format!("an unexpected frame: opcode {other}, {data:?}"))),
    }
}
